//! The schema, as numbered steps that are applied once each.

use crate::ports::{Connection, Row, SqlError, Value};

/// Brings the database to the newest version. Instances that start together do it once: the version is read again under
/// the lock.
pub async fn apply(connection: &impl Connection) -> Result<(), SqlError> {
    let newest = MIGRATIONS.len() as i64;
    match version(connection).await {
        Ok(version) if version >= newest => return Ok(()),
        Err(SqlError::Busy) => return Err(SqlError::Busy),
        // A database that was never used has no table of versions.
        Ok(_) | Err(_) => {}
    }
    // The setting stays in the file. A remote database refuses it, and does not need it.
    let _ = connection.execute("PRAGMA journal_mode = WAL", &[]).await;
    connection.execute("BEGIN IMMEDIATE", &[]).await?;
    let applied = migrate(connection, newest).await;
    let end = if applied.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = connection.execute(end, &[]).await;
    applied.and(ended.map(|_| ()))
}

async fn migrate(connection: &impl Connection, newest: i64) -> Result<(), SqlError> {
    connection
        .execute(
            "CREATE TABLE IF NOT EXISTS migrations (version INTEGER PRIMARY KEY)",
            &[],
        )
        .await?;
    let version = version(connection).await?;
    for (number, statements) in (1..=newest).zip(MIGRATIONS).filter(|(number, _)| *number > version) {
        for statement in *statements {
            connection.execute(statement, &[]).await?;
        }
        connection
            .execute("INSERT INTO migrations (version) VALUES (?)", &[Value::Integer(number)])
            .await?;
    }
    Ok(())
}

async fn version(connection: &impl Connection) -> Result<i64, SqlError> {
    let rows = connection.execute(VERSION, &[]).await?;
    Ok(rows.first().map_or(0, |row| row.integer(0)))
}

/// Whether a statement that selects [`VERSION`] first has found the newest schema.
pub(super) fn is_newest(rows: &[Row]) -> bool {
    rows.first()
        .is_some_and(|row| row.integer(0) >= MIGRATIONS.len() as i64)
}

/// Selects the schema's version.
pub const VERSION: &str = "SELECT COALESCE(MAX(version), 0) FROM migrations";

/// Order is the version: append new steps at the end, never change one that has been released.
const MIGRATIONS: &[&[&str]] = &[
    &[
        "CREATE TABLE keys (
        id INTEGER PRIMARY KEY,
        api_type TEXT NOT NULL,
        base_url TEXT NOT NULL,
        grp TEXT NOT NULL,
        secret TEXT NOT NULL,
        secret_hash TEXT NOT NULL,
        masked TEXT NOT NULL,
        priority INTEGER NOT NULL DEFAULT 0,
        weight INTEGER NOT NULL DEFAULT 1,
        note TEXT NOT NULL DEFAULT '',
        project TEXT NOT NULL DEFAULT '',
        enabled INTEGER NOT NULL DEFAULT 1,
        state TEXT NOT NULL DEFAULT 'active',
        reason TEXT NOT NULL DEFAULT '',
        rule TEXT NOT NULL DEFAULT '',
        until INTEGER NOT NULL DEFAULT 0,
        failed_count INTEGER NOT NULL DEFAULT 0,
        opened INTEGER NOT NULL DEFAULT 0,
        last_error TEXT NOT NULL DEFAULT '',
        last_checked_at INTEGER NOT NULL DEFAULT 0,
        last_used_at INTEGER NOT NULL DEFAULT 0,
        created_at INTEGER NOT NULL,
        pick INTEGER NOT NULL,
        UNIQUE (api_type, base_url, grp, secret_hash)
    )",
        // One tier of one pool in random order: what a hand is drawn from.
        "CREATE INDEX keys_hand ON keys (api_type, grp, enabled, state, priority, pick)",
        // Resting keys by the moment they come back.
        "CREATE INDEX keys_until ON keys (state, until)",
        // Rests by key and model. The row of key 0 is an endpoint's: its model is the model, a line break, and the base URL.
        "CREATE TABLE cooldowns (
        key_id INTEGER NOT NULL,
        model TEXT NOT NULL,
        until INTEGER NOT NULL,
        rule TEXT NOT NULL,
        strikes INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (key_id, model)
    ) WITHOUT ROWID",
        "CREATE INDEX cooldowns_until ON cooldowns (until)",
        "CREATE TABLE endpoint_models (
        api_type TEXT NOT NULL,
        base_url TEXT NOT NULL,
        model TEXT NOT NULL,
        PRIMARY KEY (api_type, base_url, model)
    ) WITHOUT ROWID",
        // `period` is 'hour' or 'day', `starts_at` its beginning.
        "CREATE TABLE usage (
        period TEXT NOT NULL,
        starts_at INTEGER NOT NULL,
        key_id INTEGER NOT NULL,
        model TEXT NOT NULL,
        requests INTEGER NOT NULL DEFAULT 0,
        successes INTEGER NOT NULL DEFAULT 0,
        prompt_tokens INTEGER NOT NULL DEFAULT 0,
        completion_tokens INTEGER NOT NULL DEFAULT 0,
        total_tokens INTEGER NOT NULL DEFAULT 0,
        latency_sum_ms INTEGER NOT NULL DEFAULT 0,
        latency_max_ms INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (period, starts_at, key_id, model)
    ) WITHOUT ROWID",
        "CREATE INDEX usage_key ON usage (key_id)",
        "CREATE TABLE faults (
        period TEXT NOT NULL,
        starts_at INTEGER NOT NULL,
        key_id INTEGER NOT NULL,
        model TEXT NOT NULL,
        fault TEXT NOT NULL,
        count INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (period, starts_at, key_id, model, fault)
    ) WITHOUT ROWID",
        "CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        "CREATE TABLE events (
        id INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        detail TEXT NOT NULL
    )",
    ],
    &[
        // What the last check said, so that what it found can be acted on by a filter.
        "ALTER TABLE keys ADD COLUMN last_result TEXT NOT NULL DEFAULT ''",
        // Keys by their state: counting them looks at no key. It serves all that `keys_until` did.
        "CREATE INDEX keys_status ON keys (enabled, state, until)",
        "DROP INDEX keys_until",
    ],
    &[
        // Sums that only grow, for whoever computes rates of them.
        "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    ],
    &[
        // Until when a half-open key is left to the one request that tries it.
        "ALTER TABLE keys ADD COLUMN probe_until INTEGER NOT NULL DEFAULT 0",
        // With the endpoint in it, keys at rest are passed over without being looked up.
        "DROP INDEX keys_hand",
        "CREATE INDEX keys_hand ON keys (api_type, grp, enabled, state, priority, pick, base_url)",
        // The first key that comes back for a model.
        "CREATE INDEX cooldowns_model ON cooldowns (model, until)",
        "DROP INDEX cooldowns_until",
        // A rest that a whole project takes finds its keys.
        "CREATE INDEX keys_project ON keys (project) WHERE project <> ''",
        // Which keys are to be looked at again, those that were not for longest first.
        "CREATE INDEX keys_dead ON keys (last_checked_at) WHERE state = 'dead'",
        "CREATE INDEX keys_opened ON keys (last_checked_at) WHERE opened > 0",
    ],
    &[
        // What was counted, written in one statement: a trigger shares it out. An instance lives for some hundred requests,
        // and each statement is a call of its host.
        "CREATE VIEW tally AS SELECT '[]' AS usage, '[]' AS faults, '{}' AS counters",
        "CREATE TRIGGER tally_add INSTEAD OF INSERT ON tally BEGIN
            INSERT INTO usage (period, starts_at, key_id, model, requests, successes, prompt_tokens, completion_tokens,
                    total_tokens, latency_sum_ms, latency_max_ms)
                SELECT 'hour', value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
                    value ->> 7, value ->> 8, value ->> 9 FROM json_each(NEW.usage) WHERE true
                ON CONFLICT DO UPDATE SET requests = requests + excluded.requests,
                    successes = successes + excluded.successes, prompt_tokens = prompt_tokens + excluded.prompt_tokens,
                    completion_tokens = completion_tokens + excluded.completion_tokens,
                    total_tokens = total_tokens + excluded.total_tokens,
                    latency_sum_ms = latency_sum_ms + excluded.latency_sum_ms,
                    latency_max_ms = MAX(latency_max_ms, excluded.latency_max_ms);
            UPDATE keys SET last_used_at = MAX(last_used_at, used.at)
                FROM (SELECT value ->> 1 AS id, MAX(value ->> 10) AS at FROM json_each(NEW.usage) GROUP BY 1) AS used
                WHERE keys.id = used.id;
            INSERT INTO faults (period, starts_at, key_id, model, fault, count)
                SELECT 'hour', value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4
                FROM json_each(NEW.faults) WHERE true
                ON CONFLICT DO UPDATE SET count = count + excluded.count;
            INSERT INTO counters (name, value) SELECT key, value FROM json_each(NEW.counters) WHERE true
                ON CONFLICT DO UPDATE SET value = value + excluded.value;
        END",
    ],
];
