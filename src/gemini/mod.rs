//! Gemini's API on the wire: shapes only.

pub mod request;
pub mod response;
