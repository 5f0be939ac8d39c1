//! What the operator knows of a `DataWorksAccount`.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{bounds, cut};
use crate::api::condition::{Condition, ConditionStatus, ConditionType, Reason, Saying, set, whole_seconds};

/// What the operator knows of an account. Written by the operator alone, when a condition changes, when calls begin or
/// end to pause for more than a minute, ahead of every fifth call where calls of a day are limited, and, once a minute at
/// most, when the number of jobs changed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AccountStatus {
    /// observedGeneration is the generation of the spec that this status speaks of; -1: never looked at.
    #[serde(default)]
    pub observed_generation: i64,
    /// conditions: Ready always; Reconciling and Stalled as they apply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// callsToday counts the calls of a day ahead of their use, in blocks of 5, so that no restart refills the day. Absent: the account has no limit of the day, or no call was made yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_today: Option<CallsToday>,
    /// callsLeftToday beside those that callsToday counts, when this status was written. Absent: no limit, or not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_left_today: Option<i32>,
    /// throttledUntil is the end of a pause of all calls of more than a minute: the cloud throttles, or the day is used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled_until: Option<Time>,
    /// readsPerSecond is the pace of reads when this status was written. Absent: there is no key yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads_per_second: Option<f64>,
    /// writesPerSecond is the pace of writes when this status was written. Absent: there is no key yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writes_per_second: Option<f64>,
    /// lastAcceptedTime is when the cloud last accepted a call, as of when this status was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_accepted_time: Option<Time>,
    /// jobs that name this account, when this status was written.
    #[serde(default)]
    pub jobs: i32,
}

/// The count of one day.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CallsToday {
    /// day of UTC+8, as 2026-11-24.
    #[schemars(length(max = 128))]
    pub day: String,
    /// counted: at most so many calls were made on that day, refused and failed ones included.
    pub counted: i64,
}

impl AccountStatus {
    /// Cuts every text to the bounds of the schema, so that no status can be refused.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        for c in &mut self.conditions {
            cut(&mut c.message, bounds::TEXT);
        }
        if let Some(today) = &mut self.calls_today {
            cut(&mut today.day, bounds::WORD);
        }
        self
    }

    /// Every field set: what the CRD must be able to hold. Without `..`, so that a new field does not compile until it is here.
    #[must_use]
    pub fn full() -> Self {
        let says = Saying {
            type_: ConditionType::Ready,
            status: ConditionStatus::Unknown,
            reason: Reason::AccountReady,
            message: "x".to_owned(),
        };
        let time = whole_seconds(Timestamp::UNIX_EPOCH);
        Self {
            observed_generation: 1,
            conditions: set(&[], vec![says], 1, Timestamp::UNIX_EPOCH),
            calls_today: Some(CallsToday { day: "2026-11-24".to_owned(), counted: 1 }),
            calls_left_today: Some(1),
            throttled_until: Some(time.clone()),
            reads_per_second: Some(0.5),
            writes_per_second: Some(0.5),
            last_accepted_time: Some(time),
            jobs: 1,
        }
    }
}
