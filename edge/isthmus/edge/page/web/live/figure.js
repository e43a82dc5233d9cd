// A chart with its legend, what is under the pointer, and the same figures as a table.
import { html, useMemo, useState } from "../ui/dom.js";
import { useWords } from "../ui/i18n.js";
import { Icon } from "../ui/icons.js";
import { Plot } from "./plot.js";

/**
 * @typedef {object} Series
 * @property {string} name
 * @property {string} colour a colour of base.css
 * @property {(number | null)[]} values
 *
 * @typedef {object} Props
 * @property {string} title
 * @property {string} summary what the picture shows, for those who do not see it
 * @property {"bars" | "lines"} kind
 * @property {boolean} empty
 * @property {number[]} times
 * @property {number} windowS
 * @property {Series[]} series
 * @property {(value: number) => string} format
 * @property {(unixS: number) => string} moment
 */

/** @param {Props} props */
export function Figure({ title, summary, empty, series, times, format, moment, ...plot }) {
  const { t } = useWords();
  const [asTable, setAsTable] = useState(false);
  const [at, setAt] = useState(/** @type {number | null} */ (null));
  const drawn = useMemo(() => [times, ...series.map((one) => one.values)], [times.at(-1), ...series.map((one) => String(one.values))]);
  const shown = (/** @type {number | null | undefined} */ value) => (value == null ? "–" : format(value));
  return html`<figure class="card chart">
    <div class="head">
      <h2>${title}</h2>
      <button class="plain" aria-pressed=${String(asTable)} onClick=${() => setAsTable(!asTable)} disabled=${empty}>
        <${Icon} name="table" size=${16} /><span>${t("chart.table")}</span>
      </button>
    </div>
    <p class="legend" aria-hidden="true">
      ${series.map(
        (one) => html`<span><i class=${one.colour}></i>${one.name}${at !== null && html` <b>${shown(one.values[at])}</b>`}</span>`,
      )}
      ${at !== null && html`<span class="moment">${moment(times[at])}</span>`}
    </p>
    ${empty && html`<p class="none">${t("chart.empty")}</p>`}
    ${!empty && asTable && html`<${Table} ...${{ title, series, times, shown, moment }} />`}
    ${!empty &&
    !asTable &&
    html`<div role="img" aria-label=${`${title}. ${summary}`}>
      <${Plot} data=${drawn} series=${series} format=${format} onPoint=${setAt} ...${plot} />
    </div>`}
  </figure>`;
}

/** @param {any} props */
function Table({ title, series, times, shown, moment }) {
  const { t } = useWords();
  const told = times
    .map((/** @type {number} */ _, /** @type {number} */ at) => at)
    .filter((/** @type {number} */ at) => series.some((/** @type {Series} */ one) => one.values[at]))
    .reverse();
  return html`<div class="scrolls rows" tabindex="0" role="group" aria-label=${title}>
    <table class="grid">
      <thead>
        <tr><th>${t("chart.time")}</th>${series.map((/** @type {Series} */ one) => html`<th class="n">${one.name}</th>`)}</tr>
      </thead>
      <tbody>
        ${told.map(
          (/** @type {number} */ at) => html`<tr>
            <th>${moment(times[at])}</th>
            ${series.map((/** @type {Series} */ one) => html`<td class="n">${shown(one.values[at])}</td>`)}
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}
