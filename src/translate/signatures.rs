//! Thought signatures of tool calls, remembered for clients that drop fields they do not know.

use std::collections::{HashMap, VecDeque};

use crate::ports::UnixMillis;

/// Tool call ids and their signatures. Bounded in number and in age.
#[derive(Debug, Default)]
pub struct SignatureCache {
    signatures: HashMap<String, (String, UnixMillis)>,
    order: VecDeque<(String, UnixMillis)>,
    bytes: usize,
}

impl SignatureCache {
    /// Remembers a signature.
    pub fn remember(&mut self, call: &str, signature: &str, now: UnixMillis) {
        if call.len() + signature.len() > MOST_BYTES / 16 {
            return;
        }
        self.bytes += signature.len();
        if let Some((old, _)) = self.signatures.insert(call.to_owned(), (signature.to_owned(), now)) {
            self.bytes = self.bytes.saturating_sub(old.len());
        }
        self.order.push_back((call.to_owned(), now));
        while self.order.len() > MOST || self.bytes > MOST_BYTES {
            let Some((oldest, at)) = self.order.pop_front() else {
                break;
            };
            // A call that was remembered again has a younger place in the order.
            if self
                .signatures
                .get(&oldest)
                .is_some_and(|(_, remembered)| *remembered == at)
                && let Some((signature, _)) = self.signatures.remove(&oldest)
            {
                self.bytes = self.bytes.saturating_sub(signature.len());
            }
        }
    }

    /// The signature of a call.
    pub fn recall(&self, call: &str, now: UnixMillis) -> Option<String> {
        let (signature, at) = self.signatures.get(call)?;
        (now.since(*at) < MOST_AGE_MS).then(|| signature.clone())
    }
}

const MOST: usize = 10_000;
const MOST_BYTES: usize = 8 * 1024 * 1024;
const MOST_AGE_MS: i64 = 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_remembered_for_an_hour_and_the_oldest_go_first() {
        let mut cache = SignatureCache::default();
        let now = UnixMillis(0);
        for call in 0..=MOST {
            cache.remember(&format!("call_{call}"), "c2ln", now.plus(call as i64));
        }
        assert_eq!(cache.recall("call_0", now), None);
        assert_eq!(cache.recall("call_1", now).as_deref(), Some("c2ln"));
        assert_eq!(cache.recall("call_1", now.plus(MOST_AGE_MS + 1)), None);
        cache.remember("huge", &"x".repeat(MOST_BYTES), now);
        assert_eq!(cache.recall("huge", now), None);
    }
}
