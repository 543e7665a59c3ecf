//! How long a rest lasts.

use jiff::{Timestamp, civil::Time, tz::TimeZone};

use crate::ports::UnixMillis;

/// The next midnight in Los Angeles, when Gemini's daily quotas are new
/// (ai.google.dev/gemini-api/docs/rate-limits). Daylight saving is that of the United States since 2007.
pub fn next_quota_day(now: UnixMillis) -> UnixMillis {
    let midnight = || {
        let zone = TimeZone::posix("PST8PDT,M3.2.0,M11.1.0").ok()?;
        let today = Timestamp::from_millisecond(now.0).ok()?.to_zoned(zone.clone()).date();
        let midnight = today
            .tomorrow()
            .ok()?
            .to_datetime(Time::midnight())
            .to_zoned(zone)
            .ok()?;
        Some(UnixMillis(midnight.timestamp().as_millisecond()))
    };
    // Only a clock outside the calendar has no tomorrow.
    midnight().unwrap_or(now.plus(DAY_MS))
}

/// `base`, doubled `times` times, at most `most`.
pub fn doubled(base: i64, most: i64, times: u32) -> i64 {
    base.saturating_mul(1_i64.checked_shl(times.min(30)).unwrap_or(i64::MAX))
        .min(most)
}

const DAY_MS: i64 = 86_400_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daily_quotas_are_new_at_midnight_pacific_in_summer_and_winter() {
        let cases = [
            ("2026-11-23T00:00:00Z", "2026-11-23T08:00:00Z"),
            ("2026-07-01T06:59:59Z", "2026-07-01T07:00:00Z"),
            ("2026-07-01T07:00:00Z", "2026-07-02T07:00:00Z"),
            // The days on which clocks change have 23 and 25 hours.
            ("2026-03-08T08:00:00Z", "2026-03-09T07:00:00Z"),
            ("2026-11-01T07:00:00Z", "2026-11-02T08:00:00Z"),
        ];
        for (now, midnight) in cases {
            let at = |text: &str| UnixMillis(text.parse::<Timestamp>().unwrap().as_millisecond());
            assert_eq!(next_quota_day(at(now)), at(midnight), "{now}");
        }
        assert_eq!(next_quota_day(UnixMillis(i64::MAX)), UnixMillis(i64::MAX));
    }

    #[test]
    fn rests_double_up_to_their_most() {
        let rests: Vec<_> = (0..6).map(|times| doubled(30, 600, times)).collect();
        assert_eq!(rests, [30, 60, 120, 240, 480, 600]);
        assert_eq!(doubled(30, 600, u32::MAX), 600);
    }
}
