//! The wall clock that components see: the system's, moved by what a test asks for.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use wasmtime_wasi::HostWallClock;

use crate::host::Faults;

/// A clock that tests can move.
pub(crate) struct Moved(pub(crate) Arc<Faults>);

impl HostWallClock for Moved {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ms = self.0.clock_ms();
        if ms >= 0 {
            now + Duration::from_millis(ms.unsigned_abs())
        } else {
            now.saturating_sub(Duration::from_millis(ms.unsigned_abs()))
        }
    }
}
