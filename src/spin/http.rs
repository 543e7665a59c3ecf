//! WASI HTTP 0.3 with its raw types. The SDK's own `Response` copies every forwarded body through the guest; handing the
//! host's stream back to it does not, and a bare forwarder is half as fast again that way.

use std::pin::pin;

use bytes::Bytes;
use futures::future::{Either, select};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use spin_sdk::wasip3::{
    self,
    http::{client, types as wasi},
    wit_bindgen::{FutureReader, StreamReader, StreamResult, StreamWriter},
    wit_future, wit_stream,
};

use crate::ports::{
    Body, ClientGone, Inbound, Outbound, OutboundBody, ReadBody, Request, Response, Sink, TransportError,
};

/// Turns the host's request into the core's.
pub(super) fn request(request: wasi::Request) -> Result<Request<RequestBody>, wasi::ErrorCode> {
    let method = match request.get_method() {
        wasi::Method::Get => Method::GET,
        wasi::Method::Head => Method::HEAD,
        wasi::Method::Post => Method::POST,
        wasi::Method::Put => Method::PUT,
        wasi::Method::Delete => Method::DELETE,
        wasi::Method::Connect => Method::CONNECT,
        wasi::Method::Options => Method::OPTIONS,
        wasi::Method::Trace => Method::TRACE,
        wasi::Method::Patch => Method::PATCH,
        wasi::Method::Other(name) => {
            Method::from_bytes(name.as_bytes()).map_err(|_| wasi::ErrorCode::HttpRequestMethodInvalid)?
        }
    };
    let target = request.get_path_with_query().unwrap_or_else(|| "/".to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let scheme = match request.get_scheme() {
        Some(wasi::Scheme::Https) => "https",
        _ => "http",
    };
    let headers = headers_from_host(&request.get_headers());
    Ok(Request {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        scheme: scheme.to_owned(),
        authority: request.get_authority().unwrap_or_default(),
        body: RequestBody(Unread::of(request, &headers)),
        headers,
    })
}

/// Turns the core's answer into the host's.
pub(super) fn response(response: Response<super::SpinPorts>) -> Result<wasi::Response, wasi::ErrorCode> {
    let mut headers = headers_to_host(&response.headers);
    let out = match response.body {
        Body::Full(bytes) => {
            // Without a length the answer goes out chunked, in two small writes, and waits 40 ms for Nagle's algorithm.
            headers.push(("content-length".to_owned(), bytes.len().to_string().into_bytes()));
            let (mut writer, reader) = wit_stream::new();
            if bytes.is_empty() {
                drop(writer);
            } else {
                wasip3::spawn(async move {
                    writer.write_all(Vec::from(bytes)).await;
                });
            }
            wasi::Response::new(fields(&headers)?, Some(reader), no_trailers()).0
        }
        Body::Forward(ResponseBody(Unread::Message(upstream, _))) => {
            let (body, trailers) = wasi::Response::consume_body(upstream, accepted());
            wasi::Response::new(fields(&headers)?, Some(body), trailers).0
        }
        // A body that was begun cannot be handed back: what the host has buffered of it would be lost.
        Body::Forward(_) => return Err(wasi::ErrorCode::InternalError(None)),
        Body::Stream(produce) => {
            let (writer, reader) = wit_stream::new();
            wasip3::spawn(produce(StreamSink(writer)));
            wasi::Response::new(fields(&headers)?, Some(reader), no_trailers()).0
        }
    };
    out.set_status_code(response.status.as_u16())
        .map_err(|()| wasi::ErrorCode::InternalError(None))?;
    Ok(out)
}

/// Sends a request and waits for the answer's head.
pub(super) async fn send(outbound: Outbound<RequestBody>) -> Result<Inbound<ResponseBody>, TransportError> {
    let uri: Uri = outbound.url.parse().map_err(|_| TransportError::Other)?;
    let options = wasi::RequestOptions::new();
    let timeouts = outbound.timeouts;
    // Some hosts refuse an option: their own time-outs hold then.
    let _ = options.set_connect_timeout(Some(nanoseconds(timeouts.connect)));
    let _ = options.set_first_byte_timeout(Some(nanoseconds(timeouts.first_byte)));
    let _ = options.set_between_bytes_timeout(Some(nanoseconds(timeouts.idle)));

    let mut headers = headers_to_host(&outbound.headers);
    let mut pending = None;
    let (body, trailers) = match outbound.body {
        OutboundBody::Empty => (None, no_trailers()),
        OutboundBody::Full(bytes) => {
            headers.push(("content-length".to_owned(), bytes.len().to_string().into_bytes()));
            let (writer, reader) = wit_stream::new();
            pending = Some((writer, bytes));
            (Some(reader), no_trailers())
        }
        OutboundBody::Forward(RequestBody(Unread::Message(inbound, _))) => {
            let (body, trailers) = wasi::Request::consume_body(inbound, accepted());
            (Some(body), trailers)
        }
        OutboundBody::Forward(_) => return Err(TransportError::Other),
    };
    let fields = fields(&headers).map_err(|_| TransportError::Other)?;
    let (request, _sent) = wasi::Request::new(fields, body, trailers, Some(options));
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

    let answer = match pending {
        None => client::send(request).await,
        Some((writer, bytes)) => {
            // The body's first write is under way before the send is awaited, and both are polled together: head and
            // body then leave in one piece, where they would otherwise wait 40 ms for Nagle's algorithm.
            let write = Box::pin(write_body(writer, bytes));
            match select(write, pin!(client::send(request))).await {
                Either::Left(((), send)) => send.await,
                Either::Right((answer, write)) => {
                    // An answer may come before the whole request has been read: the rest is still written.
                    wasip3::spawn(write);
                    answer
                }
            }
        }
    };
    let answer = answer.map_err(|code| transport_error(&code))?;
    let status = StatusCode::from_u16(answer.get_status_code()).map_err(|_| TransportError::Protocol)?;
    let headers = headers_from_host(&answer.get_headers());
    Ok(Inbound {
        status,
        body: ResponseBody(Unread::of(answer, &headers)),
        headers,
    })
}

/// A client's request body.
pub(crate) struct RequestBody(Unread<wasi::Request>);

/// An upstream's response body.
pub(crate) struct ResponseBody(Unread<wasi::Response>);

impl ReadBody for RequestBody {
    async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        self.0
            .chunk(|message| wasi::Request::consume_body(message, accepted()))
            .await
    }
}

impl ReadBody for ResponseBody {
    async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        self.0
            .chunk(|message| wasi::Response::consume_body(message, accepted()))
            .await
    }
}

impl std::fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RequestBody")
    }
}

/// The streamed answer to a client.
#[derive(Debug)]
pub(crate) struct StreamSink(StreamWriter<u8>);

impl Sink for StreamSink {
    async fn write(&mut self, bytes: Bytes) -> Result<(), ClientGone> {
        let unwritten = self.0.write_all(Vec::from(bytes)).await;
        if unwritten.is_empty() { Ok(()) } else { Err(ClientGone) }
    }
}

/// A body in the three states that the host knows.
enum Unread<M> {
    /// Not begun: can still be handed on whole.
    Message(M, Rest),
    /// Being read.
    Begun {
        stream: StreamReader<u8>,
        end: Trailers,
        rest: Rest,
    },
    /// Read to its end.
    Ended,
}

type Trailers = FutureReader<Result<Option<wasi::Trailers>, wasi::ErrorCode>>;

/// How much is still to come, where that was said.
type Rest = Option<usize>;

impl<M> Unread<M> {
    fn of(message: M, headers: &HeaderMap) -> Self {
        let length = headers.get(header::CONTENT_LENGTH);
        Self::Message(message, length.and_then(|length| length.to_str().ok()?.parse().ok()))
    }

    async fn chunk(
        &mut self,
        consume: impl FnOnce(M) -> (StreamReader<u8>, Trailers),
    ) -> Result<Option<Bytes>, TransportError> {
        let (mut stream, end, rest) = match std::mem::replace(self, Self::Ended) {
            Self::Message(message, rest) => {
                let (stream, end) = consume(message);
                (stream, end, rest)
            }
            Self::Begun { stream, end, rest } => (stream, end, rest),
            Self::Ended => return Ok(None),
        };
        // Most bodies are small and say so: an instance has room for sixteen, and what it has taken once it never gives back.
        let size = rest.map_or(READ_SIZE, |rest| rest.clamp(1, READ_SIZE));
        loop {
            let (result, bytes) = stream.read(Vec::with_capacity(size)).await;
            match result {
                // The end of the stream says nothing of its health: a connection cut short is told by the trailers.
                StreamResult::Dropped if bytes.is_empty() => {
                    return end.await.map(|_| None).map_err(|code| transport_error(&code));
                }
                StreamResult::Cancelled => return Err(TransportError::Closed),
                StreamResult::Complete(_) if bytes.is_empty() => {}
                _ => {
                    let rest = rest.map(|rest| rest.saturating_sub(bytes.len()));
                    *self = Self::Begun { stream, end, rest };
                    return Ok(Some(Bytes::from(bytes)));
                }
            }
        }
    }
}

/// Writes in pieces, so that a large body is never held twice.
async fn write_body(mut writer: StreamWriter<u8>, mut bytes: Bytes) {
    while !bytes.is_empty() {
        let piece = bytes.split_to(bytes.len().min(WRITE_SIZE));
        if !writer.write_all(Vec::from(piece)).await.is_empty() {
            return;
        }
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

fn headers_from_host(fields: &wasi::Fields) -> HeaderMap {
    let all = fields.copy_all();
    let mut headers = HeaderMap::with_capacity(all.len());
    for (name, value) in all {
        // The host adds seven of its own to each request, of which one is of use.
        if name.starts_with("spin-") && name != "spin-client-addr" {
            continue;
        }
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_maybe_shared(Bytes::from(value)),
        ) {
            headers.append(name, value);
        }
    }
    headers
}

fn headers_to_host(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect()
}

fn fields(headers: &[(String, Vec<u8>)]) -> Result<wasi::Fields, wasi::ErrorCode> {
    wasi::Fields::from_list(headers).map_err(|error| wasi::ErrorCode::InternalError(Some(error.to_string())))
}

fn no_trailers() -> Trailers {
    let (_, reader) = wit_future::new(|| Ok(None));
    reader
}

/// Tells the host that a body was taken well; dropping the writing end sends the default.
fn accepted() -> FutureReader<Result<(), wasi::ErrorCode>> {
    let (_, reader) = wit_future::new(|| Ok(()));
    reader
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

/// How much of a body is read at once. The host hands over what it has, at most this much.
const READ_SIZE: usize = 64 * 1024;

/// How much of a body is written at once.
const WRITE_SIZE: usize = 256 * 1024;
