//! Measures KeyStorm beside what it could be: the upstream alone, and a component that only forwards. All targets run over the
//! same mock upstream, take turns, and are measured several times; the report says the medians, and how busy the machine was
//! with other things.

#![allow(clippy::print_stdout, reason = "a command-line program that prints its report")]
#![allow(
    clippy::disallowed_methods,
    reason = "the list keeps the clock out of the component; this program measures time"
)]

mod load;
mod process;
mod report;
mod scenarios;
mod targets;

use std::{net::SocketAddr, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Parser;

use crate::{
    process::{Server, free_address},
    report::Report,
    scenarios::{SCENARIOS, Scenario},
    targets::Target,
};

/// Measures KeyStorm against a component that only forwards.
#[derive(Parser)]
struct Cli {
    /// The host: any program that takes the arguments of `spin up`.
    #[arg(long, default_value = "target/release/keystorm-runner")]
    host: PathBuf,
    /// One more argument for the host. Repeatable.
    #[arg(long = "host-arg", allow_hyphen_values = true)]
    host_arguments: Vec<String>,
    /// How often everything is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds that one measurement takes.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// How many requests an instance serves.
    #[arg(long, default_value_t = 128)]
    reuse: usize,
    /// How many keys the large pool has.
    #[arg(long, default_value_t = 100_000)]
    keys: usize,
    /// Only targets with this in their name. Repeatable.
    #[arg(long)]
    target: Vec<String>,
    /// Only scenarios with this in their name. Repeatable.
    #[arg(long)]
    scenario: Vec<String>,
    /// Measure nginx, Portkey and LiteLLM too, where they are installed.
    #[arg(long)]
    peers: bool,
    /// See in a few seconds that all of it works; fails when an answer does.
    #[arg(long)]
    smoke: bool,
}

/// What targets need to know to be started.
pub(crate) struct Settings {
    pub(crate) host: PathBuf,
    pub(crate) host_arguments: Vec<String>,
    /// Where state and logs are kept.
    pub(crate) folder: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut cli = Cli::parse();
    if cli.smoke {
        cli.rounds = 1;
        cli.seconds = 0.2;
        cli.keys = 1000;
        cli.scenario = [
            scenarios::SINGLE,
            scenarios::EVENTS,
            scenarios::INSTANCES,
            scenarios::MEGABYTE,
        ]
        .map(str::to_owned)
        .to_vec();
    }
    let folder = std::env::temp_dir().join(format!("keystorm-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let settings = Settings {
        host: cli.host.clone(),
        host_arguments: cli.host_arguments.clone(),
        folder: folder.clone(),
    };
    let result = bench(&cli, &settings).await;
    match result {
        // Logs are worth having when something went wrong.
        Ok(()) => std::fs::remove_dir_all(&folder)?,
        Err(_) => eprintln!("The logs are in {}.", folder.display()),
    }
    result
}

async fn bench(cli: &Cli, settings: &Settings) -> Result<()> {
    let upstream = Upstream::start(settings)?;
    let mut report = Report::new(&cli.host);
    let wanted = |name: &str| cli.target.is_empty() || cli.target.iter().any(|part| name.contains(part.as_str()));
    let targets = start(cli, settings, upstream.address, &wanted, &mut report).await?;
    let scenarios: Vec<&Scenario> = SCENARIOS
        .iter()
        .filter(|scenario| {
            cli.scenario.is_empty() || cli.scenario.iter().any(|part| scenario.name.contains(part.as_str()))
        })
        .collect();
    let scale = Duration::from_secs_f64(cli.seconds);
    for round in 0..cli.rounds {
        for scenario in &scenarios {
            // What takes much memory comes last: a process that has had it is slower and larger for good.
            if scenario.once && round + 1 < cli.rounds {
                continue;
            }
            for target in targets.iter().filter(|target| scenario.is_for(target)) {
                let sample = scenario
                    .measure(target, scale)
                    .await
                    .with_context(|| format!("{}: {}", target.name, scenario.name))?;
                if let Some(failure) = &sample.failure {
                    eprintln!(
                        "{}, {}: {} failures: {failure}",
                        target.name, scenario.name, sample.failures
                    );
                }
                report.add(target.name, scenario.name, sample);
            }
        }
    }
    println!("{}", report.markdown());
    if cli.smoke && report.failures() > 0 {
        bail!("some requests failed");
    }
    Ok(())
}

/// Starts the targets and fills their pools.
async fn start(
    cli: &Cli,
    settings: &Settings,
    upstream: SocketAddr,
    wanted: &impl Fn(&str) -> bool,
    report: &mut Report,
) -> Result<Vec<Target>> {
    // Whichever process compiles a component first keeps the memory that it took for it.
    drop(Target::keystorm(settings, "compiled", upstream, cli.reuse)?);
    let mut targets = Vec::new();
    if wanted(DIRECT) {
        targets.push(Target::direct(upstream));
    }
    for (name, reuse) in [(FLOOR, cli.reuse), (FLOOR_COLD, 1)] {
        if wanted(name) {
            targets.push(Target::floor(settings, name, upstream, reuse)?);
        }
    }
    for pool in [
        Pool {
            name: PASSED,
            good: 50,
            limited: 0,
            reuse: cli.reuse,
        },
        Pool {
            name: GEMINI,
            good: 50,
            limited: 0,
            reuse: cli.reuse,
        },
        Pool {
            name: SMALL_POOL,
            good: 10,
            limited: 0,
            reuse: cli.reuse,
        },
        Pool {
            name: LARGE_POOL,
            good: cli.keys,
            limited: 0,
            reuse: cli.reuse,
        },
        Pool {
            name: LIMITED,
            good: 35,
            limited: 15,
            reuse: cli.reuse,
        },
        Pool {
            name: COLD,
            good: 50,
            limited: 0,
            reuse: 1,
        },
    ] {
        // A pool that answers 429 for a while proves nothing in half a second.
        if !wanted(pool.name) || (cli.smoke && pool.limited > 0) {
            continue;
        }
        let mut target = Target::keystorm(settings, pool.name, upstream, pool.reuse)?;
        if pool.name == GEMINI {
            target = target.with_gemini();
        }
        let seconds = target.add_keys(pool.good, pool.limited).await?;
        if pool.name == LARGE_POOL {
            report.keys_added(pool.good, seconds);
            report.first_page(first_page(&target).await?);
        }
        targets.push(target);
    }
    if cli.peers {
        targets.extend(targets::peers(settings, upstream, &scenarios::models())?);
    }
    Ok(targets)
}

struct Pool {
    name: &'static str,
    good: usize,
    limited: usize,
    reuse: usize,
}

/// Milliseconds that the first page of the administrator's keys takes: the median of seven.
async fn first_page(target: &Target) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..7 {
        let began = std::time::Instant::now();
        target
            .admin("GET", "/api/keys?page=1&pageSize=50&mask=true", bytes::Bytes::new())
            .await?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok(load::percentile(&times, 50.0))
}

/// The mock upstream, in a process of its own.
struct Upstream {
    address: SocketAddr,
    _server: Server,
}

impl Upstream {
    fn start(settings: &Settings) -> Result<Self> {
        let program = std::env::current_exe()?.with_file_name("load-upstream");
        let address = free_address()?;
        let mut command = Command::new(program);
        command.arg(address.to_string());
        let server = Server::start(&mut command, address, &settings.folder.join("upstream.log"))?;
        Ok(Self {
            address,
            _server: server,
        })
    }
}

const DIRECT: &str = "direct";
const FLOOR: &str = "floor";
const FLOOR_COLD: &str = "floor, an instance each";
const PASSED: &str = "passed through";
const GEMINI: &str = "Gemini";
const SMALL_POOL: &str = "pool of 10";
const LARGE_POOL: &str = "large pool";
const LIMITED: &str = "30 % limited";
const COLD: &str = "KeyStorm, an instance each";
