// The frame of the page: session, navigation, language and theme. A screen is a module of views/ with
// `mount({ root, params, signal, session })`.

import { ApiError, call, onExpiry } from "./api.js";
import { el, fill } from "./dom.js";
import { keep, LANGUAGES, preferred, recall, speak, spoken, t } from "./i18n.js";
import { checking } from "./checking.js";
import { button, explain, icon, notice, problem, toast } from "./parts.js";

const SCREENS = {
  overview: () => import("./views/overview.js"),
  keys: () => import("./views/keys.js"),
  add: () => import("./views/add.js"),
  check: () => import("./views/check.js"),
  playground: () => import("./views/playground.js"),
  activity: () => import("./views/activity.js"),
  settings: () => import("./views/settings.js"),
};
const app = document.querySelector("#app");
// By the name that the page has it under, which is kept for ever.
const ICON = document.querySelector('link[rel="icon"]').href;
let session = null;
let leaving = null;
let signingIn = null;

/** The screen and the parameters that the address names. */
function place() {
  const [name, search] = location.hash.replace(/^#\/?/, "").split("?");
  return { name: name in SCREENS ? name : "overview", params: new URLSearchParams(search) };
}

async function show(event) {
  const { name, params } = place();
  leaving?.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  for (const link of app.querySelectorAll(".nav a")) {
    if (link.dataset.screen === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  openRail(false);
  document.title = `${t(`nav.${name}`)} · KeyStorm`;
  const content = app.querySelector("#content");
  const root = el("div", { class: "view" });
  try {
    const screen = await SCREENS[name]();
    if (signal.aborted) return;
    fill(content, root);
    await screen.mount({ root, params, signal, session });
  } catch (error) {
    if (signal.aborted || error.name === "AbortError") return;
    if (error instanceof ApiError) fill(root, problem(error, () => show()));
    else {
      // A module that cannot be loaded: a newer version was installed, or the server is away.
      fill(content, root);
      fill(root, notice("bad", t("error.title"), t("error.module"), button(t("reload"), () => location.reload(), { class: "compact" })));
    }
  }
  // Going somewhere moves the focus there; the first screen leaves it at the page's beginning.
  if (event && !signal.aborted && !document.querySelector("dialog[open]")) (root.querySelector("h1") ?? content).focus({ preventScroll: true });
}

function openRail(open) {
  app.querySelector(".rail")?.classList.toggle("open", open);
  app.querySelector("#menu")?.setAttribute("aria-expanded", String(open));
}

function frame() {
  const links = Object.keys(SCREENS).map((name) => el("li", {}, el("a", { href: `#/${name}`, data: { screen: name } }, icon(name), t(`nav.${name}`), name === "check" && el("span", { class: "badge", id: "check-badge", hidden: true }))));
  const brand = () => el("a", { class: "brand", href: "#/overview" }, el("img", { src: ICON, alt: "" }), "KeyStorm");
  fill(app,
    el("button", { class: "skip", type: "button", onclick: () => app.querySelector("#content").focus() }, t("skip")),
    el("div", { class: "frame" },
      el("header", { class: "bar" }, brand(), button(t("menu"), () => openRail(app.querySelector("#menu").getAttribute("aria-expanded") !== "true"), { id: "menu", class: "compact", "aria-expanded": "false", "aria-controls": "rail" })),
      el("aside", { class: "rail", id: "rail", "aria-label": t("menu") }, brand(), el("nav", { class: "nav", "aria-label": t("nav") }, el("ul", {}, links)),
        el("div", { class: "tools" }, el("div", { class: "pair" }, preferences()), button(t("signOut"), signOut, { class: "plain" }), el("p", { class: "small quiet" }, session?.version && t("version", { version: session.version })))),
      el("main", { class: "content", id: "content", tabindex: "-1", onpointerdown: () => openRail(false) })));
  showChecking();
}

function preferences(after = restart) {
  const language = el("select", { class: "input", "aria-label": t("language"), value: spoken(), onchange: () => change("language", language.value) }, Object.entries(LANGUAGES).map(([value, text]) => el("option", { value, lang: value }, text)));
  const theme = el("select", { class: "input", "aria-label": t("theme"), value: recall("theme") ?? "system", onchange: () => change("theme", theme.value) }, ["system", "light", "dark"].map((value) => el("option", { value }, t(`theme.${value}`))));
  const change = async (name, value) => {
    keep(name, value);
    if (name === "language") {
      await speak(value);
      return after();
    }
    if (value === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = value;
    return undefined;
  };
  return [language, theme];
}

function restart() {
  frame();
  return show();
}

async function signOut() {
  await call("POST", "/api/logout", {}).catch(() => {});
  // A fresh page: nothing of this session stays in memory.
  location.hash = "";
  location.reload();
}

/** Asks for the administrator's key, over whatever is on the screen; what is below stays as it is. */
function signIn(expired) {
  signingIn ??= new Promise((resolve) => {
    document.dispatchEvent(new CustomEvent("keystorm:hide-secrets"));
    const door = el("dialog", { class: "door", "aria-labelledby": "door-title" });
    door.addEventListener("cancel", (event) => event.preventDefault());
    const draw = () => {
      const key = el("input", { class: "input", type: "password", name: "key", required: true, autocomplete: "current-password", autofocus: true, "aria-describedby": "door-status" });
      const status = el("div", { id: "door-status", "aria-live": "assertive" });
      const submit = el("button", { class: "button primary", type: "submit" }, t("signIn"));
      let waiting = 0;
      const throttle = (seconds) => {
        clearInterval(waiting);
        const until = Date.now() + seconds * 1000;
        submit.disabled = true;
        const count = () => {
          const left = Math.ceil((until - Date.now()) / 1000);
          if (left > 0) return fill(status, notice("warn", t("signIn.throttled"), t("signIn.wait", { n: left })));
          clearInterval(waiting);
          submit.disabled = false;
          return fill(status);
        };
        waiting = setInterval(count, 500);
        count();
      };
      const go = async (event) => {
        event.preventDefault();
        submit.disabled = true;
        submit.classList.add("busy");
        let seconds = 0;
        try {
          await call("POST", "/api/login", { key: key.value });
          const fresh = await call("GET", "/api/session");
          if (!fresh.signed_in) throw new ApiError(401, { message: t("signIn.noCookie") });
          session = fresh;
          key.value = "";
          door.close();
          door.remove();
          signingIn = null;
          resolve();
        } catch (error) {
          if (!(error instanceof ApiError)) throw error;
          if (error.status === 429) seconds = Math.max(1, error.retryAfter);
          const words = error.status === 401 && error.code === "invalid_api_key" ? t("signIn.wrong") : explain(error);
          fill(status, notice("bad", null, words));
          key.setAttribute("aria-invalid", "true");
          key.select();
        } finally {
          submit.disabled = false;
          submit.classList.remove("busy");
          if (seconds) throttle(seconds);
        }
      };
      fill(door, el("div", { class: "top" }, preferences(draw).map((control) => el("div", {}, control))),
        el("div", { class: "card" },
          el("p", { class: "brand" }, el("img", { src: ICON, alt: "" }), "KeyStorm"),
          el("div", {}, el("h1", { id: "door-title" }, t(expired ? "signIn.again" : "signIn.title")), el("p", { class: "quiet" }, t(expired ? "signIn.expired" : "signIn.words"))),
          el("form", { class: "stack", onsubmit: go }, el("label", { class: "field" }, el("span", { class: "label" }, t("signIn.key")), key), status, submit),
          el("details", {}, el("summary", {}, t("signIn.first")), el("p", { class: "small quiet" }, t("signIn.hint")), el("pre", { class: "small", tabindex: "0" }, "spin up \\\n  --variable home_access_key=… \\\n  --variable auth_key=…"))));
      queueMicrotask(() => key.focus());
    };
    draw();
    document.body.append(door);
    door.showModal();
  });
  return signingIn;
}

function showChecking() {
  const mark = app.querySelector("#check-badge");
  if (!mark) return;
  const { running, done, total } = checking.view();
  mark.hidden = !running;
  mark.textContent = total ? `${Math.floor((done / total) * 100)}%` : "…";
}

async function start() {
  await speak(preferred());
  onExpiry(async () => {
    await signIn(true);
    toast(t("signIn.back"));
  });
  try {
    session = await call("GET", "/api/session");
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    fill(app, el("div", { class: "content" }, problem(error, () => location.reload())));
    return;
  }
  if (!session.signed_in) await signIn(false);
  checking.watch(showChecking);
  window.addEventListener("hashchange", show);
  document.addEventListener("keydown", (event) => {
    const opener = app.querySelector("#menu");
    if (event.key !== "Escape" || opener.getAttribute("aria-expanded") !== "true" || document.querySelector("dialog[open]")) return;
    openRail(false);
    opener.focus();
  });
  await restart();
}

start();
