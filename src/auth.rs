//! Who calls: clients by an access key, the administrator by the password or a session.

use std::net::IpAddr;

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
    if given.expose() == DEFAULT_AUTH_KEY && !is_local(request) {
        return Err(ApiError::default_credentials("auth_key"));
    }
    Ok(())
}

/// Lets a client pass that brings a provider's key of its own: whether it is any good is the provider's to judge, but without
/// one nobody is served, least of all with a key of the pool.
pub fn own_key<B>(request: &Request<B>) -> Result<(), ApiError> {
    client_credential(request).map(drop).ok_or_else(|| {
        ApiError::unauthorized(
            "No key was sent: this KeyStorm passes the client's own provider key on (variable forward_client_key_enabled).",
        )
    })
}

/// The credential that a client sent, wherever it put it.
pub fn client_credential<B>(request: &Request<B>) -> Option<Secret> {
    bearer(&request.headers)
        .or_else(|| KEY_HEADERS.iter().find_map(|name| text(&request.headers, name)))
        .map(Secret::new)
        .or_else(|| query_key(&request.query))
}

/// The password as it was sent by a script: as a bearer, or in the cookie as older scripts do.
pub fn admin_password<B>(settings: &Settings, request: &Request<B>, given: &str) -> Result<bool, ApiError> {
    if !settings.home_access_key.matches(given) {
        return Ok(false);
    }
    if given == DEFAULT_HOME_ACCESS_KEY && !is_local(request) {
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

/// Whether a request that a browser's cookie vouches for comes from the page itself: browsers say so in `Sec-Fetch-Site`,
/// older ones in `Origin`, which has to name the host that was addressed. Where neither is there, reading is fine and changing
/// is not.
pub fn is_same_origin<B>(request: &Request<B>) -> bool {
    let is_reading = matches!(request.method, Method::GET | Method::HEAD);
    match text(&request.headers, "sec-fetch-site") {
        // `none` is an address that somebody typed.
        Some(site) => site == "same-origin" || (is_reading && site == "none"),
        None => match text(&request.headers, "origin") {
            Some(origin) => origin
                .split_once("://")
                .is_some_and(|(_, host)| host.eq_ignore_ascii_case(&request.authority)),
            None => is_reading,
        },
    }
}

/// Whether the client came by https, here or to a proxy in front. A client that lies about it does so about its own cookie.
pub fn is_https<B>(request: &Request<B>) -> bool {
    request.scheme == "https" || text(&request.headers, "x-forwarded-proto") == Some("https")
}

/// Whether a browser says that another site's page has sent this request. Programs say nothing of the kind.
pub fn is_foreign<B>(request: &Request<B>) -> bool {
    let from_browser = ["sec-fetch-site", "origin"]
        .iter()
        .any(|name| request.headers.contains_key(*name));
    from_browser && !is_same_origin(request)
}

/// The address of the client as the host saw it, without its port. The host appends its header behind whatever the client
/// sent by the same name: only the last one is true.
pub fn client_address(headers: &HeaderMap) -> Option<&str> {
    let last = headers.get_all("spin-client-addr").iter().next_back()?.to_str().ok()?;
    let (address, _port) = last.rsplit_once(':')?;
    Some(address.trim_start_matches('[').trim_end_matches(']'))
}

/// Whether the client is on this very machine, came through no proxy, and speaks for nobody else. A browser on this machine
/// runs the pages of the whole world: it has to have addressed this machine by a name that no other can take (a page whose
/// own name was made to lead here would else read everything), and the page has to be of this machine too.
pub fn is_local<B>(request: &Request<B>) -> bool {
    let headers = &request.headers;
    let proxied = ["forwarded", "x-forwarded-for", "x-real-ip", "via"]
        .iter()
        .any(|name| headers.contains_key(*name));
    let address = client_address(headers).and_then(|address| address.parse().ok());
    let origin_is_local = headers.get_all(header::ORIGIN).iter().all(|origin| {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        origin.is_some_and(|(_, host)| names_this_machine(host))
    });
    !proxied && address.is_some_and(is_loopback) && names_this_machine(&request.authority) && origin_is_local
}

/// Whether a host, with or without its port, can be nothing but this machine.
fn names_this_machine(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.to_ascii_lowercase();
    let plain = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(&host);
    host == "localhost" || host.ends_with(".localhost") || plain.parse().is_ok_and(is_loopback)
}

const fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
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
        let cases: [(&[(&'static str, &'static str)], u16); 13] = [
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
            (
                &[("spin-client-addr", "127.0.0.1:1"), ("forwarded", "for=192.0.2.1")],
                403,
            ),
            (&[("spin-client-addr", "127.0.0.1:1"), ("via", "1.1 proxy")], 403),
            (&[("spin-client-addr", "127.0.0.1:1"), ("x-real-ip", "192.0.2.1")], 403),
            // A browser on this machine speaks for the page that it shows.
            (
                &[("spin-client-addr", "127.0.0.1:1"), ("origin", "http://localhost:5173")],
                200,
            ),
            (
                &[("spin-client-addr", "127.0.0.1:1"), ("origin", "https://evil.example")],
                403,
            ),
            (&[("spin-client-addr", "127.0.0.1:1"), ("origin", "null")], 403),
            (&[], 403),
        ];
        for (headers, status) in cases {
            let mut request = request("GET", "", &[("authorization", "Bearer yCENzh")]);
            request.authority = "127.0.0.1:3000".to_owned();
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
    fn a_name_that_may_lead_anywhere_is_not_this_machine() {
        let cases = [
            ("localhost", true),
            ("LOCALHOST:3000", true),
            ("keystorm.localhost:3000", true),
            ("127.0.0.1:3000", true),
            ("127.1.2.3", true),
            ("[::1]:3000", true),
            ("[::ffff:127.0.0.1]", true),
            // A page's own name that was made to lead to this machine.
            ("evil.example:3000", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("evillocalhost", false),
            ("192.0.2.1:3000", false),
            ("[fe80::1]:3000", false),
            ("", false),
        ];
        let settings = Settings::parse("").unwrap();
        for (authority, local) in cases {
            let mut request = request("GET", "", &[("spin-client-addr", "127.0.0.1:50000")]);
            request.authority = authority.to_owned();
            assert_eq!(is_local(&request), local, "{authority}");
            let passed = admin_password(&settings, &request, DEFAULT_HOME_ACCESS_KEY);
            assert_eq!(passed.is_ok_and(|passed| passed), local, "{authority}");
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
    fn a_cookie_vouches_for_the_page_itself_alone() {
        let cases: [(&str, &[(&'static str, &'static str)], bool); 13] = [
            ("GET", &[], true),
            ("GET", &[("sec-fetch-site", "none")], true),
            ("GET", &[("sec-fetch-site", "same-origin")], true),
            // Another port of the same host is the same site, and its cookies come along.
            ("GET", &[("sec-fetch-site", "same-site")], false),
            ("GET", &[("sec-fetch-site", "cross-site")], false),
            ("GET", &[("origin", "http://evil.example")], false),
            ("POST", &[("sec-fetch-site", "none")], false),
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
            let request = request(method, "", headers);
            assert_eq!(is_same_origin(&request), allowed, "{method} {headers:?}");
            // A program that sends no such header is nobody's page.
            assert_eq!(
                is_foreign(&request),
                !allowed && !headers.is_empty(),
                "{method} {headers:?}"
            );
        }
    }
}
