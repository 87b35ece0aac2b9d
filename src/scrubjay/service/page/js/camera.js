/** Takes an image with the camera of a computer; phones use their own camera through a file field. */

import { openDialog } from "./dialogs.js";
import { h, put } from "./dom.js";
import { t } from "./i18n.js";

/** @param {(file: File) => void} taken */
export async function openCamera(taken) {
  let stream = null;
  let closed = false;
  const video = h("video", { class: "camera", autoplay: true, playsinline: true, "aria-label": t("camera.view") });
  video.muted = true;
  const problem = h("p", { class: "problem", role: "alert" });
  const shoot = h("button", { class: "button primary", type: "button", "aria-disabled": "true" }, t("camera.take"));
  const stop = () => {
    closed = true;
    stream?.getTracks().forEach((track) => track.stop());
  };
  const dialog = openDialog(t("camera.title"), [video, problem, h("div", { class: "dialog-foot" }, shoot)], { closed: stop });
  shoot.addEventListener("click", async () => {
    if (!video.videoWidth) return;
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    canvas.getContext("2d").drawImage(video, 0, 0);
    const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 });
    dialog.close();
    taken(new File([blob], t("camera.name"), { type: "image/jpeg" }));
  });
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1920 } } });
    if (closed) return stop();
    video.srcObject = stream;
    video.addEventListener("loadedmetadata", () => shoot.removeAttribute("aria-disabled"), { once: true });
  } catch {
    put(problem, t("camera.refused"));
  }
  return undefined;
}
