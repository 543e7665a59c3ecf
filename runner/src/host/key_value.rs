//! `spin:key-value@3.0.0`: one SQLite file, one connection for the whole process, as Spin keeps it; or Redis, where keys
//! are stored by their own names, as Spin stores them.

use std::{
    path::Path,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
};

use anyhow::Context as _;
use redis::{AsyncCommands as _, aio::ConnectionManager};
use rusqlite::{Connection, OptionalExtension as _, params};
use wasmtime::component::{Accessor, FutureReader, HasSelf, Resource, StreamReader};

use super::{
    State, lock,
    wit::spin::key_value::key_value::{Error, Host, HostStore, HostStoreWithStore},
};

/// The key-value store of the whole process.
pub enum Store {
    /// In a file.
    File(Arc<File>),
    /// In Redis, one multiplexed connection that comes back by itself.
    Redis(ConnectionManager),
}

impl Store {
    /// Opens a file.
    pub fn file(path: &Path) -> anyhow::Result<Self> {
        Ok(Self::File(Arc::new(File::open(path)?)))
    }

    /// Connects to Redis.
    pub async fn redis(url: &str) -> anyhow::Result<Self> {
        // The address may hold a password: it is not told.
        let client = redis::Client::open(url).context("the url of a redis store is not usable")?;
        let manager = ConnectionManager::new(client)
            .await
            .context("redis cannot be reached")?;
        Ok(Self::Redis(manager))
    }

    async fn get(&self, key: String) -> Result<Option<Vec<u8>>, Error> {
        match self {
            Self::File(file) => file.with(move |file| file.get(&key)).await,
            Self::Redis(redis) => redis.clone().get(key).await.map_err(other),
        }
    }

    async fn set(&self, key: String, value: Vec<u8>) -> Result<(), Error> {
        match self {
            Self::File(file) => file.with(move |file| file.set(&key, &value)).await,
            Self::Redis(redis) => redis.clone().set(key, value).await.map_err(other),
        }
    }

    async fn delete(&self, key: String) -> Result<(), Error> {
        match self {
            Self::File(file) => file.with(move |file| file.delete(&key)).await,
            Self::Redis(redis) => redis.clone().del(key).await.map_err(other),
        }
    }

    async fn keys(&self) -> Result<Vec<String>, Error> {
        match self {
            Self::File(file) => file.with(File::keys).await,
            Self::Redis(redis) => redis.clone().keys("*").await.map_err(other),
        }
    }
}

/// A store in a file.
pub struct File(Mutex<Connection>);

impl File {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let connection = Connection::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.execute(
            "CREATE TABLE IF NOT EXISTS spin_key_value (
                store TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (store, key)
            )",
            [],
        )?;
        Ok(Self(Mutex::new(connection)))
    }

    fn get(&self, key: &str) -> rusqlite::Result<Option<Vec<u8>>> {
        let connection = lock(&self.0);
        let mut statement =
            connection.prepare_cached("SELECT value FROM spin_key_value WHERE store = 'default' AND key = ?")?;
        statement.query_row([key], |row| row.get(0)).optional()
    }

    fn set(&self, key: &str, value: &[u8]) -> rusqlite::Result<()> {
        lock(&self.0)
            .prepare_cached("INSERT OR REPLACE INTO spin_key_value (store, key, value) VALUES ('default', ?, ?)")?
            .execute(params![key, value])
            .map(drop)
    }

    fn delete(&self, key: &str) -> rusqlite::Result<()> {
        lock(&self.0)
            .prepare_cached("DELETE FROM spin_key_value WHERE store = 'default' AND key = ?")?
            .execute([key])
            .map(drop)
    }

    fn keys(&self) -> rusqlite::Result<Vec<String>> {
        let connection = lock(&self.0);
        let mut statement = connection.prepare_cached("SELECT key FROM spin_key_value WHERE store = 'default'")?;
        statement.query_map([], |row| row.get(0))?.collect()
    }

    /// Runs one operation where it may block.
    async fn with<R: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R, Error> {
        let file = Arc::clone(self);
        let result = tokio::task::spawn_blocking(move || work(&file)).await;
        result.map_err(other).and_then(|result| result.map_err(other))
    }
}

/// An open store in the hands of a component.
#[derive(Clone)]
pub struct Handle(Arc<Store>);

impl Handle {
    /// A store for a component, where it may have one.
    pub(super) fn open(state: &State, label: &str) -> Result<Self, Error> {
        if label != "default" {
            return Err(Error::NoSuchStore);
        }
        state.shared.key_value.clone().map(Self).ok_or(Error::AccessDenied)
    }

    /// Reads.
    pub(super) async fn get(&self, key: String) -> Result<Option<Vec<u8>>, Error> {
        self.0.get(key).await
    }

    /// Writes.
    pub(super) async fn set(&self, key: String, value: Vec<u8>) -> Result<(), Error> {
        self.0.set(key, value).await
    }

    /// Removes.
    pub(super) async fn delete(&self, key: String) -> Result<(), Error> {
        self.0.delete(key).await
    }

    /// Lists.
    pub(super) async fn keys(&self) -> Result<Vec<String>, Error> {
        self.0.keys().await
    }
}

impl Host for State {}

impl HostStore for State {
    async fn drop(&mut self, handle: Resource<Handle>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl<T: 'static> HostStoreWithStore<T> for HasSelf<State> {
    async fn open(accessor: &Accessor<T, Self>, label: String) -> wasmtime::Result<Result<Resource<Handle>, Error>> {
        accessor.with(|mut access| {
            let opened = Handle::open(access.get(), &label);
            Ok(match opened {
                Ok(handle) => Ok(access.get().table.push(handle)?),
                Err(error) => Err(error),
            })
        })
    }

    async fn get(
        accessor: &Accessor<T, Self>,
        handle: Resource<Handle>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        run(accessor, &handle, async move |store| store.get(key).await).await
    }

    async fn set(
        accessor: &Accessor<T, Self>,
        handle: Resource<Handle>,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), Error>> {
        run(accessor, &handle, async move |store| store.set(key, value).await).await
    }

    async fn delete(
        accessor: &Accessor<T, Self>,
        handle: Resource<Handle>,
        key: String,
    ) -> wasmtime::Result<Result<(), Error>> {
        run(accessor, &handle, async move |store| store.delete(key).await).await
    }

    async fn exists(
        accessor: &Accessor<T, Self>,
        handle: Resource<Handle>,
        key: String,
    ) -> wasmtime::Result<Result<bool, Error>> {
        run(accessor, &handle, async move |store| {
            Ok(store.get(key).await?.is_some())
        })
        .await
    }

    async fn get_keys(
        accessor: &Accessor<T, Self>,
        handle: Resource<Handle>,
    ) -> wasmtime::Result<(StreamReader<String>, FutureReader<Result<(), Error>>)> {
        let (keys, result) = match run(accessor, &handle, async move |store| store.keys().await).await? {
            Ok(keys) => (keys, Ok(())),
            Err(error) => (Vec::new(), Err(error)),
        };
        accessor.with(|mut access| {
            let keys = StreamReader::new(&mut access, keys)?;
            let result = FutureReader::new(&mut access, async move { wasmtime::error::Ok(result) })?;
            Ok((keys, result))
        })
    }
}

/// Counts an operation, lets it fail when a test says so, and runs it.
async fn run<T: 'static, R>(
    accessor: &Accessor<T, HasSelf<State>>,
    handle: &Resource<Handle>,
    work: impl AsyncFnOnce(Handle) -> Result<R, Error>,
) -> wasmtime::Result<Result<R, Error>> {
    let (store, fault) = accessor.with(|mut access| {
        let state = access.get();
        state.shared.calls.key_value.fetch_add(1, Relaxed);
        wasmtime::error::Ok((state.table.get(handle)?.clone(), state.shared.faults.key_value()))
    })?;
    match fault {
        Some(message) => Ok(Err(Error::Other(message))),
        None => Ok(work(store).await),
    }
}

fn other(error: impl std::fmt::Display) -> Error {
    Error::Other(error.to_string())
}
