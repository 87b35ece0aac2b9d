/** Line icons on a grid of 24. */

import { s } from "./dom.js";

const PATHS = {
  search: "M10.500 4a6.500 6.500 0 1 0 0 13 6.500 6.500 0 0 0 0-13zM15.500 15.500L20 20",
  compare: "M4 5h6v14H4zM14 5h6v14h-6z",
  memory: "M6 4v16M6 8h8a4 4 0 0 1 4 4v1M15.500 13l2.500 3 2.500-3M6 4h0",
  grow: "M12 20v-9M12 13c0-4-3-6-7-6 0 4 3 6 7 6zM12 10c0-3 2.500-5.500 7-5.500 0 4-3 5.500-7 5.500z",
  browse: "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z",
  light: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v2.500M12 19.500V22M2 12h2.500M19.500 12H22M5 5l1.700 1.700M17.300 17.300L19 19M5 19l1.700-1.700M17.300 6.700L19 5",
  dark: "M20 14.500A8.500 8.500 0 0 1 9.500 4 8.500 8.500 0 1 0 20 14.500z",
  system: "M4 5h16v11H4zM9 20h6M12 16v4",
  key: "M8 11a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM11 12l8-8M16 7l3 3",
  help: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM9.500 9.500a2.500 2.500 0 1 1 3.500 2.300c-.7.3-1 .8-1 1.700M12 16.500v.5",
  close: "M6 6l12 12M18 6L6 18",
  camera: "M4 8h3l2-3h6l2 3h3v11H4zM12 10a3.500 3.500 0 1 0 0 7 3.500 3.500 0 0 0 0-7z",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 8.500v.1",
  folder: "M3 6h6l2 2h10v11H3z",
  add: "M12 5v14M5 12h14",
  crop: "M7 2v15h15M2 7h15v15",
  back: "M14 6l-6 6 6 6",
  next: "M10 6l6 6-6 6",
  check: "M5 12.500l4.500 4.500L19 7.500",
  alert: "M12 4L2.500 20h19zM12 10v5M12 17.500v.1",
  offline: "M3 3l18 18M5 12a11 11 0 0 1 4-2.400M2 8.500a16 16 0 0 1 4-2.500M10 5a16 16 0 0 1 12 3.500M14 9.700a11 11 0 0 1 5 2.300M8.500 15.500a5 5 0 0 1 7 0M12 19v.1",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
};

/** An icon by its name; it is hidden from screen readers, so its neighbour or its button says what it means. */
export function icon(name) {
  return s("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" }, s("path", { d: PATHS[name] }));
}
