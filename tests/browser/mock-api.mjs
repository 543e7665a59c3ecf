// The page's server for development and for the tests of its bad days: the administrator's API over keys in memory, the
// clients' side with a made-up model, and faults on demand (`POST /mock`). Listens on loopback alone.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

export const ADMIN_KEY = "admin-for-tests";
export const ACCESS_KEY = "access-for-tests";
const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml" };
const MODELS = ["gemini-2.5-pro", "gemini-2.5-flash", "gpt-4o-mini", "text-embedding-004"];
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Starts a server; `{url, close}`. */
export async function start(port = 0) {
  const state = { keys: [], nextId: 1, sessions: new Map(), failures: 0, blockedUntil: 0, events: [], aliases: { "gpt-4o": "gemini-2.5-pro" }, faults: {} };
  const server = createServer((request, response) => {
    handle(state, request, response).catch((error) => {
      if (!response.headersSent) json(response, 500, wrong(error.message, "server_error"));
      else response.destroy();
    });
  });
  await new Promise((ready) => server.listen(port, "127.0.0.1", ready));
  return { url: `http://127.0.0.1:${server.address().port}`, state, close: () => { server.closeAllConnections(); return new Promise((done) => server.close(done)); } };
}

async function handle(state, request, response) {
  const url = new URL(request.url, "http://mock");
  const { pathname } = url;
  const text = await body(request);
  if (pathname === "/" || pathname.startsWith("/assets/")) return asset(pathname, response);
  if (pathname === "/mock") {
    Object.assign(state.faults, JSON.parse(text).faults ?? {});
    if (JSON.parse(text).expire) state.sessions.clear();
    if (JSON.parse(text).attack) attack(state, JSON.parse(text).attack);
    if (JSON.parse(text).seed) seed(state, JSON.parse(text).seed);
    return json(response, 200, {});
  }
  if (/^(\/[^/]+)?\/v1\//.test(pathname)) return client(state, request, response, pathname, text);
  const fault = Object.entries(state.faults).find(([path, value]) => value && pathname.startsWith(path))?.[1];
  if (fault?.delay) await sleep(fault.delay);
  if (fault?.drop) return response.destroy();
  if (fault?.status) return json(response, fault.status, wrong(fault.message ?? "It failed.", fault.code ?? "server_error"));
  return admin(state, request, response, url, text ? parse(text) : undefined);
}

async function asset(pathname, response) {
  const name = pathname === "/" ? "index.html" : normalize(pathname.slice("/assets/".length));
  const policy = (await readFile(join(ROOT, "ui/content-security-policy.txt"), "utf8")).trim().split("\n").join("; ");
  try {
    const content = await readFile(join(ROOT, "static", name));
    response.writeHead(200, { "content-type": TYPES[extname(name)], "content-security-policy": policy, "x-content-type-options": "nosniff", "cache-control": "no-cache" });
    response.end(content);
  } catch {
    response.writeHead(404).end();
  }
}

async function admin(state, request, response, url, sent) {
  const { pathname, searchParams } = url;
  const route = `${request.method} ${pathname}`;
  const session = /auth-key=([^;]+)/.exec(request.headers.cookie ?? "")?.[1];
  const known = state.sessions.get(session);
  if (route === "POST /api/login") return login(state, response, sent);
  if (route === "GET /api/session") return json(response, 200, { signed_in: Boolean(known), warnings: known ? [{ code: "default_credentials" }, { code: "quota_families", keys: 10, families: 2 }] : [], version: "0.1.0", count_tokens: false, encryption: false });
  if (!known) return json(response, 401, wrong("Sign in first.", "invalid_api_key"));
  known.last_seen_at = Date.now();
  const secret = /^\/api\/keys\/(\d+)\/secret$/.exec(pathname);
  if (secret) {
    const key = state.keys.find(({ id }) => id === Number(secret[1]));
    if (key) record(state, "key_revealed", { key: key.masked });
    return key ? json(response, 200, { api_key: key.api_key }) : json(response, 404, wrong("There is no such key.", "not_found"));
  }
  switch (route) {
    case "POST /api/logout":
      state.sessions.delete(session);
      return json(response, 200, { ok: true });
    case "GET /api/keys": return list(state, response, searchParams);
    case "POST /api/keys": return json(response, 200, add(state, sent));
    case "POST /api/keys/import":
      if (typeof sent === "object" && !Array.isArray(sent)) return json(response, 400, wrong("The file cannot be read: its JSON is neither a list of keys nor one of objects with an 'api_key'.", null));
      return json(response, 200, add(state, { keys: Array.isArray(sent) ? sent.map((item) => item.api_key ?? item) : String(sent).split(/\s+/).filter(Boolean) }));
    case "GET /api/keys/export":
      response.writeHead(200, { "content-type": "application/json", "content-disposition": "attachment; filename=keys.json" });
      return response.end(JSON.stringify(state.keys.map(({ api_key, group, apiType }) => ({ api_key, group, apiType }))));
    case "PATCH /api/keys":
      for (const key of meant(state, sent)) {
        Object.assign(key, sent.set);
        if ("enabled" in sent.set) key.status = sent.set.enabled ? "active" : "disabled";
      }
      record(state, "keys_changed", { set: sent.set });
      return json(response, 200, { changed: meant(state, sent).length });
    case "DELETE /api/keys": {
      const gone = new Set(meant(state, sent));
      state.keys = state.keys.filter((key) => !gone.has(key));
      record(state, "keys_deleted", { count: gone.size });
      return json(response, 200, { deleted: gone.size });
    }
    case "POST /api/keys/check": return check(state, response, sent, request);
    case "GET /api/endpoints": {
      const groups = groupBy(state.keys, ({ group }) => group);
      const bases = groupBy(state.keys, ({ customEndpoint }) => customEndpoint);
      return json(response, 200, { groups: [...groups].map(([name, keys]) => ({ name, keys: keys.length })), endpoints: [...bases].map(([base_url, keys]) => ({ api_type: keys[0].apiType, base_url, keys: keys.length, models: MODELS })) });
    }
    case "GET /api/stats": return json(response, 200, stats(searchParams.get("range"), state.keys.length));
    case "GET /api/events": return json(response, 200, { events: state.events.slice(0, Number(searchParams.get("limit")) || 100) });
    case "GET /api/settings": return json(response, 200, { aliases: state.aliases, effective: [{ name: "auth_key", value: "set", source: "default", secret: true }, { name: "encryption_key", value: "", source: "default", secret: true }, { name: "selection", value: "random", source: "default", secret: false }, { name: "max_attempts", value: "12", source: "variable", secret: false }, { name: "openai_base_url", value: "https://api.openai.com/v1", source: "default", secret: false }] });
    case "PUT /api/settings":
      state.aliases = sent.aliases;
      return json(response, 200, { aliases: state.aliases });
    case "GET /api/egress": return json(response, 200, { country: "DE", address: "203.0.113.7", asked: "trace.example" });
    case "GET /api/sessions": return json(response, 200, { sessions: [...state.sessions].map(([id, times]) => ({ id, ...times, current: id === session })) });
    case "DELETE /api/sessions":
      for (const id of sent.ids) state.sessions.delete(id);
      return json(response, 200, { revoked: sent.ids.length });
    default: return json(response, 404, wrong(`Unknown request URL: ${route}.`, "unknown_url"));
  }
}

function login(state, response, sent) {
  const wait = Math.ceil((state.blockedUntil - Date.now()) / 1000);
  if (wait > 0) {
    response.setHeader("retry-after", wait);
    return json(response, 429, { error: { ...wrong("Too many attempts.", "rate_limit_exceeded").error, retry_after: wait } });
  }
  if (sent.key !== ADMIN_KEY) {
    state.failures += 1;
    if (state.failures >= 5) state.blockedUntil = Date.now() + 1000 * 2 ** Math.min(9, state.failures - 5);
    return json(response, 401, wrong("That is not the administrator's key.", "invalid_api_key"));
  }
  state.failures = 0;
  const id = crypto.randomUUID();
  state.sessions.set(id, { created_at: Date.now(), last_seen_at: Date.now() });
  record(state, "login", "");
  response.setHeader("set-cookie", `auth-key=${id}; HttpOnly; SameSite=Strict; Path=/`);
  return json(response, 200, { ok: true });
}

function matches(key, filter) {
  const search = (filter.search ?? "").toLowerCase();
  return (!filter.status || key.status === filter.status) && (!filter.apiType || key.apiType === filter.apiType) && (!filter.group || key.group === filter.group) && (!filter.endpoint || key.customEndpoint === filter.endpoint) && (!filter.result || key.last_result === filter.result) && (!filter.checkedSince || key.last_checked_at >= Number(filter.checkedSince))
    && (!search || [key.masked, key.note, key.group, key.customEndpoint, key.last_error].join("\n").toLowerCase().includes(search));
}

function meant(state, sent) {
  if (sent.ids) return state.keys.filter(({ id }) => sent.ids.includes(id));
  return state.keys.filter((key) => matches(key, sent.filter ?? {}));
}

function list(state, response, params) {
  const filter = Object.fromEntries(params);
  const found = state.keys.filter((key) => matches(key, filter));
  const sort = filter.sort ?? "id";
  const name = sort.replace("-", "");
  found.sort((a, b) => ((a[name] > b[name]) - (a[name] < b[name]) || a.id - b.id) * (sort.startsWith("-") ? -1 : 1));
  const page = Number(filter.page) || 1;
  const size = Number(filter.pageSize) || 50;
  const counts = { active: 0, cooling_down: 0, dead: 0, disabled: 0 };
  for (const key of state.keys.filter((key) => matches(key, { ...filter, status: "" }))) counts[key.status] += 1;
  json(response, 200, { keys: found.slice((page - 1) * size, page * size).map(({ api_key, ...rest }) => (filter.mask ? rest : { api_key, ...rest })), total: found.length, counts });
}

function add(state, sent) {
  const known = new Set(state.keys.map((key) => `${key.api_key} ${key.customEndpoint} ${key.group}`));
  const answer = { added: 0, duplicates: 0, invalid: [], results: [] };
  for (const text of sent.keys) {
    const key = { id: state.nextId, api_key: text, masked: mask(text), apiType: sent.apiType || (/^(AIza|AQ\.)/.test(text) ? "gemini" : "openai"), customEndpoint: sent.customEndpoint ?? "", group: sent.group ?? "", status: "active", reason: "", until: null, priority: sent.priority ?? 0, weight: sent.weight ?? 1, note: sent.note ?? "", project: sent.project ?? "", failed_count: 0, last_error: "", last_checked_at: null, last_result: "", last_used_at: null, rests: [], created_at: Date.now(), requests: 0, failures: 0 };
    const identity = `${text} ${key.customEndpoint} ${key.group}`;
    if (text.length < 8) answer.invalid.push({ key: mask(text), reason: "shorter than 8 characters" });
    else if (known.has(identity)) answer.duplicates += 1;
    else {
      known.add(identity);
      state.keys.push(key);
      state.nextId += 1;
      answer.added += 1;
      answer.results.push("added");
      continue;
    }
    answer.results.push(text.length < 8 ? "invalid" : "duplicate");
  }
  if (answer.added) record(state, "keys_added", { count: answer.added });
  return { ...answer, message: `${answer.added} added` };
}

/** Judges a key by what is written in it, as the mock upstream does: `dead`, `limited`, anything else is good. */
async function check(state, response, sent, request) {
  let gone = false;
  response.on("close", () => { gone = true; });
  const all = meant(state, sent);
  const from = sent.cursor ? all.findIndex(({ id }) => id > Number(sent.cursor)) : 0;
  const counts = { valid: 0, invalid: 0, limited: 0, unknown: 0 };
  const isStream = request.headers.accept === "text/event-stream";
  const startedAt = Date.now();
  if (isStream) {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(`event: start\ndata: ${JSON.stringify({ started_at: startedAt, total: from < 0 ? 0 : all.length - from })}\n\n`);
  }
  for (const [index, key] of all.entries()) {
    if (index < from || from < 0) continue;
    if (gone) return undefined;
    const result = key.api_key.includes("dead") ? "invalid" : key.api_key.includes("limited") ? "limited" : "valid";
    Object.assign(key, { last_result: result, last_checked_at: Date.now() }, result === "invalid" ? { status: "dead", rule: "O1", reason: "Incorrect API key provided.", last_error: "Incorrect API key provided." } : result === "valid" ? { status: "active", until: null, reason: "" } : {});
    if (result === "limited" && sent.mode === "generate") key.rests = [{ model: sent.model, until: Date.now() + 60000, rule: "O5" }];
    counts[result] += 1;
    if (isStream) response.write(`id: ${key.id}\nevent: progress\ndata: ${JSON.stringify({ id: key.id, masked: key.masked, result, latency_ms: 20 + (key.id % 70), message: state.message ?? (result === "valid" ? "" : result === "invalid" ? "Incorrect API key provided." : "Rate limit reached."), done: index + 1, total: all.length })}\n\n`);
    if (state.faults.checkDelay) await sleep(state.faults.checkDelay);
    else if (index % 50 === 0) await sleep(5);
  }
  record(state, "keys_checked", counts);
  if (!isStream) return json(response, 200, { counts, cursor: null });
  return response.end(`event: end\ndata: ${JSON.stringify({ cursor: null, counts })}\n\n`);
}

async function client(state, request, response, pathname, text) {
  if (request.headers.authorization !== `Bearer ${ACCESS_KEY}`) return json(response, 401, wrong("Incorrect access key.", "invalid_api_key"));
  if (pathname.endsWith("/models")) return json(response, 200, { object: "list", data: (state.models ?? MODELS).map((id) => ({ id, object: "model" })) });
  const sent = parse(text);
  if (state.message) return json(response, 400, wrong(state.message, "invalid_value"));
  if (sent.model === "missing") return json(response, 404, wrong("The model 'missing' does not exist.", "model_not_found"));
  response.writeHead(200, { "content-type": "text/event-stream", "x-keystorm-key": Buffer.from("AIza…k3Yz").toString("latin1"), "x-keystorm-attempts": "2" });
  const say = (data) => response.write(`data: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`);
  for (const word of "Hello! This answer comes <b>word</b> by word.".split(/(?<= )/)) {
    say({ choices: [{ index: 0, delta: { content: word } }] });
    await sleep(30);
    if (sent.model === "broken" && word.startsWith("answer")) return response.end();
  }
  say({ choices: [], usage: { prompt_tokens: 12, completion_tokens: 9, total_tokens: 21 } });
  return response.end("data: [DONE]\n\n");
}

function stats(range, isBusy) {
  const [count, size] = { "1h": [12, 300e3], "24h": [24, 3600e3], "7d": [28, 6 * 3600e3], "90d": [90, 86400e3] }[range] ?? [24, 3600e3];
  const now = Math.floor(Date.now() / size) * size;
  const sums = (n, bad) => ({ requests: n, successes: n - bad, failures: bad, prompt_tokens: n * 420, completion_tokens: n * 180, total_tokens: n * 600, latency_sum_ms: n * (700 + (n % 9) * 90), latency_max_ms: 2200 + (n % 7) * 800 });
  const buckets = Array.from({ length: count }, (_, index) => {
    const n = isBusy ? Math.round(300 + 240 * Math.sin(index / 3.3) + ((index * 7919) % 90)) : 0;
    return { at: now - (count - 1 - index) * size, ...sums(n, isBusy ? (index * 31) % 23 : 0) };
  });
  return { buckets, models: isBusy ? [{ model: "gemini-2.5-flash", ...sums(4800, 120) }, { model: "gemini-2.5-pro", ...sums(1700, 80) }, { model: "gpt-4o-mini", ...sums(620, 14) }] : [], faults: isBusy ? { rate_limit: 140, overload: 51, credential: 9, transport: 4 } : {} };
}

/** Fills the pool with keys of every state. */
function seed(state, count) {
  for (let index = 0; index < count; index += 1) {
    const isGemini = index % 3 !== 0;
    add(state, { keys: [isGemini ? `AIzaSyMock${String(index).padStart(6, "0")}abcdefghijklmnopqrstuvw` : `sk-mock-${index % 11 === 0 ? "dead" : "good"}-${String(index).padStart(8, "0")}-abcdefgh`], group: index % 9 === 4 ? "research" : "", note: index % 5 === 0 ? `team ${index % 7}` : "", customEndpoint: isGemini ? "" : index % 6 ? "https://api.openai.com/v1" : "https://models.internal.example.com/inference/openai/v1" });
    const key = state.keys.at(-1);
    Object.assign(key, { requests: (index * 7919) % 5000, failures: (index * 31) % 90, usage: Array.from({ length: 24 }, (_, hour) => (index * 13 + hour * hour * 7) % 40), last_used_at: Date.now() - ((index * 97001) % 9e7), created_at: Date.now() - index * 6e4 });
    key.failures = Math.min(key.failures, key.requests);
    if (index % 13 === 5) Object.assign(key, { status: "cooling_down", rule: "G15", reason: "rate_limit", until: Date.now() + 45000 + index * 1000, last_error: "Quota exceeded for metric: generate_content_free_tier_requests, limit: 15" });
    if (index % 11 === 2) Object.assign(key, { rests: [{ model: "gemini-2.5-pro", until: Date.now() + 20000 + index * 500, rule: "G15" }, { model: "gemini-2.5-flash", until: Date.now() + 4e7, rule: "G14" }].slice(0, 1 + (index % 2)) });
    if (index % 17 === 3) Object.assign(key, { status: "dead", rule: "G1", reason: "api_key_invalid", last_error: "API key not valid. Please pass a valid API key." });
    if (index % 29 === 7) Object.assign(key, { status: "disabled" });
  }
}

/** Writes a text wherever a stranger's words can get: into keys, their messages, models' names and the trail. */
function attack(state, text) {
  for (const [index, key] of state.keys.entries()) {
    Object.assign(key, { masked: text, note: text, group: text, customEndpoint: text, project: text, rule: text, reason: text, last_error: text, rests: [{ model: text, until: Date.now() + 60000, rule: text }], status: ["active", "cooling_down", "dead"][index % 3], until: Date.now() + 60000 });
  }
  state.message = text;
  state.models = [text];
  state.aliases = { [text]: text };
  record(state, text, text);
}

/** A map from what `of` gives to the items that gave it. */
function groupBy(items, of) {
  const groups = new Map();
  for (const item of items) groups.set(of(item), [...(groups.get(of(item)) ?? []), item]);
  return groups;
}

const record = (state, action, detail) => state.events.unshift({ id: state.events.length + 1, at: Date.now(), actor: "admin", action, detail });
const wrong = (message, code) => ({ error: { message, type: "invalid_request_error", param: null, code } });
const parse = (text) => { try { return JSON.parse(text); } catch { return text; } };

function mask(secret) {
  const shown = Math.max(0, Math.min(Math.floor((secret.length - 8) / 2), Math.floor(secret.length / 6), 4));
  return `${secret.slice(0, shown)}…${shown ? secret.slice(-shown) : ""}`;
}

function json(response, status, value) {
  response.writeHead(status, { "content-type": "application/json", "cache-control": "no-store" });
  response.end(JSON.stringify(value));
}

async function body(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const mock = await start(Number(process.argv[2]) || 8099);
  seed(mock.state, 340);
  process.stdout.write(`${mock.url} (administrator's key: ${ADMIN_KEY}, access key: ${ACCESS_KEY})\n`);
}
