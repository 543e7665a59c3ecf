//! What was measured, as Markdown.

use std::{collections::BTreeMap, fmt::Write as _, path::Path, time::Instant};

use crate::{
    COLD, FLOOR, FLOOR_COLD, GEMINI, LARGE_POOL, LIMITED, PASSED, SMALL_POOL, process,
    scenarios::{ALONE, EVENTS, INSTANCES, MEGABYTE, SCENARIOS, SINGLE, STREAMS, Sample, THOUSAND, TWENTY},
};

/// All measurements of one run.
pub(crate) struct Report {
    /// By scenario and target, in the order in which they came.
    samples: BTreeMap<(&'static str, &'static str), Vec<Sample>>,
    targets: Vec<&'static str>,
    host: String,
    load_before: String,
    began: Instant,
    own_before: f64,
    machine_before: f64,
    added: Option<(usize, f64)>,
    first_page_ms: Option<f64>,
}

impl Report {
    /// Begins a run.
    pub(crate) fn new(host: &Path) -> Self {
        Self {
            samples: BTreeMap::new(),
            targets: Vec::new(),
            host: host.display().to_string(),
            load_before: process::load_average(),
            began: Instant::now(),
            own_before: process::own_cpu(),
            machine_before: process::machine_cpu(),
            added: None,
            first_page_ms: None,
        }
    }

    /// Takes one measurement in.
    pub(crate) fn add(&mut self, target: &'static str, scenario: &'static str, sample: Sample) {
        if !self.targets.contains(&target) {
            self.targets.push(target);
        }
        self.samples.entry((scenario, target)).or_default().push(sample);
    }

    /// So many keys were added in so many seconds.
    pub(crate) fn keys_added(&mut self, keys: usize, seconds: f64) {
        self.added = Some((keys, seconds));
    }

    /// The administrator's first page took so long.
    pub(crate) fn first_page(&mut self, ms: f64) {
        self.first_page_ms = Some(ms);
    }

    /// Requests that failed, in all measurements.
    pub(crate) fn failures(&self) -> u64 {
        self.samples.values().flatten().map(|sample| sample.failures).sum()
    }

    /// The report. Ratios are to the floor's figure.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        for scenario in SCENARIOS {
            self.table(&mut text, scenario.name);
        }
        self.goals(&mut text);
        let seconds = self.began.elapsed().as_secs_f64();
        let own = process::own_cpu() - self.own_before;
        let machine = process::machine_cpu() - self.machine_before;
        let _ = writeln!(
            text,
            "Machine: {}; host `{}`; {seconds:.0} s. Load average {} before, {} after. The benchmark used {:.2} processors, \
             everything else on the machine {:.2}.",
            process::processor(),
            self.host,
            self.load_before,
            process::load_average(),
            own / seconds,
            (machine - own).max(0.0) / seconds,
        );
        text
    }

    fn table(&self, text: &mut String, scenario: &'static str) {
        let rows: Vec<_> = self
            .targets
            .iter()
            .filter(|target| self.samples.contains_key(&(scenario, **target)))
            .collect();
        let Some(first) = rows.first() else { return };
        let rounds = self.samples.get(&(scenario, **first)).map_or(0, Vec::len);
        let base = if scenario == INSTANCES { FLOOR_COLD } else { FLOOR };
        let _ = writeln!(
            text,
            "**{scenario}** (medians of {rounds}; in brackets the ratio to the floor)\n\n\
             | target | answers/s | p50 ms | p99 ms | first byte p50 ms | p99 ms | CPU us | peak MiB | failures |\n\
             |---|---|---|---|---|---|---|---|---|"
        );
        for target in rows {
            let cell = |of: fn(&Sample) -> f64| {
                let (own, floor) = (self.median(scenario, target, of), self.median(scenario, base, of));
                let digits = if own < 10.0 {
                    2
                } else if own < 100.0 {
                    1
                } else {
                    0
                };
                match own.is_nan() {
                    true => "-".to_owned(),
                    false if floor.is_nan() || *target == base => format!("{own:.digits$}"),
                    false => format!("{own:.digits$} ({:.2})", own / floor),
                }
            };
            let failures: u64 = self
                .samples
                .get(&(scenario, *target))
                .into_iter()
                .flatten()
                .map(|sample| sample.failures)
                .sum();
            let _ = writeln!(
                text,
                "| {target} | {} | {} | {} | {} | {} | {} | {} | {failures} |",
                cell(|sample| sample.per_second),
                cell(|sample| sample.p50_ms),
                cell(|sample| sample.p99_ms),
                cell(|sample| sample.first_p50_ms),
                cell(|sample| sample.first_p99_ms),
                cell(|sample| sample.cpu_us),
                cell(|sample| sample.peak_mib),
            );
        }
        text.push('\n');
    }

    fn goals(&self, text: &mut String) {
        let ratio = |scenario, target, base, of: fn(&Sample) -> f64| {
            self.median(scenario, target, of) / self.median(scenario, base, of)
        };
        let growth = |scenario, target, body: f64| {
            let sample = |of: fn(&Sample) -> f64| self.median(scenario, target, of);
            (sample(|sample| sample.peak_mib) - sample(|sample| sample.before_mib)) / body
        };
        let alone =
            self.median(ALONE, PASSED, |sample| sample.p50_ms) - self.median(ALONE, FLOOR, |sample| sample.p50_ms);
        let size = |name: &str| {
            std::fs::metadata(format!("target/wasm32-wasip2/component/{name}.wasm"))
                .map_or(f64::NAN, |file| file.len() as f64 / 1e6)
        };
        let per_second: fn(&Sample) -> f64 = |sample| sample.per_second;
        let first_p99: fn(&Sample) -> f64 = |sample| sample.first_p99_ms;
        let peak: fn(&Sample) -> f64 = |sample| sample.peak_mib;
        let cpu: fn(&Sample) -> f64 = |sample| sample.cpu_us;
        let goals = [
            (
                "passed through, requests/s of the floor",
                ratio(SINGLE, PASSED, FLOOR, per_second),
                Goal::Least(0.90),
            ),
            (
                "passed through, p50 at 1 connection above the floor, ms",
                alone,
                Goal::Most(0.10),
            ),
            (
                "passed through, first byte p99 of the floor",
                ratio(STREAMS, PASSED, FLOOR, first_p99),
                Goal::Most(1.5),
            ),
            (
                "Gemini, requests/s of the floor",
                ratio(SINGLE, GEMINI, FLOOR, per_second),
                Goal::Least(0.75),
            ),
            (
                "Gemini, streams/s of the floor",
                ratio(EVENTS, GEMINI, FLOOR, per_second),
                Goal::Least(0.70),
            ),
            (
                "Gemini, first byte p99 of the floor",
                ratio(STREAMS, GEMINI, FLOOR, first_p99),
                Goal::Most(2.0),
            ),
            (
                "large pool, requests/s of a pool of 10",
                ratio(SINGLE, LARGE_POOL, SMALL_POOL, per_second),
                Goal::Least(0.90),
            ),
            (
                "large pool, p99 of a pool of 10",
                ratio(SINGLE, LARGE_POOL, SMALL_POOL, |sample| sample.p99_ms),
                Goal::Most(1.10),
            ),
            (
                "adding the large pool's keys, s",
                self.added.map_or(f64::NAN, |(_, seconds)| seconds),
                Goal::Most(10.0),
            ),
            (
                "the administrator's first page of them, ms",
                self.first_page_ms.unwrap_or(f64::NAN),
                Goal::Most(50.0),
            ),
            (
                "30 % limited, requests/s of a healthy pool",
                ratio(SINGLE, LIMITED, PASSED, per_second),
                Goal::Least(0.85),
            ),
            (
                "memory at 64 connections of the floor",
                ratio(SINGLE, PASSED, FLOOR, peak),
                Goal::Most(1.3),
            ),
            (
                "memory at 1,000 streams of the floor",
                ratio(THOUSAND, PASSED, FLOOR, peak),
                Goal::Most(1.3),
            ),
            (
                "memory at 1,000 streams of the floor, Gemini",
                ratio(THOUSAND, GEMINI, FLOOR, peak),
                Goal::Most(1.3),
            ),
            ("the component, MB", size("keystorm"), Goal::Most(1.2)),
            (
                "an instance, CPU of the floor's",
                ratio(INSTANCES, COLD, FLOOR_COLD, cpu),
                Goal::Most(1.2),
            ),
            (
                "memory for a prompt of 1 MiB, of its size",
                growth(MEGABYTE, PASSED, 1.0),
                Goal::Most(3.0),
            ),
            (
                "memory for a prompt of 20 MiB, of its size",
                growth(TWENTY, PASSED, 20.0),
                Goal::Most(3.0),
            ),
            (
                "memory for a prompt of 20 MiB, of its size, Gemini",
                growth(TWENTY, GEMINI, 20.0),
                Goal::Most(3.0),
            ),
        ];
        let measured: Vec<_> = goals.iter().filter(|(_, value, _)| !value.is_nan()).collect();
        if measured.is_empty() {
            return;
        }
        text.push_str("| goal | wanted | measured | met |\n|---|---|---|---|\n");
        for (name, value, goal) in measured {
            let (sign, bound, met) = match goal {
                Goal::Least(bound) => ("≥", bound, value >= bound),
                Goal::Most(bound) => ("≤", bound, value <= bound),
            };
            let met = if met { "yes" } else { "no" };
            let _ = writeln!(text, "| {name} | {sign} {bound:.2} | {value:.2} | {met} |");
        }
        if let Some((keys, _)) = self.added {
            let _ = writeln!(text, "\nThe large pool has {keys} keys.");
        }
        text.push('\n');
    }

    fn median(&self, scenario: &'static str, target: &'static str, of: impl Fn(&Sample) -> f64) -> f64 {
        let Some(samples) = self.samples.get(&(scenario, target)) else {
            return f64::NAN;
        };
        let mut values: Vec<_> = samples.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get((values.len() - 1) / 2).copied().unwrap_or(f64::NAN)
    }
}

/// What a figure is held against.
enum Goal {
    Least(f64),
    Most(f64),
}
