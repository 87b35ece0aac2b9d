/** The items of one class, page by page, and what can be done with a class. */

import { at, call, withQuery } from "../api.js";
import { announce, toast } from "../announce.js";
import { ask } from "../dialogs.js";
import { add, h, put } from "../dom.js";
import { byName, t } from "../i18n.js";
import { icon } from "../icons.js";
import { itemImage } from "../images.js";
import { openItem } from "../item_dialog.js";
import { query } from "../query.js";
import { go, reload } from "../router.js";
import { guarded } from "../session.js";
import { empty, fillWith } from "../states.js";

const PAGE = 48;

export function classView(root, name, signal) {
  const body = h("div");
  const back = h("a", { class: "back", href: "#/browse" }, icon("back"), t("browse.classes"));
  const within = h("button", { class: "button", type: "button", onclick: () => { query.labels = [name]; go(["search"], { label: name }); } }, t("class.search"));
  const actions = h("div", { class: "row" }, within, guarded("write", t("class.rename"), () => rename(name)), guarded("write", t("class.merge"), () => merge(name)), guarded("admin", t("class.forget"), () => forget(name), { kind: "danger" }));
  add(root, h("div", { class: "head" }, h("div", {}, back, h("h1", {}, name))), h("div", { class: "class-actions" }, actions), body);
  fillWith(body, signal, () => firstPage(name, signal), 12);
}

async function firstPage(name, signal) {
  const grid = h("ul", { class: "item-grid" });
  const more = h("div");
  let cursor = null;
  const next = async () => {
    const page = await call(withQuery("v1/items", { cursor, limit: PAGE, label: name }), { signal });
    cursor = page.cursor;
    add(grid, page.items.map((item) => h("li", {}, h("button", { class: "item-button", type: "button", "aria-label": t("class.open", { id: item.id }), onclick: () => openItem(item, { changed: reload }) }, itemImage(item.id, "", 256)))));
    put(more, cursor === null ? null : h("button", { class: "button", type: "button", onclick: () => next().then(() => announce(t("class.loaded", { n: grid.childElementCount })), (error) => toast(error.message)) }, t("more")));
  };
  await next();
  if (!grid.childElementCount) return empty("browse", t("class.none"), t("class.none.detail"));
  return h("div", { class: "stack" }, grid, more);
}

function rename(name) {
  const input = h("input", { class: "input", name: "name", value: name, maxlength: "200", required: true });
  ask({ title: t("class.rename"), content: [h("p", { class: "note" }, t("class.rename.detail")), h("label", { class: "field" }, h("span", {}, t("class.newname")), input)], action: t("save") }, async () => {
    const answer = await call(at("classes", name), { method: "PATCH", json: { name: input.value.trim() } });
    toast(t("class.renamed", { before: name, name: answer.name, n: answer.items }));
    go(["browse", "class", answer.name]);
  });
}

async function merge(name) {
  const { classes } = await call("v1/classes").catch(() => ({ classes: [] }));
  const others = classes.map((each) => each.name).filter((each) => each !== name).sort(byName);
  const select = h("select", { class: "input", name: "into", required: true }, others.map((each) => h("option", { value: each }, each)));
  ask({ title: t("class.merge"), content: [h("p", { class: "note" }, t("class.merge.detail", { name })), h("label", { class: "field" }, h("span", {}, t("class.into")), select)], action: t("class.merge.action"), danger: true }, async () => {
    const answer = await call(`${at("classes", name)}/merge`, { method: "POST", json: { into: select.value } });
    toast(t("class.renamed", { before: name, name: answer.name, n: answer.items }));
    go(["browse", "class", answer.name]);
  });
}

function forget(name) {
  const input = h("input", { class: "input", name: "confirm", required: true, autocomplete: "off", pattern: escaped(name) });
  ask({ title: t("class.forget.title", { name }), content: [h("p", {}, t("class.forget.detail")), h("label", { class: "field" }, h("span", {}, t("class.forget.type", { name })), input)], action: t("class.forget"), danger: true }, async () => {
    const job = await call(at("classes", name), { method: "DELETE" });
    go(["grow", "job", job.id]);
  });
}

/** A pattern that only the name itself fulfils, under the `v` flag with which browsers compile it. */
function escaped(name) {
  return name.replace(/[\\^$.*+?()[\]{}|/&!#%,:;<=>@`~-]/g, "\\$&");
}
