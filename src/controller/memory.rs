//! What this process remembers of each object besides its status. Losing it costs time, never correctness.
//!
//! Keyed by uid: a re-created object inherits nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::api::JobStatus;
use crate::plan::observed::{Answered, Reading};

/// What is remembered of one object.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// See [`crate::plan::Observed::call_at`].
    pub call_at: Option<Timestamp>,
    /// The id and attempt of the start that `call_at` is about. Attempt 0: it was first seen when it was finished.
    pub call_of: Option<(String, i64)>,
    /// That call was made by this life.
    pub own_call: bool,
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
}

/// So many writes of one object in a minute, besides those of its attempts.
const TOLD: usize = 6;
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

impl Facts {
    /// When status may next be written only to tell how the object stands: an object that somebody edits all the time is
    /// told of at the pace of a reader.
    pub fn may_tell(&mut self, now: Timestamp) -> Timestamp {
        self.told.retain(|at| now.duration_since(*at) < MINUTE);
        match self.told.first() {
            Some(oldest) if self.told.len() >= TOLD => oldest.saturating_add(MINUTE).unwrap_or(now),
            Some(_) | None => now,
        }
    }

    /// It was written for another reason than an attempt.
    pub fn tell(&mut self, now: Timestamp) {
        self.told.push(now);
    }

    /// Status speaks of a start: if this life did not send it, its call is counted from now on, when it is first seen.
    /// Nothing is counted for a refused one: it surely did not run, and its retry must not wait for it.
    pub fn meet(&mut self, status: &JobStatus, now: Timestamp) {
        let pending = status.pending_start.as_ref().map(|p| (p.id.as_str(), Some(p.attempt)));
        let last = status.last_start.as_ref();
        if pending.is_none() && last.is_some_and(|l| l.outcome == "Rejected") {
            self.call_at.get_or_insert(Timestamp::UNIX_EPOCH);
            return;
        }
        // A finished start is known by its id alone.
        let Some((id, attempt)) = pending.or_else(|| last.map(|l| (l.id.as_str(), None))) else { return };
        // The call that another life was still about to make when its record was first seen is over only now.
        let accepted_since = attempt.is_none() && !self.own_call && last.is_some_and(|l| l.outcome == "Accepted");
        let known = |of: &(String, i64)| of.0 == id && attempt.map_or(!accepted_since || of.1 == 0, |n| n == of.1);
        if !self.call_of.as_ref().is_some_and(known) || self.call_at.is_none() {
            self.call_at = Some(now);
            self.call_of = Some((id.to_owned(), attempt.unwrap_or_default()));
            self.own_call = false;
        }
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

    fn pending(id: &str, attempt: i64) -> JobStatus {
        let mut status = JobStatus { last_start: None, ..JobStatus::full() };
        if let Some(pending) = &mut status.pending_start {
            id.clone_into(&mut pending.id);
            pending.attempt = attempt;
        }
        status
    }

    fn last(id: &str, outcome: &str) -> JobStatus {
        let mut status = JobStatus { pending_start: None, ..JobStatus::full() };
        if let Some(last) = &mut status.last_start {
            id.clone_into(&mut last.id);
            outcome.clone_into(&mut last.outcome);
        }
        status
    }

    #[test]
    fn a_start_of_another_life_counts_from_when_it_is_first_seen() {
        let mut facts = Facts::default();
        facts.meet(&JobStatus::default(), at(50));
        assert_eq!(facts.call_at, None);
        facts.meet(&pending("a", 1), at(100));
        facts.meet(&pending("a", 1), at(200));
        assert_eq!(facts.call_at, Some(at(100)));
        facts.meet(&pending("a", 2), at(300));
        assert_eq!(facts.call_at, Some(at(300)), "another attempt was sent by somebody else");
        facts.meet(&last("a", "Confirmed"), at(400));
        assert_eq!(facts.call_at, Some(at(300)));
        facts.meet(&last("b", "Accepted"), at(500));
        assert_eq!(facts.call_at, Some(at(500)));
    }

    #[test]
    fn a_start_that_another_life_saw_accepted_counts_from_then() {
        let mut facts = Facts::default();
        facts.meet(&pending("a", 1), at(100));
        facts.meet(&last("a", "Accepted"), at(220));
        assert_eq!(facts.call_at, Some(at(220)), "its call may have left at any time before that");
        facts.meet(&last("a", "Accepted"), at(300));
        assert_eq!(facts.call_at, Some(at(220)));
    }

    #[test]
    fn what_stands_is_told_six_times_a_minute() {
        let mut facts = Facts::default();
        for second in 0..6 {
            assert_eq!(facts.may_tell(at(second)), at(second));
            facts.tell(at(second));
        }
        assert_eq!((facts.may_tell(at(6)), facts.may_tell(at(59))), (at(60), at(60)));
        assert_eq!(facts.may_tell(at(60)), at(60));
        facts.tell(at(60));
        assert_eq!(facts.may_tell(at(60)), at(61));
    }

    #[test]
    fn our_own_call_keeps_its_time() {
        let call_of = Some(("a".to_owned(), 2));
        let mut facts = Facts { call_at: Some(at(10)), call_of, own_call: true, ..Facts::default() };
        for status in [pending("a", 2), last("a", "Accepted"), last("a", "Unknown")] {
            facts.meet(&status, at(100));
            assert_eq!(facts.call_at, Some(at(10)));
        }
    }

    #[test]
    fn a_refused_start_makes_its_retry_wait_for_nothing() {
        let mut facts = Facts::default();
        facts.meet(&last("a", "Rejected"), at(100));
        assert_eq!(facts.call_at, Some(Timestamp::UNIX_EPOCH));
        let mut facts = Facts { call_at: Some(at(10)), call_of: Some(("a".to_owned(), 1)), ..Facts::default() };
        facts.meet(&last("b", "Rejected"), at(100));
        assert_eq!(facts.call_at, Some(at(10)), "the call before it still counts");
    }
}
