// The administrator's API. Failures are thrown as ApiError, with the server's words.

export class ApiError extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.code = error.code;
    this.retryAfter = error.retry_after;
  }
}

/** Calls the API. `offline` is what to say when nothing answers. */
export async function call(method, path, body, offline) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: body === undefined ? {} : { "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
    });
  } catch {
    throw new ApiError(0, { message: offline });
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(response.status, answer.error ?? { message: `${response.status}` });
  return answer;
}
