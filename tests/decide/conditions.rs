//! What status says of how things stand.

use dijob_operator::api::condition::Condition;
use dijob_operator::plan::problem::{Face, Problem, retry_after};

use super::*;

fn says(seen: &Observed) -> Observed {
    stored(seen, &Outcome::Done)
}

#[test]
fn a_fresh_object_is_never_green() {
    let seen = says(&observed());
    assert_eq!(ready(&seen), (ConditionStatus::False, Reason::StartDue));
    assert_eq!(condition(&seen, "Reconciling"), Some((ConditionStatus::True, Reason::StartDue)));
    assert_eq!(condition(&seen, "Started"), None, "before the first trigger");
    assert_eq!(condition(&seen, "Observed"), None, "before the first look");
    assert_eq!(seen.record.observed_generation, 3);
}

#[test]
fn ready_says_how_the_job_stands() {
    let settled = |word: &str| says(&observed().settled().with(|o| o.record.job_status = Some(word.to_owned())));
    for (word, status, reason) in [
        ("Running", ConditionStatus::True, Reason::JobRunning),
        ("Finished", ConditionStatus::True, Reason::JobFinished),
        ("Failed", ConditionStatus::False, Reason::JobFailed),
        ("Odd", ConditionStatus::Unknown, Reason::UnknownJobStatus),
    ] {
        let timed_out =
            |o: &mut Observed| o.record.last_start.as_mut().unwrap().confirmation = Some("TimedOut".to_owned());
        assert_eq!(ready(&says(&settled(word).with(timed_out))), (status, reason), "{word}");
    }
    let failed = observed().settled().with(|o| {
        o.record.job_status = Some("Failed".to_owned());
        o.record.job_error = Some("table orders is gone".to_owned());
    });
    assert!(message(&says(&failed), "Ready").contains("table orders is gone"));
}

fn message(seen: &Observed, type_: &str) -> String {
    seen.conditions.iter().find(|c| c.type_ == type_).map(|c: &Condition| c.message.clone()).unwrap_or_default()
}

#[test]
fn suspend_has_no_companion_and_with_nothing_due_leaves_ready_as_it_is() {
    let due = says(&at_rest().suspended());
    assert_eq!(ready(&due), (ConditionStatus::False, Reason::Suspended));
    assert_eq!((condition(&due, "Reconciling"), condition(&due, "Stalled")), (None, None));
    let nothing_due = says(&observed().settled().suspended());
    assert_eq!(ready(&nothing_due), (ConditionStatus::True, Reason::JobRunning));
    assert!(message(&nothing_due, "Ready").contains("suspended"));
}

#[test]
fn a_key_that_sts_does_not_lend_is_told_by_what_sts_says_and_without_grace() {
    let rows = [
        (ErrorKind::Denied, "EntityNotExist.Role", Reason::AccessDenied, "correct roleArn"),
        (ErrorKind::Denied, "NoPermission", Reason::AccessDenied, "trust policy"),
        (ErrorKind::Denied, "AuthenticationFail.NoPermission", Reason::AccessDenied, "the ServiceAccount"),
        (ErrorKind::Denied, "AuthenticationFail.OIDCToken.AudienceNotMatch", Reason::AccessDenied, "(client ID)"),
        (ErrorKind::Denied, "InvalidAccessKeyId.NotFound", Reason::AccessDenied, "correct the Secret"),
        (ErrorKind::Denied, "SignatureDoesNotMatch", Reason::AccessDenied, "does not fit its ID"),
        (ErrorKind::Invalid, "InvalidParameter.RoleArn", Reason::AccessDenied, "what the account's credentials say"),
        (ErrorKind::NotFound, "500130", Reason::AccessDenied, "what the account's credentials say"),
        (ErrorKind::Expired, "InvalidSecurityToken.Expired", Reason::CredentialsExpired, "into the Secret"),
        (ErrorKind::ClockSkew, "InvalidTimeStamp.Expired", Reason::ClockSkew, "clock"),
        (ErrorKind::CallerUnknown, "InternalError.UserId.Missing", Reason::CallerUnknown, "RAM user"),
        (ErrorKind::Throttled, "Throttling", Reason::CloudUnavailable, "asked again"),
        (ErrorKind::DailyLimit, "Throttling", Reason::CloudUnavailable, "asked again"),
        (ErrorKind::NonceUsed, "SignatureNonceUsed", Reason::CloudUnavailable, "asked again"),
        (ErrorKind::Server, "InternalError", Reason::CloudUnavailable, "asked again"),
    ];
    for (operation, (kind, code, reason, hint)) in
        [Operation::AssumeRole, Operation::AssumeRoleWithOidc].into_iter().flat_map(|o| rows.map(|row| (o, row)))
    {
        let error = refused(operation, kind, code, 400);
        let passes = reason == Reason::CloudUnavailable;
        let seen = at_rest().with(|o| (o.key, o.missing_since) = (Key::Refused(error.clone()), Some(ago(1))));
        let plan = decide(&seen, now());
        assert_eq!((plan.action, plan.wait), (Action::Nothing, Wait::Until(hence(5))), "{code}");
        let said = says(&seen);
        assert_eq!(ready(&said), (ConditionStatus::False, reason), "{code}");
        let companion = if passes { "Reconciling" } else { "Stalled" };
        assert_eq!(condition(&said, companion), Some((ConditionStatus::True, reason)), "{code}");
        let text = message(&said, "Ready");
        assert!(text.starts_with(&format!("{operation} failed: {code}")) && text.contains(hint), "{text}");
    }
}

#[test]
fn a_missing_account_or_key_is_stalled_only_after_the_grace() {
    let no_account = |o: &mut Observed| o.account = Account::Absent;
    let no_key = |o: &mut Observed| o.key = Key::Missing("Secret prod does not exist".to_owned());
    let cases = [(no_account as fn(&mut Observed), Reason::AccountNotFound), (no_key, Reason::CredentialsMissing)];
    for (missing, reason) in cases {
        for (seconds, stalled, again) in [(0, false, 5), (118, false, 2), (120, true, 5), (601, true, 30)] {
            let seen = observed().with(missing).with(|o| o.missing_since = Some(ago(seconds)));
            assert_eq!(decide(&seen, now()).wait, Wait::Until(hence(again)), "{reason:?} {seconds} s");
            let seen = says(&seen);
            assert_eq!(ready(&seen), (ConditionStatus::False, reason));
            assert_eq!(condition(&seen, "Stalled").is_some(), stalled, "{reason:?} {seconds} s");
        }
        let restarted = says(&observed().with(missing).with(|o| o.missing_since = Some(ago(121))));
        let restarted = says(&restarted.with(|o| o.missing_since = Some(now())));
        assert!(condition(&restarted, "Stalled").is_some(), "{reason:?}: a restart does not lift it");
    }
    let invalid = says(&observed().with(|o| o.account = Account::Invalid("host evil is not allowed".to_owned())));
    assert_eq!(condition(&invalid, "Stalled"), Some((ConditionStatus::True, Reason::AccountInvalid)));
    assert!(message(&invalid, "Ready").contains("host evil is not allowed"));
}

#[test]
fn a_settled_job_without_its_secret_stays_as_it_is() {
    let seen = says(&observed().settled().with(|o| {
        o.key = Key::Missing("Secret prod does not exist".to_owned());
        o.missing_since = Some(ago(600));
    }));
    assert_eq!(ready(&seen), (ConditionStatus::True, Reason::JobRunning));
}

#[test]
fn throttled_is_there_while_a_wanted_call_waits() {
    let hold = |day| Some(Hold { until: hence(60), day });
    let waiting = |long| Turn::Waiting { lane: Lane::Look, long };
    for (turn, hold, reason) in [
        (waiting(false), hold(false), Some(Reason::Throttled)),
        (waiting(false), hold(true), Some(Reason::DailyLimitReached)),
        (waiting(true), None, Some(Reason::WaitingForTurn)),
        (waiting(false), None, None),
        (Turn::Uncounted(Lane::Look), None, Some(Reason::WaitingForTurn)),
    ] {
        let seen = says(&observed().turn(turn).with(|o| o.hold = hold));
        assert_eq!(condition(&seen, "Throttled"), reason.map(|r| (ConditionStatus::True, r)));
        assert_eq!(ready(&seen).1, reason.unwrap_or(Reason::StartDue), "Ready says the same");
    }
    let settled = says(&observed().settled().with(|o| o.hold = hold(true)));
    assert_eq!(condition(&settled, "Throttled"), None, "nothing of this job waits");
}

#[test]
fn who_makes_a_call_wait_is_told_and_until_when() {
    let long = Turn::Waiting { lane: Lane::Look, long: true };
    let told = |seen: &Observed| seen.conditions.iter().find(|c| c.type_ == "Throttled").unwrap().message.clone();
    let at = |until: Timestamp| Timestamp::from_second(until.as_second()).unwrap().to_string();
    let waits = |minutes: i64| observed().turn(long).with(|o| o.turn_at = Some(hence(60 * minutes)));
    let first = says(&waits(20));
    assert!(told(&first).contains("the account's own call budget"), "{}", told(&first));
    assert!(told(&first).ends_with(&at(hence(20 * 60))), "{}", told(&first));
    let after = |minutes| told(&says(&waits(minutes).with(|o| o.conditions.clone_from(&first.conditions))));
    assert_eq!((after(16), after(25)), (told(&first), told(&first)), "others come and go all the time");
    assert!(after(26).ends_with(&at(hence(26 * 60))), "{}", after(26));
    let uncounted = says(&observed().turn(Turn::Uncounted(Lane::Look)));
    assert!(told(&uncounted).contains("no call is made uncounted"), "{}", told(&uncounted));
    for (day, who) in [(true, "calls of the day are used up"), (false, "the cloud throttles")] {
        let held = says(&observed().turn(long).with(|o| o.hold = Some(Hold { until: hence(600), day })));
        assert!(told(&held).contains(who) && told(&held).contains(&at(hence(600))), "{}", told(&held));
    }
}

#[test]
fn a_failing_look_leaves_observed_as_it_was() {
    let read = says(&observed().settled().cloud("Running", Some(100)));
    assert_eq!(condition(&read, "Observed"), Some((ConditionStatus::True, Reason::JobRead)));
    let failing = read.looked(0, Seen::Failed(look_failed(ErrorKind::Server, "", 500)));
    assert_eq!(condition(&says(&failing), "Observed"), Some((ConditionStatus::True, Reason::JobRead)));
}

#[test]
fn the_transition_time_moves_only_with_the_status() {
    let first = says(&observed());
    let later = hence(60);
    let next =
        next_status(&first.clone().suspended(), &decide(&first.clone().suspended(), later), &Outcome::Done, later);
    assert_eq!(next.status.conditions[0].last_transition_time, first.conditions[0].last_transition_time);
    assert_eq!(next.status.conditions[0].reason, "Suspended");
    let green = observed().settled().with(|o| o.conditions.clone_from(&first.conditions));
    let next = next_status(&green, &decide(&green, later), &Outcome::Done, later);
    assert_eq!(next.status.conditions[0].last_transition_time, whole_seconds(later));
}

#[test]
fn a_withdrawn_request_leaves_no_retry_behind() {
    let asked = observed().settled().token("t").cloud("Running", Some(100));
    let record = start_of(&asked).unwrap();
    let refused = stored(&asked, &answered(record, failed(ErrorKind::Invalid, "InvalidParameter", 400)));
    assert_eq!(condition(&refused, "Stalled"), Some((ConditionStatus::True, Reason::StartRejected)));
    let withdrawn = says(&refused.with(|o| o.annotations.rerun = None));
    assert_eq!(ready(&withdrawn), (ConditionStatus::True, Reason::JobRunning));
    assert_eq!((withdrawn.record.attempts, &withdrawn.record.next_attempt_time), (0, &None));
    assert_eq!(condition(&withdrawn, "Started"), Some((ConditionStatus::False, Reason::StartRejected)));
}

#[test]
fn a_job_that_is_gone_is_said_to_be_gone() {
    let gone = || Seen::NotFound(look_failed(ErrorKind::NotFound, "500130", 404));
    let before = observed().turn(Turn::Held(Lane::Look));
    let next = next_status(&before.clone().looked(0, gone()), &decide(&before, now()), &Outcome::Looked, now()).status;
    status_laws(&next).unwrap();
    assert_eq!(next.conditions[0].reason, "JobNotFound");
    assert_eq!(next.next_attempt_time, Some(whole_seconds(hence(900))));
    assert!(next.conditions[0].message.contains("diJobId"), "{}", next.conditions[0].message);
}

#[test]
fn every_kind_of_error_has_its_reason_hint_and_retry() {
    use ErrorKind::{
        CallerUnknown, ClockSkew, DailyLimit, Denied, Expired, Invalid, NonceUsed, NotFound, Server, Throttled,
    };
    let slow = Some(900);
    let rows = [
        (Throttled, "Throttling.User", 429, Reason::Throttled, "in its turn", false, false, None),
        (DailyLimit, "Throttling.Api", 429, Reason::DailyLimitReached, "midnight, UTC+8", true, false, None),
        (Denied, "Forbidden.Access", 403, Reason::AccessDenied, "check the edition", true, true, slow),
        (Denied, "Forbidden.RAM", 403, Reason::AccessDenied, "RAM user", true, true, slow),
        (Denied, "403030", 403, Reason::AccessDenied, "member of the workspace", true, true, slow),
        (Denied, "InvalidAccessKeyId.NotFound", 404, Reason::AccessDenied, "AccessKey ID", true, true, slow),
        (Denied, "SignatureDoesNotMatch", 400, Reason::AccessDenied, "AccessKey secret", true, true, slow),
        (Expired, "InvalidSecurityToken.Expired", 400, Reason::CredentialsExpired, "has not expired", true, true, None),
        (ClockSkew, "InvalidTimeStamp.Expired", 400, Reason::ClockSkew, "clock of the node", true, true, None),
        (NotFound, "500130", 404, Reason::JobNotFound, "spec.diJobId", true, true, slow),
        (Invalid, "InvalidParameter", 400, Reason::StartRejected, "correct the spec", true, true, slow),
        (NonceUsed, "SignatureNonceUsed", 400, Reason::ResolvingStart, "effect is looked for", false, false, Some(1)),
        (Server, "InternalError.System", 500, Reason::CloudUnavailable, "backoff", false, false, Some(1)),
        (
            CallerUnknown,
            "InternalError.UserId.Missing",
            500,
            Reason::CallerUnknown,
            "key of a RAM user",
            true,
            true,
            slow,
        ),
    ];
    for (kind, code, status, reason, hint, warning, person, retry) in rows {
        let error = refused(Operation::StartDiJob, kind, code, status);
        let problem = Problem::of(&error);
        let face = problem.face();
        assert!(face.message.contains(hint) && face.message.contains(code), "{code}: {}", face.message);
        assert!(face.message.contains("R-9") && face.message.starts_with("StartDIJob failed"), "{code}");
        assert_eq!(face, Face { reason, message: face.message.clone(), warning }, "{code}");
        assert_eq!(problem.needs_a_person(), person, "{code}");
        let wait = retry_after(&error, None, 1, 0.5).map(|w| w.as_secs());
        assert_eq!(wait, retry, "{code}");
    }
}

#[test]
fn an_event_tells_each_outcome_once() {
    let seen = at_rest();
    let told = |before: &Observed, outcome: &Outcome| {
        let plan = decide(before, now());
        let next = after(before, outcome).status;
        notice::notices(before, &plan.action, &next).into_iter().map(|n| (n.warning, n.reason)).collect::<Vec<_>>()
    };
    let record = start_of(&seen).unwrap();
    assert_eq!(told(&seen, &answered(record.clone(), accepted())), [(false, Reason::StartAccepted)]);
    let refusal = || answered(record.clone(), failed(ErrorKind::Invalid, "InvalidParameter", 400));
    assert_eq!(told(&seen, &refusal()), [(true, Reason::StartRejected)]);
    assert_eq!(told(&stored(&seen, &refusal()), &refusal()), [], "the slow retry is no news");
    assert_eq!(told(&observed().cloud("Running", None), &Outcome::Done), [(false, Reason::Adopted)]);
    let unknown = unresolved(forced(901), 890).force().cloud(STOPPED, Some(100));
    assert_eq!(told(&unknown, &Outcome::Done), [(true, Reason::StartOutcomeUnknown)]);
    let settled = says(&observed().settled());
    assert_eq!(told(&settled, &Outcome::Done), []);
}

#[test]
fn a_look_that_is_refused_once_more_is_no_news() {
    let refused_as = |id: &str| {
        let error = look_failed(ErrorKind::Denied, "Forbidden.RAM", 403);
        Seen::Refused(Error { request_id: Some(id.to_owned()), ..error })
    };
    let first = says(&observed().settled().looked(0, refused_as("R-1")));
    let second = says(&first.clone().looked(0, refused_as("R-2")));
    assert_eq!((first.record, first.conditions), (second.record, second.conditions));
}
