//! What the conditions say: a pure function of how the object stands.

use jiff::{SignedDuration, Timestamp};

use super::action::{Plan, Rest, Stance};
use super::observed::{Observed, Seen, Turn};
use super::problem::Problem;
use super::status::Outcome;
use crate::api::JobStatus;
use crate::api::condition::{ConditionStatus, ConditionType, Reason, Saying, reason_of};
use crate::dataworks::error::safe_text;

/// All conditions of a job that stands as `plan` says. `seen.record` is the record as it will be written.
#[must_use]
pub fn sayings(seen: &Observed, plan: &Plan, outcome: &Outcome) -> Vec<Saying> {
    let Ready { status, reason, message, companion } = ready(seen, plan, outcome);
    let previous = seen.conditions.iter().find(|c| c.type_ == ConditionType::Stalled.as_str());
    // Within the grace after a restart, what was Stalled for the same reason stays so.
    let was_stalled = previous.is_some_and(|c| c.reason == reason.as_str());
    let companion = if was_stalled && companion.is_some() { Some(ConditionType::Stalled) } else { companion };
    let mut all = vec![Saying { type_: ConditionType::Ready, status, reason, message: message.clone() }];
    all.extend(companion.map(|type_| Saying { type_, status: ConditionStatus::True, reason, message }));
    all.extend(started(&seen.record, outcome));
    all.extend(observed(seen));
    all.extend(throttled(seen, plan));
    all.into_iter().map(|s| Saying { message: safe_text(&s.message), ..s }).collect()
}

struct Ready {
    status: ConditionStatus,
    reason: Reason,
    message: String,
    companion: Option<ConditionType>,
}

fn ready(seen: &Observed, plan: &Plan, outcome: &Outcome) -> Ready {
    let goes_on = |reason, message: String| not_ready(reason, message, Some(ConditionType::Reconciling));
    match &plan.stance {
        Stance::Foreign | Stance::Leaving => not_ready(Reason::StartDue, String::new(), None),
        Stance::Blocked { problem, stalled, until } => blocked(problem, *stalled, *until),
        Stance::Suspended(trigger) => not_ready(
            Reason::Suspended,
            format!(
                "a start is due ({}), and spec.suspend holds it back: set suspend to false to send it",
                trigger.as_str()
            ),
            None,
        ),
        Stance::Preparing(trigger) => match waiting(seen, plan) {
            Some((reason, message)) => goes_on(reason, format!("a start is due ({}); {message}", trigger.as_str())),
            None => goes_on(Reason::StartDue, format!("a start is due ({}) and being prepared", trigger.as_str())),
        },
        Stance::Resolving(until) => match outcome {
            Outcome::Intended(pending) => {
                goes_on(Reason::Starting, format!("StartDIJob is being sent ({})", pending.trigger))
            }
            Outcome::Done | Outcome::Looked | Outcome::NotSent | Outcome::Answered(_) => {
                goes_on(Reason::ResolvingStart, unresolved(seen, *until))
            }
        },
        Stance::Confirming(_) => goes_on(
            Reason::Confirming,
            format!(
                "StartDIJob was accepted{}; waiting to see the job run",
                request_id(seen.record.last_start.as_ref().and_then(|l| l.request_id.as_ref()))
            ),
        ),
        Stance::Settled(rest) => settled(seen, *rest),
    }
}

fn blocked(problem: &Problem, stalled: bool, until: Option<Timestamp>) -> Ready {
    let face = problem.face();
    let mut message = face.message;
    if let Some(until) = until {
        let sooner = if stalled { ", or at once when the spec, the account or its Secret changes" } else { "" };
        message = format!("{message}. Next attempt {}{sooner}", second(until));
    }
    let companion = if stalled { ConditionType::Stalled } else { ConditionType::Reconciling };
    not_ready(face.reason, message, Some(companion))
}

fn unresolved(seen: &Observed, until: Timestamp) -> String {
    let what = seen.record.last_error.as_ref().filter(|e| e.operation == "StartDIJob").map_or_else(
        || "StartDIJob may have been sent, and its answer is not known".to_owned(),
        |e| {
            let code = e.code.as_deref().or(e.message.as_deref()).unwrap_or("no answer");
            format!("whether StartDIJob ran is not known ({code}{})", request_id(e.request_id.as_ref()))
        },
    );
    let forced = seen.record.pending_start.as_ref().is_some_and(crate::api::PendingStart::is_forced);
    if forced || seen.spec.on_unknown == crate::api::OnUnknown::Hold {
        format!("{what}; its effect is looked for until {}, and it is never sent twice", second(until))
    } else if matches!(seen.reading.as_ref().map(|r| &r.seen), Some(Seen::Refused(_))) {
        format!("{what}; the job cannot be read, so its effect cannot be seen, and it is not sent again")
    } else {
        format!("{what}; its effect is looked for, and it is sent again if there is none")
    }
}

fn settled(seen: &Observed, rest: Rest) -> Ready {
    let record = &seen.record;
    let word = record.job_status.as_deref().unwrap_or("nothing");
    let (status, reason, message) = match rest {
        Rest::Running if record.last_start.is_none() => {
            (ConditionStatus::True, Reason::Adopted, "the job was already running; nothing was started".to_owned())
        }
        Rest::Finished if record.last_start.is_none() => {
            (ConditionStatus::True, Reason::Adopted, "the job had already finished; nothing was started".to_owned())
        }
        Rest::Running => (ConditionStatus::True, Reason::JobRunning, "the job runs".to_owned()),
        Rest::Finished => (ConditionStatus::True, Reason::JobFinished, "the job has finished".to_owned()),
        Rest::Accepted => (
            ConditionStatus::True,
            Reason::StartAccepted,
            "StartDIJob was accepted; the job cannot be read, so its state is not known here".to_owned(),
        ),
        Rest::Failed => (
            ConditionStatus::False,
            Reason::JobFailed,
            format!(
                "the job failed: {}; mend it in DataWorks, then set a new rerun token",
                record.job_error.as_deref().unwrap_or("the cloud gives no reason").chars().take(400).collect::<String>()
            ),
        ),
        Rest::NotRunning => (
            ConditionStatus::False,
            Reason::NotRunning,
            format!("the job does not run: DataWorks says {word}; look at it there, then set a new rerun token to start it"),
        ),
        Rest::OutcomeUnknown => (
            ConditionStatus::False,
            Reason::StartOutcomeUnknown,
            "whether the last StartDIJob ran is not known, and it is not sent again: look at the job in DataWorks, then set a new rerun token if it is to be started"
                .to_owned(),
        ),
        Rest::UnknownWord => (
            ConditionStatus::Unknown,
            Reason::UnknownJobStatus,
            format!("DataWorks says {word}, a status that this operator does not know"),
        ),
    };
    let message = if seen.spec.suspend { format!("{message}; suspended: nothing will be started") } else { message };
    let companion = (status == ConditionStatus::False).then_some(ConditionType::Stalled);
    Ready { status, reason, message, companion }
}

fn started(record: &JobStatus, outcome: &Outcome) -> Option<Saying> {
    let says = |status, reason: Reason, message: String| {
        Some(Saying { type_: ConditionType::Started, status, reason, message })
    };
    if record.pending_start.is_some() && !matches!(outcome, Outcome::Intended(_)) {
        return says(ConditionStatus::Unknown, Reason::ResolvingStart, "a start has no answer yet".to_owned());
    }
    let last = record.last_start.as_ref()?;
    let named = format!("{}{}", last.trigger, request_id(last.request_id.as_ref()));
    match last.outcome.as_str() {
        "Accepted" => says(ConditionStatus::True, Reason::StartAccepted, format!("accepted: {named}")),
        "Confirmed" => says(ConditionStatus::True, Reason::StartConfirmed, format!("seen to have started: {named}")),
        "Rejected" => {
            let of_the_start = record.last_error.as_ref().filter(|e| e.operation == "StartDIJob");
            let face = of_the_start.map(|e| Problem::of_record(e).face());
            let reason = face.map_or(Reason::StartRejected, |f| f.reason);
            says(ConditionStatus::False, reason, format!("refused: {named}"))
        }
        _ => says(ConditionStatus::Unknown, Reason::StartOutcomeUnknown, format!("no answer: {named}")),
    }
}

fn observed(seen: &Observed) -> Option<Saying> {
    let type_ = ConditionType::Observed;
    match seen.reading.as_ref().map(|r| &r.seen) {
        Some(Seen::Job(_)) => Some(Saying {
            type_,
            status: ConditionStatus::True,
            reason: Reason::JobRead,
            message: "the job was read".to_owned(),
        }),
        Some(Seen::Refused(error)) => {
            let what = error.code.clone().unwrap_or_else(|| format!("HTTP {}", error.http_status.unwrap_or_default()));
            // Without the RequestId: each look has another, and status would be written for it.
            let of_the_key = what.starts_with("InvalidAccessKeyId") || what.contains("Signature");
            let mend = if of_the_key { "correct the Secret" } else { "allow dataworks:GetDIJob to mend it" };
            let message = format!(
                "reading the job is refused ({what}): its state is not shown and starts cannot be confirmed; {mend}"
            );
            Some(Saying { type_, status: ConditionStatus::False, reason: Reason::ReadRefused, message })
        }
        // A read that fails for a passing reason leaves it as it was.
        Some(Seen::NotFound(_) | Seen::Failed(_)) | None => {
            let before = seen.conditions.iter().find(|c| c.type_ == type_.as_str())?;
            Some(Saying {
                type_,
                status: before.status,
                reason: reason_of(&before.reason)?,
                message: before.message.clone(),
            })
        }
    }
}

fn throttled(seen: &Observed, plan: &Plan) -> Option<Saying> {
    let (reason, message) = waiting(seen, plan)?;
    Some(Saying { type_: ConditionType::Throttled, status: ConditionStatus::True, reason, message })
}

/// Who makes a wanted call wait, if it is worth telling.
fn waiting(seen: &Observed, plan: &Plan) -> Option<(Reason, String)> {
    plan.lane?;
    match (seen.hold, seen.turn) {
        (Some(hold), _) if hold.day => Some((
            Reason::DailyLimitReached,
            format!("the account's calls of the day are used up; calls go on {}", second(hold.until)),
        )),
        (Some(hold), _) => Some((
            Reason::Throttled,
            format!(
                "the cloud throttles the account; calls pause until {}, and this one keeps its place",
                second(hold.until)
            ),
        )),
        (None, Turn::Uncounted(_)) => Some((
            Reason::WaitingForTurn,
            "the account's count of the day's calls cannot be written to its status, and no call is made uncounted: it goes on when the API server takes that write"
                .to_owned(),
        )),
        (None, Turn::Waiting { long: true, .. }) => Some((
            Reason::WaitingForTurn,
            format!(
                "it waits for its turn in the account's own call budget, behind others that came first or since the cloud throttles the account{}",
                expected(seen)
            ),
        )),
        (None, Turn::Waiting { long: false, .. } | Turn::None | Turn::Held(_)) => None,
    }
}

/// When its turn comes, as it was told before, unless that has moved by more than a person would care for: turns of others
/// move it all the time.
fn expected(seen: &Observed) -> String {
    const SAME: SignedDuration = SignedDuration::from_mins(5);
    const ABOUT: &str = "; its turn is expected at about ";
    let Some(at) = seen.turn_at else { return String::new() };
    let before = seen.conditions.iter().find(|c| c.type_ == ConditionType::Throttled.as_str());
    let told = before.and_then(|c| c.message.split_once(ABOUT)?.1.parse::<Timestamp>().ok());
    let told = told.filter(|told| told.duration_since(at).abs() <= SAME);
    format!("{ABOUT}{}", second(told.unwrap_or(at)))
}

fn not_ready(reason: Reason, message: String, companion: Option<ConditionType>) -> Ready {
    Ready { status: ConditionStatus::False, reason, message, companion }
}

fn request_id(id: Option<&String>) -> String {
    id.map_or_else(String::new, |id| format!(", RequestId {id}"))
}

fn second(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}
