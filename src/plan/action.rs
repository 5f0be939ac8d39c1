//! [`Plan`]: what a pass does, how the object stands, and what it waits for.

use jiff::Timestamp;

use super::observed::{Answered, JobRef, Lane, Observed, Turn};
use super::problem::Problem;
use super::trigger::Trigger;
use crate::api::PendingStart;

/// What one pass does, how the object stands, and what it waits for.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The one action.
    pub action: Action,
    /// How the object stands before it.
    pub stance: Stance,
    /// What ends the wait if nothing is done.
    pub wait: Wait,
    /// The turn that is wanted; any other is given back.
    pub lane: Option<Lane>,
}

/// The one action of a pass.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Nothing outward.
    Nothing,
    /// Asks the governor for a turn. May be repeated.
    TakeTurn(Lane),
    /// Reads the job. May be repeated, but each read is paid for.
    Look(JobRef),
    /// Intent, fence, call, answer. **Must not be repeated.** Boxed: it is far larger than the others.
    Start(Box<PendingStart>),
    /// Records that the job runs or has finished without us. Status alone.
    Adopt,
    /// Records a generation that starts nothing. Status alone.
    Tidy,
    /// Records what became of a start. Status alone.
    Settle(Verdict),
}

/// What became of a start.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Our own call was answered.
    Answered(Box<Answered>),
    /// The intent was written, and nothing left the process.
    NotSent,
    /// A sign was seen.
    Confirmed,
    /// It may have run or not; it is not sent again.
    Unknown,
    /// Accepted, and the confirm timeout is over without a sign.
    TimedOut,
    /// Accepted, and reading the job is refused.
    Unreadable,
}

/// What ends a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// A change of something that is watched.
    OnChange,
    /// A time, or a change.
    Until(Timestamp),
    /// The governor, or a change.
    OnTurn,
}

/// How the object stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Stance {
    /// Status holds the record of a newer operator: it is left alone.
    Foreign,
    /// Marked for deletion.
    Leaving,
    /// Something is in the way of what is due.
    Blocked {
        /// What.
        problem: Problem,
        /// A person must act.
        stalled: bool,
        /// When it is tried again.
        until: Option<Timestamp>,
    },
    /// A start is due and held back.
    Suspended(Trigger),
    /// A start is due and being prepared.
    Preparing(Trigger),
    /// A start may have run; `until` is when that is settled at the latest.
    Resolving(Timestamp),
    /// The last start was accepted; `until` is when its effect must have been seen.
    Confirming(Timestamp),
    /// Nothing is due.
    Settled(Rest),
}

/// How a settled job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// It runs.
    Running,
    /// It has finished.
    Finished,
    /// It failed.
    Failed,
    /// It does not run, though its start was accepted.
    NotRunning,
    /// Its start was accepted, and it cannot be read.
    Accepted,
    /// Whether its start ran is not known.
    OutcomeUnknown,
    /// The cloud's word is not one that we know.
    UnknownWord,
}

/// Each call waits for its own turn, before anything durable is written.
pub(super) fn with_turn(seen: &Observed, lane: Lane, stance: Stance, action: impl FnOnce() -> Action) -> Plan {
    let (action, wait) = match seen.turn {
        Turn::Held(held) if held == lane => (action(), Wait::OnChange),
        Turn::Waiting { lane: asked, .. } | Turn::Uncounted(asked) if asked == lane => (Action::Nothing, Wait::OnTurn),
        Turn::Held(_) | Turn::Waiting { .. } | Turn::Uncounted(_) | Turn::None => {
            (Action::TakeTurn(lane), Wait::OnTurn)
        }
    };
    Plan { action, stance, wait, lane: Some(lane) }
}

/// One read of `job`, in its turn.
pub(super) fn look(seen: &Observed, job: &JobRef, stance: Stance) -> Plan {
    with_turn(seen, Lane::Look, stance, || Action::Look(job.clone()))
}

pub(super) fn act(action: Action, stance: Stance) -> Plan {
    Plan { action, stance, wait: Wait::OnChange, lane: None }
}

pub(super) fn settle(verdict: Verdict) -> Plan {
    act(Action::Settle(verdict), Stance::Leaving)
}

pub(super) fn rest(stance: Stance) -> Plan {
    act(Action::Nothing, stance)
}

pub(super) fn until_then(stance: Stance, until: Timestamp) -> Plan {
    Plan { action: Action::Nothing, stance, wait: Wait::Until(until), lane: None }
}
