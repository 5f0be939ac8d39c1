//! What stands in the way of a call, and how long.

use std::time::Duration;

use jiff::Timestamp;

use super::action::{Plan, Stance, rest, until_then};
use super::backoff::{LONGEST, SLOW};
use super::observed::{Account, Key, Observed, Reading, Seen, View, after};
use super::problem::Problem;
use super::trigger::requested_tokens;

/// So many projects are named in a message.
const NAMED: usize = 5;

/// The failure that is still waited out, and until when. A changed spec, a new token, or another account or Secret end
/// the slow retry of a refusal at once; nothing shortens a backoff.
pub(super) fn retry_wait(seen: &Observed, now: Timestamp) -> Option<(Problem, Timestamp)> {
    let next = seen.record.next_attempt_time.as_ref()?.0.min(after(now, LONGEST));
    let error = seen.record.last_error.as_ref()?;
    let problem = Problem::of_record(error);
    let tokens = requested_tokens(seen);
    let changed = error.generation != seen.object.generation
        || error.credentials_version != seen.credentials_version()
        || tokens.iter().any(|t| !error.rerun_tokens.contains(t));
    (now < next && !(problem.needs_a_person() && changed)).then_some((problem, next))
}

/// The failure that is still waited out, as a plan. The Secret is looked at meanwhile.
pub(super) fn blocked(seen: &Observed, now: Timestamp) -> Option<Plan> {
    let (problem, until) = retry_wait(seen, now)?;
    let stalled = problem.needs_a_person();
    let wake = if stalled { look_at_secret(seen, until, now) } else { until };
    Some(until_then(Stance::Blocked { problem, stalled, until: Some(until) }, wake))
}

/// As [`blocked`], if a person must act: a start whose effect cannot be seen for that reason is not in progress.
pub(super) fn blocked_for_a_person(seen: &Observed, now: Timestamp) -> Option<Plan> {
    retry_wait(seen, now).filter(|(problem, _)| problem.needs_a_person()).and_then(|_| blocked(seen, now))
}

/// What the last look says of the job's project, if that is not among those that the account allows. It says so until
/// account or job change; a refused look is made again as slowly as a refused start.
pub(super) fn forbidden(seen: &Observed, reading: Option<&Reading>, now: Timestamp) -> Option<Plan> {
    let Account::Found { projects, .. } = &seen.account else { return None };
    let reading = reading.filter(|_| !projects.is_empty())?;
    let (found, until) = match &reading.seen {
        Seen::Job(View { project: Some(project), .. }) if projects.contains(project) => return None,
        Seen::Job(View { project: Some(project), .. }) => (format!("is in project {project}"), None),
        Seen::Job(View { project: None, .. }) => ("does not show its project".to_owned(), None),
        Seen::Refused(_) if now < after(reading.at, SLOW) => {
            ("cannot be read".to_owned(), Some(after(reading.at, SLOW)))
        }
        Seen::Refused(_) | Seen::NotFound(_) | Seen::Failed(_) => return None,
    };
    let named = projects.iter().take(NAMED).map(i64::to_string).collect::<Vec<_>>().join(", ");
    let more = if projects.len() > NAMED { ", …" } else { "" };
    let problem = Problem::ProjectNotAllowed(format!(
        "job {} {found}, and DataWorksAccount \"{}\" allows project {named}{more} only: correct diJobId, or the account's allowedProjects",
        reading.job.di_job_id, seen.spec.account_ref.name
    ));
    let stance = Stance::Blocked { problem, stalled: true, until };
    Some(until.map_or_else(|| rest(stance.clone()), |until| until_then(stance.clone(), until)))
}

pub(super) fn without_account(seen: &Observed, now: Timestamp) -> Plan {
    match &seen.account {
        Account::Invalid(why) => {
            rest(Stance::Blocked { problem: Problem::AccountInvalid(why.clone()), stalled: true, until: None })
        }
        Account::Absent | Account::Found { .. } => {
            missing(seen, Problem::AccountNotFound(seen.spec.account_ref.name.clone()), now)
        }
    }
}

pub(super) fn without_key(seen: &Observed, now: Timestamp) -> Plan {
    match &seen.key {
        Key::Missing(why) => missing(seen, Problem::CredentialsMissing(why.clone()), now),
        Key::Ready { .. } => missing(seen, Problem::CredentialsMissing(String::new()), now),
        Key::Refused(error) => {
            // A role is not applied together with what names it, so there is no grace. STS is asked again meanwhile.
            let problem = Problem::of(error);
            let stalled = problem.needs_a_person();
            let again = look_at_secret(seen, Timestamp::MAX, now);
            until_then(Stance::Blocked { problem, stalled, until: None }, again)
        }
    }
}

/// Git tools apply everything at once, in any order: a person is asked only after a grace.
fn missing(seen: &Observed, problem: Problem, now: Timestamp) -> Plan {
    let since = seen.missing_since.unwrap_or(now);
    let end = after(since, seen.settings.grace);
    let stalled = now >= end;
    let again = look_at_secret(seen, Timestamp::MAX, now);
    let until = if stalled { again } else { again.min(end) };
    until_then(Stance::Blocked { problem, stalled, until: None }, until)
}

/// While a job waits for a credential, its Secret is read again every 5 s for 10 minutes, then every 30 s.
fn look_at_secret(seen: &Observed, until: Timestamp, now: Timestamp) -> Timestamp {
    let waiting_since = match (&seen.key, &seen.record.last_error) {
        (Key::Ready { .. }, Some(error)) => error.time.0,
        (Key::Ready { .. } | Key::Missing(_) | Key::Refused(_), _) => seen.missing_since.unwrap_or(now),
    };
    let long = now.duration_since(waiting_since).unsigned_abs() > Duration::from_secs(600);
    until.min(after(now, Duration::from_secs(if long { 30 } else { 5 })))
}
