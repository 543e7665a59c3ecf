//! What is done now and then, after a response: dead keys are looked at again, secrets that lie open are sealed, old rows are
//! brought together.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails where it stands"
)]

mod support;

use std::{cell::Cell, collections::HashMap, rc::Rc};

use futures::executor::block_on;
use keystorm::{
    ports::UnixMillis,
    secret::Secret,
    store::{Database, secrets, upkeep},
    vault::Vault,
};
use support::{
    Answer, FakePorts,
    app::{GOOD, Test},
};

const REFUSED: Answer = Answer::Head(
    401,
    Vec::new(),
    r#"{"error":{"message":"Incorrect API key provided","code":"invalid_api_key"}}"#,
);

/// Calls by key since the last look.
fn calls_since(test: &Test, before: &mut HashMap<String, u64>) -> HashMap<String, u64> {
    let now = test.ports.calls();
    let fresh = now
        .iter()
        .map(|(key, count)| (key.clone(), count - before.get(key).copied().unwrap_or_default()))
        .filter(|(_, count)| *count > 0)
        .collect();
    *before = now;
    fresh
}

#[test]
fn dead_keys_are_looked_at_again_twenty_at_a_time_by_one_instance() {
    let mended = Rc::new(Cell::new(false));
    let script = mended.clone();
    let test = Test::with("recheck_interval_s=300\n", move |key, _| {
        if key.starts_with("good") || script.get() {
            GOOD
        } else {
            REFUSED
        }
    });
    test.add("dead", 50).add("good", 1);
    // The first sweep is due at once, and finds nothing to do.
    test.ports.rows("UPDATE keys SET priority = -1 WHERE id <= 50");
    assert_eq!(test.chat().0, 200);
    test.ports.drain();
    assert_eq!(test.count("dead"), 50);
    let mut before = HashMap::new();
    calls_since(&test, &mut before);
    test.ports.advance(200_000);
    assert_eq!(test.chat().0, 200);
    test.ports.drain();
    assert_eq!(calls_since(&test, &mut before).len(), 1, "not before its time");

    // Two instances answer a request each at that moment: one of them looks.
    test.ports.advance(101_000);
    let other = Test::over(test.ports.clone());
    assert_eq!(test.chat().0, 200);
    assert_eq!(other.chat().0, 200);
    let asked = calls_since(&test, &mut before);
    assert_eq!(asked.len(), 1, "nothing is asked before the response is out: {asked:?}");
    test.ports.drain();
    let asked = calls_since(&test, &mut before);
    assert_eq!(asked.len(), 20, "{asked:?}");
    assert!(asked.iter().all(|(key, count)| key.starts_with("dead") && *count == 1));
    assert_eq!(test.count("dead"), 50, "they are still refused");

    // The next ones are others; and those that are taken again come back and serve.
    mended.set(true);
    test.ports.advance(301_000);
    assert_eq!(test.chat().0, 200);
    test.ports.drain();
    let next = calls_since(&test, &mut before);
    assert!(
        asked.keys().all(|key| !next.contains_key(key)),
        "those come first that were not asked for longest"
    );
    assert_eq!(test.count("dead"), 30);
    test.ports.advance(1001);
    for _ in 0..40 {
        assert_eq!(test.chat().0, 200);
    }
    let served = calls_since(&test, &mut before);
    assert!(served.keys().any(|key| key.starts_with("dead")), "{served:?}");
    println!("20 of 50 dead keys asked in each of 2 sweeps, 20 came back, by 1 of 2 instances");
}

#[test]
fn a_key_that_fails_for_long_comes_back_with_its_upstream() {
    let down = Rc::new(Cell::new(true));
    let script = down.clone();
    let test = Test::with("recheck_interval_s=60\ncircuit_failures=2\n", move |_, _| {
        if script.get() {
            Answer::Head(500, Vec::new(), "oops")
        } else {
            GOOD
        }
    });
    test.add("key", 1);
    for _ in 0..8 {
        test.chat();
        test.ports.drain();
        test.ports.advance(100_000);
    }
    assert_eq!(test.count("cooling_down"), 1);
    down.set(false);
    test.ports.advance(61_000);
    let rests = test.ports.rows("SELECT until - MAX(until, 0) FROM keys")[0].integer(0);
    assert_eq!(rests, 0);
    test.chat();
    test.ports.drain();
    assert_eq!(test.count("active"), 1);
    assert_eq!(
        test.ports.rows("SELECT opened + failed_count FROM keys")[0].integer(0),
        0
    );
}

#[test]
fn nothing_is_looked_at_where_that_is_off() {
    let test = Test::with("recheck_interval_s=0\n", |key, _| {
        if key.starts_with("good") { GOOD } else { REFUSED }
    });
    test.add("dead", 3).add("good", 1);
    for _ in 0..5 {
        test.ports.advance(1_000_000);
        assert_eq!(test.chat().0, 200);
        test.ports.drain();
    }
    assert!(
        test.ports
            .calls()
            .iter()
            .all(|(key, count)| key.starts_with("good") || *count <= 1)
    );
}

#[test]
fn secrets_from_before_are_sealed_and_go_on_serving() {
    let before = Test::new(|_, _| GOOD);
    before.add("key", 1200);
    let test =
        Test::over(before.ports.restarted(
            "auth_key=access\nhome_access_key=admin\nencryption_key=the-operators\nrecheck_interval_s=60\n",
        ));
    // One of them is added again before the sweep: it is the same key.
    test.add("key", 1);
    assert_eq!(test.ports.rows("SELECT COUNT(*) FROM keys")[0].integer(0), 1201);
    assert_eq!(test.chat().0, 200);
    test.ports.drain();
    let rows = &test
        .ports
        .rows("SELECT COUNT(*), SUM(secret LIKE 'sealed:1:%') FROM keys")[0];
    assert_eq!((rows.integer(0), rows.integer(1)), (1200, 1200));
    assert_eq!(
        test.ports
            .rows("SELECT COUNT(*) FROM events WHERE action = 'keys_sealed'")[0]
            .integer(0),
        1
    );
    test.ports.advance(2000);
    assert_eq!(test.chat().0, 200);
    // A key is found by its secret again.
    let (status, _, body) = test.call(
        "POST",
        "/api/keys",
        "admin",
        r#"{"keys":["key-000007"],"apiType":"openai"}"#,
    );
    assert_eq!(status, 200);
    assert!(body.contains("\"duplicates\":1"), "{body}");
}

#[test]
fn with_a_wrong_key_nothing_is_sealed_lost_or_added() {
    let variables =
        |key: &str| format!("auth_key=access\nhome_access_key=admin\nencryption_key={key}\nrecheck_interval_s=60\n");
    let right = Test::with("encryption_key=right\nrecheck_interval_s=60\n", |_, _| GOOD);
    right.add("key", 3);
    assert_eq!(right.chat().0, 200);
    // One row lies open, as if the variable had been unset for a while.
    right
        .ports
        .rows("UPDATE keys SET secret = 'key-open', secret_hash = 'x' WHERE id = 2");
    let wrong = Test::over(right.ports.restarted(&variables("wrong")));
    wrong.chat();
    wrong.ports.drain();
    assert_eq!(
        wrong.ports.rows("SELECT secret FROM keys WHERE id = 2")[0].text(0),
        "key-open"
    );
    let (status, _, body) = wrong.call(
        "POST",
        "/api/keys",
        "admin",
        r#"{"keys":["another"],"apiType":"openai"}"#,
    );
    assert_eq!(status, 503);
    assert!(body.contains("encryption_key is not the one"), "{body}");
    let (_, _, session) = wrong.call("GET", "/api/session", "admin", "");
    assert!(session.contains("wrong_encryption_key"), "{session}");
    // The right one finds everything in its place.
    let again = Test::over(wrong.ports.restarted(&variables("right")));
    again.ports.advance(120_000);
    assert_eq!(again.chat().0, 200);
    again.ports.drain();
    assert_eq!(
        again.ports.rows("SELECT SUM(secret LIKE 'sealed:1:%') FROM keys")[0].integer(0),
        3
    );
}

#[test]
fn with_a_wrong_key_alone_a_request_is_told_why() {
    let right = Test::with("encryption_key=right\n", |_, _| GOOD);
    right.add("key", 3);
    let wrong = Test::over(
        right
            .ports
            .restarted("auth_key=access\nhome_access_key=admin\nencryption_key=wrong\n"),
    );
    let (status, _, body) = wrong.chat();
    assert_eq!(status, 503);
    assert!(body.contains("sealed with another encryption_key"), "{body}");
}

#[test]
fn the_first_and_the_last_key_tell_whether_the_operators_key_fits() {
    let ports = FakePorts::new("", |_, _| GOOD);
    let database = Database::new(ports.clone());
    let (one, other) = (
        Vault::new(Some(&Secret::new("one"))),
        Vault::new(Some(&Secret::new("other"))),
    );
    assert_eq!(
        block_on(secrets::fits(&database, &one)),
        Ok(true),
        "an empty database takes any key"
    );
    let insert = |id: i64, secret: String| {
        ports.rows(&format!(
            "INSERT INTO keys (id, api_type, base_url, grp, secret, secret_hash, masked, created_at, pick)
            VALUES ({id}, 'openai', '', '', '{secret}', '{id}', '', 0, 0)"
        ));
    };
    insert(1, "open".to_owned());
    assert_eq!(block_on(secrets::fits(&database, &one)), Ok(true));
    insert(2, one.seal(&Secret::new("x"), [1; 24]));
    assert_eq!(block_on(secrets::fits(&database, &one)), Ok(true));
    assert_eq!(block_on(secrets::fits(&database, &other)), Ok(false));
    assert_eq!(
        block_on(secrets::fits(&database, &Vault::default())),
        Ok(false),
        "nor is none the right one"
    );
}

#[test]
fn of_all_instances_one_gets_a_piece_of_upkeep() {
    let ports = FakePorts::new("", |_, _| GOOD);
    let now = UnixMillis(1_795_392_000_000);
    let claims: Vec<_> = (0..8)
        .map(|_| block_on(upkeep::claim(&Database::new(ports.clone()), upkeep::RECHECK, 1000, now)).unwrap())
        .collect();
    assert_eq!(claims.iter().filter(|claimed| **claimed).count(), 1);
}
