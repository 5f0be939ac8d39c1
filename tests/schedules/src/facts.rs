//! What a run left behind, as the oracle reads it: versions of objects, commits, arrivals.
//!
//! **May touch:** its arguments.

use std::collections::BTreeMap;

use dijob_operator::api::{DataIntegrationJob, DataIntegrationJobSpec, JobStatus, PendingStart};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use simulator::{Entry, Verdict};

use crate::world::Record;

/// One version of one object.
pub(crate) struct Version {
    pub(crate) time: Timestamp,
    pub(crate) generation: i64,
    pub(crate) spec: DataIntegrationJobSpec,
    pub(crate) rerun: Option<String>,
    pub(crate) force: Option<String>,
    pub(crate) status: JobStatus,
    pub(crate) deleting: bool,
    pub(crate) caller: String,
}

/// All versions of one object.
pub(crate) struct Object {
    pub(crate) versions: Vec<Version>,
    pub(crate) gone: bool,
}

/// A start that the API server has accepted, and the object as it was just before.
pub(crate) struct Commit<'a> {
    pub(crate) at: Timestamp,
    pub(crate) record: &'a PendingStart,
    pub(crate) before: &'a Version,
    pub(crate) epoch: usize,
    pub(crate) caller: &'a str,
}

/// What a run amounts to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Starts that the cloud carried out.
    pub executions: u64,
    /// Starts that were carried out once more by lawful attempts.
    pub lawful_doubles: u64,
    /// Records committed.
    pub commits: u64,
}

/// A broken promise: its number, and what broke it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Such as `I1`.
    pub invariant: &'static str,
    /// What happened.
    pub what: String,
}

pub(crate) type Check = Result<(), Broken>;

pub(crate) fn demand(holds: bool, invariant: &'static str, what: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(Broken { invariant, what: what() }) }
}

pub(crate) fn secs(n: i64) -> SignedDuration {
    SignedDuration::from_secs(n)
}

pub(crate) fn objects(run: &Record) -> Result<BTreeMap<String, Object>, Broken> {
    let mut objects: BTreeMap<String, Object> = BTreeMap::new();
    for change in run.history.iter().filter(|c| &*c.resource == "dataintegrationjobs") {
        let job: DataIntegrationJob = serde_json::from_value(change.object().clone())
            .map_err(|e| Broken { invariant: "I9", what: format!("an object cannot be read back: {e}") })?;
        let annotation = |name: &str| job.metadata.annotations.as_ref().and_then(|a| a.get(name)).cloned();
        let version = Version {
            time: change.time,
            generation: job.metadata.generation.unwrap_or_default(),
            rerun: annotation("dijob.dev/rerun"),
            force: annotation("dijob.dev/rerun-force"),
            deleting: job.metadata.deletion_timestamp.is_some(),
            spec: job.spec,
            status: job.status.unwrap_or_default(),
            caller: change.caller.to_string(),
        };
        let uid = job.metadata.uid.unwrap_or_default();
        let object = objects.entry(uid).or_insert(Object { versions: Vec::new(), gone: false });
        if change.happened == api_server::Happened::Deleted {
            object.gone = true;
        } else {
            object.versions.push(version);
        }
    }
    Ok(objects)
}

pub(crate) fn is_process(caller: &str) -> bool {
    caller.strip_prefix('p').is_some_and(|rest| rest.parse::<u64>().is_ok())
}

/// Every commit. `epoch` counts how often the object has meant another job.
pub(crate) fn commits(object: &Object) -> Vec<Commit<'_>> {
    let (mut all, mut epoch) = (Vec::new(), 0);
    for (before, after) in object.versions.iter().zip(object.versions.iter().skip(1)) {
        epoch += usize::from(before.spec.di_job_id != after.spec.di_job_id);
        let (old, new) = (&before.status.pending_start, &after.status.pending_start);
        let Some(record) = new.as_ref().filter(|_| is_process(&after.caller)) else { continue };
        if old.as_ref().is_none_or(|p| p.id != record.id || p.attempt < record.attempt) {
            all.push(Commit { at: after.time, record, before, epoch, caller: &after.caller });
        }
    }
    all
}

pub(crate) fn starts(run: &Record) -> impl Iterator<Item = &Entry> {
    run.ledger.of_action("StartDIJob")
}

pub(crate) type Inputs = (Option<i64>, Option<i64>, Option<i64>, bool);

pub(crate) fn inputs(spec: &DataIntegrationJobSpec) -> Inputs {
    let settings = spec.realtime_start_settings.as_ref();
    let failover = settings.and_then(|s| s.failover_settings.as_ref());
    let interval = failover.and_then(|f| f.interval);
    (settings.and_then(|s| s.start_time), interval, failover.and_then(|f| f.upper_limit), spec.force_to_rerun)
}

pub(crate) fn committed(record: &PendingStart) -> Inputs {
    let settings = record.inputs.realtime_start_settings.as_ref();
    let failover = settings.and_then(|s| s.failover_settings.as_ref());
    let interval = failover.and_then(|f| f.interval);
    let force = record.inputs.force_to_rerun;
    (settings.and_then(|s| s.start_time), interval, failover.and_then(|f| f.upper_limit), force)
}

/// What a request carried.
pub(crate) fn carried(entry: &Entry) -> Inputs {
    let text = entry.parameters.get("RealtimeStartSettings");
    let settings: Value = text.and_then(|t| serde_json::from_str(t).ok()).unwrap_or_default();
    let number = |path: &str| settings.pointer(path).and_then(Value::as_i64);
    let force = entry.parameters.get("ForceToRerun").is_some_and(|f| f == "true");
    (number("/StartTime"), number("/FailoverSettings/Interval"), number("/FailoverSettings/UpperLimit"), force)
}

pub(crate) fn recorded(record: &PendingStart) -> Inputs {
    let settings = record.realtime_start_settings.as_ref();
    let failover = settings.and_then(|s| s.failover_settings.as_ref());
    let interval = failover.and_then(|f| f.interval);
    let force = record.force_to_rerun;
    (settings.and_then(|s| s.start_time), interval, failover.and_then(|f| f.upper_limit), force)
}

/// A well-formed refusal that says what it says, and nothing that was carried out.
pub(crate) fn surely_not_executed(entry: &Entry) -> bool {
    match &entry.verdict {
        Verdict::Refused { code, status } => {
            let vague = *status >= 500 && !code.starts_with("Throttling") && code != "500130";
            !vague && code != "html" && code != "SignatureNonceUsed" && entry.executed.is_none()
        }
        Verdict::Accepted | Verdict::Underway => false,
    }
}
