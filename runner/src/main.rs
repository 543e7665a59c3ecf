//! The command line, with the names that Spin's has.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Result;
use clap::{Parser, Subcommand};
use keystorm_runner::{Options, app, manifest::Manifest};
use tokio::signal::unix::{SignalKind, signal};

/// Runs a Spin application where Spin itself is not installed.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the application.
    Up(Up),
    /// Runs the build commands of the manifest.
    Build {
        /// The manifest.
        #[arg(short, long = "from", default_value = "spin.toml")]
        file: PathBuf,
    },
}

#[derive(Parser)]
struct Up {
    /// The manifest.
    #[arg(short, long = "from", default_value = "spin.toml")]
    file: PathBuf,
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// NAME=VALUE, NAME=@FILE, or @FILE.toml or @FILE.json with many. Repeatable.
    #[arg(long = "variable")]
    variables: Vec<String>,
    /// Where the databases are, and how calls go out.
    #[arg(long)]
    runtime_config_file: Option<PathBuf>,
    /// Where state is kept; `.spin` beside the manifest by default.
    #[arg(long)]
    state_dir: Option<PathBuf>,
    /// Run the manifest's build commands first.
    #[arg(long)]
    build: bool,
    /// Whether small writes leave at once. Spin leaves Nagle's algorithm on; `false` does so too.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    tcp_nodelay: bool,
    /// Requests that one instance serves in all.
    #[arg(long, default_value_t = 128)]
    max_instance_reuse_count: usize,
    /// Requests that one instance serves at once.
    #[arg(long, default_value_t = 16)]
    max_instance_concurrent_reuse_count: usize,
    /// Seconds of quiet after which an instance is dropped.
    #[arg(long, default_value_t = 1.0)]
    idle_instance_timeout: f64,
}

#[tokio::main]
async fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Build { file } => app::build(&Manifest::read(&file)?),
        Command::Up(up) => run(up).await,
    }
}

async fn run(up: Up) -> Result<()> {
    let options = Options {
        listen: up.listen,
        variables: up.variables,
        runtime_config: up.runtime_config_file,
        state_dir: up.state_dir,
        build: up.build,
        tcp_nodelay: up.tcp_nodelay,
        reuse: app::Reuse {
            total: up.max_instance_reuse_count,
            concurrent: up.max_instance_concurrent_reuse_count,
            idle: Duration::try_from_secs_f64(up.idle_instance_timeout)?,
        },
        ..Options::new(up.file)
    };
    let running = keystorm_runner::start(&options).await?;
    eprintln!("Serving http://{} (Ctrl-C stops)", running.address());
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminated.recv() => {}
    }
    eprintln!(
        "Stopping: requests that are under way have {} s to finish.",
        options.grace.as_secs()
    );
    running.stop().await;
    Ok(())
}
