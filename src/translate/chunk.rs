//! The chunks of a stream: everything of them but what they say.

use super::response::{Kind, Shape, finish_fields, head};
use crate::openai::answer::{Usage, escaped, number, raw, string};

/// What is the same in all chunks.
#[derive(Debug)]
pub(super) struct Frame {
    /// Up to the choices.
    head: Vec<u8>,
    pub(super) is_chat: bool,
    include_usage: bool,
    pub(super) created: i64,
    echo: String,
}

impl Frame {
    pub(super) fn new(shape: &Shape, offset: u32, include_usage: bool) -> Self {
        let mut start = b"data: ".to_vec();
        head(shape, true, &mut start);
        Self {
            head: start,
            is_chat: shape.kind == Kind::Chat,
            include_usage,
            created: shape.created,
            echo: match shape.kind {
                Kind::Chat => String::new(),
                Kind::Completion { echo } => {
                    let own = usize::try_from(offset).ok().and_then(|place| echo.get(place));
                    own.map(|echo| echo.clone().into_owned()).unwrap_or_default()
                }
            },
        }
    }

    /// Writes the first delta of a choice.
    pub(super) fn begin(&self, number: u32, out: &mut Vec<u8>) {
        if self.is_chat {
            self.open(number, out);
            raw("\"role\":\"assistant\",\"content\":\"\"", out);
            self.close(out);
        } else if !self.echo.is_empty() {
            self.open_text(number, out);
            string(&self.echo, out);
            self.close(out);
        }
    }

    pub(super) fn refusal(&self, number: u32, refusal: &str, out: &mut Vec<u8>) {
        if self.is_chat {
            self.open(number, out);
            raw("\"refusal\":", out);
            string(refusal, out);
            self.close(out);
        }
    }

    /// Writes text in escaped form.
    pub(super) fn text(&self, number: u32, text: &str, out: &mut Vec<u8>) {
        self.open_text(number, out);
        escaped(text, out);
        self.close(out);
    }

    /// Writes the last chunk of a choice.
    pub(super) fn end(&self, number: u32, finish: &str, native: &str, out: &mut Vec<u8>) {
        if self.is_chat {
            self.open(number, out);
            raw("},\"logprobs\":null,", out);
        } else {
            self.open_text(number, out);
            raw("\"\",\"logprobs\":null,", out);
        }
        finish_fields(finish, native, out);
        self.close_choice(out);
    }

    /// Writes the chunk without choices that tells the tokens.
    pub(super) fn usage(&self, usage: Usage, out: &mut Vec<u8>) {
        if self.include_usage {
            out.extend_from_slice(&self.head);
            raw("],\"usage\":", out);
            usage.write(out);
            raw("}\n\n", out);
        }
    }

    /// Writes a chunk up to its delta.
    pub(super) fn open(&self, number: u32, out: &mut Vec<u8>) {
        self.open_choice(number, out);
        raw("\"delta\":{", out);
    }

    /// Writes a chunk up to its text.
    pub(super) fn open_text(&self, number: u32, out: &mut Vec<u8>) {
        self.open_choice(number, out);
        raw(
            if self.is_chat {
                "\"delta\":{\"content\":"
            } else {
                "\"text\":"
            },
            out,
        );
    }

    fn open_choice(&self, place: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        raw("{\"index\":", out);
        number(place.into(), out);
        raw(",", out);
    }

    pub(super) fn close(&self, out: &mut Vec<u8>) {
        self.close_with(|out| raw("null", out), out);
    }

    pub(super) fn close_with(&self, logprobs: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
        raw(
            if self.is_chat {
                "},\"logprobs\":"
            } else {
                ",\"logprobs\":"
            },
            out,
        );
        logprobs(out);
        raw(",\"finish_reason\":null", out);
        self.close_choice(out);
    }

    fn close_choice(&self, out: &mut Vec<u8>) {
        // Every chunk has the field when tokens were asked for.
        raw(
            if self.include_usage {
                "}],\"usage\":null}\n\n"
            } else {
                "}]}\n\n"
            },
            out,
        );
    }
}
