//! What one instance does now and then for all of them.

use super::{Database, hand::Source};
use crate::{
    pool::{
        self,
        key::{ApiType, Candidate, KeyId},
    },
    ports::{Connection as _, Ports, SqlError, UnixMillis, Value},
};

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

/// Keys that are dead, or have failed for long, and may be looked at again: those first that were not for longest. One that
/// cannot be opened is left out.
pub async fn ill<P: Ports>(database: &Database<P>, source: &Source, most: i64) -> Result<Vec<Candidate>, SqlError> {
    let columns = "SELECT id, api_type, base_url, secret, last_checked_at FROM keys WHERE enabled = 1 AND";
    let sql = format!(
        "SELECT * FROM ({columns} state = 'dead' ORDER BY last_checked_at LIMIT ?1)
        UNION SELECT * FROM ({columns} opened > 0 ORDER BY last_checked_at LIMIT ?1)
        ORDER BY last_checked_at LIMIT ?1"
    );
    let rows = database.execute(&sql, &[Value::from(most)]).await?;
    let key = |row: &crate::ports::Row| {
        let api_type = ApiType::parse(row.text(1))?;
        let own = Some(row.text(2)).filter(|url| !url.is_empty());
        let secret = source.vault.open(row.text(3)).ok()?;
        Some(Candidate {
            id: KeyId(row.integer(0)),
            ..Candidate::own(api_type, secret, own.unwrap_or(source.default_url(api_type)))
        })
    };
    Ok(rows.iter().filter_map(key).collect())
}

/// Brings old hourly rows into daily ones, and drops old daily ones, rests that are long over, and old events.
pub async fn prune<P: Ports>(
    database: &Database<P>,
    settings: &pool::Settings,
    now: UnixMillis,
) -> Result<(), SqlError> {
    // A day is brought together whole, so that its row is written once.
    let day = |days: i64| Value::from(now.plus(-days * DAY_MS - now.0.rem_euclid(DAY_MS)));
    let (week, quarter) = (day(settings.usage_hours_d), day(settings.usage_days_d));
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
