/** The panel that takes the query: dropped, pasted or chosen files, the camera, a crop, several images. */

import { blobOf, query, removeImage, takeFiles } from "./query.js";
import { openCamera } from "./camera.js";
import { cropText, cropper } from "./crop.js";
import { add, h, put } from "./dom.js";
import { t } from "./i18n.js";
import { icon } from "./icons.js";
import { itemImage, localImage } from "./images.js";
import { toast } from "./announce.js";

/**
 * @param {{signal: AbortSignal, changed: () => void, single?: boolean}} options - `changed` is called after every change
 *     of the query; `single`: the view asks with one image only.
 * @returns {{element: HTMLElement, paint: () => void}}
 */
export function queryPanel({ signal, changed, single = false }) {
  const element = h("div", { class: "query-panel stack" });
  const chooser = h("input", { type: "file", accept: "image/*", multiple: !single, class: "unseen", tabindex: "-1", "aria-hidden": "true" });
  const shooter = h("input", { type: "file", accept: "image/*", capture: "environment", class: "unseen", tabindex: "-1", "aria-hidden": "true" });
  for (const input of [chooser, shooter]) {
    input.addEventListener("change", () => {
      take(input.files);
      input.value = "";
    });
  }
  let painting = 0;

  function take(files) {
    if (!files.length) return;
    if (!takeFiles(files, single || !query.images.length)) return toast(t("query.noimage"));
    paint();
    changed();
    return undefined;
  }

  function camera() {
    if (navigator.mediaDevices?.getUserMedia && !matchMedia("(pointer: coarse)").matches) openCamera((file) => take([file]));
    else shooter.click();
  }

  function paint() {
    painting += 1;
    put(element, query.images.length ? filled(painting) : emptyZone(), chooser, shooter);
  }

  function emptyZone() {
    return h(
      "div", { class: "drop" }, icon("image"), h("p", { class: "lead" }, t("query.drop")), h("p", { class: "note" }, t("query.paste")),
      h("div", { class: "row" }, chooseButton(t("query.choose"), "primary"), cameraButton()),
    );
  }

  function chooseButton(text, kind) {
    return h("button", { class: `button ${kind}`, type: "button", "data-shortcut": "open", onclick: () => chooser.click() }, text);
  }

  function cameraButton() {
    return h("button", { class: "button", type: "button", onclick: camera }, icon("camera"), t("query.camera"));
  }

  function filled(turn) {
    const active = query.images[query.active];
    const place = h("div", { class: "stage-place" });
    const fields = h("div");
    const crop = h("button", { class: "button small", type: "button", "data-shortcut": "crop" }, icon("crop"), t(active.crop ? "crop.remove" : "crop.start"));
    showActive(active, place, fields, crop, turn);
    const clear = h("button", { class: "button small", type: "button", onclick: () => reset() }, t("query.clear"));
    const tray = single || query.images.length < 2 ? null : h("ul", { class: "tray", "aria-label": t("query.images") }, query.images.map(trayEntry));
    const more = single ? chooseButton(t("query.other"), "small") : chooseButton(t("query.more"), "small");
    return add(h("div", { class: "stack" }), place, h("div", { class: "row" }, crop, more, clear), fields, tray);
  }

  async function showActive(active, place, fields, button, turn) {
    try {
      const blob = await blobOf(active, signal);
      if (turn !== painting) return;
      const parts = cropper(blob, active.name, active.crop, (box) => {
        active.crop = box;
        put(button, icon("crop"), t(box ? "crop.remove" : "crop.start"));
        changed();
      });
      button.addEventListener("click", parts.toggle);
      put(place, parts.stage);
      put(fields, parts.controls);
    } catch (error) {
      if (error.name !== "AbortError") put(place, h("p", { class: "note unshown" }, t("query.unshown", { name: active.name })));
    }
  }

  function trayEntry(image, index) {
    const name = image.crop ? `${image.name}, ${cropText(image.crop)}` : image.name;
    const shown = image.item ? itemImage(image.item, "", 128) : localImage(image.file, "");
    const choose = h("button", { class: "tray-image", type: "button", "aria-label": t("query.show", { name }), "aria-pressed": String(index === query.active), onclick: () => select(index) }, shown);
    const remove = h("button", { class: "tray-remove", type: "button", "aria-label": t("query.remove", { name }), onclick: () => drop(index) }, icon("close"));
    return h("li", {}, choose, remove);
  }

  function select(index) {
    query.active = index;
    paint();
    element.querySelectorAll(".tray-image")[index]?.focus();
  }

  function drop(index) {
    removeImage(index);
    paint();
    changed();
    (element.querySelector(".tray-image") ?? element.querySelector("[data-shortcut=open]"))?.focus();
  }

  function reset() {
    query.images = [];
    query.active = 0;
    paint();
    changed();
    element.querySelector("[data-shortcut=open]")?.focus();
  }

  acceptEverywhere(take, element, signal);
  paint();
  return { element, paint };
}

/** Images may be dropped and pasted anywhere on the page while the view is shown. */
function acceptEverywhere(take, element, signal) {
  const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    element.classList.add("over");
  }, { signal });
  document.addEventListener("dragleave", (event) => event.relatedTarget === null && element.classList.remove("over"), { signal });
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    element.classList.remove("over");
    take(event.dataTransfer.files);
  }, { signal });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) take(event.clipboardData.files);
  }, { signal });
}
