// What an administrator does, in a real browser. Runs against the mock, or against the KeyStorm at BASE_URL.

import assert from "node:assert/strict";
import { writeFile, mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { accessibilityFaults, accessKey, addByPaste, adminKey, assertNoSecret, empty, keys, model, open, paste, SCREENS, signIn, upstream, visit } from "./support.mjs";

describe("the page", { concurrency: false }, () => {
  let world;
  let page;
  before(async () => {
    world = await open();
    page = await world.page();
    await signIn(page, world.url);
    await empty(page);
  });
  after(async () => {
    await empty(page);
    await world.close();
  });

  test("a new browser is asked for the key, and a wrong one is said to be wrong", async () => {
    const fresh = await world.page();
    await fresh.goto(world.url);
    await fresh.getByText("First time here?").click();
    await fresh.getByText("home_access_key").first().waitFor();
    await fresh.getByLabel("Administrator's key").fill("not-the-key");
    await fresh.keyboard.press("Enter");
    await fresh.getByText("That is not the administrator's key.").waitFor();
    await signIn(fresh, world.url);
    assert.deepEqual(await fresh.evaluate(() => document.cookie), "");
    await assertNoSecret(fresh, [adminKey]);
    assert.deepEqual(fresh.errors, []);
    await fresh.context().close();
  });

  test("an empty pool says what to do", async () => {
    await visit(page, "keys");
    await page.getByRole("heading", { name: "No keys yet" }).waitFor();
  });

  test("3,000 keys are added by paste, with duplicates and junk among them, and each line's result is shown", async () => {
    const good = keys(3000);
    await visit(page, "add");
    await paste(page, page.getByLabel("Keys", { exact: true }), [...good, ...good.slice(0, 40), "no key at all", "x"].join("\n"));
    // The preview is drawn a moment after the paste.
    await page.locator(".figure .value").first().getByText("3,000", { exact: true }).waitFor();
    assert.deepEqual(await page.locator(".figure .value").allTextContents(), ["3,000", "40", "2"]);
    await addByPaste(page, [...good, ...good.slice(0, 40), "no key at all", "x"].join("\n"));
    await page.getByText("3,000 added, 0 already there, 0 refused.").waitFor();
    await page.getByRole("table", { name: "Result of each line" }).getByText("not sent: too short for a key").waitFor();
    await visit(page, "keys");
    await page.getByText("3,000 keys", { exact: true }).waitFor();
    await assertNoSecret(page, [good[0], good[2999]]);
  });

  test("a file is read, and keys that are there already are told", async () => {
    const path = join(await mkdtemp(join(tmpdir(), "keystorm-")), "keys.txt");
    await writeFile(path, [...keys(30), ...keys(20, "dead"), ...keys(10, "limited"), "junk line here"].join("\n"));
    await visit(page, "add");
    await page.locator("input[type=file]").setInputFiles(path);
    await page.waitForFunction(() => document.querySelector(".figure .value")?.textContent === "60");
    if (upstream) await page.getByLabel("Custom endpoint").fill(upstream);
    await page.getByRole("button", { name: "Add 60 keys" }).click();
    await page.getByText("30 added, 30 already there, 0 refused.").waitFor();
  });

  test("keys are searched, filtered, sorted and paged by the server", async () => {
    await visit(page, "keys");
    await page.getByText("Page 1 of 61").waitFor();
    await page.getByRole("button", { name: "Next" }).click();
    await page.getByText("Page 2 of 61").waitFor();
    await page.getByLabel("Rows").selectOption("500");
    await page.getByText("Page 1 of 7").waitFor();
    assert.equal(await page.locator("tbody tr").count(), 500);
    await page.getByRole("searchbox", { name: "Search" }).fill("2999");
    await page.getByText("1 key", { exact: true }).waitFor();
    await page.getByRole("searchbox", { name: "Search" }).fill(keys(3000)[2998]);
    await page.getByText("1 key", { exact: true }).waitFor();
    await assertNoSecret(page, []);
    assert.ok(!page.addresses.some((address) => address.includes(keys(3000)[2998])), "a key that was searched for is in an address");
    await page.getByRole("searchbox", { name: "Search" }).fill("");
    await page.getByText("3,030 keys", { exact: true }).waitFor();
    await page.getByRole("button", { name: "State", exact: true }).click();
    await page.locator('th[aria-sort="descending"]').waitFor();
    await page.getByRole("button", { name: "State", exact: true }).click();
    await page.locator('th[aria-sort="ascending"]').waitFor();
    await page.getByRole("combobox", { name: "Type" }).selectOption("gemini");
    await page.getByRole("heading", { name: "No key matches" }).waitFor();
    await page.getByRole("button", { name: "Clear filters" }).click();
    await page.getByText("3,030 keys", { exact: true }).waitFor();
    await page.getByLabel("Rows").selectOption("50");
  });

  test("a key is edited, disabled and enabled again", async () => {
    await visit(page, "keys");
    const row = page.locator("tbody tr").first();
    await row.getByRole("button", { name: /^More actions/ }).click();
    await page.locator(".menu:popover-open").getByRole("button", { name: "Edit" }).click();
    await page.getByRole("dialog").getByLabel("Note").fill("for the tests");
    await page.getByRole("dialog").getByLabel("Priority").fill("3");
    await page.getByRole("dialog").getByRole("button", { name: "Save" }).click();
    await row.getByText("for the tests").waitFor();
    await row.getByRole("button", { name: /^More actions/ }).click();
    await page.locator(".menu:popover-open").getByRole("button", { name: "Disable" }).click();
    await row.getByText("Disabled").waitFor();
    await row.getByRole("button", { name: /^More actions/ }).click();
    await page.locator(".menu:popover-open").getByRole("button", { name: "Enable" }).click();
    await row.getByText("Active").waitFor();
  });

  test("a key is revealed, hidden and copied, and is nowhere before and after", async () => {
    await visit(page, "keys?search=2999");
    await page.getByText("1 key", { exact: true }).waitFor();
    const secret = keys(3000)[2999];
    await assertNoSecret(page, [secret]);
    await page.getByRole("button", { name: "Reveal" }).click();
    await page.getByText(secret).waitFor();
    await page.getByRole("button", { name: "Hide" }).click();
    await assertNoSecret(page, [secret]);
    await page.locator("tbody").getByRole("button", { name: "Copy" }).click();
    await page.getByText("Copied").waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), secret);
    await assertNoSecret(page, [secret]);
  });

  test("all that match are selected and changed at once, not the page alone", async () => {
    await visit(page, "keys?search=%E2%80%A6");
    await page.getByText("3,030 keys", { exact: true }).waitFor();
    await page.getByLabel("Select this page").check();
    await page.getByText("50 selected").waitFor();
    await page.getByRole("button", { name: "Select all 3,030 that match" }).click();
    await page.getByText("3,030 selected").waitFor();
    await page.getByRole("region", { name: "Actions on the selection" }).getByRole("button", { name: "Disable" }).click();
    await page.getByRole("button", { name: "Disabled 3,030" }).waitFor();
    await page.getByRole("region", { name: "Actions on the selection" }).getByRole("button", { name: "Enable" }).click();
    await page.getByRole("button", { name: "Active 3,030" }).waitFor();
  });

  test("all are checked, with progress; it is stopped, goes on, and the invalid ones are deleted by number", async () => {
    await visit(page, "check");
    await page.getByRole("button", { name: "Start the check" }).click();
    await page.waitForFunction(() => Number(document.querySelector(".figure.valid .value")?.textContent.replace(",", "")) > 20);
    await page.getByRole("button", { name: "Stop" }).click();
    await page.getByText(/^Stopped at/).waitFor();
    await page.getByRole("button", { name: "Go on" }).click();
    await page.getByText(/^Finished: 3,030 of 3,030/).waitFor({ timeout: 120000 });
    assert.deepEqual(await page.locator(".figure .value").allTextContents(), ["3,000", "10", "20", "0"]);
    await page.getByRole("button", { name: "Delete the 20 invalid keys" }).click();
    await page.getByRole("dialog").getByText("Delete 20 invalid keys?").waitFor();
    await page.getByRole("dialog").getByRole("button", { name: "Delete the 20 invalid keys" }).click();
    await page.getByText("20 keys deleted").waitFor();
    await visit(page, "keys");
    await page.getByText("3,010 keys", { exact: true }).waitFor();
    // A list that was limited says nothing of the models' quotas; a generation does, of its model.
    await visit(page, "keys?search=limited");
    await page.getByRole("heading", { name: "No key matches" }).waitFor();
    await visit(page, "keys?sort=created_at&page=61");
    await page.getByText("Last check: Limited").first().waitFor();
    await visit(page, "check");
    await page.getByLabel("How").selectOption("generate");
    await page.getByLabel("Model", { exact: true }).fill(model);
    await page.getByRole("button", { name: "Start the check" }).click();
    await page.getByRole("button", { name: "Stop" }).waitFor();
    await page.getByText(/^Finished: 3,010 of 3,010/).waitFor({ timeout: 120000 });
    await visit(page, "keys?sort=created_at&page=61");
    await page.getByText(`${model} rests`).first().waitFor();
    const left = await page.locator("[data-until]").first().textContent();
    await page.waitForFunction((before) => document.querySelector("[data-until]").textContent !== before, left);
  });

  test("the playground streams an answer and tells what it took; the access key stays in memory", async () => {
    await visit(page, "playground");
    await page.getByLabel("Access key").fill(accessKey);
    await page.getByRole("button", { name: "Load models" }).click();
    await page.getByText(/models? to choose from/).waitFor();
    await page.getByLabel("Model", { exact: true }).fill(model);
    await page.getByLabel("Message").fill("Hello");
    await page.keyboard.press("Control+Enter");
    await page.getByText(/first token .* in all.*key /).waitFor();
    assert.ok((await page.locator(".turn.assistant .said").textContent()).length > 0);
    await assertNoSecret(page, [accessKey]);
    await page.getByLabel("Access key").fill("a-wrong-access-key");
    await page.getByLabel("Message").fill("Again");
    await page.getByRole("button", { name: "Send" }).click();
    await page.getByRole("alert").waitFor();
    assert.equal(await page.getByLabel("Message").inputValue(), "Again");
  });

  test("markup in notes, groups, keys and messages stays text", async () => {
    const attack = "<img src=x onerror=window.hit=1>\"'><script>window.hit=1</script>";
    await addByPaste(page, "sk-<img/src=x/onerror=window.hit=1>-0001", { Note: attack, Project: attack });
    await visit(page, "keys");
    await page.getByText(attack).first().waitFor();
    for (const screen of SCREENS) {
      await visit(page, screen);
      assert.equal(await page.evaluate(() => window.hit), undefined, screen);
      assert.equal(await page.locator('main img:not([alt=""]), main script').count(), 0, screen);
    }
    assert.deepEqual(page.errors, []);
  });

  test("language and theme are changed at once and kept", async () => {
    const other = await world.page();
    await signIn(other, world.url);
    await other.getByLabel("Language", { exact: true }).selectOption("zh");
    await other.getByRole("heading", { name: "概览" }).waitFor();
    await other.getByLabel("主题").selectOption("dark");
    assert.equal(await other.evaluate(() => document.documentElement.dataset.theme), "dark");
    await other.reload();
    await other.getByRole("heading", { name: "概览" }).waitFor();
    assert.equal(await other.evaluate(() => document.documentElement.dataset.theme), "dark");
    assert.equal(await other.evaluate(() => document.documentElement.lang), "zh-Hans");
    assert.deepEqual(await other.evaluate(() => Object.keys(localStorage).sort()), ["language", "theme"]);
    await other.context().close();
  });

  test("a session that ends in mid-work leads to signing in and back, with nothing lost", async () => {
    const other = await world.page();
    await signIn(other, world.url, "add");
    await other.getByLabel("Keys", { exact: true }).fill(keys(3, "good", "late").join("\n"));
    if (upstream) await other.getByLabel("Custom endpoint").fill(upstream);
    await other.context().clearCookies();
    await other.getByRole("button", { name: "Add 3 keys" }).click();
    await other.getByRole("heading", { name: "Sign in again" }).waitFor();
    await other.getByLabel("Administrator's key").fill(adminKey);
    await other.keyboard.press("Enter");
    await other.getByText("3 added, 0 already there, 0 refused.").waitFor();
    assert.match(other.url(), /#\/add$/);
    assert.deepEqual(other.errors, []);
    await other.context().close();
  });

  test("a file is imported, the JSON of an older version too, and one that is none is said to be none", async () => {
    const folder = await mkdtemp(join(tmpdir(), "keystorm-"));
    const file = async (name, text) => {
      const path = join(folder, name);
      await writeFile(path, text);
      await page.locator("input[type=file]").setInputFiles(path);
    };
    await visit(page, "settings");
    const [one, two, three] = keys(3, "good", "import");
    await file("older.json", JSON.stringify([{ api_key: one, status: "active", key_group: "old", endpoint_path: upstream }, { api_key: two, endpoint_path: upstream }]));
    await page.getByText("2 added, 0 already there, 0 refused.").waitFor();
    await file("list.txt", `${two}\n${three}\n${three}`);
    await page.getByText(/^Imported\. 1 added|^Imported\. 2 added/).or(page.getByText(/[12] added, [12] already there, 0 refused\./)).first().waitFor();
    await file("broken.json", '{"nothing": 1}');
    await page.getByRole("alert").getByText("The file cannot be read").waitFor();
    await visit(page, "keys?group=old");
    await page.getByText("1 key", { exact: true }).waitFor();
    await assertNoSecret(page, [one, two, three]);
  });

  test("another session is revoked, and its browser has to sign in", async () => {
    const other = await world.page();
    await signIn(other, world.url);
    await visit(page, "settings");
    const rows = page.getByRole("table", { name: "Sessions" }).locator("tbody tr");
    const before = await rows.count();
    assert.ok(before >= 2);
    assert.equal(await page.getByText("This one").count(), 1);
    const others = page.getByRole("button", { name: /^Revoke the \d+ others$/ });
    await (await others.count() ? others : rows.getByRole("button", { name: "Revoke" })).click();
    await page.getByText(/sessions? revoked/).first().waitFor();
    await page.waitForFunction(() => document.querySelectorAll("section table tbody tr").length > 0 && !document.querySelector('[aria-busy="true"]'));
    await visit(other, "overview").catch(() => {});
    await other.evaluate(() => { location.hash = "#/activity"; });
    await other.getByRole("heading", { name: "Sign in again" }).waitFor();
    await visit(page, "activity");
    await page.getByText("Sessions revoked").first().waitFor();
    await other.context().close();
  });

  test("every key's actions are in sight at every width", async () => {
    for (const width of [360, 600, 768, 1024, 1100, 1280, 1380, 1440, 1920]) {
      await page.setViewportSize({ width, height: 900 });
      // The used ones first: their cards are higher than their neighbours' words.
      await visit(page, "keys?sort=-requests");
      await page.locator("tbody .spark").first().waitFor();
      const right = await page.locator("tbody .acts").first().evaluate((acts) => acts.getBoundingClientRect().right);
      assert.ok(right <= width, `${right} of ${width}`);
      assert.ok(await page.evaluate(() => [...document.querySelectorAll(".scroll")].every((box) => box.scrollWidth <= box.clientWidth + 1)), `the table is cut at ${width}`);
      await page.getByRole("button", { name: "State", exact: true }).waitFor();
      const gaps = await page.locator("tbody tr").evaluateAll((rows) => rows.slice(0, 20).map((row) => row.querySelector(".where").getBoundingClientRect().top - row.querySelector("th").getBoundingClientRect().bottom));
      assert.ok(gaps.every((gap) => gap <= 4), `a key is ${Math.max(...gaps)} px from its type at ${width}`);
    }
    await page.setViewportSize({ width: 1280, height: 900 });
  });

  test("on a phone, what is tapped is 40 px, the menu opens where one is, and nothing lies over a snippet", async () => {
    const other = await world.page({ viewport: { width: 360, height: 640 }, hasTouch: true, isMobile: true });
    await signIn(other, world.url);
    await other.locator(".code").first().waitFor();
    assert.ok(await other.evaluate(() => [...document.querySelectorAll(".code")].every((box) => box.querySelector("button").getBoundingClientRect().top >= box.querySelector("pre").getBoundingClientRect().bottom)));
    for (const screen of SCREENS) {
      await visit(other, screen);
      const small = await other.evaluate(() => [...document.querySelectorAll("main :is(button, input, select, summary), .bar :is(a, button)")]
        .filter((control) => control.checkVisibility() && !control.classList.contains("sr"))
        .map((control) => ({ name: control.textContent || control.name, box: (control.closest("label") ?? control).getBoundingClientRect() }))
        .filter(({ box }) => box.width && (box.height < 40 || box.width < 40)).map(({ name, box }) => `${name}: ${box.width} x ${box.height}`));
      assert.deepEqual(small, [], screen);
    }
    await visit(other, "keys");
    await other.locator("tbody tr").nth(20).scrollIntoViewIfNeeded();
    const menu = other.getByRole("button", { name: "Menu" });
    await menu.tap();
    const link = other.getByRole("navigation", { name: "Main" }).getByRole("link", { name: "Settings" });
    assert.ok(await link.evaluate((item) => item.getBoundingClientRect().top > 0 && item.getBoundingClientRect().bottom < innerHeight));
    await other.keyboard.press("Escape");
    await link.waitFor({ state: "hidden" });
    assert.ok(await menu.evaluate((button) => button === document.activeElement));
    await menu.tap();
    await other.touchscreen.tap(180, 620);
    await link.waitFor({ state: "hidden" });
    await menu.tap();
    await link.tap();
    await other.getByRole("heading", { name: "Sessions" }).waitFor();
    assert.deepEqual(other.errors, []);
    await other.context().close();
  });

  test("signing out ends the session", async () => {
    const other = await world.page();
    await signIn(other, world.url);
    await other.getByRole("button", { name: "Sign out" }).click();
    await other.getByRole("heading", { name: "Sign in" }).waitFor();
    assert.equal(await other.evaluate(async () => (await fetch("/api/keys")).status), 401);
    await other.context().close();
  });

  test("the page works by keyboard alone", async () => {
    const other = await world.page();
    await signIn(other, world.url);
    await other.reload();
    await other.locator("main h1").waitFor();
    await other.keyboard.press("Tab");
    assert.equal(await other.evaluate(() => document.activeElement.textContent), "Skip to content");
    for (let presses = 0; presses < 12; presses += 1) {
      await other.keyboard.press("Tab");
      if (await other.evaluate(() => document.activeElement.dataset.screen === "keys")) break;
    }
    await other.keyboard.press("Enter");
    await other.getByRole("heading", { name: "Keys", exact: true }).waitFor();
    await other.waitForFunction(() => document.activeElement.tagName === "H1");
    await other.locator("tbody tr").first().waitFor();
    const opener = other.getByRole("button", { name: /^More actions/ }).first();
    await opener.focus();
    await other.keyboard.press("Enter");
    await other.keyboard.press("Tab");
    await other.keyboard.press("Tab");
    await other.keyboard.press("Enter");
    await other.getByRole("dialog").waitFor();
    await other.keyboard.press("Escape");
    await other.getByRole("dialog").waitFor({ state: "detached" });
    await other.context().close();
  });

  for (const [theme, width, locale] of [["light", 1440, "en-US"], ["dark", 768, "zh-CN"], ["light", 360, "zh-CN"], ["dark", 360, "en-US"], ["light", 1100, "en-US"], ["dark", 1440, "en-US"], ["light", 768, "en-US"]]) {
    test(`every screen is accessible and fits, ${theme} at ${width} px in ${locale}`, async () => {
      const other = await world.page({ viewport: { width, height: 800 }, colorScheme: theme, locale });
      await other.goto(world.url);
      await other.locator("dialog.door").waitFor();
      assert.deepEqual(await accessibilityFaults(other), [], "sign in");
      await signIn(other, world.url);
      for (const screen of SCREENS) {
        await visit(other, screen);
        assert.deepEqual(await accessibilityFaults(other), [], screen);
        assert.ok(await other.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${screen} is wider than the window`);
      }
      assert.deepEqual(other.errors, []);
      await other.context().close();
    });
  }

  test("no screen made the console complain", () => assert.deepEqual(page.errors, []));

  // Last, since it locks this address out for a while.
  test("too many wrong keys are made to wait, and the wait is counted down", async () => {
    const other = await world.page();
    await other.goto(world.url);
    for (let attempt = 0; attempt < 8; attempt += 1) {
      await other.getByLabel("Administrator's key").fill(`wrong-${attempt}`);
      await other.keyboard.press("Enter");
      const throttled = other.getByText("Too many attempts.");
      await throttled.or(other.getByText("That is not the administrator's key.")).waitFor();
      if (await throttled.isVisible()) break;
      await other.waitForTimeout(100);
    }
    await other.getByText("Too many attempts.").waitFor();
    assert.ok(await other.locator("dialog button[type=submit]").isDisabled());
    await other.waitForFunction(() => !document.querySelector("dialog button[type=submit]").disabled, undefined, { timeout: 20000 });
    await other.getByLabel("Administrator's key").fill(adminKey);
    await other.keyboard.press("Enter");
    await other.locator("dialog.door").waitFor({ state: "detached" });
    await other.context().close();
  });
});
