//! The objects as this process knows them: fed by watches, corrected by the answers to our own writes.
//!
//! **Guarantee:** a view older than our own last write of an object is never given out.

use std::cmp::Ordering;
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

    /// Takes a job as the API server gave it, unless a newer version is known, be it of an object made again under its name.
    pub fn put_job(&self, job: DataIntegrationJob) {
        let key = key_of(&job);
        let mut inner = self.lock();
        let newer = inner.jobs.get(&key).is_some_and(|known| version(&**known) > version(&job));
        if !newer {
            inner.jobs.insert(key, Arc::new(trimmed(job)));
        }
    }

    /// Takes a job as the answer to our own write shows it, unless the watch has told more since: an object that is gone would
    /// come back for ever, and one that was made again would be hidden by the one before. Gives this version, not a newer
    /// one: it guards the next write, which must meet what others wrote since as a conflict.
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

    /// Takes a job as a quorum read gave it, unless the watch has told something since `before`, what was known when it was
    /// asked for. If it is older than that, the API server itself went back: nothing could be written on what is known.
    pub fn believe(&self, job: DataIntegrationJob, before: Option<&Arc<DataIntegrationJob>>) {
        if let Some(known) = self.lock().jobs.get_mut(&key_of(&job))
            && before.is_some_and(|before| Arc::ptr_eq(before, known))
        {
            *known = Arc::new(trimmed(job));
        }
    }

    /// The job is gone, or cannot be read. Gives its uid, if it was known.
    pub fn remove_job(&self, key: &ObjectKey) -> Option<String> {
        self.lock().jobs.remove(key).and_then(|job| job.uid())
    }

    /// Takes an account as the API server gave it, unless this version or a newer one is known. Says what is new.
    pub fn put_account(&self, account: DataWorksAccount) -> News {
        let key = key_of(&account);
        let mut inner = self.lock();
        let known = inner.accounts.get(&key).and_then(|known| known.as_ref().ok());
        let means_the_same = known.is_some_and(|known| meaning(known) == meaning(&account));
        let news = match known.map(|known| version(&**known).cmp(&version(&account))) {
            Some(Ordering::Greater) => return News::None,
            Some(Ordering::Equal) if means_the_same => return News::None,
            Some(Ordering::Less) if means_the_same => News::Status,
            Some(Ordering::Equal | Ordering::Less) | None => News::Spec,
        };
        inner.accounts.insert(key, Ok(Arc::new(trimmed(account))));
        news
    }

    /// Takes an account as the answer to our own write shows it, as [`Self::put_written`] does a job.
    pub fn put_written_account(&self, account: DataWorksAccount) {
        if let Some(Ok(known)) = self.lock().accounts.get_mut(&key_of(&account))
            && known.uid() == account.uid()
            && version(&**known) <= version(&account)
        {
            *known = Arc::new(trimmed(account));
        }
    }

    /// Takes an account as a quorum read gave it, as [`Self::believe`] does a job.
    pub fn believe_account(&self, account: DataWorksAccount, before: &Arc<DataWorksAccount>) {
        if let Some(Ok(known)) = self.lock().accounts.get_mut(&key_of(&account))
            && Arc::ptr_eq(before, known)
        {
            *known = Arc::new(trimmed(account));
        }
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

    /// The account is gone. Gives its uid, if it was known and could be read.
    pub fn remove_account(&self, key: &ObjectKey) -> Option<String> {
        self.lock().accounts.remove(key).and_then(Result::ok).and_then(|account| account.uid())
    }

    /// The uid of the account, if it is known and can be read.
    #[must_use]
    pub fn account_uid(&self, key: &ObjectKey) -> Option<String> {
        self.lock().accounts.get(key).and_then(|known| known.as_ref().ok()).and_then(|account| account.uid())
    }

    /// All accounts known, and those that cannot be read.
    #[must_use]
    pub fn account_keys(&self) -> Vec<ObjectKey> {
        self.lock().accounts.keys().cloned().collect()
    }

    /// All jobs known.
    #[must_use]
    pub fn job_keys(&self) -> Vec<ObjectKey> {
        self.lock().jobs.keys().cloned().collect()
    }

    /// All jobs that name the account.
    #[must_use]
    pub fn jobs_of(&self, account: &ObjectKey) -> Vec<ObjectKey> {
        self.lock().naming(account).cloned().collect()
    }

    /// How many jobs name the account.
    #[must_use]
    pub fn count_jobs_of(&self, account: &ObjectKey) -> usize {
        self.lock().naming(account).count()
    }

    /// After a whole list: the jobs that are known and were not listed are gone.
    #[must_use]
    pub fn jobs_gone(&self, listed: &BTreeSet<ObjectKey>) -> Vec<ObjectKey> {
        self.lock().jobs.keys().filter(|k| !listed.contains(k)).cloned().collect()
    }

    /// After a whole list: the accounts that are known and were not listed are gone.
    #[must_use]
    pub fn accounts_gone(&self, listed: &BTreeSet<ObjectKey>) -> Vec<ObjectKey> {
        self.lock().accounts.keys().filter(|k| !listed.contains(k)).cloned().collect()
    }
}

impl Inner {
    /// The jobs that name the account.
    fn naming<'a>(&'a self, account: &'a ObjectKey) -> impl Iterator<Item = &'a ObjectKey> {
        let from = ObjectKey { namespace: account.namespace.clone(), name: String::new() };
        self.jobs
            .range(from..)
            .take_while(|(key, _)| key.namespace == account.namespace)
            .filter(|(_, job)| job.spec.account_ref.name == account.name)
            .map(|(key, _)| key)
    }
}

/// What a view of an account tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Nothing, or something old.
    None,
    /// Its status, or what means nothing to its jobs.
    Status,
    /// Its spec, or another object.
    Spec,
}

fn meaning(account: &DataWorksAccount) -> (Option<String>, Option<i64>) {
    (account.uid(), account.metadata.generation)
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
fn trimmed<K: kube::Resource>(mut job: K) -> K {
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

    fn known(objects: &Objects) -> (String, String) {
        let job = objects.job(&key_of(&seen("", ""))).unwrap();
        (job.uid().unwrap(), job.resource_version().unwrap())
    }

    fn of(uid: &str, version: &str) -> (String, String) {
        (uid.to_owned(), version.to_owned())
    }

    /// Covers: 15u.
    #[test]
    fn a_view_older_than_what_is_known_is_not_taken() {
        let objects = Objects::default();
        for (view, then) in [(("a", "9"), of("a", "9")), (("a", "8"), of("a", "9")), (("a", "10"), of("a", "10"))] {
            objects.put_job(seen(view.0, view.1));
            assert_eq!(known(&objects), then);
        }
        objects.put_job(seen("b", "12"));
        assert_eq!(known(&objects), of("b", "12"), "it was made again");
        objects.put_job(seen("a", "11"));
        assert_eq!(known(&objects), of("b", "12"), "a watch that is behind tells of the one before");
    }

    #[test]
    fn an_account_whose_status_alone_moved_is_no_news_to_its_jobs() {
        let objects = Objects::default();
        let seen = |uid: &str, version: &str, generation: i64| {
            serde_json::from_value::<DataWorksAccount>(json!({
                "apiVersion": "dijob.dev/v1alpha1", "kind": "DataWorksAccount",
                "metadata": {
                    "namespace": "team", "name": "main", "uid": uid, "resourceVersion": version, "generation": generation,
                },
                "spec": { "regionId": "cn-shanghai", "edition": "Basic", "credentials": { "secretRef": { "name": "key" } } },
            }))
            .unwrap()
        };
        let rows = [
            ("a", "9", 1, News::Spec),
            ("a", "9", 1, News::None),
            ("a", "10", 1, News::Status),
            ("a", "8", 1, News::None),
            ("a", "11", 2, News::Spec),
            ("b", "12", 2, News::Spec),
        ];
        for (uid, version, generation, news) in rows {
            assert_eq!(objects.put_account(seen(uid, version, generation)), news, "{uid} {version}");
        }
        objects.put_written_account(seen("b", "14", 2));
        assert_eq!(objects.put_account(seen("b", "14", 2)), News::None, "our own write comes back");
    }

    /// Covers: 14u.
    #[test]
    fn an_answer_that_others_overtook_does_not_borrow_their_version() {
        let objects = Objects::default();
        objects.put_job(seen("a", "12"));
        let ours = objects.put_written(seen("a", "9"));
        assert_eq!(ours.resource_version().as_deref(), Some("9"), "the guard of our next write must conflict");
        assert_eq!(known(&objects), of("a", "12"));
    }

    /// Covers: 27u.
    #[test]
    fn an_answer_to_a_write_brings_no_object_back_and_hides_none() {
        let objects = Objects::default();
        objects.put_job(seen("a", "9"));
        objects.put_written(seen("a", "10"));
        assert_eq!(known(&objects), of("a", "10"));
        assert_eq!(objects.remove_job(&key_of(&seen("a", "9"))).as_deref(), Some("a"));
        assert_eq!(objects.put_written(seen("a", "11")).resource_version().as_deref(), Some("11"));
        assert!(objects.job(&key_of(&seen("a", "9"))).is_none(), "it is gone");
        objects.put_job(seen("b", "12"));
        objects.put_written(seen("a", "13"));
        assert_eq!(known(&objects), of("b", "12"), "it was made again");
    }

    /// Covers: 15u.
    #[test]
    fn a_quorum_read_is_believed_though_it_is_older_unless_the_watch_has_told_more_since() {
        let objects = Objects::default();
        objects.put_job(seen("a", "9"));
        let before = objects.job(&key_of(&seen("a", "9")));
        objects.believe(seen("a", "5"), before.as_ref());
        assert_eq!(known(&objects), of("a", "5"));
        objects.believe(seen("a", "4"), before.as_ref());
        assert_eq!(known(&objects), of("a", "5"), "what was known when it was asked for is so no more");
        objects.believe(seen("a", "4"), None);
        assert_eq!(known(&objects), of("a", "5"));
    }
}
