//! What the administrator's routes read in the same way: bodies, queries, and which keys are meant.

use std::{fmt, marker::PhantomData};

use percent_encoding::percent_decode_str;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, SeqAccess, Visitor},
};

use crate::{
    checks::Verdict, error::ApiError, handlers::Context, pool::key::ApiType, ports::Ports, redact::json_fault,
    store::filter::Filter,
};

/// Which keys a change is for: exactly one of the three. A null is a mistake, not all keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Selection {
    #[serde(default, deserialize_with = "present")]
    pub(super) keys: Option<Many<String>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) ids: Option<Many<Whole>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) filter: Option<Wanted>,
}

/// A list's filters, as a body has them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Wanted {
    status: Option<String>,
    api_type: Option<String>,
    group: Option<String>,
    endpoint: Option<String>,
    search: Option<String>,
    result: Option<String>,
    checked_since: Option<Whole>,
}

impl Selection {
    pub(super) fn filter<P: Ports>(self, context: &Context<P>) -> Result<Filter, ApiError> {
        match self {
            Self {
                keys: Some(keys),
                ids: None,
                filter: None,
            } => {
                let hashes = keys.0.iter().map(|key| context.vault.digest(key.trim())).collect();
                Ok(Filter {
                    hashes: Some(hashes),
                    ..Filter::default()
                })
            }
            Self {
                keys: None,
                ids: Some(ids),
                filter: None,
            } => Ok(Filter {
                ids: Some(ids.0.into_iter().map(|id| id.0).collect()),
                ..Filter::default()
            }),
            Self {
                keys: None,
                ids: None,
                filter: Some(wanted),
            } => {
                wanted.status.as_deref().map(known_status).transpose()?;
                wanted.result.as_deref().map(known_result).transpose()?;
                Ok(Filter {
                    status: wanted.status,
                    api_type: wanted.api_type.as_deref().map(api_type).transpose()?,
                    group: wanted.group,
                    endpoint: wanted.endpoint,
                    search: wanted.search,
                    result: wanted.result,
                    checked_since: wanted.checked_since.map(|moment| moment.0),
                    ..Filter::default()
                })
            }
            _ => Err(ApiError::invalid(
                "keys",
                "Say which keys: exactly one of 'keys', 'ids' and 'filter'.",
            )),
        }
    }
}

/// A list with an end: what goes beyond it is refused while it is read, since a body of many small values takes many times
/// its length in memory.
#[derive(Debug, Default)]
pub(super) struct Many<T>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
            type Value = Many<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Many<T>, A::Error> {
                let mut many = Vec::new();
                while let Some(one) = list.next_element()? {
                    if many.len() >= MOST_AT_ONCE {
                        return Err(A::Error::custom(format!(
                            "at most {MOST_AT_ONCE} can be named in one call"
                        )));
                    }
                    many.push(one);
                }
                Ok(Many(many))
            }
        }
        deserializer.deserialize_seq(Reader(PhantomData))
    }
}

/// How many keys one call may name.
pub(super) const MOST_AT_ONCE: usize = 100_000;

/// A whole number, however it is written: JSON knows one kind of number, and some languages write 1 as 1.0.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(try_from = "serde_json::Number")]
pub(super) struct Whole(pub(super) i64);

impl TryFrom<serde_json::Number> for Whole {
    type Error = String;

    fn try_from(number: serde_json::Number) -> Result<Self, String> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        let whole = |float: &f64| float.fract() == 0.0 && float.abs() <= EXACT;
        let number = number
            .as_i64()
            .or_else(|| number.as_f64().filter(whole).map(|float| float as i64));
        number
            .map(Self)
            .ok_or_else(|| "expected a whole number of 64 bits".to_owned())
    }
}

/// Reads what is there, which must not be null.
pub(super) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// The parameters of a query.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// The filters of a list.
    pub(super) fn filter(&self) -> Result<Filter, ApiError> {
        Ok(Filter {
            status: self
                .text("status")
                .map(|status| known_status(&status).map(|()| status))
                .transpose()?,
            api_type: self.text("apiType").map(|name| api_type(&name)).transpose()?,
            group: self.get("group"),
            endpoint: self.text("endpoint"),
            search: self.text("search"),
            result: self
                .text("result")
                .map(|result| known_result(&result).map(|()| result))
                .transpose()?,
            checked_since: self.number("checkedSince", 0, i64::MAX)?,
            ..Filter::default()
        })
    }

    pub(super) fn read(query: &str) -> Self {
        let decode = |text: &str| {
            percent_decode_str(&text.replace('+', " "))
                .decode_utf8_lossy()
                .into_owned()
        };
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        Self(pairs.map(|(name, value)| (decode(name), decode(value))).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone())
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Whether a switch is on; off when it is not there.
    pub(super) fn switch(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(ApiError::invalid(name, format!("'{name}' must be true or false."))),
        }
    }

    pub(super) fn number(&self, name: &str, least: i64, most: i64) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.parse() {
            Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
            _ => Err(ApiError::invalid(
                name,
                format!("'{name}' must be a whole number from {least} to {most}."),
            )),
        }
    }
}

pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        let (param, told) = json_fault(&error);
        ApiError {
            param,
            ..ApiError::bad_request(format!("The body is not what this route takes: {told}."))
        }
    })
}

pub(super) fn api_type(name: &str) -> Result<ApiType, ApiError> {
    ApiType::parse(name).ok_or_else(|| ApiError::invalid("apiType", "'apiType' must be \"gemini\" or \"openai\"."))
}

pub(super) fn known_status(status: &str) -> Result<(), ApiError> {
    if matches!(status, "active" | "cooling_down" | "dead" | "disabled") {
        return Ok(());
    }
    Err(ApiError::invalid(
        "status",
        "'status' must be active, cooling_down, dead or disabled.",
    ))
}

fn known_result(result: &str) -> Result<(), ApiError> {
    if Verdict::parse(result).is_some() {
        return Ok(());
    }
    Err(ApiError::invalid(
        "result",
        "'result' must be valid, invalid, limited or unknown.",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_may_be_written_with_a_point() {
        let cases = [
            ("7", Some(7)),
            ("-7.0", Some(-7)),
            ("1e3", Some(1000)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("1e300", None),
            ("0.5", None),
            ("\"7\"", None),
            ("null", None),
        ];
        for (text, expected) in cases {
            assert_eq!(
                parse::<Whole>(text.as_bytes()).ok().map(|whole| whole.0),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn an_error_names_the_field_that_it_is_about_and_no_value() {
        let param = |body: &str| parse::<Selection>(body.as_bytes()).err().and_then(|error| error.param);
        assert_eq!(param("{\"other\": 1}").as_deref(), Some("other"));
        assert_eq!(param("{\"ids\": [\"sk-secret\"]}"), None);
        assert_eq!(param("{\"keys\": null}"), None);
        assert!(parse::<Selection>(b"{\"keys\": null, \"ids\": [1]}").is_err());
    }
}
