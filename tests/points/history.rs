//! Every version of one object, in order, as the API server tells them: the other judge beside the cloud's ledger.

use std::sync::Arc;
use std::time::Duration;

use dijob_operator::api::DataIntegrationJob;
use futures::StreamExt as _;
use kube::api::{WatchEvent, WatchParams};
use kube::{Api, ResourceExt as _};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// The versions so far; it goes on until it is dropped.
pub struct History {
    versions: Arc<watch::Sender<Vec<DataIntegrationJob>>>,
    watcher: AbortHandle,
}

impl History {
    /// From this version on.
    pub fn start(jobs: Api<DataIntegrationJob>, first: DataIntegrationJob) -> Self {
        let versions = Arc::new(watch::Sender::new(vec![first]));
        let told = versions.clone();
        let watcher = tokio::spawn(async move {
            loop {
                let last = told.borrow().last().unwrap().clone();
                let only = WatchParams::default().fields(&format!("metadata.name={}", last.name_any()));
                let Ok(events) = jobs.watch(&only, &last.resource_version().unwrap()).await else { continue };
                let mut events = events.boxed();
                while let Some(Ok(event)) = events.next().await {
                    if let WatchEvent::Added(job) | WatchEvent::Modified(job) | WatchEvent::Deleted(job) = event {
                        told.send_modify(|all| all.push(job));
                    }
                }
            }
        });
        Self { versions, watcher: watcher.abort_handle() }
    }

    /// All versions so far.
    pub fn versions(&self) -> Vec<DataIntegrationJob> {
        self.versions.borrow().clone()
    }

    /// The newest version.
    pub fn last(&self) -> DataIntegrationJob {
        self.versions.borrow().last().unwrap().clone()
    }

    /// Waits until the newest version is so, for at most that long; says whether it is.
    pub async fn until(&self, within: Duration, is_so: impl Fn(&DataIntegrationJob) -> bool) -> bool {
        let mut versions = self.versions.subscribe();
        tokio::time::timeout(within, versions.wait_for(|all| is_so(all.last().unwrap()))).await.is_ok()
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}
