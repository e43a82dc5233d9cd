// The four figures that are looked at first.
import { html } from "../ui/dom.js";
import { duration, number, percent, usd } from "../ui/format.js";
import { useWords } from "../ui/i18n.js";

/** @param {{ live: any }} props */
export function Summary({ live }) {
  const { t } = useWords();
  const { totals, money, latency } = live;
  const answered = totals.edge + totals.cloud;
  const edge = latency.edge.ttft_ms.p50;
  const cloud = latency.cloud.ttft_ms.p50;
  return html`<div class="summary wide">
    <${Figure}
      label=${t("sum.share")}
      value=${answered ? percent(totals.edge / answered) : "–"}
      note=${t("sum.share_note", { edge: number(totals.edge), all: number(answered) })}
    >
      ${answered > 0 &&
      html`<span class="split" aria-hidden="true">
        <svg width="100%" height="6" preserveAspectRatio="none" viewBox="0 0 100 6">
          <rect class="cloud" width="100" height="6" />
          <rect class="edge" width=${(100 * totals.edge) / answered} height="6" />
        </svg>
      </span>`}
    <//>
    <${Figure}
      label=${t("sum.ttft")}
      value=${duration(edge)}
      note=${cloud === null ? t("sum.ttft_edge") : t("sum.ttft_note", { cloud: duration(cloud) })}
    />
    <${Figure}
      label=${t("sum.saved")}
      value=${usd(money.saved_usd)}
      note=${t("sum.saved_note", { spent: usd(money.spent_usd) })}
    />
    <${Figure}
      label=${t("sum.private")}
      value=${number(totals.kept_private)}
      note=${t("sum.private_note", { n: number(totals.redacted) })}
    />
  </div>`;
}

/** @param {{ label: string, value: string, note: string, children?: any }} props */
function Figure({ label, value, note, children }) {
  return html`<section class="card figure">
    <h2>${label}</h2>
    <p class="value">${value}</p>
    ${children}
    <p class="sub">${note}</p>
  </section>`;
}
