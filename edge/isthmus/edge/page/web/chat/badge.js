// The badge of an answer: which tier made it. It opens why.
import { html } from "../ui/dom.js";
import { duration, number } from "../ui/format.js";
import { useWords } from "../ui/i18n.js";
import { Icon } from "../ui/icons.js";

/** The tiers that wrote what is read, in their order. @param {any} told the isthmus object */
export function tiersOf(told) {
  const wrote = (told.legs ?? [])
    .filter((/** @type {any} */ leg) => leg.completion_tokens > (leg.dropped_tokens ?? 0))
    .filter((/** @type {any} */ leg) => leg.end !== "lost")
    .map((/** @type {any} */ leg) => leg.target);
  const order = wrote.filter((/** @type {string} */ tier, /** @type {number} */ at) => tier !== wrote[at - 1]);
  return order.length > 1 ? order : [told.target];
}

/** @param {{ told: any, open: boolean, panel: string, onToggle: () => void }} props */
export function Badge({ told, open, panel, onToggle }) {
  const { t } = useWords();
  const tiers = tiersOf(told);
  const speed = told.tokens_per_s;
  return html`<button
      class=${`badge ${told.target}`}
      aria-expanded=${String(open)}
      aria-controls=${panel}
      onClick=${onToggle}
      title=${t("why.open")}
    >
      ${tiers.map(
        (tier, at) => html`${at > 0 && html`<span aria-hidden="true">→</span>`}
          <${Icon} name=${tier === "edge" ? "device" : "cloud"} size=${16} />
          <span>${t(`tier.${tier}`)}</span>`,
      )}
      <span class="hidden">: ${t("why.open")}</span>
      <span class="below"><${Icon} name="below" size=${14} /></span>
    </button>
    <span class="facts">
      ${told.same_model_demo && html`<span>${t("demo.short")}</span>`}
      ${told.latency?.ttft_ms != null && html`<span>${duration(told.latency.ttft_ms)}</span>`}
      ${speed != null && html`<span>${t("unit.tok_s", { n: number(speed, { maximumFractionDigits: 0 }) })}</span>`}
    </span>`;
}
