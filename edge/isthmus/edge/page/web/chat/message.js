// One message: what was said, where it was made, and what can be done with it.
import { html, useRef, useState } from "../ui/dom.js";
import { focusBack } from "../ui/focus.js";
import { errorWords, useWords } from "../ui/i18n.js";
import { Icon } from "../ui/icons.js";
import { CopyButton, Prose } from "../ui/prose.js";
import { Badge } from "./badge.js";
import { Branches } from "./branches.js";
import { rate } from "./conversations.js";
import { drafts } from "./drafts.js";
import { take } from "./turns.js";
import { Why } from "./why.js";

/**
 * @typedef {object} Props
 * @property {import("./tree.js").Message} message
 * @property {import("./conversations.js").Conversation} conversation
 * @property {import("./tree.js").Message[]} siblings
 * @property {boolean} busy
 * @property {boolean} last
 */

/** @param {Props} props */
export function Message(props) {
  return props.message.role === "user" ? html`<${Asked} ...${props} />` : html`<${Answer} ...${props} />`;
}

/** @param {Props} props */
function Asked({ message, conversation, siblings, busy }) {
  const { t } = useWords();
  const [draft, setDraft] = useState(/** @type {string | null} */ (null));
  const field = useRef(/** @type {any} */ (null));
  const opener = useRef(/** @type {any} */ (null));
  const leave = () => {
    setDraft(null);
    focusBack(opener);
  };
  const send = async () => {
    if (busy) return;
    const content = field.current.value.trim();
    setDraft(null);
    if (!content) return;
    // What the agent did not take is there to be sent again.
    if (!(await take(conversation.id, { content, parent: message.parent }))) setDraft((now) => now ?? content);
  };
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    if (event.isComposing) return;
    if (event.key === "Escape") leave();
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      send();
    }
  };
  if (draft !== null) {
    return html`<article class="message user" aria-label=${t("said.you")}>
      <div class="editing">
        <textarea
          class="field"
          ref=${(/** @type {any} */ area) => {
            if (area && area !== field.current) area.focus();
            field.current = area;
          }}
          defaultValue=${draft}
          onKeyDown=${onKeyDown}
          dir="auto"
          aria-label=${t("edit.label")}
        ></textarea>
        <div class="choices">
          <button class="button" onClick=${leave}>${t("cancel")}</button>
          <button class="button primary" onClick=${send} disabled=${busy}>${t("send")}</button>
        </div>
      </div>
    </article>`;
  }
  return html`<article class="message user" aria-label=${t("said.you")}>
    <h2 class="hidden">${t("said.you")}</h2>
    <div class="bubble" dir="auto">${message.content}</div>
    <div class="under">
      <${Branches} conversation=${conversation} message=${message} siblings=${siblings} busy=${busy} />
      <${CopyButton} text=${message.content} label=${t("copy.question")} />
      <button
        class="plain"
        ref=${opener}
        onClick=${() => setDraft(message.content)}
        disabled=${busy}
        aria-label=${t("edit")}
        title=${t("edit")}
      >
        <${Icon} name="edit" size=${16} />
      </button>
    </div>
  </article>`;
}

/** @param {Props} props */
function Answer({ message, conversation, siblings, busy, last }) {
  const { t } = useWords();
  const [open, setOpen] = useState(false);
  const running = message.status === "running";
  const again = () => take(conversation.id, { regenerate: message.id });
  return html`<article class="message assistant" aria-label=${t("said.isthmus")} aria-busy=${running}>
    <h2 class="hidden">${t("said.isthmus")}</h2>
    ${message.content
      ? html`<${Prose} text=${message.content} />`
      : running && html`<div class="waiting" aria-hidden="true"><i></i><i></i><i></i></div>`}
    <${Notes} message=${message} />
    ${message.status === "failed" && html`<${Failed} error=${message.error} onAgain=${again} busy=${busy} last=${last} />`}
    ${!running &&
    html`<div class="under">
      ${message.isthmus &&
      html`<${Badge} told=${message.isthmus} open=${open} panel=${`why-${message.id}`} onToggle=${() => setOpen(!open)} />`}
      <span class="tools">
      <${Branches} conversation=${conversation} message=${message} siblings=${siblings} busy=${busy} />
      ${message.content && html`<${CopyButton} text=${message.content} label=${t("copy.answer")} />`}
      ${message.status !== "failed" &&
      html`<${Tool} name="again" label=${t("again")} onClick=${again} disabled=${busy} />`}
      ${message.content && html`<${Thumbs} conversation=${conversation} message=${message} />`}
      </span>
    </div>`}
    ${open && message.isthmus && html`<${Why} id=${`why-${message.id}`} told=${message.isthmus} />`}
  </article>`;
}

/** What a reader should know of an answer that is not whole. @param {{ message: any }} props */
function Notes({ message }) {
  const { t } = useWords();
  const notes = [
    message.status === "stopped" && t("answer.stopped"),
    message.finish_reason === "length" && t("answer.length"),
    message.left_out > 0 && t("answer.left_out", { n: message.left_out }),
  ];
  return notes.filter(Boolean).map((note) => html`<p class="aside">${note}</p>`);
}

/** @param {{ name: any, label: string, onClick: () => void, disabled?: boolean, pressed?: boolean }} props */
function Tool({ name, label, onClick, disabled, pressed }) {
  return html`<button
    class="plain"
    onClick=${onClick}
    disabled=${disabled}
    aria-label=${label}
    aria-pressed=${pressed === undefined ? undefined : String(pressed)}
    title=${label}
  >
    <${Icon} name=${name} size=${16} />
  </button>`;
}

/** @param {{ conversation: any, message: import("./tree.js").Message }} props */
function Thumbs({ conversation, message }) {
  const { t } = useWords();
  const thumb = (/** @type {1 | -1} */ rating) => html`<${Tool}
    name=${rating > 0 ? "up" : "down"}
    label=${t(rating > 0 ? "rate.up" : "rate.down")}
    pressed=${message.rating === rating}
    onClick=${() => rate(conversation.id, message, message.rating === rating ? 0 : rating)}
  />`;
  return html`${thumb(1)}${thumb(-1)}`;
}

/** @param {{ error: any, onAgain: () => void, busy: boolean, last: boolean }} props */
function Failed({ error, onAgain, busy, last }) {
  const { t } = useWords();
  const { route } = drafts.use();
  const only = last && route.startsWith("only_");
  return html`<div class="failed" role="alert">
    <p>${errorWords(error)} ${only && t("failed.only", { route: t(`route.${route}`) })}</p>
    <button class="button" onClick=${onAgain} disabled=${busy}>${t("again.failed")}</button>
  </div>`;
}
