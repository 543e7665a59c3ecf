//! Which headers travel, in either direction.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// What of a client's headers goes upstream: what describes the content and what the providers' APIs define. No credential,
/// cookie, forwarding or hop-by-hop header, and nothing that the host adds; no `accept-encoding` either, since answers have
/// to stay readable, and no `content-length`, which the adapter sets for a body that it knows.
pub fn upward(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(8);
    for (name, value) in headers {
        if goes_up(name) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

/// What of an upstream's headers reaches the client: everything but what belongs to one connection, to the upstream's own
/// site, or to the one pool key that happened to serve. A value with the key itself in it (the URL of an upload, say) does
/// not.
pub fn downward(headers: &HeaderMap, secret: &str) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let tells_the_key = !secret.is_empty()
            && value
                .as_bytes()
                .windows(secret.len())
                .any(|part| part == secret.as_bytes());
        if comes_down(name.as_str()) && !tells_the_key {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

/// Marks an answer as data. It comes from the same origin as the administrator's page, and what an upstream sends could be
/// a web page: a browser that is led to it must neither guess that it is one nor run anything in it.
pub fn as_data(headers: &mut HeaderMap) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; sandbox"),
    );
}

/// Lets any web page that has an access key call the clients' side.
pub fn allow_origin(headers: &mut HeaderMap, origin: &str) {
    let Ok(origin) = HeaderValue::from_str(origin) else {
        return;
    };
    if origin != "*" {
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("retry-after, x-request-id, x-keystorm-key, x-keystorm-attempts"),
    );
}

/// What a preflight is answered, beside [`allow_origin`].
pub fn preflight(headers: &mut HeaderMap, requested: Option<&HeaderValue>) {
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
    );
    // A wildcard does not cover `authorization`: what the browser asks for is named back.
    let requested = requested
        .cloned()
        .unwrap_or(HeaderValue::from_static("authorization, content-type"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, requested);
    headers.append(header::VARY, HeaderValue::from_static("access-control-request-headers"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
}

fn goes_up(name: &HeaderName) -> bool {
    let name = name.as_str();
    match name {
        "accept" | "content-type" | "content-encoding" | "content-language" | "content-disposition" => true,
        "idempotency-key" | "traceparent" | "user-agent" => true,
        // The organisation and project of a client's own account mean nothing for a pool key, and fail the request.
        "openai-organization" | "openai-project" | "x-goog-api-key" | "x-goog-user-project" => false,
        // Who the client is to Google's own proxies, and what it was let in with.
        _ if ["x-goog-iap-", "x-goog-iam-", "x-goog-authenticated-"]
            .iter()
            .any(|prefix| name.starts_with(prefix)) =>
        {
            false
        }
        _ => ["openai-", "x-goog-", "anthropic-"]
            .iter()
            .any(|prefix| name.starts_with(prefix)),
    }
}

/// Whether a header is of one connection (RFC 9110 section 7.6.1): hosts refuse to send these on.
pub fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "host"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

fn comes_down(name: &str) -> bool {
    !is_hop_by_hop(name) && !OF_THE_SITE.contains(&name) && !OF_ONE_KEY.iter().any(|prefix| name.starts_with(prefix))
}

/// What belongs to the upstream's own site or account.
const OF_THE_SITE: [&str; 11] = [
    "alt-svc",
    "nel",
    "openai-organization",
    "openai-project",
    "report-to",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "via",
    "x-request-id",
];

/// Beginnings of what belongs to one key, one site or KeyStorm itself.
const OF_ONE_KEY: [&str; 5] = ["access-control-", "cf-", "spin-", "x-keystorm-", "x-ratelimit-"];

#[cfg(test)]
mod tests {
    use super::*;

    fn names(headers: &HeaderMap) -> Vec<&str> {
        headers.keys().map(HeaderName::as_str).collect()
    }

    fn with(names: &[&'static str]) -> HeaderMap {
        names
            .iter()
            .map(|name| (HeaderName::from_static(name), HeaderValue::from_static("x")))
            .collect()
    }

    #[test]
    fn only_content_and_provider_headers_go_up() {
        let sent = with(&[
            "authorization",
            "x-goog-api-key",
            "x-api-key",
            "api-key",
            "cookie",
            "host",
            "connection",
            "accept-encoding",
            "x-forwarded-for",
            "spin-client-addr",
            "openai-organization",
            "x-goog-iap-jwt-assertion",
            "x-goog-iam-authorization-token",
            "x-goog-authenticated-user-email",
            "x-goog-user-project",
            "proxy-authorization",
            "te",
            "transfer-encoding",
            "content-length",
            "x-request-id",
            "content-type",
            "accept",
            "user-agent",
            "openai-beta",
            "x-goog-api-client",
            "anthropic-version",
            "idempotency-key",
            "traceparent",
            "tracestate",
        ]);
        let kept = upward(&sent);
        let expected = [
            "content-type",
            "accept",
            "user-agent",
            "openai-beta",
            "x-goog-api-client",
            "anthropic-version",
            "idempotency-key",
            "traceparent",
        ];
        assert_eq!(names(&kept), expected);
    }

    #[test]
    fn nothing_of_one_connection_or_one_key_comes_down() {
        let answered = with(&[
            "transfer-encoding",
            "connection",
            "keep-alive",
            "set-cookie",
            "alt-svc",
            "openai-organization",
            "x-ratelimit-remaining-requests",
            "access-control-allow-origin",
            "content-type",
            "content-length",
            "openai-processing-ms",
            "content-encoding",
        ]);
        assert_eq!(
            names(&downward(&answered, "the-key")),
            [
                "content-type",
                "content-length",
                "openai-processing-ms",
                "content-encoding"
            ]
        );
    }

    #[test]
    fn no_header_tells_the_key() {
        let mut answered = with(&["content-type"]);
        let url = HeaderValue::from_static("https://upload.example/files?key=the-key&upload_id=1");
        answered.insert("x-goog-upload-url", url);
        assert!(downward(&answered, "another").contains_key("x-goog-upload-url"));
        assert_eq!(names(&downward(&answered, "the-key")), ["content-type"]);
    }
}
