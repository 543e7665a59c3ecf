//! The host adapter.

use spin_sdk::{
    http::{FullBody, IntoResponse, Request, StatusCode},
    http_service,
};

#[http_service]
async fn page(request: Request) -> impl IntoResponse {
    let header = |name: &str| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let answer = crate::respond(
        request.method().as_str(),
        request.uri().path(),
        header("accept-encoding"),
        header("if-none-match"),
    );
    let mut response = http::Response::builder()
        .status(StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
    // Without a length the host sends a body in chunks. What has no body by its nature promises no length either.
    if request.method() != "HEAD" && answer.status != 304 {
        response = response.header("content-length", answer.body.len());
    }
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(FullBody::new(bytes::Bytes::from_static(answer.body)))
}
