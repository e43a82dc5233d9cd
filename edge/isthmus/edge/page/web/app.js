// The page: a frame with three views. The address says which one (#/chat/ID, #/live, #/settings).
import { agent, giveToken, whenLocked } from "./api.js";
import { Chat } from "./chat/chat.js";
import { conversations, loadList, stop } from "./chat/conversations.js";
import { Sidebar } from "./chat/sidebar.js";
import { Live } from "./live/live.js";
import { Settings } from "./settings/settings.js";
import { Announcer } from "./ui/announce.js";
import { Dialogs, askForToken, showShortcuts } from "./ui/dialogs.js";
import { html, render, useEffect, useState } from "./ui/dom.js";
import { errorWords, loadWords, useWords } from "./ui/i18n.js";
import { Icon } from "./ui/icons.js";
import { go, route } from "./ui/route.js";
import { focusComposer, focusSearch } from "./ui/focus.js";

const ASK_AGAIN_MS = 3000;
const VIEWS = /** @type {const} */ (["chat", "live", "settings"]);

function App() {
  const { t, language } = useWords();
  const { view, id } = route.use();
  const { away } = agent.use();
  const { open } = conversations.use();
  const title = (view === "chat" && id && open[id]?.title) || t(`tab.${view}`);
  const [drawer, setDrawer] = useState(false);
  useEffect(() => setDrawer(false), [view, id]);
  useEffect(() => {
    document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
    document.title = `${title} · Isthmus`;
  }, [language, title]);
  useShortcuts((leaving) => {
    if (!leaving && !document.querySelector(".side.open")) stop(route.get().id);
    setDrawer(false);
  });
  const openDrawer = () => setDrawer(true);

  return html`
    <a class="skip" href="#main" onClick=${toMain}>${t("skip")}</a>
    <div class="shell">
      <${Sidebar} open=${drawer} current=${view === "chat" ? id : null} onClose=${() => setDrawer(false)}>
        <${Tabs} view=${view} place="tabs" />
      <//>
      ${drawer &&
      html`<button class="scrim" aria-label=${t("close")} onClick=${() => setDrawer(false)}></button>`}
      <main class="main" id="main" tabindex="-1">
        ${away ? html`<${Away} />` : html`<${Trouble} />`}
        ${view === "chat" && html`<${Chat} id=${id} onMenu=${openDrawer} />`}
        ${view === "live" && html`<${Live} onMenu=${openDrawer} />`}
        ${view === "settings" && html`<${Settings} onMenu=${openDrawer} />`}
      </main>
      <${Tabs} view=${view} place="foot-tabs" />
    </div>
    <${Dialogs} />
    <${Announcer} />
  `;
}

/** @param {{ view: string, place: string }} props */
function Tabs({ view, place }) {
  const { t } = useWords();
  return html`<nav class=${place} aria-label=${t(`nav.${place}`)}>
    ${VIEWS.map(
      (name) => html`<a href=${`#/${name}`} aria-current=${name === view ? "page" : undefined}>
        <${Icon} name=${name} /><span>${t(`tab.${name}`)}</span>
      </a>`,
    )}
  </nav>`;
}

/** Goes by itself when the agent is back, whatever is looked at. */
function Away() {
  const { t } = useWords();
  useEffect(() => {
    const timer = setInterval(loadList, ASK_AGAIN_MS);
    return () => clearInterval(timer);
  }, []);
  return html`<div class="banner bad" role="alert">
    <${Icon} name="warning" />
    <p>${t("error.unreachable")}</p>
  </div>`;
}

function Trouble() {
  const { t } = useWords();
  const { error } = conversations.use();
  // That it was away is over.
  if (!error || error.code === "unreachable") return null;
  return html`<div class="banner bad" role="alert">
    <${Icon} name="warning" />
    <p>${errorWords(error)}</p>
    <button class="plain" onClick=${() => conversations.set({ error: null })} aria-label=${t("close")}>
      <${Icon} name="close" size=${16} />
    </button>
  </div>`;
}

/** @param {Event} event */
function toMain(event) {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

/** @param {(leaving: boolean) => void} onEscape told whether it was pressed to leave a field */
function useShortcuts(onEscape) {
  useEffect(() => {
    const onKey = (/** @type {KeyboardEvent} */ event) => {
      // A dialog, an input method, and a field that is left by Escape come first.
      if (event.isComposing || document.querySelector("dialog[open]")) return;
      const place = /** @type {HTMLElement} */ (event.target);
      const typing = place.matches?.("input, textarea, select");
      const command = event.ctrlKey || event.metaKey;
      const key = event.key.toLowerCase();
      if (event.key === "Escape") onEscape(typing && place.id !== "composer");
      else if (command && key === "k") focusSearch();
      else if (command && event.shiftKey && key === "o") go("chat");
      else if (typing || command || event.altKey) return;
      else if (event.key === "/") focusComposer();
      else if (event.key === "?") showShortcuts();
      else return;
      if (event.key !== "Escape") event.preventDefault();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
}

whenLocked((refused) =>
  askForToken(refused, (token) => {
    giveToken(token);
    loadList();
  }),
);
await loadWords();
loadList();
render(html`<${App} />`, /** @type {HTMLElement} */ (document.getElementById("app")));
