// Where one writes.
import { html, useEffect, useLayoutEffect, useRef } from "../ui/dom.js";
import { useWords } from "../ui/i18n.js";
import { Icon } from "../ui/icons.js";
import { Select } from "../ui/select.js";
import { ROUTES, chooseRoute, drafts, write } from "./drafts.js";

// A phone's keyboard is not to jump up by itself, and has no Shift + Enter for a new line.
const hasKeyboard = () => matchMedia("(pointer: fine)").matches;

/**
 * @param {{ id: string | null, running: boolean, onSend: (text: string) => void, onStop: () => void }} props
 */
export function Composer({ id, running, onSend, onStop }) {
  const { t } = useWords();
  const { texts, route } = drafts.use();
  const text = texts[id ?? ""] ?? "";
  const place = useRef(/** @type {any} */ (null));
  useLayoutEffect(() => grow(place.current), [text]);
  useEffect(() => {
    if (hasKeyboard()) place.current.focus();
  }, [id]);
  // What was used to ask again or to edit is gone from the page, and the keyboard with it.
  useEffect(() => {
    if (hasKeyboard() && document.activeElement === document.body) place.current.focus();
  }, [running]);

  const send = () => {
    if (!text.trim() || running) return;
    write(id, "");
    onSend(text.trim());
  };
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    // While an input method composes, Enter chooses a word.
    if (event.isComposing || event.keyCode === 229) return;
    const command = event.ctrlKey || event.metaKey;
    if (event.key === "Enter" && (command || (hasKeyboard() && !event.shiftKey))) {
      event.preventDefault();
      send();
    }
  };
  return html`<form class="composer" onSubmit=${(/** @type {Event} */ e) => (e.preventDefault(), send())}>
    <div class="box">
      <textarea
        id="composer"
        ref=${place}
        rows="1"
        value=${text}
        onInput=${(/** @type {any} */ event) => write(id, event.target.value)}
        onKeyDown=${onKeyDown}
        placeholder=${t("composer.placeholder")}
        aria-label=${t("composer.label")}
        dir="auto"
      ></textarea>
      <div class="row">
        <${Select}
          label=${t("route.label")}
          value=${route}
          options=${ROUTES.map((name) => ({ value: name, title: t(`route.${name}`) }))}
          onChange=${chooseRoute}
        />
        <span class="spring"></span>
        ${running
          ? html`<button type="button" class="round" onClick=${onStop} aria-label=${t("stop")} title=${t("stop")}>
              <${Icon} name="stop" size=${20} />
            </button>`
          : html`<button class="round" disabled=${!text.trim()} aria-label=${t("send")} title=${t("send")}>
              <${Icon} name="send" size=${20} />
            </button>`}
      </div>
    </div>
  </form>`;
}

/** As high as its text, up to what the style allows. @param {HTMLTextAreaElement} area */
function grow(area) {
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight}px`;
}
