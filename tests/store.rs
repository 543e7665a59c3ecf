//! The real SQL, in memory.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails where it stands"
)]
#![allow(dead_code, reason = "the support of the tests serves others as well")]

mod support;

use std::rc::Rc;

use futures::executor::block_on;
use keystorm::{
    catalogue::Catalogue,
    classify::Fault,
    pool::{Draw, Drawn, FIRST_HAND, HAND, Settings, Write, key::ApiType, key::KeyId},
    ports::{Ports as _, SqlError, UnixMillis},
    secret::Secret,
    store::{
        Database,
        filter::Filter,
        hand::{self, Source},
        keys::{self, Change},
        pool, upkeep,
    },
    vault::Vault,
};
use support::{Answer, FakePorts};

fn world() -> (FakePorts, Database<FakePorts>) {
    let ports = FakePorts::new("", |_, _| Answer::Head(200, Vec::new(), "{}"));
    let database = Database::new(ports.clone());
    block_on(database.execute("SELECT 1", &[])).unwrap();
    (ports, database)
}

fn insert(ports: &FakePorts, id: i64, group: &str, priority: i64, state: &str, pick: i64) {
    ports.rows(&format!(
        "INSERT INTO keys (id, api_type, base_url, grp, secret, secret_hash, masked, priority, state, created_at, pick)
        VALUES ({id}, 'openai', '', '{group}', 'sk-{id}', '{id}', 'sk', {priority}, '{state}', 0, {pick})"
    ));
}

fn draw(database: &Database<FakePorts>, now: UnixMillis, start: i64) -> (Vec<i64>, u64) {
    let wanted = Draw {
        group: Rc::from(""),
        api_type: ApiType::OpenAi,
        model: Rc::from("m"),
        endpoints: None,
        bucket: None,
    };
    let drawn = block_on(hand::draw(database, &wanted, &Source::default(), start, HAND, now))
        .unwrap()
        .0;
    (drawn.keys.iter().map(|key| key.id.0).collect(), drawn.census.keys)
}

fn rests(key: i64, until: i64) -> Write {
    Write::ModelRests {
        key: KeyId(key),
        project: None,
        model: Rc::from("m"),
        until: UnixMillis(until),
        rule: "O5",
        strikes: 0,
        message: String::new(),
    }
}

#[test]
fn migrations_are_applied_once_whoever_comes_first() {
    let (ports, _) = world();
    let second = Database::new(ports.clone());
    block_on(second.execute("SELECT 1", &[])).unwrap();
    let versions = &ports.rows("SELECT COUNT(*), MAX(version) FROM migrations")[0];
    assert_eq!(versions.integer(0), versions.integer(1));
}

#[test]
fn a_hand_begins_anywhere_in_the_lowest_tier_and_goes_around() {
    let (ports, database) = world();
    for (id, pick) in [(1, 10), (2, 20), (3, 30)] {
        insert(&ports, id, "", 0, "active", pick);
    }
    insert(&ports, 4, "", 5, "active", 1);
    insert(&ports, 5, "", 0, "dead", 1);
    insert(&ports, 6, "other", 0, "active", 1);
    let now = ports.now();
    assert_eq!(draw(&database, now, 15).0, [2, 3, 1, 4]);
    // A rest for the model hides a key; with the whole tier at rest the next one is drawn.
    block_on(pool::flush(
        &database,
        &[rests(1, now.0 + 1), rests(2, now.0 + 1), rests(3, now.0 + 1)],
        &[],
        now,
    ))
    .unwrap();
    assert_eq!(draw(&database, now, 15).0, [4]);
    assert_eq!(draw(&database, now.plus(2), 0).0, [1, 2, 3, 4]);
}

#[test]
fn a_rest_is_never_shortened_whoever_writes_last() {
    let (ports, database) = world();
    insert(&ports, 1, "", 0, "active", 1);
    let now = ports.now();
    for until in [500, 900, 300] {
        block_on(pool::flush(&database, &[rests(1, until)], &[], now)).unwrap();
    }
    assert_eq!(ports.rows("SELECT until FROM cooldowns")[0].integer(0), 900);
}

#[test]
fn a_pool_whose_keys_all_rest_says_when_the_first_comes_back() {
    let (ports, database) = world();
    insert(&ports, 1, "", 0, "active", 1);
    let now = ports.now();
    block_on(pool::flush(&database, &[rests(1, now.0 + 700)], &[], now)).unwrap();
    assert_eq!(draw(&database, now, 0), (Vec::new(), 1));
    block_on(pool::flush(
        &database,
        &[Write::Dead {
            key: KeyId(1),
            rule: "O1",
            message: "no".to_owned(),
        }],
        &[],
        now,
    ))
    .unwrap();
    assert_eq!(ports.rows("SELECT state FROM keys")[0].text(0), "dead");
}

#[test]
fn old_hours_become_days_and_nothing_is_lost_in_their_sums() {
    let (ports, database) = world();
    let now = ports.now();
    for hour in 0..240 {
        let at = now.0 - hour * 3_600_000;
        ports.rows(&format!(
            "INSERT INTO usage (period, starts_at, key_id, model, requests) VALUES ('hour', {at}, 1, 'm', 2)"
        ));
    }
    block_on(upkeep::prune(&database, &Settings::default(), now)).unwrap();
    let sums = &ports.rows("SELECT SUM(requests), SUM(period = 'hour'), SUM(period = 'day') FROM usage")[0];
    assert_eq!(sums.integer(0), 480);
    assert!(
        sums.integer(1) <= 8 * 24 && (3..=4).contains(&sums.integer(2)),
        "{sums:?}"
    );
}

#[test]
fn a_connection_that_a_remote_database_has_ended_is_replaced() {
    let (ports, database) = world();
    insert(&ports, 1, "", 0, "active", 1);
    let now = ports.now();
    assert_eq!(draw(&database, now, 0).0, [1]);
    ports.end_connections();
    assert_eq!(draw(&database, now, 0).0, [1]);
    // In the middle of a transaction, all of it is done again, and once.
    let begun = std::cell::Cell::new(0);
    let count = async |connection: &support::Sqlite| {
        begun.set(begun.get() + 1);
        let sql = "UPDATE keys SET failed_count = failed_count + 1";
        keystorm::ports::Connection::execute(connection, sql, &[]).await?;
        if begun.get() == 1 {
            ports.end_connections();
        }
        keystorm::ports::Connection::execute(connection, sql, &[])
            .await
            .map(drop)
    };
    assert_eq!(block_on(database.transaction(count)), Ok(()));
    assert_eq!(ports.rows("SELECT failed_count FROM keys")[0].integer(0), 2);
    assert_eq!(begun.get(), 2);
}

#[test]
fn one_instance_claims_a_sweep_and_a_locked_database_is_told() {
    let (ports, database) = world();
    let now = ports.now();
    assert_eq!(block_on(upkeep::claim(&database, "sweep", 1000, now)), Ok(true));
    assert_eq!(
        block_on(upkeep::claim(&database, "sweep", 1000, now.plus(999))),
        Ok(false)
    );
    assert_eq!(
        block_on(upkeep::claim(&database, "sweep", 1000, now.plus(1000))),
        Ok(true)
    );
    ports.fail_sql(Some(SqlError::Busy));
    assert_eq!(
        block_on(pool::flush(&database, &[rests(1, 1)], &[], now)),
        Err(SqlError::Busy)
    );
}

fn world_of(keys: i64) -> (FakePorts, Database<FakePorts>) {
    let (ports, database) = world();
    for id in 1..=keys {
        insert(&ports, id, "", 0, "active", id * 100);
    }
    (ports, database)
}

fn drawn(database: &Database<FakePorts>, now: UnixMillis) -> Drawn {
    let wanted = Draw {
        group: Rc::from(""),
        api_type: ApiType::OpenAi,
        model: Rc::from("m"),
        endpoints: None,
        bucket: None,
    };
    let source = Source {
        openai: Rc::from("https://api.example/v1"),
        ..Source::default()
    };
    block_on(hand::draw(database, &wanted, &source, 0, HAND, now))
        .unwrap()
        .0
}

fn flush(database: &Database<FakePorts>, writes: &[Write], now: UnixMillis) {
    block_on(pool::flush(database, writes, &[], now)).unwrap();
}

#[test]
fn an_instance_that_serves_one_request_trusts_what_another_has_read_and_no_secret_lies_open() {
    let (ports, database) = world_of(3);
    database.trust_others(1000);
    let read = |source: &Source, now| {
        let wanted = Draw {
            group: Rc::from(""),
            api_type: ApiType::OpenAi,
            model: Rc::from("m"),
            endpoints: None,
            bucket: None,
        };
        let drawn = block_on(hand::draw(&database, &wanted, source, 0, FIRST_HAND, now));
        drawn.map(|(drawn, _)| drawn.keys.len())
    };
    let now = ports.now();
    // Secrets that lie open in the database lie nowhere else.
    assert_eq!(read(&Source::default(), now), Ok(3));
    assert_eq!(ports.stored(), []);
    let vault = Vault::new(Some(&Secret::new("the operator's")));
    for id in 1..=3 {
        let sealed = vault.seal(&Secret::new(format!("sk-{id}")), [7; 24]);
        ports.rows(&format!("UPDATE keys SET secret = '{sealed}' WHERE id = {id}"));
    }
    let source = Source {
        vault: Rc::new(vault),
        ..Source::default()
    };
    assert_eq!(read(&source, now), Ok(3));
    let [(name, value)] = <[_; 1]>::try_from(ports.stored()).unwrap();
    assert!(
        name.starts_with("hand:") && value.contains("sealed:1:") && !value.contains("sk-"),
        "{value}"
    );
    ports.rows(r#"INSERT INTO settings (name, value) VALUES ('aliases', '{"mine":"m"}')"#);
    let aliases = |now| block_on(Catalogue::read_shared(&database, now)).map(|catalogue| catalogue.aliases.len());
    assert_eq!(aliases(now), Ok(1));
    // Within its time it stands for the database, then no more; a change by the administrator ends it.
    ports.fail_sql(Some(SqlError::Busy));
    assert_eq!((read(&source, now.plus(999)), aliases(now.plus(999))), (Ok(3), Ok(1)));
    let over = now.plus(1000);
    assert_eq!(
        (read(&source, over), aliases(over)),
        (Err(SqlError::Busy), Err(SqlError::Busy))
    );
    block_on(keystorm::store::snapshot::forget(&ports));
    assert_eq!(
        (read(&source, now), aliases(now)),
        (Err(SqlError::Busy), Err(SqlError::Busy))
    );
}

#[test]
fn a_storm_is_known_to_every_instance_and_to_the_next_one() {
    let (ports, database) = world_of(3);
    let now = ports.now();
    let guess = |key| Write::ModelRests {
        key: KeyId(key),
        project: None,
        model: Rc::from("m"),
        until: now.plus(30_000),
        rule: "O5",
        strikes: 1,
        message: String::new(),
    };
    let storm = Write::Storm {
        endpoint: Rc::from("https://api.example/v1"),
        model: Rc::from("m"),
        until: now.plus(2000),
        strikes: 3,
        pardoned: vec![KeyId(1), KeyId(2)],
    };
    flush(&database, &[guess(1), rests(2, now.0 + 9000), storm], now);
    let during = drawn(&database, now);
    assert!(during.keys.is_empty(), "the endpoint of all keys rests");
    assert_eq!(during.census.soonest, Some((now.plus(2000), Fault::RateLimit)));
    let after = drawn(&database, now.plus(2000));
    let ids: Vec<_> = after.keys.iter().map(|key| key.id.0).collect();
    assert_eq!(
        ids,
        [1, 3],
        "a guessed rest was taken back, one that was asked for was not"
    );
    assert_eq!(after.storms.len(), 1);
    assert_eq!(
        after.storms[0].strikes, 3,
        "whoever is limited next knows how often before"
    );
}

#[test]
fn how_often_a_key_was_limited_in_a_row_outlives_an_instance() {
    let (ports, database) = world_of(1);
    let now = ports.now();
    let guess = Write::ModelRests {
        key: KeyId(1),
        project: None,
        model: Rc::from("m"),
        until: now.plus(30_000),
        rule: "O5",
        strikes: 4,
        message: String::new(),
    };
    flush(&database, &[guess], now);
    assert_eq!(drawn(&database, now.plus(30_000)).keys[0].strikes, 4);
    assert_eq!(drawn(&database, now.plus(1_900_000)).keys[0].strikes, 0);
}

#[test]
fn one_instance_tries_a_half_open_key() {
    let (ports, database) = world_of(1);
    let now = ports.now();
    let opened = Write::Opened {
        key: KeyId(1),
        until: now.plus(30_000),
        opened: 1,
    };
    flush(&database, &[opened], now);
    assert!(drawn(&database, now).keys.is_empty());
    let then = now.plus(30_000);
    assert!(drawn(&database, then).keys[0].half_open);
    assert_eq!(block_on(hand::claim_probe(&database, KeyId(1), then)), Ok(true));
    assert_eq!(block_on(hand::claim_probe(&database, KeyId(1), then)), Ok(false));
    let others = drawn(&database, then);
    assert!(others.keys.is_empty(), "to other instances it is not there");
    assert_eq!(others.census.soonest, Some((then.plus(30_000), Fault::Overload)));
    // Its request never came back: another may try.
    assert_eq!(
        block_on(hand::claim_probe(&database, KeyId(1), then.plus(30_000))),
        Ok(true)
    );
    flush(&database, &[Write::Healthy(KeyId(1))], then);
    assert!(!drawn(&database, then.plus(1000)).keys[0].half_open);
    assert_eq!(
        block_on(hand::claim_probe(&database, KeyId(1), then.plus(60_000))),
        Ok(false)
    );
}

#[test]
fn an_open_circuit_does_not_take_over_a_longer_rest() {
    let (ports, database) = world_of(1);
    let now = ports.now();
    let quota = Write::KeyRests {
        key: KeyId(1),
        project: None,
        until: now.plus(86_400_000),
        rule: "O4",
        message: "no money".to_owned(),
    };
    let opened = Write::Opened {
        key: KeyId(1),
        until: now.plus(30_000),
        opened: 1,
    };
    flush(&database, &[quota, opened, Write::Healthy(KeyId(1))], now);
    let row = &ports.rows("SELECT state, rule, reason, until FROM keys")[0];
    assert_eq!(
        (row.text(0), row.text(1), row.text(2)),
        ("cooling_down", "O4", "no money")
    );
    assert_eq!(row.integer(3), now.0 + 86_400_000);
}

#[test]
fn the_first_hand_is_as_large_as_was_asked_for() {
    let (ports, database) = world_of(100);
    let wanted = Draw {
        group: Rc::from(""),
        api_type: ApiType::OpenAi,
        model: Rc::from("m"),
        endpoints: None,
        bucket: None,
    };
    let draw = |size, start| {
        let drawn = block_on(hand::draw(
            &database,
            &wanted,
            &Source::default(),
            start,
            size,
            ports.now(),
        ));
        drawn.unwrap().0.keys.iter().map(|key| key.id.0).collect::<Vec<_>>()
    };
    assert_eq!(draw(3, 9_850), [99, 100, 1], "from any point and around");
    assert_eq!(draw(HAND, 0).len(), 100);
}

#[test]
fn a_pool_without_an_able_key_is_looked_through_once_a_second() {
    let (ports, database) = world_of(3);
    let now = ports.now();
    let all: Vec<_> = (1..=3).map(|key| rests(key, now.0 + 60_000)).collect();
    flush(&database, &all, now);
    let first = drawn(&database, now);
    assert!(first.keys.is_empty());
    // Another instance takes a key's rest away behind its back, and is believed a second later.
    ports.rows("DELETE FROM cooldowns WHERE key_id = 2");
    assert!(drawn(&database, now.plus(999)).keys.is_empty());
    assert_eq!(drawn(&database, now.plus(999)).census.soonest, first.census.soonest);
    assert_eq!(drawn(&database, now.plus(1000)).keys.len(), 1);
    // What the administrator does is seen at once.
    ports.rows("DELETE FROM cooldowns WHERE key_id > 0 AND key_id <> 2");
    flush(&database, &[rests(2, now.0 + 60_000)], now);
    ports.rows("UPDATE keys SET enabled = 0 WHERE id <> 2");
    assert!(drawn(&database, now.plus(2000)).keys.is_empty());
    let (all, on) = (
        Filter::default(),
        Change {
            enabled: Some(true),
            ..Change::default()
        },
    );
    block_on(keys::change(&database, &all, &on, now)).unwrap();
    assert_eq!(drawn(&database, now.plus(2000)).keys.len(), 2);
}
