//! The traffic: what clients ask for, what has to come back, and the keys that fail meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Map, Value, json};

use crate::{Options, client::Client};

/// What came of many requests.
#[derive(Default)]
pub(crate) struct Score {
    /// Requests that were answered as they had to be.
    pub(crate) requests: u64,
    /// Answers that say that nobody could serve.
    pub(crate) refused: u64,
    /// What these said, the first of them.
    pub(crate) refusals: Vec<String>,
    /// Answers that are wrong, in words.
    pub(crate) wrong: Vec<String>,
    /// Microseconds.
    times: Vec<u32>,
}

impl Score {
    /// Takes another score in.
    pub(crate) fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        self.refused += other.refused;
        self.refusals.extend(other.refusals);
        self.wrong.extend(other.wrong);
        self.times.extend(other.times);
    }

    /// The time that so many of a hundred requests took at most, in milliseconds.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(index).copied().map_or(0.0, f64::from) / 1000.0
    }
}

/// One client.
pub(crate) struct Worker {
    options: Options,
    client: Client,
    seed: u64,
    number: u64,
    score: Score,
}

impl Worker {
    /// A client with a number of its own.
    pub(crate) fn new(options: Options, number: u64) -> Self {
        Self {
            client: Client::new(&options.target),
            options,
            seed: number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            number,
            score: Score::default(),
        }
    }

    /// Asks until then, at most once in every `pause`.
    pub(crate) async fn run(mut self, until: Instant, pause: Option<Duration>) -> Score {
        let mut next = Instant::now() + pause.unwrap_or_default().mul_f64((self.number % 16) as f64 / 16.0);
        while Instant::now() < until {
            if let Some(pause) = pause {
                tokio::time::sleep_until(next.into()).await;
                // What was missed is not made up for: it would come all at once.
                next = (next + pause).max(Instant::now());
            }
            let started = Instant::now();
            let kind = self.dice() % 100;
            match self.ask(kind).await {
                Ok(Outcome::Right) => {
                    self.score.requests += 1;
                    let taken = started.elapsed().as_micros();
                    self.score.times.push(u32::try_from(taken).unwrap_or(u32::MAX));
                }
                Ok(Outcome::Refused(why)) => {
                    self.score.refused += 1;
                    if self.score.refusals.len() < 3 {
                        self.score.refusals.push(why);
                    }
                }
                Err(error) if self.score.wrong.len() < 5 => {
                    self.score.wrong.push(format!("kind {kind}: {error:#}"));
                    self.client.hang_up().await;
                }
                Err(_) => self.client.hang_up().await,
            }
        }
        self.score
    }

    async fn ask(&mut self, kind: u64) -> Result<Outcome> {
        let word = format!("word-{:x}", self.dice());
        let chat = |model: &str| json!({ "model": model, "messages": [{ "role": "user", "content": word }] });
        let access = self.options.access_key.clone();
        let admin = self.options.admin_key.clone();
        match kind {
            0..58 => {
                let (status, body) = self.post("/v1/chat/completions", &access, &chat("mock-large")).await?;
                self.expect(status, &body, |body| {
                    body.pointer("/choices/0/message/content").and_then(Value::as_str)
                        == Some(format!("You said: {word}").as_str())
                })
            }
            58..76 => {
                let mut body = chat("mock-large");
                body.as_object_mut()
                    .context("an object")?
                    .insert("stream".to_owned(), true.into());
                let (status, body) = self.post("/v1/chat/completions", &access, &body).await?;
                if status != 200 {
                    return self.expect(status, &body, |_| false);
                }
                let text = String::from_utf8_lossy(&body);
                ensure!(said(&text) == format!("You said: {word}"), "a wrong stream: {text}");
                ensure!(
                    text.trim_end().ends_with("data: [DONE]"),
                    "a stream without an end: {text}"
                );
                Ok(Outcome::Right)
            }
            76..82 => {
                let body = json!({ "model": "mock-embed", "input": word });
                let (status, body) = self.post("/v1/embeddings", &access, &body).await?;
                self.expect(status, &body, |body| body.pointer("/data/0/embedding/1").is_some())
            }
            82..86 => {
                let body = json!({ "contents": [{ "role": "user", "parts": [{ "text": word }] }] });
                let path = "/v1beta/models/gemini-2.5-flash:generateContent";
                let (status, body) = self.post(path, &access, &body).await?;
                self.expect(status, &body, |body| body.pointer("/candidates/0/content").is_some())
            }
            86..90 => {
                let (status, body) = self
                    .post("/v1/chat/completions", &access, &chat("gemini-2.5-flash"))
                    .await?;
                self.expect(status, &body, |body| {
                    body.pointer("/choices/0/message/content").is_some()
                })
            }
            90..93 => {
                let (status, body) = self.client.call(Method::GET, "/v1/models", &access, None).await?;
                self.expect(status, &body, |body| body.pointer("/data/0/id").is_some())
            }
            93..95 => {
                let path = "/api/keys?mask=true&page=1&pageSize=20";
                let (status, body) = self.client.call(Method::GET, path, &admin, None).await?;
                self.expect(status, &body, |body| body.pointer("/keys/0/masked").is_some())
            }
            95..97 => {
                // The client's own mistake: it costs no key anything.
                let body = json!({ "model": "mock-large", "messages": [] });
                let (status, _) = self.post("/v1/chat/completions", &access, &body).await?;
                ensure!(status == 400, "{status} for a client's own mistake");
                Ok(Outcome::Right)
            }
            97..99 => {
                let (status, _) = self.post("/v1/chat/completions", "wrong", &chat("mock-large")).await?;
                ensure!(status == 401, "{status} for a wrong access key");
                Ok(Outcome::Right)
            }
            _ => {
                // A client that goes away in the middle of a stream.
                let mut body = chat("mock-large");
                body.as_object_mut()
                    .context("an object")?
                    .insert("stream".to_owned(), true.into());
                let path = "/v1/chat/completions";
                let mut answer = self.client.send(Method::POST, path, &access, Some(&body)).await?;
                let _ = answer.body_mut().frame().await;
                self.client.hang_up().await;
                Ok(Outcome::Right)
            }
        }
    }

    async fn post(&self, path: &str, key: &str, body: &Value) -> Result<(u16, Vec<u8>)> {
        let (status, body) = self.client.call(Method::POST, path, key, Some(body)).await?;
        Ok((status, body.to_vec()))
    }

    fn expect(&self, status: u16, body: &[u8], is_right: impl FnOnce(&Value) -> bool) -> Result<Outcome> {
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        match status {
            200 if is_right(&json) => Ok(Outcome::Right),
            429 | 502 | 503 | 504 => Ok(Outcome::Refused(format!("{status} {json}"))),
            _ => bail!("{status} {}", String::from_utf8_lossy(body)),
        }
    }

    /// SplitMix64: the same traffic in every run.
    fn dice(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 27)
    }
}

enum Outcome {
    Right,
    Refused(String),
}

/// Adds the keys that serve, and those for long streams in a group of their own.
pub(crate) async fn add_keys(options: &Options) -> Result<Vec<String>> {
    let client = Client::new(&options.target);
    let openai: Vec<String> = (0..60).map(|number| format!("sk-soak-{number:016}")).collect();
    let gemini: Vec<String> = (0..20).map(|number| format!("AIza-soak-{number:030}")).collect();
    for (keys, api_type) in [(&openai, "openai"), (&gemini, "gemini")] {
        let body = json!({ "keys": keys, "apiType": api_type });
        let (status, body) = client
            .call(Method::POST, "/api/keys", &options.admin_key, Some(&body))
            .await?;
        ensure!(status == 200, "{status} {}", String::from_utf8_lossy(&body));
    }
    // What the endpoints list decides which key serves which model.
    let path = "/api/keys/check";
    client
        .call(Method::POST, path, &options.admin_key, Some(&json!({})))
        .await?;
    Ok(openai)
}

/// Lets keys fail for a while, again and again: many of those that are limited or refused, at which the client never sees
/// anything, and one that is broken, which is asked twice.
pub(crate) async fn faults(options: Options, keys: Vec<String>, over: Arc<AtomicBool>) -> Result<()> {
    let upstream = Client::new(&options.upstream);
    let admin = Client::new(&options.target);
    let mut round = 0;
    while !over.load(Relaxed) {
        let mut told = Map::new();
        for (place, fault) in ["limited", "dead", "limited", "dead", "broken", "limited", "dead"]
            .iter()
            .enumerate()
        {
            if let Some(key) = keys.get((round * 7 + place) % keys.len()) {
                told.insert(key.clone(), json!(fault));
            }
        }
        upstream
            .call(Method::POST, "/__faults", "", Some(&Value::Object(told.clone())))
            .await?;
        tokio::time::sleep(Duration::from_secs(4)).await;
        told.values_mut().for_each(|fault| *fault = json!(""));
        upstream
            .call(Method::POST, "/__faults", "", Some(&Value::Object(told)))
            .await?;
        // The dead come back by a check that succeeds.
        let body = json!({ "filter": { "status": "dead" } });
        let (status, _) = admin
            .call(Method::POST, "/api/keys/check", &options.admin_key, Some(&body))
            .await?;
        ensure!(status == 200, "{status} for a check");
        // Long enough for what is under way: a request that meets two broken keys, one after the other, may rightly fail.
        tokio::time::sleep(Duration::from_secs(3)).await;
        round += 1;
    }
    Ok(())
}

/// One stream of a word a second.
pub(crate) async fn long_stream(client: &Client, options: &Options) -> Result<()> {
    let body = json!({ "model": format!("load-{}-1000", options.stream_seconds), "stream": true, "messages": [{ "role": "user", "content": "x" }] });
    let path = "/long/v1/chat/completions";
    let (status, body) = client
        .call(Method::POST, path, &options.access_key, Some(&body))
        .await?;
    let text = String::from_utf8_lossy(&body);
    ensure!(status == 200, "{status} {text}");
    ensure!(
        text.trim_end().ends_with("data: [DONE]"),
        "it has no end: {}",
        text.chars().rev().take(200).collect::<String>()
    );
    let events = text.matches("data: {").count() as u64;
    ensure!(
        events >= options.stream_seconds,
        "{events} events in {} s",
        options.stream_seconds
    );
    Ok(())
}

/// What the deltas of a stream say together.
fn said(stream: &str) -> String {
    let events = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    let words = events.filter_map(|event| {
        let event: Value = serde_json::from_str(event).ok()?;
        let word = event.pointer("/choices/0/delta/content")?;
        word.as_str().map(str::to_owned)
    });
    words.collect()
}
