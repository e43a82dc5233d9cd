// What a screen reader says without being asked: one polite line, never the stream token by token.
import { html } from "./dom.js";
import { createStore } from "./store.js";

const said = createStore({ text: "" });
const LONGEST = 600;

/** @param {string} text */
export function announce(text) {
  // The same words twice are said twice only when they change in between.
  said.set({ text: said.get().text === text ? `${text}\u00a0` : text });
}

/** An answer that is there: its words without the marks, cut where it is long. */
export function announceAnswer(/** @type {string} */ markdown, /** @type {string} */ where) {
  const plain = markdown.replace(/```[\s\S]*?(```|$)/g, " ").replace(/[*_`#>|]/g, "");
  const text = plain.length > LONGEST ? `${plain.slice(0, LONGEST)}…` : plain;
  announce(`${where} ${text}`.trim());
}

export function Announcer() {
  const { text } = said.use();
  return html`<div class="hidden" role="status" aria-live="polite">${text}</div>`;
}
