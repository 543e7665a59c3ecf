//! The configuration, read and validated as one.

use crate::{
    ports::Timeouts,
    secret::{Credential, Secret},
    tuning,
};

/// The published default of `auth_key`: everybody knows it, so it serves a direct loopback client alone.
pub const DEFAULT_AUTH_KEY: &str = "yCENzh";

/// The published default of `home_access_key`.
pub const DEFAULT_HOME_ACCESS_KEY: &str = "e86ea1ceb610e1ed502f5a99a386a0a252a933525187a43f18db6a6d91c91434";

/// Which requests are told in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogRequests {
    /// Those that failed, or took more than one upstream call.
    #[default]
    Failed,
    /// All.
    All,
    /// None.
    None,
}

impl LogRequests {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::All => "all",
            Self::None => "none",
        }
    }
}

/// Everything that an operator can set, with the defaults in place of what is unset.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The keys that clients may send.
    pub auth_keys: Vec<Credential>,
    /// The administrator's password.
    pub home_access_key: Credential,
    /// Whether the client's own key goes upstream, in place of the pool's.
    pub forward_client_key: bool,
    /// Gemini's base URL, without `/v1beta`.
    pub gemini_base_url: String,
    /// The base URL of `openai` keys that name no endpoint, with `/v1`.
    pub openai_base_url: String,
    /// Edge mode: the KeyStorm that owns the pool.
    pub home_url: Option<String>,
    /// Seals the secrets in the database.
    pub encryption_key: Option<Secret>,
    /// How a key is chosen inside a tier.
    pub selection: crate::pool::Selection,
    /// How long an instance trusts what it has read, in milliseconds.
    pub pool_ttl_ms: i64,
    /// For the connection to an upstream, in milliseconds.
    pub connect_timeout_ms: u64,
    /// For the head of an answer, in milliseconds; the second is for streams.
    pub first_byte_timeout_ms: (u64, u64),
    /// Between two pieces of an answer, in milliseconds.
    pub idle_timeout_ms: u64,
    /// How long a client may take between two pieces of its request's body, in milliseconds.
    pub body_timeout_ms: u64,
    /// The largest request body that is read.
    pub max_body_bytes: usize,
    /// The `access-control-allow-origin` of the clients' side.
    pub cors_allow_origin: String,
    /// Whether custom endpoints may be loopback and private addresses.
    pub allow_private_endpoints: bool,
    /// Opens `/metrics` beside the administrator's password.
    pub metrics_token: Option<Credential>,
    /// What tells from which country requests leave; `None` when it is not to be asked.
    pub egress_trace_url: Option<String>,
    /// Which requests are told in the log.
    pub log_requests: LogRequests,
    /// Whether passed-through answers are led through the guest so that their tokens are counted.
    pub count_tokens: bool,
    /// The numbers of the pool.
    pub pool: crate::pool::Settings,
    /// Which variables differ from their default.
    pub set: Vec<&'static str>,
}

impl Settings {
    /// Reads the lines `name=value` that spin.toml composes of the application's variables: one variable, so that an
    /// instance learns its configuration in one call of its host. An empty value stands for the default. All faults are
    /// found before any is told; none quotes a value.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let mut reader = Reader::new(text);
        let selection = reader.selection("selection");
        let pool = tuning::read(selection, |name, default, least, most| {
            reader.number(name, default, least, most)
        });
        reader.faults.extend(tuning::faults(&pool));
        let settings = Self {
            auth_keys: reader.credentials("auth_key", DEFAULT_AUTH_KEY),
            home_access_key: reader
                .secret("home_access_key", Some(DEFAULT_HOME_ACCESS_KEY))
                .map_or_else(
                    || Credential::new(DEFAULT_HOME_ACCESS_KEY),
                    |secret| Credential::new(secret.expose()),
                ),
            forward_client_key: reader.flag("forward_client_key_enabled"),
            gemini_base_url: reader.url("gemini_base_url", "https://generativelanguage.googleapis.com"),
            openai_base_url: reader.url("openai_base_url", "https://api.openai.com/v1"),
            home_url: Some(reader.url("home_url", "")).filter(|url| !url.is_empty()),
            encryption_key: reader.secret("encryption_key", None),
            selection,
            pool_ttl_ms: pool.pool_ttl_ms,
            pool,
            connect_timeout_ms: reader.number("connect_timeout_ms", 10_000, 1, 3_600_000),
            first_byte_timeout_ms: {
                let single = reader.number("first_byte_timeout_ms", 300_000, 1, 3_600_000);
                (
                    single,
                    if reader.is_set("first_byte_timeout_ms") {
                        single
                    } else {
                        120_000
                    },
                )
            },
            idle_timeout_ms: reader.number("idle_timeout_ms", 300_000, 1, 3_600_000),
            body_timeout_ms: reader.number("body_timeout_ms", 60_000, 1, 3_600_000),
            max_body_bytes: reader.number("max_body_bytes", 33_554_432, 1024, 1 << 30) as usize,
            cors_allow_origin: reader.origin("cors_allow_origin"),
            allow_private_endpoints: reader.flag("allow_private_endpoints"),
            metrics_token: reader
                .secret("metrics_token", None)
                .map(|token| Credential::new(token.expose())),
            count_tokens: reader.flag("count_tokens"),
            log_requests: reader.log_requests("log_requests"),
            egress_trace_url: reader.trace_url("egress_trace_url"),
            set: Vec::new(),
        };
        reader.finish(settings)
    }

    /// The value in force of a variable that is no secret, as text; empty for a secret.
    pub fn value(&self, name: &str) -> String {
        let (single, streamed) = self.first_byte_timeout_ms;
        match name {
            "forward_client_key_enabled" => self.forward_client_key.to_string(),
            "gemini_base_url" => self.gemini_base_url.clone(),
            "openai_base_url" => self.openai_base_url.clone(),
            "home_url" => self.home_url.clone().unwrap_or_default(),
            "selection" => self.selection.as_str().to_owned(),
            "connect_timeout_ms" => self.connect_timeout_ms.to_string(),
            "first_byte_timeout_ms" if single == streamed => single.to_string(),
            "first_byte_timeout_ms" => format!("{single} (streams {streamed})"),
            "idle_timeout_ms" => self.idle_timeout_ms.to_string(),
            "body_timeout_ms" => self.body_timeout_ms.to_string(),
            "max_body_bytes" => self.max_body_bytes.to_string(),
            "cors_allow_origin" => self.cors_allow_origin.clone(),
            "allow_private_endpoints" => self.allow_private_endpoints.to_string(),
            "count_tokens" => self.count_tokens.to_string(),
            "log_requests" => self.log_requests.as_str().to_owned(),
            "egress_trace_url" => self.egress_trace_url.clone().unwrap_or_else(|| "off".to_owned()),
            _ => tuning::value(&self.pool, name).unwrap_or_default(),
        }
    }

    /// How long to wait for an upstream.
    pub const fn timeouts(&self, stream: bool) -> Timeouts {
        let (single, streamed) = self.first_byte_timeout_ms;
        Timeouts {
            connect: self.connect_timeout_ms,
            first_byte: if stream { streamed } else { single },
            idle: self.idle_timeout_ms,
        }
    }
}

/// The names of the variables that the component reads, in the order of the documentation; `true` marks secrets.
pub const NAMES: &[(&str, bool)] = &[
    ("auth_key", true),
    ("home_access_key", true),
    ("forward_client_key_enabled", false),
    ("gemini_base_url", false),
    ("openai_base_url", false),
    ("home_url", false),
    ("encryption_key", true),
    ("selection", false),
    ("max_attempts", false),
    ("attempt_deadline_ms", false),
    ("overload_retries", false),
    ("pool_ttl_ms", false),
    ("circuit_failures", false),
    ("circuit_rest_ms", false),
    ("circuit_rest_max_ms", false),
    ("storm_keys", false),
    ("storm_window_ms", false),
    ("storm_rest_ms", false),
    ("storm_rest_max_ms", false),
    ("rest_max_ms", false),
    ("recheck_interval_s", false),
    ("recheck_keys", false),
    ("usage_hours_d", false),
    ("usage_days_d", false),
    ("connect_timeout_ms", false),
    ("first_byte_timeout_ms", false),
    ("idle_timeout_ms", false),
    ("body_timeout_ms", false),
    ("max_body_bytes", false),
    ("cors_allow_origin", false),
    ("allow_private_endpoints", false),
    ("metrics_token", true),
    ("count_tokens", false),
    ("egress_trace_url", false),
    ("log_requests", false),
];

struct Reader<'a> {
    values: Vec<(&'static str, &'a str)>,
    faults: Vec<String>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        let mut reader = Self {
            values: Vec::new(),
            faults: Vec::new(),
        };
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let known = line.split_once('=').and_then(|(name, value)| {
                let (name, _) = NAMES.iter().find(|(known, _)| *known == name.trim())?;
                Some((*name, value.trim()))
            });
            match known {
                Some(pair) => reader.values.push(pair),
                // The line may be the second half of a secret with a line break in it: it is not quoted.
                None => reader.faults.push(format!(
                    "line {} of the component variable `settings` is not a known name=value (a value may not hold a line break)",
                    number + 1
                )),
            }
        }
        reader
    }

    fn value(&self, name: &str) -> Option<&'a str> {
        self.values
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| *value)
            .filter(|value| !value.is_empty())
    }

    fn is_set(&self, name: &str) -> bool {
        let default = |value| {
            let number = tuning::NUMBERS.iter().find(|number| number.name == name);
            number.map_or_else(
                || DEFAULTS.contains(&(name, value)),
                |number| number.default.to_string() == value,
            )
        };
        self.value(name).is_some_and(|value| !default(value))
    }

    fn flag(&mut self, name: &str) -> bool {
        match self.value(name) {
            None | Some("false" | "0") => false,
            Some("true" | "1") => true,
            Some(_) => {
                self.faults.push(format!("{name} must be true or false"));
                false
            }
        }
    }

    fn number(&mut self, name: &str, default: u64, least: u64, most: u64) -> u64 {
        match self.value(name).map(str::parse) {
            None => default,
            Some(Ok(number)) if (least..=most).contains(&number) => number,
            Some(_) => {
                self.faults
                    .push(format!("{name} must be a whole number from {least} to {most}"));
                default
            }
        }
    }

    fn secret(&mut self, name: &str, default: Option<&str>) -> Option<Secret> {
        let value = self.value(name).or(default)?;
        if value.bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
            return Some(Secret::new(value));
        }
        self.faults.push(format!(
            "{name} must be printable ASCII without blanks, as it is sent in a header"
        ));
        None
    }

    fn credentials(&mut self, name: &str, default: &str) -> Vec<Credential> {
        let Some(list) = self.secret(name, Some(default)) else {
            return Vec::new();
        };
        let keys: Vec<_> = list
            .expose()
            .split(',')
            .filter(|key| !key.is_empty())
            .map(Credential::new)
            .collect();
        if keys.is_empty() {
            self.faults.push(format!("{name} must name at least one key"));
        }
        keys
    }

    fn url(&mut self, name: &str, default: &str) -> String {
        let value = self.value(name).unwrap_or(default).trim_end_matches('/');
        let good = value.is_empty()
            || value.parse::<http::Uri>().is_ok_and(|uri| {
                matches!(uri.scheme_str(), Some("http" | "https"))
                    && uri
                        .authority()
                        .is_some_and(|authority| !authority.as_str().contains('@'))
                    && uri.query().is_none()
            });
        if !good {
            self.faults.push(format!(
                "{name} must be an http(s) URL without user, query and fragment"
            ));
        }
        value.to_owned()
    }

    fn log_requests(&mut self, name: &str) -> LogRequests {
        let value = self.value(name).unwrap_or_default();
        let known = [LogRequests::Failed, LogRequests::All, LogRequests::None];
        let found = known.into_iter().find(|known| known.as_str() == value);
        if found.is_none() && !value.is_empty() {
            self.faults.push(format!("{name} must be failed, all or none"));
        }
        found.unwrap_or_default()
    }

    fn trace_url(&mut self, name: &str) -> Option<String> {
        if self.value(name) == Some("off") {
            return None;
        }
        Some(self.url(name, DEFAULT_TRACE_URL))
    }

    fn origin(&mut self, name: &str) -> String {
        let value = self.value(name).unwrap_or("*");
        if http::HeaderValue::from_str(value).is_err() || value.contains(',') {
            self.faults.push(format!("{name} must be `*` or one origin"));
        }
        value.to_owned()
    }

    fn selection(&mut self, name: &str) -> crate::pool::Selection {
        let value = self.value(name).unwrap_or("random");
        crate::pool::Selection::parse(value).unwrap_or_else(|| {
            self.faults
                .push(format!("{name} must be random, round_robin, least_used or sticky"));
            crate::pool::Selection::default()
        })
    }

    fn finish(mut self, mut settings: Settings) -> Result<Settings, Vec<String>> {
        if settings.forward_client_key && settings.home_url.is_some() {
            self.faults
                .push("forward_client_key_enabled and home_url exclude each other: set one of them".to_owned());
        }
        settings.set = NAMES
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| self.is_set(name))
            .collect();
        if self.faults.is_empty() {
            Ok(settings)
        } else {
            Err(self.faults)
        }
    }
}

/// Answers, to whoever asks, from which country the question came.
const DEFAULT_TRACE_URL: &str = "https://www.cloudflare.com/cdn-cgi/trace";

/// What spin.toml puts in place of what the operator does not set, where that is not empty.
const DEFAULTS: &[(&str, &str)] = &[
    ("auth_key", DEFAULT_AUTH_KEY),
    ("home_access_key", DEFAULT_HOME_ACCESS_KEY),
    ("forward_client_key_enabled", "false"),
    ("gemini_base_url", "https://generativelanguage.googleapis.com"),
    ("openai_base_url", "https://api.openai.com/v1"),
    ("selection", "random"),
    ("connect_timeout_ms", "10000"),
    ("first_byte_timeout_ms", ""),
    ("idle_timeout_ms", "300000"),
    ("body_timeout_ms", "60000"),
    ("max_body_bytes", "33554432"),
    ("cors_allow_origin", "*"),
    ("allow_private_endpoints", "false"),
    ("count_tokens", "false"),
    ("log_requests", "failed"),
    ("egress_trace_url", DEFAULT_TRACE_URL),
    ("extra_outbound_host", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_set_is_the_documented_defaults() {
        let settings = Settings::parse("auth_key=\nselection=\n").unwrap();
        assert_eq!(settings.openai_base_url, "https://api.openai.com/v1");
        assert_eq!(settings.timeouts(false).first_byte, 300_000);
        assert_eq!(settings.timeouts(true).first_byte, 120_000);
        assert!(settings.auth_keys.iter().any(|key| key.matches(DEFAULT_AUTH_KEY)));
        assert!(settings.set.is_empty());
    }

    #[test]
    fn all_faults_are_told_at_once_and_no_value_is_quoted() {
        let text = "auth_key=two words\nmax_attempts=many\nhome_url=ftp://x\nselection=best\nsecond-half-of-a-secret\n";
        let faults = Settings::parse(text).unwrap_err();
        assert_eq!(faults.len(), 5, "{faults:?}");
        assert!(!faults.join(" ").contains("second-half"), "{faults:?}");
        assert!(!faults.join(" ").contains("two words"), "{faults:?}");
    }

    #[test]
    fn the_manifest_and_the_readme_know_every_variable_and_its_default() {
        let manifests = [include_str!("../spin.toml"), include_str!("../spin-wasi02.toml")];
        let readme = include_str!("../README.md");
        for (name, is_secret) in NAMES {
            let number = tuning::NUMBERS.iter().find(|number| number.name == *name);
            let text = DEFAULTS.iter().find(|(known, _)| known == name);
            let default = number.map_or_else(
                || text.map_or_else(String::new, |(_, default)| (*default).to_owned()),
                |number| number.default.to_string(),
            );
            let secret = if *is_secret { ", secret = true" } else { "" };
            let line = format!("\n{name} = {{ default = \"{default}\"{secret} }}\n");
            for manifest in manifests {
                assert!(manifest.contains(&line), "a manifest has not {line}");
                assert!(manifest.contains(&format!("\n{name}={{{{ {name} }}}}\n")), "{name}");
            }
            assert!(
                readme.contains(&format!("`{name}`")),
                "the README does not tell of {name}"
            );
        }
    }

    #[test]
    fn numbers_of_the_pool_are_held_against_each_other() {
        let text = "circuit_rest_ms=9000\ncircuit_rest_max_ms=8000\nstorm_keys=1\nrest_max_ms=x\nusage_days_d=3\n";
        let faults = Settings::parse(text).unwrap_err();
        assert_eq!(faults.len(), 4, "{faults:?}");
        let settings = Settings::parse("storm_keys=7\nrecheck_interval_s=0").unwrap();
        assert_eq!((settings.pool.storm_keys, settings.pool.recheck_interval_s), (7, 0));
        assert_eq!(settings.set, ["storm_keys", "recheck_interval_s"]);
    }

    #[test]
    fn several_access_keys_are_read() {
        let settings = Settings::parse("auth_key=one,two\nfirst_byte_timeout_ms=5000").unwrap();
        assert!(settings.auth_keys.iter().any(|key| key.matches("two")));
        assert!(!settings.auth_keys.iter().any(|key| key.matches("one,two")));
        assert_eq!(settings.timeouts(true).first_byte, 5000);
        assert_eq!(settings.set, ["auth_key", "first_byte_timeout_ms"]);
    }
}
