//! Request bodies, read whole: up to a length, within a time, and all of them together within a share of the memory.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use futures::future::{Either, select};
use http::{HeaderMap, header};

use crate::{
    error::ApiError,
    handlers::Context,
    ports::{Ports, ReadBody, Request},
};

/// Reads a JSON request body whole.
pub async fn read_json<P: Ports>(context: &Context<P>, request: Request<P::RequestBody>) -> Result<Bytes, ApiError> {
    if !is_json(&request.headers) {
        return Err(ApiError::unsupported_media_type("application/json"));
    }
    let limit = context.settings.max_body_bytes;
    read_body(context, &request.headers, request.body, limit).await
}

/// Reads a request body whole, up to `limit` bytes. The declared length is looked at first, so that a body that is too
/// large is refused before it is sent; beyond that it is not believed, as memory is taken only for what has come.
pub async fn read_body<P: Ports>(
    context: &Context<P>,
    headers: &HeaderMap,
    mut body: P::RequestBody,
    limit: usize,
) -> Result<Bytes, ApiError> {
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > limit) {
        return Err(ApiError::body_too_large(limit));
    }
    let mut clock = Clock::new(context);
    let first = clock.next(&mut body, 0).await?.unwrap_or_default();
    if first.len() > limit {
        return Err(ApiError::body_too_large(limit));
    }
    if declared == Some(first.len()) {
        return Ok(first);
    }
    let memory = &context.instance().memory;
    let mut held = memory.hold(first.len())?;
    let mut whole = Vec::with_capacity(declared.unwrap_or_default().min(FIRST_CAPACITY).max(first.len()));
    whole.extend_from_slice(&first);
    drop(first);
    while declared != Some(whole.len()) {
        let Some(chunk) = clock.next(&mut body, whole.len()).await? else {
            break;
        };
        if whole.len() + chunk.len() > limit {
            return Err(ApiError::body_too_large(limit));
        }
        held.grow(chunk.len())?;
        if let Some(declared) = declared.filter(|_| whole.capacity() - whole.len() < chunk.len()) {
            // The more has come, the more of what was said is believed: growing step by step would leave copies behind, which
            // an instance never gives back.
            let rest = declared.saturating_sub(whole.len()).min(BELIEVED * whole.len());
            whole.reserve_exact(held.believe(rest).max(chunk.len()));
        }
        whole.extend_from_slice(&chunk);
    }
    if whole.len() < SMALL {
        return Ok(Bytes::from(whole));
    }
    // The share is given back when the last copy of the body is gone: it may be sent upstream several times.
    Ok(Bytes::from_owner(Whole { whole, _held: held }))
}

/// Whether a body may be JSON: a client that names no type is believed.
pub fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_none_or(|value| value.to_str().is_ok_and(|value| value.contains("json")))
}

/// How much of an instance's memory the bodies of its requests have. Sixteen requests at once, each with the largest body,
/// would take more than an instance may have, and one that runs out of memory takes all its requests with it.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Shares>);

#[derive(Debug, Default)]
struct Shares {
    /// What has come.
    held: AtomicUsize,
    /// What room was made for before it came. It is not touched, but a host may bound it all the same.
    believed: AtomicUsize,
}

impl Memory {
    fn hold(&self, bytes: usize) -> Result<Held, ApiError> {
        let mut held = Held {
            memory: self.clone(),
            bytes: 0,
            believed: 0,
        };
        held.grow(bytes)?;
        Ok(held)
    }
}

/// A share of [`Memory`], given back when it is dropped.
struct Held {
    memory: Memory,
    bytes: usize,
    believed: usize,
}

impl Held {
    fn grow(&mut self, bytes: usize) -> Result<(), ApiError> {
        if self.memory.0.held.load(Relaxed) + bytes > MOST_HELD {
            return Err(ApiError {
                retry_after: Some(1),
                ..ApiError::overloaded("Too many large requests are under way. Try again in a second.")
            });
        }
        self.memory.0.held.fetch_add(bytes, Relaxed);
        self.bytes += bytes;
        Ok(())
    }

    /// How much of what was said to come room may be made for.
    fn believe(&mut self, bytes: usize) -> usize {
        let believed = &self.memory.0.believed;
        let bytes = bytes.min(MOST_HELD.saturating_sub(believed.load(Relaxed)));
        believed.fetch_add(bytes, Relaxed);
        self.believed += bytes;
        bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.0.held.fetch_sub(self.bytes, Relaxed);
        self.memory.0.believed.fetch_sub(self.believed, Relaxed);
    }
}

struct Whole {
    whole: Vec<u8>,
    _held: Held,
}

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        &self.whole
    }
}

/// Holds a client to sending its body: a request that never ends keeps its place among the sixteen of an instance.
struct Clock<'a, P: Ports> {
    ports: &'a P,
    timeout_ms: u64,
    started: crate::ports::UnixMillis,
}

impl<'a, P: Ports> Clock<'a, P> {
    fn new(context: &'a Context<P>) -> Self {
        Self {
            ports: context.ports(),
            timeout_ms: context.settings.body_timeout_ms,
            started: context.started,
        }
    }

    /// The next piece. One that does not come in time, and pieces that come too slowly on the whole, end the request.
    async fn next<B: ReadBody>(&mut self, body: &mut B, received: usize) -> Result<Option<Bytes>, ApiError> {
        let chunk = match select(pin!(body.chunk()), pin!(self.ports.sleep(self.timeout_ms))).await {
            Either::Left((chunk, _)) => chunk,
            Either::Right(_) => return Err(ApiError::slow_body()),
        };
        let chunk = chunk.map_err(|_| ApiError::bad_request("The request's body ended before its end."))?;
        if let Some(chunk) = &chunk {
            let allowed = self.timeout_ms + ((received + chunk.len()) / SLOWEST_BYTES_PER_MS) as u64;
            let taken = self.ports.now().since(self.started);
            if u64::try_from(taken).is_ok_and(|taken| taken > allowed) {
                return Err(ApiError::slow_body());
            }
        }
        Ok(chunk)
    }
}

/// How much is taken at once for a body that is said to be large.
const FIRST_CAPACITY: usize = 2 * 1024 * 1024;

/// How many times what has come room is made for, where so much was said to come.
const BELIEVED: usize = 15;

/// A body below this is not counted once it is whole: sixteen of them are nothing.
const SMALL: usize = 64 * 1024;

/// What the bodies of one instance may hold together, and what they may have room for beforehand.
const MOST_HELD: usize = 128 * 1024 * 1024;

/// The slowest client that is waited for, beside the time-out: 8 kB a second.
const SLOWEST_BYTES_PER_MS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_bodies_hold_together_is_bounded_and_given_back() {
        let memory = Memory::default();
        let one = memory.hold(MOST_HELD - 10).unwrap();
        let mut two = memory.hold(5).unwrap();
        two.grow(5).unwrap();
        let refused = two.grow(1).unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.retry_after), (503, Some(1)));
        assert!(memory.hold(1).is_err());
        drop(one);
        memory.hold(MOST_HELD - 10).unwrap().grow(1).unwrap_err();
        drop(two);
        assert!(memory.hold(MOST_HELD).is_ok());
    }

    #[test]
    fn what_is_said_to_come_is_believed_within_bounds() {
        let memory = Memory::default();
        let mut one = memory.hold(1).unwrap();
        assert_eq!((one.believe(MOST_HELD - 10), one.believe(7)), (MOST_HELD - 10, 7));
        let mut two = memory.hold(1).unwrap();
        assert_eq!((two.believe(5), two.believe(5)), (3, 0), "the rest has to come first");
        two.grow(MOST_HELD / 2).unwrap();
        drop(one);
        assert_eq!(two.believe(MOST_HELD), MOST_HELD - 3);
    }
}
