//! A part of the schedules that `cargo simulate` plays.
#![expect(clippy::panic, reason = "tests")]

use std::time::Duration;

use schedules::run::{How, Played, explain, run};

/// Plays a seed; a broken promise is told as the shortest story.
fn kept(seed: u64, how: &How) -> Played {
    let played = run(seed, how);
    if let Err(broken) = &played.verdict {
        panic!("{}", explain(seed, how, broken));
    }
    played
}

#[test]
fn schedules_of_every_story_break_no_promise() {
    let (mut faults, mut executions, mut commits) = (0, 0, 0);
    for seed in 0..150 {
        let quiet = if seed % 8 == 0 { Duration::from_secs(3600) } else { Duration::ZERO };
        let played = kept(seed, &How { quiet, ..How::default() });
        faults += played.record.faults.len();
        if let Ok(tally) = played.verdict {
            executions += tally.executions;
            commits += tally.commits;
        }
    }
    println!("150 schedules: {faults} faults, {commits} commits, {executions} executions, no promise broken");
    assert!(faults > 300 && executions > 100 && commits > 150, "schedules that reach nothing prove nothing");
}
