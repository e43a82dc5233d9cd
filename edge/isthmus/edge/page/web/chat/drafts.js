// What is being written, by conversation, and where it is to be answered: both outlive a look at
// another view. Words stay in memory; the place is kept for the tab, lest a reload undo it unseen.
import { createStore } from "../ui/store.js";

const ROUTE = "isthmus.route";
export const ROUTES = ["auto", "prefer_on_device", "only_on_device", "prefer_in_cloud", "only_in_cloud"];

const kept = sessionStorage.getItem(ROUTE);

export const drafts = createStore({
  /** @type {Record<string, string>} */ texts: {},
  route: kept && ROUTES.includes(kept) ? kept : "auto",
});

/** @param {string | null} id the conversation; null is one that has not begun @param {string} text */
export function write(id, text) {
  drafts.set({ texts: { ...drafts.get().texts, [id ?? ""]: text } });
}

/** What the agent did not take is there to be sent again. @param {string | null} id @param {string} text */
export function giveBack(id, text) {
  if (!drafts.get().texts[id ?? ""]) write(id, text);
}

/** @param {string} route one of `ROUTES` */
export function chooseRoute(route) {
  sessionStorage.setItem(ROUTE, route);
  drafts.set({ route });
}
