//! `/api/keys/export` and `/api/keys/import`: all keys, out and in again.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};

use super::keys::{Wanted, check, store};
use crate::{
    endpoint,
    error::ApiError,
    handlers::{
        self, Context,
        admin::selection::{MOST_AT_ONCE, Many, Query, Whole, api_type},
        read_body,
    },
    ports::{Ports, Request, Response},
    store::keys::{self, Change, Page, Sort},
};

/// A key on its way.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Item {
    #[serde(alias = "key")]
    api_key: String,
    #[serde(default, rename = "apiType", alias = "api_type")]
    api_type: Option<String>,
    /// `endpoint_path` is the name that older versions have.
    #[serde(default, rename = "customEndpoint", alias = "endpoint_path", alias = "base_url")]
    custom_endpoint: Option<String>,
    #[serde(default, alias = "key_group")]
    group: Option<String>,
    #[serde(default)]
    priority: Option<Whole>,
    #[serde(default)]
    weight: Option<Whole>,
    #[serde(default)]
    note: Option<String>,
    #[serde(default)]
    project: Option<String>,
    #[serde(default)]
    enabled: Option<bool>,
}

/// `GET /api/keys/export?format=json|csv|txt`
pub(super) async fn export<P: Ports>(context: &Context<P>, query: &str) -> Result<Response<P>, ApiError> {
    let query = Query::read(query);
    let format = query.get("format").unwrap_or_else(|| "json".to_owned());
    let (database, now) = (&context.instance().database, context.started);
    let page = Page {
        sort: Sort::Created,
        descending: false,
        offset: 0,
        limit: -1,
    };
    let rows = keys::list(database, &query.filter()?, page, now).await?;
    let items = rows
        .into_iter()
        .map(|row| {
            Ok(Item {
                api_key: context.open(&row.stored)?.expose().to_owned(),
                api_type: Some(row.api_type),
                custom_endpoint: Some(row.base_url),
                group: Some(row.group),
                priority: Some(Whole(row.priority)),
                weight: Some(Whole(row.weight)),
                note: Some(row.note),
                project: Some(row.project),
                enabled: Some(row.status != "disabled"),
            })
        })
        .collect::<Result<Vec<_>, ApiError>>()?;
    let failed = |_| ApiError::internal("The export could not be written.");
    let (kind, body) = match format.as_str() {
        "json" => ("application/json", serde_json::to_vec(&items).map_err(|_| failed(()))?),
        "csv" => {
            let mut writer = csv::Writer::from_writer(Vec::new());
            for item in &items {
                writer.serialize(item).map_err(|_| failed(()))?;
            }
            ("text/csv; charset=utf-8", writer.into_inner().map_err(|_| failed(()))?)
        }
        "txt" => {
            let lines: Vec<_> = items.iter().map(|item| item.api_key.as_str()).collect();
            ("text/plain; charset=utf-8", lines.join("\n").into_bytes())
        }
        _ => return Err(ApiError::invalid("format", "'format' must be json, csv or txt.")),
    };
    keys::record(
        database,
        "admin",
        "keys_exported",
        &format!("{} keys", items.len()),
        now,
    )
    .await?;
    let mut response = handlers::bytes(StatusCode::OK, HeaderValue::from_static(kind), Bytes::from(body));
    let name = format!("attachment; filename=\"keystorm-keys.{format}\"");
    if let Ok(name) = HeaderValue::from_str(&name) {
        response.headers.insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

/// `POST /api/keys/import`: an export, the JSON of older versions, or a plain list.
pub(super) async fn import<P: Ports>(
    context: &Context<P>,
    request: Request<P::RequestBody>,
) -> Result<Response<P>, ApiError> {
    let headers: HeaderMap = request.headers;
    let body = read_body(context, &headers, request.body, context.settings.max_body_bytes).await?;
    let items = read(&body, Kind::of(&headers)?)?;
    if items.len() > MOST_AT_ONCE {
        return Err(ApiError::bad_request(format!(
            "At most {MOST_AT_ONCE} keys can be imported in one call."
        )));
    }
    let wanted = items
        .iter()
        .enumerate()
        .map(|(number, item)| wanted(context, number, item))
        .collect::<Result<_, _>>()?;
    let response = store(context, wanted).await?;
    let (database, detail) = (&context.instance().database, format!("{} keys", items.len()));
    keys::record(database, "admin", "keys_imported", &detail, context.started).await?;
    Ok(response)
}

/// What a body says that it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Csv,
    /// Whatever it looks like: files are sent with the type that somebody guessed from their name.
    Text,
}

impl Kind {
    fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let Some(kind) = headers.get(header::CONTENT_TYPE) else {
            return Ok(Self::Text);
        };
        let kind = kind.to_str().unwrap_or_default().to_ascii_lowercase();
        match kind.split(';').next().unwrap_or_default().trim() {
            "application/json" => Ok(Self::Json),
            "text/csv" => Ok(Self::Csv),
            "application/octet-stream" => Ok(Self::Text),
            kind if kind.starts_with("text/") => Ok(Self::Text),
            _ => Err(ApiError::unsupported_media_type(
                "application/json, text/csv or text/plain",
            )),
        }
    }
}

fn read(body: &[u8], kind: Kind) -> Result<Vec<Item>, ApiError> {
    /// JSON's forms: a list, or a list below `keys`; each entry a key alone or with what is known of it.
    #[derive(Deserialize)]
    struct Below {
        keys: Many<Entry>,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Entry {
        Key(String),
        Item(Item),
    }
    let malformed = |error: String| ApiError::bad_request(format!("The file cannot be read: {error}."));
    let text: Cow<'_, str> = String::from_utf8_lossy(body);
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return Err(ApiError::bad_request("The file is empty."));
    }
    if kind == Kind::Json || text.starts_with(['[', '{']) {
        let entries = if text.starts_with('[') {
            serde_json::from_str(text)
        } else {
            serde_json::from_str(text).map(|below: Below| below.keys)
        };
        let Many(entries) = entries.map_err(|error| {
            // The message may quote a key: the position alone is told.
            malformed(format!(
                "its JSON is neither a list of keys nor one of objects with an 'api_key', or has more than {MOST_AT_ONCE} (line {}, column {})",
                error.line(),
                error.column()
            ))
        })?;
        return Ok(entries
            .into_iter()
            .map(|entry| match entry {
                Entry::Key(api_key) => Item {
                    api_key,
                    ..Item::default()
                },
                Entry::Item(item) => item,
            })
            .collect());
    }
    if kind == Kind::Csv && text.lines().next().is_some_and(|head| head.contains("api_key")) {
        // The position alone is told: a line that cannot be read may hold a key.
        return csv::Reader::from_reader(text.as_bytes())
            .deserialize()
            .take(MOST_AT_ONCE + 1)
            .enumerate()
            .map(|(number, item)| item.map_err(|_| malformed(format!("line {} of the CSV is malformed", number + 2))))
            .collect();
    }
    let words = text.split(|letter: char| letter.is_whitespace() || ",;".contains(letter));
    Ok(words
        .filter(|word| !word.is_empty())
        .take(MOST_AT_ONCE + 1)
        .map(|word| Item {
            api_key: word.to_owned(),
            ..Item::default()
        })
        .collect())
}

fn wanted<'a, P: Ports>(context: &Context<P>, number: usize, item: &'a Item) -> Result<Wanted<'a>, ApiError> {
    let place = format!("keys[{number}].");
    let change = Change {
        enabled: item.enabled,
        priority: item.priority.map(|number| number.0),
        weight: item.weight.map(|number| number.0),
        group: item.group.clone(),
        note: item.note.clone(),
        project: item.project.clone(),
    };
    check(&change, &place)?;
    let base_url = match item
        .custom_endpoint
        .as_deref()
        .map(str::trim)
        .filter(|url| !url.is_empty())
    {
        Some(url) => endpoint::parse(url, context.settings.allow_private_endpoints)
            .map_err(|why| ApiError::invalid(format!("{place}customEndpoint"), why))?,
        None => String::new(),
    };
    let told = item
        .api_type
        .as_deref()
        .filter(|name| !name.is_empty())
        .map(api_type)
        .transpose()?;
    Ok(Wanted {
        text: &item.api_key,
        api_type: told,
        base_url,
        change,
    })
}
