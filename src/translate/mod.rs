//! Between OpenAI's format and Gemini's: pure functions in both directions.

pub mod model;
pub mod signatures;
