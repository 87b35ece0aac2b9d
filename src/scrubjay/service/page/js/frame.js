/** The frame around all views: navigation, theme, language, key, help. */

import { h, put } from "./dom.js";
import { locale, t } from "./i18n.js";
import { icon } from "./icons.js";
import { askForKey } from "./key.js";
import { link } from "./router.js";
import { onStatus, status } from "./session.js";
import { showShortcuts } from "./shortcuts.js";

const ENTRIES = [
  ["search", "nav.search"], ["compare", "nav.compare"], ["memory", "nav.memory"], ["grow", "nav.grow"], ["browse", "nav.browse"],
];
const THEMES = { system: "theme.system", light: "theme.light", dark: "theme.dark" };

/** Build or rebuild everything that has text in it. */
export function buildFrame(changeLanguage) {
  put(document.getElementById("skip"), t("nav.skip"));
  document.getElementById("skip").onclick = (event) => {
    event.preventDefault(); // the hash is the address of the view
    document.getElementById("main").focus();
  };
  const nav = document.getElementById("nav");
  nav.setAttribute("aria-label", t("nav.views"));
  put(nav, ENTRIES.map(([name, key]) => h("a", { href: link([name]), "data-view": name }, icon(name), h("span", {}, t(key)))));
  const other = locale() === "en" ? "zh" : "en";
  const language = h("button", { class: "button square language", type: "button", lang: other === "zh" ? "zh-CN" : "en", onclick: () => changeLanguage(other) }, other === "zh" ? "中文" : "EN");
  const key = h("button", { class: "button square", type: "button", "aria-label": t("key.title"), title: t("key.title"), onclick: askForKey }, icon("key"));
  const help = h("button", { class: "button square", type: "button", "aria-label": t("help.title"), title: t("help.title"), onclick: showShortcuts }, icon("help"));
  key.hidden = !(status()?.keys_required ?? false);
  onStatus((now) => {
    key.hidden = !now.keys_required;
  });
  put(document.getElementById("tools"), language, themeButton(), key, help);
}

/** Mark the entry of the view that is shown. */
export function markView(name) {
  for (const entry of document.querySelectorAll("#nav a")) {
    if (entry.dataset.view === name) entry.setAttribute("aria-current", "page");
    else entry.removeAttribute("aria-current");
  }
}

function themeButton() {
  const button = h("button", { class: "button square", type: "button" });
  const paint = () => {
    const now = document.documentElement.dataset.theme ?? "system";
    put(button, icon(now));
    const text = t("theme.now", { theme: t(THEMES[now]) });
    button.setAttribute("aria-label", text);
    button.title = text;
  };
  button.addEventListener("click", () => {
    const names = Object.keys(THEMES);
    setTheme(names[(names.indexOf(document.documentElement.dataset.theme ?? "system") + 1) % names.length]);
    paint();
  });
  paint();
  return button;
}

function setTheme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  try {
    localStorage.setItem("scrubjay.theme", name);
  } catch { /* storage is blocked: the choice lasts until the page is closed */ }
}
