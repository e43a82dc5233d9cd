// Before the first paint, and so not a module: the theme that was chosen, else the system's.
(() => {
  let theme = null;
  try {
    theme = localStorage.getItem("isthmus.theme");
  } catch {
    // Storage may be forbidden; the system's theme it is.
  }
  const dark = theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
})();
