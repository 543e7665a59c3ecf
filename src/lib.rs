//! KeyStorm turns many LLM API keys into one endpoint.
//!
//! The way of one request, top-down: [`app`] is called by the host adapter with a request and answers it; [`routes`]
//! says what was asked for; [`auth`] whether the caller may; a handler parses and responds; [`relay`] leases keys from
//! the [`pool`], sends, lets [`classify`] judge the answer, and moves on to the next key or delivers. Only `spin` knows the
//! host, and only for `wasm32`.

pub mod access_log;
pub mod app;
pub mod auth;
pub mod catalogue;
pub mod checks;
pub mod classify;
pub mod endpoint;
pub mod error;
pub mod gemini;
pub mod handlers;
pub mod headers;
pub mod metrics;
pub mod openai;
pub mod pool;
pub mod ports;
pub mod redact;
pub mod relay;
pub mod routes;
pub mod secret;
pub mod settings;
#[cfg(all(target_family = "wasm", feature = "wasi03"))]
mod spin;
pub mod sse;
pub mod store;
pub mod translate;
pub mod tuning;
pub mod turns;
pub mod upkeep;
pub mod vault;
