//! The administrator's sessions: `/api/login`, `/api/logout`, `/api/session`.

use std::{fmt::Write as _, net::IpAddr};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    auth,
    error::ApiError,
    handlers::{self, Context, read_body},
    ports::{KeyValueError, Ports, Request, Response, UnixMillis},
    settings::{DEFAULT_AUTH_KEY, DEFAULT_HOME_ACCESS_KEY},
    store::{self, reports, secrets},
};

/// Lets the administrator pass: by the password as a bearer, by a session's cookie, or by the password in that cookie, as
/// older scripts send it.
pub(super) async fn require<P: Ports>(context: &Context<P>, request: &Request<P::RequestBody>) -> Result<(), ApiError> {
    let missing =
        || ApiError::unauthorized("Sign in first, or send the administrator's key as `Authorization: Bearer KEY`.");
    if let Some(given) = auth::bearer(&request.headers) {
        if is_password(context, request, given).await? {
            return Ok(());
        }
        return Err(ApiError::unauthorized(
            "The administrator's key is wrong (variable home_access_key).",
        ));
    }
    let cookie = auth::cookie(&request.headers, COOKIE).ok_or_else(missing)?;
    if !auth::is_same_origin(request) {
        return Err(ApiError::forbidden(
            "cross_origin",
            "What a cookie vouches for has to come from the page itself.",
        ));
    }
    if session(context, cookie).await?.is_some() {
        return Ok(());
    }
    // A session that has run out is no guess, and its page goes on asking for a while.
    let is_guess = cookie.len() != ID_BYTES * 2 || !cookie.bytes().all(|byte| byte.is_ascii_hexdigit());
    let passed = if is_guess {
        is_password(context, request, cookie).await?
    } else {
        throttle(context, request).await?;
        auth::admin_password(&context.settings, request, cookie)?
    };
    if passed { Ok(()) } else { Err(missing()) }
}

/// Whether this is the administrator's password. An address that has failed too often has to wait; every failure counts.
pub async fn is_password<P: Ports, B>(
    context: &Context<P>,
    request: &Request<B>,
    given: &str,
) -> Result<bool, ApiError> {
    throttle(context, request).await?;
    let passed = auth::admin_password(&context.settings, request, given)?;
    if !passed {
        fail(context, request).await;
    }
    Ok(passed)
}

/// `POST /api/login` with `{"key"}`.
pub(super) async fn login<P: Ports>(
    context: &Context<P>,
    request: Request<P::RequestBody>,
) -> Result<Response<P>, ApiError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Login {
        key: String,
    }
    // Another site's page could sign its visitor in as somebody else.
    if auth::is_foreign(&request) {
        return Err(ApiError::forbidden(
            "cross_origin",
            "Signing in has to come from the page itself.",
        ));
    }
    let Request {
        headers,
        body,
        scheme,
        authority,
        method,
        path,
        query,
    } = request;
    let body = read_body(context, &headers, body, LOGIN_BYTES).await?;
    let request = Request {
        headers,
        body: (),
        scheme,
        authority,
        method,
        path,
        query,
    };
    let login: Login = serde_json::from_slice(&body).map_err(|_| ApiError::missing("key"))?;
    if !is_password(context, &request, &login.key).await? {
        return Err(ApiError::unauthorized(
            "The administrator's key is wrong (variable home_access_key).",
        ));
    }
    let ports = context.ports();
    ports.delete(&throttle_name(&request)).await.map_err(failed)?;
    let mut id = [0; ID_BYTES];
    ports.random(&mut id);
    let id = hex(&id);
    let now = context.started;
    let stored = Session {
        created_at: now.0,
        last_seen_at: now.0,
    };
    ports
        .set(&session_name(context, &id), &json_bytes(&stored)?)
        .await
        .map_err(failed)?;
    note(
        context,
        "login",
        auth::client_address(&request.headers).unwrap_or("unknown"),
    )
    .await;
    let mut response = handlers::json(StatusCode::OK, &json!({ "ok": true }))?;
    let secure = if auth::is_https(&request) { "; Secure" } else { "" };
    let cookie = format!(
        "{COOKIE}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}",
        SESSION_MS / 1000
    );
    response.headers.insert(header::SET_COOKIE, value(&cookie)?);
    Ok(response)
}

/// `POST /api/logout`
pub(super) async fn logout<P: Ports>(
    context: &Context<P>,
    request: &Request<P::RequestBody>,
) -> Result<Response<P>, ApiError> {
    if !auth::is_same_origin(request) {
        return Err(ApiError::forbidden(
            "cross_origin",
            "Signing out has to come from the page itself.",
        ));
    }
    if let Some(id) = auth::cookie(&request.headers, COOKIE) {
        context
            .ports()
            .delete(&session_name(context, id))
            .await
            .map_err(failed)?;
    }
    let mut response = handlers::json(StatusCode::OK, &json!({ "ok": true }))?;
    let cookie = format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    response.headers.insert(header::SET_COOKIE, value(&cookie)?);
    Ok(response)
}

/// `GET /api/session`: whether the caller is signed in, and what the administrator should know.
pub(super) async fn show<P: Ports>(
    context: &Context<P>,
    request: &Request<P::RequestBody>,
) -> Result<Response<P>, ApiError> {
    let signed_in = match require(context, request).await {
        Ok(()) => true,
        Err(error) if error.status == StatusCode::UNAUTHORIZED => false,
        Err(error) => return Err(error),
    };
    if !signed_in {
        return handlers::json(StatusCode::OK, &json!({ "signed_in": false, "warnings": [] }));
    }
    let settings = &context.settings;
    let mut warnings = Vec::new();
    let default_auth = settings.auth_keys.iter().any(|key| key.matches(DEFAULT_AUTH_KEY));
    if default_auth || settings.home_access_key.matches(DEFAULT_HOME_ACCESS_KEY) {
        warnings.push(json!({ "code": "default_credentials" }));
    }
    if settings.encryption_key.is_none() {
        warnings.push(json!({ "code": "no_encryption" }));
    }
    let instance = context.instance();
    if let Some(fault) = instance.relay.storage_fault().await {
        warnings.push(json!({ "code": "database_read_only", "message": fault }));
    }
    // A database that cannot even be read has its warning already.
    if !secrets::fits(&instance.database, &context.vault).await.unwrap_or(true) {
        warnings.push(json!({ "code": "wrong_encryption_key", "message": handlers::WRONG_KEY }));
    }
    let families = reports::families(&instance.database).await.unwrap_or_default();
    if families.families < families.keys {
        warnings.push(json!({ "code": "quota_families", "keys": families.keys, "families": families.families }));
    }
    let body = json!({
        "signed_in": true,
        "warnings": warnings,
        "version": env!("CARGO_PKG_VERSION"),
        "count_tokens": settings.count_tokens,
        "encryption": settings.encryption_key.is_some(),
        "quota_families": { "keys": families.keys, "families": families.families },
    });
    handlers::json(StatusCode::OK, &body)
}

/// `GET /api/sessions`. A session's id here is the digest that it is kept by: it opens nothing.
pub(super) async fn list<P: Ports>(
    context: &Context<P>,
    request: &Request<P::RequestBody>,
) -> Result<Response<P>, ApiError> {
    let ports = context.ports();
    let own = auth::cookie(&request.headers, COOKIE).map(|id| session_name(context, id));
    let mut sessions = Vec::new();
    for name in ports.list().await.map_err(failed)? {
        let Some(id) = name.strip_prefix(SESSION_PREFIX) else {
            continue;
        };
        let Some(stored) = ports.get(&name).await.map_err(failed)? else {
            continue;
        };
        let Ok(session) = serde_json::from_slice::<Session>(&stored) else {
            continue;
        };
        sessions.push(json!({
            "id": id,
            "created_at": session.created_at,
            "last_seen_at": session.last_seen_at,
            "current": own.as_ref() == Some(&name),
        }));
    }
    handlers::json(StatusCode::OK, &json!({ "sessions": sessions }))
}

/// `DELETE /api/sessions` with `{"ids"}`.
pub(super) async fn revoke<P: Ports>(context: &Context<P>, body: Bytes) -> Result<Response<P>, ApiError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Revoke {
        ids: super::selection::Many<String>,
    }
    let Revoke { ids } = super::selection::parse(&body)?;
    if ids.0.len() > MOST_REVOKED || ids.0.iter().any(|id| id.chars().count() > MOST_ID_LENGTH) {
        let message = format!("'ids' takes at most {MOST_REVOKED} ids of up to {MOST_ID_LENGTH} characters.");
        return Err(ApiError::invalid("ids", message));
    }
    for id in &ids.0 {
        context
            .ports()
            .delete(&format!("{SESSION_PREFIX}{id}"))
            .await
            .map_err(failed)?;
    }
    note(context, "sessions_revoked", &format!("{} sessions", ids.0.len())).await;
    handlers::json(StatusCode::OK, &json!({ "revoked": ids.0.len() }))
}

/// Writes into the audit trail. A database that cannot be written now keeps nobody from signing in or out.
async fn note<P: Ports>(context: &Context<P>, action: &str, detail: &str) {
    let _ = store::keys::record(&context.instance().database, "admin", action, detail, context.started).await;
}

/// A session as it is kept. Its id is kept as a digest: who reads the store cannot use it.
#[derive(Deserialize, Serialize)]
struct Session {
    created_at: i64,
    last_seen_at: i64,
}

/// Failed attempts of one address.
#[derive(Default, Deserialize, Serialize)]
struct Throttle {
    failures: u32,
    until: i64,
    /// When it failed the last time.
    #[serde(default)]
    last: i64,
}

async fn session<P: Ports>(context: &Context<P>, id: &str) -> Result<Option<Session>, ApiError> {
    let name = session_name(context, id);
    let Some(stored) = context.ports().get(&name).await.map_err(failed)? else {
        return Ok(None);
    };
    let Ok(mut session) = serde_json::from_slice::<Session>(&stored) else {
        return Ok(None);
    };
    let now = context.started;
    if now.since(UnixMillis(session.created_at)) > SESSION_MS {
        context.ports().delete(&name).await.map_err(failed)?;
        return Ok(None);
    }
    if now.since(UnixMillis(session.last_seen_at)) > SEEN_EVERY_MS {
        session.last_seen_at = now.0;
        context
            .ports()
            .set(&name, &json_bytes(&session)?)
            .await
            .map_err(failed)?;
    }
    Ok(Some(session))
}

/// Refuses an address that has failed too often, for as long as it has to wait.
async fn throttle<P: Ports, B>(context: &Context<P>, request: &Request<B>) -> Result<(), ApiError> {
    let stored = context.ports().get(&throttle_name(request)).await.map_err(failed)?;
    let throttle: Throttle = stored
        .and_then(|stored| serde_json::from_slice(&stored).ok())
        .unwrap_or_default();
    let wait = throttle.until.saturating_sub(context.started.0);
    if wait > 0 {
        return Err(ApiError::throttled(
            u64::try_from(wait).unwrap_or_default().div_ceil(1000),
        ));
    }
    Ok(())
}

/// Counts a failure: five are free, then the wait is a second and doubles to a quarter of an hour.
async fn fail<P: Ports, B>(context: &Context<P>, request: &Request<B>) {
    let name = throttle_name(request);
    let stored = context.ports().get(&name).await.ok().flatten();
    let mut throttle: Throttle = stored
        .and_then(|stored| serde_json::from_slice(&stored).ok())
        .unwrap_or_default();
    throttle.failures = throttle.failures.saturating_add(1);
    throttle.last = context.started.0;
    if throttle.failures >= FREE_FAILURES {
        let doublings = (throttle.failures - FREE_FAILURES).min(20);
        throttle.until = context.started.0 + (1000_i64 << doublings).min(MOST_WAIT_MS);
    }
    if let Ok(bytes) = json_bytes(&throttle) {
        // A store that fails does not throttle; it does not open either, since the key was wrong.
        let _ = context.ports().set(&name, &bytes).await;
    }
    if context.ports().seed().is_multiple_of(TIDY_ONE_IN) {
        // Nothing hangs on it: the next one that fails tidies up as well.
        let _ = tidy(context).await;
    }
}

/// Whoever has one IPv6 address has all of its /64.
fn throttle_name<B>(request: &Request<B>) -> String {
    let address = auth::client_address(&request.headers).unwrap_or("unknown");
    match address.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V6(six)) => {
            let [a, b, c, d, ..] = six.segments();
            format!("{THROTTLE_PREFIX}{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        Ok(IpAddr::V4(four)) => format!("{THROTTLE_PREFIX}{four}"),
        Err(_) => format!("{THROTTLE_PREFIX}{address}"),
    }
}

/// Forgets addresses that have been quiet for a day: the store has no end of time of its own for anything.
async fn tidy<P: Ports>(context: &Context<P>) -> Result<(), KeyValueError> {
    let ports = context.ports();
    for name in ports.list().await? {
        if !name.starts_with(THROTTLE_PREFIX) {
            continue;
        }
        let stored = ports.get(&name).await?.unwrap_or_default();
        let throttle: Throttle = serde_json::from_slice(&stored).unwrap_or_default();
        if context.started.since(UnixMillis(throttle.last)) > FORGET_MS {
            ports.delete(&name).await?;
        }
    }
    Ok(())
}

/// Changing the administrator's password ends all sessions: their names were made with the old one.
fn session_name<P: Ports>(context: &Context<P>, id: &str) -> String {
    format!("{SESSION_PREFIX}{}", hex(&context.settings.home_access_key.bind(id)))
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn json_bytes(value: &impl Serialize) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(value).map_err(|_| ApiError::internal("A session could not be written."))
}

fn value(text: &str) -> Result<HeaderValue, ApiError> {
    HeaderValue::from_str(text).map_err(|_| ApiError::internal("A cookie could not be written."))
}

fn failed(error: KeyValueError) -> ApiError {
    ApiError::database(&format!("the key-value store failed: {}", error.0))
}

/// The cookie's name, as older versions have it.
const COOKIE: &str = "auth-key";
const THROTTLE_PREFIX: &str = "throttle:";
const FORGET_MS: i64 = 86_400_000;
const TIDY_ONE_IN: u64 = 64;
const SESSION_PREFIX: &str = "session:";
const ID_BYTES: usize = 32;
const SESSION_MS: i64 = 30 * 86_400_000;
const SEEN_EVERY_MS: i64 = 60_000;
const LOGIN_BYTES: usize = 4096;
const FREE_FAILURES: u32 = 5;
const MOST_WAIT_MS: i64 = 900_000;
const MOST_REVOKED: usize = 1000;
const MOST_ID_LENGTH: usize = 200;
