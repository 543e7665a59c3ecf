//! What a key costs: a lease from a hand that is there, and a draw with the real SQL from a file, by pool size. A draw is
//! cold on a connection that was opened for it, warm on one that is kept.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a measurement that cannot go on fails where it stands"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{hint::black_box, path::PathBuf, rc::Rc};

use criterion::{Criterion, criterion_group, criterion_main};
use futures::executor::block_on;
use keystorm::{
    pool::{Draw, FIRST_HAND, HAND, Leased, Pool, Settings, Target, Walk, key::ApiType},
    ports::Ports as _,
    secret::Secret,
    store::{
        Database,
        hand::{self, Source},
    },
    vault::Vault,
};
use support::{Answer, FakePorts};

const SIZES: [i64; 3] = [10, 1000, 100_000];

fn file(size: i64, kind: &str) -> PathBuf {
    std::env::temp_dir().join(format!("keystorm-lease-{}-{size}-{kind}.db", std::process::id()))
}

/// A pool of this many keys in a file; `vault` seals them, `rests` lets all of them rest for the model.
fn pool(size: i64, kind: &str, vault: &Vault, rests: bool) -> FakePorts {
    let path = file(size, kind);
    let ports = FakePorts::on_file(&path, "", |_, _| Answer::Head(200, Vec::new(), "{}"));
    let database = Database::new(ports.clone());
    block_on(database.execute("SELECT 1", &[])).unwrap();
    let key = vault.seal(&Secret::new(format!("sk-proj-{:048}", 0)), [7; 24]);
    ports.rows(&format!(
        "WITH RECURSIVE n (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < {size})
        INSERT INTO keys (id, api_type, base_url, grp, secret, secret_hash, masked, created_at, pick)
        SELECT id, 'openai', '', '', '{key}', printf('%043d', id), 'sk-p…0001', 0, abs(random()) >> 32 FROM n"
    ));
    if rests {
        let until = ports.now().0 + 60_000;
        ports.rows(&format!(
            "INSERT INTO cooldowns (key_id, model, until, rule) SELECT id, 'm', {until}, 'G14' FROM keys"
        ));
    }
    ports
}

fn wanted() -> Draw {
    Draw {
        group: Rc::from(""),
        api_type: ApiType::OpenAi,
        model: Rc::from("m"),
        endpoints: None,
        bucket: None,
    }
}

fn source(vault: &Vault) -> Source {
    Source {
        vault: Rc::new(vault.clone()),
        gemini: Rc::from("https://gemini.example"),
        openai: Rc::from("https://api.example/v1"),
    }
}

fn draws(criterion: &mut Criterion) {
    let plain = Vault::default();
    let sealing = Vault::new(Some(&Secret::new("the operator's")));
    for (kind, vault, rests) in [
        ("plain", &plain, false),
        ("sealed", &sealing, false),
        ("all-rest", &plain, true),
    ] {
        let mut group = criterion.benchmark_group(format!("draw-{kind}"));
        group.sample_size(20);
        for size in SIZES {
            let ports = pool(size, kind, vault, rests);
            let (wanted, source, now) = (wanted(), source(vault), ports.now());
            let draw = |database: &Database<FakePorts>, most| {
                let start = (ports.seed() >> 33) as i64;
                black_box(block_on(hand::draw(database, &wanted, &source, start, most, now)).unwrap());
            };
            group.bench_function(format!("{size}/first-hand-cold"), |bencher| {
                bencher.iter(|| draw(&Database::new(ports.clone()), FIRST_HAND));
            });
            let kept = Database::new(ports.clone());
            group.bench_function(format!("{size}/first-hand-warm"), |bencher| {
                bencher.iter(|| draw(&kept, FIRST_HAND));
            });
            group.bench_function(format!("{size}/whole-hand-warm"), |bencher| {
                bencher.iter(|| draw(&kept, HAND));
            });
            for end in ["", "-wal", "-shm"] {
                let _ = std::fs::remove_file(format!("{}{end}", file(size, kind).display()));
            }
        }
        group.finish();
    }
}

/// A lease on the success path: the hand is there.
fn leases(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lease");
    for size in SIZES {
        let ports = pool(size, "lease", &Vault::default(), false);
        let (database, now) = (Database::new(ports.clone()), ports.now());
        let (drawn, _) = block_on(hand::draw(
            &database,
            &wanted(),
            &source(&Vault::default()),
            0,
            HAND,
            now,
        ))
        .unwrap();
        let mut keys = Pool::default();
        keys.deal(wanted(), drawn, now);
        let target = Target {
            group: Rc::from(""),
            api_type: ApiType::OpenAi,
            model: Rc::from("m"),
            endpoints: None,
            sticky: None,
            pinned: false,
        };
        let walk = Walk::new(&Settings::default(), now);
        group.bench_function(size.to_string(), |bencher| {
            bencher.iter(|| match keys.lease(&target, &walk, now, ports.seed()) {
                Leased::Key(lease) => black_box(lease),
                other => unreachable!("{other:?}"),
            });
        });
    }
    group.finish();
}

criterion_group!(benches, leases, draws);
criterion_main!(benches);
