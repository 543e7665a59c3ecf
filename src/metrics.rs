//! What is counted for `GET /metrics`, and how it is written out as Prometheus text.
//!
//! Instances come and go within seconds and a scrape reaches any of them: counters in memory would start again all the
//! time. So they are sums in the database, which every instance adds to when it flushes.

use std::{collections::HashMap, fmt::Write as _};

use crate::{pool::usage, routes::Route};

/// What an instance has counted since it wrote last.
#[derive(Debug, Default)]
pub struct Counters(HashMap<Counter, u64>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Counter {
    /// Requests by route and status.
    Requests(&'static str, u16),
    /// Requests by route and by which bucket their time falls into.
    Duration(&'static str, u8),
    /// Milliseconds by route.
    DurationMs(&'static str),
    /// Streamed answers by route.
    Streams(&'static str),
}

impl Counters {
    /// Counts one answered request: `ms` to the answer's head.
    pub fn observe(&mut self, route: &'static str, status: u16, ms: i64, is_stream: bool) {
        let ms = u64::try_from(ms).unwrap_or_default();
        let bucket = BUCKETS_MS
            .iter()
            .position(|most| ms <= *most)
            .unwrap_or(BUCKETS_MS.len());
        let mut add = |counter, count| *self.0.entry(counter).or_default() += count;
        add(Counter::Requests(route, status), 1);
        add(Counter::Duration(route, u8::try_from(bucket).unwrap_or(u8::MAX)), 1);
        add(Counter::DurationMs(route), ms);
        if is_stream {
            add(Counter::Streams(route), 1);
        }
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is to be written, and nothing twice.
    #[must_use]
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Puts back what could not be written.
    pub fn put_back(&mut self, counted: Self) {
        for (counter, count) in counted.0 {
            *self.0.entry(counter).or_default() += count;
        }
    }

    /// The sums to add, by the names that they have in the database; the attempts among them come from `usage`, so that
    /// both tell the same.
    pub fn sums(&self, usage: &[usage::Row]) -> HashMap<String, u64> {
        let mut sums: HashMap<String, u64> = self.0.iter().map(|(counter, count)| (counter.name(), *count)).collect();
        let mut add = |name: String, count| {
            if count > 0 {
                *sums.entry(name).or_default() += count;
            }
        };
        for row in usage {
            let counts = &row.counts;
            add("attempts/success".to_owned(), counts.successes);
            for (fault, count) in &counts.faults {
                add(format!("attempts/{}", fault.as_str()), *count);
            }
            add("tokens/prompt".to_owned(), counts.tokens.prompt);
            add("tokens/completion".to_owned(), counts.tokens.completion);
        }
        sums
    }
}

impl Counter {
    fn name(self) -> String {
        match self {
            Self::Requests(route, status) => format!("requests/{route}/{status}"),
            Self::Duration(route, bucket) => format!("duration/{route}/{bucket}"),
            Self::DurationMs(route) => format!("duration_ms/{route}"),
            Self::Streams(route) => format!("streams/{route}"),
        }
    }
}

/// The name under which a route is counted; `None` for those that are asked by machines, about the machine. Whatever a
/// client writes into a path, there are only these.
pub const fn label(route: &Route) -> Option<&'static str> {
    use crate::routes::OpenAi;
    Some(match route {
        Route::OpenAi(OpenAi::Chat, _) => "chat",
        Route::OpenAi(OpenAi::Completions, _) => "completions",
        Route::OpenAi(OpenAi::Embeddings, _) => "embeddings",
        Route::OpenAi(OpenAi::Models | OpenAi::Model(_), _) => "models",
        Route::OpenAi(OpenAi::Other(_), _) => "openai",
        Route::Gemini(..) => "gemini",
        Route::Admin(_) => "admin",
        Route::Preflight | Route::Health | Route::Ready | Route::Metrics => return None,
    })
}

/// What a scrape finds.
#[derive(Debug, Default)]
pub struct Scrape {
    /// The sums of the database; `None` while it cannot be read.
    pub sums: Option<Vec<(String, i64)>>,
    /// Keys by state.
    pub keys: Vec<(String, i64)>,
    /// Rests of a key for one model.
    pub model_rests: i64,
    /// The age in milliseconds of what the answering instance knows of the pool, when it knows anything.
    pub snapshot_ms: Option<i64>,
    /// Whether what the answering instance has learnt could not be written.
    pub unwritten: bool,
}

impl Scrape {
    /// As Prometheus text.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(4096);
        let up = i64::from(self.sums.is_some());
        family(&mut text, "keystorm_build_info", "gauge", "The version.");
        sample(
            &mut text,
            "keystorm_build_info",
            &format!("version=\"{}\"", env!("CARGO_PKG_VERSION")),
            "1",
        );
        family(
            &mut text,
            "keystorm_database_up",
            "gauge",
            "Whether the database answers (instance).",
        );
        sample(&mut text, "keystorm_database_up", "", &up.to_string());
        family(
            &mut text,
            "keystorm_unwritten",
            "gauge",
            "Whether what was learnt cannot be written (instance).",
        );
        sample(
            &mut text,
            "keystorm_unwritten",
            "",
            &i64::from(self.unwritten).to_string(),
        );
        if let Some(age) = self.snapshot_ms {
            family(
                &mut text,
                "keystorm_snapshot_age_seconds",
                "gauge",
                "Age of what is known of the pool (instance).",
            );
            sample(&mut text, "keystorm_snapshot_age_seconds", "", &seconds(age));
        }
        let Some(sums) = &self.sums else { return text };
        family(&mut text, "keystorm_keys", "gauge", "Keys by state (database).");
        for (state, count) in &self.keys {
            sample(
                &mut text,
                "keystorm_keys",
                &format!("state=\"{state}\""),
                &count.to_string(),
            );
        }
        family(
            &mut text,
            "keystorm_model_rests",
            "gauge",
            "Keys that rest for one model (database).",
        );
        sample(&mut text, "keystorm_model_rests", "", &self.model_rests.to_string());
        for (prefix, name, labels, help) in COUNTERS {
            family(&mut text, name, "counter", help);
            for (given, count) in below(sums, prefix) {
                let pairs: Vec<_> = labels
                    .iter()
                    .zip(&given)
                    .map(|(label, value)| format!("{label}=\"{value}\""))
                    .collect();
                sample(&mut text, name, &pairs.join(","), &count.to_string());
            }
        }
        self.histogram(&mut text, sums);
        text
    }

    fn histogram(&self, text: &mut String, sums: &[(String, i64)]) {
        let name = "keystorm_request_duration_seconds";
        family(
            text,
            name,
            "histogram",
            "Time to the head of the answer, by route (database).",
        );
        for (route, sum_ms) in below(sums, "duration_ms") {
            let Some(route) = route.first() else { continue };
            let mut in_bucket = [0; BUCKETS_MS.len() + 1];
            for (given, count) in below(sums, "duration") {
                if let [of, bucket] = given.as_slice()
                    && of == route
                    && let Some(slot) = bucket.parse().ok().and_then(|bucket: usize| in_bucket.get_mut(bucket))
                {
                    *slot += count;
                }
            }
            let mut total = 0;
            let bounds = BUCKETS_MS
                .iter()
                .map(|most| seconds(*most as i64))
                .chain(["+Inf".to_owned()]);
            for (bound, count) in bounds.zip(in_bucket) {
                total += count;
                let labels = format!("route=\"{route}\",le=\"{bound}\"");
                sample(text, &format!("{name}_bucket"), &labels, &total.to_string());
            }
            let labels = format!("route=\"{route}\"");
            sample(text, &format!("{name}_sum"), &labels, &seconds(sum_ms));
            sample(text, &format!("{name}_count"), &labels, &total.to_string());
        }
    }
}

/// The sums whose name begins with `prefix`, by the rest of their names.
fn below<'a>(sums: &'a [(String, i64)], prefix: &'a str) -> impl Iterator<Item = (Vec<&'a str>, i64)> {
    sums.iter().filter_map(move |(name, count)| {
        let rest = name.strip_prefix(prefix)?.strip_prefix('/')?;
        Some((rest.split('/').collect(), *count))
    })
}

fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn sample(text: &mut String, name: &str, labels: &str, value: &str) {
    let _ = if labels.is_empty() {
        writeln!(text, "{name} {value}")
    } else {
        writeln!(text, "{name}{{{labels}}} {value}")
    };
}

fn seconds(ms: i64) -> String {
    format!("{}", ms as f64 / 1000.0)
}

/// Upper bounds, in milliseconds, of the time to an answer's head. Beyond the last is one bucket more.
const BUCKETS_MS: [u64; 12] = [
    25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000,
];

/// Counters: how they are named in the database, to the scraper, and what the parts of their names are.
const COUNTERS: [(&str, &str, &[&str], &str); 4] = [
    (
        "requests",
        "keystorm_requests_total",
        &["route", "status"],
        "Answered requests (database).",
    ),
    (
        "streams",
        "keystorm_streams_total",
        &["route"],
        "Streamed answers that were begun (database).",
    ),
    (
        "attempts",
        "keystorm_attempts_total",
        &["outcome"],
        "Upstream calls by what came of them (database).",
    ),
    (
        "tokens",
        "keystorm_tokens_total",
        &["kind"],
        "Tokens of answers that were read (database).",
    ),
];

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::{
        classify::Fault,
        pool::{key::KeyId, usage::Counts},
        ports::UnixMillis,
    };

    #[test]
    fn a_scrape_has_cumulative_buckets_and_every_family_once() {
        let mut counters = Counters::default();
        counters.observe("chat", 200, 40, true);
        counters.observe("chat", 200, 41, false);
        counters.observe("chat", 429, 700_000, false);
        counters.observe("models", 200, 0, false);
        let sums = counters
            .sums(&[])
            .into_iter()
            .map(|(name, count)| (name, count as i64))
            .collect();
        let scrape = Scrape {
            sums: Some(sums),
            keys: vec![("active".to_owned(), 3)],
            snapshot_ms: Some(1500),
            ..Scrape::default()
        };
        let text = scrape.text();
        for line in [
            "keystorm_requests_total{route=\"chat\",status=\"200\"} 2",
            "keystorm_requests_total{route=\"chat\",status=\"429\"} 1",
            "keystorm_streams_total{route=\"chat\"} 1",
            "keystorm_keys{state=\"active\"} 3",
            "keystorm_snapshot_age_seconds 1.5",
            "keystorm_request_duration_seconds_bucket{route=\"chat\",le=\"0.025\"} 0",
            "keystorm_request_duration_seconds_bucket{route=\"chat\",le=\"0.05\"} 2",
            "keystorm_request_duration_seconds_bucket{route=\"chat\",le=\"120\"} 2",
            "keystorm_request_duration_seconds_bucket{route=\"chat\",le=\"+Inf\"} 3",
            "keystorm_request_duration_seconds_sum{route=\"chat\"} 700.081",
            "keystorm_request_duration_seconds_count{route=\"chat\"} 3",
            "keystorm_request_duration_seconds_count{route=\"models\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        let types: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let distinct: std::collections::HashSet<_> = types.iter().collect();
        assert_eq!(types.len(), distinct.len());
    }

    #[test]
    fn attempts_are_what_usage_says_and_nothing_is_lost_on_the_way_back() {
        let row = usage::Row {
            hour: UnixMillis(0),
            key: KeyId(1),
            model: Rc::from("m"),
            counts: Counts {
                requests: 5,
                successes: 3,
                faults: HashMap::from([(Fault::RateLimit, 2)]),
                ..Counts::default()
            },
        };
        let mut counters = Counters::default();
        counters.observe("chat", 200, 1, false);
        let taken = counters.take();
        assert!(counters.is_empty());
        counters.observe("chat", 200, 1, false);
        counters.put_back(taken);
        let sums = counters.sums(&[row.clone(), row]);
        assert_eq!(sums["attempts/success"], 6);
        assert_eq!(sums["attempts/rate_limit"], 4);
        assert_eq!(sums["requests/chat/200"], 2);
        assert!(!sums.contains_key("tokens/prompt"));
    }

    #[test]
    fn without_a_database_the_instance_still_tells_what_it_knows() {
        let text = Scrape::default().text();
        assert!(text.contains("keystorm_database_up 0\n"));
        assert!(!text.contains("keystorm_keys"));
    }
}
