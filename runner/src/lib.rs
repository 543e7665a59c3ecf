//! Runs a Spin application where Spin itself is not installed: the http trigger of a manifest of version 2, with the
//! interfaces that its components import. As a library it is the tests' host too.

#![allow(
    clippy::disallowed_methods,
    reason = "the list keeps clock and environment out of the core; this program is what provides them"
)]

pub mod allowed_hosts;
pub mod app;
mod clock;
pub mod host;
pub mod manifest;
pub mod runtime_config;
mod server;
pub mod variables;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use anyhow::Result;
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    app::{App, Reuse},
    host::{Calls, Faults},
    server::Server,
};

/// What to run and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The manifest.
    pub manifest: PathBuf,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Variables, as the flag `--variable` takes them.
    pub variables: Vec<String>,
    /// runtime-config.toml
    pub runtime_config: Option<PathBuf>,
    /// Where state is kept; `.spin` beside the manifest by default.
    pub state_dir: Option<PathBuf>,
    /// Whether the manifest's build commands are run first.
    pub build: bool,
    /// Whether small writes leave at once, on either side.
    pub tcp_nodelay: bool,
    /// How long instances are used.
    pub reuse: Reuse,
    /// How long requests that are under way may take once it stops.
    pub grace: Duration,
}

impl Options {
    /// Runs this manifest as `spin up` would.
    pub fn new(manifest: impl Into<PathBuf>) -> Self {
        Self {
            manifest: manifest.into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 3000)),
            variables: Vec::new(),
            runtime_config: None,
            state_dir: None,
            build: false,
            tcp_nodelay: true,
            reuse: Reuse::default(),
            grace: Duration::from_secs(10),
        }
    }
}

/// An application that runs.
pub struct Running {
    app: Arc<App>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

/// Starts an application; it serves when this returns.
pub async fn start(options: &Options) -> Result<Running> {
    let app = Arc::new(App::load(options).await?);
    let server = Server::bind(options.listen, options.tcp_nodelay, Arc::clone(&app)).await?;
    let address = server.address();
    let (stop, stopped) = watch::channel(false);
    let server = tokio::spawn(server.serve(stopped, options.grace));
    Ok(Running {
        app,
        address,
        stop,
        server,
    })
}

impl Running {
    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What tests make go wrong.
    pub fn faults(&self) -> &Faults {
        &self.app.faults
    }

    /// What components have called.
    pub fn calls(&self) -> &Calls {
        &self.app.calls
    }

    /// Stops: no new connections, and a while for the requests that are under way.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.server.await;
        self.app.stopping.store(true, Relaxed);
    }
}
