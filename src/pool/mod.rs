//! The key pool.
pub mod key;
