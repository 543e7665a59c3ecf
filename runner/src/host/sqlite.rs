//! `spin:sqlite@3.1.0` over files and over libSQL, with the habits of Spin's: a connection for each open, opened at its first statement; five
//! seconds of patience with other writers; the call returns when the statement is prepared, its rows come through a short
//! channel, and errors of running it only with the result behind the rows.

use std::{
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::Duration,
};

use rusqlite::{Connection, types};
use tokio::sync::{mpsc, oneshot};
use wasmtime::{
    StoreContextMut,
    component::{Accessor, Destination, FutureReader, HasSelf, Resource, StreamProducer, StreamReader, StreamResult},
};

use super::{
    State, libsql, lock,
    wit::spin::sqlite::sqlite::{Error, Host, HostConnection, HostConnectionWithStore, QueryResult, RowResult, Value},
};

/// Where a database is.
#[derive(Clone)]
pub enum Source {
    /// In a file.
    File(PathBuf),
    /// On a server.
    Libsql(Arc<libsql::Database>),
}

/// A connection in the hands of a component.
#[derive(Clone)]
pub enum Handle {
    /// To a file.
    File(Arc<Lazy>),
    /// To a server; with it what its last statement did.
    Libsql(Arc<libsql::Stream>, Arc<Mutex<(i64, u64)>>),
}

/// What a statement gave.
pub struct Answer {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<RowResult>,
    /// How many rows were changed.
    pub changes: u64,
    /// The id of the row that was inserted last.
    pub last_insert_rowid: i64,
}

impl Handle {
    /// Opens nothing yet.
    pub(super) fn new(source: Source) -> Self {
        match source {
            Source::File(path) => Self::File(Arc::new(Lazy {
                path,
                connection: Mutex::new(None),
            })),
            Source::Libsql(database) => Self::Libsql(Arc::new(libsql::Stream::new(database)), Arc::default()),
        }
    }

    /// Runs a statement to its end and gives all its rows.
    pub(super) async fn whole(
        self,
        sql: String,
        parameters: Vec<Value>,
    ) -> Result<(Vec<String>, Vec<RowResult>), Error> {
        let (columns_out, columns) = oneshot::channel();
        let (rows_out, mut rows) = mpsc::channel(ROW_CHANNEL);
        let running = tokio::spawn(async move { self.run(sql, parameters, columns_out, rows_out).await });
        let mut all = Vec::new();
        while let Some(row) = rows.recv().await {
            all.push(row);
        }
        running.await.map_err(|error| Error::Io(error.to_string()))??;
        Ok((columns.await.unwrap_or_default(), all))
    }

    /// Runs a statement; what it gives goes into the channels.
    async fn run(
        self,
        sql: String,
        parameters: Vec<Value>,
        columns: oneshot::Sender<Vec<String>>,
        rows: mpsc::Sender<RowResult>,
    ) -> Result<(), Error> {
        match self {
            Self::File(lazy) => {
                let work = move || lazy.with(|connection| run(connection, &sql, parameters, columns, &rows));
                let ran = tokio::task::spawn_blocking(work).await;
                ran.map_err(|error| Error::Io(error.to_string()))?
            }
            Self::Libsql(stream, last) => {
                let answer = stream.execute(&sql, &parameters).await.map_err(Error::Io)?;
                *lock(&last) = (answer.last_insert_rowid, answer.changes);
                let _ = columns.send(answer.columns);
                for row in answer.rows {
                    if rows.send(row).await.is_err() {
                        break;
                    }
                }
                Ok(())
            }
        }
    }

    fn last_insert_rowid(&self) -> i64 {
        match self {
            Self::File(lazy) => lazy
                .with(|connection| Ok(connection.last_insert_rowid()))
                .unwrap_or_default(),
            Self::Libsql(_, last) => lock(last).0,
        }
    }

    fn changes(&self) -> u64 {
        match self {
            Self::File(lazy) => lazy.with(|connection| Ok(connection.changes())).unwrap_or_default(),
            Self::Libsql(_, last) => lock(last).1,
        }
    }
}

/// A file that is opened when it is needed.
pub struct Lazy {
    path: PathBuf,
    connection: Mutex<Option<Connection>>,
}

impl Lazy {
    /// Runs with the connection, which is opened now at the latest.
    fn with<R>(&self, work: impl FnOnce(&Connection) -> Result<R, Error>) -> Result<R, Error> {
        let mut slot = lock(&self.connection);
        if slot.is_none() {
            let connection = Connection::open(&self.path).map_err(io)?;
            connection.busy_timeout(Duration::from_secs(5)).map_err(io)?;
            // A component may not reach other files.
            connection
                .set_limit(rusqlite::limits::Limit::SQLITE_LIMIT_ATTACHED, 0)
                .map_err(io)?;
            *slot = Some(connection);
        }
        slot.as_ref().map_or(Err(Error::InvalidConnection), work)
    }
}

impl Host for State {}

/// The interface's synchronous half, which Spin offers to older components: this runner serves those of 3.1 alone.
impl HostConnection for State {
    async fn open(&mut self, _: String) -> wasmtime::Result<Result<Resource<Handle>, Error>> {
        Ok(Err(only_async()))
    }

    async fn execute(
        &mut self,
        _: Resource<Handle>,
        _: String,
        _: Vec<Value>,
    ) -> wasmtime::Result<Result<QueryResult, Error>> {
        Ok(Err(only_async()))
    }

    async fn last_insert_rowid(&mut self, handle: Resource<Handle>) -> wasmtime::Result<i64> {
        Ok(self.table.get(&handle)?.last_insert_rowid())
    }

    async fn changes(&mut self, handle: Resource<Handle>) -> wasmtime::Result<u64> {
        Ok(self.table.get(&handle)?.changes())
    }

    async fn drop(&mut self, handle: Resource<Handle>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        self.connections = self.connections.saturating_sub(1);
        Ok(())
    }
}

impl<T: 'static> HostConnectionWithStore<T> for HasSelf<State> {
    async fn open_async(
        accessor: &Accessor<T, Self>,
        database: String,
    ) -> wasmtime::Result<Result<Resource<Handle>, Error>> {
        accessor.with(|mut access| {
            let opened = open(access.get(), &database);
            Ok(match opened {
                Ok(handle) => Ok(access.get().table.push(handle)?),
                Err(error) => Err(error),
            })
        })
    }

    async fn execute_async(
        accessor: &Accessor<T, Self>,
        handle: Resource<Handle>,
        sql: String,
        parameters: Vec<Value>,
    ) -> wasmtime::Result<Result<(Vec<String>, StreamReader<RowResult>, FutureReader<Result<(), Error>>), Error>> {
        let (connection, fault) = accessor.with(|mut access| {
            let state = access.get();
            state.shared.calls.statements.fetch_add(1, Relaxed);
            wasmtime::error::Ok((state.table.get(&handle)?.clone(), state.shared.faults.sqlite()))
        })?;
        let (columns_out, columns) = oneshot::channel();
        let (rows_out, rows) = mpsc::channel(ROW_CHANNEL);
        let (result_out, result) = oneshot::channel();
        tokio::spawn(async move {
            let ran = match fault {
                Some(message) => Err(Error::Io(message)),
                None => connection.run(sql, parameters, columns_out, rows_out).await,
            };
            // A component that does not wait for the result does not hear of it.
            let _ = result_out.send(ran);
        });
        let columns = columns.await.unwrap_or_default();
        accessor.with(|mut access| {
            let rows = StreamReader::new(&mut access, Rows(rows))?;
            let result = async move { wasmtime::error::Ok(result.await.unwrap_or(Err(Error::InvalidConnection))) };
            let result = FutureReader::new(&mut access, result)?;
            Ok(Ok((columns, rows, result)))
        })
    }

    async fn last_insert_rowid_async(accessor: &Accessor<T, Self>, handle: Resource<Handle>) -> wasmtime::Result<i64> {
        accessor.with(|mut access| Ok(access.get().table.get(&handle)?.last_insert_rowid()))
    }

    async fn changes_async(accessor: &Accessor<T, Self>, handle: Resource<Handle>) -> wasmtime::Result<u64> {
        accessor.with(|mut access| Ok(access.get().table.get(&handle)?.changes()))
    }
}

/// A connection for a component, where it may have one.
pub(super) fn open(state: &mut State, database: &str) -> Result<Handle, Error> {
    if database != "default" {
        return Err(Error::NoSuchDatabase);
    }
    let source = state.shared.sqlite.clone().ok_or(Error::AccessDenied)?;
    if state.connections >= MAX_CONNECTIONS {
        return Err(Error::Io("too many connections opened".to_owned()));
    }
    state.connections += 1;
    Ok(Handle::new(source))
}

fn run(
    connection: &Connection,
    sql: &str,
    parameters: Vec<Value>,
    columns: oneshot::Sender<Vec<String>>,
    rows_out: &mpsc::Sender<RowResult>,
) -> Result<(), Error> {
    let mut statement = connection.prepare_cached(sql).map_err(io)?;
    let width = statement.column_count();
    let _ = columns.send(statement.column_names().into_iter().map(str::to_owned).collect());
    let mut rows = statement
        .query(rusqlite::params_from_iter(parameters.into_iter().map(to_sql)))
        .map_err(io)?;
    while let Some(row) = rows.next().map_err(io)? {
        let values = (0..width)
            .map(|index| row.get(index).map(from_sql))
            .collect::<Result<_, _>>()
            .map_err(io)?;
        if rows_out.blocking_send(RowResult { values }).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Rows on their way to a component.
struct Rows(mpsc::Receiver<RowResult>);

impl<D> StreamProducer<D> for Rows {
    type Item = RowResult;
    type Buffer = Option<RowResult>;

    fn poll_produce<'a>(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        store: StoreContextMut<'a, D>,
        mut destination: Destination<'a, RowResult, Option<RowResult>>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        if destination.remaining(store) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        match self.get_mut().0.poll_recv(context) {
            Poll::Ready(Some(row)) => {
                destination.set_buffer(Some(row));
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Poll::Ready(None) => Poll::Ready(Ok(StreamResult::Dropped)),
            Poll::Pending if finish => Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => Poll::Pending,
        }
    }
}

fn to_sql(value: Value) -> types::Value {
    match value {
        Value::Integer(number) => types::Value::Integer(number),
        Value::Real(number) => types::Value::Real(number),
        Value::Text(text) => types::Value::Text(text),
        Value::Blob(bytes) => types::Value::Blob(bytes),
        Value::Null => types::Value::Null,
    }
}

fn from_sql(value: types::Value) -> Value {
    match value {
        types::Value::Integer(number) => Value::Integer(number),
        types::Value::Real(number) => Value::Real(number),
        types::Value::Text(text) => Value::Text(text),
        types::Value::Blob(bytes) => Value::Blob(bytes),
        types::Value::Null => Value::Null,
    }
}

fn io(error: rusqlite::Error) -> Error {
    Error::Io(error.to_string())
}

fn only_async() -> Error {
    Error::Io("this runner offers the asynchronous functions of spin:sqlite@3.1.0 alone".to_owned())
}

/// How many connections one instance may have open.
const MAX_CONNECTIONS: usize = 256;

/// How many rows are read ahead of the component.
const ROW_CHANNEL: usize = 4;
