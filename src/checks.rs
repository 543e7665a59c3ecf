//! Free checks: whether a provider still takes a key. Listing models costs no tokens; generating one token is asked for only
//! where the administrator wants quota proved.

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, Method, header};
use serde_json::json;

use crate::{
    classify::{self, Fault, Judgement, Rest},
    error::ApiError,
    handlers::{fetch, passthrough},
    pool::{
        Write,
        cooldown::next_quota_day,
        key::{ApiType, Candidate},
    },
    ports::{Outbound, OutboundBody, Ports, Timeouts, TransportError, UnixMillis},
    redact::redact,
    translate::model,
};

/// How a key is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By listing models.
    Models,
    /// By generating one token with this model.
    Generate(String),
}

/// What a provider says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It takes it.
    Valid,
    /// It refuses it.
    Invalid,
    /// It takes it, but not now.
    Limited,
    /// Nobody knows: the network, or the provider itself.
    Unknown,
}

impl Verdict {
    /// Reads a name of the API.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Valid, Self::Invalid, Self::Limited, Self::Unknown]
            .into_iter()
            .find(|verdict| verdict.as_str() == name)
    }

    /// The name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Limited => "limited",
            Self::Unknown => "unknown",
        }
    }
}

/// One check.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What came out.
    pub verdict: Verdict,
    /// Milliseconds that it took.
    pub latency_ms: i64,
    /// The provider's own words, redacted.
    pub message: String,
    /// What the database has to learn of the key.
    pub write: Option<Write>,
    /// The models that the endpoint lists, unread, where it was asked for all of them.
    pub models: Option<Bytes>,
}

/// Checks one key.
pub async fn check<P: Ports>(ports: &P, key: &Candidate, mode: &Mode) -> Checked {
    let started = ports.now();
    let answer = match request(key, mode) {
        Ok(request) => ask(ports, request).await,
        Err(_) => Err(TransportError::Other),
    };
    let now = ports.now();
    let latency_ms = now.since(started);
    let judgement = match answer {
        Ok((status, _, body)) if status.is_success() => {
            let models = (key.api_type == ApiType::OpenAi && *mode == Mode::Models).then_some(body);
            return Checked {
                verdict: Verdict::Valid,
                latency_ms,
                message: String::new(),
                write: None,
                models,
            };
        }
        Ok((status, headers, body)) => classify::classify(key.api_type, status, &headers, &body, now),
        Err(error) => classify::classify_transport(error),
    };
    let message = redact(&judgement.message, Some(key.secret.expose()));
    let verdict = match judgement.fault {
        Fault::Credential => Verdict::Invalid,
        Fault::RateLimit | Fault::Quota => Verdict::Limited,
        _ => Verdict::Unknown,
    };
    let write = match verdict {
        Verdict::Invalid => Some(Write::Dead {
            key: key.id,
            rule: judgement.rule,
            message: message.clone(),
        }),
        Verdict::Limited => rest(key, mode, &judgement, &message, now),
        Verdict::Valid | Verdict::Unknown => None,
    };
    Checked {
        verdict,
        latency_ms,
        message,
        write,
        models: None,
    }
}

/// What rests after a check that was limited. A limit upon listing models says as little of the models' own quotas as a list
/// that comes: unless the whole key is out of money or quota, nothing rests. A generation that is limited rests its model.
fn rest(key: &Candidate, mode: &Mode, judgement: &Judgement, message: &str, now: UnixMillis) -> Option<Write> {
    let (rule, message) = (judgement.rule, message.to_owned());
    let until = match judgement.rest {
        Rest::Key(ms) => {
            return Some(Write::KeyRests {
                key: key.id,
                project: None,
                until: now.plus(ms),
                rule,
                message,
            });
        }
        Rest::Model(ms) | Rest::ModelDoubling(ms, _) => now.plus(ms),
        Rest::ModelUntilMidnight => next_quota_day(now),
        Rest::None | Rest::Dead | Rest::ModelRepeated(_) => return None,
    };
    let Mode::Generate(model) = mode else { return None };
    Some(Write::ModelRests {
        key: key.id,
        project: None,
        model: Rc::from(match key.api_type {
            ApiType::Gemini => model::bare(model),
            ApiType::OpenAi => model,
        }),
        until,
        rule,
        strikes: 0,
        message,
    })
}

type Answered = (http::StatusCode, HeaderMap, Bytes);

async fn ask<P: Ports>(ports: &P, request: Outbound<P::RequestBody>) -> Result<Answered, TransportError> {
    let answer = ports.send(request).await?;
    let body = fetch::whole(answer.body).await?;
    Ok((answer.status, answer.headers, body))
}

fn request<B>(key: &Candidate, mode: &Mode) -> Result<Outbound<B>, ApiError> {
    let (name, value) = passthrough::credential(key)?;
    let mut headers = HeaderMap::from_iter([(name, value)]);
    let (method, path, body) = match (mode, key.api_type) {
        (Mode::Models, ApiType::Gemini) => (Method::GET, "/v1beta/models?pageSize=1".to_owned(), OutboundBody::Empty),
        (Mode::Models, ApiType::OpenAi) => (Method::GET, "/models".to_owned(), OutboundBody::Empty),
        (Mode::Generate(model), api_type) => {
            headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
            let (path, body) = generation(api_type, model);
            (Method::POST, path, OutboundBody::Full(Bytes::from(body.to_string())))
        }
    };
    Ok(Outbound {
        method,
        url: format!("{}{path}", key.base_url),
        headers,
        body,
        timeouts: TIMEOUTS,
    })
}

fn generation(api_type: ApiType, model: &str) -> (String, serde_json::Value) {
    match api_type {
        ApiType::Gemini => {
            let model = percent_encoding::utf8_percent_encode(model, percent_encoding::NON_ALPHANUMERIC);
            let contents = json!([{ "role": "user", "parts": [{ "text": "Hi" }] }]);
            let body = json!({ "contents": contents, "generationConfig": { "maxOutputTokens": 1 } });
            (format!("/v1beta/models/{model}:generateContent"), body)
        }
        ApiType::OpenAi => {
            let messages = json!([{ "role": "user", "content": "Hi" }]);
            (
                "/chat/completions".to_owned(),
                json!({ "model": model, "messages": messages, "max_tokens": 1 }),
            )
        }
    }
}

/// A provider that takes longer to list its models is as good as silent.
const TIMEOUTS: Timeouts = Timeouts {
    connect: 10_000,
    first_byte: 20_000,
    idle: 20_000,
};
