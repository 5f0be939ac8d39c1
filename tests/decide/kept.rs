//! What a status keeps, what it forgets, and what of it must be written at once.

use dijob_operator::plan::observed::JobRef;

use super::*;

#[test]
fn a_record_of_a_newer_protocol_keeps_its_conditions() {
    let seen = stored(&observed().settled().cloud("Running", Some(200)), &Outcome::Done);
    let foreign = seen.with(|o| o.record.pending_start = Some(PendingStart { protocol: 2, ..ordinary(10) }));
    assert!(!foreign.conditions.is_empty());
    let kept = next_status(&foreign, &decide(&foreign, now()), &Outcome::Done, now()).status;
    assert_eq!(kept.conditions, foreign.conditions);
}

#[test]
fn what_was_just_recorded_is_not_decided_on_again() {
    let late = Answered { pending: ordinary(10), credentials_version: "a1/s1".to_owned(), answer: accepted() };
    let answered = unresolved(ordinary(10), 10).with(|o| o.unrecorded = Some(late));
    assert!(matches!(after(&answered, &Outcome::Done).plan.stance, Stance::Confirming(_)));
    let unsent = unresolved(ordinary(10), 10).with(|o| o.never_sent = true);
    assert_ne!(after(&unsent, &Outcome::Done).plan.action, Action::Settle(Verdict::NotSent));
}

#[test]
fn a_status_that_holds_what_no_other_place_does_must_be_written() {
    let must = |seen: &Observed, outcome: &Outcome| after(seen, outcome).must_write;
    let starting = at_rest();
    assert!(must(&starting, &Outcome::Intended(Box::new(first()))));
    assert!(must(&starting, &Outcome::NotSent));
    assert!(must(&starting, &answered(first(), accepted())));
    let running = observed().cloud("Running", Some(100));
    assert_eq!(decide(&running, now()).action, Action::Adopt);
    assert!(must(&running, &Outcome::Done));
    assert!(!must(&observed().settled(), &Outcome::Done), "nothing has happened");
    assert!(!must(&observed().turn(Turn::Held(Lane::Look)).cloud(STOPPED, Some(100)), &Outcome::Looked));
}

#[test]
fn an_old_failure_of_a_settled_job_is_forgotten_and_not_waited_for() {
    let waits = |change: fn(&mut JobStatus)| {
        let seen = observed().settled().cloud("Running", Some(200)).with(|o| change(&mut o.record));
        let next = after(&seen, &Outcome::Done);
        assert_eq!((next.status.last_error, next.status.next_attempt_time, next.status.attempts), (None, None, 0));
        next.plan.wait
    };
    let nothing = waits(|_| ());
    assert_eq!(nothing, waits(|r| r.next_attempt_time = Some(whole_seconds(hence(100)))));
    assert_eq!(nothing, waits(|r| r.last_error = Some(last_error(Operation::StartDiJob, 500))));
    assert_eq!(nothing, waits(|r| r.attempts = 3));
}

#[test]
fn what_is_seen_of_the_job_that_a_record_names_is_told_too() {
    let job = |di_job_id| JobRef { region: job().region, di_job_id };
    let told = |di_job_id| {
        let seen = unresolved(ordinary(40), 40).with(|o| {
            o.spec.di_job_id = 8;
            o.reading = Some(Reading { job: job(di_job_id), at: ago(1), seen: saw(STOPPED, Some(100)) });
        });
        after(&seen, &Outcome::Looked).status.job_status
    };
    assert_eq!(told(11_743).as_deref(), Some(STOPPED), "the record's");
    assert_eq!(told(8).as_deref(), Some(STOPPED), "the one of spec");
    assert_eq!(told(9), None, "nobody's");
}

#[test]
fn a_look_that_succeeds_ends_the_failures_of_looks_alone() {
    let after_look = |operation: Operation| {
        let seen = unresolved(ordinary(40), 40).cloud(STOPPED, Some(100)).turn(Turn::Held(Lane::Look)).with(|o| {
            o.record.last_error = Some(last_error(operation, 500));
            o.record.attempts = 2;
        });
        let plan = look(Stance::Resolving(hence(860)));
        let status = next_status(&seen, &plan, &Outcome::Looked, now()).status;
        (status.last_error.is_some(), status.attempts)
    };
    assert_eq!(after_look(Operation::GetDiJob), (false, 0));
    assert_eq!(after_look(Operation::StartDiJob), (true, 2));
}
