//! Requests of OpenAI clients for Gemini's models through the whole app: what the upstream is asked, what the client sees, what
//! each key is charged with.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails where it stands"
)]
#![allow(dead_code, reason = "the support of the tests serves others as well")]

mod support;

use futures::executor::block_on;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use keystorm::{
    app::App,
    ports::{Body, Ports as _, Request, TransportError},
};
use serde_json::{Value, json};
use support::{Answer, Collected, FakePorts, Piece, Pieces};

const LIMITED: &str = r#"{"error":{"code":429,"message":"Slow down","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"20s"}]}}"#;

struct Test {
    app: App<FakePorts>,
    ports: FakePorts,
}

impl Test {
    /// `keys` Gemini keys, named `key-0` and so on.
    fn new(keys: usize, script: impl FnMut(&str, u64) -> Answer + 'static) -> Self {
        let ports = FakePorts::new("auth_key=access\nhome_access_key=admin\n", script);
        let test = Self {
            app: App::new(ports.clone()),
            ports,
        };
        let keys: Vec<_> = (0..keys).map(|number| format!("key-{number}")).collect();
        let (status, _, text) = test.call("/api/keys", "admin", &json!({ "keys": keys, "apiType": "gemini" }));
        assert_eq!(status, 200, "{text}");
        test
    }

    fn call(&self, path: &str, key: &str, body: &Value) -> (u16, HeaderMap, String) {
        let (status, headers, writes) = self.streamed(path, key, body, Collected::default());
        (status, headers, writes.concat())
    }

    fn streamed(&self, path: &str, key: &str, body: &Value, sink: Collected) -> (u16, HeaderMap, Vec<String>) {
        let bearer = HeaderValue::from_str(&format!("Bearer {key}")).unwrap();
        let request = Request {
            method: Method::POST,
            path: path.to_owned(),
            query: String::new(),
            scheme: "http".to_owned(),
            authority: "localhost".to_owned(),
            headers: HeaderMap::from_iter([
                (HeaderName::from_static("authorization"), bearer),
                (
                    HeaderName::from_static("content-type"),
                    HeaderValue::from_static("application/json"),
                ),
            ]),
            body: Pieces::of(&body.to_string()),
        };
        let response = block_on(self.app.handle(request));
        let writes = match response.body {
            Body::Full(bytes) => vec![String::from_utf8(bytes.to_vec()).unwrap()],
            Body::Forward(_) => unreachable!("what is translated is never handed on"),
            Body::Stream(produce) => {
                let writes = sink.writes.clone();
                block_on(produce(sink));
                writes.take()
            }
        };
        (response.status.as_u16(), response.headers, writes)
    }

    fn chat(&self, more: Value) -> (u16, HeaderMap, String) {
        self.call("/v1/chat/completions", "access", &chat(more))
    }

    fn stream(&self, sink: Collected) -> (u16, HeaderMap, Vec<String>) {
        self.streamed("/v1/chat/completions", "access", &chat(json!({ "stream": true })), sink)
    }

    /// A figure of the database, once everything is written.
    fn figure(&self, sql: &str) -> i64 {
        self.ports.advance(2000);
        self.ports.drain();
        self.ports.rows(sql)[0].integer(0)
    }
}

fn chat(more: Value) -> Value {
    let mut body = json!({ "model": "gemini-2.5-flash", "messages": [{ "role": "user", "content": "hi" }] });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn said(text: &str, finish: Option<&str>) -> Value {
    let mut candidate = json!({ "content": { "role": "model", "parts": [{ "text": text }] } });
    if let Some(finish) = finish {
        candidate["finishReason"] = finish.into();
    }
    json!({ "candidates": [candidate], "usageMetadata": { "promptTokenCount": 2, "candidatesTokenCount": 3, "totalTokenCount": 5 } })
}

fn event(value: &Value) -> Piece {
    Piece::Data(format!("data: {value}\r\n\r\n"))
}

fn whole(value: &Value) -> Answer {
    Answer::Streamed(200, vec![Piece::Data(value.to_string())])
}

fn refused(message: &str) -> Answer {
    let error = json!({ "code": 400, "message": message, "status": "INVALID_ARGUMENT" });
    Answer::Streamed(400, vec![Piece::Data(json!({ "error": error }).to_string())])
}

#[test]
fn a_stream_that_breaks_off_ends_with_one_error_and_never_with_done() {
    for end in [None, Some(Piece::Break(TransportError::Closed))] {
        let end_of_stream = end.clone();
        let test = Test::new(3, move |_, _| {
            Answer::Streamed(
                200,
                [event(&said("Hel", None)), event(&said("lo", None))]
                    .into_iter()
                    .chain(end_of_stream.clone())
                    .collect(),
            )
        });
        let (status, _, writes) = test.stream(Collected::default());
        let text = writes.concat();
        assert_eq!(status, 200);
        assert!(text.contains("Hel") && text.contains("lo"), "{text}");
        assert_eq!(text.matches("\"error\"").count(), 1, "{text}");
        assert!(
            !text.contains("[DONE]") && !text.contains("\"finish_reason\":\"stop\""),
            "{text}"
        );
        assert_eq!(test.ports.calls().values().sum::<u64>(), 1, "nothing is tried again");
        assert_eq!(
            test.figure("SELECT SUM(count) FROM faults WHERE fault = 'mid_stream'"),
            1
        );
        assert_eq!(test.figure("SELECT COUNT(*) FROM keys WHERE state = 'active'"), 3);
    }
}

#[test]
fn until_something_was_said_another_key_is_asked() {
    let bad: [fn() -> Answer; 5] = [
        || Answer::Head(429, Vec::new(), LIMITED),
        || Answer::Streamed(200, vec![Piece::Data(format!("data: {LIMITED}\n\n"))]),
        || {
            Answer::Streamed(
                200,
                vec![
                    event(&json!({ "usageMetadata": {} })),
                    Piece::Break(TransportError::Closed),
                ],
            )
        },
        || Answer::Streamed(200, Vec::new()),
        || Answer::Streamed(200, vec![Piece::Data("data: {\"candidates\": [\n\n".to_owned())]),
    ];
    for (case, bad) in bad.into_iter().enumerate() {
        let mut turn = 0;
        let test = Test::new(5, move |_, _| {
            turn += 1;
            match turn {
                1 => bad(),
                _ => Answer::Streamed(200, vec![event(&said("Hello", Some("STOP")))]),
            }
        });
        let (status, headers, writes) = test.stream(Collected::default());
        assert_eq!(status, 200, "case {case}: {writes:?}");
        assert_eq!(headers["x-keystorm-attempts"], "2", "case {case}");
        assert!(writes.concat().ends_with("data: [DONE]\n\n"), "case {case}: {writes:?}");
        assert!(!writes.concat().contains("error"), "case {case}");
    }
}

#[test]
fn what_one_read_brings_goes_out_in_one_write() {
    let test = Test::new(1, |_, _| {
        let (first, second) = (said("a", None), said("b", None));
        let both = Piece::Data(format!("data: {first}\r\n\r\ndata: {second}\r\n\r\n"));
        Answer::Streamed(200, vec![both, event(&said("c", Some("STOP")))])
    });
    let (_, _, writes) = test.stream(Collected::default());
    assert_eq!(
        writes.len(),
        3,
        "what was read before the head, what came, and the end: {writes:?}"
    );
    assert_eq!(
        test.figure("SELECT SUM(completion_tokens) FROM usage"),
        3,
        "the last usage, not a sum"
    );
}

#[test]
fn silence_is_filled_with_comments() {
    let test = Test::new(1, |_, _| {
        Answer::Streamed(
            200,
            vec![event(&said("a", None)), Piece::Wait(7), event(&said("b", Some("STOP")))],
        )
    });
    let (_, _, writes) = test.stream(Collected::default());
    assert_eq!(
        writes.iter().filter(|write| *write == ": keep-alive\n\n").count(),
        2,
        "{writes:?}"
    );
    assert!(writes.concat().ends_with("data: [DONE]\n\n"));
}

#[test]
fn a_client_that_leaves_is_nobodys_fault() {
    let test = Test::new(1, |_, _| {
        Answer::Streamed(
            200,
            (0..9)
                .map(|_| event(&said("a", None)))
                .chain([Piece::Break(TransportError::Closed)])
                .collect(),
        )
    });
    let sink = Collected {
        leaves_after: Some(2),
        ..Collected::default()
    };
    let (_, _, writes) = test.stream(sink);
    assert_eq!(writes.len(), 2);
    assert_eq!(
        test.figure("SELECT SUM(count) FROM faults WHERE fault <> 'cancelled'"),
        0
    );
    assert_eq!(test.figure("SELECT failed_count FROM keys"), 0);
}

#[test]
fn what_a_model_refuses_is_left_out_and_sent_once_more_with_the_same_key() {
    let cases = [
        (
            "Developer instruction is not enabled for models/gemini-2.5-flash",
            "systemInstruction",
        ),
        ("Thinking level is not supported for this model.", "thinkingConfig"),
        (
            "Function calling with a response mime type: 'application/json' is unsupported",
            "responseMimeType",
        ),
    ];
    for (message, field) in cases {
        let mut turn = 0;
        let test = Test::new(4, move |_, _| {
            turn += 1;
            if turn == 1 {
                refused(message)
            } else {
                whole(&said("fine", Some("STOP")))
            }
        });
        let messages = json!([{ "role": "system", "content": "Be brief." }, { "role": "user", "content": "hi" }]);
        let more =
            json!({ "messages": messages, "reasoning_effort": "low", "response_format": { "type": "json_object" } });
        let (status, headers, text) = test.chat(more);
        assert_eq!(
            (status, &headers["x-keystorm-attempts"]),
            (200, &HeaderValue::from_static("2")),
            "{message}: {text}"
        );
        let bodies = test.ports.bodies();
        assert!(
            bodies[0].contains(field) && !bodies[1].contains(field),
            "{message}: {bodies:?}"
        );
        assert_eq!(test.ports.calls().len(), 1, "{message}: the same key");
        assert_eq!(test.figure("SELECT SUM(failed_count) FROM keys"), 0, "{message}");
    }
    // What cannot be mended is the client's to know, in its own dialect.
    let test = Test::new(4, |_, _| refused("Invalid value at 'contents'"));
    let (status, _, text) = test.chat(json!({}));
    let error: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (status, error["error"]["type"].as_str()),
        (400, Some("invalid_request_error")),
        "{text}"
    );
    assert_eq!(error["error"]["message"], "Invalid value at 'contents'");
    assert_eq!(test.ports.calls().values().sum::<u64>(), 1);
}

#[test]
fn a_slip_of_the_model_is_asked_again_once() {
    let slip =
        json!({ "candidates": [{ "finishReason": "MALFORMED_FUNCTION_CALL", "finishMessage": "Malformed call: f(" }] });
    let mut turn = 0;
    let first = slip.clone();
    let test = Test::new(2, move |_, _| {
        turn += 1;
        if turn == 1 {
            whole(&first)
        } else {
            whole(&said("fine", Some("STOP")))
        }
    });
    let (status, _, text) = test.chat(json!({}));
    assert!(status == 200 && text.contains("fine"), "{text}");
    let test = Test::new(2, move |_, _| whole(&slip));
    let (status, _, text) = test.chat(json!({}));
    assert!(status == 200 && text.contains("Malformed call: f("), "{text}");
    assert_eq!(test.ports.calls().values().sum::<u64>(), 2);
}

#[test]
fn an_answer_without_anything_is_the_upstreams_failure() {
    let test = Test::new(9, |_, _| whole(&json!({ "usageMetadata": { "promptTokenCount": 3 } })));
    let (status, _, text) = test.chat(json!({}));
    let error: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (status, error["error"]["code"].as_str()),
        (502, Some("upstream_error")),
        "{text}"
    );
    assert_eq!(test.ports.calls().values().sum::<u64>(), 3);
    assert_eq!(test.figure("SELECT COUNT(*) FROM keys WHERE state = 'active'"), 9);
}

#[test]
fn a_blocked_prompt_is_an_answer_and_is_asked_once() {
    let blocked = json!({ "promptFeedback": { "blockReason": "SAFETY" } });
    let test = Test::new(3, move |_, _| whole(&blocked));
    let (status, _, text) = test.chat(json!({}));
    assert!(status == 200 && text.contains("\"content_filter\""), "{text}");
    assert_eq!(test.ports.calls().values().sum::<u64>(), 1);
}

#[test]
fn several_choices_are_several_calls_and_one_that_fails_takes_another_key() {
    let mut turn = 0;
    let test = Test::new(9, move |_, _| {
        turn += 1;
        match turn {
            2 => Answer::Head(429, Vec::new(), LIMITED),
            number => whole(&said(&format!("number {number}"), Some("STOP"))),
        }
    });
    let (status, headers, text) = test.chat(json!({ "n": 3 }));
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status, 200, "{text}");
    assert_eq!(headers["x-keystorm-attempts"], "4");
    let indices: Vec<_> = answer["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|choice| choice["index"].as_i64().unwrap())
        .collect();
    assert_eq!(indices, [0, 1, 2]);
    assert_eq!(answer["usage"]["completion_tokens"], 9);
    assert_eq!(test.figure("SELECT SUM(completion_tokens) FROM usage"), 9);
    assert_eq!(test.figure("SELECT SUM(successes) FROM usage"), 3);
}

#[test]
fn signatures_that_a_client_drops_are_remembered_and_else_replaced() {
    let call = json!({ "candidates": [{ "content": { "parts": [{ "functionCall": { "name": "f", "args": {} }, "thoughtSignature": "c2lnbmVk" }] }, "finishReason": "STOP" }] });
    let mut turn = 0;
    let test = Test::new(1, move |_, _| {
        turn += 1;
        if turn == 1 {
            whole(&call)
        } else {
            whole(&said("done", Some("STOP")))
        }
    });
    let tools = json!([{ "type": "function", "function": { "name": "f" } }]);
    let (_, _, text) = test.chat(json!({ "model": "gemini-3-pro", "tools": tools }));
    let answer: Value = serde_json::from_str(&text).unwrap();
    let given = &answer["choices"][0]["message"]["tool_calls"][0];
    assert_eq!(given["extra_content"]["google"]["thought_signature"], "c2lnbmVk");
    let history = |id: &str| {
        json!([
            { "role": "user", "content": "go" },
            { "role": "assistant", "content": null, "tool_calls": [{ "id": id, "type": "function", "function": { "name": "f", "arguments": "{}" } }] },
            { "role": "tool", "tool_call_id": id, "content": "ok" },
        ])
    };
    for (id, signature) in [
        (given["id"].as_str().unwrap(), "c2lnbmVk"),
        ("of-another-model", "skip_thought_signature_validator"),
    ] {
        test.chat(json!({ "model": "gemini-3-pro", "tools": tools, "messages": history(id) }));
        let sent: Value = serde_json::from_str(test.ports.bodies().last().unwrap()).unwrap();
        assert_eq!(sent["contents"][1]["parts"][0]["thoughtSignature"], signature);
    }
}

#[test]
fn an_image_is_fetched_under_the_rules_of_endpoints_and_sent_inline() {
    let picture = |url: &str| {
        let content = json!([{ "type": "text", "text": "see" }, { "type": "image_url", "image_url": { "url": url } }]);
        json!({ "messages": [{ "role": "user", "content": content }] })
    };
    let script = |key: &str, before: u64| match (key, before) {
        // A download carries no credential at all.
        ("", 0) => Answer::Head(302, vec![("location", "/moved")], ""),
        ("", 1) => Answer::Head(200, vec![("content-type", "image/png; x=1")], "PIXELS"),
        ("", 2) => Answer::Head(302, vec![("location", "http://169.254.169.254/latest")], ""),
        ("", 3) => Answer::Head(200, vec![("content-type", "text/html")], "<html>"),
        ("", _) => Answer::Head(404, Vec::new(), ""),
        _ => whole(&said("fine", Some("STOP"))),
    };
    let test = Test::new(1, script);
    let (status, _, text) = test.chat(picture("https://pictures.example/view?id=1"));
    assert_eq!(status, 200, "{text}");
    let urls: Vec<String> = test.ports.sent().into_iter().map(|(url, _)| url).collect();
    assert_eq!(
        urls[..2],
        ["https://pictures.example/view?id=1", "https://pictures.example/moved"]
    );
    let sent: Value = serde_json::from_str(test.ports.bodies().last().unwrap()).unwrap();
    assert_eq!(
        sent["contents"][0]["parts"][1]["inlineData"],
        json!({ "mimeType": "image/png", "data": "UElYRUxT" })
    );
    for why in ["link-local", "text/html", "404"] {
        let (status, _, text) = test.chat(picture("https://pictures.example/view?id=1"));
        let error: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (status, error["error"]["param"].as_str()),
            (400, Some("messages[0].content[1].image_url.url")),
            "{text}"
        );
        assert!(text.contains(why), "{why}: {text}");
    }
    let before = test.ports.sent().len();
    for url in [
        "http://127.0.0.1/x",
        "https://localhost/x",
        "http://[::ffff:10.0.0.1]/x",
        "file:///etc/passwd",
    ] {
        assert_eq!(test.chat(picture(url)).0, 400, "{url}");
    }
    assert_eq!(test.ports.sent().len(), before, "what is refused is never asked");
}

#[test]
fn in_pass_through_mode_the_clients_own_gemini_key_is_used_and_judged() {
    let key = format!("AIza{}", "x".repeat(35));
    let ports = FakePorts::new("forward_client_key_enabled=true\n", move |_, before| match before {
        0 => whole(&said("fine", Some("STOP"))),
        _ => refused("API key not valid. Please pass a valid API key."),
    });
    let test = Test {
        app: App::new(ports.clone()),
        ports,
    };
    let (status, _, text) = test.call("/v1/chat/completions", &key, &chat(json!({})));
    assert!(status == 200 && text.contains("fine"), "{text}");
    let (url, headers) = test.ports.sent().remove(0);
    assert!(
        url.ends_with("/v1beta/models/gemini-2.5-flash:generateContent"),
        "{url}"
    );
    assert_eq!(headers["x-goog-api-key"].to_str().unwrap(), key);
    let (status, _, text) = test.call("/v1/chat/completions", &key, &chat(json!({})));
    assert!(status == 401 && text.contains("invalid_api_key"), "{text}");
}

#[test]
fn a_models_name_leads_to_no_other_path() {
    let test = Test::new(1, |_, _| whole(&said("fine", Some("STOP"))));
    let name = "gemini-x/../../cachedContents?a=";
    for path in ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"] {
        test.call(
            path,
            "access",
            &chat(json!({ "model": name, "prompt": "x", "input": "x" })),
        );
    }
    let urls: Vec<String> = test.ports.sent().into_iter().map(|(url, _)| url).collect();
    assert!(urls.len() >= 3, "{urls:?}");
    for url in urls {
        assert!(
            url.contains("/v1beta/models/gemini-x%2F..%2F..%2FcachedContents%3Fa%3D:"),
            "{url}"
        );
    }
}

#[test]
fn an_alias_is_answered_with_the_model_that_it_stands_for() {
    let test = Test::new(1, |_, _| whole(&said("fine", Some("STOP"))));
    let (_, _, text) = test.chat(json!({ "model": "models/gemini-2.5-flash" }));
    assert!(text.contains("\"model\":\"gemini-2.5-flash\""), "{text}");
}

#[test]
fn embeddings_go_in_batches_of_a_hundred() {
    let answer = |count: usize| json!({ "embeddings": vec![json!({ "values": [3.0, 4.0] }); count] });
    let mut turn = 0;
    let test = Test::new(2, move |_, _| {
        turn += 1;
        whole(&answer(if turn < 3 { 100 } else { 30 }))
    });
    let body = json!({ "model": "gemini-embedding-001", "input": vec!["x"; 230] });
    let (status, _, text) = test.call("/v1/embeddings", "access", &body);
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, answer["data"].as_array().unwrap().len()), (200, 230));
    assert_eq!(
        answer["data"][229],
        json!({ "object": "embedding", "index": 229, "embedding": [0.6, 0.8] })
    );
    assert!(test.ports.now().0 > 0);
    assert_eq!(test.figure("SELECT SUM(successes) FROM usage"), 3);
}
