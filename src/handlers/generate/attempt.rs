//! One upstream call of a translated request, on its way from key to key.

use std::cell::{Cell, RefCell};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};

use super::stream::{Feed, Stopped};
use crate::{
    error::ApiError,
    handlers::{self, fetch, passthrough},
    pool::{Target, key::Candidate},
    ports::{Inbound, Outbound, OutboundBody, Ports, Timeouts},
    relay::{Attempt, Broken},
    translate::{
        error::{AnswerError, Why},
        request::Prepared,
        response::{self, Answer, Kind, Shape},
        stream::ChatStream,
        tools::Names,
    },
};

/// What all upstream calls of one request share.
pub(super) struct Call<'c> {
    pub(super) target: Target,
    pub(super) path: String,
    pub(super) timeouts: Timeouts,
    pub(super) id: String,
    pub(super) created: i64,
    pub(super) model: String,
    pub(super) names: Names,
    pub(super) seed: u64,
    pub(super) kind: Kind<'c>,
    pub(super) include_usage: bool,
    pub(super) pcm: bool,
}

impl Call<'_> {
    pub(super) fn shape(&self) -> Shape<'_> {
        Shape {
            id: &self.id,
            created: self.created,
            model: &self.model,
            names: &self.names,
            seed: self.seed,
            kind: self.kind,
            service_tier: None,
            pcm: self.pcm,
            is_last: false,
        }
    }
}

/// One request to Gemini, and its bytes as they were last written, for each of its answers.
pub(super) struct Work<'a> {
    pub(super) prepared: RefCell<Prepared<'a>>,
    bodies: RefCell<Vec<Bytes>>,
}

impl<'a> Work<'a> {
    pub(super) fn new(mut prepared: Prepared<'a>) -> Self {
        Self {
            bodies: RefCell::new(prepared.bodies()),
            prepared: RefCell::new(prepared),
        }
    }

    /// The bytes for a choice of the whole answer.
    fn body(&self, number: u32) -> Bytes {
        let bodies = self.bodies.borrow();
        let place = (number as usize).checked_rem(bodies.len());
        place.and_then(|place| bodies.get(place)).cloned().unwrap_or_default()
    }

    fn adapt(&self, message: &str) -> bool {
        let mut prepared = self.prepared.borrow_mut();
        let changed = prepared.adapt(message);
        if changed {
            self.bodies.replace(prepared.bodies());
        }
        changed
    }
}

/// One upstream call on its way from key to key.
pub(super) struct Attempted<'w, 'c, 'a> {
    call: &'w Call<'c>,
    work: &'w Work<'a>,
    number: u32,
    several: bool,
    /// Whether the model has slipped already: its next answer is told whatever it is like.
    has_slipped: Cell<bool>,
}

impl<'w, 'c, 'a> Attempted<'w, 'c, 'a> {
    pub(super) fn new(call: &'w Call<'c>, work: &'w Work<'a>, number: u32, count: usize) -> Self {
        Self {
            call,
            work,
            number,
            several: count > 1,
            has_slipped: Cell::new(false),
        }
    }

    fn request<B>(&self, key: &Candidate) -> Result<Outbound<B>, ApiError> {
        let (name, value) = passthrough::credential(key)?;
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(header::CONTENT_TYPE, handlers::JSON);
        headers.insert(name, value);
        Ok(Outbound {
            method: Method::POST,
            url: format!("{}{}", key.base_url, self.call.path),
            headers,
            body: OutboundBody::Full(self.work.body(self.number)),
            timeouts: self.call.timeouts,
        })
    }

    fn shape(&self, headers: &HeaderMap) -> Shape<'_> {
        let tier = headers.get("x-gemini-service-tier").and_then(|tier| tier.to_str().ok());
        Shape {
            service_tier: tier.and_then(response::service_tier),
            is_last: self.has_slipped.get(),
            seed: self.call.seed.wrapping_add(self.number.into()),
            ..self.call.shape()
        }
    }

    fn adapt(&self, body: &[u8]) -> bool {
        let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let body = body.get(0).unwrap_or(&body);
        let message = body
            .get("error")
            .and_then(|error| error.get("message"))
            .and_then(serde_json::Value::as_str);
        message.is_some_and(|message| self.work.adapt(message))
    }

    /// What an answer that cannot be told means for the walk over the pool.
    fn broken(&self, error: AnswerError) -> Broken {
        match error {
            AnswerError::Upstream { status, body } => Broken::Upstream(status, body),
            AnswerError::Retry(why @ (Why::MalformedCall | Why::MissingSignature)) => {
                if why == Why::MissingSignature {
                    self.work.adapt(MISSING_SIGNATURE);
                }
                self.has_slipped.set(true);
                Broken::Again
            }
            AnswerError::Retry(Why::Empty) | AnswerError::Unreadable | AnswerError::Unfinished => Broken::Empty,
        }
    }
}

/// A call whose answer is read whole.
pub(super) struct Whole<'w, 'c, 'a>(pub(super) Attempted<'w, 'c, 'a>);

impl<P: Ports> Attempt<P> for Whole<'_, '_, '_> {
    type Output = (Bytes, Answer);

    fn request(&mut self, key: &Candidate) -> Result<Outbound<P::RequestBody>, ApiError> {
        self.0.request(key)
    }

    async fn accept(&mut self, _: &Candidate, answer: Inbound<P::ResponseBody>) -> Result<Self::Output, Broken> {
        let body = fetch::whole(answer.body).await.map_err(Broken::Transport)?;
        let shape = self.0.shape(&answer.headers);
        let answer = response::completion(&[&body], &shape).map_err(|error| self.0.broken(error))?;
        // Several answers are put together of their bytes; one is whole already.
        Ok((if self.0.several { body } else { Bytes::new() }, answer))
    }

    fn adapt(&mut self, _: StatusCode, body: &[u8]) -> bool {
        self.0.adapt(body)
    }
}

/// A call whose answer is streamed.
pub(super) struct Streamed<'w, 'c, 'a>(pub(super) Attempted<'w, 'c, 'a>);

impl<P: Ports> Attempt<P> for Streamed<'_, '_, '_> {
    type Output = Feed<P>;

    fn request(&mut self, key: &Candidate) -> Result<Outbound<P::RequestBody>, ApiError> {
        self.0.request(key)
    }

    /// Reads until something has come that the client is to see: until then another key can be asked.
    async fn accept(&mut self, key: &Candidate, answer: Inbound<P::ResponseBody>) -> Result<Feed<P>, Broken> {
        let shape = self.0.shape(&answer.headers);
        let stream = ChatStream::new(&shape, self.0.number, self.0.call.include_usage);
        let mut feed = Feed::new(answer.body, stream, key.secret.clone());
        while feed.is_silent() {
            feed.read().await.map_err(|stopped| match stopped {
                Stopped::Transport(error) => Broken::Transport(error),
                Stopped::Answer(error) => self.0.broken(error),
            })?;
        }
        Ok(feed)
    }

    fn adapt(&mut self, _: StatusCode, body: &[u8]) -> bool {
        self.0.adapt(body)
    }
}

/// How Gemini says that a thought signature is missing; an answer may end for that reason too.
const MISSING_SIGNATURE: &str = "Function call is missing a thought_signature";
