//! What the core needs from its host, as one trait. The Spin adapter implements it over WASI, the tests over fakes.
//!
//! Everything runs on one thread per instance, so no future here is `Send`.

use std::future::Future;

use bytes::Bytes;
use futures::future::LocalBoxFuture;
use http::{HeaderMap, Method, StatusCode};

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// This moment, `ms` milliseconds later.
    #[must_use]
    pub const fn plus(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// The milliseconds from `earlier` to this moment; negative when `earlier` is later.
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The host of one component instance. Cloning yields another handle to the same host.
pub trait Ports: Clone + 'static {
    /// Whether an instance serves many requests, so that what it keeps is of use.
    const IS_REUSED: bool = true;

    /// The body of a client's request that has not been read.
    type RequestBody: ReadBody;
    /// The body of an upstream's answer that has not been read.
    type ResponseBody: ReadBody;
    /// Where a streamed answer is written to.
    type Sink: Sink;
    /// A connection to the database.
    type Connection: Connection;

    /// The wall clock.
    fn now(&self) -> UnixMillis;

    /// 64 random bits, for what may be guessed.
    fn seed(&self) -> u64;

    /// Fills `bytes` with unpredictable ones, fit for session ids and nonces.
    fn random(&self, bytes: &mut [u8]);

    /// Waits.
    fn sleep(&self, ms: u64) -> impl Future<Output = ()>;

    /// Waits for more to come that can be dealt with at once; hosts to which nothing more comes need not wait.
    fn linger(&self, ms: u64) -> impl Future<Output = ()> {
        self.sleep(ms)
    }

    /// Runs `work` beside and beyond the current request. Nobody waits for it.
    fn spawn(&self, work: impl Future<Output = ()> + 'static);

    /// Writes one line to the log.
    fn log(&self, line: &str);

    /// Reads a variable of the application; `None` when it is not defined.
    fn variable(&self, name: &str) -> impl Future<Output = Result<Option<String>, String>>;

    /// Sends a request upstream and waits for the answer's head.
    fn send(
        &self,
        request: Outbound<Self::RequestBody>,
    ) -> impl Future<Output = Result<Inbound<Self::ResponseBody>, TransportError>>;

    /// Opens a connection to the database. A connection dropped inside a transaction rolls it back.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, SqlError>>;

    /// Reads a value of the key-value store.
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Vec<u8>>, KeyValueError>>;

    /// Writes a value of the key-value store.
    fn set(&self, key: &str, value: &[u8]) -> impl Future<Output = Result<(), KeyValueError>>;

    /// Removes a value of the key-value store; removing nothing is fine.
    fn delete(&self, key: &str) -> impl Future<Output = Result<(), KeyValueError>>;

    /// The keys of the key-value store.
    fn list(&self) -> impl Future<Output = Result<Vec<String>, KeyValueError>>;
}

/// A client's request as the host hands it over.
#[derive(Debug)]
pub struct Request<B> {
    /// Its method.
    pub method: Method,
    /// The raw path, percent-encoding kept.
    pub path: String,
    /// The raw query without its question mark; empty when there is none.
    pub query: String,
    /// `http` or `https`, as the client sees it.
    pub scheme: String,
    /// The host and port that the client addressed.
    pub authority: String,
    /// All headers, those that the host appends among them.
    pub headers: HeaderMap,
    /// The unread body.
    pub body: B,
}

/// The answer to a client.
#[derive(Debug)]
pub struct Response<P: Ports> {
    /// Its status.
    pub status: StatusCode,
    /// Its headers. A `content-length` is added by the adapter for [`Body::Full`].
    pub headers: HeaderMap,
    /// Its body.
    pub body: Body<P>,
}

/// The body of an answer to a client.
pub enum Body<P: Ports> {
    /// Known whole.
    Full(Bytes),
    /// An upstream's body, handed on by the host without entering the guest.
    Forward(P::ResponseBody),
    /// Written piece by piece by a task of its own, which goes on after the handler has returned.
    Stream(Producer<P::Sink>),
}

impl<P: Ports> std::fmt::Debug for Body<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full(bytes) => write!(f, "Full({} bytes)", bytes.len()),
            Self::Forward(_) => f.write_str("Forward"),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// The task that writes a streamed answer; the answer ends when it does.
pub type Producer<S> = Box<dyn FnOnce(S) -> LocalBoxFuture<'static, ()>>;

/// Where a streamed answer is written to.
pub trait Sink: 'static {
    /// Writes `bytes` as one piece. Fails once the client is gone, which the host notices at a following write.
    fn write(&mut self, bytes: Bytes) -> impl Future<Output = Result<(), ClientGone>>;
}

/// The client has closed its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientGone;

/// A body that is read piece by piece.
pub trait ReadBody: 'static {
    /// The next piece; `None` at the end.
    fn chunk(&mut self) -> impl Future<Output = Result<Option<Bytes>, TransportError>>;
}

/// A request to an upstream.
#[derive(Debug)]
pub struct Outbound<B> {
    /// Its method.
    pub method: Method,
    /// The absolute URL, without any credential.
    pub url: String,
    /// Its headers; `host` and `content-length` are the adapter's.
    pub headers: HeaderMap,
    /// Its body.
    pub body: OutboundBody<B>,
    /// How long to wait.
    pub timeouts: Timeouts,
}

/// The body of a request to an upstream.
#[derive(Debug)]
pub enum OutboundBody<B> {
    /// None.
    Empty,
    /// Known whole: can be sent again.
    Full(Bytes),
    /// The client's own body, handed on by the host without entering the guest: can be sent once.
    Forward(B),
}

/// An upstream's answer, of which the head has come.
#[derive(Debug)]
pub struct Inbound<B> {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// The unread body.
    pub body: B,
}

/// How long to wait for an upstream, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the connection.
    pub connect: u64,
    /// From sending to the answer's head.
    pub first_byte: u64,
    /// Between two pieces of the answer's body.
    pub idle: u64,
}

/// Why no answer, or no whole answer, came from an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportError {
    /// The name could not be resolved.
    Dns,
    /// Nobody listens there, or the network does not lead there.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// A time-out of [`Timeouts`].
    Timeout,
    /// The connection ended early.
    Closed,
    /// What came is not HTTP.
    Protocol,
    /// The host forbids this destination: `allowed_outbound_hosts` in spin.toml, or a blocked network.
    Denied,
    /// The request itself was refused by the host, or anything else.
    Other,
}

/// A connection to the database.
pub trait Connection: 'static {
    /// Runs one statement to its end and returns its rows.
    fn execute(&self, sql: &str, parameters: &[Value]) -> impl Future<Output = Result<Vec<Row>, SqlError>>;
}

/// A value of the database.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Absent.
    Null,
    /// A whole number.
    Integer(i64),
    /// A floating-point number.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<UnixMillis> for Value {
    fn from(moment: UnixMillis) -> Self {
        Self::Integer(moment.0)
    }
}

/// One row of a result.
#[derive(Clone, Debug, PartialEq)]
pub struct Row(pub Vec<Value>);

impl Row {
    /// The integer in column `index`; 0 when it is NULL or of another type.
    pub fn integer(&self, index: usize) -> i64 {
        match self.0.get(index) {
            Some(Value::Integer(number)) => *number,
            _ => 0,
        }
    }

    /// The text in column `index`; empty when it is NULL or of another type.
    pub fn text(&self, index: usize) -> &str {
        match self.0.get(index) {
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }
}

/// Why a statement failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SqlError {
    /// Another writer held the database for too long.
    Busy,
    /// The connection is no more, and the statement was not run: a remote database ends those that idle.
    Gone,
    /// The database cannot be written: read-only or full.
    ReadOnly(String),
    /// Anything else.
    Other(String),
}

impl SqlError {
    /// What a host's words mean: the result codes of SQLite and of libSQL's servers reach a component as text alone.
    pub fn from_words(message: String) -> Self {
        let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
        if says(&["locked", "busy", "BUSY", "TRANSACTION_TIMEOUT"]) {
            Self::Busy
        } else if says(&["STREAM_EXPIRED", "BATON_", "stream has expired", "baton"]) {
            Self::Gone
        } else if says(&["readonly", "read-only", "is full"]) {
            Self::ReadOnly(message)
        } else {
            Self::Other(message)
        }
    }
}

impl std::fmt::Display for SqlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Busy => f.write_str("another writer holds it"),
            Self::Gone => f.write_str("it has ended the connection"),
            Self::ReadOnly(why) | Self::Other(why) => f.write_str(why),
        }
    }
}

/// Why the key-value store failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValueError(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_databases_words_say_what_is_to_be_done() {
        let cases = [
            ("database is locked", SqlError::Busy),
            (
                "stream error: SQLite error: database is locked (SQLITE_BUSY)",
                SqlError::Busy,
            ),
            (
                "stream error: Transaction timed out (TRANSACTION_TIMEOUT)",
                SqlError::Busy,
            ),
            (
                "Hrana: `api error: `status=400 Bad Request, body={\"message\":\"The stream has expired due to inactivity\",\"code\":\"STREAM_EXPIRED\"}``",
                SqlError::Gone,
            ),
            (
                "api error: status=400, body={\"message\":\"Received an invalid baton\"}",
                SqlError::Gone,
            ),
            (
                "attempt to write a readonly database",
                SqlError::ReadOnly("attempt to write a readonly database".to_owned()),
            ),
            ("no such table: keys", SqlError::Other("no such table: keys".to_owned())),
        ];
        for (words, meant) in cases {
            assert_eq!(SqlError::from_words(words.to_owned()), meant, "{words}");
        }
    }
}
