//! Embeddings: Gemini's vectors in OpenAI's form.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{error::AnswerError, error::Why};
use crate::{
    gemini::response::Embeddings,
    openai::answer::{Usage, number, raw, string},
    pool::usage::Tokens,
};

/// What an answer needs to know of its request.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'s> {
    /// The model, as the client is told it.
    pub model: &'s str,
    /// Whether vectors are wanted as base64 of little-endian 32-bit numbers, as OpenAI's own clients want them.
    pub base64: bool,
    /// How many inputs there were.
    pub count: usize,
    /// Their tokens, when the provider does not count them.
    pub estimate: u64,
}

/// Makes one answer of the answers for each batch, in order.
pub fn embeddings(bodies: &[&[u8]], shape: &Shape) -> Result<(Vec<u8>, Tokens), AnswerError> {
    let mut out = Vec::with_capacity(bodies.iter().map(|body| body.len()).sum::<usize>() + 256);
    raw("{\"object\":\"list\",\"data\":[", &mut out);
    let (mut count, mut tokens) = (0, Some(0_u64));
    for body in bodies {
        let batch: Embeddings = serde_json::from_slice(body).map_err(|_| AnswerError::Unreadable)?;
        if let Some(error) = batch.error {
            return Err(AnswerError::upstream(error.get(), body));
        }
        for embedding in batch.embeddings.unwrap_or_default() {
            let mut values = embedding.values.unwrap_or_default();
            if values.is_empty() {
                return Err(AnswerError::Retry(Why::Empty));
            }
            normalise(&mut values);
            raw(if count > 0 { "," } else { "" }, &mut out);
            raw("{\"object\":\"embedding\",\"index\":", &mut out);
            number(count as u64, &mut out);
            raw(",\"embedding\":", &mut out);
            write(&values, shape.base64, &mut out);
            raw("}", &mut out);
            count += 1;
        }
        let counted = batch.usage_metadata.and_then(|usage| usage.prompt_token_count);
        let counted = counted.and_then(|count| u64::try_from(count).ok());
        tokens = tokens.zip(counted).map(|(sum, batch)| sum.saturating_add(batch));
    }
    // An answer for other inputs than were asked about would be matched to the wrong ones.
    if count != shape.count {
        return Err(AnswerError::Retry(Why::Empty));
    }
    let prompt = tokens.unwrap_or(shape.estimate);
    raw("],\"model\":", &mut out);
    string(shape.model, &mut out);
    raw(",\"usage\":{\"prompt_tokens\":", &mut out);
    number(prompt, &mut out);
    raw(",\"total_tokens\":", &mut out);
    number(prompt, &mut out);
    raw("}}", &mut out);
    let usage = Usage {
        prompt,
        total: prompt,
        ..Usage::default()
    };
    Ok((out, usage.into()))
}

/// OpenAI's vectors have the length 1; Gemini's only at their full size.
fn normalise(values: &mut [f32]) {
    let sum: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum();
    let length = sum.sqrt();
    if length > 0.0 && length.is_finite() && (length - 1.0).abs() > 1e-6 {
        for value in values {
            *value = (f64::from(*value) / length) as f32;
        }
    }
}

fn write(values: &[f32], base64: bool, out: &mut Vec<u8>) {
    if base64 {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        raw("\"", out);
        raw(&STANDARD.encode(bytes), out);
        raw("\"", out);
    } else {
        // Vectors take whatever is written to them.
        let _ = serde_json::to_writer(out, values);
    }
}
