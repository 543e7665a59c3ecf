// The `openai` and `@google/genai` packages for Node, unmodified, through a pool of keys.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { GoogleGenAI } from "@google/genai";
import OpenAI from "openai";

const root = fileURLToPath(new URL("../..", import.meta.url));
const release = join(root, "target", "release");
const processes = [];
let keystorm;
let upstream;

function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

async function start(program, args, url, environment = {}) {
  processes.push(spawn(join(release, program), args, { env: { ...process.env, ...environment }, stdio: "ignore" }));
  for (let tries = 0; tries < 150; tries += 1) {
    if (await fetch(url).catch(() => null)) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`${url} did not answer`);
}

before(async () => {
  const [mock, port] = [await freePort(), await freePort()];
  upstream = `http://127.0.0.1:${mock}`;
  keystorm = `http://127.0.0.1:${port}`;
  await start("mock-upstream", [`127.0.0.1:${mock}`], `${upstream}/__calls`);
  await start(
    "keystorm-runner",
    ["up", "--from", join(root, "spin.toml"), "--listen", `127.0.0.1:${port}`, "--state-dir", mkdtempSync(join(tmpdir(), "keystorm-"))],
    `${keystorm}/healthz`,
    { SPIN_VARIABLE_AUTH_KEY: "access", SPIN_VARIABLE_HOME_ACCESS_KEY: "admin", SPIN_VARIABLE_OPENAI_BASE_URL: `${upstream}/v1`, SPIN_VARIABLE_GEMINI_BASE_URL: upstream },
  );
  for (const [apiType, keys] of [["openai", ["sk-good-0000000000000001", "sk-dead-00000000000000002"]], ["gemini", [`AIza${"0".repeat(35)}`]]]) {
    const answer = await fetch(`${keystorm}/api/keys`, {
      method: "POST",
      headers: { authorization: "Bearer admin", "content-type": "application/json" },
      body: JSON.stringify({ apiType, keys }),
    });
    assert.equal(answer.status, 200);
  }
});

after(() => processes.forEach((child) => child.kill()));

const messages = [{ role: "user", content: "hello there" }];

test("openai: a chat, a stream and the models", async () => {
  const client = new OpenAI({ baseURL: `${keystorm}/v1`, apiKey: "access", maxRetries: 0 });
  for (let round = 0; round < 5; round += 1) {
    const answer = await client.chat.completions.create({ model: "mock-large", messages });
    assert.equal(answer.choices[0].message.content, "You said: hello there");
  }
  let text = "";
  for await (const chunk of await client.chat.completions.create({ model: "mock-large", messages, stream: true })) {
    text += chunk.choices[0]?.delta.content ?? "";
  }
  assert.equal(text, "You said: hello there");
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.deepEqual(ids.sort(), ["gemini-2.5-flash", "mock-large", "mock-small"]);
});

test("openai: a wrong access key is an AuthenticationError", async () => {
  const client = new OpenAI({ baseURL: `${keystorm}/v1`, apiKey: "wrong", maxRetries: 0 });
  await assert.rejects(() => client.models.list(), OpenAI.AuthenticationError);
});

test("google-genai: native requests pass through", async () => {
  const client = new GoogleGenAI({ apiKey: "access", httpOptions: { baseUrl: keystorm } });
  const answer = await client.models.generateContent({ model: "gemini-2.5-flash", contents: "hi" });
  assert.equal(answer.text, "Hello from the mock.");
});
