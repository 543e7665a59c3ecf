//! Between OpenAI's format and Gemini's: so far the models' names.

pub mod model;
