// Builds elements. Text reaches the page as text nodes and attributes only, so that nothing a key, a note or a provider
// says can become markup.

const PROPERTIES = new Set(["value", "checked", "disabled", "indeterminate", "selected", "open", "hidden", "max"]);
const SVG = "http://www.w3.org/2000/svg";

/** Makes an element: `on...` functions are listeners, `data` is its dataset, null and false are left out. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(node.dataset, value);
    else if (!PROPERTIES.has(name)) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...flat(children));
  // Last, because a select's value needs its options.
  for (const name of PROPERTIES) if (attributes[name] !== undefined) node[name] = attributes[name];
  return node;
}

/** Makes an SVG element. */
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...flat(children));
  return node;
}

/** Replaces what is inside an element. */
export function fill(node, ...children) {
  node.replaceChildren(...flat(children));
  return node;
}

function flat(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}
