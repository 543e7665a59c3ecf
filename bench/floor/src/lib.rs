//! A bare forwarder: the request's body and the answer's are the host's own streams, nothing is looked at, nothing is kept.
//! Whatever a proxy on Spin does beside this is its own cost.

#[cfg(target_family = "wasm")]
mod forwarder;
