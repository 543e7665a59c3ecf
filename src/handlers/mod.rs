//! One file for each noun of the API: parse, call, respond. Policy lives elsewhere.

pub mod admin;
mod body;
pub mod chat;
pub mod counted;
pub mod download;
pub mod edge;
pub mod embed;
pub mod fetch;
pub mod gemini;
pub mod generate;
pub mod health;
pub mod models;
pub mod passthrough;
pub mod upload;

pub use body::{Memory, is_json, read_body, read_json};

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use crate::{
    app::{App, Instance},
    catalogue::{Catalogue, Choice},
    error::ApiError,
    pool::key::ApiType,
    ports::{Body, Ports, Request, Response, UnixMillis},
    relay::Failure,
    routes::{Gemini, OpenAi},
    secret::Secret,
    settings::Settings,
    translate::model,
    vault::{Vault, WrongKey},
};

/// What a handler knows beside the request itself.
pub struct Context<P: Ports> {
    /// The application.
    pub app: App<P>,
    /// The configuration in force.
    pub settings: Rc<Settings>,
    /// Seals and opens secrets.
    pub vault: Rc<Vault>,
    /// When the request came in.
    pub started: UnixMillis,
    /// The request's id, as the client sees it.
    pub request_id: String,
}

impl<P: Ports> Context<P> {
    /// What the instance keeps.
    pub fn instance(&self) -> &Instance<P> {
        self.app.instance()
    }

    /// The pools that may serve a model. In pass-through mode the client's key says which provider it is for.
    pub async fn choices(&self, model: &str, group: &str, head: &passthrough::Head) -> Vec<Choice> {
        if let Some(key) = &head.own_key {
            let api_type = passthrough::type_of(key);
            let name = if api_type == ApiType::Gemini {
                model::bare(model)
            } else {
                model
            };
            return vec![Choice::anywhere(api_type, name)];
        }
        let guess = || Catalogue::guess(model).target(group);
        let catalogue = self.app.catalogue_for(&self.settings, guess, self.started).await;
        catalogue.choices(model)
    }

    /// Opens a secret as it is stored.
    pub fn open(&self, stored: &str) -> Result<Secret, ApiError> {
        self.vault
            .open(stored)
            .map_err(|WrongKey| ApiError::misconfigured(&[WRONG_KEY.to_owned()]))
    }

    /// The host.
    pub fn ports(&self) -> &P {
        &self.instance().ports
    }
}

/// In whose shape a caller expects errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI's.
    OpenAi,
    /// Google's.
    Gemini,
    /// The administrator's: OpenAI's shape, never cached, never for another origin.
    Admin,
}

impl Dialect {
    /// The dialect of a path, also of one that is no route.
    pub fn of(path: &str) -> Self {
        let gemini = |path: &str| path.contains("/v1beta/") && !path.contains("/v1beta/openai/");
        let verb =
            |path: &str| path.contains("/models/") && path.rsplit('/').next().is_some_and(|last| last.contains(':'));
        if path.starts_with("/api/") {
            Self::Admin
        } else if gemini(path) || verb(path) {
            Self::Gemini
        } else {
            Self::OpenAi
        }
    }

    /// An error as this dialect tells it.
    pub fn error<P: Ports>(self, error: &ApiError) -> Response<P> {
        let body = match self {
            Self::OpenAi | Self::Admin => error.openai_body(),
            Self::Gemini => error.google_body(),
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, JSON);
        if let Some(seconds) = error.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = error.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        Response {
            status: error.status,
            headers,
            body: Body::Full(body),
        }
    }
}

impl Failure {
    /// The answer to a client. Where the client speaks the upstream's dialect, it sees the upstream's own words.
    pub fn answer<P: Ports>(self, dialect: Dialect) -> Response<P> {
        let mut response = match self.upstream {
            Some((status, headers, body)) if !body.is_empty() => {
                let content_type = headers.get(header::CONTENT_TYPE).cloned();
                bytes(status, content_type.unwrap_or(JSON), body)
            }
            _ => dialect.error(&self.error),
        };
        explain(
            &mut response.headers,
            self.key.as_deref().unwrap_or_default(),
            self.attempts,
        );
        response
    }
}

/// Answers OpenAI's routes.
pub async fn openai<P: Ports>(
    context: Context<P>,
    route: OpenAi,
    group: String,
    request: Request<P::RequestBody>,
) -> Result<Response<P>, ApiError> {
    match route {
        OpenAi::Chat | OpenAi::Completions | OpenAi::Embeddings => chat::answer(context, &route, group, request).await,
        OpenAi::Models => models::list(&context, &group, &request).await,
        OpenAi::Model(id) if request.method != http::Method::DELETE => {
            models::one(&context, &group, &id, &request).await
        }
        OpenAi::Model(id) => {
            // The name was decoded: as it stands it could be read as a query, or could be no URL at all.
            let id = utf8_percent_encode(&id, IN_A_PATH);
            passthrough::other(context, &format!("/models/{id}"), group, request).await
        }
        OpenAi::Other(path) => passthrough::other(context, &path, group, request).await,
    }
}

/// Answers Gemini's native routes.
pub async fn gemini<P: Ports>(
    context: Context<P>,
    route: Gemini,
    group: String,
    request: Request<P::RequestBody>,
) -> Result<Response<P>, ApiError> {
    gemini::native(context, route, group, request).await
}

/// A whole JSON answer.
pub fn json<P: Ports>(status: StatusCode, value: &impl Serialize) -> Result<Response<P>, ApiError> {
    let body = serde_json::to_vec(value).map_err(|_| ApiError::internal("The answer could not be written as JSON."))?;
    Ok(bytes(status, JSON, Bytes::from(body)))
}

/// A whole answer.
pub fn bytes<P: Ports>(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response<P> {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::CONTENT_TYPE, content_type);
    Response {
        status,
        headers,
        body: Body::Full(body),
    }
}

/// Marks an answer with the key that served, in its masked form, and the number of upstream calls it took.
pub fn explain(headers: &mut HeaderMap, key: &str, attempts: u32) {
    // The mask has an ellipsis in it, which a header may carry as bytes but many clients choke on.
    if let Ok(key) = HeaderValue::from_str(&key.replace('…', "...")) {
        headers.insert("x-keystorm-key", key);
    }
    headers.insert("x-keystorm-attempts", HeaderValue::from(attempts));
}

/// What is told when the secrets of the database were sealed with another key.
pub const WRONG_KEY: &str = "encryption_key is not the one that the keys in the database were sealed with";

/// What has to be encoded in a path: all but what RFC 3986 calls unreserved, and the slashes and colons of models' names.
const IN_A_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/')
    .remove(b':');

/// The content type of JSON.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");
