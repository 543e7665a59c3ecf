//! `spin:key-value@3.0.0`: one SQLite file, one connection for the whole process, as Spin keeps it.

use std::{
    path::Path,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
};

use anyhow::Context as _;
use rusqlite::{Connection, OptionalExtension as _, params};
use wasmtime::component::{Accessor, FutureReader, HasSelf, Resource, StreamReader};

use super::{
    Faults, State, lock,
    wit::spin::key_value::key_value::{Error, Host, HostStore, HostStoreWithStore},
};

/// The key-value store.
pub struct Store(Mutex<Connection>);

impl Store {
    /// Opens the file.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
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
}

/// An open store in the hands of a component.
pub struct Handle(Arc<Store>);

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
            let state = access.get();
            if label != "default" {
                return Ok(Err(Error::NoSuchStore));
            }
            let Some(store) = state.shared.key_value.clone() else {
                return Ok(Err(Error::AccessDenied));
            };
            Ok(Ok(state.table.push(Handle(store))?))
        })
    }

    async fn get(
        accessor: &Accessor<T, Self>,
        handle: Resource<Handle>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        run(accessor, &handle, move |store| store.get(&key)).await
    }

    async fn set(
        accessor: &Accessor<T, Self>,
        handle: Resource<Handle>,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), Error>> {
        run(accessor, &handle, move |store| store.set(&key, &value)).await
    }

    async fn delete(
        accessor: &Accessor<T, Self>,
        handle: Resource<Handle>,
        key: String,
    ) -> wasmtime::Result<Result<(), Error>> {
        run(accessor, &handle, move |store| store.delete(&key)).await
    }

    async fn exists(
        accessor: &Accessor<T, Self>,
        handle: Resource<Handle>,
        key: String,
    ) -> wasmtime::Result<Result<bool, Error>> {
        run(accessor, &handle, move |store| Ok(store.get(&key)?.is_some())).await
    }

    async fn get_keys(
        accessor: &Accessor<T, Self>,
        handle: Resource<Handle>,
    ) -> wasmtime::Result<(StreamReader<String>, FutureReader<Result<(), Error>>)> {
        let (keys, result) = match run(accessor, &handle, Store::keys).await? {
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

/// Runs one operation where it may block.
async fn run<T: 'static, R: Send + 'static>(
    accessor: &Accessor<T, HasSelf<State>>,
    handle: &Resource<Handle>,
    work: impl FnOnce(&Store) -> rusqlite::Result<R> + Send + 'static,
) -> wasmtime::Result<Result<R, Error>> {
    let (store, faults): (Arc<Store>, Arc<Faults>) = accessor.with(|mut access| {
        let state = access.get();
        state.shared.calls.key_value.fetch_add(1, Relaxed);
        wasmtime::error::Ok((
            Arc::clone(&state.table.get(handle)?.0),
            Arc::clone(&state.shared.faults),
        ))
    })?;
    if let Some(message) = faults.key_value() {
        return Ok(Err(Error::Other(message)));
    }
    let result = tokio::task::spawn_blocking(move || work(&store)).await;
    Ok(result
        .map_err(|error| Error::Other(error.to_string()))
        .and_then(|result| result.map_err(|error| Error::Other(error.to_string()))))
}
