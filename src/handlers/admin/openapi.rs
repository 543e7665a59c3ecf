//! `GET /api/openapi.json`: the description of every route, for the administrator's scripts and for tests.

use http::StatusCode;

use crate::{
    error::ApiError,
    handlers::{self, JSON},
    ports::{Ports, Response},
};

/// The document, with the version that runs.
pub(super) fn show<P: Ports>() -> Result<Response<P>, ApiError> {
    let document = DOCUMENT.replacen("\"VERSION\"", concat!("\"", env!("CARGO_PKG_VERSION"), "\""), 1);
    Ok(handlers::bytes(StatusCode::OK, JSON, document.into()))
}

const DOCUMENT: &str = include_str!("openapi.json");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use http::Method;
    use serde_json::Value;

    use super::*;
    use crate::routes::{ADMIN, BARE, OpenAi, Route, TAKEN, route};

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    fn methods(path: &Value) -> BTreeSet<String> {
        path.as_object()
            .unwrap()
            .keys()
            .map(|method| method.to_uppercase())
            .collect()
    }

    #[test]
    fn the_administrators_routes_are_described_and_no_others() {
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        let described: BTreeSet<_> = paths
            .iter()
            .filter(|(path, _)| path.starts_with("/api/"))
            .map(|(path, operations)| (path.clone(), methods(operations)))
            .collect();
        let routed: BTreeSet<_> = ADMIN
            .iter()
            .map(|(path, _, methods)| {
                let methods = methods.split(", ").filter(|method| *method != "HEAD");
                (
                    format!("/api/{path}"),
                    methods.map(str::to_owned).collect::<BTreeSet<_>>(),
                )
            })
            .collect();
        assert_eq!(described, routed);
    }

    #[test]
    fn what_is_described_is_routed() {
        for (path, operations) in document()["paths"].as_object().unwrap() {
            let real = path.replace("{id}", "7").replace("{model}", "gemini-2.5-flash");
            for method in methods(operations) {
                let found = route(&method.parse::<Method>().unwrap(), &real);
                assert!(
                    found
                        .as_ref()
                        .is_ok_and(|found| !matches!(found, Route::OpenAi(OpenAi::Other(_), _))),
                    "{method} {path}: {found:?}"
                );
            }
        }
    }

    #[test]
    fn the_names_that_no_group_can_have_are_described() {
        let document = document();
        let described: BTreeSet<_> = document["components"]["schemas"]["Group"]["not"]["enum"]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap())
            .collect();
        assert_eq!(described, TAKEN.into_iter().chain(BARE).collect());
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_has_a_name_of_its_own() {
        fn walk<'a>(value: &'a Value, visit: &mut impl FnMut(&'a str, &'a Value)) {
            match value {
                Value::Object(fields) => fields.iter().for_each(|(name, value)| {
                    visit(name, value);
                    walk(value, visit);
                }),
                Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
                _ => {}
            }
        }
        let document = document();
        let (mut broken, mut names, mut operations) = (Vec::new(), BTreeSet::new(), 0);
        walk(&document, &mut |name, value| {
            if name == "$ref"
                && document
                    .pointer(value.as_str().unwrap().trim_start_matches('#'))
                    .is_none()
            {
                broken.push(value.clone());
            }
            if name == "operationId" {
                operations += 1;
                names.insert(value.to_string());
            }
        });
        assert_eq!((broken, operations), (Vec::new(), names.len()));
    }
}
