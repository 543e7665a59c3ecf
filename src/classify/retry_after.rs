//! How long an upstream asks to wait. Pure parsing; all times are milliseconds, at most a day.

use http::HeaderMap;

use super::{DAY, SECOND};
use crate::ports::UnixMillis;

/// Reads `retry-after-ms`, `Retry-After` (RFC 9110 section 10.2.3: seconds or a date) and `x-ratelimit-reset-*`.
pub(super) fn from_headers(headers: &HeaderMap, now: UnixMillis) -> Option<i64> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(ms) = text("retry-after-ms").and_then(|ms| ms.parse::<f64>().ok()) {
        return bounded(ms);
    }
    if let Some(value) = text("retry-after") {
        return match value.parse::<f64>() {
            Ok(seconds) => bounded(seconds * 1000.0),
            Err(_) => {
                let date = jiff::fmt::rfc2822::parse(value).ok()?;
                bounded((date.timestamp().as_millisecond() - now.0) as f64)
            }
        };
    }
    // The budget that is used up has to fill again; where none says so, the one that fills first may be it.
    let resets = ["requests", "tokens"].map(|budget| {
        let empty = text(&format!("x-ratelimit-remaining-{budget}")) == Some("0");
        (
            empty,
            text(&format!("x-ratelimit-reset-{budget}")).and_then(|value| reset(value, now)),
        )
    });
    let plain = text("x-ratelimit-reset").and_then(|value| reset(value, now));
    let empty = resets
        .iter()
        .filter(|(empty, _)| *empty)
        .filter_map(|(_, ms)| *ms)
        .max();
    empty.or_else(|| resets.iter().filter_map(|(_, ms)| *ms).chain(plain).min())
}

/// Reads `Please retry in 34.07s` and `try again in 1m2s`, from a message in lower case.
pub(super) fn from_message(words: &str) -> Option<i64> {
    let behind = ["retry in ", "try again in "]
        .iter()
        .find_map(|words_before| Some(words.split_once(words_before)?.1))?;
    duration(behind.split_whitespace().next()?.trim_end_matches(['.', ',']))
}

/// Reads `34.07s`, `900ms`, `6m0s`, `1h2m3s`.
pub(super) fn duration(text: &str) -> Option<i64> {
    if text.is_empty() {
        return None;
    }
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let unit = rest.find(|letter: char| letter.is_ascii_digit()).unwrap_or(rest.len());
        total += number
            * match rest.get(..unit)? {
                "ms" => 1.0,
                "s" => 1000.0,
                "m" => 60_000.0,
                "h" => 3_600_000.0,
                "d" => 86_400_000.0,
                _ => return None,
            };
        rest = rest.get(unit..)?;
    }
    bounded(total)
}

/// A reset is a duration, plain seconds, or a moment in seconds or milliseconds since 1970.
fn reset(value: &str, now: UnixMillis) -> Option<i64> {
    match value.parse::<f64>() {
        Ok(number) if number > 1e12 => bounded(number - now.0 as f64),
        Ok(number) if number > 1e9 => bounded(number * 1000.0 - now.0 as f64),
        Ok(number) => bounded(number * 1000.0),
        Err(_) => duration(value),
    }
}

fn bounded(ms: f64) -> Option<i64> {
    ms.is_finite().then(|| (ms.ceil() as i64).clamp(SECOND, DAY))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    /// 1994-11-06T08:49:37Z
    const NOW: UnixMillis = UnixMillis(784_111_777_000);

    #[test]
    fn every_form_of_a_wait_is_read() {
        let cases: [(&[(&'static str, &'static str)], Option<i64>); 14] = [
            (&[("retry-after-ms", "1500")], Some(1500)),
            (&[("retry-after", "7")], Some(7000)),
            (&[("retry-after", "0")], Some(1000)),
            (&[("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")], Some(30_000)),
            (&[("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")], Some(1000)),
            (&[("retry-after", "99999999999")], Some(DAY)),
            (&[("retry-after", "soon")], None),
            (&[("retry-after", "NaN")], None),
            (&[("x-ratelimit-reset-requests", "6m0s")], Some(360_000)),
            (
                &[
                    ("x-ratelimit-reset-requests", "1s"),
                    ("x-ratelimit-reset-tokens", "6m0s"),
                    ("x-ratelimit-remaining-tokens", "0"),
                ],
                Some(360_000),
            ),
            (
                &[
                    ("x-ratelimit-reset-requests", "2s"),
                    ("x-ratelimit-reset-tokens", "6m0s"),
                ],
                Some(2000),
            ),
            // Seconds from now, cut to a day; then a moment in milliseconds.
            (&[("x-ratelimit-reset", "784111787")], Some(DAY)),
            (&[("x-ratelimit-reset", "1784111787000")], Some(DAY)),
            (&[], None),
        ];
        for (headers, expected) in cases {
            let map = headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
            assert_eq!(from_headers(&map, NOW), expected, "{headers:?}");
        }
    }

    #[test]
    fn durations_are_read() {
        let cases = [
            ("34.07s", Some(34_070)),
            ("900ms", Some(1000)),
            ("1h2m3s", Some(3_723_000)),
            ("34", None),
            ("s", None),
            ("-3s", None),
            ("1x", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(duration(text), expected, "{text}");
        }
    }

    #[test]
    fn a_wait_is_found_in_a_message() {
        assert_eq!(
            from_message("quota exceeded. please retry in 34.074824224s."),
            Some(34_075)
        );
        assert_eq!(from_message("please try again in 6m0s. visit"), Some(360_000));
        assert_eq!(from_message("please try again later"), None);
    }
}
