//! A host for tests: a scripted upstream, the real SQL in memory, a clock that moves when somebody waits.

#![allow(unreachable_pub, reason = "what a test's module shows is for its own test alone")]
#![allow(dead_code, reason = "each test uses what it needs of this module")]

pub mod app;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap, VecDeque},
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::Poll,
};

use bytes::Bytes;
use futures::{executor::block_on, future::LocalBoxFuture};
use http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE};
use keystorm::ports::{
    ClientGone, Connection, Inbound, KeyValueError, Outbound, OutboundBody, Ports, ReadBody, Row, Sink, SqlError,
    TransportError, UnixMillis, Value,
};

/// What the upstream answers to a key.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A status, headers and a body.
    Head(u16, Vec<(&'static str, &'static str)>, &'static str),
    /// The same with a body that comes piece by piece.
    Streamed(u16, Vec<Piece>),
    /// No answer.
    Transport(TransportError),
}

/// What comes next of a body.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Bytes.
    Data(String),
    /// Nothing, for so many turns of whoever waits for it.
    Wait(u32),
    /// Nothing for so long by this host's clock, which is not waited for.
    Late(FakePorts, i64),
    /// The end of the connection.
    Break(TransportError),
}

type Script = Box<dyn FnMut(&str, u64) -> Answer>;

/// The host. Cloning yields another handle to the same one.
#[derive(Clone)]
pub struct FakePorts(Rc<World>);

impl std::fmt::Debug for FakePorts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FakePorts")
    }
}

struct World {
    database: String,
    /// Keeps the database in memory alive.
    _keeper: rusqlite::Connection,
    sql_fault: RefCell<Option<SqlError>>,
    connections: Cell<u64>,
    ended: Cell<u64>,
    refused: RefCell<Option<&'static str>>,
    pragma: RefCell<Option<String>>,
    statements: Cell<u64>,
    content_type: Cell<Option<&'static str>>,
    key_value: RefCell<BTreeMap<String, Vec<u8>>>,
    now: Cell<i64>,
    ticks: Cell<bool>,
    seed: Cell<u64>,
    script: RefCell<Script>,
    calls: RefCell<HashMap<String, u64>>,
    sent: RefCell<Vec<(String, HeaderMap)>>,
    bodies: RefCell<Vec<String>>,
    spawned: RefCell<VecDeque<LocalBoxFuture<'static, ()>>>,
    variables: String,
}

impl FakePorts {
    /// A host whose upstream answers by key and by how often that key was asked before.
    pub fn new(variables: &str, script: impl FnMut(&str, u64) -> Answer + 'static) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let database = format!(
            "file:keystorm-test-{}?mode=memory&cache=shared",
            NUMBER.fetch_add(1, Relaxed)
        );
        Self::over(database, variables, script)
    }

    /// The same with its database in a file, as a real host has it.
    pub fn on_file(path: &std::path::Path, variables: &str, script: impl FnMut(&str, u64) -> Answer + 'static) -> Self {
        Self::over(format!("file:{}", path.display()), variables, script)
    }

    fn over(database: String, variables: &str, script: impl FnMut(&str, u64) -> Answer + 'static) -> Self {
        Self(Rc::new(World {
            _keeper: rusqlite::Connection::open(&database).unwrap(),
            database,
            sql_fault: RefCell::default(),
            connections: Cell::new(0),
            ended: Cell::new(0),
            refused: RefCell::default(),
            pragma: RefCell::default(),
            statements: Cell::default(),
            content_type: Cell::default(),
            key_value: RefCell::default(),
            now: Cell::new(1_795_392_000_000),
            ticks: Cell::new(false),
            seed: Cell::new(7),
            script: RefCell::new(Box::new(script)),
            calls: RefCell::default(),
            sent: RefCell::default(),
            bodies: RefCell::default(),
            spawned: RefCell::default(),
            variables: variables.to_owned(),
        }))
    }

    /// Runs what was spawned, and what that spawns.
    pub fn drain(&self) {
        loop {
            let Some(work) = self.0.spawned.borrow_mut().pop_front() else {
                return;
            };
            block_on(work);
        }
    }

    /// Lets time pass.
    pub fn advance(&self, ms: i64) {
        self.0.now.set(self.0.now.get() + ms);
    }

    /// Makes every statement fail, or none again.
    pub fn fail_sql(&self, error: Option<SqlError>) {
        self.0.sql_fault.replace(error);
    }

    /// Ends the connections that are open, as a remote database does with those that idle.
    pub fn end_connections(&self) {
        self.0.ended.set(self.0.connections.get());
    }

    /// Lets the database refuse statements that begin so.
    pub fn refuse(&self, beginning: &'static str) {
        self.0.refused.replace(Some(beginning));
    }

    /// Runs this on every connection that is opened from now on; those that are open end.
    pub fn pragma(&self, pragma: Option<&str>) {
        self.0.ended.set(self.0.connections.get());
        self.0.pragma.replace(pragma.map(str::to_owned));
    }

    /// Gives streamed answers this type.
    pub fn content_type(&self, kind: &'static str) {
        self.0.content_type.set(Some(kind));
    }

    /// How many statements were run.
    pub fn statements(&self) -> u64 {
        self.0.statements.get()
    }

    /// Lets every reading of the clock take a millisecond.
    pub fn tick(&self) {
        self.0.ticks.set(true);
    }

    /// How often each key was used.
    pub fn calls(&self) -> HashMap<String, u64> {
        self.0.calls.borrow().clone()
    }

    /// What was sent upstream, in order: the URL and the headers.
    pub fn sent(&self) -> Vec<(String, HeaderMap)> {
        self.0.sent.borrow().clone()
    }

    /// The bodies that were sent upstream, in order.
    pub fn bodies(&self) -> Vec<String> {
        self.0.bodies.borrow().clone()
    }

    /// What the key-value store holds, in order of its keys.
    pub fn stored(&self) -> Vec<(String, String)> {
        let stored = self.0.key_value.borrow();
        let text = |value: &Vec<u8>| String::from_utf8_lossy(value).into_owned();
        stored.iter().map(|(key, value)| (key.clone(), text(value))).collect()
    }

    /// Lets another application read and write what this one has: as if it were started again, with other variables.
    pub fn restarted(&self, variables: &str) -> Self {
        let world = &self.0;
        Self(Rc::new(World {
            _keeper: rusqlite::Connection::open(&world.database).unwrap(),
            database: world.database.clone(),
            sql_fault: RefCell::default(),
            connections: Cell::new(0),
            ended: Cell::new(0),
            refused: RefCell::default(),
            pragma: RefCell::default(),
            statements: Cell::default(),
            content_type: Cell::default(),
            key_value: RefCell::new(world.key_value.borrow().clone()),
            now: Cell::new(world.now.get()),
            ticks: Cell::new(false),
            seed: Cell::new(world.seed.get() + 1),
            script: RefCell::new(world.script.replace(Box::new(|_, _| unreachable!("it was stopped")))),
            calls: RefCell::default(),
            sent: RefCell::default(),
            bodies: RefCell::default(),
            spawned: RefCell::default(),
            variables: variables.to_owned(),
        }))
    }

    /// Reads the database as it is.
    pub fn rows(&self, sql: &str) -> Vec<Row> {
        block_on(async { self.connect().await?.execute(sql, &[]).await }).unwrap()
    }
}

impl Ports for FakePorts {
    type RequestBody = Pieces;
    type ResponseBody = Pieces;
    type Sink = Collected;
    type Connection = Sqlite;

    fn now(&self) -> UnixMillis {
        self.advance(i64::from(self.0.ticks.get()));
        UnixMillis(self.0.now.get())
    }

    fn seed(&self) -> u64 {
        // SplitMix64's increment: every seed is another one, the same in every run.
        let seed = self.0.seed.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.seed.set(seed);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 27)
    }

    fn random(&self, bytes: &mut [u8]) {
        bytes.iter_mut().for_each(|byte| *byte = self.seed() as u8);
    }

    async fn sleep(&self, ms: u64) {
        self.advance(ms as i64);
    }

    fn spawn(&self, work: impl Future<Output = ()> + 'static) {
        self.0.spawned.borrow_mut().push_back(Box::pin(work));
    }

    fn log(&self, _: &str) {}

    async fn variable(&self, _: &str) -> Result<Option<String>, String> {
        Ok(Some(self.0.variables.clone()))
    }

    async fn send(&self, request: Outbound<Pieces>) -> Result<Inbound<Pieces>, TransportError> {
        let credential = ["authorization", "x-goog-api-key"]
            .iter()
            .find_map(|name| request.headers.get(*name));
        let key = credential
            .map_or("", |value| value.to_str().unwrap())
            .trim_start_matches("Bearer ")
            .to_owned();
        self.0.sent.borrow_mut().push((request.url, request.headers));
        let body = match &request.body {
            OutboundBody::Full(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            OutboundBody::Empty | OutboundBody::Forward(_) => String::new(),
        };
        self.0.bodies.borrow_mut().push(body);
        let before = {
            let mut calls = self.0.calls.borrow_mut();
            let count = calls.entry(key.clone()).or_default();
            *count += 1;
            *count - 1
        };
        self.advance(1);
        match (self.0.script.borrow_mut())(&key, before) {
            Answer::Transport(error) => Err(error),
            Answer::Streamed(status, pieces) => Ok(Inbound {
                status: StatusCode::from_u16(status).unwrap(),
                headers: self
                    .0
                    .content_type
                    .get()
                    .map(|kind| (CONTENT_TYPE, HeaderValue::from_static(kind)))
                    .into_iter()
                    .collect(),
                body: Pieces(pieces.into()),
            }),
            Answer::Head(status, headers, body) => Ok(Inbound {
                status: StatusCode::from_u16(status).unwrap(),
                headers: headers
                    .into_iter()
                    .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                    .collect::<HeaderMap>(),
                body: Pieces::of(body),
            }),
        }
    }

    async fn connect(&self) -> Result<Sqlite, SqlError> {
        let connection = rusqlite::Connection::open(&self.0.database).map_err(failed)?;
        if let Some(pragma) = self.0.pragma.borrow().as_deref() {
            connection.execute_batch(pragma).map_err(failed)?;
        }
        self.0.connections.set(self.0.connections.get() + 1);
        Ok(Sqlite(connection, self.clone(), self.0.connections.get()))
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
        Ok(self.0.key_value.borrow().get(key).cloned())
    }

    async fn set(&self, key: &str, value: &[u8]) -> Result<(), KeyValueError> {
        self.0.key_value.borrow_mut().insert(key.to_owned(), value.to_vec());
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<(), KeyValueError> {
        self.0.key_value.borrow_mut().remove(key);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<String>, KeyValueError> {
        Ok(self.0.key_value.borrow().keys().cloned().collect())
    }
}

/// A body in pieces.
#[derive(Debug)]
pub struct Pieces(pub VecDeque<Piece>);

impl Pieces {
    /// A body of one piece.
    pub fn of(text: &str) -> Self {
        Self(VecDeque::from([Piece::Data(text.to_owned())]))
    }
}

impl ReadBody for Pieces {
    async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        loop {
            match self.0.pop_front() {
                None => return Ok(None),
                Some(Piece::Data(text)) => return Ok(Some(Bytes::from(text))),
                Some(Piece::Break(error)) => return Err(error),
                Some(Piece::Late(ports, ms)) => ports.advance(ms),
                Some(Piece::Wait(turns)) => {
                    let mut left = turns;
                    std::future::poll_fn(|context| {
                        if left == 0 {
                            return Poll::Ready(());
                        }
                        left -= 1;
                        context.waker().wake_by_ref();
                        Poll::Pending
                    })
                    .await;
                }
            }
        }
    }
}

/// A streamed answer, collected write by write; the client may go away after some of them.
#[derive(Clone, Default)]
pub struct Collected {
    /// What was written.
    pub writes: Rc<RefCell<Vec<String>>>,
    /// After how many writes the client goes away.
    pub leaves_after: Option<usize>,
}

impl Sink for Collected {
    async fn write(&mut self, bytes: Bytes) -> Result<(), ClientGone> {
        let mut writes = self.writes.borrow_mut();
        if self.leaves_after.is_some_and(|most| writes.len() >= most) {
            return Err(ClientGone);
        }
        writes.push(String::from_utf8(bytes.to_vec()).unwrap());
        Ok(())
    }
}

/// A connection to the database in memory, and its number.
pub struct Sqlite(rusqlite::Connection, FakePorts, u64);

impl Connection for Sqlite {
    async fn execute(&self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, SqlError> {
        self.1.0.statements.set(self.1.0.statements.get() + 1);
        if let Some(error) = self.1.0.sql_fault.borrow().clone() {
            return Err(error);
        }
        if self.2 <= self.1.0.ended.get() {
            return Err(SqlError::Gone);
        }
        if self
            .1
            .0
            .refused
            .borrow()
            .is_some_and(|beginning| sql.starts_with(beginning))
        {
            return Err(SqlError::Other("not authorized".to_owned()));
        }
        let parameters = rusqlite::params_from_iter(parameters.iter().map(|value| match value {
            Value::Null => rusqlite::types::Value::Null,
            Value::Integer(number) => rusqlite::types::Value::Integer(*number),
            Value::Real(number) => rusqlite::types::Value::Real(*number),
            Value::Text(text) => rusqlite::types::Value::Text(text.clone()),
            Value::Blob(bytes) => rusqlite::types::Value::Blob(bytes.clone()),
        }));
        let mut statement = self.0.prepare_cached(sql).map_err(failed)?;
        let width = statement.column_count();
        let mut rows = statement.query(parameters).map_err(failed)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            let values = (0..width).map(|index| match row.get::<_, rusqlite::types::Value>(index).unwrap() {
                rusqlite::types::Value::Null => Value::Null,
                rusqlite::types::Value::Integer(number) => Value::Integer(number),
                rusqlite::types::Value::Real(number) => Value::Real(number),
                rusqlite::types::Value::Text(text) => Value::Text(text),
                rusqlite::types::Value::Blob(bytes) => Value::Blob(bytes),
            });
            all.push(Row(values.collect()));
        }
        Ok(all)
    }
}

fn failed(error: rusqlite::Error) -> SqlError {
    SqlError::from_words(error.to_string())
}
