//! `DataIntegrationJob`: one Data Integration job of DataWorks, and when it is to be started.

#![expect(clippy::duplicated_attributes, reason = "printer columns repeat their keys")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::record::{Applied, FinishedStart, LastError, LastStart, PendingStart};
use super::{OBJECT_NAME, bounds, cut, cut_some, is_zero};
use crate::api::condition::Condition;

/// A Data Integration job of Alibaba Cloud DataWorks. The operator starts it when it is first applied, when its start
/// settings change, and when a rerun is asked for by the annotation dijob.dev/rerun or by rerunToken.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "dijob.dev",
    version = "v1alpha1",
    kind = "DataIntegrationJob",
    namespaced,
    shortname = "dij",
    category = "dataworks",
    status = "JobStatus",
    doc = "A Data Integration job of DataWorks, and when it is to be started.",
    derive = "PartialEq",
    selectable = ".spec.diJobId",
    selectable = ".spec.accountRef.name",
    selectable = ".status.jobStatus",
    printcolumn(name = "Job-ID", type_ = "integer", json_path = ".spec.diJobId"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(
        name = "Since",
        type_ = "date",
        json_path = ".status.conditions[?(@.type==\"Ready\")].lastTransitionTime"
    ),
    printcolumn(name = "State", type_ = "string", json_path = ".status.jobStatus"),
    printcolumn(name = "Last-Start", type_ = "date", json_path = ".status.lastStart.requestedTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Outcome", type_ = "string", priority = 1, json_path = ".status.lastStart.outcome"),
    printcolumn(name = "Next-Attempt", type_ = "string", priority = 1, json_path = ".status.nextAttemptTime"),
    printcolumn(name = "Request-ID", type_ = "string", priority = 1, json_path = ".status.lastStart.requestId"),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = 1,
        json_path = ".status.conditions[?(@.type==\"Ready\")].message"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct DataIntegrationJobSpec {
    /// accountRef names the DataWorksAccount, in the same namespace, that calls are made with. Default: the one named "default".
    #[serde(default)]
    pub account_ref: AccountRef,
    /// diJobId is the number of the job in DataWorks (`DIJobId`), 1 or more. Another number is another job: it is started anew, or adopted if it already runs.
    #[x_kube(validation = Rule::new("self >= 1").message("diJobId is the number of the job in DataWorks, 1 or more"))]
    pub di_job_id: i64,
    /// realtimeStartSettings are sent with a start. A change of them starts the job; taking one away does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realtime_start_settings: Option<RealtimeStartSettings>,
    /// forceToRerun: true runs all steps of the job anew (a full migration again). Sent with the first start, with a rerun, and when it is turned on; such a start is sent at most once.
    #[serde(default)]
    pub force_to_rerun: bool,
    /// rerunToken asks for one more start whenever it holds a word not handled before; the same request as the annotation dijob.dev/rerun, for those who keep it in Git. Empty: no request.
    #[serde(default)]
    #[schemars(length(max = 256))]
    #[x_kube(validation = Rule::new("self.matches('^[!-~]*$')").message("rerunToken is a plain word of at most 256 printable ASCII characters without spaces"))]
    pub rerun_token: String,
    /// onUnknown says what to do when an ordinary start was sent and no answer came. Resolve (default): look, and send it again if it had no effect. Hold: never send it twice; a person decides.
    #[serde(default)]
    pub on_unknown: OnUnknown,
    /// suspend: true stops every call that changes something in the cloud. The job itself runs on.
    #[serde(default)]
    pub suspend: bool,
}

/// Names a DataWorksAccount in the job's own namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct AccountRef {
    /// name of the DataWorksAccount, in the same namespace.
    #[serde(default = "default_account")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
}

fn default_account() -> String {
    "default".to_owned()
}

impl Default for AccountRef {
    fn default() -> Self {
        Self { name: default_account() }
    }
}

/// What `StartDIJob` is told about a real-time job.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RealtimeStartSettings {
    /// startTime moves the offset from which data are read: Unix time in seconds, 10 digits. Absent: the offset is kept. Sent with the first start, with each rerun, and when it is new; such a start is sent at most once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 946684800 && self <= 4102444799").message("startTime is in Unix seconds (10 digits, e.g. 1671516776), not milliseconds"))]
    pub start_time: Option<i64>,
    /// failoverSettings say how often the job is restarted by the cloud after a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover_settings: Option<FailoverSettings>,
}

impl RealtimeStartSettings {
    /// An empty object means the same as an absent one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start_time.is_none() && self.failover_settings.as_ref().is_none_or(FailoverSettings::is_empty)
    }
}

/// The cloud's own restarts of a failed job.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FailoverSettings {
    /// interval over which restarts are counted, in minutes, 1 to 10080.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10080))]
    pub interval: Option<i64>,
    /// upperLimit of restarts in that interval, 0 to 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10000))]
    pub upper_limit: Option<i64>,
}

impl FailoverSettings {
    fn is_empty(&self) -> bool {
        self.interval.is_none() && self.upper_limit.is_none()
    }
}

/// What to do when an ordinary start has no answer.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnknown {
    /// Look, and send again what had no effect.
    #[default]
    Resolve,
    /// Never send it twice.
    Hold,
}

/// What the operator knows and did. Written by the operator alone.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// observedGeneration is the generation of the spec that this status speaks of; -1: never looked at.
    #[serde(default)]
    pub observed_generation: i64,
    /// conditions: Ready always; Reconciling, Stalled, Started, Observed and Throttled as they apply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// jobStatus is the cloud's word for the job's state when it was last read, verbatim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub job_status: Option<String>,
    /// jobStatusTime is when that word was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_status_time: Option<Time>,
    /// jobName is the job's name in DataWorks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub job_name: Option<String>,
    /// jobError is the cloud's text on why the job failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub job_error: Option<String>,
    /// jobStartedTime is the largest `StartedTime` that the cloud told of this job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_started_time: Option<Time>,
    /// applied holds the start inputs last handled, and the generation that they came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Applied>,
    /// uid of the object that this status was made for: a copied status is no history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub uid: Option<String>,
    /// pendingStart is written before `StartDIJob` is sent, and stays while it is not known whether that start ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_start: Option<PendingStart>,
    /// openUntil is when the newest request without an answer can no longer be accepted by the cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_until: Option<Time>,
    /// lastStart is the last start with an outcome: Accepted, Confirmed, Rejected or Unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_start: Option<LastStart>,
    /// lastError is the last error in the way of a start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
    /// handledRerunTokens, newest last: a token listed here starts nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 12), inner(length(max = 256)))]
    pub handled_rerun_tokens: Vec<String>,
    /// attempts that failed in a row, while a retry is due.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: i32,
    /// nextAttemptTime is the earliest time of the next attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_time: Option<Time>,
    /// history holds the last 5 finished starts, newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub history: Vec<FinishedStart>,
}

impl JobStatus {
    /// Cuts every text and list to the bounds of the schema, so that no status can be refused.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        for c in &mut self.conditions {
            cut(&mut c.message, bounds::TEXT);
        }
        cut_some(&mut self.job_status, bounds::WORD);
        cut_some(&mut self.job_name, bounds::NAME);
        cut_some(&mut self.job_error, bounds::TEXT);
        cut_some(&mut self.uid, bounds::WORD);
        if let Some(applied) = &mut self.applied {
            applied.bound();
        }
        if let Some(pending) = &mut self.pending_start {
            pending.bound();
        }
        if let Some(last) = &mut self.last_start {
            last.bound();
        }
        if let Some(error) = &mut self.last_error {
            error.bound();
        }
        let extra = self.history.len().saturating_sub(bounds::HISTORY);
        self.history.drain(..extra);
        self.history.iter_mut().for_each(FinishedStart::bound);
        let extra = self.handled_rerun_tokens.len().saturating_sub(bounds::TOKENS + bounds::REQUESTS);
        self.handled_rerun_tokens.drain(..extra);
        self
    }
}
