//! The database fails, is slow, or has several writers: the real SQL in a file. Requests go on, nothing that was counted is
//! lost, and the administrator is told.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails where it stands"
)]

mod support;

use std::{
    path::{Path, PathBuf},
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use futures::executor::block_on;
use keystorm::{
    pool::{
        Write,
        key::KeyId,
        usage::{Counts, Row},
    },
    ports::{Connection as _, Ports as _, SqlError, UnixMillis},
    store::{Database, pool},
};
use serde_json::Value;
use support::{
    FakePorts,
    app::{GOOD, Test},
};

/// A file that goes with the test.
struct File(PathBuf);

impl File {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!(
            "keystorm-storage-{}-{}.db",
            std::process::id(),
            NUMBER.fetch_add(1, Relaxed)
        );
        Self(std::env::temp_dir().join(name))
    }

    fn ports(&self) -> FakePorts {
        FakePorts::on_file(&self.0, "", |_, _| GOOD)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", self.0.display()));
        }
    }
}

/// A service with five keys that has answered one request.
fn service(path: &Path) -> Test {
    let test = Test::on_file(path, |_, _| GOOD);
    test.add("key", 5);
    assert_eq!(test.chat().0, 200);
    test.ports.drain();
    test
}

fn counted(test: &Test) -> i64 {
    test.ports.rows("SELECT SUM(requests) FROM usage")[0].integer(0)
}

fn warnings(test: &Test) -> Vec<Value> {
    let (status, _, body) = test.call("GET", "/api/session", "admin", "");
    assert_eq!(status, 200, "{body}");
    let session: Value = serde_json::from_str(&body).unwrap();
    session["warnings"].as_array().unwrap().clone()
}

fn ready(test: &Test) -> (u16, Value) {
    let (status, _, body) = test.call("GET", "/readyz", "", "");
    (status, serde_json::from_str(&body).unwrap())
}

/// Serves for a while with the database in this state, then with a sound one, and nothing of it is lost.
fn goes_on_while(pragma: &str, told: &str) {
    let file = File::new();
    let test = service(&file.0);
    test.ports.pragma(Some(pragma));
    for _ in 0..20 {
        test.ports.advance(3000);
        assert_eq!(test.chat().0, 200, "{told}");
        test.ports.drain();
    }
    let warning = warnings(&test)
        .into_iter()
        .find(|warning| warning["code"] == "database_read_only")
        .unwrap();
    assert!(warning["message"].as_str().unwrap().contains(told), "{warning}");
    // Another instance, which has written nothing, knows of it as well.
    let other = Test::over(test.ports.clone());
    assert_eq!(
        ready(&other),
        (
            200,
            serde_json::json!({ "status": "ready", "active_keys": 5, "database": "not_writable" })
        )
    );
    assert_eq!(other.chat().0, 200, "and serves, since the database can be read");
    test.ports.pragma(None);
    test.ports.advance(61_000);
    assert_eq!(test.chat().0, 200);
    test.ports.drain();
    assert_eq!(counted(&test), 23, "nothing that was counted is lost");
    assert!(
        warnings(&test)
            .iter()
            .all(|warning| warning["code"] != "database_read_only")
    );
    assert_eq!(ready(&test).1["database"], "ok");
}

#[test]
fn a_read_only_database_stops_no_request() {
    goes_on_while("PRAGMA query_only = ON", "readonly");
}

#[test]
fn a_full_database_stops_no_request() {
    let file = File::new();
    let test = service(&file.0);
    // It may not grow any more. What is counted of new models needs room.
    test.ports.pragma(Some("PRAGMA max_page_count = 1"));
    for number in 0..100 {
        let model = format!("model-{number:03}-{}", "x".repeat(150));
        let body = serde_json::json!({ "model": model, "messages": [] }).to_string();
        assert_eq!(test.call("POST", "/v1/chat/completions", "access", &body).0, 200);
        test.ports.drain();
    }
    let warning = warnings(&test)
        .into_iter()
        .find(|warning| warning["code"] == "database_read_only")
        .unwrap();
    assert!(warning["message"].as_str().unwrap().contains("full"), "{warning}");
    assert!(counted(&test) < 101);
    test.ports.pragma(None);
    assert_eq!(test.chat().0, 200);
    test.ports.drain();
    assert_eq!(counted(&test), 102, "nothing that was counted is lost");
}

#[test]
fn a_locked_database_stops_no_request_and_loses_nothing() {
    let file = File::new();
    let test = service(&file.0);
    test.ports.pragma(Some("PRAGMA busy_timeout = 1"));
    let holder = rusqlite::Connection::open(&file.0).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    for _ in 0..10 {
        test.ports.advance(3000);
        assert_eq!(test.chat().0, 200);
        test.ports.drain();
    }
    assert_eq!(counted(&test), 1);
    let warning = warnings(&test)
        .into_iter()
        .find(|warning| warning["code"] == "database_read_only")
        .unwrap();
    assert_eq!(warning["message"], "another writer holds it");
    holder.execute_batch("ROLLBACK").unwrap();
    assert_eq!(test.chat().0, 200);
    test.ports.drain();
    assert_eq!(counted(&test), 12);
}

#[test]
fn several_instances_that_start_together_migrate_once() {
    for _ in 0..5 {
        let file = File::new();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let ports = file.ports();
                    let database = Database::new(ports.clone());
                    block_on(database.execute("SELECT COUNT(*) FROM keys", &[])).unwrap();
                });
            }
        });
        let versions = &file.ports().rows("SELECT COUNT(*), MAX(version) FROM migrations")[0];
        assert_eq!(versions.integer(0), versions.integer(1));
    }
}

#[test]
fn a_file_is_put_in_wal_mode_and_a_backend_that_refuses_serves_without() {
    let file = File::new();
    drop(service(&file.0));
    assert_eq!(file.ports().rows("PRAGMA journal_mode")[0].text(0), "wal");
    let file = File::new();
    let test = Test::on_file(&file.0, |_, _| GOOD);
    test.ports.refuse("PRAGMA");
    test.add("key", 1);
    assert_eq!(test.chat().0, 200);
}

#[test]
fn counts_are_not_waited_for_and_what_somebody_is_told_of_is_on_the_disk() {
    let file = File::new();
    let database = Database::new(file.ports());
    block_on(pool::flush(&database, &[], &[], UnixMillis(1_795_392_000_000))).unwrap();
    let counted = block_on(database.execute("PRAGMA synchronous", &[])).unwrap();
    assert_eq!(counted[0].integer(0), 1, "NORMAL, on the connection that counts");
    let told = block_on(database.transaction(async |connection| {
        let rows = connection.execute("PRAGMA synchronous", &[]).await?;
        Ok(rows[0].integer(0))
    }));
    assert_eq!(told, Ok(2), "FULL");
}

#[test]
fn two_writers_lose_nothing() {
    let file = File::new();
    let ports = file.ports();
    block_on(Database::new(ports).execute("SELECT 1", &[])).unwrap();
    let now = UnixMillis(1_795_392_000_000);
    std::thread::scope(|scope| {
        for writer in 0..4_i64 {
            let file = &file;
            scope.spawn(move || {
                let database = Database::new(file.ports());
                let row = Row {
                    hour: UnixMillis(0),
                    key: KeyId(1),
                    model: Rc::from("m"),
                    counts: Counts {
                        requests: 1,
                        successes: 1,
                        last_at: now,
                        ..Counts::default()
                    },
                };
                for turn in 0..50 {
                    let rest = Write::Storm {
                        endpoint: Rc::from("u"),
                        model: Rc::from("m"),
                        until: now.plus(writer * 100 + turn),
                        strikes: 1,
                        pardoned: Vec::new(),
                    };
                    block_on(pool::flush(&database, &[rest], std::slice::from_ref(&row), now)).unwrap();
                }
            });
        }
    });
    let ports = file.ports();
    assert_eq!(ports.rows("SELECT SUM(requests) FROM usage")[0].integer(0), 200);
    let until = ports.rows("SELECT until FROM cooldowns")[0].integer(0);
    assert_eq!(until, now.0 + 349, "the longest rest stands, whoever came last");
}

#[test]
fn what_fails_half_way_leaves_nothing_behind() {
    let file = File::new();
    let ports = file.ports();
    let database = Database::new(ports.clone());
    block_on(database.execute("SELECT 1", &[])).unwrap();
    ports.refuse("INSERT INTO tally");
    let row = Row {
        hour: UnixMillis(0),
        key: KeyId(1),
        model: Rc::from("m"),
        counts: Counts::default(),
    };
    let rest = Write::Storm {
        endpoint: Rc::from("u"),
        model: Rc::from("m"),
        until: ports.now(),
        strikes: 1,
        pardoned: Vec::new(),
    };
    let failed = block_on(pool::flush(&database, &[rest], &[row], ports.now()));
    assert!(matches!(failed, Err(SqlError::Other(_))), "{failed:?}");
    assert_eq!(ports.rows("SELECT COUNT(*) FROM cooldowns")[0].integer(0), 0);
}

#[test]
fn a_cold_instance_without_a_database_says_so() {
    let file = File::new();
    let test = service(&file.0);
    test.ports.fail_sql(Some(SqlError::Other("disk I/O error".to_owned())));
    let cold = Test::over(test.ports.clone());
    let (status, headers, body) = cold.chat();
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("database_unavailable"), "{body}");
    assert_eq!(headers["retry-after"], "1");
    assert_eq!(test.chat().0, 200, "one that has a hand goes on");
    assert_eq!(ready(&cold).0, 503);
}
