//! [`decide`]: the one place where it is said what a pass does.

use std::time::Duration;

use jiff::Timestamp;

use super::action::{Action, Plan, Rest, Stance, Verdict, act, look, rest, settle, until_then, with_turn};
use super::evidence::{Baseline, Evidence, tells_started, weigh};
use super::inputs::inputs_of;
use super::observed::{JobRef, Key, Lane, Observed, PROTOCOL, Seen, after};
use super::obstacle::{blocked, blocked_for_a_person, forbidden, retry_wait, without_account, without_key};
use super::problem::Problem;
use super::resolve::{accepted_unseen, confirm, resolve, unconfirmed};
use super::status::is_applied;
use super::trigger::{Due, DueStart, Trigger, due};
use crate::api::condition::whole_seconds;
use crate::api::{JobStatus, OnUnknown, PendingStart};
use crate::dataworks::error::safe_text;
use crate::dataworks::model::JobState;

/// First match wins; the table in the module doc of `plan` lists the same rows in the same order.
#[must_use]
pub fn decide(seen: &Observed, now: Timestamp) -> Plan {
    let pending = seen.record.pending_start.as_ref();
    if pending.is_some_and(|p| p.protocol > PROTOCOL) {
        return rest(Stance::Foreign);
    }
    if let Some(answered) = &seen.unrecorded {
        return settle(Verdict::Answered(Box::new(answered.clone())));
    }
    if pending.is_some() && seen.never_sent {
        return settle(Verdict::NotSent);
    }
    if seen.object.deleting {
        return rest(Stance::Leaving);
    }
    let (Some(job), Some(due)) = (seen.job(), due(seen)) else { return without_account(seen, now) };
    if let Some(pending) = pending {
        return resolve(seen, pending, &job, now);
    }
    match due {
        Due::Start(start) => approach(seen, &start, now),
        Due::AccountChanged => rest(Stance::Blocked { problem: Problem::AccountChanged, stalled: true, until: None }),
        Due::Tidy => act(Action::Tidy, Stance::Settled(rest_of(&seen.record))),
        Due::Nothing => keep(seen, &job, now),
    }
}

/// A start is due: confirm the last one, hold back, wait, look, adopt, or start.
fn approach(seen: &Observed, due: &DueStart, now: Timestamp) -> Plan {
    if let Some(last) = unconfirmed(seen, &due.job) {
        return confirm(seen, last, &due.job, now);
    }
    if seen.spec.suspend {
        return rest(Stance::Suspended(due.trigger));
    }
    let Key::Ready { id: key_id, .. } = &seen.key else { return without_key(seen, now) };
    if let Some(plan) = blocked(seen, now) {
        return plan;
    }
    let stance = Stance::Preparing(due.trigger);
    let called = seen.call_at.unwrap_or(Timestamp::MIN);
    if accepted_unseen(seen, &due.job) && now < after(called, seen.settings.confirm) {
        return until_then(stance, after(called, seen.settings.confirm));
    }
    let looked = seen.look_at(&due.job);
    if let Some(plan) = forbidden(seen, looked, now) {
        return plan;
    }
    let view = looked.and_then(|r| if let Seen::Job(view) = &r.seen { Some((r, view)) } else { None });
    let at_work = view.is_some_and(|(_, v)| matches!(JobState::of(&v.word), JobState::Running | JobState::Finished));
    let adopts = due.adoptable && at_work;
    let settled = after(called, seen.settings.settle);
    if !adopts && view.is_some_and(|(r, v)| v.started.is_none() && r.at < settled) {
        // A word may still change by our call before, and its change would be taken for this one's effect.
        return if now < settled { until_then(stance, settled) } else { look(seen, &due.job, stance) };
    }
    let forced = due.send_force || due.send_start_time || seen.spec.on_unknown == OnUnknown::Hold;
    let young = if forced || due.trigger == Trigger::FirstApply || due.adoptable { 10 } else { 60 };
    let (word, started) = match looked.filter(|r| now < after(r.at, Duration::from_secs(young))).map(|r| &r.seen) {
        None | Some(Seen::Failed(_) | Seen::NotFound(_)) => return look(seen, &due.job, stance),
        Some(Seen::Refused(_)) => (None, None),
        Some(Seen::Job(_)) if adopts => return act(Action::Adopt, stance),
        Some(Seen::Job(view)) => (Some(safe_text(&view.word)), largest_started(seen, &due.job, view.started)),
    };
    with_turn(seen, Lane::Start, stance, || {
        Action::Start(Box::new(PendingStart {
            baseline_started_time: started,
            baseline_job_status: word,
            ..first_attempt(seen, due, key_id, now)
        }))
    })
}

/// The record of a first attempt, but for its baseline.
fn first_attempt(seen: &Observed, due: &DueStart, key_id: &str, now: Timestamp) -> PendingStart {
    let inputs = inputs_of(&seen.spec);
    let settings = inputs.realtime_start_settings.clone().map(|mut s| {
        s.start_time = s.start_time.filter(|_| due.send_start_time);
        s
    });
    PendingStart {
        protocol: PROTOCOL,
        id: seen.fresh_nonce.chars().take(12).collect(),
        trigger: due.trigger.as_str().to_owned(),
        rerun_tokens: due.tokens.clone(),
        generation: seen.object.generation,
        region: due.job.region.clone(),
        di_job_id: due.job.di_job_id,
        account: seen.spec.account_ref.name.clone(),
        attempt: 1,
        nonce: seen.fresh_nonce.clone(),
        signed_time: whole_seconds(seen.cloud_time(now)),
        key_id: key_id.to_owned(),
        service: seen.service().to_owned(),
        answered: false,
        force_to_rerun: due.send_force,
        realtime_start_settings: settings.filter(|s| !s.is_empty()),
        inputs,
        baseline_started_time: None,
        baseline_job_status: None,
        holder: seen.holder.clone(),
        lease_transitions: seen.lease_transitions,
    }
}

/// Nothing is due: confirm the last start, look now and then where its effect is still open, else rest.
fn keep(seen: &Observed, job: &JobRef, now: Timestamp) -> Plan {
    if let Some(last) = unconfirmed(seen, job) {
        return confirm(seen, last, job, now);
    }
    let state = rest_of(&seen.record);
    let stance = Stance::Settled(state);
    let Some(last) = seen.record.last_start.as_ref() else { return rest(stance) };
    if !matches!(state, Rest::NotRunning | Rest::OutcomeUnknown) || !matches!(seen.key, Key::Ready { .. }) {
        return rest(stance);
    }
    let of_a_look = seen.record.last_error.as_ref().is_some_and(|e| e.operation == "GetDIJob");
    if let Some(plan) = blocked_for_a_person(seen, now).filter(|_| of_a_look && state == Rest::NotRunning) {
        return plan;
    }
    let reading = seen.look_at(job);
    let unconfirmed = last.outcome != "Confirmed" && last.outcome != "Rejected";
    if unconfirmed && weigh(seen, reading, Baseline::from(last), now) == Evidence::Sign {
        return settle(Verdict::Confirmed);
    }
    // Late looks: the older the call, the rarer, between 5 minutes and an hour.
    let called = seen.call_at.unwrap_or(now);
    let before = reading.map_or(called, |r| r.at);
    let age = before.duration_since(called).unsigned_abs();
    let pause = (age / 2).clamp(Duration::from_secs(300), Duration::from_secs(3600));
    let next = after(before, pause).max(retry_wait(seen, now).map_or(before, |(_, t)| t));
    if now < next { until_then(stance, next) } else { look(seen, job, stance) }
}

/// How a job stands when nothing is due.
#[must_use]
pub fn rest_of(record: &JobStatus) -> Rest {
    if record.applied.as_ref().is_some_and(|a| a.uncertain) {
        return Rest::OutcomeUnknown;
    }
    let confirmation = record.last_start.as_ref().and_then(|l| l.confirmation.as_deref());
    if confirmation == Some("Refused") {
        return Rest::Accepted;
    }
    match record.job_status.as_deref().map(JobState::of) {
        Some(JobState::Running) => Rest::Running,
        Some(JobState::Finished) => Rest::Finished,
        Some(JobState::Failed) => Rest::Failed,
        Some(JobState::Unknown) => Rest::UnknownWord,
        Some(JobState::Initialized | JobState::Stopped | JobState::Stopping) | None => Rest::NotRunning,
    }
}

/// The largest `StartedTime` ever recorded for this job, as far as a later look can be compared with it.
fn largest_started(seen: &Observed, job: &JobRef, now_read: Option<i64>) -> Option<i64> {
    let known = seen.record.job_started_time.as_ref().filter(|_| is_applied(&seen.record, job));
    let recorded = known.map(|t| t.0.as_second());
    now_read.max(recorded).filter(|_| tells_started(seen.service()))
}
