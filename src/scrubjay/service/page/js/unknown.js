/** Queries that matched nothing, in groups that look like new classes, each to be named and taught or discarded. */

import { at, call } from "./api.js";
import { toast } from "./announce.js";
import { ask } from "./dialogs.js";
import { h, put } from "./dom.js";
import { t } from "./i18n.js";
import { remoteImage } from "./images.js";
import { guarded, status } from "./session.js";
import { empty } from "./states.js";
import { askToTeach } from "./teach.js";

const SHOWN = 12; // images of a group

export async function unknownSection(signal) {
  const answer = await call("v1/unknown", { signal });
  const place = h("div", { class: "stack" });
  if (!answer.groups.length) return empty("check", t("unknown.none"), t("unknown.none.detail"));
  const again = async () => put(place, await unknownSection(signal));
  const groups = [...answer.groups].sort((one, other) => other.queries.length - one.queries.length);
  return put(place, answer.message ? h("p", { class: "note", lang: "en" }, answer.message) : null, groups.map((group) => groupCard(group, again)));
}

function groupCard({ queries }, again) {
  const image = (each) => remoteImage(`${at("unknown", each.query)}/image`, t("unknown.alt"));
  const nearest = [...new Set(queries.map((each) => each.nearest).filter(Boolean))].slice(0, 3);
  const refusal = status().teaches ? null : t("teach.impossible");
  const teach = () => askToTeach({ queries: queries.map((each) => each.query), shown: queries.slice(0, SHOWN).map(image), taught: again });
  const more = queries.length - SHOWN;
  return h("article", { class: "card stack" }, h("h3", {}, t(queries.length > 1 ? "unknown.group" : "unknown.single", { n: queries.length })),
    nearest.length ? h("p", { class: "note" }, t("unknown.nearest", { names: nearest.join(", ") })) : null,
    h("ul", { class: "thumbs" }, queries.slice(0, SHOWN).map((each) => h("li", {}, image(each))), more > 0 ? h("li", { class: "note" }, t("unknown.more", { n: more })) : null),
    h("div", { class: "row" }, guarded("write", t("unknown.teach"), teach, { kind: "primary", refusal }), guarded("write", t("unknown.discard"), () => discard(queries, again))));
}

function discard(queries, again) {
  ask({ title: t("unknown.discard"), content: [h("p", {}, t("unknown.discard.ask", { n: queries.length }))], action: t("unknown.discard"), danger: true }, async () => {
    for (const { query } of queries) await call(at("unknown", query), { method: "DELETE" });
    toast(t("unknown.discarded"));
    await again();
  });
}
