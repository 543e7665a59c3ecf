//! What a part of Gemini's answer is to OpenAI's clients.

use crate::{
    gemini::response::{FunctionCall, Part, Text},
    openai::answer::raw,
};

/// A part. Texts are in escaped form.
#[derive(Clone, Copy, Debug)]
pub(super) enum Piece<'a> {
    Text(&'a str),
    Thought(&'a str),
    Code { language: &'a str, code: &'a str },
    Output(&'a str),
    Call(&'a FunctionCall<'a>),
    Image { mime: &'a str, base64: &'a str },
    Audio { mime: &'a str, base64: &'a str },
}

impl<'a> Piece<'a> {
    /// What server-side tools say to the model, and the pictures it draws while it thinks, are not of the answer.
    pub(super) fn of(part: &'a Part<'a>) -> Option<Self> {
        let escaped = |text: Option<Text<'a>>| text.map(Text::escaped).unwrap_or_default();
        let is_thought = part.thought == Some(true);
        if let Some(call) = &part.function_call {
            return Some(Self::Call(call));
        }
        if let Some(text) = part.text.filter(|text| !text.is_empty()) {
            let text = text.escaped();
            return Some(if is_thought {
                Self::Thought(text)
            } else {
                Self::Text(text)
            });
        }
        if is_thought {
            return None;
        }
        if let Some(data) = &part.inline_data {
            let (mime, base64) = (escaped(data.mime_type), escaped(data.data));
            let is_audio = mime.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("audio"));
            return Some(if is_audio {
                Self::Audio { mime, base64 }
            } else {
                Self::Image { mime, base64 }
            });
        }
        if let Some(code) = &part.executable_code {
            return Some(Self::Code {
                language: escaped(code.language),
                code: escaped(code.code),
            });
        }
        let result = part.code_execution_result.as_ref()?;
        Some(Self::Output(escaped(result.output))).filter(|_| result.output.is_some_and(|output| !output.is_empty()))
    }

    /// Whether it is text of the answer.
    pub(super) const fn is_content(self) -> bool {
        matches!(self, Self::Text(_) | Self::Code { .. } | Self::Output(_))
    }

    /// Writes the text of the answer that it is, in escaped form: code stands between fences.
    pub(super) fn write_content(self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => raw(text, out),
            Self::Code { language, code } => {
                let language = if language.eq_ignore_ascii_case("python") {
                    "python"
                } else {
                    ""
                };
                fenced(language, code, out);
            }
            Self::Output(output) => fenced("", output, out),
            Self::Thought(_) | Self::Call(_) | Self::Image { .. } | Self::Audio { .. } => {}
        }
    }
}

/// A block that ends where it says: its fence is longer than any in the text.
fn fenced(language: &str, text: &str, out: &mut Vec<u8>) {
    let (mut longest, mut run) = (0, 0);
    for byte in text.bytes() {
        run = if byte == b'`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    let fence = "`".repeat(longest.max(2) + 1);
    for piece in ["\\n", &fence, language, "\\n", text, "\\n", &fence, "\\n"] {
        raw(piece, out);
    }
}
