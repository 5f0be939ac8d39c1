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
use crate::watch::{Watch, is_confirmed};
use crate::{Failure, calls};

/// The confirming look comes 2 s after a start: until then, edits follow each other.
const ROUND: Duration = Duration::from_millis(1700);
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
        let (before, ledger) = (operator.metrics().await?, calls::mark(self.cloud).await);
        let (audit, changes) = (self.cluster.audit.mark()?, self.watch.look(|seen| seen.changes));
        while self.start.len() < edits {
            self.round(edits).await?;
            eprintln!("  {} of {edits} edits", self.start.len());
        }
        operator.quiet().await?;
        let after = operator.metrics().await?;
        let calls = calls::since(self.cloud, ledger).await;
        let writes = self.cluster.audit.since(audit, OPERATOR)?;
        let changes = self.watch.look(|seen| seen.changes) - changes;
        let starts = f64::from(u32::try_from(edits)?);
        let ledger = "the simulator's ledger";
        report.number(
            "start_calls_per_start",
            "P6  StartDIJob per start",
            (f64::from(calls.starts) / starts, "calls"),
            ledger,
        );
        report.number(
            "look_calls_per_start",
            "P6  GetDIJob per start",
            (f64::from(calls.looks) / starts, "calls"),
            ledger,
        );
        report.number("refused_calls", "    calls refused", (f64::from(calls.refused), "calls"), ledger);
        let of = |kind: &str| count(&after, kind) - count(&before, kind);
        let (log, metrics) = ("the API server's audit log", "the operator's metrics");
        report.number(
            "status_writes_per_start",
            "P5  status writes per start",
            (f64::from(writes.status) / starts, "writes"),
            log,
        );
        report.number("intents_per_start", "P5    of these intents", (of("intent") / starts, "writes"), metrics);
        report.number("records_per_start", "P5    of these records", (of("record") / starts, "writes"), metrics);
        let no_ops = f64::from(writes.status) - (f64::from(changes) - starts);
        report.number(
            "no_op_writes",
            "P5  status writes that changed nothing",
            (no_ops, "writes"),
            "audit log - watch events",
        );
        report.number("conflicts", "    status writes in conflict", (f64::from(writes.conflicts), "writes"), log);
        report.number("events_per_start", "P5  Events per start", (f64::from(writes.events) / starts, "writes"), log);
        report.number("other_writes", "    other writes but the Lease's", (f64::from(writes.other), "writes"), log);
        self.report(report);
        Ok(())
    }

    fn report(self, report: &mut Report) {
        let start = Series {
            key: "edit_to_start",
            what: "P4  edit acknowledged -> StartDIJob's first byte",
            values: self.start,
        };
        let patch =
            Series { key: "bare_patch", what: "    bare guarded status patch, same client", values: self.patch };
        let seen =
            Series { key: "edit_to_watch", what: "    edit acknowledged -> seen by a bare watcher", values: self.seen };
        let clock = "the rows above, one clock";
        for (key, what, rank) in [
            ("p50_over_bare_patch", "P4  p50 / p50 of the bare status patch", 0.5),
            ("p99_over_bare_patch", "P4  p99 / p99 of the bare status patch", 0.99),
        ] {
            report.number(key, what, (start.quantile(rank) / patch.quantile(rank), "x"), clock);
        }
        report.series(start);
        report.series(patch);
        report.series(seen);
    }

    /// Edits one job after the other until the first confirming look is near, then waits until all are confirmed.
    async fn round(&mut self, most: usize) -> Result<(), Failure> {
        let began = self.cloud.now();
        let mut edited = Vec::new();
        while self.start.len() < most
            && elapsed(self.cloud, began) < ROUND
            && edited.len() < usize::try_from(self.objects)?
        {
            let id = self.edits % self.objects + 1;
            self.edits += 1;
            edited.push((name(id), self.edit(id).await?));
            tokio::time::sleep(PAUSE).await;
            self.patch.push(self.bare.patch(self.cloud).await?);
            tokio::time::sleep(PAUSE).await;
        }
        let confirmed = |(name, generation): &(String, i64), job: Option<&DataIntegrationJob>| {
            job.is_some_and(|job| job.name_any() == *name && is_confirmed(job, *generation))
        };
        self.watch
            .until("all edited jobs are confirmed", |seen| {
                edited.iter().all(|one| confirmed(one, seen.jobs.get(&one.0))).then_some(())
            })
            .await?;
        if i64::try_from(edited.len())? * 3 > self.objects {
            tokio::time::sleep(OLD).await; // its turn comes too soon
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

fn count(metrics: &Metrics, kind: &str) -> f64 {
    metrics.sum(&["dijob_status_writes_total", &format!("kind=\"{kind}\""), "result=\"ok\""])
}

fn elapsed(cloud: &Simulator, since: Timestamp) -> Duration {
    cloud.now().duration_since(since).unsigned_abs()
}

/// Negative if `to` was before `from`.
pub fn milliseconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1e3
}
