// Builds elements. Text is always text: nothing here takes markup.

/** Makes an element: properties, then children (elements, strings, or nothing). */
export function el(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && typeof value !== "string") element[key] = value;
    else element.setAttribute(key === "className" ? "class" : key, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** A field with its label. */
export function field(label, control) {
  return el("label", {}, label, control);
}
