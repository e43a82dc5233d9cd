// The chat: one conversation, from its first message to its newest.
import { agent } from "../api.js";
import { html, useEffect, useMemo, useState } from "../ui/dom.js";
import { useWords } from "../ui/i18n.js";
import { Icon } from "../ui/icons.js";
import { go } from "../ui/route.js";
import { Composer } from "./composer.js";
import { conversations, open } from "./conversations.js";
import { Message } from "./message.js";
import { useFollowing } from "./following.js";
import { path, siblings } from "./tree.js";
import { stop, take } from "./turns.js";

const STARTS = ["start.explain", "start.code", "start.letter"];

/** @param {{ id: string | null, onMenu: () => void }} props */
export function Chat({ id, onMenu }) {
  const { t } = useWords();
  const { open: known, runs } = conversations.use();
  const { returns } = agent.use();
  const [gone, setGone] = useState(false);
  const conversation = id ? known[id] : null;
  const running = Boolean(id && runs[id]);
  // What the agent could not tell while it was away is asked for when it is back.
  useEffect(() => {
    setGone(false);
    if (id && !conversations.get().runs[id]) open(id).then((found) => setGone(found === null));
  }, [id, returns]);

  const shown = useMemo(
    () => (conversation ? path(conversation.messages, conversation.head) : []),
    [conversation],
  );
  const follow = useFollowing(conversation, id);
  const ask = (/** @type {string} */ content, /** @type {string} */ route) => {
    follow.toEnd();
    // What is written where a conversation is gone begins another.
    return take(gone ? null : id, { content, parent: conversation?.head ?? null, route }, (begun) => {
      if (begun !== id) go("chat", begun);
    });
  };

  return html`
    <header class="bar">
      <button class="plain menu" onClick=${onMenu} aria-label=${t("menu")}><${Icon} name="menu" size=${20} /></button>
      <h1>${conversation?.title || t("chat.new")}</h1>
    </header>
    <div class="thread" ref=${follow.place} onScroll=${follow.onScroll} tabindex="-1">
      ${gone && html`<p class="welcome">${t("chat.gone")}</p>`}
      ${!id && html`<${Welcome} onAsk=${(/** @type {string} */ text) => ask(text, "auto")} />`}
      ${shown.length > 0 &&
      html`<div class="messages">
        ${shown.map(
          (message, at) => html`<${Message}
            key=${message.id}
            message=${message}
            conversation=${conversation}
            siblings=${siblings(conversation?.messages ?? [], message)}
            busy=${running}
            last=${at === shown.length - 1}
          />`,
        )}
      </div>`}
      ${follow.away &&
      html`<div class="newest">
        <button class="button" onClick=${follow.toEnd} aria-label=${t("chat.newest")} title=${t("chat.newest")}>
          <${Icon} name="below" />
        </button>
      </div>`}
    </div>
    <${Composer} id=${id} running=${running} onSend=${ask} onStop=${() => id && stop(id)} />
  `;
}

/** @param {{ onAsk: (text: string) => void }} props */
function Welcome({ onAsk }) {
  const { t } = useWords();
  return html`<div class="welcome">
    <img src="/ui/icon.svg" alt="" width="56" height="56" />
    <h2>${t("welcome.title")}</h2>
    <p>${t("welcome.text")}</p>
    <div class="starts">
      ${STARTS.map(
        (start) => html`<button type="button" onClick=${() => onAsk(t(start))}>${t(start)}</button>`,
      )}
    </div>
  </div>`;
}
