// The page: sign in, add keys, list keys.

import { call, ApiError } from "./api.js";
import { el, field } from "./dom.js";
import en from "./i18n/en.js";
import zh from "./i18n/zh.js";

const dictionaries = { en, zh };
const PAGE_SIZE = 50;
const main = document.querySelector("#main");
const state = { language: firstLanguage(), page: 1, session: null };

/** A text of the dictionary with its values put in. */
function t(name, values = {}) {
  return Object.entries(values).reduce((text, [key, value]) => text.replace(`{${key}}`, value), dictionaries[state.language][name]);
}

function firstLanguage() {
  const kept = localStorage.getItem("language");
  if (kept in dictionaries) return kept;
  return navigator.language.startsWith("zh") ? "zh" : "en";
}

const api = (method, path, body) => call(method, path, body, t("offline"));

/** Shows a failure where it happened; an expired session leads back to signing in. */
function fail(error, place) {
  if (!(error instanceof ApiError)) throw error;
  if (error.status === 401 && state.session) {
    state.session = null;
    return render();
  }
  place.replaceChildren(el("p", { className: "error", role: "alert" }, error.status === 429 ? t("wait", { seconds: error.retryAfter }) : error.message));
}

function signIn() {
  const key = el("input", { type: "password", name: "key", required: true, autocomplete: "current-password" });
  const problem = el("div");
  const submit = async (event) => {
    event.preventDefault();
    try {
      await api("POST", "/api/login", { key: key.value });
      await load();
    } catch (error) {
      fail(error, problem);
    }
  };
  main.replaceChildren(
    el("section", { className: "narrow" }, el("h2", {}, t("signIn")),
      el("form", { onsubmit: submit }, field(t("adminKey"), key), problem, el("button", { type: "submit" }, t("signIn"))),
      el("p", { className: "why" }, t("firstRun"))),
  );
  key.focus();
}

function addKeys(afterwards) {
  const keys = el("textarea", { name: "keys", required: true, spellcheck: "false", autocomplete: "off" });
  const type = el("select", { name: "type" }, el("option", { value: "" }, t("byShape")), el("option", { value: "gemini" }, "Gemini"), el("option", { value: "openai" }, "OpenAI"));
  const endpoint = el("input", { name: "endpoint", type: "url", placeholder: "https://api.example.com/v1" });
  const group = el("input", { name: "group", maxlength: "64" });
  const result = el("div", { role: "status" });
  const button = el("button", { type: "submit" }, t("add"));
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      const body = { keys: keys.value.split(/[\s,;]+/).filter(Boolean) };
      if (type.value) body.apiType = type.value;
      if (endpoint.value) body.customEndpoint = endpoint.value;
      if (group.value) body.group = group.value;
      const answer = await api("POST", "/api/keys", body);
      const invalid = answer.invalid.map(({ key, reason }) => el("li", {}, `${key}: ${reason}`));
      result.replaceChildren(
        el("p", {}, t("added", { added: answer.added, duplicates: answer.duplicates, invalid: answer.invalid.length })),
        ...(invalid.length ? [el("ul", {}, invalid)] : []),
      );
      keys.value = "";
      await afterwards();
    } catch (error) {
      fail(error, result);
    } finally {
      button.disabled = false;
    }
  };
  return el("section", {}, el("h2", {}, t("addKeys")),
    el("form", { onsubmit: submit }, field(t("keysHere"), keys),
      el("div", { className: "row" }, field(t("type"), type), field(t("endpoint"), endpoint), field(t("group"), group), button), result));
}

function listKeys() {
  const summary = el("p", { role: "status" });
  const rows = el("tbody");
  const problem = el("div");
  const previous = el("button", { type: "button", className: "quiet", onclick: () => turn(-1) }, t("previous"));
  const next = el("button", { type: "button", className: "quiet", onclick: () => turn(1) }, t("next"));
  const place = el("span");
  const turn = (by) => {
    state.page += by;
    return refresh();
  };
  const refresh = async () => {
    try {
      const list = await api("GET", `/api/keys?mask=true&sort=-created_at&page=${state.page}&pageSize=${PAGE_SIZE}`);
      const pages = Math.max(1, Math.ceil(list.total / PAGE_SIZE));
      summary.textContent = list.total ? t("total", { total: list.total, ...list.counts }) : t("none");
      place.textContent = t("page", { page: state.page, pages });
      previous.disabled = state.page <= 1;
      next.disabled = state.page >= pages;
      rows.replaceChildren(...list.keys.map((key) => row(key, refresh, problem)));
      problem.replaceChildren();
    } catch (error) {
      fail(error, problem);
    }
  };
  const headings = ["key", "type", "state", "why", "requests", "failures"].map((name) => el("th", { scope: "col" }, t(name)));
  const section = el("section", {}, el("h2", {}, t("keys")), summary, problem,
    el("div", { className: "scroll", tabindex: "0", role: "region", "aria-label": t("keys") },
      el("table", {}, el("thead", {}, el("tr", {}, headings, el("td", {}))), rows)),
    el("div", { className: "row pages" }, previous, place, next));
  return { section, refresh };
}

function row(key, refresh, problem) {
  const remove = async () => {
    if (!confirm(t("removeOne"))) return;
    try {
      await api("DELETE", "/api/keys", { ids: [key.id] });
      await refresh();
    } catch (error) {
      fail(error, problem);
    }
  };
  const why = [key.rule, key.until ? t("until", { time: new Date(key.until).toLocaleString() }) : "", key.reason].filter(Boolean).join(" · ");
  const type = [key.apiType, key.customEndpoint, key.group].filter(Boolean).join(" · ");
  return el("tr", {},
    el("td", {}, el("code", {}, key.masked)), el("td", {}, type), el("td", { className: key.status }, t(key.status)), el("td", { className: "why" }, why),
    el("td", {}, `${key.requests}`), el("td", {}, `${key.failures}`),
    el("td", {}, el("button", { type: "button", className: "quiet", onclick: remove, "aria-label": `${t("remove")} ${key.masked}` }, t("remove"))));
}

function howToUse() {
  const snippet = `from openai import OpenAI\n\nclient = OpenAI(base_url="${location.origin}/v1", api_key="<auth_key>")\nanswer = client.chat.completions.create(\n    model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello!"}])\nprint(answer.choices[0].message.content)`;
  return el("section", {}, el("h2", {}, t("use")), el("pre", { tabindex: "0" }, snippet));
}

function home() {
  const { section, refresh } = listKeys();
  const known = state.session.warnings.filter(({ code }) => code in dictionaries[state.language]);
  main.replaceChildren(...known.map(({ code }) => el("p", { className: "warning" }, t(code))), addKeys(refresh), section, howToUse());
  refresh();
}

function render() {
  document.documentElement.lang = state.language;
  document.querySelector("#language").textContent = t("language");
  const signOut = document.querySelector("#sign-out");
  signOut.textContent = t("signOut");
  signOut.hidden = !state.session;
  if (state.session) home();
  else signIn();
}

async function load() {
  try {
    const session = await api("GET", "/api/session");
    state.session = session.signed_in ? session : null;
    render();
  } catch (error) {
    state.session = null;
    render();
    fail(error, document.querySelector("#status"));
  }
}

document.querySelector("#language").addEventListener("click", () => {
  state.language = state.language === "en" ? "zh" : "en";
  localStorage.setItem("language", state.language);
  render();
});
document.querySelector("#sign-out").addEventListener("click", async () => {
  await api("POST", "/api/logout").catch(() => {});
  state.session = null;
  render();
});

load();
