//! Spin's SQLite.

use spin_sdk::sqlite;

use crate::ports::{Connection, Row, SqlError, Value};

/// A connection to the application's default database.
pub(crate) struct SqliteConnection(sqlite::Connection);

pub(super) async fn connect() -> Result<SqliteConnection, SqlError> {
    sqlite::Connection::open_default()
        .await
        .map(SqliteConnection)
        .map_err(failed)
}

impl Connection for SqliteConnection {
    async fn execute(&self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, SqlError> {
        let result = self
            .0
            .execute(sql, parameters.iter().map(to_host))
            .await
            .map_err(failed)?;
        // Spin returns before the statement has run: its errors come, and its locks go, only when all rows are read.
        let rows = result.collect().await.map_err(failed)?;
        Ok(rows
            .into_iter()
            .map(|row| Row(row.values.into_iter().map(from_host).collect()))
            .collect())
    }
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
