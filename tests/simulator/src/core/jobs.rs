//! The jobs of the cloud, and how their state moves as time passes.
//!
//! **May touch:** its arguments; time is passed in.
//!
//! **Guarantees**
//! 1. A job is a function of time: whoever looks at it at `t` sees all that was due until `t`, in order.
//! 2. A start, a stop or a person's hand replaces what was still to come from an earlier one.
//! 3. `StartedTime` is whole seconds, as on the wire, and set by starts and by hand alone.
//!
//! The cloud documents no table of transitions (API page 1.4); what is not known is a rule here that can be switched.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::Refusal;
pub use super::rules::{Course, ForcedRerun, JobRules, StartOnRunning, StartedTime};

/// `JobStatus` of API page 1.4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum JobStatus {
    /// Never run.
    Initialized,
    /// At work.
    Running,
    /// On its way to rest.
    Stopping,
    /// At rest; the word on the wire is a rule.
    Stopped,
    /// Ended with an error.
    Failed,
    /// Ended as it should.
    Finished,
    /// A word that nobody documented.
    Other(String),
}

impl From<String> for JobStatus {
    fn from(word: String) -> Self {
        match word.as_str() {
            "Initialized" => Self::Initialized,
            "Running" => Self::Running,
            "Stopping" => Self::Stopping,
            "Stopped" => Self::Stopped,
            "Failed" => Self::Failed,
            "Finished" => Self::Finished,
            _ => Self::Other(word),
        }
    }
}

impl From<JobStatus> for String {
    fn from(status: JobStatus) -> Self {
        match status {
            JobStatus::Initialized => "Initialized".to_owned(),
            JobStatus::Running => "Running".to_owned(),
            JobStatus::Stopping => "Stopping".to_owned(),
            JobStatus::Stopped => "Stopped".to_owned(),
            JobStatus::Failed => "Failed".to_owned(),
            JobStatus::Finished => "Finished".to_owned(),
            JobStatus::Other(word) => word,
        }
    }
}

/// How long a job remembers what it was: longer than any sensible [`JobRules::read_lag`].
const MEMORY: SignedDuration = SignedDuration::from_hours(1);

/// One DI job, as it is at the time of the look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// `DIJobId`.
    pub id: i64,
    /// The main account that it belongs to; to others it does not exist. Absent: to every account.
    pub account: Option<String>,
    /// `JobName`.
    pub name: String,
    /// `ProjectId`.
    pub project_id: i64,
    /// `JobStatus`.
    pub status: JobStatus,
    /// `StartedTime`, Unix seconds. Absent: no start was shown yet.
    pub started_time: Option<i64>,
    /// `ErrorMessage`.
    pub error_message: Option<String>,
    /// `CreatedTime`, Unix seconds.
    pub created_time: i64,
    /// Whether it has ceased to exist.
    #[serde(skip)]
    pub(crate) is_gone: bool,
    #[serde(skip)]
    to_come: Vec<(Timestamp, Change)>,
    /// What a look saw from each of these times on; oldest first.
    #[serde(skip)]
    past: Vec<(Timestamp, Look)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Status(JobStatus),
    Fail(String),
    ShowStart(i64),
    Vanish,
}

/// What a look sees move.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Look {
    status: JobStatus,
    started_time: Option<i64>,
    error_message: Option<String>,
}

/// A change of a job by hand. Absent fields stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct JobPatch {
    /// New owner.
    pub account: Option<String>,
    /// New name.
    pub name: Option<String>,
    /// New project.
    pub project_id: Option<i64>,
    /// New status, at once; what was still to come is cancelled.
    pub status: Option<JobStatus>,
    /// New `StartedTime`, Unix seconds, any number.
    pub started_time: Option<i64>,
    /// New `ErrorMessage`.
    pub error_message: Option<String>,
    /// A person starts or stops the job in the console, after the other fields are set.
    pub console: Option<Console>,
}

/// What a person can do to a job in the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Console {
    /// Starts it, by the same rules as a call.
    Start,
    /// Starts it with `ForceToRerun`, by the same rules as a call.
    Rerun,
    /// Stops it.
    Stop,
}

/// What a start did to its job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// A job at rest was started.
    Started,
    /// A job not at rest was started anew.
    Restarted,
    /// Nothing: it was not at rest.
    NoOp,
    /// Nothing: it was not at rest, and that is an error.
    Refused(Refusal),
}

impl Job {
    /// A job that never ran.
    #[must_use]
    pub fn new(id: i64, now: Timestamp) -> Self {
        let mut job = Self {
            id,
            account: None,
            name: format!("job_{id}"),
            project_id: 10_000,
            status: JobStatus::Initialized,
            started_time: None,
            error_message: None,
            created_time: now.as_second(),
            is_gone: false,
            to_come: Vec::new(),
            past: Vec::new(),
        };
        job.remember(now);
        job
    }

    /// Lets happen all that is due until `now`.
    pub fn advance(&mut self, now: Timestamp) {
        while self.to_come.first().is_some_and(|(at, _)| *at <= now) {
            let (at, change) = self.to_come.remove(0);
            match change {
                Change::Status(status) => self.status = status,
                Change::Fail(message) => {
                    self.status = JobStatus::Failed;
                    self.error_message = Some(message);
                }
                Change::ShowStart(seconds) => self.started_time = Some(seconds),
                Change::Vanish => self.is_gone = true,
            }
            self.remember(at);
        }
    }

    /// What a start would do now, without doing it.
    #[must_use]
    pub fn effect_of_start(&self, rules: &JobRules, forced: bool) -> Effect {
        let is_moving = self.to_come.iter().any(|(_, change)| change.is_move());
        if !is_moving && !matches!(self.status, JobStatus::Running | JobStatus::Stopping) {
            return Effect::Started;
        }
        if forced {
            return match &rules.forced_rerun {
                ForcedRerun::Accepted => Effect::Restarted,
                ForcedRerun::StopFirst(refusal) => Effect::Refused(refusal.clone()),
            };
        }
        match &rules.start_on_running {
            StartOnRunning::NoOp => Effect::NoOp,
            StartOnRunning::Error(refusal) => Effect::Refused(refusal.clone()),
            StartOnRunning::Restart => Effect::Restarted,
        }
    }

    /// Starts the job at `now`, if the rules let it.
    pub fn start(&mut self, now: Timestamp, rules: &JobRules, forced: bool) -> Effect {
        self.advance(now);
        let effect = self.effect_of_start(rules, forced);
        if !matches!(effect, Effect::Started | Effect::Restarted) {
            return effect;
        }
        self.cancel_moves();
        self.error_message = None;
        if let Some(word) = &rules.starting_word {
            self.status = JobStatus::from(word.clone());
        }
        let running_at = now + rules.running_after;
        match &rules.course {
            Course::Runs => self.plan(running_at, Change::Status(JobStatus::Running)),
            Course::Fails { message } => self.plan(running_at, Change::Fail(message.clone())),
            Course::Finishes(after) => {
                self.plan(running_at, Change::Status(JobStatus::Running));
                self.plan(running_at + *after, Change::Status(JobStatus::Finished));
            }
            Course::Vanishes(after) => {
                self.plan(running_at, Change::Status(JobStatus::Running));
                self.plan(running_at + *after, Change::Vanish);
            }
        }
        match rules.started_time {
            StartedTime::AtAccept => self.started_time = Some(now.as_second()),
            StartedTime::WhenRunning => self.plan(running_at, Change::ShowStart(running_at.as_second())),
            StartedTime::Lagging(lag) => self.plan(now + lag, Change::ShowStart(now.as_second())),
            StartedTime::Absent => {}
        }
        self.remember(now);
        self.advance(now);
        effect
    }

    /// Stops the job at `now`.
    pub fn stop(&mut self, now: Timestamp, rules: &JobRules) {
        self.advance(now);
        self.cancel_moves();
        self.status = JobStatus::Stopping;
        self.remember(now);
        self.plan(now + rules.stopped_after, Change::Status(JobStatus::Stopped));
        self.advance(now);
    }

    /// Changes the job by hand. Returns what a person's start did, if there was one.
    pub fn patch(&mut self, now: Timestamp, patch: &JobPatch, rules: &JobRules) -> Option<Effect> {
        let JobPatch { account, name, project_id, status, started_time, error_message, console } = patch.clone();
        self.advance(now);
        if let Some(status) = status {
            self.cancel_moves();
            self.status = status;
        }
        self.account = account.or(self.account.take());
        self.name = name.unwrap_or(std::mem::take(&mut self.name));
        self.project_id = project_id.unwrap_or(self.project_id);
        self.started_time = started_time.or(self.started_time);
        self.error_message = error_message.or(self.error_message.take());
        self.remember(now);
        match console {
            Some(Console::Start) => Some(self.start(now, rules, false)),
            Some(Console::Rerun) => Some(self.start(now, rules, true)),
            Some(Console::Stop) => {
                self.stop(now, rules);
                None
            }
            None => None,
        }
    }

    /// `Data` of `GetDIJob`, 2020-05-18, as a read at `now` is told.
    #[must_use]
    pub fn data(&self, now: Timestamp, rules: &JobRules, caller: &str) -> Value {
        let Look { status, started_time, error_message } = self.seen(now, rules.read_lag);
        let mut data = json!({
            "DIJobId": self.id,
            "JobName": self.name,
            "ProjectId": self.project_id,
            "JobStatus": rules.word(status),
            "MigrationType": "FullAndRealtimeIncremental",
            "SourceDataSourceType": "MySQL",
            "DestinationDataSourceType": "Hologres",
            "CreatedTime": self.created_time,
            "CreatedUid": self.account.as_deref().unwrap_or(caller),
            "RunStats": {},
        });
        let started = started_time.filter(|_| rules.started_time != StartedTime::Absent);
        if let Some(fields) = data.as_object_mut() {
            if let Some(seconds) = started {
                fields.insert("StartedTime".to_owned(), json!(seconds));
                fields.insert("StartedUid".to_owned(), json!(self.account.as_deref().unwrap_or(caller)));
            }
            if let Some(message) = error_message {
                fields.insert("ErrorMessage".to_owned(), json!(message));
            }
            if rules.hides_project {
                fields.remove("ProjectId");
            }
        }
        data
    }

    /// `PagingInfo` of `GetDIJob`, 2024-05-18. It tells of no start: its status moves, and that is all. `DIJobId` is text.
    #[must_use]
    pub fn paging_info(&self, now: Timestamp, rules: &JobRules, caller: &str) -> Value {
        let mut info = json!({
            "Id": self.id,
            "DIJobId": self.id.to_string(),
            "JobName": self.name,
            "ProjectId": self.project_id,
            "JobStatus": rules.word(self.seen(now, rules.read_lag).status),
            "JobType": "DatabaseRealtimeMigration",
            "MigrationType": "FullAndRealtimeIncremental",
            "Owner": self.account.as_deref().unwrap_or(caller),
            "SourceDataSourceType": "MySQL",
            "DestinationDataSourceType": "Hologres",
        });
        if let (true, Some(fields)) = (rules.hides_project, info.as_object_mut()) {
            fields.remove("ProjectId");
        }
        info
    }

    /// The job as it was when the copy that reads are answered from was made.
    fn seen(&self, now: Timestamp, lag: SignedDuration) -> Look {
        let age = now.as_nanosecond().checked_rem_euclid(lag.as_nanos()).unwrap_or_default();
        let made = now.as_nanosecond() - age;
        let known = self.past.iter().rfind(|(at, _)| at.as_nanosecond() <= made).or(self.past.first());
        known.map_or_else(|| self.look(), |(_, look)| look.clone())
    }

    fn look(&self) -> Look {
        let Self { status, started_time, error_message, .. } = self;
        Look { status: status.clone(), started_time: *started_time, error_message: error_message.clone() }
    }

    fn remember(&mut self, at: Timestamp) {
        let look = self.look();
        if self.past.last().is_some_and(|(_, last)| *last == look) {
            return;
        }
        self.past.push((at, look));
        let old = self.past.iter().skip(1).take_while(|(later, _)| at.duration_since(*later) > MEMORY).count();
        self.past.drain(..old);
    }

    fn plan(&mut self, at: Timestamp, change: Change) {
        let place = self.to_come.partition_point(|(other, _)| *other <= at);
        self.to_come.insert(place, (at, change));
    }

    /// A lagging `StartedTime` still shows: it tells of a start that happened.
    fn cancel_moves(&mut self) {
        self.to_come.retain(|(_, change)| !change.is_move());
    }
}

impl Change {
    fn is_move(&self) -> bool {
        match self {
            Self::Status(_) | Self::Fail(_) | Self::Vanish => true,
            Self::ShowStart(_) => false,
        }
    }
}

/// All jobs by id.
pub type Jobs = BTreeMap<i64, Job>;

#[cfg(test)]
#[path = "jobs_tests.rs"]
mod tests;
