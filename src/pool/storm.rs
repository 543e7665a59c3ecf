//! The storm guard: when many keys of one endpoint are rate-limited at the same moment, the endpoint is what is limited, and
//! walking on through the pool would only make it worse.

use std::{collections::HashMap, rc::Rc};

use super::{cooldown::doubled, key::KeyId};
use crate::ports::UnixMillis;

#[derive(Debug, Default)]
pub(super) struct Storms(HashMap<(Rc<str>, Rc<str>), Storm>);

#[derive(Debug, Default)]
struct Storm {
    /// Who was limited lately.
    limited: Vec<(KeyId, UnixMillis)>,
    until: Option<UnixMillis>,
    strikes: u32,
}

impl Storms {
    /// Until when an endpoint rests for a model.
    pub(super) fn until(&self, endpoint: &Rc<str>, model: &Rc<str>, now: UnixMillis) -> Option<UnixMillis> {
        if self.0.is_empty() {
            return None;
        }
        let storm = self.0.get(&(Rc::clone(endpoint), Rc::clone(model)))?;
        storm.until.filter(|until| *until > now)
    }

    /// A key was rate-limited. When that makes a storm, tells how long it lasts and how often it has come in a row.
    pub(super) fn rate_limited(
        &mut self,
        endpoint: &Rc<str>,
        model: &Rc<str>,
        key: KeyId,
        most: usize,
        now: UnixMillis,
    ) -> Option<(UnixMillis, u32)> {
        if self.0.len() > MAX_STORMS {
            self.0.clear();
        }
        let storm = self.0.entry((Rc::clone(endpoint), Rc::clone(model))).or_default();
        if storm.until.is_some_and(|until| until > now) {
            return None;
        }
        storm
            .limited
            .retain(|(other, at)| *other != key && now.since(*at) < WINDOW_MS);
        storm.limited.push((key, now));
        // After a storm one limited key is enough: the endpoint is half-open.
        let half_open = storm.until.is_some_and(|until| now.since(until) < WINDOW_MS);
        if storm.limited.len() < most && !half_open {
            return None;
        }
        let until = now.plus(doubled(REST_MS, MOST_MS, storm.strikes));
        storm.strikes += 1;
        storm.until = Some(until);
        storm.limited.clear();
        Some((until, storm.strikes))
    }

    /// A request succeeded: the endpoint is well.
    pub(super) fn over(&mut self, endpoint: &Rc<str>, model: &Rc<str>, now: UnixMillis) {
        if self.0.is_empty() {
            return;
        }
        let key = (Rc::clone(endpoint), Rc::clone(model));
        if self
            .0
            .get(&key)
            .is_some_and(|storm| storm.until.is_some_and(|until| until <= now))
        {
            self.0.remove(&key);
        }
    }
}

const WINDOW_MS: i64 = 5000;
const REST_MS: i64 = 2000;
const MOST_MS: i64 = 60_000;
const MAX_STORMS: usize = 1000;
