//! Rows of the fault matrix, shown with whole processes: each over dozens of seeds with that row's faults alone.
#![expect(clippy::panic, reason = "tests")]

use std::time::Duration;

use schedules::faults::Kind;
use schedules::run::{How, Played, explain, run};
use schedules::story::{Story, Wishes};

const SEEDS: u64 = 24;

/// Plays the seeds of a row; every promise must hold in each, and each wanted fault must have struck.
fn row(salt: u64, wishes: &Wishes, wanted: &[(Kind, &str)]) -> Vec<Played> {
    let how = How { wishes: wishes.clone(), logs: false, live: false, quiet: Duration::ZERO };
    let seeds = salt * 1000..salt * 1000 + SEEDS;
    let all: Vec<Played> = seeds
        .map(|seed| {
            let played = run(seed, &how);
            if let Err(broken) = &played.verdict {
                panic!("{}", explain(seed, &how, broken));
            }
            played
        })
        .collect();
    for (kind, at) in wanted {
        let mut faults = all.iter().flat_map(|played| &played.record.faults);
        assert!(faults.any(|(_, struck, what)| struck == kind && what.contains(at)), "no {kind:?} at {at}");
    }
    let ran: u64 = all.iter().filter_map(|played| played.verdict.as_ref().ok()).map(|tally| tally.executions).sum();
    assert!(ran > 0, "nothing was ever started");
    all
}

fn only(kinds: &[Kind], rates: (u64, u64, u64)) -> Wishes {
    Wishes { story: Some(Story::SpecChange), only: Some(kinds.to_vec()), rates: Some(rates), ..Wishes::default() }
}

/// Covers: 1s.
#[test]
fn a_kill_before_the_record_leaves_loses_no_start() {
    row(1, &only(&[Kind::KillBefore], (80, 0, 0)), &[(Kind::KillBefore, "Apply dataintegrationjobs/status")]);
}

/// Covers: 2s.
#[test]
fn a_kill_when_the_record_has_left_loses_no_start_and_doubles_none() {
    row(2, &only(&[Kind::KillAfter], (80, 0, 0)), &[(Kind::KillAfter, "Apply dataintegrationjobs/status")]);
}

/// Covers: 3s.
#[test]
fn a_kill_when_the_call_has_left_doubles_no_start() {
    row(3, &only(&[Kind::KillAfter], (0, 300, 0)), &[(Kind::KillAfter, "StartDIJob")]);
}

/// Covers: 4s.
#[test]
fn a_kill_between_the_answer_and_its_record_doubles_no_start() {
    let played = row(4, &only(&[Kind::KillBefore], (150, 0, 0)), &[]);
    let between = |played: &Played| {
        played.record.faults.iter().any(|(place, _, what)| {
            let call = format!("p{} {}: StartDIJob", place.process, place.nth.saturating_sub(1));
            what == "Apply dataintegrationjobs/status" && played.record.story.iter().any(|line| line.ends_with(&call))
        })
    };
    assert!(played.iter().any(between), "nothing was killed there");
}

/// Covers: 5s.
#[test]
fn a_process_that_dies_again_and_again_adds_no_execution() {
    let played = row(5, &only(&[Kind::KillBefore, Kind::KillAfter], (250, 400, 0)), &[]);
    assert!(played.iter().any(|played| played.record.died.len() >= 10), "no ten deaths");
}

/// Covers: 6s.
#[test]
fn a_lost_answer_of_the_cloud_is_resolved() {
    let kinds = [Kind::AnswerLost, Kind::HangAfter];
    row(6, &only(&kinds, (0, 300, 0)), &[(Kind::AnswerLost, "StartDIJob"), (Kind::HangAfter, "StartDIJob")]);
}

/// Covers: 7s.
#[test]
fn what_comes_late_changes_only_its_own_attempt() {
    let kinds = [Kind::LateArrival, Kind::LateExecution, Kind::LateAnswer, Kind::Delay];
    let wanted: Vec<_> = kinds.iter().map(|kind| (*kind, "StartDIJob")).collect();
    row(7, &only(&kinds, (0, 500, 0)), &wanted);
}

/// Covers: 8s.
#[test]
fn an_error_of_the_cloud_says_only_what_it_says() {
    let kinds = [Kind::Refused, Kind::TakenAndRefused, Kind::Denied, Kind::Throttled];
    let wanted: Vec<_> = kinds.iter().map(|kind| (*kind, "StartDIJob")).collect();
    row(108, &only(&kinds, (0, 500, 0)), &wanted);
}

/// Covers: 9s.
#[test]
fn an_answer_that_is_none_is_no_outcome() {
    let kinds = [Kind::Malformed, Kind::Huge, Kind::Html];
    let wanted: Vec<_> = kinds.iter().map(|kind| (*kind, "StartDIJob")).collect();
    row(9, &only(&kinds, (0, 500, 0)), &wanted);
}

/// Covers: 14s.
#[test]
fn an_old_view_starts_nothing() {
    let kinds = [Kind::Behind, Kind::EventLate, Kind::Broken, Kind::Conflict];
    row(14, &only(&kinds, (150, 0, 150)), &[(Kind::Behind, "List dataintegrationjobs"), (Kind::EventLate, "event")]);
}

/// Covers: 16s.
#[test]
fn no_watch_is_blind_for_long() {
    let kinds = [Kind::EventLost, Kind::EventTwice, Kind::Silence, Kind::Closed, Kind::Broken, Kind::Gone];
    let wanted: Vec<_> = kinds.iter().map(|kind| (*kind, "event")).collect();
    row(16, &only(&kinds, (0, 0, 250)), &wanted);
}

/// Covers: 18s.
#[test]
fn a_write_that_others_overtake_or_whose_answer_is_lost_sends_nothing() {
    let kinds = [Kind::Conflict, Kind::AnswerLost, Kind::TakenAndRefused];
    let wanted: Vec<_> = kinds.iter().map(|kind| (*kind, "Apply dataintegrationjobs/status")).collect();
    row(18, &only(&kinds, (300, 0, 0)), &wanted);
}

/// Covers: 21s.
#[test]
fn a_leader_that_stood_still_doubles_nothing() {
    let wishes = Wishes { election: Some(true), ..only(&[Kind::PauseBefore, Kind::PauseAfter], (80, 400, 0)) };
    row(21, &wishes, &[(Kind::PauseBefore, "StartDIJob"), (Kind::PauseAfter, "leases")]);
}

/// Covers: 22s.
#[test]
fn a_lease_that_others_delete_or_edit_makes_no_two_leaders() {
    let kinds = [Kind::LeaseDeleted, Kind::LeaseEdited, Kind::HangBefore, Kind::Delay];
    let wishes = Wishes { election: Some(true), ..only(&kinds, (160, 0, 0)) };
    row(22, &wishes, &[(Kind::LeaseDeleted, "leases"), (Kind::LeaseEdited, "leases"), (Kind::HangBefore, "leases")]);
}

/// Covers: 24s.
#[test]
fn a_new_key_is_used_and_sends_no_old_copy() {
    let kinds = [Kind::AnswerLost, Kind::HangAfter, Kind::KillAfter];
    let wishes = Wishes { story: Some(Story::KeyRotation), ..only(&kinds, (20, 600, 0)) };
    row(24, &wishes, &[(Kind::AnswerLost, "StartDIJob")]);
}

/// Covers: 26s.
#[test]
fn nothing_is_committed_after_a_deletion() {
    let kinds = [Kind::KillBefore, Kind::KillAfter, Kind::HangBefore, Kind::RequestLost];
    let wishes = Wishes { story: Some(Story::DeletedWhileStarting), ..only(&kinds, (40, 200, 0)) };
    row(26, &wishes, &[]);
}

/// Covers: 27s.
#[test]
fn an_object_made_again_inherits_nothing() {
    let kinds = [Kind::KillBefore, Kind::EventLate, Kind::AnswerLost, Kind::Behind];
    row(27, &Wishes { story: Some(Story::MadeAgain), ..only(&kinds, (40, 200, 100)) }, &[]);
}
