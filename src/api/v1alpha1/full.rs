//! A status with every field set: what the CRD must be able to hold.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    Applied, FailoverSettings, FinishedStart, JobStatus, LastError, LastStart, PendingStart, RealtimeStartSettings,
    StartInputs,
};
use crate::api::condition::{ConditionStatus, ConditionType, Reason, Saying, set, whole_seconds};

fn word() -> String {
    "x".to_owned()
}

fn time() -> Time {
    whole_seconds(Timestamp::UNIX_EPOCH)
}

fn settings() -> RealtimeStartSettings {
    RealtimeStartSettings {
        start_time: Some(1_671_516_776),
        failover_settings: Some(FailoverSettings { interval: Some(10), upper_limit: Some(30) }),
    }
}

fn inputs() -> StartInputs {
    StartInputs { realtime_start_settings: Some(settings()), force_to_rerun: true }
}

impl JobStatus {
    /// Every field set. Without `..`, so that a new field does not compile until it is here.
    #[must_use]
    pub fn full() -> Self {
        let says = Saying {
            type_: ConditionType::Ready,
            status: ConditionStatus::Unknown,
            reason: Reason::StartDue,
            message: word(),
        };
        Self {
            observed_generation: 1,
            conditions: set(&[], vec![says], 1, Timestamp::UNIX_EPOCH),
            job_status: Some(word()),
            job_status_time: Some(time()),
            job_name: Some(word()),
            job_error: Some(word()),
            job_started_time: Some(time()),
            applied: Some(applied()),
            uid: Some(word()),
            pending_start: Some(pending()),
            open_until: Some(time()),
            last_start: Some(last_start()),
            last_error: Some(last_error()),
            handled_rerun_tokens: vec![word()],
            attempts: 1,
            next_attempt_time: Some(time()),
            history: vec![finished()],
        }
    }
}

fn applied() -> Applied {
    Applied {
        region: word(),
        di_job_id: 1,
        account: word(),
        realtime_start_settings: Some(settings()),
        force_to_rerun: true,
        generation: 1,
        uncertain: true,
        previous: Some(inputs()),
    }
}

fn pending() -> PendingStart {
    PendingStart {
        protocol: 1,
        id: word(),
        trigger: word(),
        rerun_tokens: vec![word()],
        generation: 1,
        region: word(),
        di_job_id: 1,
        account: word(),
        attempt: 1,
        nonce: word(),
        signed_time: time(),
        key_id: word(),
        service: word(),
        answered: true,
        force_to_rerun: true,
        realtime_start_settings: Some(settings()),
        inputs: inputs(),
        baseline_started_time: Some(1),
        baseline_job_status: Some(word()),
        holder: word(),
        lease_transitions: 1,
    }
}

fn last_start() -> LastStart {
    LastStart {
        id: word(),
        trigger: word(),
        rerun_tokens: vec![word()],
        generation: 1,
        request_id: Some(word()),
        force_to_rerun: true,
        start_time: Some(1),
        requested_time: time(),
        service: word(),
        outcome: word(),
        error: Some(word()),
        baseline_started_time: Some(1),
        baseline_job_status: Some(word()),
        confirmation: Some(word()),
    }
}

fn last_error() -> LastError {
    LastError {
        operation: word(),
        code: Some(word()),
        message: Some(word()),
        request_id: Some(word()),
        http_status: Some(500),
        time: time(),
        generation: 1,
        rerun_tokens: vec![word()],
        credentials_version: word(),
    }
}

fn finished() -> FinishedStart {
    FinishedStart {
        id: word(),
        trigger: word(),
        rerun_tokens: vec![word()],
        generation: 1,
        outcome: word(),
        code: Some(word()),
        request_id: Some(word()),
        time: time(),
    }
}
