//! `POST /v1/completions` as clients send it.
#![expect(missing_docs, reason = "the fields' names are the wire's own")]

use serde::Deserialize;

use super::{
    Text, Texts, Whole,
    chat::{ExtraBody, Google, StreamOptions},
};

/// The body of a request.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct CompletionRequest<'a> {
    #[serde(borrow)]
    pub prompt: Option<Texts<'a>>,
    #[serde(borrow)]
    pub suffix: Option<Text<'a>>,
    pub echo: Option<bool>,
    pub stream: Option<bool>,
    pub stream_options: Option<StreamOptions>,
    pub n: Option<Whole>,
    pub max_tokens: Option<Whole>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub top_k: Option<Whole>,
    #[serde(borrow)]
    pub stop: Option<Texts<'a>>,
    pub seed: Option<Whole>,
    pub presence_penalty: Option<f64>,
    pub frequency_penalty: Option<f64>,
    #[serde(borrow)]
    pub reasoning_effort: Option<Text<'a>>,
    #[serde(borrow)]
    pub google: Option<Google<'a>>,
    #[serde(borrow)]
    pub extra_body: Option<ExtraBody<'a>>,
}
