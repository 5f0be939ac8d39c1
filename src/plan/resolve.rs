//! What is done about a start whose effect is not known: resolve one without an answer, confirm an accepted one.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::action::{Action, Plan, Rest, Stance, Verdict, look, rest, settle, until_then, with_turn};
use super::decide::rest_of;
use super::evidence::{Baseline, Evidence, tells_started, weigh};
use super::inputs::inputs_of;
use super::observed::{JobRef, Key, Lane, Observed, Reading, Seen, after};
use super::obstacle::{blocked, blocked_for_a_person, forbidden, retry_wait, without_key};
use super::status::is_applied;
use super::trigger::{Trigger, requested_tokens};
use crate::api::condition::whole_seconds;
use crate::api::{LastStart, OnUnknown, PendingStart};
use crate::dataworks::error::safe_text;

/// A start may have run: look for a sign, send an ordinary one again, or close the matter when it can no longer run.
pub(super) fn resolve(seen: &Observed, pending: &PendingStart, spec_job: &JobRef, now: Timestamp) -> Plan {
    let job = JobRef { region: pending.region.clone(), di_job_id: pending.di_job_id };
    let expiry = seen.expiry(pending.signed_time.0);
    let stance = Stance::Resolving(expiry);
    let Key::Ready { id: key_id, .. } = &seen.key else { return without_key(seen, now) };
    let reading = seen.look_at(&job);
    let evidence = weigh(seen, reading, Baseline::from(pending), now);
    if evidence == Evidence::Sign {
        return settle(Verdict::Confirmed);
    }
    // An account that now means another region cannot read this job any more.
    let readable = job.region == spec_job.region;
    let forced = pending.is_forced() || seen.spec.on_unknown == OnUnknown::Hold;
    let provable = readable && evidence != Evidence::Blind;
    let wanted = still_wanted(seen, pending, spec_job) && forbidden(seen, reading, now).is_none();
    let never_again = forced || !provable || !wanted;
    let called = seen.call_at.unwrap_or(now);
    if never_again || seen.spec.suspend {
        let trigger = Trigger::of(&pending.trigger).unwrap_or(Trigger::SpecChange);
        let how = Closing { expiry, called, readable, for_good: never_again, trigger, stance };
        return close(seen, reading, &job, &how, now);
    }
    if let Some(plan) = blocked(seen, now) {
        return plan;
    }
    let settled = after(called, seen.settings.settle);
    if now < settled {
        return until_then(stance, settled);
    }
    if evidence != Evidence::NoSign {
        return look(seen, &job, stance);
    }
    let paced = after(called, resend_wait(seen.settings.settle, pending.attempt));
    if now < paced {
        return until_then(stance, paced);
    }
    // The gateway refuses a nonce that it has seen, which can only prevent a double.
    let age = seen.cloud_time(now).duration_since(pending.signed_time.0);
    let same_bytes = age < SAME_NONCE && is_made_alike(seen, pending, key_id) && !pending.answered;
    if !same_bytes && age < SAME_NONCE && !pending.answered {
        // Under another key, or elsewhere, the first copy is not refused as a repetition: wait until it is old.
        return until_then(stance, after(now, (SAME_NONCE - age).unsigned_abs()));
    }
    if reading.is_none_or(|r| now >= after(r.at, Duration::from_secs(60))) {
        return look(seen, &job, stance);
    }
    with_turn(seen, Lane::Start, stance, || {
        let copy = PendingStart {
            attempt: pending.attempt.saturating_add(1),
            holder: seen.holder.clone(),
            lease_transitions: seen.lease_transitions,
            ..pending.clone()
        };
        Action::Start(Box::new(if same_bytes { copy } else { made_anew(copy, seen, key_id, reading, now) }))
    })
}

/// The copy as another request: signed now, with the key and in the way of today. If looks tell other things in that way,
/// the last one, which shows no effect so far, is the baseline from now on.
fn made_anew(
    copy: PendingStart,
    seen: &Observed,
    key_id: &str,
    reading: Option<&Reading>,
    now: Timestamp,
) -> PendingStart {
    let comparable = tells_started(&copy.service) == tells_started(seen.service());
    let (started, word) = match reading.map(|r| &r.seen) {
        _ if comparable => (copy.baseline_started_time, copy.baseline_job_status.clone()),
        Some(Seen::Job(view)) => (view.started, Some(safe_text(&view.word))),
        Some(Seen::NotFound(_) | Seen::Refused(_) | Seen::Failed(_)) | None => (None, None),
    };
    PendingStart {
        nonce: seen.fresh_nonce.clone(),
        signed_time: whole_seconds(seen.cloud_time(now)),
        key_id: key_id.to_owned(),
        service: seen.service().to_owned(),
        answered: false,
        baseline_started_time: started,
        baseline_job_status: word,
        ..copy
    }
}

/// The next copy would be signed with the key of the record's, and go the same way.
fn is_made_alike(seen: &Observed, pending: &PendingStart, key_id: &str) -> bool {
    let same_service = pending.service.is_empty() || pending.service == seen.service();
    pending.key_id == key_id && same_service
}

/// While a signature is younger than this, a resend bears its nonce: nonces are remembered at least that long.
const SAME_NONCE: SignedDuration = SignedDuration::from_mins(10);

/// How long after attempt number `attempt` the next one leaves: the settle time, doubled by each that had no answer,
/// up to 5 minutes. A cloud that fails for hours must not eat the calls of a day.
fn resend_wait(settle: Duration, attempt: i64) -> Duration {
    let doublings = u32::try_from(attempt.clamp(1, 5) - 1).unwrap_or(0);
    settle.saturating_mul(1 << doublings).min(settle.max(Duration::from_secs(300)))
}

/// What was asked for when the record was written is still asked for.
fn still_wanted(seen: &Observed, pending: &PendingStart, job: &JobRef) -> bool {
    let tokens = requested_tokens(seen);
    pending.di_job_id == job.di_job_id
        && pending.inputs == inputs_of(&seen.spec)
        && pending.rerun_tokens.iter().all(|t| tokens.contains(t))
        && (pending.trigger != Trigger::Rerun.as_str() || !pending.rerun_tokens.is_empty())
}

/// How the matter of a start that is not sent again ends.
struct Closing {
    expiry: Timestamp,
    called: Timestamp,
    readable: bool,
    for_good: bool,
    trigger: Trigger,
    stance: Stance,
}

/// Not sent again, for good or while suspended: look at 30 s, 1, 2, 4, 8 minutes and when the signature has expired,
/// then, if it is for good, close it as unknown.
fn close(seen: &Observed, reading: Option<&Reading>, job: &JobRef, how: &Closing, now: Timestamp) -> Plan {
    let settled = seen.settings.settle;
    let end = how.expiry.max(after(how.called, settled));
    let looked_past = |at: Timestamp| reading.is_some_and(|r| r.at >= at && !matches!(r.seen, Seen::Failed(_)));
    let over = now >= end && (!how.readable || looked_past(end));
    if over && how.for_good {
        return settle(Verdict::Unknown);
    }
    if over {
        return rest(Stance::Suspended(how.trigger)); // it is sent again when that is lifted
    }
    if let Some(plan) = blocked_for_a_person(seen, now) {
        return plan;
    }
    let doubled = (0..5_u32).map(|n| after(how.called, settled.saturating_mul(1 << n))).filter(|at| *at < end);
    let steps: Vec<Timestamp> = doubled.filter(|_| how.readable).chain([end]).collect();
    let missed = steps.iter().rfind(|at| **at <= now).is_some_and(|at| !looked_past(*at));
    if !missed {
        return until_then(how.stance.clone(), steps.into_iter().find(|at| *at > now).unwrap_or(end));
    }
    match retry_wait(seen, now) {
        Some((_, until)) => until_then(how.stance.clone(), until),
        None => look(seen, job, how.stance.clone()),
    }
}

/// The last start, if it was accepted and its effect is still being looked for.
pub(super) fn unconfirmed<'a>(seen: &'a Observed, job: &JobRef) -> Option<&'a LastStart> {
    let last = seen.record.last_start.as_ref()?;
    let same_job = is_applied(&seen.record, job);
    let seen_at_rest = !matches!(rest_of(&seen.record), Rest::Running | Rest::Finished | Rest::Failed);
    let open = last.outcome == "Accepted" || (last.outcome == "Confirmed" && seen_at_rest);
    (same_job && open && last.confirmation.is_none()).then_some(last)
}

/// The last start was accepted, and reading is refused: it may still be on its way for the confirm timeout.
pub(super) fn accepted_unseen(seen: &Observed, job: &JobRef) -> bool {
    let last = seen.record.last_start.as_ref();
    is_applied(&seen.record, job)
        && last.is_some_and(|l| l.outcome == "Accepted" && l.confirmation.as_deref() == Some("Refused"))
}

/// Looks for the effect of an accepted start: after 2 s, then at doubled times, until the confirm timeout.
pub(super) fn confirm(seen: &Observed, last: &LastStart, job: &JobRef, now: Timestamp) -> Plan {
    let called = seen.call_at.unwrap_or(now);
    let deadline = after(called, seen.settings.confirm);
    let stance = Stance::Confirming(deadline);
    let reading = seen.look_at(job);
    if last.outcome == "Accepted" {
        if last.baseline_job_status.is_none() {
            return settle(Verdict::Unreadable); // reading was refused before the call: no read can prove anything
        }
        match weigh(seen, reading, Baseline::from(last), now) {
            Evidence::Sign => return settle(Verdict::Confirmed),
            Evidence::Blind => return settle(Verdict::Unreadable),
            Evidence::NoSign | Evidence::TooEarly => {}
        }
    }
    if reading.is_some_and(|r| r.at >= deadline && !matches!(r.seen, Seen::Failed(_))) {
        return settle(Verdict::TimedOut);
    }
    if !matches!(seen.key, Key::Ready { .. }) {
        return without_key(seen, now);
    }
    if let Some(plan) = blocked_for_a_person(seen, now) {
        return plan;
    }
    let step = |n: u32| after(called, Duration::from_secs(2 << n)).min(deadline);
    let looked = reading.map_or(called, |r| r.at);
    let next = (0..12).map(step).find(|t| *t > looked).unwrap_or(deadline);
    let next = next.max(retry_wait(seen, now).map_or(next, |(_, t)| t));
    if now < next { until_then(stance, next) } else { look(seen, job, stance) }
}
