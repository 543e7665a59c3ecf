//! The shapes of Gemini's API, and nothing of what they mean elsewhere.

pub mod response;
