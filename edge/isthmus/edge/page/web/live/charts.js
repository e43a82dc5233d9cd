// The two charts: answers by tier over time, and the time to the first token.
import { html } from "../ui/dom.js";
import { duration, moment, number } from "../ui/format.js";
import { useWords } from "../ui/i18n.js";
import { Figure } from "./figure.js";

/** @param {{ live: any }} props */
export function RouteChart({ live }) {
  const { t } = useWords();
  const { buckets, totals } = live;
  return html`<${Figure}
    title=${t("chart.routes")}
    summary=${t("chart.routes_summary", { edge: number(totals.edge), cloud: number(totals.cloud), failed: number(totals.failed) })}
    kind="bars"
    empty=${totals.edge + totals.cloud + totals.failed === 0}
    times=${buckets.map((/** @type {any} */ one) => one.at_unix_s)}
    windowS=${live.window_s}
    format=${(/** @type {number} */ value) => number(value)}
    series=${["edge", "cloud", "failed"].map((name) => ({
      name: t(`series.${name}`),
      colour: name === "failed" ? "danger" : name,
      values: buckets.map((/** @type {any} */ one) => one[name]),
    }))}
    moment=${(/** @type {number} */ at) => moment(at, live.window_s)}
  />`;
}

/** @param {{ live: any }} props */
export function TimeChart({ live }) {
  const { t } = useWords();
  const { buckets } = live;
  const series = [
    { name: t("series.p50"), colour: "text", values: buckets.map((/** @type {any} */ one) => one.ttft_p50_ms) },
    { name: t("series.p95"), colour: "warn", values: buckets.map((/** @type {any} */ one) => one.ttft_p95_ms) },
  ];
  const known = series[0].values.filter((/** @type {any} */ value) => value !== null);
  return html`<${Figure}
    title=${t("chart.ttft")}
    summary=${t("chart.ttft_summary", { n: number(known.length) })}
    kind="lines"
    empty=${known.length === 0}
    times=${buckets.map((/** @type {any} */ one) => one.at_unix_s)}
    windowS=${live.window_s}
    format=${duration}
    series=${series}
    moment=${(/** @type {number} */ at) => moment(at, live.window_s)}
  />`;
}
