// What stands below the charts: percentiles, money, privacy, the device and the cloud.
import { html } from "../ui/dom.js";
import { bytes, duration, number, percent, usd } from "../ui/format.js";
import { tOrNull, useWords } from "../ui/i18n.js";

const TIERS = ["edge", "cloud"];

/** @param {{ title: string, children: any }} props */
function Card({ title, children }) {
  return html`<section class="card"><h2>${title}</h2>${children}</section>`;
}

/** Rows of a name and a figure. @param {{ rows: any[] }} props */
function Facts({ rows }) {
  return html`<dl class="rows">
    ${rows
      .filter(([, value]) => value !== null && value !== undefined && value !== false)
      .map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}
  </dl>`;
}

/** @param {{ latency: any }} props */
export function Latency({ latency }) {
  const { t } = useWords();
  const kinds = ["ttft_ms", "tpot_ms", "total_ms"];
  return html`<${Card} title=${t("panel.latency")}>
    <div class="scrolls" tabindex="0" role="group" aria-label=${t("panel.latency")}>
      <table class="grid">
        <thead>
          <tr><th>${t("latency.of")}</th><th class="n">p50</th><th class="n">p95</th><th class="n">p99</th></tr>
        </thead>
        ${TIERS.map(
          (tier) => html`<tbody>
            ${kinds.map(
              (kind) => html`<tr>
                <th><i class=${`dot ${tier}`}></i>${t(`tier.${tier}`)} · ${t(`latency.${kind}`)}</th>
                ${["p50", "p95", "p99"].map((p) => html`<td class="n">${duration(latency[tier][kind][p])}</td>`)}
              </tr>`,
            )}
          </tbody>`,
        )}
      </table>
    </div>
  <//>`;
}

/** @param {{ money: any }} props */
export function Money({ money }) {
  const { t } = useWords();
  return html`<${Card} title=${t("panel.money")}>
    <${Facts}
      rows=${[
        [t("money.spent"), usd(money.spent_usd)],
        [t("money.saved"), usd(money.saved_usd)],
      ]}
    />
    ${["day", "month"].map((period) => html`<${Budget} period=${period} state=${money[period]} />`)}
  <//>`;
}

/** @param {{ period: string, state: any }} props */
function Budget({ period, state }) {
  const { t } = useWords();
  const limited = state.limit_usd !== null;
  const words = limited
    ? t("budget.left", { left: usd(state.left_usd), limit: usd(state.limit_usd) })
    : t("budget.none", { spent: usd(state.spent_usd) });
  return html`<div class="budget">
    <p><b>${t(`budget.${period}`)}</b> <span>${words}</span></p>
    ${limited &&
    html`<meter class="cloud" min="0" max=${state.limit_usd || 1} value=${state.spent_usd} aria-label=${`${t(`budget.${period}`)}: ${words}`}></meter>`}
  </div>`;
}

/** @param {{ privacy: any, totals: any }} props */
export function Privacy({ privacy, totals }) {
  const { t } = useWords();
  const labels = Object.entries(privacy.labels).sort((a, b) => Number(b[1]) - Number(a[1]));
  return html`<${Card} title=${t("panel.privacy")}>
    <${Facts}
      rows=${[
        [t("privacy.kept"), number(totals.kept_private)],
        [t("privacy.redacted"), number(totals.redacted)],
        [t("privacy.blocked"), number(totals.blocked)],
      ]}
    />
    ${labels.length > 0 &&
    html`<h3>${t("privacy.labels")}</h3>
      <div class="tagged">
        ${labels.map(([label, count]) => html`<span class="tag">${tOrNull(`label.${label}`) ?? label} ${number(Number(count))}</span>`)}
      </div>`}
  <//>`;
}

/** @param {{ device: any, inFlight: number }} props */
export function Device({ device, inFlight }) {
  const { t } = useWords();
  const battery = device.battery;
  return html`<${Card} title=${t("panel.device")}>
    <${Facts}
      rows=${[
        [t("device.state"), tOrNull(`state.${device.state}`) ?? device.state],
        [t("device.model"), device.model],
        [t("device.backend"), device.backend],
        [t("device.memory"), device.memory_bytes && bytes(device.memory_bytes)],
        [t("device.memory_free"), device.memory_free_bytes && bytes(device.memory_free_bytes)],
        [t("device.battery"), battery ? `${percent(battery.ratio)}${battery.charging ? ` · ${t("device.charging")}` : ""}` : t("device.no_battery")],
        [t("device.temperature"), device.temperature_c != null && `${number(device.temperature_c, { maximumFractionDigits: 0 })} °C`],
        [t("device.throttled"), device.throttled ? t("yes") : null],
        [t("device.in_flight"), number(inFlight)],
      ]}
    />
  <//>`;
}

/** @param {{ cloud: any, network: string | null }} props */
export function Cloud({ cloud, network }) {
  const { t } = useWords();
  return html`<${Card} title=${t("panel.cloud")}>
    <${Facts}
      rows=${[
        [t("cloud.state"), tOrNull(`breaker.${cloud.state}`) ?? cloud.state],
        [t("cloud.network"), network && (tOrNull(`network.${network}`) ?? network)],
        [t("cloud.model"), cloud.model],
        [t("cloud.rtt"), cloud.rtt_ms != null && duration(cloud.rtt_ms)],
        [t("cloud.consent"), cloud.consent ? t("yes") : t("no")],
        [t("demo.short"), cloud.same_model_demo ? t("yes") : null],
      ]}
    />
  <//>`;
}
