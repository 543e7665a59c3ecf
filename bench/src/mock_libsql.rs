//! A stand-in for a libSQL server on loopback: Hrana 3 over HTTP, over one SQLite file.
//!
//! What makes the real server different from a file is here: a statement is parsed by the server's own parser and run as
//! that writes it out again, several in one text and PRAGMAs that change anything are refused, a stream that idles expires,
//! a transaction that takes too long is ended, and a token is asked for. `POST /__expire` lets all streams expire at once.

#![allow(clippy::print_stdout, reason = "a command-line program says where it listens")]
#![allow(
    clippy::disallowed_methods,
    reason = "the list keeps the clock out of the core; this is a program of its own"
)]
#![allow(
    clippy::indexing_slicing,
    reason = "a JSON value that is indexed yields null where it has nothing"
)]

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use clap::Parser;
use fallible_iterator::FallibleIterator as _;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use libsql_sqlite3_parser::{
    ast::{Cmd, Stmt},
    lexer::sql::Parser as Sql,
};
use rusqlite::{Connection, types::Value};
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;

/// A stand-in for a libSQL server.
#[derive(Parser)]
struct Options {
    /// Where to listen.
    listen: SocketAddr,
    /// The database's file.
    file: PathBuf,
    /// What callers have to send as a bearer.
    #[arg(long, default_value = "")]
    token: String,
    /// After how many milliseconds of quiet a stream expires.
    #[arg(long, default_value_t = 10_000)]
    expire_ms: u64,
}

/// The server.
struct Server {
    options: Options,
    streams: Mutex<HashMap<String, Stream>>,
    next: AtomicU64,
    statements: AtomicU64,
}

/// A connection that waits for its next request.
struct Stream {
    connection: Connection,
    since: Instant,
}

/// An error as the protocol has it.
type Failure = (&'static str, String);

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let listener = TcpListener::bind(options.listen).await?;
    // As the real server keeps its file.
    Connection::open(&options.file)?.pragma_update(None, "journal_mode", "wal")?;
    println!("mock libSQL on http://{}", listener.local_addr()?);
    let server = Arc::new(Server {
        options,
        streams: Mutex::default(),
        next: AtomicU64::new(1),
        statements: AtomicU64::new(0),
    });
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let server = Arc::clone(&server);
                async move { Ok::<_, Infallible>(answer(server, request).await) }
            });
            // A client that goes away is no affair of the others.
            let _ = Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(server: Arc<Server>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    match head.uri.path() {
        "/__expire" => {
            for stream in lock(&server.streams).values_mut() {
                stream.since = Instant::now() - Duration::from_millis(server.options.expire_ms + 1);
            }
            return reply(StatusCode::OK, &json!({}));
        }
        "/__statements" => return reply(StatusCode::OK, &json!(server.statements.load(Relaxed))),
        "/v2/pipeline" | "/v3/pipeline" => {}
        _ => return reply(StatusCode::NOT_FOUND, &json!({ "message": "no such path" })),
    }
    let expected = format!("Bearer {}", server.options.token);
    let given = head
        .headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    if !server.options.token.is_empty() && given != Some(&expected) {
        return reply(
            StatusCode::UNAUTHORIZED,
            &error(&("AUTH_JWT_INVALID", "Unauthorized".to_owned())),
        );
    }
    let Ok(pipeline) = serde_json::from_slice::<Json>(&body) else {
        return reply(StatusCode::BAD_REQUEST, &error(&("HTTP_BODY", "not JSON".to_owned())));
    };
    // SQLite blocks; another writer may keep it waiting for seconds.
    let served = tokio::task::spawn_blocking(move || server.pipeline(&pipeline)).await;
    match served {
        Ok(Ok(body)) => reply(StatusCode::OK, &body),
        Ok(Err(failure)) => reply(StatusCode::BAD_REQUEST, &error(&failure)),
        Err(_) => reply(StatusCode::INTERNAL_SERVER_ERROR, &json!({})),
    }
}

impl Server {
    fn pipeline(&self, pipeline: &Json) -> Result<Json, Failure> {
        let mut connection = Some(match pipeline["baton"].as_str() {
            Some(baton) => {
                let stream = lock(&self.streams).remove(baton);
                let stream = stream.ok_or(("BATON_INVALID", "Received an invalid baton".to_owned()))?;
                if stream.since.elapsed() > Duration::from_millis(self.options.expire_ms) {
                    return Err(("STREAM_EXPIRED", "The stream has expired due to inactivity".to_owned()));
                }
                stream.connection
            }
            None => self.open().map_err(|error| ("SQLITE_CANTOPEN", error.to_string()))?,
        });
        let mut results = Vec::new();
        for request in pipeline["requests"].as_array().into_iter().flatten() {
            let done = match (request["type"].as_str().unwrap_or_default(), &connection) {
                ("close", _) => {
                    connection = None;
                    Ok(json!({ "type": "close" }))
                }
                (_, None) => Err(("BATON_STREAM_CLOSED", "The stream was closed".to_owned())),
                ("execute", Some(connection)) => {
                    self.statements.fetch_add(1, Relaxed);
                    execute(connection, &request["stmt"]).map(|result| json!({ "type": "execute", "result": result }))
                }
                ("get_autocommit", Some(connection)) => {
                    Ok(json!({ "type": "get_autocommit", "is_autocommit": connection.is_autocommit() }))
                }
                (other, _) => Err(("PROTOCOL", format!("the stand-in does not know {other:?}"))),
            };
            results.push(match done {
                Ok(response) => json!({ "type": "ok", "response": response }),
                Err(failure) => json!({ "type": "error", "error": error(&failure) }),
            });
        }
        let baton = connection.map(|connection| {
            let baton = format!("baton-{}", self.next.fetch_add(1, Relaxed));
            let mut streams = lock(&self.streams);
            // Streams that were left behind must not hold the lock of a transaction for ever.
            let most = Duration::from_millis(self.options.expire_ms);
            streams.retain(|_, stream| stream.since.elapsed() <= most || stream.connection.is_autocommit());
            streams.insert(
                baton.clone(),
                Stream {
                    connection,
                    since: Instant::now(),
                },
            );
            baton
        });
        Ok(json!({ "baton": baton, "base_url": null, "results": results }))
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open(&self.options.file)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        Ok(connection)
    }
}

fn execute(connection: &Connection, stmt: &Json) -> Result<Json, Failure> {
    let sql = rewritten(stmt["sql"].as_str().unwrap_or_default())?;
    let arguments = stmt["args"].as_array().into_iter().flatten();
    let arguments = arguments.map(argument).collect::<Result<Vec<_>, _>>()?;
    let failed = |error: rusqlite::Error| {
        let code = match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseBusy) => "SQLITE_BUSY",
            Some(rusqlite::ErrorCode::ConstraintViolation) => "SQLITE_CONSTRAINT",
            Some(rusqlite::ErrorCode::ReadOnly) => "SQLITE_READONLY",
            _ => "SQLITE_ERROR",
        };
        (code, format!("SQLite error: {error}"))
    };
    let mut statement = connection.prepare(&sql).map_err(failed)?;
    if statement.parameter_count() > arguments.len() {
        return Err(("ARGS_INVALID", "Arguments do not match SQL parameters".to_owned()));
    }
    let names: Vec<_> = statement
        .column_names()
        .into_iter()
        .map(|name| json!({ "name": name, "decltype": null }))
        .collect();
    let count = statement.parameter_count();
    let mut rows = statement
        .query(rusqlite::params_from_iter(arguments.into_iter().take(count)))
        .map_err(failed)?;
    let mut values = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let row = (0..names.len())
            .map(|index| Ok(cell(row.get(index)?)))
            .collect::<rusqlite::Result<Vec<_>>>();
        values.push(row.map_err(failed)?);
    }
    drop(rows);
    drop(statement);
    Ok(json!({
        "cols": names,
        "rows": values,
        "affected_row_count": connection.changes(),
        "last_insert_rowid": connection.last_insert_rowid().to_string(),
    }))
}

/// One statement, of the kinds that the real server takes, as its parser writes it.
fn rewritten(sql: &str) -> Result<String, Failure> {
    let mut parser = Sql::new(sql.as_bytes());
    let malformed = |error: String| ("SQL_PARSE_ERROR", format!("SQL string could not be parsed: {error}"));
    let command = parser.next().map_err(|error| malformed(error.to_string()))?.ok_or((
        "SQL_NO_STATEMENT",
        "SQL string does not contain any statement".to_owned(),
    ))?;
    if !matches!(parser.next(), Ok(None)) {
        return Err((
            "SQL_MANY_STATEMENTS",
            "SQL string contains more than one statement".to_owned(),
        ));
    }
    let is_taken = match &command {
        // Those that read are taken; the others only without a value.
        Cmd::Stmt(Stmt::Pragma(name, body)) => {
            let name = name.name.0.to_lowercase();
            let reads = ["table_list", "index_list", "table_info", "user_version", "foreign_keys"];
            reads.contains(&name.as_str()) || body.is_none()
        }
        Cmd::Stmt(
            Stmt::Attach { .. } | Stmt::Detach(_) | Stmt::Vacuum(..) | Stmt::Analyze(_) | Stmt::Reindex { .. },
        ) => false,
        Cmd::Stmt(Stmt::CreateTable { temporary, .. }) => !temporary,
        _ => true,
    };
    if !is_taken {
        return Err(malformed(format!("unsupported statement: {sql}")));
    }
    // The real server leaves this one kind as it was.
    if matches!(command, Cmd::Stmt(Stmt::CreateTable { .. })) {
        return Ok(sql.to_owned());
    }
    Ok(command.to_string())
}

fn argument(value: &Json) -> Result<Value, Failure> {
    let invalid = |_| ("ARGS_INVALID", "an argument is malformed".to_owned());
    Ok(match value["type"].as_str() {
        Some("integer") => Value::Integer(
            value["value"]
                .as_str()
                .unwrap_or_default()
                .parse()
                .map_err(|_| invalid(()))?,
        ),
        Some("float") => Value::Real(value["value"].as_f64().unwrap_or_default()),
        Some("text") => Value::Text(value["value"].as_str().unwrap_or_default().to_owned()),
        Some("blob") => Value::Blob(
            STANDARD_NO_PAD
                .decode(value["base64"].as_str().unwrap_or_default().trim_end_matches('='))
                .map_err(|_| invalid(()))?,
        ),
        _ => Value::Null,
    })
}

fn cell(value: Value) -> Json {
    match value {
        Value::Null => json!({ "type": "null" }),
        Value::Integer(number) => json!({ "type": "integer", "value": number.to_string() }),
        Value::Real(number) => json!({ "type": "float", "value": number }),
        Value::Text(text) => json!({ "type": "text", "value": text }),
        Value::Blob(bytes) => json!({ "type": "blob", "base64": STANDARD_NO_PAD.encode(bytes) }),
    }
}

fn error((code, message): &Failure) -> Json {
    json!({ "message": message, "code": code })
}

fn reply(status: StatusCode, body: &Json) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
