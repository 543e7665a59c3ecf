//! The application's variables: flags, then providers of the runtime configuration, then `SPIN_VARIABLE_*` of the
//! environment and of `.env`, then defaults.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use anyhow::{Context as _, Result, bail};

use crate::manifest::Manifest;

/// Where values come from, the strongest first. Nothing of it is ever printed.
#[derive(Default)]
pub struct Sources {
    layers: Vec<HashMap<String, String>>,
}

impl Sources {
    /// Adds a weaker source.
    pub fn push(&mut self, layer: HashMap<String, String>) {
        self.layers.push(layer);
    }

    /// The values of the application's variables.
    pub fn resolve(&self, manifest: &Manifest) -> Result<HashMap<String, String>> {
        let mut values = HashMap::new();
        let mut missing = Vec::new();
        for (name, variable) in &manifest.variables {
            let set = self.layers.iter().find_map(|layer| layer.get(name));
            match set.or(variable.default.as_ref()) {
                Some(value) => drop(values.insert(name.clone(), value.clone())),
                None => missing.push(name.as_str()),
            }
        }
        if missing.is_empty() {
            return Ok(values);
        }
        bail!(
            "variables without a value: {} (set with --variable NAME=VALUE)",
            missing.join(", ")
        )
    }
}

/// Reads `--variable` flags: `name=value`, `name=@file`, or `@file.toml` and `@file.json` with many.
pub fn from_flags(flags: &[String]) -> Result<HashMap<String, String>> {
    let mut values = HashMap::new();
    for flag in flags {
        if let Some(file) = flag.strip_prefix('@') {
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read the variables of {file}"))?;
            // JSON's objects of strings are what TOML cannot read; both hold only strings here.
            let many: BTreeMap<String, String> = if file.ends_with(".json") {
                serde_json::from_str(&text).with_context(|| format!("{file} must be an object of strings"))?
            } else {
                toml::from_str(&text).with_context(|| format!("{file} must be a table of strings"))?
            };
            values.extend(many);
            continue;
        }
        let (name, value) = flag
            .split_once('=')
            .with_context(|| "--variable takes NAME=VALUE".to_owned())?;
        let value = match value.strip_prefix('@') {
            Some(file) => std::fs::read_to_string(file).with_context(|| format!("cannot read {file} for {name}"))?,
            None => value.to_owned(),
        };
        values.insert(name.to_owned(), value);
    }
    Ok(values)
}

/// Reads the environment, and what `.env` beside the manifest adds to it.
pub fn from_environment(folder: &Path, prefix: &str) -> HashMap<String, String> {
    let prefix = format!("{prefix}_");
    let mut values: HashMap<String, String> = std::fs::read_to_string(folder.join(".env"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.trim().split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().trim_matches('"').to_owned()))
        .collect();
    values.extend(
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
    );
    values
        .into_iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(&prefix)?.to_lowercase(), value)))
        .collect()
}

/// Puts values in the place of `{{ name }}`.
pub fn expand(template: &str, values: &HashMap<String, String>) -> Result<String> {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once("{{") {
        let (name, behind) = behind.split_once("}}").context("a template's {{ is not closed")?;
        let name = name.trim();
        let value = values
            .get(name)
            .with_context(|| format!("a template names the unknown variable {name:?}"))?;
        text.push_str(before);
        text.push_str(value);
        rest = behind;
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_in() {
        let values = HashMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "{{ a }}".to_owned())]);
        let cases = [
            ("x={{ a }}", Some("x=1")),
            ("{{a}}{{ b }}", Some("1{{ a }}")),
            ("{{ c }}", None),
            ("{{ a", None),
        ];
        for (template, expected) in cases {
            assert_eq!(expand(template, &values).ok().as_deref(), expected, "{template}");
        }
    }
}
