//! Draws hands of keys.

use std::{borrow::Cow, rc::Rc};

use serde::Deserialize;
use serde_json::json;

use super::{
    Database,
    upkeep::{Marks, RECHECK, TIDY},
};
use crate::{
    classify::Fault,
    pool::{
        Census, Draw, Drawn, FIRST_HAND, PROBE_MS, STRIKES_MS, StormMark,
        key::{ApiType, Candidate, KeyId},
    },
    ports::{Connection, Ports, Row, SqlError, UnixMillis, Value},
    vault::Vault,
};

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

/// Draws a hand of at most `size` keys: one statement that reads about as many rows as the hand has keys, however large the
/// pool is, and answers one row, since a host hands rows over one by one. `start` is a point in the random order of the
/// pool's keys, 0 to 2^31. What the instance has to know beside the keys comes with them.
pub async fn draw<P: Ports>(
    database: &Database<P>,
    draw: &Draw,
    source: &Source,
    start: i64,
    size: usize,
    now: UnixMillis,
) -> Result<(Drawn, Marks), SqlError> {
    let parameters = parameters(draw, source, start, size, now);
    let of = if draw.endpoints.is_some() {
        Of::Endpoints
    } else {
        Of::Pool
    };
    // A request that looks for more keys than the first hand has needs to know what it has learnt itself.
    let is_shared = size == FIRST_HAND && is_shared(database, source);
    let sql = draw_sql("", of, false);
    let mut answer = if is_shared {
        let name = format!("{}\n{:?}", dry_name(draw), draw.bucket);
        database.read_shared(&name, &sql, &parameters, now).await?
    } else {
        database.execute(&sql, &parameters).await?
    };
    let mut storms = storms(&answer)?;
    if storms.iter().any(|storm| storm.until > now) {
        // Storms are rare: only then are the keys of their endpoints left out by the database.
        answer = database.execute(&draw_sql("", of, true), &parameters).await?;
        storms = self::storms(&answer)?;
    }
    let answer = answer.first().unwrap_or(const { &Row(Vec::new()) });
    let (keys, rested) = keys(answer, draw.api_type, source, now)?;
    let census = if keys.is_empty() {
        let census = census(database, &parameters).await?;
        if let (Some((soonest, _)), 0) = (census.soonest, answer.integer(DRY)) {
            let until = soonest.min(now.plus(DRY_MS));
            // Best effort: without it others look for themselves.
            let _ = database
                .execute(DRY_SQL, &[Value::from(dry_name(draw)), Value::from(until)])
                .await;
        }
        census
    } else {
        Census { keys: 1, soonest: None }
    };
    let drawn = Drawn {
        keys,
        size,
        census,
        rested,
        storms,
    };
    Ok((drawn, marks(answer)))
}

/// Draws a hand in one statement with `columns`, of which the first is the schema's version: an instance that begins
/// waits once. The endpoints of OpenAI-type keys are those that list the model, where any does. No hand comes where it would
/// take more statements.
pub async fn draw_with<P: Ports>(
    database: &Database<P>,
    columns: [&str; 3],
    draw: &Draw,
    source: &Source,
    start: i64,
    size: usize,
    now: UnixMillis,
) -> Result<(Row, Option<(Drawn, Marks)>), SqlError> {
    let parameters = parameters(draw, source, start, size, now);
    let of = match draw.api_type {
        ApiType::OpenAi => Of::Listed,
        ApiType::Gemini => Of::Pool,
    };
    let front = columns.map(|column| format!("({column}), ")).concat();
    let sql = draw_sql(&front, of, false);
    let mut rows = database.execute_with_version(&sql, &parameters).await?;
    let mut row = rows.pop().unwrap_or(const { Row(Vec::new()) });
    let hand = Row(row.0.split_off(columns.len().min(row.0.len())));
    let storms = storms(std::slice::from_ref(&hand))?;
    let (keys, rested) = keys(&hand, draw.api_type, source, now)?;
    if keys.is_empty() || storms.iter().any(|storm| storm.until > now) {
        return Ok((row, None));
    }
    let drawn = Drawn {
        keys,
        size,
        census: Census { keys: 1, soonest: None },
        rested,
        storms,
    };
    Ok((row, Some((drawn, marks(&hand)))))
}

/// Whether instances tell each other of hands.
pub fn is_shared<P: Ports>(database: &Database<P>, source: &Source) -> bool {
    database.trusted_ms.get() > 0 && source.vault.is_sealing()
}

fn parameters(draw: &Draw, source: &Source, start: i64, size: usize, now: UnixMillis) -> [Value; 9] {
    let default = source.default_url(draw.api_type);
    let endpoints = draw.endpoints.as_ref().map_or(Value::Null, |endpoints| {
        // A key that names no endpoint is stored without one.
        let stored = endpoints.iter().map(|url| if **url == *default { "" } else { url });
        Value::Text(json!(stored.collect::<Vec<&str>>()).to_string())
    });
    [
        Value::from(draw.api_type.as_str()),
        Value::from(&*draw.group),
        Value::from(&*draw.model),
        Value::from(now),
        Value::from(start),
        endpoints,
        Value::from(default),
        Value::from(size as i64),
        Value::from(dry_name(draw)),
    ]
}

/// The keys of an answer, and whether some of them have rested.
fn keys(answer: &Row, api_type: ApiType, source: &Source, now: UnixMillis) -> Result<(Vec<Candidate>, bool), SqlError> {
    let rows: Vec<Held<'_>> = read(answer, KEYS)?;
    let default: Rc<str> = Rc::from(source.default_url(api_type));
    let rested = rows.iter().any(|row| row.rested != 0);
    let is_empty = rows.is_empty();
    let mut keys = Vec::with_capacity(rows.len());
    for row in rows {
        // One that cannot be opened is left out; all of them mean that the operator's key is another one.
        keys.extend(candidate(row, api_type, source, &default, now));
    }
    if keys.is_empty() && !is_empty {
        return Err(SqlError::Other(WRONG_KEY.to_owned()));
    }
    Ok((keys, rested))
}

fn marks(answer: &Row) -> Marks {
    Marks {
        recheck: UnixMillis(answer.integer(RECHECKED)),
        tidy: UnixMillis(answer.integer(TIDIED)),
    }
}

/// Takes the one request that a half-open key may be tried with upon this instance. The others leave the key alone until
/// its outcome is known, or has not come for too long.
pub async fn claim_probe<P: Ports>(database: &Database<P>, key: KeyId, now: UnixMillis) -> Result<bool, SqlError> {
    let sql = "UPDATE keys SET probe_until = ?2
        WHERE id = ?1 AND state = 'cooling_down' AND until <= ?3 AND probe_until <= ?3 RETURNING 1";
    let parameters = [Value::from(key.0), Value::from(now.plus(PROBE_MS)), Value::from(now)];
    Ok(!database.execute(sql, &parameters).await?.is_empty())
}

/// A key as a hand has it: the columns of [`draw_sql`], in their order.
#[derive(Deserialize)]
struct Held<'a> {
    id: i64,
    #[serde(borrow)]
    secret: Cow<'a, str>,
    #[serde(borrow)]
    base_url: Cow<'a, str>,
    priority: i64,
    weight: i64,
    #[serde(borrow)]
    project: Cow<'a, str>,
    failed_count: i64,
    opened: i64,
    last_used_at: i64,
    rested: i64,
    strikes: i64,
}

/// Says of a pool without an able key whether it has any, and when the first comes back.
async fn census<P: Ports>(database: &Database<P>, parameters: &[Value]) -> Result<Census, SqlError> {
    let sql = format!(
        "SELECT 1, 0, '' FROM (SELECT 1 FROM keys k WHERE {OF_POOL} LIMIT 1)
        UNION ALL SELECT 2, until, rule FROM (
            SELECT until, rule FROM keys k WHERE {OF_POOL} AND enabled = 1 AND state = 'cooling_down' AND until > ?4
            ORDER BY until LIMIT 1)
        UNION ALL SELECT 2, until, 'circuit' FROM (
            SELECT probe_until AS until FROM keys k
            WHERE {OF_POOL} AND enabled = 1 AND state = 'cooling_down' AND until <= ?4 AND probe_until > ?4
            ORDER BY 1 LIMIT 1)
        UNION ALL SELECT 2, until, rule FROM (
            SELECT c.until, c.rule FROM cooldowns c CROSS JOIN keys k ON k.id = c.key_id
            WHERE {OF_POOL} AND k.enabled = 1 AND k.state <> 'dead' AND c.model = ?3 AND c.until > ?4
            ORDER BY c.until LIMIT 1)
        UNION ALL SELECT 2, until, rule FROM (
            SELECT c.until, c.rule FROM cooldowns c
            WHERE c.key_id = 0 AND c.model > ?3 || char(10) AND c.model < ?3 || char(11) AND c.until > ?4
                AND EXISTS (SELECT 1 FROM keys k WHERE {OF_POOL} AND k.enabled = 1 AND k.state = 'active'
                    AND c.model = ?3 || char(10) || iif(k.base_url = '', ?7, k.base_url))
            ORDER BY c.until LIMIT 1)
        ORDER BY 1, 2"
    );
    // It names the last of the parameters, so that their numbers are the same in both statements.
    let sql = format!("{sql} LIMIT 5 + 0 * length(?9)");
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
        "G7" | "G10" | "O3" | "O6" => Fault::Model,
        "circuit" => Fault::Overload,
        _ => Fault::RateLimit,
    }
}

/// Keys whose rest is over come first, then those of the lowest tier that has an able one, from `start` on, then all from
/// the beginning of that tier: those before `start`, and the tiers behind. It is kept short: an instance
/// lives for some hundred requests, and compiling it is most of what it costs them. Its columns come behind those of `front`.
fn draw_sql(front: &str, of: Of, by_storm: bool) -> String {
    let from = "keys k LEFT JOIN cooldowns c ON c.key_id = k.id AND c.model = ?3";
    let mut able = "k.api_type = ?1 AND k.grp = ?2 AND k.enabled = 1 AND ifnull(c.until, 0) <= ?4".to_owned();
    match of {
        Of::Pool => {}
        Of::Endpoints => able.push_str(" AND k.base_url IN (SELECT value FROM json_each(?6))"),
        Of::Listed => {
            able.push_str(" AND (k.base_url IN (SELECT url FROM listed) OR NOT EXISTS (SELECT 1 FROM listed))");
        }
    }
    let listed = match of {
        Of::Pool | Of::Endpoints => "",
        Of::Listed => {
            "listed AS MATERIALIZED (
            SELECT iif(base_url = ?7, '', base_url) AS url FROM endpoint_models WHERE api_type = ?1 AND model = ?3),"
        }
    };
    if by_storm {
        able.push_str(" AND k.base_url NOT IN (SELECT iif(url = ?7, '', url) FROM storms WHERE until > ?4)");
    }
    let active = format!("{able} AND k.state = 'active'");
    let columns = format!(
        "SELECT k.id, k.secret, k.base_url, k.priority, k.weight, k.project, k.failed_count, k.opened, k.last_used_at,
            k.state = 'cooling_down' AS rested, iif(c.until > ?4 - {STRIKES_MS}, c.strikes, 0) AS strikes FROM {from} WHERE"
    );
    format!(
        "WITH {listed} storms AS MATERIALIZED (
            SELECT substr(model, length(?3) + 2) AS url, until, strikes FROM cooldowns WHERE key_id = 0
                AND model > ?3 || char(10) AND model < ?3 || char(11) AND until > ?4 - {STORMS_KNOWN_MS}),
        dry AS MATERIALIZED (SELECT until FROM cooldowns WHERE key_id = -1 AND model = ?9 AND until > ?4),
        tier AS MATERIALIZED (SELECT k.priority AS priority FROM {from}
            WHERE {active} ORDER BY k.priority LIMIT (SELECT COUNT(*) = 0 FROM dry))
        SELECT {front} (SELECT json_group_array(json_array(id, secret, base_url, priority, weight, project, failed_count, opened,
                last_used_at, rested, strikes)) FROM (
            SELECT * FROM ({columns} {able} AND k.state = 'cooling_down' AND k.until <= ?4 AND k.probe_until <= ?4
                ORDER BY k.until LIMIT {RESTED})
            UNION ALL SELECT * FROM ({columns} {active} AND k.priority = (SELECT priority FROM tier) AND k.pick >= ?5
                ORDER BY k.pick LIMIT ?8)
            UNION ALL SELECT * FROM ({columns} {active} AND k.priority >= (SELECT priority FROM tier)
                AND (k.pick < ?5 OR k.priority > (SELECT priority FROM tier)) ORDER BY k.priority, k.pick LIMIT ?8)
            LIMIT ?8)),
        (SELECT json_group_array(json_array(url, until, strikes)) FROM storms),
        (SELECT until FROM dry),
        (SELECT CAST(value AS INTEGER) FROM settings WHERE name = '{RECHECK}'),
        (SELECT CAST(value AS INTEGER) FROM settings WHERE name = '{TIDY}')"
    )
}

/// Lets every pool be looked through again: keys have come, or have come back.
pub(super) async fn wake(connection: &impl Connection) -> Result<(), SqlError> {
    let sql = "DELETE FROM cooldowns WHERE key_id = -1";
    connection.execute(sql, &[]).await.map(drop)
}

/// The name by which it is known that a pool has no able key: the row of key -1. Looking through a large pool for none takes
/// long, and every instance would do it.
fn dry_name(draw: &Draw) -> String {
    let endpoints = draw.endpoints.as_deref().unwrap_or_default().join(" ");
    format!(
        "{}\n{}\n{}\n{endpoints}",
        draw.model,
        draw.api_type.as_str(),
        draw.group
    )
}

fn storms(answer: &[Row]) -> Result<Vec<StormMark>, SqlError> {
    let Some(answer) = answer.first() else {
        return Ok(Vec::new());
    };
    let storms: Vec<(Cow<'_, str>, i64, i64)> = read(answer, STORMS)?;
    let mark = |(endpoint, until, strikes): (Cow<'_, str>, i64, i64)| StormMark {
        endpoint: Rc::from(&*endpoint),
        until: UnixMillis(until),
        strikes: u32::try_from(strikes).unwrap_or_default(),
    };
    Ok(storms.into_iter().map(mark).collect())
}

fn candidate(
    row: Held<'_>,
    api_type: ApiType,
    source: &Source,
    default: &Rc<str>,
    now: UnixMillis,
) -> Option<Candidate> {
    let count = |number: i64| u32::try_from(number).unwrap_or_default();
    Some(Candidate {
        id: KeyId(row.id),
        api_type,
        secret: source.vault.open(&row.secret).ok()?,
        base_url: if row.base_url.is_empty() {
            Rc::clone(default)
        } else {
            Rc::from(&*row.base_url)
        },
        priority: row.priority,
        weight: count(row.weight).max(1),
        project: Some(row.project).filter(|project| !project.is_empty()).map(Rc::from),
        failed_count: count(row.failed_count),
        opened: count(row.opened),
        half_open: row.opened > 0 && row.rested != 0,
        last_used_at: UnixMillis(row.last_used_at),
        strikes: count(row.strikes),
        read_at: now,
    })
}

fn read<'a, T: Deserialize<'a>>(answer: &'a Row, column: usize) -> Result<Vec<T>, SqlError> {
    match answer.text(column) {
        "" => Ok(Vec::new()),
        text => serde_json::from_str(text).map_err(|error| SqlError::Other(format!("a hand cannot be read: {error}"))),
    }
}

/// Which keys of a group and type are drawn.
#[derive(Clone, Copy)]
enum Of {
    /// All.
    Pool,
    /// Those of the endpoints that [`Draw`] names.
    Endpoints,
    /// Those of the endpoints that list the model, or all where none does.
    Listed,
}

/// The keys of one pool. The numbers are those of [`draw`]'s parameters.
const OF_POOL: &str =
    "k.api_type = ?1 AND k.grp = ?2 AND (?6 IS NULL OR k.base_url IN (SELECT value FROM json_each(?6)))";

/// The columns of [`draw_sql`].
const KEYS: usize = 0;
const STORMS: usize = 1;
const DRY: usize = 2;
const RECHECKED: usize = 3;
const TIDIED: usize = 4;

const DRY_SQL: &str = "INSERT INTO cooldowns (key_id, model, until, rule) VALUES (-1, ?1, ?2, 'dry')
    ON CONFLICT DO UPDATE SET until = MAX(until, excluded.until)";

/// For how long nobody looks again for an able key in a pool that has none.
const DRY_MS: i64 = 1000;

/// How many keys whose rest is over come into one hand before they are cleared.
const RESTED: usize = 32;

/// How long a storm that is over is told of: whoever is limited in that time knows that it goes on. A storm's longest rest
/// and what counts as at once are below it.
const STORMS_KNOWN_MS: i64 = 120_000;

/// What is told when no secret of a hand can be opened.
pub const WRONG_KEY: &str = "its secrets were sealed with another encryption_key";
