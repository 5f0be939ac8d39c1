//! What an answer, a sign, an adoption or a tidying up changes in the record.

use jiff::Timestamp;

use super::action::Verdict;
use super::inputs::inputs_of;
use super::observed::{Answer, Answered, JobRef, Observed, after};
use super::problem::{Problem, retry_after};
use super::status::is_applied;
use super::trigger::requested_tokens;
use crate::api::condition::whole_seconds;
use crate::api::{Applied, FinishedStart, JobStatus, LastError, LastStart, OnUnknown, PendingStart, bounds};
use crate::dataworks::error::{Error, ErrorKind, Ran, safe_text};

pub(super) fn answer(record: &mut JobStatus, seen: &Observed, answered: &Answered, now: Timestamp) {
    let Answered { pending, credentials_version: _, answer } = answered;
    let error = match answer {
        Answer::Accepted { request_id } => return accept(record, pending, "Accepted", request_id.as_ref()),
        Answer::Failed(error) => error,
    };
    match error.ran() {
        Ran::May => {
            let may_have_run = PendingStart { answered: error.http_status.is_some(), ..pending.clone() };
            open(record, seen, pending);
            record.pending_start = Some(may_have_run);
            if error.kind == ErrorKind::CallerUnknown {
                fail(record, seen, error, now);
            } else {
                note(record, seen, error, now);
                record.next_attempt_time = None;
            }
            blame(record, answered);
        }
        Ran::DidNot => {
            // An earlier attempt without an answer keeps the trigger unknown, whatever this one was told.
            let first = pending.attempt <= 1;
            record.pending_start = (!first).then(|| pending.clone());
            fail(record, seen, error, now);
            blame(record, answered);
            if first && record.next_attempt_time.is_some() && Problem::of(error).needs_a_person() {
                let last = finished(pending, "Rejected", error.request_id.as_ref(), error.code.as_ref());
                remember(record, &last);
                record.last_start = Some(last);
            }
        }
    }
}

/// A failure is one of what was sent, not of what object and Secret hold by the time of its record: a Secret mended
/// meanwhile would wait out the refusal of the old one. (Of a resend the object may have moved on before the call.)
fn blame(record: &mut JobStatus, answered: &Answered) {
    let Answered { pending, credentials_version, answer: _ } = answered;
    let Some(error) = &mut record.last_error else { return };
    error.credentials_version.clone_from(credentials_version);
    if pending.attempt <= 1 {
        let handled = &record.handled_rerun_tokens;
        error.generation = pending.generation;
        error.rerun_tokens.retain(|token| pending.rerun_tokens.contains(token) || handled.contains(token));
    }
}

/// A call of this record may still arrive, and its answer may not be known.
fn open(record: &mut JobStatus, seen: &Observed, pending: &PendingStart) {
    record.open_until = Some(whole_seconds(seen.expiry(pending.signed_time.0)));
}

pub(super) fn settle(record: &mut JobStatus, seen: &Observed, verdict: &Verdict, now: Timestamp) {
    let pending = record.pending_start.clone();
    match (verdict, pending) {
        (Verdict::Answered(answered), pending) => {
            // Ours only if the record is still that very attempt.
            let ours = |p: &PendingStart| p.id == answered.pending.id && p.attempt == answered.pending.attempt;
            match pending {
                Some(p) if ours(&p) => answer(record, seen, answered, now),
                Some(_) => {}
                None => answer_late(record, answered),
            }
        }
        (Verdict::NotSent, Some(p)) if p.attempt <= 1 => record.pending_start = None,
        (Verdict::NotSent, _) | (Verdict::Unknown, None) => {}
        (Verdict::Confirmed, Some(p)) => {
            open(record, seen, &p);
            accept(record, &p, "Confirmed", None);
        }
        (Verdict::Confirmed, None) => {
            conclude(record, "Confirmed", None);
            be_certain(record);
        }
        (Verdict::Unknown, Some(p)) => {
            let before = record.applied.clone().filter(|a| a.region == p.region && a.di_job_id == p.di_job_id);
            let error = record.last_error.clone();
            open(record, seen, &p);
            accept(record, &p, "Unknown", None);
            record.last_error = error;
            if let Some(applied) = &mut record.applied {
                applied.uncertain = true;
                // With nothing else to return to, these inputs themselves: what is only taken away starts nothing.
                let never_twice = p.is_forced() || seen.spec.on_unknown == OnUnknown::Hold;
                applied.previous = never_twice.then(|| before.map_or(p.inputs, |a| a.inputs()));
            }
        }
        (Verdict::TimedOut, _) => conclude_search(record, "TimedOut"),
        (Verdict::Unreadable, _) => conclude_search(record, "Refused"),
    }
}

/// The matter was closed meanwhile. That the cloud took the call still upgrades an unknown outcome, and nothing else.
fn answer_late(record: &mut JobStatus, answered: &Answered) {
    let Answer::Accepted { request_id } = &answered.answer else { return };
    let Some(last) = record.last_start.as_mut().filter(|l| l.id == answered.pending.id) else { return };
    if last.outcome != "Unknown" {
        return;
    }
    last.request_id.clone_from(request_id);
    conclude(record, "Accepted", None);
    be_certain(record);
}

fn be_certain(record: &mut JobStatus) {
    clear_failures(record);
    if let Some(applied) = &mut record.applied {
        applied.uncertain = false;
        applied.previous = None;
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
fn accept(record: &mut JobStatus, pending: &PendingStart, outcome: &str, request_id: Option<&String>) {
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

pub(super) fn adopt(record: &mut JobStatus, seen: &Observed) {
    let Some(job) = seen.job() else { return };
    if !is_applied(record, &job) {
        record.handled_rerun_tokens.clear();
    }
    record.last_start = None;
    record.applied = Some(from_spec(seen, &job));
    handle(record, &requested_tokens(seen));
    clear_failures(record);
}

pub(super) fn tidy(record: &mut JobStatus, seen: &Observed) {
    let (Some(job), Some(before)) = (seen.job(), record.applied.take()) else { return };
    let mut applied = from_spec(seen, &job);
    // A return to the inputs before closes the matter; anything else leaves it as it is.
    let returned = before.previous.as_ref() == Some(&applied.inputs()) && before.inputs() != applied.inputs();
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

fn finished(pending: &PendingStart, outcome: &str, request_id: Option<&String>, error: Option<&String>) -> LastStart {
    LastStart {
        id: pending.id.clone(),
        trigger: pending.trigger.clone(),
        rerun_tokens: pending.rerun_tokens.clone(),
        generation: pending.generation,
        request_id: request_id.map(|id| safe_text(id)),
        force_to_rerun: pending.force_to_rerun,
        start_time: pending.realtime_start_settings.as_ref().and_then(|s| s.start_time),
        requested_time: pending.signed_time.clone(),
        service: pending.service.clone(),
        outcome: outcome.to_owned(),
        error: error.map(|code| safe_text(code)),
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
pub(super) fn forget_old_tokens(record: &mut JobStatus, seen: &Observed) {
    let on_object = requested_tokens(seen);
    let others = record.handled_rerun_tokens.iter().filter(|t| !on_object.contains(t)).count();
    let mut to_drop = others.saturating_sub(bounds::TOKENS);
    record.handled_rerun_tokens.retain(|t| {
        let drop = to_drop > 0 && !on_object.contains(t);
        to_drop -= usize::from(drop);
        !drop
    });
}

pub(super) fn clear_failures(record: &mut JobStatus) {
    record.attempts = 0;
    record.next_attempt_time = None;
    record.last_error = None;
}

/// One more failure in a row, and when to try again. What the governor waits for is no failure of this job.
pub(super) fn fail(record: &mut JobStatus, seen: &Observed, error: &Error, now: Timestamp) {
    if !matches!(error.kind, ErrorKind::Throttled | ErrorKind::DailyLimit) {
        record.attempts = record.attempts.saturating_add(1);
    }
    let wait = retry_after(error, record.last_error.as_ref(), record.attempts, seen.jitter);
    note(record, seen, error, now);
    record.next_attempt_time = wait.map(|w| whole_seconds(after(now, w)));
}

fn note(record: &mut JobStatus, seen: &Observed, error: &Error, now: Timestamp) {
    record.last_error = Some(LastError {
        operation: error.operation.action().to_owned(),
        code: error.code.as_deref().map(safe_text),
        message: error.message.as_deref().map(safe_text),
        request_id: error.request_id.as_deref().map(safe_text),
        http_status: error.http_status.map(i32::from),
        time: whole_seconds(now),
        generation: seen.object.generation,
        rerun_tokens: requested_tokens(seen),
        credentials_version: seen.credentials_version(),
    });
}
