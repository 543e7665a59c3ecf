//! How fast Gemini's event streams become OpenAI's, in bytes of the upstream's, beside serde_json reading the same events into
//! typed structs and writing nothing.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a measurement that cannot go on fails where it stands"
)]

use std::{borrow::Cow, hint::black_box};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use keystorm::{
    sse::Decoder,
    translate::{
        response::{Kind, Shape, completion},
        stream::ChatStream,
        tools::Names,
    },
};
use serde::Deserialize;
use serde_json::{Value, json};

/// The body pieces in which hosts hand over what comes from the network.
const PIECE: usize = 16 * 1024;

fn streams(criterion: &mut Criterion) {
    for (name, event) in events() {
        let event = format!("data: {event}\r\n\r\n");
        let upstream = event.repeat((4 << 20) / event.len() + 1);
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(upstream.len() as u64));
        group.bench_function("translate", |bencher| {
            let mut out = Vec::new();
            bencher.iter(|| {
                let mut stream = ChatStream::new(&shape(&Names::default()), 0, true);
                let mut decoder = Decoder::new(8 << 20);
                for piece in upstream.as_bytes().chunks(PIECE) {
                    out.clear();
                    decoder
                        .push(piece, |data| stream.push(data, &mut out).unwrap())
                        .unwrap();
                    black_box(&out);
                }
            });
        });
        group.bench_function("serde_json", |bencher| {
            let events: Vec<&str> = upstream.split_terminator("\r\n\r\n").collect();
            bencher.iter(|| {
                for event in &events {
                    let event: Event = serde_json::from_str(&event[6..]).unwrap();
                    black_box(event);
                }
            });
        });
        group.finish();
    }
}

fn answers(criterion: &mut Criterion) {
    for (name, event) in events() {
        let mut group = criterion.benchmark_group(format!("whole {name}"));
        group.throughput(Throughput::Bytes(event.len() as u64));
        group.bench_function("translate", |bencher| {
            bencher.iter(|| completion(&[event.as_bytes()], &shape(&Names::default())).unwrap());
        });
        group.bench_function("serde_json", |bencher| {
            bencher.iter(|| {
                let event: Event = serde_json::from_str(&event).unwrap();
                black_box(event);
            });
        });
        group.finish();
    }
}

fn shape(names: &Names) -> Shape<'_> {
    Shape {
        id: "chatcmpl-4ZbXcVbNmAsDfGhJkLqWeRtY",
        created: 1_790_000_000,
        model: "gemini-2.5-flash",
        names,
        seed: 1,
        kind: Kind::Chat,
        service_tier: None,
        pcm: false,
        is_last: false,
    }
}

/// Events as Gemini sends them: a sentence, a paragraph with escapes, a call, a picture.
fn events() -> Vec<(&'static str, String)> {
    let sentence = "The quick brown fox jumps over the lazy dog, and then it sleeps for a while. ";
    let paragraph = "\"Ünïcödé\" and code: `if a < b { print(\"\\n\") }`\n\n".repeat(20);
    let call = json!({ "functionCall": { "name": "get_weather", "args": {
        "city": "Paris", "days": [1, 2, 3], "units": { "temperature": "celsius", "wind": "km/h" }
    } } });
    let picture =
        json!({ "inlineData": { "mimeType": "image/png", "data": "iVBORw0KGgoAAAANSUhEUgAA".repeat(40_000) } });
    vec![
        ("sentences", event(&json!({ "text": sentence }))),
        ("paragraphs", event(&json!({ "text": paragraph }))),
        ("calls", event(&call)),
        ("pictures", event(&picture)),
    ]
}

fn event(part: &Value) -> String {
    json!({
        "candidates": [{ "content": { "parts": [part], "role": "model" }, "finishReason": "STOP", "index": 0 }],
        "usageMetadata": {
            "promptTokenCount": 8, "candidatesTokenCount": 31, "totalTokenCount": 39,
            "promptTokensDetails": [{ "modality": "TEXT", "tokenCount": 8 }]
        },
        "modelVersion": "gemini-2.5-flash", "responseId": "q1w2e3r4t5y6u7i8"
    })
    .to_string()
}

/// The same events as an ordinary program would read them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "they are read, and that is what is measured")]
struct Event<'a> {
    #[serde(borrow)]
    candidates: Vec<Candidate<'a>>,
    usage_metadata: Option<Usage>,
    #[serde(borrow)]
    model_version: Cow<'a, str>,
    #[serde(borrow)]
    response_id: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "they are read, and that is what is measured")]
struct Candidate<'a> {
    #[serde(borrow)]
    content: Content<'a>,
    #[serde(borrow)]
    finish_reason: Cow<'a, str>,
    index: u32,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "they are read, and that is what is measured")]
struct Content<'a> {
    #[serde(borrow)]
    parts: Vec<Part<'a>>,
    #[serde(borrow)]
    role: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "they are read, and that is what is measured")]
struct Part<'a> {
    #[serde(borrow)]
    text: Option<Text<'a>>,
    #[serde(borrow)]
    inline_data: Option<Blob<'a>>,
    function_call: Option<Call>,
}

/// Text that is copied only where it has escapes.
#[derive(Deserialize)]
#[allow(dead_code, reason = "they are read, and that is what is measured")]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "they are read, and that is what is measured")]
struct Blob<'a> {
    #[serde(borrow)]
    mime_type: Cow<'a, str>,
    #[serde(borrow)]
    data: Cow<'a, str>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "they are read, and that is what is measured")]
struct Call {
    name: String,
    args: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "they are read, and that is what is measured")]
struct Usage {
    prompt_token_count: u64,
    candidates_token_count: u64,
    total_token_count: u64,
    prompt_tokens_details: Vec<Modality>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "they are read, and that is what is measured")]
struct Modality {
    modality: String,
    token_count: u64,
}

criterion_group!(benches, streams, answers);
criterion_main!(benches);
