//! How an account stands: facts and the status before become the status that is next, and whether that is worth a write.
//!
//! **May touch:** its arguments, like all of this module.
//!
//! **Guarantees**
//! 1. [`next_status`] is the only constructor of an account's status, and a fixed point: on its own result, with the same
//!    facts at a later time, it changes nothing.
//! 2. Ready is always there. False comes with exactly one of Reconciling and Stalled, True with neither.
//! 3. A write is called for by a condition, by a long pause that begins, ends or moves, by a block of the day's count, and
//!    by the number of jobs when a minute has passed. Pace, calls left and the last accepted call are told when something else is, never by themselves.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::backoff::SLOW;
use super::notice::Notice;
use super::observed::{Account, Key, after};
use super::problem::Problem;
use crate::api::condition::{
    Condition, ConditionStatus, ConditionType, Reason, Saying, is_ours, reason_of, set, whole_seconds,
};
use crate::api::{AccountStatus, CallsToday};
use crate::dataworks::error::{Error, ErrorKind, Operation, safe_text};
use crate::quota::{Counted, Usage};

/// A pause that is told, and by how much its end moves before that is told again.
const LONG: SignedDuration = SignedDuration::from_mins(1);
/// How often a Secret that is missing is read again, and how often after [`PATIENCE`].
const AGAIN: Duration = Duration::from_secs(5);
const SELDOM: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(600);

/// All that is looked at.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Of the account.
    pub generation: i64,
    /// What its spec means.
    pub account: Account,
    /// Its key.
    pub key: Key,
    /// Since when, in this process, the key has been missing. Never absent while it is.
    pub missing_since: Option<Timestamp>,
    /// How long a missing Secret or key counts as on its way.
    pub grace: Duration,
    /// What the cloud said of the key.
    pub answers: Answers,
    /// Its budget; absent without a key.
    pub usage: Option<Usage>,
    /// The count of the day that is to be written now, before calls go on.
    pub block: Option<Counted>,
    /// Jobs that name it.
    pub jobs: usize,
    /// Whether the last write is so long ago that the number of jobs may be told for its own sake.
    pub jobs_may_be_told: bool,
}

/// The status that is next, and what follows.
#[derive(Clone, Debug, PartialEq)]
pub struct Next {
    /// The whole status. Equal to the one before unless there is something to write.
    pub status: AccountStatus,
    /// When to look again, if nothing changes before.
    pub again: Option<Timestamp>,
    /// The event of this change.
    pub notice: Option<Notice>,
}

/// What the cloud's answers say of one key, as one generation of the account uses it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// When a call was last accepted.
    pub accepted: Option<Timestamp>,
    /// When a start was last accepted.
    started: Option<Timestamp>,
    /// The refusal that stands.
    refused: Option<Refusal>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    problem: Problem,
    /// Of the key itself, rather than of its right to start jobs.
    of_the_key: bool,
}

impl Answers {
    /// An answer came. Says whether another refusal stands now, or none any more.
    ///
    /// A right that is refused for one job while others start is that job's matter: it counts only if no start was accepted
    /// for as long as refused starts wait. Reads may be refused for good; that is told by the jobs.
    pub fn learn(&mut self, operation: Operation, error: Option<&Error>, now: Timestamp) -> bool {
        let before = self.refused.clone();
        match error.map(|e| (e, e.kind)) {
            None => {
                self.accepted = Some(now);
                let starts = operation == Operation::StartDiJob;
                if starts {
                    self.started = Some(now);
                }
                self.refused = self.refused.take().filter(|r| !r.of_the_key && !starts);
            }
            // The cloud knows the key, and says something else.
            Some((_, ErrorKind::NotFound)) => self.refused = self.refused.take().filter(|r| !r.of_the_key),
            Some((error, ErrorKind::Expired | ErrorKind::CallerUnknown)) => self.refuse(error, true),
            Some((error, ErrorKind::Denied)) => {
                let of_the_key = is_of_the_key(error);
                let since = self.started.map(|at| now.duration_since(at).unsigned_abs());
                let is_news = since.is_none_or(|since| since > SLOW);
                if of_the_key || (operation == Operation::StartDiJob && is_news) {
                    self.refuse(error, of_the_key);
                }
            }
            Some((
                _,
                ErrorKind::Throttled
                | ErrorKind::DailyLimit
                | ErrorKind::ClockSkew
                | ErrorKind::NonceUsed
                | ErrorKind::Invalid
                | ErrorKind::Server,
            )) => {}
        }
        self.refused != before
    }

    /// The first refusal for a reason stands for all: each has another RequestId, and status would be written for it.
    fn refuse(&mut self, error: &Error, of_the_key: bool) {
        let problem = Problem::of(&Error { request_id: None, ..error.clone() });
        let is_told = self.refused.as_ref().is_some_and(|r| r.problem.face().reason == problem.face().reason);
        if !is_told {
            self.refused = Some(Refusal { problem, of_the_key });
        }
    }
}

fn is_of_the_key(error: &Error) -> bool {
    let code = error.code.as_deref().unwrap_or_default();
    code.starts_with("InvalidAccessKeyId") || code.contains("Signature")
}

/// The status after `before`, with these facts.
#[must_use]
pub fn next_status(before: &AccountStatus, facts: &Facts, now: Timestamp) -> Next {
    let mut before = before.clone();
    before.conditions.retain(is_ours);
    let (saying, wake) = ready(&before, facts, now);
    let says = match saying.companion {
        None => vec![saying.ready],
        Some(type_) => {
            let companion = Saying { type_, status: ConditionStatus::True, ..saying.ready.clone() };
            vec![saying.ready, companion]
        }
    };
    let conditions = set(&before.conditions, says, facts.generation, now);
    let throttled_until = throttled(before.throttled_until.as_ref().map(|t| t.0), facts, now).map(whole_seconds);
    let jobs = i32::try_from(facts.jobs).unwrap_or(i32::MAX);
    let jobs_differ = jobs != before.jobs;
    let writes = conditions != before.conditions
        || facts.generation != before.observed_generation
        || throttled_until != before.throttled_until
        || facts.block.is_some()
        || (jobs_differ && facts.jobs_may_be_told);
    let usage = facts.usage.as_ref();
    let status = if writes {
        let counted = |c: Counted| CallsToday { day: c.day_text(), counted: i64::from(c.calls) };
        let told = AccountStatus {
            observed_generation: facts.generation,
            conditions,
            calls_today: facts.block.map(counted).or(before.calls_today.clone()),
            calls_left_today: usage.and_then(|usage| left(usage, facts.block)),
            throttled_until,
            reads_per_second: usage.map(|u| tenths(u.reads_per_second)),
            writes_per_second: usage.map(|u| tenths(u.writes_per_second)),
            last_accepted_time: facts.answers.accepted.map(whole_seconds).or(before.last_accepted_time.clone()),
            jobs,
        };
        told.bounded()
    } else {
        before.clone()
    };
    let minute = (jobs_differ && !writes).then(|| after(now, Duration::from_secs(60)));
    let hold_ends = usage.and_then(|u| u.held).map(|hold| hold.until).filter(|_| status.throttled_until.is_some());
    let again = [wake, minute, hold_ends].into_iter().flatten().min();
    let notice = notice(&before.conditions, &status.conditions);
    Next { status, again, notice }
}

struct Ready {
    ready: Saying,
    companion: Option<ConditionType>,
}

/// What Ready says, and when it says something else by itself.
fn ready(before: &AccountStatus, facts: &Facts, now: Timestamp) -> (Ready, Option<Timestamp>) {
    match (&facts.account, &facts.key, &facts.answers.refused) {
        (Account::Found { .. }, Key::Ready { .. }, None) => {
            let message = "jobs can be started with it: its spec is valid, its key is at hand, and no call refused it";
            let (type_, status, reason) = (ConditionType::Ready, ConditionStatus::True, Reason::AccountReady);
            (Ready { ready: Saying { type_, status, reason, message: message.to_owned() }, companion: None }, None)
        }
        (Account::Found { .. }, Key::Ready { .. }, Some(refusal)) => (not_ready(&refusal.problem, true), None),
        (Account::Found { .. }, Key::Missing(why), _) => {
            let since = facts.missing_since.unwrap_or(now);
            let end = after(since, facts.grace);
            // Within the grace after a restart, what was Stalled for the same reason stays so.
            let was_stalled = before
                .conditions
                .iter()
                .any(|c| c.type_ == ConditionType::Stalled.as_str() && c.reason == Reason::CredentialsMissing.as_str());
            let stalled = now >= end || was_stalled;
            let long = now.duration_since(since).unsigned_abs() > PATIENCE;
            let read = after(now, if long { SELDOM } else { AGAIN });
            let wake = if stalled { read } else { read.min(end) };
            (not_ready(&Problem::CredentialsMissing(why.clone()), stalled), Some(wake))
        }
        (Account::Found { .. }, Key::Refused(error), _) => {
            let problem = Problem::of(error);
            (not_ready(&problem, problem.needs_a_person()), Some(after(now, SELDOM)))
        }
        (Account::Invalid(why), _, _) => (not_ready(&Problem::AccountInvalid(why.clone()), true), None),
        (Account::Absent, _, _) => (not_ready(&Problem::AccountNotFound(String::new()), true), None),
    }
}

fn not_ready(problem: &Problem, stalled: bool) -> Ready {
    let face = problem.face();
    let (type_, status) = (ConditionType::Ready, ConditionStatus::False);
    let ready = Saying { type_, status, reason: face.reason, message: safe_text(&face.message) };
    let companion = if stalled { ConditionType::Stalled } else { ConditionType::Reconciling };
    Ready { ready, companion: Some(companion) }
}

/// The end of a long pause, as it is to be told. What was told stands while its end moves by less than it is worth.
fn throttled(told: Option<Timestamp>, facts: &Facts, now: Timestamp) -> Option<Timestamp> {
    let hold = facts.usage.as_ref().and_then(|u| u.held).filter(|hold| hold.until > now)?;
    match told {
        Some(told) if hold.until.duration_since(told).abs() <= LONG => Some(told),
        Some(_) | None => (hold.until.duration_since(now) > LONG).then_some(hold.until),
    }
}

/// Calls that are neither made nor counted.
fn left(usage: &Usage, block: Option<Counted>) -> Option<i32> {
    let counted = block.map_or(usage.counted_today, |block| block.calls.max(usage.counted_today));
    let ahead = counted.saturating_sub(usage.used_today);
    usage.left_today.map(|left| i32::try_from(left.saturating_sub(ahead)).unwrap_or(i32::MAX))
}

/// Rounded: more figures say nothing.
fn tenths(pace: f64) -> f64 {
    if pace.is_finite() { (pace * 10.0).round() / 10.0 } else { 0.0 }
}

/// One event for each change of reason: a warning for what is wrong, a plain one when that is over.
fn notice(before: &[Condition], next: &[Condition]) -> Option<Notice> {
    let find = |all: &[Condition]| all.iter().find(|c| c.type_ == ConditionType::Ready.as_str()).cloned();
    let (before, next) = (find(before), find(next)?);
    if before.as_ref().is_some_and(|before| before.reason == next.reason) {
        return None;
    }
    let reason = reason_of(&next.reason)?;
    let warning = next.status != ConditionStatus::True;
    // That a new account is in order is no news.
    (warning || before.is_some()).then_some(Notice { warning, reason, note: next.message })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;
    use crate::quota::{HeldBy, Hold};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn usage(held: Option<i64>) -> Usage {
        Usage {
            reads_per_second: 4.85,
            writes_per_second: 4.85,
            used_today: 3,
            left_today: Some(97),
            counted_today: 5,
            held: held.map(|end| Hold { until: at(end), by: HeldBy::Cloud }),
            waiting: 0,
        }
    }

    fn in_order() -> Facts {
        let text = |text: &str| text.to_owned();
        Facts {
            generation: 1,
            account: Account::Found {
                region: text("cn-shanghai"),
                version: text("u.1"),
                service: text("host"),
                projects: vec![],
            },
            key: Key::Ready { id: text("id"), version: text("7") },
            missing_since: None,
            grace: Duration::from_secs(120),
            answers: Answers::default(),
            usage: Some(usage(None)),
            block: None,
            jobs: 2,
            jobs_may_be_told: false,
        }
    }

    fn missing(since: i64) -> Facts {
        let key = Key::Missing("Secret \"key\" does not exist".to_owned());
        Facts { key, missing_since: Some(at(since)), usage: None, ..in_order() }
    }

    fn error(kind: ErrorKind, code: &str, request: &str) -> Error {
        Error {
            kind,
            code: Some(code.to_owned()),
            request_id: Some(request.to_owned()),
            ..Error::unanswered(Operation::StartDiJob, false, "no")
        }
    }

    fn settled() -> AccountStatus {
        next_status(&AccountStatus::default(), &in_order(), at(0)).status
    }

    fn says(status: &AccountStatus) -> Vec<(&str, &str)> {
        status.conditions.iter().map(|c| (c.type_.as_str(), c.reason.as_str())).collect()
    }

    #[test]
    fn a_new_account_in_order_is_ready_and_that_is_no_event() {
        let next = next_status(&AccountStatus::default(), &in_order(), at(0));
        assert_eq!(says(&next.status), [("Ready", "AccountReady")]);
        assert_eq!(
            (next.status.jobs, next.status.calls_left_today, &next.notice, next.again),
            (2, Some(95), &None, None)
        );
    }

    #[test]
    fn a_missing_key_is_on_its_way_for_the_grace_and_then_a_person_is_asked() {
        let mut status = AccountStatus::default();
        let rows = [
            (0, "Reconciling", Some(5), true),
            (117, "Reconciling", Some(120), false),
            (120, "Stalled", Some(125), false),
            (601, "Stalled", Some(631), false),
        ];
        for (second, companion, again, tells) in rows {
            let next = next_status(&status, &missing(0), at(second));
            assert_eq!(
                says(&next.status),
                [("Ready", "CredentialsMissing"), (companion, "CredentialsMissing")],
                "{second}"
            );
            assert_eq!(next.again, again.map(at), "{second}");
            assert_eq!(next.notice.is_some(), tells, "{second}");
            status = next.status;
        }
        let after_a_restart = next_status(&status, &missing(700), at(701));
        assert_eq!(after_a_restart.status, status, "what was Stalled stays so");
        let next = next_status(&status, &in_order(), at(800));
        assert_eq!(says(&next.status), [("Ready", "AccountReady")]);
        assert!(!next.notice.unwrap().warning);
    }

    #[test]
    fn an_account_that_cannot_be_used_says_why() {
        let facts = Facts { account: Account::Invalid("its host is not allowed".to_owned()), ..in_order() };
        let next = next_status(&settled(), &facts, at(1));
        assert_eq!(says(&next.status), [("Ready", "AccountInvalid"), ("Stalled", "AccountInvalid")]);
        let notice = next.notice.unwrap();
        assert!(notice.warning && notice.note.contains("its host is not allowed"), "{notice:?}");
    }

    #[test]
    fn a_refused_key_stands_until_a_call_is_accepted_and_further_refusals_are_no_news() {
        let mut answers = Answers::default();
        let refused = |request| error(ErrorKind::Denied, "InvalidAccessKeyId.NotFound", request);
        assert!(answers.learn(Operation::GetDiJob, Some(&refused("R-1")), at(0)));
        let facts = Facts { answers: answers.clone(), ..in_order() };
        let status = next_status(&settled(), &facts, at(0)).status;
        assert_eq!(says(&status), [("Ready", "AccessDenied"), ("Stalled", "AccessDenied")]);
        assert!(!answers.learn(Operation::StartDiJob, Some(&refused("R-2")), at(60)), "the same again");
        let facts = Facts { answers: answers.clone(), ..in_order() };
        assert_eq!(next_status(&status, &facts, at(60)).status, status);
        let vague = error(ErrorKind::Server, "InternalError", "R-3");
        assert!(!answers.learn(Operation::GetDiJob, Some(&vague), at(61)));
        assert!(answers.learn(Operation::GetDiJob, None, at(62)));
        assert_eq!(answers, Answers { accepted: Some(at(62)), ..Answers::default() });
    }

    #[test]
    fn a_right_that_is_refused_for_one_job_while_others_start_is_not_the_account_s_matter() {
        let denied = error(ErrorKind::Denied, "Forbidden.RAM", "R-1");
        let mut answers = Answers::default();
        assert!(!answers.learn(Operation::GetDiJob, Some(&denied), at(0)), "reads may be refused for good");
        assert!(answers.learn(Operation::StartDiJob, Some(&denied), at(1)));
        assert!(!answers.learn(Operation::GetDiJob, None, at(2)), "that it may read mends nothing");
        assert!(answers.learn(Operation::StartDiJob, None, at(3)));
        assert!(!answers.learn(Operation::StartDiJob, Some(&denied), at(3 + 900)));
        assert!(answers.learn(Operation::StartDiJob, Some(&denied), at(3 + 901)), "nothing starts any more");
    }

    #[test]
    fn a_pause_is_told_when_it_is_long_and_again_when_its_end_moves_by_more_than_a_minute() {
        // What was told, until when calls pause now, what is told then.
        let rows = [
            (None, None, None),
            (None, Some(60), None),
            (None, Some(61), Some(61)),
            (Some(300), Some(330), Some(300)),
            (Some(300), Some(361), Some(361)),
            (Some(300), Some(200), Some(200)),
            (Some(90), Some(30), Some(90)),
            (Some(300), Some(30), None),
            (Some(300), None, None),
            (Some(-1), None, None),
        ];
        for (told, held, then) in rows {
            let before = AccountStatus { throttled_until: told.map(|end| whole_seconds(at(end))), ..settled() };
            let next = next_status(&before, &Facts { usage: Some(usage(held)), ..in_order() }, at(0));
            assert_eq!(next.status.throttled_until.map(|t| t.0), then.map(at), "{told:?} {held:?}");
            assert_eq!(next.again, held.map(at).filter(|_| then.is_some()), "{told:?} {held:?}");
        }
    }

    #[test]
    fn a_block_of_the_day_s_count_is_written_at_once_and_kept() {
        let block = Counted { day: 20_781, calls: 10 };
        let status = next_status(&settled(), &Facts { block: Some(block), ..in_order() }, at(1)).status;
        let today = Some(CallsToday { day: "2026-11-24".to_owned(), counted: 10 });
        let expected = AccountStatus { calls_today: today, calls_left_today: Some(90), ..settled() };
        assert_eq!(status, expected, "3 were made, 7 more are counted");
        assert_eq!(next_status(&status, &in_order(), at(2)).status, status);
    }

    #[test]
    fn pace_and_calls_left_and_the_last_accepted_call_are_told_when_something_else_is() {
        let mut facts = in_order();
        facts.usage = Some(Usage { reads_per_second: 2.0, left_today: Some(50), ..usage(Some(59)) });
        facts.answers.learn(Operation::StartDiJob, None, at(10));
        facts.jobs = 9;
        let next = next_status(&settled(), &facts, at(20));
        assert_eq!((&next.status, next.again), (&settled(), Some(at(80))), "the number of jobs waits for its minute");
        facts.jobs_may_be_told = true;
        let told = next_status(&settled(), &facts, at(80)).status;
        let expected = AccountStatus {
            calls_left_today: Some(48),
            reads_per_second: Some(2.0),
            last_accepted_time: Some(whole_seconds(at(10))),
            jobs: 9,
            ..settled()
        };
        assert_eq!(told, AccountStatus { writes_per_second: Some(4.9), ..expected });
    }

    prop_compose! {
        fn facts()(
            generation in 1..3_i64,
            account in 0..3,
            key in any::<bool>(),
            since in -700..0_i64,
            answers in proptest::collection::vec((0..6, any::<bool>(), -2000..0_i64), 0..4),
            held in proptest::option::of(-100..1000_i64),
            has_usage in any::<bool>(),
            block in proptest::option::of(1..100_u32),
            jobs in 0..3_usize,
            jobs_may_be_told in any::<bool>(),
        ) -> Facts {
            let mut facts = if key { in_order() } else { missing(since) };
            facts.generation = generation;
            match account {
                0 => facts.account = Account::Invalid("no host".to_owned()),
                1 => facts.account = Account::Absent,
                _ => {}
            }
            for (what, start, when) in answers {
                let operation = if start { Operation::StartDiJob } else { Operation::GetDiJob };
                let error = match what {
                    0 => None,
                    1 => Some(error(ErrorKind::Denied, "Forbidden.RAM", "R")),
                    2 => Some(error(ErrorKind::Denied, "SignatureDoesNotMatch", "R")),
                    3 => Some(error(ErrorKind::Expired, "InvalidSecurityToken.Expired", "R")),
                    4 => Some(error(ErrorKind::NotFound, "500130", "R")),
                    _ => Some(error(ErrorKind::Throttled, "Throttling.User", "R")),
                };
                facts.answers.learn(operation, error.as_ref(), at(when));
            }
            facts.usage = has_usage.then(|| usage(held));
            facts.block = block.map(|calls| Counted { day: 20_781, calls });
            (facts.jobs, facts.jobs_may_be_told) = (jobs, jobs_may_be_told);
            facts
        }
    }

    proptest! {
        #[test]
        fn a_status_is_a_fixed_point_of_its_facts(before in facts(), facts in facts()) {
            let before = next_status(&AccountStatus::default(), &before, at(-50)).status;
            let status = next_status(&before, &facts, at(0)).status;
            let facts = Facts { block: None, ..facts }; // it is written
            prop_assert_eq!(&next_status(&status, &facts, at(0)).status, &status);
            let later = next_status(&status, &facts, at(1));
            let grace_or_pause_ends = [facts.missing_since.map(|t| after(t, facts.grace)), facts.usage.as_ref().and_then(|u| u.held).map(|h| h.until)];
            if !grace_or_pause_ends.into_iter().flatten().any(|end| end > at(0) && end <= at(1)) {
                prop_assert_eq!(&later.status, &status);
                prop_assert_eq!(later.notice, None);
            }
        }

        #[test]
        fn ready_is_always_there_and_false_has_one_companion(before in facts(), facts in facts()) {
            let before = next_status(&AccountStatus::default(), &before, at(-50)).status;
            let status = next_status(&before, &facts, at(0)).status;
            let has = |type_: &str| status.conditions.iter().find(|c| c.type_ == type_);
            let ready = has("Ready").unwrap();
            let companions = [has("Reconciling"), has("Stalled")];
            let expected = usize::from(ready.status == ConditionStatus::False);
            prop_assert_eq!(companions.into_iter().flatten().count(), expected);
            prop_assert!(companions.into_iter().flatten().all(|c| c.reason == ready.reason && c.message == ready.message));
            prop_assert!(status.conditions.iter().all(|c| c.observed_generation == facts.generation));
            prop_assert_eq!(status.observed_generation, facts.generation);
            for now in &status.conditions {
                let then = before.conditions.iter().find(|c| c.type_ == now.type_);
                let moved = then.is_none_or(|then| then.status != now.status);
                prop_assert_eq!(now.last_transition_time.0 == at(0), moved);
            }
        }

        #[test]
        fn what_is_written_is_a_condition_a_pause_or_the_number_of_jobs(before in facts(), facts in facts()) {
            let before = next_status(&AccountStatus::default(), &before, at(-50)).status;
            let status = next_status(&before, &facts, at(0)).status;
            let jobs = status.jobs != before.jobs && facts.jobs_may_be_told;
            let pause = status.throttled_until != before.throttled_until;
            let block = facts.block.is_some();
            let called_for = status.conditions != before.conditions || pause || jobs || block;
            prop_assert!(called_for || status == before, "{:?}", status);
        }
    }
}
