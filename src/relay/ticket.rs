//! How an answer ends, which is known long after it was handed on.

use http::{HeaderMap, StatusCode};

use super::Relay;
use crate::{
    classify::{self, Fault, Judgement},
    pool::{Lease, usage::Tokens},
    ports::{Ports, UnixMillis},
    redact::redact,
};

/// Records the end of one attempt, exactly once: a ticket that is dropped was a client that went away.
pub struct Ticket<P: Ports> {
    pub(super) relay: Relay<P>,
    pub(super) lease: Option<Lease>,
    pub(super) started: UnixMillis,
}

impl<P: Ports> Ticket<P> {
    /// The key that served: for keeping it out of what goes to the client.
    pub fn secret(&self) -> &str {
        self.lease.as_ref().map_or("", |lease| lease.key.secret.expose())
    }

    /// The answer is whole.
    pub fn succeeded(mut self, tokens: Tokens) {
        if let Some(lease) = self.lease.take() {
            let now = self.relay.0.ports.now();
            self.relay
                .0
                .pool
                .borrow_mut()
                .succeeded(&lease, tokens, now.since(self.started), now);
        }
    }

    /// The answer broke off after some of it went to the client.
    pub fn broke(mut self, why: &str) {
        if let Some(lease) = self.lease.take() {
            let judgement = Judgement {
                fault: Fault::MidStream,
                rule: "O9",
                rest: classify::Rest::None,
                next: classify::Next::Stop,
                message: why.to_owned(),
                project: None,
            };
            let message = redact(why, Some(lease.key.secret.expose()));
            let now = self.relay.0.ports.now();
            self.relay.0.pool.borrow_mut().failed(&lease, &judgement, &message, now);
        }
    }

    /// An error object came inside a stream: what it says of the key is taken to heart, though it is too late for another.
    pub fn refused(mut self, status: StatusCode, body: &[u8]) {
        if let Some(lease) = self.lease.take() {
            let now = self.relay.0.ports.now();
            let judgement = classify::classify(lease.key.api_type, status, &HeaderMap::new(), body, now);
            let message = redact(&judgement.message, Some(lease.key.secret.expose()));
            self.relay.0.pool.borrow_mut().failed(&lease, &judgement, &message, now);
        }
    }
}

impl<P: Ports> Drop for Ticket<P> {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            let now = self.relay.0.ports.now();
            self.relay.0.pool.borrow_mut().cancelled(&lease, now);
        }
        self.relay.flush_later();
    }
}
