//! Whole answers: Gemini's in OpenAI's form. One reading, one writing; texts and images go over as they came.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{
    audio,
    error::{AnswerError, Why},
    finish_reason::{self, finish_reason},
    grounding::{Said, citations},
    ids::Ids,
    logprobs,
    piece::Piece,
    tools::Names,
};
use crate::{
    gemini::response::{Candidate, Part, Response, Text, plain},
    openai::answer::{self, ToolCall, Usage, escaped, number, raw, string},
    pool::usage::Tokens,
};

/// What an answer needs to know of its request.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'s> {
    /// The answer's id.
    pub id: &'s str,
    /// Seconds since 1970.
    pub created: i64,
    /// The model, as the client is told it.
    pub model: &'s str,
    /// Functions that were renamed.
    pub names: &'s Names,
    /// For the ids of calls.
    pub seed: u64,
    /// What the client asked for.
    pub kind: Kind<'s>,
    /// Whether sound is wanted as bare samples: see [`Prepared::pcm`](super::request::Prepared::pcm).
    pub pcm: bool,
    /// OpenAI's word for the tier that served: see [`service_tier`].
    pub service_tier: Option<&'s str>,
    /// Whether this answer is told whatever it is like: nothing is asked again.
    pub is_last: bool,
}

/// What a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'s> {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completion {
        /// What goes before each answer: a text for each upstream call of the request, none at all unless asked for.
        echo: &'s [Cow<'s, str>],
    },
}

/// What upstream answers became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// OpenAI's JSON.
    pub body: Vec<u8>,
    /// Tokens.
    pub tokens: Tokens,
    /// Thought signatures, by the id of the call that each came with.
    pub signatures: Vec<(String, String)>,
    /// Whether the provider says that the key's account was limited.
    pub flagged: bool,
    /// A finish reason that is new.
    pub unknown_finish: Option<String>,
}

/// Makes one answer of the answers of one or more upstream calls: their choices are numbered through, their tokens added up.
pub fn completion(bodies: &[&[u8]], shape: &Shape) -> Result<Answer, AnswerError> {
    let responses: Vec<Response> = bodies.iter().map(|body| read(body)).collect::<Result<_, _>>()?;
    let length: usize = bodies.iter().map(|body| body.len()).sum();
    let mut writer = Writer {
        shape,
        out: Vec::with_capacity(length + 512),
        ids: Ids::new(shape.seed),
        choices: 0,
        answer: Answer {
            body: Vec::new(),
            tokens: Tokens::default(),
            signatures: Vec::new(),
            flagged: false,
            unknown_finish: None,
        },
    };
    head(shape, false, &mut writer.out);
    let mut usage = Usage::default();
    for (place, response) in responses.iter().enumerate() {
        writer.response(place, response)?;
        usage = usage + response.usage_metadata.map(Usage::from).unwrap_or_default();
    }
    raw("],\"usage\":", &mut writer.out);
    usage.write(&mut writer.out);
    raw("}", &mut writer.out);
    Ok(Answer {
        body: writer.out,
        tokens: usage.into(),
        ..writer.answer
    })
}

/// OpenAI's word for the tier in Gemini's header `x-gemini-service-tier`.
pub fn service_tier(header: &str) -> Option<&'static str> {
    match header {
        "standard" => Some("default"),
        "flex" => Some("flex"),
        "priority" => Some("priority"),
        _ => None,
    }
}

/// Reads an answer or an event. An error in place of an answer is an error, whatever the status said.
pub(super) fn read(body: &[u8]) -> Result<Response<'_>, AnswerError> {
    let text = std::str::from_utf8(body).map_err(|_| AnswerError::Unreadable)?;
    let text = text.trim_start();
    let response = if text.starts_with('[') {
        let list: Vec<Response> = serde_json::from_str(text).map_err(|_| AnswerError::Unreadable)?;
        let one: Result<[Response; 1], _> = list.try_into();
        let [one] = one.map_err(|_| AnswerError::Unreadable)?;
        one
    } else {
        serde_json::from_str(text).map_err(|_| AnswerError::Unreadable)?
    };
    match response.error {
        Some(error) => Err(AnswerError::upstream(error.get(), body)),
        None => Ok(response),
    }
}

/// Why a prompt was not answered.
pub(super) fn block_reason<'a>(response: &Response<'a>) -> Option<Cow<'a, str>> {
    let reason = response.prompt_feedback.as_ref()?.block_reason?.plain();
    Some(reason).filter(|reason| !reason.is_empty() && reason != "BLOCK_REASON_UNSPECIFIED")
}

/// Writes what every answer and every chunk begins with, up to its choices.
pub(super) fn head(shape: &Shape, is_chunk: bool, out: &mut Vec<u8>) {
    raw("{\"id\":", out);
    string(shape.id, out);
    raw(",\"object\":\"", out);
    let object = match (shape.kind, is_chunk) {
        (Kind::Chat, false) => "chat.completion",
        (Kind::Chat, true) => "chat.completion.chunk",
        (Kind::Completion { .. }, _) => "text_completion",
    };
    raw(object, out);
    raw("\",\"created\":", out);
    number(u64::try_from(shape.created).unwrap_or_default(), out);
    raw(",\"model\":", out);
    string(shape.model, out);
    if let Some(tier) = shape.service_tier {
        raw(",\"service_tier\":", out);
        string(tier, out);
    }
    raw(",\"system_fingerprint\":null,\"choices\":[", out);
}

struct Writer<'s> {
    shape: &'s Shape<'s>,
    out: Vec<u8>,
    ids: Ids,
    choices: usize,
    answer: Answer,
}

impl Writer<'_> {
    fn response(&mut self, place: usize, response: &Response) -> Result<(), AnswerError> {
        let echo = match self.shape.kind {
            Kind::Chat => "",
            Kind::Completion { echo } => echo.get(place).map(AsRef::as_ref).unwrap_or_default(),
        };
        let mut candidates: Vec<&Candidate> = response.candidates.iter().flatten().collect();
        if candidates.is_empty() {
            let reason = block_reason(response).ok_or(AnswerError::Retry(Why::Empty))?;
            self.blocked(&reason, echo);
            return Ok(());
        }
        candidates.sort_by_key(|candidate| candidate.index);
        candidates
            .into_iter()
            .try_for_each(|candidate| self.candidate(candidate, echo))
    }

    fn blocked(&mut self, reason: &str, echo: &str) {
        self.begin_choice();
        match self.shape.kind {
            Kind::Chat => {
                raw(
                    "\"message\":{\"role\":\"assistant\",\"content\":null,\"refusal\":",
                    &mut self.out,
                );
                string(&refusal(reason), &mut self.out);
                raw("}", &mut self.out);
            }
            Kind::Completion { .. } => {
                raw("\"text\":", &mut self.out);
                string(echo, &mut self.out);
            }
        }
        raw(",\"logprobs\":null", &mut self.out);
        self.end_choice("content_filter", reason);
    }

    fn candidate(&mut self, candidate: &Candidate, echo: &str) -> Result<(), AnswerError> {
        let parts = candidate.content.as_ref().and_then(|content| content.parts.as_deref());
        let message = Message::new(parts.unwrap_or_default());
        let native = candidate.finish_reason.map(Text::plain).unwrap_or_default();
        if message.is_empty() && !self.shape.is_last {
            let why = finish_reason::retry(&native);
            if let Some(why) = why.or(native.is_empty().then_some(Why::Empty)) {
                return Err(AnswerError::Retry(why));
            }
        }
        // What cannot be read of the model's words is told in the provider's.
        let said_instead = candidate
            .finish_message
            .map(Text::escaped)
            .filter(|_| message.is_empty() && finish_reason::is_slip(&native));
        self.begin_choice();
        let calls = match self.shape.kind {
            Kind::Chat => {
                self.message(&message, candidate, said_instead);
                calls_word(message.has_calls, self.shape.names)
            }
            Kind::Completion { .. } => {
                raw("\"text\":", &mut self.out);
                string(echo, &mut self.out);
                // The quote behind the prompt is taken back: the answer goes on in the same string.
                self.out.pop();
                message.write_content(&mut self.out);
                raw(said_instead.unwrap_or_default(), &mut self.out);
                raw("\"", &mut self.out);
                None
            }
        };
        raw(",\"logprobs\":", &mut self.out);
        match self.shape.kind {
            Kind::Chat => logprobs::write(candidate.logprobs_result, &mut self.out),
            Kind::Completion { .. } => raw("null", &mut self.out),
        }
        let finish = finish_reason(&native, calls, message.has_content);
        self.answer.flagged |= native == finish_reason::LIMITED;
        if !finish_reason::is_known(&native) {
            self.answer.unknown_finish = Some(shorten(&native));
        }
        self.end_choice(finish, &native);
        Ok(())
    }

    fn message(&mut self, message: &Message, candidate: &Candidate, said_instead: Option<&str>) {
        raw("\"message\":{\"role\":\"assistant\",\"content\":", &mut self.out);
        let start = self.out.len();
        if message.has_content {
            raw("\"", &mut self.out);
            message.write_content(&mut self.out);
            raw("\"", &mut self.out);
        } else {
            match said_instead {
                Some(text) => escaped(text, &mut self.out),
                None => raw("null", &mut self.out),
            }
        }
        let end = self.out.len();
        raw(",\"refusal\":null", &mut self.out);
        if message.has_thoughts {
            raw(",\"reasoning_content\":\"", &mut self.out);
            for piece in message.pieces() {
                if let Piece::Thought(text) = piece {
                    raw(text, &mut self.out);
                }
            }
            raw("\"", &mut self.out);
        }
        if candidate.grounding_metadata.is_some() || candidate.citation_metadata.is_some() {
            let content = self.out.get(start + 1..end - 1).unwrap_or_default();
            let content = String::from_utf8_lossy(content).into_owned();
            self.annotations(message, candidate, &content);
        }
        self.images(message);
        self.audio(message);
        if message.has_calls {
            self.calls(message);
        }
        let signature = message.signature();
        let grounding = candidate.grounding_metadata.map(RawValue::get);
        if signature.is_some() || grounding.is_some() {
            raw(",", &mut self.out);
            answer::extra_content(signature, grounding, &mut self.out);
        }
        raw("}", &mut self.out);
    }

    fn annotations(&mut self, message: &Message, candidate: &Candidate, content: &str) {
        let (mut starts, mut start, mut written) = (Vec::new(), 0, Vec::new());
        for (number, part) in message.parts.iter().enumerate() {
            if let Some(piece) = Piece::of(part).filter(|piece| piece.is_content()) {
                starts.push((number, start));
                written.clear();
                piece.write_content(&mut written);
                start += plain(std::str::from_utf8(&written).unwrap_or_default()).len();
            }
        }
        let text = if message.has_content {
            plain(content)
        } else {
            Cow::Borrowed("")
        };
        let said = Said::new(&text, &starts);
        let out = &mut self.out;
        citations(
            candidate.grounding_metadata,
            candidate.citation_metadata,
            &said,
            |citations| {
                if !citations.is_empty() {
                    raw(",", out);
                    answer::annotations(citations, out);
                }
            },
        );
    }

    fn images(&mut self, message: &Message) {
        let mut index = 0;
        for piece in message.pieces() {
            if let Piece::Image { mime, base64 } = piece {
                raw(if index == 0 { ",\"images\":[" } else { "," }, &mut self.out);
                answer::image(index, mime, base64, &mut self.out);
                index += 1;
            }
        }
        raw(if index > 0 { "]" } else { "" }, &mut self.out);
    }

    fn audio(&mut self, message: &Message) {
        let sounds = message.pieces().filter_map(|piece| match piece {
            Piece::Audio { mime, base64 } => Some((mime, base64)),
            _ => None,
        });
        let sounds: Vec<_> = sounds.collect();
        if let Some(base64) = audio::joined(&sounds, self.shape.pcm) {
            let id = self.ids.random("audio_");
            raw(",", &mut self.out);
            answer::audio(&id, &base64, self.shape.created, &mut self.out);
        }
    }

    fn calls(&mut self, message: &Message) {
        let names = self.shape.names;
        let mut place = 0;
        for part in message.parts {
            let Some(call) = &part.function_call else { continue };
            let name = call.name.map(Text::plain).unwrap_or_default();
            let id = self.ids.call(&call.id.map(Text::plain).unwrap_or_default());
            let signature = part.thought_signature.filter(|signature| !signature.is_empty());
            let written = ToolCall {
                index: None,
                id: &id,
                name: names.original(&name),
                arguments: call.args,
                signature: signature.map(Text::escaped),
                is_custom: names.is_custom(&name),
            };
            if names.is_legacy() {
                raw(",", &mut self.out);
                written.write_legacy(&mut self.out);
                return;
            }
            raw(if place == 0 { ",\"tool_calls\":[" } else { "," }, &mut self.out);
            written.write(&mut self.out);
            place += 1;
            if let Some(signature) = signature {
                self.answer.signatures.push((id, signature.plain().into_owned()));
            }
        }
        raw("]", &mut self.out);
    }

    fn begin_choice(&mut self) {
        raw(
            if self.choices > 0 {
                ",{\"index\":"
            } else {
                "{\"index\":"
            },
            &mut self.out,
        );
        number(self.choices as u64, &mut self.out);
        raw(",", &mut self.out);
        self.choices += 1;
    }

    fn end_choice(&mut self, finish: &str, native: &str) {
        raw(",", &mut self.out);
        finish_fields(finish, native, &mut self.out);
        raw("}", &mut self.out);
    }
}

/// The parts of an answer, looked through once.
struct Message<'a> {
    parts: &'a [Part<'a>],
    has_content: bool,
    has_thoughts: bool,
    has_calls: bool,
    has_media: bool,
}

impl<'a> Message<'a> {
    fn new(parts: &'a [Part<'a>]) -> Self {
        let mut message = Self {
            parts,
            has_content: false,
            has_thoughts: false,
            has_calls: false,
            has_media: false,
        };
        for piece in parts.iter().filter_map(Piece::of) {
            match piece {
                Piece::Thought(_) => message.has_thoughts = true,
                Piece::Call(_) => message.has_calls = true,
                Piece::Image { .. } | Piece::Audio { .. } => message.has_media = true,
                Piece::Text(_) | Piece::Code { .. } | Piece::Output(_) => message.has_content = true,
            }
        }
        message
    }

    /// Whether nothing was said: thoughts alone are not an answer.
    const fn is_empty(&self) -> bool {
        !self.has_content && !self.has_calls && !self.has_media
    }

    fn pieces(&self) -> impl Iterator<Item = Piece<'a>> {
        self.parts.iter().filter_map(Piece::of)
    }

    fn write_content(&self, out: &mut Vec<u8>) {
        for piece in self.pieces() {
            piece.write_content(out);
        }
    }

    /// The last signature that belongs to no call.
    fn signature(&self) -> Option<&'a str> {
        let own = self.parts.iter().filter(|part| part.function_call.is_none());
        own.filter_map(|part| part.thought_signature)
            .map(Text::escaped)
            .rfind(|signature| !signature.is_empty())
    }
}

/// OpenAI's word for an answer that ends with calls.
pub(super) const fn calls_word(has_calls: bool, names: &Names) -> Option<&'static str> {
    match (has_calls, names.is_legacy()) {
        (false, _) => None,
        (true, false) => Some("tool_calls"),
        (true, true) => Some("function_call"),
    }
}

/// What a client is told of a prompt that was not answered.
pub(super) fn refusal(reason: &str) -> String {
    format!("Blocked by Gemini: {}", shorten(reason))
}

/// Writes why a choice ended, in OpenAI's word and in Gemini's own.
pub(super) fn finish_fields(finish: &str, native: &str, out: &mut Vec<u8>) {
    raw("\"finish_reason\":\"", out);
    raw(finish, out);
    raw("\"", out);
    if !native.is_empty() {
        raw(",\"native_finish_reason\":", out);
        string(&shorten(native), out);
    }
}

/// Words of an enumeration are short.
pub(super) fn shorten(word: &str) -> String {
    word.chars().take(64).collect()
}
