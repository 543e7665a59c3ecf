//! Edge mode: everything but the page goes to the KeyStorm that owns the pool, and comes back from it, as it is.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};

use crate::{
    auth,
    error::ApiError,
    handlers::Context,
    headers::is_hop_by_hop,
    ports::{Body, Outbound, OutboundBody, Ports, Request, Response, TransportError},
};

/// Streams a request to the home and its answer back.
pub async fn forward<P: Ports>(
    context: &Context<P>,
    request: Request<P::RequestBody>,
) -> Result<Response<P>, ApiError> {
    if request.headers.contains_key(HOP) {
        return Err(ApiError::new(
            http::StatusCode::LOOP_DETECTED,
            "server_error",
            "edge_loop",
            "This KeyStorm's home_url leads back to itself or to another edge: it has to name the one that owns the pool.",
        ));
    }
    let home = context.settings.home_url.as_deref().unwrap_or_default();
    let headers = to_home(context, &request, home);
    let query = if request.query.is_empty() {
        String::new()
    } else {
        format!("?{}", request.query)
    };
    let url = format!("{home}{}{query}", request.path);
    let has_body = !matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS)
        || headers.contains_key(header::CONTENT_LENGTH);
    let body = if has_body {
        OutboundBody::Forward(request.body)
    } else {
        OutboundBody::Empty
    };
    let outbound = Outbound {
        method: request.method,
        url,
        headers,
        body,
        timeouts: context.settings.timeouts(false),
    };
    let answer = context.ports().send(outbound).await.map_err(unreachable)?;
    let mut headers = answer.headers;
    retain(&mut headers, |name| !is_hop_by_hop(name));
    Ok(Response {
        status: answer.status,
        headers,
        body: Body::Forward(answer.body),
    })
}

/// The client's headers, but those of its connection, and what the home cannot see for itself.
fn to_home<P: Ports>(context: &Context<P>, request: &Request<P::RequestBody>, home: &str) -> HeaderMap {
    let mut headers = request.headers.clone();
    // What a client expects before it sends its body is between it and this host.
    retain(&mut headers, |name| {
        !is_hop_by_hop(name) && !name.starts_with("spin-") && name != "expect"
    });
    headers.insert(HeaderName::from_static(HOP), HeaderValue::from_static("1"));
    if let Ok(id) = HeaderValue::from_str(&context.request_id) {
        headers.insert("x-request-id", id);
    }
    if let Some(client) = auth::client_address(&request.headers).and_then(|client| HeaderValue::from_str(client).ok()) {
        headers.append("x-forwarded-for", client);
    }
    // A proxy in front of this edge knows better how the client came.
    for (name, value) in [
        ("x-forwarded-proto", &request.scheme),
        ("x-forwarded-host", &request.authority),
    ] {
        if let (false, Ok(value)) = (headers.contains_key(name), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    // The page was loaded from here: to the home, its own page asks.
    if request.headers.contains_key(header::ORIGIN)
        && auth::is_same_origin(request)
        && let Some(origin) = origin(home)
    {
        headers.insert(header::ORIGIN, origin);
    }
    headers
}

fn retain(headers: &mut HeaderMap, keep: impl Fn(&str) -> bool) {
    let dropped: Vec<HeaderName> = headers.keys().filter(|name| !keep(name.as_str())).cloned().collect();
    for name in dropped {
        headers.remove(name);
    }
}

fn origin(url: &str) -> Option<HeaderValue> {
    let uri: Uri = url.parse().ok()?;
    HeaderValue::from_str(&format!("{}://{}", uri.scheme_str()?, uri.authority()?)).ok()
}

/// Says which part of the way failed, and names no address: clients read it too.
fn unreachable(error: TransportError) -> ApiError {
    let why = match error {
        TransportError::Timeout => {
            return ApiError::timeout("The home KeyStorm (variable home_url) did not answer in time.");
        }
        TransportError::Denied => {
            "this host may not call it: add it to allowed_outbound_hosts in spin.toml, or set the variable extra_outbound_host"
        }
        TransportError::Dns => "its name does not resolve",
        TransportError::Connect => "nobody answers there",
        TransportError::Tls => "the TLS handshake failed",
        TransportError::Closed => "the connection broke off before an answer",
        TransportError::Protocol => "what answers there is not HTTP",
        TransportError::Other => "the request could not be sent",
    };
    ApiError::upstream(format!(
        "The home KeyStorm (variable home_url) cannot be reached: {why}."
    ))
}

/// Marks a request that has been through an edge.
const HOP: &str = "x-keystorm-edge";
