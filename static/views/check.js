// The check: its progress, its results, and what to do with what was refused.

import { checking } from "../checking.js";
import { el, fill } from "../dom.js";
import { duration, number, t } from "../i18n.js";
import { act, badge, button, confirmed, field, heading, problem, select, table, toast } from "../parts.js";

const RESULTS = ["valid", "limited", "invalid", "unknown"];
const SHOWN = 100;

export async function mount({ root, signal }) {
  const place = el("div", { class: "stack" });
  const message = el("div", { "aria-live": "polite" });
  const which = select([["all", t("check.all")], ["dead", t("check.dead")], ["cooling_down", t("check.resting")], ["active", t("check.active")]], { name: "which" });
  const mode = select([["models", t("check.free")], ["generate", t("check.generate")]], { name: "mode", onchange: () => { modelField.hidden = mode.value !== "generate"; } });
  const model = el("input", { name: "model", autocomplete: "off", placeholder: "gemini-2.5-flash" });
  const modelField = field(t("check.model"), model);
  modelField.hidden = true;
  const start = () => checking.start({ filter: which.value === "all" ? {} : { status: which.value }, ...(mode.value === "generate" ? { mode: "generate", model: model.value.trim() } : {}) });

  // Kept from one drawing to the next, so that focus and what is read out are not torn away while results come.
  const bar = el("progress", { class: "progress", "aria-label": t("check.progress") });
  const said = el("p", { role: "status", class: "small quiet" });
  const figures = el("div", { class: "figures" });
  const actions = el("div", { class: "row" });
  const failure = el("div", {});
  const rows = el("div", { class: "lines" });
  const card = el("section", { class: "card" }, el("h2", {}, t("check.progress")), bar, said, figures, failure, actions);
  const list = el("section", { class: "card flush" }, el("h2", { class: "sr" }, t("check.results")), rows);
  let drawn = "";

  const draw = () => {
    const now = checking.view();
    go.disabled = now.running;
    if (!now.exists) return fill(place, el("div", { class: "card empty" }, el("h2", {}, t("check.nothing")), el("p", {}, t("check.nothingWords"))));
    if (!card.isConnected) fill(place, card, list);
    bar.max = Math.max(1, now.total);
    if (now.total || !now.running) bar.value = now.done;
    said.textContent = t(now.running ? "check.running" : now.finished ? "check.finished" : "check.paused", { done: now.done, n: now.total, rate: number(now.rate < 10 ? Math.round(now.rate * 10) / 10 : Math.round(now.rate)) });
    fill(figures, RESULTS.map((result) => el("div", { class: `figure ${result}` }, el("span", { class: "name toned" }, t(`state.${result}`)), el("span", { class: "value" }, number(now.counts[result])))));
    const step = `${now.running} ${now.finished} ${now.counts.invalid > 0 && !now.running} ${now.counts.invalid} ${Boolean(now.error)}`;
    if (step !== drawn && (!now.running || drawn.startsWith("true") === false)) {
      drawn = step;
      fill(failure, now.error && problem(now.error));
      fill(actions,
        now.running && button(t("stop"), () => checking.stop()),
        !now.running && !now.finished && button(t("check.resume"), () => checking.resume(), { class: "primary" }),
        !now.running && now.counts.invalid > 0 && button(t("check.delete", { n: now.counts.invalid }), (event) => clean(event.currentTarget), { class: "danger" }));
    }
    fill(rows, table(t("check.results"), [{ name: t("keys.key") }, { name: t("add.result") }, { name: t("check.time"), number: true }, { name: t("check.message") }],
      now.rows.slice(0, SHOWN).map(({ masked, result, latency_ms, message: words }) => [el("code", {}, masked), badge(result), latency_ms === undefined || latency_ms === null ? "–" : duration(latency_ms), el("span", { class: "small quiet" }, words ?? "")]), "found"));
    return undefined;
  };

  async function clean(control) {
    const { counts } = checking.view();
    if (!(await confirmed(t("check.deleteTitle", { n: counts.invalid }), t("keys.deleteWords"), t("check.delete", { n: counts.invalid })))) return;
    const count = await act(control, message, () => checking.deleteInvalid());
    if (count !== undefined) toast(t("keys.deleted", { n: count }));
  }

  const go = button(t("check.start"), start, { class: "primary" });
  fill(root, heading(t("nav.check"), t("check.words")),
    el("section", { class: "card" }, el("div", { class: "row foot" }, el("div", { class: "grow" }, field(t("check.which"), which)), el("div", { class: "grow" }, field(t("check.how"), mode)), modelField, go), el("p", { class: "small quiet" }, t("check.note"))),
    message, place);
  signal.addEventListener("abort", checking.watch(draw));
  draw();
}
