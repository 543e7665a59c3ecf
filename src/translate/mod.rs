//! Between OpenAI's format and Gemini's.

pub mod embedding;
pub mod error;
pub mod finish_reason;
mod grounding;
mod ids;
mod logprobs;
pub mod model;
pub mod models;
mod piece;
pub mod response;
pub mod stream;
pub mod tools;
pub mod usage;
