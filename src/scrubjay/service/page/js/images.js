/** Images of the service: fetched with the key, when they come into view, a few at a time. */

import { at, send, withQuery } from "./api.js";
import { h } from "./dom.js";
import { icon } from "./icons.js";

const AT_ONCE = 6;
const MARGIN = "300px";
const waiting = [];
let running = 0;

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    seen.unobserve(entry.target);
    waiting.push(entry.target);
  }
  next();
}, { rootMargin: MARGIN });
const sources = new WeakMap();

/** A square frame that shows an image of the service once it is in view. */
export function remoteImage(path, alt, whole = false) {
  const frame = h("span", { class: whole ? "frame whole" : "frame" });
  const image = h("img", { alt, decoding: "async" });
  frame.append(image);
  sources.set(frame, path);
  seen.observe(frame);
  return frame;
}

/** The image of an item, at most `side` pixels wide and high. */
export function itemImage(id, alt, side = 256, whole = false) {
  return remoteImage(withQuery(`${at("items", id)}/image`, { side }), alt, whole);
}

/** A square frame with an image that the reader gave; a file that the browser cannot show gets a symbol. */
export function localImage(blob, alt, whole = false) {
  const frame = h("span", { class: whole ? "frame whole" : "frame" });
  const image = h("img", { alt });
  frame.append(image);
  show(frame, image, blob);
  return frame;
}

async function next() {
  while (running < AT_ONCE && waiting.length) {
    const frame = waiting.shift();
    if (!frame.isConnected) continue;
    running += 1;
    load(frame).finally(() => {
      running -= 1;
      next();
    });
  }
}

async function load(frame) {
  const image = frame.querySelector("img");
  try {
    const answer = await send(sources.get(frame));
    await show(frame, image, await answer.blob());
  } catch (error) {
    if (error.status === 429 && frame.isConnected) {
      setTimeout(() => seen.observe(frame), 1000 * (error.retryAfter ?? 1));
      return;
    }
    missing(frame, image);
  }
}

/** Show a blob; its URL is revoked as soon as the image has it. */
function show(frame, image, blob) {
  return new Promise((resolve) => {
    const url = URL.createObjectURL(blob);
    const end = () => {
      URL.revokeObjectURL(url);
      resolve();
    };
    image.addEventListener("load", () => {
      frame.classList.add("loaded");
      end();
    }, { once: true });
    image.addEventListener("error", () => {
      missing(frame, image);
      end();
    }, { once: true });
    image.src = url;
  });
}

function missing(frame, image) {
  frame.replaceChildren(icon("image"), h("span", { class: "unseen" }, image.alt));
}
