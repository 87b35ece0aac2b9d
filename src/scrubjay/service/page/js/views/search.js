/** Search by images. */

import { call } from "../api.js";
import { announce } from "../announce.js";
import { add, h, put } from "../dom.js";
import { t } from "../i18n.js";
import { answerView } from "../hits.js";
import { localImage, itemImage } from "../images.js";
import { decisionText } from "../match.js";
import { openItem } from "../item_dialog.js";
import { labelFilter } from "../label_filter.js";
import { query, requestImage, takeItem, teachingFile } from "../query.js";
import { queryPanel } from "../query_panel.js";
import { go, restate } from "../router.js";
import { status } from "../session.js";
import { empty, failed, loading } from "../states.js";
import { askToTeach } from "../teach.js";

const PAUSE = 200; // milliseconds after the last change
const NUMBERS = [12, 24, 48, 96];

export function show(root, { query: stated, signal }) {
  if (stated.has("label")) query.labels = stated.getAll("label");
  const item = stated.get("item");
  if (item && !(query.images.length === 1 && query.images[0].item === item)) takeItem(item, null);
  const results = h("div", { class: "results", "aria-live": "off" });
  const settings = h("div", { class: "stack" });
  const options = h("details", { class: "options", open: matchMedia("(min-width: 861px)").matches || query.labels.length > 0 }, h("summary", {}, t("query.options")), settings);
  let asked = new AbortController();
  let timer = null;
  signal.addEventListener("abort", () => {
    asked.abort();
    clearTimeout(timer);
  });

  function changed(settingsToo = true) {
    const only = query.images.length === 1 ? query.images[0].item : null;
    restate(["search"], { item: only, label: query.labels });
    if (settingsToo) paintSettings();
    clearTimeout(timer);
    timer = setTimeout(run, PAUSE);
  }

  async function run() {
    asked.abort();
    asked = new AbortController();
    const mine = asked;
    if (!query.images.length) return put(results, welcome());
    if (!results.querySelector(".hits")) put(results, loading());
    results.setAttribute("aria-busy", "true");
    try {
      const images = await Promise.all(query.images.map((each) => requestImage(each, mine.signal)));
      const body = { images, k: query.k, labels: query.labels, combine: query.combine && images.length > 1 };
      const { answers } = await call("v1/search", { method: "POST", json: body, signal: mine.signal });
      if (!mine.signal.aborted) paintAnswers(answers);
    } catch (error) {
      if (error.name !== "AbortError" && !mine.signal.aborted) put(results, failed(error, run));
    } finally {
      if (!mine.signal.aborted) results.removeAttribute("aria-busy");
    }
    return undefined;
  }

  function paintAnswers(answers) {
    const several = answers.length > 1;
    put(results, answers.map((answer, index) => {
      const images = several ? [query.images[index]] : query.images;
      const view = answerView(answer, { open: (hit) => openItem(hit, { queryImage: images.length === 1 ? images[0] : query.images[query.active], changed: run }), teach: () => teach(images) });
      if (!several) return view;
      return h("section", { class: "stack" }, h("h2", { class: "row answer-head" }, h("span", { class: "tiny" }, thumbnail(images[0])), t("answer.of", { name: images[0].name })), view);
    }));
    announce(answers.map((answer) => t("answer.said", { n: answer.hits.length, label: answer.hits[0]?.label ?? t("hit.nolabel"), decision: decisionText(answer).text })).join(" "));
  }

  function teach(images) {
    const files = () => Promise.all(images.map((each) => teachingFile(each)));
    askToTeach({ files, shown: images.map(thumbnail), taught: run });
  }

  function paintSettings() {
    const number = h("select", { class: "input", onchange: () => { query.k = Number(number.value); changed(false); } }, NUMBERS.map((each) => h("option", { value: String(each), selected: each === query.k }, each)));
    const together = query.images.length < 2 ? null : h("fieldset", { class: "plain-set" }, h("legend", { class: "legend" }, t("query.several")), h("div", { class: "choice" }, mode("query.together", true), mode("query.each", false)));
    put(settings, together, labelFilter(query.labels, (labels) => { query.labels = labels; changed(); settings.querySelector("[data-shortcut=filter]")?.focus(); }, signal), h("label", { class: "field" }, h("span", {}, t("query.k")), number));
  }

  function mode(key, combine) {
    return h("button", { type: "button", "aria-pressed": String(query.combine === combine), onclick: () => { query.combine = combine; changed(); settings.querySelector(`[aria-pressed=true]`)?.focus(); } }, t(key));
  }

  const panel = queryPanel({ signal, changed });
  const aside = h("div", { class: "aside stack", role: "region", "aria-label": t("query.title") }, panel.element, options);
  add(root, h("div", { class: "head" }, h("div", {}, h("h1", {}, t("search.title")), h("p", { class: "lead" }, t("search.lead")))), h("div", { class: "search-layout" }, aside, h("section", { "aria-label": t("search.results") }, results)));
  paintSettings();
  run();
}

function thumbnail(image) {
  return image.item ? itemImage(image.item, image.name, 128) : localImage(image.file, image.name);
}

function welcome() {
  const now = status();
  if (!now.items) return empty("grow", t("search.noitems"), t("search.noitems.detail"), h("a", { class: "button primary", href: "#/grow" }, t("nav.grow")));
  const figures = h("dl", { class: "figures" }, [["search.items", now.items], ["search.classes", now.classes]].map(([key, value]) => h("div", {}, h("dt", {}, t(key, { n: value })), h("dd", {}, t("count", { value })))));
  return h("div", { class: "stack" }, empty("search", t("search.welcome"), t("search.welcome.detail"), h("button", { class: "button", type: "button", onclick: () => go(["browse"]) }, t("search.browse"))), figures);
}
