//! What is counted and what was done, for the administrator to read.

use super::Database;
use crate::ports::{Ports, Row, SqlError, UnixMillis, Value};

/// Sums over a span of time or over a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Attempts.
    pub requests: i64,
    /// Those that succeeded.
    pub successes: i64,
    /// Tokens of prompts.
    pub prompt_tokens: i64,
    /// Tokens of answers.
    pub completion_tokens: i64,
    /// Tokens together.
    pub total_tokens: i64,
    /// Milliseconds of successful attempts.
    pub latency_sum_ms: i64,
    /// The longest of them.
    pub latency_max_ms: i64,
}

/// Usage since `from`, in spans of `bucket_ms`: spans without any are not there.
pub async fn usage<P: Ports>(
    database: &Database<P>,
    from: UnixMillis,
    bucket_ms: i64,
) -> Result<Vec<(UnixMillis, Sums)>, SqlError> {
    let sql =
        format!("SELECT starts_at - starts_at % ?2, {SUMS} FROM usage WHERE starts_at >= ?1 GROUP BY 1 ORDER BY 1");
    let rows = database
        .execute(&sql, &[Value::from(from), Value::from(bucket_ms)])
        .await?;
    Ok(rows.iter().map(|row| (UnixMillis(row.integer(0)), sums(row))).collect())
}

/// Usage since `from` by model, the busiest first.
pub async fn models<P: Ports>(database: &Database<P>, from: UnixMillis) -> Result<Vec<(String, Sums)>, SqlError> {
    let sql = format!(
        "SELECT model, {SUMS} FROM usage WHERE starts_at >= ?1 AND model <> '' GROUP BY 1 ORDER BY 2 DESC LIMIT 50"
    );
    let rows = database.execute(&sql, &[Value::from(from)]).await?;
    Ok(rows.iter().map(|row| (row.text(0).to_owned(), sums(row))).collect())
}

/// Failed attempts since `from` by fault.
pub async fn faults<P: Ports>(database: &Database<P>, from: UnixMillis) -> Result<Vec<(String, i64)>, SqlError> {
    let sql = "SELECT fault, SUM(count) FROM faults WHERE starts_at >= ?1 GROUP BY 1 ORDER BY 2 DESC";
    let rows = database.execute(sql, &[Value::from(from)]).await?;
    Ok(rows
        .iter()
        .map(|row| (row.text(0).to_owned(), row.integer(1)))
        .collect())
}

/// The sums for `/metrics`, by name.
pub async fn counters<P: Ports>(database: &Database<P>) -> Result<Vec<(String, i64)>, SqlError> {
    let rows = database
        .execute("SELECT name, value FROM counters ORDER BY name LIMIT 10000", &[])
        .await?;
    Ok(rows
        .iter()
        .map(|row| (row.text(0).to_owned(), row.integer(1)))
        .collect())
}

/// How many rests of one key for one model there are.
pub async fn model_rests<P: Ports>(database: &Database<P>, now: UnixMillis) -> Result<i64, SqlError> {
    let sql = "SELECT COUNT(*) FROM cooldowns WHERE until > ? AND key_id <> 0";
    let rows = database.execute(sql, &[Value::from(now)]).await?;
    Ok(rows.first().map_or(0, |row| row.integer(0)))
}

/// Keys that share their providers' quotas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Families {
    /// Keys that serve and of which the project is known.
    pub keys: i64,
    /// The projects that they belong to: as many quotas there are.
    pub families: i64,
}

/// How many quotas stand behind the keys of which the project is known.
pub async fn families<P: Ports>(database: &Database<P>) -> Result<Families, SqlError> {
    let sql = "SELECT COUNT(*), COUNT(DISTINCT project) FROM keys
        WHERE project <> '' AND enabled = 1 AND state <> 'dead'";
    let rows = database.execute(sql, &[]).await?;
    Ok(rows.first().map_or_else(Families::default, |row| Families {
        keys: row.integer(0),
        families: row.integer(1),
    }))
}

/// The latest entries of the audit trail: number, moment, who, what, detail.
pub async fn events<P: Ports>(database: &Database<P>, limit: i64) -> Result<Vec<Row>, SqlError> {
    let sql = "SELECT id, at, actor, action, detail FROM events ORDER BY id DESC LIMIT ?";
    database.execute(sql, &[Value::from(limit)]).await
}

/// Groups and how many keys they have.
pub async fn groups<P: Ports>(database: &Database<P>) -> Result<Vec<(String, i64)>, SqlError> {
    let rows = database
        .execute("SELECT grp, COUNT(*) FROM keys GROUP BY 1 ORDER BY 1 LIMIT 1000", &[])
        .await?;
    Ok(rows
        .iter()
        .map(|row| (row.text(0).to_owned(), row.integer(1)))
        .collect())
}

/// Endpoints as stored: type, base URL (empty for the default), how many keys.
pub async fn endpoints<P: Ports>(database: &Database<P>) -> Result<Vec<Row>, SqlError> {
    let sql = "SELECT api_type, base_url, COUNT(*) FROM keys GROUP BY 1, 2 ORDER BY 1, 2 LIMIT 1000";
    database.execute(sql, &[]).await
}

/// The models that an endpoint lists.
pub async fn listed<P: Ports>(database: &Database<P>, api_type: &str, url: &str) -> Result<Vec<String>, SqlError> {
    let sql = "SELECT model FROM endpoint_models WHERE api_type = ? AND base_url = ? ORDER BY model LIMIT 500";
    let rows = database
        .execute(sql, &[Value::from(api_type), Value::from(url)])
        .await?;
    Ok(rows.iter().map(|row| row.text(0).to_owned()).collect())
}

/// Keeps a setting.
pub async fn set<P: Ports>(database: &Database<P>, name: &str, value: &str) -> Result<(), SqlError> {
    let sql =
        "INSERT INTO settings (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    database.write(sql, &[Value::from(name), Value::from(value)]).await
}

fn sums(row: &Row) -> Sums {
    Sums {
        requests: row.integer(1),
        successes: row.integer(2),
        prompt_tokens: row.integer(3),
        completion_tokens: row.integer(4),
        total_tokens: row.integer(5),
        latency_sum_ms: row.integer(6),
        latency_max_ms: row.integer(7),
    }
}

const SUMS: &str = "SUM(requests), SUM(successes), SUM(prompt_tokens), SUM(completion_tokens), SUM(total_tokens),
    SUM(latency_sum_ms), MAX(latency_max_ms)";
