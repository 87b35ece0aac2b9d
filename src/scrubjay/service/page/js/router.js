/** Addresses in the hash: `#/browse/class/Apple?sort=name`. Every view can be linked to, and the back button works. */

/** The address as it is now: segments of the path, and its query. */
export function address() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { path: path.split("/").filter(Boolean).map(decode), query: new URLSearchParams(query) };
}

function decode(segment) {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

/** The hash of a view; null values of the query are left out, lists repeat the name. */
export function link(path, values = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    for (const each of Array.isArray(value) ? value : [value]) if (each !== null && each !== undefined) query.append(name, each);
  }
  return `#/${path.map(encodeURIComponent).join("/")}${query.size ? `?${query}` : ""}`;
}

/** Go to a view; the address before stays in the history. */
export function go(path, values = {}) {
  location.hash = link(path, values);
}

/** State a view's settings in the address without a new entry in the history. */
export function restate(path, values = {}) {
  history.replaceState(null, "", link(path, values));
}

/** Show the view of the address again, because what it shows was changed. */
export function reload() {
  dispatchEvent(new HashChangeEvent("hashchange"));
}
