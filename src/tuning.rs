//! The numbers by which the pool judges, waits and looks again, each a variable of its own.

use crate::pool::{self, Selection};

/// A number that an operator may change.
#[derive(Clone, Copy, Debug)]
pub struct Number {
    /// The variable.
    pub name: &'static str,
    /// Its value where it is not set.
    pub default: u64,
    /// The least and the most that it takes.
    pub range: (u64, u64),
    read: fn(&pool::Settings) -> i64,
}

/// Reads the pool's settings, number by number.
pub fn read(selection: Selection, mut number: impl FnMut(&'static str, u64, u64, u64) -> u64) -> pool::Settings {
    let mut values = [0; NUMBERS.len()];
    for (value, wanted) in values.iter_mut().zip(&NUMBERS) {
        *value = number(wanted.name, wanted.default, wanted.range.0, wanted.range.1) as i64;
    }
    let [
        max_attempts,
        attempt_deadline_ms,
        overload_retries,
        pool_ttl_ms,
        circuit_failures,
        circuit_rest_ms,
        circuit_rest_max_ms,
        storm_keys,
        storm_window_ms,
        storm_rest_ms,
        storm_rest_max_ms,
        rest_max_ms,
        recheck_interval_s,
        recheck_keys,
        usage_hours_d,
        usage_days_d,
    ] = values;
    pool::Settings {
        selection,
        max_attempts: max_attempts as u32,
        attempt_deadline_ms,
        overload_retries: overload_retries as u32,
        pool_ttl_ms,
        circuit_failures: circuit_failures as u32,
        circuit_rest_ms,
        circuit_rest_max_ms,
        storm_keys: storm_keys as usize,
        storm_window_ms,
        storm_rest_ms,
        storm_rest_max_ms,
        rest_max_ms,
        recheck_interval_s,
        recheck_keys,
        usage_hours_d,
        usage_days_d,
        ..pool::Settings::default()
    }
}

/// What is wrong with numbers that are each well.
pub fn faults(settings: &pool::Settings) -> Vec<String> {
    let pairs = [
        (
            "circuit_rest_ms",
            settings.circuit_rest_ms,
            "circuit_rest_max_ms",
            settings.circuit_rest_max_ms,
        ),
        (
            "storm_rest_ms",
            settings.storm_rest_ms,
            "storm_rest_max_ms",
            settings.storm_rest_max_ms,
        ),
        (
            "usage_hours_d",
            settings.usage_hours_d,
            "usage_days_d",
            settings.usage_days_d,
        ),
    ];
    pairs
        .into_iter()
        .filter(|(_, least, _, most)| least > most)
        .map(|(least, _, most, _)| format!("{least} must not be above {most}"))
        .collect()
}

/// The number in force of a variable, as text.
pub fn value(settings: &pool::Settings, name: &str) -> Option<String> {
    let number = NUMBERS.iter().find(|number| number.name == name)?;
    Some((number.read)(settings).to_string())
}

const fn number(name: &'static str, default: u64, range: (u64, u64), read: fn(&pool::Settings) -> i64) -> Number {
    Number {
        name,
        default,
        range,
        read,
    }
}

/// All of them, in the order of the documentation.
pub const NUMBERS: [Number; 16] = [
    number("max_attempts", 8, (1, 1000), |pool| i64::from(pool.max_attempts)),
    number("attempt_deadline_ms", 60_000, (1, HOUR), |pool| {
        pool.attempt_deadline_ms
    }),
    number("overload_retries", 2, (0, 10), |pool| i64::from(pool.overload_retries)),
    number("pool_ttl_ms", 1000, (0, HOUR), |pool| pool.pool_ttl_ms),
    number("circuit_failures", 10, (1, 1000), |pool| {
        i64::from(pool.circuit_failures)
    }),
    number("circuit_rest_ms", 30_000, (1, DAY), |pool| pool.circuit_rest_ms),
    number("circuit_rest_max_ms", 600_000, (1, DAY), |pool| {
        pool.circuit_rest_max_ms
    }),
    number("storm_keys", 5, (2, 1000), |pool| pool.storm_keys as i64),
    number("storm_window_ms", 5000, (1, 60_000), |pool| pool.storm_window_ms),
    number("storm_rest_ms", 2000, (1, HOUR), |pool| pool.storm_rest_ms),
    number("storm_rest_max_ms", 60_000, (1, HOUR), |pool| pool.storm_rest_max_ms),
    number("rest_max_ms", DAY, (1000, DAY), |pool| pool.rest_max_ms),
    number("recheck_interval_s", 300, (0, 86_400), |pool| pool.recheck_interval_s),
    number("recheck_keys", 20, (1, 1000), |pool| pool.recheck_keys),
    number("usage_hours_d", 7, (1, 90), |pool| pool.usage_hours_d),
    number("usage_days_d", 90, (1, 3650), |pool| pool.usage_days_d),
];

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_read_into_its_own_place() {
        let mut next = 100;
        let read = read(Selection::Random, |_, _, _, _| {
            next += 1;
            next
        });
        for (number, expected) in NUMBERS.iter().zip(101..) {
            assert_eq!(
                value(&read, number.name),
                Some(format!("{expected}")),
                "{}",
                number.name
            );
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_pool() {
        let read = read(Selection::Random, |_, default, least, most| {
            assert!((least..=most).contains(&default));
            default
        });
        assert_eq!(read, pool::Settings::default());
        assert!(faults(&read).is_empty());
    }
}
