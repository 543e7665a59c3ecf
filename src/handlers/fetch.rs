//! A call whose answer is read whole.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method};

use crate::{
    error::ApiError,
    handlers::passthrough,
    pool::key::Candidate,
    ports::{Inbound, Outbound, OutboundBody, Ports, ReadBody, Timeouts, TransportError},
    relay::{Attempt, Broken},
};

/// A call below a key's base URL.
#[derive(Clone, Debug)]
pub struct Fetch {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Option<Bytes>,
    timeouts: Timeouts,
}

impl Fetch {
    /// Reads something.
    pub fn get(path: String, timeouts: Timeouts) -> Self {
        Self {
            method: Method::GET,
            path,
            headers: HeaderMap::new(),
            body: None,
            timeouts,
        }
    }

    /// Sends JSON.
    pub fn post(path: String, headers: HeaderMap, body: Bytes, timeouts: Timeouts) -> Self {
        Self {
            method: Method::POST,
            path,
            headers,
            body: Some(body),
            timeouts,
        }
    }

    /// Sends another body the next time.
    pub fn set_body(&mut self, body: Bytes) {
        self.body = Some(body);
    }

    /// The request for a key.
    pub fn outbound<B>(&self, key: &Candidate) -> Result<Outbound<B>, ApiError> {
        let mut headers = self.headers.clone();
        let (name, value) = passthrough::credential(key)?;
        headers.insert(name, value);
        Ok(Outbound {
            method: self.method.clone(),
            url: format!("{}{}", key.base_url, self.path),
            headers,
            body: self.body.clone().map_or(OutboundBody::Empty, OutboundBody::Full),
            timeouts: self.timeouts,
        })
    }
}

impl<P: Ports> Attempt<P> for Fetch {
    type Output = Bytes;

    fn request(&mut self, key: &Candidate) -> Result<Outbound<P::RequestBody>, ApiError> {
        self.outbound(key)
    }

    async fn accept(&mut self, _: &Candidate, answer: Inbound<P::ResponseBody>) -> Result<Bytes, Broken> {
        whole(answer.body).await.map_err(Broken::Transport)
    }
}

/// Reads a body to its end; one that is too long is as bad as one that breaks off.
pub async fn whole<B: ReadBody>(mut body: B) -> Result<Bytes, TransportError> {
    let first = body.chunk().await?.unwrap_or_default();
    let mut whole = BytesMut::from(first);
    while let Some(chunk) = body.chunk().await? {
        if whole.len() + chunk.len() > MOST_BYTES {
            return Err(TransportError::Protocol);
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// The longest answer that is read whole: images come as base64 inside JSON.
pub const MOST_BYTES: usize = 100 * 1024 * 1024;
