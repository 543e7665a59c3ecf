// Adding keys: paste or drop, see what it is, send, see what became of each.

import { call } from "../api.js";
import { el, fill } from "../dom.js";
import { number, t } from "../i18n.js";
import { mask, parse } from "../keyparse.js";
import { button, field, heading, notice, problem, select, table } from "../parts.js";

const CHUNK = 500;
const LISTED = 200;
const LONG_PASTE = 20000;
const MAX_FILE_BYTES = 16 * 1024 * 1024;
// What was typed outlives a look at another screen; it is in memory alone.
const draft = { text: "", apiType: "", customEndpoint: "", group: "", priority: "", weight: "", note: "", project: "" };

export async function mount({ root, signal }) {
  let parsed = parse("");
  let sending = false;
  const preview = el("div", { class: "stack", role: "status" });
  const result = el("div", { class: "stack", "aria-live": "polite" });
  const text = el("textarea", { name: "keys", spellcheck: "false", autocomplete: "off", autocapitalize: "off", value: draft.text, placeholder: "AIza…\nsk-…", oninput: () => look(), onpaste: (event) => {
    // Browsers take many seconds to insert thousands of lines; setting the text takes none.
    const pasted = event.clipboardData?.getData("text") ?? "";
    if (pasted.length < LONG_PASTE) return;
    event.preventDefault();
    text.setRangeText(pasted, text.selectionStart, text.selectionEnd, "end");
    look();
  } });
  const send = el("button", { class: "button primary", type: "submit", disabled: true }, t("add.send", { n: 0 }));
  const stop = button(t("stop"), () => { sending = false; }, { hidden: true });
  const file = el("input", { type: "file", class: "sr", tabindex: "-1", "aria-label": t("add.file"), accept: ".txt,.json,.csv,.env,text/plain,application/json,text/csv", onchange: () => read(file.files[0]) });
  const drop = el("div", { class: "drop stack",
    ondragover: (event) => { event.preventDefault(); drop.classList.add("over"); },
    ondragleave: () => drop.classList.remove("over"),
    ondrop: (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      if (event.dataTransfer.files[0]) read(event.dataTransfer.files[0]);
      else {
        text.value += event.dataTransfer.getData("text");
        look();
      }
    } },
    field(t("add.paste"), text), el("div", { class: "row between" }, el("span", { class: "small quiet" }, t("add.dropHint")), button(t("add.file"), () => file.click(), { class: "compact" }), file));

  async function read(chosen) {
    if (!chosen) return;
    if (chosen.size > MAX_FILE_BYTES) return fill(result, notice("bad", t("error.title"), t("add.tooBig")));
    text.value = await chosen.text();
    file.value = "";
    return look();
  }

  function look() {
    draft.text = text.value;
    parsed = parse(text.value);
    const { fresh, duplicates, malformed, byType } = parsed;
    send.disabled = sending || !fresh.length;
    send.textContent = t("add.send", { n: fresh.length });
    if (!text.value.trim()) return fill(preview, el("p", { class: "quiet" }, t("add.previewEmpty")));
    return fill(preview,
      el("div", { class: "figures" }, figure("active", t("add.new"), fresh.length), figure("cooling_down", t("add.duplicate"), duplicates), figure("dead", t("add.malformed"), malformed.length)),
      fresh.length > 0 && el("p", { class: "small quiet" }, Object.entries(byType).filter(([, n]) => n).map(([type, n]) => t(`add.type.${type}`, { n })).join(" · ")),
      byType.unknown > 0 && !draft.apiType && el("p", { class: "small quiet" }, t("add.unknownHint")),
      malformed.length > 0 && el("details", {}, el("summary", {}, t("add.showMalformed", { n: malformed.length })), table(t("add.malformed"), [{ name: t("add.line"), number: true }, { name: t("keys.key") }, { name: t("add.why") }], malformed.slice(0, LISTED).map(({ line, key, why }) => [number(line), el("code", {}, mask(key)), t(`add.bad.${why}`)]))));
  }

  const inputs = {
    apiType: select([["", t("field.byShape")], ["gemini", "Gemini"], ["openai", "OpenAI"]], { name: "apiType" }),
    customEndpoint: el("input", { name: "customEndpoint", type: "url", placeholder: "https://api.example.com/v1", autocomplete: "off" }),
    group: el("input", { name: "group", maxlength: "64", autocomplete: "off" }),
    note: el("input", { name: "note", maxlength: "500", autocomplete: "off" }),
    priority: el("input", { name: "priority", type: "number", step: "1", placeholder: "0" }),
    weight: el("input", { name: "weight", type: "number", min: "1", step: "1", placeholder: "1" }),
    project: el("input", { name: "project", maxlength: "100", autocomplete: "off" }),
  };
  for (const [name, input] of Object.entries(inputs)) input.value = draft[name];

  async function go(event) {
    event.preventDefault();
    if (sending || !parsed.fresh.length) return;
    sending = true;
    send.disabled = true;
    stop.hidden = false;
    const bar = el("progress", { class: "progress", max: parsed.fresh.length, value: 0, "aria-label": t("add.sending") });
    const said = el("p", { class: "small quiet" });
    fill(result, el("div", { class: "card" }, el("h2", {}, t("add.sending")), bar, said));
    const lines = [];
    const totals = { added: 0, duplicates: 0, invalid: 0 };
    let failed = null;
    for (const { common, entries } of batches(parsed.fresh)) {
      if (!sending || signal.aborted) break;
      try {
        const answer = await call("POST", "/api/keys", { ...common, keys: entries.map(({ key }) => key) });
        take(answer, entries, lines, totals);
      } catch (error) {
        if (error.status === undefined) throw error;
        failed = error;
        break;
      }
      bar.value = lines.length;
      said.textContent = t("add.sent", { done: lines.length, n: parsed.fresh.length });
    }
    sending = false;
    stop.hidden = true;
    const left = parsed.fresh.slice(lines.length);
    const malformed = parsed.malformed;
    report(lines, totals, left, malformed, failed);
    // What was not sent stays in the box, so that it can be sent again.
    text.value = left.map(({ source }) => source).join("\n");
    look();
  }

  function batches(fresh) {
    const settings = {};
    for (const [name, input] of Object.entries(inputs)) {
      const value = input.value.trim();
      if (value) settings[name] = input.type === "number" ? Number(value) : value;
    }
    const found = new Map();
    for (const entry of fresh) {
      const common = { ...entry.own, ...settings };
      const key = JSON.stringify(common);
      if (!found.has(key)) found.set(key, { common, entries: [] });
      found.get(key).entries.push(entry);
    }
    const ordered = [...found.values()];
    parsed.fresh = ordered.flatMap(({ entries }) => entries);
    return ordered.flatMap(({ common, entries }) => Array.from({ length: Math.ceil(entries.length / CHUNK) }, (_, at) => ({ common, entries: entries.slice(at * CHUNK, (at + 1) * CHUNK) })));
  }

  /** What became of each key of one answer. Where the answer has totals alone, a mixed lot is told as what it can be. */
  function take(answer, entries, lines, totals) {
    const duplicates = Array.isArray(answer.duplicates) ? answer.duplicates.length : (answer.duplicates ?? 0);
    const refused = new Map((answer.invalid ?? []).map(({ key, reason }) => [key, reason]));
    totals.added += answer.added ?? 0;
    totals.duplicates += duplicates;
    totals.invalid += refused.size;
    entries.forEach((entry, index) => {
      const masked = mask(entry.key);
      const outcome = answer.results?.[index] ?? (refused.has(masked) ? "invalid" : duplicates === 0 ? "added" : answer.added === 0 ? "duplicate" : "either");
      lines.push({ line: entry.line, masked, outcome, reason: refused.get(masked) });
    });
  }

  function report(lines, totals, left, malformed, failed) {
    const rank = { invalid: 0, malformed: 1, unsent: 2, duplicate: 3, either: 4, added: 5 };
    const rows = [...lines, ...malformed.map(({ line, key, why }) => ({ line, masked: mask(key), outcome: "malformed", reason: t(`add.bad.${why}`) })), ...left.map(({ line, key }) => ({ line, masked: mask(key), outcome: "unsent" }))];
    rows.sort((a, b) => rank[a.outcome] - rank[b.outcome] || a.line - b.line);
    const title = el("h2", { tabindex: "-1" }, failed ? t("add.failed") : left.length ? t("add.stopped") : t("add.done"));
    fill(result, el("section", { class: "card" }, title,
      failed && problem(failed),
      el("p", {}, t("add.totals", totals), left.length > 0 && ` ${t("add.left", { n: left.length })}`),
      el("div", { class: "row" }, el("a", { class: "button", href: "#/keys" }, t("add.see")), totals.added > 0 && el("a", { class: "button", href: "#/check" }, t("add.checkThem"))),
      el("details", { open: rows.some(({ outcome }) => rank[outcome] < 3) }, el("summary", {}, t("add.perLine")),
        el("div", { class: "lines" }, table(t("add.perLine"), [{ name: t("add.line"), number: true }, { name: t("keys.key") }, { name: t("add.result") }], rows.slice(0, LISTED).map(({ line, masked, outcome, reason }) => [number(line), el("code", {}, masked), [t(`add.outcome.${outcome}`), reason && `: ${reason}`].filter(Boolean).join("")]))),
        rows.length > LISTED && el("p", { class: "small quiet" }, t("add.more", { n: rows.length - LISTED })))));
    title.focus();
  }

  fill(root, heading(t("nav.add"), t("add.words")),
    el("form", { class: "grid", onsubmit: go, oninput: ({ target }) => { if (target.name in draft) { draft[target.name] = target.value; if (target.name === "apiType") look(); } } },
      el("section", { class: "card" }, drop, preview, el("div", { class: "row" }, send, stop)),
      el("section", { class: "card" }, el("h2", {}, t("add.settings")), el("p", { class: "small quiet" }, t("add.settingsWords")),
        el("div", { class: "grid tight" }, field(t("field.type"), inputs.apiType, t("field.typeHint")), field(t("field.group"), inputs.group, t("field.groupHint"))),
        field(t("field.endpoint"), inputs.customEndpoint, t("field.endpointHint")),
        el("div", { class: "grid tight" }, field(t("field.priority"), inputs.priority, t("field.priorityHint")), field(t("field.weight"), inputs.weight, t("field.weightHint"))),
        field(t("field.project"), inputs.project, t("field.projectHint")), field(t("field.note"), inputs.note))),
    result);
  look();
  signal.addEventListener("abort", () => { sending = false; });
}

const figure = (tone, name, value) => el("div", { class: `figure ${tone}` }, el("span", { class: "name toned" }, name), el("span", { class: "value" }, number(value)));
