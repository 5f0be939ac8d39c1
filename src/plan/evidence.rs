//! What a look says of a start: a sign, no sign, or nothing yet.

use jiff::Timestamp;

use super::observed::{Observed, Reading, Seen, after};
use crate::api::{LastStart, PendingStart};
use crate::dataworks::model::{JobState, Version};

/// The job before the call.
#[derive(Clone, Copy, Debug)]
pub struct Baseline<'a> {
    /// Largest `StartedTime` known.
    pub started: Option<i64>,
    /// The cloud's word. `None`: it could not be read, so nothing seen later proves anything.
    pub word: Option<&'a str>,
    /// How it was looked at: host, version of the API, signature.
    pub service: &'a str,
}

impl<'a> From<&'a PendingStart> for Baseline<'a> {
    fn from(record: &'a PendingStart) -> Self {
        Self {
            started: record.baseline_started_time,
            word: record.baseline_job_status.as_deref(),
            service: &record.service,
        }
    }
}

impl<'a> From<&'a LastStart> for Baseline<'a> {
    fn from(record: &'a LastStart) -> Self {
        Self {
            started: record.baseline_started_time,
            word: record.baseline_job_status.as_deref(),
            service: &record.service,
        }
    }
}

/// What a look says of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// It took effect: by us or by somebody else, the job was started after the baseline.
    Sign,
    /// A look late enough to count shows no effect.
    NoSign,
    /// No look late enough yet.
    TooEarly,
    /// Reading is refused; or it was before the call, or told other things by then, and the job is at work now: this look
    /// proves nothing.
    Blind,
}

/// Weighs the last look that was made after our own last call.
///
/// Where `StartedTime` is read, only its growth is a sign. A status word is a sign only where there is none, in a look
/// made at least the settle time after the call, and only if it changed from a baseline that was not running. A baseline
/// and a look of which one tells the time and the other cannot have nothing to compare.
#[must_use]
pub fn weigh(seen: &Observed, reading: Option<&Reading>, baseline: Baseline<'_>, now: Timestamp) -> Evidence {
    let Some(reading) = reading else { return Evidence::TooEarly };
    let settled = reading.at >= after(seen.call_at.unwrap_or(now), seen.settings.settle);
    let without_sign = if settled { Evidence::NoSign } else { Evidence::TooEarly };
    match &reading.seen {
        Seen::Refused(_) => Evidence::Blind,
        Seen::Failed(_) => Evidence::TooEarly,
        Seen::NotFound(_) => without_sign,
        Seen::Job(view) => {
            let comparable = tells_started(baseline.service) == tells_started(seen.service());
            let Some(word) = baseline.word.filter(|_| comparable) else {
                // It may be at work through this call, or have been before it.
                return if is_at_work(&view.word) { Evidence::Blind } else { without_sign };
            };
            let sign = match view.started {
                Some(started) => baseline.started.is_none_or(|before| started > before),
                None => settled && baseline.started.is_none() && began(word, &view.word),
            };
            if sign { Evidence::Sign } else { without_sign }
        }
    }
}

/// Whether a look through that service can tell when a job was last started. Version 2024-05-18 never does (no such field in
/// its `GetDIJob`); a record of an operator that knew no other version names none.
#[must_use]
pub fn tells_started(service: &str) -> bool {
    !service.split(' ').any(|part| part == Version::V2024.as_str())
}

fn began(before: &str, word: &str) -> bool {
    let was_running = JobState::of(before) == JobState::Running;
    !was_running && is_at_work(word) && before != word
}

/// It runs, or ran to its end.
fn is_at_work(word: &str) -> bool {
    matches!(JobState::of(word), JobState::Running | JobState::Finished | JobState::Failed)
}
