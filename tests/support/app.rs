//! The application over the host for tests, as a client and an administrator call it.

use futures::executor::block_on;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use keystorm::{
    app::App,
    ports::{Body, Request, Response},
};

use super::{Answer, Collected, FakePorts, Pieces};

/// What a healthy upstream answers.
pub const GOOD: Answer = Answer::Head(200, Vec::new(), "{\"ok\":true}");

const KEYS: &str = "auth_key=access\nhome_access_key=admin\n";

/// An application over a host for tests.
pub struct Test {
    pub app: App<FakePorts>,
    pub ports: FakePorts,
}

impl Test {
    /// With an upstream that answers by key and by how often that key was asked before. Dead keys are left alone.
    pub fn new(script: impl FnMut(&str, u64) -> Answer + 'static) -> Self {
        Self::with("recheck_interval_s=0\n", script)
    }

    /// The same with these variables.
    pub fn with(variables: &str, script: impl FnMut(&str, u64) -> Answer + 'static) -> Self {
        Self::over(FakePorts::new(&format!("{KEYS}{variables}"), script))
    }

    /// The same over a database in a file.
    pub fn on_file(path: &std::path::Path, script: impl FnMut(&str, u64) -> Answer + 'static) -> Self {
        Self::over(FakePorts::on_file(
            path,
            &format!("{KEYS}recheck_interval_s=0\n"),
            script,
        ))
    }

    /// An instance that is new to this host.
    pub fn over(ports: FakePorts) -> Self {
        Self {
            app: App::new(ports.clone()),
            ports,
        }
    }

    /// Adds `count` keys with this name, numbered.
    pub fn add(&self, name: &str, count: usize) -> &Self {
        let keys: Vec<_> = (0..count).map(|number| format!("{name}-{number:06}")).collect();
        let body = serde_json::json!({ "keys": keys, "apiType": "openai" }).to_string();
        let (status, _, text) = self.call("POST", "/api/keys", "admin", &body);
        assert_eq!(status, 200, "{text}");
        self
    }

    /// Asks for a chat completion.
    pub fn chat(&self) -> (u16, HeaderMap, String) {
        self.call(
            "POST",
            "/v1/chat/completions",
            "access",
            r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#,
        )
    }

    /// Calls a route.
    pub fn call(&self, method: &str, path: &str, key: &str, body: &str) -> (u16, HeaderMap, String) {
        let bearer = HeaderValue::from_str(&format!("Bearer {key}")).unwrap();
        let json = HeaderValue::from_static("application/json");
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let request = Request {
            method: method.parse::<Method>().unwrap(),
            path: path.to_owned(),
            query: query.to_owned(),
            scheme: "http".to_owned(),
            authority: "localhost".to_owned(),
            headers: HeaderMap::from_iter([
                (HeaderName::from_static("authorization"), bearer),
                (HeaderName::from_static("content-type"), json),
            ]),
            body: Pieces::of(body),
        };
        let Response { status, headers, body } = block_on(self.app.handle(request));
        let body = match body {
            Body::Full(bytes) => bytes,
            Body::Forward(body) => block_on(keystorm::handlers::fetch::whole(body)).unwrap(),
            Body::Stream(produce) => {
                let sink = Collected::default();
                block_on(produce(sink.clone()));
                sink.writes.borrow().concat().into()
            }
        };
        (status.as_u16(), headers, String::from_utf8(body.to_vec()).unwrap())
    }

    /// How many keys are in a state.
    pub fn count(&self, state: &str) -> i64 {
        self.ports.drain();
        self.ports
            .rows(&format!("SELECT COUNT(*) FROM keys WHERE state = '{state}'"))[0]
            .integer(0)
    }
}
