// The page on bad days: what only the mock can bring about.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { accessKey, keys, open, SCREENS, signIn, visit } from "./support.mjs";

describe("the page, when things fail", { concurrency: false }, () => {
  let world;
  let page;
  before(async () => {
    world = await open({ alwaysMock: true });
    await world.mock({ seed: 120 });
    page = await world.page();
    await signIn(page, world.url);
  });
  afterEach(() => world.mock({ faults: { "/api/": null, "/api/keys": null, "/api/stats": null, checkDelay: 0 } }));
  after(() => world.close());

  test("an answer of 500 is shown where it happened, on every screen, and can be tried again", async () => {
    for (const screen of ["keys", "overview", "activity", "settings"]) {
      await world.mock({ faults: { "/api/": { status: 500, message: "The disk is full." } } });
      await visit(page, screen);
      await page.getByText("The server failed (status 500): The disk is full.").first().waitFor();
      await world.mock({ faults: { "/api/": null } });
      if (screen === "keys") {
        await page.getByRole("button", { name: "Try again" }).click();
        await page.getByText("120 keys", { exact: true }).waitFor();
      }
    }
  });

  test("a server that is gone is said to be gone, and the page recovers", async () => {
    await world.mock({ faults: { "/api/": { drop: true } } });
    await visit(page, "keys");
    await page.getByText("The server cannot be reached.").waitFor();
    await world.mock({ faults: { "/api/": null } });
    await page.getByRole("button", { name: "Try again" }).click();
    await page.locator("tbody tr").first().waitFor();
  });

  test("a slow answer shows that something is coming, and a screen that was left is not drawn over", async () => {
    await world.mock({ faults: { "/api/stats": { delay: 1500 } } });
    await page.evaluate(() => { location.hash = "#/overview"; });
    await page.getByRole("status", { name: "Loading" }).first().waitFor();
    await page.evaluate(() => { location.hash = "#/settings"; });
    await page.getByRole("heading", { name: "Effective configuration" }).waitFor();
    await page.waitForTimeout(1600);
    assert.equal(await page.getByRole("heading", { name: "Traffic" }).count(), 0);
  });

  test("adding that fails half-way keeps what was not sent", async () => {
    await visit(page, "add");
    await page.getByLabel("Keys", { exact: true }).fill(keys(700, "good", "half").join("\n"));
    await page.route("**/api/keys", async (route) => {
      await route.continue();
      await world.mock({ faults: { "/api/keys": { status: 503, message: "The database is locked." } } });
    }, { times: 1 });
    await page.getByRole("button", { name: "Add 700 keys" }).click();
    await page.getByRole("heading", { name: "Not all keys were sent" }).waitFor();
    const left = (await page.getByLabel("Keys", { exact: true }).inputValue()).split("\n").length;
    const sent = 700 - left;
    assert.ok(sent === 0 || sent === 500, `${sent} were sent`);
    await world.mock({ faults: { "/api/keys": null } });
    await page.getByRole("button", { name: /^Add [\d,]+ keys$/ }).click();
    await page.getByRole("heading", { name: "Done" }).waitFor();
    assert.equal(await page.getByLabel("Keys", { exact: true }).inputValue(), "");
  });

  test("a check that breaks off says so and goes on", async () => {
    await world.mock({ faults: { checkDelay: 5 } });
    await visit(page, "check");
    await page.getByRole("button", { name: "Start the check" }).click();
    await page.waitForFunction(() => Number(document.querySelector(".figure.valid .value")?.textContent) > 10);
    await visit(page, "activity");
    await page.locator("#check-badge").waitFor();
    await visit(page, "check");
    await page.getByRole("button", { name: "Stop" }).click();
    await world.mock({ faults: { "/api/keys": { status: 500, message: "Broken." } } });
    await page.getByRole("button", { name: "Go on" }).click();
    await page.getByText("The server failed (status 500): Broken.").waitFor();
    await world.mock({ faults: { "/api/keys": null, checkDelay: 0 } });
    await page.getByRole("button", { name: "Go on" }).click();
    await page.getByText(/^Finished: 820 of 820/).waitFor();
  });

  test("an answer that breaks off in the playground is not taken for whole", async () => {
    await visit(page, "playground");
    await page.getByLabel("Access key").fill(accessKey);
    await page.getByLabel("Model", { exact: true }).fill("broken");
    await page.getByLabel("Message").fill("Hello");
    await page.getByRole("button", { name: "Send" }).click();
    await page.getByText("The answer broke off before its end.").waitFor();
    assert.match(await page.locator(".turn.assistant .said").textContent(), /^Hello! This answer/);
  });

  test("all sessions revoked: every screen leads to signing in and back", async () => {
    await visit(page, "overview");
    await world.mock({ expire: true });
    await page.evaluate(() => { location.hash = "#/activity"; });
    await page.getByRole("heading", { name: "Sign in again" }).waitFor();
    await signInHere(page);
    await page.getByRole("heading", { name: "Activity" }).waitFor();
    assert.match(page.url(), /#\/activity$/);
  });

  test("aliases are edited, and a half one is refused before it is sent", async () => {
    await visit(page, "settings");
    await page.getByRole("button", { name: "Add an alias" }).click();
    await page.getByLabel("Requested model").last().fill("gpt-4.1");
    await page.getByRole("button", { name: "Save" }).click();
    await page.getByText("Each alias needs both names.").waitFor();
    await page.getByLabel("Served by").last().fill("gemini-2.5-flash");
    await page.getByRole("button", { name: "Save" }).click();
    await page.getByText("Saved").waitFor();
  });

  test("an export asks first and is a file", async () => {
    await visit(page, "settings");
    await page.getByRole("button", { name: "Export JSON" }).click();
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("dialog").getByRole("button", { name: "Export" }).click()]);
    assert.equal(download.suggestedFilename(), "keystorm-keys.json");
  });

  test("markup from providers, scripts and files stays text on every screen", async () => {
    const text = "<img src=x onerror=window.hit=1>\"'><svg onload=window.hit=1><script>window.hit=1</script>javascript:window.hit=1";
    await world.mock({ attack: text });
    for (const screen of SCREENS) {
      await visit(page, screen);
      if (screen === "check") {
        await page.getByRole("button", { name: "Start the check" }).click();
        await page.getByText(/^Finished:/).waitFor();
        await page.getByRole("cell", { name: text }).first().waitFor();
      }
      if (screen === "playground") {
        await page.getByRole("button", { name: "Load models" }).click();
        await page.getByText("1 model to choose from").waitFor();
        await page.getByLabel("Message").fill(text);
        await page.getByRole("button", { name: "Send" }).click();
        await page.getByRole("alert").getByText(text).waitFor();
      }
      if (screen === "keys") await page.locator("tbody").getByText(text).first().waitFor();
      assert.equal(await page.evaluate(() => window.hit), undefined, screen);
      assert.equal(await page.locator('main img:not([alt=""]), main script, main [onerror], main [onload], main a[href^="javascript"]').count(), 0, screen);
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${screen} is wider than the window`);
    }
  });

  test("none of it made the console complain", () => assert.deepEqual(page.errors, []));
});

async function signInHere(page) {
  const { ADMIN_KEY } = await import("./mock-api.mjs");
  await page.getByLabel("Administrator's key").fill(ADMIN_KEY);
  await page.keyboard.press("Enter");
  await page.locator("dialog.door").waitFor({ state: "detached" });
}
