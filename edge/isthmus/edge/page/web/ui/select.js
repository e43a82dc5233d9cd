// A choice among few, by the browser's own list: it knows keyboards, phones and screen readers.
import { html } from "./dom.js";
import { Icon } from "./icons.js";

/**
 * @param {{ label: string, value: string, options: { value: string, title: string }[],
 *   onChange: (value: string) => void }} props
 */
export function Select({ label, value, options, onChange }) {
  return html`<span class="select">
    <select
      aria-label=${label}
      value=${value}
      onChange=${(/** @type {any} */ event) => onChange(event.target.value)}
    >
      ${options.map((one) => html`<option value=${one.value}>${one.title}</option>`)}
    </select>
    <${Icon} name="below" size=${15} />
  </span>`;
}
