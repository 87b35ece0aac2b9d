/** Curves over the generations, from their reports, as a drawing and as a table. */

import { h, s } from "./dom.js";
import { percent, t } from "./i18n.js";

const WIDTH = 720;
const HEIGHT = 280;
const LEFT = 56;
const RIGHT = 20;
const TOP = 16;
const BOTTOM = 34;

const SERIES = [
  { key: "curves.new", mark: "disc", value: (each) => each.measured.new?.recall?.["1"] ?? null },
  { key: "curves.before", mark: "ring", value: (each) => each.measured.new_before?.recall?.["1"] ?? null },
  { key: "curves.retained", mark: "square", value: (each) => each.retained ?? null },
];

export function curves(generations) {
  const series = SERIES.map((one) => ({ ...one, values: generations.map(one.value) })).filter(({ values }) => values.some((value) => value !== null));
  if (!series.length) return h("p", { class: "note" }, t("curves.none"));
  const legend = h("ul", { class: "curve-legend" }, series.map(({ key, mark }) => h("li", { class: "row" }, s("svg", { class: `curve ${mark}`, viewBox: "0 0 28 16", "aria-hidden": "true" }, s("path", { d: "M0 8H28" }), point(mark, 14, 8)), t(key))));
  return h("div", { class: "card stack" }, legend, h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": t("memory.curves") }, drawing(generations, series)), h("details", {}, h("summary", {}, t("curves.table")), table(generations, series)));
}

function drawing(generations, series) {
  const x = (index) => LEFT + (generations.length < 2 ? 0.5 : index / (generations.length - 1)) * (WIDTH - LEFT - RIGHT - 40) + 20;
  const most = Math.max(1, ...series.flatMap(({ values }) => values));
  const y = (value) => HEIGHT - BOTTOM - (value / most) * (HEIGHT - TOP - BOTTOM);
  const grid = [0, 0.25, 0.5, 0.75, 1].map((value) => s("g", { class: "tick-line" }, s("path", { d: `M${LEFT} ${y(value)}H${WIDTH - RIGHT}` }), s("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, percent(value))));
  const names = generations.map((each, index) => s("text", { class: "name", x: x(index), y: HEIGHT - 10, "text-anchor": "middle" }, each.name));
  const lines = series.map(({ key, mark, values }) => {
    const points = values.map((value, index) => (value === null ? null : [x(index), y(value)]));
    let path = "";
    points.forEach((at, index) => { if (at) path += `${index && points[index - 1] ? "L" : "M"}${at[0]} ${at[1]}`; });
    const marks = points.map((at, index) => at && s("g", {}, s("title", {}, `${generations[index].name}, ${t(key)}: ${percent(values[index], 1)}`), point(mark, ...at)));
    return s("g", { class: `curve ${mark}` }, s("path", { d: path }), marks);
  });
  return s("svg", { class: "curves", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": t("curves.label") }, grid, names, lines);
}

function point(mark, x, y) {
  if (mark === "square") return s("rect", { x: x - 5, y: y - 5, width: 10, height: 10 });
  return s("circle", { cx: x, cy: y, r: mark === "ring" ? 4.5 : 5 });
}

function table(generations, series) {
  const rows = generations.map((each, index) => h("tr", {}, h("th", { scope: "row" }, each.name), series.map(({ values }) => h("td", {}, values[index] === null ? "–" : percent(values[index], 1)))));
  return h("div", { class: "scroll" }, h("table", { class: "table" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, t("curves.generation")), series.map(({ key }) => h("th", { scope: "col" }, t(key))))), h("tbody", {}, rows)));
}
