/** Requests to the service: the key, problems as errors, and whether the service can be reached. */

import { t } from "./i18n.js";

const KEY = "scrubjay.key";
const listeners = new Set();
let reachable = true;

/** A refused request: what the service said (RFC 9457). Status 0: the service cannot be reached. */
export class ApiError extends Error {
  constructor(problem, status, retryAfter = null) {
    super(problem.detail || problem.title || String(status));
    Object.assign(this, { problem, status, retryAfter });
  }
}

export function apiKey() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

/** Keep a key until the tab is closed; null forgets it. */
export function setApiKey(key) {
  if (key === null) sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, key);
}

/** Call a function with true or false whenever the service becomes reachable or stops being so. */
export function onReachable(listener) {
  listeners.add(listener);
}

function setReachable(now) {
  if (now === reachable) return;
  reachable = now;
  for (const listener of listeners) listener(now);
}

/** Build a path of encoded segments: `at("items", id)` is `v1/items/…`. Slashes in a name stay, as routes expect. */
export function at(...segments) {
  return `v1/${segments.map((each) => encodeURIComponent(each).replaceAll("%2F", "/")).join("/")}`;
}

/** The path with a query; null values are left out, lists repeat the name. */
export function withQuery(path, values) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    for (const each of Array.isArray(value) ? value : [value]) if (each !== null && each !== undefined) query.append(name, each);
  }
  return query.size ? `${path}?${query}` : path;
}

/**
 * Send a request and return the answer.
 *
 * @param {string} path - relative to the page.
 * @param {{method?: string, json?: unknown, form?: FormData, signal?: AbortSignal}} options
 * @throws {ApiError} the service refuses, or cannot be reached.
 */
export async function send(path, { method = "GET", json, form, signal } = {}) {
  const headers = new Headers({ Accept: "application/json" });
  const key = apiKey();
  if (key) headers.set("Authorization", `Bearer ${key}`);
  if (json !== undefined) headers.set("Content-Type", "application/json");
  let answer;
  try {
    const body = json === undefined ? form : JSON.stringify(json);
    answer = await fetch(path, { method, headers, body, signal, credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    setReachable(false);
    throw unreachable();
  }
  setReachable(true);
  if (!answer.ok) throw await refused(answer);
  return answer;
}

/** Send a request and return the body of its answer, null where it has none. */
export async function call(path, options = {}) {
  const answer = await send(path, options);
  return answer.status === 204 ? null : answer.json();
}

async function refused(answer) {
  let problem = {};
  try {
    problem = await answer.json();
  } catch { /* a proxy answered with something else: the status has to say it */ }
  const after = Number(answer.headers.get("Retry-After"));
  return new ApiError(problem, answer.status, Number.isFinite(after) && after > 0 ? after : null);
}

function unreachable() {
  return new ApiError({ title: "unreachable" }, 0);
}

/**
 * Send a form and report how much was sent, which fetch cannot do.
 *
 * @param {(share: number) => void} progress
 */
export function upload(path, form, progress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    const key = apiKey();
    if (key) request.setRequestHeader("Authorization", `Bearer ${key}`);
    request.responseType = "json";
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.onerror = () => {
      setReachable(false);
      reject(unreachable());
    };
    request.onload = () => {
      setReachable(true);
      if (request.status < 400) resolve(request.response);
      else reject(new ApiError(request.response ?? {}, request.status));
    };
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    signal?.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

/** What to tell the reader about an error: a title and a sentence, the service's own words where it has some. */
export function explainError(error) {
  if (!(error instanceof ApiError)) return { title: t("error.page"), detail: error.message };
  const titles = {
    0: t("error.unreachable"), 401: t("error.key"), 403: t("error.scope"), 404: t("error.gone"), 409: t("error.conflict"),
    413: t("error.large"), 422: t("error.request"), 429: t("error.busy"), 503: t("error.unavailable"), 504: t("error.slow"),
  };
  const title = titles[error.status] ?? t("error.other");
  if (error.status === 0) return { title, detail: t("error.unreachable.detail") };
  if (error.status === 401 && error.problem.type) return { title, detail: t("key.lead") }; // the service speaks of headers
  const fields = (error.problem.errors ?? []).map((each) => `${each.field}: ${each.message}`);
  return { title, detail: [error.problem.detail ?? error.problem.title ?? "", ...fields].filter(Boolean).join(" ") };
}
