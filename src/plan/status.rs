//! [`next_status`]: the only constructor of a job's status.

use jiff::Timestamp;

use super::action::{Action, Plan, Stance, Verdict};
use super::conditions::sayings;
use super::decide::decide;
use super::inputs::inputs_of;
use super::observed::{Answer, Answered, JobRef, Observed, Reading, Seen, after};
use super::problem::{Problem, retry_after};
use super::trigger::requested_tokens;
use crate::api::condition::{set, whole_seconds};
use crate::api::{Applied, FinishedStart, JobStatus, LastError, LastStart, OnUnknown, PendingStart, bounds};
use crate::dataworks::error::{Error, ErrorKind, Ran};

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
/// turn, hold), which is as it is after the action.
#[must_use]
pub fn next_status(seen: &Observed, plan: &Plan, outcome: &Outcome, now: Timestamp) -> Next {
    let mut record = seen.record.clone();
    absorb(&mut record, seen);
    match (&plan.action, outcome) {
        (_, Outcome::Intended(pending)) => record.pending_start = Some((**pending).clone()),
        (_, Outcome::Answered(answered)) => answer(&mut record, seen, answered, now),
        (Action::Adopt, Outcome::Done) => adopt(&mut record, seen),
        (Action::Tidy, Outcome::Done) => tidy(&mut record, seen),
        (Action::Settle(verdict), Outcome::Done) => settle(&mut record, seen, verdict, now),
        (Action::Look(_), Outcome::Looked) => looked(&mut record, seen, now),
        // `record` is from before the intent, so writing it withdraws that.
        (_, Outcome::NotSent)
        | (Action::Nothing | Action::TakeTurn(_) | Action::Look(_) | Action::Start(_), Outcome::Done)
        | (_, Outcome::Looked) => {}
    }
    forget_old_tokens(&mut record, seen);
    let after = Observed { record, unrecorded: None, never_sent: false, ..seen.clone() };
    let then = decide(&after, now);
    let conditions = match then.stance {
        Stance::Leaving | Stance::Foreign => seen.conditions.clone(),
        _ => set(&seen.conditions, sayings(&after, &then, outcome), seen.object.generation, now),
    };
    let status = JobStatus {
        observed_generation: seen.object.generation,
        conditions,
        uid: Some(seen.object.uid.clone()),
        ..after.record
    };
    let must_write = matches!(outcome, Outcome::Intended(_) | Outcome::NotSent | Outcome::Answered(_))
        || matches!(plan.action, Action::Adopt | Action::Tidy | Action::Settle(_));
    Next { status: status.bounded(), plan: then, must_write }
}

/// What the last look showed.
fn absorb(record: &mut JobStatus, seen: &Observed) {
    let Some(Reading { job, at, seen: what }) = &seen.reading else { return };
    let pending = record.pending_start.as_ref().map(|p| (p.region.as_str(), p.di_job_id));
    if seen.job().as_ref() != Some(job) && pending != Some((job.region.as_str(), job.di_job_id)) {
        return;
    }
    match what {
        Seen::Job(view) => {
            if record.job_status.as_ref() != Some(&view.word) {
                record.job_status = Some(view.word.clone());
                record.job_status_time = Some(whole_seconds(*at));
            }
            record.job_name.clone_from(&view.name);
            record.job_error.clone_from(&view.error);
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

fn is_applied(record: &JobStatus, job: &JobRef) -> bool {
    record.applied.as_ref().is_none_or(|a| a.region == job.region && a.di_job_id == job.di_job_id)
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

fn answer(record: &mut JobStatus, seen: &Observed, answered: &Answered, now: Timestamp) {
    let Answered { pending, answer } = answered;
    let error = match answer {
        Answer::Accepted { request_id } => return accept(record, pending, "Accepted", request_id.clone()),
        Answer::Failed(error) => error,
    };
    match error.ran() {
        Ran::May => {
            let may_have_run = PendingStart { answered: error.http_status.is_some(), ..pending.clone() };
            record.open_until = Some(whole_seconds(seen.expiry(pending.signed_time.0)));
            record.pending_start = Some(may_have_run);
            if error.kind == ErrorKind::CallerUnknown {
                fail(record, seen, error, now);
            } else {
                note(record, seen, error, now);
                record.next_attempt_time = None;
            }
        }
        Ran::DidNot => {
            // An earlier attempt without an answer keeps the trigger unknown, whatever this one was told.
            let first = pending.attempt <= 1;
            record.pending_start = (!first).then(|| pending.clone());
            if matches!(error.kind, ErrorKind::Throttled | ErrorKind::DailyLimit) {
                note(record, seen, error, now);
                record.next_attempt_time = None;
                return;
            }
            fail(record, seen, error, now);
            if first && record.next_attempt_time.is_some() && Problem::of(error).needs_a_person() {
                let last = finished(pending, "Rejected", error.request_id.clone(), error.code.clone());
                remember(record, &last);
                record.last_start = Some(last);
            }
        }
    }
}

fn settle(record: &mut JobStatus, seen: &Observed, verdict: &Verdict, now: Timestamp) {
    let pending = record.pending_start.clone();
    match (verdict, pending) {
        (Verdict::Answered(answered), pending) => {
            // Ours only if the record is still that very attempt.
            let same = pending.is_some_and(|p| p.id == answered.pending.id && p.attempt == answered.pending.attempt);
            if same {
                answer(record, seen, answered, now);
            }
        }
        (Verdict::NotSent, Some(p)) if p.attempt <= 1 => record.pending_start = None,
        (Verdict::NotSent, _) => {}
        (Verdict::Confirmed, Some(p)) => accept(record, &p, "Confirmed", None),
        (Verdict::Confirmed, None) => {
            conclude(record, "Confirmed", None);
            clear_failures(record);
            if let Some(applied) = &mut record.applied {
                applied.uncertain = false;
                applied.previous = None;
            }
        }
        (Verdict::Unknown, Some(p)) => {
            let before = record.applied.clone().filter(|a| a.region == p.region && a.di_job_id == p.di_job_id);
            let error = record.last_error.clone();
            accept(record, &p, "Unknown", None);
            record.last_error = error;
            if let Some(applied) = &mut record.applied {
                applied.uncertain = true;
                let never_twice = p.is_forced() || seen.spec.on_unknown == OnUnknown::Hold;
                applied.previous = before.filter(|_| never_twice).map(|a| a.inputs()).filter(|i| *i != p.inputs);
            }
        }
        (Verdict::Unknown, None) => {}
        (Verdict::TimedOut, _) => conclude_search(record, "TimedOut"),
        (Verdict::Unreadable, _) => conclude_search(record, "Refused"),
    }
}

fn conclude_search(record: &mut JobStatus, how: &str) {
    if let Some(last) = &mut record.last_start {
        last.confirmation = Some(how.to_owned());
    }
}

fn conclude(record: &mut JobStatus, outcome: &str, confirmation: Option<String>) {
    let Some(mut last) = record.last_start.take() else { return };
    outcome.clone_into(&mut last.outcome);
    last.confirmation = confirmation;
    remember(record, &last);
    record.last_start = Some(last);
}

/// The start of `pending` is over: what it carried is handled.
fn accept(record: &mut JobStatus, pending: &PendingStart, outcome: &str, request_id: Option<String>) {
    let job = JobRef { region: pending.region.clone(), di_job_id: pending.di_job_id };
    if record.applied.is_some() && !is_applied(record, &job) {
        record.handled_rerun_tokens.clear(); // another job: tokens start over
    }
    let last = finished(pending, outcome, request_id, None);
    remember(record, &last);
    record.last_start = Some(last);
    record.pending_start = None;
    record.applied = Some(Applied {
        region: pending.region.clone(),
        di_job_id: pending.di_job_id,
        account: pending.account.clone(),
        realtime_start_settings: pending.inputs.realtime_start_settings.clone(),
        force_to_rerun: pending.inputs.force_to_rerun,
        generation: pending.generation,
        uncertain: false,
        previous: None,
    });
    handle(record, &pending.rerun_tokens);
    clear_failures(record);
}

fn adopt(record: &mut JobStatus, seen: &Observed) {
    let Some(job) = seen.job() else { return };
    if !is_applied(record, &job) {
        record.handled_rerun_tokens.clear();
    }
    record.last_start = None;
    record.applied = Some(from_spec(seen, &job));
    handle(record, &requested_tokens(seen));
    clear_failures(record);
}

fn tidy(record: &mut JobStatus, seen: &Observed) {
    let (Some(job), Some(before)) = (seen.job(), record.applied.take()) else { return };
    let mut applied = from_spec(seen, &job);
    // A return to the inputs before closes the matter; anything else leaves it as it is.
    let returned = before.previous.as_ref() == Some(&applied.inputs());
    applied.uncertain = before.uncertain && !returned;
    applied.previous = before.previous.filter(|_| applied.uncertain);
    record.applied = Some(applied);
    clear_failures(record);
}

fn from_spec(seen: &Observed, job: &JobRef) -> Applied {
    let inputs = inputs_of(&seen.spec);
    Applied {
        region: job.region.clone(),
        di_job_id: job.di_job_id,
        account: seen.spec.account_ref.name.clone(),
        realtime_start_settings: inputs.realtime_start_settings,
        force_to_rerun: inputs.force_to_rerun,
        generation: seen.object.generation,
        uncertain: false,
        previous: None,
    }
}

fn finished(pending: &PendingStart, outcome: &str, request_id: Option<String>, error: Option<String>) -> LastStart {
    LastStart {
        id: pending.id.clone(),
        trigger: pending.trigger.clone(),
        rerun_tokens: pending.rerun_tokens.clone(),
        generation: pending.generation,
        request_id,
        force_to_rerun: pending.force_to_rerun,
        start_time: pending.realtime_start_settings.as_ref().and_then(|s| s.start_time),
        requested_time: pending.signed_time.clone(),
        outcome: outcome.to_owned(),
        error,
        baseline_started_time: pending.baseline_started_time,
        baseline_job_status: pending.baseline_job_status.clone(),
        confirmation: None,
    }
}

/// One entry a start; a refusal repeated by the slow retry is one entry.
fn remember(record: &mut JobStatus, last: &LastStart) {
    let entry = FinishedStart {
        id: last.id.clone(),
        trigger: last.trigger.clone(),
        rerun_tokens: last.rerun_tokens.clone(),
        generation: last.generation,
        outcome: last.outcome.clone(),
        code: last.error.clone(),
        request_id: last.request_id.clone(),
        time: last.requested_time.clone(),
    };
    let same_refusal = |h: &FinishedStart| {
        (&h.outcome, &h.trigger, h.generation, &h.rerun_tokens, &h.code)
            == (&entry.outcome, &entry.trigger, entry.generation, &entry.rerun_tokens, &entry.code)
            && entry.outcome == "Rejected"
    };
    record.history.retain(|h| h.id != entry.id);
    if record.history.last().is_some_and(same_refusal) {
        record.history.pop();
    }
    record.history.push(entry);
}

fn handle(record: &mut JobStatus, tokens: &[String]) {
    record.handled_rerun_tokens.retain(|t| !tokens.contains(t));
    record.handled_rerun_tokens.extend(tokens.iter().cloned());
}

/// The tokens now on the object are never dropped; of the others the newest are kept.
fn forget_old_tokens(record: &mut JobStatus, seen: &Observed) {
    let on_object = requested_tokens(seen);
    let others = record.handled_rerun_tokens.iter().filter(|t| !on_object.contains(t)).count();
    let mut to_drop = others.saturating_sub(bounds::TOKENS);
    record.handled_rerun_tokens.retain(|t| {
        let drop = to_drop > 0 && !on_object.contains(t);
        to_drop -= usize::from(drop);
        !drop
    });
}

fn clear_failures(record: &mut JobStatus) {
    record.attempts = 0;
    record.next_attempt_time = None;
    record.last_error = None;
}

/// One more failure in a row, and when to try again.
fn fail(record: &mut JobStatus, seen: &Observed, error: &Error, now: Timestamp) {
    record.attempts = record.attempts.saturating_add(1);
    let wait = retry_after(error, record.last_error.as_ref(), record.attempts, seen.jitter);
    note(record, seen, error, now);
    record.next_attempt_time = wait.map(|w| whole_seconds(after(now, w)));
}

fn note(record: &mut JobStatus, seen: &Observed, error: &Error, now: Timestamp) {
    record.last_error = Some(LastError {
        operation: error.operation.action().to_owned(),
        code: error.code.clone(),
        message: error.message.clone(),
        request_id: error.request_id.clone(),
        http_status: error.http_status.map(i32::from),
        time: whole_seconds(now),
        generation: seen.object.generation,
        rerun_tokens: requested_tokens(seen),
        credentials_version: seen.credentials_version(),
    });
}
