// Why an answer was made where it was made: reasons in words, then every figure behind them.
import { html, useEffect, useRef } from "../ui/dom.js";
import { bytes, duration, number, usd } from "../ui/format.js";
import { tOrNull, useWords } from "../ui/i18n.js";
import { Icon } from "../ui/icons.js";
import { Chances, Worths } from "./worth.js";

/** @param {{ id: string, told: any }} props `told` is the isthmus object of the answer */
export function Why({ id, told }) {
  const { t } = useWords();
  const place = useRef(/** @type {any} */ (null));
  // Below the last answer it opens where nobody looks.
  useEffect(() => place.current.scrollIntoView({ block: "nearest" }), []);
  return html`<section class="why" ref=${place} id=${id} role="group" aria-label=${t("why.title")}>
    <div>
      <h3>${t("why.reasons")}</h3>
      <${Reasons} told=${told} />
      <${Chances} told=${told} />
    </div>
    <${Privacy} told=${told} />
    <${Figures} told=${told} />
    ${told.legs?.length > 0 && html`<${Legs} legs=${told.legs} />`}
    <${Worths} told=${told} />
    <${Raw} told=${told} />
  </section>`;
}

/** @param {{ told: any }} props */
function Reasons({ told }) {
  const { t } = useWords();
  return html`<ul class="reasons">
    ${told.same_model_demo && html`<li>${t("demo.long")}</li>`}
    ${told.reasons.map(
      (/** @type {string} */ code) => html`<li>${tOrNull(`reason.${code}`) ?? t("reason.other")} <code>${code}</code></li>`,
    )}
  </ul>`;
}

/** Labels and how often: a value never comes this far. @param {{ told: any }} props */
function Privacy({ told }) {
  const { t } = useWords();
  const redacted = Object.entries(typeof told.redacted === "object" && told.redacted ? told.redacted : {});
  const count = typeof told.redacted === "number" ? told.redacted : 0;
  return html`<div>
    <h3>${t("why.privacy")}</h3>
    <p>${tOrNull(`class.${told.privacy_class}`) ?? told.privacy_class}</p>
    ${count > 0 && html`<p>${t("why.redacted_count", { n: number(count) })}</p>`}
    ${redacted.length > 0 &&
    html`<div class="tagged">
      ${redacted.map(
        ([label, times]) => html`<span class="tag">
          <${Icon} name="shield" size=${14} />${tOrNull(`label.${label}`) ?? label} × ${number(Number(times))}
        </span>`,
      )}
    </div>`}
  </div>`;
}

/** @param {{ told: any }} props */
function Figures({ told }) {
  const { t } = useWords();
  const { latency = {}, price = {} } = told;
  // Null where nobody has told a price; of an answer of the cloud it is the price itself.
  const inCloud = told.target === "edge" ? price.would_have_cost_usd : null;
  const shown = [
    ["why.ttft", latency.ttft_ms != null && duration(latency.ttft_ms)],
    ["why.total", latency.total_ms != null && duration(latency.total_ms)],
    ["why.speed", told.tokens_per_s != null && t("unit.tok_s", { n: number(told.tokens_per_s, { maximumFractionDigits: 0 }) })],
    ["why.price", price.spent_usd != null && usd(price.spent_usd)],
    ["why.in_cloud", inCloud != null && usd(inCloud)],
    ["why.prompt", told.prefilled_tokens != null && t("why.prompt_tokens", { fresh: number(told.prefilled_tokens), cached: number(told.cached_tokens ?? 0) })],
    ["why.model", told.model],
    ["why.backend", told.target === "edge" && told.decode_backend],
  ].filter(([, value]) => value);
  return html`<div>
    <h3>${t("why.figures")}</h3>
    <dl class="figures">
      ${shown.map(([name, value]) => html`<div><dt>${t(name)}</dt><dd>${value}</dd></div>`)}
    </dl>
  </div>`;
}

/** @param {{ legs: any[] }} props */
function Legs({ legs }) {
  const { t } = useWords();
  return html`<div>
    <h3>${t("why.legs")}</h3>
    <div class="scrolls" tabindex="0" role="group" aria-label=${t("why.legs")}>
      <table class="grid">
        <thead>
          <tr>
            <th>${t("leg.tier")}</th>
            <th>${t("leg.end")}</th>
            <th class="n">${t("leg.tokens")}</th>
            <th class="n">${t("leg.sent")}</th>
            <th class="n">${t("leg.price")}</th>
          </tr>
        </thead>
        <tbody>
          ${legs.map(
            (leg) => html`<tr>
              <th>${t(`tier.${leg.target}`)} ${leg.model && html`<br /><small>${leg.model}</small>`}</th>
              <td>${t(`end.${leg.end}`)}${leg.error && html` <code>${leg.error}</code>`}</td>
              <td class="n">${number(leg.completion_tokens)}</td>
              <td class="n">${leg.sent_bytes ? bytes(leg.sent_bytes) : "–"}</td>
              <td class="n">${usd(leg.spent_usd)}</td>
            </tr>`,
          )}
        </tbody>
      </table>
    </div>
  </div>`;
}

/** Every score and threshold by its own name, for those who tune. @param {{ told: any }} props */
function Raw({ told }) {
  const { t } = useWords();
  const rows = (/** @type {Record<string, number>} */ values) =>
    Object.entries(values ?? {}).map(
      ([name, value]) => html`<tr><th><code>${name}</code></th><td class="n">${number(value, { maximumSignificantDigits: 4 })}</td></tr>`,
    );
  return html`<details>
    <summary>${t("why.raw")}</summary>
    <div class="scrolls" tabindex="0" role="group" aria-label=${t("why.raw")}>
      <table class="grid">
        <thead><tr><th>${t("why.score")}</th><th class="n">${t("why.value")}</th></tr></thead>
        <tbody>${rows(told.scores)}</tbody>
        <thead><tr><th>${t("why.threshold")}</th><th class="n">${t("why.value")}</th></tr></thead>
        <tbody>${rows(told.thresholds)}</tbody>
      </table>
    </div>
    ${told.request_id && html`<p>${t("why.request")} <code>${told.request_id}</code></p>`}
  </details>`;
}
