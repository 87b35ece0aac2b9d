/** How far a job is, and cancelling it. */

import { at, call, explainError } from "./api.js";
import { toast } from "./announce.js";
import { h, put } from "./dom.js";
import { t } from "./i18n.js";
import { guarded } from "./session.js";

export const KINDS = { learn: "job.learn", backfill: "job.backfill", export: "job.export", forget: "job.forget" };
export const STATES = {
  waiting: "job.waiting", running: "job.running", done: "job.done", failed: "job.failed", cancelled: "job.cancelled", interrupted: "job.interrupted",
};
export const COLOURS = { done: "good", failed: "bad", running: "accent", interrupted: "warn" };
const ACTIVE = new Set(["waiting", "running", "interrupted"]);

/** @returns {{element: HTMLElement, paint: (job: object) => void}} */
export function jobProgress(job) {
  const bar = h("div", { class: "bar", role: "progressbar", "aria-label": t("job.progress"), "aria-valuemin": "0" }, h("i"));
  const text = h("p", { class: "row spread" });
  const cancel = h("div");
  const element = h("div", { class: "stack", "data-job": job.id }, bar, text, cancel);
  let state = null;

  function paint(now) {
    const active = ACTIVE.has(now.state);
    const known = now.done !== null && now.total;
    bar.classList.toggle("running", active);
    bar.hidden = !active;
    if (known) {
      bar.setAttribute("aria-valuenow", String(now.done));
      bar.setAttribute("aria-valuemax", String(now.total));
      bar.firstChild.style.width = `${(100 * now.done) / now.total}%`;
    } else {
      bar.removeAttribute("aria-valuenow");
      bar.removeAttribute("aria-valuemax");
      bar.firstChild.style.width = "";
    }
    const count = known ? t("job.count", { done: now.done, total: now.total }) : "";
    put(text, h("span", { class: "row" }, h("span", { class: `chip ${COLOURS[now.state] ?? ""}` }, t(STATES[now.state])), now.step && active ? h("span", { lang: "en" }, now.step) : null), count ? h("span", { class: "note" }, count) : null);
    cancel.hidden = !active;
    if (now.state !== state) put(cancel, active ? guarded("admin", t("job.cancel"), () => stop(job.id), { kind: "small" }) : null);
    state = now.state;
  }
  paint(job);
  return { element, paint };
}

async function stop(id) {
  try {
    await call(`${at("jobs", id)}/cancel`, { method: "POST" });
  } catch (error) {
    const { title, detail } = explainError(error);
    toast(`${title}. ${detail}`);
  }
}
