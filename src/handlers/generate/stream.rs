//! A streamed answer after its commit: what is read of Gemini's events goes on to the client as chunks.

use bytes::Bytes;
use futures::{
    future::{Either, select},
    stream::{FuturesUnordered, StreamExt as _},
};

use super::note;
use crate::{
    app::App,
    error::ApiError,
    handlers::fetch,
    openai::answer::Usage,
    ports::{Ports, Producer, ReadBody, Sink as _, TransportError},
    relay::Ticket,
    secret::Secret,
    sse::{self, Decoder},
    translate::{
        error::{self, AnswerError},
        stream::ChatStream,
    },
};

/// A streamed answer that is under way.
pub(super) struct Feed<P: Ports> {
    body: P::ResponseBody,
    decoder: Decoder,
    stream: ChatStream,
    /// What is to be written to the client next.
    out: Vec<u8>,
    has_ended: bool,
    secret: Secret,
}

/// Why a streamed answer does not go on.
pub(super) enum Stopped {
    Transport(TransportError),
    Answer(AnswerError),
}

impl<P: Ports> Feed<P> {
    /// An answer of which nothing was read yet.
    pub(super) fn new(body: P::ResponseBody, stream: ChatStream, secret: Secret) -> Self {
        Self {
            body,
            decoder: Decoder::new(fetch::MOST_BYTES),
            stream,
            out: Vec::with_capacity(1024),
            has_ended: false,
            secret,
        }
    }

    /// Whether nothing has come yet that the client is to see.
    pub(super) const fn is_silent(&self) -> bool {
        !self.has_ended && !self.stream.is_committed()
    }

    /// Reads the next piece, and at the end of the body how the answer ends.
    pub(super) async fn read(&mut self) -> Result<(), Stopped> {
        let piece = self.body.chunk().await.map_err(Stopped::Transport)?;
        let (stream, out) = (&mut self.stream, &mut self.out);
        let mut result = Ok(());
        let mut on = |data: &[u8]| {
            if result.is_ok() {
                result = stream.push(data, out);
            }
        };
        let fits = match &piece {
            Some(piece) => self.decoder.push(piece, &mut on),
            None => self.decoder.finish(&mut on),
        };
        result.map_err(Stopped::Answer)?;
        fits.map_err(|sse::TooLong| Stopped::Answer(AnswerError::Unreadable))?;
        if piece.is_none() {
            self.stream.finish(&mut self.out).map_err(Stopped::Answer)?;
            self.has_ended = true;
        }
        Ok(())
    }
}

/// A streamed answer and what records how it ends.
pub(super) struct Live<P: Ports> {
    pub(super) feed: Feed<P>,
    pub(super) ticket: Ticket<P>,
}

/// The task that writes the client's stream: what comes from upstream, as it comes; a comment where nothing does; at the end
/// the usage and `[DONE]`, or one error and nothing behind it.
pub(super) fn pump<P: Ports>(app: App<P>, feeds: Vec<Live<P>>, key: String) -> Producer<P::Sink> {
    Box::new(move |mut sink| {
        Box::pin(async move {
            let ports = app.instance().ports.clone();
            let mut open = feeds.len();
            let mut usage = Usage::default();
            let mut running = FuturesUnordered::new();
            for live in feeds {
                // What was read before the answer's head went out is written first, all of it in one piece.
                running.push(Either::Left(std::future::ready((live, Ok(())))));
            }
            let mut tick = Box::pin(ports.sleep(TICK_MS));
            let mut quiet = 0;
            while open > 0 {
                let (mut live, read) = match select(running.next(), &mut tick).await {
                    Either::Left((Some(read), _)) => read,
                    Either::Left((None, _)) => return,
                    Either::Right(((), _)) => {
                        tick.set(ports.sleep(TICK_MS));
                        quiet += 1;
                        if quiet * TICK_MS >= KEEP_ALIVE_MS {
                            quiet = 0;
                            if sink.write(Bytes::from_static(sse::KEEP_ALIVE)).await.is_err() {
                                return;
                            }
                        }
                        continue;
                    }
                };
                let mut out = std::mem::take(&mut live.feed.out);
                let signatures = live.feed.stream.take_signatures();
                note(&app, &signatures, false, None, &key);
                if let Err(stopped) = read {
                    let told = fail(live, stopped);
                    error::event(&told, &mut out);
                    let _ = sink.write(Bytes::from(out)).await;
                    return;
                }
                if live.feed.has_ended {
                    open -= 1;
                    usage = usage + live.feed.stream.usage();
                    if open == 0 {
                        live.feed.stream.tail(usage, &mut out);
                    }
                }
                if !out.is_empty() {
                    quiet = 0;
                    if sink.write(Bytes::from(out)).await.is_err() {
                        // The ticket is dropped: the client has gone away, which is nobody's fault.
                        return;
                    }
                }
                if live.feed.has_ended {
                    let stream = &live.feed.stream;
                    note(&app, &[], stream.flagged(), stream.unknown_finish(), &key);
                    live.ticket.succeeded(stream.tokens());
                } else {
                    running.push(Either::Right(next(live)));
                }
            }
        })
    })
}

async fn next<P: Ports>(mut live: Live<P>) -> (Live<P>, Result<(), Stopped>) {
    let read = live.feed.read().await;
    (live, read)
}

/// Records that an answer broke off, and says how the client is told.
fn fail<P: Ports>(live: Live<P>, stopped: Stopped) -> ApiError {
    match stopped {
        Stopped::Transport(_) => {
            live.ticket
                .broke("The connection to the upstream broke off in the middle of an answer.");
            ApiError::upstream("The connection to the upstream broke off.")
        }
        Stopped::Answer(error) => {
            let told = error.told(Some(live.feed.secret.expose()));
            match error {
                AnswerError::Upstream { status, body } => live.ticket.refused(status, &body),
                _ => live.ticket.broke(&told.message),
            }
            told
        }
    }
}

/// How often it is looked whether the client has heard nothing for long.
const TICK_MS: u64 = 5000;

/// After how long a silence the client is told that the answer is still under way.
const KEEP_ALIVE_MS: u64 = 15_000;
