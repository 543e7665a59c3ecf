// The playground: a chat through this very proxy, as a client would have it. The access key stays in memory.

import { events, failure } from "../api.js";
import { el, fill } from "../dom.js";
import { duration, number, t } from "../i18n.js";
import { act, button, field, heading, notice, problem } from "../parts.js";

// Outlives a look at another screen, not the page.
const kept = { access: "", group: "", model: "", system: "", draft: "", turns: [] };

export async function mount({ root, signal }) {
  let stopper = null;
  const access = el("input", { type: "password", autocomplete: "off", value: kept.access, oninput: () => { kept.access = access.value; } });
  const group = el("input", { autocomplete: "off", maxlength: "64", value: kept.group, oninput: () => { kept.group = group.value.trim(); } });
  const models = el("datalist", { id: "models" });
  const model = el("input", { list: "models", autocomplete: "off", spellcheck: "false", value: kept.model, required: true, placeholder: "gemini-2.5-flash", oninput: () => { kept.model = model.value.trim(); } });
  const system = el("textarea", { class: "talk", rows: "2", value: kept.system, oninput: () => { kept.system = system.value; } });
  const text = el("textarea", { class: "talk", rows: "3", required: true, value: kept.draft, placeholder: t("play.placeholder"), oninput: () => { kept.draft = text.value; }, onkeydown: (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit(); } });
  const log = el("div", { class: "talk-log", tabindex: "0", role: "log", "aria-label": t("play.log") });
  const status = el("div", { "aria-live": "polite" });
  const submit = el("button", { class: "button primary", type: "submit" }, t("play.send"));
  const stop = button(t("stop"), () => stopper?.abort(), { hidden: true });
  const load = button(t("play.models"), () => act(load, status, async () => {
    const response = await ask("/models", undefined, signal);
    const { data } = await response.json();
    fill(models, data.map(({ id }) => el("option", { value: id })));
    fill(status, notice("good", null, t("play.loaded", { n: data.length })));
    if (!model.value && data[0]) kept.model = model.value = data[0].id;
  }));

  /** Calls the clients' side, with the access key that was typed in. */
  async function ask(path, body, aborted) {
    const prefix = kept.group ? `/${encodeURIComponent(kept.group)}` : "";
    let response;
    try {
      response = await fetch(`${prefix}/v1${path}`, { method: body ? "POST" : "GET", credentials: "omit", cache: "no-store", signal: aborted, headers: { authorization: `Bearer ${kept.access.trim()}`, ...(body && { "content-type": "application/json" }) }, body: body && JSON.stringify(body) });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw Object.assign(new Error(error.message), { status: 0 });
    }
    if (!response.ok) throw await failure(response);
    return response;
  }

  async function say(event) {
    event.preventDefault();
    if (stopper || !text.value.trim()) return;
    const own = new AbortController();
    stopper = own;
    signal.addEventListener("abort", () => own.abort());
    kept.turns.push({ role: "user", content: text.value.trim() });
    const answer = { role: "assistant", content: "", facts: "" };
    const messages = [...(kept.system.trim() ? [{ role: "system", content: kept.system.trim() }] : []), ...kept.turns.filter(({ content }) => content).map(({ role, content }) => ({ role, content }))];
    text.value = kept.draft = "";
    kept.turns.push(answer);
    draw();
    fill(status);
    submit.hidden = true;
    stop.hidden = false;
    log.setAttribute("aria-busy", "true");
    try {
      await receive(answer, { model: kept.model, messages, stream: true, stream_options: { include_usage: true } }, own.signal);
    } catch (error) {
      if (error.name === "AbortError") answer.facts = [answer.facts, t("play.stopped")].filter(Boolean).join(" · ");
      else if (error.status === undefined) throw error;
      else {
        fill(status, problem(error));
        if (!answer.content) {
          // Nothing was said: the question goes back into the box.
          kept.turns.splice(-2);
          text.value = kept.draft = messages.at(-1).content;
        }
      }
    } finally {
      stopper = null;
      submit.hidden = false;
      stop.hidden = true;
      log.removeAttribute("aria-busy");
      draw();
    }
  }

  async function receive(answer, body, aborted) {
    const from = performance.now();
    let first = 0;
    let usage = null;
    let finished = false;
    const response = await ask("/chat/completions", body, aborted);
    const key = readable(response.headers.get("x-keystorm-key"));
    const attempts = response.headers.get("x-keystorm-attempts");
    const tell = () => {
      answer.facts = [first && t("play.first", { time: duration(first - from) }), t("play.whole", { time: duration(performance.now() - from) }), usage && t("play.tokens", { input: number(usage.prompt_tokens), output: number(usage.completion_tokens) }), key && t("play.key", { key }), Number(attempts) > 1 && t("play.attempts", { n: Number(attempts) })].filter(Boolean).join(" · ");
    };
    for await (const { data } of events(response)) {
      if (data === "[DONE]") {
        finished = true;
        break;
      }
      const chunk = JSON.parse(data);
      if (chunk.error) throw Object.assign(new Error(chunk.error.message), { status: 502 });
      if (chunk.usage) usage = chunk.usage;
      const piece = chunk.choices?.[0]?.delta?.content;
      if (!piece) continue;
      first ||= performance.now();
      answer.content += piece;
      tell();
      drawLast(answer);
    }
    tell();
    if (!finished) throw Object.assign(new Error(t("play.broken")), { status: 502 });
  }

  function bubble(turn) {
    return el("div", { class: `turn ${turn.role}` }, el("p", { class: "who" }, t(`play.${turn.role}`)), el("div", { class: "said" }, turn.content), el("p", { class: "facts" }, turn.facts ?? ""));
  }

  function draw() {
    fill(log, kept.turns.length ? kept.turns.map(bubble) : el("div", { class: "empty" }, el("p", {}, t("play.empty"))));
    log.scrollTop = log.scrollHeight;
    clear.hidden = !kept.turns.length;
  }

  function drawLast(turn) {
    const last = log.lastElementChild;
    const stick = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
    last.querySelector(".said").textContent = turn.content;
    last.querySelector(".facts").textContent = turn.facts;
    if (stick) log.scrollTop = log.scrollHeight;
  }

  const clear = button(t("play.clear"), () => { kept.turns.length = 0; draw(); }, { class: "plain" });
  const form = el("form", { class: "stack", onsubmit: say }, field(t("play.message"), text, t("play.keys")), status, el("div", { class: "row" }, submit, stop, clear));
  fill(root, heading(t("nav.playground"), t("play.words")),
    el("section", { class: "card" }, el("div", { class: "row top" }, el("div", { class: "grow" }, field(t("play.access"), access, t("play.accessHint"))), el("div", { class: "grow" }, field(t("field.group"), group, t("play.groupHint")))),
      el("div", { class: "row foot" }, el("div", { class: "grow" }, field(t("play.model"), model), models), load),
      el("details", {}, el("summary", {}, t("play.system")), field(t("play.system"), system))),
    el("section", { class: "card" }, log, form));
  draw();
}

/** A header's text: browsers hand its bytes over as Latin-1, and the mask of a key is UTF-8. */
function readable(header) {
  if (!header) return header;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(Uint8Array.from(header, (character) => character.charCodeAt(0)));
  } catch {
    return header;
  }
}
