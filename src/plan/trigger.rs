//! Which trigger is due, which wins if several are, and what its start may send.

use super::inputs::{Change, change, inputs_of};
use super::observed::{JobRef, Observed};
use crate::api::{Applied, StartInputs};

/// One reason to start, in order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Trigger {
    /// A token that was not handled yet.
    Rerun,
    /// Nothing was ever handled for this job.
    FirstApply,
    /// The start inputs differ from those handled.
    SpecChange,
}

impl Trigger {
    /// The word in status and events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rerun => "Rerun",
            Self::FirstApply => "FirstApply",
            Self::SpecChange => "SpecChange",
        }
    }

    /// The trigger of a stored word, if this operator knows it.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        [Self::Rerun, Self::FirstApply, Self::SpecChange].into_iter().find(|t| t.as_str() == word)
    }
}

/// What the object asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// A new generation that starts nothing: it is recorded as handled.
    Tidy,
    /// The account now means another job, though nobody edited this object.
    AccountChanged,
    /// A start.
    Start(DueStart),
}

/// A start that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueStart {
    /// The trigger that names it.
    pub trigger: Trigger,
    /// All tokens that it answers.
    pub tokens: Vec<String>,
    /// The job.
    pub job: JobRef,
    /// `StartTime` is sent.
    pub send_start_time: bool,
    /// `ForceToRerun: true` is sent.
    pub send_force: bool,
    /// If the job already runs or has finished, it is adopted instead.
    pub adoptable: bool,
}

/// The tokens on the object, annotation first: usable ones only, each once.
#[must_use]
pub fn requested_tokens(seen: &Observed) -> Vec<String> {
    let annotation = seen.annotations.rerun.iter().filter(|t| is_token(t));
    let mut tokens: Vec<String> = annotation.cloned().collect();
    let in_spec = &seen.spec.rerun_token;
    if is_token(in_spec) && !tokens.contains(in_spec) {
        tokens.push(in_spec.clone());
    }
    tokens
}

/// 1 to 256 characters, none of them a control character.
#[must_use]
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= 256 && !text.chars().any(char::is_control)
}

/// What the object asks for, given what was handled. `None` while the account is not known.
#[must_use]
pub fn due(seen: &Observed) -> Option<Due> {
    let job = seen.job()?;
    let requested = requested_tokens(seen);
    let Some(applied) = &seen.record.applied else { return Some(first_sight(seen, job, requested)) };
    if applied.di_job_id != job.di_job_id
        || (applied.region != job.region && applied.account != seen.spec.account_ref.name)
    {
        return Some(first_sight(seen, job, requested)); // another job: everything starts over
    }
    let tokens: Vec<String> = requested.into_iter().filter(|t| !seen.record.handled_rerun_tokens.contains(t)).collect();
    if !tokens.is_empty() {
        return Some(Due::Start(as_in_spec(seen, job, Trigger::Rerun, tokens, false)));
    }
    if applied.region != job.region {
        return Some(Due::AccountChanged);
    }
    let wanted = inputs_of(&seen.spec);
    let change = change(applied, &wanted);
    Some(if starts(applied, &wanted, change) {
        Due::Start(DueStart {
            trigger: Trigger::SpecChange,
            tokens,
            job,
            send_start_time: change.start_time,
            send_force: change.force,
            adoptable: false,
        })
    } else if change != Change::default() || applied.generation != seen.object.generation {
        Due::Tidy
    } else {
        Due::Nothing
    })
}

/// Whether an edit starts. While the handled inputs are uncertain, a removal counts as a change, except that a return
/// to the inputs before a start that is never repeated closes the matter.
fn starts(applied: &Applied, wanted: &StartInputs, change: Change) -> bool {
    match (&applied.previous, applied.uncertain) {
        (Some(previous), true) if previous == wanted => false,
        (None, true) => change != Change::default(),
        (Some(_), true) | (_, false) => change.starts(),
    }
}

fn first_sight(seen: &Observed, job: JobRef, requested: Vec<String>) -> Due {
    let trigger = if requested.is_empty() { Trigger::FirstApply } else { Trigger::Rerun };
    Due::Start(as_in_spec(seen, job, trigger, requested, true))
}

fn as_in_spec(seen: &Observed, job: JobRef, trigger: Trigger, tokens: Vec<String>, adoptable: bool) -> DueStart {
    let forced_by_annotation = seen
        .annotations
        .force
        .as_ref()
        .is_some_and(|force| seen.annotations.rerun.as_ref() == Some(force) && tokens.contains(force));
    DueStart {
        trigger,
        send_start_time: seen.spec.realtime_start_settings.as_ref().is_some_and(|s| s.start_time.is_some()),
        send_force: seen.spec.force_to_rerun || forced_by_annotation,
        tokens,
        job,
        adoptable,
    }
}
