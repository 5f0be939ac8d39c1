//! Laws over any `Observed`.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::SignedDuration;
use proptest::prelude::*;

use super::lawful::{asks_for_a_start, lawful_start, lawful_status};
use super::support::arbitrary::Choices;
use super::*;

fn any_observed() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..160)
}

fn many() -> ProptestConfig {
    ProptestConfig { cases: 4_000, failure_persistence: None, max_shrink_iters: 20_000, ..ProptestConfig::default() }
}

/// What may come of `plan`, with the process's memory as it is then.
fn outcomes(seen: &Observed, plan: &Plan, choices: &mut Choices<'_>) -> Vec<(Observed, Outcome)> {
    match &plan.action {
        Action::Look(at) => {
            let reading = Reading { job: at.clone(), at: now(), seen: choices.seen() };
            vec![(seen.clone().with(|o| o.reading = Some(reading)), Outcome::Looked)]
        }
        Action::Start(record) => {
            let answer = choices.answer();
            vec![
                (seen.clone(), Outcome::Intended(record.clone())),
                (seen.clone(), Outcome::NotSent),
                (seen.clone().called(0), answered((**record).clone(), answer)),
            ]
        }
        Action::Nothing | Action::TakeTurn(_) | Action::Adopt | Action::Tidy | Action::Settle(_) => {
            vec![(seen.clone(), Outcome::Done)]
        }
    }
}

pub fn with_status(seen: &Observed, next: &Next) -> Observed {
    let mut status = next.status.clone();
    seen.clone().with(|o| {
        o.conditions = std::mem::take(&mut status.conditions);
        o.record = status;
        o.unrecorded = None;
        o.never_sent = false;
    })
}

proptest! {
    #![proptest_config(many())]

    #[test]
    fn every_plan_keeps_the_laws(bytes in any_observed()) {
        let seen = Choices(&bytes).observed();
        let plan = decide(&seen, now());
        prop_assert_eq!(&plan, &decide(&seen.clone(), now()), "deterministic");
        if let Action::Start(start) = &plan.action {
            lawful_start(&seen, start)?;
        }
        match (&plan.action, plan.wait) {
            (Action::Nothing, Wait::Until(at)) => prop_assert!(at > now(), "it waits for a time that is over"),
            (Action::Nothing, Wait::OnTurn) => {
                prop_assert!(matches!(seen.turn, Turn::Waiting { lane, .. } | Turn::Uncounted(lane) if Some(lane) == plan.lane), "no such turn was asked for");
            }
            (Action::Nothing, Wait::OnChange) => prop_assert!(
                matches!(plan.stance, Stance::Foreign | Stance::Leaving | Stance::Suspended(_) | Stance::Settled(_)
                    | Stance::Blocked { problem: Problem::AccountChanged | Problem::AccountInvalid(_) | Problem::ProjectNotAllowed(_), .. }),
                "{:?} waits for nothing", plan.stance
            ),
            (Action::TakeTurn(lane), wait) => prop_assert_eq!((Some(*lane), Wait::OnTurn), (plan.lane, wait)),
            (Action::Look(_), _) => prop_assert_eq!(seen.turn, Turn::Held(Lane::Look)),
            (Action::Start(_) | Action::Adopt | Action::Tidy | Action::Settle(_), _) => {}
        }
        if matches!(plan.action, Action::Adopt) {
            prop_assert!(matches!(&seen.reading.as_ref().unwrap().seen, Seen::Job(v) if v.word == "Running" || v.word == "Finished"));
        }
        if matches!(plan.action, Action::Tidy) {
            prop_assert!(!asks_for_a_start(&seen));
        }
    }

    #[test]
    fn every_status_keeps_the_laws(bytes in any_observed(), more in prop::collection::vec(any::<u8>(), 0..30)) {
        let seen = Choices(&bytes).observed();
        let plan = decide(&seen, now());
        for (seen, outcome) in outcomes(&seen, &plan, &mut Choices(&more)) {
            lawful_status(&seen, &next_status(&seen, &plan, &outcome, now()))?;
        }
    }

    #[test]
    fn a_status_is_a_fixed_point_until_its_wait_is_over(bytes in any_observed(), later in 0_i64..100_000) {
        let seen = Choices(&bytes).observed();
        let plan = decide(&seen, now());
        if plan.action != Action::Nothing {
            return Ok(());
        }
        let first = next_status(&seen, &plan, &Outcome::Done, now());
        let seen = with_status(&seen, &first);
        // With its own result the plan is the one that was told, and nothing changes until what it waits for.
        let again = decide(&seen, now());
        prop_assert_eq!(&again, &first.plan);
        let end = match again.wait { Wait::Until(at) => at, Wait::OnChange | Wait::OnTurn => hence(200_000) };
        let at = hence(later).min(end - SignedDuration::from_millis(1)).max(now());
        if again.action != Action::Nothing || again.lane.is_some() {
            return Ok(());
        }
        let plan = decide(&seen, at);
        prop_assert_eq!(&plan.action, &Action::Nothing, "at {}, before {}", at, end);
        prop_assert_eq!(&next_status(&seen, &plan, &Outcome::Done, at).status, &first.status, "at {}, before {}", at, end);
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..many() })]

    #[test]
    fn with_a_cloud_that_stays_as_it_is_every_job_comes_to_rest(bytes in any_observed(), more in prop::collection::vec(any::<u8>(), 0..30)) {
        let mut seen = Choices(&bytes).observed();
        let (view, answer) = (Choices(&more).seen(), Choices(more.get(12..).unwrap_or_default()).answer());
        let (mut at, mut without_time, mut story) = (now(), 0, Vec::new());
        for step in 0..400 {
            let plan = decide(&seen, at);
            let mut outcome = Outcome::Done;
            let mut pass = SignedDuration::ZERO;
            match &plan.action {
                Action::Nothing => match plan.wait {
                    Wait::OnChange => return Ok(()),
                    Wait::Until(end) => pass = end.duration_since(at),
                    Wait::OnTurn => pass = SignedDuration::from_secs(1),
                },
                Action::Look(job) => {
                    seen.reading = Some(Reading { job: job.clone(), at, seen: view.clone() });
                    outcome = Outcome::Looked;
                }
                Action::Start(record) => {
                    seen.call_at = Some(at);
                    outcome = answered((**record).clone(), answer.clone());
                }
                Action::TakeTurn(_) | Action::Adopt | Action::Tidy | Action::Settle(_) => {}
            }
            let throttled = |e: &Error| matches!(e.kind, ErrorKind::Throttled | ErrorKind::DailyLimit);
            let held_back = match (&plan.action, &view, &answer) {
                (Action::Look(_), Seen::Failed(e) | Seen::Refused(e), _) | (Action::Start(_), _, Answer::Failed(e)) => throttled(e),
                _ => false,
            };
            let next = next_status(&seen, &plan, &outcome, at);
            story.push(format!("{step} at {at}: {:?} -> {:?}", plan, next.plan.stance));
            seen = with_status(&seen, &next);
            seen.turn = plan.lane.map_or(Turn::None, Turn::Held);
            seen.fresh_nonce = format!("{step:032x}");
            if held_back {
                pass = SignedDuration::from_secs(60);
            }
            at += pass + SignedDuration::from_millis(1);
            without_time = if pass.is_zero() { without_time + 1 } else { 0 };
            prop_assert!(without_time < 16, "a hot loop: {:#?}", &story[story.len().saturating_sub(16)..]);
            let patient = matches!(plan.stance, Stance::Settled(_) | Stance::Blocked { .. }) && step > 60;
            let unanswered = matches!(&answer, Answer::Failed(e) if !throttled(e)) || matches!(view, Seen::Failed(_) | Seen::NotFound(_));
            if patient || (unanswered && step > 300) || (step > 300 && matches!(&answer, Answer::Failed(e) if throttled(e))) {
                return Ok(());
            }
        }
        prop_assert!(false, "never at rest: {:#?}", &story[story.len() - 20..]);
    }
}

#[test]
fn delays_are_within_their_bounds() {
    use dijob_operator::plan::backoff::{LONGEST, delay};
    for attempt in [i32::MIN, 0, 1, 5, 100, i32::MAX] {
        for jitter in [0.0, 0.5, 0.999] {
            assert!((Duration::from_secs(1)..=Duration::from_secs(300)).contains(&delay(attempt, jitter)));
        }
    }
    assert_eq!(LONGEST, Duration::from_secs(900));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a seeded source")]
fn the_choices_reach_every_action_and_every_stance() {
    let mut reached = BTreeSet::new();
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..10_000 {
        let bytes: Vec<u8> = (0..160).map(|_| random.u8(..)).collect();
        let plan = decide(&Choices(&bytes).observed(), now());
        reached.insert(match plan.action {
            Action::Start(start) => format!("Start {}", start.attempt.min(2)),
            Action::Settle(Verdict::Answered(_)) => "Answered".to_owned(),
            Action::Look(_) => "Look".to_owned(),
            other @ (Action::Nothing | Action::TakeTurn(_) | Action::Adopt | Action::Tidy | Action::Settle(_)) => {
                format!("{other:?}")
            }
        });
        let stance = format!("{:?}", plan.stance);
        reached.insert(stance.split([' ', '(']).next().unwrap().to_owned());
    }
    for expected in [
        "Start 1",
        "Start 2",
        "Answered",
        "Look",
        "Nothing",
        "TakeTurn(Start)",
        "TakeTurn(Look)",
        "Adopt",
        "Tidy",
        "Settle(NotSent)",
        "Settle(Confirmed)",
        "Settle(Unknown)",
        "Settle(TimedOut)",
        "Settle(Unreadable)",
        "Foreign",
        "Leaving",
        "Blocked",
        "Suspended",
        "Preparing",
        "Resolving",
        "Confirming",
        "Settled",
    ] {
        assert!(reached.contains(expected), "{expected} is never reached: {reached:?}");
    }
}

/// Found by `a_status_is_a_fixed_point_until_its_wait_is_over`: a job that does not run, and a refused start that nothing
/// asks for any more, with 19 s left of its wait.
#[test]
fn a_failure_that_is_forgotten_is_not_waited_for() {
    #[rustfmt::skip]
    let bytes = [0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 4, 0, 10, 0, 0, 0, 0, 0, 0, 0, 76, 66, 0, 0, 0, 0, 54, 9, 73, 0, 0, 4, 0, 0, 103, 0, 0, 161, 72, 39, 1, 0, 0, 0, 0, 0, 0, 0, 31, 238, 161, 0, 0, 0, 189, 110, 70, 0, 0, 0, 30, 172, 195];
    let seen = Choices(&bytes).observed();
    let first = next_status(&seen, &decide(&seen, now()), &Outcome::Done, now());
    assert!(seen.record.last_error.is_some() && first.status.last_error.is_none());
    assert_eq!(decide(&with_status(&seen, &first), now()), first.plan);
}
