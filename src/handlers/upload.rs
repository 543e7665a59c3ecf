//! Resumable uploads of files to Gemini. Google names a URL to which the bytes go, and clients send them there without any
//! credential: the URL is one. It has to lead back here, or the bytes would go past the pool's key and past the region that
//! requests leave from, and it has to be recognised when it comes back.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderValue};
use subtle::ConstantTimeEq as _;

use crate::{auth, error::ApiError, ports::Request, settings::Settings};

/// Where the client is to send to: this KeyStorm, as it was addressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// Takes it from the request that begins the upload. A proxy in front is believed: who lies sends its own bytes astray.
    pub fn of<B>(request: &Request<B>, group: &str) -> Self {
        let scheme = if auth::is_https(request) { "https" } else { "http" };
        let forwarded = request
            .headers
            .get("x-forwarded-host")
            .and_then(|host| host.to_str().ok());
        let host = forwarded.filter(|host| is_host(host)).unwrap_or(&request.authority);
        let mut origin = format!("{scheme}://{host}");
        if !group.is_empty() {
            let group = percent_encoding::utf8_percent_encode(group, percent_encoding::NON_ALPHANUMERIC);
            let _ = write!(origin, "/{group}");
        }
        Self(origin)
    }
}

/// Lets the URLs in an answer lead back here, with a token that [`authorize`] knows again.
pub fn lead_back(settings: &Settings, origin: &Origin, headers: &mut HeaderMap) {
    for name in URLS {
        let url = headers.get(name).and_then(|url| url.to_str().ok());
        let own = url.and_then(|url| led_back(settings, origin, url));
        if let Some(own) = own.and_then(|url| HeaderValue::from_str(&url).ok()) {
            headers.insert(name, own);
        }
    }
}

fn led_back(settings: &Settings, origin: &Origin, url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let (path, query) = rest.get(rest.find('/')?..)?.split_once('?')?;
    if !path.starts_with("/upload/") {
        return None;
    }
    let token = token(&settings.auth_keys.first()?.bind(&bound(upload_id(query)?)));
    let query = auth::without_key(query);
    Some(format!("{}{path}?{query}&{TOKEN}={token}", origin.0))
}

/// Whether a request that brings no credential brings the token of an upload. `None` when it has none to look at.
pub fn authorize<B>(settings: &Settings, request: &Request<B>) -> Option<Result<(), ApiError>> {
    if auth::client_credential(request).is_some() {
        return None;
    }
    let given = parameter(&request.query, TOKEN)?;
    let bound = bound(upload_id(&request.query)?);
    let fits =
        |key: &&crate::secret::Credential| bool::from(token(&key.bind(&bound)).as_bytes().ct_eq(given.as_bytes()));
    let Some(key) = settings.auth_keys.iter().find(fits) else {
        return Some(Err(ApiError::unauthorized(
            "The upload's URL is not one of this KeyStorm's.",
        )));
    };
    // Whoever knows the published default can make a token.
    if key.matches(crate::settings::DEFAULT_AUTH_KEY) && !auth::is_local(request) {
        return Some(Err(ApiError::default_credentials("auth_key")));
    }
    Some(Ok(()))
}

/// A query without the token: it goes no further.
pub fn without_token(query: &str) -> String {
    let kept: Vec<_> = query
        .split('&')
        .filter(|pair| pair.split('=').next() != Some(TOKEN))
        .collect();
    kept.join("&")
}

fn upload_id(query: &str) -> Option<&str> {
    parameter(query, "upload_id").filter(|id| !id.is_empty())
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// What the token is made of, so that nothing else that is bound to an access key can stand for it.
fn bound(upload_id: &str) -> String {
    format!("upload:{upload_id}")
}

fn token(digest: &[u8; 32]) -> String {
    digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn is_host(host: &str) -> bool {
    !host.is_empty()
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
}

const URLS: [&str; 2] = ["x-goog-upload-url", "x-goog-upload-control-url"];
const TOKEN: &str = "upload_token";

#[cfg(test)]
mod tests {
    use http::{HeaderName, Method};

    use super::*;

    fn request(query: &str, headers: &[(&'static str, &'static str)]) -> Request<()> {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        Request {
            method: Method::POST,
            path: "/upload/v1beta/files".to_owned(),
            query: query.to_owned(),
            scheme: "http".to_owned(),
            authority: "keystorm.example:3000".to_owned(),
            headers: headers.collect(),
            body: (),
        }
    }

    fn led(settings: &Settings, url: &'static str, origin: &Origin) -> String {
        let mut headers = HeaderMap::from_iter([(HeaderName::from_static(URLS[0]), HeaderValue::from_static(url))]);
        lead_back(settings, origin, &mut headers);
        headers[URLS[0]].to_str().unwrap().to_owned()
    }

    #[test]
    fn an_uploads_url_leads_back_and_is_known_again() {
        let settings = Settings::parse("auth_key=one,two").unwrap();
        let origin = Origin::of(
            &request(
                "",
                &[("x-forwarded-proto", "https"), ("x-forwarded-host", "edge.example")],
            ),
            "a b",
        );
        let url = led(
            &settings,
            "https://google.example/upload/v1beta/files?upload_id=AbC&upload_protocol=resumable",
            &origin,
        );
        let (path, query) = url.split_once('?').unwrap();
        assert_eq!(path, "https://edge.example/a%20b/upload/v1beta/files");
        assert_eq!(without_token(query), "upload_id=AbC&upload_protocol=resumable");
        assert_eq!(authorize(&settings, &request(query, &[])), Some(Ok(())));
        let forged = query.replace("AbC", "AbD");
        for (settings, query, status) in [
            (&settings, forged.as_str(), 401),
            (&Settings::parse("auth_key=other").unwrap(), query, 401),
        ] {
            let refused = authorize(settings, &request(query, &[])).unwrap().unwrap_err();
            assert_eq!(refused.status.as_u16(), status);
        }
        assert_eq!(
            authorize(&settings, &request("upload_id=AbC", &[])),
            None,
            "without a token the access key is asked for"
        );
        assert_eq!(
            authorize(&settings, &request(query, &[("x-goog-api-key", "one")])),
            None
        );
    }

    #[test]
    fn a_token_of_the_published_default_serves_this_machine_alone() {
        let settings = Settings::parse("").unwrap();
        let origin = Origin::of(&request("", &[]), "");
        let url = led(
            &settings,
            "https://google.example/upload/v1beta/files?upload_id=AbC",
            &origin,
        );
        let (path, query) = url.split_once('?').unwrap();
        assert_eq!(path, "http://keystorm.example:3000/upload/v1beta/files");
        let refused = authorize(&settings, &request(query, &[("spin-client-addr", "203.0.113.7:1")]))
            .unwrap()
            .unwrap_err();
        assert_eq!(refused.code.as_deref(), Some("default_credentials"));
    }

    #[test]
    fn what_is_no_upload_is_left_alone() {
        let settings = Settings::parse("auth_key=one").unwrap();
        let origin = Origin::of(&request("", &[("x-forwarded-host", "evil/path?x=")]), "");
        assert_eq!(origin, Origin("http://keystorm.example:3000".to_owned()));
        for url in [
            "https://google.example/other?upload_id=1",
            "https://google.example/upload/v1beta/files",
            "nonsense",
        ] {
            assert_eq!(led(&settings, url, &origin), url);
        }
    }
}
