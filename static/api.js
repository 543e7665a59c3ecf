// The administrator's API. A failure is an ApiError; an expired session is mended by signing in, after which the call is
// made again: whoever called does not notice.

export class ApiError extends Error {
  constructor(status, error = {}) {
    super(error.message ?? "");
    this.status = status;
    this.code = error.code;
    this.retryAfter = Number(error.retry_after) || 0;
  }
}

let signInAgain = null;

/** Sets what asks the administrator to sign in; it resolves once that is done. */
export function onExpiry(ask) {
  signInAgain = ask;
}

/** Calls the API and reads its JSON. */
export async function call(method, path, body, { signal } = {}) {
  const response = await send(method, path, body, { signal });
  if (response.status === 204) return {};
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(response.status, { code: "unreadable" });
  }
}

/** Calls the API and gives the answer as it is, once its status is known to be good. `body` may be text. */
export async function send(method, path, body, { signal, headers = {} } = {}) {
  const options = { method, signal, credentials: "same-origin", cache: "no-store", headers: { accept: "application/json", ...headers } };
  if (body !== undefined) {
    const isText = typeof body === "string";
    options.body = isText ? body : JSON.stringify(body);
    options.headers["content-type"] ??= isText ? "text/plain; charset=utf-8" : "application/json";
  }
  for (;;) {
    let response;
    try {
      response = await fetch(path, options);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(0, { code: "offline" });
    }
    if (response.ok) return response;
    if (response.status === 401 && signInAgain && path !== "/api/login") {
      await signInAgain();
      signal?.throwIfAborted();
      continue;
    }
    throw await failure(response);
  }
}

/** Reads what went wrong out of an answer. */
export async function failure(response) {
  const answer = await response.json().catch(() => ({}));
  const error = typeof answer?.error === "object" ? answer.error : { message: typeof answer?.error === "string" ? answer.error : undefined };
  return new ApiError(response.status, { ...error, retry_after: error.retry_after ?? response.headers.get("retry-after") });
}

/** The server-sent events of an answer, one at a time: `{event, data, id}`. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      rest += done ? "\n\n" : value;
      const blocks = rest.replaceAll("\r\n", "\n").split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const found = { event: "message", data: "", id: undefined };
        for (const line of block.split("\n")) {
          const colon = line.indexOf(":");
          if (colon < 1) continue;
          const value = line.slice(colon + 1).replace(/^ /, "");
          const name = line.slice(0, colon);
          if (name === "data") found.data += (found.data && "\n") + value;
          else if (name === "event" || name === "id") found[name] = value;
        }
        if (found.data) yield found;
      }
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** A query string of what is set. */
export function query(values) {
  const set = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return set.length ? `?${new URLSearchParams(set)}` : "";
}
