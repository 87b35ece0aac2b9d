/** How much of the gallery the serving generation has embedded, and the job that goes on with it, live. */

import { toast } from "./announce.js";
import { call, explainError } from "./api.js";
import { h, put } from "./dom.js";
import { followJob } from "./events.js";
import { percent, t } from "./i18n.js";
import { jobProgress } from "./job_progress.js";
import { guarded } from "./session.js";

const ACTIVE = new Set(["waiting", "running", "interrupted"]);

export function backfillCard(serving, jobs, signal, again) {
  const place = h("div", { class: "stack" });
  const card = h("div", { class: "card stack" }, h("h2", {}, t("backfill.title")), place);
  const active = jobs.find((job) => job.kind === "backfill" && ACTIVE.has(job.state));
  if (active) follow(place, active, signal, again);
  else idle(place, serving, signal, again);
  return card;
}

function idle(place, serving, signal, again) {
  const share = h("div", { class: "bar", role: "progressbar", "aria-label": t("memory.coverage"), "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": String(Math.round(100 * serving.coverage)) }, h("i"));
  share.firstChild.style.width = `${100 * serving.coverage}%`;
  const text = t(serving.coverage < 1 ? "backfill.partly" : "backfill.whole", { share: percent(Math.floor(1000 * serving.coverage) / 1000, serving.coverage < 1 ? 1 : 0), generation: serving.name });
  const start = async () => {
    try {
      follow(place, await call("v1/jobs", { method: "POST", json: { kind: "backfill" } }), signal, again);
    } catch (error) {
      const { title, detail } = explainError(error);
      toast(`${title}. ${detail}`);
    }
  };
  put(place, share, h("p", {}, text), h("p", { class: "note" }, t("backfill.note")), serving.coverage < 1 ? h("div", {}, guarded("admin", t("backfill.start"), start)) : null);
}

async function follow(place, job, signal, again) {
  const progress = jobProgress(job);
  put(place, progress.element);
  const last = await followJob(job.id, progress.paint, signal).catch(() => null);
  if (last) {
    toast(t(last.state === "done" ? "backfill.done" : "backfill.ended"));
    again();
  }
}
