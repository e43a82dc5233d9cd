// The words of the page, in the language that was chosen; English where a word is missing.
import { LANGUAGES, preferences } from "./preferences.js";

/** @type {Record<string, Record<string, string>>} */
const words = {};

/** Fetch the words; to be awaited before anything is drawn. */
export async function loadWords() {
  await Promise.all(
    LANGUAGES.map(async (language) => {
      const response = await fetch(`/ui/i18n/${language}.json`);
      if (!response.ok) throw new Error(`no words for ${language}: ${response.status}`);
      words[language] = await response.json();
    }),
  );
}

/** The words of the language; draws the component again when another is chosen. */
export function useWords() {
  const { language } = preferences.use();
  return { language, t };
}

/**
 * The words of `key`, with `{name}` filled in from `values`.
 * @param {string} key
 * @param {Record<string, string | number>} [values]
 * @returns {string}
 */
export function t(key, values = {}) {
  const found = words[preferences.get().language]?.[key] ?? words.en?.[key] ?? key;
  return found.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

/**
 * What to say of an error: the page's own words where there are any, else what the agent said.
 * @param {{ code?: string, message?: string } | null | undefined} error
 */
export function errorWords(error) {
  if (!error) return t("error.unknown");
  const known = tOrNull(`error.${error.code}`) ?? tOrNull(`reason.${error.code}`);
  return known ?? (error.message ? t("error.other", { message: error.message }) : t("error.unknown"));
}

/** The words of `key`, or null where there are none. @param {string} key */
export function tOrNull(key) {
  const found = t(key);
  return found === key ? null : found;
}
