// Where the keyboard goes.
import { go } from "./route.js";

/** @param {string} id */
function later(id) {
  setTimeout(() => document.getElementById(id)?.focus(), 0);
}

/** Where a field was that is being left: on what it was opened from. @param {{ current: any }} place */
export function focusBack(place) {
  setTimeout(() => place.current?.focus(), 0);
}

export function focusComposer() {
  if (!document.getElementById("composer")) go("chat");
  later("composer");
}

export function focusSearch() {
  later("search");
}
