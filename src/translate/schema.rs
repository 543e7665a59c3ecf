//! JSON Schema, as Gemini takes it: nearly as it is, where the model knows JSON Schema.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

/// The schema of a function's parameters; `None` where it says nothing, which Gemini wants left out.
pub(super) fn parameters(schema: Map<String, Value>) -> Option<Value> {
    let is_empty = |value: Option<&Value>| match value {
        None => true,
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(value) => *value == json!(false),
    };
    let says_more = ["$ref", "anyOf", "oneOf", "allOf", "patternProperties"]
        .iter()
        .any(|key| schema.contains_key(*key));
    if !says_more && is_empty(schema.get("properties")) && is_empty(schema.get("additionalProperties")) {
        return None;
    }
    Some(clean(&Value::Object(schema)))
}

/// Light cleaning: what Gemini's documentation does not know is written in words that it knows, and nothing else changes.
pub(super) fn clean(root: &Value) -> Value {
    let mut cleaner = Cleaner {
        refs: Refs::new(root),
        depth: 0,
    };
    let mut cleaned = match root {
        // A root says itself what it is.
        Value::Object(fields) if fields.contains_key("$ref") => cleaner.inlined_root(fields),
        root => cleaner.schema(root),
    };
    if let Some(fields) = cleaned.as_object_mut()
        && !["type", "$ref", "enum", "items", "prefixItems"]
            .iter()
            .any(|key| fields.contains_key(*key))
    {
        fields.shift_insert(0, "type".to_owned(), json!("object"));
    }
    cleaned
}

/// References into a schema, followed as far as is sane: a small schema can be made to unfold into a huge one.
#[derive(Debug)]
pub(super) struct Refs<'s> {
    root: &'s Value,
    /// The references that are being unfolded now.
    open: Vec<String>,
    /// How many bytes may still be unfolded.
    budget: usize,
}

impl<'s> Refs<'s> {
    pub(super) fn new(root: &'s Value) -> Self {
        Self {
            root,
            open: Vec::new(),
            budget: 2 * size(root) + 4096,
        }
    }

    /// What a reference stands for; `None` where it leads nowhere, into itself, or too far.
    pub(super) fn enter(&mut self, reference: &str) -> Option<&'s Value> {
        if self.budget == 0 || self.open.iter().any(|open| open == reference) {
            return None;
        }
        let pointer = percent_decode_str(reference.strip_prefix('#')?).decode_utf8().ok()?;
        let found = self.root.pointer(&pointer)?;
        // Once it is used up nothing is measured any more: measuring has its price too.
        self.budget = self.budget.saturating_sub(size(found));
        if self.budget == 0 {
            return None;
        }
        self.open.push(reference.to_owned());
        Some(found)
    }

    /// The end of what the last reference stands for.
    pub(super) fn leave(&mut self) {
        self.open.pop();
    }

    fn resolves(&self, reference: &str) -> bool {
        let pointer = reference
            .strip_prefix('#')
            .map(|pointer| percent_decode_str(pointer).decode_utf8_lossy());
        pointer.is_some_and(|pointer| self.root.pointer(&pointer).is_some())
    }
}

/// About how many bytes a value has.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 2 + items.iter().map(size).sum::<usize>(),
        Value::Object(fields) => {
            2 + fields
                .iter()
                .map(|(name, value)| name.len() + 4 + size(value))
                .sum::<usize>()
        }
    }
}

/// How deep a schema may be nested: Gemini's own reader gives up not far beyond.
pub(super) const DEEPEST: usize = 64;

struct Cleaner<'s> {
    refs: Refs<'s>,
    depth: usize,
}

impl Cleaner<'_> {
    fn schema(&mut self, schema: &Value) -> Value {
        let Value::Object(fields) = schema else {
            // `true` is a schema, and `false` one that nothing fits: neither has words in Gemini's.
            return json!({});
        };
        if self.depth >= DEEPEST {
            return json!({});
        }
        self.depth += 1;
        let cleaned = self.fields(fields);
        self.depth -= 1;
        cleaned
    }

    fn fields(&mut self, fields: &Map<String, Value>) -> Value {
        if let Some(Value::String(reference)) = fields.get("$ref") {
            return self.reference(reference, fields);
        }
        let mut cleaned = Map::new();
        for (key, value) in fields {
            self.field(key, value, &mut cleaned);
        }
        Value::Object(cleaned)
    }

    fn field(&mut self, key: &str, value: &Value, cleaned: &mut Map<String, Value>) {
        match (key, value) {
            ("$schema" | "strict" | "$ref", _) => {}
            ("definitions" | "$defs", Value::Object(definitions)) => {
                let definitions = self.named(definitions);
                match cleaned.entry("$defs").or_insert_with(|| json!({})) {
                    Value::Object(known) => known.extend(definitions),
                    other => *other = Value::Object(definitions),
                }
            }
            ("properties" | "patternProperties" | "dependentSchemas", Value::Object(properties)) => {
                let properties = self.named(properties);
                cleaned.insert(key.to_owned(), Value::Object(properties));
            }
            ("items", Value::Array(items)) => {
                let items = items.iter().map(|item| self.schema(item)).collect();
                cleaned.insert("prefixItems".to_owned(), items);
            }
            ("allOf", Value::Array(all)) if all.len() == 1 => {
                for (key, value) in all
                    .first()
                    .map(|only| self.schema(only))
                    .iter()
                    .filter_map(Value::as_object)
                    .flatten()
                {
                    cleaned.entry(key.clone()).or_insert_with(|| value.clone());
                }
            }
            ("anyOf" | "oneOf" | "allOf" | "prefixItems", Value::Array(branches)) => {
                let branches = branches.iter().map(|branch| self.schema(branch)).collect();
                cleaned.insert(key.to_owned(), branches);
            }
            ("additionalProperties" | "unevaluatedProperties", Value::Bool(_)) => {
                cleaned.insert(key.to_owned(), value.clone());
            }
            ("items" | "additionalProperties" | "not" | "if" | "then" | "else" | "contains" | "propertyNames", _) => {
                let inner = self.schema(value);
                cleaned.insert(key.to_owned(), inner);
            }
            ("const", _) => {
                cleaned.entry("enum").or_insert_with(|| json!([value]));
            }
            _ => {
                cleaned.insert(key.to_owned(), value.clone());
            }
        }
    }

    fn named(&mut self, schemas: &Map<String, Value>) -> Map<String, Value> {
        schemas
            .iter()
            .map(|(name, schema)| (name.clone(), self.schema(schema)))
            .collect()
    }

    /// A reference may have no neighbours: where it has some, what it stands for takes its place, unless that leads back
    /// to itself.
    fn reference(&mut self, reference: &str, fields: &Map<String, Value>) -> Value {
        let stays = reference.starts_with("#/$defs/") || reference.starts_with("#/definitions/") || reference == "#";
        let has_neighbours = fields
            .keys()
            .any(|key| !key.starts_with('$') && key != "definitions" && key != "strict");
        if stays && !has_neighbours && self.refs.resolves(reference) {
            return json!({ "$ref": renamed(reference) });
        }
        let Some(target) = self.refs.enter(reference) else {
            return if stays && self.refs.resolves(reference) {
                json!({ "$ref": renamed(reference) })
            } else {
                json!({})
            };
        };
        let mut merged = match self.schema(target) {
            Value::Object(merged) => merged,
            _ => Map::new(),
        };
        self.refs.leave();
        // What it stands for is a reference again and could not be unfolded: then that has no neighbours either.
        if !merged.contains_key("$ref") {
            for (key, value) in fields {
                if !key.starts_with('$') && key != "definitions" {
                    self.field(key, value, &mut merged);
                }
            }
        }
        Value::Object(merged)
    }

    fn inlined_root(&mut self, fields: &Map<String, Value>) -> Value {
        let mut with_neighbour = fields.clone();
        // Any neighbour makes the reference unfold.
        with_neighbour.entry("type").or_insert_with(|| json!("object"));
        self.depth += 1;
        let mut cleaned = self.fields(&with_neighbour);
        for key in ["$defs", "definitions"] {
            if let (Some(definitions), Some(cleaned)) = (fields.get(key), cleaned.as_object_mut()) {
                self.field(key, definitions, cleaned);
            }
        }
        self.depth -= 1;
        cleaned
    }
}

fn renamed(reference: &str) -> Cow<'_, str> {
    match reference.strip_prefix("#/definitions/") {
        Some(rest) => Cow::Owned(format!("#/$defs/{rest}")),
        None => Cow::Borrowed(reference),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn becomes(given: Value, expected: Value) {
        assert_eq!(clean(&given), expected, "{given}");
    }

    #[test]
    fn what_gemini_knows_stays_as_it_is() {
        let schema = json!({
            "type": "object", "title": "T", "description": "d",
            "properties": {
                "a": {"type": ["string", "null"], "format": "date-time"},
                "b": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 9}, "minItems": 1, "maxItems": 3},
                "c": {"anyOf": [{"type": "string", "enum": ["x"]}, {"type": "number"}]},
                "d": {"$ref": "#/$defs/d"},
                "$schema": {"type": "string"}, "const": {"type": "string"}, "strict": {"type": "boolean"}
            },
            "required": ["a"], "additionalProperties": false, "propertyOrdering": ["b", "a"],
            "$defs": {"d": {"type": "object", "properties": {"again": {"$ref": "#/$defs/d"}}}}
        });
        becomes(schema.clone(), schema);
    }

    #[test]
    fn marks_of_the_dialect_are_dropped() {
        becomes(
            json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "strict": true, "properties": {"a": {"type": "string", "strict": true}}}),
            json!({"type": "object", "properties": {"a": {"type": "string"}}}),
        );
    }

    #[test]
    fn definitions_move_to_defs() {
        becomes(
            json!({"type": "object", "properties": {"a": {"$ref": "#/definitions/x"}}, "definitions": {"x": {"type": "string"}}}),
            json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"type": "string"}}}),
        );
    }

    #[test]
    fn a_reference_with_neighbours_is_unfolded() {
        becomes(
            json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/x", "description": "mine"}}, "$defs": {"x": {"type": "string", "description": "its"}}}),
            json!({"type": "object", "properties": {"a": {"type": "string", "description": "mine"}}, "$defs": {"x": {"type": "string", "description": "its"}}}),
        );
        // Once in itself, the neighbours go.
        becomes(
            json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/x", "description": "mine"}},
                "$defs": {"x": {"type": "object", "properties": {"again": {"$ref": "#/$defs/x", "description": "inner"}}}}}),
            json!({"type": "object",
                "properties": {"a": {"type": "object", "properties": {"again": {"$ref": "#/$defs/x"}}, "description": "mine"}},
                "$defs": {"x": {"type": "object", "properties": {"again": {"type": "object", "properties": {"again": {"$ref": "#/$defs/x"}}, "description": "inner"}}}}}),
        );
    }

    #[test]
    fn a_reference_elsewhere_is_unfolded_and_one_to_nowhere_fits_anything() {
        becomes(
            json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"$ref": "#/properties/a"}, "c": {"$ref": "#/$defs/none"}, "d": {"$ref": "https://example.org/x"}, "e": {"$ref": 5}}}),
            json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}, "c": {}, "d": {}, "e": {}}}),
        );
    }

    #[test]
    fn a_root_that_is_a_reference_is_unfolded() {
        becomes(
            json!({"$ref": "#/$defs/x", "$defs": {"x": {"type": "object", "properties": {"again": {"$ref": "#/$defs/x"}}}}}),
            json!({"type": "object", "properties": {"again": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"type": "object", "properties": {"again": {"$ref": "#/$defs/x"}}}}}),
        );
    }

    #[test]
    fn other_words_for_the_same() {
        becomes(
            json!({"properties": {
                "a": {"const": "v"}, "b": {"allOf": [{"type": "string", "minLength": 1}], "description": "d"},
                "c": true, "d": {"type": "array", "items": [{"const": 1}, true]}, "e": {"type": "object", "additionalProperties": true},
                "f": {"type": "object", "additionalProperties": {"const": 1}}
            }}),
            json!({"type": "object", "properties": {
                "a": {"enum": ["v"]}, "b": {"type": "string", "minLength": 1, "description": "d"},
                "c": {}, "d": {"type": "array", "prefixItems": [{"enum": [1]}, {}]}, "e": {"type": "object", "additionalProperties": true},
                "f": {"type": "object", "additionalProperties": {"enum": [1]}}
            }}),
        );
    }

    #[test]
    fn parameters_that_say_nothing_are_left_out() {
        for (schema, is_sent) in [
            (json!({}), false),
            (json!({"type": "object"}), false),
            (
                json!({"type": "object", "properties": {}, "additionalProperties": false, "required": []}),
                false,
            ),
            (json!({"type": "object", "properties": {"a": {"type": "string"}}}), true),
            (
                json!({"type": "object", "additionalProperties": {"type": "string"}}),
                true,
            ),
            (json!({"$ref": "#/$defs/a", "$defs": {"a": {"type": "object"}}}), true),
        ] {
            assert_eq!(
                parameters(schema.as_object().cloned().unwrap()).is_some(),
                is_sent,
                "{schema}"
            );
        }
    }

    #[test]
    fn a_schema_does_not_explode() {
        // Each definition names the next twice, with neighbours: unfolded, it would be 2^60 nodes.
        let mut definitions = Map::new();
        for i in 0..60 {
            let next = json!({"$ref": format!("#/$defs/d{}", i + 1), "description": "x"});
            definitions.insert(
                format!("d{i}"),
                json!({"type": "object", "properties": {"a": next, "b": next}}),
            );
        }
        definitions.insert("d60".to_owned(), json!({"type": "string"}));
        let schema =
            json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/d0", "title": "t"}}, "$defs": definitions});
        let given = schema.to_string().len();
        let cleaned = clean(&schema).to_string().len();
        assert!(cleaned < 6 * given + 8192, "{given} -> {cleaned}");
        let flat = sanitized_length(&schema);
        assert!(flat < 6 * given + 8192, "{given} -> {flat}");
    }

    fn sanitized_length(schema: &Value) -> usize {
        super::super::openapi::sanitize(schema, true, true).to_string().len()
    }

    #[test]
    fn a_deep_chain_of_references_does_not_overflow_the_stack() {
        let mut definitions = Map::new();
        for i in 0..20_000 {
            definitions.insert(
                format!("d{i}"),
                json!({"type": "array", "items": {"$ref": format!("#/$defs/d{}", i + 1), "title": "t"}}),
            );
        }
        let schema =
            json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/d0", "title": "t"}}, "$defs": definitions});
        assert!(clean(&schema).is_object());
        assert!(sanitized_length(&schema) > 0);
    }
}
