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

/// A `GET` whose answer is read whole.
#[derive(Clone, Debug)]
pub struct Fetch {
    path: String,
    timeouts: Timeouts,
}

impl Fetch {
    /// A call to a path below a key's base URL.
    pub const fn get(path: String, timeouts: Timeouts) -> Self {
        Self { path, timeouts }
    }

    /// The request for a key.
    pub fn outbound<B>(&self, key: &Candidate) -> Result<Outbound<B>, ApiError> {
        let (name, value) = passthrough::credential(key)?;
        Ok(Outbound {
            method: Method::GET,
            url: format!("{}{}", key.base_url, self.path),
            headers: HeaderMap::from_iter([(name, value)]),
            body: OutboundBody::Empty,
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
