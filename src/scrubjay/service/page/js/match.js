/** Probabilities and decisions in words. */

import { number, percent, t } from "./i18n.js";

const WORDS = [
  [0.95, "match.certain"], [0.8, "match.very"], [0.6, "match.likely"], [0.4, "match.even"], [0.15, "match.unlikely"], [0, "match.no"],
];

/** How likely an item is of the query's class, in words. */
export function matchWords(match) {
  return match === null ? t("match.unknown") : t(WORDS.find(([least]) => match >= least)[1]);
}

/** The same as a number; the similarity where no probability is known. */
export function matchNumber(hit) {
  return hit.match === null ? t("hit.similarity", { score: number(hit.score, 2) }) : percent(hit.match);
}

/** Which of three colours goes with a probability. */
export function matchKind(match) {
  if (match === null) return "";
  return match >= 0.8 ? "good" : match >= 0.4 ? "warn" : "bad";
}

const UNSURE = 0.5; // probability of the best hit from which "probably not" would contradict it
const DECISIONS = {
  matched: { key: "answer.matched", colour: "good" }, unsure: { key: "answer.unsure", colour: "warn" },
  unmatched: { key: "answer.unmatched", colour: "warn" }, undecided: { key: "answer.undecided", colour: "" },
};

/**
 * What an answer says about a match: "matched", "unmatched", "undecided", or "unsure" where the decision, which keeps to
 * its rate of false matches, is no although the best hit is likely.
 */
export function decisionOf(answer) {
  if (answer.matched === false) return (answer.hits[0]?.match ?? 0) >= UNSURE ? "unsure" : "unmatched";
  return answer.matched ? "matched" : "undecided";
}

/** The decision as text, and the colour that goes with it. */
export function decisionText(answer) {
  const { key, colour } = DECISIONS[decisionOf(answer)];
  return { text: t(key), colour };
}

const MEANINGS = {
  "left-out classes": "match.meaning.classes",
  "left-out classes of a trained backbone": "match.meaning.backbone",
  "probe images": "match.meaning.metric",
};

/** What the decision about a query claims. */
export function meaningOf(answer, falseMatchRate) {
  const key = MEANINGS[answer.match_basis];
  return key ? t(key, { rate: percent(falseMatchRate) }) : t("match.meaning.none");
}
