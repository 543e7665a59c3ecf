//! `GET /healthz`, `GET /readyz`, `GET /metrics`

use http::{HeaderValue, StatusCode};
use serde_json::json;

use crate::{
    auth,
    error::ApiError,
    handlers::{self, Context},
    ports::{Ports, Request, Response},
    store::{filter::Filter, keys},
};

/// The component runs.
pub fn live<P: Ports>(_: &Context<P>) -> Result<Response<P>, ApiError> {
    handlers::json(StatusCode::OK, &json!({ "status": "ok" }))
}

/// The database answers, and there is a key that may serve.
pub async fn ready<P: Ports>(context: &Context<P>) -> Result<Response<P>, ApiError> {
    let counts = keys::counts(&context.instance().database, &Filter::default(), context.started).await?;
    let (status, word) = if counts.active > 0 {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "no_active_keys")
    };
    handlers::json(status, &json!({ "status": word, "active_keys": counts.active }))
}

/// The pool by state, as Prometheus text.
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
    if !by_token && !auth::admin_password(&context.settings, &request.headers, given)? {
        return Err(ApiError::unauthorized(
            "Metrics need the administrator's key or the metrics_token as a bearer.",
        ));
    }
    let counts = keys::counts(&context.instance().database, &Filter::default(), context.started).await?;
    let mut text = String::from("# HELP keystorm_keys Keys by state.\n# TYPE keystorm_keys gauge\n");
    for (status, count) in counts.each() {
        text.push_str(&format!("keystorm_keys{{state=\"{status}\"}} {count}\n"));
    }
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(handlers::bytes(StatusCode::OK, content_type, text.into()))
}
