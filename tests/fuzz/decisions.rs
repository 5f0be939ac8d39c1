//! Stories from raw bytes: an `Observed`, then pass after pass over what came of the one before.

use std::collections::BTreeMap;

use dijob_operator::dataworks::Ran;
use dijob_operator::plan::observed::{Answer, Answered, Reading, Turn};
use dijob_operator::plan::{Action, Observed, Outcome, Plan, Stance, Wait, decide, next_status};
use jiff::{SignedDuration, Timestamp};

use super::harness::{Verdict, demand, fuzz};
use super::support::arbitrary::Choices;
use super::support::plan::{now, status_laws};

/// The part of an input that makes the first `Observed`; the rest is what happens.
const FIRST: usize = 160;

fn judge(bytes: &[u8]) -> Verdict {
    let (first, rest) = bytes.split_at(bytes.len().min(FIRST));
    let mut seen = Choices(first).observed();
    let mut choices = Choices(rest);
    let mut at = now();
    // Starts that may have run and must not run twice, by their trigger.
    let mut open: BTreeMap<String, i64> = BTreeMap::new();
    for step in 0..32 {
        seen.fresh_nonce = format!("{step:012}{step:020}");
        let plan = decide(&seen, at);
        demand(plan == decide(&seen.clone(), at), || format!("another plan the second time: {plan:?}"))?;
        let outcome = match &plan.action {
            Action::Start(record) => {
                demand(!seen.object.deleting && !seen.spec.suspend && seen.unrecorded.is_none(), || {
                    format!("{record:?}")
                })?;
                if record.is_forced() {
                    let sent = open.insert(record.id.clone(), record.attempt);
                    demand(sent.is_none(), || format!("sent twice: {record:?}"))?;
                }
                let answer = choices.answer();
                match choices.of(&[0, 1, 2, 3]) {
                    0 => Outcome::Intended(record.clone()),
                    1 => Outcome::NotSent,
                    _ => Outcome::Answered(Box::new(Answered {
                        pending: (**record).clone(),
                        credentials_version: seen.credentials_version(),
                        answer,
                    })),
                }
            }
            Action::Look(job) => {
                seen.reading = Some(Reading { job: job.clone(), at, seen: choices.seen() });
                Outcome::Looked
            }
            Action::TakeTurn(_) | Action::Nothing | Action::Adopt | Action::Tidy | Action::Settle(_) => Outcome::Done,
        };
        let surely_not = match &outcome {
            Outcome::NotSent => true,
            Outcome::Answered(answered) => matches!(&answered.answer, Answer::Failed(e) if e.ran() == Ran::DidNot),
            Outcome::Done | Outcome::Looked | Outcome::Intended(_) => false,
        };
        if let (true, Action::Start(record)) = (surely_not, &plan.action) {
            open.remove(&record.id);
        }
        seen = pass(seen, &plan, &outcome, at)?;
        if let Action::TakeTurn(lane) = plan.action {
            seen.turn = Turn::Held(lane);
        }
        let pause = SignedDuration::from_secs(choices.of(&[1, 1, 1, 0, 5, 31, 121, 601, 901, 4000]));
        at = match (&plan.action, plan.wait, choices.of(&[true, true, false])) {
            (Action::Nothing, Wait::Until(end), true) => end,
            _ => at.saturating_add(pause).unwrap(),
        };
        disturb(&mut seen, &mut choices);
    }
    Ok(())
}

/// The status after `outcome`, as the next pass sees it.
fn pass(mut seen: Observed, plan: &Plan, outcome: &Outcome, at: Timestamp) -> Result<Observed, String> {
    let called = matches!(plan.action, Action::Start(_));
    let next = next_status(&seen, plan, outcome, at);
    if !matches!(next.plan.stance, Stance::Foreign | Stance::Leaving) {
        status_laws(&next.status).map_err(|law| format!("{law}: {:?}", next.status))?;
    }
    let mut status = next.status;
    seen.conditions = std::mem::take(&mut status.conditions);
    seen.never_sent =
        matches!(outcome, Outcome::NotSent) && status.pending_start.as_ref().is_some_and(|p| p.attempt == 1);
    if (called && !matches!(outcome, Outcome::NotSent)) || (seen.call_at.is_none() && status.pending_start.is_some()) {
        seen.call_at = Some(at);
    }
    seen.record = status;
    seen.unrecorded = None;
    Ok(seen)
}

/// What people do between two passes.
fn disturb(seen: &mut Observed, choices: &mut Choices<'_>) {
    match choices.of(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6]) {
        1 => seen.spec.suspend = !seen.spec.suspend,
        2 => seen.spec.force_to_rerun = !seen.spec.force_to_rerun,
        3 => seen.annotations.rerun = Some(choices.of(&["a", "b", "c", "\u{0}", "d"]).to_owned()),
        4 => seen.spec.realtime_start_settings.get_or_insert_default().start_time = Some(choices.of(&[1, 2, i64::MAX])),
        5 => seen.object.deleting = true,
        6 => seen.reading = None,
        _ => return,
    }
    seen.object.generation += 1;
}

#[test]
fn any_bytes_are_a_story_that_keeps_the_laws() {
    fuzz("decisions", judge);
}
