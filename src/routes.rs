//! What a path asks for.

use std::borrow::Cow;

use http::{HeaderMap, Method, header};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::error::ApiError;

/// A route, with what its path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// For clients that speak OpenAI's API.
    OpenAi(OpenAi, Group),
    /// For clients that speak Gemini's API.
    Gemini(Gemini, Group),
    /// For the administrator.
    Admin(Admin),
    /// `OPTIONS` anywhere on the clients' side: a CORS preflight.
    Preflight,
    /// `GET /healthz`: the component runs.
    Health,
    /// `GET /readyz`: the database answers and the pool has keys.
    Ready,
    /// `GET /metrics`: Prometheus text.
    Metrics,
}

/// The key group that a path names; empty for the default group.
pub type Group = String;

/// OpenAI's routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenAi {
    /// `POST /v1/chat/completions`
    Chat,
    /// `POST /v1/completions`
    Completions,
    /// `POST /v1/embeddings`
    Embeddings,
    /// `GET /v1/models`
    Models,
    /// `GET /v1/models/{id}`; an id may hold slashes.
    Model(String),
    /// Any other path below `/v1`, given from its slash on: passed through.
    Other(String),
}

/// Gemini's routes: the whole path upstream, from `/v1beta`, `/v1` or `/upload` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gemini {
    /// The path upstream, percent-encoding kept.
    pub path: String,
    /// The model that the path names.
    pub model: Option<String>,
    /// The verb behind the colon, such as `generateContent`.
    pub verb: Option<String>,
}

impl Gemini {
    /// Verbs are posted, and models are only read; files, caches and tuned models have all methods.
    fn methods(&self) -> &'static str {
        match &self.verb {
            Some(_) => "POST",
            None if self.path.ends_with("/models") || self.path.contains("/models/") => "GET, HEAD",
            None => PASSED,
        }
    }
}

/// The administrator's routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admin {
    /// `/api/login`
    Login,
    /// `/api/logout`
    Logout,
    /// `/api/session`
    Session,
    /// `/api/sessions`
    Sessions,
    /// `/api/keys`
    Keys,
    /// `/api/keys/{id}/secret`
    Secret(i64),
    /// `/api/keys/check`
    Check,
    /// `/api/keys/export`
    Export,
    /// `/api/keys/import`
    Import,
    /// `/api/endpoints`
    Endpoints,
    /// `/api/stats`
    Stats,
    /// `/api/route`
    DryRun,
    /// `/api/settings`
    Settings,
    /// `/api/events`
    Events,
    /// `/api/egress`
    Egress,
    /// `/api/openapi.json`
    OpenApi,
}

/// Finds the route of a request, or says what is wrong: an unknown path, or a path that has other methods.
pub fn route(method: &Method, path: &str) -> Result<Route, ApiError> {
    if is_deceptive(path) {
        return Err(ApiError::unknown_url(method, path));
    }
    if let Some(rest) = path.strip_prefix("/api/") {
        let (admin, methods) = admin(rest).ok_or_else(|| ApiError::unknown_url(method, path))?;
        return allowed(method, methods).map(|()| Route::Admin(admin));
    }
    match path {
        "/healthz" => return allowed(method, "GET, HEAD").map(|()| Route::Health),
        "/readyz" => return allowed(method, "GET, HEAD").map(|()| Route::Ready),
        "/metrics" => return allowed(method, "GET, HEAD").map(|()| Route::Metrics),
        _ => {}
    }
    if method == Method::OPTIONS {
        return Ok(Route::Preflight);
    }
    let (group, rest) = split_group(path);
    // Clients that were set up for Google's own OpenAI layer reach the same routes by its paths.
    if let Some((openai, methods)) = rest.strip_prefix("/v1beta/openai").map(openai)
        && !matches!(openai, OpenAi::Other(_))
    {
        return allowed(method, methods).map(|()| Route::OpenAi(openai, group));
    }
    if let Some(gemini) = gemini(rest) {
        allowed(method, gemini.methods())?;
        return Ok(Route::Gemini(gemini, group));
    }
    let rest = rest
        .strip_prefix("/v1")
        .filter(|rest| rest.starts_with('/'))
        .or_else(|| bare(rest));
    let rest = rest.ok_or_else(|| ApiError::unknown_url(method, path))?;
    let (openai, methods) = openai(rest);
    allowed(method, methods)?;
    Ok(Route::OpenAi(openai, group))
}

/// Whether a path is the operator's, beside those of the administrator: no web page of another origin may read it.
pub fn is_operators(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/metrics")
}

/// Whether a request comes from a client of Google's: its newest ones call `/v1`, where OpenAI's are too, and differ by the
/// header of the key alone.
pub fn is_googles(headers: &HeaderMap) -> bool {
    headers.contains_key("x-goog-api-key") && !headers.contains_key(header::AUTHORIZATION)
}

/// The route of a path that both APIs have, for a client of Google's.
pub fn as_google(route: Route) -> Route {
    let Route::OpenAi(openai, group) = route else {
        return route;
    };
    let below = match &openai {
        OpenAi::Models => Some("/models".to_owned()),
        OpenAi::Model(id) => Some(format!("/models/{}", utf8_percent_encode(id, SEGMENT))),
        OpenAi::Other(path) => {
            let root = path.split('/').nth(1).unwrap_or_default();
            ["batches", "files"].contains(&root).then(|| path.clone())
        }
        OpenAi::Chat | OpenAi::Completions | OpenAi::Embeddings => None,
    };
    match below.map(|below| format!("/v1{below}")) {
        Some(path) => Route::Gemini(
            Gemini {
                model: match openai {
                    OpenAi::Model(id) => Some(id),
                    _ => None,
                },
                verb: None,
                path,
            },
            group,
        ),
        None => Route::OpenAi(openai, group),
    }
}

/// Whether a path is written so that another program could read another path in it: empty, dot and backslash segments,
/// plain or encoded however often, control characters, what is no UTF-8, matrix parameters. An encoded slash is fine inside
/// a model's name alone.
fn is_deceptive(path: &str) -> bool {
    let Ok(once) = percent_decode_str(path).decode_utf8() else {
        return true;
    };
    let slashes = |text: &str| text.bytes().filter(|byte| *byte == b'/').count();
    let encoded_slashes = slashes(&once) > slashes(path) && !path.contains("/models/");
    let mut plain = once.clone();
    for _ in 0..MOST_ENCODINGS {
        if plain.contains('%') {
            plain = Cow::Owned(percent_decode_str(&plain).decode_utf8_lossy().into_owned());
        }
    }
    !path.starts_with('/')
        || path.contains("//")
        || encoded_slashes
        || slashes(&plain) > slashes(&once)
        || plain.split('/').any(|part| matches!(part, "." | ".."))
        || plain.contains(['\\', ';'])
        || plain.chars().any(char::is_control)
        // What is encoded more often still is up to nothing good.
        || plain.contains("%25")
}

/// Splits `/{group}/rest` from `/rest`: the first segment is a group when what follows it is a route, and it is not one.
fn split_group(path: &str) -> (Group, &str) {
    let Some((first, _)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else {
        return (Group::new(), path);
    };
    let rest = path.get(first.len() + 1..).unwrap_or_default();
    let second = rest
        .strip_prefix('/')
        .map(|rest| rest.split('/').next().unwrap_or_default());
    if is_root(first) || !second.is_some_and(is_root) {
        return (Group::new(), path);
    }
    (percent_decode_str(first).decode_utf8_lossy().into_owned(), rest)
}

/// Whether keys of a group of this name can be reached: it stands as the first segment of a path.
pub fn is_group_name(name: &str) -> bool {
    let is_plain = |letter: char| !letter.is_control() && !"/\\;?#%".contains(letter);
    name.chars().all(is_plain) && !TAKEN.contains(&name) && !BARE.contains(&name)
}

/// Whether a path can begin with this segment when it names no group.
fn is_root(segment: &str) -> bool {
    matches!(segment, "v1" | "v1beta" | "upload") || BARE.contains(&segment)
}

/// OpenAI's routes work without `/v1` too: some clients take the base URL without it.
fn bare(path: &str) -> Option<&str> {
    let first = path.strip_prefix('/')?.split('/').next()?;
    BARE.contains(&first).then_some(path)
}

fn openai(rest: &str) -> (OpenAi, &'static str) {
    match rest {
        "/chat/completions" => (OpenAi::Chat, "POST"),
        "/completions" => (OpenAi::Completions, "POST"),
        "/embeddings" => (OpenAi::Embeddings, "POST"),
        "/models" => (OpenAi::Models, "GET, HEAD"),
        _ => match rest.strip_prefix("/models/").filter(|id| !id.is_empty()) {
            Some(id) => (
                OpenAi::Model(percent_decode_str(id).decode_utf8_lossy().into_owned()),
                "GET, HEAD, DELETE",
            ),
            None => (OpenAi::Other(rest.to_owned()), PASSED),
        },
    }
}

/// Gemini's native routes: all of `/v1beta` and `/upload/v1beta`, and the models of `/v1` when a verb follows.
fn gemini(path: &str) -> Option<Gemini> {
    let below = ["/v1beta/", "/upload/v1beta/", "/upload/v1/"]
        .iter()
        .find_map(|root| path.strip_prefix(root));
    let (below, native) = match below {
        Some(below) => (below, true),
        None => (path.strip_prefix("/v1/")?, false),
    };
    let named = below
        .strip_prefix("models/")
        .or_else(|| below.strip_prefix("tunedModels/"))
        .unwrap_or_default();
    let (model, verb) = match named.split_once(':') {
        Some((model, verb)) => (model, Some(verb.to_owned())),
        None => (named, None),
    };
    if !native && verb.is_none() {
        return None;
    }
    let model = percent_decode_str(model).decode_utf8_lossy().into_owned();
    Some(Gemini {
        path: path.to_owned(),
        model: Some(model).filter(|model| !model.is_empty()),
        verb,
    })
}

fn admin(rest: &str) -> Option<(Admin, &'static str)> {
    let known = ADMIN.iter().find(|(path, ..)| *path == rest && !path.contains('{'));
    if let Some((_, route, methods)) = known {
        return Some((*route, methods));
    }
    let id = rest.strip_prefix("keys/")?.strip_suffix("/secret")?;
    Some((Admin::Secret(id.parse().ok()?), "GET, HEAD"))
}

fn allowed(method: &Method, methods: &'static str) -> Result<(), ApiError> {
    if methods.split(", ").any(|name| name == method.as_str()) {
        Ok(())
    } else {
        Err(ApiError::method_not_allowed(methods))
    }
}

/// How often something may be encoded over and over and still be looked through.
const MOST_ENCODINGS: usize = 3;

/// What cannot stand in a path's segment as it is; a model's name may hold slashes.
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}');

/// The methods of what is passed through: neither TRACE nor CONNECT goes anywhere.
const PASSED: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";

/// The administrator's routes below `/api/`, with their methods.
pub(crate) const ADMIN: [(&str, Admin, &str); 16] = [
    ("login", Admin::Login, "POST"),
    ("logout", Admin::Logout, "POST"),
    ("session", Admin::Session, "GET, HEAD"),
    ("sessions", Admin::Sessions, "GET, HEAD, DELETE"),
    ("keys", Admin::Keys, "GET, HEAD, POST, PATCH, DELETE"),
    ("keys/{id}/secret", Admin::Secret(0), "GET, HEAD"),
    ("keys/check", Admin::Check, "GET, HEAD, POST"),
    ("keys/export", Admin::Export, "GET, HEAD"),
    ("keys/import", Admin::Import, "POST"),
    ("endpoints", Admin::Endpoints, "GET, HEAD"),
    ("stats", Admin::Stats, "GET, HEAD"),
    ("route", Admin::DryRun, "GET, HEAD"),
    ("settings", Admin::Settings, "GET, HEAD, PUT"),
    ("events", Admin::Events, "GET, HEAD"),
    ("egress", Admin::Egress, "GET, HEAD"),
    ("openapi.json", Admin::OpenApi, "GET, HEAD"),
];

/// First segments that are no group's, beside OpenAI's.
pub(crate) const TAKEN: [&str; 11] = [
    ".",
    "..",
    "v1",
    "v1beta",
    "upload",
    "api",
    "assets",
    "healthz",
    "readyz",
    "metrics",
    ".well-known",
];

/// The first segments of OpenAI's API below `/v1`.
pub(crate) const BARE: [&str; 22] = [
    "assistants",
    "audio",
    "batches",
    "chat",
    "completions",
    "containers",
    "conversations",
    "embeddings",
    "evals",
    "files",
    "fine_tuning",
    "images",
    "models",
    "moderations",
    "organization",
    "realtime",
    "responses",
    "threads",
    "uploads",
    "vector_stores",
    "videos",
    "rerank",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn gemini_route(path: &str, model: Option<&str>, verb: Option<&str>, group: &str) -> Route {
        let (model, verb) = (model.map(str::to_owned), verb.map(str::to_owned));
        Route::Gemini(
            Gemini {
                path: path.to_owned(),
                model,
                verb,
            },
            group.to_owned(),
        )
    }

    fn openai_route(openai: OpenAi, group: &str) -> Route {
        Route::OpenAi(openai, group.to_owned())
    }

    #[test]
    fn each_path_has_its_route() {
        let other = |path: &str| OpenAi::Other(path.to_owned());
        let model = |id: &str| OpenAi::Model(id.to_owned());
        let generate = "/v1beta/models/gemini-2.5-flash:generateContent";
        let cases = [
            ("POST", "/v1/chat/completions", openai_route(OpenAi::Chat, "")),
            ("POST", "/chat/completions", openai_route(OpenAi::Chat, "")),
            (
                "POST",
                "/team-a/v1/chat/completions",
                openai_route(OpenAi::Chat, "team-a"),
            ),
            ("POST", "/team-a/chat/completions", openai_route(OpenAi::Chat, "team-a")),
            (
                "POST",
                "/%E7%BB%84/v1/embeddings",
                openai_route(OpenAi::Embeddings, "组"),
            ),
            ("GET", "/v1/models", openai_route(OpenAi::Models, "")),
            ("GET", "/models", openai_route(OpenAi::Models, "")),
            (
                "GET",
                "/v1/models/meta-llama/llama-4",
                openai_route(model("meta-llama/llama-4"), ""),
            ),
            (
                "GET",
                "/v1/models/meta-llama%2Fllama-4",
                openai_route(model("meta-llama/llama-4"), ""),
            ),
            ("POST", "/v1/responses", openai_route(other("/responses"), "")),
            (
                "POST",
                "/v1/audio/transcriptions",
                openai_route(other("/audio/transcriptions"), ""),
            ),
            ("POST", "/g/responses", openai_route(other("/responses"), "g")),
            ("DELETE", "/v1/files/file-1", openai_route(other("/files/file-1"), "")),
            (
                "POST",
                generate,
                gemini_route(generate, Some("gemini-2.5-flash"), Some("generateContent"), ""),
            ),
            (
                "POST",
                "/g/v1/models/m:countTokens",
                gemini_route("/v1/models/m:countTokens", Some("m"), Some("countTokens"), "g"),
            ),
            ("GET", "/v1beta/models", gemini_route("/v1beta/models", None, None, "")),
            (
                "POST",
                "/upload/v1beta/files",
                gemini_route("/upload/v1beta/files", None, None, ""),
            ),
            (
                "POST",
                "/v1beta/openai/chat/completions",
                openai_route(OpenAi::Chat, ""),
            ),
            (
                "POST",
                "/g/v1beta/openai/embeddings",
                openai_route(OpenAi::Embeddings, "g"),
            ),
            (
                "POST",
                "/v1beta/openai/images",
                gemini_route("/v1beta/openai/images", None, None, ""),
            ),
            (
                "POST",
                "/100%25/v1/chat/completions",
                openai_route(OpenAi::Chat, "100%"),
            ),
            ("OPTIONS", "/v1/anything", Route::Preflight),
            ("GET", "/healthz", Route::Health),
            ("PATCH", "/api/keys", Route::Admin(Admin::Keys)),
            ("GET", "/api/keys/7/secret", Route::Admin(Admin::Secret(7))),
        ];
        for (method, path, expected) in cases {
            assert_eq!(route(&method.parse().unwrap(), path), Ok(expected), "{method} {path}");
        }
    }

    #[test]
    fn a_group_is_reached_or_its_name_is_refused() {
        let encoded =
            |name: &str| percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string();
        for name in ["team-a", "组", "a b", "a.b", "a+b", "<b>", "\u{1f642}"] {
            assert!(is_group_name(name), "{name}");
            let path = format!("/{}/v1/chat/completions", encoded(name));
            assert_eq!(
                route(&Method::POST, &path),
                Ok(openai_route(OpenAi::Chat, name)),
                "{path}"
            );
        }
        for name in ["..", "v1", "chat", "models", "api", "a/b", "a\\b", "a;b", "a%b", "a\nb"] {
            assert!(!is_group_name(name), "{name:?}");
        }
    }

    #[test]
    fn a_path_that_is_none_is_refused() {
        let cases = [
            ("GET", "/nothing", 404),
            ("GET", "/v1", 404),
            ("GET", "/api/nothing", 404),
            ("GET", "/api/keys/x/secret", 404),
            ("GET", "/api/keys/{id}/secret", 404),
            ("POST", "/api/keys/7/secret", 405),
            ("GET", "/v1/chat/completions", 405),
            ("OPTIONS", "/api/keys", 405),
            ("TRACE", "/v1beta/files", 405),
            ("PUT", "/v1beta/models", 405),
            ("TRACE", "/v1/files", 405),
            ("GET", "/v1beta/models/m:generateContent", 405),
            ("CONNECT", "/v1beta/models/m:generateContent", 405),
            ("post", "/v1beta/models/m:generateContent", 405),
            ("POST", "/v1//chat/completions", 404),
            ("POST", "//v1/chat/completions", 404),
            ("POST", "/v1/../api/keys", 404),
            ("POST", "/v1/%2e%2e/api/keys", 404),
            ("POST", "/v1/.%2E/api/keys", 404),
            ("POST", "/v1/files%2f..%2fadmin", 404),
            ("GET", "/v1/models/..%2f..%2fadmin", 404),
            ("POST", "/v1/chat;x=1/completions", 404),
            ("POST", "/v1/chat%5ccompletions", 404),
            ("POST", "/v1/chat\\completions", 404),
            ("POST", "/v1/chat%3bx=1/completions", 404),
            ("POST", "/v1/%252e%252e/api/keys", 404),
            ("POST", "/v1/files%252f..%252fadmin", 404),
            ("POST", "/v1/%25252e%25252e/x", 404),
            ("POST", "/v1/%252525252525252e/x", 404),
            ("GET", "/v1/models/x%252f%252e%252e%252fadmin", 404),
            ("POST", "/v1/%c0%ae%c0%ae/api/keys", 404),
            ("POST", "/v1/files/%ff", 404),
            ("POST", "/v1/files%0d%0aHost:%20evil/x", 404),
            ("POST", "/v1/files%00", 404),
            ("POST", "/v1/files/.", 404),
            ("POST", "/v1beta/./models/m:generateContent", 404),
            ("POST", "/v1beta/models/..%2f..%2fx:generateContent", 404),
            ("POST", "/%2e%2e/v1/chat/completions", 404),
            ("POST", "/api%2fkeys", 404),
            ("POST", "/API/keys", 404),
            ("POST", "/api/keys/", 404),
            ("POST", "@evil.example/v1/chat/completions", 404),
            ("POST", "http://elsewhere/v1/chat/completions", 404),
        ];
        for (method, path, status) in cases {
            let error = route(&method.parse().unwrap(), path).unwrap_err();
            assert_eq!(error.status.as_u16(), status, "{method} {path}");
        }
    }

    #[test]
    fn a_client_of_googles_is_known_by_its_header() {
        let google = HeaderMap::from_iter([(
            http::HeaderName::from_static("x-goog-api-key"),
            http::HeaderValue::from_static("k"),
        )]);
        assert!(is_googles(&google));
        let mut both = google.clone();
        both.insert(header::AUTHORIZATION, http::HeaderValue::from_static("Bearer k"));
        assert!(!is_googles(&both) && !is_googles(&HeaderMap::new()));
        let turned = |path: &str| as_google(route(&Method::GET, path).unwrap());
        assert_eq!(turned("/v1/models"), gemini_route("/v1/models", None, None, ""));
        assert_eq!(
            turned("/g/v1/models/gemini-x"),
            gemini_route("/v1/models/gemini-x", Some("gemini-x"), None, "g")
        );
        assert_eq!(turned("/v1/files/abc"), gemini_route("/v1/files/abc", None, None, ""));
        assert_eq!(
            turned("/v1/responses/x"),
            openai_route(OpenAi::Other("/responses/x".to_owned()), "")
        );
        assert_eq!(
            as_google(route(&Method::POST, "/v1/chat/completions").unwrap()),
            openai_route(OpenAi::Chat, "")
        );
    }
}
