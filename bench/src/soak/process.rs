//! What a process holds: memory and file descriptors.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tokio::task::JoinHandle;

/// A process of this machine.
#[derive(Clone, Copy)]
pub(crate) struct Process(pub(crate) u32);

impl Process {
    /// Resident memory in MB.
    pub(crate) fn resident(self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0)).context("the process has ended")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes: f64 = line
            .and_then(|line| line.split_whitespace().next())
            .context("no resident memory is told")?
            .parse()?;
        Ok(kilobytes / 1024.0)
    }

    /// Open file descriptors.
    pub(crate) fn descriptors(self) -> Result<f64> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.0))
            .context("the process has ended")?
            .count() as f64)
    }

    /// Begins to look, twice a second.
    pub(crate) fn watch(self) -> Watched {
        let seen = Seen::default();
        let writer = Arc::clone(&seen);
        let looking = tokio::spawn(async move {
            while let (Ok(resident), Ok(descriptors)) = (self.resident(), self.descriptors()) {
                writer
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push((resident, descriptors));
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
        Watched { seen, looking }
    }
}

type Seen = Arc<Mutex<Vec<(f64, f64)>>>;

/// What was seen of a process so far.
pub(crate) struct Watched {
    seen: Seen,
    looking: JoinHandle<()>,
}

impl Watched {
    /// Ends looking: resident memory and descriptors on average.
    pub(crate) fn averages(self) -> Result<(f64, f64)> {
        self.looking.abort();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let count = seen.len() as f64;
        if seen.is_empty() {
            bail!("the process has ended");
        }
        let resident: f64 = seen.iter().map(|(resident, _)| resident).sum();
        let descriptors: f64 = seen.iter().map(|(_, descriptors)| descriptors).sum();
        Ok((resident / count, descriptors / count))
    }
}
