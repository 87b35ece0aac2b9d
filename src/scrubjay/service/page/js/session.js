/** What the service is and what the reader's key allows. */

import { call } from "./api.js";
import { h, uniqueId } from "./dom.js";
import { t } from "./i18n.js";
import { toast } from "./announce.js";

let record = null;
const listeners = new Set();

/** The catalogue in figures; null before the service has answered. */
export function status() {
  return record;
}

/** Read it again, because something was changed. */
export async function refreshStatus() {
  record = await call("v1/status");
  for (const listener of listeners) listener(record);
  return record;
}

export function onStatus(listener) {
  listeners.add(listener);
}

/** Whether the key allows something. */
export function may(scope) {
  return record !== null && record.scopes.includes(scope);
}

const NEEDED = { read: "scope.read", write: "scope.write", admin: "scope.admin" };

/**
 * A button that needs a scope. Without it, it can be reached but does nothing, and says why.
 *
 * @param {string} scope
 * @param {string} text
 * @param {() => void} act
 * @param {{kind?: string, refusal?: string | null}} options - `refusal`: another reason why it cannot be used.
 */
export function guarded(scope, text, act, { kind = "", refusal = null } = {}) {
  const reason = may(scope) ? refusal : t(NEEDED[scope]);
  if (reason === null) return h("button", { class: `button ${kind}`, type: "button", onclick: act }, text);
  const id = uniqueId("why");
  const attributes = { class: `button ${kind}`, type: "button", "aria-disabled": "true", "aria-describedby": id, title: reason };
  return h("span", { class: "row" }, h("button", { ...attributes, onclick: () => toast(reason) }, text), h("span", { class: "why", id }, reason));
}
