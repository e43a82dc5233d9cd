// What a person chose for this browser: language and theme. Kept in localStorage, applied at once.
import { createStore } from "./store.js";

export const LANGUAGES = ["en", "zh"];
export const THEMES = ["system", "light", "dark"];

/** @param {string} name @returns {string | null} */
function kept(name) {
  try {
    return localStorage.getItem(`isthmus.${name}`);
  } catch {
    return null;
  }
}

/** @param {string} name @param {string | null} value */
function keep(name, value) {
  try {
    if (value === null) localStorage.removeItem(`isthmus.${name}`);
    else localStorage.setItem(`isthmus.${name}`, value);
  } catch {
    // A browser that keeps nothing: it holds until the page is closed.
  }
}

function spoken() {
  const wished = navigator.languages?.length ? navigator.languages : [navigator.language];
  const known = wished.map((tag) => tag.toLowerCase().split("-")[0]);
  return known.find((language) => LANGUAGES.includes(language)) ?? "en";
}

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const language = kept("language");
const theme = kept("theme");

export const preferences = createStore({
  language: language && LANGUAGES.includes(language) ? language : spoken(),
  theme: theme && THEMES.includes(theme) ? theme : "system",
  dark: document.documentElement.dataset.theme === "dark",
});

/** @param {string} chosen one of `LANGUAGES` */
export function chooseLanguage(chosen) {
  keep("language", chosen);
  preferences.set({ language: chosen });
}

/** @param {string} chosen one of `THEMES` */
export function chooseTheme(chosen) {
  keep("theme", chosen === "system" ? null : chosen);
  applyTheme(chosen);
}

/** @param {string} chosen */
function applyTheme(chosen) {
  const dark = chosen === "system" ? prefersDark.matches : chosen === "dark";
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  preferences.set({ theme: chosen, dark });
}

prefersDark.addEventListener("change", () => applyTheme(preferences.get().theme));
