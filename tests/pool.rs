//! What holds of the pool whatever happens: random sequences of requests, outcomes and time, against a plain model of who
//! rests.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails where it stands"
)]

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use keystorm::{
    classify::{Fault, Judgement, Next, Rest},
    pool::{
        Census, Drawn, Lease, Leased, Pool, Selection, Settings, Step, Target, Walk,
        key::{ApiType, Candidate, KeyId},
    },
    ports::UnixMillis,
    secret::Secret,
};
use proptest::prelude::*;

const MODELS: [&str; 2] = ["one", "two"];

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Success,
    Caller,
    Dead,
    KeyRests(i64),
    ModelRests(i64),
    Overload,
    Closed,
}

#[derive(Clone, Debug)]
enum Event {
    Request(usize, Vec<Outcome>),
    /// Requests that are under way at the same moment, and end one after the other.
    Burst(usize, Vec<Outcome>),
    Wait(i64),
    Draw,
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => Just(Outcome::Success),
        1 => Just(Outcome::Caller),
        1 => Just(Outcome::Dead),
        2 => (1..100_000_i64).prop_map(Outcome::KeyRests),
        4 => (1..100_000_i64).prop_map(Outcome::ModelRests),
        2 => Just(Outcome::Overload),
        1 => Just(Outcome::Closed),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..MODELS.len(), prop::collection::vec(outcome(), 1..12)).prop_map(|(model, how)| Event::Request(model, how)),
        3 => (0..MODELS.len(), prop::collection::vec(outcome(), 2..8)).prop_map(|(model, how)| Event::Burst(model, how)),
        2 => (1..40_000_i64).prop_map(Event::Wait),
        1 => Just(Event::Draw),
    ]
}

fn selection() -> impl Strategy<Value = Selection> {
    prop::sample::select(vec![
        Selection::Random,
        Selection::RoundRobin,
        Selection::LeastUsed,
        Selection::Sticky,
    ])
}

fn candidate(id: i64) -> Candidate {
    Candidate {
        id: KeyId(id),
        priority: id % 2,
        weight: (id % 5 + 1) as u32,
        // Every third pair of keys belongs to one project.
        project: (id % 3 == 0).then(|| Rc::from(format!("projects/{}", id / 6))),
        ..Candidate::own(
            ApiType::Gemini,
            Secret::new(format!("key-{id}")),
            "https://upstream.example",
        )
    }
}

fn target(model: &str) -> Target {
    Target {
        group: Rc::from(""),
        api_type: ApiType::Gemini,
        model: Rc::from(model),
        endpoints: None,
        sticky: Some(model.len() as u64),
        pinned: false,
    }
}

fn judgement(outcome: Outcome) -> Judgement {
    let (fault, rest, next) = match outcome {
        Outcome::Success | Outcome::Caller => (Fault::Caller, Rest::None, Next::Stop),
        Outcome::Dead => (Fault::Credential, Rest::Dead, Next::OtherKey),
        Outcome::KeyRests(ms) => (Fault::Quota, Rest::Key(ms), Next::OtherKey),
        Outcome::ModelRests(ms) => (Fault::RateLimit, Rest::Model(ms), Next::OtherKey),
        Outcome::Overload => (Fault::Overload, Rest::None, Next::Retry),
        Outcome::Closed => (Fault::Transport, Rest::None, Next::Retry),
    };
    Judgement {
        fault,
        rule: "G15",
        rest,
        next,
        message: String::new(),
        project: None,
    }
}

/// The plain model: until when who rests. The database of this world is never written: all that keeps a key at rest is what
/// the instance remembers.
struct World {
    pool: Pool,
    keys: Vec<Candidate>,
    rests: HashMap<(KeyId, &'static str), UnixMillis>,
    now: UnixMillis,
    seed: u64,
}

impl World {
    fn new(keys: i64, selection: Selection) -> Self {
        let mut pool = Pool::default();
        pool.configure(Settings {
            selection,
            ..Settings::default()
        });
        Self {
            pool,
            keys: (1..=keys).map(candidate).collect(),
            rests: HashMap::new(),
            now: UnixMillis(1_795_392_000_000),
            seed: 1,
        }
    }

    fn lease(&mut self, target: &Target, walk: &Walk) -> Option<Lease> {
        loop {
            self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            match self.pool.lease(target, walk, self.now, self.seed) {
                Leased::Key(lease) => return Some(lease),
                Leased::Exhausted(_) => return None,
                Leased::NeedHand(draw, size) => {
                    let keys = self
                        .keys
                        .iter()
                        .map(|key| Candidate {
                            read_at: self.now,
                            ..key.clone()
                        })
                        .collect();
                    let drawn = Drawn {
                        keys,
                        size,
                        census: Census { keys: 1, soonest: None },
                        ..Drawn::default()
                    };
                    self.pool.deal(draw, drawn, self.now);
                }
            }
        }
    }

    fn rests_until(&self, key: &Candidate, model: &'static str) -> UnixMillis {
        let of = |model| self.rests.get(&(key.id, model)).copied().unwrap_or_default();
        of("").max(of(model))
    }

    fn note(&mut self, key: &Candidate, model: &'static str, until: UnixMillis, family: bool) {
        for other in &self.keys {
            if other.id == key.id || (family && key.project.is_some() && other.project == key.project) {
                let rest = self.rests.entry((other.id, model)).or_default();
                *rest = until.max(*rest);
            }
        }
    }

    /// One request, with the upstream's answers in their order.
    fn request(&mut self, model: &'static str, outcomes: &[Outcome]) -> Result<(), TestCaseError> {
        let (target, settings) = (target(model), self.pool.settings().clone());
        let mut walk = Walk::new(&settings, self.now);
        let mut tried = HashSet::new();
        for outcome in outcomes {
            let lease = match walk.take_preferred() {
                Some(lease) => lease,
                None => match self.lease(&target, &walk) {
                    Some(lease) => {
                        prop_assert!(tried.insert(lease.key.id), "{:?} was leased twice", lease.key.id);
                        prop_assert!(
                            self.rests_until(&lease.key, model) <= self.now,
                            "{:?} rests until {:?} and was leased at {:?}",
                            lease.key.id,
                            self.rests_until(&lease.key, model),
                            self.now
                        );
                        lease
                    }
                    None => return Ok(()),
                },
            };
            walk.attempts += 1;
            if matches!(outcome, Outcome::Success) {
                self.pool.succeeded(&lease, Default::default(), 1, self.now);
                return Ok(());
            }
            let judgement = judgement(*outcome);
            let key = Rc::clone(&lease.key);
            self.fail(&lease, model, *outcome);
            self.seed = self.seed.wrapping_add(1);
            match walk.failed(&settings, &key, &judgement, true, self.now, self.seed) {
                Step::Stop => return Ok(()),
                Step::OtherKey => {}
                Step::SameKey(ms) => {
                    self.now = self.now.plus(ms as i64);
                    walk.prefer(&lease);
                }
            }
        }
        Ok(())
    }

    fn burst(&mut self, model: &'static str, outcomes: &[Outcome]) {
        let target = target(model);
        let walk = Walk::new(self.pool.settings(), self.now);
        let leases: Vec<_> = outcomes.iter().map_while(|_| self.lease(&target, &walk)).collect();
        for (lease, outcome) in leases.iter().zip(outcomes) {
            match outcome {
                Outcome::Success => self.pool.succeeded(lease, Default::default(), 1, self.now),
                _ => self.fail(lease, model, *outcome),
            }
            self.now = self.now.plus(100);
        }
    }

    fn fail(&mut self, lease: &Lease, model: &'static str, outcome: Outcome) {
        match outcome {
            Outcome::Dead => self.note(&lease.key, "", UnixMillis(i64::MAX), false),
            Outcome::KeyRests(ms) => self.note(&lease.key, "", self.now.plus(ms), true),
            Outcome::ModelRests(ms) => self.note(&lease.key, model, self.now.plus(ms), true),
            _ => {}
        }
        self.pool.failed(lease, &judgement(outcome), "", self.now);
    }

    /// Until when the pool lets each key rest for each model.
    fn all_rests(&self) -> Vec<UnixMillis> {
        let mut all = Vec::new();
        for key in &self.keys {
            for model in MODELS {
                let lease = Lease {
                    key: Rc::new(key.clone()),
                    model: Rc::from(model),
                };
                all.push(self.pool.resting(&lease, self.now).unwrap_or_default());
            }
        }
        all
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Neither a resting key nor a tried one is leased, in any order of events and by any selection.
    #[test]
    fn a_resting_key_is_never_leased_and_a_tried_one_never_twice(
        keys in 1..40_i64,
        selection in selection(),
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut world = World::new(keys, selection);
        for event in events {
            match event {
                Event::Request(model, outcomes) => world.request(MODELS[model], &outcomes)?,
                Event::Burst(model, outcomes) => world.burst(MODELS[model], &outcomes),
                Event::Wait(ms) => world.now = world.now.plus(ms),
                Event::Draw => world.now = world.now.plus(1001),
            }
        }
    }

    /// What a key was told to rest is never cut short by anything that comes after.
    #[test]
    fn a_rest_never_shrinks(
        keys in 1..12_i64,
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut world = World::new(keys, Selection::Random);
        let mut before = world.all_rests();
        for event in events {
            match event {
                Event::Request(model, outcomes) => world.request(MODELS[model], &outcomes)?,
                Event::Burst(model, outcomes) => world.burst(MODELS[model], &outcomes),
                Event::Wait(ms) => world.now = world.now.plus(ms),
                Event::Draw => world.now = world.now.plus(1001),
            }
            let after = world.all_rests();
            for (before, after) in before.iter().zip(&after) {
                prop_assert!(*after >= *before || *before <= world.now, "{before:?} became {after:?}");
            }
            before = after;
        }
    }

    /// Of many leases each key of the lowest tier gets its share by weight, within six standard deviations, and none of
    /// another tier gets any.
    #[test]
    fn shares_follow_the_weights(weights in prop::collection::vec(1..1000_u32, 2..20), seed in any::<u64>()) {
        let mut world = World::new(weights.len() as i64 + 1, Selection::Random);
        let last = weights.len();
        for (key, weight) in world.keys.iter_mut().zip(&weights) {
            (key.weight, key.priority) = (*weight, 0);
        }
        world.keys[last].priority = 1;
        world.seed = seed;
        let (target, walk) = (target("one"), Walk::new(world.pool.settings(), world.now));
        let mut counts: HashMap<KeyId, f64> = HashMap::new();
        let all = 4000.0;
        for _ in 0..all as u32 {
            let lease = world.lease(&target, &walk).unwrap();
            prop_assert_eq!(lease.key.priority, 0);
            *counts.entry(lease.key.id).or_default() += 1.0;
        }
        let sum: u32 = weights.iter().sum();
        for (key, weight) in world.keys.iter().zip(&weights) {
            let share = f64::from(*weight) / f64::from(sum);
            let (expected, deviation) = (all * share, (all * share * (1.0 - share)).sqrt());
            let found = counts.get(&key.id).copied().unwrap_or_default();
            prop_assert!((found - expected).abs() <= 6.0 * deviation + 1.0, "{found} of {all} for a share of {share}");
        }
    }

    /// With part of the tier at rest the others share by their weights.
    #[test]
    fn shares_follow_the_weights_of_those_that_may_serve(resting in 1..15_usize, seed in any::<u64>()) {
        let mut world = World::new(16, Selection::Random);
        world.seed = seed;
        for key in &mut world.keys {
            key.priority = 0;
            key.project = None;
        }
        for _ in 0..resting {
            world.request("one", &[Outcome::ModelRests(90_000)])?;
            // Apart from one another, or they would be a storm.
            world.now = world.now.plus(5000);
        }
        let (target, walk) = (target("one"), Walk::new(world.pool.settings(), world.now));
        let able: Vec<_> = world.keys.iter().filter(|key| world.rests_until(key, "one") <= world.now).cloned().collect();
        let sum: u32 = able.iter().map(|key| key.weight).sum();
        let mut counts: HashMap<KeyId, f64> = HashMap::new();
        for _ in 0..2000 {
            *counts.entry(world.lease(&target, &walk).unwrap().key.id).or_default() += 1.0;
        }
        prop_assert!(counts.len() <= able.len());
        for key in able {
            let share = f64::from(key.weight) / f64::from(sum);
            let (expected, deviation) = (2000.0 * share, (2000.0 * share * (1.0 - share)).sqrt());
            let found = counts.get(&key.id).copied().unwrap_or_default();
            prop_assert!((found - expected).abs() <= 6.0 * deviation + 1.0, "{found} for a share of {share}");
        }
    }
}

/// A half-open key is tried by one request at a time; a success closes the circuit, a failure doubles its rest.
#[test]
fn a_half_open_key_is_tried_by_one_request() {
    let mut world = World::new(1, Selection::Random);
    let key = &mut world.keys[0];
    (key.opened, key.half_open, key.failed_count) = (1, true, 10);
    let (target, walk) = (target("one"), Walk::new(&Settings::default(), world.now));
    let lease = world.lease(&target, &walk).unwrap();
    assert_eq!(world.lease(&target, &walk), None, "the key is being tried");
    let failed = judgement(Outcome::Overload);
    world.pool.failed(&lease, &failed, "", world.now);
    let until = world.pool.resting(&lease, world.now).unwrap();
    assert_eq!(
        until.since(world.now),
        60_000,
        "the second opening rests twice as long as the first"
    );
    world.now = until;
    let lease = world.lease(&target, &walk).unwrap();
    world.pool.succeeded(&lease, Default::default(), 1, world.now);
    assert!(world.lease(&target, &walk).is_some(), "it serves again");
}

/// Requests that were under way when the circuit opened fail too: that says nothing new, and doubles nothing.
#[test]
fn requests_that_fail_together_open_a_circuit_once() {
    let mut world = World::new(1, Selection::Random);
    let (target, walk) = (target("one"), Walk::new(&Settings::default(), world.now));
    let leases: Vec<_> = (0..40).map(|_| world.lease(&target, &walk).unwrap()).collect();
    let failed = judgement(Outcome::Overload);
    for lease in &leases {
        world.pool.failed(lease, &failed, "", world.now);
        world.now = world.now.plus(10);
    }
    let until = world.pool.resting(&leases[0], world.now).unwrap();
    let opened_at = UnixMillis(1_795_392_000_000).plus(9 * 10);
    assert_eq!(
        until.since(opened_at),
        30_000,
        "the first opening's rest, from the tenth failure on"
    );
}

/// A part of a pool that is limited is no storm, however the dice fall: in a storm everybody is refused for seconds. What
/// happens here happens to each new instance, which knows of no success yet.
#[test]
fn a_part_of_the_keys_that_is_limited_makes_no_storm() {
    for (keys, limited) in [(10, 5), (20, 10), (50, 15), (50, 25), (100, 50)] {
        for seed in 0..2000 {
            let mut world = World::new(keys, Selection::Random);
            world.seed = seed * 1000;
            for key in &mut world.keys {
                (key.priority, key.weight) = (0, 1);
                key.project = None;
            }
            let target = target("one");
            let refused = judgement(Outcome::ModelRests(30_000));
            // Sixteen at once, and each goes on to another key.
            for _ in 0..limited {
                let walk = Walk::new(world.pool.settings(), world.now);
                let lease = world.lease(&target, &walk).unwrap();
                if lease.key.id.0 > limited {
                    break;
                }
                world.pool.failed(&lease, &refused, "", world.now);
                let storm = world.pool.storm(&lease, world.now);
                assert_eq!(storm, None, "{limited} of {keys} keys, seed {seed}");
            }
        }
    }
}

/// Where all of them are limited it is one soon, and the larger the pool, the surer.
#[test]
fn all_keys_limited_make_a_storm_soon() {
    for (keys, most) in [(5, 5), (7, 6), (10, 7), (20, 10), (50, 16), (200, 16)] {
        let mut world = World::new(keys, Selection::Random);
        for key in &mut world.keys {
            key.project = None;
        }
        let (target, refused) = (target("one"), judgement(Outcome::ModelRests(30_000)));
        let mut asked = 0;
        loop {
            let walk = Walk::new(world.pool.settings(), world.now);
            let lease = world.lease(&target, &walk).unwrap();
            world.pool.failed(&lease, &refused, "", world.now);
            asked += 1;
            if world.pool.storm(&lease, world.now).is_some() {
                break;
            }
        }
        assert_eq!(asked, most, "{keys} keys");
    }
}
