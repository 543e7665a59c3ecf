//! runtime-config.toml: where the databases are, and how calls go out.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// The runtime configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeConfig {
    /// Where state is kept, when no flag says so.
    pub state_dir: Option<PathBuf>,
    #[serde(default)]
    sqlite_database: BTreeMap<String, Store>,
    #[serde(default)]
    key_value_store: BTreeMap<String, Store>,
    #[serde(default, alias = "config_provider")]
    variables_provider: Vec<Provider>,
    /// How calls go out.
    #[serde(default)]
    pub outbound_http: OutboundHttp,
    /// Where calls may not go.
    #[serde(default)]
    pub outbound_networking: OutboundNetworking,
    /// Private certificate authorities.
    #[serde(default)]
    pub client_tls: Vec<ClientTls>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Store {
    Spin { path: Option<PathBuf> },
}

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Provider {
    Static {
        values: HashMap<String, String>,
    },
    Env {
        prefix: Option<String>,
        dotenv_path: Option<PathBuf>,
    },
}

/// `[outbound_http]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutboundHttp {
    /// Whether connections are used again. Spin turns it off where the table is written without it, and so does this.
    #[serde(default)]
    pub connection_pooling: bool,
}

impl Default for OutboundHttp {
    fn default() -> Self {
        Self {
            connection_pooling: true,
        }
    }
}

/// `[outbound_networking]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutboundNetworking {
    /// `private` is the only name that the runner knows.
    #[serde(default)]
    pub block_networks: Vec<String>,
}

/// `[[client_tls]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientTls {
    /// A PEM file with further trusted roots.
    pub ca_roots_file: PathBuf,
    #[serde(default, rename = "component_ids")]
    _component_ids: Vec<String>,
    #[serde(default, rename = "hosts")]
    _hosts: Vec<String>,
}

impl RuntimeConfig {
    /// Reads a file and checks it.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| {
            format!(
                "{} is not usable (this runner knows stores of type \"spin\" and providers static and env)",
                path.display()
            )
        })
    }

    fn parse(text: &str) -> Result<Self> {
        let config: Self = toml::from_str(text)?;
        for label in config.sqlite_database.keys().chain(config.key_value_store.keys()) {
            if label != "default" {
                bail!("a store is called {label:?}, but the runner offers \"default\" alone");
            }
        }
        for network in &config.outbound_networking.block_networks {
            if network != "private" {
                bail!("block_networks knows \"private\" alone, not {network:?}");
            }
        }
        Ok(config)
    }

    /// The database's file.
    pub fn sqlite_path(&self, state_dir: &Path) -> PathBuf {
        path_of(&self.sqlite_database, state_dir, "sqlite_db.db")
    }

    /// The key-value store's file.
    pub fn key_value_path(&self, state_dir: &Path) -> PathBuf {
        path_of(&self.key_value_store, state_dir, "sqlite_key_value.db")
    }

    /// The values of the variables' providers, in their order.
    pub fn variables(&self, folder: &Path) -> Vec<HashMap<String, String>> {
        self.variables_provider
            .iter()
            .map(|provider| match provider {
                Provider::Static { values } => values.clone(),
                Provider::Env { prefix, dotenv_path } => {
                    let folder = dotenv_path.as_ref().and_then(|path| path.parent()).unwrap_or(folder);
                    crate::variables::from_environment(folder, prefix.as_deref().unwrap_or("SPIN_VARIABLE"))
                }
            })
            .collect()
    }
}

fn path_of(stores: &BTreeMap<String, Store>, state_dir: &Path, name: &str) -> PathBuf {
    let Some(Store::Spin { path: Some(path) }) = stores.get("default") else {
        return state_dir.join(name);
    };
    state_dir.join(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_default_to_the_state_folder() {
        let state = Path::new("/state");
        let config = RuntimeConfig::parse("").unwrap();
        assert_eq!(config.sqlite_path(state), Path::new("/state/sqlite_db.db"));
        assert!(config.outbound_http.connection_pooling);
        let config = RuntimeConfig::parse("[sqlite_database.default]\ntype = \"spin\"\npath = \"/data/k.db\"").unwrap();
        assert_eq!(config.sqlite_path(state), Path::new("/data/k.db"));
    }

    #[test]
    fn a_written_table_without_pooling_turns_it_off_as_spin_does() {
        assert!(
            !RuntimeConfig::parse("[outbound_http]")
                .unwrap()
                .outbound_http
                .connection_pooling
        );
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (text, told) in [
            (
                "[sqlite_database.default]\ntype = \"libsql\"\nurl = \"http://x\"",
                "libsql",
            ),
            ("[sqlite_database.other]\ntype = \"spin\"", "other"),
            ("[outbound_networking]\nblock_networks = [\"moon\"]", "moon"),
            ("max_instance_memory = 1", "max_instance_memory"),
        ] {
            let error = format!("{:#}", RuntimeConfig::parse(text).unwrap_err());
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
