// The overview: is it well, what is used, and how to use it.

import { call } from "../api.js";
import { share, timeChart } from "../charts.js";
import { el, fill } from "../dom.js";
import { brief, duration, has, keep, moment, number, percent, recall, spoken, t, tick } from "../i18n.js";
import { button, code, heading, into, notice, table } from "../parts.js";

const RANGES = ["1h", "24h", "7d", "90d"];
const STATES = ["active", "cooling_down", "dead", "disabled"];

export async function mount({ root, signal, session }) {
  let range = RANGES.includes(recall("range")) ? recall("range") : "24h";
  const keys = el("section", { "aria-label": t("overview.keys") });
  const traffic = el("section", { class: "stack" });
  const ranges = el("div", { class: "tabs", role: "group", "aria-label": t("overview.range") });
  const use = el("section", { class: "card" });
  const warnings = el("div", { class: "stack", hidden: true });
  const egress = el("p", { class: "small quiet", hidden: true });
  // What there is to know changes with the keys: it is asked for anew each time.
  const drawWarnings = ({ warnings: list = [] } = {}) => {
    warnings.hidden = !list.length;
    fill(warnings, list.map((warning) => notice("warn", t("warning.title"), has(`warning.${warning.code}`) ? t(`warning.${warning.code}`, warning) : (warning.message ?? warning.code))));
  };

  const drawRanges = () => fill(ranges, RANGES.map((value) => button(t(`range.${value}`), () => {
    range = value;
    keep("range", value);
    drawRanges();
    loadTraffic();
  }, { class: "compact", "aria-pressed": String(range === value) })));
  const loadTraffic = () => into(traffic, async () => drawTraffic(await call("GET", `/api/stats?range=${range}`, undefined, { signal }), range, session, signal), signal);

  fill(root, heading(t("nav.overview"), t("overview.words"), egress), warnings, keys, el("div", { class: "row between" }, el("h2", {}, t("overview.traffic")), ranges), traffic, use);
  drawRanges();
  drawUse(use);
  drawWarnings(session);
  call("GET", "/api/session", undefined, { signal }).then(drawWarnings, () => {});
  whence(signal).then(({ country, address }) => {
    egress.hidden = !country;
    fill(egress, country && t("overview.egress", { country: region(country) }), country && address && ` (${address})`);
  }, () => {});
  call("GET", "/api/endpoints", undefined, { signal }).then(({ endpoints }) => drawUse(use, endpoints?.flatMap(({ models }) => (Array.isArray(models) ? models : []))[0]), () => {});
  await Promise.all([
    into(keys, async () => drawKeys(await call("GET", "/api/keys?page=1&pageSize=1&mask=true", undefined, { signal })), signal),
    loadTraffic(),
  ]);
}

let leaves = null;
/** From which country requests leave. A server outside is asked for it, so only once for a page. */
const whence = (signal) => (leaves ??= call("GET", "/api/egress", undefined, { signal }).catch((error) => {
  leaves = null;
  throw error;
}));

/** A country's name. */
function region(code) {
  try {
    return new Intl.DisplayNames(spoken(), { type: "region" }).of(code);
  } catch {
    return code;
  }
}

function drawKeys({ counts = {} }) {
  const total = STATES.reduce((sum, state) => sum + (counts[state] ?? 0), 0);
  if (!total) return el("div", { class: "card empty" }, el("h2", {}, t("keys.none")), el("p", {}, t("keys.noneWords")), el("a", { class: "button primary", href: "#/add" }, t("nav.add")));
  return el("div", { class: "figures" }, STATES.map((state) => el("a", { class: `figure ${state}`, href: `#/keys?status=${state}` }, el("span", { class: "name toned" }, t(`state.${state}`)), el("span", { class: "value" }, number(counts[state])), el("span", { class: "note" }, t("overview.ofKeys", { share: percent(counts[state] ?? 0, total) })))));
}

function drawTraffic({ buckets = [], models = [], faults = {} }, range, session, signal) {
  const sum = (name) => buckets.reduce((total, bucket) => total + (bucket[name] ?? 0), 0);
  const requests = sum("requests");
  if (!requests) return el("div", { class: "card empty" }, el("h3", {}, t("overview.quiet")), el("p", {}, t("overview.quietWords")));
  const daily = range === "90d";
  const mean = (part) => (part.requests ? part.latency_sum_ms / part.requests : 0);
  const label = (bucket) => tick(bucket.at, daily || range === "7d");
  const figure = (name, value, note) => el("div", { class: "figure" }, el("span", { class: "name" }, name), el("span", { class: "value" }, value), el("span", { class: "note" }, note));
  const chart = (title, legend, shades, columns, kind, pick, row, format) => el("figure", { class: "card" }, el("div", { class: "row between" }, el("h3", {}, title), el("div", { class: "legend" }, legend.map((name, index) => el("span", { class: shades[index] }, name)))),
    timeChart({ kind, label: title, shades, signal, format, points: buckets.map((bucket) => ({ label: label(bucket), values: pick(bucket), said: `${moment(bucket.at)} – ${row(bucket).map((value, index) => `${columns[index]}: ${value}`).join(", ")}` })) }),
    el("details", {}, el("summary", {}, t("overview.asTable")), table(title, [{ name: t("overview.time") }, ...columns.map((name) => ({ name, number: true }))], buckets.map((bucket) => [moment(bucket.at), ...row(bucket)]))));
  const good = t("overview.good");
  const failed = t("overview.failed");
  return [
    el("div", { class: "figures" },
      figure(t("overview.requests"), brief(requests), t("overview.failures", { n: sum("failures") })),
      figure(t("overview.success"), percent(sum("successes"), requests), t("overview.ofAll", { n: requests })),
      figure(t("overview.tokens"), brief(sum("total_tokens")), t("overview.inOut", { input: brief(sum("prompt_tokens")), output: brief(sum("completion_tokens")) })),
      figure(t("overview.latency"), duration(sum("latency_sum_ms") / requests), t("overview.slowest", { time: duration(Math.max(...buckets.map((bucket) => bucket.latency_max_ms ?? 0))) }))),
    el("div", { class: "grid" },
      chart(t("overview.requestsOver"), [good, failed], ["a", "b"], [good, failed], "bars", ({ successes, failures }) => [successes, failures], ({ successes, failures }) => [number(successes), number(failures)]),
      chart(t("overview.latencyOver"), [t("overview.mean")], ["a"], [t("overview.mean"), t("overview.max")], "bars", (bucket) => [mean(bucket)], (bucket) => [duration(mean(bucket)), duration(bucket.latency_max_ms ?? 0)], (value) => (value >= 1000 ? `${number(value / 1000)} s` : number(value))),
      chart(t("overview.tokensOver"), [t("overview.input"), t("overview.output")], ["a", "c"], [t("overview.input"), t("overview.output")], "bars", ({ prompt_tokens, completion_tokens }) => [prompt_tokens ?? 0, completion_tokens ?? 0], ({ prompt_tokens, completion_tokens }) => [number(prompt_tokens), number(completion_tokens)]),
      el("section", { class: "card" }, el("h3", {}, t("overview.faults")), Object.values(faults).some(Boolean)
        ? table(t("overview.faults"), [{ name: t("overview.kind") }, { name: t("overview.times"), number: true }], Object.entries(faults).filter(([, n]) => n).sort(([, a], [, b]) => b - a).map(([kind, n]) => [has(`fault.${kind}`) ? t(`fault.${kind}`) : kind, number(n)]))
        : el("p", { class: "quiet" }, t("overview.noFaults")))),
    session?.count_tokens === false && el("p", { class: "small quiet" }, t("overview.tokensNote")),
    models.length > 0 && el("section", { class: "card flush" }, el("h3", { class: "sr" }, t("overview.models")), table(t("overview.models"), [{ name: t("overview.model") }, { name: t("overview.share") }, { name: t("overview.requests"), number: true }, { name: t("overview.success"), number: true }, { name: t("overview.tokens"), number: true }, { name: t("overview.mean"), number: true }],
      [...models].sort((a, b) => b.requests - a.requests).map((model) => [el("code", {}, model.model), share(model.requests, requests), number(model.requests), percent(model.successes, model.requests), brief(model.total_tokens), duration(mean(model))]), "models")),
  ];
}

function drawUse(place, model = "gemini-2.5-flash") {
  const base = `${location.origin}/v1`;
  const snippets = {
    curl: `curl ${base}/chat/completions \\\n  -H "Authorization: Bearer $KEYSTORM_KEY" \\\n  -H "Content-Type: application/json" \\\n  -d '{"model": "${model}", "stream": true,\n       "messages": [{"role": "user", "content": "Hello!"}]}'`,
    Python: `import os\nfrom openai import OpenAI\n\nclient = OpenAI(base_url="${base}", api_key=os.environ["KEYSTORM_KEY"])\nanswer = client.chat.completions.create(\n    model="${model}",\n    messages=[{"role": "user", "content": "Hello!"}],\n)\nprint(answer.choices[0].message.content)`,
    JavaScript: `import OpenAI from "openai";\n\nconst client = new OpenAI({ baseURL: "${base}", apiKey: process.env.KEYSTORM_KEY });\nconst answer = await client.chat.completions.create({\n  model: "${model}",\n  messages: [{ role: "user", content: "Hello!" }],\n});\nconsole.log(answer.choices[0].message.content);`,
  };
  const shown = el("div", {});
  const tabs = el("div", { class: "tabs", role: "group", "aria-label": t("use.language") });
  const choose = (name) => {
    fill(tabs, Object.keys(snippets).map((each) => button(each, () => choose(each), { class: "compact", "aria-pressed": String(each === name) })));
    fill(shown, code(snippets[name], name));
  };
  choose("curl");
  fill(place, el("h2", {}, t("use.title")), el("p", { class: "quiet" }, t("use.words")), code(base, t("use.base")), tabs, shown);
}
