//! What is counted, by key, model and hour, until it is written.

use std::{collections::HashMap, rc::Rc};

use super::key::KeyId;
use crate::{classify::Fault, ports::UnixMillis};

/// Tokens of one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// In the prompt.
    pub prompt: u64,
    /// In the answer, thinking included.
    pub completion: u64,
    /// Together.
    pub total: u64,
}

/// What one key did for one model in one hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The hour's beginning.
    pub hour: UnixMillis,
    /// The key.
    pub key: KeyId,
    /// The model.
    pub model: Rc<str>,
    /// What was counted.
    pub counts: Counts,
}

/// Sums.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Attempts.
    pub requests: u64,
    /// Those that succeeded.
    pub successes: u64,
    /// Those that did not, by fault.
    pub faults: HashMap<Fault, u64>,
    /// Tokens.
    pub tokens: Tokens,
    /// Milliseconds to the end of successful attempts.
    pub latency_sum_ms: u64,
    /// The longest of them.
    pub latency_max_ms: u64,
    /// The last of them.
    pub last_at: UnixMillis,
}

#[derive(Debug, Default)]
pub(super) struct Usage(HashMap<(UnixMillis, KeyId, Rc<str>), Counts>);

impl Usage {
    pub(super) fn success(&mut self, key: KeyId, model: &Rc<str>, tokens: Tokens, latency_ms: i64, now: UnixMillis) {
        let latency = u64::try_from(latency_ms).unwrap_or_default();
        let counts = self.counts(key, model, now);
        counts.successes += 1;
        counts.tokens.prompt += tokens.prompt;
        counts.tokens.completion += tokens.completion;
        counts.tokens.total += tokens.total;
        counts.latency_sum_ms += latency;
        counts.latency_max_ms = counts.latency_max_ms.max(latency);
    }

    pub(super) fn failure(&mut self, key: KeyId, model: &Rc<str>, fault: Fault, now: UnixMillis) {
        *self.counts(key, model, now).faults.entry(fault).or_default() += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self) -> Vec<Row> {
        let taken = std::mem::take(&mut self.0);
        taken
            .into_iter()
            .map(|((hour, key, model), counts)| Row {
                hour,
                key,
                model,
                counts,
            })
            .collect()
    }

    /// Adds what could not be written to what has come since.
    pub(super) fn put_back(&mut self, rows: Vec<Row>) {
        for row in rows {
            let counts = self.0.entry((row.hour, row.key, row.model)).or_default();
            counts.requests += row.counts.requests;
            counts.successes += row.counts.successes;
            for (fault, count) in row.counts.faults {
                *counts.faults.entry(fault).or_default() += count;
            }
            counts.tokens.prompt += row.counts.tokens.prompt;
            counts.tokens.completion += row.counts.tokens.completion;
            counts.tokens.total += row.counts.tokens.total;
            counts.latency_sum_ms += row.counts.latency_sum_ms;
            counts.latency_max_ms = counts.latency_max_ms.max(row.counts.latency_max_ms);
            counts.last_at = counts.last_at.max(row.counts.last_at);
        }
    }

    fn counts(&mut self, key: KeyId, model: &Rc<str>, now: UnixMillis) -> &mut Counts {
        let hour = UnixMillis(now.0 - now.0.rem_euclid(HOUR_MS));
        // Names are the clients': what nobody would call a model, and what is too many, is counted without one.
        let row = (hour, key, Rc::clone(model));
        let is_known = model.len() <= MOST_NAME && (self.0.len() < MOST_ROWS || self.0.contains_key(&row));
        let row = if is_known { row } else { (hour, key, Rc::from("")) };
        let counts = self.0.entry(row).or_default();
        counts.requests += 1;
        counts.last_at = counts.last_at.max(now);
        counts
    }
}

const HOUR_MS: i64 = 3_600_000;

/// The longest name of a model that is counted by itself.
const MOST_NAME: usize = 200;

/// How many rows wait to be written before new models are counted together.
const MOST_ROWS: usize = 20_000;
