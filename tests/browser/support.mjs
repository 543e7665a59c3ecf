// What the browser tests share: the server that is tested, the browser, and what must hold on every screen.
//
// BASE_URL names a running KeyStorm whose upstreams judge keys by what is written in them (`dead`, `limited`); ADMIN_KEY and
// ACCESS_KEY are its keys, UPSTREAM the custom endpoint for `openai` keys. Without BASE_URL the mock is started.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFile } from "node:fs/promises";
import { chromium } from "playwright-core";
import * as mock from "./mock-api.mjs";

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PUBLISHED_ADMIN_KEY = "e86ea1ceb610e1ed502f5a99a386a0a252a933525187a43f18db6a6d91c91434";
const isReal = Boolean(process.env.BASE_URL);
export const adminKey = process.env.ADMIN_KEY ?? (isReal ? PUBLISHED_ADMIN_KEY : mock.ADMIN_KEY);
export const accessKey = process.env.ACCESS_KEY ?? (isReal ? "yCENzh" : mock.ACCESS_KEY);
export const upstream = process.env.UPSTREAM ?? (isReal ? "" : "https://models.example.com/v1");
export const model = process.env.MODEL ?? (isReal ? "mock-large" : "gemini-2.5-pro");
export const SCREENS = ["overview", "keys", "add", "check", "playground", "activity", "settings"];

/** A server and a browser for a file of tests. */
export async function open({ alwaysMock = false } = {}) {
  const server = isReal && !alwaysMock ? { url: process.env.BASE_URL.replace(/\/$/, ""), close: async () => {} } : await mock.start();
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"] });
  return {
    url: server.url,
    /** Sets faults of the mock, fills it, or ends all sessions. */
    mock: (wanted) => fetch(`${server.url}/mock`, { method: "POST", body: JSON.stringify(wanted) }),
    /** A new page in a context of its own. `page.errors` is what the console and the page complained of. */
    page: async (options = {}) => {
      const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, locale: "en-US", ...options });
      await context.grantPermissions(["clipboard-read", "clipboard-write"]);
      const page = await context.newPage();
      page.setDefaultTimeout(15000);
      page.errors = [];
      page.addresses = [];
      page.on("pageerror", (error) => page.errors.push(error.message));
      page.on("console", (message) => {
        // That an answer was not 2xx, the browser itself says of every such fetch: the page shows those.
        if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) page.errors.push(message.text());
      });
      page.on("request", (request) => page.addresses.push(request.url()));
      page.on("framenavigated", (frame) => page.addresses.push(frame.url()));
      return page;
    },
    close: async () => {
      await browser.close();
      await server.close();
    },
  };
}

/** Signs in on a page that asks for it. */
export async function signIn(page, url, screen = "overview") {
  await page.goto(`${url}/#/${screen}`);
  await page.getByLabel(/Administrator's key|管理员密钥/).fill(adminKey);
  await page.keyboard.press("Enter");
  await page.locator("dialog.door").waitFor({ state: "detached" });
  await page.locator("main h1").waitFor();
}

/** Goes to a screen by its address, as a link does. */
export async function visit(page, screen) {
  await page.evaluate((to) => { location.hash = `#/${to}`; }, screen);
  await page.waitForFunction((name) => document.querySelector(`.nav a[data-screen="${name}"]`)?.getAttribute("aria-current") === "page", screen.split("?")[0]);
  await page.locator("main h1").waitFor();
  await page.waitForFunction(() => !document.querySelector('[aria-busy="true"]'));
}

/** axe-core's serious and critical findings, as lines. */
export async function accessibilityFaults(page) {
  // Injected by the debugger: the page's own policy lets no script in.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  return violations.filter(({ impact }) => impact === "serious" || impact === "critical").map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map(({ target }) => target.join(" ")).join(", ")}`);
}

/** No secret in the document, in storage, or in any address that the page has used. */
export async function assertNoSecret(page, secrets) {
  const held = await page.evaluate(() => [document.documentElement.outerHTML, JSON.stringify({ ...localStorage }), JSON.stringify({ ...sessionStorage }), document.cookie, location.href].join("\n"));
  for (const secret of secrets) {
    assert.ok(!held.includes(secret), "a secret is in the document, in storage or in a cookie that scripts can read");
    assert.ok(!page.addresses.some((address) => address.includes(secret)), "a secret is in an address");
  }
}

/** Keys whose names say what becomes of them. */
export const keys = (count, kind = "good", run = "a") => Array.from({ length: count }, (_, index) => `sk-${kind}-browser-${run}-${String(index).padStart(6, "0")}`);

/** Replaces what a field holds, by way of the clipboard. */
export async function paste(page, field, text) {
  await page.evaluate((copied) => navigator.clipboard.writeText(copied), text);
  await field.focus();
  await page.keyboard.press("Control+A");
  await page.keyboard.press("Control+V");
}

/** Adds keys by way of the screen. */
export async function addByPaste(page, text, settings = {}) {
  await visit(page, "add");
  await paste(page, page.getByLabel("Keys", { exact: true }), text);
  if (upstream && settings["Custom endpoint"] === undefined) await page.getByLabel("Custom endpoint").fill(upstream);
  for (const [label, value] of Object.entries(settings)) await page.getByLabel(label).fill(value);
  await page.getByRole("button", { name: /^Add [\d,]+ keys?$/ }).click();
  await page.getByRole("heading", { name: /^(Done|Not all)/ }).waitFor({ timeout: 60000 });
}

/** Deletes all keys, by way of the API with the page's own session. */
export async function empty(page) {
  await page.evaluate(() => fetch("/api/keys", { method: "DELETE", headers: { "content-type": "application/json" }, body: '{"filter":{}}' }));
}
