//! Thought signatures of tool calls, for clients that drop the fields they do not know: what such a client sends back has the
//! call's id and no signature, and Gemini 3 refuses it.

use std::collections::{HashMap, VecDeque};

use crate::ports::UnixMillis;

/// Signatures by the id of their tool call. Bounded in number, in size and in time.
#[derive(Debug, Default)]
pub struct Signatures {
    by_id: HashMap<String, Entry>,
    /// The ids as they came in, the oldest first. An id that came in again stands here twice.
    order: VecDeque<(u64, String)>,
    bytes: usize,
    turn: u64,
}

#[derive(Debug)]
struct Entry {
    signature: String,
    at: UnixMillis,
    turn: u64,
}

impl Signatures {
    /// Keeps a call's signature. What is too large to be worth it is forgotten at once: the dummy serves then.
    pub fn remember(&mut self, id: &str, signature: &str, now: UnixMillis) {
        if id.is_empty() || signature.is_empty() || id.len() + signature.len() > LARGEST {
            return;
        }
        self.forget(id);
        self.turn += 1;
        self.bytes += id.len() + signature.len();
        let entry = Entry {
            signature: signature.to_owned(),
            at: now,
            turn: self.turn,
        };
        self.by_id.insert(id.to_owned(), entry);
        self.order.push_back((self.turn, id.to_owned()));
        self.tidy(now);
    }

    /// The signature of a call.
    pub fn recall(&self, id: &str, now: UnixMillis) -> Option<&str> {
        let entry = self.by_id.get(id)?;
        (now.since(entry.at) < LIFETIME_MS).then_some(entry.signature.as_str())
    }

    fn tidy(&mut self, now: UnixMillis) {
        while let Some((turn, id)) = self.order.front() {
            let entry = self.by_id.get(id).filter(|entry| entry.turn == *turn);
            let is_due = entry.is_none_or(|entry| now.since(entry.at) >= LIFETIME_MS);
            let is_full = self.by_id.len() > MOST || self.bytes > MOST_BYTES || self.order.len() > 2 * MOST;
            if !is_due && !is_full {
                return;
            }
            let is_current = entry.is_some();
            if let Some((_, id)) = self.order.pop_front()
                && is_current
            {
                self.forget(&id);
            }
        }
    }

    fn forget(&mut self, id: &str) {
        if let Some(entry) = self.by_id.remove(id) {
            self.bytes -= id.len() + entry.signature.len();
        }
    }
}

const MOST: usize = 10_000;
const MOST_BYTES: usize = 16 << 20;
const LARGEST: usize = 256 << 10;
const LIFETIME_MS: i64 = 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> UnixMillis {
        UnixMillis(ms)
    }

    #[test]
    fn a_signature_is_kept_for_an_hour() {
        let mut kept = Signatures::default();
        kept.remember("call_1", "c2ln", at(1000));
        assert_eq!(kept.recall("call_1", at(1000 + LIFETIME_MS - 1)), Some("c2ln"));
        assert_eq!(kept.recall("call_1", at(1000 + LIFETIME_MS)), None);
        assert_eq!(kept.recall("call_2", at(1000)), None);
        kept.remember("call_3", "c2ln", at(1000 + LIFETIME_MS));
        assert_eq!(kept.by_id.len(), 1, "the one that is due is gone");
    }

    #[test]
    fn a_newer_signature_takes_the_place_of_an_older() {
        let mut kept = Signatures::default();
        kept.remember("call_1", "b2xk", at(0));
        kept.remember("call_1", "bmV3", at(LIFETIME_MS - 1));
        kept.remember("call_2", "b2xk", at(LIFETIME_MS));
        assert_eq!(kept.recall("call_1", at(LIFETIME_MS)), Some("bmV3"));
    }

    #[test]
    fn number_and_size_are_bounded() {
        let mut kept = Signatures::default();
        for i in 0..3 * MOST {
            kept.remember(&format!("call_{i}"), "c2ln", at(0));
        }
        assert_eq!(kept.by_id.len(), MOST);
        assert!(kept.order.len() <= 2 * MOST);
        assert_eq!(kept.recall("call_0", at(0)), None);
        assert_eq!(kept.recall(&format!("call_{}", 3 * MOST - 1), at(0)), Some("c2ln"));
        for _ in 0..5 * MOST {
            kept.remember("the same", "c2ln", at(0));
        }
        assert!(kept.order.len() <= 2 * MOST);
        let large = "x".repeat(LARGEST / 2);
        for i in 0..1000 {
            kept.remember(&format!("large_{i}"), &large, at(0));
        }
        assert!(kept.bytes <= MOST_BYTES);
        kept.remember("too large", &"x".repeat(LARGEST + 1), at(0));
        assert_eq!(kept.recall("too large", at(0)), None);
    }
}
