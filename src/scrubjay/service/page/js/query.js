/** The images that the reader searches with. They stay while the page is open, so that the back button finds them. */

import { send, withQuery, at } from "./api.js";

/**
 * @typedef {{file: Blob | null, name: string, item: string | null, label: string | null, crop: number[] | null}} QueryImage
 * One image: a file, or an item of the gallery; the crop is in pixels of the upright image.
 */

export const query = {
  /** @type {QueryImage[]} */
  images: [],
  /** Which image is shown large. */
  active: 0,
  /** Whether several images are views of one object. */
  combine: true,
  /** Labels to which the result is limited. */
  labels: [],
  /** Number of hits. */
  k: 24,
};
const MOST = 16;

export function fileImage(file) {
  return { file, name: file.name || "image", item: null, label: null, crop: null };
}

/** Take files as the query: added to it, or in its place. Other files than images are left out. */
export function takeFiles(files, inPlace) {
  const images = [...files].filter((file) => file.type.startsWith("image/") || file.type === "").map(fileImage);
  if (!images.length) return false;
  query.images = (inPlace ? [] : query.images).concat(images).slice(0, MOST);
  query.active = query.images.length - 1;
  return true;
}

/** Take an item as the query. */
export function takeItem(id, label) {
  query.images = [{ file: null, name: label ?? id, item: id, label, crop: null }];
  query.active = 0;
}

export function removeImage(index) {
  query.images.splice(index, 1);
  query.active = Math.max(0, Math.min(query.active, query.images.length - 1));
}

/** The pixels of an image as the reader sees them; of an item, those of its re-encoded image. */
export async function blobOf(image, signal) {
  if (image.file) return image.file;
  return (await send(withQuery(`${at("items", image.item)}/image`, { side: 2048 }), { signal })).blob();
}

/** An image as requests hold it. A cropped item is sent as the re-encoded image that its crop refers to. */
export async function requestImage(image, signal) {
  if (image.item && !image.crop) return { item: image.item };
  const body = { base64: await base64(await blobOf(image, signal)) };
  return image.crop ? { ...body, crop: image.crop } : body;
}

/** The file to teach a class from: cropped as the reader sees it. */
export async function teachingFile(image, signal) {
  const blob = await blobOf(image, signal);
  if (!image.crop) return new File([blob], image.name, { type: blob.type });
  const [left, top, right, bottom] = image.crop;
  const bitmap = await createImageBitmap(blob, left, top, right - left, bottom - top);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
  return new File([await canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 })], "crop.jpg", { type: "image/jpeg" });
}

function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
