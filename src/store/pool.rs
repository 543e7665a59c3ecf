//! What the pool has learnt and counted, written down.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::json;

use super::Database;
use crate::{
    metrics::Counters,
    pool::{Write, usage},
    ports::{Connection, Ports, SqlError, UnixMillis, Value},
};

/// Writes health and usage: all of it or nothing. Where there is nothing but usage it is one statement on the kept connection.
pub async fn flush<P: Ports>(
    database: &Database<P>,
    writes: &[Write],
    usage: &[usage::Row],
    now: UnixMillis,
) -> Result<(), SqlError> {
    flush_counted(database, writes, usage, &Counters::default(), now).await
}

/// The same, with what was counted for `/metrics`.
pub async fn flush_counted<P: Ports>(
    database: &Database<P>,
    writes: &[Write],
    usage: &[usage::Row],
    counters: &Counters,
    now: UnixMillis,
) -> Result<(), SqlError> {
    let tally = tally(usage, &counters.sums(usage))?;
    if writes.is_empty() {
        return database.count(TALLY, &tally).await.map(drop);
    }
    database
        .transaction(async |connection| {
            for write in writes {
                apply(connection, write, now).await?;
            }
            connection.execute(TALLY, &tally).await.map(drop)
        })
        .await
}

/// Writes into the audit trail that a key leaves the ones that serve, and which rule says so; a key that has left already is
/// not told of again.
async fn trail(connection: &impl Connection, write: &Write, now: UnixMillis) -> Result<(), SqlError> {
    let (key, state, rule) = match write {
        Write::Dead { key, rule, .. } => (key, "dead", *rule),
        Write::KeyRests { key, rule, .. } => (key, "cooling_down", *rule),
        Write::Opened { key, .. } => (key, "cooling_down", "circuit"),
        _ => return Ok(()),
    };
    let sql = "INSERT INTO events (at, actor, action, detail)
        SELECT ?1, 'pool', 'key_state', masked || ': ' || ?3 || ' (' || ?4 || ')' FROM keys
        WHERE id = ?2 AND state <> 'dead' AND (?3 = 'dead' OR state <> ?3 OR until <= ?1)";
    let parameters = [
        Value::from(now),
        Value::from(key.0),
        Value::from(state),
        Value::from(rule),
    ];
    connection.execute(sql, &parameters).await.map(drop)
}

async fn apply(connection: &impl Connection, write: &Write, now: UnixMillis) -> Result<(), SqlError> {
    trail(connection, write, now).await?;
    let (sql, parameters) = match write {
        Write::Healthy(key) => (
            "UPDATE keys SET failed_count = 0, opened = 0, probe_until = 0,
                until = CASE WHEN state = 'cooling_down' AND rule = 'circuit' THEN 0 ELSE until END,
                state = CASE WHEN state = 'cooling_down' AND (rule = 'circuit' OR until <= ?2) THEN 'active' ELSE state END
            WHERE id = ?1",
            vec![Value::from(key.0), Value::from(now)],
        ),
        Write::Failed { key, message } => (
            "UPDATE keys SET failed_count = failed_count + 1, last_error = ?2 WHERE id = ?1",
            vec![Value::from(key.0), Value::from(message.as_str())],
        ),
        Write::Opened { key, until, opened } => (
            // A rest that a provider asked for and that is longer keeps its name: a success does not end it.
            "UPDATE keys SET rule = CASE WHEN state = 'cooling_down' AND until > ?2 THEN rule ELSE 'circuit' END,
                reason = CASE WHEN state = 'cooling_down' AND until > ?2 THEN reason ELSE 'Many failures in a row' END,
                state = 'cooling_down', until = MAX(until, ?2), opened = ?3, probe_until = 0
            WHERE id = ?1 AND state <> 'dead'",
            vec![Value::from(key.0), Value::from(*until), Value::from(i64::from(*opened))],
        ),
        Write::Dead { key, rule, message } => (
            "UPDATE keys SET state = 'dead', rule = ?2, reason = ?3, last_error = ?3, failed_count = failed_count + 1
            WHERE id = ?1",
            vec![Value::from(key.0), Value::from(*rule), Value::from(message.as_str())],
        ),
        Write::KeyRests { key, project, until, rule, message } => (
            "UPDATE keys SET rule = CASE WHEN state = 'cooling_down' AND until > ?2 AND rule <> 'circuit' THEN rule ELSE ?3 END,
                reason = CASE WHEN state = 'cooling_down' AND until > ?2 AND rule <> 'circuit' THEN reason ELSE ?4 END,
                last_error = ?4, state = 'cooling_down', until = MAX(until, ?2)
            WHERE (id = ?1 OR (project <> '' AND project = ?5)) AND state <> 'dead'",
            vec![
                Value::from(key.0),
                Value::from(*until),
                Value::from(*rule),
                Value::from(message.as_str()),
                Value::from(project.as_deref().unwrap_or_default()),
            ],
        ),
        Write::ModelRests { key, project, model, until, rule, strikes, message } => {
            let sql = "UPDATE keys SET last_error = ?2 WHERE id = ?1";
            connection.execute(sql, &[Value::from(key.0), Value::from(message.as_str())]).await?;
            (
                "INSERT INTO cooldowns (key_id, model, until, rule, strikes)
                SELECT id, ?2, ?3, ?4, ?5 FROM keys WHERE id = ?1 OR (project <> '' AND project = ?6)
                ON CONFLICT DO UPDATE SET rule = CASE WHEN excluded.until > until THEN excluded.rule ELSE rule END,
                    strikes = excluded.strikes, until = MAX(until, excluded.until)",
                vec![
                    Value::from(key.0),
                    Value::from(&**model),
                    Value::from(*until),
                    Value::from(*rule),
                    Value::from(i64::from(*strikes)),
                    Value::from(project.as_deref().unwrap_or_default()),
                ],
            )
        }
        Write::Storm { endpoint, model, until, strikes, pardoned } => {
            let keys: Vec<_> = pardoned.iter().map(|key| key.0).collect();
            let sql = "DELETE FROM cooldowns
                WHERE key_id IN (SELECT value FROM json_each(?1)) AND model = ?2 AND strikes > 0";
            connection.execute(sql, &[Value::Text(json!(keys).to_string()), Value::from(&**model)]).await?;
            (
            "INSERT INTO cooldowns (key_id, model, until, rule, strikes) VALUES (0, ?1, ?2, 'storm', ?3)
            ON CONFLICT DO UPDATE SET strikes = excluded.strikes, until = MAX(until, excluded.until)",
            vec![
                Value::from(format!("{model}\n{endpoint}")),
                Value::from(*until),
                Value::from(i64::from(*strikes)),
            ],
            )
        }
        Write::Wake(at) => (
            "UPDATE keys SET state = 'active', until = 0, rule = '', reason = ''
            WHERE enabled IN (0, 1) AND state = 'cooling_down' AND until <= ?1 AND opened = 0",
            vec![Value::from(*at)],
        ),
        Write::Project { key, project } => (
            "UPDATE keys SET project = ?2 WHERE id = ?1 AND project = ''",
            vec![Value::from(key.0), Value::from(&**project)],
        ),
    };
    connection.execute(sql, &parameters).await.map(drop)
}

/// What was counted, as the view `tally` takes it.
fn tally(rows: &[usage::Row], counters: &HashMap<String, u64>) -> Result<[Value; 3], SqlError> {
    let usage: Vec<_> = rows
        .iter()
        .map(|row| {
            let (counts, tokens) = (&row.counts, &row.counts.tokens);
            (
                row.hour.0,
                row.key.0,
                &*row.model,
                counts.requests,
                counts.successes,
                tokens.prompt,
                tokens.completion,
                tokens.total,
                counts.latency_sum_ms,
                counts.latency_max_ms,
                counts.last_at.0,
            )
        })
        .collect();
    let faults: Vec<_> = rows
        .iter()
        .flat_map(|row| {
            let by_fault = row.counts.faults.iter();
            by_fault.map(|(fault, count)| (row.hour.0, row.key.0, &*row.model, fault.as_str(), *count))
        })
        .collect();
    Ok([text(&usage)?, text(&faults)?, text(counters)?])
}

fn text(value: &impl Serialize) -> Result<Value, SqlError> {
    serde_json::to_string(value)
        .map(Value::Text)
        .map_err(|error| SqlError::Other(error.to_string()))
}

/// Adds all of it: see the trigger of this view.
const TALLY: &str = "INSERT INTO tally (usage, faults, counters) VALUES (?1, ?2, ?3)";
