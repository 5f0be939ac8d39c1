//! Moments and cases at the very edge of a rule: what a changed operator in the decision was not noticed by before.

use dijob_operator::api::RealtimeStartSettings;
use dijob_operator::plan::backoff::delay;
use dijob_operator::plan::observed::JobRef;

use super::*;

fn starts(seen: &Observed) -> bool {
    matches!(decide(seen, now()).action, Action::Start(_))
}

fn stays(seen: &Observed) -> Wait {
    let plan = decide(seen, now());
    assert_eq!(plan.action, Action::Nothing, "{plan:?}");
    plan.wait
}

#[test]
fn a_backoff_doubles_from_a_second_and_ends_at_five_minutes() {
    assert_eq!(delay(4, 1.0), std::time::Duration::from_secs(8));
    assert_eq!(delay(i32::MAX, 1.0), std::time::Duration::from_secs(300));
}

#[test]
fn a_word_read_when_the_settle_time_ends_is_a_baseline() {
    let at = |called, read| observed().called(called).looked(read, saw(STOPPED, None));
    assert!(starts(&at(35, 5)), "read 30 s after the call");
    assert!(!starts(&at(34, 5)), "read 29 s after the call");
}

#[test]
fn when_the_settle_time_is_over_an_early_word_is_read_again() {
    let at = |called| observed().called(called).looked(1, saw(STOPPED, None)).turn(Turn::Held(Lane::Look));
    assert_eq!(decide(&at(30), now()), look(Stance::Preparing(Trigger::FirstApply)));
    assert_eq!(stays(&at(29)), Wait::Until(hence(1)));
}

#[test]
fn a_first_start_by_token_needs_a_look_of_the_same_pass() {
    let at = |read| observed().token("a").looked(read, saw(STOPPED, Some(100)));
    assert!(starts(&at(9)) && !starts(&at(10)), "another job may be adopted: its look is as young as a first one's");
}

#[test]
fn the_confirm_timeout_holds_a_start_back_until_it_is_over() {
    // Accepted, and the search for its effect ended because reading was refused: the next start waits all the same.
    let at = |called| {
        observed().edited(|s| s.force_to_rerun = true).cloud(STOPPED, Some(100)).called(called).with(|o| {
            let last = o.record.last_start.as_mut().unwrap();
            (last.outcome, last.confirmation) = ("Accepted".to_owned(), Some("Refused".to_owned()));
        })
    };
    assert_eq!(stays(&at(119)), Wait::Until(hence(1)));
    assert!(starts(&at(120)));
}

/// Started by us, and its effect was looked for in vain.
fn not_running() -> Observed {
    observed().settled().with(|o| {
        o.record.job_status = Some(STOPPED.to_owned());
        o.record.last_start.as_mut().unwrap().confirmation = Some("TimedOut".to_owned());
    })
}

#[test]
fn a_late_look_comes_when_its_time_is_there() {
    let at = |called| not_running().called(called).turn(Turn::Held(Lane::Look));
    assert_eq!(stays(&at(299)), Wait::Until(hence(1)));
    assert_eq!(decide(&at(300), now()), look(Stance::Settled(Rest::NotRunning)));
}

#[test]
fn a_refused_look_asks_for_a_person_only_where_a_start_waits_for_its_effect() {
    let refused = |operation: Operation, kind, uncertain| {
        not_running().called(10).with(|o| {
            o.record.last_error = Some(dijob_operator::api::LastError {
                operation: operation.action().to_owned(),
                code: Some(if kind == ErrorKind::Server { "InternalError" } else { "500130" }.to_owned()),
                message: None,
                request_id: Some("R-9".to_owned()),
                http_status: Some(404),
                time: whole_seconds(ago(10)),
                generation: 3,
                rerun_tokens: Vec::new(),
                credentials_version: o.credentials_version(),
            });
            o.record.next_attempt_time = Some(whole_seconds(hence(800)));
            o.record.applied.as_mut().unwrap().uncertain = uncertain;
        })
    };
    let blocked = |seen: &Observed| matches!(decide(seen, now()).stance, Stance::Blocked { stalled: true, .. });
    assert!(blocked(&refused(Operation::GetDiJob, ErrorKind::NotFound, false)));
    assert!(!blocked(&refused(Operation::StartDiJob, ErrorKind::NotFound, false)), "the look did not fail");
    assert!(!blocked(&refused(Operation::GetDiJob, ErrorKind::Server, false)), "it goes on by itself");
    assert!(!blocked(&refused(Operation::GetDiJob, ErrorKind::NotFound, true)), "whether the start ran is not known");
}

#[test]
fn the_inputs_before_are_those_of_the_same_job() {
    let settings = Some(RealtimeStartSettings { start_time: Some(5), failover_settings: None });
    let previous = |region: &str, di_job_id| {
        let job = JobRef { region: region.to_owned(), di_job_id };
        let seen = observed().force().settled().pending(forced(4000)).called(4000).with(|o| {
            let applied = o.record.applied.as_mut().unwrap();
            (applied.region, applied.di_job_id) = (job.region, job.di_job_id);
            applied.realtime_start_settings.clone_from(&settings);
        });
        let seen = seen.cloud(STOPPED, Some(100));
        assert_eq!(decide(&seen, now()).action, Action::Settle(Verdict::Unknown));
        after(&seen, &Outcome::Done).status.applied.unwrap().previous.unwrap()
    };
    assert_eq!(previous("cn-shanghai", 11_743).realtime_start_settings, settings);
    for (region, di_job_id) in [("cn-beijing", 11_743), ("cn-shanghai", 5)] {
        assert_eq!(previous(region, di_job_id), forced(0).inputs, "{region} {di_job_id}");
    }
}

#[test]
fn an_adoption_forgets_the_tokens_of_another_job_alone() {
    let tokens = |di_job_id| {
        let seen = observed().edited(|s| s.rerun_token = "new".to_owned()).cloud("Running", Some(100)).with(|o| {
            o.record.applied.as_mut().unwrap().di_job_id = di_job_id;
            o.record.handled_rerun_tokens = vec!["old".to_owned()];
        });
        let plan = act(Action::Adopt, Stance::Preparing(Trigger::Rerun));
        next_status(&seen, &plan, &Outcome::Done, now()).status.handled_rerun_tokens
    };
    assert_eq!(tokens(5), ["new"]);
    assert_eq!(tokens(11_743), ["old", "new"]);
}

#[test]
fn only_a_refusal_like_the_last_one_takes_its_place_in_history() {
    let history = |outcome: &str, change: fn(&mut dijob_operator::api::FinishedStart)| {
        let seen = observed().cloud(STOPPED, Some(100)).with(|o| {
            let mut before = dijob_operator::api::FinishedStart {
                id: "before".to_owned(),
                trigger: "FirstApply".to_owned(),
                rerun_tokens: Vec::new(),
                generation: 3,
                outcome: outcome.to_owned(),
                code: (outcome == "Rejected").then(|| "InvalidParameter".to_owned()),
                request_id: None,
                time: whole_seconds(ago(900)),
            };
            change(&mut before);
            o.record.history = vec![before];
        });
        let Action::Start(record) = decide(&seen, now()).action else { panic!("no start") };
        let answer =
            if outcome == "Rejected" { failed(ErrorKind::Invalid, "InvalidParameter", 400) } else { accepted() };
        let next = after(&seen.called(0), &answered(*record, answer));
        next.status.history.into_iter().map(|h| h.outcome).collect::<Vec<_>>()
    };
    assert_eq!(history("Rejected", |_| ()), ["Rejected"]);
    assert_eq!(history("Rejected", |h| h.code = Some("Other".to_owned())), ["Rejected", "Rejected"]);
    assert_eq!(history("Rejected", |h| h.generation = 2), ["Rejected", "Rejected"]);
    assert_eq!(history("Accepted", |_| ()), ["Accepted", "Accepted"]);
}
