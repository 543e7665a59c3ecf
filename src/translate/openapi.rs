//! JSON Schema in the words of OpenAPI that Gemini has known from the beginning. Any other word, anywhere, fails the whole
//! request: this form is for models that refuse JSON Schema itself.

use serde_json::{Map, Value, json};

use super::schema::{DEEPEST, Refs};

/// Rewrites a schema. `numeric_enums`: the model takes enums of numbers, written as strings. `ordered`: the order of
/// properties is written out, as older models sort them by name.
pub(super) fn sanitize(root: &Value, numeric_enums: bool, ordered: bool) -> Value {
    let mut sanitizer = Sanitizer {
        refs: Refs::new(root),
        depth: 0,
        numeric_enums,
        ordered,
    };
    sanitizer.schema(root)
}

struct Sanitizer<'s> {
    refs: Refs<'s>,
    depth: usize,
    numeric_enums: bool,
    ordered: bool,
}

type Fields = Map<String, Value>;

impl Sanitizer<'_> {
    fn schema(&mut self, schema: &Value) -> Value {
        let Value::Object(fields) = schema else {
            return json!({});
        };
        if self.depth >= DEEPEST {
            return json!({"type": "object"});
        }
        self.depth += 1;
        let sanitized = self.resolved(fields);
        self.depth -= 1;
        Value::Object(sanitized)
    }

    /// Puts what a reference stands for in its place.
    fn resolved(&mut self, fields: &Fields) -> Fields {
        let Some(Value::String(reference)) = fields.get("$ref") else {
            return self.fields(fields.clone());
        };
        let Some(target) = self.refs.enter(reference) else {
            return Map::from_iter([("type".to_owned(), json!("object"))]);
        };
        let mut merged = target.as_object().cloned().unwrap_or_default();
        for (key, value) in fields {
            if key != "$ref" {
                merged.insert(key.clone(), value.clone());
            }
        }
        // The reference may stand for another one.
        self.depth += 1;
        let sanitized = if self.depth < DEEPEST {
            self.resolved(&merged)
        } else {
            Map::new()
        };
        self.depth -= 1;
        self.refs.leave();
        sanitized
    }

    fn fields(&mut self, mut fields: Fields) -> Fields {
        if let Some(value) = fields.shift_remove("const") {
            fields.entry("enum").or_insert_with(|| json!([value]));
        }
        if let Some(Value::Array(all)) = fields.shift_remove("allOf") {
            self.merge_all(&mut fields, &all);
        }
        if let Some(one) = fields.shift_remove("oneOf") {
            fields.entry("anyOf").or_insert(one);
        }
        let mut is_nullable = fields.get("nullable") == Some(&json!(true));
        let mut sanitized = Map::new();
        for key in ["title", "description"] {
            if let Some(text @ Value::String(_)) = fields.get(key) {
                sanitized.insert(key.to_owned(), text.clone());
            }
        }
        let types = types(&fields, &mut is_nullable);
        let mut branches = match fields.shift_remove("anyOf") {
            Some(Value::Array(branches)) => branches,
            _ => Vec::new(),
        };
        if branches.is_empty() && types.len() > 1 {
            branches = types.iter().map(|kind| branch(&fields, kind)).collect();
        }
        let before = branches.len();
        branches.retain(|branch| branch.get("type") != Some(&json!("null")));
        is_nullable |= branches.len() < before;
        let branches: Vec<Fields> = branches
            .iter()
            .filter_map(|branch| self.schema(branch).as_object().cloned())
            .collect();
        // Branches that only say which fields are required say nothing without the fields.
        let says_something = branches
            .iter()
            .any(|branch| branch.contains_key("type") || branch.contains_key("anyOf"));
        if says_something && branches.len() > 1 {
            sanitized.insert("anyOf".to_owned(), branches.into_iter().map(Value::Object).collect());
        } else {
            if let [kind] = types.as_slice() {
                sanitized.insert("type".to_owned(), json!(kind));
            }
            self.constraints(&mut fields, &mut sanitized);
            if says_something {
                for (key, value) in branches.into_iter().flatten() {
                    is_nullable |= key == "nullable";
                    sanitized.entry(key).or_insert(value);
                }
            }
        }
        if is_nullable {
            sanitized.insert("nullable".to_owned(), json!(true));
        }
        sanitized
    }

    /// `allOf`, merged one level deep.
    fn merge_all(&mut self, fields: &mut Fields, all: &[Value]) {
        for part in all {
            let reference = part.get("$ref").and_then(Value::as_str);
            let target = reference.and_then(|reference| self.refs.enter(reference));
            let Some(part) = target.unwrap_or(part).as_object() else {
                continue;
            };
            for (key, value) in part {
                match (fields.get_mut(key), value) {
                    (Some(Value::Object(known)), Value::Object(more)) if key == "properties" => {
                        known.extend(more.iter().map(|(name, schema)| (name.clone(), schema.clone())));
                    }
                    (Some(Value::Array(known)), Value::Array(more)) if key == "required" => {
                        known.extend(more.iter().cloned());
                    }
                    (Some(_), _) => {}
                    (None, value) if key != "$ref" => {
                        fields.insert(key.clone(), value.clone());
                    }
                    (None, _) => {}
                }
            }
            if target.is_some() {
                self.refs.leave();
            }
        }
    }

    /// All that stands beside the type.
    fn constraints(&mut self, fields: &mut Fields, sanitized: &mut Fields) {
        self.enumeration(fields, sanitized);
        let kind = sanitized
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let is_integer = kind == "integer";
        let integer = |value: Option<&Value>| value.and_then(Value::as_i64).filter(|_| is_integer);
        if let Some(bound) = integer(fields.get("exclusiveMinimum")) {
            fields
                .entry("minimum")
                .or_insert_with(|| json!(bound.saturating_add(1)));
        }
        if let Some(bound) = integer(fields.get("exclusiveMaximum")) {
            fields
                .entry("maximum")
                .or_insert_with(|| json!(bound.saturating_sub(1)));
        }
        for key in NUMBERS {
            if let Some(number @ Value::Number(_)) = fields.get(key) {
                sanitized.insert(key.to_owned(), number.clone());
            }
        }
        for key in ["pattern", "example", "default"] {
            if let Some(value) = fields.get(key).filter(|value| key != "pattern" || value.is_string()) {
                sanitized.insert(key.to_owned(), value.clone());
            }
        }
        let known: &[&str] = match kind.as_str() {
            "string" => &["date-time", "enum"],
            "integer" => &["int32", "int64"],
            "number" => &["float", "double"],
            _ => &[],
        };
        if let Some(format) = fields
            .get("format")
            .and_then(Value::as_str)
            .filter(|format| known.contains(format))
        {
            sanitized.entry("format").or_insert_with(|| json!(format));
        }
        if kind == "array" {
            let items = match (fields.get("items"), fields.get("prefixItems")) {
                (Some(items @ Value::Object(_)), _) => self.schema(items),
                (Some(Value::Array(items)), _) | (_, Some(Value::Array(items))) if !items.is_empty() => {
                    self.schema(&json!({ "anyOf": items }))
                }
                _ => json!({"type": "string"}),
            };
            sanitized.insert("items".to_owned(), items);
        }
        self.properties(fields, sanitized);
    }

    fn properties(&mut self, fields: &Fields, sanitized: &mut Fields) {
        let Some(properties) = fields
            .get("properties")
            .and_then(Value::as_object)
            .filter(|all| !all.is_empty())
        else {
            return;
        };
        let named: Fields = properties
            .iter()
            .map(|(name, schema)| (name.clone(), self.schema(schema)))
            .collect();
        let is_known = |name: &&Value| name.as_str().is_some_and(|name| properties.contains_key(name));
        let required: Vec<Value> = fields
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter(is_known)
            .cloned()
            .collect();
        if self.ordered {
            let given = fields.get("propertyOrdering").filter(|order| order.is_array()).cloned();
            let order = given.unwrap_or_else(|| properties.keys().map(|name| json!(name)).collect());
            sanitized.insert("propertyOrdering".to_owned(), order);
        }
        sanitized.insert("properties".to_owned(), Value::Object(named));
        if !required.is_empty() {
            sanitized.insert("required".to_owned(), Value::Array(required));
        }
    }

    /// Enums are of strings. Those of numbers are strings of a numeric type where the model knows that, else words.
    fn enumeration(&self, fields: &Fields, sanitized: &mut Fields) {
        let Some(values) = fields.get("enum").and_then(Value::as_array) else {
            return;
        };
        let values: Vec<&Value> = values
            .iter()
            .filter(|value| !value.is_null() && **value != json!(""))
            .collect();
        if values.is_empty() {
            return;
        }
        let is_numeric = values.iter().all(|value| value.is_number());
        if values.iter().all(|value| value.is_string()) {
            sanitized.insert("type".to_owned(), json!("string"));
            sanitized.insert("enum".to_owned(), json!(values));
        } else if is_numeric && self.numeric_enums {
            let is_whole = values.iter().all(|value| value.is_i64() || value.is_u64());
            sanitized
                .entry("type")
                .or_insert_with(|| json!(if is_whole { "integer" } else { "number" }));
            sanitized.insert("format".to_owned(), json!("enum"));
            sanitized.insert(
                "enum".to_owned(),
                values.iter().map(|value| json!(value.to_string())).collect(),
            );
        } else {
            let listed: Vec<String> = values.iter().map(|value| value.to_string()).collect();
            let listed = format!("One of: {}.", listed.join(", "));
            let text = match sanitized.get("description").and_then(Value::as_str) {
                Some(text) if !text.is_empty() => format!("{text} {listed}"),
                _ => listed,
            };
            sanitized.insert("description".to_owned(), json!(text));
        }
    }
}

/// The types that a schema allows beside null, or the one that its other words imply.
fn types(fields: &Fields, is_nullable: &mut bool) -> Vec<String> {
    let named: Vec<&str> = match fields.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let mut types: Vec<String> = named.iter().map(|kind| kind.to_ascii_lowercase()).collect();
    let before = types.len();
    types.retain(|kind| kind != "null");
    *is_nullable |= types.len() < before;
    let holds = |value: &Value| {
        fields
            .get("enum")
            .and_then(Value::as_array)
            .is_some_and(|values| values.contains(value))
    };
    *is_nullable |= holds(&Value::Null);
    if types.is_empty() && !fields.contains_key("anyOf") {
        let implied = match fields {
            fields if fields.contains_key("properties") => Some("object"),
            fields if fields.contains_key("items") || fields.contains_key("prefixItems") => Some("array"),
            _ => None,
        };
        types.extend(implied.map(str::to_owned));
    }
    types
}

/// One type's branch of a schema that allows several, with the words that belong to it.
fn branch(fields: &Fields, kind: &str) -> Value {
    let fits = |key: &str| match key {
        "properties" | "required" | "minProperties" | "maxProperties" | "propertyOrdering" => kind == "object",
        "items" | "prefixItems" | "minItems" | "maxItems" => kind == "array",
        "minLength" | "maxLength" | "pattern" | "format" => kind == "string",
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => kind == "integer" || kind == "number",
        "enum" => false,
        _ => false,
    };
    let mut branch: Fields = fields
        .iter()
        .filter(|(key, _)| fits(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    branch.insert("type".to_owned(), json!(kind));
    Value::Object(branch)
}

const NUMBERS: [&str; 8] = [
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn becomes(given: Value, expected: Value) {
        assert_eq!(sanitize(&given, true, false), expected, "{given}");
    }

    #[test]
    fn each_step() {
        let object = |inner: Value| json!({"type": "object", "properties": {"p": inner}});
        for (given, expected) in [
            // Words that are not known.
            (
                json!({"type": "string", "$schema": "x", "$id": "y", "not": {}, "examples": [1], "deprecated": true, "readOnly": true, "x-mine": 1}),
                json!({"type": "string"}),
            ),
            // const, oneOf, allOf.
            (json!({"const": "v"}), json!({"type": "string", "enum": ["v"]})),
            (
                json!({"oneOf": [{"type": "string"}, {"type": "integer"}], "description": "d", "default": 1}),
                json!({"description": "d", "anyOf": [{"type": "string"}, {"type": "integer"}]}),
            ),
            (
                json!({"allOf": [{"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}, {"properties": {"b": {"type": "integer"}}, "required": ["b"]}]}),
                json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["a", "b"]}),
            ),
            // Lists of types.
            (
                json!({"type": ["string", "null"]}),
                json!({"type": "string", "nullable": true}),
            ),
            (
                json!({"type": ["string", "array", "null"], "items": {"type": "number"}, "minLength": 1}),
                json!({"anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "items": {"type": "number"}}], "nullable": true}),
            ),
            // anyOf with null.
            (
                json!({"anyOf": [{"type": "string", "maxLength": 5}, {"type": "null"}], "title": "t"}),
                json!({"title": "t", "type": "string", "maxLength": 5, "nullable": true}),
            ),
            // Branches that only require.
            (
                json!({"type": "object", "properties": {"a": {"type": "string"}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}),
                json!({"type": "object", "properties": {"a": {"type": "string"}}}),
            ),
            // Enums.
            (
                json!({"type": "string", "enum": ["a", "", null]}),
                json!({"type": "string", "enum": ["a"], "nullable": true}),
            ),
            (
                json!({"type": "integer", "enum": [1, 2]}),
                json!({"type": "integer", "format": "enum", "enum": ["1", "2"]}),
            ),
            (
                json!({"type": "boolean", "enum": [true], "description": "d"}),
                json!({"description": "d One of: true.", "type": "boolean"}),
            ),
            // Formats.
            (json!({"type": "string", "format": "uri"}), json!({"type": "string"})),
            (
                json!({"type": "string", "format": "date-time"}),
                json!({"type": "string", "format": "date-time"}),
            ),
            (
                json!({"type": "integer", "format": "uint32"}),
                json!({"type": "integer"}),
            ),
            (
                json!({"type": "integer", "format": "int64"}),
                json!({"type": "integer", "format": "int64"}),
            ),
            // Arrays and objects.
            (
                json!({"type": "array"}),
                json!({"type": "array", "items": {"type": "string"}}),
            ),
            (
                json!({"type": "array", "prefixItems": [{"type": "string"}, {"type": "number"}]}),
                json!({"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "number"}]}}),
            ),
            (json!({"type": "object", "properties": {}}), json!({"type": "object"})),
            (
                json!({"properties": {"a": true}, "required": ["a", "b"]}),
                json!({"type": "object", "properties": {"a": {}}, "required": ["a"]}),
            ),
            // Bounds.
            (
                json!({"type": "integer", "exclusiveMinimum": 0}),
                json!({"type": "integer", "minimum": 1}),
            ),
            (
                json!({"type": "integer", "exclusiveMaximum": 10}),
                json!({"type": "integer", "maximum": 9}),
            ),
            (
                json!({"type": "number", "exclusiveMinimum": 0, "multipleOf": 2}),
                json!({"type": "number"}),
            ),
            (
                json!({"type": "string", "default": "x"}),
                json!({"type": "string", "default": "x"}),
            ),
        ] {
            becomes(object(given), object(expected));
        }
    }

    #[test]
    fn references_are_unfolded_and_a_circle_ends_in_an_object() {
        becomes(
            json!({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "v": {"$ref": "#/$defs/a~1b"}}}, "a/b": {"type": "string"}}}),
            json!({"type": "object", "properties": {"next": {"type": "object"}, "v": {"type": "string"}}}),
        );
        becomes(
            json!({"type": "object", "properties": {"a": {"$ref": "#/definitions/x", "description": "mine"}}, "definitions": {"x": {"type": "integer"}}}),
            json!({"type": "object", "properties": {"a": {"description": "mine", "type": "integer"}}}),
        );
        becomes(
            json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}),
            json!({"type": "object"}),
        );
    }

    #[test]
    fn old_models_are_told_the_order_and_get_no_enums_of_numbers() {
        let given = json!({"type": "object", "properties": {"z": {"enum": [1, 2]}, "a": {"type": "string"}}});
        let expected = json!({
            "type": "object", "propertyOrdering": ["z", "a"],
            "properties": {"z": {"description": "One of: 1, 2."}, "a": {"type": "string"}}
        });
        assert_eq!(sanitize(&given, false, true), expected);
    }
}
