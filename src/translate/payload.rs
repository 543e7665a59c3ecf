//! What calls and results hold: always a JSON object.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Value, value::RawValue};

use crate::{error::ApiError, openai::Text};

/// A call's arguments. Some models write JSON that is none; what they wrote is kept as text.
pub(super) fn arguments(arguments: Text<'_>) -> Result<Box<RawValue>, ApiError> {
    match arguments.trim() {
        "" | "null" => raw("{}".to_owned()),
        trimmed if trimmed.starts_with('{') => match RawValue::from_string(trimmed.to_owned()) {
            Ok(object) => Ok(object),
            Err(_) => object("input", trimmed),
        },
        _ => object("input", &*arguments),
    }
}

/// A tool's result. It has to be an object, and `output` is where Gemini looks for anything else. A `$ref` in it would be
/// taken for a pointer to another part and refused.
pub(super) fn response(output: Cow<'_, str>) -> Result<Box<RawValue>, ApiError> {
    // The name may be written with escapes.
    let is_suspect = output.contains("ref\"") || output.contains("\\u");
    if is_suspect && serde_json::from_str::<Value>(&output).is_ok_and(|value| has_reference(&value)) {
        return object("output", &*output);
    }
    match serde_json::from_str::<&RawValue>(&output) {
        Ok(json) if json.get().starts_with('{') => Ok(json.to_owned()),
        Ok(json) => object("output", json),
        Err(_) => object("output", &*output),
    }
}

fn has_reference(value: &Value) -> bool {
    match value {
        Value::Object(fields) => {
            let is_reference = fields
                .get("$ref")
                .and_then(Value::as_str)
                .is_some_and(|target| !target.is_empty());
            is_reference || fields.values().any(has_reference)
        }
        Value::Array(items) => items.iter().any(has_reference),
        _ => false,
    }
}

/// `{"key": value}`.
pub(super) fn object(key: &str, value: impl Serialize) -> Result<Box<RawValue>, ApiError> {
    let value = serde_json::to_string(&value).map_err(unwritable)?;
    raw(format!("{{\"{key}\":{value}}}"))
}

fn raw(json: String) -> Result<Box<RawValue>, ApiError> {
    RawValue::from_string(json).map_err(unwritable)
}

fn unwritable(error: serde_json::Error) -> ApiError {
    ApiError::internal(format!("A value could not be written as JSON: {error}."))
}
