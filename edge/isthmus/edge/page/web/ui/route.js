// Which view is shown, as the address says it.
import { createStore } from "./store.js";

const VIEWS = ["chat", "live", "settings"];

function read() {
  const [, view = "", id = ""] = location.hash.split("/");
  return { view: VIEWS.includes(view) ? view : "chat", id: id ? decoded(id) : null };
}

/** What was typed into the address may be no code at all: then it is taken as it stands. @param {string} id */
function decoded(id) {
  try {
    return decodeURIComponent(id);
  } catch {
    return id;
  }
}

export const route = createStore(read());
addEventListener("hashchange", () => route.set(read()));

/** @param {string} view @param {string} [id] */
export function go(view, id) {
  location.hash = id ? `#/${view}/${encodeURIComponent(id)}` : `#/${view}`;
}
