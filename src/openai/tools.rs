//! Tools: as they are declared, chosen and called.
#![expect(missing_docs, reason = "the fields' names are the wire's own")]

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::Value;

use super::Text;

/// A tool that the model may use.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Tool<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Option<Text<'a>>,
    #[serde(borrow)]
    pub function: Option<Function<'a>>,
    #[serde(borrow)]
    pub custom: Option<Named<'a>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Function<'a> {
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    #[serde(borrow)]
    pub description: Option<Text<'a>>,
    pub parameters: Option<Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Named<'a> {
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    #[serde(borrow)]
    pub description: Option<Text<'a>>,
}

/// Which tools the model shall use: a word, or an object.
#[derive(Clone, Debug, PartialEq)]
pub enum ToolChoice<'a> {
    Word(Text<'a>),
    Object(Choice<'a>),
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Choice<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Option<Text<'a>>,
    /// Of the legacy `function_call`.
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    #[serde(borrow)]
    pub function: Option<Named<'a>>,
    #[serde(borrow)]
    pub custom: Option<Named<'a>>,
    #[serde(borrow)]
    pub allowed_tools: Option<AllowedTools<'a>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct AllowedTools<'a> {
    #[serde(borrow)]
    pub mode: Option<Text<'a>>,
    #[serde(borrow)]
    pub tools: Option<Vec<Tool<'a>>>,
}

/// A call that the model made.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct ToolCall<'a> {
    #[serde(borrow)]
    pub id: Option<Text<'a>>,
    #[serde(borrow, rename = "type")]
    pub kind: Option<Text<'a>>,
    #[serde(borrow)]
    pub function: Option<FunctionCall<'a>>,
    #[serde(borrow)]
    pub custom: Option<CustomCall<'a>>,
    #[serde(borrow)]
    pub extra_content: Option<Extra<'a>>,
    #[serde(borrow)]
    pub provider_specific_fields: Option<Signed<'a>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct FunctionCall<'a> {
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    #[serde(borrow)]
    pub arguments: Option<Text<'a>>,
    #[serde(borrow)]
    pub thought_signature: Option<Text<'a>>,
    #[serde(borrow)]
    pub provider_specific_fields: Option<Signed<'a>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct CustomCall<'a> {
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    #[serde(borrow)]
    pub input: Option<Text<'a>>,
}

/// What Google's own OpenAI layer puts beside a call or a text.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Extra<'a> {
    #[serde(borrow)]
    pub google: Option<Signed<'a>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Signed<'a> {
    #[serde(borrow, alias = "thoughtSignature")]
    pub thought_signature: Option<Text<'a>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for ToolChoice<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AChoice;
        impl<'de> Visitor<'de> for AChoice {
            type Value = ToolChoice<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string or an object")
            }

            fn visit_borrowed_str<E: Error>(self, word: &'de str) -> Result<Self::Value, E> {
                Ok(ToolChoice::Word(Text(Cow::Borrowed(word))))
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Self::Value, E> {
                Ok(ToolChoice::Word(Text(Cow::Owned(word.to_owned()))))
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Self::Value, A::Error> {
                Choice::deserialize(MapAccessDeserializer::new(fields)).map(ToolChoice::Object)
            }
        }
        deserializer.deserialize_any(AChoice)
    }
}
