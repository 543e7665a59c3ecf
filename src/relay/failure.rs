//! What a client is told when no key served.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::{
    classify::{Fault, Judgement},
    error::ApiError,
    pool::{Exhausted, Target, Walk},
    ports::{SqlError, UnixMillis},
};

/// Why nobody could serve.
#[derive(Debug)]
pub struct Failure {
    /// As it is told to the client.
    pub error: ApiError,
    /// The upstream's own answer, when the client's request was at fault: redacted, for clients that speak its dialect.
    pub upstream: Option<(StatusCode, HeaderMap, Bytes)>,
    /// Whether no key could have served from the start.
    pub no_keys: bool,
    /// Upstream calls that were made.
    pub attempts: u32,
    /// The last key that was tried, masked.
    pub key: Option<String>,
}

impl Failure {
    /// Without the upstream's words, for clients that do not speak its dialect.
    #[must_use]
    pub fn translated(self) -> Self {
        Self { upstream: None, ..self }
    }

    /// What is said when no key is left.
    pub(super) fn nobody(target: &Target, walk: &Walk, why: Nobody, last: Option<Bad>, now: UnixMillis) -> Self {
        let no_keys = matches!(why, Nobody::Exhausted(Exhausted::NoKeys));
        let key = last.as_ref().map(|bad| bad.key.clone());
        let error = match why {
            Nobody::Database(error) => ApiError::database(&error.to_string()),
            Nobody::Exhausted(Exhausted::NoKeys) => ApiError::no_available_keys(format!(
                "There is no {} key that could serve this request. Add one on the admin page.",
                target.api_type.as_str()
            )),
            Nobody::Exhausted(Exhausted::AllDead) => ApiError::no_available_keys(format!(
                "All {} keys that could serve this request are dead or disabled: see the admin page.",
                target.api_type.as_str()
            )),
            Nobody::Exhausted(Exhausted::Resting(until, Fault::Quota)) => {
                ApiError::insufficient_quota(seconds(until, now))
            }
            Nobody::Exhausted(Exhausted::Resting(_, Fault::Model)) => {
                ApiError::model_not_found(&target.model, "no key of the pool may use it.")
            }
            Nobody::Exhausted(Exhausted::Resting(until, Fault::Overload | Fault::Transport | Fault::Timeout)) => {
                match last {
                    Some(bad) => return bad.into_failure(target, walk),
                    None => ApiError {
                        retry_after: Some(seconds(until, now)),
                        ..ApiError::overloaded("The upstream has failed many times in a row; it is tried again soon.")
                    },
                }
            }
            Nobody::Exhausted(Exhausted::Resting(until, _)) => ApiError::rate_limited(seconds(until, now)),
            Nobody::Exhausted(Exhausted::AllTried) => match last {
                Some(bad) => return bad.into_failure(target, walk),
                None => ApiError::no_available_keys("No key could serve this request."),
            },
        };
        Self {
            error,
            upstream: None,
            no_keys,
            attempts: walk.attempts,
            key,
        }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self {
            error,
            upstream: None,
            no_keys: false,
            attempts: 0,
            key: None,
        }
    }
}

/// Why there is no key.
pub(super) enum Nobody {
    Exhausted(Exhausted),
    Database(SqlError),
}

/// The last failed attempt.
pub(super) struct Bad {
    pub(super) judgement: Judgement,
    pub(super) message: String,
    pub(super) upstream: Option<(StatusCode, HeaderMap, Bytes)>,
    pub(super) key: String,
    /// Seconds until its key serves again.
    pub(super) wait: u64,
}

impl Bad {
    /// What the client is told when this was the last word.
    pub(super) fn into_failure(self, target: &Target, walk: &Walk) -> Failure {
        let status = self.upstream.as_ref().map(|(status, ..)| *status);
        let error = match self.judgement.fault {
            Fault::Caller if self.judgement.rule == "G11" => ApiError::model_not_found(&target.model, &self.message),
            Fault::Caller | Fault::Cancelled => ApiError {
                status: status.unwrap_or(StatusCode::BAD_REQUEST),
                ..ApiError::bad_request(self.message)
            },
            Fault::Region => ApiError::region(self.message),
            Fault::Credential => ApiError::no_available_keys("Every key that was tried was refused by its provider."),
            Fault::Model => ApiError::model_not_found(&target.model, &self.message),
            Fault::Quota => ApiError::insufficient_quota(self.wait),
            Fault::RateLimit => ApiError::rate_limited(self.wait),
            Fault::Overload if status == Some(StatusCode::SERVICE_UNAVAILABLE) => ApiError::overloaded(self.message),
            Fault::Overload | Fault::Transport | Fault::MidStream => ApiError::upstream(self.message),
            Fault::Timeout => ApiError::timeout(self.message),
        };
        let own = matches!(self.judgement.fault, Fault::Caller);
        Failure {
            error,
            upstream: self.upstream.filter(|_| own),
            no_keys: false,
            attempts: walk.attempts,
            key: Some(self.key),
        }
    }
}

/// Whole seconds from now, rounded up, at least one.
pub(super) fn seconds(until: UnixMillis, now: UnixMillis) -> u64 {
    u64::try_from(until.since(now))
        .unwrap_or_default()
        .div_ceil(1000)
        .max(1)
}

/// What a client is told to wait where nothing says how long.
pub(super) const DEFAULT_WAIT_S: u64 = 30;
