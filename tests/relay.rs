//! Whole requests through the app, over a scripted upstream, the real SQL and a clock that moves: what a client sees, what
//! each key was asked, and what is written down.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails where it stands"
)]
#![allow(dead_code, reason = "the support of the tests serves others as well")]

mod support;

use keystorm::app::App;
use keystorm::ports::{Ports as _, SqlError, TransportError};
use support::{
    Answer, Piece,
    app::{GOOD, Test},
};

const REFUSED: &str = r#"{"error":{"message":"Incorrect API key provided","code":"invalid_api_key"}}"#;
const LIMITED: &str = r#"{"error":{"message":"Too many requests","code":"rate_limit_exceeded"}}"#;
const NO_MONEY: &str = r#"{"error":{"message":"You exceeded your quota","code":"insufficient_quota"}}"#;
const NO_MODEL: &str = r#"{"error":{"message":"No access to model m","code":"model_not_found"}}"#;
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
    for _ in 0..99 {
        assert_eq!(test.chat().0, 400);
    }
    let asked: u64 = test.ports.calls().values().sum();
    assert_eq!((asked, test.count("active")), (100, 10));
    let rows = &test
        .ports
        .rows("SELECT SUM(failed_count), (SELECT COUNT(*) FROM cooldowns) FROM keys")[0];
    assert_eq!((rows.integer(0), rows.integer(1)), (0, 0));
    println!("100 requests of a client's own mistake: {asked} upstream calls, 0 of 10 keys touched");
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
    // Eight is as far as one request goes; sixteen of so many keys make a storm, in which nobody is asked.
    for calls in [8, 16, 16] {
        let (status, headers, _) = test.chat();
        assert_eq!((status, headers["retry-after"].to_str().unwrap()), (429, "2"));
        assert_eq!(test.ports.calls().values().sum::<u64>(), calls);
    }
    assert_eq!(test.count("active"), 100);
    // While it lasts the endpoint is tried by one key after each rest, which doubles up to a minute.
    for _ in 0..60 {
        test.ports.drain();
        test.ports.advance(5000);
        assert_eq!(test.chat().0, 429);
    }
    let asked: u64 = test.ports.calls().values().sum();
    let resting = test.ports.rows("SELECT COUNT(*) FROM cooldowns WHERE key_id > 0")[0].integer(0);
    println!("a storm of 5 minutes over 100 keys: {asked} upstream calls, {resting} keys resting, none banned");
    assert!(asked < 60 && resting <= 16, "{asked} {resting}");
    assert_eq!(test.count("active"), 100);
    calm.set(true);
    test.ports.drain();
    test.ports.advance(60_001);
    assert_eq!(test.chat().0, 200);
    test.ports.advance(10);
    assert_eq!(test.chat().0, 200);
}

#[test]
fn many_limited_keys_among_successes_are_no_storm() {
    let mut turn = 0_u64;
    let test = Test::new(move |_, _| {
        turn += 1;
        if turn.is_multiple_of(3) {
            Answer::Head(429, vec![("retry-after", "30")], LIMITED)
        } else {
            GOOD
        }
    });
    test.add("key", 2000);
    for _ in 0..600 {
        assert_eq!(test.chat().0, 200);
        test.ports.advance(5);
    }
    let limited = test.ports.calls().values().sum::<u64>() - 600;
    println!("600 requests in 4 seconds, {limited} keys limited meanwhile, no storm");
    assert!(limited > 200);
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
fn keys_that_rest_are_waited_for_whatever_was_tried_last() {
    for round in 0..12 {
        let test = Test::new(|key, _| match key.starts_with("limited") {
            true => Answer::Head(429, vec![("retry-after", "40")], LIMITED),
            false => Answer::Head(401, Vec::new(), REFUSED),
        });
        test.add("limited", 2).add("dead", 1);
        // Each round tries them in another order.
        for _ in 0..round {
            test.ports.seed();
        }
        let (status, headers, body) = test.chat();
        assert_eq!(status, 429, "{body}");
        assert_eq!(headers["retry-after"], "40");
        assert_eq!(test.ports.calls().values().sum::<u64>(), 3);
    }
}

#[test]
fn an_instance_that_has_seen_no_key_rest_knows_it_from_the_others() {
    let mut test = Test::new(|key, before| match (key.starts_with("limited"), before) {
        (true, _) => Answer::Head(429, vec![("retry-after", "40")], LIMITED),
        (false, 0..3) => GOOD,
        (false, _) => Answer::Head(401, Vec::new(), REFUSED),
    });
    test.add("limited", 1).add("dies", 1);
    while test.ports.calls().get("dies-000000").copied().unwrap_or_default() < 3 {
        assert_eq!(test.chat().0, 200);
    }
    test.ports.drain();
    test.app = App::new(test.ports.clone());
    let (status, headers, body) = test.chat();
    assert_eq!(status, 429, "{body}");
    assert!(headers.contains_key("retry-after"));
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
    use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

    let mut turn = 0_u64;
    let faults: Rc<RefCell<BTreeMap<&str, u64>>> = Rc::default();
    let told = faults.clone();
    let test = Test::new(move |_, _| {
        turn += 1;
        if !turn.is_multiple_of(10) {
            return GOOD;
        }
        let mut faults = told.borrow_mut();
        // What takes a key out for good or for long happens to 30 of the 50.
        let lasting = ["credential", "quota", "model"]
            .iter()
            .map(|name| faults.get(name).copied().unwrap_or_default())
            .sum::<u64>();
        let (name, answer) = match (turn / 10) % 9 {
            0 => ("rate_limit", Answer::Head(429, vec![("retry-after", "1")], LIMITED)),
            1 => ("overload", Answer::Head(500, Vec::new(), "oops")),
            2 => (
                "overload",
                Answer::Head(503, vec![("content-type", "text/html")], "<html>busy</html>"),
            ),
            3 => ("transport", Answer::Transport(TransportError::Closed)),
            4 => ("timeout", Answer::Transport(TransportError::Timeout)),
            5 if lasting < 30 => ("credential", Answer::Head(401, Vec::new(), REFUSED)),
            6 if lasting < 30 => ("quota", Answer::Head(429, Vec::new(), NO_MONEY)),
            7 if lasting < 30 => ("model", Answer::Head(403, Vec::new(), NO_MODEL)),
            _ => (
                "rate_limit",
                Answer::Head(429, vec![("retry-after-ms", "1500")], LIMITED),
            ),
        };
        *faults.entry(name).or_default() += 1;
        answer
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
    let calls = test.ports.calls();
    let asked: u64 = calls.values().sum();
    let (least, most) = (calls.values().min().unwrap(), calls.values().max().unwrap());
    let injected: u64 = faults.borrow().values().sum();
    println!(
        "requests 10000, faults injected {injected} {:?}, client-visible errors {errors}, upstream calls {asked} ({least} to {most} a key)",
        faults.borrow()
    );
    assert_eq!(errors, 0);
    test.ports.advance(2000);
    test.ports.drain();
    // What is counted is what the upstream saw: in all, by key, and by fault.
    let row = &test.ports.rows("SELECT SUM(requests), SUM(successes) FROM usage")[0];
    assert_eq!((row.integer(0) as u64, row.integer(1)), (asked, 10_000));
    assert_eq!(asked, 10_000 + injected);
    let masked = |key: &str| keystorm::secret::mask(key);
    let by_key = test.ports.rows("SELECT masked, requests FROM keys JOIN (SELECT key_id, SUM(requests) AS requests FROM usage GROUP BY 1) ON key_id = id ORDER BY id");
    let mut seen: Vec<_> = calls.iter().collect();
    seen.sort();
    for (row, (key, count)) in by_key.iter().zip(seen) {
        assert_eq!((row.text(0), row.integer(1) as u64), (masked(key).as_str(), *count));
    }
    let counted: BTreeMap<_, _> = test
        .ports
        .rows("SELECT fault, SUM(count) FROM faults GROUP BY 1")
        .iter()
        .map(|row| (row.text(0).to_owned(), row.integer(1) as u64))
        .collect();
    let injected: BTreeMap<_, _> = faults
        .borrow()
        .iter()
        .map(|(name, count)| ((*name).to_owned(), *count))
        .collect();
    assert_eq!(counted, injected);
    println!(
        "accounting: usage {asked} = 10000 successes + {} faults",
        counted.values().sum::<u64>()
    );
}

/// A stream of three events, of which the third is cut.
fn cut_stream() -> Answer {
    Answer::Streamed(
        200,
        vec![
            Piece::Data("data: {\"n\":1}\n\n".to_owned()),
            Piece::Data("data: {\"n\":2}\n\ndata: {\"n\":".to_owned()),
            Piece::Break(TransportError::Closed),
        ],
    )
}

#[test]
fn a_counted_stream_that_is_cut_ends_with_one_error_event() {
    let test = Test::with("recheck_interval_s=0\ncount_tokens=true\n", |_, before| {
        if before % 2 == 0 { cut_stream() } else { whole_stream() }
    });
    test.ports.content_type("text/event-stream");
    test.add("key", 1);
    let (mut cut, mut whole) = (0, 0);
    for _ in 0..20 {
        let (status, _, body) = test.chat();
        assert_eq!(status, 200);
        if body.ends_with("data: [DONE]\n\n") {
            whole += 1;
            assert!(!body.contains("error"));
        } else {
            cut += 1;
            assert_eq!(body.matches("\"error\"").count(), 1, "{body}");
            assert!(
                body.starts_with("data: {\"n\":1}\n\ndata: {\"n\":2}\n\ndata: {\"error\""),
                "{body}"
            );
            assert!(!body.contains("[DONE]"), "{body}");
        }
        test.ports.drain();
        test.ports.advance(10);
    }
    println!("20 streams, {cut} cut: {cut} error events, {whole} [DONE]");
    assert_eq!((cut, whole), (10, 10));
    assert_eq!(
        test.ports.calls().values().sum::<u64>(),
        20,
        "none is begun a second time"
    );
    let fault = &test.ports.rows("SELECT fault, SUM(count) FROM faults")[0];
    assert_eq!((fault.text(0), fault.integer(1)), ("mid_stream", 10));
    let tokens = &test
        .ports
        .rows("SELECT SUM(requests), SUM(prompt_tokens), SUM(completion_tokens), SUM(total_tokens) FROM usage")[0];
    assert_eq!(
        (0..4).map(|index| tokens.integer(index)).collect::<Vec<_>>(),
        [20, 30, 40, 70]
    );
}

fn whole_stream() -> Answer {
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7}}\n\n";
    Answer::Streamed(
        200,
        vec![
            Piece::Data("data: {\"n\":1}\n\n".to_owned()),
            Piece::Data(format!("{usage}data: [DO")),
            Piece::Data("NE]\n\n".to_owned()),
        ],
    )
}

#[test]
fn whole_answers_are_counted_too_and_nothing_of_them_changes() {
    const ANSWER: &str =
        r#"{"choices": [],  "usage": {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}}"#;
    for (count, total) in [("true", 11), ("false", 0)] {
        let test = Test::with(&format!("count_tokens={count}\n"), |_, _| {
            Answer::Head(200, vec![("content-type", "application/json")], ANSWER)
        });
        test.add("key", 1);
        let (status, _, body) = test.chat();
        assert_eq!((status, body.as_str()), (200, ANSWER));
        test.ports.drain();
        assert_eq!(
            test.ports.rows("SELECT SUM(total_tokens) FROM usage")[0].integer(0),
            total,
            "{count}"
        );
    }
}

#[test]
fn a_request_that_finds_its_hand_runs_no_statement() {
    let test = Test::with("recheck_interval_s=0\npool_ttl_ms=60000\n", |_, _| GOOD);
    test.add("key", 50);
    assert_eq!(test.chat().0, 200);
    let before = test.ports.statements();
    for _ in 0..1000 {
        assert_eq!(test.chat().0, 200);
    }
    assert_eq!(
        test.ports.statements(),
        before,
        "neither a read nor a write before the response"
    );
    test.ports.drain();
    assert_eq!(test.ports.rows("SELECT SUM(requests) FROM usage")[0].integer(0), 1001);
}

/// What a new instance runs before its first answer, whom it asked, and for which model.
fn first_request(test: &Test, path: &str, model: &str) -> (u64, String, String) {
    let before = test.ports.statements();
    let other = Test::over(test.ports.clone());
    let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"Hi"}}]}}"#);
    assert_eq!(other.call("POST", path, "access", &body).0, 200);
    let statements = test.ports.statements() - before;
    let (url, _) = test.ports.sent().pop().unwrap();
    let asked: serde_json::Value = serde_json::from_str(&test.ports.bodies().pop().unwrap()).unwrap();
    (statements, url, asked["model"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn a_new_instance_runs_one_statement_before_its_first_answer() {
    let test = Test::new(|_, _| GOOD);
    test.add("key", 5);
    let chat = "/v1/chat/completions";
    let here = "https://api.openai.com/v1/chat/completions";
    assert_eq!(first_request(&test, chat, "m"), (1, here.to_owned(), "m".to_owned()));
    // An endpoint of its own that lists the model, and a key for it among those that do not serve it.
    let there = "https://models.example.com/v1";
    test.ports.rows(&format!(
        "UPDATE keys SET base_url = '{there}', masked = 'there' WHERE id = 3"
    ));
    let list = |api_type: &str, url: &str, model: &str| {
        test.ports.rows(&format!(
            "INSERT INTO endpoint_models (api_type, base_url, model) VALUES ('{api_type}', '{url}', '{model}')"
        ));
    };
    list("openai", there, "theirs");
    for _ in 0..10 {
        let served = first_request(&test, chat, "theirs");
        assert_eq!(served, (1, format!("{there}/chat/completions"), "theirs".to_owned()));
    }
    // The default endpoint is stored without its URL.
    list("openai", "https://api.openai.com/v1", "ours");
    for _ in 0..10 {
        assert_eq!(
            first_request(&test, chat, "ours"),
            (1, here.to_owned(), "ours".to_owned())
        );
    }
    // What is not as guessed takes another.
    let body = r#"{"aliases":{"mine":"theirs"}}"#;
    assert_eq!(test.call("PUT", "/api/settings", "admin", body).0, 200);
    test.ports.drain();
    for _ in 0..10 {
        let served = first_request(&test, chat, "mine");
        assert_eq!(served, (2, format!("{there}/chat/completions"), "theirs".to_owned()));
    }
    // A group without keys of its own is served by the default group's.
    let (statements, _, model) = first_request(&test, "/team/v1/chat/completions", "ours");
    assert_eq!((statements, model.as_str()), (4, "ours"));
}

#[test]
fn a_project_that_is_limited_is_not_asked_with_its_other_keys() {
    let test = Test::new(|_, _| Answer::Head(429, vec![("retry-after", "40")], LIMITED));
    test.add("family", 4).add("single", 1);
    test.ports.rows("UPDATE keys SET project = 'projects/1' WHERE id <= 4");
    test.ports.advance(2000);
    assert_eq!(test.chat().0, 429);
    assert_eq!(
        test.ports.calls().len(),
        2,
        "one key of the family, and the one beside it"
    );
    assert_eq!(test.chat().0, 429);
    assert_eq!(test.ports.calls().len(), 2);
    test.ports.drain();
    assert_eq!(
        test.ports.rows("SELECT COUNT(*) FROM cooldowns WHERE key_id > 0")[0].integer(0),
        5
    );
    let other = Test::over(test.ports.clone());
    assert_eq!(other.chat().0, 429);
    assert_eq!(test.ports.calls().len(), 2, "other instances know of it");
    let (_, _, session) = test.call("GET", "/api/session", "admin", "");
    assert!(
        session.contains(r#""quota_families":{"keys":4,"families":1}"#),
        "{session}"
    );
    assert!(
        session.contains(r#"{"code":"quota_families","keys":4,"families":1}"#),
        "{session}"
    );
}

#[test]
fn a_project_is_learnt_from_what_an_answer_names() {
    const NAMED: &str = r#"{"error":{"code":429,"message":"Quota exceeded for quota metric of consumer 'project_number:123456789012'.","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"RATE_LIMIT_EXCEEDED","metadata":{"consumer":"projects/123456789012"}},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"20s"}]}}"#;
    let test = Test::new(|_, _| Answer::Head(429, Vec::new(), NAMED));
    let body = r#"{"keys":["AIza-1","AIza-2","AIza-3"],"apiType":"gemini"}"#;
    assert_eq!(test.call("POST", "/api/keys", "admin", body).0, 200);
    test.ports.rows("UPDATE keys SET project = 'my-own' WHERE id = 3");
    let path = "/v1beta/models/gemini-2.5-flash:generateContent";
    for _ in 0..3 {
        assert_eq!(test.call("POST", path, "access", r#"{"contents":[]}"#).0, 429);
        test.ports.drain();
        test.ports.advance(1001);
    }
    let projects: Vec<_> = test
        .ports
        .rows("SELECT project FROM keys ORDER BY id")
        .iter()
        .map(|row| row.text(0).to_owned())
        .collect();
    assert_eq!(
        projects,
        ["projects/123456789012", "projects/123456789012", "my-own"],
        "what the administrator said stays"
    );
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
