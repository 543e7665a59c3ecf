//! Which pages an answer's statements come from. Gemini counts bytes of UTF-8, OpenAI characters.

use serde_json::value::RawValue;

use crate::{
    gemini::response::{Citations, Grounding, Segment, Text},
    openai::answer::Citation,
};

/// The text of an answer, as citations point into it.
pub(super) struct Said<'s> {
    text: &'s str,
    /// Where each part begins in it: its number and its first byte.
    parts: &'s [(usize, usize)],
    /// Characters before each [`STEP`]th byte.
    before: Vec<usize>,
}

impl<'s> Said<'s> {
    pub(super) fn new(text: &'s str, parts: &'s [(usize, usize)]) -> Self {
        let mut before = Vec::with_capacity(text.len() / STEP + 1);
        let mut characters = 0;
        for piece in text.as_bytes().chunks(STEP) {
            before.push(characters);
            characters += piece.iter().filter(|byte| begins_character(**byte)).count();
        }
        Self { text, parts, before }
    }

    /// The characters that a segment covers. Offsets that do not fit the text it names are looked up anew.
    fn characters(&self, segment: &Segment) -> (usize, usize) {
        let part = segment.part_index.unwrap_or_default();
        let base = self.parts.iter().find(|(number, _)| *number == part);
        let base = base.map_or(0, |(_, start)| *start);
        let start = base.saturating_add(segment.start_index.unwrap_or_default());
        let end = base.saturating_add(segment.end_index.unwrap_or_default());
        let named = segment.text.map(Text::plain).unwrap_or_default();
        let (start, end) = match self.text.get(start..end) {
            Some(found) if named.is_empty() || found == named => (start, end),
            found => match self.text.find(named.as_ref()).filter(|_| !named.is_empty()) {
                Some(start) => (start, start + named.len()),
                None if found.is_some() => (start, end),
                None => (start.min(end), end),
            },
        };
        (self.character(start), self.character(end))
    }

    /// How many characters begin before a byte.
    fn character(&self, byte: usize) -> usize {
        let byte = byte.min(self.text.len());
        let step = byte / STEP;
        let rest = self.text.as_bytes().get(step * STEP..byte).unwrap_or_default();
        let before = self
            .before
            .get(step)
            .copied()
            .unwrap_or_else(|| self.text.chars().count());
        before + rest.iter().filter(|byte| begins_character(**byte)).count()
    }
}

/// Calls `with` with the citations of an answer.
pub(super) fn citations(
    grounding: Option<&RawValue>,
    quoted: Option<&RawValue>,
    said: &Said,
    with: impl FnOnce(&[Citation]),
) {
    let grounding: Grounding = read(grounding);
    let quoted: Citations = read(quoted);
    let mut citations = Vec::new();
    let chunks = grounding.grounding_chunks.unwrap_or_default();
    for support in grounding.grounding_supports.iter().flatten().take(MOST) {
        let place = said.characters(support.segment.as_ref().unwrap_or(&Segment::default()));
        for index in support.grounding_chunk_indices.iter().flatten() {
            let web = chunks.get(*index as usize).and_then(|chunk| chunk.web.as_ref());
            if let Some(citation) = web.and_then(|web| citation(web.uri, web.title, place)) {
                citations.push(citation);
            }
        }
    }
    for source in quoted.citation_sources.iter().flatten().take(MOST) {
        let segment = Segment {
            start_index: source.start_index,
            end_index: source.end_index,
            ..Segment::default()
        };
        citations.extend(citation(source.uri, source.title, said.characters(&segment)));
    }
    citations.truncate(MOST);
    with(&citations);
}

fn citation<'a>(url: Option<Text<'a>>, title: Option<Text<'a>>, place: (usize, usize)) -> Option<Citation<'a>> {
    // A source is told again for each statement: one that is too long would be told at great length.
    let url = url
        .map(Text::escaped)
        .filter(|url| !url.is_empty() && url.len() <= MOST_URL)?;
    let title = title
        .map(Text::escaped)
        .filter(|title| !title.is_empty() && title.len() <= MOST_URL);
    Some(Citation {
        url,
        title: title.unwrap_or(url),
        start: place.0,
        end: place.1,
    })
}

fn read<'a, T: Default + serde::Deserialize<'a>>(json: Option<&'a RawValue>) -> T {
    json.and_then(|json| serde_json::from_str(json.get()).ok())
        .unwrap_or_default()
}

const fn begins_character(byte: u8) -> bool {
    byte & 0xC0 != 0x80
}

const STEP: usize = 256;

/// The longest address, and the longest title.
const MOST_URL: usize = 4096;

/// Citations of one answer that are told: more help nobody.
const MOST: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_characters() {
        let text = "aé漢😀".repeat(200);
        let said = Said::new(&text, &[]);
        for (characters, (byte, _)) in text.char_indices().enumerate() {
            assert_eq!(said.character(byte), characters, "{byte}");
        }
        assert_eq!(said.character(text.len()), 800);
        assert_eq!(said.character(usize::MAX), 800);
    }

    #[test]
    fn a_segment_is_found_though_its_offsets_are_wrong() {
        let said = Said::new("für mich. Und für dich.", &[(0, 0), (2, 10)]);
        let cases = [
            (r#"{"startIndex":5,"endIndex":9}"#, (4, 8)),
            (r#"{"endIndex":4,"text":"für"}"#, (0, 3)),
            (r#"{"partIndex":2,"endIndex":4}"#, (9, 13)),
            // Of another part, as the text says.
            (r#"{"partIndex":9,"startIndex":1,"endIndex":4,"text":"dich"}"#, (18, 22)),
            // Inside a character, behind the end, and the wrong way round.
            (r#"{"startIndex":2,"endIndex":4}"#, (2, 3)),
            (r#"{"startIndex":20,"endIndex":900}"#, (18, 23)),
            (r#"{"startIndex":9,"endIndex":5}"#, (4, 4)),
            (
                r#"{"partIndex":2,"startIndex":18446744073709551615,"endIndex":18446744073709551615}"#,
                (23, 23),
            ),
            ("{}", (0, 0)),
        ];
        for (segment, expected) in cases {
            let segment: Segment = serde_json::from_str(segment).unwrap();
            assert_eq!(said.characters(&segment), expected, "{segment:?}");
        }
    }

    #[test]
    fn citations_of_one_answer_are_bounded() {
        let indices = ["0"; 10_000].join(",");
        let long = "x".repeat(MOST_URL + 1);
        let grounding = format!(
            r#"{{"groundingChunks":[{{"web":{{"uri":"u","title":"{long}"}}}},{{"web":{{"uri":"{long}"}}}}],
                "groundingSupports":[{{"groundingChunkIndices":[1,{indices}]}}]}}"#
        );
        let grounding: &RawValue = serde_json::from_str(&grounding).unwrap();
        citations(Some(grounding), None, &Said::new("", &[]), |citations| {
            assert_eq!(citations.len(), MOST);
            let short = Citation {
                url: "u",
                title: "u",
                start: 0,
                end: 0,
            };
            assert!(citations.iter().all(|citation| *citation == short));
        });
    }
}
