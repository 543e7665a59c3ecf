//! How likely an answer's tokens were.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::{
    gemini::response::{Logprobs, Text, Token},
    openai::answer::{number, raw, string},
};

/// Writes OpenAI's object, or `null`.
pub(super) fn write(result: Option<&RawValue>, out: &mut Vec<u8>) {
    let logprobs: Option<Logprobs> = result.and_then(|result| serde_json::from_str(result.get()).ok());
    let Some(logprobs) = logprobs else {
        return raw("null", out);
    };
    let top = logprobs.top_candidates.unwrap_or_default();
    raw("{\"content\":[", out);
    for (place, token) in logprobs.chosen_candidates.unwrap_or_default().iter().enumerate() {
        raw(if place > 0 { ",{" } else { "{" }, out);
        write_token(token, out);
        raw(",\"top_logprobs\":[", out);
        let likeliest = top
            .get(place)
            .and_then(|top| top.candidates.as_deref())
            .unwrap_or_default();
        for (place, token) in likeliest.iter().enumerate() {
            raw(if place > 0 { ",{" } else { "{" }, out);
            write_token(token, out);
            raw("}", out);
        }
        raw("]}", out);
    }
    raw("],\"refusal\":null}", out);
}

fn write_token(token: &Token, out: &mut Vec<u8>) {
    let text = token.token.map(Text::plain).unwrap_or(Cow::Borrowed(""));
    raw("\"token\":", out);
    string(&text, out);
    raw(",\"logprob\":", out);
    match token.log_probability.map(RawValue::get) {
        Some(number) if number.starts_with(['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) => raw(number, out),
        // "-Infinity": OpenAI's word for a token that was all but impossible.
        Some(_) => raw("-9999.0", out),
        None => raw("0.0", out),
    }
    raw(",\"bytes\":[", out);
    for (place, byte) in text.bytes().enumerate() {
        raw(if place > 0 { "," } else { "" }, out);
        number(byte.into(), out);
    }
    raw("]", out);
}
