//! What an outcome changes in the record, and what it does not.

use super::resolve::{sent, server, unknown};
use super::*;

#[test]
fn a_refused_resend_does_not_clear_the_first_copy() {
    let second = || ordinary(40).tap(|p| p.attempt = 2);
    for answer in [
        failed(ErrorKind::Throttled, "Throttling.User", 429),
        failed(ErrorKind::Denied, "Forbidden.RAM", 403),
        failed(ErrorKind::Invalid, "InvalidParameter", 400),
        failed(ErrorKind::ClockSkew, "InvalidTimeStamp.Expired", 400),
        failed(ErrorKind::NonceUsed, "SignatureNonceUsed", 400),
        silence(),
        server(),
    ] {
        let next = sent(&unresolved(ordinary(40), 40).cloud(STOPPED, Some(100)), second(), answer);
        let pending = next.record.pending_start.as_ref().unwrap();
        assert_eq!((pending.attempt, pending.nonce.as_str()), (2, "first-nonce"));
        assert_eq!(next.record.last_start, None, "the trigger has no outcome yet");
    }
    let next = sent(&unresolved(ordinary(40), 40).cloud(STOPPED, Some(100)), second(), accepted());
    assert_eq!(next.record.last_start.unwrap().outcome, "Accepted", "short of this");
}

#[test]
fn an_intent_that_was_not_sent_is_withdrawn_unless_an_earlier_copy_was() {
    let withdrawn = stored(&unresolved(forced(5), 5).force().with(|o| o.never_sent = true), &Outcome::Done);
    assert_eq!(withdrawn.record.pending_start, None);
    let second = ordinary(40).tap(|p| p.attempt = 2);
    let kept = stored(&unresolved(second.clone(), 5).with(|o| o.never_sent = true), &Outcome::Done);
    assert_eq!(kept.record.pending_start, Some(second));
}

#[test]
fn the_intent_writes_nothing_but_itself() {
    let seen = at_rest().token("t");
    let record = start_of(&seen).unwrap();
    let next = after(&seen, &Outcome::Intended(Box::new(record.clone()))).status;
    assert_eq!(next.pending_start, Some(record));
    assert_eq!((next.applied, next.handled_rerun_tokens, next.last_start), (None, Vec::new(), None));
}

#[test]
fn an_outcome_is_written_from_the_record_not_from_the_object_as_it_is_by_then() {
    let record = ordinary(1).tap(|p| p.rerun_tokens = vec!["t".to_owned()]);
    let by_then = at_rest().force().token("u").with(|o| o.object.generation = 9);
    let next = after(&by_then, &answered(record, accepted())).status;
    let applied = next.applied.unwrap();
    assert_eq!((applied.generation, applied.force_to_rerun), (3, false));
    assert_eq!(next.handled_rerun_tokens, ["t"]);
}

#[test]
fn an_outcome_is_not_written_over_another_attempt() {
    let late = |attempt| Answered {
        pending: ordinary(40).tap(|p| p.attempt = attempt),
        credentials_version: "a1/s1".to_owned(),
        answer: accepted(),
    };
    let seen = unresolved(ordinary(40).tap(|p| p.attempt = 2), 40);
    let first = stored(&seen.clone().with(|o| o.unrecorded = Some(late(1))), &Outcome::Done);
    assert_eq!(first.record.pending_start, seen.record.pending_start);
    let second = stored(&seen.with(|o| o.unrecorded = Some(late(2))), &Outcome::Done);
    assert_eq!(second.record.last_start.unwrap().outcome, "Accepted");
}

/// Shortest schedule: a refused read, a commit, an answer that is none, a read of the running job.
#[test]
fn a_start_without_a_baseline_is_not_sent_again_when_the_job_can_be_read() {
    let blind = |p: &mut PendingStart| (p.baseline_started_time, p.baseline_job_status) = (None, None);
    let seen = unresolved(ordinary(40).tap(blind).tap(|p| p.answered = true), 40);
    for (word, started) in [("Running", Some(5_000)), ("Finished", Some(100)), ("Running", None)] {
        let plan = decide(&seen.clone().cloud(word, started), now());
        assert!(matches!(plan, Plan { action: Action::Nothing, stance: Stance::Resolving(_), .. }), "{plan:?}");
    }
    assert!(
        start_of(&seen.cloud(STOPPED, Some(100))).is_some(),
        "a job at rest is not started twice by a second start"
    );
}

/// Shortest schedule: commit, rotation, a refusal of the old key whose record was cut off, the record.
#[test]
fn a_refusal_recorded_late_is_not_blamed_on_what_was_mended_meanwhile() {
    let denied = || failed(ErrorKind::Denied, "InvalidAccessKeyId.NotFound", 404);
    let late = |seen: Observed| {
        let credentials_version = seen.credentials_version();
        let pending = ordinary(5).tap(|p| p.rerun_tokens = vec!["t".to_owned()]);
        seen.with(|o| o.unrecorded = Some(Answered { pending, credentials_version, answer: denied() }))
    };
    let seen = late(unresolved(ordinary(5).tap(|p| p.rerun_tokens = vec!["t".to_owned()]), 5).token("t"));
    let goes_on = |seen: Observed| start_of(&stored(&seen, &Outcome::Done).cloud(STOPPED, Some(100))).is_some();
    assert!(!goes_on(seen.clone()), "nothing changed");
    let mended: [fn(&mut Observed); 3] = [
        |o| o.key = Key::Ready { id: "LTAI".to_owned(), version: "s2".to_owned() },
        |o| o.object.generation = 4,
        |o| o.annotations.rerun = Some("u".to_owned()),
    ];
    for change in mended {
        assert!(goes_on(seen.clone().with(change)), "mended between the call and its record");
    }
}

#[test]
fn a_late_answer_to_our_own_call_upgrades_unknown() {
    let seen = unknown(observed().force(), forced(0));
    let late = |answer| {
        let credentials_version = "a1/s1".to_owned();
        seen.clone().with(|o| o.unrecorded = Some(Answered { pending: forced(901), credentials_version, answer }))
    };
    let upgraded = stored(&late(accepted()), &Outcome::Done);
    let last = upgraded.record.last_start.as_ref().unwrap();
    assert_eq!((last.outcome.as_str(), last.request_id.as_deref()), ("Accepted", Some("R-2")));
    assert!(!upgraded.record.applied.as_ref().unwrap().uncertain);
    assert_eq!(upgraded.record.history.len(), 1, "one start, one entry");
    let refused = stored(&late(failed(ErrorKind::Invalid, "InvalidParameter", 400)), &Outcome::Done);
    assert_eq!(refused.record.last_start.unwrap().outcome, "Unknown");
}

#[test]
fn a_restarted_process_looks_before_it_sends() {
    let first_seen_now = unresolved(ordinary(40), 0).looked(1, saw(STOPPED, Some(100)));
    assert_eq!(decide(&first_seen_now, now()).wait, Wait::Until(hence(30)));
}

#[test]
fn an_older_operator_leaves_a_newer_record_alone() {
    let newer = ordinary(901).tap(|p| p.protocol = 2);
    let seen = unresolved(newer, 901).cloud("Running", Some(200)).token("t").with(|o| o.object.generation = 9);
    let next = after(&seen, &Outcome::Done);
    assert!(!next.must_write);
    assert_eq!(next.status, seen.record);
}
