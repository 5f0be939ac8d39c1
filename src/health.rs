//! What the probes answer: the heartbeat of the controller's loop, and readiness.
//!
//! **May touch:** atomics and the clock.
//!
//! **Guarantee:** saying and asking never wait for anything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Clock;

/// The oldest heartbeat of a live loop. The loop beats about once a second and never waits for the network, so 15 s
/// means that it stands still; a process that was only starved of CPU for a moment is not restarted.
pub const HEARTBEAT_LIMIT: Duration = Duration::from_secs(15);

/// What the probes answer. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    /// Milliseconds of [`Clock::elapsed`] at the last beat.
    beat: AtomicU64,
    ready: Mutex<Result<(), String>>,
}

impl Health {
    /// Alive from now, and not ready: starting.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let ready = Mutex::new(Err("starting".to_owned()));
        let health = Self(Arc::new(Inner { clock, beat: AtomicU64::new(0), ready }));
        health.beat();
        health
    }

    /// Says that the controller's loop goes round. Call it from that loop at least every few seconds.
    pub fn beat(&self) {
        self.0.beat.store(milliseconds(self.0.clock.elapsed()), Ordering::Relaxed);
    }

    /// Says whether the process is ready, or in one line why not.
    pub fn set_ready(&self, ready: Result<(), String>) {
        *self.0.ready.lock().unwrap_or_else(PoisonError::into_inner) = ready;
    }

    /// Whether the loop goes round, or in one line why not.
    ///
    /// # Errors
    /// It stands still.
    pub fn alive(&self) -> Result<(), String> {
        let last = Duration::from_millis(self.0.beat.load(Ordering::Relaxed));
        let age = self.0.clock.elapsed().saturating_sub(last);
        if age <= HEARTBEAT_LIMIT {
            return Ok(());
        }
        Err(format!("the controller's loop has stood still for {} s", age.as_secs()))
    }

    /// What was said last.
    ///
    /// # Errors
    /// Not ready; says why.
    pub fn ready(&self) -> Result<(), String> {
        self.0.ready.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
