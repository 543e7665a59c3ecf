//! Answers that are no answers.

use http::StatusCode;
use serde_json::Value;

use crate::{error::ApiError, redact::redact, sse};

/// Why an upstream's answer cannot be told to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerError {
    /// It is an error: its status, and its body for the judgement of the key.
    Upstream {
        /// As if it had come with this status.
        status: StatusCode,
        /// As it came.
        body: Vec<u8>,
    },
    /// Asking again may help. Nothing of it has gone to the client.
    Retry(Why),
    /// It is not what Gemini answers.
    Unreadable,
    /// It ended before its end.
    Unfinished,
}

/// Why asking again may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The answer holds nothing, and no reason.
    Empty,
    /// The model has slipped over a call: once more with the same key.
    MalformedCall,
    /// A thought signature was missing: once more, with a dummy for each.
    MissingSignature,
}

impl AnswerError {
    /// Reads an error object of Google's, which some routes put into an array.
    pub(super) fn upstream(error: &str, body: &[u8]) -> Self {
        let error: Value = serde_json::from_str(error).unwrap_or_default();
        let status = error.get("code").and_then(Value::as_u64);
        let status = status.and_then(|code| StatusCode::from_u16(u16::try_from(code).ok()?).ok());
        let is_error = |status: &StatusCode| status.is_client_error() || status.is_server_error();
        Self::Upstream {
            status: status.filter(is_error).unwrap_or(StatusCode::BAD_GATEWAY),
            body: body.get(..MOST_BODY).unwrap_or(body).to_vec(),
        }
    }

    /// The error as a client is told it when no other key can be asked any more. `secret` is the key that was used.
    pub fn told(&self, secret: Option<&str>) -> ApiError {
        match self {
            Self::Upstream { status, body } => {
                let message = message(body);
                let message = match redact(&message, secret) {
                    message if message.is_empty() => "The upstream failed.".to_owned(),
                    message => message,
                };
                match status.as_u16() {
                    429 => ApiError::new(*status, "requests", "rate_limit_exceeded", message),
                    503 => ApiError::overloaded(message),
                    504 => ApiError::timeout(message),
                    400 => ApiError::bad_request(message),
                    _ => ApiError::upstream(message),
                }
            }
            Self::Retry(Why::Empty) => ApiError::upstream("The upstream's answer holds nothing."),
            Self::Retry(Why::MalformedCall) => {
                ApiError::upstream("The model called a function in a form that cannot be read.")
            }
            Self::Retry(Why::MissingSignature) => {
                ApiError::upstream("The upstream misses the thought signature of a call.")
            }
            Self::Unreadable => ApiError::upstream("The upstream's answer cannot be read."),
            Self::Unfinished => ApiError::upstream("The upstream's answer broke off before its end."),
        }
    }
}

/// Writes the event by which a stream tells that it has failed. Nothing follows it: a client that got `[DONE]` would take what
/// it has for the whole answer.
pub fn event(error: &ApiError, out: &mut Vec<u8>) {
    sse::event(&error.openai_body(), out);
}

fn message(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let body = body.get(0).unwrap_or(&body);
    let message = body.get("error").and_then(|error| error.get("message").or(Some(error)));
    message.and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The largest part of an error's body that is kept.
const MOST_BODY: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_inside_answers_are_told_as_openais() {
        let key = format!("AIza{}", "x".repeat(35));
        let google = |code: &str, message: &str| format!(r#"{{"code":{code},"message":"{message}","status":"X"}}"#);
        // The upstream's error, and what is told: status, type, code, message.
        let cases = [
            (google("400", "Bad"), (400, "invalid_request_error", None, "Bad")),
            (
                google("429", "Slow"),
                (429, "requests", Some("rate_limit_exceeded"), "Slow"),
            ),
            (google("500", "Oh"), (502, "server_error", Some("upstream_error"), "Oh")),
            (google("503", "Busy"), (503, "server_error", Some("overloaded"), "Busy")),
            (
                google("504", "Late"),
                (504, "server_error", Some("upstream_error"), "Late"),
            ),
            (
                google("403", &format!("Consumer 'api_key:{key}' and my-own-key")),
                (
                    502,
                    "server_error",
                    Some("upstream_error"),
                    "Consumer 'api_key:[redacted]' and [redacted]",
                ),
            ),
            // No status, or none of an error's, or no object at all.
            (
                google("\"x\"", "Oh"),
                (502, "server_error", Some("upstream_error"), "Oh"),
            ),
            (google("200", "Oh"), (502, "server_error", Some("upstream_error"), "Oh")),
            (
                google("70000", "Oh"),
                (502, "server_error", Some("upstream_error"), "Oh"),
            ),
            (
                "\"words\"".to_owned(),
                (502, "server_error", Some("upstream_error"), "words"),
            ),
            (
                "{}".to_owned(),
                (502, "server_error", Some("upstream_error"), "The upstream failed."),
            ),
        ];
        for (error, expected) in cases {
            for body in [format!(r#"{{"error":{error}}}"#), format!(r#"[{{"error":{error}}}]"#)] {
                let told = AnswerError::upstream(&error, body.as_bytes()).told(Some("my-own-key"));
                let told = (
                    told.status.as_u16(),
                    told.kind,
                    told.code.as_deref(),
                    told.message.as_str(),
                );
                assert_eq!(told, expected, "{body}");
            }
        }
    }
}
