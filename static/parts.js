// The parts that several screens are made of.

import { el, fill, svg } from "./dom.js";
import { has, t } from "./i18n.js";

/** A button. */
export const button = (text, onclick, attributes = {}) => el("button", { type: "button", onclick, ...attributes, class: `button ${attributes.class ?? ""}` }, text);

/** A labelled control with an optional hint. */
export function field(label, control, hint) {
  control.classList.add("input");
  return el("label", { class: "field" }, el("span", { class: "label" }, label), control, hint && el("span", { class: "hint" }, hint));
}

/** A select of `[value, text]` pairs. */
export const select = (options, attributes = {}) => el("select", attributes, options.map(([value, text]) => el("option", { value }, text)));

/** The heading of a screen. */
export const heading = (title, words, ...actions) => el("div", { class: "head" }, el("div", {}, el("h1", { tabindex: "-1" }, title), words && el("p", {}, words)), el("div", { class: "row" }, actions));

/** A state in words and colour. */
export const badge = (state, text) => el("span", { class: `badge dot ${state}` }, text ?? (has(`state.${state}`) ? t(`state.${state}`) : state));

/** What went wrong, in words that say what to do. */
export function explain(error) {
  if (error.status === 0) return t("error.offline");
  if (error.status === 429) return t("error.throttled", { n: Math.max(1, Math.ceil(error.retryAfter)) });
  if (error.status === 404 && error.code === "unknown_url") return t("error.absent");
  if (error.code === "unreadable") return t("error.unreadable");
  if (error.status >= 500) return error.message ? t("error.serverSaid", { status: String(error.status), message: error.message }) : t("error.server", { status: String(error.status) });
  return error.message || t("error.other", { status: String(error.status) });
}

/** A notice: `tone` is warn, bad or good. */
export const notice = (tone, title, text, ...actions) => el("div", { class: `notice ${tone}`, role: tone === "bad" ? "alert" : null }, el("div", {}, title && el("strong", {}, title), title && text && " ", text), actions);

/** A failure, shown where it happened, with a way to try again. */
export const problem = (error, retry) => notice("bad", t("error.title"), explain(error), retry && button(t("retry"), retry, { class: "compact" }));

/** Grey lines where content is about to be. */
export const loading = (lines = 6) => el("div", { class: "skeletons", role: "status", "aria-label": t("loading") }, Array.from({ length: lines }, () => el("span", { class: "skeleton" })));

/** Fills `place` with what `load` makes, a failure included. An aborted load changes nothing. */
export async function into(place, load, signal) {
  fill(place, loading());
  place.setAttribute("aria-busy", "true");
  try {
    const made = await load();
    if (!signal?.aborted) fill(place, made);
  } catch (error) {
    if (error.name === "AbortError" || signal?.aborted) return;
    if (error.status === undefined) throw error;
    fill(place, problem(error, () => into(place, load, signal)));
  } finally {
    place.removeAttribute("aria-busy");
  }
}

/** Runs an action of a button: busy while it lasts, its failure shown in `place`. */
export async function act(control, place, action) {
  control.disabled = true;
  control.classList.add("busy");
  try {
    return await action();
  } catch (error) {
    if (error.name === "AbortError") return undefined;
    if (error.status === undefined) throw error;
    fill(place, problem(error));
    return undefined;
  } finally {
    control.disabled = false;
    control.classList.remove("busy");
  }
}

/** Says something in passing. */
export function toast(text) {
  const place = document.querySelector("#toasts");
  const note = el("div", { class: "toast" }, text);
  place.append(note);
  setTimeout(() => note.remove(), 5000);
}

/** Copies text; browsers give the clipboard to secure pages only, so there is an older way behind it. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = el("textarea", { class: "sr", value: text, "aria-hidden": "true" });
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) return toast(t("copy.failed"));
  }
  return toast(t("copy.done"));
}

/** Code with a button that copies it. */
export const code = (text, label) => el("div", { class: "code" }, el("pre", { tabindex: "0", role: "region", "aria-label": label }, text), button(t("copy"), () => copy(text), { class: "compact", "aria-label": t("copy.what", { what: label }) }));

/** A table. `columns` are `{name, number}`; a cell is text or a node. One of a `kind` is a list on a phone. */
export function table(caption, columns, rows, kind) {
  const cell = (content, index) => el(index ? "td" : "th", { class: columns[index].number ? "number" : null, scope: index ? null : "row", "data-label": kind ? columns[index].name : null }, content);
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", { class: kind ? `fold ${kind}` : null }, el("caption", { class: "sr" }, caption),
      el("thead", {}, el("tr", {}, columns.map(({ name, number }) => el("th", { scope: "col", class: number ? "number" : null }, name)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map(cell))))));
}

let menus = 0;
/** A button that opens a few more. It lies above all else, so no table clips it. */
export function menu(label, items) {
  const id = `menu-${(menus += 1)}`;
  const list = el("div", { class: "menu", id, popover: "auto", onclick: () => list.hidePopover() }, items);
  const opener = el("button", { type: "button", class: "button compact plain", popovertarget: id, "aria-label": label, title: label }, "⋯");
  list.addEventListener("toggle", ({ newState }) => {
    if (newState !== "open") return;
    const { right, bottom, top } = opener.getBoundingClientRect();
    const below = bottom + list.offsetHeight + 8 < innerHeight;
    list.style.setProperty("left", `${Math.max(8, right - list.offsetWidth)}px`);
    list.style.setProperty("top", `${below ? bottom + 4 : top - list.offsetHeight - 4}px`);
  });
  return [opener, list];
}

let sheets = 0;
/** Opens a dialog; resolves with what `close` was called with, or undefined when it was dismissed. */
export function sheet(title, build) {
  return new Promise((resolve) => {
    const id = `sheet-${(sheets += 1)}`;
    const before = document.activeElement;
    let result;
    const close = (value) => {
      result = value;
      dialog.close();
    };
    const dialog = el("dialog", { class: "sheet", "aria-labelledby": id }, el("h2", { id }, title), build(close));
    dialog.addEventListener("close", () => {
      dialog.remove();
      before?.focus?.();
      resolve(result);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Asks once before something that cannot be undone. */
export const confirmed = (title, text, doIt) => sheet(title, (close) => el("div", { class: "stack" }, el("p", {}, text), el("div", { class: "row end" }, button(t("cancel"), () => close(false), { autofocus: true }), button(doIt, () => close(true), { class: "danger primary" }))));

const ICONS = {
  overview: "M4 20V10M10 20V4M16 20v-8M22 20H2",
  keys: "M14 10a5 5 0 1 0-4.6 5l2.1-2H14v-2.500h2.500V8.500L21 4v4l-2 2M8.500 10.500h.01",
  add: "M12 5v14M5 12h14",
  check: "M5 12.500l4.500 4.500L19 7.500",
  playground: "M21 12a8 8 0 0 1-8 8H4l2-3.500A8 8 0 1 1 21 12z",
  activity: "M3 12h4l3-8 4 16 3-8h4",
  settings: "M4 7h10M18 7h2M4 17h2M10 17h10M16 5v4M8 15v4",
};
/** A small picture that says nothing to a screen reader. */
export const icon = (name) => svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));
