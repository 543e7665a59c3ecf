//! Requests for embeddings.

use bytes::Bytes;

use super::{model::bare, parts::text};
use crate::{
    error::ApiError,
    gemini::request::{BatchEmbedContents, EmbedContent, Parts},
    openai::{self, Texts, Whole, embeddings::EmbeddingRequest},
};

/// What a request for embeddings became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddingsRequest {
    /// The model as Google's paths have it.
    pub model: String,
    /// Whether the vectors are wanted in base64.
    pub base64: bool,
    /// How many inputs there are.
    pub count: usize,
    /// Gemini's requests, in the inputs' order, of at most 100 inputs each.
    pub batches: Vec<Bytes>,
    /// About how many tokens the inputs have, for answers that do not say.
    pub estimate: u64,
}

/// Reads a request for embeddings and translates it for a model.
pub fn embeddings(body: &[u8], model: &str) -> Result<EmbeddingsRequest, ApiError> {
    let request: EmbeddingRequest<'_> = openai::read(body)?;
    let is_list = matches!(request.input, Some(Texts::Many(_)));
    let inputs = request
        .input
        .map(Texts::into_vec)
        .ok_or_else(|| ApiError::missing("input"))?;
    if inputs.is_empty() || inputs.len() > MOST_INPUTS {
        let message = format!("'input' has to hold between 1 and {MOST_INPUTS} texts.");
        return Err(ApiError::invalid("input", message));
    }
    if let Some(index) = inputs.iter().position(|input| input.is_empty()) {
        let param = if is_list {
            format!("input[{index}]")
        } else {
            "input".to_owned()
        };
        return Err(ApiError::invalid(param.clone(), format!("'{param}' is empty.")));
    }
    let base64 = match request.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => {
            let message = "Invalid value for 'encoding_format': it is one of float and base64.";
            return Err(ApiError::invalid("encoding_format", message));
        }
    };
    let dimensions = match request.dimensions {
        Some(Whole(dimensions)) if !(1..=MOST_DIMENSIONS).contains(&dimensions) => {
            let message = format!("'dimensions' has to be between 1 and {MOST_DIMENSIONS}.");
            return Err(ApiError::invalid("dimensions", message));
        }
        dimensions => dimensions.map(|Whole(dimensions)| dimensions),
    };
    let model = bare(model).to_owned();
    let in_path = format!("models/{model}");
    // The second generation has no task types.
    let task_type = request
        .task_type
        .as_deref()
        .filter(|_| !model.starts_with("gemini-embedding-2"));
    let characters: usize = inputs.iter().map(|input| input.chars().count()).sum();
    let count = inputs.len();
    let estimate = u64::try_from(characters.div_ceil(4)).unwrap_or_default();
    let mut batches = Vec::with_capacity(count.div_ceil(BATCH));
    for batch in inputs.chunks(BATCH) {
        let requests = batch.iter().map(|input| EmbedContent {
            model: &in_path,
            content: Parts {
                parts: vec![text((&**input).into())],
            },
            output_dimensionality: dimensions,
            task_type,
        });
        let batch = BatchEmbedContents {
            requests: requests.collect(),
        };
        let written = serde_json::to_vec(&batch)
            .map_err(|error| ApiError::internal(format!("A request could not be written as JSON: {error}.")))?;
        batches.push(Bytes::from(written));
    }
    Ok(EmbeddingsRequest {
        model,
        base64,
        count,
        batches,
        estimate,
    })
}

/// Inputs that Gemini takes in one request.
const BATCH: usize = 100;
/// OpenAI's own limit.
const MOST_INPUTS: usize = 2048;
const MOST_DIMENSIONS: i64 = 65_536;
