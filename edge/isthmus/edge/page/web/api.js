// The agent's HTTP API, as the page uses it. The token, where one is set, stays in this tab.
import { createStore } from "./ui/store.js";

const BASE = "/v1/isthmus";
const TOKEN = "isthmus.token";

/** Whether the agent could not be reached when it was last asked, and how often it came back. */
export const agent = createStore({ away: false, returns: 0 });

/** @param {boolean} away */
function found(away) {
  const before = agent.get();
  if (before.away !== away) agent.set({ away, returns: before.returns + (away ? 0 : 1) });
}

/** What the agent refused, or that it could not be reached (`status` 0). */
export class ApiError extends Error {
  /** @param {number} status @param {string} code @param {string} message */
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** @type {(refused: boolean) => void} */
let onLocked = () => {};

/**
 * `ask` is called when the agent wants a token, and told whether it refused the one it was given.
 * @param {(refused: boolean) => void} ask
 */
export function whenLocked(ask) {
  onLocked = ask;
}

/** @param {string} token */
export function giveToken(token) {
  sessionStorage.setItem(TOKEN, token);
  // What could not be read without it is asked for again.
  agent.set({ returns: agent.get().returns + 1 });
}

/**
 * @param {string} method
 * @param {string} path below /v1/isthmus
 * @param {{ body?: object, signal?: AbortSignal }} options
 */
async function ask(method, path, { body, signal }) {
  let response;
  const token = sessionStorage.getItem(TOKEN);
  try {
    response = await fetch(BASE + path, {
      method,
      signal,
      // What was changed is told to its end, also when the page is left at once.
      keepalive: method !== "GET" && !signal,
      headers: {
        ...(token && { authorization: `Bearer ${token}` }),
        ...(body && { "content-type": "application/json" }),
      },
      body: body && JSON.stringify(body),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    found(true);
    throw new ApiError(0, "unreachable", String(error));
  }
  found(false);
  if (response.ok) return response;
  // What was asked before a token was given says nothing of that token.
  if (response.status === 401 && token === sessionStorage.getItem(TOKEN)) onLocked(token !== null);
  const told = (await response.json().catch(() => ({}))).error ?? {};
  throw new ApiError(response.status, told.code ?? "unknown", told.message ?? response.statusText);
}

/** @param {string} method @param {string} path @param {object} [body] @returns {Promise<any>} */
export const request = async (method, path, body) => (await ask(method, path, { body })).json();

/** @param {string} path @returns {Promise<any>} */
export const get = (path) => request("GET", path);

/**
 * One turn of a conversation: its events as they come.
 * @param {string} id the conversation's
 * @param {object} turn
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<any>}
 */
export async function* turnOf(id, turn, signal) {
  const path = `/conversations/${encodeURIComponent(id)}/turns`;
  const response = await ask("POST", path, { body: turn, signal });
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const events = (rest + value).split("\n\n");
      rest = events.pop() ?? "";
      for (const event of events) {
        const data = event.replace(/^data: ?/, "");
        if (data !== "[DONE]") yield JSON.parse(data);
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
