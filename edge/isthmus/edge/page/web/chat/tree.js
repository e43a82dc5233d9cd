// A conversation is a tree of messages: an edit or a new answer makes a sibling, never a loss.

/**
 * @typedef {object} Message
 * @property {string} id
 * @property {string | null} parent
 * @property {"user" | "assistant"} role
 * @property {string} content
 * @property {number} at_unix_s
 * @property {"done" | "stopped" | "failed" | "running"} status
 * @property {{ code: string, message: string } | null} error
 * @property {-1 | 0 | 1} rating
 * @property {any} isthmus
 */

/** From the first message to `head`. @param {Message[]} messages @param {string | null} head */
export function path(messages, head) {
  const byId = new Map(messages.map((message) => [message.id, message]));
  const found = [];
  for (let at = head ? byId.get(head) : undefined; at; at = at.parent ? byId.get(at.parent) : undefined) {
    found.unshift(at);
    if (found.length > messages.length) break; // A ring would be the server's fault; do not hang.
  }
  return found;
}

/** Those that stand in the same place, the oldest first. @param {Message[]} messages @param {Message} one */
export function siblings(messages, one) {
  return messages.filter((other) => other.parent === one.parent && other.role === one.role);
}

/** The newest end of the conversation below `one`. @param {Message[]} messages @param {Message} one */
export function leafBelow(messages, one) {
  let leaf = one;
  for (;;) {
    const next = messages.findLast((other) => other.parent === leaf.id);
    if (!next) return leaf;
    leaf = next;
  }
}
