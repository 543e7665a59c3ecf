// The `openai` and `@google/genai` packages for Node, unmodified, through a pool of keys.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { GoogleGenAI } from "@google/genai";
import { generateText, jsonSchema, streamText, tool as aiTool } from "ai";
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
    ["up", "--from", join(root, process.env.KEYSTORM_MANIFEST ?? "spin.toml"), "--listen", `127.0.0.1:${port}`, "--state-dir", mkdtempSync(join(tmpdir(), "keystorm-"))],
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

test("Vercel AI SDK: a text, a stream, and a tool of a Gemini model", async () => {
  const provider = createOpenAICompatible({ name: "keystorm", baseURL: `${keystorm}/v1`, apiKey: "access" });
  const { text } = await generateText({ model: provider("mock-large"), prompt: "hello there", maxRetries: 0 });
  assert.equal(text, "You said: hello there");
  let streamed = "";
  for await (const piece of streamText({ model: provider("mock-large"), prompt: "hello there", maxRetries: 0 }).textStream) streamed += piece;
  assert.equal(streamed, "You said: hello there");
  const weather = aiTool({ description: "weather", inputSchema: jsonSchema({ type: "object", properties: { city: { type: "string" } } }) });
  const { toolCalls } = await generateText({ model: provider("gemini-2.5-flash"), prompt: 'call:weather({"city":"Oslo"})', tools: { weather }, maxRetries: 0 });
  assert.deepEqual(toolCalls.map((call) => [call.toolName, call.input]), [["weather", { city: "Oslo" }]]);
});

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
  for (const id of ["gemini-2.5-flash", "gemini-3-flash-preview", "mock-large", "mock-small"]) assert.ok(ids.includes(id), id);
});

test("openai: a wrong access key is an AuthenticationError", async () => {
  const client = new OpenAI({ baseURL: `${keystorm}/v1`, apiKey: "wrong", maxRetries: 0 });
  await assert.rejects(() => client.models.list(), OpenAI.AuthenticationError);
});

const tool = (name) => ({
  type: "function",
  function: { name, description: name, parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] } },
});

test("openai: a tools loop with Gemini 3, streamed", async () => {
  const client = new OpenAI({ baseURL: `${keystorm}/v1`, apiKey: "access", maxRetries: 0 });
  const model = "gemini-3-flash-preview";
  const tools = [tool("weather"), tool("news")];
  const asked = { role: "user", content: 'call:weather({"city":"Oslo"}) call:news({"city":"Rome"})' };
  const first = await client.chat.completions.stream({ model, messages: [asked], tools }).finalChatCompletion();
  const message = first.choices[0].message;
  assert.equal(first.choices[0].finish_reason, "tool_calls");
  assert.deepEqual(message.tool_calls.map((call) => [call.function.name, JSON.parse(call.function.arguments).city]), [["weather", "Oslo"], ["news", "Rome"]]);
  const results = message.tool_calls.map((call) => ({ role: "tool", tool_call_id: call.id, content: `of ${call.function.name}` }));
  const last = await client.chat.completions.create({ model, messages: [asked, message, ...results], tools });
  assert.equal(last.choices[0].message.content, 'Results: weather -> {"output":"of weather"}; news -> {"output":"of news"}');
  assert.equal(last.usage.total_tokens, 10);
});

test("openai: Gemini's structured output, images, embeddings and errors", async () => {
  const client = new OpenAI({ baseURL: `${keystorm}/v1`, apiKey: "access", maxRetries: 0 });
  const model = "gemini-2.5-flash";
  const schema = { type: "object", properties: { name: { type: "string" }, sure: { type: "boolean" } }, required: ["name", "sure"], additionalProperties: false };
  const parsed = await client.chat.completions.parse({ model, messages, response_format: { type: "json_schema", json_schema: { name: "s", schema, strict: true } } });
  assert.deepEqual(parsed.choices[0].message.parsed, { name: "text", sure: true });
  const content = [{ type: "text", text: "see" }, { type: "image_url", image_url: { url: "data:image/png;base64,AAAA" } }];
  const seen = await client.chat.completions.create({ model, messages: [{ role: "user", content }] });
  assert.equal(seen.choices[0].message.content, "[image/png, 4 base64 digits] You said: see");
  const embedded = await client.embeddings.create({ model: "gemini-embedding-001", input: ["a", "b"] });
  assert.ok(Math.abs(embedded.data[1].embedding.reduce((sum, value) => sum + value * value, 0) - 1) < 1e-5);
  await assert.rejects(() => client.chat.completions.create({ model, messages: [{ role: "judge", content: "x" }] }), (error) => error instanceof OpenAI.BadRequestError && error.param === "messages[0].role");
  await assert.rejects(() => client.chat.completions.create({ model: "gemini-9-none", messages }), (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found");
});

test("google-genai: native requests and streams pass through", async () => {
  const client = new GoogleGenAI({ apiKey: "access", httpOptions: { baseUrl: keystorm } });
  const model = "gemini-2.5-flash";
  const answer = await client.models.generateContent({ model, contents: "hi" });
  assert.equal(answer.text, "You said: hi");
  let text = "";
  for await (const chunk of await client.models.generateContentStream({ model, contents: "hi" })) text += chunk.text ?? "";
  assert.equal(text, "You said: hi");
  const embedded = await client.models.embedContent({ model: "gemini-embedding-001", contents: ["a", "b"] });
  assert.equal(embedded.embeddings.length, 2);
});
