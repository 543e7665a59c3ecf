//! Streamed answers: Gemini's events in, OpenAI's chunks out. A state machine that owns all it knows.

use serde_json::value::RawValue;

use super::{
    chunk::Frame,
    error::{AnswerError, Why},
    finish_reason::{self, finish_reason},
    grounding::{Said, citations},
    ids::Ids,
    logprobs,
    piece::Piece,
    response::{Shape, block_reason, calls_word, read, refusal, shorten},
    tools::Names,
};
use crate::{
    gemini::response::{Candidate, FunctionCall, Part, Text, plain},
    openai::answer::{self, ToolCall, Usage, escaped, raw},
    pool::usage::Tokens,
    sse,
};

/// The stream of one upstream call.
#[derive(Debug)]
pub struct ChatStream {
    frame: Frame,
    /// The number of its first choice.
    offset: u32,
    names: Names,
    ids: Ids,
    is_last: bool,
    choices: Vec<Choice>,
    blocked: Option<String>,
    usage: Usage,
    signatures: Vec<(String, String)>,
    is_committed: bool,
    flagged: bool,
    unknown_finish: Option<String>,
}

impl ChatStream {
    /// A stream whose first choice has the number `offset`.
    pub fn new(shape: &Shape, offset: u32, include_usage: bool) -> Self {
        Self {
            frame: Frame::new(shape, offset, include_usage),
            offset,
            names: shape.names.clone(),
            ids: Ids::new(shape.seed.wrapping_add(offset.into())),
            is_last: shape.is_last,
            choices: Vec::new(),
            blocked: None,
            usage: Usage::default(),
            signatures: Vec::new(),
            is_committed: false,
            flagged: false,
            unknown_finish: None,
        }
    }

    /// Takes the data of an event and writes the chunks that it becomes. Until the stream is committed nothing is written.
    pub fn push(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), AnswerError> {
        // Not Google's, but gateways like to end a stream so.
        if data.is_empty() || data == b"[DONE]" {
            return Ok(());
        }
        let response = read(data)?;
        // At once: growing step by step would copy a picture over and over.
        out.reserve(data.len() + 512);
        if let Some(usage) = response.usage_metadata {
            self.usage = usage.into();
        }
        for (place, candidate) in response.candidates.iter().flatten().enumerate() {
            self.candidate(place, candidate, out)?;
        }
        if let Some(reason) = block_reason(&response).filter(|_| self.choices.is_empty()) {
            self.blocked = Some(shorten(&reason));
            self.is_committed = true;
        }
        Ok(())
    }

    /// Whether something has come that the client is to see. Until then another key may be asked in this one's place.
    pub const fn is_committed(&self) -> bool {
        self.is_committed
    }

    /// Takes the end of the upstream's answer and writes how each choice ended. An end that nothing announced is an error.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), AnswerError> {
        if let Some(reason) = self.blocked.take() {
            self.frame.begin(self.offset, out);
            self.frame.refusal(self.offset, &refusal(&reason), out);
            self.frame.end(self.offset, "content_filter", &reason, out);
            return Ok(());
        }
        if self.choices.is_empty() {
            return Err(AnswerError::Retry(Why::Empty));
        }
        let mut choices = self.choices.iter().filter(|choice| choice.is_there);
        if choices.any(|choice| choice.finish.is_none()) {
            return Err(AnswerError::Unfinished);
        }
        for (number, choice) in (self.offset..).zip(&mut self.choices) {
            if !choice.is_there {
                continue;
            }
            let native = choice.finish.take().unwrap_or_default();
            choice.begin(&self.frame, number, out);
            choice.annotations(&self.frame, number, out);
            if choice.has_audio {
                self.frame.open(number, out);
                answer::audio_end(self.frame.created, out);
                self.frame.close(out);
            }
            if let Some(message) = choice.finish_message.take().filter(|_| choice.is_empty()) {
                self.frame.text(number, &message, out);
            }
            let calls = calls_word(choice.calls > 0 && self.frame.is_chat, &self.names);
            let finish = finish_reason(&native, calls, choice.has_content);
            self.frame.end(number, finish, &native, out);
        }
        Ok(())
    }

    /// Writes the end of the client's stream: the tokens, when they were asked for, and `[DONE]`. Once for an answer, however
    /// many upstream calls it took.
    pub fn tail(&self, usage: Usage, out: &mut Vec<u8>) {
        self.frame.usage(usage, out);
        sse::event(b"[DONE]", out);
    }

    /// Tokens so far, as clients are told of them.
    pub const fn usage(&self) -> Usage {
        self.usage
    }

    /// Tokens so far.
    pub fn tokens(&self) -> Tokens {
        self.usage.into()
    }

    /// Thought signatures that have come since they were last taken, by the id of the call that each came with.
    pub fn take_signatures(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.signatures)
    }

    /// Whether the provider says that the key's account was limited.
    pub const fn flagged(&self) -> bool {
        self.flagged
    }

    /// A finish reason that is new.
    pub fn unknown_finish(&self) -> Option<&str> {
        self.unknown_finish.as_deref()
    }

    fn candidate(&mut self, place: usize, candidate: &Candidate, out: &mut Vec<u8>) -> Result<(), AnswerError> {
        let place = candidate.index.map_or(place, |index| index as usize);
        if place >= MOST_CHOICES {
            return Err(AnswerError::Unreadable);
        }
        while self.choices.len() <= place {
            self.choices.push(Choice::default());
        }
        let number = self.offset.saturating_add(u32::try_from(place).unwrap_or_default());
        let Some(choice) = self.choices.get_mut(place) else {
            return Err(AnswerError::Unreadable);
        };
        choice.is_there = true;
        let mut logprobs = candidate.logprobs_result;
        let parts = candidate.content.as_ref().and_then(|content| content.parts.as_deref());
        for part in parts.unwrap_or_default() {
            let frame = &self.frame;
            let signature = part.thought_signature.map(Text::escaped);
            let signature = signature.filter(|signature| !signature.is_empty() && frame.is_chat);
            let Some(piece) = Piece::of(part).filter(|piece| frame.is_chat || piece.is_content()) else {
                // A signature may come on a part without a word: it is told alone.
                if let Some(signature) = signature {
                    choice.begin(frame, number, out);
                    self.is_committed = true;
                    frame.open(number, out);
                    answer::extra_content(Some(signature), None, out);
                    frame.close(out);
                }
                continue;
            };
            choice.begin(frame, number, out);
            self.is_committed = true;
            match piece {
                Piece::Call(call) => {
                    let sent = Sent { part, call, number };
                    if let Some(signed) = choice.call(frame, &sent, &self.names, &mut self.ids, out)
                        && self.signatures.len() < MOST_SIGNATURES
                    {
                        self.signatures.push(signed);
                    }
                    continue;
                }
                Piece::Text(text) => {
                    choice.keep(text);
                    frame.open_text(number, out);
                    escaped(text, out);
                }
                Piece::Code { .. } | Piece::Output(_) => {
                    frame.open_text(number, out);
                    out.push(b'"');
                    let start = out.len();
                    piece.write_content(out);
                    let text = out.get(start..).unwrap_or_default();
                    choice.keep(std::str::from_utf8(text).unwrap_or_default());
                    out.push(b'"');
                }
                Piece::Thought(text) => {
                    frame.open(number, out);
                    raw("\"reasoning_content\":", out);
                    escaped(text, out);
                }
                Piece::Image { mime, base64 } => {
                    frame.open(number, out);
                    raw("\"images\":[", out);
                    answer::image(choice.images, mime, base64, out);
                    raw("]", out);
                    choice.images += 1;
                }
                // Sound is streamed as bare samples, by OpenAI too.
                Piece::Audio { base64, .. } => {
                    let id = (!choice.has_audio).then(|| self.ids.random("audio_"));
                    choice.has_audio = true;
                    frame.open(number, out);
                    answer::audio_delta(id.as_deref(), base64, out);
                }
            }
            if let Some(signature) = signature {
                raw(",", out);
                answer::extra_content(Some(signature), None, out);
            }
            match logprobs.take_if(|_| piece.is_content() && frame.is_chat) {
                Some(result) => frame.close_with(|out| logprobs::write(Some(result), out), out),
                None => frame.close(out),
            }
        }
        if let Some(result) = logprobs.filter(|_| self.frame.is_chat) {
            choice.begin(&self.frame, number, out);
            self.is_committed = true;
            self.frame.open(number, out);
            self.frame.close_with(|out| logprobs::write(Some(result), out), out);
        }
        choice.remember(candidate);
        let native = candidate.finish_reason.map(Text::plain).unwrap_or_default();
        if !native.is_empty() {
            if choice.is_empty()
                && !self.is_committed
                && !self.is_last
                && let Some(why) = finish_reason::retry(&native)
            {
                return Err(AnswerError::Retry(why));
            }
            self.is_committed = true;
            self.flagged |= native == finish_reason::LIMITED;
            if !finish_reason::is_known(&native) {
                self.unknown_finish = Some(shorten(&native));
            }
            // It is told at the end: some models announce it with every event, and a call may come before it.
            if choice.finish.as_deref() != Some(native.as_ref()) {
                choice.finish = Some(shorten(&native));
            }
        }
        Ok(())
    }
}

/// A call, as it came.
struct Sent<'a> {
    part: &'a Part<'a>,
    call: &'a FunctionCall<'a>,
    number: u32,
}

/// One choice so far.
#[derive(Debug, Default)]
struct Choice {
    /// Whether the upstream has named it: numbers may be left out.
    is_there: bool,
    has_begun: bool,
    has_content: bool,
    calls: usize,
    images: usize,
    has_audio: bool,
    /// The text so far in escaped form, for citations, which come last and point into all of it.
    said: String,
    grounding: Option<Box<RawValue>>,
    quoted: Option<Box<RawValue>>,
    finish: Option<String>,
    /// What the provider says of an answer in which the model slipped.
    finish_message: Option<String>,
}

impl Choice {
    /// Whether nothing was said: thoughts alone are not an answer.
    const fn is_empty(&self) -> bool {
        !self.has_content && self.calls == 0 && self.images == 0 && !self.has_audio
    }

    /// Writes the delta that comes first, unless it is written.
    fn begin(&mut self, frame: &Frame, number: u32, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.has_begun, true) {
            frame.begin(number, out);
        }
    }

    fn keep(&mut self, text: &str) {
        self.has_content = true;
        if self.said.len() + text.len() <= MOST_SAID {
            self.said.push_str(text);
        }
    }

    /// Writes a call, and returns its id and its signature when it has one.
    fn call(
        &mut self,
        frame: &Frame,
        sent: &Sent,
        names: &Names,
        ids: &mut Ids,
        out: &mut Vec<u8>,
    ) -> Option<(String, String)> {
        let name = sent.call.name.map(Text::plain).unwrap_or_default();
        let id = ids.call(&sent.call.id.map(Text::plain).unwrap_or_default());
        let signature = sent.part.thought_signature.filter(|signature| !signature.is_empty());
        let call = ToolCall {
            index: Some(self.calls),
            id: &id,
            name: names.original(&name),
            arguments: sent.call.args,
            signature: signature.map(Text::escaped),
            is_custom: names.is_custom(&name),
        };
        self.calls += 1;
        if names.is_legacy() && self.calls > 1 {
            return None;
        }
        frame.open(sent.number, out);
        if names.is_legacy() {
            call.write_legacy(out);
        } else {
            raw("\"tool_calls\":[", out);
            call.write(out);
            raw("]", out);
        }
        frame.close(out);
        signature.map(|signature| (id, signature.plain().into_owned()))
    }

    /// Keeps what is told at the end. Metadata comes more than once at times: the last is the whole of it.
    fn remember(&mut self, candidate: &Candidate) {
        let is_kept = |json: &&RawValue| json.get().len() <= MOST_SAID;
        if let Some(json) = candidate.grounding_metadata.filter(is_kept) {
            self.grounding = Some(json.to_owned());
        }
        if let Some(json) = candidate.citation_metadata.filter(is_kept) {
            self.quoted = Some(json.to_owned());
        }
        let native = candidate.finish_reason.map(Text::plain).unwrap_or_default();
        if let Some(message) = candidate.finish_message.filter(|_| finish_reason::is_slip(&native)) {
            self.finish_message = Some(message.escaped().to_owned());
        }
    }

    /// Writes what the answer is grounded in.
    fn annotations(&mut self, frame: &Frame, number: u32, out: &mut Vec<u8>) {
        if !frame.is_chat || (self.grounding.is_none() && self.quoted.is_none()) {
            return;
        }
        let said = plain(&self.said);
        let said = Said::new(&said, &[]);
        citations(self.grounding.as_deref(), self.quoted.as_deref(), &said, |citations| {
            if citations.is_empty() && self.grounding.is_none() {
                return;
            }
            frame.open(number, out);
            if !citations.is_empty() {
                answer::annotations(citations, out);
            }
            if let Some(grounding) = &self.grounding {
                raw(if citations.is_empty() { "" } else { "," }, out);
                answer::extra_content(None, Some(grounding.get()), out);
            }
            frame.close(out);
        });
    }
}

/// Google's own most is 8.
const MOST_CHOICES: usize = 16;

/// Text that is kept for citations. Those of longer answers point to the wrong place at most.
const MOST_SAID: usize = 1 << 20;

/// Signatures that wait to be taken.
const MOST_SIGNATURES: usize = 256;
