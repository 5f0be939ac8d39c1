//! The memory in a job's status: what was asked, sent, answered and handled.
//!
//! Words such as `trigger` and `outcome` are text here, so that a status of a newer operator can still be read.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::job::RealtimeStartSettings;
use super::{bounds, cut, cut_some, is_false};

/// The start inputs that a spec states.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct StartInputs {
    /// As in spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realtime_start_settings: Option<RealtimeStartSettings>,
    /// As in spec.
    #[serde(default, skip_serializing_if = "is_false")]
    pub force_to_rerun: bool,
}

/// The start inputs last handled.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// Region of the job, or the host of the account's endpoint.
    #[schemars(length(max = 256))]
    pub region: String,
    /// Number of the job.
    pub di_job_id: i64,
    /// Name of the account that spec named.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub account: String,
    /// As in spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realtime_start_settings: Option<RealtimeStartSettings>,
    /// As in spec.
    #[serde(default, skip_serializing_if = "is_false")]
    pub force_to_rerun: bool,
    /// Generation of that spec.
    pub generation: i64,
    /// The start of these inputs has no known outcome.
    #[serde(default, skip_serializing_if = "is_false")]
    pub uncertain: bool,
    /// While uncertain: the inputs before, a return to which closes the matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<StartInputs>,
}

impl Applied {
    /// The inputs alone.
    #[must_use]
    pub fn inputs(&self) -> StartInputs {
        StartInputs {
            realtime_start_settings: self.realtime_start_settings.clone(),
            force_to_rerun: self.force_to_rerun,
        }
    }

    pub(super) fn bound(&mut self) {
        cut(&mut self.region, bounds::NAME);
        cut(&mut self.account, bounds::NAME);
    }
}

/// The write-ahead record of one start.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PendingStart {
    /// Number of this record's meaning. An operator leaves a higher number than its own alone.
    pub protocol: i64,
    /// Id of the start, the same over its attempts.
    #[schemars(length(max = 128))]
    pub id: String,
    /// Rerun, FirstApply or SpecChange.
    #[schemars(length(max = 128))]
    pub trigger: String,
    /// Tokens that this start answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2), inner(length(max = 256)))]
    pub rerun_tokens: Vec<String>,
    /// Generation of the spec that it was decided on.
    pub generation: i64,
    /// Region of the job, or the host of the account's endpoint.
    #[schemars(length(max = 256))]
    pub region: String,
    /// Number of the job.
    pub di_job_id: i64,
    /// Name of the account.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub account: String,
    /// 1 for the first sending, more for a resend after one without an answer.
    pub attempt: i64,
    /// SignatureNonce of the request.
    #[schemars(length(max = 128))]
    pub nonce: String,
    /// Timestamp of the signature, on the cloud's clock.
    pub signed_time: Time,
    /// Access key id that signed.
    #[schemars(length(max = 128))]
    pub key_id: String,
    /// Host, version of the API and signature of the request.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub service: String,
    /// The request was answered without saying whether it ran: the next copy bears a new nonce.
    #[serde(default, skip_serializing_if = "is_false")]
    pub answered: bool,
    /// As sent.
    #[serde(default, skip_serializing_if = "is_false")]
    pub force_to_rerun: bool,
    /// As sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realtime_start_settings: Option<RealtimeStartSettings>,
    /// As in spec.
    #[serde(default)]
    pub inputs: StartInputs,
    /// Largest StartedTime known before the call, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline_started_time: Option<i64>,
    /// Word for the job's state before the call. Absent: it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub baseline_job_status: Option<String>,
    /// Lease identity of the process that sends.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub holder: String,
    /// Lease transitions at that time.
    #[serde(default)]
    pub lease_transitions: i64,
}

impl PendingStart {
    /// A start that must not run twice: it redoes a migration, or moves the offset.
    #[must_use]
    pub fn is_forced(&self) -> bool {
        self.force_to_rerun || self.realtime_start_settings.as_ref().is_some_and(|s| s.start_time.is_some())
    }

    pub(super) fn bound(&mut self) {
        cut(&mut self.region, bounds::NAME);
        cut(&mut self.account, bounds::NAME);
        cut(&mut self.holder, bounds::NAME);
        cut(&mut self.key_id, bounds::WORD);
        cut(&mut self.service, bounds::NAME);
        cut_some(&mut self.baseline_job_status, bounds::WORD);
    }
}

/// The last start with an outcome.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LastStart {
    /// Id of the start.
    #[schemars(length(max = 128))]
    pub id: String,
    /// Rerun, FirstApply or SpecChange.
    #[schemars(length(max = 128))]
    pub trigger: String,
    /// Tokens that it answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2), inner(length(max = 256)))]
    pub rerun_tokens: Vec<String>,
    /// Generation of the spec that it was decided on.
    pub generation: i64,
    /// RequestId of the cloud's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub request_id: Option<String>,
    /// As sent.
    #[serde(default, skip_serializing_if = "is_false")]
    pub force_to_rerun: bool,
    /// As sent, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<i64>,
    /// When it was asked for: the time of the request's signature.
    pub requested_time: Time,
    /// Host, version of the API and signature of the request.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub service: String,
    /// Accepted, Confirmed, Rejected or Unknown.
    #[schemars(length(max = 128))]
    pub outcome: String,
    /// Code of the cloud's refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub error: Option<String>,
    /// Largest StartedTime known before the call, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline_started_time: Option<i64>,
    /// Word for the job's state before the call. Absent: it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub baseline_job_status: Option<String>,
    /// How the search for its effect ended without one: Refused, or TimedOut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub confirmation: Option<String>,
}

impl LastStart {
    pub(super) fn bound(&mut self) {
        cut_some(&mut self.request_id, bounds::WORD);
        cut(&mut self.service, bounds::NAME);
        cut_some(&mut self.error, bounds::WORD);
        cut_some(&mut self.baseline_job_status, bounds::WORD);
    }
}

/// The last error in the way of a start.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// API operation that failed.
    #[schemars(length(max = 128))]
    pub operation: String,
    /// Code of the cloud's answer. Absent: no cloud error came back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub code: Option<String>,
    /// What it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// RequestId of the cloud's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub request_id: Option<String>,
    /// HTTP status. Absent: no answer came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<i32>,
    /// When.
    pub time: Time,
    /// Generation of the spec that was tried.
    #[serde(default)]
    pub generation: i64,
    /// Tokens that were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2), inner(length(max = 256)))]
    pub rerun_tokens: Vec<String>,
    /// Versions of the account and its Secret that were used. Another version ends a slow retry at once.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub credentials_version: String,
}

impl LastError {
    pub(super) fn bound(&mut self) {
        cut_some(&mut self.code, bounds::WORD);
        cut_some(&mut self.message, bounds::TEXT);
        cut_some(&mut self.request_id, bounds::WORD);
        cut(&mut self.credentials_version, bounds::NAME);
    }
}

/// One finished start.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FinishedStart {
    /// Id of the start.
    #[schemars(length(max = 128))]
    pub id: String,
    /// Rerun, FirstApply or SpecChange.
    #[schemars(length(max = 128))]
    pub trigger: String,
    /// Tokens that it answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2), inner(length(max = 256)))]
    pub rerun_tokens: Vec<String>,
    /// Generation of the spec.
    pub generation: i64,
    /// Accepted, Confirmed, Rejected or Unknown.
    #[schemars(length(max = 128))]
    pub outcome: String,
    /// Code of the cloud's refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub code: Option<String>,
    /// RequestId of the cloud's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub request_id: Option<String>,
    /// When it was asked for.
    pub time: Time,
}

impl FinishedStart {
    pub(super) fn bound(&mut self) {
        cut_some(&mut self.code, bounds::WORD);
        cut_some(&mut self.request_id, bounds::WORD);
    }
}
