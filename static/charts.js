// Charts as SVG, drawn in the width that there is. Behind each stands a table with the same figures.

import { el, fill, svg } from "./dom.js";
import { brief } from "./i18n.js";

const HEIGHT = 190;
const FOOT = 22;
const TOP = 8;

/**
 * A chart over time. `points` are `{label, said, values}`; `kind` is "bars" (values stacked, each in its shade) or "lines". What
 * is under the pointer is read out above it.
 */
export function timeChart({ points, kind, label, shades = ["a", "b"], format = brief, signal }) {
  const readout = el("p", { class: "readout", "aria-hidden": "true" });
  const drawing = svg("svg", { role: "img", "aria-label": label });
  const box = el("div", { class: "chart" }, readout, drawing);
  const highest = Math.max(1, ...points.map(({ values }) => (kind === "bars" ? values.reduce((sum, value) => sum + value, 0) : Math.max(...values))));
  const top = nice(highest);
  const y = (value) => TOP + (HEIGHT - FOOT - TOP) * (1 - value / top);
  const draw = () => {
    const width = box.clientWidth;
    if (!width || !points.length) return;
    const left = 8 + 6.5 * Math.max(...[0, top / 2, top].map((value) => format(value).length));
    const step = (width - left) / points.length;
    drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const grid = [0, top / 2, top].flatMap((value) => [svg("line", { class: "axis", x1: left, x2: width, y1: y(value), y2: y(value) }), svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, format(value))]);
    const every = Math.ceil(points.length / Math.max(1, Math.floor((width - left) / 72)));
    const labels = points.flatMap((point, index) => (index % every === 0 ? [svg("text", { x: left + step * index + step / 2, y: HEIGHT - 5, "text-anchor": index ? "middle" : "start", dx: index ? 0 : -step / 2 }, point.label)] : []));
    fill(drawing, grid, kind === "bars" ? bars(points, shades, left, step, y) : lines(points, left, step, y), labels);
  };
  const read = (event) => {
    const area = drawing.getBoundingClientRect();
    const left = 8 + 6.5 * Math.max(...[0, top / 2, top].map((value) => format(value).length));
    const index = Math.floor(((event.clientX - area.left - left) / (area.width - left)) * points.length);
    readout.textContent = points[index]?.said ?? "";
  };
  drawing.addEventListener("pointermove", read);
  drawing.addEventListener("pointerleave", () => { readout.textContent = ""; });
  const watcher = new ResizeObserver(draw);
  watcher.observe(box);
  signal?.addEventListener("abort", () => watcher.disconnect());
  return box;
}

function bars(points, shades, left, step, y) {
  const gap = Math.min(3, step * 0.25);
  return points.flatMap(({ values }, index) => {
    let sum = 0;
    return values.map((value, layer) => {
      const from = y(sum);
      sum += value;
      return svg("rect", { class: shades[layer], x: left + step * index + gap / 2, width: Math.max(1, step - gap), y: y(sum), height: Math.max(0, from - y(sum)), rx: Math.min(2, step / 4) });
    });
  });
}

function lines(points, left, step, y) {
  return points[0].values.map((_, layer) => svg("polyline", { class: `line ${layer ? "b" : ""}`, points: points.map(({ values }, index) => `${left + step * (index + 0.5)},${y(values[layer])}`).join(" ") }));
}

/** The next round figure above a value. */
function nice(value) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return unit * [1, 2, 4, 5, 8, 10].find((factor) => factor * unit >= value);
}

/** The small chart beside a key: its requests by hour where they are known, else how many of them went well. */
export function sparkline({ usage, requests, failures }) {
  const picture = svg("svg", { class: "spark", viewBox: "0 0 72 20", "aria-hidden": "true" });
  if (Array.isArray(usage) && usage.length) {
    const highest = Math.max(1, ...usage);
    const step = 72 / usage.length;
    return fill(picture, usage.map((value, index) => svg("rect", { x: index * step, width: Math.max(1, step - 1), y: 20 - (18 * value) / highest - 1, height: (18 * value) / highest + 1 })));
  }
  const good = requests ? 72 * ((requests - failures) / requests) : 0;
  return fill(picture, svg("rect", { x: 0, y: 12, width: good, height: 4 }), svg("rect", { class: "b", x: good, y: 12, width: 72 - good, height: 4 }));
}

/** A bar that shows a part of a whole. */
export const share = (part, whole) => svg("svg", { class: "share", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { x: 0, y: 0, width: whole ? (100 * part) / whole : 0, height: 8 }));
