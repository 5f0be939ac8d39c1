//! [`LastCall`]: which call a process counts its waits from. Losing it costs time, never correctness.

use jiff::Timestamp;

use crate::api::{JobStatus, PendingStart};

/// The last call that may matter to the record of an object, as one life of a process knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LastCall {
    /// See [`super::Observed::call_at`].
    pub at: Option<Timestamp>,
    /// The id and attempt of the start that it is about. Attempt 0: it was first seen when it was finished.
    pub of: Option<(String, i64)>,
    /// It was made by this life.
    pub own: bool,
}

impl LastCall {
    /// This life's call for `pending` is over. `may_have_run`: it was not surely refused.
    pub fn made(&mut self, pending: &PendingStart, may_have_run: bool, now: Timestamp) {
        if may_have_run || pending.attempt > 1 {
            self.of = Some((pending.id.clone(), pending.attempt));
            self.own = true;
        }
        if may_have_run {
            self.at = Some(now);
        }
    }

    /// Status speaks of a start: if this life did not send it, its call is counted from now on, when it is first seen.
    /// Nothing is counted for a refused one: it surely did not run, and its retry must not wait for it.
    pub fn meet(&mut self, status: &JobStatus, now: Timestamp) {
        let pending = status.pending_start.as_ref().map(|p| (p.id.as_str(), Some(p.attempt)));
        let last = status.last_start.as_ref();
        if pending.is_none() && last.is_some_and(|l| l.outcome == "Rejected") {
            self.at.get_or_insert(Timestamp::UNIX_EPOCH);
            return;
        }
        // A finished start is known by its id alone.
        let Some((id, attempt)) = pending.or_else(|| last.map(|l| (l.id.as_str(), None))) else { return };
        // The call that another life was still about to make when its record was first seen is over only now.
        let accepted_since = attempt.is_none() && !self.own && last.is_some_and(|l| l.outcome == "Accepted");
        let known = |of: &(String, i64)| of.0 == id && attempt.map_or(!accepted_since || of.1 == 0, |n| n == of.1);
        if !self.of.as_ref().is_some_and(known) || self.at.is_none() {
            self.at = Some(now);
            self.of = Some((id.to_owned(), attempt.unwrap_or_default()));
            self.own = false;
        }
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
        let mut call = LastCall::default();
        call.meet(&JobStatus::default(), at(50));
        assert_eq!(call.at, None);
        call.meet(&pending("a", 1), at(100));
        call.meet(&pending("a", 1), at(200));
        assert_eq!(call.at, Some(at(100)));
        call.meet(&pending("a", 2), at(300));
        assert_eq!(call.at, Some(at(300)), "another attempt was sent by somebody else");
        call.meet(&last("a", "Confirmed"), at(400));
        assert_eq!(call.at, Some(at(300)));
        call.meet(&last("b", "Accepted"), at(500));
        assert_eq!(call.at, Some(at(500)));
    }

    #[test]
    fn a_start_that_another_life_saw_accepted_counts_from_then() {
        let mut call = LastCall::default();
        call.meet(&pending("a", 1), at(100));
        call.meet(&last("a", "Accepted"), at(220));
        assert_eq!(call.at, Some(at(220)), "its call may have left at any time before that");
        call.meet(&last("a", "Accepted"), at(300));
        assert_eq!(call.at, Some(at(220)));
    }

    #[test]
    fn a_call_that_was_surely_refused_counts_only_as_a_resend() {
        let made = |attempt: i64, may_have_run: bool| {
            let mut call = LastCall { at: Some(at(10)), of: None, own: false };
            let record = pending("a", attempt).pending_start;
            if let Some(record) = record {
                call.made(&record, may_have_run, at(100));
            }
            call
        };
        let of = |attempt| Some(("a".to_owned(), attempt));
        assert_eq!(made(1, true), LastCall { at: Some(at(100)), of: of(1), own: true });
        assert_eq!(made(1, false), LastCall { at: Some(at(10)), of: None, own: false });
        let resend = LastCall { at: Some(at(10)), of: of(2), own: true };
        assert_eq!(made(2, false), resend, "the copy before may still run, and its time counts");
    }

    #[test]
    fn our_own_call_keeps_its_time() {
        let of = Some(("a".to_owned(), 2));
        let mut call = LastCall { at: Some(at(10)), of, own: true };
        for status in [pending("a", 2), last("a", "Accepted"), last("a", "Unknown")] {
            call.meet(&status, at(100));
            assert_eq!(call.at, Some(at(10)));
        }
    }

    #[test]
    fn a_refused_start_makes_its_retry_wait_for_nothing() {
        let mut call = LastCall::default();
        call.meet(&last("a", "Rejected"), at(100));
        assert_eq!(call.at, Some(Timestamp::UNIX_EPOCH));
        let mut call = LastCall { at: Some(at(10)), of: Some(("a".to_owned(), 1)), own: false };
        call.meet(&last("b", "Rejected"), at(100));
        assert_eq!(call.at, Some(at(10)), "the call before it still counts");
    }
}
