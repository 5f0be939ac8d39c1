//! Judges a run from the ledger of the cloud and the history of the API server.
//!
//! **May touch:** its arguments. It shares no rule with the operator: what a start means is read from the record that was
//! committed, what ran from the cloud, what was asked from what people wrote.

mod judged;

use std::collections::{BTreeMap, BTreeSet};

use dijob_operator::api::{DataIntegrationJob, DataIntegrationJobSpec, JobStatus, PendingStart};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use simulator::{Entry, Verdict};

use self::judged::Judged;
use crate::faults::Kind;
use crate::world::{CANARY, Record};

/// One version of one object.
struct Version {
    time: Timestamp,
    generation: i64,
    spec: DataIntegrationJobSpec,
    rerun: Option<String>,
    force: Option<String>,
    status: JobStatus,
    deleting: bool,
    caller: String,
}

/// All versions of one object.
struct Object {
    versions: Vec<Version>,
    gone: bool,
}

/// A start that the API server has accepted, and the object as it was just before.
struct Commit<'a> {
    at: Timestamp,
    record: &'a PendingStart,
    before: &'a Version,
    epoch: usize,
    caller: &'a str,
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

type Check = Result<(), Broken>;

fn demand(holds: bool, invariant: &'static str, what: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(Broken { invariant, what: what() }) }
}

fn secs(n: i64) -> SignedDuration {
    SignedDuration::from_secs(n)
}

/// The promises.
///
/// # Errors
/// The first one that was broken.
pub fn judge(run: &Record, logs: &str) -> Result<Tally, Broken> {
    if let Some(wrong) = run.wrong.first() {
        return Err(Broken { invariant: "I9", what: wrong.clone() });
    }
    let objects = objects(run)?;
    let mut tally = Tally::default();
    let mut all: Vec<Commit<'_>> = Vec::new();
    for object in objects.values() {
        all.extend(commits(object));
    }
    arrivals_were_committed(run, &all)?;
    the_sender_held_the_lease(run)?;
    within_the_limits(run)?;
    secrets_stay_secret(run, logs)?;
    for (uid, object) in &objects {
        let judged = Judged { run, object, commits: commits(object), uid };
        judged.never_twice_where_twice_hurts()?;
        judged.further_attempts_are_lawful()?;
        judged.latest_only()?;
        judged.truthful()?;
        judged.few_writes()?;
        judged.nothing_is_lost()?;
        judged.quiet()?;
        let ids: BTreeSet<&str> = judged.commits.iter().map(|c| c.record.id.as_str()).collect();
        for id in ids {
            let ran = judged.ran(id);
            tally.executions += ran;
            tally.lawful_doubles += ran.saturating_sub(1);
        }
        tally.commits += judged.commits.len() as u64;
    }
    doubles_need_a_forgetful_cloud(run, &tally)?;
    Ok(tally)
}

fn objects(run: &Record) -> Result<BTreeMap<String, Object>, Broken> {
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

fn is_process(caller: &str) -> bool {
    caller.strip_prefix('p').is_some_and(|rest| rest.parse::<u64>().is_ok())
}

/// Every commit. `epoch` counts how often the object has meant another job.
fn commits(object: &Object) -> Vec<Commit<'_>> {
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

fn starts(run: &Record) -> impl Iterator<Item = &Entry> {
    run.ledger.of_action("StartDIJob")
}

type Inputs = (Option<i64>, Option<i64>, Option<i64>, bool);

fn inputs(spec: &DataIntegrationJobSpec) -> Inputs {
    let settings = spec.realtime_start_settings.as_ref();
    let failover = settings.and_then(|s| s.failover_settings.as_ref());
    let interval = failover.and_then(|f| f.interval);
    (settings.and_then(|s| s.start_time), interval, failover.and_then(|f| f.upper_limit), spec.force_to_rerun)
}

fn committed(record: &PendingStart) -> Inputs {
    let settings = record.inputs.realtime_start_settings.as_ref();
    let failover = settings.and_then(|s| s.failover_settings.as_ref());
    let interval = failover.and_then(|f| f.interval);
    let force = record.inputs.force_to_rerun;
    (settings.and_then(|s| s.start_time), interval, failover.and_then(|f| f.upper_limit), force)
}

/// What a request carried.
fn carried(entry: &Entry) -> Inputs {
    let text = entry.parameters.get("RealtimeStartSettings");
    let settings: Value = text.and_then(|t| serde_json::from_str(t).ok()).unwrap_or_default();
    let number = |path: &str| settings.pointer(path).and_then(Value::as_i64);
    let force = entry.parameters.get("ForceToRerun").is_some_and(|f| f == "true");
    (number("/StartTime"), number("/FailoverSettings/Interval"), number("/FailoverSettings/UpperLimit"), force)
}

fn recorded(record: &PendingStart) -> Inputs {
    let settings = record.realtime_start_settings.as_ref();
    let failover = settings.and_then(|s| s.failover_settings.as_ref());
    let interval = failover.and_then(|f| f.interval);
    let force = record.force_to_rerun;
    (settings.and_then(|s| s.start_time), interval, failover.and_then(|f| f.upper_limit), force)
}

fn arrivals_were_committed(run: &Record, commits: &[Commit<'_>]) -> Check {
    let mut arrived: BTreeMap<&str, u64> = BTreeMap::new();
    for entry in starts(run) {
        let nonce = entry.nonce.as_deref().unwrap_or_default();
        let matches = |c: &&Commit<'_>| {
            let record = c.record;
            record.nonce == nonce
                && c.at <= entry.first_byte
                && Some(record.di_job_id) == entry.job
                && Some(record.signed_time.0.to_string()) == entry.signed_time
                && recorded(record) == carried(entry)
        };
        demand(commits.iter().any(|c| matches(&c)), "I3", || format!("arrival {} has no commit", entry.seq))?;
        let seen = arrived.entry(nonce).or_default();
        *seen += 1;
        let may = commits.iter().filter(|c| c.record.nonce == nonce).count() as u64;
        demand(*seen <= may, "I3", || format!("{seen} arrivals with the nonce of {may} commits"))?;
    }
    Ok(())
}

fn the_sender_held_the_lease(run: &Record) -> Check {
    if !run.schedule.election {
        return Ok(());
    }
    let start = |seq: u64| starts(run).any(|e| e.seq == seq);
    for sent in run.sent.iter().filter(|s| !s.paused && start(s.seq)) {
        let identity = run.identities.get(&sent.process);
        let renewed = run.history.iter().rev().find(|c| {
            &*c.resource == "leases"
                && c.time <= sent.left
                && *c.caller == *format!("p{}", sent.process)
                && c.object().pointer("/spec/holderIdentity").and_then(Value::as_str) == identity.map(String::as_str)
        });
        let held = renewed.is_some_and(|c| sent.left.duration_since(c.time) < secs(10));
        demand(held, "I3", || format!("p{} sent {} without the lease", sent.process, sent.seq))?;
    }
    Ok(())
}

fn within_the_limits(run: &Record) -> Check {
    let entries = run.ledger.entries();
    let mut windows: BTreeMap<(u64, String, bool), Vec<Timestamp>> = BTreeMap::new();
    for sent in &run.sent {
        let entry = usize::try_from(sent.seq).ok().and_then(|n| entries.get(n));
        let Some(entry) = entry else { continue };
        let is_start = entry.action.as_deref() == Some("StartDIJob");
        let key = entry.key_id.clone().unwrap_or_default();
        windows.entry((sent.process, key, is_start)).or_default().push(sent.left);
    }
    for ((process, _, is_start), mut times) in windows {
        times.sort_unstable();
        let limit = if is_start { 20 } else { 50 };
        let too_close = |w: &[Timestamp]| match (w.first(), w.last()) {
            (Some(first), Some(last)) => last.duration_since(*first) < SignedDuration::from_millis(990),
            _ => false,
        };
        let bad = times.windows(limit + 1).any(too_close);
        demand(!bad, "I6", || format!("p{process} made more than {limit} calls in a second"))?;
    }
    Ok(())
}

fn secrets_stay_secret(run: &Record, logs: &str) -> Check {
    demand(!logs.contains(CANARY), "I7", || "a secret is in the log".to_owned())?;
    for change in run.history.iter().filter(|c| &*c.resource != "secrets" && &*c.resource != "leases") {
        let text = change.object().to_string();
        let found = text.contains(CANARY) || text.contains("Signature=");
        demand(!found, "I7", || format!("a secret is in {} {}", change.resource, change.name))?;
    }
    Ok(())
}

/// A cloud that remembers nonces and shows starts at once lets no ordinary start run twice, unless the network or the
/// cloud itself held a copy back.
fn doubles_need_a_forgetful_cloud(run: &Record, tally: &Tally) -> Check {
    let held_back = run
        .faults
        .iter()
        .any(|(_, kind, _)| matches!(kind, Kind::LateArrival | Kind::LateExecution | Kind::Delay | Kind::PauseBefore));
    let kind = run.schedule.profile == crate::story::Profile::Default;
    demand(!kind || held_back || tally.lawful_doubles == 0, "I1", || "a double in a cloud that remembers".to_owned())
}

/// A well-formed refusal that says what it says, and nothing that was carried out.
fn surely_not_executed(entry: &Entry) -> bool {
    match &entry.verdict {
        Verdict::Refused { code, status } => {
            let vague = *status >= 500 && !code.starts_with("Throttling") && code != "500130";
            !vague && code != "html" && code != "SignatureNonceUsed" && entry.executed.is_none()
        }
        Verdict::Accepted | Verdict::Underway => false,
    }
}
