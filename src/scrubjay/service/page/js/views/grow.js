/** Grow: photographs of new classes, jobs, and unknown queries that look like new classes. */

import { upload, call } from "../api.js";
import { announce } from "../announce.js";
import { add, h, put } from "../dom.js";
import { chosenFiles, droppedFiles } from "../collect.js";
import { dateTime, percent, t } from "../i18n.js";
import { icon } from "../icons.js";
import { COLOURS, KINDS, STATES } from "../job_progress.js";
import { go, link } from "../router.js";
import { guarded } from "../session.js";
import { failed, fillWith } from "../states.js";
import { unknownSection } from "../unknown.js";
import { checkView } from "./check.js";
import { jobView } from "./job.js";

const SHOWN = 8; // jobs

export function show(root, { path, signal }) {
  if (path[0] === "upload" && path[1]) return checkView(root, path[1], signal);
  if (path[0] === "job" && path[1]) return jobView(root, path[1], signal);
  const unknown = h("div");
  const jobs = h("div");
  add(root, h("div", { class: "head" }, h("div", {}, h("h1", {}, t("grow.title")), h("p", { class: "lead" }, t("grow.lead")))),
    h("section", { "aria-label": t("upload.title") }, dropZone(signal)),
    h("section", { class: "stack" }, h("h2", {}, t("unknown.title")), unknown),
    h("section", { class: "stack" }, h("h2", {}, t("jobs.title")), jobs));
  fillWith(unknown, signal, () => unknownSection(signal), 3);
  fillWith(jobs, signal, async () => jobTable((await call("v1/jobs", { signal })).jobs), 2);
  return undefined;
}

function dropZone(signal) {
  const place = h("div", { class: "drop big-drop" });
  const folder = h("input", { type: "file", webkitdirectory: true, multiple: true, class: "unseen", tabindex: "-1", "aria-hidden": "true" });
  const zip = h("input", { type: "file", accept: ".zip,application/zip", class: "unseen", tabindex: "-1", "aria-hidden": "true" });
  folder.addEventListener("change", () => send(chosenFiles(folder.files)));
  zip.addEventListener("change", () => send(chosenFiles(zip.files)));

  function idle() {
    put(place, icon("folder"), h("h2", {}, t("upload.drop")), h("p", { class: "note" }, t("upload.shape")),
      h("div", { class: "row" }, guarded("write", t("upload.folder"), () => folder.click(), { kind: "primary" }), guarded("write", t("upload.zip"), () => zip.click())), folder, zip);
  }

  async function send(files) {
    if (!files.length) return;
    const form = new FormData();
    const archive = files.length === 1 && files[0].name.toLowerCase().endsWith(".zip");
    for (const { name, file } of files) form.append(archive ? "archive" : "images", file, name);
    const bar = h("div", { class: "bar running", role: "progressbar", "aria-label": t("upload.sending"), "aria-valuemin": "0", "aria-valuemax": "100" }, h("i"));
    const text = h("p", {}, t("upload.sending"));
    put(place, icon("folder"), text, bar);
    announce(t("upload.sending"));
    try {
      const answer = await upload("v1/uploads", form, (share) => {
        bar.setAttribute("aria-valuenow", String(Math.round(100 * share)));
        bar.firstChild.style.width = `${100 * share}%`;
        put(text, share < 1 ? t("upload.sent", { share: percent(share) }) : t("upload.checking"));
        if (share === 1) bar.removeAttribute("aria-valuenow");
        if (share === 1) bar.firstChild.style.width = "";
      }, signal);
      go(["grow", "upload", answer.upload]);
    } catch (error) {
      if (error.name !== "AbortError") put(place, failed(error, idle));
    }
  }

  acceptDrops(place, send, signal);
  idle();
  return place;
}

function acceptDrops(place, take, signal) {
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    place.classList.add("over");
  }, { signal });
  document.addEventListener("dragleave", (event) => event.relatedTarget === null && place.classList.remove("over"), { signal });
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    place.classList.remove("over");
    take(await droppedFiles(event.dataTransfer));
  }, { signal });
}

function jobTable(jobs) {
  if (!jobs.length) return h("p", { class: "note" }, t("jobs.none"));
  const rows = jobs.slice(0, SHOWN).map((job) => h("li", {}, h("a", { class: "job-row", href: link(["grow", "job", job.id]) }, h("strong", {}, KINDS[job.kind] ? t(KINDS[job.kind]) : job.kind), h("span", { class: `chip ${COLOURS[job.state] ?? ""}` }, t(STATES[job.state])), h("span", { class: "note" }, dateTime(job.created)), icon("next"))));
  return h("ul", { class: "job-list" }, rows);
}
