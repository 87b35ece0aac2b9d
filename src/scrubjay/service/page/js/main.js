/** Starts the page: texts, frame, key, and the view of the address. */

import { ApiError, onReachable } from "./api.js";
import { announce } from "./announce.js";
import { closeDialogs } from "./dialogs.js";
import { h, put } from "./dom.js";
import { buildFrame, markView } from "./frame.js";
import { chosenLanguage, setLanguage, t } from "./i18n.js";
import { askForKey, onKey } from "./key.js";
import { address } from "./router.js";
import { onStatus, refreshStatus } from "./session.js";
import { listenForShortcuts } from "./shortcuts.js";
import { failed, loading } from "./states.js";

const VIEWS = {
  search: { title: "nav.search", load: () => import("./views/search.js") },
  compare: { title: "nav.compare", load: () => import("./views/compare.js") },
  memory: { title: "nav.memory", load: () => import("./views/memory.js") },
  grow: { title: "nav.grow", load: () => import("./views/grow.js") },
  browse: { title: "nav.browse", load: () => import("./views/browse.js") },
};
const RETRY = [2000, 4000, 8000, 15000]; // milliseconds between attempts to reach the service again

const main = document.getElementById("main");
let left = new AbortController();

/** Show the view of the address; what the one before was waiting for is given up. `moved`: the reader came by a link. */
async function show(moved = false) {
  left.abort();
  left = new AbortController();
  const { signal } = left;
  closeDialogs();
  const { path, query } = address();
  const name = path[0] in VIEWS ? path[0] : "search";
  markView(name);
  document.title = `${t(VIEWS[name].title)} – scrubjay`;
  put(main, h("h1", { class: "unseen", tabindex: "-1" }, t(VIEWS[name].title)), loading());
  try {
    await refreshStatus();
    if (signal.aborted) return;
    const view = await VIEWS[name].load();
    if (signal.aborted) return;
    const root = h("div", { class: `view ${name}` });
    put(main, root);
    view.show(root, { path: path.slice(1), query, signal });
    if (moved) arrived();
  } catch (error) {
    if (signal.aborted) return;
    put(main, h("h1", { class: "unseen", tabindex: "-1" }, t(VIEWS[name].title)), failed(error, () => show()));
    if (error instanceof ApiError && error.status === 401) askForKey();
  }
}

/** Move the focus to the heading of the new view and say its name. */
function arrived() {
  const heading = main.querySelector("h1");
  heading?.setAttribute("tabindex", "-1");
  heading?.focus({ preventScroll: true });
  scrollTo(0, 0);
  if (heading) announce(heading.textContent);
}

/** Say that the service is gone, and try to reach it again, less and less often. */
function watchService() {
  const notice = document.getElementById("notice");
  let attempt = 0;
  let timer = null;
  const probe = async () => {
    try {
      await refreshStatus();
    } catch (error) {
      if (error.status !== 0) return;
      timer = setTimeout(probe, RETRY[Math.min(attempt++, RETRY.length - 1)]);
    }
  };
  onReachable((reachable) => {
    clearTimeout(timer);
    notice.hidden = reachable;
    put(notice, reachable ? "" : t("error.offline"));
    if (reachable) {
      if (main.querySelector(".state.bad")) show();
    } else {
      attempt = 0;
      timer = setTimeout(probe, RETRY[0]);
    }
  });
  addEventListener("offline", () => refreshStatus().catch(() => {}));
  addEventListener("online", probe);
}

async function changeLanguage(name) {
  await setLanguage(name);
  buildFrame(changeLanguage);
  show();
}

await setLanguage(chosenLanguage());
buildFrame(changeLanguage);
onKey(() => show());
onStatus((status) => put(document.getElementById("catalogue"), status.name));
listenForShortcuts();
watchService();
addEventListener("hashchange", () => show(true));
show();
