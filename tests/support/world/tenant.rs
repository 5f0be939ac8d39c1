//! A namespace with a simulated cloud of its own, and the waits on what happens in both.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};

use dijob_operator::api::{DataIntegrationJob, DataWorksAccount, JobStatus};
use futures::StreamExt as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use simulator::{Entry, JobRules, Settings, Simulator, StartOnRunning, Switches};

use super::{Cluster, DEADLINE, FOREIGN, Operator, POLL, is_current, is_ready, laws, ready};

/// A namespace with a cloud of its own. Its key is known to that cloud, and is in no Secret yet.
pub struct Tenant {
    /// Namespace, also in the name of the key.
    pub namespace: String,
    /// Its cloud: any job that is named exists, and a start restarts a running one.
    pub cloud: Simulator,
    /// All jobs of the namespace.
    pub jobs: Api<DataIntegrationJob>,
    /// Everything else.
    pub client: Client,
    /// Key id, not to be seen in logs, events and metrics.
    pub key_id: String,
    /// Secrets, not to be seen anywhere.
    secrets: Mutex<Vec<String>>,
    seen: Mutex<BTreeMap<String, Vec<DataIntegrationJob>>>,
    ended: AtomicBool,
}

impl Tenant {
    /// A new namespace, without Secret and account.
    pub async fn new(cluster: &Cluster, namespace: &str) -> Self {
        let client = cluster.client().await;
        let object = Namespace {
            metadata: ObjectMeta { name: Some(namespace.to_owned()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
        let (key_id, secret) = (format!("LTAI-{namespace}"), format!("canary-{namespace}-secret"));
        let rules = JobRules { start_on_running: StartOnRunning::Restart, ..JobRules::default() };
        let switches = Switches { auto_create: true, rules, ..Switches::default() };
        let cloud = Simulator::start(Settings { switches, ..Settings::default() }.with_key(&key_id, &secret)).unwrap();
        Self {
            namespace: namespace.to_owned(),
            cloud,
            jobs: Api::namespaced(client.clone(), namespace),
            client,
            key_id,
            secrets: Mutex::new(vec![secret]),
            seen: Mutex::default(),
            ended: AtomicBool::new(false),
        }
    }

    /// The same with its Secret and an account named `default`, Enterprise.
    pub async fn with_account(self) -> Self {
        self.put_key().await;
        self.put_account("default", &self.account_spec()).await;
        self
    }

    /// The secret half of its key.
    pub fn secret(&self) -> String {
        self.secrets.lock().unwrap()[0].clone()
    }

    /// Another secret that must not be seen anywhere.
    pub fn another_secret(&self, secret: &str) -> String {
        self.secrets.lock().unwrap().push(secret.to_owned());
        secret.to_owned()
    }

    /// Makes or replaces the Secret `key` with these fields.
    pub async fn put_secret(&self, fields: &[(&str, &[u8])]) {
        let secret = Secret {
            metadata: ObjectMeta { name: Some("key".to_owned()), ..ObjectMeta::default() },
            data: Some(fields.iter().map(|(k, v)| ((*k).to_owned(), ByteString(v.to_vec()))).collect()),
            ..Secret::default()
        };
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        api.patch("key", &PatchParams::apply("user").force(), &Patch::Apply(&secret)).await.unwrap();
    }

    /// The Secret with its right key.
    pub async fn put_key(&self) {
        let secret = self.secret();
        self.put_secret(&[("accessKeyId", self.key_id.as_bytes()), ("accessKeySecret", secret.as_bytes())]).await;
    }

    /// The spec of an account that calls this tenant's cloud.
    pub fn account_spec(&self) -> Value {
        json!({
            "endpoint": self.cloud.url(), "edition": "Enterprise", "credentials": { "secretRef": { "name": "key" } },
        })
    }

    /// Applies an account.
    pub async fn put_account(&self, name: &str, spec: &Value) {
        let api: Api<DataWorksAccount> = Api::namespaced(self.client.clone(), &self.namespace);
        let body = json!({
            "apiVersion": "dijob.dev/v1alpha1", "kind": "DataWorksAccount", "metadata": { "name": name }, "spec": spec,
        });
        api.patch(name, &PatchParams::apply("user").force(), &Patch::Apply(&body)).await.unwrap();
    }

    /// Applies a job, as a user does.
    pub async fn apply(&self, name: &str, spec: &Value) -> DataIntegrationJob {
        let body = json!({
            "apiVersion": "dijob.dev/v1alpha1", "kind": "DataIntegrationJob", "metadata": { "name": name }, "spec": spec,
        });
        self.jobs.patch(name, &PatchParams::apply("user").force(), &Patch::Apply(&body)).await.unwrap()
    }

    /// Sets annotations, or takes them away with `null`.
    pub async fn annotate(&self, name: &str, annotations: &Value) {
        self.merge(name, &json!({ "metadata": { "annotations": annotations } })).await;
    }

    /// Merges this into a job, all but status.
    pub async fn merge(&self, name: &str, patch: &Value) -> DataIntegrationJob {
        self.jobs.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap()
    }

    /// Waits until a job is so. All that is seen on the way obeys the laws.
    pub async fn until(
        &self,
        name: &str,
        what: &str,
        is_so: impl Fn(&DataIntegrationJob) -> bool,
    ) -> DataIntegrationJob {
        let only = WatchParams::default().fields(&format!("metadata.name={name}"));
        let wait = async {
            loop {
                let mut job = self.jobs.get(name).await.unwrap();
                self.note(&job);
                let changes = self.jobs.watch(&only, &job.resource_version().unwrap()).await.unwrap();
                let mut changes = changes.boxed();
                loop {
                    if is_so(&job) {
                        return job;
                    }
                    match changes.next().await {
                        Some(Ok(WatchEvent::Added(next) | WatchEvent::Modified(next))) => job = next,
                        Some(Ok(WatchEvent::Deleted(_))) => panic!("{name} was deleted, waiting for {what}"),
                        Some(Ok(WatchEvent::Bookmark(_))) => {}
                        Some(Ok(WatchEvent::Error(_)) | Err(_)) | None => break,
                    }
                    self.note(&job);
                }
            }
        };
        let Ok(job) = tokio::time::timeout(DEADLINE, wait).await else {
            panic!("{}/{name}: waited for {what}\n{}", self.namespace, self.story(name))
        };
        job
    }

    /// What was seen of a job and what its cloud was asked, for a person.
    pub fn story(&self, name: &str) -> String {
        let mut story = String::new();
        for job in self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(name).into_iter().flatten() {
            let (generation, status) = (job.metadata.generation, serde_json::to_string(&job.status).unwrap());
            let _ = writeln!(story, "generation {generation:?} {status}");
        }
        for Entry { last_byte, action, job, verdict, effect, answer, status, nonce, .. } in
            self.cloud.ledger().entries()
        {
            let _ = writeln!(
                story,
                "{last_byte} {action:?} {job:?} {verdict:?} {status:?} {effect:?} {answer:?} {nonce:?}"
            );
        }
        story
    }

    /// Every status of a job that was seen.
    pub fn seen(&self, name: &str) -> Vec<JobStatus> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(name).into_iter().flatten().filter_map(|job| job.status.clone()).collect()
    }

    fn note(&self, job: &DataIntegrationJob) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let all = seen.entry(job.name_any()).or_default();
        if all.last().is_none_or(|last| last.resource_version() != job.resource_version()) {
            all.push(job.clone());
            drop(seen);
            if job.annotations().contains_key(FOREIGN) {
                return;
            }
            if let Err(broken) = laws(job) {
                panic!("{}/{}: {broken}\n{}", self.namespace, job.name_any(), self.story(&job.name_any()));
            }
        }
    }

    /// Waits until the job is settled: Ready for the spec as it is now.
    pub async fn until_ready(&self, name: &str) -> DataIntegrationJob {
        self.until(name, "Ready=True", is_ready).await
    }

    /// Waits until Ready has this reason for the spec as it is now.
    pub async fn until_reason(&self, name: &str, reason: &str) -> DataIntegrationJob {
        self.until(name, reason, |job| is_current(job) && ready(job).is_some_and(|c| c.reason == reason)).await
    }

    /// Waits until all this happened in the cloud.
    pub async fn until_ledger(&self, what: &str, is_so: impl FnMut(&simulator::Ledger) -> bool) {
        let so = self.cloud.wait_until(DEADLINE, is_so).await;
        assert!(so, "{}: waited for {what}\n{}", self.namespace, self.story(""));
    }

    /// All events about a job so far: type, reason, note.
    pub async fn events(&self, name: &str) -> Vec<(String, String, String)> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let all = api.list(&ListParams::default()).await.unwrap();
        let about = |e: &Event| e.regarding.as_ref().is_some_and(|r| r.name.as_deref() == Some(name));
        let parts = |e: Event| (e.type_.unwrap(), e.reason.unwrap(), e.note.unwrap());
        all.into_iter().filter(about).map(parts).collect()
    }

    /// Waits for an event about a job, and gives its type and note.
    pub async fn until_event(&self, name: &str, reason: &str) -> (String, String) {
        let wait = async {
            loop {
                let found = self.events(name).await.into_iter().find(|(_, r, _)| r == reason);
                if let Some((type_, _, note)) = found {
                    return (type_, note);
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let Ok(found) = tokio::time::timeout(DEADLINE, wait).await else {
            panic!("no event {reason} about {name}: {:?}", self.events(name).await)
        };
        found
    }

    /// Looks for secrets in all that left the operator.
    pub async fn end(self, operators: &[&Operator]) {
        self.ended.store(true, Ordering::Relaxed);
        for job in self.jobs.list(&ListParams::default()).await.unwrap() {
            self.note(&job);
        }
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let accounts: Api<DataWorksAccount> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut open = vec![serde_json::to_string(&events.list(&ListParams::default()).await.unwrap()).unwrap()];
        let told = accounts.list(&ListParams::default()).await.unwrap();
        open.extend(told.into_iter().map(|account| serde_json::to_string(&account.status).unwrap()));
        for operator in operators {
            open.push(operator.log().join("\n"));
            open.push(operator.get("/metrics").1);
        }
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let statuses = seen.values().flatten().map(|job| serde_json::to_string(&job.status).unwrap());
        let all: Vec<String> = open.iter().cloned().chain(statuses).collect();
        for secret in self.secrets.lock().unwrap().iter() {
            assert!(all.iter().all(|text| !text.contains(secret)), "{secret} was told");
        }
        assert!(open.iter().all(|text| !text.contains(&self.key_id)), "{} was told", self.key_id);
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        let ended = self.ended.load(Ordering::Relaxed);
        assert!(ended || std::thread::panicking(), "{}: a test ends with Tenant::end", self.namespace);
    }
}
