/** The pre-flight check of an upload: what is in it, what looks wrong, what to leave out, and the start of learning. */

import { at, call } from "../api.js";
import { ask } from "../dialogs.js";
import { add, h, put } from "../dom.js";
import { byName, number, t } from "../i18n.js";
import { icon } from "../icons.js";
import { itemImage, remoteImage } from "../images.js";
import { go } from "../router.js";
import { guarded } from "../session.js";
import { fillWith } from "../states.js";

const KINDS = {
  unreadable: ["check.unreadable", "check.unreadable.detail"], duplicate: ["check.duplicate", "check.duplicate.detail"],
  near_duplicate: ["check.near", "check.near.detail"], known: ["check.known", "check.known.detail"],
  tiny_class: ["check.tiny", "check.tiny.detail"], suspected_label: ["check.label", "check.label.detail"],
};
const NEIGHBOURS = 4; // images shown beside each other for one finding
const SHOWN = 24; // findings of a kind at first

export function checkView(root, id, signal) {
  const body = h("div");
  const back = h("a", { class: "back", href: "#/grow" }, icon("back"), t("grow.title"));
  add(root, h("div", { class: "head" }, h("div", {}, back, h("h1", {}, t("check.title")), h("p", { class: "lead" }, t("check.lead")))), body);
  fillWith(body, signal, async () => report(await call(at("uploads", id), { signal })), 6);
}

function report(check) {
  const out = new Set();
  const count = h("p", { class: "note", role: "status" });
  const paint = () => put(count, out.size ? t("check.leftout", { n: out.size }) : t("check.allused"));
  paint();
  const adding = h("input", { type: "checkbox", checked: true });
  const start = guarded("admin", t("check.start"), () => begin(check, out, adding.checked), { kind: "primary", refusal: Object.keys(check.classes).length ? null : t("check.nothing") });
  const discard = guarded("write", t("check.discard"), () => remove(check.upload), { kind: "danger" });
  const kinds = Object.keys(KINDS).filter((kind) => check.findings.some((each) => each.kind === kind));
  const summary = h("div", { class: "card stack" }, figures(check), h("label", { class: "tick" }, adding, t("check.add")), count, h("div", { class: "row" }, start, discard));
  const findings = kinds.length ? kinds.map((kind) => section(check, kind, out, paint)) : h("div", { class: "callout good" }, h("h2", { class: "row" }, icon("check"), t("check.clean")));
  return h("div", { class: "stack" }, summary, findings, h("section", { class: "stack" }, h("h2", {}, t("check.classes")), classes(check)));
}

function figures(check) {
  const values = [["check.images", check.images], ["check.new", check.new_classes.length], ["check.more", check.known_classes.length], ["check.findings", check.findings.length]];
  return h("dl", { class: "figures" }, values.map(([key, value]) => h("div", {}, h("dt", {}, t(key, { n: value })), h("dd", {}, number(value)))));
}

function classes(check) {
  const known = new Set(check.known_classes);
  const names = Object.keys(check.classes).sort(byName);
  return h("ul", { class: "class-counts" }, names.map((name) => h("li", { class: "row spread" }, h("span", {}, name), h("span", { class: "row" }, h("span", { class: "note" }, t("images", { n: check.classes[name] })), h("span", { class: `chip ${known.has(name) ? "" : "accent"}` }, t(known.has(name) ? "check.isknown" : "check.isnew"))))));
}

function section(check, kind, out, changed) {
  const findings = check.findings.filter((each) => each.kind === kind);
  const [title, detail] = KINDS[kind];
  const grid = h("ul", { class: "findings" });
  const fill = (most) => put(grid, findings.slice(0, most).map((each) => h("li", { class: "finding" }, finding(check, each, kind, out, changed))));
  fill(SHOWN);
  const more = findings.length > SHOWN ? h("button", { class: "button small", type: "button", onclick: () => { fill(findings.length); more.remove(); } }, t("check.showall", { n: findings.length })) : null;
  const every = kind === "unreadable" || kind === "tiny_class" ? null : h("button", { class: "button small", type: "button", onclick: () => { findings.flatMap(copies).forEach((name) => out.add(name)); fill(findings.length); changed(); } }, t(kind === "duplicate" || kind === "near_duplicate" ? "check.leaveout.copies" : "check.leaveout.all"));
  return h("section", { class: "stack" }, h("div", { class: "row spread" }, h("h2", {}, t(title, { n: findings.length })), every), h("p", { class: "note" }, t(detail)), grid, more);
}

/** Which images of a finding can be spared: of images that resemble each other the first one stays; a suspected label is
 * that of the first image, and the others are its neighbours. */
function copies({ kind, images, items }) {
  if (kind === "suspected_label") return images.slice(0, 1);
  return images.slice((kind === "duplicate" || kind === "near_duplicate") && !items.length ? 1 : 0);
}

function finding(check, each, kind, out, changed) {
  const most = kind === "suspected_label" ? NEIGHBOURS : each.images.length;
  const images = each.images.slice(0, most).map((name, index) => {
    const box = h("input", { type: "checkbox", checked: out.has(name), onchange: () => { out[box.checked ? "add" : "delete"](name); changed(); } });
    const shown = kind === "unreadable" ? null : remoteImage(`${at("uploads", check.upload)}/images/${name.split("/").map(encodeURIComponent).join("/")}`, name);
    const choice = kind === "unreadable" || (kind === "suspected_label" && index) ? null : h("label", { class: "tick" }, box, h("span", {}, t("check.leaveout"), h("span", { class: "unseen" }, ` ${name}`)));
    return h("div", { class: "finding-image" }, shown, h("span", { class: "note file-name" }, name), choice);
  });
  const items = each.items.slice(0, Math.max(1, NEIGHBOURS - images.length)).map((id) => h("div", { class: "finding-image" }, itemImage(id, t("check.item"), 256), h("span", { class: "note" }, t("check.item"))));
  return h("div", { class: "stack" }, h("div", { class: "finding-images" }, images, items), h("p", { class: "note", lang: "en" }, each.message));
}

async function begin(check, out, adding) {
  const content = [h("p", {}, t("check.start.ask", { n: check.images - out.size }))];
  ask({ title: t("check.start"), content, action: t("check.start") }, async () => {
    const job = await call("v1/jobs", { method: "POST", json: { kind: "learn", upload: check.upload, add: adding, leave_out: [...out] } });
    go(["grow", "job", job.id]);
  });
}

function remove(id) {
  ask({ title: t("check.discard"), content: [h("p", {}, t("check.discard.ask"))], action: t("check.discard"), danger: true }, async () => {
    await call(at("uploads", id), { method: "DELETE" });
    go(["grow"]);
  });
}
