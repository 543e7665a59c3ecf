//! Between OpenAI's format and Gemini's.

mod adapt;
pub mod completions;
pub mod embedding;
pub mod embedding_request;
pub mod error;
mod extra;
pub mod finish_reason;
mod grounding;
mod ids;
mod logprobs;
mod media;
mod messages;
pub mod model;
pub mod models;
mod openapi;
pub mod parts;
mod payload;
mod piece;
mod reasoning;
pub mod request;
pub mod response;
mod schema;
pub mod signatures;
pub mod stream;
pub mod tools;
pub mod usage;
