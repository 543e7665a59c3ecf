//! A hand: some keys of a pool that may serve, and the choice among them.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    rc::Rc,
};

use rand::{Rng, rngs::SmallRng};

use super::key::Candidate;
use crate::{classify::Fault, ports::UnixMillis};

/// What a draw from the database gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drawn {
    /// The keys, at most as many as were asked for.
    pub keys: Vec<Candidate>,
    /// How many were asked for.
    pub size: usize,
    /// Of the pool that they were drawn from.
    pub census: Census,
    /// Whether some of the keys have a rest behind them that is still written down.
    pub rested: bool,
    /// Endpoints that rest for the model, or did so just now.
    pub storms: Vec<StormMark>,
}

/// An endpoint's rest for a model, as all instances know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StormMark {
    /// Its base URL.
    pub endpoint: Rc<str>,
    /// Until then.
    pub until: UnixMillis,
    /// How often in a row.
    pub strikes: u32,
}

/// What is known of a whole pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// How many keys it has, of whatever state: 0, or something above.
    pub keys: u64,
    /// When the first of its resting keys comes back, and why it rests; looked up only when no key may serve.
    pub soonest: Option<(UnixMillis, Fault)>,
}

/// A hand of keys.
#[derive(Debug)]
pub(super) struct Hand {
    /// Sorted by priority.
    keys: Vec<Rc<Candidate>>,
    /// Of each tier: where it ends, and the sum of the weights up to each of its keys.
    tiers: Vec<Tier>,
    size: usize,
    pub(super) census: Census,
    pub(super) drawn_at: UnixMillis,
}

#[derive(Debug)]
struct Tier {
    keys: std::ops::Range<usize>,
    sums: Vec<u64>,
}

impl Hand {
    pub(super) fn new(drawn: Drawn, now: UnixMillis) -> Self {
        let mut keys: Vec<_> = drawn.keys.into_iter().map(Rc::new).collect();
        keys.sort_by_key(|key| (key.priority, key.id));
        keys.dedup_by_key(|key| key.id);
        let mut tiers: Vec<Tier> = Vec::new();
        let mut start = 0;
        for tier in keys.chunk_by(|one, other| one.priority == other.priority) {
            let mut sum = 0;
            let sums = tier.iter().map(|key| {
                sum += u64::from(key.weight.max(1));
                sum
            });
            tiers.push(Tier {
                keys: start..start + tier.len(),
                sums: sums.collect(),
            });
            start += tier.len();
        }
        Self {
            keys,
            tiers,
            size: drawn.size,
            census: drawn.census,
            drawn_at: now,
        }
    }

    pub(super) fn keys(&self) -> &[Rc<Candidate>] {
        &self.keys
    }

    pub(super) fn is_fresh(&self, now: UnixMillis, ttl_ms: i64) -> bool {
        (0..=ttl_ms).contains(&now.since(self.drawn_at))
    }

    /// Whether the pool may have keys that are not in the hand.
    pub(super) const fn is_partial(&self) -> bool {
        self.size > 0 && self.keys.len() >= self.size
    }

    /// At random, each key by its weight. A few throws of the dice hit a key that may serve unless most of the tier rests;
    /// then the tier is gone through, which is bounded by the hand.
    pub(super) fn random(&self, rng: &mut SmallRng, may_serve: impl Fn(&Candidate) -> bool) -> Option<Rc<Candidate>> {
        self.first_tier(|tier| {
            let total = *tier.sums.last()?;
            for _ in 0..THROWS {
                let point = rng.random_range(0..total);
                let key = self.tier(tier).get(tier.sums.partition_point(|sum| *sum <= point))?;
                if may_serve(key) {
                    return Some(Rc::clone(key));
                }
            }
            let able: Vec<_> = self.tier(tier).iter().filter(|key| may_serve(key)).collect();
            let total: u64 = able.iter().map(|key| u64::from(key.weight.max(1))).sum();
            let mut point = if total == 0 {
                return None;
            } else {
                rng.random_range(0..total)
            };
            able.into_iter()
                .find(|key| {
                    let weight = u64::from(key.weight.max(1));
                    let hit = point < weight;
                    point = point.saturating_sub(weight);
                    hit
                })
                .cloned()
        })
    }

    /// The next one after `turn`, around the tier.
    pub(super) fn round_robin(&self, turn: usize, may_serve: impl Fn(&Candidate) -> bool) -> Option<Rc<Candidate>> {
        self.first_tier(|tier| {
            let keys = self.tier(tier);
            let (before, behind) = keys.split_at_checked(turn % keys.len().max(1))?;
            behind.iter().chain(before).find(|key| may_serve(key)).cloned()
        })
    }

    /// The one used least by this instance, then longest ago by any.
    pub(super) fn least_used(
        &self,
        used: impl Fn(&Candidate) -> u64,
        may_serve: impl Fn(&Candidate) -> bool,
    ) -> Option<Rc<Candidate>> {
        self.first_tier(|tier| {
            let able = self.tier(tier).iter().filter(|key| may_serve(key));
            able.min_by_key(|key| (used(key), key.last_used_at, key.id)).cloned()
        })
    }

    /// By weighted rendezvous hashing (Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005): each key
    /// draws a score from the conversation's hash, the highest wins, and only conversations of a key that goes move.
    pub(super) fn sticky(&self, conversation: u64, may_serve: impl Fn(&Candidate) -> bool) -> Option<Rc<Candidate>> {
        self.first_tier(|tier| {
            let score = |key: &Candidate| {
                let mut hasher = DefaultHasher::new();
                (conversation, key.id).hash(&mut hasher);
                // In (0, 1): 53 bits are what a float holds.
                let point = ((hasher.finish() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
                -f64::from(key.weight.max(1)) / point.ln()
            };
            let able = self.tier(tier).iter().filter(|key| may_serve(key));
            able.max_by(|one, other| score(one).total_cmp(&score(other))).cloned()
        })
    }

    fn first_tier(&self, mut choose: impl FnMut(&Tier) -> Option<Rc<Candidate>>) -> Option<Rc<Candidate>> {
        self.tiers.iter().find_map(&mut choose)
    }

    fn tier(&self, tier: &Tier) -> &[Rc<Candidate>] {
        self.keys.get(tier.keys.clone()).unwrap_or_default()
    }
}

/// How many keys a hand holds at most.
pub const HAND: usize = 256;

/// How many keys the first hand of an instance holds. An instance may be gone after a hundred requests: reading more than
/// they need costs them more than they do.
pub const FIRST_HAND: usize = 64;

/// How often the dice are thrown before a tier is gone through.
const THROWS: u32 = 8;
