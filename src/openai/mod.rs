//! The shapes of OpenAI's API, and nothing of what they mean elsewhere.

pub mod answer;
