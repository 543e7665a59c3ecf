//! `GET /healthz`, `GET /readyz`, `GET /metrics`

use http::{HeaderValue, StatusCode};
use serde_json::json;

use crate::{
    auth,
    error::ApiError,
    handlers::{self, Context},
    metrics::Scrape,
    ports::{Ports, Request, Response, SqlError},
    store::{filter::Filter, keys, reports},
};

/// The component runs.
pub fn live<P: Ports>(_: &Context<P>) -> Result<Response<P>, ApiError> {
    handlers::json(StatusCode::OK, &json!({ "status": "ok" }))
}

/// The database answers, and there is a key that may serve. One that cannot be written is told and changes nothing else:
/// requests go on being served, and taking an instance out would not help.
pub async fn ready<P: Ports>(context: &Context<P>) -> Result<Response<P>, ApiError> {
    let counts = keys::counts(&context.instance().database, &Filter::default(), context.started).await?;
    let (status, word) = if counts.active > 0 {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "no_active_keys")
    };
    let database = match context.instance().relay.storage_fault().await {
        None => "ok",
        Some(_) => "not_writable",
    };
    handlers::json(
        status,
        &json!({ "status": word, "active_keys": counts.active, "database": database }),
    )
}

/// What there is to watch, as Prometheus text.
pub async fn metrics<P: Ports>(
    context: &Context<P>,
    request: &Request<P::RequestBody>,
) -> Result<Response<P>, ApiError> {
    let given = auth::bearer(&request.headers).unwrap_or_default();
    let by_token = context
        .settings
        .metrics_token
        .as_ref()
        .is_some_and(|token| token.matches(given));
    if !by_token && (given.is_empty() || !handlers::admin::is_password(context, request, given).await?) {
        return Err(ApiError::unauthorized(
            "Metrics need the administrator's key or the metrics_token as a bearer.",
        ));
    }
    let relay = &context.instance().relay;
    // What this instance has counted comes along; that of the others is at most a second behind.
    relay.flush().await;
    let mut scrape = Scrape {
        snapshot_ms: relay.snapshot_age(context.started),
        unwritten: relay.database_fault().is_some(),
        ..Scrape::default()
    };
    // A scrape that fails with the database would hide what there is to alarm about.
    if let Ok((sums, counts, rests)) = read(context).await {
        (scrape.sums, scrape.keys, scrape.model_rests) = (Some(sums), counts, rests);
    }
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(handlers::bytes(StatusCode::OK, content_type, scrape.text().into()))
}

async fn read<P: Ports>(context: &Context<P>) -> Result<(Named, Named, i64), SqlError> {
    let database = &context.instance().database;
    let counts = keys::counts(database, &Filter::default(), context.started).await?;
    Ok((
        reports::counters(database).await?,
        counts
            .each()
            .into_iter()
            .map(|(state, count)| (state.to_owned(), count))
            .collect(),
        reports::model_rests(database, context.started).await?,
    ))
}

/// Counts by name.
type Named = Vec<(String, i64)>;
