// The audit trail.

import { call } from "../api.js";
import { el, fill } from "../dom.js";
import { ago, has, moment, t } from "../i18n.js";
import { button, field, heading, into, table } from "../parts.js";

const STEP = 100;

export async function mount({ root, signal }) {
  let limit = STEP;
  let found = [];
  const place = el("section", { class: "card flush" });
  const more = button(t("activity.more"), () => { limit += STEP; load(); }, { hidden: true });
  const search = el("input", { type: "search", autocomplete: "off", oninput: () => fill(place, draw()) });
  const load = () => into(place, async () => {
    found = (await call("GET", `/api/events?limit=${limit}`, undefined, { signal })).events ?? [];
    more.hidden = found.length < limit;
    return draw();
  }, signal);

  function draw() {
    const wanted = search.value.trim().toLowerCase();
    const rows = found.map((event) => ({ ...event, said: has(`event.${event.action}`) ? t(`event.${event.action}`) : event.action, words: say(event.detail) })).filter((event) => !wanted || `${event.said} ${event.actor} ${event.words}`.toLowerCase().includes(wanted));
    if (!rows.length) return el("div", { class: "empty" }, el("h2", {}, t(found.length ? "activity.noMatch" : "activity.none")), el("p", {}, t("activity.noneWords")));
    return table(t("nav.activity"), [{ name: t("activity.when") }, { name: t("activity.what") }, { name: t("activity.who") }, { name: t("activity.detail") }],
      rows.map(({ at, actor, said, words }) => [el("time", { datetime: new Date(at).toISOString(), title: moment(at), class: "nowrap" }, ago(at)), el("span", { class: "nowrap" }, said), actor ?? "–", el("span", { class: "small quiet" }, words)]), "trail");
  }

  fill(root, heading(t("nav.activity"), t("activity.words"), button(t("refresh"), load)), field(t("activity.search"), search), place, el("div", { class: "row" }, more));
  await load();
}

/** A detail in words: text as it is, an object as its names and values. */
function say(detail) {
  if (detail === null || detail === undefined) return "";
  if (typeof detail !== "object") return String(detail);
  return Object.entries(detail).map(([name, value]) => `${name}: ${typeof value === "object" ? JSON.stringify(value) : value}`).join(" · ");
}
