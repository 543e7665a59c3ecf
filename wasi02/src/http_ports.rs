//! WASI HTTP 0.2 with its raw types.

use std::pin::pin;

use bytes::Bytes;
use futures::future::{Either, select};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use keystorm::ports::{Body, Inbound, Outbound, OutboundBody, ReadBody, Request, Response, TransportError};
use spin_sdk::{
    http::{IncomingRequest, OutgoingResponse, ResponseOutparam},
    wit::wasi::http0_2_0::{outgoing_handler, types as wasi},
};

use crate::{
    ports::SpinPorts,
    streams::{Reader, StreamSink, Writer},
    tasks::{self, ready},
};

/// Turns the host's request into the core's.
pub(crate) fn request(request: IncomingRequest) -> Result<Request<RequestBody>, ()> {
    let method = match request.method() {
        wasi::Method::Get => Method::GET,
        wasi::Method::Head => Method::HEAD,
        wasi::Method::Post => Method::POST,
        wasi::Method::Put => Method::PUT,
        wasi::Method::Delete => Method::DELETE,
        wasi::Method::Connect => Method::CONNECT,
        wasi::Method::Options => Method::OPTIONS,
        wasi::Method::Trace => Method::TRACE,
        wasi::Method::Patch => Method::PATCH,
        wasi::Method::Other(name) => Method::from_bytes(name.as_bytes()).map_err(|_| ())?,
    };
    let target = request.path_with_query().unwrap_or_else(|| "/".to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let scheme = match request.scheme() {
        Some(wasi::Scheme::Https) => "https",
        _ => "http",
    };
    let body = request.consume()?;
    Ok(Request {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        scheme: scheme.to_owned(),
        authority: request.authority().unwrap_or_default(),
        headers: headers_from_host(&request.headers().entries()),
        body: RequestBody(Unread::Whole(body)),
    })
}

/// Answers with what the core says, to the end of the body.
pub(crate) async fn respond(out: ResponseOutparam, response: Response<SpinPorts>) {
    let mut headers = headers_to_host(&response.headers);
    if let Body::Full(bytes) = &response.body {
        headers.push(("content-length".to_owned(), bytes.len().to_string().into_bytes()));
    }
    let Some(mut writer) = head(out, response.status.as_u16(), &headers) else {
        return;
    };
    match response.body {
        Body::Full(bytes) => {
            if writer.write(&bytes).await.is_ok() {
                writer.finish();
            }
        }
        Body::Forward(ResponseBody(Unread::Whole(body))) => {
            if let Ok(reader) = Reader::new(body) {
                writer.splice(reader).await;
            }
        }
        Body::Forward(ResponseBody(Unread::Begun(reader))) => writer.splice(reader).await,
        Body::Forward(ResponseBody(Unread::Ended)) => writer.finish(),
        Body::Stream(produce) => produce(StreamSink::new(writer)).await,
    }
}

/// Answers with a file of the page.
pub(crate) async fn page(out: ResponseOutparam, answer: keystorm_ui::Answer, is_head: bool) {
    let headers = answer.headers.into_iter();
    let mut headers: Vec<_> = headers
        .map(|(name, value)| (name.to_owned(), value.into_bytes()))
        .collect();
    if !is_head && answer.status != 304 {
        headers.push(("content-length".to_owned(), answer.body.len().to_string().into_bytes()));
    }
    if let Some(mut writer) = head(out, answer.status, &headers)
        && writer.write(answer.body).await.is_ok()
    {
        writer.finish();
    }
}

/// Answers a request that is none.
pub(crate) fn refuse(out: ResponseOutparam) {
    if let Some(writer) = head(out, StatusCode::BAD_REQUEST.as_u16(), &[]) {
        writer.finish();
    }
}

/// Sends the head of an answer.
fn head(out: ResponseOutparam, status: u16, headers: &[(String, Vec<u8>)]) -> Option<Writer> {
    let fields = wasi::Fields::from_list(headers).unwrap_or_else(|_| wasi::Fields::new());
    let response = OutgoingResponse::new(fields);
    response.set_status_code(status).ok()?;
    let body = response.body().ok()?;
    ResponseOutparam::set(out, response);
    Writer::new(body).ok()
}

/// Sends a request and waits for the answer's head.
pub(crate) async fn send(outbound: Outbound<RequestBody>) -> Result<Inbound<ResponseBody>, TransportError> {
    let uri: Uri = outbound.url.parse().map_err(|_| TransportError::Other)?;
    let options = wasi::RequestOptions::new();
    let timeouts = outbound.timeouts;
    // Some hosts refuse an option: their own time-outs hold then.
    let _ = options.set_connect_timeout(Some(nanoseconds(timeouts.connect)));
    let _ = options.set_first_byte_timeout(Some(nanoseconds(timeouts.first_byte)));
    let _ = options.set_between_bytes_timeout(Some(nanoseconds(timeouts.idle)));

    let mut headers = headers_to_host(&outbound.headers);
    if let OutboundBody::Full(bytes) = &outbound.body {
        headers.push(("content-length".to_owned(), bytes.len().to_string().into_bytes()));
    }
    let fields = wasi::Fields::from_list(&headers).map_err(|_| TransportError::Other)?;
    let request = wasi::OutgoingRequest::new(fields);
    let scheme = if uri.scheme_str() == Some("http") {
        wasi::Scheme::Http
    } else {
        wasi::Scheme::Https
    };
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    request
        .set_method(&method_to_host(&outbound.method))
        .and_then(|()| request.set_scheme(Some(&scheme)))
        .and_then(|()| request.set_authority(uri.authority().map(|authority| authority.as_str())))
        .and_then(|()| request.set_path_with_query(Some(target)))
        .map_err(|()| TransportError::Other)?;
    let writer = Writer::new(request.body().map_err(|()| TransportError::Other)?)?;
    let answer = outgoing_handler::handle(request, Some(options)).map_err(|code| transport_error(&code))?;

    let write = Box::pin(write_body(writer, outbound.body));
    let answer = match select(write, pin!(head_of(answer))).await {
        Either::Left(((), answer)) => answer.await,
        Either::Right((answer, write)) => {
            // An answer may come before the whole request has been read: the rest is still written.
            tasks::spawn(write);
            answer
        }
    }?;
    let status = StatusCode::from_u16(answer.status()).map_err(|_| TransportError::Protocol)?;
    let headers = headers_from_host(&answer.headers().entries());
    let body = answer.consume().map_err(|()| TransportError::Other)?;
    Ok(Inbound {
        status,
        headers,
        body: ResponseBody(Unread::Whole(body)),
    })
}

/// A client's request body.
pub(crate) struct RequestBody(Unread);

/// An upstream's response body.
pub(crate) struct ResponseBody(Unread);

impl ReadBody for RequestBody {
    async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        self.0.chunk().await
    }
}

impl ReadBody for ResponseBody {
    async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        self.0.chunk().await
    }
}

/// A body in its three states.
enum Unread {
    Whole(wasi::IncomingBody),
    Begun(Reader),
    Ended,
}

impl Unread {
    async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        let mut reader = match std::mem::replace(self, Self::Ended) {
            Self::Whole(body) => Reader::new(body)?,
            Self::Begun(reader) => reader,
            Self::Ended => return Ok(None),
        };
        let chunk = reader.chunk().await?;
        if chunk.is_some() {
            *self = Self::Begun(reader);
        }
        Ok(chunk)
    }
}

async fn head_of(answer: wasi::FutureIncomingResponse) -> Result<wasi::IncomingResponse, TransportError> {
    loop {
        match answer.get() {
            None => ready(answer.subscribe()).await,
            Some(Ok(Ok(response))) => return Ok(response),
            Some(Ok(Err(code))) => return Err(transport_error(&code)),
            Some(Err(())) => return Err(TransportError::Other),
        }
    }
}

async fn write_body(mut writer: Writer, body: OutboundBody<RequestBody>) {
    match body {
        OutboundBody::Empty => writer.finish(),
        OutboundBody::Full(bytes) => {
            if writer.write(&bytes).await.is_ok() {
                writer.finish();
            }
        }
        OutboundBody::Forward(RequestBody(Unread::Whole(body))) => {
            if let Ok(reader) = Reader::new(body) {
                writer.splice(reader).await;
            }
        }
        OutboundBody::Forward(RequestBody(Unread::Begun(reader))) => writer.splice(reader).await,
        OutboundBody::Forward(RequestBody(Unread::Ended)) => writer.finish(),
    }
}

fn method_to_host(method: &Method) -> wasi::Method {
    match *method {
        Method::GET => wasi::Method::Get,
        Method::HEAD => wasi::Method::Head,
        Method::POST => wasi::Method::Post,
        Method::PUT => wasi::Method::Put,
        Method::DELETE => wasi::Method::Delete,
        Method::OPTIONS => wasi::Method::Options,
        Method::PATCH => wasi::Method::Patch,
        _ => wasi::Method::Other(method.as_str().to_owned()),
    }
}

fn headers_from_host(fields: &[(String, Vec<u8>)]) -> HeaderMap {
    fields
        .iter()
        .filter_map(|(name, value)| {
            Some((
                HeaderName::from_bytes(name.as_bytes()).ok()?,
                HeaderValue::from_bytes(value).ok()?,
            ))
        })
        .collect()
}

fn headers_to_host(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect()
}

const fn nanoseconds(ms: u64) -> u64 {
    ms.saturating_mul(1_000_000)
}

fn transport_error(code: &wasi::ErrorCode) -> TransportError {
    use wasi::ErrorCode as Code;
    match code {
        Code::DnsTimeout | Code::DnsError(_) | Code::DestinationNotFound => TransportError::Dns,
        Code::DestinationUnavailable
        | Code::DestinationIpUnroutable
        | Code::ConnectionRefused
        | Code::ConnectionLimitReached => TransportError::Connect,
        Code::TlsProtocolError | Code::TlsCertificateError | Code::TlsAlertReceived(_) => TransportError::Tls,
        Code::ConnectionTimeout
        | Code::ConnectionReadTimeout
        | Code::ConnectionWriteTimeout
        | Code::HttpResponseTimeout => TransportError::Timeout,
        Code::ConnectionTerminated | Code::HttpResponseIncomplete => TransportError::Closed,
        Code::HttpRequestDenied | Code::DestinationIpProhibited => TransportError::Denied,
        Code::HttpProtocolError
        | Code::HttpResponseTransferCoding(_)
        | Code::HttpResponseContentCoding(_)
        | Code::HttpResponseHeaderSectionSize(_)
        | Code::HttpResponseHeaderSize(_)
        | Code::HttpResponseBodySize(_) => TransportError::Protocol,
        _ => TransportError::Other,
    }
}
