/** Hits as a grid of images with class, probability and generation, and what the answer says about a match. */

import { h } from "./dom.js";
import { t } from "./i18n.js";
import { icon } from "./icons.js";
import { itemImage } from "./images.js";
import { decisionOf, decisionText, matchKind, matchNumber, matchWords, meaningOf } from "./match.js";
import { guarded, status } from "./session.js";

/**
 * @param {object} answer - AnswerRecord.
 * @param {{open: (hit: object, rank: number) => void, teach: () => void}} actions
 */
export function answerView(answer, { open, teach }) {
  const hits = h("ol", { class: "hits" }, answer.hits.map((hit, index) => hitCard(hit, index + 1, () => open(hit, index + 1))));
  const missing = answer.unembedded ? h("p", { class: "note" }, t("answer.unembedded", { n: answer.unembedded })) : null;
  return h("div", { class: "stack" }, verdict(answer, teach), answer.hits.length ? hits : h("p", { class: "lead" }, t("answer.nohits")), missing);
}

function verdict(answer, teach) {
  const meaning = h("details", {}, h("summary", {}, t("answer.meaning")), h("p", { class: "note" }, meaningOf(answer, status().false_match_rate)));
  const { text, colour } = decisionText(answer);
  if (answer.matched === false) {
    const unsure = decisionOf(answer) === "unsure";
    const refusal = status().teaches ? null : t("teach.impossible");
    return h(
      "div", { class: `callout ${unsure ? "info" : ""}` }, h("h2", { class: "row" }, icon(unsure ? "help" : "alert"), text),
      h("p", { class: "note" }, unsure ? t("answer.unsure.detail") : t("answer.unmatched.detail")),
      h("div", { class: "row" }, guarded("write", t("teach.offer"), teach, { kind: unsure ? "" : "primary", refusal })), meaning,
    );
  }
  const facts = h("span", { class: "row" }, h("span", { class: `chip ${colour}` }, answer.matched ? icon("check") : null, text), h("span", { class: "chip" }, t("answer.by", { generation: answer.generation })));
  return h("div", { class: "verdict row spread" }, facts, meaning);
}

/** One hit; the whole card is a button. */
export function hitCard(hit, rank, open, mark = null) {
  const label = hit.label ?? t("hit.nolabel");
  return h(
    "li", {},
    h("button", { class: "hit", type: "button", onclick: open, "data-item": hit.id },
      itemImage(hit.id, "", 320),
      h("span", { class: "rank", "aria-hidden": "true" }, rank),
      h("span", { class: "unseen" }, t("hit.rank", { rank })),
      h("span", { class: "hit-text" }, h("strong", {}, label),
        h("span", { class: `probability ${matchKind(hit.match)}` }, h("i", { class: "dot", "aria-hidden": "true" }), `${matchWords(hit.match)} · ${matchNumber(hit)}`),
        mark ?? h("span", { class: "note" }, t("hit.generation", { generation: hit.generation })))),
  );
}
