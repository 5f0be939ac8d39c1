//! The one reader of wall time and of randomness.
//!
//! **May touch:** the system's clock and entropy, once at start; tokio's clock after that.
//!
//! **Guarantees**
//! 1. Times of one process never go back, whatever happens to the wall clock: they are the wall time at start plus the
//!    time that tokio's monotonic clock has counted since.
//! 2. With a paused tokio clock and a seed, a run repeats itself exactly.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Time and randomness of this process. Cheap to clone; all clones share one source.
#[derive(Clone, Debug)]
pub struct Clock {
    wall_at_start: Timestamp,
    start: Instant,
    random: Arc<Mutex<fastrand::Rng>>,
}

impl Clock {
    /// The clock of a real process. Call it inside a tokio runtime.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "edge: the one place that reads wall time and entropy")]
    pub fn system() -> Self {
        Self::build(Timestamp::now(), fastrand::Rng::new())
    }

    /// A clock that begins at `wall` and draws from `seed`: for simulations.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "edge: a seeded source for simulations")]
    pub fn seeded(wall: Timestamp, seed: u64) -> Self {
        Self::build(wall, fastrand::Rng::with_seed(seed))
    }

    #[expect(clippy::disallowed_methods, reason = "edge: tokio's clock, which tests pause")]
    fn build(wall_at_start: Timestamp, random: fastrand::Rng) -> Self {
        Self { wall_at_start, start: Instant::now(), random: Arc::new(Mutex::new(random)) }
    }

    /// Wall time of this process.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let since = SignedDuration::try_from(self.elapsed()).unwrap_or(SignedDuration::MAX);
        self.wall_at_start.checked_add(since).unwrap_or(Timestamp::MAX)
    }

    /// Monotonic time since this clock was made.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The instant of tokio's clock at which [`Self::elapsed`] will be `at`.
    #[must_use]
    pub fn instant(&self, at: Duration) -> Instant {
        self.start + at
    }

    /// A number in `[0, 1)`.
    #[must_use]
    pub fn jitter(&self) -> f64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).f64()
    }

    /// 32 hexadecimal digits that no other call gave: a signature nonce, an id.
    #[must_use]
    pub fn nonce(&self) -> String {
        format!("{:032x}", self.random.lock().unwrap_or_else(PoisonError::into_inner).u128(..))
    }
}
