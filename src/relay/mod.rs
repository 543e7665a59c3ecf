//! One loop: lease a key, send, judge the answer, record, then the next key or the answer. Nothing of an answer reaches the
//! client before it is known to be good, and nothing is tried again afterwards.

mod failure;
mod ticket;

use std::{
    cell::{Cell, RefCell},
    future::Future,
    rc::Rc,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use self::failure::{Bad, DEFAULT_WAIT_S, Nobody, seconds};
pub use self::{failure::Failure, ticket::Ticket};
use crate::{
    catalogue::Catalogue,
    classify::{self, Fault, Judgement},
    error::ApiError,
    metrics::Counters,
    pool::{self, Draw, Exhausted, Lease, Leased, Pool, Step, Target, Walk, key::Candidate},
    ports::{Inbound, Outbound, Ports, ReadBody, SqlError, TransportError, UnixMillis},
    redact::{redact, scrub},
    store::{self, Database, hand::Source},
    turns::Turns,
    upkeep::Upkeep,
    vault::Vault,
};

/// One client's request, as the keys of a pool are tried with it.
pub trait Attempt<P: Ports> {
    /// What a good answer becomes.
    type Output;

    /// The request for this key.
    fn request(&mut self, key: &Candidate) -> Result<Outbound<P::RequestBody>, ApiError>;

    /// Takes an answer whose head is good. What it returns as broken is tried again.
    fn accept(
        &mut self,
        key: &Candidate,
        answer: Inbound<P::ResponseBody>,
    ) -> impl Future<Output = Result<Self::Output, Broken>>;

    /// Mends the request after the upstream refused it as wrong. When it can, the same key is asked once more.
    fn adapt(&mut self, _status: StatusCode, _body: &[u8]) -> bool {
        false
    }

    /// Whether the request can be sent again. One whose body streams through cannot.
    fn is_repeatable(&self) -> bool {
        true
    }
}

/// Why an answer with a good head is of no use.
#[derive(Debug)]
pub enum Broken {
    /// The connection failed.
    Transport(TransportError),
    /// It holds an error, judged as if it had come with this status.
    Upstream(StatusCode, Vec<u8>),
    /// It holds nothing, or nothing that can be read.
    Empty,
    /// It is a slip of the model, or the attempt has mended its request: the same key is asked again.
    Again,
    /// The request cannot be served, whatever the key.
    Caller(ApiError),
}

/// A good answer.
pub struct Delivered<P: Ports, T> {
    /// What the attempt made of it.
    pub output: T,
    /// Records how it ends.
    pub ticket: Ticket<P>,
    /// The key that served, masked.
    pub key: String,
    /// Upstream calls that it took.
    pub attempts: u32,
}

/// The relay of one instance. Cloning yields another handle to the same one.
pub struct Relay<P: Ports>(Rc<State<P>>);

struct State<P: Ports> {
    ports: P,
    database: Rc<Database<P>>,
    pool: RefCell<Pool>,
    source: RefCell<Source>,
    drawing: Turns<Draw>,
    counters: RefCell<Counters>,
    flush_waits: Cell<bool>,
    flushed_at: Cell<UnixMillis>,
    /// How many requests have begun.
    begun: Cell<u64>,
    upkeep: Upkeep<P>,
    /// What the last attempt to write said.
    fault: RefCell<Option<String>>,
    /// When other instances were told of it.
    fault_told_at: Cell<UnixMillis>,
}

impl<P: Ports> Relay<P> {
    /// A relay with an empty pool.
    pub fn new(ports: P, database: Rc<Database<P>>) -> Self {
        let upkeep = Upkeep::new(ports.clone(), Rc::clone(&database));
        Self(Rc::new(State {
            ports,
            database,
            pool: RefCell::default(),
            source: RefCell::default(),
            drawing: Turns::default(),
            counters: RefCell::default(),
            flush_waits: Cell::new(false),
            flushed_at: Cell::default(),
            begun: Cell::default(),
            upkeep,
            fault: RefCell::default(),
            fault_told_at: Cell::default(),
        }))
    }

    /// Takes new settings into use.
    pub fn configure(&self, settings: &crate::settings::Settings, vault: Rc<Vault>) {
        let mut pool = settings.pool.clone();
        if !P::IS_REUSED {
            // One request is all that an instance sees.
            pool.storm_keys_most = pool.storm_keys_most.min(pool.max_attempts as usize);
        }
        self.0.pool.borrow_mut().configure(pool);
        self.0.upkeep.configure(&settings.pool);
        if !P::IS_REUSED {
            self.0.database.trust_others(settings.pool.pool_ttl_ms);
        }
        self.0.source.replace(Source {
            vault,
            gemini: Rc::from(settings.gemini_base_url.as_str()),
            openai: Rc::from(settings.openai_base_url.as_str()),
        });
    }

    /// Forgets what was read and learnt: the administrator has changed something.
    pub fn forget(&self) {
        self.0.pool.borrow_mut().forget(self.0.ports.now());
        if !P::IS_REUSED {
            let ports = self.0.ports.clone();
            self.0.ports.spawn(async move { store::snapshot::forget(&ports).await });
        }
    }

    /// Counts one answered request for `/metrics`.
    pub fn observe(&self, route: &'static str, status: StatusCode, ms: i64, is_stream: bool) {
        self.0
            .counters
            .borrow_mut()
            .observe(route, status.as_u16(), ms, is_stream);
        self.flush_later();
    }

    /// How old what is known of the pool is, in milliseconds.
    pub fn snapshot_age(&self, now: UnixMillis) -> Option<i64> {
        self.0.pool.borrow().snapshot_age(now)
    }

    /// Why the database could not be written the last time.
    pub fn database_fault(&self) -> Option<String> {
        self.0.fault.borrow().clone()
    }

    /// What a draw would give now. Nothing is leased or remembered.
    pub async fn preview(&self, draw: &Draw) -> Result<pool::Drawn, SqlError> {
        let source = self.0.source.borrow().clone();
        let now = self.0.ports.now();
        let (drawn, _) = store::hand::draw(&self.0.database, draw, &source, 0, pool::HAND, now).await?;
        Ok(drawn)
    }

    /// Reads the catalogue, and deals a hand for `guess` with it: a new instance waits for both.
    pub async fn read_catalogue(&self, guess: &Target) -> Result<Catalogue, SqlError> {
        let source = self.0.source.borrow().clone();
        let now = self.0.ports.now();
        if store::hand::is_shared(&self.0.database, &source) {
            return Catalogue::read_shared(&self.0.database, now).await;
        }
        let wanted = self.0.pool.borrow().wanted(guess, now);
        let Some((draw, size)) = wanted else {
            return Catalogue::read(&self.0.database).await;
        };
        let start = self.start(&draw);
        let (catalogue, draw, hand) =
            Catalogue::read_with_hand(&self.0.database, draw, &source, start, size, now).await?;
        if let Some((drawn, marks)) = hand {
            self.0.upkeep.learn(marks);
            self.0.pool.borrow_mut().deal(draw, drawn, self.0.ports.now());
        }
        Ok(catalogue)
    }

    /// Walks the pool until a key serves or nobody can.
    pub async fn run<A: Attempt<P>>(
        &self,
        target: &Target,
        started: UnixMillis,
        attempt: &mut A,
    ) -> Result<Delivered<P, A::Output>, Failure> {
        self.0.begun.set(self.0.begun.get().wrapping_add(1));
        let settings = self.0.pool.borrow().settings().clone();
        let mut walk = Walk::new(&settings, started);
        let mut last = None;
        loop {
            let lease = match self.lease(target, &mut walk).await {
                Ok(lease) => lease,
                Err(mut why) => {
                    // The last one was refused, and this hand has no other: whether keys rest is the database's to say.
                    let refused = last
                        .as_ref()
                        .is_some_and(|bad: &Bad| bad.judgement.fault == Fault::Credential);
                    if refused && matches!(why, Nobody::Exhausted(Exhausted::AllTried)) {
                        why = self.resting(target).await.map_or(why, Nobody::Exhausted);
                    }
                    return Err(Failure::nobody(target, &walk, why, last, self.0.ports.now()));
                }
            };
            let sent_at = self.0.ports.now();
            let (judgement, upstream) = match self.try_key(&lease, &mut walk, attempt).await {
                Tried::Good(output) => {
                    let key = lease.key.secret.masked();
                    let ticket = Ticket {
                        relay: self.clone(),
                        lease: Some(lease),
                        started: sent_at,
                    };
                    return Ok(Delivered {
                        output,
                        ticket,
                        key,
                        attempts: walk.attempts,
                    });
                }
                Tried::Refused(error) => {
                    return Err(Failure {
                        error,
                        upstream: None,
                        no_keys: false,
                        attempts: walk.attempts,
                        key: Some(lease.key.secret.masked()),
                    });
                }
                Tried::Bad(judgement, upstream) => (judgement, upstream),
            };
            let now = self.0.ports.now();
            let message = redact(&judgement.message, Some(lease.key.secret.expose()));
            let key = lease.key.secret.masked();
            if judgement.rest == classify::Rest::Dead {
                self.tell(
                    "key_dead",
                    &format!("key={key:?} rule={} message={message:?}", judgement.rule),
                );
            }
            let (storm, rests, step) = {
                let mut pool = self.0.pool.borrow_mut();
                pool.failed(&lease, &judgement, &message, now);
                let step = walk.failed(
                    &settings,
                    &lease.key,
                    &judgement,
                    attempt.is_repeatable(),
                    now,
                    self.0.ports.seed(),
                );
                (pool.storm(&lease, now), pool.resting(&lease, now), step)
            };
            if P::IS_REUSED {
                self.flush_later();
            } else {
                // The next request is another instance's: it has to know of this before the client can send it.
                self.flush().await;
            }
            let mut wait = rests.map_or(DEFAULT_WAIT_S, |until| seconds(until, now));
            if matches!(step, Step::Stop) && judgement.fault == Fault::RateLimit {
                // There may be others, which this request may not try any more: the next one need not wait for this key.
                wait = wait.min(seconds(now.plus(settings.storm_rest_ms), now));
            }
            let bad = Bad {
                judgement,
                message,
                upstream,
                key,
                wait,
            };
            if let Some(until) = storm {
                let (endpoint, model, ms) = (&lease.key.base_url, &lease.model, until.since(now));
                self.tell(
                    "endpoint_rests",
                    &format!("endpoint={endpoint:?} model={model:?} ms={ms}"),
                );
                let mut failure = bad.into_failure(target, &walk);
                failure.error = ApiError::rate_limited(seconds(until, now));
                return Err(failure);
            }
            match step {
                Step::Stop => return Err(bad.into_failure(target, &walk)),
                Step::OtherKey => {}
                Step::SameKey(ms) => {
                    self.0.ports.sleep(ms).await;
                    walk.prefer(&lease);
                }
            }
            last = Some(bad);
        }
    }

    /// Asks with the client's own key, which is in no pool: nothing is chosen, counted or held against it.
    pub async fn run_own<A: Attempt<P>>(
        &self,
        key: Candidate,
        model: &str,
        attempt: &mut A,
    ) -> Result<Delivered<P, A::Output>, Failure> {
        let started = self.0.ports.now();
        let masked = key.secret.masked();
        let lease = Lease {
            key: Rc::new(key),
            model: Rc::from(model),
        };
        let mut walk = Walk::new(self.0.pool.borrow().settings(), started);
        let (judgement, upstream) = match self.try_key(&lease, &mut walk, attempt).await {
            Tried::Good(output) => {
                let ticket = Ticket {
                    relay: self.clone(),
                    lease: None,
                    started,
                };
                return Ok(Delivered {
                    output,
                    ticket,
                    key: masked,
                    attempts: walk.attempts,
                });
            }
            Tried::Refused(error) => return Err(error.into()),
            Tried::Bad(judgement, upstream) => (judgement, upstream),
        };
        let message = redact(&judgement.message, Some(lease.key.secret.expose()));
        // With one key of the client's own, what is wrong with the key is the client's to know.
        let refused = (judgement.fault == Fault::Credential).then(|| ApiError::unauthorized(message.clone()));
        let target = Target {
            group: Rc::from(""),
            api_type: lease.key.api_type,
            model: Rc::clone(&lease.model),
            endpoints: None,
            sticky: None,
            pinned: false,
        };
        let wait = match judgement.rest {
            classify::Rest::Key(ms) | classify::Rest::Model(ms) | classify::Rest::ModelDoubling(ms, _) => {
                seconds(started.plus(ms), started)
            }
            _ => DEFAULT_WAIT_S,
        };
        let bad = Bad {
            judgement,
            message,
            upstream,
            key: masked,
            wait,
        };
        let mut failure = bad.into_failure(&target, &walk);
        if let Some(refused) = refused {
            failure.error = refused;
        }
        Err(failure)
    }

    /// Writes what waits to be written, and says whether it could. What cannot be written now is kept.
    pub async fn flush(&self) -> bool {
        let (writes, usage) = {
            let mut pool = self.0.pool.borrow_mut();
            (pool.take_writes(), pool.take_usage())
        };
        let counters = self.0.counters.borrow_mut().take();
        if writes.is_empty() && usage.is_empty() && counters.is_empty() {
            return true;
        }
        let now = self.0.ports.now();
        match store::pool::flush_counted(&self.0.database, &writes, &usage, &counters, now).await {
            Ok(()) => {
                if self.0.fault.replace(None).is_some() {
                    // Best effort: it is believed for a minute.
                    let _ = self.0.ports.delete(FAULT).await;
                }
                true
            }
            Err(error) => {
                {
                    let mut pool = self.0.pool.borrow_mut();
                    pool.return_writes(writes);
                    pool.return_usage(usage);
                }
                self.0.counters.borrow_mut().put_back(counters);
                let told = error.to_string();
                if self.0.fault.borrow().as_ref() != Some(&told) {
                    self.0
                        .ports
                        .log(&format!("level=error event=flush_failed error={told:?}"));
                }
                self.0.fault.replace(Some(told.clone()));
                self.tell_fault(told, now).await;
                false
            }
        }
    }

    /// Does what is due of the upkeep. A database that cannot be written now is left alone.
    async fn keep_up(&self) {
        if self.0.fault.borrow().is_some() {
            return;
        }
        let source = self.0.source.borrow().clone();
        if self.0.upkeep.run(&source, self.0.ports.now()).await {
            self.forget();
        }
    }

    /// Lets other instances know that the database cannot be written: who asks for it asks any instance.
    async fn tell_fault(&self, error: String, now: UnixMillis) {
        if now.since(self.0.fault_told_at.get()) < FAULT_TOLD_EVERY_MS {
            return;
        }
        self.0.fault_told_at.set(now);
        let fault = serde_json::json!([now.0, error]).to_string();
        let _ = self.0.ports.set(FAULT, fault.as_bytes()).await;
    }

    /// Why the database cannot be written, as far as any instance knows or a try shows.
    pub async fn storage_fault(&self) -> Option<String> {
        let now = self.0.ports.now();
        let told = self.0.ports.get(FAULT).await.ok().flatten();
        let told: Option<(i64, String)> = told.and_then(|told| serde_json::from_slice(&told).ok());
        let told = told.filter(|(at, _)| now.since(UnixMillis(*at)) < FAULT_BELIEVED_MS);
        if let Some(fault) = self.database_fault().or(told.map(|(_, error)| error)) {
            return Some(fault);
        }
        self.0.database.try_write().await.err().map(|error| error.to_string())
    }

    /// A line for the operator, who may have to do something.
    fn tell(&self, event: &str, detail: &str) {
        self.0.ports.log(&format!("level=warn event={event} {detail}"));
    }

    /// Writes soon, after the response: at most once a second, sooner when keys have failed, so that other instances learn
    /// of it.
    fn flush_later(&self) {
        let is_clean = !self.0.pool.borrow().is_dirty() && self.0.counters.borrow().is_empty();
        if self.0.flush_waits.get() || is_clean {
            return;
        }
        self.0.flush_waits.set(true);
        let relay = self.clone();
        self.0.ports.spawn(async move {
            relay.wait_for_quiet().await;
            let mut tries = 1;
            loop {
                relay.0.flush_waits.set(false);
                let is_written = relay.flush().await;
                // An instance that idles is dropped, and with it what it has not written: it stays for some more tries, unless
                // a request has begun to wait for another meanwhile.
                if is_written || !P::IS_REUSED || tries >= FLUSH_TRIES || relay.0.flush_waits.replace(true) {
                    break;
                }
                tries += 1;
                relay.0.ports.linger(FLUSH_AGAIN_MS).await;
            }
            relay.keep_up().await;
        });
    }

    /// Waits [`FLUSH_AFTER_MS`], or until no request has begun for a moment where nothing was written lately: an instance that
    /// has served its last request stays in memory for what it has to write.
    async fn wait_for_quiet(&self) {
        let flushed = self.0.ports.now().since(self.0.flushed_at.get());
        let (mut waited, mut begun) = (0, self.0.begun.get());
        let step = if (0..FLUSH_APART_MS).contains(&flushed) {
            FLUSH_AFTER_MS
        } else {
            QUIET_MS
        };
        while waited < FLUSH_AFTER_MS {
            self.0.ports.linger(step).await;
            waited += step;
            let now_begun = self.0.begun.get();
            if now_begun == begun {
                break;
            }
            begun = now_begun;
        }
        self.0.flushed_at.set(self.0.ports.now());
    }

    /// When the first of the keys that could serve comes back, if all of them rest.
    async fn resting(&self, target: &Target) -> Option<Exhausted> {
        self.flush().await;
        for group in [Rc::clone(&target.group), Rc::from("")] {
            let draw = Draw {
                group,
                api_type: target.api_type,
                model: Rc::clone(&target.model),
                endpoints: target.endpoints.clone(),
                bucket: None,
            };
            let census = self.preview(&draw).await.ok()?.census;
            if census.keys > 0 {
                let (until, fault) = census.soonest?;
                return Some(Exhausted::Resting(until, fault));
            }
        }
        None
    }

    /// Leases a key; draws a hand first where there is none that is fresh.
    async fn lease(&self, target: &Target, walk: &mut Walk) -> Result<Lease, Nobody> {
        if let Some(lease) = walk.take_preferred() {
            return Ok(lease);
        }
        let mut draws = 0;
        let mut has_waited = false;
        loop {
            let now = self.0.ports.now();
            let leased = self.0.pool.borrow_mut().lease(target, walk, now, self.0.ports.seed());
            let (draw, size) = match leased {
                // The pool does not lease a key again that another request is trying: this ends.
                Leased::Key(lease) if lease.key.half_open && !self.may_probe(&lease, now).await => continue,
                Leased::Key(lease) => return Ok(lease),
                Leased::Exhausted(why) => return Err(Nobody::Exhausted(why)),
                Leased::NeedHand(..) if draws >= MOST_DRAWS => return Err(Nobody::Exhausted(Exhausted::AllTried)),
                Leased::NeedHand(draw, size) => (draw, size),
            };
            // A request that has tried keys asks for others than those who come new; one that has waited in vain, where nothing
            // that was read is trusted, does not wait again.
            let turn = if walk.tried_any() || has_waited {
                None
            } else {
                match self
                    .0
                    .drawing
                    .take(&draw, async |ms| self.0.ports.sleep(ms).await)
                    .await
                {
                    Some(turn) => Some(turn),
                    None => {
                        has_waited = true;
                        continue;
                    }
                }
            };
            draws += 1;
            if walk.tried_any() {
                // The database has to know of the keys that failed, or it would deal them again.
                self.flush().await;
                walk.redrawn();
            }
            let start = self.start(&draw);
            let source = self.0.source.borrow().clone();
            let drawn = store::hand::draw(&self.0.database, &draw, &source, start, size, now).await;
            let now = self.0.ports.now();
            let mut pool = self.0.pool.borrow_mut();
            match drawn {
                Ok((drawn, marks)) => {
                    self.0.upkeep.learn(marks);
                    pool.deal(draw, drawn, now);
                }
                // What was drawn before goes on serving while the database is out of reach.
                Err(_) if pool.keep_hand(&draw, now) => {}
                Err(error) => {
                    if let Some(turn) = turn {
                        turn.failed();
                    }
                    return Err(Nobody::Database(error));
                }
            }
        }
    }

    /// Where in the random order of a pool's keys a hand begins.
    fn start(&self, draw: &Draw) -> i64 {
        match draw.bucket {
            Some(bucket) => i64::from(bucket) << 25,
            None => (self.0.ports.seed() >> 33) as i64,
        }
    }

    /// Whether a half-open key may be tried: one request of one instance tries it. While the database cannot be written each
    /// instance decides for itself.
    async fn may_probe(&self, lease: &Lease, now: UnixMillis) -> bool {
        let claimed = store::hand::claim_probe(&self.0.database, lease.key.id, now).await;
        claimed.unwrap_or(true)
    }

    /// Counts a call that says nothing of its key: what is counted is what the upstream has seen.
    fn count(&self, lease: &Lease, fault: Fault) {
        let now = self.0.ports.now();
        self.0.pool.borrow_mut().counted(lease, fault, now);
    }

    async fn try_key<A: Attempt<P>>(&self, lease: &Lease, walk: &mut Walk, attempt: &mut A) -> Tried<A::Output> {
        let key = &lease.key;
        let mut adapted = 0;
        loop {
            walk.attempts += 1;
            let request = match attempt.request(key) {
                Ok(request) => request,
                Err(error) => return Tried::Refused(error),
            };
            let answer = match self.0.ports.send(request).await {
                Ok(answer) => answer,
                Err(error) => return Tried::Bad(classify::classify_transport(error), None),
            };
            let now = self.0.ports.now();
            if answer.status.is_success() {
                return match attempt.accept(key, answer).await {
                    Ok(output) => Tried::Good(output),
                    Err(Broken::Caller(error)) => {
                        self.count(lease, Fault::Caller);
                        Tried::Refused(error)
                    }
                    Err(Broken::Transport(error)) => Tried::Bad(classify::classify_transport(error), None),
                    Err(Broken::Upstream(status, body)) => Tried::Bad(
                        classify::classify(key.api_type, status, &HeaderMap::new(), &body, now),
                        None,
                    ),
                    Err(Broken::Again) if adapted < MOST_ADAPTATIONS => {
                        self.count(lease, Fault::Overload);
                        adapted += 1;
                        continue;
                    }
                    Err(Broken::Empty | Broken::Again) => Tried::Bad(
                        classify::classify(key.api_type, StatusCode::BAD_GATEWAY, &HeaderMap::new(), b"", now),
                        None,
                    ),
                };
            }
            let (status, headers) = (answer.status, answer.headers);
            let body = read_error(answer.body).await;
            let judgement = classify::classify(key.api_type, status, &headers, &body, now);
            if judgement.fault == Fault::Caller && adapted < MOST_ADAPTATIONS && attempt.adapt(status, &body) {
                self.count(lease, Fault::Caller);
                adapted += 1;
                continue;
            }
            let text = redact_body(&body, key);
            return Tried::Bad(judgement, Some((status, headers, text)));
        }
    }
}

impl<P: Ports> Clone for Relay<P> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

enum Tried<T> {
    Good(T),
    Refused(ApiError),
    Bad(Judgement, Option<(StatusCode, HeaderMap, Bytes)>),
}

/// Reads the body of an error. What is longer is cut off: nobody writes errors of this length.
async fn read_error<B: ReadBody>(mut body: B) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Ok(Some(chunk)) = body.chunk().await {
        whole.extend(chunk.iter().take(MOST_ERROR_BYTES - whole.len()));
        if whole.len() >= MOST_ERROR_BYTES {
            break;
        }
    }
    whole
}

fn redact_body(body: &[u8], key: &Candidate) -> Bytes {
    Bytes::from(scrub(&String::from_utf8_lossy(body), Some(key.secret.expose())))
}

/// The largest part of an error's body that is read.
const MOST_ERROR_BYTES: usize = 64 * 1024;

/// The name in the key-value store under which instances tell each other that the database cannot be written.
const FAULT: &str = "database_fault";
const FAULT_TOLD_EVERY_MS: i64 = 10_000;
const FAULT_BELIEVED_MS: i64 = 60_000;

/// How often one request is mended for one key.
const MOST_ADAPTATIONS: u32 = 3;

/// How often one lease may need a hand: a group's, the default group's, and again.
const MOST_DRAWS: u32 = 6;

/// How long what was learnt waits to be written: long enough to write much at once, short enough that after two seconds of
/// quiet everything is.
const FLUSH_AFTER_MS: u64 = 500;

/// How often it is tried to write what an instance has counted, and how long after the last try.
const FLUSH_TRIES: u32 = 4;
const FLUSH_AGAIN_MS: u64 = 1000;

/// How long nothing has to begin until it is written sooner.
const QUIET_MS: u64 = 100;

/// How long after the last time nothing is written sooner.
const FLUSH_APART_MS: i64 = 1000;
