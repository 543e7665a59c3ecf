//! Whatever a client sends: never a panic, never a request that is no JSON, never more than a bounded multiple of what came.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails where it stands"
)]

use keystorm::translate::{completions::prepare_completion, embedding_request::embeddings, request::prepare};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Map, Value, json};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_bytes_are_read_or_refused(body in vec(any::<u8>(), 0..400), model in "(gemini-[1-5]\\.?[0-9]?-|gemma-3|)[a-z:-]{0,12}") {
        run(&body, &model);
    }

    #[test]
    fn any_json_in_any_field_is_read_or_refused(
        fields in vec((select(FIELDS.to_vec()), value()), 0..8),
        model in select(MODELS.to_vec()),
    ) {
        let mut body = Map::from_iter(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
        body.entry("messages").or_insert_with(|| json!([{"role": "user", "content": "Hi"}]));
        body.entry("prompt").or_insert_with(|| json!("Hi"));
        body.entry("input").or_insert_with(|| json!("Hi"));
        run(Value::Object(body).to_string().as_bytes(), model);
    }

    #[test]
    fn any_conversation_is_taken(turns in vec(turn(), 1..8), model in select(MODELS.to_vec())) {
        let messages: Vec<Value> = turns.into_iter().flatten().collect();
        let body = json!({ "messages": messages }).to_string();
        prop_assert!(run(body.as_bytes(), model));
    }

    #[test]
    fn any_order_of_messages_is_taken_or_refused(
        turns in vec(turn(), 1..8),
        swaps in vec(any::<(prop::sample::Index, prop::sample::Index)>(), 0..3),
        noise in option::of(value()),
        model in select(MODELS.to_vec()),
    ) {
        let mut messages: Vec<Value> = turns.into_iter().flatten().collect();
        messages.extend(noise);
        for (one, other) in swaps {
            let (one, other) = (one.index(messages.len()), other.index(messages.len()));
            messages.swap(one, other);
        }
        run(json!({ "messages": messages }).to_string().as_bytes(), model);
    }

    #[test]
    fn any_schema_is_taken(schema in schema(), model in select(MODELS.to_vec())) {
        let function = json!({"type": "function", "function": {"name": "f", "parameters": schema}});
        let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
        let body = json!({"messages": [{"role": "user", "content": "Hi"}], "tools": [function], "response_format": format});
        prop_assert!(run(body.to_string().as_bytes(), model));
    }
}

/// Whether a chat request was read. Whatever was read can be mended for any refusal, and stays in its bounds.
fn run(body: &[u8], model: &str) -> bool {
    let bound = 16 * body.len() + 16_384;
    if let Ok(request) = embeddings(body, model) {
        assert!(request.batches.iter().all(|batch| is_json(batch)));
        assert!(request.batches.iter().map(|batch| batch.len()).sum::<usize>() < bound + 200 * request.count);
    }
    if let Ok(completion) = prepare_completion(body, model) {
        assert!(completion.requests.iter().all(|request| is_json(&request.body())));
    }
    let mut prepared = match prepare(body, model, &|id| (id.len() % 2 == 1).then(|| "c2ln".to_owned())) {
        Ok(prepared) => prepared,
        Err(error) => {
            assert_eq!(error.status, 400);
            assert!(error.message.len() < 1500, "{}", error.message.len());
            return false;
        }
    };
    for download in 0..prepared.downloads.len() + 1 {
        prepared.inline(download, "image/png", b"x").unwrap();
    }
    check(&prepared.body(), bound);
    for refusal in REFUSALS {
        prepared.adapt(refusal);
        check(&prepared.body(), bound);
        assert!(!prepared.adapt(refusal), "{refusal}");
    }
    true
}

fn check(body: &[u8], bound: usize) {
    assert!(body.len() < bound, "{} of {bound}", body.len());
    let body: Value = serde_json::from_slice(body).unwrap();
    let contents = body["contents"].as_array().unwrap();
    assert!(!contents.is_empty());
    for content in contents {
        assert!(content["role"] == "user" || content["role"] == "model");
        assert!(!content["parts"].as_array().unwrap().is_empty());
    }
    // Gemini wants as many results as there were calls, right after them.
    let count = |content: &Value, key| {
        content["parts"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|part| part.get(key).is_some())
            .count()
    };
    for (index, content) in contents.iter().enumerate() {
        let calls = count(content, "functionCall");
        let results = contents
            .get(index + 1)
            .map_or(0, |next| count(next, "functionResponse"));
        assert_eq!(calls, results, "{body}");
    }
}

fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body).is_ok()
}

/// JSON of any kind, with words that mean something here and there.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-3.0..3.0).prop_map(|number: f64| json!(number)),
        select(WORDS.to_vec()).prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        let key = prop_oneof![select(KEYS.to_vec()).prop_map(str::to_owned), "[a-z_$]{0,6}"];
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            vec((key, inner), 0..6).prop_map(|fields| Value::Object(Map::from_iter(fields))),
        ]
    })
}

/// What one side says, or a round of calls with their results in any order.
fn turn() -> impl Strategy<Value = Vec<Value>> {
    let text = || prop_oneof![select(WORDS.to_vec()).prop_map(str::to_owned), "\\PC{0,20}"];
    let call = (text(), option::of(text()), any::<bool>(), vec(part(), 0..3));
    let round = vec(call, 1..4).prop_shuffle().prop_flat_map(|calls| {
        let mut made = Vec::new();
        let mut results = Vec::new();
        for (index, (arguments, signature, is_custom, output)) in calls.into_iter().enumerate() {
            let id = format!("call_{index}");
            let mut call = if is_custom {
                json!({"id": id, "type": "custom", "custom": {"name": "2f", "input": arguments}})
            } else {
                json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}})
            };
            if let Some(signature) = signature {
                call["extra_content"] = json!({"google": {"thought_signature": signature}});
            }
            made.push(call);
            results.push(json!({"role": "tool", "tool_call_id": id, "content": output}));
        }
        let call = json!({"role": "assistant", "content": null, "tool_calls": made});
        Just(results)
            .prop_shuffle()
            .prop_map(move |results| [vec![call.clone()], results].concat())
    });
    prop_oneof![
        3 => vec(part(), 0..3).prop_map(|parts| vec![json!({"role": "user", "content": parts})]),
        1 => text().prop_map(|text| vec![json!({"role": "system", "content": text})]),
        2 => (text(), text()).prop_map(|(text, signature)| {
            vec![json!({"role": "assistant", "content": text, "extra_content": {"google": {"thought_signature": signature}}})]
        }),
        4 => round,
    ]
}

fn part() -> impl Strategy<Value = Value> {
    prop_oneof![
        select(WORDS.to_vec()).prop_map(|text| json!({"type": "text", "text": text})),
        "\\PC{0,20}".prop_map(|text| json!({"type": "text", "text": text})),
        "[a-z]{1,4}"
            .prop_map(|name| json!({"type": "image_url", "image_url": {"url": format!("http://e.example/{name}")}})),
        Just(json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD", "detail": "low"}})),
    ]
}

fn schema() -> impl Strategy<Value = Value> {
    let keyword = select(KEYWORDS.to_vec());
    let leaf = prop_oneof![
        3 => select(vec!["string", "integer", "object", "array", "null", "#/$defs/a", "#/properties/a", "#", "date-time"])
            .prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => any::<i32>().prop_map(Value::from),
    ];
    let inner = leaf.prop_recursive(5, 40, 5, move |inner| {
        let names = prop_oneof![keyword.clone(), select(vec!["a", "b"])];
        prop_oneof![
            1 => vec(inner.clone(), 0..4).prop_map(Value::from),
            3 => vec((names, inner), 0..5)
                .prop_map(|fields| Value::Object(Map::from_iter(fields.into_iter().map(|(name, value)| (name.to_owned(), value))))),
        ]
    });
    let top = vec((select(KEYWORDS.to_vec()), inner), 0..7);
    top.prop_map(|fields| {
        Value::Object(Map::from_iter(
            fields.into_iter().map(|(name, value)| (name.to_owned(), value)),
        ))
    })
}

const MODELS: [&str; 9] = [
    "gemini-1.5-pro",
    "gemini-2.0-flash",
    "gemini-2.5-flash:search",
    "gemini-2.5-flash-image",
    "gemini-3-pro-preview",
    "gemini-3-flash",
    "gemini-pro-latest",
    "gemma-3-27b-it",
    "gemini-embedding-001",
];

const FIELDS: [&str; 32] = [
    "messages",
    "stream",
    "stream_options",
    "n",
    "max_completion_tokens",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
    "top_logprobs",
    "response_format",
    "tools",
    "functions",
    "tool_choice",
    "function_call",
    "reasoning_effort",
    "reasoning",
    "modalities",
    "audio",
    "web_search_options",
    "service_tier",
    "google",
    "extra_body",
    "prompt",
    "suffix",
    "input",
    "dimensions",
];

const KEYS: [&str; 24] = [
    "type",
    "role",
    "content",
    "text",
    "function",
    "name",
    "parameters",
    "url",
    "image_url",
    "tool_calls",
    "tool_call_id",
    "id",
    "arguments",
    "google",
    "thinking_config",
    "generation_config",
    "safety_settings",
    "category",
    "threshold",
    "tools",
    "json_schema",
    "schema",
    "effort",
    "input_audio",
];

const WORDS: [&str; 16] = [
    "",
    "user",
    "text",
    "function",
    "auto",
    "required",
    "image_url",
    "high",
    "json_object",
    "{}",
    "[1]",
    "{\"a\":",
    "{\"$ref\":\"x\"}",
    "data:image/png;base64,QUJD",
    "https://e.example/a.png",
    "files/a",
];

const KEYWORDS: [&str; 24] = [
    "type",
    "properties",
    "items",
    "anyOf",
    "oneOf",
    "allOf",
    "$ref",
    "$defs",
    "definitions",
    "enum",
    "const",
    "required",
    "additionalProperties",
    "prefixItems",
    "description",
    "format",
    "minimum",
    "exclusiveMinimum",
    "nullable",
    "not",
    "$schema",
    "default",
    "pattern",
    "propertyOrdering",
];

const REFUSALS: [&str; 11] = [
    "Penalty is not enabled",
    "Logprobs is not enabled",
    "Multiple candidates is not enabled",
    "Developer instruction is not enabled",
    "JSON mode is not enabled",
    "thinking is not supported",
    "Tool use with function calling is unsupported",
    "Corrupted thought signature",
    "Unknown name at tools[0]",
    "temperature is not supported",
    "Unknown name mediaResolution",
];
