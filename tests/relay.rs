//! Whole requests through the app, over a scripted upstream, the real SQL and a clock that moves: what a client sees, what
//! each key was asked, and what is written down.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails where it stands"
)]
#![allow(dead_code, reason = "the support of the tests serves others as well")]

mod support;

use keystorm::ports::SqlError;
use support::{
    Answer,
    app::{GOOD, Test},
};

const REFUSED: &str = r#"{"error":{"message":"Incorrect API key provided","code":"invalid_api_key"}}"#;
const LIMITED: &str = r#"{"error":{"message":"Too many requests","code":"rate_limit_exceeded"}}"#;
const NO_MONEY: &str = r#"{"error":{"message":"You exceeded your quota","code":"insufficient_quota"}}"#;
const WRONG: &str = r#"{"error":{"message":"Invalid value","type":"invalid_request_error","param":"temperature"}}"#;

#[test]
fn one_good_key_among_a_thousand_dead_ones_answers() {
    let test = Test::new(|key, _| {
        if key.starts_with("good") {
            GOOD
        } else {
            Answer::Head(401, Vec::new(), REFUSED)
        }
    });
    test.add("dead", 1000).add("good", 1);
    let (status, headers, _) = test.chat();
    assert_eq!(status, 200);
    println!(
        "attempts of the first request: {}",
        headers["x-keystorm-attempts"].to_str().unwrap()
    );
    let dead = test.count("dead");
    assert_eq!(dead as u64 + 1, test.ports.calls().values().sum::<u64>());
    // What was learnt is kept: dead keys are not asked again.
    for _ in 0..50 {
        assert_eq!(test.chat().0, 200);
    }
    assert!(
        test.ports
            .calls()
            .iter()
            .all(|(key, count)| key.starts_with("good") || *count == 1)
    );
}

#[test]
fn a_callers_own_mistake_costs_no_key_anything() {
    let test = Test::new(|_, _| Answer::Head(400, vec![("content-type", "application/json")], WRONG));
    test.add("key", 10);
    let (status, _, body) = test.chat();
    assert_eq!(
        (status, body.as_str()),
        (400, WRONG),
        "the upstream's own words come through"
    );
    assert_eq!(test.ports.calls().values().sum::<u64>(), 1, "and it is asked once");
    assert_eq!(test.count("active"), 10);
    assert_eq!(test.ports.rows("SELECT SUM(failed_count) FROM keys")[0].integer(0), 0);
}

#[test]
fn a_burst_over_the_whole_pool_bans_nobody_and_is_over_soon() {
    let calm = std::rc::Rc::new(std::cell::Cell::new(false));
    let script = calm.clone();
    let test = Test::new(move |_, _| {
        if script.get() {
            GOOD
        } else {
            Answer::Head(429, Vec::new(), LIMITED)
        }
    });
    test.add("key", 100);
    let (status, headers, _) = test.chat();
    assert_eq!((status, headers["retry-after"].to_str().unwrap()), (429, "2"));
    assert_eq!(
        test.ports.calls().values().sum::<u64>(),
        5,
        "five keys make a storm, and the walk stops"
    );
    // In the storm nobody is asked.
    assert_eq!(test.chat().0, 429);
    assert_eq!(test.ports.calls().values().sum::<u64>(), 5);
    assert_eq!(test.count("active"), 100);
    calm.set(true);
    test.ports.advance(5000);
    assert_eq!(test.chat().0, 200);
}

#[test]
fn a_limited_key_rests_as_long_as_its_provider_says_for_that_model_alone() {
    let test = Test::new(|key, before| match (key.starts_with("limited"), before) {
        (true, 0) => Answer::Head(429, vec![("retry-after", "40")], LIMITED),
        _ => GOOD,
    });
    test.add("limited", 1);
    let (status, headers, _) = test.chat();
    assert_eq!((status, headers["retry-after"].to_str().unwrap()), (429, "40"));
    test.ports.drain();
    test.ports.advance(30_000);
    assert_eq!(test.chat().0, 429, "a key that is known to rest is not asked");
    assert_eq!(test.ports.calls()["limited-000000"], 1);
    let other = r#"{"model":"other","messages":[]}"#;
    assert_eq!(
        test.call("POST", "/v1/chat/completions", "access", other).0,
        200,
        "for another model it serves"
    );
    test.ports.advance(11_000);
    assert_eq!(test.chat().0, 200, "and it comes back by itself");
}

#[test]
fn a_key_without_money_rests_for_a_day() {
    let test = Test::new(|_, _| Answer::Head(429, Vec::new(), NO_MONEY));
    test.add("poor", 3);
    let (status, headers, body) = test.chat();
    assert_eq!(status, 429);
    assert!(body.contains("insufficient_quota"), "{body}");
    assert_eq!(
        headers["retry-after"]
            .to_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            .div_ceil(3600),
        24
    );
    assert_eq!(test.count("cooling_down"), 3);
    assert_eq!(test.ports.calls().values().sum::<u64>(), 3);
}

#[test]
fn an_upstream_that_fails_is_asked_three_times_and_its_keys_live() {
    let test = Test::new(|_, _| Answer::Head(500, Vec::new(), "oops"));
    test.add("key", 20);
    let (status, _, body) = test.chat();
    assert_eq!(status, 502, "{body}");
    assert_eq!(test.ports.calls().values().sum::<u64>(), 3);
    assert_eq!(test.count("active"), 20);
}

#[test]
fn ten_failures_in_a_row_open_a_keys_circuit_and_one_success_closes_it() {
    let test = Test::new(|_, before| {
        if before < 12 {
            Answer::Head(500, Vec::new(), "oops")
        } else {
            GOOD
        }
    });
    test.add("key", 1);
    for _ in 0..6 {
        test.chat();
        test.ports.drain();
    }
    assert_eq!(test.count("cooling_down"), 1);
    let asked = test.ports.calls().values().sum::<u64>();
    assert_eq!(test.chat().0, 503, "while the circuit is open nobody is asked");
    assert_eq!(test.ports.calls().values().sum::<u64>(), asked);
    for _ in 0..6 {
        test.ports.advance(700_000);
        test.chat();
        test.ports.drain();
    }
    assert_eq!(test.chat().0, 200);
    assert_eq!(test.count("active"), 1);
    assert_eq!(
        test.ports.rows("SELECT failed_count, opened FROM keys")[0].integer(0),
        0
    );
}

#[test]
fn a_database_that_cannot_be_used_does_not_stop_requests() {
    let test = Test::new(|_, _| GOOD);
    test.add("key", 5);
    assert_eq!(test.chat().0, 200);
    test.ports.drain();
    test.ports.fail_sql(Some(SqlError::ReadOnly(
        "attempt to write a readonly database".to_owned(),
    )));
    for _ in 0..20 {
        test.ports.advance(3000);
        assert_eq!(test.chat().0, 200);
        test.ports.drain();
    }
    test.ports.fail_sql(None);
    test.chat();
    test.ports.drain();
    assert_eq!(
        test.ports.rows("SELECT SUM(requests) FROM usage")[0].integer(0),
        22,
        "nothing that was counted is lost"
    );
}

#[test]
fn ten_thousand_requests_under_faults_of_every_kind_and_no_client_notices() {
    use keystorm::ports::TransportError;
    let mut turn = 0_u64;
    let mut injected = 0_u64;
    let faults = std::rc::Rc::new(std::cell::Cell::new(0_u64));
    let told = faults.clone();
    let test = Test::new(move |_, _| {
        turn += 1;
        if !turn.is_multiple_of(10) {
            return GOOD;
        }
        injected += 1;
        told.set(injected);
        match (turn / 10) % 6 {
            0 => Answer::Head(429, vec![("retry-after", "1")], LIMITED),
            1 => Answer::Head(500, Vec::new(), "oops"),
            2 => Answer::Head(503, vec![("content-type", "text/html")], "<html>busy</html>"),
            3 => Answer::Transport(TransportError::Closed),
            4 => Answer::Transport(TransportError::Timeout),
            _ => Answer::Head(429, vec![("retry-after-ms", "1500")], LIMITED),
        }
    });
    test.add("key", 50);
    let mut errors = 0;
    for round in 0..10_000 {
        errors += u64::from(test.chat().0 != 200);
        test.ports.advance(20);
        // Writes are batched: several requests come between two of them.
        if round % 8 == 0 {
            test.ports.drain();
        }
    }
    let asked: u64 = test.ports.calls().values().sum();
    let most = test.ports.calls().values().copied().max().unwrap_or_default();
    let least = test.ports.calls().values().copied().min().unwrap_or_default();
    println!(
        "requests 10000, faults injected {}, client-visible errors {errors}, upstream calls {asked} ({least} to {most} a key)",
        faults.get()
    );
    assert_eq!(errors, 0);
    test.ports.advance(2000);
    test.ports.drain();
    let row = &test.ports.rows("SELECT SUM(requests), SUM(successes) FROM usage")[0];
    assert_eq!(
        (row.integer(0) as u64, row.integer(1)),
        (asked, 10_000),
        "what is counted is what the upstream saw"
    );
    let counted = test.ports.rows("SELECT SUM(count) FROM faults")[0].integer(0);
    assert_eq!(counted as u64, faults.get());
}

#[test]
fn a_pool_that_trusts_nothing_it_has_read_still_serves() {
    let test = Test::with("pool_ttl_ms=0\n", |_, _| GOOD);
    test.ports.tick();
    test.add("key", 3);
    assert_eq!(test.chat().0, 200);
}

#[test]
fn a_large_pool_is_drawn_from_in_hands_that_differ() {
    let test = Test::new(|_, _| GOOD);
    test.add("many", 20_000);
    for _ in 0..300 {
        assert_eq!(test.chat().0, 200);
        test.ports.advance(10);
    }
    assert!(
        test.ports.calls().len() > 150,
        "the hands differ and the load is spread"
    );
}
