//! What a message holds: text, or parts of several kinds.
#![expect(missing_docs, reason = "the fields' names are the wire's own")]

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer, value::SeqAccessDeserializer},
};

use super::{Text, tools::Extra};

/// A message's content.
#[derive(Clone, Debug, PartialEq)]
pub enum Content<'a> {
    Text(Text<'a>),
    Parts(Vec<Part<'a>>),
}

/// One part. Which of the fields count is said by its type.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Part<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Option<Text<'a>>,
    #[serde(borrow)]
    pub text: Option<Text<'a>>,
    #[serde(borrow)]
    pub refusal: Option<Text<'a>>,
    #[serde(borrow)]
    pub image_url: Option<Link<'a>>,
    #[serde(borrow)]
    pub video_url: Option<Link<'a>>,
    #[serde(borrow)]
    pub input_video: Option<Link<'a>>,
    #[serde(borrow)]
    pub input_audio: Option<Audio<'a>>,
    #[serde(borrow)]
    pub file: Option<File<'a>>,
    #[serde(borrow)]
    pub extra_content: Option<Extra<'a>>,
}

/// An address, alone or in an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Link<'a> {
    pub url: Option<Text<'a>>,
    pub data: Option<Text<'a>>,
    pub format: Option<Text<'a>>,
    pub detail: Option<Text<'a>>,
    /// Written as a string instead of an object.
    pub is_bare: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Audio<'a> {
    #[serde(borrow)]
    pub data: Option<Text<'a>>,
    #[serde(borrow)]
    pub format: Option<Text<'a>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct File<'a> {
    #[serde(borrow)]
    pub file_data: Option<Text<'a>>,
    #[serde(borrow)]
    pub filename: Option<Text<'a>>,
    #[serde(borrow)]
    pub file_id: Option<Text<'a>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AContent;
        impl<'de> Visitor<'de> for AContent {
            type Value = Content<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string or an array of content parts")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Content::Text(Text(Cow::Borrowed(text))))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Content::Text(Text(Cow::Owned(text.to_owned()))))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, parts: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(parts)).map(Content::Parts)
            }
        }
        deserializer.deserialize_any(AContent)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Link<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            #[serde(borrow)]
            url: Option<Text<'a>>,
            #[serde(borrow)]
            data: Option<Text<'a>>,
            #[serde(borrow)]
            format: Option<Text<'a>>,
            #[serde(borrow)]
            detail: Option<Text<'a>>,
        }
        struct ALink;
        impl<'de> Visitor<'de> for ALink {
            type Value = Link<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object with a url")
            }

            fn visit_borrowed_str<E: Error>(self, url: &'de str) -> Result<Self::Value, E> {
                Ok(Link::bare(Cow::Borrowed(url)))
            }

            fn visit_str<E: Error>(self, url: &str) -> Result<Self::Value, E> {
                Ok(Link::bare(Cow::Owned(url.to_owned())))
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Self::Value, A::Error> {
                let Fields {
                    url,
                    data,
                    format,
                    detail,
                } = Fields::deserialize(MapAccessDeserializer::new(fields))?;
                Ok(Link {
                    url,
                    data,
                    format,
                    detail,
                    is_bare: false,
                })
            }
        }
        deserializer.deserialize_any(ALink)
    }
}

impl<'a> Link<'a> {
    fn bare(url: Cow<'a, str>) -> Self {
        Self {
            url: Some(Text(url)),
            is_bare: true,
            ..Self::default()
        }
    }
}
