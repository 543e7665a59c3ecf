//! `fermyon:spin@2.0.0`, which components of WASI 0.2 import: the same stores, without streams and futures.

use std::sync::atomic::Ordering::Relaxed;

use wasmtime::component::Resource;

use super::{
    State, key_value, sqlite,
    wit::spin::{
        key_value::key_value as newer_key_value,
        sqlite::sqlite::{self as newer_sqlite, Value},
    },
    wit_older::fermyon::spin::{
        key_value::{self as older_key_value, Host as KeyValueHost, HostStore},
        sqlite::{self as older_sqlite, Host as SqliteHost, HostConnection, QueryResult, RowResult},
        variables::{self as older_variables, Host as VariablesHost},
    },
};

impl SqliteHost for State {}

impl HostConnection for State {
    async fn open(
        &mut self,
        database: String,
    ) -> wasmtime::Result<Result<Resource<sqlite::Handle>, older_sqlite::Error>> {
        Ok(match sqlite::open(self, &database) {
            Ok(handle) => Ok(self.table.push(handle)?),
            Err(error) => Err(error.into()),
        })
    }

    async fn execute(
        &mut self,
        handle: Resource<sqlite::Handle>,
        statement: String,
        parameters: Vec<older_sqlite::Value>,
    ) -> wasmtime::Result<Result<QueryResult, older_sqlite::Error>> {
        self.shared.calls.statements.fetch_add(1, Relaxed);
        if let Some(message) = self.shared.faults.sqlite() {
            return Ok(Err(older_sqlite::Error::Io(message)));
        }
        let connection = self.table.get(&handle)?.clone();
        let parameters = parameters.into_iter().map(Value::from).collect();
        let result = connection.whole(statement, parameters).await;
        Ok(result
            .map_err(older_sqlite::Error::from)
            .map(|(columns, rows)| QueryResult {
                columns,
                rows: rows
                    .into_iter()
                    .map(|row| RowResult {
                        values: row.values.into_iter().map(older_sqlite::Value::from).collect(),
                    })
                    .collect(),
            }))
    }

    async fn drop(&mut self, handle: Resource<sqlite::Handle>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        self.connections = self.connections.saturating_sub(1);
        Ok(())
    }
}

impl KeyValueHost for State {}

impl HostStore for State {
    async fn open(
        &mut self,
        label: String,
    ) -> wasmtime::Result<Result<Resource<key_value::Handle>, older_key_value::Error>> {
        Ok(match key_value::Handle::open(self, &label) {
            Ok(handle) => Ok(self.table.push(handle)?),
            Err(error) => Err(error.into()),
        })
    }

    async fn get(
        &mut self,
        handle: Resource<key_value::Handle>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, older_key_value::Error>> {
        self.with_store(&handle, async |store| store.get(key).await).await
    }

    async fn set(
        &mut self,
        handle: Resource<key_value::Handle>,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), older_key_value::Error>> {
        self.with_store(&handle, async |store| store.set(key, value).await)
            .await
    }

    async fn delete(
        &mut self,
        handle: Resource<key_value::Handle>,
        key: String,
    ) -> wasmtime::Result<Result<(), older_key_value::Error>> {
        self.with_store(&handle, async |store| store.delete(key).await).await
    }

    async fn exists(
        &mut self,
        handle: Resource<key_value::Handle>,
        key: String,
    ) -> wasmtime::Result<Result<bool, older_key_value::Error>> {
        self.with_store(&handle, async |store| Ok(store.get(key).await?.is_some()))
            .await
    }

    async fn get_keys(
        &mut self,
        handle: Resource<key_value::Handle>,
    ) -> wasmtime::Result<Result<Vec<String>, older_key_value::Error>> {
        self.with_store(&handle, async |store| store.keys().await).await
    }

    async fn drop(&mut self, handle: Resource<key_value::Handle>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl VariablesHost for State {
    async fn get(&mut self, name: String) -> wasmtime::Result<Result<String, older_variables::Error>> {
        self.shared.calls.variables.fetch_add(1, Relaxed);
        let value = self.shared.variables.get(&name).cloned();
        Ok(value.ok_or(older_variables::Error::Undefined(name)))
    }
}

impl State {
    async fn with_store<R>(
        &mut self,
        handle: &Resource<key_value::Handle>,
        work: impl AsyncFnOnce(key_value::Handle) -> Result<R, newer_key_value::Error>,
    ) -> wasmtime::Result<Result<R, older_key_value::Error>> {
        self.shared.calls.key_value.fetch_add(1, Relaxed);
        if let Some(message) = self.shared.faults.key_value() {
            return Ok(Err(older_key_value::Error::Other(message)));
        }
        let store = self.table.get(handle)?.clone();
        Ok(work(store).await.map_err(Into::into))
    }
}

impl From<newer_sqlite::Error> for older_sqlite::Error {
    fn from(error: newer_sqlite::Error) -> Self {
        match error {
            newer_sqlite::Error::NoSuchDatabase => Self::NoSuchDatabase,
            newer_sqlite::Error::AccessDenied => Self::AccessDenied,
            newer_sqlite::Error::InvalidConnection => Self::InvalidConnection,
            newer_sqlite::Error::DatabaseFull => Self::DatabaseFull,
            newer_sqlite::Error::Io(message) => Self::Io(message),
        }
    }
}

impl From<newer_key_value::Error> for older_key_value::Error {
    fn from(error: newer_key_value::Error) -> Self {
        match error {
            newer_key_value::Error::StoreTableFull => Self::StoreTableFull,
            newer_key_value::Error::NoSuchStore => Self::NoSuchStore,
            newer_key_value::Error::AccessDenied => Self::AccessDenied,
            newer_key_value::Error::Other(message) => Self::Other(message),
        }
    }
}

impl From<older_sqlite::Value> for Value {
    fn from(value: older_sqlite::Value) -> Self {
        match value {
            older_sqlite::Value::Integer(number) => Self::Integer(number),
            older_sqlite::Value::Real(number) => Self::Real(number),
            older_sqlite::Value::Text(text) => Self::Text(text),
            older_sqlite::Value::Blob(bytes) => Self::Blob(bytes),
            older_sqlite::Value::Null => Self::Null,
        }
    }
}

impl From<Value> for older_sqlite::Value {
    fn from(value: Value) -> Self {
        match value {
            Value::Integer(number) => Self::Integer(number),
            Value::Real(number) => Self::Real(number),
            Value::Text(text) => Self::Text(text),
            Value::Blob(bytes) => Self::Blob(bytes),
            Value::Null => Self::Null,
        }
    }
}
