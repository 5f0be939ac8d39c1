//! [`next_status`]: the only constructor of a job's status.

use jiff::Timestamp;

use super::action::{Action, Plan, Rest, Stance};
use super::backoff::LONGEST;
use super::conditions::sayings;
use super::decide::decide;
use super::observed::{Answered, JobRef, Observed, Reading, Seen, after};
use super::record::{adopt, answer, clear_failures, fail, forget_old_tokens, settle, tidy};
use crate::api::condition::{set, whole_seconds};
use crate::api::{JobStatus, PendingStart};
use crate::dataworks::error::safe_text;

/// What came of the action of a pass.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was done, or there was nothing to do.
    Done,
    /// The job was looked at; [`Observed::reading`] holds what was seen.
    Looked,
    /// The intent is to be written: the status that says so.
    Intended(Box<PendingStart>),
    /// The intent may be written, and nothing left the process.
    NotSent,
    /// The call was made.
    Answered(Box<Answered>),
}

/// A status, and what follows from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Next {
    /// The whole status.
    pub status: JobStatus,
    /// What a pass would do next, with this status.
    pub plan: Plan,
    /// It must be written even if the next pass follows at once: it holds what no other place does.
    pub must_write: bool,
}

/// The status after `outcome` of `plan`. `seen` is as it was decided on, but for the process's own memory (reading,
/// `call_at`, turn, hold), which is as it is after the action.
#[must_use]
pub fn next_status(seen: &Observed, plan: &Plan, outcome: &Outcome, now: Timestamp) -> Next {
    let mut record = seen.record.clone();
    if plan.stance == Stance::Foreign {
        let status = JobStatus { conditions: seen.conditions.clone(), ..record };
        return Next { status, plan: plan.clone(), must_write: false };
    }
    absorb(&mut record, seen);
    // A time further away than any wait of ours is another clock's.
    let longest = whole_seconds(after(now, LONGEST));
    record.next_attempt_time = record.next_attempt_time.map(|t| if t.0 > longest.0 { longest } else { t });
    match (&plan.action, outcome) {
        (_, Outcome::Intended(pending)) => record.pending_start = Some((**pending).clone()),
        (_, Outcome::Answered(answered)) => answer(&mut record, seen, answered, now),
        (Action::Adopt, Outcome::Done) => adopt(&mut record, seen),
        (Action::Tidy, Outcome::Done) => tidy(&mut record, seen),
        (Action::Settle(verdict), Outcome::Done) => settle(&mut record, seen, verdict, now),
        (Action::Look(_), Outcome::Looked) => looked(&mut record, seen, now),
        // `record` is from before the intent, so writing it withdraws that.
        (_, Outcome::NotSent | Outcome::Looked)
        | (Action::Nothing | Action::TakeTurn(_) | Action::Look(_) | Action::Start(_), Outcome::Done) => {}
    }
    forget_old_tokens(&mut record, seen);
    let mut after = Observed { record: record.bounded(), unrecorded: None, never_sent: false, ..seen.clone() };
    let mut then = decide(&after, now);
    if forget_old_failures(&mut after.record, &then.stance) {
        then = decide(&after, now); // what is forgotten is not waited for
    }
    let leaving = matches!(then.stance, Stance::Leaving | Stance::Foreign);
    let generation = seen.object.generation;
    let status = JobStatus {
        observed_generation: if leaving { seen.record.observed_generation } else { generation },
        conditions: if leaving {
            seen.conditions.clone()
        } else {
            set(&seen.conditions, sayings(&after, &then, outcome), generation, now)
        },
        uid: Some(seen.object.uid.clone()),
        ..after.record
    };
    let must_write = matches!(outcome, Outcome::Intended(_) | Outcome::NotSent | Outcome::Answered(_))
        || matches!(plan.action, Action::Adopt | Action::Tidy | Action::Settle(_));
    Next { status: status.bounded(), plan: then, must_write }
}

/// Nothing is due any more, so nothing is retried: a request was withdrawn, or the job came round by itself. Says whether
/// there was anything to forget.
fn forget_old_failures(record: &mut JobStatus, stance: &Stance) -> bool {
    let Stance::Settled(rest) = stance else { return false };
    let of_a_look = record.last_error.as_ref().is_some_and(|e| e.operation == "GetDIJob");
    let forgets = match rest {
        Rest::Running | Rest::Finished | Rest::Failed | Rest::Accepted | Rest::UnknownWord => true,
        Rest::NotRunning => !of_a_look,
        Rest::OutcomeUnknown => false, // still looked for, with backoff
    };
    let had = record.last_error.is_some() || record.next_attempt_time.is_some() || record.attempts != 0;
    if forgets {
        clear_failures(record);
    }
    forgets && had
}

/// What the last look showed.
fn absorb(record: &mut JobStatus, seen: &Observed) {
    // A look made before our own call says nothing of what came of it, and another process may have looked since.
    let young = seen.reading.as_ref().filter(|r| seen.call_at.is_none_or(|call| r.at > call));
    let Some(Reading { job, at, seen: what }) = young else { return };
    let pending = record.pending_start.as_ref().map(|p| (p.region.as_str(), p.di_job_id));
    if seen.job().as_ref() != Some(job) && pending != Some((job.region.as_str(), job.di_job_id)) {
        return;
    }
    match what {
        Seen::Job(view) => {
            let word = safe_text(&view.word);
            if record.job_status.as_ref() != Some(&word) {
                record.job_status = Some(word);
                record.job_status_time = Some(whole_seconds(*at));
            }
            record.job_name = view.name.as_deref().map(safe_text);
            record.job_error = view.error.as_deref().map(safe_text);
            let started = view.started.and_then(|s| Timestamp::from_second(s).ok()).map(whole_seconds);
            let known = record.job_started_time.take().filter(|_| is_applied(record, job));
            record.job_started_time = match (known, started) {
                (Some(known), Some(started)) => Some(if started.0 > known.0 { started } else { known }),
                (known, started) => started.or(known),
            };
        }
        Seen::NotFound(_) => {
            record.job_status = None;
            record.job_status_time = None;
            record.job_error = None;
        }
        Seen::Refused(_) | Seen::Failed(_) => {}
    }
}

/// `job` is the one that the record's facts are about.
pub(super) fn is_applied(record: &JobStatus, job: &JobRef) -> bool {
    record.applied.as_ref().is_some_and(|a| a.region == job.region && a.di_job_id == job.di_job_id)
}

fn looked(record: &mut JobStatus, seen: &Observed, now: Timestamp) {
    match seen.reading.as_ref().map(|r| &r.seen) {
        Some(Seen::NotFound(error) | Seen::Failed(error)) => fail(record, seen, error, now),
        Some(Seen::Job(_) | Seen::Refused(_)) | None => {
            if record.last_error.as_ref().is_some_and(|e| e.operation == "GetDIJob") {
                clear_failures(record);
            }
        }
    }
}
