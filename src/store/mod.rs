//! The database: schema, statements and row mapping over the [`Connection`] port.

pub mod filter;
pub mod hand;
pub mod keys;
pub mod migrations;
pub mod pool;
pub mod reports;
pub mod secrets;
pub mod snapshot;
pub mod upkeep;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use crate::ports::{Connection, Ports, Row, SqlError, UnixMillis, Value};

/// The database as one instance uses it: one kept connection for single statements, a fresh one for each transaction.
pub struct Database<P: Ports> {
    ports: P,
    kept: RefCell<Option<Rc<P::Connection>>>,
    migrated: Cell<bool>,
    /// Whether the kept connection commits without waiting for the disk.
    is_relaxed: Cell<bool>,
    /// For how long hands that other instances have read are trusted; 0 where this one keeps its own.
    trusted_ms: Cell<i64>,
}

impl<P: Ports> Database<P> {
    /// A handle; nothing is opened before it is needed.
    pub const fn new(ports: P) -> Self {
        Self {
            ports,
            kept: RefCell::new(None),
            migrated: Cell::new(false),
            is_relaxed: Cell::new(false),
            trusted_ms: Cell::new(0),
        }
    }

    /// Trusts hands that other instances have read, where instances serve one request.
    pub fn trust_others(&self, ms: i64) {
        self.trusted_ms.set(ms);
    }

    /// Runs one statement by itself, or gives what another instance has read by it lately.
    pub async fn read_shared(
        &self,
        name: &str,
        sql: &str,
        parameters: &[Value],
        now: UnixMillis,
    ) -> Result<Vec<Row>, SqlError> {
        let ttl_ms = self.trusted_ms.get();
        if let Some(rows) = snapshot::recall(&self.ports, name, ttl_ms, now).await {
            return Ok(rows);
        }
        let rows = self.execute(sql, parameters).await?;
        snapshot::remember(&self.ports, name, &rows, now).await;
        Ok(rows)
    }

    /// Runs one statement by itself. A connection that has failed is not kept (SQLite opens one that finds the file
    /// read-only so for good); one that a remote database has ended since it was used last is replaced.
    pub async fn execute(&self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, SqlError> {
        let connection = self.connection().await?;
        let result = connection.execute(sql, parameters).await;
        if !matches!(result, Err(SqlError::Other(_) | SqlError::Gone | SqlError::ReadOnly(_))) {
            return result;
        }
        self.kept.replace(None);
        self.is_relaxed.set(false);
        match result {
            Err(SqlError::Gone) => self.connection().await?.execute(sql, parameters).await,
            result => result,
        }
    }

    /// The same for a statement whose first column is [`migrations::VERSION`]: an instance that has not looked at the schema
    /// yet need not look at it first.
    pub async fn execute_with_version(&self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, SqlError> {
        if !self.migrated.get() && self.kept.borrow().is_none() {
            let connection = self.ports.connect().await?;
            match connection.execute(sql, parameters).await {
                Ok(rows) if migrations::is_newest(&rows) => {
                    self.migrated.set(true);
                    self.kept.replace(Some(Rc::new(connection)));
                    return Ok(rows);
                }
                // An old schema, or none.
                Ok(_) | Err(_) => {}
            }
        }
        self.execute(sql, parameters).await
    }

    /// Runs one statement that counts, again when another writer holds the database for long. It is not waited for until
    /// it is on the disk: where instances write by themselves, the disk would be what bounds them. It outlives the
    /// process all the same, and a power failure takes the last counts at most.
    pub async fn count(&self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, SqlError> {
        let mut attempt = 0;
        loop {
            if !self.is_relaxed.get() {
                // A remote database refuses it, and does as it does.
                let _ = self.connection().await?.execute(RELAX, &[]).await;
                self.is_relaxed.set(true);
            }
            match self.execute(sql, parameters).await {
                Err(SqlError::Busy) if attempt < BUSY_RETRIES => attempt += 1,
                result => return result,
            }
            self.ports.sleep(20 + self.ports.seed() % 80).await;
        }
    }

    /// Runs one statement whose effect somebody is told of: it is on the disk when this returns.
    pub async fn write(&self, sql: &str, parameters: &[Value]) -> Result<(), SqlError> {
        self.transaction(async |connection| connection.execute(sql, parameters).await.map(drop))
            .await
    }

    /// Runs `work` in a transaction of its own, from the start again when another writer holds the database, or a
    /// remote one has ended the connection. What fails
    /// leaves nothing behind.
    pub async fn transaction<T>(
        &self,
        work: impl AsyncFn(&P::Connection) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        self.connection().await?;
        let mut attempt = 0;
        loop {
            let connection = self.ports.connect().await?;
            match transact(&connection, &work).await {
                Err(SqlError::Busy | SqlError::Gone) if attempt < BUSY_RETRIES => attempt += 1,
                result => return result,
            }
            // Dropped first: its lock would keep the others waiting.
            drop(connection);
            self.ports.sleep(20 + self.ports.seed() % 80).await;
        }
    }

    /// Takes the write lock and gives it back: whether the database could be written now.
    pub async fn try_write(&self) -> Result<(), SqlError> {
        let connection = self.ports.connect().await?;
        connection.execute("BEGIN IMMEDIATE", &[]).await?;
        connection.execute("ROLLBACK", &[]).await.map(drop)
    }

    async fn connection(&self) -> Result<Rc<P::Connection>, SqlError> {
        if let Some(connection) = self.kept.borrow().as_ref() {
            return Ok(Rc::clone(connection));
        }
        let connection = Rc::new(self.ports.connect().await?);
        if !self.migrated.get() {
            // Instances that start together wait for the one that migrates.
            let mut attempt = 0;
            while let Err(error) = migrations::apply(&*connection).await {
                if error != SqlError::Busy || attempt >= BUSY_RETRIES {
                    return Err(error);
                }
                attempt += 1;
                self.ports.sleep(20 + self.ports.seed() % 80).await;
            }
            self.migrated.set(true);
        }
        self.kept.replace(Some(Rc::clone(&connection)));
        Ok(connection)
    }
}

async fn transact<C: Connection, T>(
    connection: &C,
    work: &impl AsyncFn(&C) -> Result<T, SqlError>,
) -> Result<T, SqlError> {
    connection.execute("BEGIN IMMEDIATE", &[]).await?;
    let value = match work(connection).await {
        Ok(value) => value,
        Err(error) => {
            // The connection is dropped next, which rolls back too: this only frees the lock sooner.
            let _ = connection.execute("ROLLBACK", &[]).await;
            return Err(error);
        }
    };
    connection.execute("COMMIT", &[]).await?;
    Ok(value)
}

/// How often a transaction is begun again. Each begin has waited up to 5 s in the host already.
const BUSY_RETRIES: u32 = 3;

/// In WAL nothing can be damaged by it (<https://sqlite.org/pragma.html#pragma_synchronous>).
const RELAX: &str = "PRAGMA synchronous = NORMAL";
