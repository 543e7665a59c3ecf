//! Reading something once for all requests of an instance that wait for it. Requests that come together would else each read
//! the same from the database.

use std::cell::{Cell, RefCell};

/// Who is reading what.
#[derive(Debug)]
pub struct Turns<K> {
    taken: RefCell<Vec<K>>,
    /// How many readings have failed.
    failures: Cell<u32>,
}

/// The right to read; ends when it is dropped, also with a request whose client has gone.
pub struct Turn<'a, K: PartialEq> {
    turns: &'a Turns<K>,
    what: K,
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self {
            taken: RefCell::default(),
            failures: Cell::default(),
        }
    }
}

impl<K: PartialEq + Clone> Turns<K> {
    /// Takes the turn, or waits until somebody else's is over: then what was read is there, and `None` says to look again.
    /// One whose wait ends with a failure reads for itself, beside the others who have waited with it.
    pub async fn take(&self, what: &K, sleep: impl AsyncFn(u64)) -> Option<Turn<'_, K>> {
        let failures = self.failures.get();
        let mut wait_ms = 1;
        let mut has_waited = false;
        while self.taken.borrow().contains(what) {
            has_waited = true;
            // Tasks of one instance cannot wake each other on every host: they look again after a moment.
            sleep(wait_ms).await;
            wait_ms = (wait_ms * 2).min(LONGEST_WAIT_MS);
        }
        if has_waited && self.failures.get() == failures {
            return None;
        }
        self.taken.borrow_mut().push(what.clone());
        Some(Turn {
            turns: self,
            what: what.clone(),
        })
    }
}

impl<K: PartialEq> Turn<'_, K> {
    /// What was to be read could not be.
    pub fn failed(self) {
        self.turns.failures.set(self.turns.failures.get().wrapping_add(1));
    }
}

impl<K: PartialEq> Drop for Turn<'_, K> {
    fn drop(&mut self) {
        let mut taken = self.turns.taken.borrow_mut();
        if let Some(at) = taken.iter().position(|taken| *taken == self.what) {
            taken.swap_remove(at);
        }
    }
}

/// The longest pause between two looks.
const LONGEST_WAIT_MS: u64 = 16;

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn one_reads_and_the_others_look_again_when_it_is_over() {
        let turns = Turns::default();
        let never = async |_| panic!("nobody has to wait");
        let first = block_on(turns.take(&1, never)).unwrap();
        drop(block_on(turns.take(&2, never)).unwrap());
        let (first, waited) = (RefCell::new(Some(first)), Cell::new(0));
        let waits = async |ms| {
            waited.set(waited.get() + ms);
            if waited.get() > 50 {
                first.take();
            }
        };
        assert!(block_on(turns.take(&1, waits)).is_none());
        assert_eq!(waited.get(), 1 + 2 + 4 + 8 + 16 + 16 + 16);
        drop(block_on(turns.take(&1, never)).unwrap());
    }

    #[test]
    fn one_that_has_waited_for_a_failure_reads_for_itself() {
        let turns = Turns::default();
        let first = RefCell::new(block_on(turns.take(&1, async |_| {})));
        let fails = async |_| first.take().unwrap().failed();
        assert!(block_on(turns.take(&1, fails)).is_some());
    }
}
