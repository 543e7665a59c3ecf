//! Judges an upstream's answer: whose fault it is, what becomes of the key, and what to do next. Structured fields are
//! read first, words of a message last, and never a bare word that a prompt may hold as well.
//!
//! The rules' names (G1 to G23 for Gemini, O1 to O9 for OpenAI and what speaks its API) stand in docs/api.md and in what
//! the administrator sees of a key.

mod gemini;
mod openai;
mod retry_after;

use http::{HeaderMap, StatusCode, header};
use serde_json::Value;

use crate::{
    pool::key::ApiType,
    ports::{TransportError, UnixMillis},
};

/// Judges an answer whose status is an error's, or an error object inside a stream that began well.
pub fn classify(api_type: ApiType, status: StatusCode, headers: &HeaderMap, body: &[u8], now: UnixMillis) -> Judgement {
    let answer = Answer::read(status, headers, body, now);
    match api_type {
        ApiType::Gemini => gemini::judge(&answer),
        ApiType::OpenAi => openai::judge(&answer),
    }
}

/// Judges a call to which no answer came, or whose answer broke off before anything of it went on.
pub fn classify_transport(error: TransportError) -> Judgement {
    let (rule, message, next) = match error {
        TransportError::Timeout => ("G19", "The upstream did not answer in time.", Next::Retry),
        TransportError::Dns => ("G23", "The upstream's name could not be resolved.", Next::Retry),
        TransportError::Connect => ("G23", "The upstream could not be reached.", Next::Retry),
        TransportError::Tls => ("G23", "The TLS connection to the upstream failed.", Next::Retry),
        TransportError::Closed => ("G23", "The upstream closed the connection early.", Next::Retry),
        TransportError::Protocol => ("G23", "What the upstream answered is not HTTP.", Next::Retry),
        TransportError::Denied => (
            "G23",
            "This host may not be called: add it to allowed_outbound_hosts in spin.toml, or set the variable extra_outbound_host.",
            Next::OtherKey,
        ),
        TransportError::Other => ("G23", "The request could not be sent.", Next::Retry),
    };
    let fault = if error == TransportError::Timeout {
        Fault::Timeout
    } else {
        Fault::Transport
    };
    Judgement {
        fault,
        rule,
        rest: Rest::None,
        next,
        message: message.to_owned(),
        project: None,
    }
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Whose fault it is.
    pub fault: Fault,
    /// The rule that matched.
    pub rule: &'static str,
    /// What becomes of the key.
    pub rest: Rest,
    /// What to do now.
    pub next: Next,
    /// The upstream's own words. Not redacted yet.
    pub message: String,
    /// The project that the quota belongs to, when the answer names it.
    pub project: Option<String>,
}

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// The request itself.
    Caller,
    /// The region that this KeyStorm calls from.
    Region,
    /// The key is refused.
    Credential,
    /// The model is not for this key.
    Model,
    /// The key's quota or money is used up.
    Quota,
    /// Too many requests.
    RateLimit,
    /// The upstream failed.
    Overload,
    /// No answer: the network.
    Transport,
    /// No answer in time.
    Timeout,
    /// The answer broke off after some of it went to the client.
    MidStream,
    /// The client went away.
    Cancelled,
}

impl Fault {
    /// The name in counts and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Region => "region",
            Self::Credential => "credential",
            Self::Model => "model",
            Self::Quota => "quota",
            Self::RateLimit => "rate_limit",
            Self::Overload => "overload",
            Self::Transport => "transport",
            Self::Timeout => "timeout",
            Self::MidStream => "mid_stream",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What becomes of a key. Times are milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Nothing.
    None,
    /// It is dead until a check succeeds.
    Dead,
    /// All of it rests.
    Key(i64),
    /// It rests for this model.
    Model(i64),
    /// It rests for this model, twice as long each time, up to the second figure.
    ModelDoubling(i64, i64),
    /// It rests for this model when it has been so before, in the last half an hour.
    ModelRepeated(i64),
    /// It rests for this model until Gemini's daily quotas are new: midnight Pacific time.
    ModelUntilMidnight,
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Tell the client.
    Stop,
    /// Another key, at once.
    OtherKey,
    /// Another key, but no more than three in all: it is probably the request.
    OtherKeyFew,
    /// The same key once more after a short wait, then another.
    Retry,
}

/// An upstream's answer, as the rules read it.
struct Answer<'a> {
    status: u16,
    headers: &'a HeaderMap,
    now: UnixMillis,
    /// The `error` object; null when the body has none.
    error: Value,
    /// The upstream's own words.
    message: String,
    /// The same in lower case, for rules that read words.
    words: String,
    is_html: bool,
}

impl<'a> Answer<'a> {
    fn read(status: StatusCode, headers: &'a HeaderMap, body: &[u8], now: UnixMillis) -> Self {
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        // Some of Google's routes wrap the object in an array of one.
        let root = json.get(0).unwrap_or(&json);
        let error = root.get("error").unwrap_or(root).clone();
        let text = String::from_utf8_lossy(body);
        let content_type = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let is_html = content_type.contains("text/html") || text.trim_start().starts_with('<');
        let message = match (error.get("message").and_then(Value::as_str), error.as_str()) {
            (Some(message), _) | (None, Some(message)) => message.to_owned(),
            _ if is_html => format!("The upstream answered {} with a web page.", status.as_u16()),
            _ if text.trim().is_empty() => format!("The upstream answered {} without a body.", status.as_u16()),
            _ => text.chars().take(500).collect(),
        };
        let words = message.to_lowercase();
        Self {
            status: status.as_u16(),
            headers,
            now,
            error,
            message,
            words,
            is_html,
        }
    }

    fn says(&self, needles: &[&str]) -> bool {
        needles.iter().any(|needle| self.words.contains(needle))
    }

    /// A field of the error object.
    fn field(&self, name: &str) -> &str {
        self.error.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Google's typed details, by the last part of their type's name.
    fn details(&self, kind: &str) -> impl Iterator<Item = &Value> {
        let details = self
            .error
            .get("details")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        details.iter().filter(move |detail| {
            detail
                .get("@type")
                .and_then(Value::as_str)
                .is_some_and(|name| name.rsplit('.').next() == Some(kind))
        })
    }

    fn judgement(&self, rule: &'static str, fault: Fault, rest: Rest, next: Next) -> Judgement {
        Judgement {
            fault,
            rule,
            rest,
            next,
            message: self.message.clone(),
            project: None,
        }
    }
}

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    /// Reads `tests/fixtures/classify/<rule>-<case>.http`: a status line, headers, a blank line, the body, as a provider
    /// sent it. The rule is the beginning of the file's name; `classify.expected` beside them has a line for each file.
    #[test]
    fn each_recorded_answer_is_judged_by_its_rule() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/classify");
        let expected = std::fs::read_to_string(format!("{folder}/expected.txt")).unwrap();
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "http"));
        let lines: Vec<_> = expected.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(files.len(), lines.len(), "each file has its line in expected.txt");
        // 2026-11-23T00:00:00Z, a Monday: 16:00 on Sunday in California.
        let now = UnixMillis(1_795_392_000_000);
        for line in lines {
            let (name, judgement) = line.split_once(": ").unwrap();
            let text = std::fs::read_to_string(format!("{folder}/{name}.http")).unwrap();
            let (head, body) = text.split_once("\n\n").unwrap();
            let mut head = head.lines();
            let status = head.next().unwrap().parse().unwrap();
            let headers = head
                .map(|line| line.split_once(": ").unwrap())
                .map(|(name, value)| {
                    (
                        name.parse::<HeaderName>().unwrap(),
                        HeaderValue::from_str(value).unwrap(),
                    )
                })
                .collect();
            let api_type = if name.starts_with('G') {
                ApiType::Gemini
            } else {
                ApiType::OpenAi
            };
            let judged = classify(api_type, status, &headers, body.trim_end().as_bytes(), now);
            let project = judged.project.map_or_else(String::new, |project| format!(" {project}"));
            let found = format!(
                "{} {:?} {:?} {:?}{project}",
                judged.rule, judged.fault, judged.rest, judged.next
            );
            assert_eq!(found, judgement, "{name}");
            assert!(name.starts_with(judged.rule), "{name}");
        }
    }
}
