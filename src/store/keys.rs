//! The administrator's side of the keys: adding, finding, changing, deleting.

use std::collections::HashMap;

use serde_json::json;

use super::{
    Database,
    filter::{Filter, STATUS},
    hand,
};
use crate::{
    pool::key::{ApiType, KeyId},
    ports::{Connection, Ports, Row, SqlError, UnixMillis, Value},
};

/// A key to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// Which API it opens.
    pub api_type: ApiType,
    /// Its endpoint; empty for the type's default.
    pub base_url: String,
    /// Its group; empty for the default group.
    pub group: String,
    /// The credential as it is stored: plain or sealed.
    pub stored: String,
    /// What the credential is found by.
    pub hash: String,
    /// The credential as it is shown.
    pub masked: String,
    /// Its tier; lower is tried first.
    pub priority: i64,
    /// Its share in the tier.
    pub weight: i64,
    /// For the administrator.
    pub note: String,
    /// The quota family; empty when not known.
    pub project: String,
    /// Whether it may serve.
    pub enabled: bool,
    /// A random place in the order that hands are drawn by, 0 to 2^31.
    pub pick: i64,
}

/// One page of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The order.
    pub sort: Sort,
    /// Whether the order is turned round.
    pub descending: bool,
    /// How many rows come before.
    pub offset: i64,
    /// How many rows there are at most; -1 for all.
    pub limit: i64,
}

/// What a list is ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// When the key was added.
    Created,
    /// When it last served.
    LastUsed,
    /// How often it has failed in a row.
    Failed,
    /// Its tier.
    Priority,
    /// Its state.
    Status,
    /// How often it was asked.
    Requests,
}

impl Sort {
    /// Reads a name of the API.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "created_at" => Self::Created,
            "last_used_at" => Self::LastUsed,
            "failed_count" => Self::Failed,
            "priority" => Self::Priority,
            "status" => Self::Status,
            "requests" => Self::Requests,
            _ => return None,
        })
    }

    const fn column(self) -> &'static str {
        match self {
            Self::Created => "id",
            Self::LastUsed => "last_used_at",
            Self::Failed => "failed_count",
            Self::Priority => "priority",
            Self::Status => "status",
            Self::Requests => "(SELECT COALESCE(SUM(requests), 0) FROM usage WHERE key_id = k.id)",
        }
    }
}

/// A key as the administrator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// Its number.
    pub id: i64,
    /// The credential as it is stored.
    pub stored: String,
    /// The credential as it is shown.
    pub masked: String,
    /// `gemini` or `openai`.
    pub api_type: String,
    /// Its endpoint; empty for the type's default.
    pub base_url: String,
    /// Its group.
    pub group: String,
    /// `active`, `cooling_down`, `dead` or `disabled`.
    pub status: String,
    /// Why.
    pub reason: String,
    /// The rule that said so.
    pub rule: String,
    /// Until when; 0 for not at all.
    pub until: i64,
    /// Its tier.
    pub priority: i64,
    /// Its share.
    pub weight: i64,
    /// For the administrator.
    pub note: String,
    /// The quota family.
    pub project: String,
    /// Failures in a row.
    pub failed_count: i64,
    /// The provider's last words.
    pub last_error: String,
    /// Moments; 0 for never.
    pub last_checked_at: i64,
    /// What the last check said: `valid`, `invalid`, `limited`, `unknown`, or empty.
    pub last_result: String,
    /// When it last served.
    pub last_used_at: i64,
    /// When it was added.
    pub created_at: i64,
}

/// What stands beside a key in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// Attempts in all.
    pub requests: i64,
    /// Those that failed.
    pub failures: i64,
    /// Attempts in each of the last 24 hours, the current one last.
    pub hours: [i64; HOURS],
    /// The models that it rests for, the soonest over first.
    pub rests: Vec<ModelRest>,
}

/// A key's rest for one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRest {
    /// The model.
    pub model: String,
    /// When it is over.
    pub until: i64,
    /// The rule that said so.
    pub rule: String,
}

/// How many keys there are of each status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those that may serve.
    pub active: i64,
    /// Those that rest.
    pub cooling_down: i64,
    /// Those that their provider refuses.
    pub dead: i64,
    /// Those that were switched off.
    pub disabled: i64,
}

impl Counts {
    /// The counts with their names in the API.
    pub const fn each(&self) -> [(&'static str, i64); 4] {
        [
            ("active", self.active),
            ("cooling_down", self.cooling_down),
            ("dead", self.dead),
            ("disabled", self.disabled),
        ]
    }

    /// How many there are of one status, or of all.
    pub fn total(&self, status: Option<&str>) -> i64 {
        let meant = self
            .each()
            .into_iter()
            .filter(|(name, _)| status.is_none_or(|only| only == *name));
        meant.map(|(_, count)| count).sum()
    }
}

/// What is changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Whether it may serve.
    pub enabled: Option<bool>,
    /// Its tier.
    pub priority: Option<i64>,
    /// Its share.
    pub weight: Option<i64>,
    /// Its group.
    pub group: Option<String>,
    /// For the administrator.
    pub note: Option<String>,
    /// The quota family.
    pub project: Option<String>,
}

/// Adds keys, all of them or none; those that are there already stay as they are. Returns how many are new.
pub async fn add<P: Ports>(database: &Database<P>, keys: &[NewKey], now: UnixMillis) -> Result<u64, SqlError> {
    let rows: Vec<_> = keys
        .iter()
        .map(|key| {
            json!([
                key.api_type.as_str(),
                key.base_url,
                key.group,
                key.stored,
                key.hash,
                key.masked,
                key.priority,
                key.weight,
                key.note,
                key.project,
                i64::from(key.enabled),
                key.pick
            ])
        })
        .collect();
    let chunks: Vec<Value> = rows
        .chunks(ADD_CHUNK)
        .map(|chunk| Value::Text(json!(chunk).to_string()))
        .collect();
    database
        .transaction(async |connection| {
            let mut added = 0;
            for chunk in &chunks {
                let sql =
                    "INSERT INTO keys (api_type, base_url, grp, secret, secret_hash, masked, priority, weight, note,
                        project, enabled, pick, created_at)
                    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
                        value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11, ?2
                    FROM json_each(?1) WHERE true ON CONFLICT DO NOTHING";
                connection.execute(sql, &[chunk.clone(), Value::from(now)]).await?;
                added += changes(connection).await?;
            }
            hand::wake(connection).await?;
            Ok(added)
        })
        .await
}

/// Lists keys.
pub async fn list<P: Ports>(
    database: &Database<P>,
    filter: &Filter,
    page: Page,
    now: UnixMillis,
) -> Result<Vec<KeyRow>, SqlError> {
    let (condition, mut parameters) = filter.condition(now);
    parameters.extend([Value::from(page.limit), Value::from(page.offset)]);
    let (limit, offset) = (parameters.len() - 1, parameters.len());
    let direction = if page.descending { "DESC" } else { "ASC" };
    let sql = format!(
        "SELECT id, secret, masked, api_type, base_url, grp, {STATUS} AS status, reason, rule, until, priority, weight, note,
            project, failed_count, last_error, last_checked_at, last_result, last_used_at, created_at
        FROM keys k WHERE {condition} ORDER BY {} {direction}, id {direction} LIMIT ?{limit} OFFSET ?{offset}",
        page.sort.column()
    );
    let rows = database.execute(&sql, &parameters).await?;
    Ok(rows.iter().map(|row| key_row(row, now)).collect())
}

/// What stands beside the keys of a page: their requests and failures in all, their requests by the hour, and the models that
/// they rest for. Looked up for these keys alone, along indices.
pub async fn beside<P: Ports>(
    database: &Database<P>,
    ids: &[i64],
    now: UnixMillis,
) -> Result<HashMap<i64, Beside>, SqlError> {
    let list = Value::Text(json!(ids).to_string());
    let since = now.0 - now.0.rem_euclid(HOUR_MS) - (HOURS as i64 - 1) * HOUR_MS;
    let sql = "SELECT key_id, CASE WHEN period = 'hour' AND starts_at >= ?2 THEN starts_at ELSE 0 END, SUM(requests),
            SUM(successes)
        FROM usage WHERE key_id IN (SELECT value FROM json_each(?1)) GROUP BY 1, 2";
    let mut found: HashMap<i64, Beside> = HashMap::new();
    for row in database.execute(sql, &[list.clone(), Value::from(since)]).await? {
        let key = found.entry(row.integer(0)).or_default();
        key.requests += row.integer(2);
        key.failures += row.integer(2) - row.integer(3);
        let hour = usize::try_from((row.integer(1) - since) / HOUR_MS).ok();
        if let Some(hour) = hour
            .filter(|_| row.integer(1) >= since)
            .and_then(|hour| key.hours.get_mut(hour))
        {
            *hour += row.integer(2);
        }
    }
    let sql = "SELECT key_id, model, until, rule FROM cooldowns
        WHERE key_id IN (SELECT value FROM json_each(?1)) AND until > ?2 ORDER BY until";
    for row in database.execute(sql, &[list, Value::from(now)]).await? {
        found.entry(row.integer(0)).or_default().rests.push(ModelRest {
            model: row.text(1).to_owned(),
            until: row.integer(2),
            rule: row.text(3).to_owned(),
        });
    }
    Ok(found)
}

/// Counts keys by status.
pub async fn counts<P: Ports>(database: &Database<P>, filter: &Filter, now: UnixMillis) -> Result<Counts, SqlError> {
    let (condition, parameters) = filter.condition(now);
    // All of them are the usual question: each count is then a range of an index, and no key is looked at.
    let sql = if *filter == Filter::default() {
        "SELECT (SELECT COUNT(*) FROM keys), (SELECT COUNT(*) FROM keys WHERE enabled = 0),
            (SELECT COUNT(*) FROM keys WHERE enabled = 1 AND state = 'dead'),
            (SELECT COUNT(*) FROM keys WHERE enabled = 1 AND state = 'cooling_down' AND until > ?1)"
            .to_owned()
    } else {
        format!(
            "SELECT COUNT(*), SUM(enabled = 0), SUM(enabled = 1 AND state = 'dead'),
                SUM(enabled = 1 AND state = 'cooling_down' AND until > ?1)
            FROM keys k WHERE {condition}"
        )
    };
    let rows = database.execute(&sql, &parameters).await?;
    let count = |index: usize| rows.first().map_or(0, |row| row.integer(index));
    let (total, disabled, dead, cooling_down) = (count(0), count(1), count(2), count(3));
    Ok(Counts {
        active: total - disabled - dead - cooling_down,
        cooling_down,
        dead,
        disabled,
    })
}

/// Changes keys; returns how many there were.
pub async fn change<P: Ports>(
    database: &Database<P>,
    filter: &Filter,
    change: &Change,
    now: UnixMillis,
) -> Result<u64, SqlError> {
    let (condition, mut parameters) = filter.condition(now);
    let mut sets = Vec::new();
    let mut set = |column: &str, value: Option<Value>| {
        if let Some(value) = value {
            parameters.push(value);
            sets.push(format!("{column} = ?{}", parameters.len()));
        }
    };
    set("enabled", change.enabled.map(|on| Value::from(i64::from(on))));
    set("priority", change.priority.map(Value::from));
    set("weight", change.weight.map(Value::from));
    set("grp", change.group.as_deref().map(Value::from));
    set("note", change.note.as_deref().map(Value::from));
    set("project", change.project.as_deref().map(Value::from));
    if sets.is_empty() {
        return Ok(0);
    }
    // A key that would become the twin of another in its new group stays where it is.
    let sql = format!("UPDATE OR IGNORE keys AS k SET {} WHERE {condition}", sets.join(", "));
    database
        .transaction(async |connection| {
            connection.execute(&sql, &parameters).await?;
            let changed = changes(connection).await?;
            hand::wake(connection).await?;
            Ok(changed)
        })
        .await
}

/// Deletes keys and all that is written of them but their usage; returns how many there were.
pub async fn delete<P: Ports>(database: &Database<P>, filter: &Filter, now: UnixMillis) -> Result<u64, SqlError> {
    let (condition, parameters) = filter.condition(now);
    let keys = format!("DELETE FROM keys AS k WHERE {condition}");
    database
        .transaction(async |connection| {
            connection.execute(&keys, &parameters).await?;
            let deleted = changes(connection).await?;
            connection
                .execute(
                    "DELETE FROM cooldowns WHERE key_id <> 0 AND key_id NOT IN (SELECT id FROM keys)",
                    &[],
                )
                .await?;
            Ok(deleted)
        })
        .await
}

/// Writes down what checks said of keys: pairs of a number and a result. Those that are valid come back from the dead, and
/// their circuits close; a rest that a provider asked for goes on, since a free check proves no quota.
pub async fn checked<P: Ports>(
    database: &Database<P>,
    checked: &[(i64, &str)],
    now: UnixMillis,
) -> Result<(), SqlError> {
    let found = Value::Text(json!(checked).to_string());
    database
        .transaction(async |connection| {
            let all = "UPDATE keys SET last_checked_at = ?2, last_result = found.result
                FROM (SELECT value ->> 0 AS id, value ->> 1 AS result FROM json_each(?1)) AS found WHERE keys.id = found.id";
            connection.execute(all, &[found.clone(), Value::from(now)]).await?;
            let back = "INSERT INTO events (at, actor, action, detail)
                SELECT ?2, 'check', 'key_state', masked || ': active' FROM keys WHERE state = 'dead'
                    AND id IN (SELECT value ->> 0 FROM json_each(?1) WHERE value ->> 1 = 'valid')";
            connection.execute(back, &[found.clone(), Value::from(now)]).await?;
            let well = "UPDATE keys SET failed_count = 0, opened = 0, probe_until = 0, last_error = '',
                    rule = CASE WHEN state = 'dead' OR rule = 'circuit' THEN '' ELSE rule END,
                    reason = CASE WHEN state = 'dead' OR rule = 'circuit' THEN '' ELSE reason END,
                    until = CASE WHEN state = 'dead' OR rule = 'circuit' THEN 0 ELSE until END,
                    state = CASE WHEN state = 'dead' OR rule = 'circuit' THEN 'active' ELSE state END
                WHERE id IN (SELECT value ->> 0 FROM json_each(?1) WHERE value ->> 1 = 'valid')";
            connection.execute(well, std::slice::from_ref(&found)).await?;
            hand::wake(connection).await
        })
        .await
}

/// The credential of one key, as it is stored.
pub async fn stored<P: Ports>(database: &Database<P>, id: KeyId) -> Result<Option<String>, SqlError> {
    let rows = database
        .execute("SELECT secret FROM keys WHERE id = ?", &[Value::from(id.0)])
        .await?;
    Ok(rows.first().map(|row| row.text(0).to_owned()))
}

/// Writes into the audit trail.
pub async fn record<P: Ports>(
    database: &Database<P>,
    actor: &str,
    action: &str,
    detail: &str,
    now: UnixMillis,
) -> Result<(), SqlError> {
    let sql = "INSERT INTO events (at, actor, action, detail) VALUES (?, ?, ?, ?)";
    let parameters = [
        Value::from(now),
        Value::from(actor),
        Value::from(action),
        Value::from(detail),
    ];
    database.write(sql, &parameters).await
}

/// How many rows the last statement has changed.
async fn changes(connection: &impl Connection) -> Result<u64, SqlError> {
    let rows = connection.execute("SELECT changes()", &[]).await?;
    Ok(rows.first().map_or(0, |row| row.integer(0).unsigned_abs()))
}

fn key_row(row: &Row, now: UnixMillis) -> KeyRow {
    let until = row.integer(9);
    let resting = row.text(6) == "cooling_down";
    let text = |index: usize| row.text(index).to_owned();
    KeyRow {
        id: row.integer(0),
        stored: text(1),
        masked: text(2),
        api_type: text(3),
        base_url: text(4),
        group: text(5),
        status: text(6),
        reason: if matches!(row.text(6), "active" | "disabled") {
            String::new()
        } else {
            text(7)
        },
        rule: text(8),
        until: if resting && until > now.0 { until } else { 0 },
        priority: row.integer(10),
        weight: row.integer(11),
        note: text(12),
        project: text(13),
        failed_count: row.integer(14),
        last_error: text(15),
        last_checked_at: row.integer(16),
        last_result: text(17),
        last_used_at: row.integer(18),
        created_at: row.integer(19),
    }
}

/// How many keys go into the database with one statement.
const ADD_CHUNK: usize = 2000;

/// How many hours the small chart beside a key shows.
const HOURS: usize = 24;
const HOUR_MS: i64 = 3_600_000;
