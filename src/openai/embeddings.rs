//! `POST /v1/embeddings` as clients send it.
#![expect(missing_docs, reason = "the fields' names are the wire's own")]

use serde::Deserialize;

use super::{Text, Texts, Whole};

/// The body of a request.
#[derive(Debug, Default, Deserialize)]
pub struct EmbeddingRequest<'a> {
    #[serde(borrow)]
    pub input: Option<Texts<'a>>,
    #[serde(borrow)]
    pub encoding_format: Option<Text<'a>>,
    pub dimensions: Option<Whole>,
    /// Google's own.
    #[serde(borrow, alias = "taskType")]
    pub task_type: Option<Text<'a>>,
}
