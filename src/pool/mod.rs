//! The key pool of one instance, as a pure state machine: what is asked for comes in with the time and a seed, decisions
//! and things to write come out. It knows no database and no network.
//!
//! A request *leases* a key from a *hand*: at most 256 keys that may serve now, drawn from the database and trusted for
//! `pool_ttl_ms`. What this instance learns in between (a key rests, a key is dead) lies over the hand, so that a key that is
//! known to rest is never leased. What the database has to learn is queued as [`Write`]s and usage.

pub mod cooldown;
mod hand;
pub mod key;
mod memory;
mod storm;
pub mod usage;
mod walk;

use std::{cell::Cell, collections::HashMap, rc::Rc};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use self::{
    hand::Hand,
    key::{ApiType, Candidate, KeyId},
    memory::Memory,
    storm::Storms,
    usage::{Tokens, Usage},
};
pub use self::{
    hand::{Census, Drawn, FIRST_HAND, HAND, StormMark},
    walk::{Step, Walk},
};
use crate::{
    classify::{Fault, Judgement, Rest},
    ports::UnixMillis,
};

/// What can be tuned. Times are milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How a key is chosen inside a tier.
    pub selection: Selection,
    /// How many keys one request may try.
    pub max_attempts: u32,
    /// How long one request may walk from key to key.
    pub attempt_deadline_ms: i64,
    /// How many failures of upstreams, as against of keys, one request forgives.
    pub overload_retries: u32,
    /// How long a hand is trusted.
    pub pool_ttl_ms: i64,
    /// How many consecutive failures open a key's circuit.
    pub circuit_failures: u32,
    /// How long an open circuit lets its key rest, doubled each time it opens again.
    pub circuit_rest_ms: i64,
    /// The longest of these rests.
    pub circuit_rest_max_ms: i64,
    /// How many keys of an endpoint have to be rate-limited at once to make a storm, and one more for every four of them.
    pub storm_keys: usize,
    /// The most that it takes, however many keys there are: by chance even half of a pool is not hit so often in a row.
    pub storm_keys_most: usize,
    /// What counts as at once.
    pub storm_window_ms: i64,
    /// How long the endpoint rests then, doubled each time the storm comes again.
    pub storm_rest_ms: i64,
    /// The longest of these rests.
    pub storm_rest_max_ms: i64,
    /// The longest rest of a key, save that until a new quota day.
    pub rest_max_ms: i64,
    /// How often dead keys are looked at again, in seconds; 0 is never.
    pub recheck_interval_s: i64,
    /// How many of them at once.
    pub recheck_keys: i64,
    /// For how many days usage is kept by the hour.
    pub usage_hours_d: i64,
    /// For how many days it is kept by the day.
    pub usage_days_d: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            selection: Selection::Random,
            max_attempts: 8,
            attempt_deadline_ms: 60_000,
            overload_retries: 2,
            pool_ttl_ms: 1000,
            circuit_failures: 10,
            circuit_rest_ms: 30_000,
            circuit_rest_max_ms: 600_000,
            storm_keys: 5,
            storm_keys_most: 16,
            storm_window_ms: 5000,
            storm_rest_ms: 2000,
            storm_rest_max_ms: 60_000,
            rest_max_ms: 86_400_000,
            recheck_interval_s: 300,
            recheck_keys: 20,
            usage_hours_d: 7,
            usage_days_d: 90,
        }
    }
}

/// How a key is chosen among those of the lowest tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    /// At random, by weight.
    #[default]
    Random,
    /// One after the other.
    RoundRobin,
    /// The one that this instance has used least.
    LeastUsed,
    /// By the conversation, so that a provider's prompt cache stays warm.
    Sticky,
}

impl Selection {
    /// The name in the variable `selection`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::RoundRobin => "round_robin",
            Self::LeastUsed => "least_used",
            Self::Sticky => "sticky",
        }
    }

    /// Reads the variable `selection`.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "random" => Self::Random,
            "round_robin" => Self::RoundRobin,
            "least_used" => Self::LeastUsed,
            "sticky" => Self::Sticky,
            _ => return None,
        })
    }
}

/// What a request needs a key for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The group of the route; empty for the default group.
    pub group: Rc<str>,
    /// Which API.
    pub api_type: ApiType,
    /// The model, as the upstream knows it; empty for requests that name none.
    pub model: Rc<str>,
    /// Only keys of these endpoints; `None` for all.
    pub endpoints: Option<Rc<[Rc<str>]>>,
    /// What identifies the conversation.
    pub sticky: Option<u64>,
    /// Whether the conversation has to stay on its key whatever the selection is, since the provider keeps something of it.
    pub pinned: bool,
}

/// What identifies a hand.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Draw {
    /// The group; empty for the default group.
    pub group: Rc<str>,
    /// Which API.
    pub api_type: ApiType,
    /// The model whose rests count.
    pub model: Rc<str>,
    /// Only keys of these endpoints.
    pub endpoints: Option<Rc<[Rc<str>]>>,
    /// Where in the random order of a large pool the hand begins; `None` for anywhere.
    pub bucket: Option<u8>,
}

/// One selection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The key.
    pub key: Rc<Candidate>,
    /// The model it was leased for.
    pub model: Rc<str>,
}

/// The answer to [`Pool::lease`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leased {
    /// Use this key.
    Key(Lease),
    /// Draw this hand of at most so many keys, [`Pool::deal`] it and ask again.
    NeedHand(Draw, usize),
    /// Nobody can serve.
    Exhausted(Exhausted),
}

/// Why nobody can serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exhausted {
    /// There is no key that could.
    NoKeys,
    /// All keys that could are dead or switched off.
    AllDead,
    /// All keys that could rest, the first of them until then.
    Resting(UnixMillis, Fault),
    /// All keys that could were tried by this request.
    AllTried,
}

/// What the database has to learn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A key serves again: no failures, circuit closed.
    Healthy(KeyId),
    /// One more failure that is not the key's fault.
    Failed {
        /// The key.
        key: KeyId,
        /// Redacted words of the upstream.
        message: String,
    },
    /// The key's circuit is open.
    Opened {
        /// The key.
        key: KeyId,
        /// Until then.
        until: UnixMillis,
        /// How often in a row.
        opened: u32,
    },
    /// The key is refused.
    Dead {
        /// The key.
        key: KeyId,
        /// The rule that says so.
        rule: &'static str,
        /// Redacted words of the upstream.
        message: String,
    },
    /// All of the key rests, and all of its project's.
    KeyRests {
        /// The key.
        key: KeyId,
        /// Its project, when known.
        project: Option<Rc<str>>,
        /// Until then.
        until: UnixMillis,
        /// The rule that says so.
        rule: &'static str,
        /// Redacted words of the upstream.
        message: String,
    },
    /// The key rests for a model, and all of its project's.
    ModelRests {
        /// The key.
        key: KeyId,
        /// Its project, when known.
        project: Option<Rc<str>>,
        /// The model.
        model: Rc<str>,
        /// Until then.
        until: UnixMillis,
        /// The rule that says so.
        rule: &'static str,
        /// How often in a row.
        strikes: u32,
        /// Redacted words of the upstream.
        message: String,
    },
    /// An endpoint rests for a model.
    Storm {
        /// The endpoint.
        endpoint: Rc<str>,
        /// The model.
        model: Rc<str>,
        /// Until then.
        until: UnixMillis,
        /// How often in a row.
        strikes: u32,
        /// Keys whose rests for the model were guessed and are taken back.
        pardoned: Vec<KeyId>,
    },
    /// Rests that are over are cleared away.
    Wake(UnixMillis),
    /// A key's project became known.
    Project {
        /// The key.
        key: KeyId,
        /// Its project.
        project: Rc<str>,
    },
}

/// The pool of one instance.
#[derive(Debug, Default)]
pub struct Pool {
    settings: Settings,
    hands: HashMap<Draw, Hand>,
    memory: Memory,
    storms: Storms,
    usage: Usage,
    writes: Vec<Write>,
    rotor: Cell<usize>,
}

impl Pool {
    /// Takes new settings into use.
    pub fn configure(&mut self, mut settings: Settings) {
        // A hand has to live at least from its draw to the lease that it was drawn for.
        settings.pool_ttl_ms = settings.pool_ttl_ms.max(LEAST_TTL_MS);
        self.settings = settings;
    }

    /// The settings in force.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Forgets what was drawn and learnt: something has changed in the database. What it does not know yet is kept.
    pub fn forget(&mut self, now: UnixMillis) {
        self.hands.clear();
        self.memory = Memory::default();
        self.storms = Storms::default();
        for write in &self.writes {
            let memory = &mut self.memory;
            match write {
                Write::Dead { key, .. } => memory.rest(*key, "", UnixMillis(i64::MAX), Fault::Credential, now),
                Write::Opened { key, until, .. } => memory.rest(*key, "", *until, Fault::Overload, now),
                Write::KeyRests { key, until, .. } => memory.rest(*key, "", *until, Fault::Quota, now),
                Write::ModelRests {
                    key,
                    model,
                    until,
                    strikes,
                    ..
                } if *strikes > 0 => memory.rest_guessed(*key, model, *until, Fault::RateLimit, now),
                Write::ModelRests { key, model, until, .. } => memory.rest(*key, model, *until, Fault::RateLimit, now),
                _ => {}
            }
        }
    }

    /// Chooses a key that may serve now and that `walk` has not tried.
    pub fn lease(&mut self, target: &Target, walk: &Walk, now: UnixMillis, seed: u64) -> Leased {
        let mut draw = self.draw(target);
        let mut hand = match self.fresh_hand(&draw, now) {
            Ok(hand) => hand,
            Err(size) => return Leased::NeedHand(draw, size),
        };
        // A group that has no keys of its own uses the default group's.
        if hand.census.keys == 0 && !draw.group.is_empty() {
            draw.group = Rc::from("");
            hand = match self.fresh_hand(&draw, now) {
                Ok(hand) => hand,
                Err(size) => return Leased::NeedHand(draw, size),
            };
        }
        let may_serve = |key: &Candidate| {
            // A circuit that is half-open lets one request through.
            let probed = key.half_open && self.memory.probed_until(key.id, now).is_some();
            let storm = self.storms.until(&key.base_url, &target.model, now);
            !walk.has_tried(key.id) && !self.memory.rests(key, &target.model, now) && storm.is_none() && !probed
        };
        let mut rng = SmallRng::seed_from_u64(seed);
        let chosen = match (self.settings.selection, target.sticky) {
            (_, Some(sticky)) if target.pinned => hand.sticky(sticky, may_serve),
            (Selection::Sticky, Some(sticky)) => hand.sticky(sticky, may_serve),
            (Selection::Random | Selection::Sticky, _) => hand.random(&mut rng, may_serve),
            (Selection::RoundRobin, _) => {
                // Instances begin at different places, or short-lived ones would all use the first keys.
                self.rotor.set(match self.rotor.get() {
                    0 => rng.random_range(1..1 << 20),
                    rotor => rotor + 1,
                });
                hand.round_robin(self.rotor.get(), may_serve)
            }
            (Selection::LeastUsed, _) => hand.least_used(|key| self.memory.used(key.id), may_serve),
        };
        if let Some(key) = chosen {
            if key.half_open {
                self.memory.probe(key.id, now);
            }
            self.memory.use_key(key.id);
            return Leased::Key(Lease {
                key,
                model: Rc::clone(&target.model),
            });
        }
        // The hand was a part of the pool: there may be others, once the database knows what this instance has learnt.
        if hand.is_partial() && walk.may_redraw() {
            return Leased::NeedHand(draw, HAND);
        }
        Leased::Exhausted(self.exhausted(hand, target, walk, now))
    }

    /// Takes a hand in.
    pub fn deal(&mut self, draw: Draw, drawn: Drawn, now: UnixMillis) {
        for mark in &drawn.storms {
            self.storms.learn(mark, &draw.model);
        }
        if self.hands.len() >= MAX_HANDS && !self.hands.contains_key(&draw) {
            let oldest = self
                .hands
                .iter()
                .min_by_key(|(_, hand)| hand.drawn_at)
                .map(|(draw, _)| draw.clone());
            oldest.map(|draw| self.hands.remove(&draw));
        }
        if drawn.rested && !self.writes.iter().any(|write| matches!(write, Write::Wake(_))) {
            self.writes.push(Write::Wake(now));
        }
        self.hands.insert(draw, Hand::new(drawn, now));
    }

    /// Trusts the old hand a little longer: the database cannot be read. False when there is none.
    pub fn keep_hand(&mut self, draw: &Draw, now: UnixMillis) -> bool {
        let Some(hand) = self.hands.get_mut(draw) else {
            return false;
        };
        hand.drawn_at = now;
        true
    }

    /// An attempt succeeded.
    pub fn succeeded(&mut self, lease: &Lease, tokens: Tokens, latency_ms: i64, now: UnixMillis) {
        self.usage.success(lease.key.id, &lease.model, tokens, latency_ms, now);
        if self.memory.heal(&lease.key, now) {
            self.writes.push(Write::Healthy(lease.key.id));
        }
        self.storms.over(&lease.key.base_url, &lease.model, now);
    }

    /// An attempt failed. `message` is redacted.
    pub fn failed(&mut self, lease: &Lease, judgement: &Judgement, message: &str, now: UnixMillis) {
        let (key, id) = (&lease.key, lease.key.id);
        self.usage.failure(id, &lease.model, judgement.fault, now);
        let project = self.project(key, judgement);
        let rule = judgement.rule;
        match judgement.rest {
            Rest::Dead => {
                self.memory.rest(id, "", UnixMillis(i64::MAX), judgement.fault, now);
                self.writes.push(Write::Dead {
                    key: id,
                    rule,
                    message: message.to_owned(),
                });
            }
            Rest::Key(ms) => {
                let until = now.plus(ms.min(self.settings.rest_max_ms));
                self.memory.rest(id, "", until, judgement.fault, now);
                if let Some(project) = &project {
                    self.memory.rest_family(project, "", until, judgement.fault);
                }
                self.writes.push(Write::KeyRests {
                    key: id,
                    project,
                    until,
                    rule,
                    message: message.to_owned(),
                });
            }
            Rest::Model(ms) => {
                let until = now.plus(ms.min(self.settings.rest_max_ms));
                self.model_rests(lease, project, until, judgement, message, now);
            }
            Rest::ModelUntilMidnight => {
                self.model_rests(lease, project, cooldown::next_quota_day(now), judgement, message, now);
            }
            Rest::ModelRepeated(ms) => {
                // Counted apart from limits, which have strikes of their own.
                if self.memory.strike(id, &format!("refused {}", lease.model), 0, now) > 0 {
                    let until = now.plus(ms.min(self.settings.rest_max_ms));
                    self.model_rests(lease, project, until, judgement, message, now);
                }
            }
            Rest::ModelDoubling(base, most) => {
                let strikes = self.memory.strike(id, &lease.model, key.strikes, now);
                let until = now.plus(cooldown::doubled(base, most, strikes).min(self.settings.rest_max_ms));
                // Nobody has said how long: that is not held against a whole project.
                self.memory.rest_guessed(id, &lease.model, until, judgement.fault, now);
                self.push_model_rests(lease, None, until, rule, strikes.saturating_add(1), message);
            }
            Rest::None => self.count_failure(key, judgement.fault, message, now),
        }
        let hands = &self.hands;
        let of_endpoint = || {
            let of_model = hands.iter().filter(|(draw, _)| draw.model == lease.model);
            let keys = of_model.map(|(_, hand)| {
                hand.keys()
                    .iter()
                    .filter(|other| other.base_url == key.base_url)
                    .count()
            });
            keys.max().unwrap_or_default()
        };
        if judgement.fault == Fault::RateLimit
            && let Some((limited, until, strikes)) =
                self.storms
                    .rate_limited(&key.base_url, &lease.model, id, of_endpoint, &self.settings, now)
        {
            // The endpoint is what is limited, not these keys: rests that were only guessed are taken back.
            self.memory.pardon(&limited, &lease.model);
            let (endpoint, model) = (Rc::clone(&key.base_url), Rc::clone(&lease.model));
            let is_guess = |write: &Write| {
                matches!(write, Write::ModelRests { key, model: rested, strikes, .. }
                    if *strikes > 0 && *rested == model && limited.contains(key))
            };
            self.writes.retain(|write| !is_guess(write));
            self.writes.push(Write::Storm {
                endpoint,
                model,
                until,
                strikes,
                pardoned: limited,
            });
        }
    }

    /// An attempt ended without an outcome: the client went away.
    pub fn cancelled(&mut self, lease: &Lease, now: UnixMillis) {
        self.counted(lease, Fault::Cancelled, now);
    }

    /// Counts a call that failed and says nothing of its key.
    pub fn counted(&mut self, lease: &Lease, fault: Fault, now: UnixMillis) {
        self.usage.failure(lease.key.id, &lease.model, fault, now);
    }

    /// When an endpoint that is in a storm serves this model again.
    pub fn storm(&self, lease: &Lease, now: UnixMillis) -> Option<UnixMillis> {
        self.storms.until(&lease.key.base_url, &lease.model, now)
    }

    /// When a key serves this model again.
    pub fn resting(&self, lease: &Lease, now: UnixMillis) -> Option<UnixMillis> {
        self.memory
            .rest_of(&lease.key, &lease.model, now)
            .map(|(until, _)| until)
    }

    /// What is to be written, and nothing twice.
    pub fn take_writes(&mut self) -> Vec<Write> {
        std::mem::take(&mut self.writes)
    }

    /// Puts back what could not be written. Bounded: the database may be away for long.
    pub fn return_writes(&mut self, mut writes: Vec<Write>) {
        writes.append(&mut self.writes);
        writes.truncate(MAX_WRITES);
        self.writes = writes;
    }

    /// What is to be counted, and nothing twice.
    pub fn take_usage(&mut self) -> Vec<usage::Row> {
        self.usage.take()
    }

    /// Puts back what could not be counted.
    pub fn return_usage(&mut self, rows: Vec<usage::Row>) {
        self.usage.put_back(rows);
    }

    /// Whether anything waits to be written.
    pub fn is_dirty(&self) -> bool {
        !self.writes.is_empty() || !self.usage.is_empty()
    }

    /// How old the oldest of what is known of the pool is, in milliseconds; `None` when nothing is.
    pub fn snapshot_age(&self, now: UnixMillis) -> Option<i64> {
        self.hands.values().map(|hand| now.since(hand.drawn_at)).max()
    }

    /// The hand, or of how many keys one is to be drawn: the first of an instance is a small one.
    fn fresh_hand(&self, draw: &Draw, now: UnixMillis) -> Result<&Hand, usize> {
        match self.hands.get(draw) {
            Some(hand) if hand.is_fresh(now, self.settings.pool_ttl_ms) => Ok(hand),
            Some(_) => Err(HAND),
            None => Err(FIRST_HAND),
        }
    }

    /// The hand that a target needs, and how many keys of it, where no fresh one is there.
    pub fn wanted(&self, target: &Target, now: UnixMillis) -> Option<(Draw, usize)> {
        let draw = self.draw(target);
        let size = self.fresh_hand(&draw, now).err()?;
        Some((draw, if self.hands.is_empty() { size } else { HAND }))
    }

    fn draw(&self, target: &Target) -> Draw {
        let sticky = target
            .sticky
            .filter(|_| target.pinned || self.settings.selection == Selection::Sticky);
        Draw {
            group: Rc::clone(&target.group),
            api_type: target.api_type,
            model: Rc::clone(&target.model),
            endpoints: target.endpoints.clone(),
            bucket: sticky.map(|hash| (hash % u64::from(BUCKETS)) as u8),
        }
    }

    fn exhausted(&self, hand: &Hand, target: &Target, walk: &Walk, now: UnixMillis) -> Exhausted {
        // Those that this request has tried are among them: one that was limited is worth waiting for, whichever was the last.
        let known = hand.keys().iter().filter_map(|key| {
            let storm = self
                .storms
                .until(&key.base_url, &target.model, now)
                .map(|until| (until, Fault::RateLimit));
            let probed = || {
                let until = self.memory.probed_until(key.id, now).filter(|_| key.half_open)?;
                Some((until, Fault::Overload))
            };
            self.memory.rest_of(key, &target.model, now).or(storm).or_else(probed)
        });
        let soonest = known
            .chain(hand.census.soonest)
            .filter(|(until, _)| until.0 != i64::MAX)
            .min_by_key(|(until, _)| *until);
        match soonest {
            Some((until, fault)) => Exhausted::Resting(until, fault),
            None if walk.tried_any() => Exhausted::AllTried,
            None if hand.census.keys == 0 => Exhausted::NoKeys,
            None => Exhausted::AllDead,
        }
    }

    /// A rest of a length that the provider has told.
    fn model_rests(
        &mut self,
        lease: &Lease,
        project: Option<Rc<str>>,
        until: UnixMillis,
        judgement: &Judgement,
        message: &str,
        now: UnixMillis,
    ) {
        self.memory
            .rest(lease.key.id, &lease.model, until, judgement.fault, now);
        if let Some(project) = &project {
            self.memory.rest_family(project, &lease.model, until, judgement.fault);
        }
        self.push_model_rests(lease, project, until, judgement.rule, 0, message);
    }

    fn push_model_rests(
        &mut self,
        lease: &Lease,
        project: Option<Rc<str>>,
        until: UnixMillis,
        rule: &'static str,
        strikes: u32,
        message: &str,
    ) {
        self.writes.push(Write::ModelRests {
            key: lease.key.id,
            project,
            model: Rc::clone(&lease.model),
            until,
            rule,
            strikes,
            message: message.to_owned(),
        });
    }

    fn count_failure(&mut self, key: &Candidate, fault: Fault, message: &str, now: UnixMillis) {
        if !matches!(
            fault,
            Fault::Overload | Fault::Transport | Fault::Timeout | Fault::MidStream
        ) {
            return;
        }
        self.writes.push(Write::Failed {
            key: key.id,
            message: message.to_owned(),
        });
        // What was under way when the circuit opened does not open it a second time.
        if self.memory.rests(key, "", now) {
            return;
        }
        let settings = &self.settings;
        if let Some(opened) = self.memory.failure(key, settings.circuit_failures, now) {
            let rest = cooldown::doubled(settings.circuit_rest_ms, settings.circuit_rest_max_ms, opened);
            let until = now.plus(rest);
            self.memory.rest(key.id, "", until, fault, now);
            self.writes.push(Write::Opened {
                key: key.id,
                until,
                opened: opened.saturating_add(1),
            });
        }
    }

    /// The project whose quota it is: what the answer names, else what the administrator said.
    fn project(&mut self, key: &Candidate, judgement: &Judgement) -> Option<Rc<str>> {
        if let (None, Some(named)) = (&key.project, &judgement.project) {
            let project: Rc<str> = Rc::from(named.as_str());
            self.writes.push(Write::Project {
                key: key.id,
                project: Rc::clone(&project),
            });
            return Some(project);
        }
        key.project.clone()
    }
}

/// How long a half-open key is left to its one request.
pub const PROBE_MS: i64 = memory::PROBE_MS;

/// How long a strike counts: how often in a row a key was limited without being told for how long.
pub const STRIKES_MS: i64 = memory::STRIKES_MS;

/// The shortest time for which a hand is trusted.
const LEAST_TTL_MS: i64 = 20;

/// How many hands are kept: one for each model and group in use.
const MAX_HANDS: usize = 64;

/// How much is kept for a database that cannot be written now.
const MAX_WRITES: usize = 10_000;

/// In how many parts the random order of a pool is cut for sticky selection.
const BUCKETS: u8 = 64;
