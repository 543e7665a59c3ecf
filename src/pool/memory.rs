//! What one instance has learnt of keys since their hands were drawn. It is a cache of what is being written: losing it
//! costs a failed attempt, never a wrong answer.

use std::{collections::HashMap, rc::Rc};

use super::key::{Candidate, KeyId};
use crate::{classify::Fault, ports::UnixMillis};

#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Rests by key and model; the model is empty where the whole key rests.
    rests: HashMap<KeyId, Vec<Rested>>,
    /// The same of whole projects.
    projects: HashMap<Rc<str>, Vec<Rested>>,
    health: HashMap<KeyId, Health>,
    /// How many keys are remembered before what is over is cleared away.
    bound: usize,
}

#[derive(Debug)]
struct Rested {
    model: Box<str>,
    until: UnixMillis,
    fault: Fault,
    /// Nobody asked for this rest: how long it takes is our guess.
    guessed: bool,
}

#[derive(Debug, Default)]
struct Health {
    failures: u32,
    /// When the last of them was.
    failed_at: UnixMillis,
    healed_at: Option<UnixMillis>,
    opened: u32,
    used: u64,
    probed_at: Option<UnixMillis>,
    strikes: Vec<(Box<str>, u32, UnixMillis)>,
}

impl Health {
    /// Failures in a row, and how often the circuit has opened in a row: what was read of the key, and what has happened
    /// since.
    fn counts(&self, key: &Candidate) -> (u32, u32) {
        let read = if self.healed_at.is_some_and(|at| at >= key.read_at) {
            (0, 0)
        } else {
            (key.failed_count, key.opened)
        };
        // By now the database knows of the instance's own failures, and of the others' successes.
        if key.read_at.since(self.failed_at) > SETTLED_MS {
            return read;
        }
        (read.0.max(self.failures), read.1.max(self.opened))
    }
}

impl Memory {
    /// Whether a key rests for a model.
    pub(super) fn rests(&self, key: &Candidate, model: &str, now: UnixMillis) -> bool {
        self.rest_of(key, model, now).is_some()
    }

    /// Until when a key rests for a model, and why.
    pub(super) fn rest_of(&self, key: &Candidate, model: &str, now: UnixMillis) -> Option<(UnixMillis, Fault)> {
        if self.rests.is_empty() && self.projects.is_empty() {
            return None;
        }
        let own = self.rests.get(&key.id).into_iter().flatten();
        let family = key
            .project
            .as_ref()
            .and_then(|project| self.projects.get(project))
            .into_iter()
            .flatten();
        own.chain(family)
            .filter(|rest| rest.until > now && (rest.model.is_empty() || *rest.model == *model))
            .map(|rest| (rest.until, rest.fault))
            .max_by_key(|(until, _)| *until)
    }

    /// Lets a key rest; a rest is never shortened.
    pub(super) fn rest(&mut self, key: KeyId, model: &str, until: UnixMillis, fault: Fault, now: UnixMillis) {
        self.bound(now);
        lengthen(self.rests.entry(key).or_default(), model, until, fault, false);
    }

    /// The same, for a time that was guessed.
    pub(super) fn rest_guessed(&mut self, key: KeyId, model: &str, until: UnixMillis, fault: Fault, now: UnixMillis) {
        self.bound(now);
        lengthen(self.rests.entry(key).or_default(), model, until, fault, true);
    }

    /// Lets all keys of a project rest.
    pub(super) fn rest_family(&mut self, project: &Rc<str>, model: &str, until: UnixMillis, fault: Fault) {
        let rests = self.projects.entry(Rc::clone(project)).or_default();
        lengthen(rests, model, until, fault, false);
    }

    /// Takes back what was guessed of keys for a model.
    pub(super) fn pardon(&mut self, keys: &[KeyId], model: &str) {
        for key in keys {
            if let Some(rests) = self.rests.get_mut(key) {
                rests.retain(|rest| !(rest.guessed && *rest.model == *model));
            }
            if let Some(health) = self.health.get_mut(key) {
                health.strikes.retain(|(struck, ..)| **struck != *model);
            }
        }
    }

    /// How often a key has been struck for a model before; the count starts anew after half an hour.
    /// `known` is what the database has of it.
    pub(super) fn strike(&mut self, key: KeyId, model: &str, known: u32, now: UnixMillis) -> u32 {
        self.bound(now);
        let strikes = &mut self.health.entry(key).or_default().strikes;
        strikes.retain(|(_, _, at)| now.since(*at) < STRIKES_MS);
        if let Some((_, count, at)) = strikes.iter_mut().find(|(struck, ..)| **struck == *model) {
            *count = count.saturating_add(1).max(known);
            *at = now;
            return *count;
        }
        strikes.push((Box::from(model), known, now));
        known
    }

    /// Counts a failure. When it opens the circuit, tells how often that has happened in a row before.
    pub(super) fn failure(&mut self, key: &Candidate, most: u32, now: UnixMillis) -> Option<u32> {
        self.bound(now);
        // The request was under way when the circuit opened: it fails with the others, and doubles nothing.
        let rests = self.rest_of(key, "", now).is_some();
        let health = self.health.entry(key.id).or_default();
        let (failures, opened) = health.counts(key);
        health.failures = failures.saturating_add(1);
        health.failed_at = now;
        health.opened = opened;
        health.probed_at = None;
        if rests || (health.failures < most && !key.half_open) {
            return None;
        }
        health.opened = opened.saturating_add(1);
        Some(opened)
    }

    /// Counts a success; whether the database has to learn that the key is well again.
    pub(super) fn heal(&mut self, key: &Candidate, now: UnixMillis) -> bool {
        let Some(health) = self.health.get_mut(&key.id) else {
            return key.failed_count > 0 || key.half_open;
        };
        let is_news = health.healed_at.is_none_or(|at| at < key.read_at);
        let was_ill = health.counts(key) != (0, 0) || (key.half_open && is_news);
        health.failures = 0;
        health.opened = 0;
        health.healed_at = Some(now);
        health.probed_at = None;
        was_ill
    }

    /// Until when a half-open key is left to the request that is trying it just now.
    pub(super) fn probed_until(&self, key: KeyId, now: UnixMillis) -> Option<UnixMillis> {
        let until = self.health.get(&key)?.probed_at?.plus(PROBE_MS);
        Some(until).filter(|until| *until > now)
    }

    /// A request tries a half-open key.
    pub(super) fn probe(&mut self, key: KeyId, now: UnixMillis) {
        self.health.entry(key).or_default().probed_at = Some(now);
    }

    /// A key is used.
    pub(super) fn use_key(&mut self, key: KeyId) {
        if self.health.len() < MAX_KEYS || self.health.contains_key(&key) {
            self.health.entry(key).or_default().used += 1;
        }
    }

    /// How often a key was used.
    pub(super) fn used(&self, key: KeyId) -> u64 {
        self.health.get(&key).map_or(0, |health| health.used)
    }

    /// Clears away what is over once there is much of it. A rest that goes on is never forgotten: there is at most one of each
    /// key and model that has failed.
    fn bound(&mut self, now: UnixMillis) {
        if self.rests.len() + self.projects.len() + self.health.len() <= self.bound.max(MAX_KEYS) {
            return;
        }
        for rests in self.rests.values_mut().chain(self.projects.values_mut()) {
            rests.retain(|rest| rest.until > now);
        }
        self.rests.retain(|_, rests| !rests.is_empty());
        self.projects.retain(|_, rests| !rests.is_empty());
        self.health.clear();
        self.bound = 2 * (self.rests.len() + self.projects.len());
    }
}

fn lengthen(rests: &mut Vec<Rested>, model: &str, until: UnixMillis, fault: Fault, guessed: bool) {
    let same = |rest: &&mut Rested| *rest.model == *model && rest.guessed == guessed;
    if let Some(rest) = rests.iter_mut().find(same) {
        if until > rest.until {
            rest.until = until;
            rest.fault = fault;
        }
        return;
    }
    rests.push(Rested {
        model: Box::from(model),
        until,
        fault,
        guessed,
    });
}

/// How long a half-open key is left to its one request before another may try it.
pub(super) const PROBE_MS: i64 = 30_000;

/// How long a strike counts.
pub(super) const STRIKES_MS: i64 = 1_800_000;

/// When what this instance has learnt is surely written.
const SETTLED_MS: i64 = 2000;

/// How many keys one instance remembers things of before it clears away what is over.
const MAX_KEYS: usize = 20_000;
