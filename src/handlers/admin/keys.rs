//! `/api/keys`: adding, listing, changing, deleting.

use std::collections::HashSet;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    endpoint,
    error::ApiError,
    handlers::{
        self, Context,
        admin::selection::{self, Many, Query, Selection, Whole, api_type, parse, present},
        read_json,
    },
    pool::key::{ApiType, KeyId},
    ports::{Ports, Request, Response},
    routes,
    secret::{Secret, mask},
    store::{
        filter::Filter,
        keys::{self, Beside, Change, KeyRow, NewKey, Page, Sort},
        secrets,
    },
};

/// Answers `/api/keys`.
pub(super) async fn answer<P: Ports>(
    context: &Context<P>,
    request: Request<P::RequestBody>,
) -> Result<Response<P>, ApiError> {
    match request.method {
        Method::POST => add(context, read_json(context, request).await?).await,
        Method::PATCH => change(context, read_json(context, request).await?).await,
        Method::DELETE => delete(context, read_json(context, request).await?).await,
        _ => list(context, &request.query).await,
    }
}

/// `GET /api/keys/{id}/secret`: reveals one credential, and writes down that it did.
pub(super) async fn secret<P: Ports>(context: &Context<P>, id: i64) -> Result<Response<P>, ApiError> {
    let database = &context.instance().database;
    let stored = keys::stored(database, KeyId(id)).await?;
    let stored = stored.ok_or_else(|| ApiError::not_found("key_not_found", format!("There is no key {id}.")))?;
    let secret = context.open(&stored)?;
    keys::record(database, "admin", "key_revealed", &format!("key {id}"), context.started).await?;
    handlers::json(StatusCode::OK, &json!({ "id": id, "api_key": secret.expose() }))
}

/// What `POST /api/keys` takes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Add {
    keys: Many<String>,
    api_type: Option<String>,
    custom_endpoint: Option<String>,
    group: Option<String>,
    priority: Option<Whole>,
    weight: Option<Whole>,
    note: Option<String>,
    project: Option<String>,
}

async fn add<P: Ports>(context: &Context<P>, body: Bytes) -> Result<Response<P>, ApiError> {
    let add: Add = parse(&body)?;
    let told = add
        .api_type
        .as_deref()
        .filter(|name| !name.is_empty())
        .map(api_type)
        .transpose()?;
    let base_url = match add
        .custom_endpoint
        .as_deref()
        .map(str::trim)
        .filter(|url| !url.is_empty())
    {
        Some(url) => endpoint::parse(url, context.settings.allow_private_endpoints)
            .map_err(|why| ApiError::invalid("customEndpoint", why))?,
        None => String::new(),
    };
    let changes = Change {
        enabled: None,
        priority: add.priority.map(|number| number.0),
        weight: add.weight.map(|number| number.0),
        group: add.group,
        note: add.note,
        project: add.project,
    };
    check(&changes, "")?;
    let wanted = add.keys.0.iter().map(|key| Wanted {
        text: key,
        api_type: told,
        base_url: base_url.clone(),
        change: changes.clone(),
    });
    store(context, wanted.collect()).await
}

/// A key that somebody wants added, with what is known of it.
pub(super) struct Wanted<'a> {
    pub(super) text: &'a str,
    pub(super) api_type: Option<ApiType>,
    pub(super) base_url: String,
    pub(super) change: Change,
}

/// Adds keys and answers what became of each.
pub(super) async fn store<P: Ports>(context: &Context<P>, wanted: Vec<Wanted<'_>>) -> Result<Response<P>, ApiError> {
    // With the wrong key new secrets would be sealed apart from the old ones.
    if !secrets::fits(&context.instance().database, &context.vault).await? {
        return Err(ApiError::misconfigured(&[handlers::WRONG_KEY.to_owned()]));
    }
    let mut random = vec![0; wanted.len() * 28];
    context.ports().random(&mut random);
    let (mut fresh, mut invalid, mut seen, mut repeated) = (Vec::new(), Vec::new(), HashSet::new(), 0_u64);
    for (key, random) in wanted.iter().zip(random.chunks(28)) {
        let text = key.text.trim();
        if let Err(why) = key_shape(text) {
            invalid.push(json!({ "key": mask(text), "reason": why }));
            continue;
        }
        let change = &key.change;
        let group = change.group.clone().unwrap_or_default();
        let hash = context.vault.digest(text);
        if !seen.insert((hash.clone(), key.base_url.clone(), group.clone())) {
            repeated += 1;
            continue;
        }
        let (nonce, pick) = random.split_at(24);
        let nonce: [u8; 24] = nonce.try_into().unwrap_or_default();
        let pick: [u8; 4] = pick.try_into().unwrap_or_default();
        fresh.push(NewKey {
            api_type: key.api_type.unwrap_or_else(|| by_shape(text)),
            base_url: key.base_url.clone(),
            group,
            stored: context.vault.seal(&Secret::new(text), nonce),
            hash,
            masked: mask(text),
            priority: change.priority.unwrap_or(0),
            weight: change.weight.unwrap_or(1),
            note: change.note.clone().unwrap_or_default(),
            project: change.project.clone().unwrap_or_default(),
            enabled: change.enabled.unwrap_or(true),
            pick: i64::from(u32::from_le_bytes(pick) >> 1),
        });
    }
    let database = &context.instance().database;
    let added = keys::add(database, &fresh, context.started).await?;
    let duplicates = fresh.len() as u64 - added + repeated;
    if added > 0 {
        keys::record(
            database,
            "admin",
            "keys_added",
            &format!("{added} keys"),
            context.started,
        )
        .await?;
        context.app.forget();
    }
    let message = format!(
        "{added} added, {duplicates} already there, {} not usable",
        invalid.len()
    );
    handlers::json(
        StatusCode::OK,
        &json!({ "success": true, "added": added, "duplicates": duplicates, "invalid": invalid, "message": message }),
    )
}

async fn list<P: Ports>(context: &Context<P>, query: &str) -> Result<Response<P>, ApiError> {
    let query = Query::read(query);
    let filter = query.filter()?;
    let page = query.number("page", 1, i64::MAX / 1000)?;
    let size = query.number("pageSize", 1, 500)?;
    let sort = query.get("sort").unwrap_or_else(|| "created_at".to_owned());
    let (name, descending) = match sort.strip_prefix('-') {
        Some(name) => (name, true),
        None => (sort.as_str(), false),
    };
    let unknown = || {
        let name: String = name.chars().take(64).collect();
        ApiError::invalid("sort", format!("Keys cannot be sorted by '{name}'."))
    };
    let sort = Sort::parse(name).ok_or_else(unknown)?;
    let paged = page.is_some() || size.is_some();
    let size = size.unwrap_or(50);
    let page = Page {
        sort,
        descending,
        offset: if paged { (page.unwrap_or(1) - 1) * size } else { 0 },
        limit: if paged { size } else { -1 },
    };
    let masked = query.switch("mask")?;
    let (database, now) = (&context.instance().database, context.started);
    let rows = keys::list(database, &filter, page, now).await?;
    let counts = keys::counts(
        database,
        &Filter {
            status: None,
            ..filter.clone()
        },
        now,
    )
    .await?;
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let beside = keys::beside(database, &ids, now).await?;
    let nothing = Beside::default();
    let shown = rows
        .iter()
        .map(|row| shown(context, row, beside.get(&row.id).unwrap_or(&nothing), masked))
        .collect::<Result<Vec<_>, _>>()?;
    let by_status: Map<_, _> = counts
        .each()
        .map(|(name, count)| (name.to_owned(), count.into()))
        .into_iter()
        .collect();
    handlers::json(
        StatusCode::OK,
        &json!({ "keys": shown, "total": counts.total(filter.status.as_deref()), "counts": by_status }),
    )
}

/// What `PATCH /api/keys` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    #[serde(default, deserialize_with = "present")]
    keys: Option<Many<String>>,
    #[serde(default, deserialize_with = "present")]
    ids: Option<Many<Whole>>,
    #[serde(default, deserialize_with = "present")]
    filter: Option<selection::Wanted>,
    set: Set,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    enabled: Option<bool>,
    priority: Option<Whole>,
    weight: Option<Whole>,
    group: Option<String>,
    note: Option<String>,
    project: Option<String>,
}

async fn change<P: Ports>(context: &Context<P>, body: Bytes) -> Result<Response<P>, ApiError> {
    let Patch { keys, ids, filter, set } = parse(&body)?;
    let selection = Selection { keys, ids, filter };
    let change = Change {
        enabled: set.enabled,
        priority: set.priority.map(|number| number.0),
        weight: set.weight.map(|number| number.0),
        group: set.group,
        note: set.note,
        project: set.project,
    };
    check(&change, "set.")?;
    let filter = selection.filter(context)?;
    let database = &context.instance().database;
    let changed = keys::change(database, &filter, &change, context.started).await?;
    keys::record(
        database,
        "admin",
        "keys_changed",
        &format!("{changed} keys"),
        context.started,
    )
    .await?;
    context.app.forget();
    handlers::json(StatusCode::OK, &json!({ "success": true, "changed": changed }))
}

async fn delete<P: Ports>(context: &Context<P>, body: Bytes) -> Result<Response<P>, ApiError> {
    let selection: Selection = parse(&body)?;
    let filter = selection.filter(context)?;
    let database = &context.instance().database;
    let deleted = keys::delete(database, &filter, context.started).await?;
    keys::record(
        database,
        "admin",
        "keys_deleted",
        &format!("{deleted} keys"),
        context.started,
    )
    .await?;
    context.app.forget();
    let message = format!("{deleted} deleted");
    handlers::json(
        StatusCode::OK,
        &json!({ "success": true, "deleted": deleted, "message": message }),
    )
}

fn shown<P: Ports>(context: &Context<P>, row: &KeyRow, beside: &Beside, masked: bool) -> Result<Value, ApiError> {
    let rests: Vec<_> = beside
        .rests
        .iter()
        .map(|rest| json!({ "model": rest.model, "until": rest.until, "rule": rest.rule }))
        .collect();
    let mut key = json!({
        "id": row.id,
        "masked": row.masked,
        "apiType": row.api_type,
        "customEndpoint": row.base_url,
        "group": row.group,
        "status": row.status,
        "reason": row.reason,
        "rule": row.rule,
        "until": moment(row.until),
        "priority": row.priority,
        "weight": row.weight,
        "note": row.note,
        "project": row.project,
        "failed_count": row.failed_count,
        "last_error": row.last_error,
        "last_checked_at": moment(row.last_checked_at),
        "last_used_at": moment(row.last_used_at),
        "created_at": row.created_at,
        "last_result": row.last_result,
        "requests": beside.requests,
        "failures": beside.failures,
        "usage": beside.hours,
        "rests": rests,
    });
    if let Some(key) = key.as_object_mut().filter(|_| !masked) {
        key.insert("api_key".to_owned(), context.open(&row.stored)?.expose().into());
    }
    Ok(key)
}

/// Milliseconds since 1970, or nothing.
const fn moment(ms: i64) -> Option<i64> {
    if ms > 0 { Some(ms) } else { None }
}

/// A hint alone: no key is refused for its shape.
fn by_shape(key: &str) -> ApiType {
    if key.starts_with("AIza") || key.starts_with("AQ.") {
        ApiType::Gemini
    } else {
        ApiType::OpenAi
    }
}

fn key_shape(key: &str) -> Result<(), &'static str> {
    match key {
        "" => Err("empty"),
        _ if key.len() > MOST_KEY_LENGTH => Err("longer than 1024 characters"),
        _ if !key.bytes().all(|byte| (0x21..0x7f).contains(&byte)) => Err("has blanks or characters outside ASCII"),
        _ => Ok(()),
    }
}

pub(super) fn check(change: &Change, place: &str) -> Result<(), ApiError> {
    let within = |name: &str, value: Option<i64>, least: i64, most: i64| match value {
        Some(value) if !(least..=most).contains(&value) => Err(ApiError::invalid(
            format!("{place}{name}"),
            format!("'{name}' must be from {least} to {most}."),
        )),
        _ => Ok(()),
    };
    within("priority", change.priority, -1000, 1000)?;
    within("weight", change.weight, 1, 1000)?;
    for (name, text, most) in [
        ("group", &change.group, 64),
        ("note", &change.note, 1000),
        ("project", &change.project, 64),
    ] {
        if text
            .as_ref()
            .is_some_and(|text| text.chars().count() > most || text.chars().any(char::is_control))
        {
            let message = format!("'{name}' must be at most {most} characters on one line.");
            return Err(ApiError::invalid(format!("{place}{name}"), message));
        }
    }
    if change
        .group
        .as_deref()
        .is_some_and(|group| !routes::is_group_name(group))
    {
        let message =
            "'group' is the first part of a path: it must not have / \\ ; ? # or %, nor be a path of KeyStorm's own.";
        return Err(ApiError::invalid(format!("{place}group"), message));
    }
    Ok(())
}

const MOST_KEY_LENGTH: usize = 1024;
