//! Edge mode: everything but the page goes to the KeyStorm that owns the pool, and comes back from it, as it is.

use http::{HeaderName, HeaderValue, Method, header};

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
    let home = context.settings.home_url.as_deref().unwrap_or_default();
    if request.headers.contains_key(HOP) {
        return Err(ApiError::new(
            http::StatusCode::LOOP_DETECTED,
            "server_error",
            "edge_loop",
            "This KeyStorm's home_url leads back to itself or to another edge: it has to name the one that owns the pool.",
        ));
    }
    let mut headers = request.headers.clone();
    let dropped: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_hop_by_hop(name.as_str()) || name.as_str().starts_with("spin-"))
        .cloned()
        .collect();
    for name in dropped {
        headers.remove(name);
    }
    headers.insert(HeaderName::from_static(HOP), HeaderValue::from_static("1"));
    if let Some(client) = auth::client_address(&request.headers).and_then(|client| HeaderValue::from_str(client).ok()) {
        headers.append("x-forwarded-for", client);
    }
    let query = if request.query.is_empty() {
        String::new()
    } else {
        format!("?{}", request.query)
    };
    let url = format!("{home}{}{query}", request.path);
    let has_body =
        !matches!(request.method, Method::GET | Method::HEAD) || headers.contains_key(header::CONTENT_LENGTH);
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
    let answer = context.ports().send(outbound).await.map_err(|error| match error {
        TransportError::Timeout => ApiError::timeout("The home KeyStorm did not answer in time."),
        _ => ApiError::upstream("The home KeyStorm could not be reached (variable home_url)."),
    })?;
    let mut headers = answer.headers;
    let dropped: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_hop_by_hop(name.as_str()))
        .cloned()
        .collect();
    for name in dropped {
        headers.remove(name);
    }
    Ok(Response {
        status: answer.status,
        headers,
        body: Body::Forward(answer.body),
    })
}

/// Marks a request that has been through an edge.
const HOP: &str = "x-keystorm-edge";
