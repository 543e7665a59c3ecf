//! `/api/keys/check`: checks keys by the list's filters, by number, or all; as JSON, or as it goes.

use std::{collections::HashSet, rc::Rc};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    catalogue,
    checks::{self, Checked, Mode, Verdict},
    error::ApiError,
    handlers::{
        self, Context,
        admin::selection::{Many, Query, Selection, Wanted, Whole, parse, present},
        models, read_json,
    },
    pool::key::{ApiType, Candidate, KeyId},
    ports::{Body, Ports, Request, Response, Sink as _},
    store::{
        self,
        filter::Filter,
        keys::{self, KeyRow, Page, Sort},
    },
};

/// What `POST /api/keys/check` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    #[serde(default, deserialize_with = "present")]
    keys: Option<Many<String>>,
    #[serde(default, deserialize_with = "present")]
    ids: Option<Many<Whole>>,
    #[serde(default, deserialize_with = "present")]
    filter: Option<Wanted>,
    mode: Option<String>,
    model: Option<String>,
    cursor: Option<String>,
    #[serde(default)]
    delete_invalid: bool,
}

/// Answers the route.
pub(super) async fn answer<P: Ports>(
    context: Context<P>,
    request: Request<P::RequestBody>,
) -> Result<Response<P>, ApiError> {
    let accepts = request
        .headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .unwrap_or_default();
    let is_streamed = accepts.contains("text/event-stream");
    let run = if request.method == Method::POST {
        let body = read_json(&context, request).await?;
        Run::new(context, if body.is_empty() { parse(b"{}")? } else { parse(&body)? }).await?
    } else {
        let filter = Query::read(&request.query).filter()?;
        Run::with(context, filter, Mode::Models, 0, false).await?
    };
    if !is_streamed {
        return run.at_once().await;
    }
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    let body = Body::Stream(Box::new(move |sink| Box::pin(run.stream(sink))));
    Ok(Response {
        status: StatusCode::OK,
        headers,
        body,
    })
}

/// One run over many keys, in the order of their numbers: the last number is where another run goes on.
struct Run<P: Ports> {
    context: Context<P>,
    filter: Filter,
    mode: Mode,
    delete_invalid: bool,
    cursor: i64,
    total: i64,
    done: i64,
    counts: [i64; 4],
    learnt: HashSet<String>,
}

impl<P: Ports> Run<P> {
    async fn new(context: Context<P>, ask: Ask) -> Result<Self, ApiError> {
        let mode = match (ask.mode.as_deref().unwrap_or("models"), ask.model) {
            ("models", _) => Mode::Models,
            ("generate", Some(model)) if !model.is_empty() => Mode::Generate(model),
            ("generate", _) => return Err(ApiError::missing("model")),
            _ => return Err(ApiError::invalid("mode", "'mode' must be \"models\" or \"generate\".")),
        };
        let cursor = match ask.cursor.as_deref().map(str::parse) {
            None => 0,
            Some(Ok(cursor)) => cursor,
            Some(Err(_)) => return Err(ApiError::invalid("cursor", "'cursor' must be one that a check gave.")),
        };
        let filter = match (ask.keys, ask.ids, ask.filter) {
            (None, None, None) => Filter::default(),
            (keys, ids, filter) => Selection { keys, ids, filter }.filter(&context)?,
        };
        Self::with(context, filter, mode, cursor, ask.delete_invalid).await
    }

    async fn with(
        context: Context<P>,
        filter: Filter,
        mode: Mode,
        cursor: i64,
        delete_invalid: bool,
    ) -> Result<Self, ApiError> {
        let database = &context.instance().database;
        let left = Filter {
            after: Some(cursor).filter(|cursor| *cursor > 0),
            ..filter.clone()
        };
        let total = keys::counts(database, &left, context.started)
            .await?
            .total(filter.status.as_deref());
        keys::record(
            database,
            "admin",
            "keys_checked",
            &format!("{total} keys"),
            context.started,
        )
        .await?;
        let learnt = HashSet::new();
        Ok(Self {
            context,
            filter,
            mode,
            delete_invalid,
            cursor,
            total,
            done: 0,
            counts: [0; 4],
            learnt,
        })
    }

    /// All results in one answer; a cursor when there was no time for all.
    async fn at_once(mut self) -> Result<Response<P>, ApiError> {
        let mut results = Vec::new();
        let mut is_over = false;
        while !is_over && self.context.ports().now().since(self.context.started) < MOST_MS {
            is_over = self.batch(async |progress| results.push(progress)).await?;
        }
        let body = json!({
            "success": true,
            "started_at": self.context.started.0,
            "results": results,
            "counts": self.counts(),
            "cursor": self.end(is_over),
        });
        handlers::json(StatusCode::OK, &body)
    }

    /// Each result as it comes. Once nobody listens the run stops; what was found is kept.
    async fn stream(mut self, mut sink: P::Sink) {
        let start = json!({ "started_at": self.context.started.0, "total": self.total });
        let start = format!("event: start\ndata: {start}\n\n");
        let mut is_gone = sink.write(Bytes::from(start)).await.is_err();
        loop {
            if is_gone {
                return;
            }
            let result = self
                .batch(async |progress: Value| {
                    let id = progress.get("id").cloned().unwrap_or_default();
                    let event = format!("id: {id}\nevent: progress\ndata: {progress}\n\n");
                    is_gone = is_gone || sink.write(Bytes::from(event)).await.is_err();
                })
                .await;
            let last = match result {
                Ok(false) => continue,
                Ok(true) => format!(
                    "event: end\ndata: {}\n\n",
                    json!({ "cursor": null, "counts": self.counts() })
                ),
                Err(error) => format!(
                    "event: error\ndata: {}\n\n",
                    String::from_utf8_lossy(&error.openai_body())
                ),
            };
            // It was the last thing to say, whoever hears it.
            let _ = sink.write(Bytes::from(last)).await;
            return;
        }
    }

    /// Checks the next keys, 16 at once, tells each in order, and writes what was found. True when there are no more.
    async fn batch(&mut self, mut tell: impl AsyncFnMut(Value)) -> Result<bool, ApiError> {
        let filter = Filter {
            after: Some(self.cursor),
            ..self.filter.clone()
        };
        let page = Page {
            sort: Sort::Created,
            descending: false,
            offset: 0,
            limit: BATCH,
        };
        let database = Rc::clone(&self.context.instance().database);
        let ports = self.context.ports().clone();
        let rows = keys::list(&database, &filter, page, ports.now()).await?;
        let keys = rows
            .iter()
            .map(|row| self.candidate(row))
            .collect::<Result<Vec<_>, _>>()?;
        let (mut invalid, mut checked, mut writes) = (Vec::new(), Vec::new(), Vec::new());
        let mode = self.mode.clone();
        let pairs = rows.iter().zip(&keys);
        let (ports, mode) = (&ports, &mode);
        let mut results = stream::iter(pairs)
            .map(|(row, key)| async move { (row, key, checks::check(ports, key, mode).await) })
            .buffered(AT_ONCE);
        while let Some((row, key, found)) = results.next().await {
            let Checked {
                verdict,
                latency_ms,
                message,
                write,
                models,
            } = found;
            self.done += 1;
            checked.push((row.id, verdict.as_str()));
            if verdict == Verdict::Invalid {
                invalid.push(row.id);
            }
            if let Some(count) = self.counts.get_mut(verdict as usize) {
                *count += 1;
            }
            writes.extend(write);
            if let Some(models) = models.filter(|_| self.learnt.insert(key.base_url.to_string())) {
                let names = models::listed(&models);
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                // Best effort: routing falls back to any endpoint where nothing is known.
                let _ = catalogue::learn(&database, key.api_type, &key.base_url, &names).await;
            }
            tell(json!({
                "id": row.id,
                "masked": row.masked,
                "result": verdict.as_str(),
                "latency_ms": latency_ms,
                "message": message,
                "done": self.done,
                "total": self.total,
            }))
            .await;
        }
        drop(results);
        let now = ports.now();
        store::pool::flush(&database, &writes, &[], now).await?;
        keys::checked(&database, &checked, now).await?;
        if self.delete_invalid && !invalid.is_empty() {
            keys::delete(
                &database,
                &Filter {
                    ids: Some(invalid),
                    ..Filter::default()
                },
                now,
            )
            .await?;
        }
        self.context.app.forget();
        self.cursor = rows.last().map_or(self.cursor, |row| row.id);
        Ok((rows.len() as i64) < BATCH)
    }

    fn candidate(&self, row: &KeyRow) -> Result<Candidate, ApiError> {
        let settings = &self.context.settings;
        let api_type = ApiType::parse(&row.api_type).unwrap_or(ApiType::OpenAi);
        let base_url = match (row.base_url.as_str(), api_type) {
            ("", ApiType::Gemini) => &settings.gemini_base_url,
            ("", ApiType::OpenAi) => &settings.openai_base_url,
            _ => &row.base_url,
        };
        Ok(Candidate {
            id: KeyId(row.id),
            ..Candidate::own(api_type, self.context.open(&row.stored)?, base_url)
        })
    }

    fn counts(&self) -> Value {
        let [valid, invalid, limited, unknown] = self.counts;
        json!({ "valid": valid, "invalid": invalid, "limited": limited, "unknown": unknown })
    }

    fn end(&self, is_over: bool) -> Option<String> {
        (!is_over).then(|| self.cursor.to_string())
    }
}

/// How many keys are read and written together.
const BATCH: i64 = 64;

/// How many keys are checked at once.
const AT_ONCE: usize = 16;

/// How long an answer that comes at once may take before it ends with a cursor.
const MOST_MS: i64 = 25_000;
