/** Then and now: one query answered by two generations side by side, with what moved marked. */

import { call } from "../api.js";
import { announce } from "../announce.js";
import { add, h, put } from "../dom.js";
import { hitCard } from "../hits.js";
import { t } from "../i18n.js";
import { decisionText } from "../match.js";
import { openItem } from "../item_dialog.js";
import { query, requestImage, takeItem } from "../query.js";
import { queryPanel } from "../query_panel.js";
import { restate } from "../router.js";
import { empty, failed, fillWith, loading } from "../states.js";

const K = 12;

export function show(root, { query: stated, signal }) {
  const item = stated.get("item");
  if (item && query.images[query.active]?.item !== item) takeItem(item, null);
  const body = h("div");
  add(root, h("div", { class: "head" }, h("div", {}, h("h1", {}, t("compare.title")), h("p", { class: "lead" }, t("compare.lead")))), body);
  fillWith(body, signal, async () => {
    const { generations, serving } = await call("v1/generations", { signal });
    if (generations.length < 2) return empty("compare", t("compare.one"), t("compare.one.detail"), h("a", { class: "button primary", href: "#/grow" }, t("nav.grow")));
    return comparison(generations, serving, stated, signal);
  });
}

function comparison(generations, serving, stated, signal) {
  const results = h("div");
  const chosen = pair(generations, serving);
  const [before, after] = [stated.get("before") ?? chosen[0], stated.get("after") ?? chosen[1]];
  const selects = { before: choice(generations, before), after: choice(generations, after) };
  let asked = new AbortController();
  signal.addEventListener("abort", () => asked.abort());

  async function run() {
    asked.abort();
    asked = new AbortController();
    const mine = asked;
    const names = { before: selects.before.value, after: selects.after.value };
    const image = query.images[query.active];
    restate(["compare"], { item: image?.item, ...names });
    if (!image) return put(results, empty("compare", t("compare.empty"), t("compare.empty.detail")));
    if (names.before === names.after) return put(results, empty("compare", t("compare.same"), t("compare.same.detail")));
    put(results, loading());
    try {
      const answer = await call("v1/compare", { method: "POST", json: { image: await requestImage(image, mine.signal), ...names, k: K }, signal: mine.signal });
      if (!mine.signal.aborted) put(results, sides(answer, names, image));
    } catch (error) {
      if (error.name !== "AbortError" && !mine.signal.aborted) put(results, failed(error, run));
    }
    return undefined;
  }

  for (const select of Object.values(selects)) select.addEventListener("change", run);
  const panel = queryPanel({ signal, changed: run, single: true });
  const fields = ["before", "after"].map((side) => h("label", { class: "field" }, h("span", {}, t(side === "before" ? "compare.before" : "compare.after")), selects[side]));
  run();
  const aside = h("div", { class: "aside stack", role: "region", "aria-label": t("query.title") }, panel.element, h("div", { class: "pair-fields" }, fields));
  return h("div", { class: "search-layout" }, aside, h("section", { "aria-label": t("search.results") }, results));
}

/** The serving generation and its parent; where it has none, the serving generation and the newest one. */
function pair(generations, serving) {
  const now = generations.find((each) => each.name === serving) ?? generations[0];
  if (now.parent) return [now.parent, now.name];
  return [now.name, generations.findLast((each) => each !== now).name];
}

function choice(generations, chosen) {
  const text = (each) => (each.serving ? t("compare.serving", { name: each.name }) : each.name);
  return h("select", { class: "input" }, generations.map((each) => h("option", { value: each.name, selected: each.name === chosen }, text(each))));
}

function sides(answer, names, image) {
  const moves = new Map(answer.moves.map((move) => [move.id, move]));
  const counts = { fresh: 0, gone: 0, moved: 0 };
  for (const move of answer.moves) counts[move.before === null ? "fresh" : move.after === null ? "gone" : "moved"] += 1;
  const summary = answer.moves.length ? t("compare.summary", counts) : t("compare.unmoved");
  announce(summary);
  const column = (side) => h(
    "section", { class: "stack", "aria-label": `${names[side]}, ${t(side === "before" ? "compare.then" : "compare.now")}` },
    h("h2", { class: "row" }, names[side], h("span", { class: "note" }, t(side === "before" ? "compare.then" : "compare.now"))), decision(answer[side]),
    h("ol", { class: "hits narrow" }, answer[side].hits.map((hit, index) => hitCard(hit, index + 1, () => openItem(hit, { queryImage: image }), mark(moves.get(hit.id), side)))),
  );
  return h("div", { class: "stack" }, h("p", { class: "chips" }, h("span", { class: "chip accent" }, summary)), h("div", { class: "two columns" }, column("before"), column("after")));
}

function decision(answer) {
  const { text, colour } = decisionText(answer);
  return h("p", {}, h("span", { class: `chip ${colour}` }, text));
}

/** What became of an item, on the side where it is shown. */
function mark(move, side) {
  if (!move) return h("span", { class: "note" }, t("compare.stays"));
  if (side === "before") return move.after === null ? h("span", { class: "chip bad" }, t("compare.gone")) : h("span", { class: "note" }, t("compare.to", { rank: move.after }));
  if (move.before === null) return h("span", { class: "chip good" }, t("compare.new"));
  const places = move.before - move.after;
  const text = places > 0 ? t("compare.up", { n: places }) : t("compare.down", { n: -places });
  return h("span", { class: `chip ${places > 0 ? "good" : "warn"}` }, h("span", { "aria-hidden": "true" }, places > 0 ? "▲" : "▼"), text);
}
