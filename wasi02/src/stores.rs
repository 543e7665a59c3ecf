//! `fermyon:spin@2.0.0`: SQLite and the key-value store, whose calls block.

use keystorm::ports::{Connection, KeyValueError, Row, SqlError, Value};
use spin_sdk::{
    key_value::{self, Store},
    sqlite,
};

/// A connection to the application's default database.
pub(crate) struct SqliteConnection(sqlite::Connection);

pub(crate) fn connect() -> Result<SqliteConnection, SqlError> {
    sqlite::Connection::open_default().map(SqliteConnection).map_err(failed)
}

impl Connection for SqliteConnection {
    async fn execute(&self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, SqlError> {
        let parameters: Vec<_> = parameters.iter().map(to_host).collect();
        let result = self.0.execute(sql, &parameters).map_err(failed)?;
        Ok(result
            .rows
            .into_iter()
            .map(|row| Row(row.values.into_iter().map(from_host).collect()))
            .collect())
    }
}

pub(crate) fn get(key: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
    Store::open_default().and_then(|store| store.get(key)).map_err(refused)
}

pub(crate) fn set(key: &str, value: &[u8]) -> Result<(), KeyValueError> {
    Store::open_default()
        .and_then(|store| store.set(key, value))
        .map_err(refused)
}

pub(crate) fn delete(key: &str) -> Result<(), KeyValueError> {
    Store::open_default()
        .and_then(|store| store.delete(key))
        .map_err(refused)
}

pub(crate) fn list() -> Result<Vec<String>, KeyValueError> {
    Store::open_default()
        .and_then(|store| store.get_keys())
        .map_err(refused)
}

fn to_host(value: &Value) -> sqlite::Value {
    match value {
        Value::Null => sqlite::Value::Null,
        Value::Integer(number) => sqlite::Value::Integer(*number),
        Value::Real(number) => sqlite::Value::Real(*number),
        Value::Text(text) => sqlite::Value::Text(text.clone()),
        Value::Blob(bytes) => sqlite::Value::Blob(bytes.clone()),
    }
}

fn from_host(value: sqlite::Value) -> Value {
    match value {
        sqlite::Value::Null => Value::Null,
        sqlite::Value::Integer(number) => Value::Integer(number),
        sqlite::Value::Real(number) => Value::Real(number),
        sqlite::Value::Text(text) => Value::Text(text),
        sqlite::Value::Blob(bytes) => Value::Blob(bytes),
    }
}

fn failed(error: sqlite::Error) -> SqlError {
    match error {
        sqlite::Error::DatabaseFull => SqlError::ReadOnly("the database is full".to_owned()),
        sqlite::Error::Io(message) => SqlError::from_words(message),
        other => SqlError::Other(other.to_string()),
    }
}

fn refused(error: key_value::Error) -> KeyValueError {
    KeyValueError(error.to_string())
}
