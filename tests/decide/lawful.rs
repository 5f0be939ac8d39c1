//! What a lawful start and a lawful status are: the measure of [`super::laws`], which shares no rule with the plan.

use std::collections::BTreeSet;

use dijob_operator::api::OnUnknown;
use dijob_operator::plan::inputs::inputs_of;
use dijob_operator::plan::observed::{JobRef, PROTOCOL};
use jiff::SignedDuration;
use proptest::prelude::*;

use super::laws::with_status;
use super::*;

/// What the object asks for, in words of its own: does anything that it states call for a start?
pub fn asks_for_a_start(seen: &Observed) -> bool {
    let Account::Found { region, .. } = &seen.account else { return false };
    let tokens = asked(seen);
    let Some(applied) = &seen.record.applied else { return true };
    if applied.di_job_id != seen.spec.di_job_id
        || (applied.region != *region && applied.account != seen.spec.account_ref.name)
    {
        return true;
    }
    if tokens.iter().any(|t| !seen.record.handled_rerun_tokens.contains(t)) {
        return true;
    }
    if applied.region != *region {
        return false;
    }
    let new = seen.spec.realtime_start_settings.clone().unwrap_or_default();
    let old = applied.realtime_start_settings.clone().unwrap_or_default();
    let (new_failover, old_failover) =
        (new.failover_settings.unwrap_or_default(), old.failover_settings.unwrap_or_default());
    let pairs = [
        (new.start_time, old.start_time),
        (new_failover.interval, old_failover.interval),
        (new_failover.upper_limit, old_failover.upper_limit),
        (seen.spec.force_to_rerun.then_some(1), applied.force_to_rerun.then_some(1)),
    ];
    let grew = pairs.iter().any(|(new, old)| new.is_some() && new != old);
    let shrank = pairs.iter().any(|(new, old)| new.is_none() && old.is_some());
    let reverted = applied.previous.as_ref() == Some(&inputs_of(&seen.spec));
    if applied.uncertain && applied.previous.is_none() {
        grew || shrank
    } else {
        grew && !(applied.uncertain && reverted)
    }
}

fn asked(seen: &Observed) -> BTreeSet<String> {
    let printable = |t: &&String| !t.is_empty() && t.chars().count() <= 256 && !t.chars().any(char::is_control);
    [seen.annotations.rerun.as_ref(), Some(&seen.spec.rerun_token)]
        .into_iter()
        .flatten()
        .filter(printable)
        .cloned()
        .collect()
}

/// Laws 2 to 5, 7 and 8 for a start that is decided on.
pub fn lawful_start(seen: &Observed, start: &PendingStart) -> Result<(), TestCaseError> {
    prop_assert!(!seen.object.deleting && !seen.spec.suspend);
    prop_assert!(seen.unrecorded.is_none() && !seen.never_sent);
    prop_assert!(
        matches!(seen.account, Account::Found { .. }) && matches!(seen.key, Key::Ready { .. }),
        "account and key"
    );
    prop_assert_eq!(seen.turn, Turn::Held(Lane::Start));
    prop_assert!(start.protocol <= PROTOCOL);
    let job = JobRef { region: start.region.clone(), di_job_id: start.di_job_id };
    let reading = seen.reading.as_ref().unwrap();
    prop_assert_eq!(&reading.job, &job);
    if let Account::Found { projects, .. } = &seen.account
        && !projects.is_empty()
    {
        let seen_in = if let Seen::Job(view) = &reading.seen { view.project } else { None };
        let not_there = matches!(reading.seen, Seen::NotFound(_)) && seen.record.pending_start.is_some();
        prop_assert!(seen_in.is_some_and(|project| projects.contains(&project)) || not_there, "an allowed project");
    }
    prop_assert!(
        reading.at > ago(60) && seen.call_at.is_none_or(|call| reading.at > call),
        "a young baseline after our call"
    );
    prop_assert!(!matches!(reading.seen, Seen::Failed(_)), "a passing failure makes it wait");
    match &seen.record.pending_start {
        Some(before) => lawful_resend(seen, before, start, reading),
        None => lawful_first(seen, start, reading),
    }
}

fn lawful_first(seen: &Observed, start: &PendingStart, reading: &Reading) -> Result<(), TestCaseError> {
    prop_assert!(asks_for_a_start(seen), "nothing asks for it");
    prop_assert_eq!(start.attempt, 1);
    prop_assert_eq!(&start.nonce, &seen.fresh_nonce);
    prop_assert_eq!(start.signed_time.0.duration_since(now()), seen.cloud_offset);
    prop_assert_eq!(&start.inputs, &inputs_of(&seen.spec));
    let careful = start.is_forced() || seen.spec.on_unknown == OnUnknown::Hold || start.trigger == "FirstApply";
    prop_assert!(!careful || reading.at > ago(10), "a look of the same pass");
    if let Some(last) = &seen.record.last_start {
        let open = last.outcome == "Accepted" && last.confirmation.is_none();
        let same =
            seen.record.applied.as_ref().is_some_and(|a| a.di_job_id == start.di_job_id && a.region == start.region);
        prop_assert!(!(open && same), "the last start is not confirmed");
    }
    let unhandled = |t: &String| !seen.record.handled_rerun_tokens.contains(t);
    if start.trigger == "SpecChange" {
        let applied = seen.record.applied.as_ref().unwrap();
        let time = start.realtime_start_settings.as_ref().and_then(|s| s.start_time);
        let old = applied.realtime_start_settings.as_ref().and_then(|s| s.start_time);
        prop_assert!(time.is_none() || time != old, "startTime only if it changed");
        prop_assert!(!start.force_to_rerun || !applied.force_to_rerun, "forceToRerun only if it changed");
    } else {
        let applied =
            seen.record.applied.as_ref().filter(|a| a.di_job_id == start.di_job_id && a.region == start.region);
        let asked: BTreeSet<String> = asked(seen).into_iter().filter(|t| applied.is_none() || unhandled(t)).collect();
        let other_region_by_token = applied.is_none() && seen.record.applied.is_some();
        let answers: BTreeSet<String> = start.rerun_tokens.iter().cloned().collect();
        prop_assert!(
            answers == asked || (other_region_by_token && answers.is_subset(&asked)),
            "all tokens, and no other"
        );
        let at_work = matches!(&reading.seen, Seen::Job(v) if v.word == "Running" || v.word == "Finished");
        prop_assert!(!(at_work && seen.record.applied.is_none()), "first sight of a job at work starts nothing");
    }
    Ok(())
}

fn lawful_resend(
    seen: &Observed,
    before: &PendingStart,
    start: &PendingStart,
    reading: &Reading,
) -> Result<(), TestCaseError> {
    prop_assert!(!before.is_forced() && seen.spec.on_unknown != OnUnknown::Hold, "never sent twice");
    prop_assert!(reading.at >= seen.call_at.unwrap() + SignedDuration::from_secs(30), "after the settle time");
    if let (Seen::Job(view), Some(_)) = (&reading.seen, &before.baseline_job_status)
        && let (Some(started), Some(baseline)) = (view.started, before.baseline_started_time)
    {
        prop_assert!(started <= baseline, "there is a sign");
    }
    if let (Seen::Job(view), Some(word)) = (&reading.seen, &before.baseline_job_status)
        && view.started.is_none()
        && before.baseline_started_time.is_none()
        && word != "Running"
    {
        let at_work = ["Running", "Finished", "Failed"].contains(&view.word.as_str());
        prop_assert!(!at_work || view.word == *word, "it went to work since");
    }
    let young = (now() + seen.cloud_offset).duration_since(before.signed_time.0) < SignedDuration::from_mins(10);
    let Key::Ready { id, .. } = &seen.key else { return Ok(()) };
    if young && !before.answered {
        prop_assert_eq!(id, &before.key_id);
        prop_assert_eq!((&start.nonce, &start.signed_time), (&before.nonce, &before.signed_time));
    } else if !young {
        prop_assert_eq!(&start.nonce, &seen.fresh_nonce);
    }
    // In another version of the API the copy begins from the look before it.
    let other_looks = (before.service == NEWER) != (start.service == NEWER);
    let found = if let Seen::Job(view) = &reading.seen { view.started } else { None };
    prop_assert!(!other_looks || start.baseline_started_time == found, "the baseline is the last look");
    let first = if other_looks { before } else { start };
    let renewed = PendingStart {
        service: before.service.clone(),
        baseline_started_time: first.baseline_started_time,
        baseline_job_status: first.baseline_job_status.clone(),
        nonce: before.nonce.clone(),
        signed_time: before.signed_time.clone(),
        key_id: before.key_id.clone(),
        answered: before.answered,
        attempt: before.attempt,
        holder: before.holder.clone(),
        lease_transitions: before.lease_transitions,
        ..start.clone()
    };
    prop_assert_eq!(&renewed, before, "the first request's inputs, and nothing newer");
    prop_assert_eq!(start.attempt, before.attempt + 1);
    Ok(())
}

/// What a status says is so, and what it no longer says is over.
pub fn lawful_status(seen: &Observed, next: &Next) -> Result<(), TestCaseError> {
    if matches!(next.plan.stance, Stance::Foreign | Stance::Leaving) {
        let misfits = support::schema::misfits(&next.status);
        prop_assert!(misfits.is_empty(), "{misfits:?}");
        return Ok(());
    }
    if let Err(law) = status_laws(&next.status) {
        return Err(TestCaseError::fail(format!("{law}: {:#?}", next.status)));
    }
    for c in &next.status.conditions {
        let before = seen.conditions.iter().find(|b| b.type_ == c.type_);
        let moved = before.is_none_or(|b| b.last_transition_time != c.last_transition_time);
        prop_assert_eq!(moved, before.is_none_or(|b| b.status != c.status), "lastTransitionTime of {}", c.type_);
    }
    let ready = &next.status.conditions[0];
    if ready.status == ConditionStatus::True {
        prop_assert!(!asks_for_a_start(&with_status(seen, next)), "Ready, and a start is due");
    }
    let on_object = asked(seen);
    let others = next.status.handled_rerun_tokens.iter().filter(|t| !on_object.contains(*t)).count();
    prop_assert!(others <= 10 && next.status.history.len() <= 5);
    let dropped = seen.record.handled_rerun_tokens.iter().filter(|t| !next.status.handled_rerun_tokens.contains(t));
    let same_job = next.status.applied.is_some()
        && seen.record.applied.as_ref().map(|a| (&a.region, a.di_job_id))
            == next.status.applied.as_ref().map(|a| (&a.region, a.di_job_id));
    prop_assert!(
        !same_job || dropped.filter(|t| on_object.contains(*t)).count() == 0,
        "a token on the object was dropped"
    );
    Ok(())
}
