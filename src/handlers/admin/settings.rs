//! `/api/settings`: model aliases, and what is in force.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use crate::{
    catalogue::ALIASES,
    error::ApiError,
    handlers::{self, Context, admin::selection::parse},
    ports::{Ports, Response},
    settings::NAMES,
    store::{keys, reports},
};

/// `GET /api/settings`. The value of a secret is never shown, only whether it is set.
pub(super) async fn show<P: Ports>(context: &Context<P>) -> Result<Response<P>, ApiError> {
    let settings = &context.settings;
    let effective: Vec<_> = NAMES
        .iter()
        .map(|(name, secret)| {
            let is_set = settings.set.contains(name);
            let value = if *secret {
                if is_set { "set" } else { "" }.to_owned()
            } else {
                settings.value(name)
            };
            let source = if is_set { "variable" } else { "default" };
            json!({ "name": name, "value": value, "source": source, "secret": secret })
        })
        .collect();
    let catalogue = context.app.catalogue(settings, context.started).await;
    handlers::json(
        StatusCode::OK,
        &json!({ "effective": effective, "aliases": catalogue.aliases }),
    )
}

/// `PUT /api/settings` with `{"aliases": {"from": "to"}}`, which replaces all of them.
pub(super) async fn change<P: Ports>(context: &Context<P>, body: Bytes) -> Result<Response<P>, ApiError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Change {
        aliases: BTreeMap<String, String>,
    }
    let Change { aliases } = parse(&body)?;
    let good = |name: &String| (1..=200).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    if aliases.len() > MOST_ALIASES || !aliases.iter().all(|(from, to)| good(from) && good(to)) {
        let message = format!("'aliases' takes at most {MOST_ALIASES} names of 1 to 200 characters.");
        return Err(ApiError::invalid("aliases", message));
    }
    let database = &context.instance().database;
    let text = serde_json::to_string(&aliases).map_err(|_| ApiError::internal("The aliases could not be written."))?;
    reports::set(database, ALIASES, &text).await?;
    keys::record(
        database,
        "admin",
        "settings_changed",
        &format!("{} aliases", aliases.len()),
        context.started,
    )
    .await?;
    context.app.forget();
    handlers::json(StatusCode::OK, &json!({ "aliases": aliases }))
}

const MOST_ALIASES: usize = 1000;
