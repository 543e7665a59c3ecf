//! The application of one instance: what the host adapter and the tests call.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::Value;

use crate::{
    access_log::Asked,
    auth,
    catalogue::Catalogue,
    error::ApiError,
    handlers::{self, Context, Dialect},
    headers, metrics,
    pool::{Selection, Target},
    ports::{Body, Ports, Request, Response, SqlError, UnixMillis},
    relay,
    routes::{self, Route},
    settings::{LogRequests, Settings},
    store::Database,
    translate::signatures::Signatures,
    turns::Turns,
    vault::Vault,
};

/// The application. Cloning yields another handle to the same instance.
pub struct App<P: Ports>(Rc<Instance<P>>);

/// What an instance keeps between requests. All of it is a cache: the truth is in the database, and several instances run
/// side by side.
pub struct Instance<P: Ports> {
    /// The host.
    pub ports: P,
    /// The database.
    pub database: Rc<Database<P>>,
    /// Key selection and health, and what is to be written of it.
    pub relay: relay::Relay<P>,
    /// What the bodies of requests under way hold of the memory.
    pub memory: handlers::Memory,
    settings: Kept<Result<(Rc<Settings>, Rc<Vault>), Rc<[String]>>>,
    catalogue: Kept<Rc<Catalogue>>,
    reading: Turns<()>,
    models: RefCell<HashMap<String, (Rc<Vec<Value>>, UnixMillis)>>,
    signatures: RefCell<Signatures>,
}

impl<P: Ports> App<P> {
    /// A new instance's application. Nothing is read before the first request.
    pub fn new(ports: P) -> Self {
        let database = Rc::new(Database::new(ports.clone()));
        Self(Rc::new(Instance {
            relay: relay::Relay::new(ports.clone(), Rc::clone(&database)),
            ports,
            database,
            memory: handlers::Memory::default(),
            settings: Kept::default(),
            catalogue: Kept::default(),
            reading: Turns::default(),
            models: RefCell::default(),
            signatures: RefCell::default(),
        }))
    }

    /// Answers one request. Whatever goes wrong becomes an answer in the dialect of the route.
    pub async fn handle(&self, request: Request<P::RequestBody>) -> Response<P> {
        let started = self.0.ports.now();
        let request_id = request_id(&request.headers, self.0.ports.seed());
        let mut dialect = Dialect::of(&request.path);
        let is_googles = routes::is_googles(&request.headers);
        let asked = Asked::of(&request.method, &request.path, &request.headers);
        let is_operators = routes::is_operators(&request.path);
        let mut origin = String::from("*");
        let mut told = LogRequests::default();
        let mut is_edge = false;
        let mut label = None;
        let answer = match self.settings(started).await {
            Ok((settings, vault)) => {
                origin.clone_from(&settings.cors_allow_origin);
                told = settings.log_requests;
                is_edge = settings.home_url.is_some();
                let context = Context {
                    app: self.clone(),
                    settings,
                    vault,
                    started,
                    request_id: request_id.clone(),
                };
                if is_edge {
                    handlers::edge::forward(&context, request).await
                } else {
                    let mut route = routes::route(&request.method, &request.path);
                    if is_googles {
                        route = route.map(routes::as_google);
                        if matches!(route, Ok(Route::Gemini(..))) {
                            dialect = Dialect::Gemini;
                        }
                    }
                    label = route.as_ref().map_or(Some("unknown"), metrics::label);
                    match route {
                        Ok(route) => dispatch(context, route, request).await,
                        Err(error) => Err(error),
                    }
                }
            }
            Err(error) => Err(error),
        };
        let is_homes = is_edge && answer.is_ok();
        let mut response = answer.unwrap_or_else(|error| dialect.error(&error));
        headers::as_data(&mut response.headers);
        match dialect {
            // What the home answered is whole: it has its own settings.
            _ if is_homes => {}
            Dialect::Admin => {
                let no_store = HeaderValue::from_static("no-store");
                response.headers.insert(header::CACHE_CONTROL, no_store);
            }
            Dialect::OpenAi | Dialect::Gemini if is_operators => {}
            Dialect::OpenAi | Dialect::Gemini => headers::allow_origin(&mut response.headers, &origin),
        }
        if let Ok(id) = HeaderValue::from_str(&request_id) {
            response.headers.insert(HeaderName::from_static("x-request-id"), id);
        }
        let now = self.0.ports.now();
        if let Some(label) = label {
            let content_type = response.headers.get(header::CONTENT_TYPE);
            let is_stream = content_type.is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
            self.0
                .relay
                .observe(label, response.status, now.since(started), is_stream);
        }
        if let Some(line) = asked.line(
            &request_id,
            told,
            response.status.as_u16(),
            &response.headers,
            started,
            now,
        ) {
            self.0.ports.log(&line);
        }
        response
    }

    /// What the instance keeps.
    pub fn instance(&self) -> &Instance<P> {
        &self.0
    }

    /// The models of the endpoints and the operator's aliases, read again when they are older than `pool_ttl_ms`. While the
    /// database is out of reach what was read before goes on serving.
    pub async fn catalogue(&self, settings: &Settings, now: UnixMillis) -> Rc<Catalogue> {
        self.read_catalogue(settings, || None, now).await
    }

    /// The same where a request waits that most likely is for what `guess` says: a hand for it is read along. Nothing is guessed
    /// while the catalogue is fresh.
    pub async fn catalogue_for(
        &self,
        settings: &Settings,
        guess: impl FnOnce() -> Target,
        now: UnixMillis,
    ) -> Rc<Catalogue> {
        // Where the conversation decides, it is not known yet.
        let guess = || (settings.selection != Selection::Sticky).then(guess);
        self.read_catalogue(settings, guess, now).await
    }

    async fn read_catalogue(
        &self,
        settings: &Settings,
        guess: impl FnOnce() -> Option<Target>,
        now: UnixMillis,
    ) -> Rc<Catalogue> {
        let mut now = now;
        if let Some(catalogue) = self.0.catalogue.fresh(now, settings.pool_ttl_ms) {
            return catalogue;
        }
        let turn = self.0.reading.take(&(), async |ms| self.0.ports.sleep(ms).await).await;
        if turn.is_none() {
            now = self.0.ports.now();
            if let Some(catalogue) = self.0.catalogue.fresh(now, settings.pool_ttl_ms) {
                return catalogue;
            }
        }
        let read: Result<Catalogue, SqlError> = match guess() {
            Some(guess) => self.0.relay.read_catalogue(&guess).await,
            None => Catalogue::read(&self.0.database).await,
        };
        let catalogue = match read {
            Ok(catalogue) => Rc::new(catalogue),
            Err(_) => self.0.catalogue.any().unwrap_or_default(),
        };
        self.0.catalogue.keep(Rc::clone(&catalogue), now);
        catalogue
    }

    /// The models of a group, when they were asked for lately.
    pub fn kept_models(&self, group: &str, now: UnixMillis) -> Option<Rc<Vec<Value>>> {
        let kept = self.0.models.borrow();
        let (models, read_at) = kept.get(group)?;
        (0..=MODELS_TTL_MS)
            .contains(&now.since(*read_at))
            .then(|| Rc::clone(models))
    }

    /// Keeps the models of a group for a while.
    pub fn keep_models(&self, group: &str, models: Rc<Vec<Value>>, now: UnixMillis) {
        let mut kept = self.0.models.borrow_mut();
        if kept.len() >= MOST_GROUPS {
            kept.clear();
        }
        kept.insert(group.to_owned(), (models, now));
    }

    /// The thought signature that came with a tool call, for clients that do not send it back. This instance may not be the
    /// one that saw it: then a dummy has to do.
    pub fn recall_signature(&self, id: &str, now: UnixMillis) -> Option<String> {
        self.0.signatures.borrow().recall(id, now).map(str::to_owned)
    }

    /// Keeps thought signatures by the ids of their calls.
    pub fn remember_signatures(&self, signatures: &[(String, String)]) {
        if !signatures.is_empty() {
            let now = self.0.ports.now();
            let mut kept = self.0.signatures.borrow_mut();
            for (id, signature) in signatures {
                kept.remember(id, signature, now);
            }
        }
    }

    /// Forgets what was read: the administrator has changed something through this instance.
    pub fn forget(&self) {
        self.0.catalogue.drop_value();
        self.0.models.borrow_mut().clear();
        self.0.relay.forget();
    }

    async fn settings(&self, now: UnixMillis) -> Result<(Rc<Settings>, Rc<Vault>), ApiError> {
        let kept = match self.0.settings.fresh(now, SETTINGS_TTL_MS) {
            Some(kept) => kept,
            None => {
                let read = match self.0.ports.variable("settings").await {
                    Ok(text) => Settings::parse(&text.unwrap_or_default()).map_err(Rc::from),
                    Err(error) => Err(Rc::from([format!("the variables could not be read: {error}")])),
                };
                let read = read.map(|settings| {
                    let vault = Rc::new(Vault::new(settings.encryption_key.as_ref()));
                    self.0.relay.configure(&settings, Rc::clone(&vault));
                    (Rc::new(settings), vault)
                });
                self.0.settings.keep(read.clone(), now);
                read
            }
        };
        kept.map_err(|faults| ApiError::misconfigured(&faults))
    }
}

impl<P: Ports> Clone for App<P> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

async fn dispatch<P: Ports>(
    context: Context<P>,
    route: Route,
    request: Request<P::RequestBody>,
) -> Result<Response<P>, ApiError> {
    if request.path.len() + request.query.len() > MOST_URL_LENGTH {
        return Err(ApiError::uri_too_long(MOST_URL_LENGTH));
    }
    match route {
        Route::Preflight => Ok(preflight(&request.headers)),
        Route::Health => handlers::health::live(&context),
        Route::Ready => handlers::health::ready(&context).await,
        Route::Metrics => handlers::health::metrics(&context, &request).await,
        Route::Admin(admin) => handlers::admin::answer(context, admin, request).await,
        Route::OpenAi(route, group) => {
            authorize(&context, &request)?;
            handlers::openai(context, route, group, request).await
        }
        Route::Gemini(route, group) => {
            // The bytes of an upload come without a credential, to a URL that was given out for them.
            let is_upload = !context.settings.forward_client_key && route.path.starts_with("/upload/");
            let by_url = is_upload.then(|| handlers::upload::authorize(&context.settings, &request));
            by_url.flatten().unwrap_or_else(|| authorize(&context, &request))?;
            handlers::gemini(context, route, group, request).await
        }
    }
}

/// In pass-through mode the client's key is the provider's to judge.
fn authorize<P: Ports>(context: &Context<P>, request: &Request<P::RequestBody>) -> Result<(), ApiError> {
    if context.settings.forward_client_key {
        auth::own_key(request)
    } else {
        auth::client(&context.settings, request)
    }
}

fn preflight<P: Ports>(asked: &HeaderMap) -> Response<P> {
    let mut headers = HeaderMap::new();
    headers::preflight(&mut headers, asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS));
    Response {
        status: StatusCode::NO_CONTENT,
        headers,
        body: Body::Full(Bytes::new()),
    }
}

/// The client's own request id when it is a plain word, else a new one.
fn request_id(headers: &HeaderMap, seed: u64) -> String {
    let own = headers.get("x-request-id").and_then(|id| id.to_str().ok());
    let plain = own.filter(|id| {
        (1..=128).contains(&id.len())
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    });
    plain.map_or_else(|| format!("req_{seed:016x}"), str::to_owned)
}

/// A value and when it was read.
struct Kept<T>(RefCell<Option<(T, UnixMillis)>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(RefCell::new(None))
    }
}

impl<T: Clone> Kept<T> {
    fn fresh(&self, now: UnixMillis, ttl_ms: i64) -> Option<T> {
        let kept = self.0.borrow();
        let (value, read_at) = kept.as_ref()?;
        // A clock that was set back makes everything stale, not everlasting.
        (0..=ttl_ms).contains(&now.since(*read_at)).then(|| value.clone())
    }

    fn any(&self) -> Option<T> {
        self.0.borrow().as_ref().map(|(value, _)| value.clone())
    }

    fn keep(&self, value: T, now: UnixMillis) {
        self.0.replace(Some((value, now)));
    }

    fn drop_value(&self) {
        self.0.replace(None);
    }
}

/// The longest path with its query. Behind an endpoint's own URL it has to be a URL still.
const MOST_URL_LENGTH: usize = 16_384;

/// How long the variables are trusted. Most hosts never change them while an application runs; a provider such as Vault may.
const SETTINGS_TTL_MS: i64 = 5000;

/// How long a list of models is trusted.
const MODELS_TTL_MS: i64 = 300_000;

/// For how many groups one is kept.
const MOST_GROUPS: usize = 64;
