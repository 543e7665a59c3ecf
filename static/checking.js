// A check of keys: one at a time, outside of any screen, so that it goes on while the administrator looks elsewhere.

import { call, events, send } from "./api.js";

const KEPT_ROWS = 500;
const watchers = new Set();
let run = null;

export const checking = {
  /** Starts a check: `what` is `{ids}` or `{filter}`, with `mode` and `model` where generation is to be proved. */
  start(what) {
    run?.stopper?.abort();
    run = { what, recent: [], done: 0, counts: { valid: 0, invalid: 0, limited: 0, unknown: 0 }, total: 0, cursor: null, since: null, startedAt: Date.now(), spent: 0, running: false, finished: false, error: null };
    return this.resume();
  },
  /** Goes on from where it was stopped. */
  async resume() {
    const mine = run;
    if (!mine || mine.running) return;
    Object.assign(mine, { running: true, error: null, startedAt: Date.now(), stopper: new AbortController() });
    tell();
    try {
      do {
        mine.more = false;
        await stream(mine);
      } while (mine.more);
      mine.finished = true;
    } catch (error) {
      if (error.name !== "AbortError") mine.error = error;
    }
    mine.spent += Date.now() - mine.startedAt;
    mine.running = false;
    tell();
  },
  /** Stops it; what is done stays done. */
  stop() {
    run?.stopper?.abort();
  },
  /** Deletes what the provider refused in this run: by what the server has written down, however many there are. */
  async deleteInvalid() {
    const { deleted } = await call("DELETE", "/api/keys", { filter: { result: "invalid", checkedSince: run.since } });
    run.recent = run.recent.filter(({ result }) => result !== "invalid");
    run.done -= run.counts.invalid;
    run.total -= run.counts.invalid;
    run.counts.invalid = 0;
    tell();
    return deleted;
  },
  /** What there is to show. */
  view() {
    if (!run) return { running: false, done: 0, total: 0 };
    const { running, finished, error, counts, total, done, recent, spent, startedAt } = run;
    const elapsed = spent + (running ? Date.now() - startedAt : 0);
    return { exists: true, running, finished, error, counts, total: Math.max(total, done), done, rate: elapsed ? (done / elapsed) * 1000 : 0, rows: recent };
  },
  /** Calls back on every change, until the returned function is called. */
  watch(changed) {
    watchers.add(changed);
    return () => watchers.delete(changed);
  },
};

async function stream(mine) {
  const body = { ...mine.what, ...(mine.cursor === null ? {} : { cursor: mine.cursor }) };
  const response = await send("POST", "/api/keys/check", body, { signal: mine.stopper.signal, headers: { accept: "text/event-stream" } });
  let ended = false;
  for await (const { event, data, id } of events(response)) {
    const found = JSON.parse(data);
    if (event === "start") {
      mine.since ??= found.started_at;
      mine.total = mine.done + found.total;
      tell();
    } else if (event === "progress") {
      mine.done += 1;
      mine.counts[found.result] += 1;
      mine.recent.unshift(found);
      if (mine.recent.length > KEPT_ROWS) mine.recent.pop();
      mine.cursor = id;
      tell();
    } else if (event === "end") {
      ended = true;
      mine.more = found.cursor !== null;
      if (mine.more) mine.cursor = found.cursor;
    } else if (event === "error") {
      throw Object.assign(new Error(found.error?.message ?? data), { status: 502 });
    }
  }
  if (!ended) throw Object.assign(new Error(""), { status: 0 });
}

let planned = false;
/** Tells at most a few times a second, however fast results come. */
function tell() {
  if (planned) return;
  planned = true;
  setTimeout(() => {
    planned = false;
    for (const changed of watchers) changed();
  }, 60);
}
