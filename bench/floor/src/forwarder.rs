use std::cell::RefCell;

use spin_sdk::{
    variables,
    wasip3::{
        exports::http::handler::Guest,
        http::{client, types as wasi},
        wit_future,
    },
};

mod export {
    use super::Component;

    spin_sdk::wasip3::http::service::export!(Component);
}

struct Component;

impl Guest for Component {
    async fn handle(request: wasi::Request) -> Result<wasi::Response, wasi::ErrorCode> {
        // Answered here, so that what an instance costs by itself can be measured.
        if request.get_path_with_query().as_deref() == Some("/healthz") {
            return Ok(wasi::Response::new(wasi::Fields::new(), None, no_trailers()).0);
        }
        down(client::send(up(request).await?).await?)
    }
}

async fn up(request: wasi::Request) -> Result<wasi::Request, wasi::ErrorCode> {
    let (method, target) = (request.get_method(), request.get_path_with_query());
    let headers = end_to_end(&request.get_headers())?;
    let (body, trailers) = wasi::Request::consume_body(request, accepted());
    let request = wasi::Request::new(headers, Some(body), trailers, None).0;
    let authority = upstream().await?;
    request
        .set_method(&method)
        .and_then(|()| request.set_scheme(Some(&wasi::Scheme::Http)))
        .and_then(|()| request.set_authority(Some(&authority)))
        .and_then(|()| request.set_path_with_query(target.as_deref()))
        .map_err(|()| wasi::ErrorCode::InternalError(None))?;
    Ok(request)
}

fn down(answer: wasi::Response) -> Result<wasi::Response, wasi::ErrorCode> {
    let (status, headers) = (answer.get_status_code(), end_to_end(&answer.get_headers())?);
    let (body, trailers) = wasi::Response::consume_body(answer, accepted());
    let answer = wasi::Response::new(headers, Some(body), trailers).0;
    answer
        .set_status_code(status)
        .map_err(|()| wasi::ErrorCode::InternalError(None))?;
    Ok(answer)
}

/// All headers but those of one connection, which the host refuses, and those that Spin adds.
fn end_to_end(fields: &wasi::Fields) -> Result<wasi::Fields, wasi::ErrorCode> {
    let mut headers = fields.copy_all();
    headers.retain(|(name, _)| !OF_ONE_CONNECTION.contains(&name.as_str()) && !name.starts_with("spin-"));
    wasi::Fields::from_list(&headers).map_err(|error| wasi::ErrorCode::InternalError(Some(error.to_string())))
}

/// Read once by each instance.
async fn upstream() -> Result<String, wasi::ErrorCode> {
    thread_local!(static UPSTREAM: RefCell<Option<String>> = const { RefCell::new(None) });
    if let Some(known) = UPSTREAM.with_borrow(Clone::clone) {
        return Ok(known);
    }
    let read = variables::get("upstream").await;
    let read = read.map_err(|error| wasi::ErrorCode::InternalError(Some(error.to_string())))?;
    UPSTREAM.set(Some(read.clone()));
    Ok(read)
}

fn accepted() -> spin_sdk::wasip3::wit_bindgen::FutureReader<Result<(), wasi::ErrorCode>> {
    wit_future::new(|| Ok(())).1
}

fn no_trailers() -> spin_sdk::wasip3::wit_bindgen::FutureReader<Result<Option<wasi::Trailers>, wasi::ErrorCode>> {
    wit_future::new(|| Ok(None)).1
}

const OF_ONE_CONNECTION: [&str; 9] = [
    "connection",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];
