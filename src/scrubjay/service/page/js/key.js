/** The dialog in which a key is entered. It is kept until the tab is closed, and sent in a header only. */

import { ApiError, apiKey, setApiKey } from "./api.js";
import { ask } from "./dialogs.js";
import { h } from "./dom.js";
import { t } from "./i18n.js";
import { refreshStatus, status } from "./session.js";
import { toast } from "./announce.js";

const SCOPES = { read: "scope.name.read", write: "scope.name.write", admin: "scope.name.admin" };
let open = null;
let changed = () => {};

/** Call a function after another key was taken. */
export function onKey(listener) {
  changed = listener;
}

/** Ask for a key, unless the question is open already. */
export function askForKey() {
  if (open?.isConnected) return;
  const input = h("input", { class: "input", type: "password", name: "key", autocomplete: "off", required: true, spellcheck: "false" });
  const content = [h("p", { class: "note" }, t("key.lead"))];
  if (status()) content.push(h("p", { class: "note" }, t("key.now", { scopes: status().scopes.map((each) => t(SCOPES[each])).join(", ") })));
  content.push(h("label", { class: "field" }, h("span", {}, t("key.label")), input));
  if (apiKey()) content.push(h("button", { class: "button plain", type: "button", onclick: forget }, t("key.forget")));
  open = ask({ title: t("key.title"), content, action: t("key.use") }, async () => {
    const before = apiKey();
    if (!/^[!-~]+$/.test(input.value.trim())) throw new ApiError({ detail: t("key.wrong") }, 401);
    setApiKey(input.value.trim());
    try {
      await refreshStatus();
    } catch (error) {
      setApiKey(before);
      if (error instanceof ApiError && error.status === 401) throw new ApiError({ detail: t("key.wrong") }, 401);
      throw error;
    }
    toast(t("key.taken", { scopes: status().scopes.map((each) => t(SCOPES[each])).join(", ") }));
    changed();
  });
}

function forget() {
  setApiKey(null);
  open.close();
  changed();
}
