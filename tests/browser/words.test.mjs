// The dictionaries, and what reads keys out of pasted text: no browser needed.

import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { test } from "node:test";

const ROOT = fileURLToPath(new URL("../../static/", import.meta.url));
const load = async (name) => import(`data:text/javascript;base64,${(await readFile(ROOT + name)).toString("base64")}`);
const en = (await load("i18n/en.js")).default;
const zh = (await load("i18n/zh.js")).default;
const { parse, mask } = await load("keyparse.js");
const files = (await readdir(ROOT, { recursive: true })).filter((name) => name.endsWith(".js"));

test("both dictionaries have the same texts with the same blanks", () => {
  assert.deepEqual(Object.keys(zh).sort(), Object.keys(en).sort());
  const blanks = (text) => [...new Set((typeof text === "string" ? text : text.other).match(/\{\w+\}/g))].sort();
  for (const name of Object.keys(en)) assert.deepEqual(blanks(zh[name]), blanks(en[name]), name);
});

test("every text that a screen asks for exists", async () => {
  for (const name of files) {
    const source = await readFile(ROOT + name, "utf8");
    for (const [, asked] of source.matchAll(/\bt\("([\w.]+)"/g)) assert.ok(asked in en, `${name}: ${asked}`);
  }
});

test("nothing in the page writes markup or evaluates text", async () => {
  for (const name of files) {
    const source = await readFile(ROOT + name, "utf8");
    assert.doesNotMatch(source, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc/, name);
  }
});

test("a mask is the server's mask", () => {
  for (const [key, masked] of [["", "…"], ["short", "…"], ["sk-0123456789", "sk…89"], ["sk-abcdefghijklmnopqrstuvwxyz", "sk-a…wxyz"]]) assert.equal(mask(key), masked);
});

const A = "AIzaSyA-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1";
const B = "sk-bbbbbbbbbbbbbbbbbbbbbbbb2";
const cases = {
  "one a line, with comments and blank lines": [`# mine\n${A}\n\n  ${B}  \n`, [A, B], 0, 0],
  "commas and semicolons": [`${A}, ${B};${A}`, [A, B], 1, 0],
  "spaces between keys": [`${A} ${B}`, [A, B], 0, 0],
  "an .env file": [`export GEMINI_KEY="${A}"\nOPENAI_API_KEY=${B}`, [A, B], 0, 0],
  "a header": [`Authorization: Bearer ${B}`, [B], 0, 0],
  "a JSON list": [JSON.stringify([A, B, A]), [A, B], 1, 0],
  "an export": [JSON.stringify({ keys: [{ api_key: A, apiType: "gemini" }, { api_key: B }] }), [A, B], 0, 0],
  "the JSON of an older version": [JSON.stringify([{ api_key: A, status: "active", key_group: "g", endpoint_path: "/x" }]), [A], 0, 0],
  "CSV with a quoted note": [`api_key,note\n${A},"a, ""b"""\n${B},`, [A, B], 0, 0],
  "junk among keys": [`${A}\nhello world, this is no key\n短短短短短短短短短\n${B}`, [A, B], 0, 3],
  "nothing": ["  \n", [], 0, 0],
};
for (const [name, [text, found, duplicates, malformed]] of Object.entries(cases)) {
  test(`keys are read from ${name}`, () => {
    const parsed = parse(text);
    assert.deepEqual(parsed.fresh.map(({ key }) => key), found);
    assert.equal(parsed.duplicates, duplicates);
    assert.equal(parsed.malformed.length, malformed, JSON.stringify(parsed.malformed));
  });
}

test("what an export says of a key goes with it", () => {
  const [{ own }] = parse(JSON.stringify([{ api_key: A, key_group: "g", customEndpoint: "https://x.example/v1", weight: 3, note: "n" }])).fresh;
  assert.deepEqual(own, { customEndpoint: "https://x.example/v1", group: "g", note: "n", weight: 3 });
});
