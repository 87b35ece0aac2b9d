/** The query image with a crop that is drawn by dragging, moved by keys, or typed as numbers. */

import { h, put } from "./dom.js";
import { number, t } from "./i18n.js";

const LEAST = 16; // pixels of the image
const STEP = 0.02; // of the image's side for one press of an arrow key
const HANDLES = { nw: [0, 1], ne: [2, 1], sw: [0, 3], se: [2, 3] }; // which edges a corner moves

/**
 * @param {Blob} blob
 * @param {string} alt
 * @param {number[] | null} crop - left, top, right, bottom in pixels of the upright image.
 * @param {(crop: number[] | null) => void} changed - called when a change is complete.
 * @returns {{stage: HTMLElement, controls: HTMLElement, toggle: () => void}}
 */
export function cropper(blob, alt, crop, changed) {
  let box = crop;
  let mode = crop !== null;
  const image = h("img", { alt, draggable: "false" });
  const area = h("div", { class: "crop-area", role: "group", tabindex: "0", "aria-label": t("crop.area") }, Object.keys(HANDLES).map((name) => h("i", { class: `handle ${name}`, "data-handle": name })));
  const stage = h("div", { class: "stage" }, image, area);
  const controls = h("div", { class: "crop-fields row" });
  const url = URL.createObjectURL(blob);
  image.addEventListener("load", () => {
    URL.revokeObjectURL(url);
    stage.classList.add("loaded");
    paint();
  }, { once: true });
  image.addEventListener("error", () => {
    URL.revokeObjectURL(url);
    put(stage, h("p", { class: "note unshown" }, t("query.unshown", { name: alt })));
  }, { once: true });
  image.src = url;

  const size = () => [image.naturalWidth || 1, image.naturalHeight || 1];

  function paint() {
    const [width, height] = size();
    area.hidden = box === null;
    stage.classList.toggle("cropping", mode);
    if (box) {
      const shares = [box[0] / width, box[1] / height, (box[2] - box[0]) / width, (box[3] - box[1]) / height];
      ["left", "top", "width", "height"].forEach((name, index) => area.style.setProperty(name, `${100 * shares[index]}%`));
      area.setAttribute("aria-description", t("crop.now", { width: box[2] - box[0], height: box[3] - box[1], left: box[0], top: box[1] }));
    }
    if (!controls.contains(document.activeElement)) put(controls, box && mode ? fields() : null);
  }

  /** Round, keep inside the image, and keep a least size. */
  function set([left, top, right, bottom]) {
    const [width, height] = size();
    const least = Math.min(LEAST, width, height);
    [left, right] = left < right ? [left, right] : [right, left];
    [top, bottom] = top < bottom ? [top, bottom] : [bottom, top];
    left = Math.round(Math.max(0, Math.min(left, width - least)));
    top = Math.round(Math.max(0, Math.min(top, height - least)));
    box = [left, top, Math.round(Math.min(width, Math.max(right, left + least))), Math.round(Math.min(height, Math.max(bottom, top + least)))];
    paint();
  }

  function remove() {
    box = null;
    mode = false;
    paint();
    changed(null);
  }

  function move(dx, dy) {
    const [width, height] = size();
    dx = Math.max(-box[0], Math.min(dx, width - box[2]));
    dy = Math.max(-box[1], Math.min(dy, height - box[3]));
    set([box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy]);
  }

  function fields() {
    const [width, height] = size();
    const values = { "crop.left": [0, width], "crop.top": [1, height], "crop.right": [2, width], "crop.bottom": [3, height] };
    return Object.entries(values).map(([key, [edge, most]]) => {
      const input = h("input", { class: "input", type: "number", min: "0", max: String(most), value: String(box[edge]) });
      input.addEventListener("change", () => {
        set(box.map((value, index) => (index === edge ? Number(input.value) || 0 : value)));
        input.value = String(box[edge]);
        changed(box);
      });
      return h("label", { class: "field" }, h("span", {}, t(key)), input);
    });
  }

  listen(stage, area, { size, get: () => box, set, move, remove, end: () => changed(box), mayStart: (event) => mode || event.pointerType === "mouse", start: () => { mode = true; } });

  function toggle() {
    if (mode || box) return remove();
    const [width, height] = size();
    mode = true;
    set([0.15 * width, 0.15 * height, 0.85 * width, 0.85 * height]);
    area.focus();
    changed(box);
    return undefined;
  }
  return { stage, controls, toggle };
}

/** The crop as a sentence of numbers, for the label of the tray. */
export function cropText(crop) {
  return `${number(crop[2] - crop[0])} × ${number(crop[3] - crop[1])}`;
}

function listen(stage, area, crop) {
  let drag = null;
  const point = (event) => {
    const { left, top, width, height } = stage.getBoundingClientRect();
    const [w, h] = crop.size();
    return [((event.clientX - left) / width) * w, ((event.clientY - top) / height) * h];
  };
  stage.addEventListener("pointerdown", (event) => {
    if (!crop.mayStart(event) || event.button !== 0) return;
    event.preventDefault();
    const [x, y] = point(event);
    drag = { handle: event.target.dataset?.handle, inside: event.target === area, from: [x, y], box: crop.get(), moved: false };
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const [x, y] = point(event);
    const [fromX, fromY] = drag.from;
    if (!drag.moved && Math.hypot(x - fromX, y - fromY) < 0.01 * Math.max(...crop.size())) return;
    drag.moved = true;
    crop.start();
    if (drag.handle) {
      const edges = HANDLES[drag.handle];
      crop.set(drag.box.map((value, index) => (edges.includes(index) ? (index % 2 ? y : x) : value)));
    } else if (drag.inside) {
      crop.move(x - fromX, y - fromY);
      drag.from = [x, y];
    } else crop.set([fromX, fromY, x, y]);
  });
  const end = () => {
    const { moved } = drag ?? {};
    drag = null;
    if (moved) crop.end();
  };
  stage.addEventListener("pointerup", end);
  stage.addEventListener("pointercancel", end);
  let timer = null;
  area.addEventListener("keydown", (event) => {
    const directions = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const direction = directions[event.key];
    if (event.key === "Escape" || event.key === "Delete") return crop.remove();
    if (!direction) return undefined;
    event.preventDefault();
    const [width, height] = crop.size();
    const [dx, dy] = [direction[0] * Math.max(1, STEP * width), direction[1] * Math.max(1, STEP * height)];
    const box = crop.get();
    if (event.shiftKey) crop.set([box[0], box[1], Math.max(box[0] + LEAST, box[2] + dx), Math.max(box[1] + LEAST, box[3] + dy)]);
    else crop.move(dx, dy);
    clearTimeout(timer);
    timer = setTimeout(crop.end, 350);
    return undefined;
  });
}
