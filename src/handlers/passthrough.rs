//! Requests that go on as they came, to an upstream that speaks the client's dialect. The answer's body is handed on by
//! the host and never enters the component.

use std::{
    borrow::Cow,
    hash::{DefaultHasher, Hash, Hasher},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    auth,
    catalogue::Choice,
    classify::{self, Fault},
    error::ApiError,
    handlers::{Context, Dialect, counted, explain, is_json, read_json},
    headers,
    pool::{
        Selection, Target,
        key::{ApiType, Candidate},
        usage::Tokens,
    },
    ports::{Body, Inbound, Outbound, OutboundBody, Ports, Request, Response, Timeouts},
    redact::json_fault,
    relay::{Attempt, Broken, Failure},
    secret::Secret,
};

/// What of an OpenAI request decides where it goes. Everything else is left to the upstream.
#[derive(Debug, Default, Deserialize)]
pub struct Peek<'a> {
    /// The model's name.
    #[serde(borrow, default)]
    model: Option<&'a RawValue>,
    /// Whether the answer is streamed.
    #[serde(borrow, default)]
    stream: Option<&'a RawValue>,
    #[serde(borrow, default)]
    prompt_cache_key: Option<&'a RawValue>,
    #[serde(borrow, default)]
    user: Option<&'a RawValue>,
    #[serde(borrow, default)]
    previous_response_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    messages: Option<&'a RawValue>,
}

impl<'a> Peek<'a> {
    /// Reads a body without copying it.
    pub fn read(body: &'a [u8]) -> Result<Self, ApiError> {
        serde_json::from_slice(body)
            .map_err(|error| ApiError::bad_request(format!("The body is not a JSON object: {}.", json_fault(&error).1)))
    }

    /// The model's name, when there is one.
    pub fn model(&self) -> Result<Option<Cow<'a, str>>, ApiError> {
        text(self.model, "model")
    }

    /// The model's name, which has to be there.
    pub fn required_model(&self) -> Result<Cow<'a, str>, ApiError> {
        self.model()?
            .filter(|model| !model.is_empty())
            .ok_or_else(|| ApiError::missing("model"))
    }

    /// Whether the answer is streamed.
    pub fn stream(&self) -> bool {
        self.stream.is_some_and(|value| value.get() == "true")
    }

    /// What keeps a conversation on one key when the pool selects that way: the provider's prompt cache then stays warm.
    pub fn conversation(&self) -> Option<u64> {
        let first_message = || {
            let messages: Vec<&RawValue> = serde_json::from_str(self.messages?.get()).ok()?;
            messages.first().map(|message| message.get())
        };
        let own = self.prompt_cache_key.or(self.user).map(RawValue::get);
        own.or_else(first_message).map(hash)
    }

    /// Whether the request builds on something that the provider keeps for one key.
    pub fn is_stateful(&self) -> bool {
        self.previous_response_id.is_some_and(|id| id.get() != "null")
    }
}

/// What of a client's request is kept while its body is read.
#[derive(Clone, Debug)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// The query, without the client's key.
    pub query: String,
    /// The headers that go up.
    pub headers: HeaderMap,
    /// The client's own credential, in pass-through mode.
    pub own_key: Option<Secret>,
}

impl Head {
    /// Takes it from a request.
    pub fn of<P: Ports>(context: &Context<P>, request: &Request<P::RequestBody>) -> Self {
        Self {
            method: request.method.clone(),
            query: auth::without_key(&request.query),
            headers: headers::upward(&request.headers),
            own_key: auth::client_credential(request).filter(|_| context.settings.forward_client_key),
        }
    }
}

/// Sends a JSON request on to a pool.
pub async fn json<P: Ports>(
    context: &Context<P>,
    path: &str,
    group: &str,
    head: &Head,
    body: &Bytes,
    choice: &Choice,
) -> Result<Response<P>, Failure> {
    let peek = Peek::read(body)?;
    let body = match peek.model()? {
        Some(model) if model != choice.model => with_model(body, peek.model, &choice.model),
        _ => body.clone(),
    };
    let pinned = peek.is_stateful();
    let sticky = match context.settings.selection {
        _ if pinned => Some(hash(group)),
        Selection::Sticky => peek.conversation(),
        _ => None,
    };
    let target = Target {
        sticky,
        pinned,
        ..choice.target(group)
    };
    let upstream = Upstream::new(context, path, head, OutboundBody::Full(body), peek.stream());
    forward(context, &target, head, upstream).await
}

/// Sends a request on whose body is not looked into: whatever OpenAI's API has beside the routes that are known here.
pub async fn other<P: Ports>(
    context: Context<P>,
    path: &str,
    group: String,
    request: Request<P::RequestBody>,
) -> Result<Response<P>, ApiError> {
    let head = Head::of(&context, &request);
    let has_body = !matches!(request.method, Method::GET | Method::HEAD | Method::DELETE);
    let result = if has_body && is_json(&request.headers) {
        let body = read_json(&context, request).await?;
        let model = if body.is_empty() {
            None
        } else {
            Peek::read(&body)?.model()?.map(Cow::into_owned)
        };
        let choice = match model {
            Some(model) => {
                let guess = || Choice::anywhere(ApiType::OpenAi, &model).target(&group);
                let catalogue = context
                    .app
                    .catalogue_for(&context.settings, guess, context.started)
                    .await;
                let choices = catalogue.choices(&model);
                let openai = choices.into_iter().find(|choice| choice.api_type == ApiType::OpenAi);
                openai.unwrap_or_else(|| Choice::anywhere(ApiType::OpenAi, &model))
            }
            None => Choice::anywhere(ApiType::OpenAi, ""),
        };
        if body.is_empty() || choice.model.is_empty() {
            let upstream = Upstream::new(&context, path, &head, OutboundBody::Full(body), false);
            forward(&context, &pinned(ApiType::OpenAi, &group), &head, upstream).await
        } else {
            json(&context, path, &group, &head, &body, &choice).await
        }
    } else {
        let body = if has_body {
            OutboundBody::Forward(request.body)
        } else {
            OutboundBody::Empty
        };
        let mut upstream = Upstream::new(&context, path, &head, body, false);
        upstream.keep_length(&request.headers);
        forward(&context, &pinned(ApiType::OpenAi, &group), &head, upstream).await
    };
    Ok(result.unwrap_or_else(|failure| failure.answer(Dialect::OpenAi)))
}

/// A target for what the provider keeps for one key (a file, a batch): it is asked for with that key again, as long as the
/// key lives.
pub fn pinned(api_type: ApiType, group: &str) -> Target {
    Target {
        sticky: Some(hash(group)),
        pinned: true,
        ..Choice::anywhere(api_type, "").target(group)
    }
}

/// Sends a request on and hands the answer down.
pub async fn forward<P: Ports>(
    context: &Context<P>,
    target: &Target,
    head: &Head,
    mut upstream: Upstream<P>,
) -> Result<Response<P>, Failure> {
    if let Some(key) = &head.own_key {
        return own_key(context, target.api_type, key, upstream).await;
    }
    let delivered = context
        .instance()
        .relay
        .run(target, context.started, &mut upstream)
        .await?;
    let mut headers = headers::downward(&delivered.output.headers, delivered.ticket.secret());
    explain(&mut headers, &delivered.key, delivered.attempts);
    let status = delivered.output.status;
    let Inbound { headers: own, body, .. } = delivered.output;
    let body = if context.settings.count_tokens && counted::is_readable(&own) {
        counted::lead(&own, body, delivered.ticket)
    } else {
        // The body goes from host to host: what it says of tokens is not seen here.
        delivered.ticket.succeeded(Tokens::default());
        Body::Forward(body)
    };
    Ok(Response { status, headers, body })
}

/// Pass-through mode: one call with the client's own key, and whatever answer it gets.
async fn own_key<P: Ports>(
    context: &Context<P>,
    api_type: ApiType,
    key: &Secret,
    mut upstream: Upstream<P>,
) -> Result<Response<P>, Failure> {
    let base_url = match api_type {
        ApiType::Gemini => &context.settings.gemini_base_url,
        ApiType::OpenAi => &context.settings.openai_base_url,
    };
    let candidate = Candidate::own(api_type, key.clone(), base_url);
    let request = upstream.request(&candidate)?;
    let answer = context.ports().send(request).await.map_err(|error| {
        let judgement = classify::classify_transport(error);
        if judgement.fault == Fault::Timeout {
            ApiError::timeout(judgement.message)
        } else {
            ApiError::upstream(judgement.message)
        }
    })?;
    let headers = headers::downward(&answer.headers, key.expose());
    Ok(Response {
        status: answer.status,
        headers,
        body: Body::Forward(answer.body),
    })
}

/// A request as it goes to whichever key is tried.
pub struct Upstream<P: Ports> {
    method: Method,
    /// Behind the base URL, with its query.
    target: String,
    headers: HeaderMap,
    body: Option<OutboundBody<P::RequestBody>>,
    timeouts: Timeouts,
}

impl<P: Ports> Upstream<P> {
    /// A request to this path below a key's base URL.
    pub fn new(
        context: &Context<P>,
        path: &str,
        head: &Head,
        body: OutboundBody<P::RequestBody>,
        stream: bool,
    ) -> Self {
        let target = if head.query.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{}", head.query)
        };
        Self {
            method: head.method.clone(),
            target,
            headers: head.headers.clone(),
            body: Some(body),
            timeouts: context.settings.timeouts(stream),
        }
    }

    /// A body that streams through keeps the length that the client gave it.
    pub fn keep_length(&mut self, headers: &HeaderMap) {
        if let Some(length) = headers.get(header::CONTENT_LENGTH) {
            self.headers.insert(header::CONTENT_LENGTH, length.clone());
        }
    }
}

impl<P: Ports> Attempt<P> for Upstream<P> {
    type Output = Inbound<P::ResponseBody>;

    fn request(&mut self, key: &Candidate) -> Result<Outbound<P::RequestBody>, ApiError> {
        let mut headers = self.headers.clone();
        // Google's own OpenAI layer takes keys as OpenAI does.
        let as_openai = self.target.starts_with("/v1beta/openai/");
        let (name, value) = if as_openai { bearer(key)? } else { credential(key)? };
        headers.insert(name, value);
        let body = match &self.body {
            Some(OutboundBody::Full(bytes)) => OutboundBody::Full(bytes.clone()),
            Some(OutboundBody::Empty) => OutboundBody::Empty,
            // What streams through can be sent once.
            Some(OutboundBody::Forward(_)) | None => self
                .body
                .take()
                .ok_or_else(|| ApiError::upstream("The request's body was sent already and cannot be sent again."))?,
        };
        let url = format!("{}{}", key.base_url, self.target);
        Ok(Outbound {
            method: self.method.clone(),
            url,
            headers,
            body,
            timeouts: self.timeouts,
        })
    }

    async fn accept(&mut self, _: &Candidate, answer: Inbound<P::ResponseBody>) -> Result<Self::Output, Broken> {
        Ok(answer)
    }

    fn is_repeatable(&self) -> bool {
        self.body
            .as_ref()
            .is_some_and(|body| !matches!(body, OutboundBody::Forward(_)))
    }
}

/// Whose key a client's own is, by its shape.
pub fn type_of(key: &Secret) -> ApiType {
    if ["AIza", "AQ."].iter().any(|prefix| key.expose().starts_with(prefix)) {
        ApiType::Gemini
    } else {
        ApiType::OpenAi
    }
}

/// The header that carries a key, in the provider's own form.
pub fn credential(key: &Candidate) -> Result<(HeaderName, HeaderValue), ApiError> {
    match key.api_type {
        ApiType::Gemini => sensitive(HeaderName::from_static("x-goog-api-key"), key.secret.expose()),
        ApiType::OpenAi => bearer(key),
    }
}

fn bearer(key: &Candidate) -> Result<(HeaderName, HeaderValue), ApiError> {
    sensitive(header::AUTHORIZATION, &format!("Bearer {}", key.secret.expose()))
}

fn sensitive(name: HeaderName, text: &str) -> Result<(HeaderName, HeaderValue), ApiError> {
    let mut value =
        HeaderValue::from_str(text).map_err(|_| ApiError::upstream("A key of the pool cannot be sent in a header."))?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// The same body with another model's name: all else stays as it was written, byte for byte. It is not parsed anew: a body
/// of many small values takes many times its length once it is.
fn with_model(body: &Bytes, written: Option<&RawValue>, model: &str) -> Bytes {
    let Some(written) = written.map(RawValue::get) else {
        return body.clone();
    };
    let start = (written.as_ptr() as usize).saturating_sub(body.as_ptr() as usize);
    let (Some(before), Some(behind)) = (body.get(..start), body.get(start + written.len()..)) else {
        return body.clone();
    };
    let model = serde_json::Value::from(model).to_string();
    [before, model.as_bytes(), behind].concat().into()
}

fn text<'a>(value: Option<&'a RawValue>, param: &str) -> Result<Option<Cow<'a, str>>, ApiError> {
    let Some(value) = value.filter(|value| value.get() != "null") else {
        return Ok(None);
    };
    let text: Result<Text<'a>, _> = serde_json::from_str(value.get());
    text.map(|text| Some(text.0))
        .map_err(|_| ApiError::invalid(param, format!("'{param}' must be a string.")))
}

/// Text that is borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// What stands for a text where only sameness matters.
pub fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_model_is_written_in_and_nothing_else_changes() {
        let cases = [
            (r#"{"model":"openai/a","n":1}"#, r#"{"model":"b\"","n":1}"#),
            (
                r#" { "x" : 1e400, "model" : "openai/a" } "#,
                r#" { "x" : 1e400, "model" : "b\"" } "#,
            ),
            (
                r#"{"user":"openai/a","model":"openai/a"}"#,
                r#"{"user":"openai/a","model":"b\""}"#,
            ),
            (
                r#"{"m":{"model":"openai/a"},"mod\u0065l":"x"}"#,
                r#"{"m":{"model":"openai/a"},"mod\u0065l":"b\""}"#,
            ),
        ];
        for (body, expected) in cases {
            let body = Bytes::from(body.to_owned());
            let peek = Peek::read(&body).unwrap();
            assert_eq!(with_model(&body, peek.model, "b\""), expected);
        }
    }
}
