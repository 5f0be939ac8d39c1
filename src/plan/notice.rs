//! What a change of status is worth telling, as events.

use super::action::Action;
use super::observed::Observed;
use super::trigger::is_token;
use crate::api::condition::{ConditionType, Reason, reason_of};
use crate::api::{JobStatus, LastStart};

/// One event to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// A person should look.
    pub warning: bool,
    /// One word.
    pub reason: Reason,
    /// For people.
    pub note: String,
}

/// The events of a pass that was decided on `seen` and wrote `next`: one per outcome, one per new problem.
#[must_use]
pub fn notices(seen: &Observed, action: &Action, next: &JobStatus) -> Vec<Notice> {
    let mut all = Vec::new();
    if matches!(action, Action::Adopt) {
        let word = next.job_status.as_deref().unwrap_or("at work");
        let note = format!("job {} is {word} already: adopted, nothing was started", seen.spec.di_job_id);
        all.push(Notice { warning: false, reason: Reason::Adopted, note });
    }
    let before = seen.record.last_start.as_ref().map(|l| (&l.id, &l.outcome));
    if let Some(last) = next.last_start.as_ref().filter(|l| Some((&l.id, &l.outcome)) != before) {
        all.extend(outcome(last));
    }
    let reason_before = ready(&seen.conditions).map(|(r, _)| r);
    if let Some((reason, note)) = ready(&next.conditions).filter(|(r, _)| Some(*r) != reason_before)
        && let Some(warning) = worth_telling(reason)
        && !all.iter().any(|n| n.reason == reason)
    {
        all.push(Notice { warning, reason, note });
    }
    if seen.annotations.rerun.as_ref().is_some_and(|t| !t.is_empty() && !is_token(t)) {
        let note = "the annotation dijob.dev/rerun is ignored: a token has at most 256 characters, none of them a control character";
        all.push(Notice { warning: true, reason: Reason::RerunTokenIgnored, note: note.to_owned() });
    }
    all
}

fn outcome(last: &LastStart) -> Option<Notice> {
    let mut named = last.trigger.clone();
    if !last.rerun_tokens.is_empty() {
        let tokens: Vec<String> = last.rerun_tokens.iter().map(|t| t.chars().take(80).collect()).collect();
        named = format!("{named}, token {}", tokens.join(" and "));
    }
    if let Some(id) = &last.request_id {
        named = format!("{named}, RequestId {id}");
    }
    let (warning, reason, what) = match last.outcome.as_str() {
        "Accepted" => (false, Reason::StartAccepted, "StartDIJob was accepted"),
        "Confirmed" => (false, Reason::StartConfirmed, "the job was seen to have started"),
        "Unknown" => (
            true,
            Reason::StartOutcomeUnknown,
            "whether StartDIJob ran is not known, and it is not sent again: look at the job, then set a new rerun token",
        ),
        _ => return None, // a refusal is told by its Ready condition, with code and hint
    };
    Some(Notice { warning, reason, note: format!("{what} ({named})") })
}

fn ready(conditions: &[crate::api::condition::Condition]) -> Option<(Reason, String)> {
    let ready = conditions.iter().find(|c| c.type_ == ConditionType::Ready.as_str())?;
    Some((reason_of(&ready.reason)?, ready.message.clone()))
}

/// Whether becoming so is an event, and a Warning. Steps of ordinary work are not.
fn worth_telling(reason: Reason) -> Option<bool> {
    match reason {
        Reason::StartDue
        | Reason::Starting
        | Reason::Confirming
        | Reason::WaitingForTurn
        | Reason::JobRunning
        | Reason::StartAccepted
        | Reason::StartConfirmed
        | Reason::Adopted
        | Reason::AccountReady
        | Reason::JobRead
        | Reason::ReadRefused => None,
        Reason::JobFinished | Reason::Suspended | Reason::Throttled => Some(false),
        Reason::ResolvingStart
        | Reason::DailyLimitReached
        | Reason::CloudUnavailable
        | Reason::AccessDenied
        | Reason::CallerUnknown
        | Reason::CredentialsExpired
        | Reason::ClockSkew
        | Reason::JobNotFound
        | Reason::StartRejected
        | Reason::StartOutcomeUnknown
        | Reason::NotRunning
        | Reason::JobFailed
        | Reason::UnknownJobStatus
        | Reason::AccountChanged
        | Reason::ProjectNotAllowed
        | Reason::AccountNotFound
        | Reason::AccountInvalid
        | Reason::CredentialsMissing
        | Reason::InvalidObject
        | Reason::RerunTokenIgnored => Some(true),
    }
}
