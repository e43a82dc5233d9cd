// Questions that come before everything else, in the browser's own modal dialog.
import { html, useEffect, useRef } from "./dom.js";
import { createStore } from "./store.js";
import { useWords } from "./i18n.js";

const asked = createStore(/** @type {{ dialog: any }} */ ({ dialog: null }));

/** @param {{ title: string, text: string, yes: string, onYes: () => void }} dialog */
export const confirm = (dialog) => asked.set({ dialog: { kind: "confirm", ...dialog } });
/**
 * @param {boolean} refused whether the last one was
 * @param {(token: string) => void} onToken
 */
export const askForToken = (refused, onToken) => asked.set({ dialog: { kind: "token", refused, onToken } });
export const showShortcuts = () => asked.set({ dialog: { kind: "shortcuts" } });

export function Dialogs() {
  const { dialog } = asked.use();
  if (!dialog) return null;
  const contents = { confirm: Confirm, token: Token, shortcuts: Shortcuts };
  const Content = contents[/** @type {keyof typeof contents} */ (dialog.kind)];
  return html`<${Modal} key=${dialog.kind}><${Content} ...${dialog} /><//>`;
}

const close = () => asked.set({ dialog: null });

/** @param {{ children: any }} props */
function Modal({ children }) {
  const place = useRef(/** @type {any} */ (null));
  useEffect(() => {
    const before = /** @type {HTMLElement | null} */ (document.activeElement);
    place.current.showModal();
    return () => before?.focus?.();
  }, []);
  return html`<dialog ref=${place} aria-labelledby="dialog-title" onClose=${close}>${children}</dialog>`;
}

/** @param {any} props */
function Confirm({ title, text, yes, onYes }) {
  const { t } = useWords();
  const accept = () => {
    close();
    onYes();
  };
  return html`<h2 id="dialog-title">${title}</h2>
    <p>${text}</p>
    <div class="choices">
      <button type="button" class="button" onClick=${close}>${t("cancel")}</button>
      <button type="button" class="button danger" onClick=${accept}>${yes}</button>
    </div>`;
}

/** @param {any} props */
function Token({ refused, onToken }) {
  const { t } = useWords();
  const place = useRef(/** @type {any} */ (null));
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    const token = place.current.value.trim();
    if (!token) return;
    close();
    onToken(token);
  };
  return html`<form onSubmit=${submit}>
    <h2 id="dialog-title">${t("token.title")}</h2>
    <p id="token-text">${t("token.text")}</p>
    ${refused && html`<p class="refused" id="token-refused" role="alert">${t("token.refused")}</p>`}
    <input
      ref=${place}
      class="field"
      type="password"
      autocomplete="current-password"
      aria-labelledby="dialog-title"
      aria-describedby=${refused ? "token-text token-refused" : "token-text"}
      aria-invalid=${refused ? "true" : undefined}
    />
    <div class="choices"><button class="button primary">${t("token.use")}</button></div>
  </form>`;
}

const KEYS = [
  ["Enter", "keys.send"],
  ["Shift + Enter", "keys.line"],
  ["Esc", "keys.stop"],
  ["/", "keys.composer"],
  ["Ctrl + K", "keys.search"],
  ["Ctrl + Shift + O", "keys.new"],
  ["?", "keys.help"],
];

function Shortcuts() {
  const { t } = useWords();
  return html`<h2 id="dialog-title">${t("keys.title")}</h2>
    <dl class="keys">
      ${KEYS.map(([key, words]) => html`<dt><kbd>${key}</kbd></dt><dd>${t(words)}</dd>`)}
    </dl>
    <div class="choices">
      <button type="button" class="button" onClick=${close}>${t("close")}</button>
    </div>`;
}
