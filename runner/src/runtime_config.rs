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
    sqlite_database: BTreeMap<String, SqliteDatabase>,
    #[serde(default)]
    key_value_store: BTreeMap<String, KeyValueStore>,
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
enum SqliteDatabase {
    Spin { path: Option<PathBuf> },
    Libsql { url: String, token: String },
}

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum KeyValueStore {
    Spin { path: Option<PathBuf> },
    Redis { url: String },
}

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file.
    File(PathBuf),
    /// On a server: its address, and the token for it (empty for none).
    Server(String, String),
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
                "{} is not usable (this runner knows sqlite of type spin and libsql, key-value of type spin and redis, providers static and env)",
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

    /// Where the database is.
    pub fn sqlite(&self, state_dir: &Path) -> Place {
        let file = |path: &Path| Place::File(state_dir.join(path));
        match self.sqlite_database.get("default") {
            Some(SqliteDatabase::Libsql { url, token }) => Place::Server(url.clone(), token.clone()),
            Some(SqliteDatabase::Spin { path: Some(path) }) => file(path),
            _ => file(Path::new("sqlite_db.db")),
        }
    }

    /// Where the key-value store is.
    pub fn key_value(&self, state_dir: &Path) -> Place {
        let file = |path: &Path| Place::File(state_dir.join(path));
        match self.key_value_store.get("default") {
            Some(KeyValueStore::Redis { url }) => Place::Server(url.clone(), String::new()),
            Some(KeyValueStore::Spin { path: Some(path) }) => file(path),
            _ => file(Path::new("sqlite_key_value.db")),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_default_to_the_state_folder() {
        let state = Path::new("/state");
        let config = RuntimeConfig::parse("").unwrap();
        assert_eq!(config.sqlite(state), Place::File("/state/sqlite_db.db".into()));
        assert_eq!(
            config.key_value(state),
            Place::File("/state/sqlite_key_value.db".into())
        );
        assert!(config.outbound_http.connection_pooling);
        let config = RuntimeConfig::parse("[sqlite_database.default]\ntype = \"spin\"\npath = \"/data/k.db\"").unwrap();
        assert_eq!(config.sqlite(state), Place::File("/data/k.db".into()));
    }

    #[test]
    fn stores_on_servers_are_read() {
        let text = "[sqlite_database.default]\ntype = \"libsql\"\nurl = \"http://sqld:8080\"\ntoken = \"t\"\n[key_value_store.default]\ntype = \"redis\"\nurl = \"redis://r:6379\"";
        let config = RuntimeConfig::parse(text).unwrap();
        let state = Path::new("/state");
        assert_eq!(
            config.sqlite(state),
            Place::Server("http://sqld:8080".to_owned(), "t".to_owned())
        );
        assert_eq!(
            config.key_value(state),
            Place::Server("redis://r:6379".to_owned(), String::new())
        );
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
                "token",
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
