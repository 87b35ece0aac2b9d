/** Says things: to screen readers in a live region, and to everybody in a toast that can be closed. */

import { h } from "./dom.js";
import { t } from "./i18n.js";
import { icon } from "./icons.js";

const SHOWN = 8000; // milliseconds; a toast that the pointer or the focus is on stays

/** Tell screen readers only; for what others see anyway. */
export function announce(text) {
  const region = document.getElementById("live");
  region.textContent = "";
  requestAnimationFrame(() => {
    region.textContent = text;
  });
}

/** Tell everybody. */
export function toast(text) {
  const node = h("div", { class: "toast" }, h("span", {}, text));
  const close = h("button", { class: "button square", type: "button", "aria-label": t("close"), onclick: () => node.remove() }, icon("close"));
  node.append(close);
  document.getElementById("toasts").append(node);
  announce(text);
  const leave = () => (node.matches(":hover, :focus-within") ? setTimeout(leave, SHOWN) : node.remove());
  setTimeout(leave, SHOWN);
}
