//! The HTTP trigger: HTTP/1.1 and HTTP/2 in, with Spin's headers added, and an orderly end.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
};
use tokio::{net::TcpListener, sync::watch};
use wasmtime_wasi_http::WasiBody;

use crate::app::{App, Route};

/// A server that is listening.
pub(crate) struct Server {
    listener: TcpListener,
    nodelay: bool,
    app: Arc<App>,
    address: SocketAddr,
}

impl Server {
    /// Listens.
    pub(crate) async fn bind(address: SocketAddr, nodelay: bool, app: Arc<App>) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}"))?;
        let address = listener.local_addr()?;
        Ok(Self {
            listener,
            nodelay,
            app,
            address,
        })
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until told to stop; then lets requests that are under way finish for a while. New connections are refused
    /// from that moment on.
    pub(crate) async fn serve(self, mut stop: watch::Receiver<bool>, grace: Duration) {
        let connections = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let (stream, client) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Most often too many open files: others may end meanwhile.
                    eprintln!("A connection could not be accepted: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            // Without it the second of two small writes waits 40 ms for the first one's acknowledgement.
            let _ = stream.set_nodelay(self.nodelay);
            let app = Arc::clone(&self.app);
            let service = service_fn(move |request| {
                let app = Arc::clone(&app);
                async move { Ok::<_, Infallible>(answer(&app, request, client, self.address).await) }
            });
            let mut builder = Builder::new(TokioExecutor::new());
            builder
                .http1()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(MOST_HEAD_BYTES);
            builder.http2().max_header_list_size(MOST_HEAD_BYTES as u32);
            let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
            let connection = connections.watch(connection);
            tokio::spawn(async move {
                // What a client does wrong on its own connection is its own affair.
                let _ = connection.await;
            });
        }
        drop(self.listener);
        if tokio::time::timeout(grace, connections.shutdown()).await.is_err() {
            eprintln!("Some requests were still under way after {grace:?} and were cut off.");
        }
    }
}

async fn answer(app: &App, request: Request<Incoming>, client: SocketAddr, local: SocketAddr) -> Response<WasiBody> {
    let path = request.uri().path();
    match path {
        "/.well-known/spin/health" => return plain(StatusCode::OK, "OK"),
        "/.well-known/spin/info" => return plain(StatusCode::OK, "keystorm-runner"),
        _ => {}
    }
    let Some((route, rest)) = app.route(path) else {
        return plain(StatusCode::NOT_FOUND, "Not Found");
    };
    let rest = rest.to_owned();
    // Spin hands headers to components as text, and answers 500 to what is none; it is the client's fault all the same.
    if request
        .headers()
        .values()
        .any(|value| std::str::from_utf8(value.as_bytes()).is_err())
    {
        return plain(StatusCode::BAD_REQUEST, "Bad Request");
    }
    let handler = route.handler.clone();
    let Some(request) = prepare(request, route, &rest, client, local) else {
        return plain(StatusCode::BAD_REQUEST, "Bad Request");
    };
    match handler.handle((), request).await {
        Ok(response) => response,
        Err(error) => {
            eprintln!("A request failed: {error:?}");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "")
        }
    }
}

/// Gives the request an absolute URL, as wasi:http wants it, and Spin's headers. They are appended: a client's copies stay
/// in front of them.
fn prepare(
    request: Request<Incoming>,
    route: &Route,
    rest: &str,
    client: SocketAddr,
    local: SocketAddr,
) -> Option<Request<WasiBody>> {
    let (mut head, body) = request.into_parts();
    let host = head.headers.remove(header::HOST);
    head.headers.remove(header::CONNECTION);
    let authority = match (head.uri.authority(), &host) {
        (Some(authority), _) => authority.to_string(),
        (None, Some(host)) => host.to_str().ok()?.to_owned(),
        (None, None) => local.to_string(),
    };
    let target = head.uri.path_and_query()?.clone();
    head.uri = Uri::builder()
        .scheme("http")
        .authority(authority)
        .path_and_query(target)
        .build()
        .ok()?;
    let full_url = head.uri.to_string();
    let base = route.raw.strip_suffix("/...").unwrap_or(&route.raw);
    append(&mut head.headers, "spin-full-url", &full_url);
    append(&mut head.headers, "spin-path-info", rest);
    append(&mut head.headers, "spin-matched-route", &route.raw);
    append(&mut head.headers, "spin-component-route", base);
    append(&mut head.headers, "spin-raw-component-route", &route.raw);
    append(&mut head.headers, "spin-base-path", "/");
    append(&mut head.headers, "spin-client-addr", &client.to_string());
    let body = body.map_err(wasmtime_wasi_http::Error::from).boxed_unsync();
    Some(Request::from_parts(head, body))
}

fn append(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.append(HeaderName::from_static(name), value);
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<WasiBody> {
    let body = Full::new(Bytes::from_static(text.as_bytes()))
        .map_err(|never| match never {})
        .boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// How long the head of a request may be. A component cannot be given more than 128 KiB of headers.
const MOST_HEAD_BYTES: usize = 64 * 1024;

/// How long a client may take for the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
