//! Lists of models: Google's in OpenAI's form.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Value, json};

/// A page of Google's list, of at most so many models, and the token of the next page.
pub fn page(body: &[u8], most: usize) -> (Vec<Value>, Option<String>) {
    let page: Page = serde_json::from_slice(body).unwrap_or_default();
    let models = page.models.unwrap_or_default();
    let models = models.into_iter().filter_map(|model| model.name).take(most);
    let models = models.map(|name| {
        let id = name.strip_prefix("models/").unwrap_or(&name);
        json!({ "id": id, "object": "model", "created": 0, "owned_by": "google" })
    });
    (models.collect(), page.next_page_token.filter(|token| !token.is_empty()))
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    #[serde(borrow)]
    models: Option<Vec<Model<'a>>>,
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
struct Model<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn googles_lists_become_openais() {
        let one = json!({ "id": "gemini-2.5-flash", "object": "model", "created": 0, "owned_by": "google" });
        let other = json!({ "id": "tunedModels/mine", "object": "model", "created": 0, "owned_by": "google" });
        let body = r#"{"models":[{"name":"models/gemini-2.5-flash","version":"1","supportedGenerationMethods":["generateContent"]},
            {"displayName":"without a name"},{"name":"tunedModels/mine"}],"nextPageToken":"more"}"#;
        assert_eq!(
            page(body.as_bytes(), 9),
            (vec![one.clone(), other], Some("more".to_owned()))
        );
        assert_eq!(page(body.as_bytes(), 1), (vec![one], Some("more".to_owned())));
        for body in [
            r#"{"nextPageToken":""}"#,
            "{}",
            r#"{"models":null}"#,
            "[]",
            "",
            "<html>",
            r#"{"models":[7]}"#,
        ] {
            assert_eq!(page(body.as_bytes(), 9), (Vec::new(), None), "{body}");
        }
    }
}
