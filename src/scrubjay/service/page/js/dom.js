/** Builds elements. Text is always set as text, so that nothing from the server is ever read as markup. */

const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set(["value", "checked", "multiple", "indeterminate"]);

/** An HTML element; attributes that are null or false are left out, `onclick` and the like are listeners. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (PROPERTIES.has(name)) node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  add(node, children);
  return node;
}

/** Append children; lists are flattened, null and false are skipped. */
export function add(node, ...children) {
  const real = children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
  node.append(...real.map((child) => (child instanceof Node ? child : String(child))));
  return node;
}

/** Replace everything in an element. */
export function put(node, ...children) {
  node.replaceChildren();
  return add(node, children);
}

let ids = 0;

/** An id that no other element of the page has. */
export function uniqueId(prefix) {
  ids += 1;
  return `${prefix}-${ids}`;
}
