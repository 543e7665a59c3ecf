//! What instances that serve one request know of each other's reading: the key-value store keeps a hand for `pool_ttl_ms`, so
//! that most requests need one read there and none of the database.
//!
//! Hands hold secrets as the database has them. Where those are not sealed they are left out: a store beside the database is
//! one place more for them to be read.

use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};

use crate::ports::{Ports, Row, UnixMillis, Value};

/// The rows that another instance has read under this name, when that was less than `ttl_ms` ago.
pub(super) async fn recall<P: Ports>(ports: &P, name: &str, ttl_ms: i64, now: UnixMillis) -> Option<Vec<Row>> {
    let stored = ports.get(&key(name)).await.ok()??;
    let snapshot: Json = serde_json::from_slice(&stored).ok()?;
    let read_at = UnixMillis(snapshot.get("at")?.as_i64()?);
    if !(0..ttl_ms).contains(&now.since(read_at)) {
        return None;
    }
    let rows = snapshot.get("rows")?.as_array()?.iter();
    rows.map(|row| Some(Row(row.as_array()?.iter().map(from_json).collect())))
        .collect()
}

/// Lets other instances know of what was read. Best effort: without it they read for themselves.
pub(super) async fn remember<P: Ports>(ports: &P, name: &str, rows: &[Row], now: UnixMillis) {
    let rows: Vec<Vec<Json>> = rows.iter().map(|row| row.0.iter().map(to_json).collect()).collect();
    let _ = ports
        .set(&key(name), json!({ "at": now.0, "rows": rows }).to_string().as_bytes())
        .await;
}

/// Forgets all of it: the administrator has changed something.
pub async fn forget<P: Ports>(ports: &P) {
    for name in ports.list().await.unwrap_or_default() {
        if name.starts_with(PREFIX) {
            let _ = ports.delete(&name).await;
        }
    }
}

/// Names are of any length; what they hold is nobody's business but the database's.
fn key(name: &str) -> String {
    let digest = Sha256::digest(name);
    digest
        .iter()
        .fold(PREFIX.to_owned(), |key, byte| format!("{key}{byte:02x}"))
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::Integer(number) => json!(number),
        Value::Real(number) => json!(number),
        Value::Text(text) => json!(text),
        Value::Null | Value::Blob(_) => Json::Null,
    }
}

fn from_json(value: &Json) -> Value {
    match value {
        Json::String(text) => Value::Text(text.clone()),
        Json::Number(number) => number
            .as_i64()
            .map_or_else(|| Value::Real(number.as_f64().unwrap_or_default()), Value::Integer),
        _ => Value::Null,
    }
}

const PREFIX: &str = "hand:";
