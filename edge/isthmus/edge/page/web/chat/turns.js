// A turn: what is asked goes out, the answer comes in piece by piece.
import { ApiError, turnOf } from "../api.js";
import { begin, change, conversations, loadList, open } from "./conversations.js";
import { drafts } from "./drafts.js";
import { announce, announceAnswer } from "../ui/announce.js";
import { t } from "../ui/i18n.js";

const DRAW_EVERY_MS = 40;
const ASK_AGAIN_MS = 250;
// The messages of a turn that the agent has not given ids yet.
const SENT = "sent";
const AWAITED = "awaited";

/**
 * @param {string | null} id the conversation; null begins one
 * @param {{ content?: string, parent?: string | null, regenerate?: string }} turn answered where the composer says
 * @param {(id: string) => void} [onBegun] told the conversation before the answer comes
 * @returns {Promise<boolean>} whether the agent took it
 */
export async function take(id, turn, onBegun = () => {}) {
  try {
    const conversation = id ? conversations.get().open[id] : await begin(turn.content ?? "");
    if (!conversation) throw new ApiError(0, "conversation_unread", "The conversation could not be read.");
    onBegun(conversation.id);
    await run(conversation.id, { ...turn, route: drafts.get().route });
    return true;
  } catch (error) {
    conversations.set({ error: /** @type {any} */ (error) });
    return false;
  }
}

/** @param {string} id @param {{ content?: string, parent?: string | null, regenerate?: string }} turn */
async function run(id, turn) {
  if (conversations.get().runs[id]) return;
  const controller = new AbortController();
  conversations.set({ runs: { ...conversations.get().runs, [id]: controller }, error: null });
  announce(t("live.answering"));
  const answer = new Answer(id);
  answer.await(turn);
  try {
    for await (const event of turnOf(id, turn, controller.signal)) answer.take(event);
  } catch (error) {
    if (controller.signal.aborted) answer.withdraw();
    else answer.fail(/** @type {any} */ (error));
  } finally {
    answer.draw();
    const { [id]: _, ...runs } = conversations.get().runs;
    conversations.set({ runs });
  }
  if (!answer.whole) await settle(id, answer);
  announceEnd(id, answer);
  loadList();
}

/** What became of an answer whose end did not arrive: as the agent has stored it. */
async function settle(/** @type {string} */ id, /** @type {Answer} */ answer) {
  for (let attempt = 0; attempt < 8; attempt += 1) {
    const found = await open(id);
    if (found === null || !answer.messageId) return;
    const stored = found?.messages.find((/** @type {any} */ m) => m.id === answer.messageId);
    if (stored && stored.status !== "running") return;
    await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN_MS));
  }
  answer.patch({ status: "stopped" });
}

function announceEnd(/** @type {string} */ id, /** @type {Answer} */ answer) {
  const messages = conversations.get().open[id]?.messages ?? [];
  const message = messages.find((one) => one.id === answer.messageId);
  if (!message) return;
  const target = message.isthmus?.target;
  if (message.status === "failed") announce(t("live.failed"));
  else if (message.status === "stopped") announce(t("live.stopped"));
  else announceAnswer(message.content, target ? t(`live.done.${target}`) : "");
}

/** The answer that comes: pieces are gathered, and drawn some times a second. */
class Answer {
  /** @param {string} id the conversation's */
  constructor(id) {
    this.id = id;
    /** @type {string | null} */
    this.messageId = null;
    this.whole = false;
    this.before = {};
    this.pending = "";
    /** @type {number | undefined} */
    this.timer = undefined;
  }

  /**
   * Show what is asked until the agent says what it made of it: on a slow network that is seconds.
   * @param {{ content?: string, parent?: string | null, regenerate?: string }} turn
   */
  await({ content, parent = null, regenerate }) {
    change(this.id, ({ messages, head }) => {
      // An edit stays in its field until it is taken.
      if (!regenerate && parent !== head) return {};
      this.before = { messages, head };
      const stub = { at_unix_s: 0, error: null, rating: /** @type {const} */ (0), isthmus: null };
      const above = messages.find((message) => message.id === regenerate)?.parent ?? SENT;
      const asked = { ...stub, id: SENT, parent, role: "user", content: content ?? "", status: "done" };
      const awaited = { ...stub, id: AWAITED, parent: above, role: "assistant", content: "", status: "running" };
      return { messages: /** @type {any} */ ([...messages, ...(regenerate ? [] : [asked]), awaited]), head: AWAITED };
    });
  }

  /** @param {any} event */
  take(event) {
    if (event.object === "isthmus.turn") this.place(event);
    else if (event.error) throw new ApiError(0, event.error.code ?? "unknown", event.error.message);
    else {
      this.pending += event.choices?.[0]?.delta?.content ?? "";
      if (event.isthmus) this.patch({ isthmus: event.isthmus });
      this.timer ??= setTimeout(() => this.draw(), DRAW_EVERY_MS);
    }
  }

  /** The messages of the turn, as stubs first and whole at the end. @param {any} event */
  place({ user, assistant }) {
    this.draw();
    this.messageId = assistant.id;
    this.whole = assistant.status !== "running";
    change(this.id, (one) => {
      const ids = new Set([user?.id, assistant.id, SENT, AWAITED]);
      const others = one.messages.filter((message) => !ids.has(message.id));
      return { messages: [...others, ...(user ? [user] : []), assistant], head: assistant.id };
    });
  }

  draw() {
    clearTimeout(this.timer);
    this.timer = undefined;
    const text = this.pending;
    this.pending = "";
    if (text) this.patch((message) => ({ content: message.content + text }));
  }

  /** What the agent did not take is not shown as if it had. */
  withdraw() {
    if (!this.messageId) change(this.id, () => this.before);
  }

  /** @param {ApiError} error */
  fail(error) {
    this.withdraw();
    if (!this.messageId) throw error;
    this.draw();
    this.patch({ status: "failed", error: { code: error.code, message: error.message } });
  }

  /** @param {object | ((message: any) => object)} changes */
  patch(changes) {
    change(this.id, (one) => ({
      messages: one.messages.map((message) =>
        message.id === this.messageId
          ? { ...message, ...(typeof changes === "function" ? changes(message) : changes) }
          : message,
      ),
    }));
  }
}
