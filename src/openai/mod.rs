//! OpenAI's API on the wire: shapes only. Texts are borrowed from the body they were read from where they have no escapes.

pub mod answer;
pub mod chat;
pub mod completions;
pub mod content;
pub mod embeddings;
mod path;
pub mod tools;

use std::{borrow::Cow, fmt, ops::Deref};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, IgnoredAny, SeqAccess, Visitor, value::SeqAccessDeserializer},
};

use crate::error::ApiError;

/// Reads a request's body. What does not fit is told with its path, as `messages[1].content[0].image_url.url`: finding
/// it is one more way over the text, which only a refused request pays.
pub fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(ApiError::bad_request("The body is not a JSON object."));
    }
    let error = match serde_json::from_slice(body) {
        Ok(read) => return Ok(read),
        Err(error) => error,
    };
    // A list in an object's place counts as one, and as bad syntax once it is too long for that.
    if !error.is_data() && serde_json::from_slice::<IgnoredAny>(body).is_err() {
        return Err(ApiError::bad_request(format!(
            "The body is not valid JSON: {}.",
            short(&error)
        )));
    }
    let path = path::of_fault(body, &error);
    let path: String = path.chars().take(LONGEST_PATH).collect();
    Err(ApiError::invalid(
        path.clone(),
        format!("Invalid value for '{path}': {}.", short(&error)),
    ))
}

/// A string.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Text<'a>(pub Cow<'a, str>);

impl Text<'static> {
    /// A word of our own.
    pub const fn from_static(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl Text<'_> {
    /// The string itself.
    pub fn into_owned(self) -> String {
        self.0.into_owned()
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

// A derived implementation would copy: serde borrows a Cow only where it is a field itself, not inside an Option or a Vec.
impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AText;
        impl<'de> Visitor<'de> for AText {
            type Value = Text<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text)))
            }
        }
        deserializer.deserialize_str(AText)
    }
}

/// A whole number. Some clients write 100 as 100.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole(pub i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AWhole;
        impl Visitor<'_> for AWhole {
            type Value = Whole;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an integer")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Whole, E> {
                Ok(Whole(number))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Whole, E> {
                Ok(Whole(i64::try_from(number).unwrap_or(i64::MAX)))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Whole, E> {
                #[expect(clippy::cast_possible_truncation, reason = "the number is whole and in range")]
                if number.fract() == 0.0 && number.abs() < 9e15 {
                    Ok(Whole(number as i64))
                } else {
                    Err(E::custom(format!("expected an integer, got {number}")))
                }
            }
        }
        deserializer.deserialize_i64(AWhole)
    }
}

/// One string, or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Texts<'a> {
    /// One.
    One(Text<'a>),
    /// A list of them.
    Many(Vec<Text<'a>>),
}

impl<'de: 'a, 'a> Deserialize<'de> for Texts<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SomeTexts;
        impl<'de> Visitor<'de> for SomeTexts {
            type Value = Texts<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string or an array of strings")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Texts::One(Text(Cow::Borrowed(text))))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Texts::One(Text(Cow::Owned(text.to_owned()))))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(items)).map(Texts::Many)
            }
        }
        deserializer.deserialize_any(SomeTexts)
    }
}

impl<'a> Texts<'a> {
    /// All of them.
    pub fn into_vec(self) -> Vec<Text<'a>> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// Whether a field is there, whatever it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present;

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// What serde says of a value holds the value itself, which may be megabytes long.
fn short(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let mut cut: String = text.chars().take(LONGEST_REASON).collect();
    if cut.len() < text.len() {
        cut.push_str("...");
    }
    cut
}

const LONGEST_PATH: usize = 200;
const LONGEST_REASON: usize = 200;
