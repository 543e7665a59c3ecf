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
    pool::{Draw, Write, key::ApiType, key::KeyId},
    ports::{Ports as _, SqlError, UnixMillis},
    store::{
        Database,
        pool::{self, Source},
    },
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
    let drawn = block_on(pool::draw(database, &wanted, &Source::default(), start, now)).unwrap();
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
    block_on(pool::prune(&database, now)).unwrap();
    let sums = &ports.rows("SELECT SUM(requests), SUM(period = 'hour'), SUM(period = 'day') FROM usage")[0];
    assert_eq!(sums.integer(0), 480);
    assert!(
        sums.integer(1) <= 7 * 24 + 1 && (3..=4).contains(&sums.integer(2)),
        "{sums:?}"
    );
}

#[test]
fn one_instance_claims_a_sweep_and_a_locked_database_is_told() {
    let (ports, database) = world();
    let now = ports.now();
    assert_eq!(block_on(pool::claim_sweep(&database, 1000, now)), Ok(true));
    assert_eq!(block_on(pool::claim_sweep(&database, 1000, now.plus(999))), Ok(false));
    assert_eq!(block_on(pool::claim_sweep(&database, 1000, now.plus(1000))), Ok(true));
    ports.fail_sql(Some(SqlError::Busy));
    assert_eq!(
        block_on(pool::flush(&database, &[rests(1, 1)], &[], now)),
        Err(SqlError::Busy)
    );
}
