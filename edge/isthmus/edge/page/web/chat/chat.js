// The chat: one conversation, from its first message to its newest.
import { agent } from "../api.js";
import { html, useEffect, useMemo, useState } from "../ui/dom.js";
import { useWords } from "../ui/i18n.js";
import { Icon } from "../ui/icons.js";
import { go } from "../ui/route.js";
import { Composer } from "./composer.js";
import { conversations, loadList, open, stop } from "./conversations.js";
import { giveBack } from "./drafts.js";
import { Message } from "./message.js";
import { useFollowing } from "./following.js";
import { path, siblings } from "./tree.js";
import { take } from "./turns.js";

const LOOK_EVERY_MS = 1000;
const STARTS = ["start.explain", "start.code", "start.letter"];

/** @param {{ id: string | null, onMenu: () => void }} props */
export function Chat({ id, onMenu }) {
  const { t } = useWords();
  const { open: known, runs } = conversations.use();
  const { returns } = agent.use();
  const [gone, setGone] = useState(false);
  const conversation = id ? known[id] : null;
  const running = Boolean(id && runs[id]);
  const elsewhere = !running && conversation?.messages.some((one) => one.status === "running");
  // What the agent could not tell while it was away is asked for when it is back.
  useEffect(() => {
    let on = true;
    const read = async () => {
      if (!id || conversations.get().runs[id]) return;
      const found = await open(id);
      if (on) setGone(found === null);
    };
    const look = () => {
      read();
      loadList();
    };
    setGone(false);
    read();
    // Another tab may have gone on with it, or be about to.
    addEventListener("focus", look);
    addEventListener("visibilitychange", look);
    const timer = elsewhere ? setInterval(read, LOOK_EVERY_MS) : undefined;
    return () => {
      on = false;
      removeEventListener("focus", look);
      removeEventListener("visibilitychange", look);
      clearInterval(timer);
    };
  }, [id, returns, elsewhere]);

  const shown = useMemo(
    () => (conversation ? path(conversation.messages, conversation.head) : []),
    [conversation],
  );
  const follow = useFollowing(conversation, id);
  const ask = async (/** @type {string} */ content) => {
    follow.toEnd();
    let at = id;
    // What is written where a conversation is gone begins another.
    const taken = await take(gone ? null : id, { content, parent: conversation?.head ?? null }, (begun) => {
      at = begun;
      if (begun !== id) go("chat", begun);
    });
    if (!taken) giveBack(at, content);
  };

  return html`
    <header class="bar">
      <button class="plain menu" onClick=${onMenu} aria-label=${t("menu")}><${Icon} name="menu" size=${20} /></button>
      <h1 dir="auto">${conversation?.title || t("chat.new")}</h1>
    </header>
    <div class="thread" ref=${follow.place} onScroll=${follow.onScroll} tabindex="-1">
      ${gone && html`<p class="welcome">${t("chat.gone")}</p>`}
      ${!id && html`<${Welcome} onAsk=${ask} />`}
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
    <${Composer} id=${id} running=${running} onSend=${ask} onStop=${() => stop(id)} />
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
