//! An application: its components, compiled and ready, and which of them answers a path.

use std::{
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
    pin::Pin,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use futures::FutureExt as _;
use wasmtime::{
    Cache, Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store, StoreContextMut,
    component::{Component, GuestTaskId, Linker},
};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi_http::{
    WasiHttpView,
    handler::{
        HandlerState, Instance, ProxyHandler, ProxyPre, ShouldAccept, WorkerExpiration, WorkerState, WorkerStatus,
    },
    p2,
    p3::bindings::ServicePre,
};

use crate::{
    Options,
    allowed_hosts::AllowedHosts,
    clock,
    host::{
        self, Calls, Faults, Shared, State,
        http::{Network, Outbound},
        key_value, libsql, sqlite,
    },
    manifest::Manifest,
    runtime_config::{Place, RuntimeConfig},
    variables::{self, Sources},
};

/// A loaded application.
pub struct App {
    routes: Vec<Route>,
    /// What tests make go wrong.
    pub faults: Arc<Faults>,
    /// What components have called.
    pub calls: Arc<Calls>,
    /// Whether the runner is about to end.
    pub stopping: Arc<AtomicBool>,
}

/// A route and the component behind it.
pub struct Route {
    /// As in the manifest.
    pub raw: String,
    /// The path, without the ending of a prefix route.
    path: String,
    is_prefix: bool,
    /// The component's id.
    pub component: String,
    /// Its instances.
    pub handler: ProxyHandler<Instances>,
}

impl App {
    /// Reads, checks and compiles all that the manifest names.
    pub async fn load(options: &Options) -> Result<Self> {
        let manifest = Manifest::read(&options.manifest)?;
        if options.build {
            build(&manifest)?;
        }
        let config = match &options.runtime_config {
            Some(path) => RuntimeConfig::read(path)?,
            None => RuntimeConfig::default(),
        };
        let mut sources = Sources::default();
        sources.push(variables::from_flags(&options.variables)?);
        config
            .variables(&manifest.folder)
            .into_iter()
            .for_each(|layer| sources.push(layer));
        sources.push(variables::from_environment(&manifest.folder, "SPIN_VARIABLE"));
        let values = sources.resolve(&manifest)?;

        let state_dir = options.state_dir.clone().or_else(|| config.state_dir.clone());
        let state_dir = state_dir.unwrap_or_else(|| manifest.folder.join(".spin"));
        // It holds credentials: nobody else on this machine is to read them.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&state_dir)
            .with_context(|| format!("cannot make {}", state_dir.display()))?;
        let key_value = Arc::new(match config.key_value(&state_dir) {
            Place::File(path) => key_value::Store::file(&path)?,
            Place::Server(url, _) => key_value::Store::redis(&url).await?,
        });
        let roots: Vec<PathBuf> = config.client_tls.iter().map(|tls| tls.ca_roots_file.clone()).collect();
        let block_private = !config.outbound_networking.block_networks.is_empty();
        let network = Arc::new(Network::new(
            config.outbound_http.connection_pooling,
            options.tcp_nodelay,
            block_private,
            &roots,
        )?);

        let sqlite = match config.sqlite(&state_dir) {
            Place::File(path) => sqlite::Source::File(path),
            Place::Server(url, token) => {
                sqlite::Source::Libsql(Arc::new(libsql::Database::new(&url, &token, network.tls())?))
            }
        };

        let engine = engine()?;
        let stopping = Arc::<AtomicBool>::default();
        let (faults, calls) = (Arc::<Faults>::default(), Arc::<Calls>::default());
        let mut handlers = std::collections::BTreeMap::new();
        for (id, component) in &manifest.component {
            let expand =
                |template: &String| variables::expand(template, &values).with_context(|| format!("component {id:?}"));
            let allowed = component
                .allowed_outbound_hosts
                .iter()
                .map(expand)
                .collect::<Result<Vec<_>>>()?;
            let allowed = AllowedHosts::parse(allowed.iter().map(String::as_str))
                .with_context(|| format!("component {id:?}: allowed_outbound_hosts"))?;
            let variables = component.variables.iter();
            let shared = Arc::new(Shared {
                variables: variables
                    .map(|(name, template)| Ok((name.clone(), expand(template)?)))
                    .collect::<Result<_>>()?,
                sqlite: (!component.sqlite_databases.is_empty()).then(|| sqlite.clone()),
                key_value: (!component.key_value_stores.is_empty()).then(|| Arc::clone(&key_value)),
                outbound: Outbound::new(allowed, Arc::clone(&network)),
                faults: Arc::clone(&faults),
                calls: Arc::clone(&calls),
            });
            let path = manifest.folder.join(&component.source);
            let pre = prepare(&engine, &path).with_context(|| format!("component {id:?} ({})", path.display()))?;
            handlers.insert(
                id.clone(),
                ProxyHandler::new(Instances {
                    engine: engine.clone(),
                    pre,
                    shared,
                    reuse: options.reuse,
                    stopping: Arc::clone(&stopping),
                }),
            );
        }
        let mut routes: Vec<_> = manifest
            .trigger
            .http
            .iter()
            .filter_map(|trigger| {
                let path = trigger.route.strip_suffix("/...");
                Some(Route {
                    raw: trigger.route.clone(),
                    path: path.unwrap_or(&trigger.route).to_owned(),
                    is_prefix: path.is_some(),
                    component: trigger.component.clone(),
                    handler: handlers.get(&trigger.component)?.clone(),
                })
            })
            .collect();
        // The longest path wins, and an exact one before a prefix of the same length.
        routes.sort_by_key(|route| (std::cmp::Reverse(route.path.len()), route.is_prefix));
        Ok(Self {
            routes,
            faults,
            calls,
            stopping,
        })
    }

    /// The route of a path, and the rest of the path behind a prefix.
    pub fn route<'a>(&self, path: &'a str) -> Option<(&Route, &'a str)> {
        self.routes.iter().find_map(|route| {
            if !route.is_prefix {
                let slashless = path.strip_suffix('/').unwrap_or(path);
                return (path == route.path || (slashless == route.path && !slashless.is_empty()))
                    .then_some((route, ""));
            }
            let rest = path.strip_prefix(&route.path)?;
            (rest.is_empty() || rest.starts_with('/')).then_some((route, rest))
        })
    }
}

/// Runs the manifest's build commands.
pub fn build(manifest: &Manifest) -> Result<()> {
    for (id, component) in &manifest.component {
        let Some(build) = &component.build else { continue };
        let folder = build
            .workdir
            .as_ref()
            .map_or_else(|| manifest.folder.clone(), |below| manifest.folder.join(below));
        eprintln!("Building {id}: {}", build.command);
        let status = Command::new("sh")
            .args(["-c", &build.command])
            .current_dir(folder)
            .status()?;
        if !status.success() {
            bail!("building component {id:?} failed: {status}");
        }
    }
    Ok(())
}

/// How long an instance is used.
#[derive(Clone, Copy, Debug)]
pub struct Reuse {
    /// Requests in all.
    pub total: usize,
    /// Requests at once.
    pub concurrent: usize,
    /// Quiet after which it is dropped.
    pub idle: Duration,
}

impl Default for Reuse {
    fn default() -> Self {
        Self {
            total: 128,
            concurrent: 16,
            idle: Duration::from_secs(1),
        }
    }
}

fn engine() -> Result<Engine> {
    let mut config = Config::new();
    config.wasm_component_model(true);
    config.wasm_component_model_async(true);
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(MAX_INSTANCES)
        .total_core_instances(MAX_INSTANCES)
        .total_memories(MAX_INSTANCES);
    pool.total_tables(MAX_INSTANCES * 2).total_stacks(MAX_INSTANCES);
    pool.max_memory_size(1 << 30).table_elements(100_000);
    pool.max_core_instances_per_component(200)
        .max_tables_per_component(20)
        .max_component_instance_size(1 << 20);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    // Compiling takes seconds; a component that has not changed is compiled once on a machine.
    if let Ok(cache) = Cache::from_file(None) {
        config.cache(Some(cache));
    }
    Ok(Engine::new(&config)?)
}

/// Compiles a component; what it exports tells which WASI it is of.
fn prepare(engine: &Engine, path: &std::path::Path) -> Result<Arc<ProxyPre<State>>> {
    if !path.exists() {
        bail!("the file does not exist: build it first (--build)");
    }
    let component = Component::from_file(engine, path)?;
    let mut linker = Linker::new(engine);
    host::add_to_linker(&mut linker)?;
    let pre = linker.instantiate_pre(&component)?;
    let exports = component.component_type();
    let is_older = exports
        .exports(engine)
        .any(|(name, _)| name.starts_with("wasi:http/incoming-handler@0.2"));
    Ok(Arc::new(if is_older {
        ProxyPre::P2(p2::bindings::ProxyPre::new(pre)?)
    } else {
        ProxyPre::P3(ServicePre::new(pre)?)
    }))
}

/// The instances of one component.
pub struct Instances {
    engine: Engine,
    pre: Arc<ProxyPre<State>>,
    shared: Arc<Shared>,
    reuse: Reuse,
    stopping: Arc<AtomicBool>,
}

impl HandlerState for Instances {
    type StoreData = State;
    type WorkerExpiration = Expiration;
    type WorkerState = Worker;

    async fn instantiate(&self) -> wasmtime::Result<Instance<State, Expiration, Worker>> {
        let mut wasi = WasiCtxBuilder::new();
        wasi.inherit_stdout().inherit_stderr();
        wasi.wall_clock(clock::Moved(Arc::clone(&self.shared.faults)));
        let mut store = Store::new(&self.engine, State::new(Arc::clone(&self.shared), wasi.build()));
        let proxy = self.pre.instantiate_async(&mut store).await?;
        let reuse = match &*self.pre {
            // As on Spin, an instance of WASI 0.2 serves one request.
            ProxyPre::P2(_) => Reuse {
                total: 1,
                concurrent: 1,
                ..self.reuse
            },
            ProxyPre::P3(_) => self.reuse,
        };
        let timer = Box::pin(tokio::time::sleep(self.reuse.idle));
        Ok(Instance {
            store,
            proxy,
            view: WasiHttpView::http,
            expiration: Expiration {
                idle: self.reuse.idle,
                timer,
            },
            state: Worker {
                reuse,
                stopping: Arc::clone(&self.stopping),
            },
        })
    }
}

/// Drops an instance after some quiet.
pub struct Expiration {
    idle: Duration,
    timer: Pin<Box<tokio::time::Sleep>>,
}

impl WorkerExpiration for Expiration {
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>, status: WorkerStatus, start: Instant) -> Poll<()> {
        if status != WorkerStatus::Idle {
            return Poll::Pending;
        }
        let deadline = (start + self.idle).into();
        if deadline != self.timer.deadline() {
            self.timer.as_mut().reset(deadline);
        }
        self.timer.poll_unpin(context)
    }
}

/// Says how many requests an instance takes.
pub struct Worker {
    reuse: Reuse,
    stopping: Arc<AtomicBool>,
}

impl WorkerState for Worker {
    type StoreData = State;
    type RequestData = ();

    fn should_accept_request(&self, concurrent: usize, total: usize) -> ShouldAccept {
        if total >= self.reuse.total {
            ShouldAccept::Never
        } else if concurrent >= self.reuse.concurrent {
            ShouldAccept::No
        } else {
            ShouldAccept::Yes
        }
    }

    fn on_request_start(
        &self,
        _: StoreContextMut<'_, State>,
        (): (),
        _: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + Sync>> {
        Box::pin(std::future::pending())
    }

    fn drop(&self, store: Store<State>, result: Result<(), wasmtime::Error>) {
        // Instances that are still there when the runner ends are cut off, which is no failure of theirs.
        if let Err(error) = result
            && !self.stopping.load(Relaxed)
        {
            eprintln!("An instance has failed: {error:?}");
        }
        drop(store);
    }
}

/// How many instances may live at once, as on Spin.
const MAX_INSTANCES: u32 = 1000;
