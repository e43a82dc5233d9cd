// ‹2/3›: the versions of a message that stand in the same place.
import { html } from "../ui/dom.js";
import { useWords } from "../ui/i18n.js";
import { Icon } from "../ui/icons.js";
import { showBranch } from "./conversations.js";

/** @param {{ conversation: any, message: any, siblings: any[], busy: boolean }} props */
export function Branches({ conversation, message, siblings, busy }) {
  const { t } = useWords();
  if (siblings.length < 2) return null;
  const at = siblings.findIndex((one) => one.id === message.id);
  const step = (/** @type {number} */ by, /** @type {any} */ icon) => html`<button
    class="plain"
    disabled=${busy || !siblings[at + by]}
    onClick=${() => showBranch(conversation.id, siblings[at + by])}
    aria-label=${t(by < 0 ? "branch.before" : "branch.after")}
  >
    <${Icon} name=${icon} size=${16} />
  </button>`;
  return html`<span class="branches" role="group" aria-label=${t("branch.label")}>
    ${step(-1, "left")}<span>${at + 1}/${siblings.length}</span>${step(1, "right")}
  </span>`;
}
