/** Browse: all classes, the items of one, and pairs of classes that are found for each other. */

import { call } from "../api.js";
import { add, h, put } from "../dom.js";
import { byName, t } from "../i18n.js";
import { itemImage } from "../images.js";
import { link, restate } from "../router.js";
import { empty, fillWith } from "../states.js";
import { classView } from "./class.js";
import { confusionView } from "./confusions.js";

const AT_ONCE = 60; // classes that are drawn before "show more"
const ORDERS = {
  name: { key: "browse.byname", compare: (one, other) => byName(one.name, other.name) },
  items: { key: "browse.byitems", compare: (one, other) => other.items - one.items || byName(one.name, other.name) },
};

export function show(root, { path, query, signal }) {
  if (path[0] === "class" && path[1] !== undefined) return classView(root, path[1], signal);
  const pairs = path[0] === "confusions";
  const body = h("div");
  const tab = (name, key, current) => h("a", { class: "tab", href: link(name), "aria-current": current ? "page" : null }, t(key));
  const tabs = h("nav", { class: "tabs", "aria-label": t("browse.parts") }, tab(["browse"], "browse.classes", !pairs), tab(["browse", "confusions"], "confusions.title", pairs));
  add(root, h("div", { class: "head" }, h("div", {}, h("h1", {}, t("browse.title")), h("p", { class: "lead" }, t(pairs ? "confusions.lead" : "browse.lead"))), tabs), body);
  if (pairs) return confusionView(body, signal);
  fillWith(body, signal, async () => classes((await call("v1/classes", { signal })).classes, query), 12);
  return undefined;
}

function classes(all, stated) {
  if (!all.length) return empty("browse", t("browse.none"), t("browse.none.detail"), h("a", { class: "button primary", href: "#/grow" }, t("nav.grow")));
  const grid = h("ul", { class: "class-grid" });
  const count = h("p", { class: "note", role: "status" });
  const more = h("div");
  const filter = h("input", { class: "input", type: "search", value: stated.get("filter") ?? "", "data-shortcut": "filter", autocomplete: "off" });
  const order = h("select", { class: "input" }, Object.entries(ORDERS).map(([name, { key }]) => h("option", { value: name, selected: stated.get("sort") === name }, t(key))));
  let shown = AT_ONCE;

  function paint() {
    const wanted = filter.value.trim().toLocaleLowerCase();
    const found = all.filter((each) => each.name.toLocaleLowerCase().includes(wanted)).sort(ORDERS[order.value].compare);
    put(grid, found.slice(0, shown).map(card));
    put(count, t("browse.count", { n: found.length }));
    put(more, found.length > shown ? h("button", { class: "button", type: "button", onclick: () => { shown += AT_ONCE; paint(); } }, t("more")) : null);
    restate(["browse"], { filter: filter.value || null, sort: order.value === "name" ? null : order.value });
  }
  for (const field of [filter, order]) field.addEventListener("input", () => { shown = AT_ONCE; paint(); });
  paint();
  return h("div", { class: "stack" }, h("div", { class: "filters" }, h("label", { class: "field" }, h("span", {}, t("browse.filter")), filter), h("label", { class: "field" }, h("span", {}, t("browse.sort")), order)), count, grid, more);
}

function card(each) {
  const images = each.representative.slice(0, 4).map((id) => itemImage(id, "", 192));
  while (images.length < 4) images.push(h("span", { class: "frame" }));
  const learned = each.learned_in === null ? t("browse.unlearned") : t("browse.learned", { generation: each.learned_in });
  return h("li", {}, h("a", { class: "class-card", href: link(["browse", "class", each.name]) }, h("span", { class: "mosaic" }, images), h("span", { class: "class-text" }, h("strong", {}, each.name), h("span", { class: "note" }, `${t("items", { n: each.items })} · ${learned}`))));
}
