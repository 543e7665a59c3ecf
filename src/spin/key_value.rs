//! Spin's key-value store. A store's handle is opened for each use: it is off the hot path.

use spin_sdk::key_value::{Error, Store};

use crate::ports::KeyValueError;

pub(super) async fn get(key: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
    Store::open_default()
        .await
        .map_err(failed)?
        .get(key)
        .await
        .map_err(failed)
}

pub(super) async fn set(key: &str, value: &[u8]) -> Result<(), KeyValueError> {
    Store::open_default()
        .await
        .map_err(failed)?
        .set(key, value)
        .await
        .map_err(failed)
}

pub(super) async fn delete(key: &str) -> Result<(), KeyValueError> {
    Store::open_default()
        .await
        .map_err(failed)?
        .delete(key)
        .await
        .map_err(failed)
}

pub(super) async fn list() -> Result<Vec<String>, KeyValueError> {
    Store::open_default()
        .await
        .map_err(failed)?
        .get_keys()
        .await
        .collect()
        .await
        .map_err(failed)
}

fn failed(error: Error) -> KeyValueError {
    KeyValueError(error.to_string())
}
