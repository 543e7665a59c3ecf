// The keys: one page of them at a time, with filters, and acts on one, on some, or on all that match.

import { call, query } from "../api.js";
import { checking } from "../checking.js";
import { el, fill } from "../dom.js";
import { ago, countdown, moment, number, percent, t } from "../i18n.js";
import { act, badge, button, confirmed, copy, field, heading, loading, menu, problem, select, sheet, toast } from "../parts.js";
import { sparkline } from "../charts.js";

const FILTERS = ["status", "apiType", "group", "endpoint", "search"];
const STATES = ["active", "cooling_down", "dead", "disabled"];
const SIZES = [50, 100, 200, 500];
const SHOWN_FOR_MS = 30000;

export async function mount({ root, params, signal }) {
  const wanted = { page: Number(params.get("page")) || 1, pageSize: Number(params.get("pageSize")) || 50, sort: params.get("sort") ?? "-created_at" };
  for (const name of FILTERS) wanted[name] = params.get(name) ?? "";
  const chosen = { ids: new Set(), all: false };
  let list = { keys: [], total: 0, counts: {} };
  let loads = 0;

  const message = el("div", { "aria-live": "polite" });
  const chips = el("div", { class: "tabs", role: "group", "aria-label": t("keys.state") });
  const body = el("div", {});
  const bulk = el("div", { class: "card bulk row between", hidden: true, role: "region", "aria-label": t("keys.bulk") });
  const summary = el("p", { class: "quiet small", role: "status" });
  const filters = () => Object.fromEntries(FILTERS.filter((name) => wanted[name]).map((name) => [name, wanted[name]]));

  async function refresh({ quiet = true } = {}) {
    const mine = (loads += 1);
    history.replaceState(null, "", `#/keys${query({ ...filters(), page: wanted.page > 1 ? wanted.page : "", pageSize: wanted.pageSize === 50 ? "" : wanted.pageSize, sort: wanted.sort === "-created_at" ? "" : wanted.sort })}`);
    if (!quiet) fill(body, loading(10));
    body.setAttribute("aria-busy", "true");
    try {
      const found = await call("GET", `/api/keys${query({ ...wanted, mask: "true" })}`, undefined, { signal });
      if (mine !== loads) return;
      list = found;
      const pages = Math.max(1, Math.ceil(list.total / wanted.pageSize));
      if (wanted.page > pages) {
        wanted.page = pages;
        return refresh();
      }
      fill(message);
      draw(pages);
    } catch (error) {
      if (error.name === "AbortError" || mine !== loads) return;
      if (error.status === undefined) throw error;
      fill(body, el("div", { class: "skeletons" }, problem(error, () => refresh({ quiet: false }))));
    } finally {
      if (mine === loads) body.removeAttribute("aria-busy");
    }
  }

  function narrow(name, value) {
    wanted[name] = value;
    wanted.page = 1;
    chosen.ids.clear();
    chosen.all = false;
    refresh();
  }

  function draw(pages) {
    const all = STATES.reduce((sum, state) => sum + (list.counts?.[state] ?? 0), 0);
    fill(chips, ["", ...STATES].map((state) => button([state ? t(`state.${state}`) : t("keys.all"), " ", el("span", { class: "quiet" }, number(state ? list.counts?.[state] : all))], () => narrow("status", state), { class: "compact", "aria-pressed": String(wanted.status === state) })));
    summary.textContent = t("keys.found", { n: list.total });
    drawBulk();
    if (!list.keys.length) return fill(body, nothing(all));
    const tick = el("input", { type: "checkbox", "aria-label": t("keys.choosePage"), onchange: () => {
      for (const key of list.keys) tick.checked ? chosen.ids.add(key.id) : chosen.ids.delete(key.id);
      chosen.all = false;
      draw(pages);
    } });
    const here = list.keys.filter((key) => chosen.all || chosen.ids.has(key.id)).length;
    tick.checked = here === list.keys.length;
    tick.indeterminate = here > 0 && !tick.checked;
    return fill(body,
      el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": t("nav.keys") },
        el("table", { class: "cards" },
          el("caption", { class: "sr" }, t("nav.keys")),
          el("thead", {}, el("tr", { "data-label": t("keys.sort") }, el("th", { class: "kept tick" }, el("label", { class: "hit" }, tick)), el("th", { scope: "col" }, t("keys.key")), el("th", { scope: "col" }, t("keys.where")), head("status", t("keys.state")), head("requests", t("keys.usage")), head("last_used_at", t("keys.lastUsed")), el("th", { scope: "col" }, el("span", { class: "sr" }, t("keys.actions"))))),
          el("tbody", {}, list.keys.map(row)))),
      el("div", { class: "row between pager" },
        el("label", { class: "row small quiet" }, t("keys.perPage"), select(SIZES.map((size) => [String(size), number(size)]), { class: "input", value: String(wanted.pageSize), onchange: (event) => { wanted.pageSize = Number(event.target.value); narrow("page", 1); } })),
        el("nav", { class: "row", "aria-label": t("keys.pages") },
          button(t("previous"), () => turn(-1), { class: "compact", disabled: wanted.page <= 1 }),
          el("span", { class: "small quiet" }, t("keys.page", { page: wanted.page, pages })),
          button(t("next"), () => turn(1), { class: "compact", disabled: wanted.page >= pages }))));
  }

  const turn = (by) => {
    wanted.page += by;
    refresh().then(() => body.scrollIntoView({ block: "start" }));
  };

  function head(name, text) {
    const now = wanted.sort.replace("-", "") === name ? (wanted.sort.startsWith("-") ? "descending" : "ascending") : null;
    return el("th", { scope: "col", class: "kept", "aria-sort": now }, el("button", { class: "sort", type: "button", onclick: () => { wanted.sort = now === "descending" ? name : `-${name}`; refresh(); } }, text, el("i", { "aria-hidden": "true" }, now ? (now === "ascending" ? "↑" : "↓") : "")));
  }

  function nothing(all) {
    const isEmpty = !all && !Object.keys(filters()).length;
    return el("div", { class: "empty" }, el("h2", {}, t(isEmpty ? "keys.none" : "keys.noMatch")), el("p", {}, t(isEmpty ? "keys.noneWords" : "keys.noMatchWords")),
      isEmpty ? el("a", { class: "button primary", href: "#/add" }, t("nav.add")) : button(t("keys.clear"), () => { for (const name of FILTERS) wanted[name] = ""; drawFilters(); narrow("page", 1); }));
  }

  function row(key) {
    const tick = el("input", { type: "checkbox", checked: chosen.all || chosen.ids.has(key.id), "aria-label": t("keys.choose", { key: key.masked }), onchange: () => {
      chosen.all = false;
      tick.checked ? chosen.ids.add(key.id) : chosen.ids.delete(key.id);
      line.classList.toggle("chosen", tick.checked);
      drawBulk();
    } });
    const shown = el("code", {}, key.masked);
    const named = { "aria-describedby": `key-${key.id}` };
    const reveal = button(t("keys.reveal"), () => act(reveal, message, () => toggle()), { class: "compact plain", ...named });
    let timer = 0;
    const hide = () => {
      clearTimeout(timer);
      shown.textContent = key.masked;
      line.classList.remove("shown");
      reveal.textContent = t("keys.reveal");
    };
    const toggle = async () => {
      if (shown.textContent !== key.masked) return hide();
      const { api_key } = await call("GET", `/api/keys/${key.id}/secret`, undefined, { signal });
      shown.textContent = api_key;
      line.classList.add("shown");
      reveal.textContent = t("keys.hide");
      timer = setTimeout(hide, SHOWN_FOR_MS);
      return undefined;
    };
    document.addEventListener("keystorm:hide-secrets", hide, { signal });
    const copyIt = button(t("copy"), () => act(copyIt, message, async () => copy((await call("GET", `/api/keys/${key.id}/secret`, undefined, { signal })).api_key)), { class: "compact plain", ...named });
    const check = button(t("keys.check"), () => act(check, message, async () => {
      await checking.start({ ids: [key.id] });
      const { rows, error } = checking.view();
      if (error) throw error;
      if (rows[0]) toast(`${rows[0].masked ?? key.masked}: ${t(`state.${rows[0].result}`)}${rows[0].message ? ` – ${rows[0].message}` : ""}`);
      await refresh();
    }), { class: "compact plain", ...named });
    const set = (values, said) => async () => {
      await call("PATCH", "/api/keys", { ids: [key.id], set: values }, { signal });
      toast(said);
      await refresh();
    };
    const flip = button(t(key.status === "disabled" ? "keys.enable" : "keys.disable"), () => act(flip, message, set({ enabled: key.status === "disabled" }, t("saved"))), { class: "compact plain", ...named });
    const change = button(t("keys.edit"), () => edit({ ids: [key.id] }, key), { class: "compact plain", ...named });
    const remove = button(t("keys.delete"), () => erase({ ids: [key.id] }, 1), { class: "compact plain danger", ...named });
    const line = el("tr", { class: chosen.all || chosen.ids.has(key.id) ? "chosen" : null },
      el("td", { class: "tick" }, el("label", { class: "hit" }, tick)),
      el("th", { scope: "row", id: `key-${key.id}` }, shown, key.note && el("span", { class: "clip small quiet", title: key.note }, key.note)),
      el("td", { class: "where" }, el("span", {}, key.apiType === "gemini" ? "Gemini" : "OpenAI", key.group && el("span", { class: "quiet" }, ` · ${key.group}`)), key.customEndpoint && el("span", { class: "clip small quiet", title: key.customEndpoint }, key.customEndpoint)),
      el("td", { class: "state" }, badge(key.status), why(key)),
      el("td", { class: "use" }, key.requests ? [sparkline(key), el("span", { class: "small quiet" }, t("keys.used", { n: key.requests, rate: percent(key.requests - key.failures, key.requests) }))] : el("span", { class: "small quiet" }, t("keys.unused"))),
      el("td", { class: "last nowrap", "data-label": t("keys.lastUsed"), title: moment(key.last_used_at) }, ago(key.last_used_at)),
      el("td", { class: "do" }, el("div", { class: "acts" }, reveal, copyIt, check, menu(t("keys.more", { key: key.masked }), [flip, change, remove]))));
    return line;
  }

  function drawBulk() {
    const count = chosen.all ? list.total : chosen.ids.size;
    bulk.hidden = count === 0;
    if (!count) return fill(bulk);
    const target = () => (chosen.all ? { filter: filters() } : { ids: [...chosen.ids] });
    const onPage = list.keys.length && list.keys.every((key) => chosen.ids.has(key.id));
    const switchTo = (enabled) => async (event) => act(event.currentTarget, message, async () => {
      await call("PATCH", "/api/keys", { ...target(), set: { enabled } }, { signal });
      toast(t("saved"));
      await refresh();
    });
    return fill(bulk,
      el("div", { class: "row", role: "status" }, el("strong", {}, t("keys.chosen", { n: count })),
        !chosen.all && onPage && list.total > chosen.ids.size && button(t("keys.chooseAll", { n: list.total }), () => { chosen.all = true; draw(Math.ceil(list.total / wanted.pageSize)); }, { class: "compact" }),
        button(t("keys.chooseNone"), () => { chosen.all = false; chosen.ids.clear(); draw(Math.ceil(list.total / wanted.pageSize)); }, { class: "compact plain" })),
      el("div", { class: "row tight" },
        button(t("keys.check"), () => { checking.start(target()); location.hash = "#/check"; }, { class: "compact" }),
        button(t("keys.enable"), switchTo(true), { class: "compact" }),
        button(t("keys.disable"), switchTo(false), { class: "compact" }),
        button(t("keys.edit"), () => edit(target(), null, count), { class: "compact" }),
        button(t("keys.deleteN", { n: count }), () => erase(target(), count), { class: "compact danger" })));
  }

  async function erase(target, count) {
    if (!(await confirmed(t("keys.deleteTitle", { n: count }), t("keys.deleteWords"), t("keys.deleteN", { n: count })))) return;
    try {
      await call("DELETE", "/api/keys", target, { signal });
      chosen.ids.clear();
      chosen.all = false;
      toast(t("keys.deleted", { n: count }));
      await refresh();
    } catch (error) {
      if (error.status === undefined) throw error;
      fill(message, problem(error));
    }
  }

  async function edit(target, key, count = 1) {
    const done = await sheet(key ? t("keys.editOne", { key: key.masked }) : t("keys.editMany", { n: count }), (close) => {
      const inputs = {
        group: el("input", { name: "group", maxlength: "64", value: key?.group ?? "" }),
        note: el("input", { name: "note", maxlength: "500", value: key?.note ?? "" }),
        project: el("input", { name: "project", maxlength: "100", value: key?.project ?? "" }),
        priority: el("input", { name: "priority", type: "number", step: "1", value: key ? String(key.priority ?? 0) : "" }),
        weight: el("input", { name: "weight", type: "number", min: "1", step: "1", value: key ? String(key.weight ?? 1) : "" }),
      };
      const status = el("div", { "aria-live": "polite" });
      const save = el("button", { class: "button primary", type: "submit" }, t("save"));
      const touched = new Set();
      const form = el("form", { class: "stack", oninput: (event) => touched.add(event.target.name), onsubmit: (event) => {
        event.preventDefault();
        act(save, status, async () => {
          // Only what was changed is sent: in an edit of many, the other fields stay as they are.
          const set = Object.fromEntries([...touched].map((name) => [name, inputs[name].type === "number" ? Number(inputs[name].value) : inputs[name].value.trim()]));
          if (touched.size) await call("PATCH", "/api/keys", { ...target, set }, { signal });
          close(true);
        });
      } },
      !key && el("p", { class: "quiet" }, t("keys.editManyWords")),
      el("div", { class: "grid tight" }, field(t("field.group"), inputs.group, t("field.groupHint")), field(t("field.project"), inputs.project, t("field.projectHint")), field(t("field.priority"), inputs.priority, t("field.priorityHint")), field(t("field.weight"), inputs.weight, t("field.weightHint"))),
      field(t("field.note"), inputs.note), status,
      el("div", { class: "row end" }, button(t("cancel"), () => close(false)), save));
      return form;
    });
    if (!done) return;
    toast(t("saved"));
    await refresh();
  }

  const bar = el("div", { class: "row foot" });
  function drawFilters(endpoints) {
    let pause = 0;
    const typed = (name, clean = (value) => value) => (event) => {
      clearTimeout(pause);
      const { value } = event.target;
      pause = setTimeout(() => narrow(name, clean(value.trim())), 300);
    };
    const groups = endpoints?.groups?.map(({ name }) => name).filter(Boolean) ?? [];
    const bases = [...new Set(endpoints?.endpoints?.map(({ base_url }) => base_url) ?? [])];
    const choose = (name, label, options) => field(label, select([["", t("keys.any")], ...options], { value: wanted[name], onchange: (event) => narrow(name, event.target.value) }));
    fill(bar,
      el("div", { class: "grow wide" }, field(t("keys.search"), el("input", { type: "search", placeholder: t("keys.searchHint"), value: wanted.search, autocomplete: "off", spellcheck: "false", oninput: typed("search", withoutSecret) }))),
      choose("apiType", t("field.type"), [["gemini", "Gemini"], ["openai", "OpenAI"]]),
      (groups.length > 0 || wanted.group) && choose("group", t("field.group"), [...new Set([...groups, wanted.group].filter(Boolean))].map((name) => [name, name])),
      (bases.length > 1 || wanted.endpoint) && choose("endpoint", t("field.endpoint"), [...new Set([...bases, wanted.endpoint].filter(Boolean))].map((base) => [base, base])));
  }

  fill(root, heading(t("nav.keys"), t("keys.words"), button(t("refresh"), () => refresh()), el("a", { class: "button primary", href: "#/add" }, t("nav.add"))),
    el("div", { class: "stack" }, chips, bar), message, summary, el("section", { class: "card flush" }, body), bulk);
  drawFilters();
  const clock = setInterval(() => {
    for (const left of root.querySelectorAll("[data-until]")) left.textContent = countdown(Number(left.dataset.until));
  }, 1000);
  signal.addEventListener("abort", () => clearInterval(clock));
  call("GET", "/api/endpoints", undefined, { signal }).then((endpoints) => bar.contains(document.activeElement) || drawFilters(endpoints), () => {});
  await refresh({ quiet: false });
}

/** Why a key is in its state: the rule, how long yet, the provider's last words, and the models that it rests for. */
function why(key) {
  const words = [key.rule && key.rule !== key.reason ? key.rule : null, key.reason, key.last_error !== key.reason ? key.last_error : null].filter(Boolean).join(" · ");
  const rests = key.until > Date.now();
  const [first, ...others] = key.status === "active" || key.status === "cooling_down" ? (key.rests ?? []) : [];
  const doubtful = key.status === "active" && (key.last_result === "limited" || key.last_result === "unknown");
  return [
    rests && [" ", el("span", { class: "sr" }, t("keys.until")), left(key.until)],
    words && key.status !== "active" && el("span", { class: "clip small quiet", title: words }, words),
    first && el("span", { class: "clip small quiet", title: (key.rests ?? []).map(({ model, rule, until }) => `${model}: ${rule}, ${moment(until)}`).join("\n") }, t("keys.rests", { model: first.model }), " ", left(first.until), others.length > 0 && ` ${t("keys.restsMore", { n: others.length })}`),
    doubtful && el("span", { class: "clip small quiet" }, t("keys.lastCheck", { result: t(`state.${key.last_result}`) })),
  ];
}

/** How long yet, counted down. */
const left = (until) => el("span", { class: "nowrap strong small", data: { until: String(until) }, title: moment(until) }, countdown(until));

/** A whole key typed into the search is looked for by its last characters, so that it never gets into an address. */
function withoutSecret(text) {
  const isKey = /^(AIza|AQ\.|sk-)\S{8,}$/.test(text) || /^[\w.-]{24,}$/.test(text);
  if (isKey) toast(t("keys.searchedBy"));
  return isKey ? text.slice(-4) : text;
}
