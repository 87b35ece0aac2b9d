/** One job: its progress while it runs, and what it made. */

import { at, call } from "../api.js";
import { announce } from "../announce.js";
import { add, h, put } from "../dom.js";
import { followJob } from "../events.js";
import { dateTime, number, t } from "../i18n.js";
import { icon } from "../icons.js";
import { jobProgress, KINDS, STATES } from "../job_progress.js";
import { link } from "../router.js";
import { refreshStatus } from "../session.js";
import { failed, fillWith } from "../states.js";

export function jobView(root, id, signal) {
  const body = h("div");
  const title = h("h1", {}, t("job.title"));
  const back = h("a", { class: "back", href: "#/grow" }, icon("back"), t("grow.title"));
  add(root, h("div", { class: "head" }, h("div", {}, back, title)), body);
  fillWith(body, signal, async () => {
    const job = await call(at("jobs", id), { signal });
    if (KINDS[job.kind]) put(title, t(KINDS[job.kind]));
    return watch(job, signal);
  }, 2);
}

function watch(job, signal) {
  const progress = jobProgress(job);
  const result = h("div");
  const times = h("p", { class: "note" }, t("job.created", { time: dateTime(job.created) }));
  const finish = (last) => {
    put(result, outcome(last));
    announce(t(STATES[last.state]));
  };
  if (["done", "failed", "cancelled"].includes(job.state)) finish(job);
  else {
    followJob(job.id, progress.paint, signal).then((last) => {
      if (!last) return;
      finish(last);
      refreshStatus().catch(() => {});
    }, (error) => put(result, failed(error, () => location.reload())));
  }
  return h("div", { class: "stack" }, h("div", { class: "card stack" }, progress.element, times), result);
}

function outcome(job) {
  if (job.state === "failed") return h("div", { class: "callout bad" }, h("h2", { class: "row" }, icon("alert"), t("job.end.failed")), h("p", { lang: "en" }, job.problem ?? ""));
  if (job.state === "cancelled") return h("div", { class: "callout" }, h("h2", {}, t("job.end.cancelled")), h("p", {}, t("job.end.detail")));
  return h("div", { class: "callout good" }, h("h2", { class: "row" }, icon("check"), t("job.end.done")), made(job));
}

function made({ kind, result }) {
  if (kind === "learn" && result?.generation) {
    return [
      h("p", {}, t("result.learn", { generation: result.generation, n: Array.isArray(result.classes) ? result.classes.length : (result.classes ?? 0), images: result.images ?? 0 })),
      result.added === undefined || result.added === null ? null : h("p", {}, t("result.added", { n: result.added })),
      result.refused?.length ? h("details", {}, h("summary", {}, t("result.refused", { n: result.refused.length })), h("ul", { lang: "en" }, result.refused.map(([name, reason]) => h("li", { class: "note" }, `${name}: ${reason}`)))) : null,
      h("div", { class: "row" }, h("a", { class: "button primary", href: link(["memory", result.generation]) }, t("result.examine"))),
    ];
  }
  if (kind === "backfill") return h("p", {}, t("result.backfill", { n: result?.done ?? 0, remaining: result?.remaining ?? 0 }));
  if (kind === "export") return h("p", {}, t("result.export", { path: result?.path ?? "–" }));
  if (kind === "forget") return forgotten(result ?? {});
  return null;
}

/** What a forget job removed from where, and what it could not remove. */
function forgotten({ removed = {}, generations = {}, report = [] }) {
  const rows = Object.entries(removed).map(([place, each]) => h("tr", {}, h("td", { lang: "en" }, place), h("td", {}, number(each))));
  const made = Object.entries(generations).map(([old, fresh]) => h("li", {}, t("result.replaced", { old, fresh })));
  return [
    h("p", {}, t("result.forget")), rows.length ? h("div", { class: "scroll" }, h("table", { class: "table" }, h("tbody", {}, rows))) : null,
    h("ul", {}, made, report.map((line) => h("li", { lang: "en" }, line))),
    h("div", { class: "row" }, h("a", { class: "button", href: "#/browse" }, t("nav.browse"))),
  ];
}
