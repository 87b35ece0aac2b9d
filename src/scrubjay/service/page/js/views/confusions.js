/** Pairs of classes that are found for each other, with the images that cause it. */

import { at, call, explainError, withQuery } from "../api.js";
import { toast } from "../announce.js";
import { h } from "../dom.js";
import { percent, t } from "../i18n.js";
import { itemImage } from "../images.js";
import { openItem } from "../item_dialog.js";
import { link, reload } from "../router.js";
import { empty, fillWith } from "../states.js";

const LIMIT = 20;

export function confusionView(body, signal) {
  fillWith(body, signal, async () => {
    const answer = await call(withQuery("v1/classes/confusions", { limit: LIMIT }), { signal });
    if (!answer.confusions.length) return empty("check", t("confusions.none"), t("confusions.none.detail", { n: answer.items }));
    return h("div", { class: "stack" }, h("p", { class: "note" }, t("confusions.compared", { n: answer.items })), h("ol", { class: "stack" }, answer.confusions.map((each) => h("li", {}, card(each)))));
  }, 6);
}

async function show(id) {
  try {
    openItem(await call(at("items", id)), { changed: reload });
  } catch (error) {
    toast(explainError(error).title);
  }
}

function card({ classes, share, pairs }) {
  const [one, other] = classes;
  const name = (each) => h("a", { href: link(["browse", "class", each]) }, each);
  const open = (id) => h("button", { class: "item-button", type: "button", "aria-label": t("class.open", { id }), onclick: () => show(id) }, itemImage(id, "", 256));
  return h("article", { class: "card stack" }, h("div", { class: "row spread" }, h("h2", { class: "row" }, name(one), h("span", { class: "note" }, t("confusions.and")), name(other)), h("span", { class: "chip warn" }, t("confusions.share", { share: percent(share) }))),
    h("p", { class: "note" }, t("confusions.pairs")), h("ul", { class: "pairs" }, pairs.map(([item, nearest]) => h("li", { class: "pair" }, open(item), h("span", { "aria-hidden": "true" }, "→"), open(nearest)))));
}
