/** An item in a dialog: large image, facts, search from it, why it was found, changing and removing it. */

import { at, call } from "./api.js";
import { ask, openDialog } from "./dialogs.js";
import { explanationView } from "./explanation.js";
import { h, put } from "./dom.js";
import { t } from "./i18n.js";
import { itemImage } from "./images.js";
import { matchNumber, matchWords } from "./match.js";
import { query } from "./query.js";
import { go } from "./router.js";
import { guarded, status } from "./session.js";
import { toast } from "./announce.js";

/**
 * @param {object} item - ItemRecord or HitRecord.
 * @param {{queryImage?: object, changed?: () => void}} options - `queryImage`: what the item was found with; `changed`:
 *     called after the item was changed or removed.
 */
export function openItem(item, { queryImage = null, changed = () => {} } = {}) {
  const label = item.label ?? t("hit.nolabel");
  const place = h("div");
  const explain = h("button", { class: "button", type: "button", onclick: () => showExplanation(place, explain, queryImage, item) }, t("item.explain"));
  const searchFrom = () => {
    query.labels = [];
    go(["search"], { item: item.id });
    dialog.close();
  };
  const again = () => {
    dialog.close();
    changed();
  };
  const actions = [
    h("button", { class: "button primary", type: "button", onclick: searchFrom }, t("item.search")),
    queryImage && status().explains ? explain : null,
    item.label === null ? null : h("a", { class: "button", href: `#/browse/class/${encodeURIComponent(item.label)}` }, t("item.class")),
  ];
  const manage = h("details", {}, h("summary", {}, t("item.manage")), h("div", { class: "row" }, guarded("write", t("item.relabel"), () => relabel(item, again)), guarded("write", t("item.remove"), () => remove(item, again), { kind: "danger" })));
  const dialog = openDialog(label, [
    h("div", { class: "item" }, itemImage(item.id, t("item.alt", { label }), 768, true), h("div", { class: "stack" }, facts(item), h("div", { class: "row" }, actions), manage)),
    place,
  ], { wide: true });
}

function facts(item) {
  const rows = [[t("item.label"), item.label ?? t("hit.nolabel")]];
  if ("score" in item) {
    rows.push([t("item.match"), `${matchWords(item.match)}, ${matchNumber(item)}`]);
    rows.push([t("item.found"), item.generation]);
  }
  for (const [name, value] of Object.entries(item.metadata ?? {})) rows.push([name, value === null ? "–" : String(value)]);
  rows.push([t("item.id"), item.id]);
  return h("dl", { class: "facts" }, rows.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

async function showExplanation(place, button, queryImage, item) {
  button.setAttribute("aria-disabled", "true");
  put(place, h("p", { class: "note", role: "status" }, t("loading")));
  put(place, await explanationView(queryImage, item));
  button.removeAttribute("aria-disabled");
  place.scrollIntoView({ block: "nearest" });
}

function relabel(item, done) {
  const input = h("input", { class: "input", name: "label", value: item.label ?? "", maxlength: "200", required: true });
  ask({ title: t("item.relabel"), content: [h("label", { class: "field" }, h("span", {}, t("item.label")), input)], action: t("save") }, async () => {
    await call(at("items", item.id), { method: "PATCH", json: { label: input.value.trim() } });
    toast(t("item.relabelled", { label: input.value.trim() }));
    done();
  });
}

function remove(item, done) {
  ask({ title: t("item.remove.title"), content: [h("p", {}, t("item.remove.detail"))], action: t("item.remove"), danger: true }, async () => {
    await call(at("items", item.id), { method: "DELETE" });
    toast(t("item.removed"));
    done();
  });
}
