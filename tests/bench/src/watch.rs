//! A bare watcher of all jobs: when each version of an object could have been known.
//!
//! **May touch:** one watch of the Kubernetes API.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dijob_operator::api::DataIntegrationJob;
use dijob_operator::api::condition::ConditionStatus;
use futures::StreamExt as _;
use jiff::Timestamp;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, ResourceExt as _};
use simulator::Simulator;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Failure;
use crate::operator::LIMIT;

/// What the watcher has seen.
#[derive(Default)]
pub struct Seen {
    /// All jobs as they are.
    pub jobs: BTreeMap<String, DataIntegrationJob>,
    /// When a job of this name and generation was first seen.
    pub first: BTreeMap<(String, i64), Timestamp>,
    /// Changes seen: each is one write that moved a version.
    pub changes: u32,
}

/// A running watcher.
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    changed: watch::Receiver<()>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Watches from now on.
    pub fn start(jobs: Api<DataIntegrationJob>, cloud: Arc<Simulator>) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (sender, changed) = watch::channel(());
        let noted = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut events = watcher(jobs, Config::default()).default_backoff().boxed();
            while let Some(event) = events.next().await {
                let now = cloud.now();
                if let Ok(event) = event {
                    note(&mut lock(&noted), event, now);
                    sender.send_replace(());
                }
            }
        });
        Self { seen, changed, task }
    }

    /// Looks at what was seen so far.
    pub fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&lock(&self.seen))
    }

    /// Waits until what was seen gives an answer.
    pub async fn until<T>(&self, what: &str, mut answer: impl FnMut(&Seen) -> Option<T>) -> Result<T, Failure> {
        let mut changed = self.changed.clone();
        let found = async {
            loop {
                changed.borrow_and_update();
                if let Some(value) = self.look(&mut answer) {
                    return Ok(value);
                }
                changed.changed().await?;
            }
        };
        tokio::time::timeout(LIMIT, found).await.map_err(|_| format!("not within {LIMIT:?}: {what}"))?
    }

    /// Waits until so many jobs are there, all of them Ready.
    pub async fn until_ready(&self, count: usize) -> Result<(), Failure> {
        self.until("all jobs are Ready", |seen| {
            let ready = seen.jobs.values().filter(|job| is_ready(job)).count();
            (ready == count && seen.jobs.len() == count).then_some(())
        })
        .await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note(seen: &mut Seen, event: Event<DataIntegrationJob>, now: Timestamp) {
    match event {
        Event::Apply(job) => {
            seen.changes += 1;
            put(seen, job, now);
        }
        Event::InitApply(job) => put(seen, job, now),
        Event::Delete(job) => {
            seen.jobs.remove(&job.name_any());
        }
        Event::Init | Event::InitDone => {}
    }
}

fn put(seen: &mut Seen, job: DataIntegrationJob, now: Timestamp) {
    let generation = job.metadata.generation.unwrap_or_default();
    seen.first.entry((job.name_any(), generation)).or_insert(now);
    seen.jobs.insert(job.name_any(), job);
}

/// Its last spec was acted on, and nothing is left to do.
fn is_ready(job: &DataIntegrationJob) -> bool {
    let Some(status) = &job.status else { return false };
    Some(status.observed_generation) == job.metadata.generation
        && status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == ConditionStatus::True)
}

/// The start of this generation was confirmed, and nothing is left to do.
pub fn is_confirmed(job: &DataIntegrationJob, generation: i64) -> bool {
    let last = job.status.as_ref().and_then(|status| status.last_start.as_ref());
    is_ready(job) && last.is_some_and(|last| last.generation == generation && last.outcome == "Confirmed")
}
