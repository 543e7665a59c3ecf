//! The administrator's SQL over the keys, in memory, and what a check writes.

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
    checks::{self, Mode, Verdict},
    pool::{
        Write,
        key::{ApiType, Candidate, KeyId},
    },
    ports::{Ports as _, SqlError, TransportError, UnixMillis},
    secret::Secret,
    store::{
        Database,
        filter::Filter,
        keys::{self, Change, Counts, NewKey, Page, Sort},
        pool,
    },
};
use support::{Answer, FakePorts};

fn world() -> (FakePorts, Database<FakePorts>) {
    let ports = FakePorts::new("", |_, _| Answer::Head(200, Vec::new(), "{}"));
    let database = Database::new(ports.clone());
    (ports, database)
}

fn new_key(number: i64) -> NewKey {
    NewKey {
        api_type: ApiType::OpenAi,
        base_url: String::new(),
        group: String::new(),
        stored: format!("sk-{number:08}"),
        hash: format!("{number:08}"),
        masked: format!("sk…{number:04}"),
        priority: 0,
        weight: 1,
        note: String::new(),
        project: String::new(),
        enabled: true,
        pick: number,
    }
}

fn add(database: &Database<FakePorts>, count: i64, now: UnixMillis) {
    let fresh: Vec<_> = (1..=count).map(new_key).collect();
    assert_eq!(block_on(keys::add(database, &fresh, now)), Ok(count.unsigned_abs()));
}

fn page(limit: i64) -> Page {
    Page {
        sort: Sort::Created,
        descending: false,
        offset: 0,
        limit,
    }
}

fn ids(database: &Database<FakePorts>, filter: &Filter, now: UnixMillis) -> Vec<i64> {
    let rows = block_on(keys::list(database, filter, page(-1), now)).unwrap();
    rows.iter().map(|row| row.id).collect()
}

#[test]
fn ten_thousand_keys_are_added_whole_or_not_at_all() {
    let (ports, database) = world();
    let now = ports.now();
    let mut many: Vec<_> = (1..=10_000).map(new_key).collect();
    block_on(database.execute("SELECT 1", &[])).unwrap();
    ports.rows(
        "CREATE TRIGGER broken BEFORE INSERT ON keys WHEN NEW.note = 'broken' BEGIN SELECT RAISE(ABORT, 'disk'); END",
    );
    many[9_999].note = "broken".to_owned();
    assert!(matches!(
        block_on(keys::add(&database, &many, now)),
        Err(SqlError::Other(_))
    ));
    assert_eq!(ports.rows("SELECT COUNT(*) FROM keys")[0].integer(0), 0);
    many[9_999].note.clear();
    assert_eq!(block_on(keys::add(&database, &many, now)), Ok(10_000));
    // Those that are there stay as they are, whatever else is said of them.
    many[0].note = "another".to_owned();
    many.push(new_key(10_001));
    assert_eq!(block_on(keys::add(&database, &many, now)), Ok(1));
    assert_eq!(
        ports.rows("SELECT COUNT(*) FROM keys WHERE note <> ''")[0].integer(0),
        0
    );
}

#[test]
fn all_keys_are_counted_as_some_are() {
    let (ports, database) = world();
    let now = ports.now();
    add(&database, 10, now);
    let (soon, past) = (now.0 + 1, now.0 - 1);
    ports.rows("UPDATE keys SET state = 'dead' WHERE id <= 2");
    ports.rows(&format!(
        "UPDATE keys SET state = 'cooling_down', until = {soon} WHERE id IN (3, 4, 5)"
    ));
    ports.rows(&format!(
        "UPDATE keys SET state = 'cooling_down', until = {past} WHERE id = 6"
    ));
    ports.rows("UPDATE keys SET enabled = 0 WHERE id IN (2, 5, 7)");
    let expected = Counts {
        active: 4,
        cooling_down: 2,
        dead: 1,
        disabled: 3,
    };
    let of_type = Filter {
        api_type: Some(ApiType::OpenAi),
        ..Filter::default()
    };
    for filter in [Filter::default(), of_type] {
        assert_eq!(block_on(keys::counts(&database, &filter, now)), Ok(expected));
    }
    for (status, count) in expected.each() {
        let filter = Filter {
            status: Some(status.to_owned()),
            ..Filter::default()
        };
        assert_eq!(ids(&database, &filter, now).len() as i64, count, "{status}");
        assert_eq!(
            block_on(keys::counts(&database, &filter, now))
                .unwrap()
                .total(Some(status)),
            count
        );
    }
    let none = Filter {
        group: Some("none".to_owned()),
        ..Filter::default()
    };
    assert_eq!(block_on(keys::counts(&database, &none, now)), Ok(Counts::default()));
}

#[test]
fn counting_and_waking_look_at_no_key() {
    let (ports, database) = world();
    block_on(database.execute("SELECT 1", &[])).unwrap();
    for sql in [
        "SELECT COUNT(*) FROM keys WHERE enabled = 1 AND state = 'cooling_down' AND until > 1",
        "SELECT COUNT(*) FROM keys WHERE enabled = 0",
        "UPDATE keys SET until = 0 WHERE enabled IN (0, 1) AND state = 'cooling_down' AND until <= 1",
    ] {
        let plan = ports.rows(&format!("EXPLAIN QUERY PLAN {sql}"));
        assert!(plan[0].text(3).contains("INDEX keys_status"), "{sql}: {plan:?}");
    }
}

#[test]
fn a_search_takes_its_text_as_it_is_written() {
    let (ports, database) = world();
    let now = ports.now();
    add(&database, 4, now);
    ports.rows("UPDATE keys SET note = '100% mine' WHERE id = 1");
    ports.rows("UPDATE keys SET note = '100x mine' WHERE id = 2");
    ports.rows("UPDATE keys SET last_error = 'a\\b_c' WHERE id = 3");
    for (text, found) in [
        ("100%", vec![1]),
        ("MINE", vec![1, 2]),
        ("\\b_C", vec![3]),
        ("…0004", vec![4]),
        ("' OR 1=1 --", vec![]),
    ] {
        let filter = Filter {
            search: Some(text.to_owned()),
            ..Filter::default()
        };
        assert_eq!(ids(&database, &filter, now), found, "{text}");
    }
}

#[test]
fn what_a_check_found_is_a_filter_and_the_dead_come_back() {
    let (ports, database) = world();
    let now = ports.now();
    add(&database, 6, now);
    ports.rows("UPDATE keys SET state = 'dead', rule = 'O1' WHERE id IN (1, 2)");
    ports.rows(&format!(
        "UPDATE keys SET state = 'cooling_down', rule = 'O5', until = {} WHERE id = 3",
        now.0 + 60_000
    ));
    let before = [(4, "invalid"), (5, "valid")];
    block_on(keys::checked(&database, &before, now.plus(-5))).unwrap();
    let found = [(1, "valid"), (2, "invalid"), (3, "valid"), (6, "unknown")];
    block_on(keys::checked(&database, &found, now)).unwrap();
    let invalid = Filter {
        result: Some("invalid".to_owned()),
        checked_since: Some(now.0),
        ..Filter::default()
    };
    assert_eq!(ids(&database, &invalid, now), [2]);
    let states: Vec<_> = ports
        .rows("SELECT state FROM keys ORDER BY id LIMIT 3")
        .iter()
        .map(|row| row.text(0).to_owned())
        .collect();
    assert_eq!(states, ["active", "dead", "cooling_down"]);
    assert_eq!(block_on(keys::delete(&database, &invalid, now)), Ok(1));
    assert_eq!(ids(&database, &Filter::default(), now), [1, 3, 4, 5, 6]);
}

#[test]
fn changes_and_deletions_act_on_all_that_match() {
    let (ports, database) = world();
    let now = ports.now();
    add(&database, 1000, now);
    let filter = Filter {
        search: Some("…09".to_owned()),
        ..Filter::default()
    };
    let change = Change {
        enabled: Some(false),
        note: Some("nine hundreds".to_owned()),
        ..Change::default()
    };
    assert_eq!(block_on(keys::change(&database, &filter, &change, now)), Ok(100));
    let off = Filter {
        status: Some("disabled".to_owned()),
        ..Filter::default()
    };
    let rests = Write::ModelRests {
        key: KeyId(950),
        project: None,
        model: Rc::from("m"),
        until: now.plus(1000),
        rule: "O5",
        strikes: 0,
        message: String::new(),
    };
    block_on(pool::flush(&database, &[rests], &[], now)).unwrap();
    assert_eq!(block_on(keys::delete(&database, &off, now)), Ok(100));
    assert_eq!(ports.rows("SELECT COUNT(*) FROM keys")[0].integer(0), 900);
    assert_eq!(ports.rows("SELECT COUNT(*) FROM cooldowns")[0].integer(0), 0);
}

#[test]
fn beside_a_key_stand_its_hours_and_its_rests() {
    let (ports, database) = world();
    let now = ports.now();
    add(&database, 2, now);
    let hour = now.0 - now.0.rem_euclid(3_600_000);
    for (period, at, requests, successes) in [
        ("hour", hour, 5, 4),
        ("hour", hour - 23 * 3_600_000, 7, 7),
        ("hour", hour - 24 * 3_600_000, 11, 1),
        ("day", hour - 20 * 86_400_000, 13, 13),
    ] {
        for model in ["a", "b"] {
            ports.rows(&format!(
                "INSERT INTO usage (period, starts_at, key_id, model, requests, successes)
                VALUES ('{period}', {at}, 1, '{model}', {requests}, {successes})"
            ));
        }
    }
    ports.rows(&format!(
        "INSERT INTO cooldowns (key_id, model, until, rule) VALUES (1, 'over', {}, 'O5'), (1, 'm', {}, 'G15')",
        now.0,
        now.0 + 9
    ));
    let beside = block_on(keys::beside(&database, &[1, 2], now)).unwrap();
    assert!(!beside.contains_key(&2));
    let one = &beside[&1];
    assert_eq!((one.requests, one.failures), (72, 22));
    assert_eq!(
        (one.hours[0], one.hours[23], one.hours.iter().sum::<i64>()),
        (14, 10, 24)
    );
    assert_eq!(one.rests.len(), 1);
    assert_eq!(
        (
            one.rests[0].model.as_str(),
            one.rests[0].until,
            one.rests[0].rule.as_str()
        ),
        ("m", now.0 + 9, "G15")
    );
}

#[test]
fn a_check_that_is_limited_rests_no_more_than_was_limited() {
    const LIMITED: &str = r#"{"error":{"message":"Rate limit reached. Please try again in 20s.","type":"requests","code":"rate_limit_exceeded"}}"#;
    const BROKE: &str = r#"{"error":{"message":"You exceeded your current quota.","type":"insufficient_quota","code":"insufficient_quota"}}"#;
    let generate = Mode::Generate("gpt-4o".to_owned());
    let cases = [
        (
            Answer::Head(429, Vec::new(), LIMITED),
            Mode::Models,
            Verdict::Limited,
            "nothing",
        ),
        (
            Answer::Head(429, Vec::new(), LIMITED),
            generate.clone(),
            Verdict::Limited,
            "gpt-4o",
        ),
        (
            Answer::Head(429, Vec::new(), BROKE),
            Mode::Models,
            Verdict::Limited,
            "the key",
        ),
        (
            Answer::Head(429, Vec::new(), BROKE),
            generate,
            Verdict::Limited,
            "the key",
        ),
        (
            Answer::Head(500, Vec::new(), "{}"),
            Mode::Models,
            Verdict::Unknown,
            "nothing",
        ),
        (
            Answer::Transport(TransportError::Dns),
            Mode::Models,
            Verdict::Unknown,
            "nothing",
        ),
    ];
    for (answer, mode, verdict, rests) in cases {
        let ports = FakePorts::new("", move |_, _| answer.clone());
        let key = Candidate::own(ApiType::OpenAi, Secret::new("sk-1"), "https://api.example.com/v1");
        let found = block_on(checks::check(&ports, &key, &mode));
        let wrote = match &found.write {
            None => "nothing",
            Some(Write::ModelRests { model, .. }) => model,
            Some(Write::KeyRests { .. }) => "the key",
            other => panic!("{other:?}"),
        };
        assert_eq!((found.verdict, wrote), (verdict, rests), "{mode:?}");
    }
}

#[test]
fn the_trail_tells_once_when_a_key_leaves_and_comes_back() {
    let (ports, database) = world();
    let now = ports.now();
    add(&database, 2, now);
    let dead = Write::Dead {
        key: KeyId(1),
        rule: "O1",
        message: "no".to_owned(),
    };
    let rests = |until| Write::KeyRests {
        key: KeyId(2),
        project: None,
        until,
        rule: "O4",
        message: String::new(),
    };
    for _ in 0..2 {
        block_on(pool::flush(&database, &[dead.clone(), rests(now.plus(100))], &[], now)).unwrap();
    }
    block_on(keys::checked(&database, &[(1, "valid"), (2, "valid")], now)).unwrap();
    block_on(pool::flush(&database, &[rests(now.plus(300))], &[], now.plus(200))).unwrap();
    let told: Vec<_> = ports
        .rows("SELECT actor || ' ' || action || ' ' || detail FROM events ORDER BY id")
        .iter()
        .map(|row| row.text(0).to_owned())
        .collect();
    assert_eq!(
        told,
        [
            "pool key_state sk…0001: dead (O1)",
            "pool key_state sk…0002: cooling_down (O4)",
            "check key_state sk…0001: active",
            "pool key_state sk…0002: cooling_down (O4)",
        ]
    );
}
