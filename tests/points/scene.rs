//! One run's world: a namespace with a cloud, one operator or two behind proxies, and the history of the one job.
//!
//! **May touch:** processes, loopback ports, one namespace of the shared cluster.

use std::sync::Arc;
use std::time::Duration;

use dijob_operator::api::DataIntegrationJob;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use simulator::{JobPatch, JobStatus};
use tokio::sync::OnceCell;
use tokio::task::{JoinHandle, block_in_place};

use super::exchanges::class;
use super::history::History;
use super::stories::{CLOUD_JOB, JOB, Story};
use crate::support::proxy::{Exchange, Moment, Proxy, Upstream};
use crate::support::world::tenant::Tenant;
use crate::support::world::{Cluster, Operator, is_ready};

/// Times as short as the rules between them and a busy machine allow.
const FLAGS: [&str; 5] = [
    "--connect-timeout=400ms",
    "--call-timeout=1500ms",
    "--settle-time=1700ms",
    "--confirm-timeout=10s",
    "--missing-grace=8s",
];
/// [`FLAGS`] has it.
pub const SETTLE: Duration = Duration::from_millis(1700);
const ALONE: [&str; 1] = ["--leader-elect=false"];
const ELECTED: [&str; 4] =
    ["--leader-elect=true", "--lease-duration=6s", "--renew-deadline=4500ms", "--retry-period=500ms"];
/// For what takes a second, on a busy machine.
const SOON: Duration = Duration::from_secs(40);

/// The cluster that all runs of this process share.
pub async fn cluster() -> &'static Cluster {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    CLUSTER.get_or_init(|| async { tokio::task::spawn_blocking(Cluster::start).await.unwrap() }).await
}

/// An operator and its way to the API server.
pub struct Replica {
    name: String,
    /// Its way.
    pub api: Proxy,
    /// None: it has ended.
    pub process: Option<Operator>,
}

/// All that one run works with.
pub struct Scene {
    /// What is told.
    pub story: Story,
    /// The user's side.
    pub tenant: Arc<Tenant>,
    /// The way to the cloud.
    pub cloud: Proxy,
    /// One, or two of which the first leads.
    pub replicas: Vec<Replica>,
    /// All versions of the job.
    pub history: History,
    cluster: &'static Cluster,
}

/// A Lease as a leader leaves it behind that has stopped in order: it is taken at the first look.
async fn release_lease(tenant: &Tenant) {
    let lease = json!({
        "metadata": { "name": "dijob-operator" },
        "spec": { "leaseDurationSeconds": 1, "leaseTransitions": 1 },
    });
    let api: Api<Lease> = Api::namespaced(tenant.client.clone(), &tenant.namespace);
    api.create(&PostParams::default(), &serde_json::from_value(lease).unwrap()).await.unwrap();
}

/// The status that a write states.
pub fn status_of(exchange: &Exchange) -> Value {
    let body: Value = serde_json::from_slice(&exchange.body).unwrap_or_default();
    if class(exchange) == "PATCH status" { body["status"].clone() } else { Value::Null }
}

impl Scene {
    /// The world before the act, the operators of a first start not yet started.
    pub async fn new(story: Story, namespace: &str) -> Self {
        let cluster = cluster().await;
        let tenant = Arc::new(Tenant::new(cluster, namespace).await);
        let cloud = Proxy::start(Upstream::http(&tenant.cloud.url())).await;
        tenant.put_key().await;
        let mut account = tenant.account_spec();
        account["endpoint"] = json!(cloud.url());
        if story.newer() {
            account["dataworksVersion"] = json!("2024-05-18");
        }
        tenant.put_account("default", &account).await;
        if story.begins_adopted() {
            let started_time = Some(tenant.cloud.now().as_second() - 3600);
            let running = JobPatch { status: Some(JobStatus::Running), started_time, ..JobPatch::default() };
            tenant.cloud.put_job(CLOUD_JOB, &running);
        }
        let history = History::start(tenant.jobs.clone(), tenant.apply(JOB, &story.spec()).await);
        let (url, ca) = cluster.server();
        let mut replicas = Vec::new();
        for at in 0..=usize::from(story.elected()) {
            let api = Proxy::start(Upstream::https(&url, &ca).within(namespace)).await;
            replicas.push(Replica { name: format!("{namespace}-{at}"), api, process: None });
        }
        if story.elected() {
            block_in_place(|| cluster.allow_lease(namespace));
            release_lease(&tenant).await;
        }
        let mut scene = Self { story, tenant, cloud, replicas, history, cluster };
        if story.begins_adopted() {
            scene.begin().await;
        }
        scene
    }

    /// Starts the operators, and waits until the job is adopted and nothing more is to be said.
    async fn begin(&mut self) {
        self.start(0);
        assert!(self.history.until(SOON, is_ready).await, "it was not adopted: {}", self.told());
        let told = |all: &[Exchange]| all.iter().any(|e| class(e) == "POST event" && e.ended.is_some());
        self.replicas[0].api.until(told).await;
        if self.story.elected() {
            self.start(1);
            let follower = self.replicas[1].process.as_ref().unwrap();
            block_in_place(|| follower.wait_ready());
        }
    }

    /// Starts the operator of a replica.
    pub fn start(&mut self, at: usize) {
        let namespace = format!("--lease-namespace={}", self.tenant.namespace);
        let name = format!("--pod-name=replica-{at}");
        let election: &[&str] = if self.story.elected() { &ELECTED } else { &ALONE };
        let flags = [&FLAGS, election, &[&namespace, &name]].concat();
        let Replica { name, api, process } = &mut self.replicas[at];
        *process = Some(block_in_place(|| self.cluster.operator_via(api.url(), name, &flags)));
    }

    /// Waits until the history holds what the API server holds.
    pub async fn catch_up(&self) -> DataIntegrationJob {
        let job = self.tenant.jobs.get(JOB).await.unwrap();
        let version = job.resource_version();
        let caught_up = self.history.until(SOON, |last| last.resource_version() == version).await;
        assert!(caught_up, "the watch does not tell of {version:?}");
        job
    }

    /// All exchanges so far, for a person.
    pub fn told(&self) -> String {
        use std::fmt::Write as _;
        let mut told = String::new();
        let sides = self.replicas.iter().map(|r| (r.name.as_str(), &r.api)).chain([("cloud", &self.cloud)]);
        for (side, proxy) in sides {
            let exchanges = proxy.exchanges();
            for (exchange, name) in exchanges.iter().zip(super::exchanges::names(&exchanges, 0)) {
                let Exchange { number, moment, status, ended, answered, .. } = exchange;
                let pending = &status_of(exchange)["pendingStart"];
                let intent = if pending.is_object() {
                    format!(" intent {} attempt {} nonce {}", pending["id"], pending["attempt"], pending["nonce"])
                } else {
                    String::new()
                };
                let status = status.map(|s| s.as_u16());
                let _ = writeln!(
                    told,
                    "{side} {number}: {name} {moment:?} {status:?} answered {answered:?} ended {ended:?}{intent}"
                );
            }
        }
        for job in self.history.versions() {
            let status = serde_json::to_string(&job.status).unwrap();
            let _ =
                writeln!(told, "version {:?} {:?} {status}", job.metadata.resource_version, job.metadata.generation);
        }
        told + &self.tenant.story(JOB)
    }

    /// How many exchanges there were: the API server's with the first replica, the cloud's.
    pub fn marks(&self) -> (usize, usize) {
        (self.replicas[0].api.exchanges().len(), self.cloud.exchanges().len())
    }

    /// Replaces the key, in the cloud and in the Secret, when the first intent is written and its writer does not know it.
    pub fn rotate_at_intent(&self) -> Option<JoinHandle<()>> {
        let intent = |exchange: &Exchange| status_of(exchange)["pendingStart"].is_object();
        let held = self.story.rotates().then(|| self.replicas[0].api.hold(Moment::AnswerSeen, intent))?;
        let tenant = self.tenant.clone();
        Some(tokio::spawn(async move {
            held.reached().await;
            let (id, secret) = (format!("{}-new", tenant.key_id), tenant.another_secret("canary-rotated"));
            tenant.cloud.add_key(&id, &secret);
            tenant.put_secret(&[("accessKeyId", id.as_bytes()), ("accessKeySecret", secret.as_bytes())]).await;
            tenant.cloud.remove_key(&tenant.key_id);
            held.release();
        }))
    }

    /// Now, by the clock that all proxies of this run are read against.
    pub fn now(&self) -> Duration {
        self.replicas[0].api.elapsed()
    }

    /// A time of one proxy, by the cloud's clock.
    pub fn cloud_time(&self, proxy: &Proxy, at: Duration) -> Timestamp {
        let ago = SignedDuration::try_from(proxy.elapsed()).unwrap() - SignedDuration::try_from(at).unwrap();
        self.tenant.cloud.now() - ago
    }
}
