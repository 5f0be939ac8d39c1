#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;

fn at(millis: i64) -> Timestamp {
    Timestamp::constant(1_700_000_000, 0) + SignedDuration::from_millis(millis)
}

const START: i64 = 1_700_000_000;

/// A job started at 0 under `rules`, and its status and `StartedTime` at each of these times.
fn watched(rules: &JobRules, times: &[i64]) -> Vec<(String, Option<i64>)> {
    let mut job = Job::new(1, at(-5000));
    assert_eq!(job.start(at(0), rules, false), Effect::Started);
    let look = |millis: &i64| {
        job.advance(at(*millis));
        let data = job.data(at(*millis), rules, "owner");
        (data["JobStatus"].as_str().unwrap().to_owned(), data["StartedTime"].as_i64())
    };
    times.iter().map(look).collect()
}

fn seen(word: &str, started: Option<i64>) -> (String, Option<i64>) {
    (word.to_owned(), started)
}

#[test]
fn an_accepted_job_runs_a_second_later_and_shows_its_start_at_once() {
    let seen = [seen("Initialized", Some(START)), seen("Initialized", Some(START)), seen("Running", Some(START))];
    assert_eq!(watched(&JobRules::default(), &[0, 999, 1000]), seen);
}

#[test]
fn the_start_can_show_when_running_later_or_never() {
    let rules = |started_time| JobRules { started_time, ..JobRules::default() };
    let when_running = watched(&rules(StartedTime::WhenRunning), &[999, 1000]);
    assert_eq!(when_running, [seen("Initialized", None), seen("Running", Some(START + 1))]);
    let lagging = watched(&rules(StartedTime::Lagging(SignedDuration::from_secs(60))), &[59_999, 60_000]);
    assert_eq!(lagging, [seen("Running", None), seen("Running", Some(START))]);
    assert_eq!(watched(&rules(StartedTime::Absent), &[100_000]), [seen("Running", None)]);
}

#[test]
fn a_job_can_fail_at_once_or_finish_or_pass_through_an_unknown_word() {
    let fails = JobRules {
        course: Course::Fails { message: "no such table".to_owned() },
        running_after: SignedDuration::ZERO,
        ..JobRules::default()
    };
    let mut job = Job::new(1, at(0));
    job.start(at(0), &fails, false);
    assert_eq!(job.status, JobStatus::Failed);
    assert_eq!(job.data(at(0), &fails, "owner")["ErrorMessage"], "no such table");

    let finishes = JobRules { course: Course::Finishes(SignedDuration::from_secs(9)), ..JobRules::default() };
    let words: Vec<_> = watched(&finishes, &[1000, 9999, 10_000]).into_iter().map(|(word, _)| word).collect();
    assert_eq!(words, ["Running", "Running", "Finished"]);

    let odd = JobRules { starting_word: Some("Warming".to_owned()), ..JobRules::default() };
    let words: Vec<_> = watched(&odd, &[0, 1000]).into_iter().map(|(word, _)| word).collect();
    assert_eq!(words, ["Warming", "Running"]);
}

#[test]
fn a_start_on_a_running_or_starting_job_follows_the_rule() {
    let refusal = Refusal::of("Odd.Status");
    let rules = [
        (StartOnRunning::NoOp, Effect::NoOp, Some(START)),
        (StartOnRunning::Error(refusal.clone()), Effect::Refused(refusal), Some(START)),
        (StartOnRunning::Restart, Effect::Restarted, Some(START + 5)),
    ];
    for (start_on_running, effect, started) in rules {
        let rules = JobRules { start_on_running, running_after: SignedDuration::from_secs(3), ..JobRules::default() };
        let mut job = Job::new(1, at(0));
        job.start(at(0), &rules, false);
        assert_eq!(job.clone().start(at(1000), &rules, false), effect, "still starting");
        assert_eq!(job.start(at(5000), &rules, false), effect, "running");
        assert_eq!(job.started_time, started);
    }
}

#[test]
fn a_stop_replaces_the_start_in_flight_and_speaks_the_word_in_force() {
    let rules = JobRules { stopped_word: "Stop".to_owned(), ..JobRules::default() };
    let mut job = Job::new(1, at(0));
    job.start(at(0), &rules, false);
    job.stop(at(500), &rules);
    job.advance(at(1400));
    assert_eq!(job.status, JobStatus::Stopping);
    job.advance(at(90_000));
    assert_eq!(job.data(at(90_000), &rules, "owner")["JobStatus"], "Stop");
    assert_eq!(job.start(at(90_000), &rules, false), Effect::Started);
}

#[test]
fn a_hand_sets_what_it_names_and_nothing_else() {
    let rules = JobRules::default();
    let mut job = Job::new(1, at(0));
    job.start(at(0), &rules, false);
    let patch: JobPatch = serde_json::from_value(json!({"status": "Warming", "startedTime": -7})).unwrap();
    job.patch(at(100), &patch, &rules);
    job.advance(at(90_000));
    assert_eq!((job.status.clone(), job.started_time), (JobStatus::Other("Warming".to_owned()), Some(-7)));
    assert_eq!(job.name, "job_1");
    job.patch(at(90_000), &JobPatch { console: Some(Console::Start), ..JobPatch::default() }, &rules);
    assert_eq!(job.started_time, Some(START + 90));
    assert!(serde_json::from_value::<JobPatch>(json!({"stauts": "Running"})).is_err());
}

#[test]
fn a_forced_start_on_a_job_not_at_rest_runs_it_anew_or_must_wait_for_its_stop() {
    let refusal = Refusal::of("DIJob.StopFirst");
    let rows = [
        (ForcedRerun::Accepted, Effect::Restarted, Some(START + 5)),
        (ForcedRerun::StopFirst(refusal.clone()), Effect::Refused(refusal), Some(START)),
    ];
    for (forced_rerun, effect, started) in rows {
        let rules = JobRules { forced_rerun, stopped_after: SignedDuration::from_secs(3), ..JobRules::default() };
        let mut job = Job::new(1, at(0));
        assert_eq!(job.start(at(0), &rules, true), Effect::Started, "at rest");
        assert_eq!(job.start(at(4000), &rules, false), Effect::NoOp, "not forced");
        assert_eq!(job.start(at(5000), &rules, true), effect, "running");
        assert_eq!(job.started_time, started);
        job.stop(at(6000), &rules);
        assert_eq!(job.clone().start(at(7000), &rules, true), effect, "stopping");
        assert_eq!(job.start(at(9000), &rules, true), Effect::Started, "at rest again");
    }
}

#[test]
fn a_lagging_read_tells_of_the_job_as_it_was_when_its_copy_was_made() {
    // START is 20 s into a whole number of minutes.
    let rules = JobRules { read_lag: SignedDuration::from_mins(1), ..JobRules::default() };
    let told = watched(&rules, &[0, 39_999, 40_000, 99_999]);
    let fresh = seen("Running", Some(START));
    assert_eq!(told, [seen("Initialized", None), seen("Initialized", None), fresh.clone(), fresh]);
    let mut job = Job::new(1, at(0));
    job.start(at(0), &rules, false);
    job.stop(at(41_000), &rules);
    job.advance(at(99_000));
    assert_eq!(job.data(at(99_000), &rules, "owner")["JobStatus"], "Running");
    assert_eq!(job.data(at(100_000), &rules, "owner")["JobStatus"], "Stopped");
    let fresh = JobRules::default();
    assert_eq!(job.data(at(99_000), &fresh, "owner")["JobStatus"], "Stopped");
}

#[test]
fn a_job_keeps_an_hour_of_its_past_and_no_more() {
    let rules = JobRules { start_on_running: StartOnRunning::Restart, ..JobRules::default() };
    let mut job = Job::new(1, at(0));
    for minute in 0..600 {
        job.start(at(minute * 60_000), &rules, false);
    }
    assert!((60..=130).contains(&job.past.len()), "{}", job.past.len());
}

#[test]
fn a_job_can_vanish_and_can_keep_its_project_to_itself() {
    let rules =
        JobRules { course: Course::Vanishes(SignedDuration::from_secs(9)), hides_project: true, ..JobRules::default() };
    let mut job = Job::new(1, at(0));
    job.start(at(0), &rules, false);
    job.advance(at(9999));
    assert!(!job.is_gone);
    assert_eq!(job.data(at(9999), &rules, "owner").get("ProjectId"), None);
    assert_eq!(job.data(at(9999), &JobRules::default(), "owner")["ProjectId"], 10_000);
    job.advance(at(10_000));
    assert!(job.is_gone);
}

#[test]
fn a_person_can_force_a_rerun_as_a_call_can() {
    let rules = JobRules::default();
    let mut job = Job::new(1, at(0));
    let by_hand = |act| JobPatch { console: Some(act), ..JobPatch::default() };
    assert_eq!(job.patch(at(0), &by_hand(Console::Start), &rules), Some(Effect::Started));
    assert_eq!(job.patch(at(5000), &by_hand(Console::Start), &rules), Some(Effect::NoOp));
    assert_eq!(job.patch(at(5000), &by_hand(Console::Rerun), &rules), Some(Effect::Restarted));
    assert_eq!(job.patch(at(6000), &by_hand(Console::Stop), &rules), None);
}
