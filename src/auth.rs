//! Who calls: clients by an access key, the administrator by the password or a session.

use http::{HeaderMap, Method, header};
use percent_encoding::percent_decode_str;

use crate::{
    error::ApiError,
    ports::Request,
    secret::Secret,
    settings::{DEFAULT_AUTH_KEY, DEFAULT_HOME_ACCESS_KEY, Settings},
};

/// Lets a client pass that sends one of the access keys.
pub fn client<B>(settings: &Settings, request: &Request<B>) -> Result<(), ApiError> {
    let given = client_credential(request).ok_or_else(|| {
        ApiError::unauthorized(
            "No access key was sent: send it as `Authorization: Bearer KEY` (or x-goog-api-key, x-api-key, api-key).",
        )
    })?;
    // Every key is compared, whichever fits, so that the time taken does not tell which one did.
    let matching = settings
        .auth_keys
        .iter()
        .filter(|key| key.matches(given.expose()))
        .count();
    if matching == 0 {
        return Err(ApiError::unauthorized(
            "The access key is not one of this KeyStorm's (variable auth_key).",
        ));
    }
    if given.expose() == DEFAULT_AUTH_KEY && !is_direct_loopback(&request.headers) {
        return Err(ApiError::default_credentials("auth_key"));
    }
    Ok(())
}

/// The credential that a client sent, wherever it put it.
pub fn client_credential<B>(request: &Request<B>) -> Option<Secret> {
    bearer(&request.headers)
        .or_else(|| KEY_HEADERS.iter().find_map(|name| text(&request.headers, name)))
        .map(Secret::new)
        .or_else(|| query_key(&request.query))
}

/// The password as it was sent by a script: as a bearer, or in the cookie as older scripts do.
pub fn admin_password(settings: &Settings, headers: &HeaderMap, given: &str) -> Result<bool, ApiError> {
    if !settings.home_access_key.matches(given) {
        return Ok(false);
    }
    if given == DEFAULT_HOME_ACCESS_KEY && !is_direct_loopback(headers) {
        return Err(ApiError::default_credentials("home_access_key"));
    }
    Ok(true)
}

/// The bearer token of `Authorization`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = text(headers, header::AUTHORIZATION.as_str())?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim())
        .filter(|token| !token.is_empty())
}

/// The value of a cookie.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

/// Whether a change that a browser's cookie vouches for comes from the page itself: browsers say so in `Sec-Fetch-Site`,
/// older ones in `Origin`, which has to name the host that was addressed.
pub fn is_same_origin<B>(request: &Request<B>) -> bool {
    if matches!(request.method, Method::GET | Method::HEAD) {
        return true;
    }
    match text(&request.headers, "sec-fetch-site") {
        Some(site) => site == "same-origin",
        None => text(&request.headers, "origin")
            .and_then(|origin| origin.split_once("://"))
            .is_some_and(|(_, host)| host.eq_ignore_ascii_case(&request.authority)),
    }
}

/// Whether the client came by https, here or to a proxy in front. A client that lies about it does so about its own cookie.
pub fn is_https<B>(request: &Request<B>) -> bool {
    request.scheme == "https" || text(&request.headers, "x-forwarded-proto") == Some("https")
}

/// The address of the client as the host saw it, without its port. The host appends its header behind whatever the client
/// sent by the same name: only the last one is true.
pub fn client_address(headers: &HeaderMap) -> Option<&str> {
    let last = headers.get_all("spin-client-addr").iter().next_back()?.to_str().ok()?;
    let (address, _port) = last.rsplit_once(':')?;
    Some(address.trim_start_matches('[').trim_end_matches(']'))
}

/// Whether the client is on this very machine and came through no proxy.
pub fn is_direct_loopback(headers: &HeaderMap) -> bool {
    let proxied = ["forwarded", "x-forwarded-for", "x-real-ip", "via"]
        .iter()
        .any(|name| headers.contains_key(*name));
    let address = client_address(headers).and_then(|address| address.parse::<std::net::IpAddr>().ok());
    !proxied && address.is_some_and(|address| address.to_canonical().is_loopback())
}

/// `query` without the client's key: it goes nowhere else.
pub fn without_key(query: &str) -> String {
    let kept: Vec<_> = query
        .split('&')
        .filter(|pair| !pair.is_empty() && !is_key(pair))
        .collect();
    kept.join("&")
}

fn query_key(query: &str) -> Option<Secret> {
    let (_, value) = query.split('&').find(|pair| is_key(pair))?.split_once('=')?;
    let value = percent_decode_str(value).decode_utf8().ok()?;
    Some(Secret::new(&*value)).filter(|key| !key.expose().is_empty())
}

fn is_key(pair: &str) -> bool {
    let name = pair.split('=').next().unwrap_or_default();
    percent_decode_str(name).decode_utf8_lossy() == "key"
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get(name)?
        .to_str()
        .ok()
        .map(str::trim)
        .filter(|value| !value.is_empty())
}

/// The headers, beside `Authorization`, in which clients send their key.
pub const KEY_HEADERS: [&str; 3] = ["x-goog-api-key", "x-api-key", "api-key"];

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn request(method: &str, query: &str, headers: &[(&'static str, &'static str)]) -> Request<()> {
        Request {
            method: method.parse().unwrap(),
            path: "/v1/models".to_owned(),
            query: query.to_owned(),
            scheme: "http".to_owned(),
            authority: "keys.example:3000".to_owned(),
            headers: headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect(),
            body: (),
        }
    }

    #[test]
    fn a_client_may_send_its_key_in_five_places() {
        let settings = Settings::parse("auth_key=right,other").unwrap();
        let cases: [(&str, &[(&'static str, &'static str)], u16); 11] = [
            ("", &[("authorization", "Bearer right")], 200),
            ("", &[("authorization", "bearer other")], 200),
            ("", &[("x-goog-api-key", "right")], 200),
            ("", &[("x-api-key", "right")], 200),
            ("", &[("api-key", "right")], 200),
            ("alt=sse&key=right", &[], 200),
            ("k%65y=ri%67ht", &[], 200),
            ("", &[("authorization", "Basic right")], 401),
            ("", &[("authorization", "Bearer wrong")], 401),
            ("keys=right", &[], 401),
            ("", &[], 401),
        ];
        for (query, headers, status) in cases {
            let result = client(&settings, &request("GET", query, headers));
            assert_eq!(
                result.map_or_else(|error| error.status.as_u16(), |()| 200),
                status,
                "{query} {headers:?}"
            );
        }
    }

    #[test]
    fn the_published_default_serves_a_direct_loopback_client_alone() {
        let settings = Settings::parse("").unwrap();
        let cases: [(&[(&'static str, &'static str)], u16); 7] = [
            (&[("spin-client-addr", "127.0.0.1:50000")], 200),
            (&[("spin-client-addr", "[::1]:50000")], 200),
            (&[("spin-client-addr", "[::ffff:127.0.0.1]:50000")], 200),
            (&[("spin-client-addr", "192.0.2.1:50000")], 403),
            // A client's own copy stands in front of the host's.
            (
                &[
                    ("spin-client-addr", "127.0.0.1:1"),
                    ("spin-client-addr", "192.0.2.1:50000"),
                ],
                403,
            ),
            (
                &[("spin-client-addr", "127.0.0.1:1"), ("x-forwarded-for", "192.0.2.1")],
                403,
            ),
            (&[], 403),
        ];
        for (headers, status) in cases {
            let mut request = request("GET", "", &[("authorization", "Bearer yCENzh")]);
            for (name, value) in headers {
                request
                    .headers
                    .append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            let result = client(&settings, &request);
            assert_eq!(
                result.map_or_else(|error| error.status.as_u16(), |()| 200),
                status,
                "{headers:?}"
            );
        }
    }

    #[test]
    fn the_key_is_taken_out_of_the_query() {
        let cases = [
            ("key=a", ""),
            ("alt=sse&key=a&x=1", "alt=sse&x=1"),
            ("k%65y=a&alt=sse", "alt=sse"),
            ("monkey=a", "monkey=a"),
        ];
        for (query, kept) in cases {
            assert_eq!(without_key(query), kept, "{query}");
        }
    }

    #[test]
    fn a_change_by_cookie_needs_the_same_origin() {
        let cases: [(&str, &[(&'static str, &'static str)], bool); 7] = [
            ("GET", &[], true),
            ("POST", &[], false),
            ("POST", &[("sec-fetch-site", "same-origin")], true),
            (
                "POST",
                &[("sec-fetch-site", "cross-site"), ("origin", "http://keys.example:3000")],
                false,
            ),
            ("POST", &[("origin", "http://keys.example:3000")], true),
            ("DELETE", &[("origin", "http://evil.example")], false),
            ("POST", &[("origin", "null")], false),
        ];
        for (method, headers, allowed) in cases {
            assert_eq!(
                is_same_origin(&request(method, "", headers)),
                allowed,
                "{method} {headers:?}"
            );
        }
    }
}
