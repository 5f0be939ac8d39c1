//! What a test may do to the world while it goes on.
//!
//! **May touch:** the world.

use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use api_server::ApiServer;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use simulator::core::Cloud;

use crate::faults::{Kind, Place};
use crate::play::wait;
use crate::process::Process;
use crate::world::{PEOPLE, Record, World, lock, uri};

/// `terminationGracePeriodSeconds` in `deploy`.
pub const GRACE: Duration = Duration::from_secs(40);
const BASE: i64 = 1_795_478_400; // 2026-11-24T00:00:00Z

/// The time of API server and cloud.
pub(crate) fn true_time(begins: i64, drift: i64, elapsed: Duration) -> Timestamp {
    let elapsed = SignedDuration::try_from(elapsed).unwrap_or_default();
    let gained = SignedDuration::from_millis(elapsed.as_secs() * drift);
    Timestamp::from_second(BASE + begins).unwrap_or_default() + elapsed + gained
}

impl World {
    /// The API server.
    #[must_use]
    pub fn api(&self) -> &ApiServer {
        &self.api
    }

    /// The cloud.
    pub fn cloud(&self) -> MutexGuard<'_, Cloud> {
        lock(&self.cloud)
    }

    /// The processes that have neither been killed nor ended.
    #[must_use]
    pub fn processes(&self) -> Vec<Arc<Process>> {
        lock(&self.notes).processes.iter().filter(|p| !p.killed.is_cancelled()).cloned().collect()
    }

    /// SIGTERM; and SIGKILL when the grace of the shipped Deployment is over.
    pub fn stop(&self, process: &Process) {
        if process.stop.is_cancelled() || process.killed.is_cancelled() {
            return;
        }
        process.stop.cancel();
        lock(&self.notes).stopped.push((process.number, self.now(), None));
        self.tell(&format!("p{} is asked to end", process.number));
    }

    /// Kills a process that has not ended when its grace is over.
    pub(crate) async fn kubelet(self: Arc<Self>, process: Arc<Process>) {
        let over = async {
            process.stop.cancelled().await;
            wait(GRACE).await;
        };
        tokio::select! {
            biased;
            () = process.killed.cancelled() => {}
            () = over => self.kill(&process),
        }
    }

    pub(crate) fn asked_to_end(&self, process: &Process, place: Place, what: &str) {
        if self.schedule.faults.ends(place) {
            self.struck(place, Kind::AskedToEnd, what);
            self.stop(process);
        }
    }

    /// Notes what a test found out while the world went on; it breaks the schedule.
    pub fn complain(&self, what: String) {
        lock(&self.notes).wrong.push(what);
    }

    /// A job as the API server has it; null if it has none.
    #[must_use]
    pub fn job(&self, n: usize) -> Value {
        let Some(job) = self.schedule.jobs.get(n) else { return Value::Null };
        let answer = self.ask(PEOPLE, api_server::Verb::Get, &uri(&job.namespace, &job.name), None);
        if answer.is_ok() { answer.value() } else { Value::Null }
    }
}

impl Record {
    /// Seconds from the beginning to a time of API server or cloud; not for a world whose clocks drift.
    #[must_use]
    pub fn second(&self, at: Timestamp) -> f64 {
        at.duration_since(true_time(self.schedule.begins, 0, Duration::ZERO)).as_secs_f64()
    }

    /// Whether an account was called in another way after that time, or shortly before.
    #[must_use]
    pub fn switched_after(&self, at: Timestamp) -> bool {
        let when = |after| true_time(self.schedule.begins, self.schedule.drift, after) + SignedDuration::from_mins(1);
        self.schedule.switches_to().any(|(after, _)| when(after) >= at)
    }

    /// The versions of a job, in order, each with the second in which it was made and by whom.
    #[must_use]
    pub fn versions(&self, n: usize) -> Vec<(f64, &str, &Value)> {
        let Some(job) = self.schedule.jobs.get(n) else { return Vec::new() };
        let jobs = self.history.iter().filter(|c| &*c.resource == "dataintegrationjobs");
        let of_it = jobs.filter(|c| (&*c.namespace, &*c.name) == (job.namespace.as_str(), job.name.as_str()));
        of_it.map(|c| (self.second(c.time), &*c.caller, c.object())).collect()
    }

    /// The last of them; null if there is none.
    #[must_use]
    pub fn last(&self, n: usize) -> &Value {
        self.versions(n).last().map_or(&Value::Null, |(_, _, object)| object)
    }
}
