// Copying, also where the page came over plain HTTP from another machine: no clipboard API there.

/** @param {string} text */
export async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "hidden";
  document.body.append(area);
  const focused = /** @type {HTMLElement | null} */ (document.activeElement);
  area.select();
  document.execCommand("copy");
  area.remove();
  focused?.focus();
}
