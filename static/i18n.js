// The words of the page: one dictionary for each language, loaded when it is chosen.

export const LANGUAGES = { en: "English", zh: "中文" };
const loaders = { en: () => import("./i18n/en.js"), zh: () => import("./i18n/zh.js") };
let words = {};
let language = "en";

/** The language that was chosen before, or else the browser's. */
export function preferred() {
  const kept = recall("language");
  if (kept in LANGUAGES) return kept;
  return navigator.languages?.some((tag) => tag.toLowerCase().startsWith("zh")) && !navigator.language.toLowerCase().startsWith("en") ? "zh" : "en";
}

/** Makes a language the page's. */
export async function speak(wanted) {
  words = (await loaders[wanted]()).default;
  language = wanted;
  document.documentElement.lang = wanted === "zh" ? "zh-Hans" : "en";
}

/** The language in use. */
export const spoken = () => language;

/** A text. `values.n` chooses between its singular and plural where it has both. */
export function t(name, values = {}) {
  let text = words[name] ?? name;
  if (typeof text === "object") text = text[new Intl.PluralRules(language).select(values.n)] ?? text.other;
  return text.replace(/\{(\w+)\}/g, (whole, key) => (key in values ? (typeof values[key] === "number" ? number(values[key]) : values[key]) : whole));
}

/** Whether the dictionary has a text: codes that come from the server may be unknown. */
export const has = (name) => name in words;

/** 12,345 */
export const number = (value) => new Intl.NumberFormat(language).format(value ?? 0);
/** 12.3K */
export const brief = (value) => new Intl.NumberFormat(language, { notation: "compact", maximumFractionDigits: 1 }).format(value ?? 0);
/** 98.7% */
export const percent = (part, whole) => (whole ? new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 1 }).format(part / whole) : "–");
/** A moment, in the reader's own time. */
export const moment = (at) => (at ? new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" }).format(at) : "–");
/** The hour, or the day where the range is long. */
export const tick = (at, daily) => new Intl.DateTimeFormat(language, daily ? { month: "short", day: "numeric" } : { hour: "2-digit", minute: "2-digit", hour12: false }).format(at);

/** How long ago a moment was, in words. */
export function ago(at, now = Date.now()) {
  if (!at) return t("never");
  const seconds = Math.round((at - now) / 1000);
  const [unit, size] = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]].find(([, size]) => Math.abs(seconds) >= size) ?? ["second", 1];
  return new Intl.RelativeTimeFormat(language, { numeric: "auto" }).format(Math.round(seconds / size), unit);
}

/** What is left until a moment: 1:05:09. */
export function countdown(at, now = Date.now()) {
  const left = Math.max(0, Math.ceil((at - now) / 1000));
  const pad = (value) => String(value).padStart(2, "0");
  const hours = Math.floor(left / 3600);
  return `${hours ? `${hours}:` : ""}${hours ? pad(Math.floor(left / 60) % 60) : Math.floor(left / 60)}:${pad(left % 60)}`;
}

/** Milliseconds as a person says them. */
export const duration = (ms) => (ms >= 1000 ? `${number(Math.round(ms / 10) / 100)} s` : `${number(Math.round(ms))} ms`);

/** Reads a kept preference; storage may be forbidden. */
export function recall(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

/** Keeps a preference. */
export function keep(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // The choice then lasts as long as the page.
  }
}
