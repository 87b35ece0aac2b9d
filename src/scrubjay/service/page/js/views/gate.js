/** What would change if a generation answered: the limits of its gate, and the images that would be lost. */

import { at, call } from "../api.js";
import { add, h } from "../dom.js";
import { number, percent, t } from "../i18n.js";
import { icon } from "../icons.js";
import { remoteImage } from "../images.js";
import { guarded, status } from "../session.js";
import { askToPromote } from "../serving.js";
import { fillWith } from "../states.js";

const NAMES = { old_retention: "gate.retention", negative_flips: "gate.flips", new_gain: "gate.gain" };
const EXPLANATIONS = { old_retention: "gate.retention.detail", negative_flips: "gate.flips.detail", new_gain: "gate.gain.detail" };

export function gateView(root, name, signal) {
  const body = h("div");
  const back = h("a", { class: "back", href: "#/memory" }, icon("back"), t("memory.title"));
  add(root, h("div", { class: "head" }, h("div", {}, back, h("h1", {}, t("gate.title", { name })), h("p", { class: "lead" }, t("gate.lead")))), body);
  const fill = () => fillWith(body, signal, async () => {
    const { revision, serving } = await call("v1/generations", { signal });
    if (serving === name) return h("div", { class: "callout good" }, h("h2", { class: "row" }, icon("check"), t("gate.serves", { name })));
    return report(await call(`${at("generations", name)}/gate`, { signal }), revision, fill);
  }, 4);
  fill();
}

function report(gate, revision, again) {
  const promote = guarded("admin", t("promote.action"), () => askToPromote(gate, revision, again), { kind: gate.passed ? "primary" : "danger" });
  const title = gate.passed ? t("gate.passed") : t("gate.failed");
  const verdict = h("div", { class: `callout ${gate.passed ? "good" : "bad"}` }, h("h2", { class: "row" }, icon(gate.passed ? "check" : "alert"), title),
    h("p", {}, t("gate.compared", { generation: gate.generation, serving: gate.serving })), gate.reasons.length ? h("ul", { lang: "en" }, gate.reasons.map((each) => h("li", { class: "note" }, each))) : null, h("div", { class: "row" }, promote));
  return h("div", { class: "stack" }, verdict, h("ul", { class: "checks" }, gate.checks.map((each) => h("li", { class: "card" }, check(each)))), flips(gate));
}

function check(each) {
  const value = each.measured === null ? "–" : signed(each);
  const state = outcome(each);
  const limit = each.kind === "minimum" ? t("gate.least", { limit: percent(each.limit, 1) }) : t("gate.most", { limit: percent(each.limit, 1) });
  return h("div", { class: "stack" }, h("div", { class: "row spread" }, h("h3", {}, NAMES[each.name] ? t(NAMES[each.name]) : each.name), h("span", { class: `chip ${state[0]}` }, t(state[1]))),
    h("p", { class: "big" }, value), h("p", { class: "note" }, `${limit} · ${t("gate.images", { n: each.images })}`), EXPLANATIONS[each.name] ? h("p", { class: "note" }, t(EXPLANATIONS[each.name])) : null);
}

/** A limit that is missed by no more than chance explains does not fail the gate, but is not kept either. */
function outcome({ passed, measured, limit, kind }) {
  if (passed === null || measured === null) return ["", "gate.unknown"];
  if (!passed) return ["bad", "gate.missed"];
  return (kind === "minimum" ? measured >= limit : measured <= limit) ? ["good", "gate.kept"] : ["warn", "gate.chance"];
}

function signed(each) {
  if (each.name !== "new_gain") return percent(each.measured, 1);
  return t("gate.points", { points: `${each.measured > 0 ? "+" : ""}${number(100 * each.measured, 1)}` });
}

function flips(gate) {
  if (!gate.flips.length) return h("section", {}, h("h2", {}, t("flips.title")), h("p", { class: "lead" }, t("flips.none")));
  const entries = gate.flips.map((each) => h("li", { class: "flip" }, remoteImage(`${at("generations", gate.generation, "gate", String(each.index))}/image`, t("flips.alt", { label: each.label })),
    h("div", {}, h("strong", {}, each.label), h("p", { class: "note" }, t("flips.before", { generation: gate.serving, label: each.before ?? "–" })), h("p", { class: "note lost" }, t("flips.after", { generation: gate.generation, label: each.after ?? "–" })))));
  return h("section", { class: "stack" }, h("h2", {}, t("flips.title")), h("p", { class: "note" }, t("flips.lead", { n: gate.flips.length, items: status().items })), h("ul", { class: "flips" }, entries));
}
