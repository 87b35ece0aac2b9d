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

const MEANINGS = { "left-out classes": "match.meaning.classes", "probe images": "match.meaning.probes" };

/** What the decision about a query claims. */
export function meaningOf(answer, falseMatchRate) {
  const key = MEANINGS[answer.match_basis];
  return key ? t(key, { rate: percent(falseMatchRate) }) : t("match.meaning.none");
}
