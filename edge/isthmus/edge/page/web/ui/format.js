// Figures as people read them, in the language that was chosen.
import { preferences } from "./preferences.js";
import { t } from "./i18n.js";

const locale = () => (preferences.get().language === "zh" ? "zh-CN" : "en");

/** @param {number} value @param {Intl.NumberFormatOptions} [options] */
export const number = (value, options = {}) =>
  new Intl.NumberFormat(locale(), options).format(value);

/** A share of one, as percent. @param {number} value */
export const percent = (value) =>
  number(value, { style: "percent", maximumFractionDigits: value > 0 && value < 0.1 ? 1 : 0 });

/** A time in milliseconds, in the unit that fits. @param {number | null | undefined} ms */
export function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms >= 10_000) return t("unit.s", { n: number(ms / 1000, { maximumFractionDigits: 0 }) });
  if (ms >= 1000) return t("unit.s", { n: number(ms / 1000, { maximumFractionDigits: 1 }) });
  return t("unit.ms", { n: number(ms, { maximumFractionDigits: ms < 10 ? 1 : 0 }) });
}

/** Dollars: cents where there are some, else two figures that say something. */
export function usd(/** @type {number | null | undefined} */ value) {
  if (value === null || value === undefined) return "–";
  const small = value !== 0 && Math.abs(value) < 0.1;
  const digits = small
    ? { maximumSignificantDigits: 2 }
    : { minimumFractionDigits: value === 0 ? 0 : 2, maximumFractionDigits: 2 };
  return `$${number(value, digits)}`.replace("$-", "−$");
}

/** @param {number} value */
export function bytes(value) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${number(value, { maximumFractionDigits: value < 10 && unit ? 1 : 0 })} ${units[unit]}`;
}

/** A time of day, or a day for what is older. @param {number} unixS @param {number} [nowS] */
export function when(unixS, nowS = Date.now() / 1000) {
  const date = new Date(unixS * 1000);
  const sameDay = new Date(nowS * 1000).toDateString() === date.toDateString();
  if (sameDay) {
    return new Intl.DateTimeFormat(locale(), { hour: "2-digit", minute: "2-digit" }).format(date);
  }
  const sameYear = new Date(nowS * 1000).getFullYear() === date.getFullYear();
  const options = sameYear
    ? { month: "short", day: "numeric" }
    : { year: "numeric", month: "short", day: "numeric" };
  return new Intl.DateTimeFormat(locale(), /** @type {any} */ (options)).format(date);
}

/** The moment of a bucket, as exact as its window asks for. */
export function moment(/** @type {number} */ unixS, /** @type {number} */ windowS) {
  const options =
    windowS <= 86_400
      ? { hour: "2-digit", minute: "2-digit" }
      : { month: "short", day: "numeric", ...(windowS <= 7 * 86_400 && { hour: "2-digit" }) };
  return new Intl.DateTimeFormat(locale(), /** @type {any} */ (options)).format(
    new Date(unixS * 1000),
  );
}
