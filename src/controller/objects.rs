//! The objects as this process knows them: fed by watches, corrected by the answers to our own writes.
//!
//! **Guarantee:** a view older than our own last write of an object is never given out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::ResourceExt as _;

use super::queue::ObjectKey;
use super::record::MANAGER;
use crate::api::{DataIntegrationJob, DataWorksAccount};

/// Objects by namespace and name.
#[derive(Debug, Default)]
pub struct Objects {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    jobs: BTreeMap<ObjectKey, Arc<DataIntegrationJob>>,
    /// An account that cannot be read is kept with what is wrong.
    accounts: BTreeMap<ObjectKey, Result<Arc<DataWorksAccount>, String>>,
}

impl Objects {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The job, if it is known and can be read.
    #[must_use]
    pub fn job(&self, key: &ObjectKey) -> Option<Arc<DataIntegrationJob>> {
        self.lock().jobs.get(key).cloned()
    }

    /// The uid of the job, if it is known and can be read.
    #[must_use]
    pub fn uid(&self, key: &ObjectKey) -> Option<String> {
        self.lock().jobs.get(key).and_then(|job| job.uid())
    }

    /// The account of that name in that namespace, or why it cannot be read.
    #[must_use]
    pub fn account(&self, namespace: &str, name: &str) -> Option<Result<Arc<DataWorksAccount>, String>> {
        let key = ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() };
        self.lock().accounts.get(&key).cloned()
    }

    /// Takes a job as the API server gave it, unless a newer version of the same object is known. Gives this version, not
    /// the newer one: who wrote it guards the next write by it, and must see what others wrote since as a conflict.
    pub fn put_job(&self, job: DataIntegrationJob) -> Arc<DataIntegrationJob> {
        let key = key_of(&job);
        let job = Arc::new(trimmed(job));
        let mut inner = self.lock();
        let newer =
            inner.jobs.get(&key).is_some_and(|known| known.uid() == job.uid() && version(&**known) > version(&*job));
        if !newer {
            inner.jobs.insert(key, job.clone());
        }
        job
    }

    /// Takes a job as the answer to our own write shows it, unless the watch has told more since: an object that is gone would
    /// come back for ever, and one that was made again would be hidden by the one before.
    pub fn put_written(&self, job: DataIntegrationJob) -> Arc<DataIntegrationJob> {
        let job = Arc::new(trimmed(job));
        if let Some(known) = self.lock().jobs.get_mut(&key_of(&*job))
            && known.uid() == job.uid()
            && version(&**known) <= version(&*job)
        {
            *known = job.clone();
        }
        job
    }

    /// Takes a job as a quorum read gave it, likewise. If that is older than what is known, the API server itself went back:
    /// nothing could be written on what is known.
    pub fn believe(&self, job: DataIntegrationJob) {
        if let Some(known) = self.lock().jobs.get_mut(&key_of(&job))
            && (known.uid() == job.uid() || version(&**known) < version(&job))
        {
            *known = Arc::new(trimmed(job));
        }
    }

    /// The job is gone, or cannot be read. Gives its uid, if it was known.
    pub fn remove_job(&self, key: &ObjectKey) -> Option<String> {
        self.lock().jobs.remove(key).and_then(|job| job.uid())
    }

    /// Takes an account as the API server gave it.
    pub fn put_account(&self, account: DataWorksAccount) {
        self.lock().accounts.insert(key_of(&account), Ok(Arc::new(account)));
    }

    /// The account cannot be read.
    pub fn put_invalid_account(&self, key: &ObjectKey, problem: String) {
        self.lock().accounts.insert(key.clone(), Err(problem));
    }

    /// How many accounts cannot be read.
    #[must_use]
    pub fn invalid_accounts(&self) -> usize {
        self.lock().accounts.values().filter(|a| a.is_err()).count()
    }

    /// The account is gone.
    pub fn remove_account(&self, key: &ObjectKey) {
        self.lock().accounts.remove(key);
    }

    /// All jobs known.
    #[must_use]
    pub fn job_keys(&self) -> Vec<ObjectKey> {
        self.lock().jobs.keys().cloned().collect()
    }

    /// All jobs that name the account.
    #[must_use]
    pub fn jobs_of(&self, account: &ObjectKey) -> Vec<ObjectKey> {
        let inner = self.lock();
        let from = ObjectKey { namespace: account.namespace.clone(), name: String::new() };
        inner
            .jobs
            .range(from..)
            .take_while(|(key, _)| key.namespace == account.namespace)
            .filter(|(_, job)| job.spec.account_ref.name == account.name)
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// After a whole list: the jobs that are known and were not listed are gone.
    #[must_use]
    pub fn jobs_gone(&self, listed: &BTreeSet<ObjectKey>) -> Vec<ObjectKey> {
        self.lock().jobs.keys().filter(|k| !listed.contains(k)).cloned().collect()
    }

    /// After a whole list: the accounts that were not listed are gone. Gives them.
    pub fn keep_accounts(&self, listed: &BTreeSet<ObjectKey>) -> Vec<ObjectKey> {
        let mut inner = self.lock();
        let gone: Vec<ObjectKey> = inner.accounts.keys().filter(|k| !listed.contains(k)).cloned().collect();
        inner.accounts.retain(|key, _| listed.contains(key));
        gone
    }
}

/// Namespace and name of an object.
#[must_use]
pub fn key_of<K: kube::Resource>(object: &K) -> ObjectKey {
    ObjectKey { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
}

/// resourceVersion as a number, as Kubernetes' own controllers compare it.
fn version<K: kube::Resource>(object: &K) -> u64 {
    object.resource_version().and_then(|v| v.parse().ok()).unwrap_or_default()
}

/// Without what is large and never looked at. The object is never written back whole.
/// Of the managers only those remain that wrote in the status besides our apply, without what they wrote.
fn trimmed(mut job: DataIntegrationJob) -> DataIntegrationJob {
    let ours =
        |e: &ManagedFieldsEntry| e.operation.as_deref() == Some("Apply") && e.manager.as_deref() == Some(MANAGER);
    let managers = job.managed_fields_mut();
    managers.retain(|entry| entry.subresource.as_deref() == Some("status") && !ours(entry));
    for entry in managers.iter_mut() {
        entry.fields_v1 = None;
    }
    managers.shrink_to_fit();
    job.annotations_mut().retain(|name, _| name.starts_with("dijob.dev/"));
    job.labels_mut().clear();
    job
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    fn seen(uid: &str, version: &str) -> DataIntegrationJob {
        serde_json::from_value(json!({
            "apiVersion": "dijob.dev/v1alpha1", "kind": "DataIntegrationJob", "spec": { "diJobId": 1 },
            "metadata": { "namespace": "team", "name": "orders", "uid": uid, "resourceVersion": version },
        }))
        .unwrap()
    }

    /// Covers: 15u.
    #[test]
    fn a_view_older_than_our_own_write_is_not_taken() {
        let objects = Objects::default();
        for (uid, version, known) in [("a", "9", "9"), ("a", "8", "9"), ("a", "10", "10"), ("b", "3", "3")] {
            objects.put_job(seen(uid, version));
            assert_eq!(objects.job(&key_of(&seen(uid, version))).unwrap().resource_version().as_deref(), Some(known));
        }
    }

    /// Covers: 14u.
    #[test]
    fn an_answer_that_others_overtook_does_not_borrow_their_version() {
        let objects = Objects::default();
        objects.put_job(seen("a", "12"));
        let ours = objects.put_job(seen("a", "9"));
        assert_eq!(ours.resource_version().as_deref(), Some("9"), "the guard of our next write must conflict");
    }

    #[test]
    fn an_answer_brings_no_object_back_that_is_gone() {
        let objects = Objects::default();
        let key = key_of(&seen("a", "9"));
        objects.put_job(seen("a", "9"));
        objects.put_written(seen("a", "10"));
        assert_eq!(objects.job(&key).unwrap().resource_version().as_deref(), Some("10"));
        assert_eq!(objects.remove_job(&key).as_deref(), Some("a"));
        assert_eq!(objects.put_written(seen("a", "11")).resource_version().as_deref(), Some("11"));
        objects.believe(seen("a", "12"));
        assert!(objects.job(&key).is_none());
    }

    /// Covers: 27u.
    #[test]
    fn an_answer_about_the_object_before_does_not_hide_the_one_made_again() {
        let objects = Objects::default();
        let uid = || objects.uid(&key_of(&seen("a", "9")));
        objects.put_job(seen("b", "12"));
        for version in ["10", "13"] {
            objects.put_written(seen("a", version)); // after a restore versions are no order
        }
        objects.believe(seen("a", "10"));
        assert_eq!(uid().as_deref(), Some("b"));
        objects.believe(seen("c", "20"));
        assert_eq!(uid().as_deref(), Some("c"), "a read may know it first");
    }

    /// Covers: 15u.
    #[test]
    fn a_quorum_read_is_believed_though_it_is_older() {
        let objects = Objects::default();
        objects.put_job(seen("a", "9"));
        objects.believe(seen("a", "5"));
        assert_eq!(objects.job(&key_of(&seen("a", "5"))).unwrap().resource_version().as_deref(), Some("5"));
    }
}
