//! What a user does, and when all of it has come true.
//!
//! **May touch:** its arguments.

use dijob_operator::api::{DataIntegrationJob, JobStatus};
use serde_json::{Value, json};

use crate::support::world::{is_ready, tenant::Tenant};

/// The job in the cloud.
pub const CLOUD_JOB: i64 = 4711;
/// The object.
pub const JOB: &str = "job";
/// The token of a rerun.
pub const TOKEN: &str = "again";

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The operator meets a job that was never run.
    FirstStart,
    /// Another failover setting.
    SpecChange,
    /// Another offset.
    OffsetChange,
    /// A new token.
    Rerun,
    /// A new token under both annotations.
    ForcedRerun,
}

/// One story: one start of one job is asked for, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Story {
    /// Its name on the command line.
    pub name: &'static str,
    /// What is asked for.
    pub act: Act,
    /// The start redoes a migration or moves the offset: at most once.
    pub forced: bool,
    /// What else is special.
    pub setting: Setting,
}

/// What is special about a story besides its act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Nothing.
    Plain,
    /// The key is replaced, in the cloud too, as soon as the intent is written.
    Rotation,
    /// Two replicas, of which the first leads.
    Election,
    /// In version 2024-05-18, which tells no `StartedTime`.
    Newer,
}

const fn story(name: &'static str, act: Act, forced: bool) -> Story {
    Story { name, act, forced, setting: Setting::Plain }
}

/// All of them.
pub const STORIES: [Story; 13] = [
    story("first-start", Act::FirstStart, false),
    story("forced-first-start", Act::FirstStart, true),
    story("spec-change", Act::SpecChange, false),
    story("offset-change", Act::OffsetChange, true),
    story("rerun", Act::Rerun, false),
    story("forced-rerun", Act::ForcedRerun, true),
    Story { setting: Setting::Rotation, ..story("rotation", Act::Rerun, false) },
    Story { setting: Setting::Rotation, ..story("forced-rotation", Act::ForcedRerun, true) },
    Story { setting: Setting::Election, ..story("fail-over", Act::Rerun, false) },
    Story { setting: Setting::Election, ..story("forced-fail-over", Act::ForcedRerun, true) },
    Story { setting: Setting::Newer, ..story("newer-first-start", Act::FirstStart, false) },
    Story { setting: Setting::Newer, ..story("newer-rerun", Act::Rerun, false) },
    Story { setting: Setting::Newer, ..story("newer-forced-rerun", Act::ForcedRerun, true) },
];

impl Story {
    /// The story of that name.
    pub fn of(name: &str) -> Option<Self> {
        STORIES.into_iter().find(|story| story.name == name)
    }

    /// The object before the act.
    pub fn spec(self) -> Value {
        match self.act {
            Act::FirstStart if self.forced => json!({ "diJobId": CLOUD_JOB, "forceToRerun": true }),
            Act::FirstStart | Act::SpecChange | Act::OffsetChange | Act::Rerun | Act::ForcedRerun => {
                json!({ "diJobId": CLOUD_JOB })
            }
        }
    }

    /// Whether the operator knows the job as running before the act.
    pub fn begins_adopted(self) -> bool {
        self.act != Act::FirstStart
    }

    /// The key is replaced.
    pub fn rotates(self) -> bool {
        self.setting == Setting::Rotation
    }

    /// There are two replicas.
    pub fn elected(self) -> bool {
        self.setting == Setting::Election
    }

    /// The newer version of the API is called.
    pub fn newer(self) -> bool {
        self.setting == Setting::Newer
    }

    /// Whether a look can tell that the start ran: not by its word, if the job runs all along.
    pub fn shows_a_sign(self) -> bool {
        !(self.newer() && self.begins_adopted())
    }

    /// The act, but for that of a first start: the operator's own start is that.
    pub async fn act(self, tenant: &Tenant) {
        let settings = |settings: Value| json!({ "spec": { "realtimeStartSettings": settings } });
        let patch = match self.act {
            Act::FirstStart => return,
            Act::SpecChange => settings(json!({ "failoverSettings": { "interval": 5 } })),
            Act::OffsetChange => settings(json!({ "startTime": 1_671_516_776 })),
            Act::Rerun => json!({ "metadata": { "annotations": { "dijob.dev/rerun": TOKEN } } }),
            Act::ForcedRerun => json!({ "metadata": { "annotations": {
                "dijob.dev/rerun": TOKEN, "dijob.dev/rerun-force": TOKEN,
            } } }),
        };
        tenant.merge(JOB, &patch).await;
    }

    /// The trigger that status names.
    pub fn trigger(self) -> &'static str {
        match self.act {
            Act::FirstStart => "FirstApply",
            Act::SpecChange | Act::OffsetChange => "SpecChange",
            Act::Rerun | Act::ForcedRerun => "Rerun",
        }
    }

    /// The tokens that are asked for.
    pub fn tokens(self) -> Vec<String> {
        match self.act {
            Act::FirstStart | Act::SpecChange | Act::OffsetChange => Vec::new(),
            Act::Rerun | Act::ForcedRerun => vec![TOKEN.to_owned()],
        }
    }

    /// All that was asked for has come true.
    pub fn is_done(self, job: &DataIntegrationJob) -> bool {
        let started =
            |status: &JobStatus| status.last_start.as_ref().is_some_and(|last| last.trigger == self.trigger());
        is_ready(job) && job.status.as_ref().is_some_and(started)
    }
}
