//! Mixed traffic for a long time, while keys fail and recover: no wrong answer, no leak of memory or descriptors, no slowing
//! down. It drives a KeyStorm that runs already, over `mock-upstream`, and prints what it found as Markdown.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a command-line program tells what it found, and measures time"
)]

mod client;
mod process;
mod traffic;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::Parser;
use tokio::task::JoinSet;

use crate::{
    client::Client,
    process::Process,
    traffic::{Score, Worker},
};

/// What to drive, how hard and for how long.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Options {
    /// Where KeyStorm listens, as `host:port`.
    #[arg(long)]
    target: String,
    /// Where the mock upstream listens, as `host:port`.
    #[arg(long)]
    upstream: String,
    /// The process of KeyStorm's host.
    #[arg(long)]
    pid: u32,
    /// An access key.
    #[arg(long, env = "SOAK_ACCESS_KEY", hide_env_values = true)]
    access_key: String,
    /// The administrator's key.
    #[arg(long, env = "SOAK_ADMIN_KEY", hide_env_values = true)]
    admin_key: String,
    /// How long the mixed traffic lasts, in seconds.
    #[arg(long, default_value_t = 90)]
    seconds: u64,
    /// Which part of the measured limit is asked for, in percent.
    #[arg(long, default_value_t = 70)]
    load: u64,
    /// Connections.
    #[arg(long, default_value_t = 64)]
    connections: u64,
    /// Streams at once, behind the mixed traffic.
    #[arg(long, default_value_t = 200)]
    streams: u64,
    /// How long each of them lasts, in seconds.
    #[arg(long, default_value_t = 10)]
    stream_seconds: u64,
    /// How far the last quarter may be from the first, in percent.
    #[arg(long, default_value_t = 10)]
    tolerance: u64,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let options = Options::parse();
    let process = Process(options.pid);
    let keys = traffic::add_keys(&options).await?;
    println!("# Soak\n\n{} keys, {} connections\n", keys.len(), options.connections);

    run(&options, Duration::from_secs(5), None).await?;
    let measured = Duration::from_secs(10);
    let limit = run(&options, measured, None).await?;
    let limit = limit.requests as f64 / measured.as_secs_f64();
    let rate = limit * options.load as f64 / 100.0;
    println!("limit {limit:.0} requests/s, asked for {rate:.0}/s\n");

    // Keys fail and recover while the traffic goes on.
    let over = Arc::<AtomicBool>::default();
    let faults = tokio::spawn(traffic::faults(options.clone(), keys.clone(), Arc::clone(&over)));
    let quarter = Duration::from_secs(options.seconds) / 4;
    println!("| quarter | requests | /s | p50 ms | p99 ms | refused | wrong | resident MB | descriptors |");
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut quarters = Vec::new();
    for number in 1..=4 {
        let watched = process.watch();
        let score = run(&options, quarter, Some(rate)).await?;
        let (resident, descriptors) = watched.averages()?;
        println!(
            "| {number} | {} | {:.0} | {:.1} | {:.1} | {} | {} | {resident:.0} | {descriptors:.0} |",
            score.requests,
            score.requests as f64 / quarter.as_secs_f64(),
            score.percentile(50),
            score.percentile(99),
            score.refused,
            score.wrong.len(),
        );
        quarters.push((score, resident, descriptors));
    }
    over.store(true, Relaxed);
    faults.await??;

    let started = Instant::now();
    let whole = streams(&options).await?;
    let took = started.elapsed().as_secs_f64();
    let (resident, descriptors) = (process.resident()?, process.descriptors()?);
    println!(
        "\n{whole} of {} streams of {} s at once came whole, in {took:.1} s; afterwards {resident:.0} MB resident, {descriptors:.0} descriptors",
        options.streams, options.stream_seconds
    );

    let mut failures = Vec::new();
    for (score, ..) in &quarters {
        failures.extend(score.wrong.iter().cloned());
        failures.extend(score.refusals.iter().take(5).cloned());
    }
    if whole < options.streams {
        failures.push(format!("{} streams did not come whole", options.streams - whole));
    }
    if let (Some((first_score, first, first_descriptors)), Some((last_score, last, last_descriptors))) =
        (quarters.first(), quarters.last())
    {
        let allowed = 1.0 + options.tolerance as f64 / 100.0;
        // A few megabytes and connections more or less are no leak.
        if *last > first * allowed + 4.0 {
            failures.push(format!("memory grew from {first:.0} MB to {last:.0} MB"));
        }
        if *last_descriptors > first_descriptors * allowed + 8.0 {
            failures.push(format!(
                "descriptors grew from {first_descriptors:.0} to {last_descriptors:.0}"
            ));
        }
        // Less than was asked for is what a machine gives that has other work, now less and now more; half of what it was is not.
        if last_score.requests * 2 < first_score.requests {
            failures.push(format!(
                "the last quarter had {} requests, the first {}",
                last_score.requests, first_score.requests
            ));
        }
    }
    if !failures.is_empty() {
        failures.truncate(20);
        bail!("the soak has failed:\n{}", failures.join("\n"));
    }
    Ok(())
}

/// Runs the mixed traffic for a while: as fast as it goes, or at a rate.
async fn run(options: &Options, duration: Duration, rate: Option<f64>) -> Result<Score> {
    let until = Instant::now() + duration;
    let pause = rate.map(|rate| Duration::from_secs_f64(options.connections as f64 / rate));
    let mut workers = JoinSet::new();
    for number in 0..options.connections {
        workers.spawn(Worker::new(options.clone(), number).run(until, pause));
    }
    let mut all = Score::default();
    while let Some(score) = workers.join_next().await {
        all.merge(score?);
    }
    Ok(all)
}

/// Many long streams at once; how many came whole.
async fn streams(options: &Options) -> Result<u64> {
    let mut streams = JoinSet::new();
    for number in 0..options.streams {
        let options = options.clone();
        streams.spawn(async move {
            // Not all in the same moment: a backlog of connections is another test.
            tokio::time::sleep(Duration::from_millis(number % 1000)).await;
            traffic::long_stream(&Client::new(&options.target), &options).await
        });
    }
    let mut whole = 0;
    while let Some(stream) = streams.join_next().await {
        match stream? {
            Ok(()) => whole += 1,
            Err(error) => println!("\na stream broke: {error:#}"),
        }
    }
    Ok(whole)
}
