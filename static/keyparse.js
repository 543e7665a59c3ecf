// Reads keys out of whatever was pasted: a list, commas, an .env file, CSV, or JSON, KeyStorm's own exports among them.

const MAX_LENGTH = 4096;
const MIN_LENGTH = 8;
const NAMES = ["api_key", "apiKey", "key", "secret", "token"];

/**
 * `{fresh, duplicates, malformed, byType}`: `fresh` are `{key, line, source, own}`, each once, where `own` is what an export
 * says of a key's settings; `malformed` are `{key, line, why}`.
 */
export function parse(text) {
  const found = { fresh: [], duplicates: 0, malformed: [], byType: { gemini: 0, openai: 0, unknown: 0 } };
  const seen = new Set();
  for (const entry of entries(text)) {
    const why = fault(entry.key);
    const identity = `${entry.key}\n${entry.own.customEndpoint ?? ""}\n${entry.own.group ?? ""}`;
    if (why) found.malformed.push({ ...entry, why });
    else if (seen.has(identity)) found.duplicates += 1;
    else {
      seen.add(identity);
      found.fresh.push(entry);
      found.byType[entry.own.apiType ?? shape(entry.key)] += 1;
    }
  }
  return found;
}

/** The type that a key's beginning tells; a hint only. */
export function shape(key) {
  if (key.startsWith("AIza") || key.startsWith("AQ.")) return "gemini";
  return key.startsWith("sk-") ? "openai" : "unknown";
}

/** What may be shown of a key: at least eight characters and two thirds of it stay hidden, as the server does it. */
export function mask(key) {
  const characters = [...key];
  const shown = Math.max(0, Math.min(Math.floor((characters.length - 8) / 2), Math.floor(characters.length / 6), 4));
  return `${characters.slice(0, shown).join("")}…${shown ? characters.slice(-shown).join("") : ""}`;
}

function fault(key) {
  if (key.length < MIN_LENGTH) return "short";
  if (key.length > MAX_LENGTH) return "long";
  return /^[\x21-\x7e]+$/.test(key) ? null : "characters";
}

function entries(text) {
  const trimmed = text.trim();
  if (/^[[{"]/.test(trimmed)) {
    try {
      return fromJson(JSON.parse(trimmed));
    } catch {
      // One object a line, or not JSON after all.
      const lines = trimmed.split("\n").filter((line) => line.trim());
      if (lines.every((line) => line.trim().startsWith("{"))) {
        try {
          return fromJson(lines.map((line) => JSON.parse(line)));
        } catch {
          // Read as plain text below.
        }
      }
    }
  }
  const lines = text.split(/\r\n|\r|\n/);
  const columns = split(lines[0] ?? "").map((name) => name.trim());
  if (columns.length > 1 && columns.some((name) => NAMES.includes(name))) return fromCsv(lines, columns);
  return lines.flatMap((line, index) => fromLine(line).map((key) => ({ key, line: index + 1, source: key, own: {} })));
}

function fromLine(line) {
  const plain = line.trim();
  if (!plain || /^(#|\/\/)/.test(plain)) return [];
  const value = plain.replace(/^(export\s+)?[A-Z][A-Z0-9_]*\s*=\s*/, "").replace(/^(authorization:\s*)?bearer\s+/i, "");
  const parts = /[,;|]/.test(value) ? value.split(/[,;|]+/) : value.split(/\s+/).every((word) => word.length >= MIN_LENGTH) ? value.split(/\s+/) : [value];
  return parts.map((part) => part.trim().replace(/^["'`]+|["'`]+$/g, "").trim()).filter(Boolean);
}

function fromJson(value) {
  const list = Array.isArray(value) ? value : Array.isArray(value?.keys) ? value.keys : Array.isArray(value?.data) ? value.data : [value];
  return list.map((item, index) => {
    if (typeof item === "string") return { key: item.trim(), line: index + 1, source: item.trim(), own: {} };
    const record = item && typeof item === "object" ? item : {};
    return fromRecord(record, index + 1);
  });
}

function fromRecord(record, line) {
  const name = NAMES.find((candidate) => typeof record[candidate] === "string");
  const key = name ? record[name].trim() : "";
  const own = {};
  const type = record.apiType ?? record.api_type;
  if (type === "gemini" || type === "openai") own.apiType = type;
  const endpoint = record.customEndpoint ?? record.custom_endpoint ?? record.base_url ?? record.endpoint_path;
  if (typeof endpoint === "string" && /^https?:\/\//.test(endpoint)) own.customEndpoint = endpoint;
  for (const [ours, theirs] of [["group", "key_group"], ["note", "note"], ["project", "project"]]) {
    const value = record[ours] ?? record[theirs];
    if (typeof value === "string" && value) own[ours] = value;
  }
  for (const ours of ["priority", "weight"]) if (record[ours] !== undefined && record[ours] !== "" && Number.isFinite(Number(record[ours]))) own[ours] = Number(record[ours]);
  return { key, line, source: JSON.stringify({ api_key: key, ...own }), own };
}

function fromCsv(lines, columns) {
  return lines.slice(1).flatMap((line, index) => {
    if (!line.trim()) return [];
    const cells = split(line);
    return [fromRecord(Object.fromEntries(columns.map((name, at) => [name, cells[at] ?? ""])), index + 2)];
  });
}

/** The cells of a CSV line. */
function split(line) {
  return [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)].map(([, quoted, plain]) => (quoted === undefined ? plain : quoted.replaceAll('""', '"')));
}
