/** What a view shows while it has nothing else to show: loading, empty, failed. */

import { explainError } from "./api.js";
import { announce } from "./announce.js";
import { add, h, put } from "./dom.js";
import { t } from "./i18n.js";
import { icon } from "./icons.js";
import { askForKey } from "./key.js";

/** Grey shapes where images will be. */
export function loading(count = 8) {
  const shapes = Array.from({ length: count }, () => h("div", { class: "skeleton" }));
  return h("div", { "aria-busy": "true" }, h("p", { class: "unseen", role: "status" }, t("loading")), h("div", { class: "skeletons", "aria-hidden": "true" }, shapes));
}

/** Nothing is there, and what to do about it. */
export function empty(symbol, title, detail, ...actions) {
  return add(h("div", { class: "state" }, icon(symbol), h("h2", {}, title), h("p", {}, detail)), actions.length ? h("div", { class: "row" }, actions) : null);
}

/** Something went wrong, with a way to try again. */
export function failed(error, retry) {
  const { title, detail } = explainError(error);
  announce(`${title}. ${detail}`);
  const symbol = error.status === 0 ? "offline" : error.status === 401 || error.status === 403 ? "key" : "alert";
  const actions = [h("button", { class: "button", type: "button", onclick: retry }, t("retry"))];
  if (symbol === "key") actions.unshift(h("button", { class: "button primary", type: "button", onclick: () => askForKey() }, t("key.enter")));
  const id = error.problem?.request_id;
  return h("div", { class: "state bad" }, icon(symbol), h("h2", {}, title), h("p", {}, detail), h("div", { class: "row" }, actions), id ? h("p", { class: "note" }, t("error.id", { id })) : null);
}

/**
 * Fill a part of a view with what a request gives: loading first, then the content or the error.
 *
 * @param {HTMLElement} place
 * @param {AbortSignal} signal - aborted when the reader leaves the view.
 * @param {() => Promise<Node | Node[]>} make
 */
export async function fillWith(place, signal, make, skeletons = 8) {
  put(place, loading(skeletons));
  try {
    const content = await make();
    if (!signal.aborted) put(place, content);
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) return;
    put(place, failed(error, () => fillWith(place, signal, make, skeletons)));
  }
}
