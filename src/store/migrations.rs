//! The schema, as numbered steps that are applied once each.

/// Order is the version: append new steps at the end, never change one that has been released.
pub const MIGRATIONS: &[&[&str]] = &[&[
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
    "CREATE TABLE cooldowns (
        key_id INTEGER NOT NULL REFERENCES keys (id) ON DELETE CASCADE,
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
        faults TEXT NOT NULL DEFAULT '{}',
        prompt_tokens INTEGER NOT NULL DEFAULT 0,
        completion_tokens INTEGER NOT NULL DEFAULT 0,
        total_tokens INTEGER NOT NULL DEFAULT 0,
        latency_sum_ms INTEGER NOT NULL DEFAULT 0,
        latency_max_ms INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (period, starts_at, key_id, model)
    ) WITHOUT ROWID",
    "CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE events (
        id INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        detail TEXT NOT NULL
    )",
]];
