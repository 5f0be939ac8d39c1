//! What people are told, word for word: messages of conditions, notes of events.

use dijob_operator::api::LastError;
use dijob_operator::plan::notice::{Notice, notices};

use super::*;

fn told_as(seen: &Observed, type_: &str) -> Option<(ConditionStatus, Reason, String)> {
    let found = seen.conditions.iter().find(|c| c.type_ == type_)?;
    Some((found.status, reason_of(&found.reason).unwrap(), found.message.clone()))
}

fn ready_says(seen: &Observed) -> String {
    told_as(&stored(seen, &Outcome::Done), "Ready").unwrap().2
}

/// The same with a code and a message of the cloud's, or without an answer.
fn failure(operation: Operation, code: Option<&str>, message: Option<&str>) -> LastError {
    LastError {
        code: code.map(str::to_owned),
        message: message.map(str::to_owned),
        request_id: code.map(|_| "R-9".to_owned()),
        http_status: code.map(|_| 500),
        ..last_error(operation, 500)
    }
}

#[test]
fn a_start_of_unknown_outcome_says_why_and_what_comes() {
    let after =
        |record: PendingStart, error: Option<LastError>| unresolved(record, 10).with(|o| o.record.last_error = error);
    let again = "its effect is looked for, and it is sent again if there is none";
    let never = "its effect is looked for until 2026-11-24T12:14:50Z, and it is never sent twice";
    let unread = "the job cannot be read, so its effect cannot be seen, and it is not sent again";
    let sent = "StartDIJob may have been sent, and its answer is not known";
    let no_answer = failure(Operation::StartDiJob, None, None);
    let silent = failure(Operation::StartDiJob, None, Some("timed out"));
    let broken = failure(Operation::StartDiJob, Some("InternalError"), Some("said the cloud"));
    let of_a_look = failure(Operation::GetDiJob, Some("InternalError"), None);
    let refused = Seen::Refused(look_failed(ErrorKind::Denied, "Forbidden.RAM", 403));
    let rows = vec![
        (after(ordinary(10), None), format!("{sent}; {again}")),
        (after(ordinary(10), Some(of_a_look)), format!("{sent}; {again}")),
        (after(ordinary(10), Some(no_answer)), format!("whether StartDIJob ran is not known (no answer); {again}")),
        (after(ordinary(10), Some(silent)), format!("whether StartDIJob ran is not known (timed out); {again}")),
        (
            after(ordinary(10), Some(broken)),
            format!("whether StartDIJob ran is not known (InternalError, RequestId R-9); {again}"),
        ),
        (after(forced(10), None).force(), format!("{sent}; {never}")),
        (after(ordinary(10), None).hold_unknown(), format!("{sent}; {never}")),
        (after(ordinary(10), None).looked(1, refused), format!("{sent}; {unread}")),
    ];
    for (seen, message) in rows {
        let seen = stored(&seen, &Outcome::Done);
        assert_eq!(told_as(&seen, "Ready"), Some((ConditionStatus::False, Reason::ResolvingStart, message)));
        let started = (ConditionStatus::Unknown, Reason::ResolvingStart, "a start has no answer yet".to_owned());
        assert_eq!(told_as(&seen, "Started"), Some(started));
    }
}

#[test]
fn a_start_that_is_being_sent_says_so_and_leaves_what_the_last_one_was() {
    let seen = observed().edited(|s| s.force_to_rerun = true).cloud(STOPPED, Some(100)).called(200);
    let intended = stored(&seen, &Outcome::Intended(Box::new(start_of(&seen).unwrap())));
    let sends = (ConditionStatus::False, Reason::Starting, "StartDIJob is being sent (SpecChange)".to_owned());
    assert_eq!(told_as(&intended, "Ready"), Some(sends));
    let before = "seen to have started: FirstApply, RequestId R-1".to_owned();
    assert_eq!(told_as(&intended, "Started"), Some((ConditionStatus::True, Reason::StartConfirmed, before)));
}

#[test]
fn what_became_of_the_last_start_is_told_with_its_request_id() {
    let after = |outcome: &str, id: Option<&str>, error| {
        let seen = observed().settled().called(1).with(|o| {
            o.record.last_start = Some(last(outcome));
            o.record.last_start.as_mut().unwrap().request_id = id.map(str::to_owned);
            o.record.last_error = error;
            o.record.next_attempt_time = Some(whole_seconds(hence(600)));
        });
        stored(&seen, &Outcome::Done)
    };
    let denied = LastError { http_status: Some(403), ..failure(Operation::StartDiJob, Some("Forbidden.RAM"), None) };
    let of_a_look = LastError { operation: "GetDIJob".to_owned(), ..denied.clone() };
    let id = Some("R-1");
    let rows = [
        (
            after("Accepted", id, None),
            ConditionStatus::True,
            Reason::StartAccepted,
            "accepted: FirstApply, RequestId R-1",
        ),
        (after("Accepted", None, None), ConditionStatus::True, Reason::StartAccepted, "accepted: FirstApply"),
        (
            after("Rejected", id, None),
            ConditionStatus::False,
            Reason::StartRejected,
            "refused: FirstApply, RequestId R-1",
        ),
        (after("Unknown", None, None), ConditionStatus::Unknown, Reason::StartOutcomeUnknown, "no answer: FirstApply"),
    ];
    for (seen, status, reason, message) in rows {
        assert_eq!(told_as(&seen, "Started"), Some((status, reason, message.to_owned())));
    }
    // A refusal is told by its own name as long as it is the last failure; one of a look is not its name.
    let due = |error| {
        let seen = observed().settled().token("new").with(|o| {
            o.record.last_start = Some(last("Rejected"));
            o.record.last_error = Some(error);
        });
        told_as(&stored(&seen.with(|o| o.record.handled_rerun_tokens.clear()), &Outcome::Done), "Started").unwrap().1
    };
    assert_eq!(due(denied), Reason::AccessDenied);
    assert_eq!(due(of_a_look), Reason::StartRejected);
    let confirming = told_as(&after("Accepted", id, None), "Ready").unwrap();
    let waits = "StartDIJob was accepted, RequestId R-1; waiting to see the job run".to_owned();
    assert_eq!(confirming, (ConditionStatus::False, Reason::Confirming, waits));
}

#[test]
fn a_job_at_rest_is_told_as_it_stands_and_whose_doing_it_is() {
    let stands = |word: &str, ours: bool| {
        let seen = observed().settled().with(|o| {
            o.record.job_status = Some(word.to_owned());
            if !ours {
                o.record.last_start = None;
            }
        });
        told_as(&stored(&seen, &Outcome::Done), "Ready").unwrap()
    };
    let rows = [
        ("Running", true, ConditionStatus::True, Reason::JobRunning, "the job runs"),
        ("Running", false, ConditionStatus::True, Reason::Adopted, "the job was already running; nothing was started"),
        ("Finished", true, ConditionStatus::True, Reason::JobFinished, "the job has finished"),
        (
            "Finished",
            false,
            ConditionStatus::True,
            Reason::Adopted,
            "the job had already finished; nothing was started",
        ),
        (
            "Stopped",
            false,
            ConditionStatus::False,
            Reason::NotRunning,
            "the job does not run: DataWorks says Stopped; look at it there, then set a new rerun token to start it",
        ),
        (
            "Odd",
            false,
            ConditionStatus::Unknown,
            Reason::UnknownJobStatus,
            "DataWorks says Odd, a status that this operator does not know",
        ),
    ];
    for (word, ours, status, reason, message) in rows {
        assert_eq!(stands(word, ours), (status, reason, message.to_owned()), "{word}");
    }
}

#[test]
fn a_wait_is_told_with_its_end_and_what_ends_it_sooner() {
    let refused = at_rest().with(|o| {
        let error = failure(Operation::StartDiJob, Some("InvalidParameter"), Some("no such table"));
        o.record.last_error = Some(LastError { http_status: Some(400), ..error });
        o.record.next_attempt_time = Some(whole_seconds(hence(600)));
        o.record.attempts = 1;
    });
    let fact = "StartDIJob failed: InvalidParameter: no such table (RequestId R-9); correct the spec, or mend the job in DataWorks";
    let sooner = "or at once when the spec, the account or its Secret changes";
    assert_eq!(ready_says(&refused), format!("{fact}. Next attempt 2026-11-24T12:10:00Z, {sooner}"));
    let failing = refused.with(|o| {
        let error = failure(Operation::StartDiJob, Some("InternalError"), None);
        o.record.last_error = Some(error);
    });
    let fact = "StartDIJob failed: InternalError (RequestId R-9); it is tried again with backoff";
    assert_eq!(ready_says(&failing), format!("{fact}. Next attempt 2026-11-24T12:10:00Z"));
    let held = |day| {
        observed().turn(Turn::Waiting { lane: Lane::Look, long: false }).with(|o| {
            o.hold = Some(Hold { until: hence(60), day });
        })
    };
    let day = "the account's calls of the day are used up; calls go on 2026-11-24T12:01:00Z";
    let pause = "the cloud throttles the account; calls pause until 2026-11-24T12:01:00Z, and this one keeps its place";
    for (seen, message) in [(held(true), day), (held(false), pause)] {
        let throttled = told_as(&stored(&seen, &Outcome::Done), "Throttled").unwrap().2;
        assert_eq!(
            (throttled.as_str(), ready_says(&seen)),
            (message, format!("a start is due (FirstApply); {message}"))
        );
    }
}

#[test]
fn a_refused_look_says_what_mends_it() {
    let observed_says = |code: Option<&str>| {
        let error = Error { code: code.map(str::to_owned), ..look_failed(ErrorKind::Denied, "", 403) };
        told_as(&stored(&observed().settled().looked(0, Seen::Refused(error)), &Outcome::Done), "Observed").unwrap().2
    };
    let refused = |what: &str, mend: &str| {
        format!("reading the job is refused ({what}): its state is not shown and starts cannot be confirmed; {mend}")
    };
    let (secret, right) = ("correct the Secret", "allow dataworks:GetDIJob to mend it");
    for (code, what, mend) in [
        (Some("InvalidAccessKeyId.NotFound"), "InvalidAccessKeyId.NotFound", secret),
        (Some("SignatureDoesNotMatch"), "SignatureDoesNotMatch", secret),
        (Some("Forbidden.RAM"), "Forbidden.RAM", right),
        (None, "HTTP 403", right),
    ] {
        assert_eq!(observed_says(code), refused(what, mend));
    }
}

#[test]
fn a_failure_is_called_by_what_failed_a_look_or_a_start() {
    let reason = |operation, kind| Problem::of(&refused(operation, kind, "Code", 400)).face().reason;
    let rows = [
        (ErrorKind::Invalid, Reason::ReadRefused, Reason::StartRejected),
        (ErrorKind::NonceUsed, Reason::CloudUnavailable, Reason::ResolvingStart),
        (ErrorKind::Server, Reason::CloudUnavailable, Reason::CloudUnavailable),
        (ErrorKind::Denied, Reason::AccessDenied, Reason::AccessDenied),
        (ErrorKind::NotFound, Reason::JobNotFound, Reason::JobNotFound),
    ];
    for (kind, look, start) in rows {
        assert_eq!((reason(Operation::GetDiJob, kind), reason(Operation::StartDiJob, kind)), (look, start), "{kind:?}");
    }
}

#[test]
fn a_note_names_trigger_tokens_and_request() {
    let note = |id: Option<&str>, tokens: &[&str], outcome: &str| {
        let before = observed().settled();
        let mut next = stored(&before, &Outcome::Done).record;
        next.last_start = Some(last(outcome));
        let last = next.last_start.as_mut().unwrap();
        last.id = "new".to_owned();
        last.request_id = id.map(str::to_owned);
        last.rerun_tokens = tokens.iter().map(|&t| t.to_owned()).collect();
        notices(&before, &Action::Nothing, &next)
    };
    let says = |warning, reason, note: &str| [Notice { warning, reason, note: note.to_owned() }];
    let accepted = "StartDIJob was accepted (FirstApply, RequestId R-7)";
    assert_eq!(note(Some("R-7"), &[], "Accepted"), says(false, Reason::StartAccepted, accepted));
    let confirmed = "the job was seen to have started (FirstApply, token a and b)";
    assert_eq!(note(None, &["a", "b"], "Confirmed"), says(false, Reason::StartConfirmed, confirmed));
    let unknown = "whether StartDIJob ran is not known, and it is not sent again: look at the job, then set a new rerun token (FirstApply)";
    assert_eq!(note(None, &[], "Unknown"), says(true, Reason::StartOutcomeUnknown, unknown));
    assert_eq!(note(Some("R-7"), &[], "Rejected"), [], "the Ready condition tells it");
}

#[test]
fn only_a_new_reason_of_ready_is_an_event_and_each_reason_one() {
    let tell = |before: &Observed, seen: &Observed| {
        let next = stored(seen, &Outcome::Done);
        let seen = seen.clone().with(|o| o.conditions.clone_from(&before.conditions));
        let told = notices(&seen, &Action::Nothing, &JobStatus { conditions: next.conditions, ..next.record });
        told.into_iter().map(|n| (n.warning, n.reason)).collect::<Vec<_>>()
    };
    let word = |word: &str| observed().settled().with(|o| o.record.job_status = Some(word.to_owned()));
    let (running, finished, failed) = (word("Running"), word("Finished"), word("Failed"));
    let shown = |seen: &Observed| stored(seen, &Outcome::Done);
    assert_eq!(tell(&shown(&running), &finished), [(false, Reason::JobFinished)]);
    assert_eq!(tell(&shown(&running), &failed), [(true, Reason::JobFailed)]);
    assert_eq!(tell(&shown(&failed), &failed), []);
    assert_eq!(tell(&shown(&failed), &running), [], "a step of ordinary work");
    assert_eq!(tell(&observed(), &failed), [(true, Reason::JobFailed)], "nothing was told before");
}

#[test]
fn a_token_that_cannot_be_one_is_told_of() {
    let tell = |token: &str| {
        let seen = observed().settled().with(|o| o.annotations.rerun = Some(token.to_owned()));
        notices(&seen, &Action::Nothing, &seen.record).into_iter().map(|n| (n.warning, n.reason)).collect::<Vec<_>>()
    };
    let ignored = [(true, Reason::RerunTokenIgnored)];
    assert_eq!((tell(""), tell("a"), tell(&"a".repeat(256))), (vec![], vec![], vec![]));
    assert_eq!((tell(&"a".repeat(257)), tell("a\nb")), (ignored.to_vec(), ignored.to_vec()));
}
