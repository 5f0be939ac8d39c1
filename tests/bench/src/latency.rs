//! How fast an edit reaches the cloud, and what it costs.
//!
//! **May touch:** the jobs' spec, one bare object, the clock of the simulator.
//!
//! **Guarantees**
//! 1. Each edit is made to a job whose last start is confirmed, and while no other start waits for its confirmation's
//!    look: the quota is free.
//! 2. Each edit changes `startTime`, whose start needs a look at most 10 s old, and comes when the last look is older:
//!    so the way of a job that has rested is measured, look and start, every time. The counts show whether it was so.
//! 3. Beside each edit, one guarded write of status to a bare object by the same client: the base of the ratios.

use std::sync::Arc;
use std::time::Duration;

use dijob_operator::api::{DataIntegrationJob, JobStatus};
use jiff::Timestamp;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use simulator::Simulator;

use crate::cluster::{Cluster, NAMESPACE, OPERATOR, name};
use crate::operator::{LIMIT, Metrics, Operator};
use crate::report::{Report, Series};
use crate::watch::{Seen, Watch, is_confirmed};
use crate::{Failure, calls};

/// The confirming look comes 2 s after a start: until then, for so many milliseconds, edits follow each other.
const ROUND: f64 = 1700.0;
/// Time for the operator to record the last answer before anything else is asked of the machine.
const PAUSE: Duration = Duration::from_millis(60);
/// A look that is older than this serves no start with a `startTime`.
const OLD: Duration = Duration::from_secs(12);

/// What is measured with what.
pub struct Latency<'a> {
    cluster: &'a Cluster,
    cloud: &'a Arc<Simulator>,
    watch: &'a Watch,
    jobs: Api<DataIntegrationJob>,
    bare: Bare,
    objects: i64,
    edits: i64,
    start: Vec<f64>,
    seen: Vec<f64>,
    patch: Vec<f64>,
}

impl<'a> Latency<'a> {
    /// Makes the jobs and waits until the operator has adopted them.
    pub async fn prepare(
        cluster: &'a Cluster,
        cloud: &'a Arc<Simulator>,
        watch: &'a Watch,
        objects: u16,
    ) -> Result<Self, Failure> {
        let objects = i64::from(objects);
        cluster.create_running_jobs(1..objects + 1, cloud).await?;
        watch.until_ready(usize::try_from(objects)?).await?;
        tokio::time::sleep(OLD).await; // adopting was a look
        let bare = Bare::create(cluster.bare()).await?;
        let (start, seen, patch) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { cluster, cloud, watch, jobs: cluster.jobs(), bare, objects, edits: 0, start, seen, patch })
    }

    /// One round that nobody counts, then so many edits.
    pub async fn measure(mut self, edits: u16, operator: &Operator, report: &mut Report) -> Result<(), Failure> {
        let edits = usize::from(edits);
        self.round(edits).await?;
        operator.quiet().await?;
        (self.start, self.seen, self.patch) = (Vec::new(), Vec::new(), Vec::new());
        let mark = self.mark(operator).await?;
        while self.start.len() < edits {
            self.round(edits).await?;
            eprintln!("  {} of {edits} edits", self.start.len());
        }
        operator.quiet().await?;
        self.costs(&mark, operator, report).await?;
        self.times(report);
        Ok(())
    }

    async fn mark(&self, operator: &Operator) -> Result<Mark, Failure> {
        Ok(Mark {
            metrics: operator.metrics().await?,
            ledger: calls::mark(self.cloud).await,
            audit: self.cluster.audit.mark()?,
            changes: self.watch.look(|seen| seen.changes),
        })
    }

    /// All that was done since `mark`, by start.
    async fn costs(&self, mark: &Mark, operator: &Operator, report: &mut Report) -> Result<(), Failure> {
        let metrics = operator.metrics().await?;
        let calls = calls::since(self.cloud, mark.ledger).await;
        let writes = self.cluster.audit.since(mark.audit, OPERATOR)?;
        let changes = self.watch.look(|seen| seen.changes) - mark.changes;
        let starts = f64::from(u32::try_from(self.start.len())?);
        let each = |count: u32| f64::from(count) / starts;
        let of = |kind: &str| (written(&metrics, kind) - written(&mark.metrics, kind)) / starts;
        // Each edit was a change too.
        let no_ops = f64::from(writes.status) - (f64::from(changes) - starts);
        let (ledger, audit, told) = ("the simulator's ledger", "the API server's audit log", "the operator's metrics");
        report.numbers([
            ("start_calls_per_start", "P6  StartDIJob per start", each(calls.starts), "calls", ledger),
            ("look_calls_per_start", "P6  GetDIJob per start", each(calls.looks), "calls", ledger),
            ("refused_calls", "P6  calls refused", f64::from(calls.refused), "calls", ledger),
            ("status_writes_per_start", "P5  status writes per start", each(writes.status), "writes", audit),
            ("intents_per_start", "P5    of these intents", of("intent"), "writes", told),
            ("records_per_start", "P5    of these records", of("record"), "writes", told),
            ("no_op_writes", "P5  status writes without effect", no_ops, "writes", "audit log less watch events"),
            ("conflicts", "P5  status writes in conflict", f64::from(writes.conflicts), "writes", audit),
            ("events_per_start", "P5  Events per start", each(writes.events), "writes", audit),
            ("other_writes", "P5  other writes but the Lease's", f64::from(writes.other), "writes", audit),
        ]);
        Ok(())
    }

    fn times(self, report: &mut Report) {
        let start = "P4  edit acknowledged -> first byte of StartDIJob";
        let start = Series { key: "edit_to_start", what: start, values: self.start };
        let seen = "    the same -> seen by a bare watcher (<0: before)";
        let seen = Series { key: "edit_to_watch", what: seen, values: self.seen };
        let patch = "    bare guarded status patch, same client";
        let patch = Series { key: "bare_patch", what: patch, values: self.patch };
        let ratio = |rank| start.quantile(rank) / patch.quantile(rank);
        report.numbers([
            ("p50_over_bare_patch", "P4  p50 over p50 of the bare patch", ratio(0.5), "x", "the times above"),
            ("p99_over_bare_patch", "P4  p99 over p99 of the bare patch", ratio(0.99), "x", "the times above"),
        ]);
        for series in [start, seen, patch] {
            report.series(series);
        }
    }

    /// Edits one job after the other until the first confirming look is near, then waits until all are confirmed.
    async fn round(&mut self, most: usize) -> Result<(), Failure> {
        let began = self.cloud.now();
        let objects = usize::try_from(self.objects)?;
        let mut edited = Vec::new();
        while self.start.len() < most && edited.len() < objects && milliseconds(began, self.cloud.now()) < ROUND {
            let id = self.edits % self.objects + 1;
            self.edits += 1;
            edited.push((name(id), self.edit(id).await?));
            tokio::time::sleep(PAUSE).await;
            self.patch.push(self.bare.patch(self.cloud).await?);
            tokio::time::sleep(PAUSE).await;
        }
        let is_confirmed = |seen: &Seen, (name, generation): &(String, i64)| {
            seen.jobs.get(name).is_some_and(|job| is_confirmed(job, *generation))
        };
        let all = |seen: &Seen| edited.iter().all(|one| is_confirmed(seen, one)).then_some(());
        self.watch.until("all edited jobs are confirmed", all).await?;
        if edited.len() * 3 > objects {
            tokio::time::sleep(OLD).await; // so few jobs come again too soon
        }
        Ok(())
    }

    /// One edit; returns when its start has arrived, with the generation that it made.
    async fn edit(&mut self, id: i64) -> Result<i64, Failure> {
        let ledger = calls::mark(self.cloud).await;
        let settings = json!({"startTime": 1_671_516_776 + self.edits});
        let patch = Patch::Merge(json!({"spec": {"realtimeStartSettings": settings}}));
        let written = self.jobs.patch(&name(id), &PatchParams::default(), &patch).await?;
        let acknowledged = self.cloud.now();
        let arrived = calls::start_of(self.cloud, id, ledger, LIMIT).await;
        let arrived = arrived.ok_or_else(|| format!("no start of job {id} within {LIMIT:?} of its edit"))?;
        let generation = written.metadata.generation.unwrap_or_default();
        let key = (written.name_any(), generation);
        let seen = self.watch.until("the edit is seen", |seen| seen.first.get(&key).copied()).await?;
        self.start.push(milliseconds(acknowledged, arrived));
        self.seen.push(milliseconds(acknowledged, seen));
        Ok(generation)
    }
}

/// An object of the job's shape that nobody looks at.
struct Bare {
    api: Api<DynamicObject>,
    version: Option<String>,
    status: Value,
    writes: u64,
}

impl Bare {
    async fn create(api: Api<DynamicObject>) -> Result<Self, Failure> {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "bench.dijob.dev/v1alpha1", "kind": "DataIntegrationJob",
            "metadata": {"name": "bare", "namespace": NAMESPACE}, "spec": {"diJobId": 1},
        }))?;
        let version = api.create(&PostParams::default(), &object).await?.metadata.resource_version;
        Ok(Self { api, version, status: serde_json::to_value(JobStatus::full())?, writes: 0 })
    }

    /// One status, written as the operator writes it; how long it took.
    async fn patch(&mut self, cloud: &Simulator) -> Result<f64, Failure> {
        self.writes += 1;
        if let Some(name) = self.status.get_mut("jobName") {
            *name = json!(format!("write {}", self.writes));
        }
        let body = json!({
            "apiVersion": "bench.dijob.dev/v1alpha1", "kind": "DataIntegrationJob",
            "metadata": {"name": "bare", "resourceVersion": self.version}, "status": self.status,
        });
        let began = cloud.now();
        let written = self.api.patch_status("bare", &PatchParams::apply("bench").force(), &Patch::Apply(&body)).await?;
        let took = milliseconds(began, cloud.now());
        self.version = written.metadata.resource_version;
        Ok(took)
    }
}

/// Where all counts stand.
struct Mark {
    metrics: Metrics,
    ledger: usize,
    audit: u64,
    changes: u32,
}

fn written(metrics: &Metrics, kind: &str) -> f64 {
    metrics.sum(&["dijob_status_writes_total", &format!("kind=\"{kind}\""), "result=\"ok\""])
}

/// Negative if `to` was before `from`.
pub fn milliseconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1e3
}
