//! Moments and cases at the very edge of a rule: what a changed operator in the decision was not noticed by before.

use dijob_operator::api::{Applied, FailoverSettings, LastError, RealtimeStartSettings, StartInputs};
use dijob_operator::plan::backoff::delay;
use dijob_operator::plan::inputs::{Change, change};
use dijob_operator::plan::observed::JobRef;
use dijob_operator::plan::trigger::{is_token, requested_tokens};

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
    let ended = |outcome: &str, confirmation: &str| {
        at(60).with(|o| {
            let last = o.record.last_start.as_mut().unwrap();
            (last.outcome, last.confirmation) = (outcome.to_owned(), Some(confirmation.to_owned()));
        })
    };
    assert!(starts(&ended("Accepted", "TimedOut")), "its effect was looked for");
    assert!(starts(&ended("Rejected", "Refused")), "nothing was accepted");
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
            let code = if kind == ErrorKind::Server { "InternalError" } else { "500130" };
            let error = last_error(operation, 404);
            o.record.last_error = Some(LastError { code: Some(code.to_owned()), ..error });
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

#[test]
fn each_edit_of_the_start_inputs_is_what_it_is() {
    let inputs = |start_time, failover: Option<(Option<i64>, Option<i64>)>, force_to_rerun| StartInputs {
        realtime_start_settings: Some(RealtimeStartSettings {
            start_time,
            failover_settings: failover.map(|(interval, upper_limit)| FailoverSettings { interval, upper_limit }),
        }),
        force_to_rerun,
    };
    let none = || inputs(None, None, false);
    let failover = |interval, limit| inputs(None, Some((interval, limit)), false);
    let (start_time, force) =
        (Change { start_time: true, ..Change::default() }, Change { force: true, ..Change::default() });
    let (new, removed) =
        (Change { failover: true, ..Change::default() }, Change { removed: true, ..Change::default() });
    let both = Change { removed: true, ..new };
    let rows = [
        (none(), none(), Change::default()),
        (none(), StartInputs { realtime_start_settings: None, ..none() }, Change::default()),
        (inputs(Some(5), None, false), inputs(Some(5), None, false), Change::default()),
        (none(), inputs(Some(5), None, false), start_time),
        (inputs(Some(5), None, false), inputs(Some(6), None, false), start_time),
        (inputs(Some(5), None, false), none(), removed),
        (inputs(None, None, true), inputs(None, None, true), Change::default()),
        (none(), inputs(None, None, true), force),
        (inputs(None, None, true), none(), removed),
        (failover(Some(1), Some(2)), failover(Some(1), Some(2)), Change::default()),
        (none(), failover(Some(1), None), new),
        (none(), failover(None, Some(2)), new),
        (failover(Some(1), Some(2)), failover(Some(3), Some(2)), new),
        (failover(Some(1), Some(2)), failover(Some(1), Some(3)), new),
        (failover(Some(1), Some(2)), failover(None, Some(2)), removed),
        (failover(Some(1), Some(2)), failover(Some(1), None), removed),
        (failover(Some(1), Some(2)), failover(None, Some(3)), both),
        (failover(Some(1), Some(2)), none(), removed),
    ];
    for (before, wanted, expected) in rows {
        let applied = observed().settled().record.applied.unwrap();
        let StartInputs { realtime_start_settings, force_to_rerun } = before;
        let applied = Applied { realtime_start_settings, force_to_rerun, ..applied };
        assert_eq!(change(&applied, &wanted), expected, "{applied:?} {wanted:?}");
        assert_eq!(expected.starts(), expected != removed && expected != Change::default());
    }
}

#[test]
fn a_token_has_1_to_256_characters_none_of_them_a_control() {
    for token in ["a", &"ä".repeat(256), "a b"] {
        assert!(is_token(token), "{token}");
    }
    for text in ["", &"a".repeat(257), "a\u{7}", "\u{85}"] {
        assert!(!is_token(text), "{text:?}");
    }
    let tokens = |annotation: &str, spec: &str| {
        requested_tokens(&observed().token(annotation).with(|o| o.spec.rerun_token = spec.to_owned()))
    };
    assert_eq!((tokens("a", "b"), tokens("a", "a")), (vec!["a".to_owned(), "b".to_owned()], vec!["a".to_owned()]));
    assert_eq!((tokens("", "b"), tokens("a", "")), (vec!["b".to_owned()], vec!["a".to_owned()]));
    for trigger in [Trigger::Rerun, Trigger::FirstApply, Trigger::SpecChange] {
        assert_eq!(Trigger::of(trigger.as_str()), Some(trigger));
    }
    assert_eq!(Trigger::of("Drift"), None);
}

#[test]
fn a_wait_is_over_at_its_very_end() {
    let resent = |seconds, attempt| {
        let record = PendingStart { attempt, ..ordinary(seconds) };
        let seen = unresolved(record, seconds).looked(0, saw(STOPPED, Some(100)));
        start_of(&seen).map(|again| again.nonce != "first-nonce")
    };
    assert_eq!((resent(29, 1), resent(30, 1)), (None, Some(false)), "the settle time");
    assert_eq!((resent(59, 2), resent(60, 2)), (None, Some(false)), "doubled by the second attempt");
    assert_eq!((resent(119, 3), resent(120, 3)), (None, Some(false)), "and by the third");
    assert_eq!((resent(299, 6), resent(300, 6)), (None, Some(false)), "5 minutes at most");
    assert_eq!((resent(599, 1), resent(600, 1)), (Some(false), Some(true)), "10 minutes of the same nonce");
    let other_key = |seconds| {
        let record = PendingStart { key_id: "other".to_owned(), ..ordinary(seconds) };
        decide(&unresolved(record, seconds).looked(0, saw(STOPPED, Some(100))), now())
    };
    assert_eq!(other_key(599).wait, Wait::Until(hence(1)));
    assert_eq!(other_key(590).wait, Wait::Until(hence(10)));
    assert!(matches!(other_key(600).action, Action::Start(_)));
    let age = |seconds| {
        let seen = unresolved(ordinary(200), 200).looked(seconds, saw(STOPPED, Some(100)));
        matches!(decide(&seen, now()).action, Action::Start(_))
    };
    assert!(age(59) && !age(60), "a look before a resend is younger than a minute");
    let failing = |seconds| {
        at_rest().with(|o| {
            o.record.last_error = Some(last_error(Operation::StartDiJob, 500));
            o.record.next_attempt_time = Some(whole_seconds(hence(seconds)));
        })
    };
    assert!(starts(&failing(0)) && !starts(&failing(1)), "a backoff");
    let secret = |seconds| {
        let missing = observed().with(|o| {
            o.key = Key::Missing("no Secret".to_owned());
            o.missing_since = Some(ago(seconds));
        });
        decide(&missing, now()).wait
    };
    assert_eq!((secret(600), secret(601)), (Wait::Until(hence(5)), Wait::Until(hence(30))));
}

#[test]
fn looks_for_a_start_that_is_never_sent_again_come_at_doubled_times_and_none_is_made_twice() {
    let at = |seconds, looked: i64| {
        let seen = unresolved(forced(seconds), seconds).force().turn(Turn::Held(Lane::Look));
        decide(&seen.looked(looked, saw(STOPPED, Some(100))), now())
    };
    for step in [30, 60, 120, 240, 480] {
        assert_eq!(at(step - 1, 0).wait, Wait::Until(hence(1)), "before {step} s");
        assert!(matches!(at(step, 1).action, Action::Look(_)), "at {step} s");
        let next = if step == 480 { 900 } else { 2 * step };
        assert_eq!(at(step, 0).wait, Wait::Until(hence(next - step)), "at {step} s, and looked just then");
    }
    assert!(matches!(at(900, 1).action, Action::Look(_)), "when the signature has expired");
    assert_eq!(at(900, 0).action, Action::Settle(Verdict::Unknown));
}

#[test]
fn looks_for_an_accepted_start_come_at_doubled_times_and_none_is_made_twice() {
    let at = |seconds, looked: i64| {
        let accepted = observed().settled().with(|o| o.record.last_start = Some(last("Accepted"))).called(seconds);
        decide(&accepted.turn(Turn::Held(Lane::Look)).looked(looked, saw(STOPPED, Some(100))), now())
    };
    for step in [2, 4, 8, 16, 32, 64] {
        assert_eq!(at(step - 1, 0).wait, Wait::Until(hence(1)), "before {step} s");
        assert!(matches!(at(step, 1).action, Action::Look(_)), "at {step} s");
        let next = if step == 64 { 120 } else { 2 * step };
        assert_eq!(at(step, 0).wait, Wait::Until(hence(next - step)), "at {step} s, and looked just then");
    }
    assert!(matches!(at(120, 1).action, Action::Look(_)), "at the confirm timeout");
    assert_eq!(at(120, 0).action, Action::Settle(Verdict::TimedOut));
}

#[test]
fn a_late_answer_changes_nothing_but_its_own_unknown_start() {
    let record = |outcome: &str, id: &str| {
        let pending = PendingStart { id: id.to_owned(), ..ordinary(901) };
        let credentials_version = "a1/s1".to_owned();
        let seen = observed().settled().with(|o| {
            o.record.last_start = Some(last(outcome));
            o.unrecorded = Some(Answered { pending, credentials_version, answer: accepted() });
        });
        let last = stored(&seen, &Outcome::Done).record.last_start.unwrap();
        (last.outcome, last.request_id.unwrap())
    };
    let said = |outcome: &str, id: &str| (outcome.to_owned(), id.to_owned());
    assert_eq!(record("Unknown", "old"), said("Accepted", "R-2"));
    assert_eq!(record("Unknown", "another"), said("Unknown", "R-1"));
    assert_eq!(record("Confirmed", "old"), said("Confirmed", "R-1"));
}

#[test]
fn what_an_accepted_start_handled_is_what_spec_said_not_what_was_sent() {
    let before = observed().start_time(5).settled().with(|o| o.object.generation += 1);
    let edited = before.failover(7).cloud(STOPPED, Some(100)).called(200);
    let record = start_of(&edited).unwrap();
    let settings = |start_time| {
        let failover_settings = Some(FailoverSettings { interval: Some(7), upper_limit: Some(30) });
        Some(RealtimeStartSettings { start_time, failover_settings })
    };
    assert_eq!(record.realtime_start_settings, settings(None), "the offset did not change, and is not sent");
    let committed = edited.with(|o| o.record.pending_start = Some(record.clone()));
    let next = next_status(&committed, &decide(&committed, now()), &answered(record, accepted()), now()).status;
    assert_eq!(next.applied.unwrap().realtime_start_settings, settings(Some(5)));
    assert_eq!((next.pending_start, next.last_start.unwrap().outcome), (None, "Accepted".to_owned()));
}

#[test]
fn a_wait_of_another_clock_is_cut_before_it_is_recorded_too() {
    let refused = at_rest().with(|o| {
        o.record.last_error =
            Some(LastError { code: Some("InvalidParameter".to_owned()), ..last_error(Operation::StartDiJob, 400) });
        o.record.next_attempt_time = Some(whole_seconds(hence(86_400)));
    });
    let plan = decide(&refused, now());
    assert!(matches!(plan.stance, Stance::Blocked { until: Some(at), .. } if at == hence(900)), "{plan:?}");
}

#[test]
fn a_look_from_before_our_own_call_is_not_told() {
    let word = |called| {
        let seen = observed().settled().called(called).looked(20, saw(STOPPED, Some(100)));
        next_status(&seen, &decide(&seen, now()), &Outcome::Done, now()).status.job_status
    };
    assert_eq!((word(21).as_deref(), word(20).as_deref()), (Some(STOPPED), Some("Running")));
}

#[test]
fn a_look_of_the_very_instant_of_our_call_says_nothing_of_it() {
    let at =
        |looked| unresolved(ordinary(40), 40).looked(looked, saw("Running", Some(200))).turn(Turn::Held(Lane::Look));
    assert_eq!(decide(&at(39), now()).action, Action::Settle(Verdict::Confirmed));
    assert_eq!(decide(&at(40), now()), look(closing_at(40)));
}

#[test]
fn after_an_unknown_outcome_only_a_return_to_the_inputs_before_starts_nothing() {
    let edited = |start_time: Option<i64>| {
        let seen = observed().start_time(7).settled().called(3600).cloud(STOPPED, Some(100)).with(|o| {
            o.object.generation += 1;
            let settings = start_time.map(|at| RealtimeStartSettings { start_time: Some(at), failover_settings: None });
            o.spec.realtime_start_settings = settings;
            o.record.last_start.as_mut().unwrap().outcome = "Unknown".to_owned();
            let before = RealtimeStartSettings { start_time: Some(5), failover_settings: None };
            let applied = o.record.applied.as_mut().unwrap();
            applied.uncertain = true;
            applied.previous = Some(StartInputs { realtime_start_settings: Some(before), force_to_rerun: false });
        });
        start_of(&seen).is_some()
    };
    assert!(!edited(Some(5)), "as it was before the start whose outcome is not known");
    assert!(edited(Some(9)));
}
