/** Limits a search to some classes: a field with suggestions, and a chip for each chosen class. */

import { call } from "./api.js";
import { h, put, uniqueId } from "./dom.js";
import { t } from "./i18n.js";
import { icon } from "./icons.js";

let names = null;

/**
 * @param {string[]} labels - those that are chosen.
 * @param {(labels: string[]) => void} changed
 */
export function labelFilter(labels, changed, signal) {
  const id = uniqueId("labels");
  const options = h("datalist", { id });
  const input = h("input", { class: "input", list: id, placeholder: labels.length ? t("filter.more") : t("filter.all"), "data-shortcut": "filter", autocomplete: "off" });
  const fill = () => put(options, (names ?? []).filter((name) => !labels.includes(name)).map((name) => h("option", { value: name })));
  input.addEventListener("focus", async () => {
    names = await call("v1/classes", { signal }).then((answer) => answer.classes.map((each) => each.name), () => names);
    fill();
  });
  const take = (name) => {
    if (!name || labels.includes(name)) return;
    changed([...labels, name]);
  };
  input.addEventListener("input", () => names?.includes(input.value) && !names.some((name) => name !== input.value && name.startsWith(input.value)) && take(input.value));
  input.addEventListener("change", () => take(input.value.trim()));
  const chips = labels.map((name) => h("li", { class: "chip accent" }, name, h("button", { type: "button", "aria-label": t("filter.remove", { name }), onclick: () => changed(labels.filter((each) => each !== name)) }, icon("close"))));
  return h("div", { class: "field" }, h("label", { class: "field" }, h("span", {}, t("filter.title")), input), options, labels.length ? h("ul", { class: "chips" }, chips) : null);
}
