//! A key's states: each is reached from `active`, tells why it holds, and leads back. No order of events leaves a key where
//! nothing gets it out, or lets it be asked while it rests.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails where it stands"
)]

mod support;

use std::{cell::RefCell, rc::Rc};

use keystorm::ports::TransportError;
use proptest::prelude::*;
use serde_json::Value;
use support::{
    Answer,
    app::{GOOD, Test},
};

const REFUSED: Answer = Answer::Head(
    401,
    Vec::new(),
    r#"{"error":{"message":"Incorrect API key provided","code":"invalid_api_key"}}"#,
);
const NO_MONEY: Answer = Answer::Head(
    429,
    Vec::new(),
    r#"{"error":{"message":"You exceeded your quota","code":"insufficient_quota"}}"#,
);
const BARE: Answer = Answer::Head(429, Vec::new(), r#"{"error":{"message":"Slow down"}}"#);
const BROKEN: Answer = Answer::Head(500, Vec::new(), "oops");
const WRONG: Answer = Answer::Head(400, Vec::new(), r#"{"error":{"message":"no"}}"#);

/// A service with one key and an upstream that answers what it is told.
struct World {
    test: Test,
    answer: Rc<RefCell<Answer>>,
}

impl World {
    fn new() -> Self {
        let answer = Rc::new(RefCell::new(GOOD));
        let script = answer.clone();
        let test = Test::with("recheck_interval_s=0\ncircuit_failures=3\n", move |_, _| {
            script.borrow().clone()
        });
        test.add("key", 1);
        Self { test, answer }
    }

    /// The upstream answers this to a request; whether the key was asked.
    fn request(&self, answer: Answer) -> (u16, bool) {
        self.answer.replace(answer);
        let asked = |test: &Test| test.ports.calls().values().sum::<u64>();
        let before = asked(&self.test);
        let (status, ..) = self.test.chat();
        self.test.ports.drain();
        (status, asked(&self.test) > before)
    }

    fn wait(&self, ms: i64) {
        self.test.ports.advance(ms);
    }

    fn admin(&self, method: &str, path: &str, body: &str) -> Value {
        let (status, _, text) = self.test.call(method, path, "admin", body);
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The key as the administrator sees it.
    fn key(&self) -> Value {
        self.admin("GET", "/api/keys", "")["keys"][0].clone()
    }

    fn check(&self, answer: Answer) {
        self.answer.replace(answer);
        self.admin("POST", "/api/keys/check", "{}");
    }

    fn enable(&self, on: bool) {
        let body = serde_json::json!({ "filter": {}, "set": { "enabled": on } }).to_string();
        self.admin("PATCH", "/api/keys", &body);
    }

    fn status(&self) -> String {
        self.key()["status"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_dead_key_says_why_and_comes_back_by_a_check() {
    let world = World::new();
    assert_eq!(world.request(REFUSED), (503, true));
    let key = world.key();
    assert_eq!(
        (key["status"].as_str(), key["rule"].as_str()),
        (Some("dead"), Some("O1"))
    );
    assert_eq!(key["reason"], "Incorrect API key provided");
    assert_eq!(key["last_error"], "Incorrect API key provided");
    assert_eq!(key["until"], Value::Null);
    world.wait(100 * 86_400_000);
    assert_eq!(world.request(GOOD), (503, false), "time alone does not bring it back");
    world.check(REFUSED);
    assert_eq!(world.status(), "dead");
    world.check(BROKEN);
    assert_eq!(world.status(), "dead", "a check that says nothing changes nothing");
    world.check(GOOD);
    assert_eq!(world.status(), "active");
    assert_eq!(world.request(GOOD), (200, true));
    assert_eq!(world.key()["last_error"], "");
}

#[test]
fn a_key_without_quota_says_until_when_and_comes_back_by_itself() {
    let world = World::new();
    let now = keystorm::ports::Ports::now(&world.test.ports).0;
    assert_eq!(world.request(NO_MONEY).0, 429);
    let key = world.key();
    assert_eq!(
        (key["status"].as_str(), key["rule"].as_str()),
        (Some("cooling_down"), Some("O4"))
    );
    assert_eq!(key["reason"], "You exceeded your quota");
    assert!(
        (86_400_000..86_401_000).contains(&(key["until"].as_i64().unwrap() - now)),
        "{key}"
    );
    world.check(GOOD);
    assert_eq!(world.status(), "cooling_down", "a free check proves no quota");
    world.wait(86_400_000 - 2000);
    assert_eq!(world.request(GOOD), (429, false));
    world.wait(3000);
    assert_eq!(world.status(), "active", "a rest that is over is none");
    assert_eq!(world.request(GOOD), (200, true));
}

#[test]
fn a_limited_key_rests_for_its_model_and_says_so() {
    let world = World::new();
    assert_eq!(world.request(BARE).0, 429);
    let key = world.key();
    assert_eq!(
        (key["status"].as_str(), key["last_error"].as_str()),
        (Some("active"), Some("Slow down"))
    );
    let rests = key["rests"].as_array().unwrap();
    assert_eq!(
        (rests[0]["model"].as_str(), rests[0]["rule"].as_str()),
        (Some("m"), Some("O5")),
        "{key}"
    );
    world.wait(10_000);
    assert_eq!(world.request(GOOD), (429, false));
    world.wait(11_000);
    // The second guess in a row is twice as long, whichever instance makes it.
    let other = Test::over(world.test.ports.clone());
    world.answer.replace(BARE);
    let (status, headers, _) = other.chat();
    assert_eq!((status, headers["retry-after"].to_str().unwrap()), (429, "40"));
    other.ports.drain();
    world.wait(41_000);
    assert_eq!(world.request(GOOD), (200, true));
}

#[test]
fn an_open_circuit_is_half_open_for_one_request_and_closes_with_it() {
    let world = World::new();
    for _ in 0..3 {
        world.request(BROKEN);
    }
    let key = world.key();
    assert_eq!(
        (key["status"].as_str(), key["rule"].as_str()),
        (Some("cooling_down"), Some("circuit"))
    );
    assert!(key["failed_count"].as_i64().unwrap() >= 3);
    assert_eq!(world.request(GOOD), (503, false));
    world.wait(30_000);
    // A failure doubles the rest.
    assert!(world.request(BROKEN).1);
    world.wait(31_000);
    assert_eq!(world.request(GOOD), (503, false));
    world.wait(700_000);
    assert_eq!(world.request(GOOD), (200, true));
    assert_eq!(
        (world.status(), world.key()["failed_count"].as_i64()),
        ("active".to_owned(), Some(0))
    );
}

#[test]
fn a_disabled_key_is_asked_nothing_until_it_is_enabled() {
    let world = World::new();
    world.enable(false);
    assert_eq!(world.status(), "disabled");
    assert_eq!(world.request(GOOD), (503, false));
    world.enable(true);
    assert_eq!(world.request(GOOD), (200, true));
}

#[derive(Clone, Debug)]
enum Event {
    Request(Answer),
    Wait(i64),
    Check(Answer),
    Enable(bool),
}

fn event() -> impl Strategy<Value = Event> {
    let answer = || {
        prop::sample::select(vec![
            GOOD,
            REFUSED,
            NO_MONEY,
            BARE,
            BROKEN,
            BROKEN,
            WRONG,
            Answer::Transport(TransportError::Closed),
            Answer::Transport(TransportError::Timeout),
        ])
    };
    prop_oneof![
        6 => answer().prop_map(Event::Request),
        3 => (1..200_000_i64).prop_map(Event::Wait),
        1 => Just(Event::Wait(90_000_000)),
        1 => answer().prop_map(Event::Check),
        1 => any::<bool>().prop_map(Event::Enable),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_order_of_events_keeps_to_the_states_and_leads_back(events in prop::collection::vec(event(), 1..25)) {
        let world = World::new();
        for event in events {
            let before = world.status();
            match event {
                Event::Request(answer) => {
                    let (status, asked) = world.request(answer);
                    if before != "active" {
                        prop_assert!(!asked, "a key that is {before} was asked");
                        prop_assert!(status == 429 || status == 503);
                    }
                }
                Event::Wait(ms) => world.wait(ms),
                Event::Check(answer) => world.check(answer),
                Event::Enable(on) => world.enable(on),
            }
            let after = world.status();
            prop_assert!(["active", "cooling_down", "dead", "disabled"].contains(&after.as_str()));
        }
        world.enable(true);
        world.check(GOOD);
        world.wait(2 * 86_400_000);
        prop_assert_eq!(world.request(GOOD), (200, true));
        prop_assert_eq!(world.status(), "active");
    }
}
