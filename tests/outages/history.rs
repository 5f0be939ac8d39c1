//! Every version of jobs and Leases, as the API server tells them, and what must hold of them.
//!
//! **Guarantees**
//! 1. What an outage of the API server may have hidden from this watch is counted as a gap, never passed over.
#![expect(clippy::unwrap_used, reason = "a broken test tool fails its test")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dijob_operator::api::DataIntegrationJob;
use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use simulator::Entry;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// An intent that was written ahead of a call.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The nonce of the one call that it permits.
    pub nonce: String,
}

#[derive(Debug, Default)]
struct Told {
    commits: Vec<Commit>,
    gaps: usize,
}

/// The history of a namespace.
pub struct History {
    told: Arc<Mutex<Told>>,
    watch: JoinHandle<()>,
}

impl History {
    /// Begins now: nothing that happens after this returns is missed but for what is counted as a gap.
    pub async fn begin(client: Client, namespace: &str) -> Self {
        let told = Arc::<Mutex<Told>>::default();
        let jobs: Api<DataIntegrationJob> = Api::namespaced(client, namespace);
        let version = jobs.list(&ListParams::default()).await.unwrap().metadata.resource_version;
        let watch = tokio::spawn(follow(jobs, version, Arc::clone(&told)));
        Self { told, watch }
    }

    /// The intents so far.
    pub fn commits(&self) -> Vec<Commit> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).commits.clone()
    }

    /// What is wrong with these starts: each needs an earlier intent of its own.
    pub fn unfounded<'a>(&self, starts: impl Iterator<Item = &'a Entry>) -> Vec<String> {
        let gaps = self.told.lock().unwrap_or_else(PoisonError::into_inner).gaps;
        let mut permitted = BTreeMap::<String, usize>::new();
        for commit in self.commits() {
            *permitted.entry(commit.nonce).or_default() += 1;
        }
        let mut wrong = Vec::new();
        for start in starts {
            let nonce = start.nonce.clone().unwrap_or_default();
            match permitted.get_mut(&nonce) {
                Some(left) if *left > 0 => *left -= 1,
                // Hidden by an outage: it can still not be a second copy of one that was seen.
                None if gaps > 0 => {
                    permitted.insert(nonce, 0);
                }
                _ => wrong.push(format!("{nonce} of {:?} at {} without an intent", start.job, start.first_byte)),
            }
        }
        wrong
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

async fn follow(jobs: Api<DataIntegrationJob>, mut version: Option<String>, told: Arc<Mutex<Told>>) {
    let patience = Duration::from_secs(5);
    let mut seen = BTreeMap::<String, (String, i64)>::new();
    loop {
        if version.is_none()
            && let Ok(Ok(list)) = timeout(patience, jobs.list(&ListParams::default())).await
        {
            list.iter().for_each(|job| note(job, &mut seen, &told));
            version = list.metadata.resource_version;
        }
        let from = version.clone().unwrap_or_default();
        let how = WatchParams::default().timeout(60);
        let (false, Ok(Ok(events))) = (from.is_empty(), timeout(patience, jobs.watch(&how, &from)).await) else {
            crate::look_again().await;
            continue;
        };
        let mut events = events.boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(WatchEvent::Added(job) | WatchEvent::Modified(job) | WatchEvent::Deleted(job)) => {
                    note(&job, &mut seen, &told);
                    version = job.metadata.resource_version.or(version);
                }
                Ok(WatchEvent::Bookmark(mark)) => version = Some(mark.metadata.resource_version),
                Ok(WatchEvent::Error(_)) => {
                    told.lock().unwrap_or_else(PoisonError::into_inner).gaps += 1;
                    version = None;
                    break;
                }
                Err(_) => break,
            }
        }
    }
}

fn note(job: &DataIntegrationJob, seen: &mut BTreeMap<String, (String, i64)>, told: &Mutex<Told>) {
    let Some(pending) = job.status.as_ref().and_then(|status| status.pending_start.as_ref()) else { return };
    let uid = job.metadata.uid.clone().unwrap_or_default();
    let of = (pending.id.clone(), pending.attempt);
    if seen.insert(uid, of.clone()).as_ref() != Some(&of) {
        let commit = Commit { nonce: pending.nonce.clone() };
        told.lock().unwrap_or_else(PoisonError::into_inner).commits.push(commit);
    }
}

/// From when to when each life said that it leads, by the logs.
pub fn terms(logs: &[Vec<String>]) -> Vec<(Timestamp, Option<Timestamp>)> {
    let time = |line: &serde_json::Value| line["timestamp"].as_str().unwrap().parse::<Timestamp>().unwrap();
    let mut terms = Vec::new();
    for log in logs {
        let lines: Vec<serde_json::Value> = log.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let Some(began) = lines.iter().find(|line| line["message"] == "leading") else { continue };
        // The lease is given up before it is told, so that the end of a term is never told too early by this.
        let over = ["lost leadership", "released the lease"];
        let end = lines.iter().find(|line| over.iter().any(|word| line["message"] == *word));
        terms.push((time(began), end.map(time)));
    }
    terms.sort();
    terms
}

/// Terms that overlap, beyond what it takes to write a line.
pub fn overlaps(terms: &[(Timestamp, Option<Timestamp>)]) -> Vec<String> {
    let late = SignedDuration::from_millis(200);
    let overlap = |pair: &&[(Timestamp, Option<Timestamp>)]| {
        let [(_, end), (begin, _)] = pair else { return false };
        end.is_none_or(|end| end > *begin + late)
    };
    terms.windows(2).filter(overlap).map(|pair| format!("{pair:?}")).collect()
}
