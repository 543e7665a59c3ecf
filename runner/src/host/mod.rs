//! What a component may call, one file a capability.

pub mod http;
pub mod key_value;
pub mod libsql;
mod older;
pub mod sqlite;
pub mod variables;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
};

use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// Bindings to the interfaces that Spin adds to WASI.
pub(crate) mod wit {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "keystorm:runner/host",
        imports: { default: async | trappable },
        with: {
            "spin:sqlite/sqlite.connection": crate::host::sqlite::Handle,
            "spin:key-value/key-value.store": crate::host::key_value::Handle,
        },
    });
}

/// The same for components of WASI 0.2.
pub(crate) mod wit_older {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "keystorm:runner/older",
        imports: { default: async | trappable },
        with: {
            "fermyon:spin/sqlite.connection": crate::host::sqlite::Handle,
            "fermyon:spin/key-value.store": crate::host::key_value::Handle,
        },
    });
}

/// What all instances of one component share.
pub struct Shared {
    /// The component's variables; values are never printed.
    pub variables: HashMap<String, String>,
    /// The database, when the component may open it.
    pub sqlite: Option<sqlite::Source>,
    /// The key-value store, when the component may open it.
    pub key_value: Option<Arc<key_value::Store>>,
    /// Calls to other hosts.
    pub outbound: http::Outbound,
    /// What tests make go wrong.
    pub faults: Arc<Faults>,
    /// What components have called.
    pub calls: Arc<Calls>,
}

/// How many host calls components have made, by interface.
#[derive(Debug, Default)]
pub struct Calls {
    /// Requests sent.
    pub sends: AtomicU64,
    /// Statements run.
    pub statements: AtomicU64,
    /// Key-value operations.
    pub key_value: AtomicU64,
    /// Variables read.
    pub variables: AtomicU64,
}

/// What tests make go wrong, while the application runs.
#[derive(Debug, Default)]
pub struct Faults {
    sqlite: Mutex<Option<String>>,
    key_value: Mutex<Option<String>>,
    clock_ms: AtomicI64,
}

impl Faults {
    /// Makes every statement fail with this message, or none again.
    pub fn fail_sqlite(&self, message: Option<&str>) {
        *lock(&self.sqlite) = message.map(str::to_owned);
    }

    /// Makes every key-value operation fail with this message, or none again.
    pub fn fail_key_value(&self, message: Option<&str>) {
        *lock(&self.key_value) = message.map(str::to_owned);
    }

    /// Moves the wall clock that components see.
    pub fn move_clock(&self, ms: i64) {
        self.clock_ms.fetch_add(ms, Relaxed);
    }

    pub(crate) fn sqlite(&self) -> Option<String> {
        lock(&self.sqlite).clone()
    }

    pub(crate) fn key_value(&self) -> Option<String> {
        lock(&self.key_value).clone()
    }

    pub(crate) fn clock_ms(&self) -> i64 {
        self.clock_ms.load(Relaxed)
    }
}

/// The state of one instance.
pub struct State {
    pub(crate) table: ResourceTable,
    pub(crate) shared: Arc<Shared>,
    /// How many connections to the database are open.
    pub(crate) connections: usize,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: http::Hooks,
}

impl State {
    pub(crate) fn new(shared: Arc<Shared>, wasi: WasiCtx) -> Self {
        let hooks = http::Hooks(Arc::clone(&shared));
        Self {
            table: ResourceTable::new(),
            shared,
            connections: 0,
            wasi,
            http: WasiHttpCtx::new(),
            hooks,
        }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.hooks,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

/// Offers all of it to components.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    wasmtime_wasi::p3::add_to_linker(linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    wasmtime_wasi_http::p3::add_to_linker(linker)?;
    wit_older::Older::add_to_linker::<_, HasSelf<State>>(linker, |state| state)?;
    wit::Host_::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
}

/// Locks, whatever a thread that panicked has left behind: nothing here is ever half-changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
