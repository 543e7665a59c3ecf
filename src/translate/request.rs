//! One chat request, on its way to Gemini.

use bytes::Bytes;
use serde_json::json;

use super::{
    adapt::{self, Fixes},
    extra, messages,
    model::{Family, Gemini},
    openapi,
    parts::{Download, Sources},
    reasoning, schema,
    tools::{self, Names},
};
use crate::{
    error::ApiError,
    gemini::request::{Content, GenerateContent, GenerationConfig, Parts, Role, Tool},
    openai::{
        self, Text, Texts, Whole,
        chat::{ChatRequest, ResponseFormat},
    },
};

/// What a chat request became. It borrows from the client's body, so that an image is copied once: when it is written.
#[derive(Debug)]
pub struct Prepared<'a> {
    /// The model as Google's paths have it.
    pub model: String,
    /// Its generation.
    pub family: Family,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Whether a stream ends with a chunk that tells the usage.
    pub include_usage: bool,
    /// How many answers are wanted, 1 to 8: Gemini's models give one a call.
    pub n: u32,
    /// Whether sound is wanted as bare samples, `pcm16`: other formats have a header.
    pub pcm: bool,
    /// Functions that had to be renamed.
    pub names: Names,
    /// What has to be fetched and given to [`Prepared::inline`] before the body is written.
    pub downloads: Vec<Download>,
    /// Whether the request names what Google keeps for one key's project: a file, a cached content.
    pub pinned: bool,
    pub(super) request: GenerateContent<'a>,
    pub(super) fixes: Fixes,
    /// About how long the body will be: growing it would copy it.
    size: usize,
}

/// Reads a chat request and translates it for a model. `recall` knows the thought signatures of tool calls by their id.
pub fn prepare<'a>(
    body: &'a [u8],
    model: &str,
    recall: &dyn Fn(&str) -> Option<String>,
) -> Result<Prepared<'a>, ApiError> {
    translate(openai::read(body)?, model, recall, body.len())
}

impl Prepared<'_> {
    /// Fills in what was fetched for one of the downloads. `mime` is the Content-Type that it came with.
    pub fn inline(&mut self, download: usize, mime: &str, data: &[u8]) -> Result<(), ApiError> {
        let Some(wanted) = self.downloads.get(download) else {
            return Ok(());
        };
        let (mime, data) = wanted.read(mime, data)?;
        let size = self.size + data.len();
        if size > MOST_BYTES {
            let message = format!(
                "With '{}' the request is larger than {} MB.",
                wanted.param,
                MOST_BYTES / 1_000_000
            );
            return Err(ApiError::invalid(wanted.param.clone(), message));
        }
        self.size = size;
        for content in &mut self.request.contents {
            for part in &mut content.parts {
                super::parts::fill(part, download, &mime, &data);
            }
        }
        Ok(())
    }

    /// Gemini's request.
    pub fn body(&self) -> Bytes {
        let mut body = Vec::with_capacity(self.size + SPARE);
        // Writing into memory fails for maps with keys that are no strings alone, and there are none.
        match serde_json::to_writer(&mut body, &self.request) {
            Ok(()) => Bytes::from(body),
            Err(_) => Bytes::new(),
        }
    }

    /// One of Gemini's requests for each of the `n` answers. With one seed for all of them the answers would be the same.
    pub fn bodies(&mut self) -> Vec<Bytes> {
        let choices = self.n as usize;
        let Some(seed) = self.request.generation_config.seed.filter(|_| choices > 1) else {
            return vec![self.body(); choices];
        };
        let bodies = (0..i64::from(self.n)).map(|choice| {
            self.request.generation_config.seed = Some((seed + choice).rem_euclid(SEEDS));
            self.body()
        });
        let bodies = bodies.collect();
        self.request.generation_config.seed = Some(seed);
        bodies
    }

    /// Learns from Gemini's message to a 400: `true` when the request is another now and worth sending once more. No fix is
    /// made twice.
    pub fn adapt(&mut self, message: &str) -> bool {
        adapt::adapt(self, message)
    }
}

/// Translates a request whose fields are read.
pub(super) fn translate<'a>(
    mut chat: ChatRequest<'a>,
    model: &str,
    recall: &dyn Fn(&str) -> Option<String>,
    size: usize,
) -> Result<Prepared<'a>, ApiError> {
    let gemini = Gemini::of(model);
    let mut google = extra::take(&mut chat);
    let explicit = extra::generation(&mut google);
    let tools = tools::translate(&mut chat, &gemini, extra::tools(&mut google))?;
    let mut sources = Sources::new(&gemini);
    let messages = chat.messages.take().filter(|messages| !messages.is_empty());
    let messages = messages.ok_or_else(|| ApiError::missing("messages"))?;
    let knowledge = messages::Knowledge {
        gemini: &gemini,
        names: &tools.names,
        recall,
    };
    let conversation = messages::translate(messages, &knowledge, &mut sources)?;

    let sound = chat.audio.as_ref().and_then(|audio| audio.format.as_deref());
    let pcm = sound == Some("pcm16");
    let mut config = generation(&mut chat, &gemini)?;
    config.media_resolution = sources.resolution().map(Text::from_static);
    let effort = reasoning::Effort::of(&chat)?;
    config.overlay(explicit);
    config.thinking_config = reasoning::thinking(&gemini, effort, config.thinking_config.take());
    let n = chat.n.map(|Whole(n)| n).or(config.candidate_count.take()).unwrap_or(1);
    let n = u32::try_from(n).ok().filter(|n| (1..=MOST_CHOICES).contains(n));
    let n = n.ok_or_else(|| ApiError::invalid("n", format!("'n' has to be between 1 and {MOST_CHOICES}.")))?;

    let has_functions = tools.tools.iter().any(|tool| matches!(tool, Tool::Functions(_)));
    let mut request = GenerateContent {
        contents: conversation.contents,
        system_instruction: Some(Parts {
            parts: conversation.system,
        })
        .filter(|system| !system.parts.is_empty()),
        tools: tools.tools,
        tool_config: extra::tool_config(google.tool_config, tools.config),
        generation_config: config,
        safety_settings: google.safety_settings,
        cached_content: google.cached_content,
        service_tier: chat.service_tier.filter(|tier| matches!(&**tier, "flex" | "priority")),
    };
    if let Some(format) = chat.response_format {
        let takes_json = !gemini.is_gemma_3() && (gemini.family >= Family::Gemini3 || !has_functions);
        shape(&mut request, format, &gemini, takes_json)?;
    }
    if gemini.is_gemma_3() {
        adapt::speak_as_user(&mut request);
    }
    if request.cached_content.is_some() {
        // They are part of what is cached, and refused beside it.
        request.system_instruction = None;
        request.tools = Vec::new();
        request.tool_config = None;
    }
    if request.contents.is_empty() {
        let parts = vec![super::parts::text(" ".into())];
        request.contents.push(Content {
            role: Role::User,
            parts,
        });
    }
    Ok(Prepared {
        model: gemini.name.to_owned(),
        family: gemini.family,
        stream: chat.stream.unwrap_or_default(),
        include_usage: chat
            .stream_options
            .and_then(|options| options.include_usage)
            .unwrap_or_default(),
        n,
        pcm,
        names: tools.names,
        downloads: sources.downloads,
        pinned: sources.pinned || request.cached_content.is_some(),
        request,
        fixes: Fixes::default(),
        size,
    })
}

/// The fields that say how the answer is made.
fn generation<'a>(chat: &mut ChatRequest<'a>, gemini: &Gemini<'_>) -> Result<GenerationConfig<'a>, ApiError> {
    let within = |number: Option<f64>, most: f64, param: &str| match number {
        Some(number) if !(0.0..=most).contains(&number) => Err(ApiError::invalid(
            param,
            format!("'{param}' has to be between 0 and {most}."),
        )),
        number => Ok(number),
    };
    let at_least_one = |number: Option<Whole>, param: &str| match number {
        Some(Whole(..1)) => Err(ApiError::invalid(param, format!("'{param}' has to be at least 1."))),
        number => Ok(number.map(|Whole(number)| number)),
    };
    let most = at_least_one(chat.max_completion_tokens, "max_completion_tokens")?;
    let most = most.or(at_least_one(chat.max_tokens, "max_tokens")?);
    // Newer models refuse these, whatever their value.
    let is_old = matches!(gemini.family, Family::Gemini20 | Family::Legacy);
    let top_logprobs = match chat.top_logprobs {
        Some(Whole(number)) if !(0..=20).contains(&number) => {
            return Err(ApiError::invalid(
                "top_logprobs",
                "'top_logprobs' has to be between 0 and 20.",
            ));
        }
        number => number.map(|Whole(number)| number),
    };
    let logprobs = chat.logprobs.filter(|wanted| *wanted && is_old);
    let stop = chat.stop.take().map(Texts::into_vec).unwrap_or_default();
    let stop: Vec<_> = stop
        .into_iter()
        .filter(|text| !text.is_empty())
        .take(MOST_STOPS)
        .collect();
    let mut config = GenerationConfig {
        max_output_tokens: most.map(|most| most.min(i32::MAX.into())),
        temperature: within(chat.temperature, 2.0, "temperature")?,
        top_p: within(chat.top_p, 1.0, "top_p")?,
        top_k: at_least_one(chat.top_k, "top_k")?.map(|top_k| top_k.min(i32::MAX.into())),
        stop_sequences: Some(stop).filter(|stop| !stop.is_empty()),
        seed: chat.seed.map(|Whole(seed)| seed.rem_euclid(SEEDS)),
        presence_penalty: chat.presence_penalty.filter(|_| is_old),
        frequency_penalty: chat.frequency_penalty.filter(|_| is_old),
        response_logprobs: logprobs,
        logprobs: top_logprobs.filter(|_| logprobs.is_some()),
        ..GenerationConfig::default()
    };
    modalities(chat, gemini, &mut config)?;
    Ok(config)
}

/// What the answer is made of, where it is not text alone.
fn modalities<'a>(
    chat: &mut ChatRequest<'a>,
    gemini: &Gemini<'_>,
    config: &mut GenerationConfig<'a>,
) -> Result<(), ApiError> {
    let (mut draws, mut speaks) = (gemini.is_image(), false);
    for (index, modality) in chat.modalities.iter().flatten().enumerate() {
        match modality.to_ascii_lowercase().as_str() {
            "text" => {}
            "image" => draws = true,
            "audio" => speaks = true,
            _ => {
                let param = format!("modalities[{index}]");
                let message = format!("Invalid value for '{param}': it is one of text, image and audio.");
                return Err(ApiError::invalid(param, message));
            }
        }
    }
    if speaks {
        config.response_modalities = Some(vec![Text::from_static("AUDIO")]);
        let voice = chat.audio.take().and_then(|audio| audio.voice);
        config.speech_config =
            voice.map(|voice| json!({"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": &*voice}}}));
    } else if draws {
        config.response_modalities = Some(vec![Text::from_static("TEXT"), Text::from_static("IMAGE")]);
    }
    Ok(())
}

/// The shape that the answer shall have. A model that cannot be held to it is told of it.
fn shape(
    request: &mut GenerateContent<'_>,
    format: ResponseFormat<'_>,
    gemini: &Gemini<'_>,
    takes_json: bool,
) -> Result<(), ApiError> {
    let kind = format.kind.ok_or_else(|| ApiError::missing("response_format.type"))?;
    let schema = match &*kind {
        "text" => return Ok(()),
        "json_object" => None,
        "json_schema" => format.json_schema.and_then(|wanted| wanted.schema),
        _ => {
            let known = "it is one of text, json_object and json_schema.";
            let message = format!("Invalid value for 'response_format.type': {known}");
            return Err(ApiError::invalid("response_format.type", message));
        }
    };
    if schema.as_ref().is_some_and(|schema| !schema.is_object()) {
        let message = "'response_format.json_schema.schema' has to be a JSON Schema, which is an object.";
        return Err(ApiError::invalid("response_format.json_schema.schema", message));
    }
    let schema = schema.map(|schema| schema::clean(&schema));
    if !takes_json {
        adapt::ask_for_json(request, schema.as_ref());
        return Ok(());
    }
    let config = &mut request.generation_config;
    config
        .response_mime_type
        .get_or_insert(Text::from_static("application/json"));
    if config.response_schema.is_none() && config.response_json_schema.is_none() {
        match schema {
            Some(schema) if gemini.family == Family::Legacy => {
                config.response_schema = Some(openapi::sanitize(&schema, false, true));
            }
            schema => config.response_json_schema = schema,
        }
    }
    Ok(())
}

/// How many answers to one request there can be.
const MOST_CHOICES: u32 = 8;
const MOST_STOPS: usize = 5;
/// Seeds are of 31 bits.
const SEEDS: i64 = 1 << 31;
/// What Gemini takes in one request, files that are sent along included.
const MOST_BYTES: usize = 100_000_000;
/// Room for what a translation adds.
const SPARE: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_one_request_differ_though_it_has_a_seed() {
        let body = br#"{"messages": [{"role": "user", "content": "Hi"}], "n": 3, "seed": 2147483646}"#;
        let mut prepared = prepare(body, "gemini-3-flash", &|_| None).unwrap();
        let seeds = |bodies: Vec<Bytes>| -> Vec<i64> {
            let seed = |body: &Bytes| {
                serde_json::from_slice::<serde_json::Value>(body).unwrap()["generationConfig"]["seed"]
                    .as_i64()
                    .unwrap()
            };
            bodies.iter().map(seed).collect()
        };
        assert_eq!(seeds(prepared.bodies()), [2_147_483_646, 2_147_483_647, 0]);
        assert_eq!(seeds(vec![prepared.body()]), [2_147_483_646]);
        let without = br#"{"messages": [{"role": "user", "content": "Hi"}], "n": 2}"#;
        let bodies = prepare(without, "gemini-3-flash", &|_| None).unwrap().bodies();
        assert_eq!(bodies.len(), 2);
        assert_eq!(bodies[0].as_ptr(), bodies[1].as_ptr(), "one copy serves all");
    }

    #[test]
    fn files_that_are_fetched_are_bounded_together() {
        let parts: Vec<String> = (0..8)
            .map(|i| format!(r#"{{"type": "image_url", "image_url": {{"url": "http://e.example/{i}"}}}}"#))
            .collect();
        let body = format!(
            r#"{{"messages": [{{"role": "user", "content": [{}]}}]}}"#,
            parts.join(",")
        );
        let mut prepared = prepare(body.as_bytes(), "gemini-3-flash", &|_| None).unwrap();
        let file = vec![0; 20 << 20];
        for number in 0..3 {
            prepared.inline(number, "image/png", &file).unwrap();
        }
        let error = prepared.inline(3, "image/png", &file).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("messages[0].content[3].image_url.url"));
    }
}
