//! The core's ports over WASI 0.2.

use keystorm::ports::{Inbound, KeyValueError, Outbound, Ports, SqlError, TransportError, UnixMillis};
use spin_sdk::variables;
use wasi::{clocks::wall_clock, random::random};

use crate::{
    http_ports::{self, RequestBody, ResponseBody},
    stores::{self, SqliteConnection},
    streams::StreamSink,
    tasks,
};

/// Spin as the core's host.
#[derive(Clone, Debug)]
pub(crate) struct SpinPorts;

impl Ports for SpinPorts {
    const IS_REUSED: bool = false;

    type RequestBody = RequestBody;
    type ResponseBody = ResponseBody;
    type Sink = StreamSink;
    type Connection = SqliteConnection;

    fn now(&self) -> UnixMillis {
        let now = wall_clock::now();
        let seconds = i64::try_from(now.seconds).unwrap_or(i64::MAX);
        UnixMillis(
            seconds
                .saturating_mul(1000)
                .saturating_add(i64::from(now.nanoseconds / 1_000_000)),
        )
    }

    fn seed(&self) -> u64 {
        random::get_random_u64()
    }

    fn random(&self, bytes: &mut [u8]) {
        bytes.copy_from_slice(&random::get_random_bytes(bytes.len() as u64));
    }

    async fn sleep(&self, ms: u64) {
        tasks::sleep(ms).await;
    }

    async fn linger(&self, ms: u64) {
        tasks::linger(ms).await;
    }

    fn spawn(&self, work: impl Future<Output = ()> + 'static) {
        tasks::spawn(work);
    }

    fn log(&self, line: &str) {
        eprintln!("{line}");
    }

    async fn variable(&self, name: &str) -> Result<Option<String>, String> {
        match variables::get(name) {
            Ok(value) => Ok(Some(value)),
            Err(variables::Error::Undefined(_)) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn send(&self, request: Outbound<RequestBody>) -> Result<Inbound<ResponseBody>, TransportError> {
        http_ports::send(request).await
    }

    async fn connect(&self) -> Result<SqliteConnection, SqlError> {
        stores::connect()
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
        stores::get(key)
    }

    async fn set(&self, key: &str, value: &[u8]) -> Result<(), KeyValueError> {
        stores::set(key, value)
    }

    async fn delete(&self, key: &str) -> Result<(), KeyValueError> {
        stores::delete(key)
    }

    async fn list(&self) -> Result<Vec<String>, KeyValueError> {
        stores::list()
    }
}
