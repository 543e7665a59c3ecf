//! What Gemini answers and what OpenAI's clients get: a folder a case, below tests/golden. Every stream is fed whole, byte by
//! byte, and in two pieces cut at every place. What came in place of what was expected is written to target/golden.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands"
)]

use std::{
    borrow::Cow,
    fs,
    path::{Path, PathBuf},
};

use keystorm::{
    openai::answer::Usage,
    sse::Decoder,
    translate::{
        embedding,
        error::{AnswerError, event},
        request::prepare,
        response::{Kind, Shape, completion, service_tier},
        stream::ChatStream,
        tools::Names,
    },
};
use serde_json::{Value, json};

#[test]
fn answers_become_openais() {
    check("answer", "client.json", |case| {
        let bodies: Vec<Vec<u8>> = case.files("upstream");
        let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
        let answer = if case.text("kind") == "embeddings" {
            let shape = embedding::Shape {
                model: "text-embedding-3-small",
                base64: case.has("base64"),
                count: case.number("count"),
                estimate: 7,
            };
            embedding::embeddings(&bodies, &shape).map(|(body, tokens)| (body, tokens, Value::Null))
        } else {
            case.shape(|shape| completion(&bodies, shape)).map(|answer| {
                let beside = json!({
                    "signatures": answer.signatures,
                    "flagged": answer.flagged,
                    "unknown_finish": answer.unknown_finish,
                });
                (answer.body, answer.tokens, beside)
            })
        };
        let told = match answer {
            Ok((body, tokens, beside)) => {
                let body: Value = serde_json::from_slice(&body).unwrap_or_else(|error| {
                    panic!("{}: {error}: {}", case.name(), String::from_utf8_lossy(&body));
                });
                assert_eq!(
                    tokens.total,
                    body["usage"]["total_tokens"].as_u64().unwrap(),
                    "{}",
                    case.name()
                );
                match beside {
                    Value::Null => body,
                    beside => json!({ "body": body, "beside": beside }),
                }
            }
            Err(error) => json!({ "error": error.told(None).message, "is_asked_again": is_retry(&error) }),
        };
        serde_json::to_string_pretty(&told).unwrap() + "\n"
    });
}

#[test]
fn streams_become_openais_wherever_they_are_cut() {
    check("stream", "client.sse", |case| {
        let upstream = case.read("upstream.sse");
        let whole = case.stream(&[&upstream]);
        let bytes: Vec<&[u8]> = upstream.chunks(1).collect();
        assert_eq!(case.stream(&bytes), whole, "{}: byte by byte", case.name());
        for cut in 0..=upstream.len() {
            let (one, two) = upstream.split_at(cut);
            assert_eq!(case.stream(&[one, two]), whole, "{}: cut at {cut}", case.name());
        }
        well_formed(&whole, &case.name());
        whole
    });
}

fn is_retry(error: &AnswerError) -> bool {
    matches!(error, AnswerError::Retry(_))
}

/// What every stream of chunks has to keep to, whatever it says.
fn well_formed(stream: &str, name: &str) {
    let events: Vec<&str> = stream.split_terminator("\n\n").collect();
    for event in &events {
        let data = event
            .strip_prefix("data: ")
            .unwrap_or_else(|| panic!("{name}: {event}"));
        assert!(!data.contains(['\n', '\r']), "{name}: {data}");
        if data == "[DONE]" {
            continue;
        }
        let chunk: Value = serde_json::from_str(data).unwrap_or_else(|error| panic!("{name}: {error}: {data}"));
        if chunk.get("error").is_some() {
            assert!(chunk["error"]["message"].is_string(), "{name}: {data}");
            continue;
        }
        assert_eq!(chunk["id"], "answer-1", "{name}");
        let choices = chunk["choices"].as_array().unwrap();
        assert_eq!(choices.is_empty(), chunk["usage"].is_object(), "{name}: {data}");
    }
    let is_done = events.last() == Some(&"data: [DONE]");
    assert_ne!(
        is_done,
        stream.contains("\"error\":"),
        "{name}: an end and an error exclude each other"
    );
    let first_deltas = stream.matches("\"role\":").count();
    let ends = stream.matches("\"finish_reason\":\"").count();
    if stream.contains("chat.completion.chunk") && is_done {
        assert_eq!(first_deltas, ends, "{name}: a choice begins once and ends once");
    }
}

struct Case {
    folder: PathBuf,
    shape: Value,
}

impl Case {
    fn name(&self) -> String {
        self.folder.file_name().unwrap().to_string_lossy().into_owned()
    }

    fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.folder.join(file)).unwrap_or_else(|error| panic!("{}/{file}: {error}", self.name()))
    }

    /// The files whose names begin so, in order.
    fn files(&self, prefix: &str) -> Vec<Vec<u8>> {
        let names = fs::read_dir(&self.folder).unwrap().map(|entry| entry.unwrap().path());
        let mut names: Vec<_> = names
            .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(prefix))
            .collect();
        names.sort();
        names.iter().map(|path| fs::read(path).unwrap()).collect()
    }

    fn text(&self, field: &str) -> &str {
        self.shape[field].as_str().unwrap_or_default()
    }

    fn has(&self, field: &str) -> bool {
        self.shape[field] == true
    }

    fn number(&self, field: &str) -> usize {
        usize::try_from(self.shape[field].as_u64().unwrap_or_default()).unwrap()
    }

    /// The names of the functions that the client declared.
    fn names(&self) -> Names {
        let mut request = self.shape["request"].clone();
        let Some(fields) = request.as_object_mut() else {
            return Names::default();
        };
        fields.insert("messages".to_owned(), json!([{ "role": "user", "content": "x" }]));
        let request = request.to_string();
        prepare(request.as_bytes(), "gemini-2.5-flash", &|_| None)
            .unwrap()
            .names
    }

    fn shape<T>(&self, with: impl FnOnce(&Shape) -> T) -> T {
        let echo = self.shape["echo"].as_array().cloned().unwrap_or_default();
        let echo: Vec<Cow<str>> = echo
            .iter()
            .map(|text| text.as_str().unwrap().to_owned().into())
            .collect();
        with(&Shape {
            id: "answer-1",
            created: 1_790_000_000,
            model: "gemini-2.5-flash",
            names: &self.names(),
            seed: 1,
            kind: match self.text("kind") {
                "completion" => Kind::Completion { echo: &echo },
                _ => Kind::Chat,
            },
            service_tier: service_tier(self.text("service_tier")),
            pcm: self.has("pcm"),
            is_last: self.has("is_last"),
        })
    }

    /// What a client gets of an upstream's answer that comes in these pieces.
    fn stream(&self, pieces: &[&[u8]]) -> String {
        let mut out = Vec::new();
        let offset = u32::try_from(self.number("offset")).unwrap();
        let mut stream = self.shape(|shape| ChatStream::new(shape, offset, self.has("include_usage")));
        if let Err(error) = feed(&mut stream, pieces, &mut out) {
            if is_retry(&error) {
                assert!(out.is_empty() && !stream.is_committed(), "{}: {error:?}", self.name());
            }
            event(&error.told(None), &mut out);
        }
        String::from_utf8(out).unwrap()
    }
}

fn feed(stream: &mut ChatStream, pieces: &[&[u8]], out: &mut Vec<u8>) -> Result<(), AnswerError> {
    let mut decoder = Decoder::new(1 << 20);
    let mut result = Ok(());
    for piece in pieces {
        decoder
            .push(piece, |data| {
                if result.is_ok() {
                    result = stream.push(data, out);
                }
                assert!(out.is_empty() || stream.is_committed());
            })
            .unwrap();
    }
    decoder
        .finish(|data| {
            if result.is_ok() {
                result = stream.push(data, out);
            }
        })
        .unwrap();
    result?;
    stream.finish(out)?;
    let usage: Usage = stream.usage();
    stream.tail(usage, out);
    Ok(())
}

/// Runs every case of a kind and compares what it gives with the file beside it.
fn check(kind: &str, expected: &str, run: impl Fn(&Case) -> String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<PathBuf> = fs::read_dir(root.join("tests/golden").join(kind))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.sort();
    assert!(!folders.is_empty());
    let mut failed = Vec::new();
    for folder in folders {
        let shape = fs::read(folder.join("shape.json")).map(|shape| serde_json::from_slice(&shape).unwrap());
        let case = Case {
            folder,
            shape: shape.unwrap_or_default(),
        };
        let came = run(&case);
        let wanted = fs::read_to_string(case.folder.join(expected)).unwrap_or_default();
        if came != wanted {
            let path = root.join("target/golden").join(kind).join(case.name());
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join(expected), &came).unwrap();
            failed.push(format!("{}:\n{came}", case.name()));
        }
    }
    assert!(
        failed.is_empty(),
        "{} cases differ\n{}",
        failed.len(),
        failed.join("\n")
    );
}
