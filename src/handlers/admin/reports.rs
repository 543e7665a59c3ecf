//! What the administrator reads: `/api/stats`, `/api/events`, `/api/endpoints`, `/api/route`.

use std::collections::HashMap;

use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::{
    error::ApiError,
    handlers::{self, Context, admin::selection::Query},
    pool::Draw,
    ports::{Ports, Response, UnixMillis},
    store::reports::{self, Sums},
};

/// `GET /api/stats?range=1h|24h|7d|90d`: the spans of the range, those without requests included, and sums by model and fault.
pub(super) async fn stats<P: Ports>(context: &Context<P>, query: &str) -> Result<Response<P>, ApiError> {
    let range = Query::read(query).get("range").unwrap_or_else(|| "24h".to_owned());
    let (span_ms, bucket_ms) = match range.as_str() {
        // Counts are kept by the hour.
        "1h" => (HOUR_MS, HOUR_MS),
        "24h" => (24 * HOUR_MS, HOUR_MS),
        "7d" => (7 * DAY_MS, HOUR_MS),
        "90d" => (90 * DAY_MS, DAY_MS),
        _ => return Err(ApiError::invalid("range", "'range' must be 1h, 24h, 7d or 90d.")),
    };
    let (database, now) = (&context.instance().database, context.started.0);
    let floor = |moment: i64| moment - moment.rem_euclid(bucket_ms);
    let from = floor(now - span_ms);
    let known: HashMap<_, _> = reports::usage(database, UnixMillis(from), bucket_ms)
        .await?
        .into_iter()
        .collect();
    let spans = (0..=(floor(now) - from) / bucket_ms).map(|number| UnixMillis(from + number * bucket_ms));
    let buckets: Vec<_> = spans
        .map(|at| {
            let mut bucket = shown(known.get(&at).unwrap_or(&Sums::default()));
            bucket.insert("at".to_owned(), at.0.into());
            bucket
        })
        .collect();
    let models = reports::models(database, UnixMillis(from)).await?;
    let models: Vec<_> = models
        .into_iter()
        .map(|(name, sums)| {
            let mut model = shown(&sums);
            model.insert("model".to_owned(), name.into());
            model
        })
        .collect();
    let faults: Map<_, _> = reports::faults(database, UnixMillis(from))
        .await?
        .into_iter()
        .map(|(name, count)| (name, count.into()))
        .collect();
    handlers::json(
        StatusCode::OK,
        &json!({ "buckets": buckets, "models": models, "faults": faults }),
    )
}

/// `GET /api/events?limit`: the audit trail, the latest first.
pub(super) async fn events<P: Ports>(context: &Context<P>, query: &str) -> Result<Response<P>, ApiError> {
    let limit = Query::read(query).number("limit", 1, 1000)?.unwrap_or(100);
    let rows = reports::events(&context.instance().database, limit).await?;
    let events: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "id": row.integer(0),
                "at": row.integer(1),
                "actor": row.text(2),
                "action": row.text(3),
                "detail": row.text(4),
            })
        })
        .collect();
    handlers::json(StatusCode::OK, &json!({ "events": events }))
}

/// `GET /api/endpoints`: groups and endpoints with their keys, and the models that are known of each.
pub(super) async fn endpoints<P: Ports>(context: &Context<P>) -> Result<Response<P>, ApiError> {
    let (database, settings) = (&context.instance().database, &context.settings);
    let groups = reports::groups(database).await?;
    let groups: Vec<_> = groups
        .into_iter()
        .map(|(name, keys)| json!({ "name": name, "keys": keys }))
        .collect();
    let mut endpoints = Vec::new();
    for row in reports::endpoints(database).await? {
        let (api_type, stored) = (row.text(0), row.text(1));
        let url = match (stored, api_type) {
            ("", "gemini") => settings.gemini_base_url.as_str(),
            ("", _) => settings.openai_base_url.as_str(),
            _ => stored,
        };
        let models = reports::listed(database, api_type, url).await?;
        endpoints.push(json!({ "api_type": api_type, "base_url": stored, "keys": row.integer(2), "models": models }));
    }
    handlers::json(StatusCode::OK, &json!({ "groups": groups, "endpoints": endpoints }))
}

/// `GET /api/route?model&group`: which keys would serve now, or why none would. Nothing is leased.
pub(super) async fn route<P: Ports>(context: &Context<P>, query: &str) -> Result<Response<P>, ApiError> {
    let query = Query::read(query);
    let model = query.text("model").ok_or_else(|| ApiError::missing("model"))?;
    let group = query.get("group").unwrap_or_default();
    let mut pools = Vec::new();
    for choice in context
        .app
        .catalogue(&context.settings, context.started)
        .await
        .choices(&model)
    {
        let target = choice.target(&group);
        let draw = Draw {
            group: target.group,
            api_type: choice.api_type,
            model: target.model,
            endpoints: choice.endpoints.clone(),
            bucket: None,
        };
        let drawn = context.instance().relay.preview(&draw).await?;
        let keys: Vec<_> = drawn
            .keys
            .iter()
            .take(MOST_SHOWN)
            .map(|key| {
                json!({ "id": key.id.0, "masked": key.secret.masked(), "base_url": key.base_url, "priority": key.priority, "weight": key.weight })
            })
            .collect();
        pools.push(json!({
            "apiType": choice.api_type.as_str(),
            "model": choice.model,
            "endpoints": choice.endpoints,
            "keys": keys,
            "has_keys": drawn.census.keys > 0,
            "until": drawn.census.soonest.map(|(until, _)| until.0),
            "why": drawn.census.soonest.map(|(_, fault)| fault.as_str()),
        }));
    }
    handlers::json(
        StatusCode::OK,
        &json!({ "model": model, "group": group, "pools": pools }),
    )
}

fn shown(sums: &Sums) -> Map<String, Value> {
    let fields = [
        ("requests", sums.requests),
        ("successes", sums.successes),
        ("failures", sums.requests - sums.successes),
        ("prompt_tokens", sums.prompt_tokens),
        ("completion_tokens", sums.completion_tokens),
        ("total_tokens", sums.total_tokens),
        ("latency_sum_ms", sums.latency_sum_ms),
        ("latency_max_ms", sums.latency_max_ms),
    ];
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect()
}

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
const MOST_SHOWN: usize = 20;
