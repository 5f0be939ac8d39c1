//! What becomes of a start: the outcome table, and the rules of what the record must say and when.

use dijob_operator::plan::inputs::inputs_of;
use dijob_operator::plan::observed::JobRef;
use jiff::SignedDuration;

use super::*;

pub fn server() -> Answer {
    failed(ErrorKind::Server, "InternalError.System", 500)
}

/// Both columns of the outcome table: the object and its first attempt.
fn both() -> [(Observed, PendingStart, &'static str); 4] {
    [
        (at_rest(), ordinary(0), "ordinary"),
        (at_rest().force(), forced(0), "forced"),
        (at_rest().start_time(1_671_516_776), with_offset(0, 1_671_516_776), "with an offset"),
        (at_rest().hold_unknown(), ordinary(0), "held"),
    ]
}

pub fn sent(seen: &Observed, record: PendingStart, answer: Answer) -> Observed {
    stored(&seen.clone().called(0), &answered(record, answer))
}

#[test]
fn what_surely_did_not_run_is_sent_again_in_either_column() {
    let never_left = || Answer::Failed(Error::unanswered(Operation::StartDiJob, true, "no route"));
    for (seen, record, column) in both() {
        for (answer, reason, backoff) in [
            (failed(ErrorKind::Throttled, "Throttling.User", 429), Reason::StartDue, false),
            (failed(ErrorKind::DailyLimit, "Throttling.User", 429), Reason::StartDue, false),
            (never_left(), Reason::CloudUnavailable, true),
            (failed(ErrorKind::Expired, "InvalidSecurityToken.Expired", 400), Reason::StartDue, false),
            (failed(ErrorKind::ClockSkew, "InvalidTimeStamp.Expired", 400), Reason::StartDue, false),
        ] {
            let next = stored(&seen, &answered(record.clone(), answer));
            assert_eq!(next.record.pending_start, None, "{column}: {reason:?}");
            assert_eq!(next.record.last_start, None, "{column}: no outcome yet");
            assert_eq!(ready(&next), (ConditionStatus::False, reason), "{column}");
            assert!(condition(&next, "Reconciling").is_some(), "{column}: it goes on by itself");
            assert_eq!(next.record.next_attempt_time.is_some(), backoff, "{column}: {reason:?}");
            let again = start_of(&next.with(|o| o.record.next_attempt_time = None)).unwrap();
            assert_eq!(again.attempt, 1, "{column}: from the first step again");
        }
    }
}

#[test]
fn a_throttled_start_raises_no_delay_of_its_job() {
    let next = stored(&at_rest(), &answered(ordinary(0), failed(ErrorKind::Throttled, "Throttling.User", 429)));
    assert_eq!((next.record.attempts, next.record.next_attempt_time), (0, None));
}

#[test]
fn an_expired_token_or_a_wrong_clock_gets_one_new_attempt_and_is_refused_then() {
    for (kind, code) in
        [(ErrorKind::Expired, "InvalidSecurityToken.Expired"), (ErrorKind::ClockSkew, "InvalidTimeStamp.Expired")]
    {
        let once = stored(&at_rest(), &answered(ordinary(0), failed(kind, code, 400)));
        let twice = stored(&once, &answered(ordinary(0), failed(kind, code, 400)));
        assert_eq!(twice.record.last_start.as_ref().unwrap().outcome, "Rejected", "{code}");
        assert_eq!(twice.record.next_attempt_time.as_ref().unwrap().0, hence(900), "{code}");
        assert!(condition(&twice, "Stalled").is_some(), "{code}");
    }
}

#[test]
fn a_refused_start_is_stalled_and_tried_again_slowly_or_at_once_after_a_change() {
    for (seen, record, column) in both() {
        for (kind, code, status, reason) in [
            (ErrorKind::Invalid, "InvalidParameter", 400, Reason::StartRejected),
            (ErrorKind::Denied, "Forbidden.RAM", 403, Reason::AccessDenied),
            (ErrorKind::NotFound, "500130", 404, Reason::JobNotFound),
        ] {
            let next = stored(&seen, &answered(record.clone(), failed(kind, code, status)));
            let last = next.record.last_start.as_ref().unwrap();
            assert_eq!(
                (last.outcome.as_str(), last.error.as_deref(), last.request_id.as_deref()),
                ("Rejected", Some(code), Some("R-9")),
                "{column}"
            );
            assert_eq!(ready(&next), (ConditionStatus::False, reason), "{column}");
            assert_eq!(condition(&next, "Stalled"), Some((ConditionStatus::True, reason)), "{column}");
            assert_eq!(condition(&next, "Started"), Some((ConditionStatus::False, reason)), "{column}");
            assert_eq!(next.record.applied, None, "{column}: it is still asked for");
            assert_eq!(start_of(&next), None, "{column}: not before 15 minutes");
            let later = next.clone().with(|o| o.record.next_attempt_time = Some(whole_seconds(ago(1))));
            assert!(start_of(&later).is_some(), "{column}: a refusal is never for ever");
            for change in [
                |o: &mut Observed| o.object.generation += 1,
                |o: &mut Observed| o.annotations.rerun = Some("new".to_owned()),
                |o: &mut Observed| o.key = Key::Ready { id: "LTAI".to_owned(), version: "s2".to_owned() },
                |o: &mut Observed| {
                    o.account = Account::Found {
                        region: job().region,
                        version: "a2".to_owned(),
                        service: SERVICE.to_owned(),
                        projects: vec![],
                    };
                },
            ] {
                assert!(start_of(&next.clone().with(change)).is_some(), "{column}: a change ends the slow retry");
            }
        }
    }
}

#[test]
fn no_change_shortens_a_backoff() {
    let failed = Seen::Failed(look_failed(ErrorKind::Server, "InternalError.System", 500));
    let seen = observed().turn(Turn::Held(Lane::Look));
    let next = stored(&seen, &Outcome::Done);
    let looked = next.looked(0, failed).turn(Turn::Held(Lane::Look));
    let waiting = stored(&with_plan_of(&seen, &looked), &Outcome::Looked);
    assert!(waiting.record.next_attempt_time.is_some());
    for change in [
        |o: &mut Observed| o.object.generation += 1,
        |o: &mut Observed| o.annotations.rerun = Some("new".to_owned()),
        |o: &mut Observed| o.key = Key::Ready { id: "LTAI".to_owned(), version: "s2".to_owned() },
    ] {
        assert_eq!(decide(&waiting.clone().with(change), now()).action, Action::Nothing);
    }
}

/// `after`, as if decided on `before`: the reading came in between.
fn with_plan_of(before: &Observed, after: &Observed) -> Observed {
    assert!(matches!(decide(before, now()).action, Action::Look(_)));
    after.clone()
}

#[test]
fn a_wait_of_another_clock_is_cut_to_the_longest_of_ours() {
    let refusal = failed(ErrorKind::Invalid, "InvalidParameter", 400);
    let next = stored(&at_rest(), &answered(ordinary(0), refusal));
    let far = next.with(|o| o.record.next_attempt_time = Some(whole_seconds(hence(86_400))));
    assert_eq!(stored(&far, &Outcome::Done).record.next_attempt_time, Some(whole_seconds(hence(900))));
}

#[test]
fn an_answer_that_does_not_say_leaves_the_start_unknown() {
    for (seen, record, column) in both() {
        for (answer, answered) in [
            (silence(), false),
            (server(), true),
            (failed(ErrorKind::NonceUsed, "SignatureNonceUsed", 400), true),
            (failed(ErrorKind::CallerUnknown, "InternalError.UserId.Missing", 500), true),
        ] {
            let next = sent(&seen, record.clone(), answer);
            let pending = next.record.pending_start.as_ref().unwrap();
            assert_eq!((pending.answered, pending.attempt), (answered, 1), "{column}");
            assert_eq!(next.record.open_until, Some(whole_seconds(hence(900))), "{column}");
            assert_eq!((&next.record.applied, &next.record.last_start), (&None, &None), "{column}");
            assert_eq!(condition(&next, "Started"), Some((ConditionStatus::Unknown, Reason::ResolvingStart)));
            assert_eq!(start_of(&next), None, "{column}: not at once");
        }
    }
}

#[test]
fn nonce_used_is_no_rejection() {
    let next = sent(&at_rest(), ordinary(0), failed(ErrorKind::NonceUsed, "SignatureNonceUsed", 400));
    assert_eq!(ready(&next), (ConditionStatus::False, Reason::ResolvingStart));
    let looked = next.called(40).cloud(STOPPED, Some(100));
    let again = start_of(&looked).unwrap();
    assert_ne!(again.nonce, "first-nonce", "that nonce is used up");
    assert_eq!((again.attempt, again.signed_time), (2, whole_seconds(now())));
}

#[test]
fn credentials_without_a_user_stall_at_once_and_the_start_stays_unknown() {
    for (seen, record, column) in both() {
        let next = sent(&seen, record, failed(ErrorKind::CallerUnknown, "InternalError.UserId.Missing", 500));
        assert_eq!(ready(&next), (ConditionStatus::False, Reason::CallerUnknown), "{column}");
        assert_eq!(condition(&next, "Stalled"), Some((ConditionStatus::True, Reason::CallerUnknown)), "{column}");
        assert!(next.record.pending_start.is_some(), "{column}");
    }
}

#[test]
fn no_resend_before_the_settle_time() {
    let at = |called: i64, looked: i64| {
        decide(&unresolved(ordinary(300), called).looked(looked, saw(STOPPED, Some(100))), now())
    };
    assert_eq!(at(29, 1), until(closing_at(300), hence(1)));
    assert_eq!(at(31, 2).action, Action::TakeTurn(Lane::Look), "the look came too early to say anything");
    assert_eq!(at(31, 1).action, Action::Start(Box::new(ordinary(300).tap(|p| p.attempt = 2))));
    assert_eq!(at(300, 61).action, Action::TakeTurn(Lane::Look), "a minute later the look says nothing any more");
}

#[test]
fn resends_without_an_answer_come_ever_more_rarely() {
    for (attempt, wait) in [(1, 30), (2, 60), (3, 120), (4, 240), (5, 300), (i64::MAX, 300)] {
        let at = |called: i64| {
            let pending = ordinary(300).tap(|p| p.attempt = attempt);
            decide(&unresolved(pending, called).looked(0, saw(STOPPED, Some(100))), now())
        };
        assert_eq!(at(wait - 1).wait, Wait::Until(hence(1)));
        assert!(!matches!(at(wait - 1).action, Action::Start(_)), "attempt {attempt}, {wait} s");
        assert!(matches!(at(wait).action, Action::Start(_)), "attempt {attempt}, {wait} s");
    }
}

#[test]
fn a_resend_within_ten_minutes_bears_the_same_nonce() {
    let at = |signed: i64| start_of(&unresolved(ordinary(signed), 40).cloud(STOPPED, Some(100))).unwrap();
    assert_eq!(at(599), ordinary(599).tap(|p| p.attempt = 2), "to the byte");
    let new = at(600);
    assert_eq!((new.nonce, new.signed_time), (observed().fresh_nonce, whole_seconds(now())));
    assert_eq!((new.id, new.inputs, new.baseline_started_time), (ordinary(0).id, ordinary(0).inputs, Some(100)));
}

#[test]
fn a_signature_ages_on_the_clouds_clock() {
    let seen = unresolved(ordinary(0), 40).cloud(STOPPED, Some(100));
    let ahead = seen.with(|o| o.cloud_offset = SignedDuration::from_secs(700));
    let again = start_of(&ahead).unwrap();
    assert_eq!(again.signed_time, whole_seconds(hence(700)));
    assert_eq!(decide(&ahead, now()).stance, Stance::Resolving(hence(200)));
}

#[test]
fn under_another_key_a_resend_waits_until_the_nonce_is_old() {
    let other = |o: &mut Observed| o.key = Key::Ready { id: "LTAI2".to_owned(), version: "s2".to_owned() };
    let young = unresolved(ordinary(100), 40).cloud(STOPPED, Some(100)).with(other);
    assert_eq!(decide(&young, now()), until(closing_at(100), hence(500)));
    let old = unresolved(ordinary(600), 40).cloud(STOPPED, Some(100)).with(other);
    assert_eq!(start_of(&old).unwrap().key_id, "LTAI2");
    let answered = unresolved(ordinary(100).tap(|p| p.answered = true), 40).cloud(STOPPED, Some(100)).with(other);
    assert_eq!(start_of(&answered).unwrap().key_id, "LTAI2", "an answered copy is not on its way any more");
}

#[test]
fn a_forced_start_without_an_answer_is_never_sent_again() {
    for (object, record, column) in both().into_iter().skip(1) {
        for signed in [0, 29, 31, 61, 121, 241, 481, 899, 901, 3600, 86_400] {
            for seen in [saw(STOPPED, Some(100)), saw("Failed", Some(100)), Seen::NotFound(gone())] {
                let old = record.clone().tap(|p| p.signed_time = whole_seconds(ago(signed)));
                let called = object.clone().called(signed).pending(old).looked(0, seen);
                assert_eq!(start_of(&called), None, "{column}, {signed} s");
            }
        }
    }
}

fn gone() -> Error {
    look_failed(ErrorKind::NotFound, "500130", 404)
}

#[test]
fn a_forced_start_is_looked_for_six_times_and_closed_when_its_signature_has_expired() {
    let at = |signed: i64, looked_at: Option<i64>| {
        let seen = unresolved(forced(signed), signed).force().turn(Turn::Held(Lane::Look));
        decide(&looked_at.map_or(seen.clone(), |at| seen.looked(signed - at, saw(STOPPED, Some(100)))), now())
    };
    let mut before = None;
    for step in [30, 60, 120, 240, 480, 900] {
        assert_eq!(at(step - 1, before), until(closing_at(step - 1), hence(1)), "before {step} s");
        assert_eq!(at(step, before), look(closing_at(step)), "at {step} s");
        before = Some(step);
    }
    assert_eq!(at(900, Some(900)), settle(Verdict::Unknown));
    let failing = unresolved(forced(950), 950).force().looked(1, Seen::Failed(look_failed(ErrorKind::Server, "", 500)));
    assert_eq!(decide(&failing, now()).action, Action::TakeTurn(Lane::Look), "a look that failed saw nothing");
}

/// A forced start whose matter was closed as unknown.
pub fn unknown(object: Observed, record: PendingStart) -> Observed {
    let expired = record.tap(|p| p.signed_time = whole_seconds(ago(901)));
    stored(&object.called(901).pending(expired).looked(0, saw(STOPPED, Some(100))), &Outcome::Done)
}

#[test]
fn an_unknown_start_is_stalled_until_a_person_or_a_late_sign_decides() {
    let seen = unknown(observed().force(), forced(0));
    assert_eq!(seen.record.last_start.as_ref().unwrap().outcome, "Unknown");
    assert_eq!(ready(&seen), (ConditionStatus::False, Reason::StartOutcomeUnknown));
    assert_eq!(condition(&seen, "Stalled"), Some((ConditionStatus::True, Reason::StartOutcomeUnknown)));
    assert_eq!(condition(&seen, "Started"), Some((ConditionStatus::Unknown, Reason::StartOutcomeUnknown)));
    assert_eq!(seen.record.open_until, Some(whole_seconds(ago(1))));
    assert!(matches!(decide(&seen, now()).wait, Wait::Until(_)), "it is looked for further, ever more rarely");
    let late = seen.clone().cloud("Running", Some(200));
    assert_eq!(decide(&late, now()), settle(Verdict::Confirmed));
    let confirmed = stored(&late, &Outcome::Done);
    assert_eq!(ready(&confirmed), (ConditionStatus::True, Reason::JobRunning));
    assert!(!confirmed.record.applied.unwrap().uncertain);
    assert!(start_of(&seen.token("new").cloud(STOPPED, Some(100))).is_some(), "a new token starts it");
}

#[test]
fn after_an_unknown_forced_start_a_revert_closes_the_matter() {
    let before = observed().settled();
    let edited = before.clone().with(|o| {
        o.object.generation = 4;
        o.spec.force_to_rerun = true;
    });
    let seen = unknown(edited, forced(0).tap(|p| p.trigger = "SpecChange".to_owned()));
    let reverted = seen.with(|o| {
        o.object.generation = 5;
        o.spec.force_to_rerun = false;
    });
    assert_eq!(decide(&reverted, now()).action, Action::Tidy);
    assert!(!stored(&reverted, &Outcome::Done).record.applied.unwrap().uncertain);
}

#[test]
fn tidying_up_after_an_unknown_forced_start_starts_nothing() {
    let rerun = |p: PendingStart| {
        p.tap(|p| {
            p.trigger = "Rerun".to_owned();
            p.rerun_tokens = vec!["t".to_owned()];
        })
    };
    let by_token = unknown(observed().force().settled().token("t"), rerun(forced(0)));
    let by_first_apply = unknown(observed().force(), forced(0));
    for (seen, what) in [(by_token, "Rerun"), (by_first_apply, "FirstApply")] {
        let policy = seen.clone().with(|o| o.object.generation += 1);
        assert!(stored(&policy, &Outcome::Done).record.applied.unwrap().uncertain, "{what}: nothing was closed");
        let tidied = seen.with(|o| {
            o.object.generation += 1;
            o.spec.force_to_rerun = false;
        });
        assert_eq!(decide(&tidied, now()).action, Action::Tidy, "{what}");
    }
}

#[test]
fn an_ordinary_unknown_that_cannot_be_read_makes_a_later_revert_a_change() {
    let before = observed().settled();
    let edited = before.with(|o| o.object.generation = 4).failover(10);
    let record = ordinary(901).tap(|p| {
        p.trigger = "SpecChange".to_owned();
        p.inputs = inputs_of(&edited.spec);
        p.realtime_start_settings = p.inputs.realtime_start_settings.clone();
    });
    let blind = edited.called(901).pending(record).looked(0, Seen::Refused(look_failed(ErrorKind::Denied, "", 403)));
    let seen = stored(&blind, &Outcome::Done);
    assert_eq!(ready(&seen), (ConditionStatus::False, Reason::StartOutcomeUnknown));
    let reverted = seen.with(|o| {
        o.object.generation = 5;
        o.spec.realtime_start_settings = None;
    });
    let again = start_of(&reverted.cloud(STOPPED, Some(100))).unwrap();
    assert_eq!((again.trigger.as_str(), again.realtime_start_settings), ("SpecChange", None));
}

#[test]
fn a_replaced_spec_is_not_sent() {
    let looked = || unresolved(ordinary(40), 40).cloud(STOPPED, Some(100));
    let moved = |o: &mut Observed| {
        o.account = Account::Found {
            region: "cn-beijing".to_owned(),
            version: "a2".to_owned(),
            service: SERVICE.to_owned(),
            projects: vec![],
        };
    };
    let withdrawn = |o: &mut Observed| o.record.pending_start.as_mut().unwrap().rerun_tokens = vec!["t".to_owned()];
    for (why, edit) in [
        ("other inputs", (|o| o.spec.force_to_rerun = true) as fn(&mut Observed)),
        ("another job", |o| o.spec.di_job_id = 5),
        ("a token withdrawn", withdrawn),
        ("Hold since", |o| o.spec.on_unknown = dijob_operator::api::OnUnknown::Hold),
        ("suspended since", |o| o.spec.suspend = true),
        ("being deleted", |o| o.object.deleting = true),
        ("another region", moved),
    ] {
        let seen = looked().with(edit);
        assert_eq!(start_of(&seen), None, "{why}");
    }
}

#[test]
fn suspend_before_the_commit_stops_the_call_and_the_unknown_start_waits_visibly() {
    assert_eq!(start_of(&at_rest().suspended()), None);
    let seen = unresolved(ordinary(901), 901).suspended().cloud(STOPPED, Some(100));
    check(vec![Row { why: "over", seen: seen.clone(), plan: rest(Stance::Suspended(Trigger::FirstApply)) }]);
    let waiting = stored(&seen, &Outcome::Done);
    assert_eq!(ready(&waiting), (ConditionStatus::False, Reason::Suspended));
    assert!(start_of(&waiting.with(|o| o.spec.suspend = false)).is_some());
}

#[test]
fn resolution_reads_the_job_that_the_record_names() {
    let there = JobRef { di_job_id: 5, ..job() };
    let record = ordinary(40).tap(|p| p.di_job_id = 5);
    let seen = unresolved(record, 40).turn(Turn::Held(Lane::Look));
    assert_eq!(decide(&seen, now()).action, Action::Look(there.clone()));
    let sign = seen.with(|o| o.reading = Some(Reading { job: there, at: ago(1), seen: saw("Running", Some(200)) }));
    assert_eq!(decide(&sign, now()), settle(Verdict::Confirmed));
    let other = unresolved(ordinary(40).tap(|p| p.di_job_id = 5), 40).cloud("Running", Some(200));
    assert_ne!(decide(&other, now()), settle(Verdict::Confirmed), "a look at another job proves nothing");
}
