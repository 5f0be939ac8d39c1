//! What many settled jobs cost, and what a restart does.
//!
//! **May touch:** the operator's process, the jobs, the clock of the simulator.
//!
//! **Guarantees**
//! 1. The jobs run in the cloud before they are made here: all of them are adopted, none is started.
//! 2. Calls of a restart are counted from before the new process until its 10 s of idleness are over.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use simulator::Simulator;

use crate::cluster::{Cluster, OPERATOR};
use crate::latency::milliseconds;
use crate::operator::Operator;
use crate::report::Report;
use crate::watch::Watch;
use crate::{Failure, calls};

/// Ids of these jobs: none of those that were edited.
const FIRST: i64 = 1_000_001;
/// How long memory is left to settle, and how long the processor is looked at.
const WINDOW: Duration = Duration::from_secs(10);

const PROCESS: &str = "/proc";
const LEDGER: &str = "the simulator's ledger";
const AUDIT: &str = "the API server's audit log";
const CLOCK: &str = "one clock";

/// What is measured with what.
pub struct Idle<'a> {
    /// Where the jobs are.
    pub cluster: &'a Cluster,
    /// Where they run.
    pub cloud: &'a Arc<Simulator>,
    /// What is known of them.
    pub watch: &'a Watch,
    /// The operator.
    pub binary: &'a Path,
    /// How many jobs.
    pub count: u16,
}

impl Idle<'_> {
    /// All of it. No operator runs yet, and none is left.
    pub async fn measure(&self, report: &mut Report) -> Result<(), Failure> {
        self.make().await?;
        let operator = self.adopt(report).await?;
        eprintln!("restarting the operator");
        let from = self.cloud.now();
        operator.stop().await?;
        let stopped = milliseconds(from, self.cloud.now());
        let ledger = calls::mark(self.cloud).await;
        let operator = self.restart(report).await?;
        self.rest(&operator, report).await?;
        let calls = calls::since(self.cloud, ledger).await;
        report.numbers([
            ("restart_starts", "P8  StartDIJob by the restart", f64::from(calls.starts), "calls", LEDGER),
            ("restart_looks", "P8  GetDIJob by the restart", f64::from(calls.looks), "calls", LEDGER),
            ("stop_ms", "    SIGTERM -> end", stopped, "ms", CLOCK),
        ]);
        operator.stop().await
    }

    async fn make(&self) -> Result<(), Failure> {
        let jobs = usize::from(self.count);
        eprintln!("making {jobs} jobs");
        self.cluster.delete_jobs().await?;
        self.watch.until_ready(0).await?;
        self.cluster.create_running_jobs(FIRST..FIRST + i64::from(self.count), self.cloud).await?;
        self.watch.until("all jobs are there", |seen| (seen.jobs.len() == jobs).then_some(())).await
    }

    async fn adopt(&self, report: &mut Report) -> Result<Operator, Failure> {
        eprintln!("starting the operator; looking at {} jobs takes {} s by quota alone", self.count, self.count / 48);
        let ledger = calls::mark(self.cloud).await;
        let operator = Operator::start(self.binary, &self.cluster.kubeconfig, self.cloud).await?;
        let ready = self.watch.until_ready(usize::from(self.count)).await;
        ready.map_err(|error| operator.explain(&error))?;
        let adopted = milliseconds(operator.executed, self.cloud.now()) / 1e3;
        operator.quiet().await?;
        let calls = calls::since(self.cloud, ledger).await;
        tokio::time::sleep(WINDOW).await;
        let (rss, peak) = operator.memory()?;
        report.numbers([
            ("idle_jobs", "P7  idle jobs", f64::from(self.count), "jobs", "--idle-jobs"),
            ("rss_idle", "P7  RSS with them, adopted", rss, "MB", PROCESS),
            ("rss_idle_peak", "P7  peak RSS until then", peak, "MB", PROCESS),
            ("adopt_s", "    exec -> all of them adopted", adopted, "s", CLOCK),
            ("adopt_starts", "    StartDIJob while adopting", f64::from(calls.starts), "calls", LEDGER),
            ("adopt_looks", "    GetDIJob while adopting", f64::from(calls.looks), "calls", LEDGER),
        ]);
        Ok(operator)
    }

    async fn restart(&self, report: &mut Report) -> Result<Operator, Failure> {
        let audit = self.cluster.audit.mark()?;
        let operator = Operator::start(self.binary, &self.cluster.kubeconfig, self.cloud).await?;
        let ready = milliseconds(operator.executed, operator.ready(self.cloud).await?);
        let passed = operator.passed(f64::from(self.count), self.cloud).await?;
        let (passed, cpu) = (milliseconds(operator.executed, passed), operator.cpu()?);
        operator.quiet().await?;
        let writes = f64::from(self.cluster.audit.since(audit, OPERATOR)?.status);
        report.numbers([
            ("restart_ready_ms", "P8  exec -> all jobs known and ready", ready, "ms", "/readyz"),
            ("restart_passed_ms", "P8  exec -> all jobs passed once", passed, "ms", "/metrics"),
            ("restart_cpu_ms", "P8  processor time until then", cpu, "ms", PROCESS),
            ("restart_writes", "P8  status writes by the restart", writes, "writes", AUDIT),
        ]);
        Ok(operator)
    }

    async fn rest(&self, operator: &Operator, report: &mut Report) -> Result<(), Failure> {
        eprintln!("looking at the idle operator for {} s", WINDOW.as_secs());
        let (audit, from, cpu) = (self.cluster.audit.mark()?, self.cloud.now(), operator.cpu()?);
        tokio::time::sleep(WINDOW).await;
        let seconds = milliseconds(from, self.cloud.now()) / 1e3;
        let busy = (operator.cpu()? - cpu) / seconds;
        let writes = self.cluster.audit.since(audit, OPERATOR)?;
        let (rss, peak) = operator.memory()?;
        let all = writes.status + writes.conflicts + writes.events + writes.other;
        report.numbers([
            ("rss_restarted", "P7  RSS after the restart", rss, "MB", PROCESS),
            ("rss_restarted_peak", "P7  peak RSS since the restart", peak, "MB", PROCESS),
            ("idle_cpu", "P10 processor time while idle", busy, "ms/s", PROCESS),
            ("idle_writes", "P10 writes then, but the Lease's", f64::from(all), "writes", AUDIT),
            ("idle_lease_writes", "P10 writes of the Lease then", f64::from(writes.lease), "writes", AUDIT),
        ]);
        Ok(())
    }
}
