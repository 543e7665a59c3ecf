//! Ids of calls.

use std::collections::HashSet;

use rand::{Rng as _, SeedableRng as _, distr::Alphanumeric, rngs::SmallRng};

/// Gives every call of an answer an id of its own.
#[derive(Debug)]
pub(super) struct Ids {
    random: SmallRng,
    given: HashSet<String>,
}

impl Ids {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: SmallRng::seed_from_u64(seed),
            given: HashSet::new(),
        }
    }

    /// Gemini's own id where it is one of its own.
    pub(super) fn call(&mut self, own: &str) -> String {
        if own.is_empty() || self.given.len() >= MOST || !self.given.insert(own.to_owned()) {
            return self.random("call_");
        }
        own.to_owned()
    }

    pub(super) fn random(&mut self, prefix: &str) -> String {
        let letters = (&mut self.random).sample_iter(Alphanumeric).take(24).map(char::from);
        prefix.chars().chain(letters).collect()
    }
}

/// Ids that are remembered to be unique. No model makes so many calls at once.
const MOST: usize = 1024;
