// Settings: model aliases, what is in force and where it comes from, sessions, export and import.

import { call, send } from "../api.js";
import { el, fill } from "../dom.js";
import { ago, has, moment, t } from "../i18n.js";
import { act, badge, button, confirmed, heading, into, notice, table, toast } from "../parts.js";

const FORMATS = ["json", "csv", "txt"];

export async function mount({ root, signal }) {
  const aliases = el("section", { class: "card" });
  const sessions = el("section", { class: "card" });
  const effective = el("section", { class: "card" });
  fill(root, heading(t("nav.settings"), t("settings.words")), el("div", { class: "grid" }, aliases, carry(signal)), sessions, effective);
  const settings = call("GET", "/api/settings", undefined, { signal });
  await Promise.all([
    into(aliases, async () => drawAliases((await settings).aliases ?? {}, signal), signal),
    into(effective, async () => drawEffective((await settings).effective ?? []), signal),
    into(sessions, async () => drawSessions((await call("GET", "/api/sessions", undefined, { signal })).sessions ?? [], sessions, signal), signal),
  ]);
}

function drawAliases(known, signal) {
  const status = el("div", { "aria-live": "polite" });
  const rows = el("div", { class: "stack" });
  const empty = el("p", { class: "quiet small" }, t("alias.none"));
  const row = (from = "", to = "") => {
    const line = el("div", { class: "row line", role: "group", "aria-label": t("alias.one") },
      el("input", { class: "input", "aria-label": t("alias.from"), placeholder: "gpt-4o", value: from, autocomplete: "off", spellcheck: "false" }),
      el("span", { "aria-hidden": "true", class: "quiet" }, "→"),
      el("input", { class: "input", "aria-label": t("alias.to"), placeholder: "gemini-2.5-pro", value: to, autocomplete: "off", spellcheck: "false" }),
      button(t("alias.remove"), () => { line.remove(); empty.hidden = rows.children.length > 0; }, { class: "compact plain" }));
    return line;
  };
  fill(rows, Object.entries(known).map(([from, to]) => row(from, to)));
  empty.hidden = rows.children.length > 0;
  const save = button(t("save"), () => act(save, status, async () => {
    const wanted = {};
    for (const line of rows.children) {
      const [from, to] = [...line.querySelectorAll("input")].map((input) => input.value.trim());
      if (!from && !to) continue;
      if (!from || !to) return fill(status, notice("bad", null, t("alias.half")));
      if (from in wanted) return fill(status, notice("bad", null, t("alias.twice", { name: from })));
      wanted[from] = to;
    }
    await call("PUT", "/api/settings", { aliases: wanted }, { signal });
    fill(status);
    toast(t("saved"));
    return undefined;
  }), { class: "primary" });
  return [el("h2", {}, t("alias.title")), el("p", { class: "quiet small" }, t("alias.words")), rows, empty, status,
    el("div", { class: "row" }, save, button(t("alias.add"), () => { rows.append(row()); empty.hidden = true; rows.lastElementChild.querySelector("input").focus(); }))];
}

function drawEffective(list) {
  return [el("h2", {}, t("settings.effective")), el("p", { class: "quiet small" }, t("settings.effectiveWords")),
    list.length ? table(t("settings.effective"), [{ name: t("settings.name") }, { name: t("settings.value") }, { name: t("settings.source") }],
      list.map(({ name, value, source, secret }) => [el("code", {}, name), secret ? el("span", { class: "quiet" }, t(value ? "settings.secretSet" : "settings.secretUnset")) : el("code", {}, value === "" || value === null || value === undefined ? "–" : String(value)), has(`source.${source}`) ? t(`source.${source}`) : source]), "config") : el("p", { class: "quiet" }, t("settings.none"))];
}

function drawSessions(list, place, signal) {
  const status = el("div", { "aria-live": "polite" });
  const again = async () => fill(place, drawSessions((await call("GET", "/api/sessions", undefined, { signal })).sessions ?? [], place, signal));
  const revoke = (ids) => (event) => act(event.currentTarget, status, async () => {
    await call("DELETE", "/api/sessions", { ids }, { signal });
    toast(t("session.revoked", { n: ids.length }));
    await again();
  });
  const others = list.filter(({ current }) => !current).map(({ id }) => id);
  return [el("div", { class: "row between" }, el("h2", {}, t("session.title")), others.length > 1 && button(t("session.revokeOthers", { n: others.length }), revoke(others), { class: "compact danger" })), status,
    table(t("session.title"), [{ name: t("session.since") }, { name: t("session.seen") }, { name: t("keys.actions") }],
      list.map(({ id, created_at, last_seen_at, current }) => [moment(created_at), ago(last_seen_at), current ? badge("active", t("session.this")) : button(t("session.revoke"), revoke([id]), { class: "compact" })]), "config visits")];
}

/** Export and import. */
function carry(signal) {
  const status = el("div", { "aria-live": "polite" });
  const download = (format) => async (event) => {
    const control = event.currentTarget;
    if (!(await confirmed(t("export.title"), t("export.words"), t("export.do")))) return;
    await act(control, status, async () => {
      const response = await send("GET", `/api/keys/export?format=${format}`, undefined, { signal, headers: { accept: "*/*" } });
      const address = URL.createObjectURL(await response.blob());
      const link = el("a", { href: address, download: `keystorm-keys.${format}` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(address), 10000);
    });
  };
  const file = el("input", { type: "file", class: "sr", tabindex: "-1", "aria-label": t("import.file"), accept: ".txt,.json,.csv", onchange: () => act(pick, status, async () => {
    const [chosen] = file.files;
    if (!chosen) return;
    const text = await chosen.text();
    file.value = "";
    const isJson = /^\s*[[{]/.test(text);
    const response = await send("POST", "/api/keys/import", text, { signal, headers: { "content-type": isJson ? "application/json" : chosen.name.endsWith(".csv") ? "text/csv" : "text/plain" } });
    const answer = await response.json();
    const invalid = answer.invalid ?? [];
    fill(status, notice(invalid.length ? "warn" : "good", t("import.done"), t("add.totals", { added: answer.added ?? 0, duplicates: answer.duplicates ?? 0, invalid: invalid.length })),
      invalid.length > 0 && table(t("add.perLine"), [{ name: t("keys.key") }, { name: t("add.why") }], invalid.slice(0, 50).map(({ key, reason }) => [el("code", {}, key), reason])));
  }) });
  const pick = button(t("import.file"), () => file.click());
  return el("section", { class: "card" }, el("h2", {}, t("carry.title")), el("p", { class: "quiet small" }, t("carry.words")),
    el("div", { class: "row" }, FORMATS.map((format) => button(t("export.as", { format: format.toUpperCase() }), download(format)))),
    el("p", { class: "quiet small" }, t("import.words")), el("div", { class: "row" }, pick, file), status);
}
