//! One request's way from key to key, and its two budgets.

use std::collections::HashSet;

use super::{
    Lease, Settings,
    key::{Candidate, KeyId},
};
use crate::{
    classify::{Fault, Judgement, Next},
    ports::UnixMillis,
};

/// What one request has tried.
#[derive(Clone, Debug)]
pub struct Walk {
    tried: HashSet<KeyId>,
    /// Upstream calls so far.
    pub attempts: u32,
    /// Keys that count against `max_attempts`.
    counted: u32,
    few: u32,
    upstream_failures: u32,
    retried_same: bool,
    redraws: u32,
    deadline: UnixMillis,
    preferred: Option<Lease>,
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The budgets are used up, or the judgement says so.
    Stop,
    /// The same key again, after so many milliseconds.
    SameKey(u64),
    /// Another key.
    OtherKey,
}

impl Walk {
    /// A request begins.
    pub fn new(settings: &Settings, now: UnixMillis) -> Self {
        Self {
            tried: HashSet::new(),
            attempts: 0,
            counted: 0,
            few: 0,
            upstream_failures: 0,
            retried_same: false,
            redraws: 0,
            deadline: now.plus(settings.attempt_deadline_ms),
            preferred: None,
        }
    }

    /// Whether a key was tried.
    pub fn has_tried(&self, key: KeyId) -> bool {
        self.tried.contains(&key)
    }

    /// Whether any key was tried.
    pub fn tried_any(&self) -> bool {
        !self.tried.is_empty()
    }

    /// Decides after a failed attempt.
    ///
    /// A key that is dead, or out of money, does not count against `max_attempts`: the attempt has taken it out of the pool
    /// for good, so that such attempts are bounded by the keys and not by the requests. They are still bounded in one
    /// request, by its deadline and by a fixed most: one good key among a thousand bad ones answers.
    pub fn failed(
        &mut self,
        settings: &Settings,
        key: &Candidate,
        judgement: &Judgement,
        repeatable: bool,
        now: UnixMillis,
        seed: u64,
    ) -> Step {
        if judgement.next == Next::Stop || now >= self.deadline || self.attempts >= MOST_ATTEMPTS {
            return Step::Stop;
        }
        if judgement.next == Next::Retry {
            self.upstream_failures += 1;
            if self.upstream_failures > settings.overload_retries || !repeatable {
                return Step::Stop;
            }
            // Not after a time-out: the same key would only be waited for again.
            if !self.retried_same && judgement.fault == Fault::Overload {
                self.retried_same = true;
                return Step::SameKey(300 + seed % 200);
            }
        } else if !matches!(judgement.fault, Fault::Credential | Fault::Quota) {
            self.counted += 1;
        }
        if judgement.next == Next::OtherKeyFew {
            self.few += 1;
        }
        self.tried.insert(key.id);
        if self.counted >= settings.max_attempts || self.few >= 3 || !repeatable {
            return Step::Stop;
        }
        Step::OtherKey
    }

    /// The next attempt is to be with this key again.
    pub fn prefer(&mut self, lease: &Lease) {
        self.preferred = Some(lease.clone());
    }

    /// The key that the next attempt is to be with.
    pub fn take_preferred(&mut self) -> Option<Lease> {
        self.preferred.take()
    }

    /// Whether another hand may be drawn once one is used up: not without end.
    pub(super) fn may_redraw(&self) -> bool {
        self.tried_any() && self.redraws < MOST_REDRAWS
    }

    /// A hand was drawn again for this request.
    pub const fn redrawn(&mut self) {
        self.redraws += 1;
    }
}

/// Upstream calls of one request, whatever they cost.
const MOST_ATTEMPTS: u32 = 1200;

/// Hands that one request may use up.
const MOST_REDRAWS: u32 = 8;
