//! spin.toml, version 2: what the runner supports of it, strictly. A key that it does not know is an error, since running
//! an application without what it asks for would be worse.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// A manifest.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    spin_manifest_version: u32,
    /// The application.
    pub application: Application,
    /// The application's variables.
    #[serde(default)]
    pub variables: BTreeMap<String, Variable>,
    /// What starts components.
    pub trigger: Triggers,
    /// The components by id.
    #[serde(default)]
    pub component: BTreeMap<String, Component>,
    /// The folder that the manifest's paths are relative to.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// The application.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// Its name.
    pub name: String,
    /// Its version.
    #[serde(default)]
    pub version: String,
    #[serde(default, rename = "description")]
    _description: String,
    #[serde(default, rename = "authors")]
    _authors: Vec<String>,
}

/// A variable of the application.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    /// Its value when nothing sets it.
    pub default: Option<String>,
    /// Whether it has to be set.
    #[serde(default)]
    pub required: bool,
    #[serde(default, rename = "secret")]
    _secret: bool,
    #[serde(default, rename = "description")]
    _description: String,
}

/// The triggers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Triggers {
    /// HTTP routes.
    pub http: Vec<HttpTrigger>,
}

/// An HTTP route.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpTrigger {
    /// An exact path, or a prefix that ends in `/...`.
    pub route: String,
    /// The component that answers.
    pub component: String,
    #[serde(default, rename = "id")]
    _id: String,
}

/// A component.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// Its file, relative to the manifest.
    pub source: PathBuf,
    /// The hosts it may call, as patterns and templates.
    #[serde(default)]
    pub allowed_outbound_hosts: Vec<String>,
    /// The databases it may open.
    #[serde(default)]
    pub sqlite_databases: Vec<String>,
    /// The key-value stores it may open.
    #[serde(default)]
    pub key_value_stores: Vec<String>,
    /// Its variables, as templates over the application's.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// How it is built.
    pub build: Option<Build>,
    #[serde(default, rename = "description")]
    _description: String,
}

/// How a component is built.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// The shell command.
    pub command: String,
    /// The folder it runs in, relative to the manifest.
    pub workdir: Option<PathBuf>,
    #[serde(default, rename = "watch")]
    _watch: Vec<String>,
}

impl Manifest {
    /// Reads a manifest and checks it whole: every fault is found before any is told.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut manifest = Self::parse(&text).with_context(|| format!("{} is not usable", path.display()))?;
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        manifest.folder = folder
            .canonicalize()
            .with_context(|| format!("cannot enter {}", folder.display()))?;
        Ok(manifest)
    }

    fn parse(text: &str) -> Result<Self> {
        let manifest: Self = toml::from_str(text)?;
        let mut faults = Vec::new();
        if manifest.spin_manifest_version != 2 {
            faults.push(format!(
                "spin_manifest_version must be 2, not {}",
                manifest.spin_manifest_version
            ));
        }
        for trigger in &manifest.trigger.http {
            if !manifest.component.contains_key(&trigger.component) {
                faults.push(format!(
                    "route {:?} names the unknown component {:?}",
                    trigger.route, trigger.component
                ));
            }
            if !trigger.route.starts_with('/') || trigger.route.contains(':') {
                faults.push(format!(
                    "route {:?} must be an exact path or end in /...",
                    trigger.route
                ));
            }
        }
        for (name, variable) in &manifest.variables {
            if variable.required && variable.default.is_some() {
                faults.push(format!(
                    "variable {name:?} is required and has a default: it can be one of both"
                ));
            }
        }
        for (id, component) in &manifest.component {
            for (kind, labels) in [
                ("sqlite_databases", &component.sqlite_databases),
                ("key_value_stores", &component.key_value_stores),
            ] {
                for label in labels.iter().filter(|label| *label != "default") {
                    faults.push(format!(
                        "component {id:?}: {kind} has {label:?}, but the runner offers \"default\" alone"
                    ));
                }
            }
        }
        if faults.is_empty() {
            Ok(manifest)
        } else {
            bail!(faults.join("\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
spin_manifest_version = 2
[application]
name = "app"
[variables]
greeting = { default = "hello" }
[[trigger.http]]
route = "/..."
component = "one"
[component.one]
source = "one.wasm"
[component.one.build]
command = "true"
watch = ["src/**/*.rs"]
"#;

    #[test]
    fn a_good_manifest_is_read() {
        let manifest = Manifest::parse(GOOD).unwrap();
        assert_eq!(manifest.component["one"].source, Path::new("one.wasm"));
        assert_eq!(manifest.variables["greeting"].default.as_deref(), Some("hello"));
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let cases = [
            (
                "source = \"one.wasm\"",
                "source = \"one.wasm\"\nai_models = [\"llama\"]",
                "ai_models",
            ),
            (
                "source = \"one.wasm\"",
                "source = \"one.wasm\"\nsqlite_databases = [\"other\"]",
                "\"other\"",
            ),
            ("component = \"one\"", "component = \"two\"", "\"two\""),
            ("spin_manifest_version = 2", "spin_manifest_version = 1", "must be 2"),
            ("route = \"/...\"", "route = \"/:user\"", "/:user"),
            (
                "{ default = \"hello\" }",
                "{ default = \"hello\", required = true }",
                "greeting",
            ),
        ];
        for (from, to, told) in cases {
            let error = format!("{:#}", Manifest::parse(&GOOD.replace(from, to)).unwrap_err());
            assert!(error.contains(told), "{to}: {error}");
        }
    }
}
