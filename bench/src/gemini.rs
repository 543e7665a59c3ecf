//! Gemini's dialect, as strict as the real service where clients stumble: unknown fields, roles, calls without results and
//! missing thought signatures are refused in its own words.
//!
//! What it answers is decided by the last user text: `call:NAME({...})` makes a function call (several make parallel ones),
//! `block` a blocked prompt, `long` an answer cut at its most tokens; a schema is answered with JSON that fits it, function
//! results and images with what was seen of them, and everything else with `You said: ...`.

use serde_json::{Map, Value, json};

/// What a request is answered with.
pub(crate) enum Answer {
    /// One JSON object.
    Whole(Value),
    /// Events of a stream.
    Events(Vec<Value>),
    /// An error: its HTTP code, google.rpc status and message.
    Refused(u16, &'static str, String),
}

/// Answers a call to `path`, without its query.
pub(crate) fn answer(path: &str, request: &Value) -> Answer {
    let Some((_, below)) = path.split_once("/models") else {
        return not_found("the path");
    };
    let Some((model, verb)) = below.trim_start_matches('/').split_once(':') else {
        return models(below.trim_start_matches('/'));
    };
    if !MODELS.contains(&model) {
        return not_found(&format!("models/{model}"));
    }
    match verb {
        "countTokens" => Answer::Whole(json!({ "totalTokens": 3 })),
        "embedContent" => Answer::Whole(json!({ "embedding": { "values": vector(request) } })),
        "batchEmbedContents" => embeddings(model, request),
        "generateContent" | "streamGenerateContent" => match refusal(model, request) {
            Some(message) => Answer::Refused(400, "INVALID_ARGUMENT", message),
            None if verb == "generateContent" => Answer::Whole(whole(&events(model, request))),
            None => Answer::Events(events(model, request)),
        },
        _ => not_found(verb),
    }
}

/// Google's error object for a key's fault; `None` for a key that has none.
pub(crate) fn fault(fault: &str, key: &str) -> Option<(u16, Value)> {
    let (code, status, message, details) = match fault {
        "limited" => (
            429,
            "RESOURCE_EXHAUSTED",
            "You exceeded your current quota.".to_owned(),
            json!([
                { "@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{
                    "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
                    "quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "quotaValue": "10",
                }] },
                { "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "20s" },
            ]),
        ),
        "dead" => (
            400,
            "INVALID_ARGUMENT",
            format!("API key not valid: {key}. Please pass a valid API key."),
            json!([{ "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com" }]),
        ),
        "broken" => (500, "INTERNAL", "An internal error has occurred.".to_owned(), json!([])),
        _ => return None,
    };
    let error = json!({ "code": code, "message": message, "status": status, "details": details });
    Some((code, json!({ "error": error })))
}

fn not_found(what: &str) -> Answer {
    Answer::Refused(404, "NOT_FOUND", format!("{what} is not found for API version v1beta."))
}

fn models(id: &str) -> Answer {
    let model = |id: &str| json!({ "name": format!("models/{id}"), "version": "001", "displayName": id, "supportedGenerationMethods": ["generateContent", "countTokens"] });
    if id.is_empty() {
        return Answer::Whole(json!({ "models": MODELS.map(model) }));
    }
    if MODELS.contains(&id) {
        Answer::Whole(model(id))
    } else {
        not_found(&format!("models/{id}"))
    }
}

/// Why a generation is refused.
fn refusal(model: &str, request: &Value) -> Option<String> {
    if let Some(name) = unknown(request, &TOP) {
        return Some(format!(
            "Invalid JSON payload received. Unknown name \"{name}\": Cannot find field."
        ));
    }
    let config = &request["generationConfig"];
    if let Some(name) = unknown(config, &CONFIG) {
        return Some(format!(
            "Invalid JSON payload received. Unknown name \"{name}\" at 'generation_config': Cannot find field."
        ));
    }
    if config["candidateCount"].as_u64().is_some_and(|count| count > 1) {
        return Some("Multiple candidates is not enabled for this model".to_owned());
    }
    if !model.starts_with("gemini-2.0")
        && (config["presencePenalty"].is_number() || config["frequencyPenalty"].is_number())
    {
        return Some(format!("Penalty is not enabled for models/{model}"));
    }
    let thinking = &config["thinkingConfig"];
    if thinking["thinkingLevel"].is_string() && thinking["thinkingBudget"].is_number() {
        return Some("You can only set only one of thinking budget and thinking level.".to_owned());
    }
    if thinking["thinkingLevel"].is_string() && !model.starts_with("gemini-3") {
        return Some("Thinking level is not supported for this model.".to_owned());
    }
    if config["responseMimeType"] == "application/json" && request["tools"].is_array() && !model.starts_with("gemini-3")
    {
        return Some("Function calling with a response mime type: 'application/json' is unsupported".to_owned());
    }
    turns(model, request)
}

/// Whether calls and results take turns as they have to.
fn turns(model: &str, request: &Value) -> Option<String> {
    let contents = list(&request["contents"]);
    if contents.is_empty() {
        return Some("GenerateContentRequest.contents: contents is not specified".to_owned());
    }
    let mut calls = 0;
    for (index, content) in contents.iter().enumerate() {
        let parts = list(&content["parts"]);
        if parts.is_empty() {
            return Some(format!(
                "GenerateContentRequest.contents[{index}].parts: contents.parts must not be empty."
            ));
        }
        let role = content["role"].as_str().unwrap_or_default();
        if !["user", "model"].contains(&role) {
            return Some("Please use a valid role: user, model.".to_owned());
        }
        let made = parts.iter().filter(|part| part["functionCall"].is_object()).count();
        let results = parts.iter().filter(|part| part["functionResponse"].is_object()).count();
        if results != calls && (calls > 0 || results > 0) {
            return Some("Please ensure that the number of function response parts is equal to the number of function call parts of the function call turn.".to_owned());
        }
        let responses = parts.iter().filter_map(|part| part.get("functionResponse"));
        if responses.into_iter().any(|result| !result["response"].is_object()) {
            return Some(format!(
                "Invalid value at 'contents[{index}].parts.function_response.response' (type.googleapis.com/google.protobuf.Struct)"
            ));
        }
        if made > 0 && index == 0 {
            return Some("Please ensure that function call turn comes immediately after a user turn or after a function response turn.".to_owned());
        }
        calls = made;
    }
    if calls > 0 {
        return Some("Please ensure that the number of function response parts is equal to the number of function call parts of the function call turn.".to_owned());
    }
    if !model.starts_with("gemini-3") {
        return None;
    }
    // From the last user content with anything but results on, the first call of each content needs its signature.
    let begins = |content: &Value| {
        content["role"] == "user"
            && !list(&content["parts"])
                .iter()
                .all(|part| part["functionResponse"].is_object())
    };
    let turn = contents.iter().rposition(begins).unwrap_or_default();
    contents.iter().skip(turn).find_map(|content| {
        let first = list(&content["parts"])
            .iter()
            .find(|part| part["functionCall"].is_object())?;
        let name = first["functionCall"]["name"].as_str().unwrap_or_default();
        let given = first["thoughtSignature"].as_str().unwrap_or_default();
        if given.is_empty() {
            return Some(format!(
                "Function call is missing a thought_signature in functionCall parts. Function call `default_api:{name}`"
            ));
        }
        (given != SIGNATURE && !DUMMIES.contains(&given)).then(|| "Corrupted thought signature.".to_owned())
    })
}

/// The events of a stream; put together they are the whole answer.
fn events(model: &str, request: &Value) -> Vec<Value> {
    let contents = list(&request["contents"]);
    let last = contents
        .last()
        .map(|content| list(&content["parts"]))
        .unwrap_or_default();
    let text: String = last.iter().filter_map(|part| part["text"].as_str()).collect();
    if text.contains("block") {
        return vec![
            json!({ "promptFeedback": { "blockReason": "SAFETY" }, "usageMetadata": { "promptTokenCount": 3, "totalTokenCount": 3 }, "modelVersion": model }),
        ];
    }
    let config = &request["generationConfig"];
    let mut parts = Vec::new();
    if config["thinkingConfig"]["includeThoughts"] == json!(true) {
        parts.push(json!({ "text": "Let me think.", "thought": true }));
    }
    let mut finish = "STOP";
    let calls = calls(&text, request);
    if !calls.is_empty() {
        for (index, call) in calls.into_iter().enumerate() {
            let mut part = json!({ "functionCall": call });
            if index == 0 && model.starts_with("gemini-3") {
                part["thoughtSignature"] = json!(SIGNATURE);
            }
            parts.push(part);
        }
    } else if config["responseMimeType"] == "application/json" {
        let schema = if config["responseJsonSchema"].is_object() {
            &config["responseJsonSchema"]
        } else {
            &config["responseSchema"]
        };
        parts.push(json!({ "text": example(schema, schema, 0).to_string() }));
    } else if text.contains("long") {
        finish = "MAX_TOKENS";
    } else {
        let said = said(last, &text);
        parts.extend(said.split_inclusive(' ').map(|word| json!({ "text": word })));
    }
    let usage = json!({ "promptTokenCount": 3, "candidatesTokenCount": 5, "thoughtsTokenCount": 2, "totalTokenCount": 10, "cachedContentTokenCount": 1 });
    let event = |parts: Vec<Value>| json!({ "candidates": [{ "content": { "role": "model", "parts": parts }, "index": 0 }], "modelVersion": model, "responseId": "mock-response" });
    let mut events: Vec<Value> = parts.into_iter().map(|part| event(vec![part])).collect();
    // As the newest models end: an empty text, the reason and the usage in an event of their own.
    let mut end = event(vec![json!({ "text": "" })]);
    end["candidates"][0]["finishReason"] = json!(finish);
    end["usageMetadata"] = usage;
    events.push(end);
    events
}

/// The events of a stream as one answer.
fn whole(events: &[Value]) -> Value {
    let Some(end) = events.last().filter(|end| end["candidates"].is_array()) else {
        return events.first().cloned().unwrap_or_default();
    };
    let mut parts: Vec<Value> = Vec::new();
    for part in events
        .iter()
        .flat_map(|event| list(&event["candidates"][0]["content"]["parts"]))
    {
        match (part["text"].as_str(), parts.last_mut()) {
            (Some(text), Some(before)) if before["text"].is_string() && before["thought"] == part["thought"] => {
                before["text"] = json!(format!("{}{text}", before["text"].as_str().unwrap_or_default()));
            }
            _ => parts.push(part.clone()),
        }
    }
    let mut answer = end.clone();
    answer["candidates"][0]["content"]["parts"] = json!(parts);
    answer
}

fn said(parts: &[Value], text: &str) -> String {
    let results: Vec<String> = parts
        .iter()
        .filter_map(|part| part.get("functionResponse"))
        .map(|result| {
            format!(
                "{} -> {}",
                result["name"].as_str().unwrap_or_default(),
                result["response"]
            )
        })
        .collect();
    let images: Vec<String> = parts
        .iter()
        .filter_map(|part| part.get("inlineData"))
        .map(|data| {
            format!(
                "[{}, {} base64 digits] ",
                data["mimeType"].as_str().unwrap_or_default(),
                data["data"].as_str().unwrap_or_default().len()
            )
        })
        .collect();
    if results.is_empty() {
        format!("{}You said: {text}", images.concat())
    } else {
        format!("Results: {}", results.join("; "))
    }
}

/// The calls that the text asks for, or that the tool configuration forces.
fn calls(text: &str, request: &Value) -> Vec<Value> {
    let declared: Vec<&str> = list(&request["tools"])
        .iter()
        .flat_map(|tool| list(&tool["functionDeclarations"]))
        .filter_map(|function| function["name"].as_str())
        .collect();
    let mode = request["toolConfig"]["functionCallingConfig"]["mode"]
        .as_str()
        .unwrap_or("AUTO");
    if declared.is_empty() || mode == "NONE" {
        return Vec::new();
    }
    let mut calls = Vec::new();
    for asked in text.split("call:").skip(1) {
        let name = asked.split('(').next().unwrap_or_default();
        let arguments = asked
            .split_once('(')
            .and_then(|(_, rest)| rest.split_once(')'))
            .map(|(arguments, _)| arguments);
        let args: Value = arguments
            .and_then(|arguments| serde_json::from_str(arguments).ok())
            .unwrap_or(json!({}));
        if declared.contains(&name) {
            calls.push(json!({ "name": name, "args": args }));
        }
    }
    if calls.is_empty() && mode == "ANY" {
        let allowed = list(&request["toolConfig"]["functionCallingConfig"]["allowedFunctionNames"]);
        let name = allowed
            .first()
            .and_then(Value::as_str)
            .or(declared.first().copied())
            .unwrap_or_default();
        calls.push(json!({ "name": name, "args": {} }));
    }
    calls
}

/// JSON that fits a schema.
fn example(schema: &Value, root: &Value, depth: u32) -> Value {
    let inner = |schema| example(schema, root, depth + 1);
    if depth > 8 {
        return Value::Null;
    }
    if let Some(pointer) = schema["$ref"]
        .as_str()
        .and_then(|reference| reference.strip_prefix('#'))
    {
        return root.pointer(pointer).map_or(Value::Null, inner);
    }
    if let Some(first) = list(&schema["enum"]).first().or(schema.get("const")) {
        return first.clone();
    }
    if let Some(first) = list(&schema["anyOf"]).first() {
        return inner(first);
    }
    let kind = schema["type"]
        .as_str()
        .or_else(|| schema["type"][0].as_str())
        .unwrap_or("object")
        .to_lowercase();
    match kind.as_str() {
        "string" => json!("text"),
        "integer" => json!(1),
        "number" => json!(1.5),
        "boolean" => json!(true),
        "null" => Value::Null,
        "array" => json!([inner(&schema["items"])]),
        _ => {
            let properties = schema["properties"].as_object().into_iter().flatten();
            Value::Object(
                properties
                    .map(|(name, schema)| (name.clone(), inner(schema)))
                    .collect::<Map<_, _>>(),
            )
        }
    }
}

fn embeddings(model: &str, request: &Value) -> Answer {
    let requests = list(&request["requests"]);
    if requests.len() > 100 {
        return Answer::Refused(
            400,
            "INVALID_ARGUMENT",
            "BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch".to_owned(),
        );
    }
    if requests
        .iter()
        .any(|one| one["model"] != json!(format!("models/{model}")))
    {
        return Answer::Refused(
            400,
            "INVALID_ARGUMENT",
            "The model of a request does not match the path's.".to_owned(),
        );
    }
    let embeddings: Vec<Value> = requests.iter().map(|one| json!({ "values": vector(one) })).collect();
    Answer::Whole(json!({ "embeddings": embeddings }))
}

/// A vector that depends on the text, not of unit length.
fn vector(request: &Value) -> Vec<f64> {
    let text: String = list(&request["content"]["parts"])
        .iter()
        .filter_map(|part| part["text"].as_str())
        .collect();
    let dimensions = request["outputDimensionality"].as_u64().unwrap_or(4).min(3072);
    (0..dimensions)
        .map(|index| 1.0 + (text.len() as u64 + index) as f64 % 7.0)
        .collect()
}

fn unknown<'a>(object: &'a Value, known: &[&str]) -> Option<&'a str> {
    object
        .as_object()?
        .keys()
        .map(String::as_str)
        .find(|name| !known.contains(name))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

const MODELS: [&str; 5] = [
    "gemini-2.5-flash",
    "gemini-2.5-pro",
    "gemini-3-flash-preview",
    "gemini-2.0-flash",
    "gemini-embedding-001",
];

const TOP: [&str; 9] = [
    "cachedContent",
    "contents",
    "generationConfig",
    "model",
    "safetySettings",
    "serviceTier",
    "systemInstruction",
    "toolConfig",
    "tools",
];

const CONFIG: [&str; 20] = [
    "candidateCount",
    "frequencyPenalty",
    "imageConfig",
    "logprobs",
    "maxOutputTokens",
    "mediaResolution",
    "presencePenalty",
    "responseJsonSchema",
    "responseLogprobs",
    "responseMimeType",
    "responseModalities",
    "responseSchema",
    "seed",
    "speechConfig",
    "stopSequences",
    "temperature",
    "thinkingConfig",
    "topK",
    "topP",
    "enableEnhancedCivicAnswers",
];

/// The signature that belongs to every call.
const SIGNATURE: &str = "bW9jay1zaWduYXR1cmU=";

/// What stands for a signature that was lost.
const DUMMIES: [&str; 4] = [
    "skip_thought_signature_validator",
    "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=",
    "context_engineering_is_the_way_to_go",
    "Y29udGV4dF9lbmdpbmVlcmluZ19pc190aGVfd2F5X3RvX2dv",
];
