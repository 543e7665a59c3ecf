//! Chat and legacy completions with Gemini's models: translated, sent, and translated back, streamed or whole.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
};

use bytes::Bytes;
use futures::{
    future::{Either, select, try_join_all},
    stream::{self, FuturesUnordered, StreamExt as _},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::{
    app::App,
    catalogue::Choice,
    error::ApiError,
    handlers::{self, Context, download, explain, fetch, passthrough},
    openai::answer::Usage,
    pool::{Selection, Target, key::ApiType, key::Candidate},
    ports::{
        Body, Inbound, Outbound, OutboundBody, Ports, Producer, ReadBody, Response, Sink as _, Timeouts, TransportError,
    },
    relay::{Attempt, Broken, Delivered, Failure, Ticket},
    sse::{self, Decoder},
    translate::{
        completions,
        error::{self, AnswerError, Why},
        request::{self, Prepared},
        response::{self, Answer, Kind, Shape},
        stream::ChatStream,
        tools::Names,
    },
};

/// Which of OpenAI's routes is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completions,
}

/// Answers a request with a model of Gemini's.
pub async fn answer<P: Ports>(
    context: &Context<P>,
    route: Route,
    group: &str,
    head: &passthrough::Head,
    body: &Bytes,
    choice: &Choice,
) -> Result<Response<P>, Failure> {
    let app = &context.app;
    let recall = |id: &str| app.recall_signature(id, context.started);
    let (requests, echo) = match route {
        Route::Chat => (vec![request::prepare(body, &choice.model, &recall)?], Vec::new()),
        Route::Completions => {
            let completions = completions::prepare_completion(body, &choice.model)?;
            let n = completions.requests.first().map_or(1, |prepared| prepared.n as usize);
            let echo = completions.echo.into_iter().map(Cow::Owned);
            let each = echo.flat_map(|prompt| std::iter::repeat_n(prompt, n)).collect();
            (completions.requests, each)
        }
    };
    let mut works = Vec::with_capacity(requests.len());
    for mut prepared in requests {
        fill(context, &mut prepared).await?;
        works.push(Work::new(prepared));
    }
    let Some(first) = works.first() else {
        return Err(ApiError::missing("prompt").into());
    };
    let (stream, include_usage, n, pinned, pcm) = {
        let prepared = first.prepared.borrow();
        (
            prepared.stream,
            prepared.include_usage,
            prepared.n,
            prepared.pinned,
            prepared.pcm,
        )
    };
    let names = first.prepared.borrow().names.clone();
    let requested = passthrough::Peek::read(body)?.required_model()?.into_owned();
    let seed = context.ports().seed();
    let call = Call {
        target: target(context, group, choice, body, pinned)?,
        path: format!(
            "/v1beta/models/{}:{}",
            first.prepared.borrow().model,
            if stream {
                "streamGenerateContent?alt=sse"
            } else {
                "generateContent"
            }
        ),
        timeouts: context.settings.timeouts(stream),
        id: match route {
            Route::Chat => format!("chatcmpl-{seed:016x}"),
            Route::Completions => format!("cmpl-{seed:016x}"),
        },
        created: context.started.0.div_euclid(1000),
        model: requested,
        names,
        seed,
        kind: match route {
            Route::Chat => Kind::Chat,
            Route::Completions => Kind::Completion { echo: &echo },
        },
        include_usage,
        pcm,
    };
    // Each of several answers is a call of its own: Gemini's models give one a call.
    let calls: Vec<&Work> = works
        .iter()
        .flat_map(|work| std::iter::repeat_n(work, n as usize))
        .collect();
    if stream {
        streamed(context, head, &call, &calls).await
    } else {
        whole(context, head, &call, &calls).await
    }
}

/// Fetches what the request names by URL.
async fn fill<P: Ports>(context: &Context<P>, prepared: &mut Prepared<'_>) -> Result<(), ApiError> {
    let wanted = prepared.downloads.clone();
    let fetches = wanted
        .iter()
        .map(|wanted| download::fetch(context, &wanted.url, &wanted.param));
    // Few at once: each may be large, and what is too much together is noticed as they come in.
    let mut files = stream::iter(fetches).buffered(DOWNLOADS_AT_ONCE).enumerate();
    while let Some((number, file)) = files.next().await {
        let file = file?;
        prepared.inline(number, &file.mime, &file.data)?;
    }
    Ok(())
}

fn target<P: Ports>(
    context: &Context<P>,
    group: &str,
    choice: &Choice,
    body: &[u8],
    pinned: bool,
) -> Result<Target, ApiError> {
    let sticky = match context.settings.selection {
        _ if pinned => Some(passthrough::hash(group)),
        Selection::Sticky => passthrough::Peek::read(body)?.conversation(),
        _ => None,
    };
    Ok(Target {
        sticky,
        pinned,
        ..choice.target(group)
    })
}

async fn whole<P: Ports>(
    context: &Context<P>,
    head: &passthrough::Head,
    call: &Call<'_>,
    works: &[&Work<'_>],
) -> Result<Response<P>, Failure> {
    let runs = (0..).zip(works).map(async |(number, work)| {
        let mut whole = Whole(Attempted::new(call, work, number, works.len()));
        run(context, head, call, &mut whole).await
    });
    let delivered = try_join_all(runs).await?;
    let (key, attempts) = served_by(&delivered);
    let mut answer = None;
    if delivered.len() > 1 {
        let bodies: Vec<&[u8]> = delivered.iter().map(|one| &*one.output.0).collect();
        let shape = Shape {
            is_last: true,
            ..call.shape()
        };
        answer = Some(response::completion(&bodies, &shape).map_err(|error| error.told(None))?);
    }
    for one in delivered {
        let (_, own) = one.output;
        note(&context.app, &[], own.flagged, own.unknown_finish.as_deref(), &one.key);
        one.ticket.succeeded(own.tokens);
        answer.get_or_insert(own);
    }
    let answer = answer.ok_or_else(|| ApiError::missing("messages"))?;
    context.app.remember_signatures(&answer.signatures);
    let mut response = handlers::bytes(StatusCode::OK, handlers::JSON, Bytes::from(answer.body));
    explain(&mut response.headers, &key, attempts);
    Ok(response)
}

async fn streamed<P: Ports>(
    context: &Context<P>,
    head: &passthrough::Head,
    call: &Call<'_>,
    works: &[&Work<'_>],
) -> Result<Response<P>, Failure> {
    let runs = (0..).zip(works).map(async |(number, work)| {
        let mut streamed = Streamed(Attempted::new(call, work, number, works.len()));
        run(context, head, call, &mut streamed).await
    });
    let delivered = try_join_all(runs).await?;
    let (key, attempts) = served_by(&delivered);
    let feeds: Vec<Live<P>> = delivered
        .into_iter()
        .map(|one| Live {
            feed: one.output,
            ticket: one.ticket,
        })
        .collect();
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    explain(&mut headers, &key, attempts);
    Ok(Response {
        status: StatusCode::OK,
        headers,
        body: Body::Stream(pump(context.app.clone(), feeds, key)),
    })
}

/// Asks the pool, or the upstream with the client's own key.
async fn run<P: Ports, A: Attempt<P>>(
    context: &Context<P>,
    head: &passthrough::Head,
    call: &Call<'_>,
    attempt: &mut A,
) -> Result<Delivered<P, A::Output>, Failure> {
    let relay = &context.instance().relay;
    match &head.own_key {
        Some(key) => {
            let key = Candidate::own(ApiType::Gemini, key.clone(), &context.settings.gemini_base_url);
            relay.run_own(key, &call.target.model, attempt).await
        }
        None => relay.run(&call.target, context.started, attempt).await,
    }
}

fn served_by<P: Ports, T>(delivered: &[Delivered<P, T>]) -> (String, u32) {
    let key = delivered.first().map(|one| one.key.clone()).unwrap_or_default();
    (key, delivered.iter().map(|one| one.attempts).sum())
}

/// Keeps what an answer says beside its words.
fn note<P: Ports>(app: &App<P>, signatures: &[(String, String)], flagged: bool, unknown: Option<&str>, key: &str) {
    app.remember_signatures(signatures);
    if flagged {
        app.instance()
            .ports
            .log(&format!("level=warn event=key_limited_by_provider key={key}"));
    }
    if let Some(reason) = unknown {
        app.instance()
            .ports
            .log(&format!("level=warn event=unknown_finish_reason reason={reason:?}"));
    }
}

/// What all upstream calls of one request share.
struct Call<'c> {
    target: Target,
    path: String,
    timeouts: Timeouts,
    id: String,
    created: i64,
    model: String,
    names: Names,
    seed: u64,
    kind: Kind<'c>,
    include_usage: bool,
    pcm: bool,
}

impl Call<'_> {
    fn shape(&self) -> Shape<'_> {
        Shape {
            id: &self.id,
            created: self.created,
            model: &self.model,
            names: &self.names,
            seed: self.seed,
            kind: self.kind,
            service_tier: None,
            pcm: self.pcm,
            is_last: false,
        }
    }
}

/// One request to Gemini, and its bytes as they were last written, for each of its answers.
struct Work<'a> {
    prepared: RefCell<Prepared<'a>>,
    bodies: RefCell<Vec<Bytes>>,
}

impl<'a> Work<'a> {
    fn new(mut prepared: Prepared<'a>) -> Self {
        Self {
            bodies: RefCell::new(prepared.bodies()),
            prepared: RefCell::new(prepared),
        }
    }

    /// The bytes for a choice of the whole answer.
    fn body(&self, number: u32) -> Bytes {
        let bodies = self.bodies.borrow();
        let place = (number as usize).checked_rem(bodies.len());
        place.and_then(|place| bodies.get(place)).cloned().unwrap_or_default()
    }

    fn adapt(&self, message: &str) -> bool {
        let mut prepared = self.prepared.borrow_mut();
        let changed = prepared.adapt(message);
        if changed {
            self.bodies.replace(prepared.bodies());
        }
        changed
    }
}

/// One upstream call on its way from key to key.
struct Attempted<'w, 'c, 'a> {
    call: &'w Call<'c>,
    work: &'w Work<'a>,
    number: u32,
    several: bool,
    /// Whether the model has slipped already: its next answer is told whatever it is like.
    has_slipped: Cell<bool>,
}

impl<'w, 'c, 'a> Attempted<'w, 'c, 'a> {
    fn new(call: &'w Call<'c>, work: &'w Work<'a>, number: u32, count: usize) -> Self {
        Self {
            call,
            work,
            number,
            several: count > 1,
            has_slipped: Cell::new(false),
        }
    }

    fn request<B>(&self, key: &Candidate) -> Result<Outbound<B>, ApiError> {
        let (name, value) = passthrough::credential(key)?;
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(header::CONTENT_TYPE, handlers::JSON);
        headers.insert(name, value);
        Ok(Outbound {
            method: Method::POST,
            url: format!("{}{}", key.base_url, self.call.path),
            headers,
            body: OutboundBody::Full(self.work.body(self.number)),
            timeouts: self.call.timeouts,
        })
    }

    fn shape(&self, headers: &HeaderMap) -> Shape<'_> {
        let tier = headers.get("x-gemini-service-tier").and_then(|tier| tier.to_str().ok());
        Shape {
            service_tier: tier.and_then(response::service_tier),
            is_last: self.has_slipped.get(),
            seed: self.call.seed.wrapping_add(self.number.into()),
            ..self.call.shape()
        }
    }

    fn adapt(&self, body: &[u8]) -> bool {
        let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let body = body.get(0).unwrap_or(&body);
        let message = body
            .get("error")
            .and_then(|error| error.get("message"))
            .and_then(serde_json::Value::as_str);
        message.is_some_and(|message| self.work.adapt(message))
    }

    /// What an answer that cannot be told means for the walk over the pool.
    fn broken(&self, error: AnswerError) -> Broken {
        match error {
            AnswerError::Upstream { status, body } => Broken::Upstream(status, body),
            AnswerError::Retry(why @ (Why::MalformedCall | Why::MissingSignature)) => {
                if why == Why::MissingSignature {
                    self.work.adapt(MISSING_SIGNATURE);
                }
                self.has_slipped.set(true);
                Broken::Again
            }
            AnswerError::Retry(Why::Empty) | AnswerError::Unreadable | AnswerError::Unfinished => Broken::Empty,
        }
    }
}

/// A call whose answer is read whole.
struct Whole<'w, 'c, 'a>(Attempted<'w, 'c, 'a>);

impl<P: Ports> Attempt<P> for Whole<'_, '_, '_> {
    type Output = (Bytes, Answer);

    fn request(&mut self, key: &Candidate) -> Result<Outbound<P::RequestBody>, ApiError> {
        self.0.request(key)
    }

    async fn accept(&mut self, _: &Candidate, answer: Inbound<P::ResponseBody>) -> Result<Self::Output, Broken> {
        let body = fetch::whole(answer.body).await.map_err(Broken::Transport)?;
        let shape = self.0.shape(&answer.headers);
        let answer = response::completion(&[&body], &shape).map_err(|error| self.0.broken(error))?;
        // Several answers are put together of their bytes; one is whole already.
        Ok((if self.0.several { body } else { Bytes::new() }, answer))
    }

    fn adapt(&mut self, _: StatusCode, body: &[u8]) -> bool {
        self.0.adapt(body)
    }
}

/// A call whose answer is streamed.
struct Streamed<'w, 'c, 'a>(Attempted<'w, 'c, 'a>);

impl<P: Ports> Attempt<P> for Streamed<'_, '_, '_> {
    type Output = Feed<P>;

    fn request(&mut self, key: &Candidate) -> Result<Outbound<P::RequestBody>, ApiError> {
        self.0.request(key)
    }

    /// Reads until something has come that the client is to see: until then another key can be asked.
    async fn accept(&mut self, key: &Candidate, answer: Inbound<P::ResponseBody>) -> Result<Feed<P>, Broken> {
        let shape = self.0.shape(&answer.headers);
        let mut feed = Feed {
            body: answer.body,
            decoder: Decoder::new(fetch::MOST_BYTES),
            stream: ChatStream::new(&shape, self.0.number, self.0.call.include_usage),
            out: Vec::with_capacity(1024),
            has_ended: false,
            secret: key.secret.clone(),
        };
        while !feed.has_ended && !feed.stream.is_committed() {
            feed.read().await.map_err(|stopped| match stopped {
                Stopped::Transport(error) => Broken::Transport(error),
                Stopped::Answer(error) => self.0.broken(error),
            })?;
        }
        Ok(feed)
    }

    fn adapt(&mut self, _: StatusCode, body: &[u8]) -> bool {
        self.0.adapt(body)
    }
}

/// A streamed answer that is under way.
struct Feed<P: Ports> {
    body: P::ResponseBody,
    decoder: Decoder,
    stream: ChatStream,
    /// What is to be written to the client next.
    out: Vec<u8>,
    has_ended: bool,
    secret: crate::secret::Secret,
}

/// Why a streamed answer does not go on.
enum Stopped {
    Transport(TransportError),
    Answer(AnswerError),
}

impl<P: Ports> Feed<P> {
    /// Reads the next piece, and at the end of the body how the answer ends.
    async fn read(&mut self) -> Result<(), Stopped> {
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
struct Live<P: Ports> {
    feed: Feed<P>,
    ticket: Ticket<P>,
}

/// The task that writes the client's stream: what comes from upstream, as it comes; a comment where nothing does; at the end
/// the usage and `[DONE]`, or one error and nothing behind it.
fn pump<P: Ports>(app: App<P>, feeds: Vec<Live<P>>, key: String) -> Producer<P::Sink> {
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

/// How Gemini says that a thought signature is missing; an answer may end for that reason too.
const MISSING_SIGNATURE: &str = "Function call is missing a thought_signature";

/// How many files of one request are fetched at the same time.
const DOWNLOADS_AT_ONCE: usize = 4;

/// How often it is looked whether the client has heard nothing for long.
const TICK_MS: u64 = 5000;

/// After how long a silence the client is told that the answer is still under way.
const KEEP_ALIVE_MS: u64 = 15_000;
