//! Databases of type `libsql`: Hrana 3 over HTTP. A connection is a stream of the server, kept from statement to statement
//! as Spin's client keeps it, so that transactions span statements; the server drops one that idles.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tokio::sync::Mutex;

use super::{
    sqlite::Answer,
    wit::spin::sqlite::sqlite::{RowResult, Value},
};

/// A database on a server.
pub struct Database {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    pipeline: Uri,
    authorization: Option<String>,
}

impl Database {
    /// Reads the configuration; nothing is called yet.
    pub fn new(url: &str, token: &str, tls: rustls::ClientConfig) -> anyhow::Result<Self> {
        // libSQL's own scheme stands for https.
        let url = url.trim_end_matches('/').replacen("libsql://", "https://", 1);
        let pipeline: Uri = format!("{url}/v3/pipeline")
            .parse()
            .context("the url of a libsql database")?;
        if !matches!(pipeline.scheme_str(), Some("http" | "https")) {
            bail!("the url of a libsql database must begin with http://, https:// or libsql://");
        }
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let https = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(https),
            pipeline,
            authorization: Some(token)
                .filter(|token| !token.is_empty())
                .map(|token| format!("Bearer {token}")),
        })
    }

    async fn call(&self, baton: Option<String>, requests: Vec<Json>) -> Result<Pipeline, String> {
        let body = json!({ "baton": baton, "requests": requests }).to_string();
        let mut request = Request::post(self.pipeline.clone()).header(header::CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        let response = self
            .client
            .request(request)
            .await
            .map_err(|error| format!("http error: {error}"))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MOST_BYTES)
            .collect()
            .await
            .map_err(|error| format!("http error: {error}"))?
            .to_bytes();
        if !status.is_success() {
            let text: String = String::from_utf8_lossy(&body).chars().take(500).collect();
            return Err(format!("api error: status={status}, body={text}"));
        }
        serde_json::from_slice(&body).map_err(|error| format!("the server's answer cannot be read: {error}"))
    }
}

/// A connection.
pub struct Stream {
    database: Arc<Database>,
    /// What the server knows the stream by; `None` before the first statement, and after a failure.
    baton: Mutex<Option<String>>,
}

impl Stream {
    /// A connection that is opened with its first statement.
    pub fn new(database: Arc<Database>) -> Self {
        Self {
            database,
            baton: Mutex::new(None),
        }
    }

    /// Runs one statement.
    pub async fn execute(&self, sql: &str, parameters: &[Value]) -> Result<Answer, String> {
        let mut baton = self.baton.lock().await;
        let arguments: Vec<_> = parameters.iter().map(to_hrana).collect();
        let execute = json!({ "type": "execute", "stmt": { "sql": sql, "args": arguments, "want_rows": true } });
        // A stream that has failed is not used again: its transaction is gone.
        let pipeline = self.database.call(baton.take(), vec![execute]).await?;
        *baton = pipeline.baton;
        match pipeline.results.into_iter().next() {
            Some(StreamResult::Ok { response }) => answer(response),
            Some(StreamResult::Error { error }) => Err(format!(
                "stream error: {} ({})",
                error.message,
                error.code.unwrap_or_default()
            )),
            None => Err("the server answered nothing".to_owned()),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let Some(baton) = self.baton.get_mut().take() else {
            return;
        };
        let database = Arc::clone(&self.database);
        // The server rolls back at once what was not committed, and not only when the stream has idled for long.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { database.call(Some(baton), vec![json!({ "type": "close" })]).await });
        }
    }
}

#[derive(Deserialize)]
struct Pipeline {
    baton: Option<String>,
    results: Vec<StreamResult>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum StreamResult {
    Ok { response: Response },
    Error { error: Failure },
}

#[derive(Deserialize)]
struct Failure {
    message: String,
    code: Option<String>,
}

#[derive(Deserialize)]
struct Response {
    #[serde(default)]
    result: Option<Executed>,
}

#[derive(Deserialize)]
struct Executed {
    cols: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    #[serde(default)]
    affected_row_count: u64,
    #[serde(default)]
    last_insert_rowid: Option<String>,
}

#[derive(Deserialize)]
struct Column {
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Cell {
    Null,
    /// As text: JSON's numbers do not hold 64 bits.
    Integer {
        value: String,
    },
    Float {
        value: f64,
    },
    Text {
        value: String,
    },
    Blob {
        base64: String,
    },
}

fn answer(response: Response) -> Result<Answer, String> {
    let executed = response.result.ok_or("the server answered another request than this")?;
    let rows = executed
        .rows
        .into_iter()
        .map(|row| {
            Ok(RowResult {
                values: row.into_iter().map(from_hrana).collect::<Result<_, String>>()?,
            })
        })
        .collect::<Result<_, String>>()?;
    Ok(Answer {
        columns: executed
            .cols
            .into_iter()
            .map(|column| column.name.unwrap_or_default())
            .collect(),
        rows,
        changes: executed.affected_row_count,
        last_insert_rowid: executed
            .last_insert_rowid
            .and_then(|id| id.parse().ok())
            .unwrap_or_default(),
    })
}

fn to_hrana(value: &Value) -> Json {
    match value {
        Value::Null => json!({ "type": "null" }),
        Value::Integer(number) => json!({ "type": "integer", "value": number.to_string() }),
        Value::Real(number) => json!({ "type": "float", "value": number }),
        Value::Text(text) => json!({ "type": "text", "value": text }),
        Value::Blob(bytes) => json!({ "type": "blob", "base64": STANDARD_NO_PAD.encode(bytes) }),
    }
}

fn from_hrana(cell: Cell) -> Result<Value, String> {
    Ok(match cell {
        Cell::Null => Value::Null,
        Cell::Integer { value } => Value::Integer(value.parse().map_err(|_| "an integer that is none".to_owned())?),
        Cell::Float { value } => Value::Real(value),
        Cell::Text { value } => Value::Text(value),
        Cell::Blob { base64 } => {
            let bytes = STANDARD_NO_PAD.decode(&base64).or_else(|_| STANDARD.decode(&base64));
            Value::Blob(bytes.map_err(|_| "a blob that is no base64".to_owned())?)
        }
    })
}

/// The largest answer that is read, as Spin limits it.
const MOST_BYTES: usize = 128 * 1024 * 1024;
