// The conversations that the agent keeps: a list, and those that were opened.
import { get, request } from "../api.js";
import { createStore } from "../ui/store.js";
import { leafBelow } from "./tree.js";

/** @typedef {{ id: string, title: string, updated_unix_s: number }} Head */
/** @typedef {Head & { head: string | null, messages: import("./tree.js").Message[] }} Conversation */

export const conversations = createStore({
  /** @type {Head[]} */ list: [],
  /** @type {string | null} */ next: null,
  query: "",
  loaded: false,
  /** @type {Record<string, Conversation>} */ open: {},
  /** @type {Record<string, AbortController>} answers on their way, by conversation */ runs: {},
  /** @type {import("../api.js").ApiError | null} */ error: null,
});

const PAGE = 50;
const LONGEST_TITLE = 80;
let asked = 0;

/** @param {() => Promise<void>} work */
async function told(work) {
  try {
    await work();
    if (conversations.get().error) conversations.set({ error: null });
  } catch (error) {
    conversations.set({ error: /** @type {any} */ (error) });
  }
}

/** The newest conversations, or those that hold `query`. */
export function loadList(query = conversations.get().query) {
  const mine = ++asked;
  conversations.set({ query });
  return told(async () => {
    const found = await get(`/conversations?limit=${PAGE}&q=${encodeURIComponent(query)}`);
    if (mine === asked) conversations.set({ list: found.data, next: found.next, loaded: true });
  });
}

/** Older ones, below those that are shown. */
export function loadMore() {
  const { next, query } = conversations.get();
  return told(async () => {
    const found = await get(
      `/conversations?limit=${PAGE}&q=${encodeURIComponent(query)}&before=${encodeURIComponent(next ?? "")}`,
    );
    conversations.set({ list: [...conversations.get().list, ...found.data], next: found.next });
  });
}

/** Put what is known of a conversation in the place of what was. @param {Partial<Conversation> & { id: string }} known */
export function know(known) {
  const { open } = conversations.get();
  conversations.set({ open: { ...open, [known.id]: { ...open[known.id], ...known } } });
}

/** @param {string} id @param {(one: Conversation) => Partial<Conversation>} change */
export function change(id, change) {
  const one = conversations.get().open[id];
  if (one) know({ ...change(one), id });
}

/** Read a conversation; it is null where there is none. @param {string} id */
export async function open(id) {
  try {
    const found = await get(`/conversations/${encodeURIComponent(id)}`);
    if (!conversations.get().runs[id]) know(found);
    return found;
  } catch (error) {
    if (/** @type {any} */ (error).status === 404) {
      forget(id);
      return null;
    }
    conversations.set({ error: /** @type {any} */ (error) });
    return undefined;
  }
}

/** A conversation that begins with `text`. @param {string} text @returns {Promise<Conversation>} */
export async function begin(text) {
  const line = text.trim().split("\n", 1)[0];
  const letters = [...line];
  const title =
    letters.length > LONGEST_TITLE ? `${letters.slice(0, LONGEST_TITLE - 1).join("")}…` : line;
  const made = await request("POST", "/conversations", { title });
  know({ messages: [], head: null, ...made });
  conversations.set({ list: [made, ...conversations.get().list] });
  return conversations.get().open[made.id];
}

/** @param {string} id @param {string} title */
export function rename(id, title) {
  return told(async () => {
    await request("PATCH", `/conversations/${encodeURIComponent(id)}`, { title });
    change(id, () => ({ title }));
    const list = conversations.get().list.map((one) => (one.id === id ? { ...one, title } : one));
    conversations.set({ list });
  });
}

/** Stop the answer that is on its way. @param {string | null} id */
export function stop(id) {
  if (id) conversations.get().runs[id]?.abort();
}

/** @param {string} id */
function forget(id) {
  const { list, open: known } = conversations.get();
  const { [id]: _, ...left } = known;
  conversations.set({ list: list.filter((one) => one.id !== id), open: left });
}

/** @param {string} id */
export function remove(id) {
  stop(id);
  return told(async () => {
    await request("DELETE", `/conversations/${encodeURIComponent(id)}`);
    forget(id);
  });
}

export function removeAll() {
  Object.keys(conversations.get().runs).forEach(stop);
  return told(async () => {
    await request("DELETE", "/conversations");
    conversations.set({ list: [], next: null, open: {} });
  });
}

/** Show the branch of `message`. @param {string} id @param {import("./tree.js").Message} message */
export function showBranch(id, message) {
  const one = conversations.get().open[id];
  const head = leafBelow(one.messages, message).id;
  change(id, () => ({ head }));
  return told(() => request("PATCH", `/conversations/${encodeURIComponent(id)}`, { head }));
}

/** @param {string} id @param {import("./tree.js").Message} message @param {-1 | 0 | 1} rating */
export function rate(id, message, rating) {
  return told(async () => {
    await request("POST", `/messages/${encodeURIComponent(message.id)}/rating`, { rating });
    change(id, (one) => ({
      messages: one.messages.map((m) => (m.id === message.id ? { ...m, rating } : m)),
    }));
  });
}
