//! `GET /v1/models` and `GET /v1/models/{id}`: the union over all endpoints that the pool has keys for.

use std::{collections::HashSet, rc::Rc};

use futures::future::join_all;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    catalogue::{self, Choice},
    error::ApiError,
    handlers::{self, Context, Dialect, fetch::Fetch, passthrough},
    pool::key::{ApiType, Candidate},
    ports::{Outbound, OutboundBody, Ports, ReadBody as _, Request, Response},
    relay::Failure,
    secret::Secret,
    translate,
};

/// Answers the list.
pub async fn list<P: Ports>(
    context: &Context<P>,
    group: &str,
    request: &Request<P::RequestBody>,
) -> Result<Response<P>, ApiError> {
    match models(context, group, request).await {
        Ok(models) => handlers::json(StatusCode::OK, &json!({ "object": "list", "data": *models })),
        Err(failure) => Ok(failure.translated().answer(Dialect::OpenAi)),
    }
}

/// Answers for one model.
pub async fn one<P: Ports>(
    context: &Context<P>,
    group: &str,
    id: &str,
    request: &Request<P::RequestBody>,
) -> Result<Response<P>, ApiError> {
    let models = match models(context, group, request).await {
        Ok(models) => models,
        Err(failure) => return Ok(failure.translated().answer(Dialect::OpenAi)),
    };
    let catalogue = context.app.catalogue(&context.settings, context.started).await;
    let names: Vec<String> = catalogue.choices(id).into_iter().map(|choice| choice.model).collect();
    let known = |model: &&Value| {
        let own = model.get("id").and_then(Value::as_str).unwrap_or_default();
        own == id || names.iter().any(|name| name == own)
    };
    let mut model = models
        .iter()
        .find(known)
        .cloned()
        .ok_or_else(|| ApiError::model_not_found(id, "no endpoint lists it."))?;
    // The client asked for this name, an alias perhaps, and has to find it in the answer.
    if let Some(model) = model.as_object_mut() {
        model.insert("id".to_owned(), id.into());
    }
    handlers::json(StatusCode::OK, &model)
}

async fn models<P: Ports>(
    context: &Context<P>,
    group: &str,
    request: &Request<P::RequestBody>,
) -> Result<Rc<Vec<Value>>, Failure> {
    let head = passthrough::Head::of(context, request);
    if let Some(key) = head.own_key {
        return own(context, key).await.map(Rc::new);
    }
    if let Some(models) = context.app.kept_models(group, context.started) {
        return Ok(models);
    }
    let database = &context.instance().database;
    let mut endpoints = catalogue::endpoints(database, group).await.map_err(ApiError::from)?;
    if endpoints.is_empty() && !group.is_empty() {
        endpoints = catalogue::endpoints(database, "").await.map_err(ApiError::from)?;
    }
    let pages = join_all(
        endpoints
            .iter()
            .map(|(api_type, url)| endpoint(context, group, *api_type, url)),
    )
    .await;
    let (mut seen, mut union, mut failed) = (HashSet::new(), Vec::new(), None);
    for page in pages {
        match page {
            Ok(models) => union.extend(models.into_iter().filter(|model| {
                let id = model.get("id").and_then(Value::as_str).unwrap_or_default();
                !id.is_empty() && seen.insert(id.to_owned())
            })),
            Err(failure) => failed = Some(failure),
        }
    }
    match failed {
        // One dead key, or one dead endpoint, never hides the others.
        Some(failure) if union.is_empty() => Err(failure),
        None if endpoints.is_empty() => {
            Err(ApiError::no_available_keys("There are no keys yet: add some on the admin page.").into())
        }
        _ => {
            let union = Rc::new(union);
            context.app.keep_models(group, Rc::clone(&union), context.started);
            Ok(union)
        }
    }
}

/// All models of one endpoint.
async fn endpoint<P: Ports>(
    context: &Context<P>,
    group: &str,
    api_type: ApiType,
    url: &str,
) -> Result<Vec<Value>, Failure> {
    let settings = &context.settings;
    let full = match (url, api_type) {
        ("", ApiType::Gemini) => settings.gemini_base_url.as_str(),
        ("", ApiType::OpenAi) => settings.openai_base_url.as_str(),
        _ => url,
    };
    let choice = Choice {
        endpoints: Some([Rc::from(full)].into()),
        ..Choice::anywhere(api_type, "")
    };
    let target = choice.target(group);
    let (mut all, mut token) = (Vec::new(), String::new());
    for _ in 0..MOST_PAGES {
        let mut fetch = Fetch::get(path(api_type, &token), settings.timeouts(false));
        let delivered = context
            .instance()
            .relay
            .run(&target, context.started, &mut fetch)
            .await?;
        let (models, next) = read_page(api_type, &delivered.output);
        delivered.ticket.succeeded(Default::default());
        all.extend(models);
        match next {
            Some(next) => token = next,
            None => break,
        }
    }
    let database = &context.instance().database;
    // Best effort: routing by model falls back to any endpoint where nothing was learnt.
    let _ = catalogue::learn(database, api_type, full, &ids(&all)).await;
    Ok(all)
}

/// Pass-through mode: the models that the client's own key sees.
async fn own<P: Ports>(context: &Context<P>, key: Secret) -> Result<Vec<Value>, Failure> {
    let api_type = passthrough::type_of(&key);
    let settings = &context.settings;
    let base = match api_type {
        ApiType::Gemini => &settings.gemini_base_url,
        ApiType::OpenAi => &settings.openai_base_url,
    };
    let candidate = Candidate::own(api_type, key, base);
    let (name, value) = passthrough::credential(&candidate)?;
    let outbound = Outbound {
        method: Method::GET,
        url: format!("{base}{}", path(api_type, "")),
        headers: HeaderMap::from_iter([(name, value)]),
        body: OutboundBody::Empty,
        timeouts: settings.timeouts(false),
    };
    let unreachable = |_| ApiError::upstream("The provider could not be reached.");
    let mut answer = context.ports().send(outbound).await.map_err(unreachable)?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.body.chunk().await.map_err(unreachable)? {
        body.extend_from_slice(&chunk);
        if body.len() > handlers::fetch::MOST_BYTES {
            return Err(ApiError::upstream("The provider's list of models is too long.").into());
        }
    }
    if !answer.status.is_success() {
        return Err(Failure {
            upstream: Some((answer.status, answer.headers, body.into())),
            ..ApiError::upstream("").into()
        });
    }
    Ok(read_page(api_type, &body).0)
}

/// The path of a list, below a key's base URL. Google's pages hold 50 unless asked for more.
pub fn path(api_type: ApiType, token: &str) -> String {
    match api_type {
        ApiType::OpenAi => "/models".to_owned(),
        ApiType::Gemini if token.is_empty() => "/v1beta/models?pageSize=1000".to_owned(),
        ApiType::Gemini => {
            let token = percent_encoding::utf8_percent_encode(token, percent_encoding::NON_ALPHANUMERIC);
            format!("/v1beta/models?pageSize=1000&pageToken={token}")
        }
    }
}

/// The names that an OpenAI-type endpoint lists.
pub fn listed(body: &[u8]) -> Vec<String> {
    let (models, _) = read_page(ApiType::OpenAi, body);
    ids(&models).into_iter().map(str::to_owned).collect()
}

/// Reads a page: OpenAI's objects as they are, Google's in OpenAI's form, and the token of the next page.
fn read_page(api_type: ApiType, body: &[u8]) -> (Vec<Value>, Option<String>) {
    match api_type {
        ApiType::OpenAi => {
            let page: Value = serde_json::from_slice(body).unwrap_or_default();
            let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
            let mut models = list(page.get("data"));
            // Some services answer a bare array.
            if models.is_empty() {
                models = list(Some(&page));
            }
            models.truncate(MOST_MODELS);
            (models, None)
        }
        ApiType::Gemini => translate::models::page(body, MOST_MODELS),
    }
}

fn ids(models: &[Value]) -> Vec<&str> {
    models
        .iter()
        .filter_map(|model| model.get("id")?.as_str())
        .filter(|id| id.len() <= 200)
        .collect()
}

const MOST_PAGES: u32 = 20;
const MOST_MODELS: usize = 5000;
