//! What translating a request costs, beside reading the same bytes into the same structs alone.

#![allow(
    clippy::unwrap_used,
    reason = "a measurement that cannot go on fails where it stands"
)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use keystorm::{openai::chat::ChatRequest, translate::request::prepare};
use serde_json::{Value, json};

criterion_group!(benches, requests);
criterion_main!(benches);

fn requests(criterion: &mut Criterion) {
    for (name, request) in [("image", image()), ("history", history()), ("tools", tools())] {
        let body = request.to_string();
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(body.len() as u64)).sample_size(20);
        group.bench_function("read by serde_json", |bencher| {
            bencher.iter(|| {
                let read: ChatRequest<'_> = serde_json::from_slice(black_box(body.as_bytes())).unwrap();
                black_box(read.messages.map(|messages| messages.len()))
            });
        });
        group.bench_function("translated and written", |bencher| {
            bencher.iter(|| {
                let prepared = prepare(black_box(body.as_bytes()), "gemini-3-flash", &|_| None).unwrap();
                black_box(prepared.body())
            });
        });
        group.finish();
    }
}

/// A question about an image of 15 MB, which is 20 MB in base64.
fn image() -> Value {
    let url = format!("data:image/png;base64,{}", "QUJD".repeat(5 << 20));
    json!({ "messages": [{ "role": "user", "content": [
        { "type": "text", "text": "What is it?" },
        { "type": "image_url", "image_url": { "url": url } },
    ] }] })
}

/// A long conversation: 300 messages of 3 kB, half of them with quotes and line ends.
fn history() -> Value {
    let escaped = "Some words, \"quoted\", of a long text that goes on.\nAnd a second line without. ".repeat(40);
    let plain = "And a line with words that have no escapes at all in them, for a while, and a bit. ".repeat(40);
    let messages: Vec<Value> = (0..300)
        .map(|number| {
            let role = if number % 2 == 0 { "user" } else { "assistant" };
            let text = if number % 4 < 2 { &escaped } else { &plain };
            json!({ "role": role, "content": text })
        })
        .collect();
    json!({ "messages": messages })
}

/// A hundred functions, as agents declare them.
fn tools() -> Value {
    let tools: Vec<Value> = (0..100)
        .map(|number| {
            json!({ "type": "function", "function": {
                "name": format!("function_{number}"),
                "description": "Does something useful with a few arguments",
                "parameters": {
                    "type": "object",
                    "properties": {
                        "a": { "type": "string", "description": "The first of the arguments" },
                        "b": { "type": "array", "items": { "type": "integer" } },
                        "c": { "type": ["string", "null"], "enum": ["x", "y"] },
                    },
                    "required": ["a"],
                    "additionalProperties": false,
                },
            } })
        })
        .collect();
    json!({ "messages": [{ "role": "user", "content": "Hi" }], "tools": tools })
}
