//! What OpenAI's clients read, written piece by piece into the answer's bytes.

use serde::Deserialize;
use serde_json::value::RawValue;

/// Tokens as clients are told of them. `prompt` and `completion` add up to `total`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// In the prompt.
    pub prompt: u64,
    /// In the answer, thinking included.
    pub completion: u64,
    /// Together.
    pub total: u64,
    /// Of the answer's, in the thinking.
    pub reasoning: u64,
    /// Of the prompt's, from a cache.
    pub cached: u64,
    /// Of the prompt's, of sound.
    pub audio_in: u64,
    /// Of the answer's, of sound.
    pub audio_out: u64,
}

impl Usage {
    /// Writes the object.
    pub fn write(&self, out: &mut Vec<u8>) {
        let fields = [
            ("{\"prompt_tokens\":", self.prompt),
            (",\"completion_tokens\":", self.completion),
            (",\"total_tokens\":", self.total),
            (",\"prompt_tokens_details\":{\"cached_tokens\":", self.cached),
            (",\"audio_tokens\":", self.audio_in),
            ("},\"completion_tokens_details\":{\"reasoning_tokens\":", self.reasoning),
            (",\"audio_tokens\":", self.audio_out),
        ];
        for (name, count) in fields {
            raw(name, out);
            number(count, out);
        }
        raw("}}", out);
    }
}

impl std::ops::Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            prompt: self.prompt.saturating_add(other.prompt),
            completion: self.completion.saturating_add(other.completion),
            total: self.total.saturating_add(other.total),
            reasoning: self.reasoning.saturating_add(other.reasoning),
            cached: self.cached.saturating_add(other.cached),
            audio_in: self.audio_in.saturating_add(other.audio_in),
            audio_out: self.audio_out.saturating_add(other.audio_out),
        }
    }
}

/// A call of a function.
#[derive(Clone, Copy, Debug)]
pub struct ToolCall<'a> {
    /// Its place among the answer's calls; only in streams.
    pub index: Option<usize>,
    /// Its id.
    pub id: &'a str,
    /// The function.
    pub name: &'a str,
    /// The arguments; none at all are an empty object.
    pub arguments: Option<&'a RawValue>,
    /// Has to come back with the call. In escaped form.
    pub signature: Option<&'a str>,
    /// Whether the tool takes free text, which its arguments hold as `input`.
    pub is_custom: bool,
}

impl ToolCall<'_> {
    /// Writes the object.
    pub fn write(&self, out: &mut Vec<u8>) {
        raw("{", out);
        if let Some(index) = self.index {
            raw("\"index\":", out);
            number(index as u64, out);
            raw(",", out);
        }
        raw("\"id\":", out);
        string(self.id, out);
        if self.is_custom {
            raw(",\"type\":\"custom\",\"custom\":{\"name\":", out);
            string(self.name, out);
            raw(",\"input\":", out);
            self.write_input(out);
        } else {
            raw(",\"type\":\"function\",\"function\":{\"name\":", out);
            string(self.name, out);
            raw(",\"arguments\":", out);
            self.write_arguments(out);
        }
        raw("}", out);
        if let Some(signature) = self.signature {
            raw(",", out);
            extra_content(Some(signature), None, out);
        }
        raw("}", out);
    }

    /// Writes the field `function_call`, as it was before there were tools.
    pub fn write_legacy(&self, out: &mut Vec<u8>) {
        raw("\"function_call\":{\"name\":", out);
        string(self.name, out);
        raw(",\"arguments\":", out);
        self.write_arguments(out);
        if let Some(signature) = self.signature {
            raw(",\"thought_signature\":", out);
            escaped(signature, out);
        }
        raw("}", out);
    }

    fn write_arguments(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        match self.arguments {
            Some(arguments) => compact::<true>(arguments.get(), out),
            None => raw("{}", out),
        }
        out.push(b'"');
    }

    fn write_input(&self, out: &mut Vec<u8>) {
        #[derive(Deserialize)]
        struct Input<'a> {
            #[serde(borrow)]
            input: &'a RawValue,
        }
        let input = self.arguments.map(|arguments| serde_json::from_str(arguments.get()));
        match input {
            Some(Ok(Input { input })) if input.get().starts_with('"') => raw(input.get(), out),
            // The model took no notice of the schema: all that it said is the text.
            _ => self.write_arguments(out),
        }
    }
}

/// A page that a piece of the answer comes from. Texts are in escaped form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Citation<'a> {
    /// Its address.
    pub url: &'a str,
    /// Its title.
    pub title: &'a str,
    /// The first character of the piece.
    pub start: usize,
    /// The character behind its last.
    pub end: usize,
}

/// Writes the field `annotations`.
pub fn annotations(citations: &[Citation], out: &mut Vec<u8>) {
    raw("\"annotations\":[", out);
    for (place, citation) in citations.iter().enumerate() {
        raw(if place > 0 { "," } else { "" }, out);
        raw("{\"type\":\"url_citation\",\"url_citation\":{\"url\":", out);
        escaped(citation.url, out);
        raw(",\"title\":", out);
        escaped(citation.title, out);
        raw(",\"start_index\":", out);
        number(citation.start as u64, out);
        raw(",\"end_index\":", out);
        number(citation.end as u64, out);
        raw("}}", out);
    }
    raw("]", out);
}

/// Writes an image of the field `images`. Texts are in escaped form.
pub fn image(index: usize, mime: &str, base64: &str, out: &mut Vec<u8>) {
    raw("{\"type\":\"image_url\",\"index\":", out);
    number(index as u64, out);
    raw(",\"image_url\":{\"url\":\"data:", out);
    raw(mime, out);
    raw(";base64,", out);
    raw(base64, out);
    raw("\"}}", out);
}

/// Writes the field `audio`. Nothing is kept here that could be asked for later, so that it expires at once.
pub fn audio(id: &str, base64: &str, created: i64, out: &mut Vec<u8>) {
    raw("\"audio\":{\"id\":", out);
    string(id, out);
    raw(",\"data\":", out);
    escaped(base64, out);
    raw(",\"expires_at\":", out);
    number(u64::try_from(created).unwrap_or_default(), out);
    raw(",\"transcript\":\"\"}", out);
}

/// Writes the field `audio` of a delta: its id comes once, and when it expires comes last and alone.
pub fn audio_delta(id: Option<&str>, base64: &str, out: &mut Vec<u8>) {
    raw("\"audio\":{", out);
    if let Some(id) = id {
        raw("\"id\":", out);
        string(id, out);
        raw(",", out);
    }
    raw("\"data\":", out);
    escaped(base64, out);
    raw("}", out);
}

/// Writes the field `audio` of the last delta that has one.
pub fn audio_end(created: i64, out: &mut Vec<u8>) {
    raw("\"audio\":{\"expires_at\":", out);
    number(u64::try_from(created).unwrap_or_default(), out);
    raw("}", out);
}

/// Writes the field `extra_content`, where Google's own clients look for what OpenAI's format has no place for.
pub fn extra_content(signature: Option<&str>, grounding: Option<&str>, out: &mut Vec<u8>) {
    raw("\"extra_content\":{\"google\":{", out);
    if let Some(signature) = signature {
        raw("\"thought_signature\":", out);
        escaped(signature, out);
    }
    if let Some(grounding) = grounding {
        raw(if signature.is_some() { "," } else { "" }, out);
        raw("\"grounding_metadata\":", out);
        compact::<false>(grounding, out);
    }
    raw("}}", out);
}

/// Writes text that is JSON already.
pub fn raw(json: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(json.as_bytes());
}

/// Writes a string of which the escaped form is at hand.
pub fn escaped(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    raw(text, out);
    out.push(b'"');
}

/// Writes a string.
pub fn string(text: &str, out: &mut Vec<u8>) {
    // A vector takes whatever is written to it.
    let _ = serde_json::to_writer(out, text);
}

/// Writes a count.
pub fn number(number: u64, out: &mut Vec<u8>) {
    let _ = serde_json::to_writer(out, &number);
}

/// Writes JSON without the space between its tokens; as what stands in a JSON string when `IN_STRING`.
pub fn compact<const IN_STRING: bool>(json: &str, out: &mut Vec<u8>) {
    let (mut is_text, mut is_escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' if !is_text => continue,
            b'"' if !is_escaped => is_text = !is_text,
            _ => {}
        }
        is_escaped = byte == b'\\' && !is_escaped;
        if IN_STRING && matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
}
