//! Where in a JSON text a fault is, as a path of fields: `messages[1].content[0].type`.
//!
//! serde_json tells a fault's line and column and not its field. A reader that carries the path along would double every
//! derived reader in the component (a quarter of a megabyte) for the sake of a refused request; going over the text once
//! more does not.

use std::fmt::Write as _;

/// The path to what `error` is about. `text` is what was read; it is valid JSON up to there.
pub(super) fn of_fault(text: &[u8], error: &serde_json::Error) -> String {
    let line_start = match error.line() {
        0 | 1 => 0,
        line => memchr::memchr_iter(b'\n', text).nth(line - 2).map_or(0, |at| at + 1),
    };
    let is_of_list = error.to_string().starts_with("invalid type: sequence");
    at(text, line_start + error.column(), is_of_list)
}

/// Something that holds values, and which of them is meant.
enum Frame<'a> {
    /// The field's name as it is written, between its quotes.
    Object(Option<&'a [u8]>),
    /// How many values came before, and whether this one has begun.
    Array(usize, bool),
}

/// The path to the value that ends at `end` or, where one begins there that nobody expects, to that one. A list that nobody
/// expects is told before it or behind its bracket; of two brackets in a row the inner one is taken.
fn at(text: &[u8], end: usize, is_of_list: bool) -> String {
    let mut frames: Vec<Frame<'_>> = Vec::new();
    let read = text.get(..end).unwrap_or(text);
    let mut position = 0;
    while let Some(&byte) = read.get(position) {
        let mut next = position + 1;
        match byte {
            b'{' | b'[' => {
                begin(&mut frames);
                frames.push(if byte == b'{' {
                    Frame::Object(None)
                } else {
                    Frame::Array(0, false)
                });
            }
            b'}' | b']' => {
                frames.pop();
            }
            b',' => match frames.last_mut() {
                Some(Frame::Object(name)) => *name = None,
                Some(Frame::Array(before, has_begun)) => (*before, *has_begun) = (*before + 1, false),
                None => {}
            },
            b'"' => {
                next = string_end(read, next);
                match frames.last_mut() {
                    Some(Frame::Object(name @ None)) => *name = read.get(position + 1..next.saturating_sub(1)),
                    _ => begin(&mut frames),
                }
            }
            b':' | b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => begin(&mut frames),
        }
        position = next;
    }
    let behind = text.get(end..).unwrap_or_default().trim_ascii_start();
    match behind.first() {
        Some(b'{') if !is_of_list => begin(&mut frames),
        Some(b'[') => begin(&mut frames),
        _ => {}
    }
    join(&frames)
}

fn begin(frames: &mut [Frame<'_>]) {
    if let Some(Frame::Array(_, has_begun)) = frames.last_mut() {
        *has_begun = true;
    }
}

/// Behind the closing quote of a string that begins at `start`.
fn string_end(text: &[u8], start: usize) -> usize {
    let mut position = start;
    while let Some(found) = memchr::memchr2(b'"', b'\\', text.get(position..).unwrap_or_default()) {
        position += found + 1;
        if text.get(position - 1) == Some(&b'"') {
            return position;
        }
        position += 1;
    }
    text.len()
}

fn join(frames: &[Frame<'_>]) -> String {
    let mut path = String::new();
    for frame in frames {
        match frame {
            Frame::Object(Some(name)) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&String::from_utf8_lossy(name));
            }
            Frame::Array(before, true) => {
                let _ = write!(path, "[{before}]");
            }
            Frame::Object(None) | Frame::Array(_, false) => {}
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::openai::{chat::ChatRequest, completions::CompletionRequest, embeddings::EmbeddingRequest};

    /// Every value of `whole` in its turn, replaced by each of some that may not fit there.
    fn spoilt(whole: &Value) -> Vec<Value> {
        fn places(value: &Value, pointer: &str, found: &mut Vec<String>) {
            let inside: Vec<(String, &Value)> = match value {
                Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), value)).collect(),
                Value::Array(items) => items
                    .iter()
                    .enumerate()
                    .map(|(n, value)| (n.to_string(), value))
                    .collect(),
                _ => Vec::new(),
            };
            for (name, value) in inside {
                let pointer = format!("{pointer}/{name}");
                found.push(pointer.clone());
                places(value, &pointer, found);
            }
        }
        let mut pointers = Vec::new();
        places(whole, "", &mut pointers);
        let wrong = [
            json!(true),
            json!(-1.5),
            json!(7),
            json!("x\"]}\\"),
            json!({}),
            json!({"a": [1]}),
            json!([]),
            json!([{"b": 2}]),
            json!([true]),
        ];
        let spoil = |pointer: &String| {
            wrong
                .iter()
                .map(|value| {
                    let mut spoilt = whole.clone();
                    *spoilt.pointer_mut(pointer).unwrap() = value.clone();
                    spoilt
                })
                .collect::<Vec<_>>()
        };
        pointers.iter().flat_map(spoil).collect()
    }

    /// Compares with a reader that carries the path along; how many faults were compared.
    macro_rules! compare {
        ($request:ty, $whole:expr) => {{
            let mut faults = 0;
            for value in spoilt(&$whole) {
                for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
                    let Err(error) = serde_json::from_str::<$request>(&text) else {
                        continue;
                    };
                    // A list that is too long for the object in whose place it stands is told with the value that is too much.
                    if !error.is_data() {
                        continue;
                    }
                    let mut reader = serde_json::Deserializer::from_str(&text);
                    let tracked: Result<$request, _> = serde_path_to_error::deserialize(&mut reader);
                    let expected = tracked.unwrap_err().path().to_string();
                    assert_eq!(of_fault(text.as_bytes(), &error), expected, "{error} in {text}");
                    faults += 1;
                }
            }
            faults
        }};
    }

    #[test]
    fn the_path_is_the_one_that_a_tracking_reader_finds() {
        let chat = json!({
            "model": "m", "n": 1, "temperature": 0.5, "stop": ["a", "b"], "stream": true,
            "stream_options": {"include_usage": true}, "logit_bias": {"50256": -100},
            "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}},
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "messages": [
                {"role": "user", "content": "a \"quoted\" word, [and] {more}"},
                {"role": "user", "content": [
                    {"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "u", "detail": "low"}},
                    {"type": "input_audio", "input_audio": {"data": "d", "format": "wav"}},
                ]},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                ]},
                {"role": "tool", "tool_call_id": "1", "content": "y"},
            ],
        });
        assert!(compare!(ChatRequest<'_>, chat) > 500);
        let legacy =
            json!({"model": "m", "prompt": ["a", "b"], "max_tokens": 5, "stop": "x", "suffix": "s", "echo": false});
        assert!(compare!(CompletionRequest<'_>, legacy) > 20);
        let embeddings = json!({"model": "m", "input": ["a", "b"], "dimensions": 5, "encoding_format": "float"});
        assert!(compare!(EmbeddingRequest<'_>, embeddings) > 20);
    }
}
