//! The pool's side of the database: hands are drawn from it, health and usage are written to it.

use std::{collections::HashMap, rc::Rc};

use serde_json::json;

use super::Database;
use crate::{
    classify::Fault,
    metrics::Counters,
    pool::{
        Census, Draw, Drawn, HAND, Write,
        key::{ApiType, Candidate, KeyId},
        usage,
    },
    ports::{Connection, Ports, Row, SqlError, UnixMillis, Value},
    vault::Vault,
};

/// Draws a hand: one statement, which reads as many rows as the hand has keys, however large the pool is. `start` is a point
/// in the random order of the pool's keys, 0 to 2^31.
pub async fn draw<P: Ports>(
    database: &Database<P>,
    draw: &Draw,
    source: &Source,
    start: i64,
    now: UnixMillis,
) -> Result<Drawn, SqlError> {
    let endpoints = draw.endpoints.as_ref().map_or(Value::Null, |endpoints| {
        // A key that names no endpoint is stored without one.
        let stored: Vec<&str> = endpoints
            .iter()
            .map(|url| {
                if **url == *source.default_url(draw.api_type) {
                    ""
                } else {
                    url
                }
            })
            .collect();
        Value::Text(json!(stored).to_string())
    });
    let parameters = [
        Value::from(draw.api_type.as_str()),
        Value::from(&*draw.group),
        Value::from(&*draw.model),
        Value::from(now),
        Value::from(start),
        endpoints,
        Value::from(source.default_url(draw.api_type)),
    ];
    let rows = database.execute(&draw_sql(), &parameters).await?;
    let rested = rows.iter().any(|row| row.text(STATE) == "cooling_down");
    let keys: Vec<_> = rows.iter().filter_map(|row| candidate(row, source)).collect();
    if keys.is_empty() && !rows.is_empty() {
        return Err(SqlError::Other(WRONG_KEY.to_owned()));
    }
    let census = if keys.is_empty() {
        census(database, &parameters).await?
    } else {
        Census { keys: 1, soonest: None }
    };
    Ok(Drawn { keys, census, rested })
}

/// What a stored key needs to become one that can be used.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// Opens the secrets.
    pub vault: Rc<Vault>,
    /// Gemini's, without `/v1beta`.
    pub gemini: Rc<str>,
    /// OpenAI's, with `/v1`.
    pub openai: Rc<str>,
}

impl Source {
    /// The base URL of keys of a type that name none.
    pub fn default_url(&self, api_type: ApiType) -> &str {
        match api_type {
            ApiType::Gemini => &self.gemini,
            ApiType::OpenAi => &self.openai,
        }
    }
}

/// Writes health and usage in one short transaction: all of it or nothing.
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
    database
        .transaction(async |connection| {
            for write in writes {
                apply(connection, write, now).await?;
            }
            count(connection, usage).await?;
            add(connection, &counters.sums(usage)).await
        })
        .await
}

/// Takes the sweep upon this instance, when none has taken it for `interval_ms`.
pub async fn claim_sweep<P: Ports>(
    database: &Database<P>,
    interval_ms: i64,
    now: UnixMillis,
) -> Result<bool, SqlError> {
    let sql = "INSERT INTO settings (name, value) VALUES ('sweep', ?1)
        ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE CAST(value AS INTEGER) <= ?2 RETURNING 1";
    let parameters = [Value::from(now.0.to_string()), Value::from(now.plus(-interval_ms))];
    Ok(!database.execute(sql, &parameters).await?.is_empty())
}

/// Brings hourly rows of more than 7 days into daily ones, and drops daily ones of more than 90 days, rests that are long
/// over, and old events.
pub async fn prune<P: Ports>(database: &Database<P>, now: UnixMillis) -> Result<(), SqlError> {
    let (week, quarter) = (Value::from(now.plus(-7 * DAY_MS)), Value::from(now.plus(-90 * DAY_MS)));
    database
        .transaction(async |connection| {
            let by = |value: &Value| [value.clone()];
            connection
                .execute(
                    "INSERT INTO usage SELECT 'day', starts_at - starts_at % 86400000, key_id, model, SUM(requests),
                        SUM(successes), SUM(prompt_tokens), SUM(completion_tokens), SUM(total_tokens),
                        SUM(latency_sum_ms), MAX(latency_max_ms)
                    FROM usage WHERE period = 'hour' AND starts_at < ?1 GROUP BY 2, 3, 4
                    ON CONFLICT DO UPDATE SET requests = requests + excluded.requests,
                        successes = successes + excluded.successes,
                        prompt_tokens = prompt_tokens + excluded.prompt_tokens,
                        completion_tokens = completion_tokens + excluded.completion_tokens,
                        total_tokens = total_tokens + excluded.total_tokens,
                        latency_sum_ms = latency_sum_ms + excluded.latency_sum_ms,
                        latency_max_ms = MAX(latency_max_ms, excluded.latency_max_ms)",
                    &by(&week),
                )
                .await?;
            connection
                .execute(
                    "INSERT INTO faults SELECT 'day', starts_at - starts_at % 86400000, key_id, model, fault, SUM(count)
                    FROM faults WHERE period = 'hour' AND starts_at < ?1 GROUP BY 2, 3, 4, 5
                    ON CONFLICT DO UPDATE SET count = count + excluded.count",
                    &by(&week),
                )
                .await?;
            for table in ["usage", "faults"] {
                let hours = format!("DELETE FROM {table} WHERE period = 'hour' AND starts_at < ?1");
                let days = format!("DELETE FROM {table} WHERE period = 'day' AND starts_at < ?1");
                connection.execute(&hours, &by(&week)).await?;
                connection.execute(&days, &by(&quarter)).await?;
            }
            connection
                .execute("DELETE FROM cooldowns WHERE until < ?1", &by(&week))
                .await?;
            connection
                .execute("DELETE FROM events WHERE at < ?1", &by(&quarter))
                .await
                .map(drop)
        })
        .await
}

async fn apply(connection: &impl Connection, write: &Write, now: UnixMillis) -> Result<(), SqlError> {
    let (sql, parameters) = match write {
        Write::Healthy(key) => (
            "UPDATE keys SET failed_count = 0, opened = 0,
                state = CASE WHEN state = 'cooling_down' AND (rule = 'circuit' OR until <= ?2) THEN 'active' ELSE state END
            WHERE id = ?1",
            vec![Value::from(key.0), Value::from(now)],
        ),
        Write::Failed { key, message } => (
            "UPDATE keys SET failed_count = failed_count + 1, last_error = ?2 WHERE id = ?1",
            vec![Value::from(key.0), Value::from(message.as_str())],
        ),
        Write::Opened { key, until, opened } => (
            "UPDATE keys SET state = 'cooling_down', until = MAX(until, ?2), opened = ?3, rule = 'circuit',
                reason = 'Many failures in a row' WHERE id = ?1 AND state <> 'dead'",
            vec![Value::from(key.0), Value::from(*until), Value::from(i64::from(*opened))],
        ),
        Write::Dead { key, rule, message } => (
            "UPDATE keys SET state = 'dead', rule = ?2, reason = ?3, last_error = ?3, failed_count = failed_count + 1
            WHERE id = ?1",
            vec![Value::from(key.0), Value::from(*rule), Value::from(message.as_str())],
        ),
        Write::KeyRests { key, project, until, rule, message } => (
            "UPDATE keys SET state = 'cooling_down', until = MAX(until, ?2), rule = ?3, reason = ?4, last_error = ?4
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
        Write::Storm { endpoint, model, until, strikes } => (
            "INSERT INTO cooldowns (key_id, model, until, rule, strikes) VALUES (0, ?1, ?2, 'storm', ?3)
            ON CONFLICT DO UPDATE SET strikes = excluded.strikes, until = MAX(until, excluded.until)",
            vec![
                Value::from(format!("{model}\n{endpoint}")),
                Value::from(*until),
                Value::from(i64::from(*strikes)),
            ],
        ),
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

/// Adds usage in one statement a table, whatever the number of rows.
async fn count(connection: &impl Connection, rows: &[usage::Row]) -> Result<(), SqlError> {
    if rows.is_empty() {
        return Ok(());
    }
    let sums: Vec<_> = rows
        .iter()
        .map(|row| {
            let counts = &row.counts;
            json!([
                row.hour.0,
                row.key.0,
                row.model,
                counts.requests,
                counts.successes,
                counts.tokens.prompt,
                counts.tokens.completion,
                counts.tokens.total,
                counts.latency_sum_ms,
                counts.latency_max_ms,
                counts.last_at.0
            ])
        })
        .collect();
    let sums = Value::Text(json!(sums).to_string());
    connection
        .execute(
            "INSERT INTO usage (period, starts_at, key_id, model, requests, successes, prompt_tokens, completion_tokens,
                total_tokens, latency_sum_ms, latency_max_ms)
            SELECT 'hour', value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
                value ->> 7, value ->> 8, value ->> 9 FROM json_each(?1) WHERE true
            ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, successes = successes + excluded.successes,
                prompt_tokens = prompt_tokens + excluded.prompt_tokens,
                completion_tokens = completion_tokens + excluded.completion_tokens,
                total_tokens = total_tokens + excluded.total_tokens,
                latency_sum_ms = latency_sum_ms + excluded.latency_sum_ms,
                latency_max_ms = MAX(latency_max_ms, excluded.latency_max_ms)",
            std::slice::from_ref(&sums),
        )
        .await?;
    connection
        .execute(
            "UPDATE keys SET last_used_at = MAX(last_used_at, used.at)
            FROM (SELECT value ->> 1 AS id, MAX(value ->> 10) AS at FROM json_each(?1) GROUP BY 1) AS used
            WHERE keys.id = used.id",
            &[sums],
        )
        .await?;
    let faults: Vec<_> = rows
        .iter()
        .flat_map(|row| {
            let by_fault = row.counts.faults.iter();
            by_fault.map(|(fault, count)| json!([row.hour.0, row.key.0, row.model, fault.as_str(), count]))
        })
        .collect();
    if faults.is_empty() {
        return Ok(());
    }
    connection
        .execute(
            "INSERT INTO faults (period, starts_at, key_id, model, fault, count)
            SELECT 'hour', value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each(?1) WHERE true
            ON CONFLICT DO UPDATE SET count = count + excluded.count",
            &[Value::Text(json!(faults).to_string())],
        )
        .await
        .map(drop)
}

/// Adds to the sums, in one statement.
async fn add(connection: &impl Connection, sums: &HashMap<String, u64>) -> Result<(), SqlError> {
    if sums.is_empty() {
        return Ok(());
    }
    connection
        .execute(
            "INSERT INTO counters (name, value) SELECT key, value FROM json_each(?1) WHERE true
            ON CONFLICT DO UPDATE SET value = value + excluded.value",
            &[Value::Text(json!(sums).to_string())],
        )
        .await
        .map(drop)
}

/// Says of a pool without an able key whether it has any, and when the first comes back.
async fn census<P: Ports>(database: &Database<P>, parameters: &[Value]) -> Result<Census, SqlError> {
    let sql = format!(
        "SELECT 1, 0, '' FROM (SELECT 1 FROM keys k WHERE {OF_POOL} LIMIT 1)
        UNION ALL SELECT 2, until, rule FROM (
            SELECT until, rule FROM keys k WHERE {OF_POOL} AND enabled = 1 AND state = 'cooling_down' AND until > ?4
            ORDER BY until LIMIT 1)
        UNION ALL SELECT 2, until, rule FROM (
            SELECT c.until, c.rule FROM cooldowns c JOIN keys k ON k.id = c.key_id
            WHERE {OF_POOL} AND k.enabled = 1 AND k.state <> 'dead' AND c.model = ?3 AND c.until > ?4
            ORDER BY c.until LIMIT 1)
        UNION ALL SELECT 2, until, rule FROM (
            SELECT c.until, c.rule FROM cooldowns c JOIN keys k ON c.model = ?3 || char(10) || {ENDPOINT}
            WHERE c.key_id = 0 AND {OF_POOL} AND k.enabled = 1 AND k.state = 'active' AND c.until > ?4
            ORDER BY c.until LIMIT 1)
        ORDER BY 1, 2"
    );
    // The statement names all of them once, so that their numbers stay the same in both.
    let sql = format!("{sql} LIMIT 4 + 0 * ?5");
    let rows = database.execute(&sql, parameters).await?;
    let soonest = rows.iter().find(|row| row.integer(0) == 2);
    Ok(Census {
        keys: rows.iter().filter(|row| row.integer(0) == 1).count() as u64,
        soonest: soonest.map(|row| (UnixMillis(row.integer(1)), fault_of(row.text(2)))),
    })
}

/// The family of the rule that a rest was written with.
fn fault_of(rule: &str) -> Fault {
    match rule {
        "G9" | "G12" | "G13" | "G14" | "O4" => Fault::Quota,
        "G10" | "O3" | "O6" => Fault::Model,
        "circuit" => Fault::Overload,
        _ => Fault::RateLimit,
    }
}

fn draw_sql() -> String {
    let able = format!(
        "{OF_POOL} AND k.enabled = 1 AND NOT EXISTS (
            SELECT 1 FROM cooldowns c WHERE c.key_id = k.id AND c.model = ?3 AND c.until > ?4
        ) AND NOT EXISTS (
            SELECT 1 FROM cooldowns c WHERE c.key_id = 0 AND c.model = ?3 || char(10) || {ENDPOINT} AND c.until > ?4
        )"
    );
    let active = format!("{able} AND k.state = 'active'");
    let tier = format!("(SELECT k.priority FROM keys k WHERE {active} ORDER BY k.priority LIMIT 1)");
    let columns = "k.id, k.api_type, k.secret, k.base_url, k.priority, k.weight, k.project, k.failed_count, k.opened,
        k.last_used_at, k.state";
    format!(
        "SELECT * FROM (SELECT {columns} FROM keys k
            WHERE {able} AND k.state = 'cooling_down' AND k.until <= ?4 ORDER BY k.until LIMIT {RESTED})
        UNION ALL SELECT * FROM (SELECT {columns} FROM keys k
            WHERE {active} AND k.priority = {tier} AND k.pick >= ?5 ORDER BY k.pick LIMIT {HAND})
        UNION ALL SELECT * FROM (SELECT {columns} FROM keys k
            WHERE {active} AND k.priority = {tier} AND k.pick < ?5 ORDER BY k.pick LIMIT {HAND})
        UNION ALL SELECT * FROM (SELECT {columns} FROM keys k
            WHERE {active} AND k.priority > {tier} ORDER BY k.priority, k.pick LIMIT {HAND})
        LIMIT {HAND}"
    )
}

fn candidate(row: &Row, source: &Source) -> Option<Candidate> {
    let api_type = ApiType::parse(row.text(1))?;
    let own = Some(row.text(3)).filter(|url| !url.is_empty());
    let opened = u32::try_from(row.integer(8)).unwrap_or_default();
    Some(Candidate {
        id: KeyId(row.integer(0)),
        api_type,
        secret: source.vault.open(row.text(2)).ok()?,
        base_url: Rc::from(own.unwrap_or(source.default_url(api_type))),
        priority: row.integer(4),
        weight: u32::try_from(row.integer(5)).unwrap_or(1).max(1),
        project: Some(row.text(6)).filter(|project| !project.is_empty()).map(Rc::from),
        failed_count: u32::try_from(row.integer(7)).unwrap_or_default(),
        opened,
        half_open: opened > 0 && row.text(STATE) == "cooling_down",
        last_used_at: UnixMillis(row.integer(9)),
    })
}

/// The keys of one pool. The numbers are those of [`draw`]'s parameters.
const OF_POOL: &str =
    "k.api_type = ?1 AND k.grp = ?2 AND (?6 IS NULL OR k.base_url IN (SELECT value FROM json_each(?6)))";

/// A key's endpoint, the default put in.
const ENDPOINT: &str = "CASE WHEN k.base_url = '' THEN ?7 ELSE k.base_url END";

/// The column of the state in [`draw_sql`].
const STATE: usize = 10;

/// How many keys whose rest is over come into one hand before they are cleared.
const RESTED: usize = 64;

const WRONG_KEY: &str = "its secrets were sealed with another encryption_key";

const DAY_MS: i64 = 86_400_000;
