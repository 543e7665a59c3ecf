// What the page weighs and how it is kept: against the real components at BASE_URL.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { open, signIn } from "./support.mjs";

describe("the page's files", { concurrency: false }, () => {
  let world;
  before(async () => { world = await open(); });
  after(() => world.close());

  test("the first load is under 60 KB, the second asks for the page alone", async (t) => {
    const page = await world.page();
    const network = await page.context().newCDPSession(page);
    await network.send("Network.enable");
    let received = [];
    network.on("Network.responseReceived", ({ requestId, response }) => received.push({ requestId, url: response.url, status: response.status, cached: response.fromDiskCache, policy: response.headers["content-security-policy"] }));
    const sizes = new Map();
    network.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => sizes.set(requestId, encodedDataLength));
    const bytes = () => received.reduce((sum, { requestId }) => sum + (sizes.get(requestId) ?? 0), 0);
    const started = performance.now();
    await page.goto(world.url);
    await page.locator("dialog.door").waitFor();
    t.diagnostic(`sign-in: ${(bytes() / 1024).toFixed(1)} KB in ${received.length} answers, shown after ${Math.round(performance.now() - started)} ms`);
    await signIn(page, world.url);
    await page.locator(".figures, .empty").first().waitFor();
    const files = received.filter(({ url }) => !url.includes("/api/"));
    const whole = files.reduce((sum, { requestId }) => sum + (sizes.get(requestId) ?? 0), 0);
    t.diagnostic(`with the overview: ${(whole / 1024).toFixed(1)} KB of files in ${files.length} answers`);
    assert.ok(whole < 60 * 1024, `${whole} bytes`);
    assert.ok(files.every(({ status }) => status === 200));
    for (const { policy } of files) {
      assert.match(policy, /^default-src 'none'; /);
      assert.doesNotMatch(policy, /unsafe|\*|data:/);
    }
    received = [];
    sizes.clear();
    const again = performance.now();
    await page.reload();
    await page.locator("main h1").waitFor();
    const asked = received.filter(({ url, cached }) => !url.includes("/api/") && !cached && (sizes.get(received.find((one) => one.url === url).requestId) ?? 0) > 0);
    t.diagnostic(`again: shown after ${Math.round(performance.now() - again)} ms, ${asked.length} file(s) asked for`);
    assert.ok(asked.length <= 1, JSON.stringify(asked));
    assert.deepEqual(page.errors, []);
    await page.context().close();
  });

  test("files are compressed beforehand, tagged, and not sent again", async () => {
    const page = await (await fetch(world.url)).text();
    const [path] = /\/assets\/[0-9a-f]{16}\/app\.js/.exec(page);
    for (const [name, asked] of [["the page", "/"], ["a script", path]]) {
      const plain = await fetch(world.url + asked, { headers: { "accept-encoding": "identity" } });
      const packed = await fetch(world.url + asked, { headers: { "accept-encoding": "br, gzip" } });
      assert.deepEqual([plain.headers.get("content-encoding"), packed.headers.get("content-encoding")], [null, "br"], name);
      assert.equal(await plain.text(), await packed.text(), name);
      assert.equal(packed.headers.get("vary"), "accept-encoding");
      const etag = packed.headers.get("etag");
      const known = await fetch(world.url + asked, { headers: { "accept-encoding": "br, gzip", "if-none-match": etag } });
      assert.equal(known.status, 304, name);
      assert.equal((await known.arrayBuffer()).byteLength, 0);
      assert.equal(packed.headers.get("cache-control"), asked === "/" ? "no-cache" : "public, max-age=31536000, immutable");
    }
  });
});
