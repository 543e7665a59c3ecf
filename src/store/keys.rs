//! The administrator's side of the keys: adding, finding, changing, deleting.

use serde_json::json;

use super::Database;
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

/// Which keys are meant. All conditions hold together; none means all keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// These keys, by number.
    pub ids: Option<Vec<i64>>,
    /// These keys, by the hash of their credential.
    pub hashes: Option<Vec<String>>,
    /// `active`, `cooling_down`, `dead` or `disabled`.
    pub status: Option<String>,
    /// Keys of this type.
    pub api_type: Option<ApiType>,
    /// Keys of this group.
    pub group: Option<String>,
    /// Keys of this endpoint, as stored.
    pub endpoint: Option<String>,
    /// Keys with this text in their mask, note, group, endpoint, project or last error.
    pub search: Option<String>,
    /// Keys with a higher number: how a long piece of work goes on.
    pub after: Option<i64>,
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
            Self::Requests => "requests",
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
    /// When it last served.
    pub last_used_at: i64,
    /// When it was added.
    pub created_at: i64,
    /// Attempts in all.
    pub requests: i64,
    /// Those that failed.
    pub failures: i64,
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
                    FROM json_each(?1) WHERE true ON CONFLICT DO NOTHING RETURNING 1";
                added += connection.execute(sql, &[chunk.clone(), Value::from(now)]).await?.len() as u64;
            }
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
    // Sums over usage are looked up for the rows of the page alone, unless they are what the page is ordered by.
    let requests = "(SELECT COALESCE(SUM(requests), 0) FROM usage WHERE key_id = k.id)";
    let successes = "(SELECT COALESCE(SUM(successes), 0) FROM usage WHERE key_id = k.id)";
    let sql = format!(
        "SELECT id, secret, masked, api_type, base_url, grp, {STATUS} AS status, reason, rule, until, priority, weight, note,
            project, failed_count, last_error, last_checked_at, last_used_at, created_at, {requests} AS requests,
            {successes} AS successes
        FROM keys k WHERE {condition} ORDER BY {} {direction}, id {direction} LIMIT ?{limit} OFFSET ?{offset}",
        page.sort.column()
    );
    let rows = database.execute(&sql, &parameters).await?;
    Ok(rows.iter().map(|row| key_row(row, now)).collect())
}

/// Counts keys by status.
pub async fn counts<P: Ports>(
    database: &Database<P>,
    filter: &Filter,
    now: UnixMillis,
) -> Result<Vec<(String, i64)>, SqlError> {
    let (condition, parameters) = filter.condition(now);
    let sql = format!("SELECT {STATUS} AS status, COUNT(*) FROM keys k WHERE {condition} GROUP BY 1");
    let rows = database.execute(&sql, &parameters).await?;
    Ok(rows
        .iter()
        .map(|row| (row.text(0).to_owned(), row.integer(1)))
        .collect())
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
    let sql = format!(
        "UPDATE OR IGNORE keys AS k SET {} WHERE {condition} RETURNING 1",
        sets.join(", ")
    );
    database
        .transaction(async |connection| Ok(connection.execute(&sql, &parameters).await?.len() as u64))
        .await
}

/// Deletes keys and all that is written of them but their usage; returns how many there were.
pub async fn delete<P: Ports>(database: &Database<P>, filter: &Filter, now: UnixMillis) -> Result<u64, SqlError> {
    let (condition, parameters) = filter.condition(now);
    let keys = format!("DELETE FROM keys AS k WHERE {condition} RETURNING 1");
    database
        .transaction(async |connection| {
            let deleted = connection.execute(&keys, &parameters).await?.len() as u64;
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

/// Writes down that keys were checked. Those that are valid come back from the dead, and their circuits close; a rest that
/// a provider asked for goes on, since a free check proves no quota.
pub async fn checked<P: Ports>(
    database: &Database<P>,
    checked: &[i64],
    valid: &[i64],
    now: UnixMillis,
) -> Result<(), SqlError> {
    let list = |ids: &[i64]| Value::Text(json!(ids).to_string());
    database
        .transaction(async |connection| {
            let all = "UPDATE keys SET last_checked_at = ?2 WHERE id IN (SELECT value FROM json_each(?1))";
            connection.execute(all, &[list(checked), Value::from(now)]).await?;
            let well = "UPDATE keys SET failed_count = 0, opened = 0, last_error = '',
                    rule = CASE WHEN state = 'dead' OR rule = 'circuit' THEN '' ELSE rule END,
                    reason = CASE WHEN state = 'dead' OR rule = 'circuit' THEN '' ELSE reason END,
                    until = CASE WHEN state = 'dead' OR rule = 'circuit' THEN 0 ELSE until END,
                    state = CASE WHEN state = 'dead' OR rule = 'circuit' THEN 'active' ELSE state END
                WHERE id IN (SELECT value FROM json_each(?1))";
            connection.execute(well, &[list(valid)]).await.map(drop)
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
    database.execute(sql, &parameters).await.map(drop)
}

impl Filter {
    /// The condition over `keys k`, with numbered parameters. `?1` is the present.
    fn condition(&self, now: UnixMillis) -> (String, Vec<Value>) {
        let mut parameters = vec![Value::from(now)];
        let mut conditions = vec!["?1 = ?1".to_owned()];
        let mut add = |condition: &str, value: Option<Value>| {
            if let Some(value) = value {
                parameters.push(value);
                conditions.push(condition.replace("??", &format!("?{}", parameters.len())));
            }
        };
        let list = |text: String| Value::Text(text);
        add(
            "k.id IN (SELECT value FROM json_each(??))",
            self.ids.as_ref().map(|ids| list(json!(ids).to_string())),
        );
        add(
            "k.secret_hash IN (SELECT value FROM json_each(??))",
            self.hashes.as_ref().map(|hashes| list(json!(hashes).to_string())),
        );
        add(&format!("{STATUS} = ??"), self.status.as_deref().map(Value::from));
        add(
            "k.api_type = ??",
            self.api_type.map(|api_type| Value::from(api_type.as_str())),
        );
        add("k.grp = ??", self.group.as_deref().map(Value::from));
        add("k.base_url = ??", self.endpoint.as_deref().map(Value::from));
        add(
            "instr(lower(k.masked || char(10) || k.note || char(10) || k.grp || char(10) || k.base_url || char(10)
                || k.project || char(10) || k.last_error), ??) > 0",
            self.search.as_deref().map(|text| Value::from(text.to_lowercase())),
        );
        add("k.id > ??", self.after.map(Value::from));
        (conditions.join(" AND "), parameters)
    }
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
        last_used_at: row.integer(17),
        created_at: row.integer(18),
        requests: row.integer(19),
        failures: row.integer(19) - row.integer(20),
    }
}

/// A key's state in the administrator's words. A rest that is over is none.
const STATUS: &str = "CASE WHEN k.enabled = 0 THEN 'disabled' WHEN k.state = 'dead' THEN 'dead'
    WHEN k.state = 'cooling_down' AND k.until > ?1 THEN 'cooling_down' ELSE 'active' END";

/// How many keys go into the database with one statement.
const ADD_CHUNK: usize = 2000;
