//! How jobs behave: what is not known of the cloud's transitions, as rules that can be switched (API page 1.4).
//!
//! **May touch:** nothing; plain data.
//!
//! **Guarantees**
//! 1. The default is the likeliest cloud.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::answer::Refusal;
use super::jobs::JobStatus;

/// What `StartDIJob` does to a job that is running, starting or stopping.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StartOnRunning {
    /// Nothing, and says that it succeeded.
    #[default]
    NoOp,
    /// Nothing, and says so. The real code is unknown.
    Error(Refusal),
    /// Starts it anew.
    Restart,
}

/// What `StartDIJob` with `ForceToRerun` does to a job that is running, starting or stopping.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ForcedRerun {
    /// Starts it anew, as the API page says: all steps run again.
    #[default]
    Accepted,
    /// Nothing, and says that the job must be stopped first. The real code is unknown.
    StopFirst(Refusal),
}

/// When `StartedTime` shows a start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StartedTime {
    /// At once, with the time of the start.
    #[default]
    AtAccept,
    /// When the job has left its starting phase, with that time.
    WhenRunning,
    /// So long after the start, with the time of the start.
    Lagging(SignedDuration),
    /// Never: the field is not in the answer.
    Absent,
}

/// How a started job goes on once its starting phase is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Course {
    /// It runs.
    #[default]
    Runs,
    /// It is `Failed` without ever having been seen `Running`.
    Fails {
        /// `ErrorMessage` of the answer.
        message: String,
    },
    /// It runs for so long, then it is `Finished`.
    Finishes(SignedDuration),
    /// It runs for so long, then there is no such job.
    Vanishes(SignedDuration),
}

/// How jobs behave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct JobRules {
    /// A start on a job that is not at rest.
    pub start_on_running: StartOnRunning,
    /// A forced start on a job that is not at rest.
    pub forced_rerun: ForcedRerun,
    /// When `StartedTime` moves.
    pub started_time: StartedTime,
    /// Length of the starting phase.
    pub running_after: SignedDuration,
    /// Status during the starting phase; absent: the one before the start.
    pub starting_word: Option<String>,
    /// What follows the starting phase.
    pub course: Course,
    /// Time between `Stopping` and rest.
    pub stopped_after: SignedDuration,
    /// The word for rest after a stop: `Stopped` or `Stop`.
    pub stopped_word: String,
    /// Reads are answered from a copy of the job that is made anew so often; zero: from the job itself.
    pub read_lag: SignedDuration,
    /// Whether `GetDIJob` leaves `ProjectId` out.
    pub hides_project: bool,
}

impl JobRules {
    /// The word on the wire.
    pub(crate) fn word(&self, status: JobStatus) -> String {
        if status == JobStatus::Stopped { self.stopped_word.clone() } else { status.into() }
    }
}

impl Default for JobRules {
    fn default() -> Self {
        Self {
            start_on_running: StartOnRunning::NoOp,
            forced_rerun: ForcedRerun::Accepted,
            started_time: StartedTime::AtAccept,
            running_after: SignedDuration::from_secs(1),
            starting_word: None,
            course: Course::Runs,
            stopped_after: SignedDuration::from_secs(1),
            stopped_word: "Stopped".to_owned(),
            read_lag: SignedDuration::ZERO,
            hides_project: false,
        }
    }
}
