// uPlot in a component: drawn once, then fed; drawn anew when language, theme or window change.
import uPlot from "../lib/uplot/uPlot.esm.js";
import { html, useEffect, useRef } from "../ui/dom.js";
import { preferences } from "../ui/preferences.js";

const HEIGHT_PX = 210;
const FONT = "12px Inter, ui-sans-serif, system-ui, sans-serif";

/**
 * @param {{ data: any[], series: import("./figure.js").Series[], kind: string, windowS: number,
 *   format: (value: number) => string, onPoint: (at: number | null) => void }} props
 */
export function Plot({ data, series, kind, windowS, format, onPoint }) {
  const { dark, language } = preferences.use();
  const place = useRef(/** @type {any} */ (null));
  const plot = useRef(/** @type {any} */ (null));
  useEffect(() => {
    const style = getComputedStyle(document.documentElement);
    const colour = (/** @type {string} */ name) => style.getPropertyValue(`--${name}`).trim();
    const options = optionsOf({ series, kind, windowS, format, onPoint, colour, language });
    plot.current = new uPlot({ ...options, width: place.current.clientWidth }, stacked(data, kind), place.current);
    const watcher = new ResizeObserver(([entry]) =>
      plot.current.setSize({ width: Math.floor(entry.contentRect.width), height: HEIGHT_PX }),
    );
    watcher.observe(place.current);
    return () => {
      watcher.disconnect();
      plot.current.destroy();
    };
  }, [dark, language, kind, windowS]);
  useEffect(() => plot.current.setData(stacked(data, kind)), [data]);
  return html`<div class="plot" ref=${place}></div>`;
}

/** Room for the last bucket, which begins where the last time is. @param {any} self */
function whole(self) {
  const times = self.data[0];
  return [times[0], times.at(-1) + (times[1] - times[0])];
}

/** Bars stand on each other: the topmost, which is the sum of all, is painted first. */
function stacked(/** @type {any[]} */ [times, ...values], /** @type {string} */ kind) {
  if (kind !== "bars") return [times, ...values];
  let below = times.map(() => 0);
  const sums = values.map((one) => {
    below = one.map((/** @type {number} */ value, /** @type {number} */ at) => value + below[at]);
    return below;
  });
  return [times, ...sums.reverse()];
}

/**
 * The values that no line reaches, where there are too many to mark them all.
 * @param {any} self @param {number} series @param {boolean} all
 */
function alone(self, series, all) {
  if (all) return null;
  const values = self.data[series];
  return [...values.keys()].filter((at) => values[at] != null && values[at - 1] == null && values[at + 1] == null);
}

/** @param {any} asked */
function optionsOf({ series, kind, windowS, format, onPoint, colour, language }) {
  const line = { stroke: colour("line"), width: 1 };
  const bars = kind === "bars";
  const axis = { stroke: colour("muted"), font: FONT, ticks: { show: false } };
  const drawn = bars ? [...series].reverse() : series;
  return {
    height: HEIGHT_PX,
    padding: [12, 20, 0, 0],
    legend: { show: false },
    cursor: { drag: { x: false, y: false }, points: { show: !bars }, y: false },
    scales: { x: { time: true, range: whole }, y: { range: (/** @type {any} */ _, /** @type {any} */ __, /** @type {number} */ most) => [0, most ? most * 1.08 : 1] } },
    axes: [
      { ...axis, size: 30, grid: { show: false }, space: 70, values: (/** @type {any} */ _, /** @type {number[]} */ splits) => splits.map((at) => tick(at, windowS, language)) },
      {
        ...axis,
        size: bars ? 40 : 56,
        grid: line,
        incrs: bars ? [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000] : undefined,
        values: (/** @type {any} */ _, /** @type {number[]} */ splits) => splits.map((value) => format(value)),
      },
    ],
    series: [
      {},
      ...drawn.map((/** @type {any} */ one) => ({
        label: one.name,
        stroke: colour(one.colour),
        fill: bars ? colour(one.colour) : undefined,
        width: bars ? 0 : 2,
        points: bars ? { show: false } : { size: 5, filter: alone },
        spanGaps: false,
        paths: bars ? uPlot.paths.bars?.({ size: [0.72, 22], align: 1 }) : undefined,
      })),
    ],
    hooks: {
      setCursor: [(/** @type {any} */ self) => onPoint(self.cursor.idx ?? null)],
    },
  };
}

/** @param {number} unixS @param {number} windowS @param {string} language */
function tick(unixS, windowS, language) {
  const options = windowS <= 86_400 ? { hour: "2-digit", minute: "2-digit" } : { month: "numeric", day: "numeric" };
  const locale = language === "zh" ? "zh-CN" : "en";
  return new Intl.DateTimeFormat(locale, /** @type {any} */ ({ hourCycle: "h23", ...options })).format(unixS * 1000);
}
