/** Keys that work everywhere outside of fields, and the dialog that lists them. They can be switched off (WCAG 2.1.4). */

import { openDialog } from "./dialogs.js";
import { h } from "./dom.js";
import { t } from "./i18n.js";
import { go } from "./router.js";

const OFF = "scrubjay.shortcuts";
const KEYS = [
  ["1", "nav.search", () => go(["search"])],
  ["2", "nav.compare", () => go(["compare"])],
  ["3", "nav.memory", () => go(["memory"])],
  ["4", "nav.grow", () => go(["grow"])],
  ["5", "nav.browse", () => go(["browse"])],
  ["o", "help.open", () => document.querySelector("[data-shortcut=open]")?.click()],
  ["c", "help.crop", () => document.querySelector("[data-shortcut=crop]")?.click()],
  ["/", "help.filter", () => document.querySelector("[data-shortcut=filter]")?.focus()],
  ["?", "help.title", () => showShortcuts()],
];

function enabled() {
  try {
    return localStorage.getItem(OFF) !== "off";
  } catch {
    return true;
  }
}

export function listenForShortcuts() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !enabled()) return;
    if (event.target.closest("input, select, textarea, dialog, [role=group][tabindex]")) return;
    const entry = KEYS.find(([key]) => key === event.key);
    if (!entry) return;
    event.preventDefault();
    entry[2]();
  });
}

export function showShortcuts() {
  const box = h("input", { type: "checkbox", checked: enabled(), onchange: () => localStorage.setItem(OFF, box.checked ? "on" : "off") });
  const rows = KEYS.map(([key, text]) => h("tr", {}, h("td", {}, h("kbd", {}, key)), h("td", {}, t(text))));
  const crop = [["help.key.arrows", "help.crop.move"], ["help.key.shift", "help.crop.resize"], ["help.key.escape", "help.crop.remove"]];
  const more = crop.map(([key, text]) => h("tr", {}, h("td", {}, h("kbd", {}, t(key))), h("td", {}, t(text))));
  const head = h("thead", {}, h("tr", {}, h("th", { scope: "col" }, t("help.key")), h("th", { scope: "col" }, t("help.does"))));
  openDialog(t("help.title"), [
    h("p", { class: "note" }, t("help.lead")),
    h("table", { class: "table" }, head, h("tbody", {}, rows, more)),
    h("label", { class: "tick" }, box, t("help.enabled")),
    h("p", { class: "note" }, h("a", { href: "docs" }, t("help.api"))),
  ]);
}
