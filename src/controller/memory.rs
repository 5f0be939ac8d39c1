//! What this process remembers of each object besides its status. Losing it costs time, never correctness.
//!
//! Keyed by uid: a re-created object inherits nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Context;
use crate::plan::last_call::LastCall;
use crate::plan::observed::{Answered, Reading};

/// What is remembered of one object.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The last call that matters.
    pub call: LastCall,
    /// The last look.
    pub reading: Option<Reading>,
    /// An answer that status does not hold yet.
    pub unrecorded: Option<Answered>,
    /// Ids of starts whose intent may be written and that surely never left.
    pub never_sent: BTreeSet<String>,
    /// Since when the account or key has been missing.
    pub missing_since: Option<Timestamp>,
    /// Versions of the account and the key that the last look was made with.
    pub credentials_version: String,
    /// Passes that failed in a row.
    pub failures: i32,
    /// When status was last written for another reason than an attempt, on the monotonic clock.
    told: Vec<Duration>,
    /// Until when nothing is done, because a backoff could not be recorded yet; on the monotonic clock.
    pub held_until: Option<Duration>,
}

/// So many writes of one object in a minute, besides those of its attempts: six, of which two are left for failures.
const TOLD: usize = 4;
const WITH_FAILURES: usize = 6;
const MINUTE: Duration = Duration::from_secs(60);

impl Facts {
    /// How long status may not be written only to tell how the object stands: an object that somebody edits all the time
    /// is told of at the pace of a reader.
    pub fn until_told(&mut self, now: Duration) -> Duration {
        self.until_room(TOLD, now)
    }

    /// The same for a failure and its backoff: full jitter may draw short waits many times in a row.
    pub fn until_backed_off(&mut self, now: Duration) -> Duration {
        self.until_room(WITH_FAILURES, now)
    }

    fn until_room(&mut self, writes: usize, now: Duration) -> Duration {
        self.told.retain(|at| now.saturating_sub(*at) < MINUTE);
        let last = self.told.len().checked_sub(writes).and_then(|n| self.told.get(n));
        last.map_or(Duration::ZERO, |at| (*at + MINUTE).saturating_sub(now))
    }

    /// It was written for another reason than an attempt.
    pub fn tell(&mut self, now: Duration) {
        self.told.push(now);
    }

    /// How long a backoff holds that could not be recorded. What only this process knows of a start is not held up by it.
    pub fn held(&mut self, now: Duration) -> Option<Duration> {
        self.held_until.take_if(|until| *until <= now);
        self.held_until.filter(|_| !self.is_open()).map(|until| until.saturating_sub(now))
    }

    /// Something of a start is known here and waits for its record: an answer, or that an intent was never sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.unrecorded.is_some() || !self.never_sent.is_empty()
    }
}

/// The memory of this process.
#[derive(Debug, Default)]
pub struct Memory {
    objects: Mutex<BTreeMap<String, Facts>>,
    /// Per endpoint: its clock minus ours.
    offsets: Mutex<BTreeMap<String, SignedDuration>>,
}

impl Memory {
    /// What is remembered of the object.
    #[must_use]
    pub fn facts(&self, uid: &str) -> Facts {
        self.lock().get(uid).cloned().unwrap_or_default()
    }

    /// Changes it.
    pub fn update<T>(&self, uid: &str, change: impl FnOnce(&mut Facts) -> T) -> T {
        change(self.lock().entry(uid.to_owned()).or_default())
    }

    /// This process begins to lead: what it looked at before, another may have changed since.
    pub fn forget_looks(&self) {
        self.lock().values_mut().for_each(|facts| facts.reading = None);
    }

    /// The object is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// The clock of an endpoint minus ours; zero before its first answer.
    #[must_use]
    pub fn offset(&self, endpoint: &str) -> SignedDuration {
        self.offsets.lock().unwrap_or_else(PoisonError::into_inner).get(endpoint).copied().unwrap_or_default()
    }

    /// An endpoint told its time. Its `Date` has whole seconds: less than 2 s apart is no difference.
    pub fn learn_time(&self, endpoint: &str, theirs: Timestamp, ours: Timestamp) {
        let apart = theirs.duration_since(ours);
        let offset = if apart.abs() < SignedDuration::from_secs(2) { SignedDuration::ZERO } else { apart };
        self.offsets.lock().unwrap_or_else(PoisonError::into_inner).insert(endpoint.to_owned(), offset);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Facts>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Context {
    /// The object is gone: neither its memory nor its turns are needed.
    pub(super) fn forget(&self, uid: &str) {
        self.memory.forget(uid);
        self.turns.forget(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[test]
    fn what_stands_is_told_four_times_a_minute() {
        let mut facts = Facts::default();
        for second in 0..4 {
            assert_eq!(facts.until_told(at(second)), Duration::ZERO);
            facts.tell(at(second));
        }
        assert_eq!((facts.until_told(at(6)), facts.until_told(at(59))), (at(54), at(1)));
        assert_eq!(facts.until_told(at(60)), Duration::ZERO);
        facts.tell(at(60));
        assert_eq!(facts.until_told(at(60)), at(1));
    }

    #[test]
    fn failures_have_two_more_writes_a_minute_than_what_only_tells() {
        let mut facts = Facts::default();
        for second in 0..6 {
            assert_eq!(facts.until_backed_off(at(second)), Duration::ZERO);
            facts.tell(at(second));
        }
        assert_eq!((facts.until_backed_off(at(6)), facts.until_told(at(6))), (at(54), at(56)));
    }

    #[test]
    fn a_backoff_that_is_not_recorded_holds_all_but_an_answer() {
        let mut facts = Facts { held_until: Some(at(9)), ..Facts::default() };
        assert_eq!((facts.held(at(4)), facts.held(at(9)), facts.held(at(4))), (Some(at(5)), None, None));
    }
}
