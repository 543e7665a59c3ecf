//! The storm guard: when many keys of one endpoint are rate-limited at the same moment, the endpoint is what is limited, and
//! walking on through the pool would only make it worse.

use std::{collections::HashMap, rc::Rc};

use super::{Settings, cooldown::doubled, hand::StormMark, key::KeyId};
use crate::ports::UnixMillis;

#[derive(Debug, Default)]
pub(super) struct Storms(HashMap<(Rc<str>, Rc<str>), Storm>);

#[derive(Debug, Default)]
struct Storm {
    /// Who was limited lately.
    limited: Vec<(KeyId, UnixMillis)>,
    until: Option<UnixMillis>,
    strikes: u32,
    /// When it was known to be over.
    well_at: Option<UnixMillis>,
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

    /// What other instances have found out.
    pub(super) fn learn(&mut self, mark: &StormMark, model: &Rc<str>) {
        let storm = self.storm(&mark.endpoint, model);
        let is_over = storm.well_at.is_some_and(|at| at >= mark.until);
        if !is_over && storm.until.is_none_or(|until| until < mark.until) {
            storm.until = Some(mark.until);
            storm.strikes = storm.strikes.max(mark.strikes);
        }
    }

    /// A key was rate-limited. When that makes a storm, tells which keys have made it, how long it lasts and how often it has
    /// come in a row. `keys` counts the keys of the endpoint that could have been chosen.
    pub(super) fn rate_limited(
        &mut self,
        endpoint: &Rc<str>,
        model: &Rc<str>,
        key: KeyId,
        keys: impl FnOnce() -> usize,
        settings: &Settings,
        now: UnixMillis,
    ) -> Option<(Vec<KeyId>, UnixMillis, u32)> {
        let storm = self.storm(endpoint, model);
        if storm.until.is_some_and(|until| until > now) {
            return None;
        }
        storm
            .limited
            .retain(|(other, at)| *other != key && now.since(*at) < settings.storm_window_ms);
        storm.limited.push((key, now));
        // After a storm one limited key is enough: the endpoint is half-open.
        let half_open = storm
            .until
            .is_some_and(|until| now.since(until) < settings.storm_window_ms);
        let limited = storm.limited.len();
        if !half_open && (limited < settings.storm_keys || limited < needed(settings, keys())) {
            return None;
        }
        let until = now.plus(doubled(
            settings.storm_rest_ms,
            settings.storm_rest_max_ms,
            storm.strikes,
        ));
        storm.strikes = storm.strikes.saturating_add(1);
        storm.until = Some(until);
        let limited = std::mem::take(&mut storm.limited);
        Some((limited.into_iter().map(|(key, _)| key).collect(), until, storm.strikes))
    }

    /// A request succeeded: the endpoint is well. Keys that were limited before it were limited by themselves, however many
    /// they are: a large pool has five of them in any five seconds.
    pub(super) fn over(&mut self, endpoint: &Rc<str>, model: &Rc<str>, now: UnixMillis) {
        if self.0.is_empty() {
            return;
        }
        let Some(storm) = self.0.get_mut(&(Rc::clone(endpoint), Rc::clone(model))) else {
            return;
        };
        storm.limited.clear();
        // What was sent before a storm proves nothing of it.
        if storm.until.is_none_or(|until| until <= now) {
            *storm = Storm {
                well_at: Some(now),
                ..Storm::default()
            };
        }
    }

    fn storm(&mut self, endpoint: &Rc<str>, model: &Rc<str>) -> &mut Storm {
        let key = (Rc::clone(endpoint), Rc::clone(model));
        if self.0.len() >= MAX_STORMS && !self.0.contains_key(&key) {
            self.0.clear();
        }
        self.0.entry(key).or_default()
    }
}

/// How many of so many keys have to be limited before the endpoint is held to be. Five in a row are no proof, as an instance
/// begins without having seen a success: where a third of fifty keys is limited, the first five are every seven hundredth
/// time, and everybody would be refused for seconds.
fn needed(settings: &Settings, keys: usize) -> usize {
    (settings.storm_keys + keys / 4).min(settings.storm_keys_most).min(keys)
}

const MAX_STORMS: usize = 1000;
