//! KeyStorm as a component of WASI 0.2: the same core behind the same ports.
//!
//! What WASI 0.2 does not have is made up for here. An instance serves one request, so nothing is kept between requests but
//! what is in the stores. Bodies are handed on by splicing the host's streams, piece by piece, under the guest's eyes but
//! not through its memory. There is no work after the response but in the same call, which goes on until all is written.

#[cfg(target_family = "wasm")]
mod component;
#[cfg(target_family = "wasm")]
mod http_ports;
#[cfg(target_family = "wasm")]
mod ports;
#[cfg(target_family = "wasm")]
mod stores;
#[cfg(target_family = "wasm")]
mod streams;
#[cfg(target_family = "wasm")]
mod tasks;
