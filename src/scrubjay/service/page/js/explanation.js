/** Why two images are similar: the exact sum over their positions, as colours over both. */

import { call, explainError } from "./api.js";
import { add, h } from "./dom.js";
import { number, percent, t } from "./i18n.js";
import { requestImage } from "./query.js";

const RAISES = [255, 122, 0];
const LOWERS = [0, 98, 214];
const OPACITY = 0.78; // of the strongest positions
const STRONGEST = 0.99; // quantile of a pair's values that gets the full colour
const SMOOTHING = 1 / 30; // standard deviation of the blur that hides the edges of coarse maps, as a share of the side
const SIDE = 448; // pixels of the canvas

/** What each position speaks for: the similarity if all positions were like it; their mean is the score. */
export function localSimilarity(map, score) {
  const values = map.values.map((row, y) => row.map((value, x) => value + (map.contrast[y]?.[x] ?? 0)));
  const flat = values.flat();
  const rest = score - flat.reduce((sum, value) => sum + value, 0);
  return values.map((row) => row.map((value) => value * flat.length + rest));
}

/** The smallest share of positions that gives half of the sum of all positive values; 0 where there is none. */
export function halfOfGain(values) {
  const all = values.flat();
  const positive = all.filter((value) => value > 0).sort((one, other) => other - one);
  const half = positive.reduce((sum, value) => sum + value, 0) / 2;
  let sum = 0;
  let count = 0;
  while (count < positive.length && sum < half) sum += positive[count++];
  return all.length ? count / all.length : 0;
}

/** Blur values (H, W) with a Gaussian, rows first, then columns; beyond the edges they are reflected. */
export function smoothed(values) {
  const deviation = SMOOTHING * Math.max(values.length, values[0].length);
  const reach = Math.ceil(4 * deviation);
  const weights = Array.from({ length: 2 * reach + 1 }, (_, index) => Math.exp(-((index - reach) ** 2) / (2 * deviation ** 2)));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const inside = (index, size) => {
    const at = ((index % (2 * size)) + 2 * size) % (2 * size);
    return at < size ? at : 2 * size - 1 - at;
  };
  const blur = (row) => row.map((_, x) => weights.reduce((sum, weight, index) => sum + weight * row[inside(x + index - reach, row.length)], 0) / total);
  const transposed = (rows) => rows[0].map((_, x) => rows.map((row) => row[x]));
  return transposed(transposed(values.map(blur)).map(blur));
}

/** Ask for an explanation and draw it; an error is drawn in its place. */
export async function explanationView(queryImage, item) {
  try {
    const answer = await call("v1/explain", { method: "POST", json: { image: await requestImage(queryImage), item: item.id } });
    return draw(answer);
  } catch (error) {
    const { title, detail } = explainError(error);
    return h("p", { class: "problem", role: "alert" }, `${title}. ${detail}`);
  }
}

function draw(answer) {
  const sides = [["explain.query", answer.query], ["explain.item", answer.item]].map(([key, map]) => ({ key, map, values: smoothed(localSimilarity(map, answer.score)) }));
  const magnitudes = sides.flatMap(({ values }) => values.flat().map(Math.abs)).sort((one, other) => one - other);
  const strongest = magnitudes[Math.floor(STRONGEST * (magnitudes.length - 1))] || 1;
  const half = sides.map(({ values }) => halfOfGain(values));
  const canvases = sides.map(({ key, map, values }) => side(t(key), map.crop, values, strongest));
  const box = h("input", { type: "checkbox", checked: true, onchange: () => canvases.forEach((each) => each.toggle(box.checked)) });
  const legend = h("span", { class: "colours" }, t("explain.lowers"), h("i", { "aria-hidden": "true" }), t("explain.raises"));
  const said = half[0] && half[1] ? t("explain.half", { query: percent(half[0]), item: percent(half[1]) }) : t("explain.none");
  const text = h("p", {}, t("explain.score", { score: number(answer.score, 2) }), " ", said);
  return add(h("section", { class: "explanation stack", "aria-label": t("explain.title") }),
    h("h3", {}, t("explain.title")), h("div", { class: "row spread" }, legend, h("label", { class: "tick" }, box, t("explain.colours"))),
    h("div", { class: "two" }, canvases.map((each) => each.figure)), text, h("p", { class: "note" }, t("explain.note")));
}

function side(caption, url, values, strongest) {
  const image = h("img", { src: url, alt: caption });
  const canvas = h("canvas", { width: SIDE, height: SIDE, role: "img", "aria-label": t("explain.map") });
  const small = new OffscreenCanvas(values[0].length, values.length);
  const context = small.getContext("2d");
  const pixels = context.createImageData(values[0].length, values.length);
  values.flat().forEach((value, index) => {
    const share = Math.max(-1, Math.min(1, value / strongest));
    pixels.data.set([...(share > 0 ? RAISES : LOWERS), Math.round(255 * OPACITY * Math.abs(share))], 4 * index);
  });
  context.putImageData(pixels, 0, 0);
  const target = canvas.getContext("2d");
  target.imageSmoothingQuality = "high";
  target.drawImage(small, 0, 0, SIDE, SIDE);
  const frame = h("div", { class: "heat coloured" }, image, canvas);
  return { figure: h("figure", {}, frame, h("figcaption", { class: "note" }, caption)), toggle: (on) => { canvas.hidden = !on; frame.classList.toggle("coloured", on); } };
}
