// The side: the views, and the conversations with a search over them.
import { html, useEffect, useRef, useState } from "../ui/dom.js";
import { useWords } from "../ui/i18n.js";
import { Icon } from "../ui/icons.js";
import { confirm, showShortcuts } from "../ui/dialogs.js";
import { focusBack, focusComposer } from "../ui/focus.js";
import { go } from "../ui/route.js";
import { conversations, loadList, loadMore, remove, rename } from "./conversations.js";

const SEARCH_AFTER_MS = 180;

/** @param {{ open: boolean, current: string | null, onClose: () => void, children: any }} props */
export function Sidebar({ open, current, onClose, children }) {
  const { t } = useWords();
  const { list, next, query, loaded } = conversations.use();
  const place = useRef(/** @type {any} */ (null));
  useEffect(() => {
    if (open) place.current.querySelector("button, input")?.focus();
  }, [open]);
  const begin = () => {
    onClose();
    go("chat");
    focusComposer();
  };
  return html`<aside class=${`side ${open ? "open" : ""}`} ref=${place} aria-label=${t("side")}>
    <div class="brand">
      <img src="/ui/icon.svg" alt="" width="26" height="26" />
      <span class="name">Isthmus</span>
      <button class="plain" onClick=${showShortcuts} aria-label=${t("keys.title")} title=${t("keys.title")}>?</button>
    </div>
    ${children}
    <div class="side-tools">
      <button class="button" onClick=${begin}><${Icon} name="plus" />${t("chat.new")}</button>
      <${Search} query=${query} />
    </div>
    <nav class="list" aria-label=${t("chat.list")}>
      <ul class="conversations">
        ${list.map((one) => html`<${Row} key=${one.id} one=${one} current=${one.id === current} onOpen=${onClose} />`)}
        ${loaded && !list.length && html`<li class="none">${t(query ? "chat.none_found" : "chat.none")}</li>`}
        ${next && html`<li><button class="plain more" onClick=${loadMore}>${t("more")}</button></li>`}
      </ul>
    </nav>
  </aside>`;
}

/** @param {{ query: string }} props */
function Search({ query }) {
  const { t } = useWords();
  const timer = useRef(/** @type {any} */ (0));
  const onInput = (/** @type {any} */ event) => {
    const text = event.target.value;
    clearTimeout(timer.current);
    timer.current = setTimeout(() => loadList(text), SEARCH_AFTER_MS);
  };
  return html`<div class="search">
    <${Icon} name="search" size=${16} />
    <input
      id="search"
      class="field"
      type="search"
      defaultValue=${query}
      onInput=${onInput}
      placeholder=${t("chat.search")}
      aria-label=${t("chat.search")}
    />
  </div>`;
}

/** @param {{ one: import("./conversations.js").Head, current: boolean, onOpen: () => void }} props */
function Row({ one, current, onOpen }) {
  const { t } = useWords();
  const [renaming, setRenaming] = useState(false);
  const opener = useRef(/** @type {any} */ (null));
  const title = one.title || t("chat.untitled");
  if (renaming) {
    const done = (/** @type {boolean} */ byKey) => {
      setRenaming(false);
      if (byKey) focusBack(opener);
    };
    return html`<li><${Rename} one=${one} onDone=${done} /></li>`;
  }
  const ask = () =>
    confirm({
      title: t("chat.delete_title"),
      text: t("chat.delete_text", { title }),
      yes: t("delete"),
      onYes: () => {
        remove(one.id);
        if (current) go("chat");
      },
    });
  return html`<li class=${`conversation ${current ? "current" : ""}`}>
    <a
      href=${`#/chat/${encodeURIComponent(one.id)}`}
      aria-current=${current ? "page" : undefined}
      onClick=${onOpen}
      title=${title}
      dir="auto"
      >${title}</a
    >
    <span class="tools">
      <button class="plain" ref=${opener} onClick=${() => setRenaming(true)} aria-label=${t("chat.rename", { title })}>
        <${Icon} name="edit" size=${15} />
      </button>
      <button class="plain" onClick=${ask} aria-label=${t("chat.delete", { title })}>
        <${Icon} name="trash" size=${15} />
      </button>
    </span>
  </li>`;
}

/** @param {{ one: import("./conversations.js").Head, onDone: (byKey: boolean) => void }} props */
function Rename({ one, onDone }) {
  const { t } = useWords();
  const place = useRef(/** @type {any} */ (null));
  useEffect(() => place.current.select(), []);
  const finish = (/** @type {boolean} */ keep, byKey = true) => {
    const title = place.current?.value.trim();
    if (keep && title && title !== one.title) rename(one.id, title);
    onDone(byKey);
  };
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    if (event.isComposing) return;
    if (event.key === "Enter") finish(true);
    if (event.key === "Escape") finish(false);
  };
  return html`<input
    ref=${place}
    class="field"
    defaultValue=${one.title}
    maxlength="120"
    aria-label=${t("chat.title")}
    onKeyDown=${onKeyDown}
    onBlur=${() => finish(true, false)}
  />`;
}
