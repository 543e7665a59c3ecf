//! What one instance does now and then for all of them.

use super::Database;
use crate::ports::{Connection as _, Ports, SqlError, UnixMillis, Value};

/// When what has to be done now and then was done last, by whichever instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Looking at dead keys again.
    pub recheck: UnixMillis,
    /// Tidying up.
    pub tidy: UnixMillis,
}

/// Takes a piece of upkeep upon this instance, when none has taken it for `interval_ms`.
pub async fn claim<P: Ports>(
    database: &Database<P>,
    name: &str,
    interval_ms: i64,
    now: UnixMillis,
) -> Result<bool, SqlError> {
    let sql = "INSERT INTO settings (name, value) VALUES (?3, ?1)
        ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE CAST(value AS INTEGER) <= ?2 RETURNING 1";
    let parameters = [
        Value::from(now.0.to_string()),
        Value::from(now.plus(-interval_ms)),
        Value::from(name),
    ];
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

/// The name that looking at dead keys again is claimed by.
pub const RECHECK: &str = "recheck";

/// The name that tidying up is claimed by.
pub const TIDY: &str = "sweep";

const DAY_MS: i64 = 86_400_000;
