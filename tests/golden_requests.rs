//! Requests of OpenAI's clients, and what goes to Gemini for each: one folder of tests/golden/request a case.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails where it stands"
)]

use std::{collections::BTreeMap, fs, path::Path};

use keystorm::{
    error::ApiError,
    translate::{completions::prepare_completion, embedding_request::embeddings, request::Prepared, request::prepare},
};
use serde_json::{Value, json};

#[test]
fn every_request_becomes_what_its_folder_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/request");
    let mut cases: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    assert!(cases.len() > 50, "only {} cases were found", cases.len());
    let faults: Vec<String> = cases.iter().filter_map(|case| fault(case)).collect();
    assert!(
        faults.is_empty(),
        "{} of {}:\n{}",
        faults.len(),
        cases.len(),
        faults.join("\n")
    );
}

fn fault(case: &Path) -> Option<String> {
    let name = case.file_name().unwrap().to_string_lossy();
    let client = fs::read(case.join("client.json")).unwrap();
    let (file, found) = match run(&name, case, &client) {
        Ok(found) => ("upstream.json", found),
        Err(error) => {
            assert_eq!(error.status, 400, "{name}");
            ("error.json", json!({ "param": error.param, "message": error.message }))
        }
    };
    let expected: Option<Value> = read(&case.join(file));
    (expected.as_ref() != Some(&found)).then(|| format!("{name}/{file}: {found:#}"))
}

/// The upstream's bodies: one, or a list where there are several. What else became of the request stands beside them.
fn run(name: &str, case: &Path, client: &[u8]) -> Result<Value, ApiError> {
    let model = read::<Value>(&case.join("client.json")).unwrap()["model"]
        .as_str()
        .unwrap()
        .to_owned();
    if name.starts_with("10-") {
        let request = embeddings(client, &model)?;
        let batches: Vec<Value> = request.batches.iter().map(|batch| json_of(batch)).collect();
        return Ok(
            json!({ "model": request.model, "base64": request.base64, "count": request.count,
            "estimate": request.estimate, "batches": batches }),
        );
    }
    if name.starts_with("12-") {
        let completion = prepare_completion(client, &model)?;
        let bodies: Vec<Value> = completion
            .requests
            .iter()
            .map(|request| json_of(&request.body()))
            .collect();
        return Ok(json!({ "echo": completion.echo, "bodies": bodies }));
    }
    let signatures: BTreeMap<String, String> = read(&case.join("signatures.json")).unwrap_or_default();
    let mut prepared = prepare(client, &model, &|id| signatures.get(id).cloned())?;
    let downloads: Vec<Value> = read(&case.join("downloads.json")).unwrap_or_default();
    assert_eq!(
        prepared.downloads.len(),
        downloads.len(),
        "{name}: {:?}",
        prepared.downloads
    );
    for (index, download) in downloads.iter().enumerate() {
        assert_eq!(prepared.downloads[index].url, download["url"], "{name}");
        assert_eq!(prepared.downloads[index].param, download["param"], "{name}");
        prepared.inline(
            index,
            download["mime"].as_str().unwrap(),
            download["data"].as_str().unwrap().as_bytes(),
        )?;
    }
    for message in read::<Vec<String>>(&case.join("adapt.json")).unwrap_or_default() {
        assert!(prepared.adapt(&message), "{name}: nothing changed for '{message}'");
        assert!(!prepared.adapt(&message), "{name}: '{message}' was answered twice");
    }
    Ok(with_rest(&prepared, &model))
}

/// The body; and where they are not what they mostly are, the other fields.
fn with_rest(prepared: &Prepared<'_>, model: &str) -> Value {
    let body = json_of(&prepared.body());
    let mut rest = serde_json::Map::new();
    if prepared.model != model {
        rest.insert("model".to_owned(), json!(prepared.model));
    }
    if prepared.n != 1 {
        rest.insert("n".to_owned(), json!(prepared.n));
    }
    for (name, is_set) in [
        ("stream", prepared.stream),
        ("include_usage", prepared.include_usage),
        ("pinned", prepared.pinned),
    ] {
        if is_set {
            rest.insert(name.to_owned(), json!(true));
        }
    }
    if rest.is_empty() {
        body
    } else {
        json!({ "prepared": rest, "body": body })
    }
}

fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    let text = fs::read(path).ok()?;
    Some(serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}
