// The device's live picture: where answers were made, how fast, what they cost, what stayed.
import { get } from "../api.js";
import { conversations } from "../chat/conversations.js";
import { html, useEffect, useState } from "../ui/dom.js";
import { useWords } from "../ui/i18n.js";
import { Icon } from "../ui/icons.js";
import { Select } from "../ui/select.js";
import { RouteChart, TimeChart } from "./charts.js";
import { Cloud, Device, Latency, Money, Privacy } from "./panels.js";
import { Summary } from "./summary.js";

const WINDOWS = ["15m", "1h", "24h", "7d", "30d"];
const EVERY_MS = 3000;

/** @param {{ onMenu: () => void }} props */
export function Live({ onMenu }) {
  const { t } = useWords();
  const [length, setLength] = useState("1h");
  const live = useLive(length);
  return html`
    <header class="bar">
      <button class="plain menu" onClick=${onMenu} aria-label=${t("menu")}><${Icon} name="menu" size=${20} /></button>
      <h1>${t("tab.live")}</h1>
      <${Select}
        label=${t("live.window")}
        value=${length}
        options=${WINDOWS.map((name) => ({ value: name, title: t(`window.${name}`) }))}
        onChange=${setLength}
      />
    </header>
    <div class="page" tabindex="-1">
      ${live &&
      html`<div class="live">
        <${Trouble} device=${live.device} />
        <${Summary} live=${live} />
        <${RouteChart} live=${live} />
        <${TimeChart} live=${live} />
        <${Latency} latency=${live.latency} />
        <${Money} money=${live.money} />
        <${Privacy} privacy=${live.privacy} totals=${live.totals} />
        <${Device} device=${live.device} inFlight=${live.in_flight} />
        <${Cloud} cloud=${live.cloud} network=${live.device.network} />
      </div>`}
    </div>
  `;
}

/** The picture, asked for again while the page is looked at. @param {string} length */
function useLive(length) {
  const [live, setLive] = useState(/** @type {any} */ (null));
  useEffect(() => {
    let on = true;
    let timer = 0;
    /** @type {any} */
    let trouble = null;
    const look = async () => {
      if (!document.hidden) {
        try {
          const found = await get(`/live?window=${length}`);
          if (on) setLive(found);
          if (trouble && conversations.get().error === trouble) conversations.set({ error: null });
        } catch (error) {
          trouble = error;
          if (on) conversations.set({ error: trouble });
        }
      }
      if (on) timer = setTimeout(look, EVERY_MS);
    };
    look();
    return () => {
      on = false;
      clearTimeout(timer);
    };
  }, [length]);
  return live;
}

/** @param {{ device: any }} props */
function Trouble({ device }) {
  const { t } = useWords();
  if (device.state === "loading") return html`<p class="note wide" role="status">${t("device.loading")}</p>`;
  if (!device.problem) return null;
  return html`<p class="note bad wide" role="status">${t("device.problem")} ${device.problem}</p>`;
}
