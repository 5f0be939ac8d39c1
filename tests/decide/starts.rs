//! What starts a job, and what does not.

use dijob_operator::api::{DataIntegrationJobSpec, OnUnknown, RealtimeStartSettings};
use dijob_operator::plan::inputs::inputs_of;
use dijob_operator::plan::notice;
use dijob_operator::plan::observed::{Account, JobRef, Reading};
use dijob_operator::plan::trigger::{Due, due};

use super::*;

#[test]
fn a_running_job_is_adopted_on_first_sight() {
    for word in ["Running", "Finished"] {
        for seen in [observed(), observed().token("t"), observed().force().start_time(1_671_516_776)] {
            let seen = seen.cloud(word, Some(100));
            let adopted = stored(&seen, &Outcome::Done);
            assert_eq!(decide(&seen, now()).action, Action::Adopt, "{word}");
            assert_eq!(
                adopted.record.handled_rerun_tokens,
                seen.annotations.rerun.clone().into_iter().collect::<Vec<_>>()
            );
            assert_eq!(decide(&adopted, now()).action, Action::Nothing, "{word}");
            assert_eq!(ready(&adopted).1, Reason::Adopted);
            let later = adopted.token("later");
            assert_eq!(
                start_of(&later).map(|p| p.rerun_tokens),
                Some(vec!["later".to_owned()]),
                "a later token starts it"
            );
        }
    }
    for word in ["Initialized", STOPPED, "Stop", "Failed", "Stopping", "Odd"] {
        assert!(start_of(&observed().cloud(word, Some(100))).is_some(), "{word} is neither at work nor done");
    }
}

/// Covers: 44u.
#[test]
fn a_status_copied_from_another_object_is_no_history() {
    // Its record does not reach `Observed`; so a restored or re-created object is seen for the first time.
    let restored = observed().token("handled long ago").cloud("Running", Some(100));
    assert_eq!(decide(&restored, now()).action, Action::Adopt);
}

#[test]
fn a_first_start_is_sent_as_in_spec() {
    let seen = at_rest().force().start_time(1_671_516_776).failover(10);
    let record = start_of(&seen).unwrap();
    assert_eq!((record.trigger.as_str(), record.force_to_rerun), ("FirstApply", true));
    assert_eq!(record.realtime_start_settings, seen.spec.realtime_start_settings);
    assert_eq!(record.inputs, inputs_of(&seen.spec));
}

#[test]
fn a_changed_spec_sends_each_one_shot_setting_only_if_that_changed() {
    let old = || observed().start_time(1_671_516_776).failover(10).cloud(STOPPED, Some(100));
    let start = |edit: fn(&mut DataIntegrationJobSpec)| {
        start_of(&old().edited(edit)).map(|p| {
            let settings = p.realtime_start_settings.unwrap_or_default();
            (p.trigger, settings.start_time, settings.failover_settings.and_then(|f| f.interval), p.force_to_rerun)
        })
    };
    let change = |time, interval, force| Some(("SpecChange".to_owned(), time, Some(interval), force));
    assert_eq!(
        start(|s| s.realtime_start_settings.as_mut().unwrap().start_time = Some(1_700_000_000)),
        change(Some(1_700_000_000), 10, false)
    );
    assert_eq!(start(|s| s.force_to_rerun = true), change(None, 10, true));
    assert_eq!(
        start(|s| {
            let failover = s.realtime_start_settings.as_mut().unwrap().failover_settings.as_mut().unwrap();
            failover.interval = Some(20);
        }),
        change(None, 20, false)
    );
}

#[test]
fn removing_start_time_starts_nothing() {
    let full = || observed().force().start_time(1_671_516_776).failover(10);
    let edits: [fn(&mut DataIntegrationJobSpec); 8] = [
        |s| s.realtime_start_settings.as_mut().unwrap().start_time = None,
        |s| s.realtime_start_settings.as_mut().unwrap().failover_settings = None,
        |s| s.realtime_start_settings = None,
        |s| s.realtime_start_settings = Some(RealtimeStartSettings::default()),
        |s| s.force_to_rerun = false,
        |s| s.suspend = true,
        |s| s.on_unknown = OnUnknown::Hold,
        |s| s.account_ref.name = "another".to_owned(),
    ];
    for (n, edit) in edits.into_iter().enumerate() {
        let seen = full().edited(edit).cloud("Running", Some(100));
        assert_eq!(decide(&seen, now()), act(Action::Tidy, Stance::Settled(Rest::Running)), "edit {n}");
        let tidied = stored(&seen, &Outcome::Done);
        assert_eq!(decide(&tidied, now()), rest(Stance::Settled(Rest::Running)), "edit {n}");
        assert_eq!(tidied.record.applied.unwrap().generation, 4, "edit {n}");
    }
}

#[test]
fn git_revert_reruns_nothing() {
    let mut seen = observed().settled();
    for n in 0..14 {
        seen = seen.token(&format!("token-{n}")).cloud("Running", Some(100));
        let record = start_of(&seen).unwrap();
        seen = stored(&seen, &answered(record, accepted()));
        seen.record.last_start.as_mut().unwrap().outcome = "Confirmed".to_owned();
    }
    let handled = |token: &str| start_of(&seen.clone().token(token)).is_none();
    assert!(["token-13", "token-12", "token-4", "token-3"].into_iter().all(handled), "the last ten are remembered");
    assert!(!handled("token-2"), "memory has an end: {:?}", seen.record.handled_rerun_tokens);
    assert!(start_of(&seen.with(|o| o.annotations.rerun = None)).is_none(), "a removed token asks for nothing");
}

#[test]
fn tokens_on_the_object_are_never_forgotten() {
    let mut seen = observed().token("in-annotation").settled().with(|o| o.spec.rerun_token = "in-spec".to_owned());
    seen.record.handled_rerun_tokens.push("in-spec".to_owned());
    seen.record.handled_rerun_tokens.extend((0..11).map(|n| format!("old-{n}")));
    let next = after(&seen, &Outcome::Done).status.handled_rerun_tokens;
    assert_eq!(next.len(), 12);
    assert_eq!(next[..3], ["in-annotation", "in-spec", "old-1"], "the oldest of the others makes room");
}

#[test]
fn a_token_asks_once_in_whatever_place() {
    let both = observed().settled().token("t").with(|o| o.spec.rerun_token = "t".to_owned()).cloud(STOPPED, Some(100));
    assert_eq!(start_of(&both).unwrap().rerun_tokens, ["t"]);
    let two = both.with(|o| o.spec.rerun_token = "u".to_owned());
    assert_eq!(start_of(&two).unwrap().rerun_tokens, ["t", "u"], "all that is due at once makes one start");
    for token in ["", "a\nb", &"x".repeat(257)] {
        let seen = observed().settled().token(token).cloud(STOPPED, Some(100)).with(|o| {
            o.record.handled_rerun_tokens.clear();
        });
        assert_eq!(start_of(&seen), None, "{token:?} is no token");
        let next = after(&seen, &Outcome::Done);
        let told = notice::notices(&seen, &Action::Nothing, &next.status);
        assert_eq!(told.iter().any(|n| n.reason == Reason::RerunTokenIgnored && n.warning), !token.is_empty());
    }
}

#[test]
fn a_rerun_is_forced_only_with_both_keys() {
    let asked = |force: &str| {
        let seen = observed().settled().token("t").with(|o| o.annotations.force = Some(force.to_owned()));
        start_of(&seen.cloud(STOPPED, Some(100))).unwrap()
    };
    assert!(asked("t").force_to_rerun, "rerun-force holds the same token");
    assert!(!asked("t").inputs.force_to_rerun, "spec does not say so");
    assert!(!asked("u").force_to_rerun, "another token is no leave");
    let by_spec_alone = observed().settled().with(|o| {
        o.spec.rerun_token = "s".to_owned();
        o.annotations.force = Some("s".to_owned());
    });
    assert!(!start_of(&by_spec_alone.cloud(STOPPED, Some(100))).unwrap().force_to_rerun);
    let in_spec = observed().force().start_time(1_671_516_776).settled().token("t").cloud(STOPPED, Some(100));
    let record = start_of(&in_spec).unwrap();
    assert!(record.force_to_rerun && record.realtime_start_settings.unwrap().start_time.is_some(), "as in spec");
}

#[test]
fn all_that_is_due_at_once_makes_one_start() {
    let seen = observed().edited(|s| s.force_to_rerun = true).token("t").cloud(STOPPED, Some(100));
    let record = start_of(&seen).unwrap();
    assert_eq!((record.trigger.as_str(), record.force_to_rerun), ("Rerun", true));
    let done = stored(&seen, &answered(record, accepted()));
    assert_eq!(due(&done), Some(Due::Nothing));
}

#[test]
fn another_job_starts_over_and_keeps_its_history() {
    let seen = observed().token("t").settled().with(|o| o.spec.di_job_id = 5);
    let there = |word| Reading { job: JobRef { di_job_id: 5, ..job() }, at: ago(1), seen: saw(word, Some(50)) };
    let adopted = seen.clone().with(|o| o.reading = Some(there("Running")));
    assert_eq!(decide(&adopted, now()).action, Action::Adopt);
    let started = seen.with(|o| o.reading = Some(there(STOPPED)));
    let record = start_of(&started).unwrap();
    assert_eq!((record.rerun_tokens, record.baseline_started_time), (vec!["t".to_owned()], Some(50)));
}

/// Covers: 25u.
#[test]
fn an_edit_of_an_account_starts_nothing() {
    let moved = |o: &mut Observed| {
        o.account = Account::Found {
            region: "cn-beijing".to_owned(),
            version: "a2".to_owned(),
            service: SERVICE.to_owned(),
            projects: vec![],
        }
    };
    let stance = || Stance::Blocked { problem: Problem::AccountChanged, stalled: true, until: None };
    let seen = observed().settled().with(moved);
    check(vec![Row { why: "the account means another region", seen: seen.clone(), plan: rest(stance()) }]);
    let edited = observed().edited(|s| s.force_to_rerun = true).with(moved);
    check(vec![Row { why: "an edit of other fields is no leave", seen: edited, plan: rest(stance()) }]);
    assert!(matches!(decide(&seen.token("new"), now()).action, Action::TakeTurn(Lane::Look)), "a new token is");
    let repointed = observed().edited(|s| s.account_ref.name = "beijing".to_owned()).with(moved);
    assert!(
        matches!(decide(&repointed, now()).stance, Stance::Preparing(Trigger::FirstApply)),
        "another account is another job"
    );
}

#[test]
fn reading_refused_lets_a_start_go_on_and_failing_makes_it_wait() {
    let denied = observed().looked(1, Seen::Refused(look_failed(ErrorKind::Denied, "Forbidden.RAM", 403)));
    let record = start_of(&denied).unwrap();
    assert_eq!((record.baseline_job_status.clone(), record.baseline_started_time), (None, None));
    let accepted = stored(&denied.called(0), &answered(record, accepted()));
    let closed = stored(&accepted, &Outcome::Done);
    assert_eq!(ready(&closed), (ConditionStatus::True, Reason::StartAccepted));
    assert_eq!(condition(&closed, "Observed"), Some((ConditionStatus::False, Reason::ReadRefused)));
    for seen in [
        Seen::Failed(look_failed(ErrorKind::Server, "InternalError.System", 500)),
        Seen::Failed(look_failed(ErrorKind::Throttled, "Throttling.User", 429)),
        Seen::NotFound(look_failed(ErrorKind::NotFound, "500130", 404)),
    ] {
        assert_eq!(start_of(&observed().looked(1, seen.clone())), None, "{seen:?}");
    }
}

#[test]
fn a_baseline_is_young_and_later_than_our_own_last_call() {
    let start = |seen: Observed| start_of(&seen).is_some();
    assert!(start(observed().looked(9, saw(STOPPED, Some(100)))));
    assert!(!start(observed().looked(10, saw(STOPPED, Some(100)))), "10 s for a first start");
    assert!(start(observed().settled().token("t").looked(59, saw(STOPPED, Some(100)))));
    assert!(!start(observed().settled().token("t").looked(60, saw(STOPPED, Some(100)))), "60 s for others");
    assert!(!start(observed().force().settled().token("t").looked(10, saw(STOPPED, Some(100)))), "10 s if forced");
    assert!(
        !start(observed().hold_unknown().settled().token("t").looked(10, saw(STOPPED, Some(100)))),
        "10 s under Hold"
    );
    let before_the_call = observed().settled().token("t").looked(5, saw(STOPPED, Some(100))).called(4);
    assert!(!start(before_the_call), "made before our own last call");
}
