//! Reading something once for all requests of an instance that wait for it. Requests that come together would else each read
//! the same from the database.

use std::cell::{Cell, RefCell};

/// Who is reading what.
#[derive(Debug)]
pub struct Turns<K> {
    taken: RefCell<Vec<(K, u64)>>,
    /// How many turns there were.
    begun: Cell<u64>,
    /// How many readings have failed.
    failures: Cell<u32>,
}

/// The right to read; ends when it is dropped, also with a request whose client has gone.
pub struct Turn<'a, K> {
    turns: &'a Turns<K>,
    number: u64,
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self {
            taken: RefCell::default(),
            begun: Cell::default(),
            failures: Cell::default(),
        }
    }
}

impl<K: PartialEq + Clone> Turns<K> {
    /// Takes the turn, or waits until somebody else's is over: then what was read is there, and `None` says to look again.
    /// One whose wait ends with a failure reads for itself, beside the others who have waited with it.
    pub async fn take(&self, what: &K, sleep: impl AsyncFn(u64)) -> Option<Turn<'_, K>> {
        let failures = self.failures.get();
        let theirs = self
            .taken
            .borrow()
            .iter()
            .find(|(taken, _)| taken == what)
            .map(|(_, number)| *number);
        if let Some(theirs) = theirs {
            let mut wait_ms = 1;
            // That one turn is waited for, and none that begins meanwhile: who came later would else keep this one waiting.
            while self.taken.borrow().iter().any(|(_, number)| *number == theirs) {
                // Tasks of one instance cannot wake each other on every host: they look again after a moment.
                sleep(wait_ms).await;
                wait_ms = (wait_ms * 2).min(LONGEST_WAIT_MS);
            }
            if self.failures.get() == failures {
                return None;
            }
        }
        let number = self.begun.get();
        self.begun.set(number + 1);
        self.taken.borrow_mut().push((what.clone(), number));
        Some(Turn { turns: self, number })
    }
}

impl<K> Turn<'_, K> {
    /// What was to be read could not be.
    pub fn failed(self) {
        self.turns.failures.set(self.turns.failures.get().wrapping_add(1));
    }
}

impl<K> Drop for Turn<'_, K> {
    fn drop(&mut self) {
        self.turns
            .taken
            .borrow_mut()
            .retain(|(_, number)| *number != self.number);
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
    fn a_turn_that_begins_meanwhile_is_not_waited_for() {
        let turns = Turns::default();
        let current = RefCell::new(block_on(turns.take(&1, async |_| {})));
        let waits = async |_| {
            current.take();
            current.replace(turns.take(&1, async |_| panic!("it is free")).await);
        };
        assert!(block_on(turns.take(&1, waits)).is_none());
    }

    #[test]
    fn one_that_has_waited_for_a_failure_reads_for_itself() {
        let turns = Turns::default();
        let first = RefCell::new(block_on(turns.take(&1, async |_| {})));
        let fails = async |_| first.take().unwrap().failed();
        assert!(block_on(turns.take(&1, fails)).is_some());
    }
}
