//! The situations in which every target is measured.

use std::time::Duration;

use anyhow::Result;

use crate::{
    COLD, FLOOR, FLOOR_COLD, GEMINI, LARGE_POOL, LIMITED, PASSED, SMALL_POOL,
    load::{self, Load, percentile},
    targets::Target,
};

/// A situation.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    connections: usize,
    /// Events, and milliseconds between them.
    stream: Option<(u64, u64)>,
    /// The prompt's bytes; a short one when 0.
    prompt: usize,
    /// Of the time that a measurement takes.
    length: f64,
    /// Measured in the first round alone.
    pub(crate) once: bool,
    who: Who,
}

/// Which targets are measured so.
enum Who {
    /// All that serve at their usual pace.
    All,
    /// Those and the pools of other sizes.
    Pools,
    /// What runs on the host.
    Host,
    /// Those that have an instance for each request.
    Cold,
}

/// All situations.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        connections: 64,
        who: Who::Pools,
        ..Scenario::named(SINGLE)
    },
    Scenario {
        connections: 1,
        length: 0.5,
        ..Scenario::named(ALONE)
    },
    Scenario {
        connections: 200,
        stream: Some((20, 20)),
        length: 1.5,
        ..Scenario::named(STREAMS)
    },
    Scenario {
        connections: 64,
        stream: Some((50, 1)),
        ..Scenario::named(EVENTS)
    },
    Scenario {
        connections: 16,
        who: Who::Cold,
        length: 0.5,
        ..Scenario::named(INSTANCES)
    },
    Scenario {
        connections: 1000,
        stream: Some((20, 100)),
        length: 1.5,
        once: true,
        who: Who::Host,
        ..Scenario::named(THOUSAND)
    },
    Scenario {
        connections: 1,
        prompt: 1 << 20,
        once: true,
        who: Who::Host,
        ..Scenario::named(MEGABYTE)
    },
    Scenario {
        connections: 1,
        prompt: 20 << 20,
        once: true,
        who: Who::Host,
        ..Scenario::named(TWENTY)
    },
];

/// The names of the models that are asked for.
pub(crate) fn models() -> Vec<String> {
    let mut models: Vec<_> = SCENARIOS
        .iter()
        .map(|scenario| scenario.stream.unwrap_or((1, 0)))
        .map(|(events, apart)| format!("gpt-load-{events}-{apart}"))
        .collect();
    models.sort();
    models.dedup();
    models
}

/// One measurement.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) first_p50_ms: f64,
    pub(crate) first_p99_ms: f64,
    /// CPU of the target alone, for each answer.
    pub(crate) cpu_us: f64,
    /// The most memory while it ran.
    pub(crate) peak_mib: f64,
    /// And before.
    pub(crate) before_mib: f64,
    pub(crate) failures: u64,
    pub(crate) failure: Option<String>,
}

impl Scenario {
    const fn named(name: &'static str) -> Self {
        Self {
            name,
            connections: 1,
            stream: None,
            prompt: 0,
            length: 1.0,
            once: false,
            who: Who::All,
        }
    }

    /// Whether a target is measured so.
    pub(crate) fn is_for(&self, target: &Target) -> bool {
        let pool = [SMALL_POOL, LARGE_POOL, LIMITED].contains(&target.name);
        let cold = [FLOOR_COLD, COLD].contains(&target.name);
        match self.who {
            Who::All => !pool && !cold,
            Who::Pools => !cold,
            Who::Host => [FLOOR, PASSED, GEMINI].contains(&target.name),
            Who::Cold => cold,
        }
    }

    /// Measures a target.
    pub(crate) async fn measure(&self, target: &Target, scale: Duration) -> Result<Sample> {
        let shot = match self.who {
            Who::Cold => target.health(),
            _ => target.chat(self.stream, self.prompt),
        };
        let one = self
            .stream
            .map_or(Duration::ZERO, |(events, apart)| Duration::from_millis(events * apart));
        let load = Load {
            connections: self.connections,
            spread: one,
            // A limited pool has a second to find out who is limited.
            warm_up: scale.mul_f64(0.25).max(one * 2).max(match target.name {
                LIMITED => Duration::from_millis(1500),
                _ => Duration::ZERO,
            }),
            measured: scale.mul_f64(self.length).max(one * 2),
        };
        let server = target.server.as_ref();
        let before_mib = server.map_or(f64::NAN, |server| {
            server.reset_peak();
            server.resident_mib()
        });
        let (mut begun, mut ended) = (f64::NAN, f64::NAN);
        let cpu = || server.map_or(f64::NAN, crate::process::Server::cpu);
        let figures = load::run(target.address, &shot, load, || begun = cpu(), || ended = cpu()).await?;
        Ok(Sample {
            per_second: figures.per_second(),
            p50_ms: percentile(&figures.whole_ms, 50.0),
            p99_ms: percentile(&figures.whole_ms, 99.0),
            first_p50_ms: percentile(&figures.first_ms, 50.0),
            first_p99_ms: percentile(&figures.first_ms, 99.0),
            cpu_us: (ended - begun) * 1e6 / figures.answers as f64,
            peak_mib: server.map_or(f64::NAN, crate::process::Server::peak_mib),
            before_mib,
            failures: figures.failures,
            failure: figures.failure,
        })
    }
}

pub(crate) const SINGLE: &str = "64 connections";
pub(crate) const ALONE: &str = "1 connection";
pub(crate) const STREAMS: &str = "200 streams of 20 events, 20 ms apart";
pub(crate) const EVENTS: &str = "64 streams of 50 events, 1 ms apart";
pub(crate) const INSTANCES: &str = "an instance for each request";
pub(crate) const THOUSAND: &str = "1,000 streams of 20 events, 100 ms apart";
pub(crate) const MEGABYTE: &str = "a prompt of 1 MiB";
pub(crate) const TWENTY: &str = "a prompt of 20 MiB";
