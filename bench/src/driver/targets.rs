//! What is measured, and how it is asked.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use serde_json::json;

use crate::{
    Settings,
    load::{self, Shot},
    process::{Server, free_address},
};

/// A server under measurement.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    /// `None` for the upstream itself.
    pub(crate) server: Option<Server>,
    pub(crate) address: SocketAddr,
    pub(crate) dialect: Dialect,
    /// Headers of its own.
    headers: Vec<(&'static str, String)>,
}

/// How a target is spoken to: by OpenAI's API always, with a model of one provider or the other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    OpenAi,
    /// A model of Gemini's: KeyStorm translates.
    Gemini,
}

impl Target {
    /// The upstream itself.
    pub(crate) fn direct(upstream: SocketAddr) -> Self {
        Self {
            name: "direct",
            server: None,
            address: upstream,
            dialect: Dialect::OpenAi,
            headers: vec![("authorization", "Bearer sk-good-00000000000000000000".to_owned())],
        }
    }

    /// The bare forwarder.
    pub(crate) fn floor(settings: &Settings, name: &'static str, upstream: SocketAddr, reuse: usize) -> Result<Self> {
        let variables = [format!("upstream={upstream}")];
        Ok(Self {
            name,
            ..Self::on_spin(settings, name, Path::new("bench/floor/spin.toml"), &variables, reuse)?
        })
    }

    /// KeyStorm without a key.
    pub(crate) fn keystorm(
        settings: &Settings,
        name: &'static str,
        upstream: SocketAddr,
        reuse: usize,
    ) -> Result<Self> {
        let variables = [
            format!("auth_key={ACCESS_KEY}"),
            format!("home_access_key={ADMIN_KEY}"),
            format!("openai_base_url=http://{upstream}/v1"),
            format!("gemini_base_url=http://{upstream}"),
        ];
        Self::on_spin(settings, name, Path::new("spin.toml"), &variables, reuse)
    }

    fn on_spin(
        settings: &Settings,
        name: &'static str,
        manifest: &Path,
        variables: &[String],
        reuse: usize,
    ) -> Result<Self> {
        let address = free_address()?;
        let folder = settings.folder.join(name.replace(' ', "-"));
        fs::create_dir_all(&folder)?;
        let mut command = Command::new(&settings.host);
        command.arg("up").arg("--from").arg(manifest);
        command.arg("--listen").arg(address.to_string());
        command.arg("--state-dir").arg(&folder);
        command.arg("--max-instance-reuse-count").arg(reuse.to_string());
        command.args(&settings.host_arguments);
        for variable in variables {
            command.arg("--variable").arg(variable);
        }
        Ok(Self {
            name,
            server: Some(Server::start(&mut command, address, &folder.join("log"))?),
            address,
            dialect: Dialect::OpenAi,
            headers: vec![("authorization", format!("Bearer {ACCESS_KEY}"))],
        })
    }

    /// Is asked for Gemini's models from now on.
    pub(crate) fn with_gemini(self) -> Self {
        Self {
            dialect: Dialect::Gemini,
            ..self
        }
    }

    /// Adds keys; returns the seconds that it took.
    pub(crate) async fn add_keys(&self, good: usize, limited: usize) -> Result<f64> {
        let api_type = match self.dialect {
            Dialect::OpenAi => "openai",
            Dialect::Gemini => "gemini",
        };
        let good_keys = (0..good).map(|number| format!("sk-good-{number:020}"));
        let limited_keys = (0..limited).map(|number| format!("sk-limited-{number:020}"));
        let keys: Vec<_> = good_keys.chain(limited_keys).collect();
        let began = Instant::now();
        for some in keys.chunks(MOST_KEYS_A_CALL) {
            let body = json!({ "apiType": api_type, "keys": some });
            let answer = self.admin("POST", "/api/keys", Bytes::from(body.to_string())).await?;
            let answer: serde_json::Value = serde_json::from_slice(&answer)?;
            let added = answer.get("added").and_then(serde_json::Value::as_u64);
            if added != Some(some.len() as u64) {
                bail!("{}: the keys were not added: {answer}", self.name);
            }
        }
        Ok(began.elapsed().as_secs_f64())
    }

    /// Asks the administrator's API.
    pub(crate) async fn admin(&self, method: &'static str, path: &str, body: Bytes) -> Result<Bytes> {
        let shot = Shot {
            method,
            path: path.to_owned(),
            headers: vec![
                ("authorization", format!("Bearer {ADMIN_KEY}")),
                ("content-type", "application/json".to_owned()),
            ],
            body,
            ending: "",
        };
        load::once(self.address, &shot)
            .await
            .with_context(|| format!("{}: {method} {path}", self.name))
    }

    /// A request for a chat, with a prompt of so many bytes.
    pub(crate) fn chat(&self, stream: Option<(u64, u64)>, prompt: usize) -> Shot {
        let (events, apart) = stream.unwrap_or((1, 0));
        let provider = if self.dialect == Dialect::Gemini {
            "gemini"
        } else {
            "gpt"
        };
        let model = format!("{provider}-load-{events}-{apart}");
        let content = if prompt == 0 {
            "Why is the sky blue? Say it in one sentence, please.".to_owned()
        } else {
            "lorem ipsum dolor sit amet, ".repeat(prompt / 28)
        };
        let content = json!(content);
        let stream_field = if stream.is_some() { "\"stream\":true," } else { "" };
        let body = format!(
            "{{\"model\":\"{model}\",{stream_field}\"messages\":[{{\"role\":\"system\",\"content\":\"You are brief.\"}},{{\"role\":\"user\",\"content\":{content}}}],\"temperature\":0.7}}"
        );
        let mut headers = self.headers.clone();
        // What the OpenAI client for Python sends.
        for (name, value) in [
            ("accept", "application/json"),
            ("content-type", "application/json"),
            ("user-agent", "OpenAI/Python 1.99.0"),
            ("x-stainless-lang", "python"),
            ("x-stainless-os", "Linux"),
            ("x-stainless-runtime", "CPython"),
        ] {
            headers.push((name, value.to_owned()));
        }
        Shot {
            method: "POST",
            path: "/v1/chat/completions".to_owned(),
            headers,
            body: Bytes::from(body),
            ending: if stream.is_some() { "data: [DONE]" } else { "}" },
        }
    }

    /// A request that no upstream is asked for.
    pub(crate) fn health(&self) -> Shot {
        Shot {
            method: "GET",
            path: "/healthz".to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
            ending: "",
        }
    }
}

/// nginx, Portkey's gateway and LiteLLM, as far as they are installed.
pub(crate) fn peers(settings: &Settings, upstream: SocketAddr, models: &[String]) -> Result<Vec<Target>> {
    let mut found = Vec::new();
    let folder = settings.folder.join("peers");
    fs::create_dir_all(&folder)?;
    let mut add = |name, server: Result<Server>, headers| match server {
        Ok(server) => found.push(Target {
            name,
            address: server.address,
            server: Some(server),
            dialect: Dialect::OpenAi,
            headers,
        }),
        Err(error) => eprintln!("{name} is left out: {error:#}"),
    };
    let key = ("authorization", "Bearer sk-good-00000000000000000000".to_owned());

    let nginx = Path::new("/usr/sbin/nginx");
    if nginx.exists() {
        let address = free_address()?;
        let config = folder.join("nginx.conf");
        fs::write(&config, nginx_config(&folder, address, upstream))?;
        let mut command = Command::new(nginx);
        command
            .arg("-c")
            .arg(&config)
            .arg("-e")
            .arg(folder.join("nginx-error.log"));
        let server = Server::start(&mut command, address, &folder.join("nginx.log"));
        add("nginx", server, vec![key.clone()]);
    }
    let portkey = PathBuf::from("target/peers/node_modules/@portkey-ai/gateway/build/start-server.js");
    if portkey.exists() {
        let address = free_address()?;
        let mut command = Command::new("node");
        command
            .arg(&portkey)
            .arg("--headless")
            .arg(format!("--port={}", address.port()));
        let server = Server::start(&mut command, address, &folder.join("portkey.log"));
        let headers = vec![
            key.clone(),
            ("x-portkey-provider", "openai".to_owned()),
            ("x-portkey-custom-host", format!("http://{upstream}/v1")),
        ];
        add("Portkey", server, headers);
    }
    let litellm = PathBuf::from("target/peers/venv/bin/litellm");
    if litellm.exists() {
        let address = free_address()?;
        let config = folder.join("litellm.json");
        let list: Vec<_> = models
            .iter()
            .map(|model| {
                json!({ "model_name": model, "litellm_params": {
                    "model": format!("openai/{model}"), "api_base": format!("http://{upstream}/v1"), "api_key": "sk-good-0" } })
            })
            .collect();
        fs::write(&config, json!({ "model_list": list }).to_string())?;
        let mut command = Command::new(fs::canonicalize(&litellm)?);
        // Its prices are not needed, and may not be within reach.
        command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
        // It serves nobody without one.
        command.env("LITELLM_MASTER_KEY", "sk-good-00000000000000000000");
        command
            .arg("--config")
            .arg(&config)
            .arg("--port")
            .arg(address.port().to_string());
        command.arg("--host").arg("127.0.0.1").arg("--num_workers").arg("2");
        let server = Server::start(&mut command, address, &folder.join("litellm.log"));
        add("LiteLLM", server, vec![key]);
    }
    Ok(found)
}

fn nginx_config(folder: &Path, address: SocketAddr, upstream: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "daemon off; worker_processes 2; pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    client_max_body_size 64m; client_body_buffer_size 64k;
    keepalive_requests 1000000;
    upstream load {{ server {upstream}; keepalive 256; keepalive_requests 1000000; }}
    server {{
        listen {address};
        location / {{
            proxy_pass http://load; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_buffering off;
        }}
    }}
}}
"
    )
}

const ACCESS_KEY: &str = "access-key-of-the-benchmark";
const ADMIN_KEY: &str = "administrators-key-of-the-benchmark";

/// How many keys are added in one call.
const MOST_KEYS_A_CALL: usize = 50_000;
