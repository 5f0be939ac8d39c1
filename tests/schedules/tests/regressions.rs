//! Schedules that once broke a promise, each by the fault that its name tells.
#![expect(clippy::panic, reason = "tests")]

use std::time::Duration;

use schedules::run::{How, explain, run};
use schedules::story::Wishes;

fn all_kept(seeds: &[u64]) {
    for seed in seeds {
        let wishes = Wishes { one_way: true, ..Wishes::default() };
        let how = How { quiet: Duration::ZERO, wishes, ..How::default() };
        if let Err(broken) = &run(*seed, &how).verdict {
            panic!("{}", explain(*seed, &how, broken));
        }
    }
}

#[test]
fn a_look_that_status_does_not_hold_yet_makes_no_pass_repeat_itself() {
    all_kept(&[131, 249, 710]);
}

#[test]
fn a_status_restored_from_another_object_is_never_ours_not_even_in_part() {
    all_kept(&[22, 981, 1087, 2254, 2520]);
}

#[test]
fn a_spec_that_flaps_is_told_at_a_readers_pace() {
    all_kept(&[16, 1698]);
}

#[test]
fn failures_that_come_quickly_are_written_six_times_a_minute() {
    all_kept(&[8595]);
}

#[test]
fn a_process_that_stands_still_between_decision_and_commit_sends_the_copy_it_decided_on() {
    all_kept(&[81623]);
}

#[test]
fn a_watch_that_is_behind_brings_no_object_back_from_before() {
    all_kept(&[109_102, 109_839, 113_694, 114_998, 115_119]);
}

#[test]
fn a_process_asked_to_end_says_of_an_intent_that_it_was_never_sent() {
    all_kept(&[10_999]);
}

#[test]
fn a_process_that_ends_is_alive_until_it_has() {
    all_kept(&[9_270, 13_079]);
}
