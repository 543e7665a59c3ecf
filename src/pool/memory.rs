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
    /// Failures on top of those in the hand; `None` once a success has set them to nought.
    failures: Option<u32>,
    healed: bool,
    opened: u32,
    used: u64,
    probed_at: Option<UnixMillis>,
    strikes: Vec<(Box<str>, u32, UnixMillis)>,
}

impl Memory {
    /// Whether a key rests for a model.
    pub(super) fn rests(&self, key: &Candidate, model: &str, now: UnixMillis) -> bool {
        self.rest_of(key, model, now).is_some()
    }

    /// Until when a key rests for a model, and why.
    pub(super) fn rest_of(&self, key: &Candidate, model: &str, now: UnixMillis) -> Option<(UnixMillis, Fault)> {
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
    pub(super) fn rest(&mut self, key: KeyId, model: &str, until: UnixMillis, fault: Fault) {
        self.bound();
        lengthen(self.rests.entry(key).or_default(), model, until, fault, false);
    }

    /// The same, for a time that was guessed.
    pub(super) fn rest_guessed(&mut self, key: KeyId, model: &str, until: UnixMillis, fault: Fault) {
        self.bound();
        lengthen(self.rests.entry(key).or_default(), model, until, fault, true);
    }

    /// Lets a key rest and all of its project with it.
    pub(super) fn rest_family(
        &mut self,
        key: KeyId,
        project: Option<&Rc<str>>,
        model: &str,
        until: UnixMillis,
        fault: Fault,
    ) {
        self.rest(key, model, until, fault);
        if let Some(project) = project {
            lengthen(
                self.projects.entry(Rc::clone(project)).or_default(),
                model,
                until,
                fault,
                false,
            );
        }
    }

    /// Takes back the guessed rests for a model.
    pub(super) fn pardon(&mut self, model: &str, now: UnixMillis) {
        for rests in self.rests.values_mut() {
            rests.retain(|rest| rest.until > now && !(rest.guessed && *rest.model == *model));
        }
    }

    /// How often a key has been struck for a model before; the count starts anew after half an hour.
    pub(super) fn strike(&mut self, key: KeyId, model: &str, now: UnixMillis) -> u32 {
        let strikes = &mut self.health.entry(key).or_default().strikes;
        strikes.retain(|(_, _, at)| now.since(*at) < STRIKES_MEMORY_MS);
        if let Some((_, count, at)) = strikes.iter_mut().find(|(struck, ..)| **struck == *model) {
            *count += 1;
            *at = now;
            return *count;
        }
        strikes.push((Box::from(model), 0, now));
        0
    }

    /// Counts a failure. When it opens the circuit, tells how often that has happened in a row before.
    pub(super) fn failure(&mut self, key: &Candidate, most: u32) -> Option<u32> {
        let health = self.health.entry(key.id).or_default();
        let failures = health
            .failures
            .get_or_insert(if health.healed { 0 } else { key.failed_count });
        *failures += 1;
        health.probed_at = None;
        let opened = health.opened.max(if health.healed { 0 } else { key.opened });
        if *failures < most && !key.half_open {
            return None;
        }
        health.opened = opened + 1;
        Some(opened)
    }

    /// Counts a success; whether the database has to learn that the key is well again.
    pub(super) fn heal(&mut self, key: &Candidate) -> bool {
        let Some(health) = self.health.get_mut(&key.id) else {
            return key.failed_count > 0 || key.half_open;
        };
        let was_ill = health
            .failures
            .map_or(!health.healed && (key.failed_count > 0 || key.half_open), |count| {
                count > 0
            });
        health.failures = None;
        health.healed = true;
        health.opened = 0;
        health.probed_at = None;
        was_ill
    }

    /// Whether a request is trying a half-open key just now.
    pub(super) fn is_probed(&self, key: KeyId, now: UnixMillis) -> bool {
        let probed_at = self.health.get(&key).and_then(|health| health.probed_at);
        probed_at.is_some_and(|at| now.since(at) < PROBE_MS)
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

    /// Forgets everything once it is too much: what matters has been written.
    fn bound(&mut self) {
        if self.rests.len() > MAX_KEYS || self.projects.len() > MAX_KEYS || self.health.len() > MAX_KEYS {
            *self = Self::default();
        }
    }
}

fn lengthen(rests: &mut Vec<Rested>, model: &str, until: UnixMillis, fault: Fault, guessed: bool) {
    if let Some(rest) = rests.iter_mut().find(|rest| *rest.model == *model) {
        if until > rest.until {
            *rest = Rested {
                until,
                fault,
                guessed,
                model: std::mem::take(&mut rest.model),
            };
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

/// How long a half-open key waits for the outcome of its one request before another may try it.
const PROBE_MS: i64 = 30_000;

/// How long a strike counts.
const STRIKES_MEMORY_MS: i64 = 1_800_000;

/// How many keys one instance remembers things of.
const MAX_KEYS: usize = 20_000;
