// The comparison of both tiers that decided, where one did: chances first, then dollars.
import { html } from "../ui/dom.js";
import { number, usd } from "../ui/format.js";
import { useWords } from "../ui/i18n.js";

const TIERS = /** @type {const} */ (["edge", "cloud"]);
const TERMS = ["quality", "price", "time", "energy", "moving", "leaving", "value"];
const GIVEN = new Set(["quality", "value"]);

const of100 = (/** @type {number} */ share) => number(100 * share, { maximumFractionDigits: 0 });

/** How probably each tier answers well, and what gain the cloud had to bring. @param {{ told: any }} props */
export function Chances({ told }) {
  const { t } = useWords();
  const { scores = {}, thresholds = {} } = told;
  if (scores["edge.quality"] === undefined || scores["cloud.quality"] === undefined) return null;
  return html`<div class="chances">
    <p>${t("worth.chances")}</p>
    ${TIERS.map((tier) => {
      const share = scores[`${tier}.quality`];
      return html`<div class="chance">
        <span>${t(`tier.${tier}`)}</span>
        <meter class=${tier} min="0" max="1" value=${share} aria-label=${t(`tier.${tier}`)}></meter>
        <span>${of100(share)} %</span>
      </div>`;
    })}
    ${thresholds.gain !== undefined && html`<p>${needed(t, scores.gain, thresholds.gain)}</p>`}
  </div>`;
}

/** @param {any} t @param {number} gain @param {number} limit */
function needed(t, gain, limit) {
  const believed = t("worth.gain", { n: of100(gain) });
  if (limit >= 1) return `${believed} ${t("worth.never")}`;
  if (limit < 0) return `${believed} ${t("worth.always")}`;
  return `${believed} ${t("worth.from", { n: of100(limit) })}`;
}

/** Each term of each tier's worth. @param {{ told: any }} props */
export function Worths({ told }) {
  const { t } = useWords();
  const worth = (/** @type {string} */ tier, /** @type {string} */ term) =>
    told.scores?.[`${tier}.${term}_micro_usd`];
  const terms = TERMS.filter((term) => TIERS.some((tier) => worth(tier, term)));
  if (!terms.includes("value")) return null;
  const cell = (/** @type {string} */ tier, /** @type {string} */ term) => {
    const value = worth(tier, term) ?? 0;
    return usd((value && !GIVEN.has(term) ? -value : value) / 1e6);
  };
  return html`<details>
    <summary>${t("worth.title")}</summary>
    <div class="scrolls" tabindex="0" role="group" aria-label=${t("worth.title")}>
      <table class="grid">
        <caption>${t("worth.caption")}</caption>
        <thead>
          <tr><th>${t("worth.term")}</th>${TIERS.map((tier) => html`<th class="n">${t(`tier.${tier}`)}</th>`)}</tr>
        </thead>
        <tbody>
          ${terms.map(
            (term) => html`<tr class=${term === "value" ? "sum" : ""}>
              <th>${t(`worth.${term}`)}</th>
              ${TIERS.map((tier) => html`<td class="n">${cell(tier, term)}</td>`)}
            </tr>`,
          )}
        </tbody>
      </table>
    </div>
  </details>`;
}
