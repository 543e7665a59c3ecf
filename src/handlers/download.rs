//! Images and other files that a request names by URL, fetched to be sent along: Gemini does not fetch what it is given the
//! address of, or not from everywhere.
//!
//! Whoever may send a chat may name a URL, so that this is the one place where a client makes KeyStorm call a host of its own
//! choice: the rules of custom endpoints hold, at every redirect anew, and what is fetched is bounded in size, kind and time.

use std::pin::pin;

use bytes::{Bytes, BytesMut};
use futures::future::{Either, select};
use http::{HeaderMap, HeaderValue, Method, header};

use crate::{
    endpoint::{self, DOWNLOAD_MS, MOST_DOWNLOAD_BYTES, MOST_REDIRECTS},
    error::ApiError,
    handlers::Context,
    ports::{Inbound, Outbound, OutboundBody, Ports, ReadBody, Timeouts, TransportError},
};

/// What was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its type, without parameters, in lower case.
    pub mime: String,
    /// Its bytes.
    pub data: Bytes,
}

/// Fetches a URL. `param` is the field that names it.
pub async fn fetch<P: Ports>(context: &Context<P>, url: &str, param: &str) -> Result<File, ApiError> {
    let work = pin!(follow(context, url, param));
    let limit = pin!(context.ports().sleep(DOWNLOAD_MS));
    match select(work, limit).await {
        Either::Left((file, _)) => file,
        Either::Right(_) => Err(refused(param, "it took longer than 10 s")),
    }
}

async fn follow<P: Ports>(context: &Context<P>, url: &str, param: &str) -> Result<File, ApiError> {
    let allow_private = context.settings.allow_private_endpoints;
    let mut url = endpoint::download(url, allow_private).map_err(|why| refused(param, &why))?;
    for _ in 0..=MOST_REDIRECTS {
        let outbound = Outbound {
            method: Method::GET,
            url: url.clone(),
            headers: HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static("*/*"))]),
            body: OutboundBody::Empty,
            timeouts: Timeouts {
                connect: DOWNLOAD_MS,
                first_byte: DOWNLOAD_MS,
                idle: DOWNLOAD_MS,
            },
        };
        let answer = context
            .ports()
            .send(outbound)
            .await
            .map_err(|error| unreachable(param, error))?;
        if answer.status.is_redirection() {
            let to = answer.headers.get(header::LOCATION).and_then(|to| to.to_str().ok());
            let to = to.ok_or_else(|| refused(param, "it redirects to nowhere"))?;
            url = endpoint::redirect(&url, to, allow_private).map_err(|why| refused(param, &why))?;
            continue;
        }
        if !answer.status.is_success() {
            return Err(refused(param, &format!("its host answered {}", answer.status.as_u16())));
        }
        return take(answer, param).await;
    }
    Err(refused(param, "it redirects too often"))
}

async fn take<B: ReadBody>(mut answer: Inbound<B>, param: &str) -> Result<File, ApiError> {
    let declared = answer
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let mime = declared
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let known = ["image/", "audio/", "video/"].iter().any(|kind| mime.starts_with(kind)) || mime == "application/pdf";
    if !known {
        return Err(refused(
            param,
            &format!("its content-type is {mime:?}, which is no image, sound, film or PDF"),
        ));
    }
    let length = answer
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > MOST_DOWNLOAD_BYTES) {
        return Err(refused(param, "it is larger than 20 MiB"));
    }
    let mut data = BytesMut::with_capacity(length.unwrap_or_default());
    while let Some(piece) = answer.body.chunk().await.map_err(|error| unreachable(param, error))? {
        if data.len() + piece.len() > MOST_DOWNLOAD_BYTES {
            return Err(refused(param, "it is larger than 20 MiB"));
        }
        data.extend_from_slice(&piece);
    }
    if data.is_empty() {
        return Err(refused(param, "it is empty"));
    }
    Ok(File {
        mime,
        data: data.freeze(),
    })
}

fn refused(param: &str, why: &str) -> ApiError {
    ApiError::invalid(param, format!("'{param}' cannot be fetched: {why}."))
}

fn unreachable(param: &str, error: TransportError) -> ApiError {
    let why = match error {
        TransportError::Dns => "its host is not known",
        TransportError::Timeout => "it took longer than 10 s",
        TransportError::Tls => "its host has no valid certificate",
        TransportError::Denied => "its host may not be called from here",
        TransportError::Connect | TransportError::Closed | TransportError::Protocol | TransportError::Other => {
            "its host does not answer"
        }
    };
    refused(param, why)
}
