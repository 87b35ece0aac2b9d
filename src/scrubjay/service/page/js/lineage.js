/** The line of generations as a drawing: who was trained further into whom, and which one answers. */

import { h, s } from "./dom.js";
import { t } from "./i18n.js";

const STEP = 108;
const LANE = 58;
const EDGE = 46;
const RADIUS = 17;

/** Lanes: the first child of a generation goes on in its lane, every other one gets a lane of its own. */
export function lanes(generations) {
  const lane = new Map();
  const continued = new Set();
  let used = -1;
  for (const { name, parent } of generations) {
    if (lane.has(parent) && !continued.has(parent)) {
      lane.set(name, lane.get(parent));
      continued.add(parent);
    } else lane.set(name, ++used);
  }
  return lane;
}

export function lineage(generations) {
  const lane = lanes(generations);
  const at = new Map(generations.map(({ name }, index) => [name, [EDGE + STEP * index, EDGE + LANE * lane.get(name)]]));
  const width = 2 * EDGE + STEP * (generations.length - 1);
  const height = 2 * EDGE + LANE * Math.max(...lane.values());
  const edges = generations.filter(({ parent }) => at.has(parent)).map(({ name, parent }) => {
    const [[x, y], [toX, toY]] = [at.get(parent), at.get(name)];
    return s("path", { class: "edge", d: y === toY ? `M${x} ${y}H${toX}` : `M${x} ${y}C${x + STEP / 2} ${y} ${toX - STEP / 2} ${toY} ${toX} ${toY}` });
  });
  const nodes = generations.map((each) => {
    const [x, y] = at.get(each.name);
    const added = each.new_classes.length ? `+${each.new_classes.length}` : "";
    return s("g", { class: each.serving ? "node serving" : "node", transform: `translate(${x} ${y})` }, s("circle", { r: RADIUS }), s("text", { y: 5 }, each.name), s("text", { class: "under", y: RADIUS + 17 }, added));
  });
  const serving = generations.find((each) => each.serving)?.name;
  const label = t("lineage.label", { n: generations.length, serving: serving ?? "–" });
  return h("div", { class: "scroll lineage", tabindex: "0", role: "group", "aria-label": t("memory.line") }, s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, edges, nodes));
}
