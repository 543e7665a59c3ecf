//! A mock upstream on loopback that speaks enough of OpenAI's and Gemini's APIs for demonstrations and tests.
//!
//! How it answers is decided by the key: one with `limited` in it is rate-limited, with `dead` refused, with `broken`
//! answered 500; `POST /__faults {"KEY": "limited" | "dead" | "broken" | "cut" | ""}` changes that while it runs, and
//! `GET /__calls` tells how often each key was used.

#![allow(clippy::print_stdout, reason = "a command-line program says where it listens")]
#![allow(
    clippy::indexing_slicing,
    reason = "a JSON value that is indexed yields null where it has nothing"
)]

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

mod gemini;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// What the upstream remembers.
#[derive(Default)]
struct Memory {
    faults: Mutex<BTreeMap<String, String>>,
    calls: Mutex<BTreeMap<String, u64>>,
    /// By name: the key that owns it, and its size.
    files: Mutex<BTreeMap<String, (String, usize)>>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9900".to_owned());
    let address: SocketAddr = address
        .parse()
        .context("the one argument is the address to listen on")?;
    let listener = TcpListener::bind(address).await?;
    println!("mock upstream on http://{}", listener.local_addr()?);
    let memory = Arc::<Memory>::default();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let memory = Arc::clone(&memory);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let memory = Arc::clone(&memory);
                async move { Ok::<_, Infallible>(answer(&memory, request).await) }
            });
            // A client that goes away is no affair of the others.
            let _ = Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(memory: &Memory, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let json: Value = serde_json::from_slice(&body).unwrap_or_default();
    match head.uri.path() {
        "/__faults" => {
            for (key, fault) in json.as_object().into_iter().flatten() {
                lock(&memory.faults).insert(key.clone(), fault.as_str().unwrap_or_default().to_owned());
            }
            return reply(StatusCode::OK, &json!({}));
        }
        "/__calls" => return reply(StatusCode::OK, &json!(*lock(&memory.calls))),
        _ => {}
    }
    let key = key(&head.headers);
    *lock(&memory.calls).entry(key.clone()).or_default() += 1;
    let told = lock(&memory.faults).get(&key).cloned();
    let fault = told.unwrap_or_else(|| by_name(&key).to_owned());
    let path = head.uri.path();
    if path.starts_with("/upload/") {
        return upload(memory, &head, &key, body.len());
    }
    if let Some(name) = path
        .split("/files/")
        .nth(1)
        .filter(|_| head.headers.contains_key("x-goog-api-key"))
    {
        return file(memory, name, &key);
    }
    // Newer SDKs of Google's call /v1, older ones /v1beta; the key's header is theirs alone.
    let is_gemini = head.headers.contains_key("x-goog-api-key");
    if is_gemini && let Some((code, error)) = gemini::fault(&fault, &key) {
        return reply(
            StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            &error,
        );
    }
    match fault.as_str() {
        "limited" => {
            let error = json!({ "message": "Rate limit reached. Please try again in 20s.", "type": "requests", "param": null, "code": "rate_limit_exceeded" });
            let mut response = reply(StatusCode::TOO_MANY_REQUESTS, &json!({ "error": error }));
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, http::HeaderValue::from_static("20"));
            return response;
        }
        "dead" => {
            let message = format!("Incorrect API key provided: {key}.");
            let error = json!({ "message": message, "type": "invalid_request_error", "param": null, "code": "invalid_api_key" });
            return reply(StatusCode::UNAUTHORIZED, &json!({ "error": error }));
        }
        "broken" => {
            let error =
                json!({ "message": "The server had an error.", "type": "server_error", "param": null, "code": null });
            return reply(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "error": error }));
        }
        _ => {}
    }
    if path.ends_with("/chat/completions") {
        return chat(&json, fault == "cut");
    }
    if is_gemini {
        return gemini(path, head.uri.query().unwrap_or_default(), &json, fault == "cut");
    }
    if path.ends_with("/models") {
        let model = |id: &str| json!({ "id": id, "object": "model", "created": 1, "owned_by": "mock" });
        return reply(
            StatusCode::OK,
            &json!({ "object": "list", "data": [model("mock-large"), model("mock-small")] }),
        );
    }
    if path.ends_with("/embeddings") {
        let data = json!([{ "object": "embedding", "index": 0, "embedding": [0.6, 0.8] }]);
        let usage = json!({ "prompt_tokens": 1, "total_tokens": 1 });
        return reply(
            StatusCode::OK,
            &json!({ "object": "list", "data": data, "model": json["model"], "usage": usage }),
        );
    }
    // Everything else comes back as it was sent: enough to see that nothing is changed on the way.
    let content_type = head.headers.get(header::CONTENT_TYPE).cloned();
    let mut response = Response::new(Full::new(body).map_err(|never| match never {}).boxed_unsync());
    if let Some(content_type) = content_type {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    response
}

fn chat(request: &Value, cut: bool) -> Response<Body> {
    let Some(messages) = request["messages"].as_array().filter(|messages| !messages.is_empty()) else {
        let error = json!({ "message": "Missing required parameter: 'messages'.", "type": "invalid_request_error", "param": "messages", "code": "missing_required_parameter" });
        return reply(StatusCode::BAD_REQUEST, &json!({ "error": error }));
    };
    let asked = messages
        .last()
        .and_then(|message| message["content"].as_str())
        .unwrap_or_default();
    let text = format!("You said: {asked}");
    let usage = json!({ "prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14 });
    if request["stream"] != json!(true) {
        let message = json!({ "role": "assistant", "content": text, "refusal": null });
        let choice = json!({ "index": 0, "message": message, "finish_reason": "stop", "logprobs": null });
        return reply(
            StatusCode::OK,
            &json!({ "id": "chatcmpl-mock", "object": "chat.completion", "created": 1, "model": request["model"], "choices": [choice], "usage": usage }),
        );
    }
    let chunk = |delta: Value, finish: Option<&str>| {
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
        json!({ "id": "chatcmpl-mock", "object": "chat.completion.chunk", "created": 1, "model": request["model"], "choices": [choice] }).to_string()
    };
    let mut events = vec![chunk(json!({ "role": "assistant", "content": "" }), None)];
    events.extend(
        text.split_inclusive(' ')
            .map(|word| chunk(json!({ "content": word }), None)),
    );
    if cut {
        return streamed(events, "\n\n", true);
    }
    events.push(chunk(json!({}), Some("stop")));
    if request["stream_options"]["include_usage"] == json!(true) {
        events.push(json!({ "id": "chatcmpl-mock", "object": "chat.completion.chunk", "created": 1, "model": request["model"], "choices": [], "usage": usage }).to_string());
    }
    events.push("[DONE]".to_owned());
    streamed(events, "\n\n", false)
}

fn gemini(path: &str, query: &str, request: &Value, cut: bool) -> Response<Body> {
    match gemini::answer(path, request) {
        gemini::Answer::Whole(answer) => reply(StatusCode::OK, &answer),
        gemini::Answer::Events(mut events) if query.contains("alt=sse") => {
            if cut {
                events.pop();
            }
            streamed(events.iter().map(Value::to_string).collect(), "\r\n\r\n", cut)
        }
        gemini::Answer::Events(events) => reply(StatusCode::OK, &json!(events)),
        gemini::Answer::Refused(code, status, message) => {
            let error = json!({ "code": code, "message": message, "status": status });
            let code = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST);
            reply(code, &json!({ "error": error }))
        }
    }
}

/// A resumable upload: a URL for the bytes first, then the bytes. The key that begins it owns the file.
fn upload(memory: &Memory, head: &http::request::Parts, key: &str, length: usize) -> Response<Body> {
    let command = head
        .headers
        .get("x-goog-upload-command")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if command == "start" {
        let number = lock(&memory.files).len();
        lock(&memory.files).insert(format!("file-{number}"), (key.to_owned(), 0));
        let host = head
            .headers
            .get(header::HOST)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let url = format!(
            "http://{host}{}?upload_id=file-{number}&upload_protocol=resumable",
            head.uri.path()
        );
        let mut response = reply(StatusCode::OK, &json!({}));
        if let Ok(url) = http::HeaderValue::from_str(&url) {
            response.headers_mut().insert("x-goog-upload-url", url);
        }
        return response;
    }
    let id = head
        .uri
        .query()
        .and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("upload_id=")));
    let name = id.unwrap_or_default().to_owned();
    if let Some((_, size)) = lock(&memory.files).get_mut(&name) {
        *size += length;
    }
    let mut response = file(memory, &name, key);
    let is_last = command.contains("finalize");
    let status = http::HeaderValue::from_static(if is_last { "final" } else { "active" });
    response.headers_mut().insert("x-goog-upload-status", status);
    response
}

/// A file as its owner sees it; nobody else may.
fn file(memory: &Memory, name: &str, key: &str) -> Response<Body> {
    match lock(&memory.files).get(name) {
        Some((owner, size)) if owner == key => {
            let file = json!({ "name": format!("files/{name}"), "uri": format!("https://generativelanguage.googleapis.com/v1beta/files/{name}"), "sizeBytes": size.to_string(), "mimeType": "text/plain", "state": "ACTIVE" });
            reply(
                StatusCode::OK,
                &json!({ "file": file, "name": file["name"], "uri": file["uri"], "sizeBytes": file["sizeBytes"], "state": "ACTIVE" }),
            )
        }
        _ => {
            let message = format!("You do not have permission to access the File {name} or it may not exist.");
            let error = json!({ "code": 403, "message": message, "status": "PERMISSION_DENIED" });
            reply(StatusCode::FORBIDDEN, &json!({ "error": error }))
        }
    }
}

/// Server-sent events, a few milliseconds apart; `cut` breaks the connection behind the last one.
fn streamed(events: Vec<String>, end_of_event: &'static str, cut: bool) -> Response<Body> {
    let frames = events
        .into_iter()
        .map(move |event| Ok(Frame::data(Bytes::from(format!("data: {event}{end_of_event}")))));
    let end = cut.then(|| Err(std::io::Error::other("cut")));
    let frames = stream::unfold(
        frames.chain(end).collect::<Vec<_>>().into_iter(),
        |mut frames| async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Some((frames.next()?, frames))
        },
    );
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        http::HeaderValue::from_static("text/event-stream"),
    );
    response
}

fn reply(status: StatusCode, body: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(body.to_string()))
        .map_err(|never| match never {})
        .boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

fn key(headers: &HeaderMap) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text("authorization").and_then(|value| value.strip_prefix("Bearer "));
    bearer.or_else(|| text("x-goog-api-key")).unwrap_or_default().to_owned()
}

fn by_name(key: &str) -> &'static str {
    ["limited", "dead", "broken"]
        .into_iter()
        .find(|fault| key.contains(fault))
        .unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
