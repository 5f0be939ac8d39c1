//! What this process remembers of each object besides its status. Losing it costs time, never correctness.
//!
//! Keyed by uid: a re-created object inherits nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

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
    /// When status was last written for another reason than an attempt.
    told: Vec<Timestamp>,
    /// Until when nothing is done, because a backoff could not be recorded yet.
    pub held_until: Option<Timestamp>,
}

/// So many writes of one object in a minute, besides those of its attempts: six, of which two are left for failures.
const TOLD: usize = 4;
const WITH_FAILURES: usize = 6;
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

impl Facts {
    /// When status may next be written only to tell how the object stands: an object that somebody edits all the time is
    /// told of at the pace of a reader.
    pub fn may_tell(&mut self, now: Timestamp) -> Timestamp {
        self.room(TOLD, now)
    }

    /// The same for a failure and its backoff: full jitter may draw short waits many times in a row.
    pub fn may_back_off(&mut self, now: Timestamp) -> Timestamp {
        self.room(WITH_FAILURES, now)
    }

    fn room(&mut self, writes: usize, now: Timestamp) -> Timestamp {
        self.told.retain(|at| now.duration_since(*at) < MINUTE);
        let oldest = self.told.len().checked_sub(writes).and_then(|n| self.told.get(n));
        oldest.map_or(now, |at| at.saturating_add(MINUTE).unwrap_or(now))
    }

    /// It was written for another reason than an attempt.
    pub fn tell(&mut self, now: Timestamp) {
        self.told.push(now);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }

    #[test]
    fn what_stands_is_told_four_times_a_minute() {
        let mut facts = Facts::default();
        for second in 0..4 {
            assert_eq!(facts.may_tell(at(second)), at(second));
            facts.tell(at(second));
        }
        assert_eq!((facts.may_tell(at(6)), facts.may_tell(at(59))), (at(60), at(60)));
        assert_eq!(facts.may_tell(at(60)), at(60));
        facts.tell(at(60));
        assert_eq!(facts.may_tell(at(60)), at(61));
    }

    #[test]
    fn failures_have_two_more_writes_a_minute_than_what_only_tells() {
        let mut facts = Facts::default();
        for second in 0..6 {
            assert_eq!(facts.may_back_off(at(second)), at(second));
            facts.tell(at(second));
        }
        assert_eq!((facts.may_back_off(at(6)), facts.may_tell(at(6))), (at(60), at(62)));
    }
}
