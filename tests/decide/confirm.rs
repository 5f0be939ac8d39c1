//! What counts as a sign, and what follows an accepted start.

use dijob_operator::plan::observed::Settings;

use super::*;

#[test]
fn an_old_started_time_is_no_sign() {
    let seen = |word: &str, started| decide(&unresolved(ordinary(40), 40).cloud(word, started), now());
    assert!(matches!(seen("Running", Some(100)).action, Action::Start(_)), "the start before");
    assert!(matches!(seen("Running", Some(99)).action, Action::Start(_)), "older still");
    assert_eq!(seen("Stopped", Some(101)), settle(Verdict::Confirmed), "whatever the word");
    assert!(matches!(seen("Running", None).action, Action::Start(_)), "it was read before, so a word is none");
}

#[test]
fn the_baseline_is_the_largest_started_time_ever_recorded_for_this_job() {
    let known =
        |o: &mut Observed| o.record.job_started_time = Some(whole_seconds(Timestamp::from_second(500).unwrap()));
    let seen = observed().settled().token("t").cloud(STOPPED, Some(100));
    assert_eq!(start_of(&seen.clone().with(known)).unwrap().baseline_started_time, Some(500));
    assert_eq!(start_of(&seen).unwrap().baseline_started_time, Some(100));
    assert_eq!(start_of(&at_rest().with(known)).unwrap().baseline_started_time, Some(100), "of another job, maybe");
}

#[test]
fn a_job_that_ran_before_gives_no_sign_by_running() {
    let confirmed = |before: &str, word: &str, called: i64| {
        let record = ordinary(called).tap(|p| {
            p.baseline_started_time = None;
            p.baseline_job_status = Some(before.to_owned());
        });
        decide(&unresolved(record, called).looked(0, saw(word, None)), now()) == settle(Verdict::Confirmed)
    };
    assert!(!confirmed("Running", "Running", 40));
    assert!(!confirmed("Running", "Finished", 40), "the run before has ended");
    assert!(!confirmed("Finished", "Finished", 40));
    assert!(!confirmed(STOPPED, "Stopping", 40));
    assert!(!confirmed(STOPPED, "Odd", 40));
    for word in ["Running", "Finished", "Failed"] {
        assert!(confirmed(STOPPED, word, 40), "{word}");
        assert!(!confirmed(STOPPED, word, 29), "{word}: too early, it may be the start before");
    }
}

#[test]
fn without_a_baseline_nothing_seen_later_proves_anything() {
    let record = ordinary(40).tap(|p| {
        p.baseline_started_time = None;
        p.baseline_job_status = None;
    });
    let plan = decide(&unresolved(record.clone(), 40).cloud("Running", Some(200)), now());
    assert!(matches!(plan, Plan { action: Action::Nothing, stance: Stance::Resolving(_), .. }), "{plan:?}");
    assert!(start_of(&unresolved(record, 40).cloud(STOPPED, Some(200))).is_some());
}

#[test]
fn a_word_is_a_baseline_only_after_the_settle_time_of_the_call_before() {
    let seen = |called, looked, started| {
        decide(&observed().settled().token("t").called(called).looked(looked, saw(STOPPED, started)), now())
    };
    assert_eq!(seen(20, 1, None), until(preparing(Trigger::Rerun), hence(10)));
    assert_eq!(seen(40, 15, None).action, Action::TakeTurn(Lane::Look));
    assert!(matches!(seen(40, 5, None).action, Action::Start(_)));
    assert!(matches!(seen(20, 1, Some(100)).action, Action::Start(_)), "a start time needs no such wait");
}

// After an accepted start.

#[test]
fn an_accepted_start_is_looked_for_until_the_confirm_timeout() {
    let at = |called: i64, looked_at: Option<i64>, word: &str, started: Option<i64>| {
        let seen = observed().settled().with(|o| o.record.last_start = Some(last("Accepted"))).called(called);
        let seen = looked_at.map_or(seen.clone(), |at| seen.looked(called - at, saw(word, started)));
        decide(&seen.turn(Turn::Held(Lane::Look)), now())
    };
    let confirming = |called: i64| Stance::Confirming(hence(120 - called));
    let mut before = None;
    for step in [2, 4, 8, 16, 32, 64, 120] {
        assert_eq!(at(step - 1, before, STOPPED, Some(100)), until(confirming(step - 1), hence(1)), "before {step} s");
        assert_eq!(at(step, before, STOPPED, Some(100)), look(confirming(step)), "at {step} s");
        before = Some(step);
    }
    assert_eq!(at(121, Some(120), STOPPED, Some(100)), settle(Verdict::TimedOut));
    assert_eq!(at(3, Some(2), "Running", Some(200)), settle(Verdict::Confirmed));
    let blind = observed().settled().with(|o| o.record.last_start = Some(last("Accepted"))).called(5);
    let refused = blind.looked(1, Seen::Refused(look_failed(ErrorKind::Denied, "Forbidden.RAM", 403)));
    assert_eq!(decide(&refused, now()), settle(Verdict::Unreadable));
}

#[test]
fn a_start_without_effect_is_not_running_and_a_late_sign_mends_it() {
    let seen = observed()
        .settled()
        .with(|o| o.record.last_start = Some(last("Accepted")))
        .called(121)
        .looked(1, saw(STOPPED, Some(100)));
    let timed_out = stored(&seen, &Outcome::Done);
    assert_eq!(ready(&timed_out), (ConditionStatus::False, Reason::NotRunning));
    assert_eq!(condition(&timed_out, "Stalled"), Some((ConditionStatus::True, Reason::NotRunning)));
    assert_eq!(condition(&timed_out, "Started"), Some((ConditionStatus::True, Reason::StartAccepted)));
    let late = stored(&timed_out.cloud("Running", Some(200)), &Outcome::Done);
    assert_eq!(ready(&late), (ConditionStatus::True, Reason::JobRunning));
    assert_eq!(late.record.last_start.unwrap().outcome, "Confirmed");
}

#[test]
fn the_next_start_waits_until_the_last_is_confirmed_or_its_timeout_is_over() {
    let next = |outcome: &str, confirmation: Option<&str>, called: i64| {
        let seen = observed().settled().token("t").called(called).looked(0, saw(STOPPED, Some(100)));
        start_of(&seen.with(|o| {
            o.record.last_start = Some(last(outcome));
            o.record.last_start.as_mut().unwrap().confirmation = confirmation.map(str::to_owned);
        }))
        .is_some()
    };
    assert!(!next("Accepted", None, 100));
    assert!(!next("Accepted", Some("Refused"), 100), "unseen, it may still be on its way");
    assert!(next("Accepted", Some("Refused"), 121));
    assert!(next("Accepted", Some("TimedOut"), 121));
    assert!(next("Confirmed", None, 100));
    assert!(next("Rejected", None, 100));
}

#[test]
fn with_nothing_to_do_looks_are_rare_and_only_where_something_is_open() {
    let rests = |word: &str| {
        let seen = observed().settled().with(|o| o.record.job_status = Some(word.to_owned())).called(86_400);
        decide(&seen, now())
    };
    for (word, state) in [("Running", Rest::Running), ("Finished", Rest::Finished), ("Failed", Rest::Failed)] {
        assert_eq!(rests(word), rest(Stance::Settled(state)));
    }
    let timed_out = observed().settled().called(700).with(|o| {
        o.record.last_start = Some(last("Accepted"));
        o.record.last_start.as_mut().unwrap().confirmation = Some("TimedOut".to_owned());
        o.record.job_status = Some(STOPPED.to_owned());
    });
    let looked = |seconds| decide(&timed_out.clone().looked(seconds, saw(STOPPED, Some(100))), now());
    assert_eq!(looked(200), until(Stance::Settled(Rest::NotRunning), hence(100)), "5 minutes at least");
    assert_eq!(looked(301).action, Action::TakeTurn(Lane::Look));
}

#[test]
fn the_times_are_those_that_flags_set() {
    let slow = Settings {
        settle: std::time::Duration::from_secs(60),
        confirm: std::time::Duration::from_secs(300),
        grace: std::time::Duration::from_secs(10),
    };
    let seen = unresolved(ordinary(40), 40).cloud(STOPPED, Some(100)).with(|o| o.settings = slow);
    assert_eq!(decide(&seen, now()).wait, Wait::Until(hence(20)));
}

#[test]
fn while_a_nonce_grows_old_no_look_is_paid_for() {
    let other = |o: &mut Observed| o.key = Key::Ready { id: "LTAI2".to_owned(), version: "s2".to_owned() };
    let seen = unresolved(ordinary(200), 200).looked(100, saw(STOPPED, Some(100))).with(other);
    assert_eq!(decide(&seen, now()), until(closing_at(200), hence(400)));
}

#[test]
fn while_a_word_settles_no_look_is_paid_for() {
    let seen = observed().called(29).looked(11, saw(STOPPED, None));
    assert_eq!(decide(&seen, now()), until(preparing(Trigger::FirstApply), hence(1)));
}
