//! The host adapter: the only place that names `spin_sdk`. WASI 0.3 in, [`Ports`] out.

mod http;
mod key_value;
mod sql;

use std::{cell::RefCell, time::Duration};

use rand::{RngCore as _, SeedableRng as _, rngs::SmallRng};
use spin_sdk::{
    variables,
    wasip3::{
        self, clocks::system_clock, exports::http::handler::Guest, http::types as wasi, random::random as wasi_random,
    },
};

use crate::{
    app::App,
    ports::{Inbound, KeyValueError, Outbound, Ports, SqlError, TransportError, UnixMillis},
};

mod export {
    use super::Component;

    spin_sdk::wasip3::http::service::export!(Component);
}

/// What the host calls.
struct Component;

impl Guest for Component {
    async fn handle(request: wasi::Request) -> Result<wasi::Response, wasi::ErrorCode> {
        // One app per instance: its caches live as long as the instance, which serves many requests.
        thread_local!(static APP: App<SpinPorts> = App::new(SpinPorts));
        let app = APP.with(Clone::clone);
        let response = app.handle(http::request(request)?).await;
        http::response(response)
    }
}

/// Spin as the core's host. It has no state: what is kept (a database connection, say) is kept by those who use it.
#[derive(Clone, Debug)]
pub(crate) struct SpinPorts;

impl Ports for SpinPorts {
    type RequestBody = http::RequestBody;
    type ResponseBody = http::ResponseBody;
    type Sink = http::StreamSink;
    type Connection = sql::SqliteConnection;

    fn now(&self) -> UnixMillis {
        let now = system_clock::now();
        UnixMillis(
            now.seconds
                .saturating_mul(1000)
                .saturating_add(i64::from(now.nanoseconds / 1_000_000)),
        )
    }

    fn seed(&self) -> u64 {
        // The host is asked once: some of these are needed for each request, and none has to be hard to guess.
        thread_local!(static SEEDS: RefCell<SmallRng> = RefCell::new(SmallRng::seed_from_u64(wasi_random::get_random_u64())));
        SEEDS.with_borrow_mut(SmallRng::next_u64)
    }

    fn random(&self, bytes: &mut [u8]) {
        let mut filled = 0;
        // The host may give fewer bytes than asked for.
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let fresh = wasi_random::get_random_bytes(rest.len() as u64);
            for (to, from) in rest.iter_mut().zip(&fresh) {
                *to = *from;
            }
            filled += fresh.len();
        }
    }

    async fn sleep(&self, ms: u64) {
        spin_sdk::time::sleep(Duration::from_millis(ms)).await;
    }

    fn spawn(&self, work: impl Future<Output = ()> + 'static) {
        wasip3::spawn(work);
    }

    fn log(&self, line: &str) {
        eprintln!("{line}");
    }

    async fn variable(&self, name: &str) -> Result<Option<String>, String> {
        match variables::get(name).await {
            Ok(value) => Ok(Some(value)),
            Err(variables::Error::Undefined(_)) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn send(&self, request: Outbound<http::RequestBody>) -> Result<Inbound<http::ResponseBody>, TransportError> {
        http::send(request).await
    }

    async fn connect(&self) -> Result<sql::SqliteConnection, SqlError> {
        sql::connect().await
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
        key_value::get(key).await
    }

    async fn set(&self, key: &str, value: &[u8]) -> Result<(), KeyValueError> {
        key_value::set(key, value).await
    }

    async fn delete(&self, key: &str) -> Result<(), KeyValueError> {
        key_value::delete(key).await
    }

    async fn list(&self) -> Result<Vec<String>, KeyValueError> {
        key_value::list().await
    }
}
