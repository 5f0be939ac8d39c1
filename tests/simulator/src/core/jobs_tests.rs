#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;

fn at(millis: i64) -> Timestamp {
    Timestamp::constant(1_700_000_000, 0) + SignedDuration::from_millis(millis)
}

const START: i64 = 1_700_000_000;

/// A job started at 0 under `rules`, and its status and `StartedTime` at each of these times.
fn watched(rules: &JobRules, times: &[i64]) -> Vec<(String, Option<i64>)> {
    let mut job = Job::new(1, at(-5000));
    assert_eq!(job.start(at(0), rules), Effect::Started);
    let look = |millis: &i64| {
        job.advance(at(*millis));
        let data = job.data(rules, "owner");
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
    job.start(at(0), &fails);
    assert_eq!(job.status, JobStatus::Failed);
    assert_eq!(job.data(&fails, "owner")["ErrorMessage"], "no such table");

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
        job.start(at(0), &rules);
        assert_eq!(job.clone().start(at(1000), &rules), effect, "still starting");
        assert_eq!(job.start(at(5000), &rules), effect, "running");
        assert_eq!(job.started_time, started);
    }
}

#[test]
fn a_stop_replaces_the_start_in_flight_and_speaks_the_word_in_force() {
    let rules = JobRules { stopped_word: "Stop".to_owned(), ..JobRules::default() };
    let mut job = Job::new(1, at(0));
    job.start(at(0), &rules);
    job.stop(at(500), &rules);
    job.advance(at(1400));
    assert_eq!(job.status, JobStatus::Stopping);
    job.advance(at(90_000));
    assert_eq!(job.data(&rules, "owner")["JobStatus"], "Stop");
    assert_eq!(job.start(at(90_000), &rules), Effect::Started);
}

#[test]
fn a_hand_sets_what_it_names_and_nothing_else() {
    let rules = JobRules::default();
    let mut job = Job::new(1, at(0));
    job.start(at(0), &rules);
    let patch: JobPatch = serde_json::from_value(json!({"status": "Warming", "startedTime": -7})).unwrap();
    job.patch(at(100), &patch, &rules);
    job.advance(at(90_000));
    assert_eq!((job.status.clone(), job.started_time), (JobStatus::Other("Warming".to_owned()), Some(-7)));
    assert_eq!(job.name, "job_1");
    job.patch(at(90_000), &JobPatch { console: Some(Console::Start), ..JobPatch::default() }, &rules);
    assert_eq!(job.started_time, Some(START + 90));
    assert!(serde_json::from_value::<JobPatch>(json!({"stauts": "Running"})).is_err());
}
