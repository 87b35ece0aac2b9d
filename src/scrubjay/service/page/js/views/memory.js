/** Memory: the line of generations, what each learned and retained, which one answers, and backfill. */

import { call } from "../api.js";
import { add, h } from "../dom.js";
import { dateTime, duration, number, percent, t } from "../i18n.js";
import { backfillCard } from "../backfill.js";
import { curves } from "../curves.js";
import { lineage } from "../lineage.js";
import { link } from "../router.js";
import { guarded } from "../session.js";
import { askToRollBack } from "../serving.js";
import { empty, fillWith } from "../states.js";
import { gateView } from "./gate.js";

const SHOWN = 12; // names of classes

export function show(root, { path, signal }) {
  if (path.length) return gateView(root, path[0], signal);
  const body = h("div");
  add(root, h("div", { class: "head" }, h("div", {}, h("h1", {}, t("memory.title")), h("p", { class: "lead" }, t("memory.lead")))), body);
  const fill = () => fillWith(body, signal, async () => {
    const [answer, jobs] = await Promise.all([call("v1/generations", { signal }), call("v1/jobs", { signal }).catch(() => ({ jobs: [] }))]);
    if (!answer.generations.length) return empty("memory", t("memory.none"), t("memory.none.detail"), h("a", { class: "button primary", href: "#/grow" }, t("nav.grow")));
    return overview(answer, jobs.jobs, signal, fill);
  }, 4);
  fill();
  return undefined;
}

function overview(answer, jobs, signal, again) {
  const serving = answer.generations.find((each) => each.serving);
  const served = new Set(answer.history.map((each) => each.generation));
  const before = answeredBefore(answer.history);
  const back = guarded("admin", before ? t("rollback.before", { generation: before }) : t("rollback.action"), () => askToRollBack(before, answer, again), { refusal: before ? null : t("rollback.nothing") });
  const top = h("div", { class: "card serving" }, h("div", {}, h("p", { class: "note" }, t("memory.answers")), h("p", { class: "big" }, answer.serving ?? t("memory.nothing"))), serving ? h("p", { class: "note" }, t("memory.knows", { n: serving.classes })) : null, back);
  const cards = [...answer.generations].reverse().map((each) => h("li", {}, card(each, answer, served, again)));
  return h("div", { class: "stack" },
    h("div", { class: "memory-top" }, top, serving ? backfillCard(serving, jobs, signal, again) : null),
    h("section", {}, h("h2", {}, t("memory.line")), lineage(answer.generations)),
    h("section", { class: "stack" }, h("h2", {}, t("memory.curves")), curves(answer.generations)),
    h("section", { class: "stack" }, h("h2", {}, t("memory.each")), h("ol", { class: "stack" }, cards)),
    h("section", {}, history(answer.history)));
}

/** The generation that answered before the one that answers was promoted, as `scrubjay rollback` takes it; null for none. */
export function answeredBefore(history) {
  const promoted = [];
  for (const { generation } of history) {
    if (promoted.includes(generation)) promoted.length = promoted.indexOf(generation) + 1;
    else promoted.push(generation);
  }
  return promoted.at(-2) ?? null;
}

function card(each, answer, served, again) {
  const actions = [];
  if (!each.serving && answer.serving) actions.push(h("a", { class: "button", href: link(["memory", each.name]) }, t("memory.examine")));
  if (!each.serving && served.has(each.name)) actions.push(guarded("admin", t("rollback.to"), () => askToRollBack(each.name, answer, again)));
  if (each.parent) actions.push(h("a", { class: "button", href: link(["compare"], { before: each.parent, after: each.name }) }, t("memory.compare")));
  const facts = [
    [t("memory.parent"), each.parent ?? t("memory.first")], [t("memory.method"), each.method], [t("memory.knownclasses"), number(each.classes)],
    [t("memory.images"), each.images === null ? "–" : number(each.images)], [t("memory.seconds"), each.seconds === null ? "–" : duration(each.seconds)],
    [t("memory.coverage"), percent(each.coverage)],
  ];
  return h("article", { class: "card generation", id: `generation-${each.name}` },
    h("div", { class: "row spread" }, h("h3", { class: "row" }, each.name, each.serving ? h("span", { class: "chip good" }, t("memory.serving")) : null), h("span", { class: "note" }, dateTime(each.created))),
    h("div", { class: "generation-body" }, h("div", { class: "stack" }, classes("memory.learned", each.new_classes), classes("memory.extended", each.extended_classes), measured(each)), h("dl", { class: "facts" }, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))),
    actions.length ? h("div", { class: "row" }, actions) : null);
}

function classes(key, names) {
  if (!names.length) return null;
  const chips = names.slice(0, SHOWN).map((name) => h("li", {}, h("a", { class: "chip", href: link(["browse", "class", name]) }, name)));
  if (names.length > SHOWN) chips.push(h("li", { class: "note" }, t("memory.more", { n: names.length - SHOWN })));
  return h("div", {}, h("p", { class: "legend" }, t(key, { n: names.length })), h("ul", { class: "chips" }, chips));
}

function measured(each) {
  const [now, before] = [each.measured.new, each.measured.new_before].map((figures) => figures?.recall?.["1"] ?? null);
  if (now === null) return h("p", { class: "note" }, t("memory.unmeasured"));
  return h("p", {}, before === null ? t("memory.found", { now: percent(now) }) : t("memory.gained", { now: percent(now), before: percent(before) }));
}

const CHANGES = { promote: "history.promote", rollback: "history.rollback" };

function history(changes) {
  if (!changes.length) return null;
  const rows = [...changes].reverse().map((each) => h("tr", {}, h("td", {}, dateTime(each.time)), h("td", {}, CHANGES[each.kind] ? t(CHANGES[each.kind]) : each.kind), h("td", {}, each.generation ?? "–"), h("td", {}, each.forced ? t("history.forced") : "")));
  const titles = ["history.time", "history.kind", "history.generation", "history.note"];
  return h("details", {}, h("summary", {}, t("history.title", { n: changes.length })), h("div", { class: "scroll" }, h("table", { class: "table" }, h("thead", {}, h("tr", {}, titles.map((key) => h("th", { scope: "col" }, t(key))))), h("tbody", {}, rows))));
}
