//! A key, as the hot path knows it.

use std::rc::Rc;

use crate::{ports::UnixMillis, secret::Secret};

/// The number of a key in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub i64);

/// Which API a key opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ApiType {
    /// Google Gemini.
    Gemini,
    /// OpenAI, or a service that speaks its API.
    OpenAi,
}

impl ApiType {
    /// The name in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gemini => "gemini",
            Self::OpenAi => "openai",
        }
    }

    /// Reads [`ApiType::as_str`] back.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "gemini" => Some(Self::Gemini),
            "openai" => Some(Self::OpenAi),
            _ => None,
        }
    }
}

/// A key that may serve now, as drawn from the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which key.
    pub id: KeyId,
    /// Which API it opens.
    pub api_type: ApiType,
    /// The credential.
    pub secret: Secret,
    /// The endpoint's base URL, without a slash at its end; the type's default is already put in.
    pub base_url: Rc<str>,
    /// Lower is tried first.
    pub priority: i64,
    /// Its share among the keys of its tier; at least 1.
    pub weight: u32,
    /// The quota family, when known.
    pub project: Option<Rc<str>>,
    /// Consecutive failures so far.
    pub failed_count: u32,
    /// How often the circuit has opened in a row: what the next rest is doubled by.
    pub opened: u32,
    /// The key's rest is over but nothing has succeeded since: one request may try it.
    pub half_open: bool,
    /// When any request last used it, as far as the database knows.
    pub last_used_at: UnixMillis,
    /// How often in a row it was limited for this model without being told for how long.
    pub strikes: u32,
    /// When all of this was read.
    pub read_at: UnixMillis,
}

impl Candidate {
    /// A key that is in no pool: the client's own.
    pub fn own(api_type: ApiType, secret: Secret, base_url: &str) -> Self {
        Self {
            id: KeyId(0),
            api_type,
            secret,
            base_url: Rc::from(base_url),
            priority: 0,
            weight: 1,
            project: None,
            failed_count: 0,
            opened: 0,
            half_open: false,
            last_used_at: UnixMillis(0),
            strikes: 0,
            read_at: UnixMillis(0),
        }
    }
}
