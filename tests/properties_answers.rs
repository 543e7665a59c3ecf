//! Whatever an upstream sends: never a panic, never JSON that cannot be read, never more than a bounded multiple of it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails where it stands"
)]

use keystorm::{
    sse::{Decoder, TooLong},
    translate::{
        embedding,
        response::{Kind, Shape, completion},
        stream::ChatStream,
        tools::Names,
    },
};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Map, Value, json};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_stream_of_any_bytes_is_read_alike_wherever_it_is_cut(
        stream in vec(select(b"data: \r\n\n:{}x\xc3\xa9\xef\xbb\xbf".to_vec()), 0..200),
        cuts in vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let whole = events(&[&stream], 1000).unwrap();
        prop_assert!(whole.iter().map(Vec::len).sum::<usize>() <= stream.len());
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        places.extend([0, stream.len()]);
        places.sort_unstable();
        let pieces: Vec<&[u8]> = places.windows(2).map(|ends| &stream[ends[0]..ends[1]]).collect();
        prop_assert_eq!(events(&pieces, 1000).unwrap(), whole);
    }

    #[test]
    fn no_event_is_longer_than_allowed(
        pieces in vec(vec(select(b"data: \nxxxx".to_vec()), 0..40), 0..20),
        limit in 0..60_usize,
    ) {
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let mut longest = 0;
        let mut decoder = Decoder::new(limit);
        for piece in pieces {
            if decoder.push(piece, |data| longest = longest.max(data.len())).is_err() {
                break;
            }
        }
        // A line that is held has its field's name before it.
        prop_assert!(longest <= limit + 16, "{longest} of {limit}");
    }

    #[test]
    fn any_bytes_at_all_are_an_answer_or_an_error(body in vec(any::<u8>(), 0..200)) {
        let names = Names::default();
        for kind in [Kind::Chat, Kind::Completion { echo: &[] }] {
            let shape = shape(&names, kind);
            let _ = completion(&[&body], &shape);
            let mut stream = ChatStream::new(&shape, 0, true);
            let mut out = Vec::new();
            let _ = stream.push(&body, &mut out);
            let _ = stream.finish(&mut out);
        }
        let shape = embedding::Shape { model: "m", base64: true, count: 1, estimate: 1 };
        let _ = embedding::embeddings(&[&body], &shape);
    }

    #[test]
    fn whatever_looks_like_an_answer_becomes_json_of_bounded_length(answers in vec(answer(), 1..4), is_last in any::<bool>()) {
        let bodies: Vec<Vec<u8>> = answers.iter().map(|answer| answer.to_string().into_bytes()).collect();
        let length: usize = bodies.iter().map(Vec::len).sum();
        let names = Names::default();
        for kind in [Kind::Chat, Kind::Completion { echo: &["echo".into()] }] {
            let shape = Shape { is_last, ..shape(&names, kind) };
            let slices: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
            if let Ok(answer) = completion(&slices, &shape) {
                let body: Value = serde_json::from_slice(&answer.body).unwrap();
                let usage = &body["usage"];
                let sum = usage["prompt_tokens"].as_u64().unwrap().saturating_add(usage["completion_tokens"].as_u64().unwrap());
                prop_assert_eq!(usage["total_tokens"].as_u64().unwrap(), sum);
                for choice in body["choices"].as_array().unwrap() {
                    prop_assert!(FINISH_REASONS.contains(&choice["finish_reason"].as_str().unwrap()));
                }
                prop_assert!(answer.body.len() <= MOST * length + 10_000, "{} of {length}", answer.body.len());
            }
            let mut stream = ChatStream::new(&shape, 0, true);
            let mut out = Vec::new();
            let mut result = Ok(());
            for body in &bodies {
                result = result.and_then(|()| stream.push(body, &mut out));
                prop_assert!(out.is_empty() || stream.is_committed());
            }
            if result.and_then(|()| stream.finish(&mut out)).is_ok() {
                stream.tail(stream.usage(), &mut out);
                prop_assert!(out.ends_with(b"data: [DONE]\n\n"));
            }
            prop_assert!(out.len() <= MOST * length + 10_000, "{} of {length}", out.len());
            for event in events(&[&out], 1 << 20).unwrap() {
                prop_assert!(event == b"[DONE]" || serde_json::from_slice::<Value>(&event).is_ok());
            }
        }
    }

    #[test]
    fn a_stream_says_what_a_whole_answer_says(answer in answer(), cut in any::<prop::sample::Index>()) {
        let names = Names::default();
        let shape = Shape { is_last: true, pcm: true, ..shape(&names, Kind::Chat) };
        let body = answer.to_string().into_bytes();
        let mut stream = ChatStream::new(&shape, 0, true);
        let mut out = Vec::new();
        // One answer in two events: the parts of each candidate are cut anywhere.
        let (one, two) = halves(&answer, cut);
        let streamed = stream.push(one.to_string().as_bytes(), &mut out)
            .and_then(|()| stream.push(two.to_string().as_bytes(), &mut out))
            .and_then(|()| stream.finish(&mut out));
        let whole = completion(&[&body], &shape);
        // A stream wants a finish reason where a whole answer does without.
        prop_assert!(whole.is_ok() || streamed.is_err());
        let (Ok(whole), Ok(())) = (whole, streamed) else { return Ok(()) };
        let whole: Value = serde_json::from_slice(&whole.body).unwrap();
        if let [choice] = whole["choices"].as_array().unwrap().as_slice() {
            let told = gathered(&out);
            for field in ["content", "reasoning_content", "refusal"] {
                let wanted = choice["message"][field].as_str().unwrap_or_default();
                prop_assert_eq!(told[field].as_str().unwrap_or_default(), wanted, "{}", field);
            }
            let calls = |message: &Value| -> Vec<(Value, Value)> {
                let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
                calls.into_iter().map(|call| (call["function"].clone(), call["extra_content"].clone())).collect()
            };
            prop_assert_eq!(calls(&told), calls(&choice["message"]));
            prop_assert_eq!(&told["images"], &choice["message"]["images"]);
            prop_assert_eq!(&told["finish_reason"], &choice["finish_reason"]);
        }
    }
}

/// An answer as two events: the first half of each candidate's parts, and the rest with all else.
fn halves(answer: &Value, cut: prop::sample::Index) -> (Value, Value) {
    let (mut one, mut two) = (json!({ "candidates": [] }), answer.clone());
    let candidates = two.get_mut("candidates").and_then(Value::as_array_mut);
    for (place, candidate) in candidates.into_iter().flatten().enumerate() {
        let index = candidate.get("index").cloned().unwrap_or_else(|| place.into());
        if let Some(parts) = candidate.pointer_mut("/content/parts").and_then(Value::as_array_mut) {
            let rest = parts.split_off(cut.index(parts.len() + 1));
            let first = std::mem::replace(parts, rest);
            let first = json!({ "index": index, "content": { "parts": first } });
            one["candidates"].as_array_mut().unwrap().push(first);
        }
    }
    (one, two)
}

/// What a client makes of the deltas of a stream with one choice.
fn gathered(stream: &[u8]) -> Value {
    let mut message = json!({});
    for event in events(&[stream], 1 << 20).unwrap() {
        let chunk: Value = serde_json::from_slice(&event).unwrap();
        let Some(choice) = chunk["choices"].get(0) else {
            continue;
        };
        if choice["finish_reason"].is_string() {
            message["finish_reason"] = choice["finish_reason"].clone();
        }
        for (field, value) in choice["delta"].as_object().unwrap() {
            match (message.get_mut(field), value) {
                (Some(Value::String(so_far)), Value::String(more)) => so_far.push_str(more),
                (Some(Value::Array(so_far)), Value::Array(more)) => so_far.extend(more.iter().cloned()),
                _ => message[field.as_str()] = value.clone(),
            }
        }
    }
    message
}

/// A chunk has some 250 bytes beside what it says, and the shortest part has 5.
const MOST: usize = 64;

const FINISH_REASONS: [&str; 4] = ["stop", "length", "tool_calls", "content_filter"];

fn events(pieces: &[&[u8]], limit: usize) -> Result<Vec<Vec<u8>>, TooLong> {
    let mut decoder = Decoder::new(limit);
    let mut events = Vec::new();
    for piece in pieces {
        decoder.push(piece, |data| events.push(data.to_vec()))?;
    }
    decoder.finish(|data| events.push(data.to_vec()))?;
    Ok(events)
}

const fn shape<'s>(names: &'s Names, kind: Kind<'s>) -> Shape<'s> {
    Shape {
        id: "answer-1",
        created: 1_790_000_000,
        model: "gemini-2.5-flash",
        names,
        seed: 1,
        kind,
        service_tier: None,
        pcm: false,
        is_last: false,
    }
}

/// JSON with Gemini's names in Gemini's places, and now and then something else there.
fn answer() -> impl Strategy<Value = Value> {
    let counts = object(&[
        ("promptTokenCount", number().boxed()),
        ("candidatesTokenCount", number().boxed()),
        ("thoughtsTokenCount", number().boxed()),
        ("totalTokenCount", number().boxed()),
    ]);
    let feedback = object(&[("blockReason", word().boxed())]);
    object(&[
        ("candidates", list(candidate().boxed(), 3)),
        ("candidates", list(candidate().boxed(), 3)),
        ("usageMetadata", counts.boxed()),
        ("promptFeedback", feedback.boxed()),
    ])
}

fn candidate() -> impl Strategy<Value = Value> {
    let segment = object(&[
        ("startIndex", number().boxed()),
        ("endIndex", number().boxed()),
        ("partIndex", number().boxed()),
        ("text", text().boxed()),
    ]);
    let support = object(&[
        ("segment", segment.boxed()),
        ("groundingChunkIndices", list(number().boxed(), 3)),
    ]);
    let web = object(&[("uri", text().boxed()), ("title", text().boxed())]);
    let grounding = object(&[
        ("groundingSupports", list(support.boxed(), 3)),
        ("groundingChunks", list(object(&[("web", web.boxed())]).boxed(), 3)),
    ]);
    let token = object(&[("token", text().boxed()), ("logProbability", anything().boxed())]);
    let logprobs = object(&[("chosenCandidates", list(token.boxed(), 3))]);
    object(&[
        ("content", object(&[("parts", list(part().boxed(), 4))]).boxed()),
        ("content", object(&[("parts", list(part().boxed(), 4))]).boxed()),
        ("finishReason", word().boxed()),
        ("finishReason", word().boxed()),
        ("finishMessage", text().boxed()),
        ("groundingMetadata", grounding.boxed()),
        ("logprobsResult", logprobs.boxed()),
        ("index", (0..3_u32).prop_map(Value::from).boxed()),
    ])
}

fn part() -> impl Strategy<Value = Value> {
    let call = object(&[
        ("name", text().boxed()),
        ("args", anything().boxed()),
        ("id", text().boxed()),
    ]);
    let mime = select(vec!["image/png", "audio/L16", "x", "\u{e9}audio"]).prop_map(Value::from);
    let data = object(&[("mimeType", mime.boxed()), ("data", text().boxed())]);
    let code = object(&[("language", word().boxed()), ("code", text().boxed())]);
    object(&[
        ("text", text().boxed()),
        ("text", text().boxed()),
        ("thought", any::<bool>().prop_map(Value::from).boxed()),
        ("thoughtSignature", text().boxed()),
        ("functionCall", call.boxed()),
        ("inlineData", data.boxed()),
        ("executableCode", code.boxed()),
        ("codeExecutionResult", object(&[("output", text().boxed())]).boxed()),
    ])
}

/// An object with some of these fields.
fn object(fields: &[(&'static str, BoxedStrategy<Value>)]) -> impl Strategy<Value = Value> + use<> {
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| (Just(*name), prop::option::weighted(0.6, value.clone())))
        .collect();
    let object = fields.prop_map(|fields| {
        let fields = fields
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Value::Object(fields.collect::<Map<_, _>>())
    });
    prop_oneof![60 => object, 1 => anything()]
}

fn list(item: BoxedStrategy<Value>, most: usize) -> BoxedStrategy<Value> {
    vec(item, 0..most).prop_map(Value::Array).boxed()
}

fn text() -> impl Strategy<Value = Value> {
    prop_oneof![
        40 => "[a\u{e9}\u{1f600}\"\\\\\n`\u{0}\u{2028}]{0,12}".prop_map(Value::from),
        1 => Just(Value::Null),
        1 => anything(),
    ]
}

fn word() -> impl Strategy<Value = Value> {
    let words = vec![
        "STOP",
        "MAX_TOKENS",
        "SAFETY",
        "OTHER",
        "MALFORMED_FUNCTION_CALL",
        "NEW",
        "PYTHON",
        "",
    ];
    prop_oneof![40 => select(words).prop_map(Value::from), 1 => anything()]
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![40 => (0..30_u32).prop_map(Value::from), 10 => any::<i64>().prop_map(Value::from), 1 => anything()]
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f32>().prop_map(Value::from),
        "[a\"\\\\\n]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::Array),
            vec(("[a\"]{0,3}", inner), 0..3).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}
