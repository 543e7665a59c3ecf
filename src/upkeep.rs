//! What one instance does for all of them now and then, after a response. Spin has no alarms: traffic has to do.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use futures::{StreamExt as _, stream};

use crate::{
    checks::{self, Mode, Verdict},
    pool::{self, key::Candidate},
    ports::{Ports, SqlError, UnixMillis},
    store::{
        self, Database,
        hand::{Source, WRONG_KEY},
        keys, secrets,
        upkeep::{Marks, RECHECK, TIDY},
    },
};

/// The upkeep that an instance may take upon itself.
pub struct Upkeep<P: Ports> {
    ports: P,
    database: Rc<Database<P>>,
    /// When it was done last, as of the last draw.
    marks: Cell<Marks>,
    settings: RefCell<pool::Settings>,
}

impl<P: Ports> Upkeep<P> {
    /// Upkeep of this database.
    pub fn new(ports: P, database: Rc<Database<P>>) -> Self {
        Self {
            ports,
            database,
            // Nothing is due before a draw has said so.
            marks: Cell::new(Marks {
                recheck: UnixMillis(i64::MAX),
                tidy: UnixMillis(i64::MAX),
            }),
            settings: RefCell::default(),
        }
    }

    /// Takes new settings into use.
    pub fn configure(&self, settings: &pool::Settings) {
        self.settings.replace(settings.clone());
    }

    /// Takes in when upkeep was done last.
    pub fn learn(&self, marks: Marks) {
        self.marks.set(marks);
    }

    /// Does what is due and what no other instance has claimed. True when keys have changed, so that what was drawn of them is
    /// out of date.
    pub async fn run(&self, source: &Source, now: UnixMillis) -> bool {
        let settings = self.settings.borrow().clone();
        let recheck_ms = settings.recheck_interval_s.saturating_mul(1000);
        let mut changed = false;
        if recheck_ms > 0 && self.is_mine(RECHECK, recheck_ms, now).await {
            changed |= self.told("seal_failed", self.seal(source, now).await);
            let found = self.look_again(source, settings.recheck_keys).await;
            changed |= self.told("recheck_failed", found);
        }
        if self.is_mine(TIDY, TIDY_EVERY_MS, now).await {
            if recheck_ms == 0 {
                changed |= self.told("seal_failed", self.seal(source, now).await);
            }
            let pruned = store::upkeep::prune(&self.database, &settings, now).await;
            self.told("prune_failed", pruned.map(|()| 0));
        }
        changed
    }

    /// Whether a piece of upkeep is due, and claimed by this instance.
    async fn is_mine(&self, name: &str, every_ms: i64, now: UnixMillis) -> bool {
        let mut marks = self.marks.get();
        let mark = if name == RECHECK {
            &mut marks.recheck
        } else {
            &mut marks.tidy
        };
        if now.since(*mark) < every_ms {
            return false;
        }
        // Whoever gets it, it is not asked for again before it is due again.
        *mark = now;
        self.marks.set(marks);
        let claimed = store::upkeep::claim(&self.database, name, every_ms, now).await;
        claimed.unwrap_or(false)
    }

    /// Asks the providers of dead and long-failing keys, those that were not asked for longest first. Returns how many have
    /// come back.
    async fn look_again(&self, source: &Source, most: i64) -> Result<u64, SqlError> {
        let ill = store::upkeep::ill(&self.database, source, most).await?;
        if ill.is_empty() {
            return Ok(0);
        }
        let ports = &self.ports;
        let ask = |key: &Candidate| {
            let key = key.clone();
            async move { (key.id, checks::check(ports, &key, &Mode::Models).await) }
        };
        let found: Vec<_> = stream::iter(&ill).map(ask).buffer_unordered(AT_ONCE).collect().await;
        let (mut results, mut writes, mut well) = (Vec::new(), Vec::new(), 0);
        for (id, checked) in found {
            well += u64::from(checked.verdict == Verdict::Valid);
            results.push((id.0, checked.verdict.as_str()));
            writes.extend(checked.write);
        }
        let now = self.ports.now();
        store::pool::flush(&self.database, &writes, &[], now).await?;
        keys::checked(&self.database, &results, now).await?;
        if well > 0 {
            let detail = format!("{well} of {} keys came back", results.len());
            keys::record(&self.database, "keystorm", "keys_rechecked", &detail, now).await?;
        }
        Ok(well)
    }

    /// Seals what was stored before the operator has set `encryption_key`. Returns how many secrets that were.
    async fn seal(&self, source: &Source, now: UnixMillis) -> Result<u64, SqlError> {
        if !source.vault.is_sealing() {
            return Ok(0);
        }
        // With the wrong key nothing is sealed: half of the keys could never be opened again.
        if !secrets::fits(&self.database, &source.vault).await? {
            return Err(SqlError::Other(WRONG_KEY.to_owned()));
        }
        let mut sealed = 0;
        loop {
            let plain = secrets::plain(&self.database, SEALED_AT_ONCE).await?;
            if plain.is_empty() {
                break;
            }
            let rows: Vec<_> = plain
                .iter()
                .map(|(id, secret)| {
                    let mut nonce = [0; 24];
                    self.ports.random(&mut nonce);
                    (
                        *id,
                        source.vault.seal(secret, nonce),
                        source.vault.digest(secret.expose()),
                    )
                })
                .collect();
            secrets::seal(&self.database, &rows).await?;
            sealed += rows.len() as u64;
        }
        if sealed > 0 {
            keys::record(
                &self.database,
                "keystorm",
                "keys_sealed",
                &format!("{sealed} keys"),
                now,
            )
            .await?;
        }
        Ok(sealed)
    }

    fn told(&self, event: &str, result: Result<u64, SqlError>) -> bool {
        match result {
            Ok(count) => count > 0,
            Err(error) => {
                let error = error.to_string();
                self.ports.log(&format!("level=warn event={event} error={error:?}"));
                false
            }
        }
    }
}

/// How often old rows are tidied up.
const TIDY_EVERY_MS: i64 = 3_600_000;

/// How many keys are checked at once.
const AT_ONCE: usize = 16;

/// How many secrets are sealed in one transaction.
const SEALED_AT_ONCE: i64 = 500;
