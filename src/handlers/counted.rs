//! Passed-through answers that are led through the component, so that their tokens are counted (`count_tokens`). They reach
//! the client byte by byte as they came; an event stream is handed on in whole events, so that one that breaks off ends with
//! one error event and nothing half said before it.

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    error::ApiError,
    gemini::response::UsageMetadata,
    openai::answer::Usage,
    pool::usage::Tokens,
    ports::{Body, Ports, ReadBody as _, Sink as _},
    relay::Ticket,
    sse::Decoder,
    translate::error,
};

/// Whether an answer can be read: it is JSON or an event stream, and not compressed.
pub fn is_readable(headers: &HeaderMap) -> bool {
    !headers.contains_key(header::CONTENT_ENCODING) && (is(headers, "json") || is(headers, "event-stream"))
}

/// Leads an answer through. `ticket` learns how it ends.
pub fn lead<P: Ports>(headers: &HeaderMap, mut body: P::ResponseBody, ticket: Ticket<P>) -> Body<P> {
    let mut reader = if is(headers, "event-stream") {
        Reader::Events(Events::default())
    } else {
        Reader::Whole(Vec::new())
    };
    Body::Stream(Box::new(move |mut sink: P::Sink| {
        Box::pin(async move {
            loop {
                let piece = match body.chunk().await {
                    Ok(Some(piece)) => reader.take(piece),
                    Ok(None) => break,
                    Err(_) => {
                        ticket.broke("The connection to the upstream broke off in the middle of an answer.");
                        // Anything else ends short of its length: the host cuts the connection.
                        if let Reader::Events(_) = reader {
                            let mut out = Vec::new();
                            error::event(
                                &ApiError::upstream("The connection to the upstream broke off."),
                                &mut out,
                            );
                            let _ = sink.write(Bytes::from(out)).await;
                        }
                        return;
                    }
                };
                if !piece.is_empty() && sink.write(piece).await.is_err() {
                    // The ticket is dropped: the client has gone away, which is nobody's fault.
                    return;
                }
            }
            let (rest, told) = reader.finish();
            match told.refused {
                Some((status, error)) => ticket.refused(status, &error),
                None => ticket.succeeded(told.tokens),
            }
            if !rest.is_empty() {
                let _ = sink.write(rest).await;
            }
        })
    }))
}

enum Reader {
    Events(Events),
    Whole(Vec<u8>),
}

/// What an answer has told so far.
#[derive(Debug, Default)]
struct Told {
    tokens: Tokens,
    /// An error in the midst of it, as if it had come with this status.
    refused: Option<(StatusCode, Vec<u8>)>,
}

struct Events {
    decoder: Decoder,
    /// Whether the decoder has given up: an event was too long to be looked into.
    is_blind: bool,
    told: Told,
    /// The event under way.
    held: Vec<u8>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            decoder: Decoder::new(MOST_EVENT),
            is_blind: false,
            told: Told::default(),
            held: Vec::new(),
        }
    }
}

impl Reader {
    /// Takes a piece in and gives out what may go on.
    fn take(&mut self, piece: Bytes) -> Bytes {
        match self {
            Self::Whole(whole) => {
                // What is longer than any answer that names its tokens is not kept.
                if whole.len() + piece.len() <= MOST_WHOLE {
                    whole.extend_from_slice(&piece);
                } else {
                    whole.clear();
                }
                piece
            }
            Self::Events(events) => events.take(piece),
        }
    }

    /// The end: what was held back, and what the answer has told.
    fn finish(self) -> (Bytes, Told) {
        match self {
            Self::Whole(whole) => {
                let mut told = Told::default();
                look(&whole, &mut told);
                // An answer that came with a good head is one, whatever a field of it is called.
                told.refused = None;
                (Bytes::new(), told)
            }
            Self::Events(mut events) => {
                let told = &mut events.told;
                if !events.is_blind {
                    let _ = events.decoder.finish(|data| look(data, told));
                }
                (Bytes::from(events.held), events.told)
            }
        }
    }
}

impl Events {
    fn take(&mut self, piece: Bytes) -> Bytes {
        let told = &mut self.told;
        if !self.is_blind {
            self.is_blind = self.decoder.push(&piece, |data| look(data, told)).is_err();
        }
        let Some(end) = last_event_end(&self.held, &piece) else {
            self.held.extend_from_slice(&piece);
            // One that is too long to be held goes on unfinished.
            let is_long = self.held.len() > MOST_EVENT;
            return if is_long {
                Bytes::from(std::mem::take(&mut self.held))
            } else {
                Bytes::new()
            };
        };
        let rest = piece.slice(end..);
        let whole = piece.slice(..end);
        let mut held = std::mem::replace(&mut self.held, rest.to_vec());
        if held.is_empty() {
            return whole;
        }
        held.extend_from_slice(&whole);
        Bytes::from(held)
    }
}

/// Where in `piece` the last event ends that ends there: behind a blank line, which may have begun in what is held.
fn last_event_end(held: &[u8], piece: &[u8]) -> Option<usize> {
    let before = held.len().min(3);
    let mut seam = held.get(held.len() - before..).unwrap_or_default().to_vec();
    seam.extend_from_slice(piece.get(..piece.len().min(3)).unwrap_or_default());
    let ends = |text: &[u8]| {
        BLANK_LINES
            .iter()
            .filter_map(|blank| memmem::rfind(text, blank).map(|at| at + blank.len()))
            .max()
    };
    let in_piece = ends(piece);
    let in_seam = ends(&seam)
        .and_then(|end| end.checked_sub(before))
        .filter(|end| *end > 0);
    in_piece.max(in_seam)
}

/// What of an answer, or of an event, names tokens or an error. The last one that names them holds: it has them all.
#[derive(Deserialize)]
struct Look<'a> {
    usage: Option<OpenAiUsage>,
    #[serde(rename = "usageMetadata")]
    usage_metadata: Option<UsageMetadata>,
    /// Where the Responses API has it.
    response: Option<Inner>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Inner {
    usage: Option<OpenAiUsage>,
}

#[derive(Deserialize)]
struct OpenAiUsage {
    #[serde(alias = "input_tokens")]
    prompt_tokens: Option<u64>,
    #[serde(alias = "output_tokens")]
    completion_tokens: Option<u64>,
    total_tokens: Option<u64>,
}

impl From<OpenAiUsage> for Tokens {
    fn from(usage: OpenAiUsage) -> Self {
        let (prompt, completion) = (
            usage.prompt_tokens.unwrap_or_default(),
            usage.completion_tokens.unwrap_or_default(),
        );
        Self {
            prompt,
            completion,
            total: usage.total_tokens.unwrap_or(prompt.saturating_add(completion)),
        }
    }
}

fn look(data: &[u8], told: &mut Told) {
    // Most events name neither, and are not read.
    if memmem::find(data, b"\"usage").is_none() && memmem::find(data, b"\"error\"").is_none() {
        return;
    }
    let Ok(look) = serde_json::from_slice::<Look<'_>>(data) else {
        return;
    };
    let openai = look.usage.or(look.response.and_then(|response| response.usage));
    if let Some(usage) = openai {
        told.tokens = usage.into();
    } else if let Some(usage) = look.usage_metadata {
        told.tokens = Usage::from(usage).into();
    }
    if look.error.is_some_and(|error| error.get() != "null") {
        told.refused = Some((status_of(look.error), data.to_vec()));
    }
}

/// The status that an error in a stream would have come with.
fn status_of(error: Option<&RawValue>) -> StatusCode {
    #[derive(Deserialize)]
    struct Code {
        code: Option<serde_json::Value>,
    }
    let code = error.and_then(|error| serde_json::from_str::<Code>(error.get()).ok()?.code?.as_u64());
    let status = code.and_then(|code| StatusCode::from_u16(u16::try_from(code).ok()?).ok());
    status
        .filter(|status| status.is_client_error() || status.is_server_error())
        .unwrap_or(StatusCode::BAD_GATEWAY)
}

fn is(headers: &HeaderMap, kind: &str) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| value.contains(kind))
}

const BLANK_LINES: [&[u8]; 3] = [b"\n\n", b"\r\n\r\n", b"\r\r"];

/// The longest event that is held until it is whole.
const MOST_EVENT: usize = 16 * 1024 * 1024;

/// The longest answer that is kept to be looked into.
const MOST_WHOLE: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(pieces: &[&str]) -> (String, Tokens, Option<StatusCode>) {
        let mut reader = Reader::Events(Events::default());
        let mut out = String::new();
        for piece in pieces {
            out.push_str(std::str::from_utf8(&reader.take(Bytes::from((*piece).to_owned()))).unwrap());
        }
        let (rest, told) = reader.finish();
        out.push_str(std::str::from_utf8(&rest).unwrap());
        (out, told.tokens, told.refused.map(|(status, _)| status))
    }

    #[test]
    fn every_cut_of_a_stream_gives_the_same_bytes_and_counts() {
        let streams = [
            (
                "data: {\"choices\":[]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7}}\n\ndata: [DONE]\n\n",
                (3, 4, 7),
            ),
            (
                "data: {\"usageMetadata\":{\"promptTokenCount\":5,\"candidatesTokenCount\":1,\"totalTokenCount\":6}}\r\n\r\ndata: {\"usageMetadata\":{\"promptTokenCount\":5,\"candidatesTokenCount\":9,\"totalTokenCount\":14}}\r\n\r\n",
                (5, 9, 14),
            ),
            (
                "event: response.completed\ndata: {\"response\":{\"usage\":{\"input_tokens\":2,\"output_tokens\":8}}}\n\n",
                (2, 8, 10),
            ),
        ];
        for (stream, (prompt, completion, total)) in streams {
            for cut in 0..=stream.len() {
                let (out, tokens, refused) = fed(&[&stream[..cut], &stream[cut..]]);
                assert_eq!(out, stream, "cut at {cut}");
                assert_eq!(
                    (tokens.prompt, tokens.completion, tokens.total),
                    (prompt, completion, total),
                    "{cut}"
                );
                assert_eq!(refused, None);
            }
        }
    }

    #[test]
    fn only_whole_events_go_on() {
        let mut events = Events::default();
        assert_eq!(events.take(Bytes::from_static(b"data: 1\n\ndata: 2\n")), "data: 1\n\n");
        assert_eq!(events.take(Bytes::from_static(b"\nda")), "data: 2\n\n");
        assert_eq!(events.take(Bytes::from_static(b"ta: 3\r\n\r")), "");
        assert_eq!(events.take(Bytes::from_static(b"\n")), "data: 3\r\n\r\n");
    }

    #[test]
    fn an_error_in_a_stream_is_seen_and_goes_on() {
        let stream = "data: {\"error\":{\"code\":429,\"message\":\"slow down\"}}\n\n";
        assert_eq!(fed(&[stream]).2, Some(StatusCode::TOO_MANY_REQUESTS));
        assert_eq!(
            fed(&["data: {\"error\":{\"code\":\"x\"}}\n\n"]).2,
            Some(StatusCode::BAD_GATEWAY)
        );
        assert_eq!(fed(&["data: {\"error\":null,\"choices\":[]}\n\n"]).2, None);
        assert_eq!(fed(&["data: {\"text\":\"an \\\"error\\\" in words\"}\n\n"]).2, None);
    }
}
