//! What people do in each story, drawn from the seed.
//!
//! **May touch:** its arguments.

use std::time::Duration;

use serde_json::{Value, json};
use simulator::Console;

use crate::chance::Chance;
use crate::story::{Edit, JobPlan, Story, WAYS};

pub(crate) fn settings(chance: &mut Chance) -> Value {
    let failover = json!({ "interval": 1 + chance.below(30), "upperLimit": chance.below(50) });
    match chance.below(3) {
        0 => json!({ "startTime": 1_700_000_000 + chance.below(1_000_000) }),
        1 => json!({ "startTime": 1_700_000_000 + chance.below(1_000_000), "failoverSettings": failover }),
        _ => json!({ "failoverSettings": failover }),
    }
}

fn change(n: usize, chance: &mut Chance) -> Edit {
    let patch = match chance.below(6) {
        0 => json!({ "spec": { "realtimeStartSettings": null } }),
        1 => json!({ "spec": { "forceToRerun": chance.percent(60) } }),
        2 => json!({ "spec": { "suspend": chance.percent(50) } }),
        _ => json!({ "spec": { "realtimeStartSettings": settings(chance) } }),
    };
    Edit::Patch(n, patch)
}

fn rerun(n: usize, forced: bool, chance: &mut Chance) -> Edit {
    let token = format!("again-{}", chance.below(1000));
    Edit::Patch(
        n,
        match (forced, chance.percent(50)) {
            (true, _) => {
                json!({ "metadata": { "annotations": { "dijob.dev/rerun": token, "dijob.dev/rerun-force": token } } })
            }
            (false, true) => json!({ "metadata": { "annotations": { "dijob.dev/rerun": token } } }),
            (false, false) => json!({ "spec": { "rerunToken": token } }),
        },
    )
}

pub(crate) fn edits(story: Story, jobs: &[JobPlan], faulty: Duration, chance: &mut Chance) -> Vec<(Duration, Edit)> {
    let span = u64::try_from(faulty.as_millis()).unwrap_or(60_000);
    let mut all: Vec<(Duration, Edit)> =
        (0..jobs.len()).map(|n| (Duration::from_millis(chance.below(3000)), Edit::Create(n))).collect();
    let at = |chance: &mut Chance| Duration::from_millis(3000 + chance.below(span));
    let mut then = |chance: &mut Chance, edit| all.push((at(chance), edit));
    match story {
        Story::FirstStart | Story::FailOver => {}
        Story::SpecChange | Story::OrderlyEnd => {
            for _ in 0..=chance.below(3) {
                let edit = change(0, chance);
                then(chance, edit);
            }
        }
        Story::Rerun | Story::ForcedRerun => {
            for _ in 0..=chance.below(3) {
                let edit = rerun(0, story == Story::ForcedRerun, chance);
                then(chance, edit);
            }
        }
        Story::AccountSwitched => {
            (0..=chance.below(3)).for_each(|_| {
                let edit = switch_or_start(chance);
                then(chance, edit);
            });
            // Most starts are open only in the first seconds.
            all.push((Duration::from_millis(chance.below(20_000)), Edit::Switch(0, chance.pick(&WAYS, WAYS[1]))));
        }
        Story::KeyRotation => {
            for _ in 0..=chance.below(2) {
                then(chance, Edit::Rotate(0));
            }
        }
        Story::DeletedWhileStarting => {
            let soon = Duration::from_millis(chance.below(20_000));
            all.push((soon, Edit::Delete(0)));
        }
        Story::MadeAgain | Story::RestoredBare | Story::RestoredWithStatus => {
            let gone = 3000 + chance.below(span);
            all.push((Duration::from_millis(gone), Edit::Delete(0)));
            let again = gone + chance.pick(&[0, 50, 2000, 60_000], 0);
            all.push((Duration::from_millis(again), Edit::Create(0)));
            if story == Story::RestoredWithStatus {
                all.push((Duration::from_millis(again), Edit::RestoreStatus(0)));
            }
        }
        Story::Fleet | Story::DayExhausted => {
            for _ in 0..10 {
                let edit = of_a_fleet(jobs.len(), chance);
                then(chance, edit);
            }
        }
        Story::Flapping => {
            let from = 3000 + chance.below(span);
            flaps(&mut all, from);
        }
    }
    meddle(&mut all, span, chance);
    all
}

fn switch_or_start(chance: &mut Chance) -> Edit {
    match chance.below(3) {
        0 => change(0, chance),
        1 => rerun(0, chance.percent(30), chance),
        _ => Edit::Switch(0, chance.pick(&WAYS, WAYS[0])),
    }
}

fn of_a_fleet(jobs: usize, chance: &mut Chance) -> Edit {
    let n = usize::try_from(chance.below(jobs as u64)).unwrap_or(0);
    if chance.percent(50) { change(n, chance) } else { rerun(n, false, chance) }
}

fn flaps(all: &mut Vec<(Duration, Edit)>, from: u64) {
    for n in 0..50 {
        let interval = if n % 2 == 0 { 11 } else { 12 };
        let patch = json!({ "spec": { "realtimeStartSettings": { "failoverSettings": { "interval": interval } } } });
        all.push((Duration::from_millis(from + 10 * n), Edit::Patch(0, patch)));
    }
}

/// Somebody else, at a random moment.
fn meddle(all: &mut Vec<(Duration, Edit)>, span: u64, chance: &mut Chance) {
    if chance.percent(15) {
        let act = if chance.percent(50) { Console::Start } else { Console::Stop };
        all.push((Duration::from_millis(chance.below(span)), Edit::Console(0, act)));
    }
    if chance.percent(15) {
        let edit = if chance.percent(50) { change(0, chance) } else { rerun(0, chance.percent(30), chance) };
        all.push((Duration::from_millis(chance.below(span)), edit));
    }
}
