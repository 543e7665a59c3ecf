//! A mock upstream for measurements: it answers as fast as it can, in OpenAI's and in Gemini's dialect, and looks at as little
//! as it can.
//!
//! The model's name says how: one with `load-20-5` in it streams 20 events, 5 ms apart, where a stream is asked for. A key
//! with `limited` in it is rate-limited.

#![allow(clippy::print_stdout, reason = "a command-line program says where it listens")]

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

type Body = UnsyncBoxBody<Bytes, Infallible>;

#[tokio::main]
async fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9901".to_owned());
    let address: SocketAddr = address
        .parse()
        .context("the one argument is the address to listen on")?;
    let listener = TcpListener::bind(address).await?;
    println!("load upstream on http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let service = service_fn(async |request| Ok::<_, Infallible>(answer(request).await));
            // A client that goes away is no affair of the others.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Response<Body> {
    let (head, mut body) = request.into_parts();
    let mut beginning = Bytes::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(data) = frame.into_data()
            && beginning.is_empty()
        {
            beginning = data;
        }
    }
    let path = head.uri.path();
    let dialect = Dialect::of(path);
    if is_limited(&head.headers) {
        return limited(dialect);
    }
    let text = std::str::from_utf8(&beginning).unwrap_or_default();
    let is_stream = match dialect {
        Dialect::Gemini => path.ends_with(":streamGenerateContent"),
        Dialect::OpenAi => text.contains("\"stream\":true") || text.contains("\"stream\": true"),
    };
    if is_stream {
        let (events, apart_ms) = shape(path).or_else(|| shape(text)).unwrap_or((1, 0));
        streamed(dialect, events, Duration::from_millis(apart_ms))
    } else {
        reply(StatusCode::OK, "application/json", full(dialect.whole()))
    }
}

#[derive(Clone, Copy)]
enum Dialect {
    OpenAi,
    Gemini,
}

impl Dialect {
    fn of(path: &str) -> Self {
        if path.starts_with("/v1beta/") && !path.starts_with("/v1beta/openai/") {
            Self::Gemini
        } else {
            Self::OpenAi
        }
    }

    /// An answer that is not streamed.
    const fn whole(self) -> &'static str {
        match self {
            Self::OpenAi => {
                r#"{"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion","created":1741569952,"model":"load","choices":[{"index":0,"message":{"role":"assistant","content":"Hello! How can I assist you today? I can help with questions, drafts, code and much else: only say what you need.","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},"service_tier":"default"}"#
            }
            Self::Gemini => {
                r#"{"candidates":[{"content":{"parts":[{"text":"Hello! How can I assist you today? I can help with questions, drafts, code and much else: only say what you need."}],"role":"model"},"finishReason":"STOP","index":0,"avgLogprobs":-0.05}],"usageMetadata":{"promptTokenCount":19,"candidatesTokenCount":10,"totalTokenCount":29,"promptTokensDetails":[{"modality":"TEXT","tokenCount":19}],"candidatesTokensDetails":[{"modality":"TEXT","tokenCount":10}]},"modelVersion":"gemini-load","responseId":"Nm9oaM6XGfqS1MkP"}"#
            }
        }
    }

    /// One event of a stream.
    fn event(self, is_last: bool) -> Bytes {
        Bytes::from_static(match (self, is_last) {
            (Self::OpenAi, false) => {
                b"data: {\"id\":\"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT\",\"object\":\"chat.completion.chunk\",\"created\":1741569952,\"model\":\"load\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_44709d6fcb\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" and a few more words\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n"
            }
            (Self::OpenAi, true) => {
                b"data: {\"id\":\"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT\",\"object\":\"chat.completion.chunk\",\"created\":1741569952,\"model\":\"load\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_44709d6fcb\",\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"
            }
            (Self::Gemini, false) => {
                b"data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \" and a few more words\"}],\"role\": \"model\"},\"index\": 0}],\"usageMetadata\": {\"promptTokenCount\": 19,\"candidatesTokenCount\": 10,\"totalTokenCount\": 29,\"promptTokensDetails\": [{\"modality\": \"TEXT\",\"tokenCount\": 19}]},\"modelVersion\": \"gemini-load\",\"responseId\": \"Nm9oaM6XGfqS1MkP\"}\r\n\r\n"
            }
            (Self::Gemini, true) => {
                b"data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \".\"}],\"role\": \"model\"},\"finishReason\": \"STOP\",\"index\": 0}],\"usageMetadata\": {\"promptTokenCount\": 19,\"candidatesTokenCount\": 10,\"totalTokenCount\": 29,\"promptTokensDetails\": [{\"modality\": \"TEXT\",\"tokenCount\": 19}]},\"modelVersion\": \"gemini-load\",\"responseId\": \"Nm9oaM6XGfqS1MkP\"}\r\n\r\n"
            }
        })
    }
}

/// The number of events and the milliseconds between them, from a name such as `load-20-5`.
fn shape(text: &str) -> Option<(u64, u64)> {
    let (_, rest) = text.split_once("load-")?;
    let end = rest
        .find(|letter: char| !letter.is_ascii_digit() && letter != '-')
        .unwrap_or(rest.len());
    let (events, apart) = rest.get(..end)?.split_once('-')?;
    Some((events.parse().ok()?, apart.parse().ok()?))
}

/// The first event comes at once.
fn streamed(dialect: Dialect, events: u64, apart: Duration) -> Response<Body> {
    let frames = stream::unfold(0, move |sent| async move {
        if sent == events {
            return None;
        }
        if sent > 0 && !apart.is_zero() {
            tokio::time::sleep(apart).await;
        }
        Some((Ok(Frame::data(dialect.event(sent + 1 == events))), sent + 1))
    });
    reply(
        StatusCode::OK,
        "text/event-stream; charset=utf-8",
        StreamBody::new(frames).boxed_unsync(),
    )
}

fn is_limited(headers: &HeaderMap) -> bool {
    let key = headers
        .get(header::AUTHORIZATION)
        .or_else(|| headers.get("x-goog-api-key"));
    key.and_then(|key| key.to_str().ok())
        .is_some_and(|key| key.contains("limited"))
}

fn limited(dialect: Dialect) -> Response<Body> {
    let body = match dialect {
        Dialect::OpenAi => {
            r#"{"error":{"message":"Rate limit reached for requests. Please try again in 60s.","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#
        }
        Dialect::Gemini => {
            r#"{"error":{"code":429,"message":"You exceeded your current quota. Please retry in 60s.","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"60s"}]}}"#
        }
    };
    let mut response = reply(StatusCode::TOO_MANY_REQUESTS, "application/json", full(body));
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
    response
}

/// With about as many headers as the providers send.
fn reply(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        ("content-type", content_type),
        ("openai-processing-ms", "12"),
        ("openai-version", "2020-10-01"),
        ("x-ratelimit-limit-requests", "10000"),
        ("x-ratelimit-remaining-requests", "9999"),
        ("x-request-id", "req_0123456789abcdef0123456789abcdef"),
        ("strict-transport-security", "max-age=31536000"),
        ("x-content-type-options", "nosniff"),
        ("server", "load"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn full(text: &'static str) -> Body {
    Full::new(Bytes::from_static(text.as_bytes())).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_name_tells_the_shape_of_a_stream() {
        assert_eq!(shape("gpt-load-20-5"), Some((20, 5)));
        assert_eq!(shape("/v1beta/models/gemini-load-50-1:generateContent"), Some((50, 1)));
        assert_eq!(shape(r#"{"model":"load-3-0","stream":true}"#), Some((3, 0)));
        assert_eq!(shape("gpt-4o"), None);
    }
}
