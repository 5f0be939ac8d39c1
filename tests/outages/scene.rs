//! A control plane of its own, its operators behind a wire, and a namespace with jobs of both kinds.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a broken test tool fails its test")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dijob_operator::api::DataIntegrationJob;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::json;

use crate::history::History;
use crate::process::{Launch, Output};
use crate::support::world::tenant::Tenant;
use crate::support::world::{Cluster, is_ready, ready};

/// Elected, with times as short as the fence allows: connect 0.5 s, write 1 s, retry 0.3 s.
pub const SHORT: [&str; 9] = [
    "--lease-namespace=dijob-system",
    "--lease-duration=3s",
    "--renew-deadline=2s",
    "--retry-period=300ms",
    "--connect-timeout=500ms",
    "--call-timeout=2s",
    "--settle-time=3s",
    "--confirm-timeout=6s",
    "--missing-grace=8s",
];
/// Elected, with the times as shipped.
pub const SHIPPED: [&str; 1] = ["--lease-namespace=dijob-system"];

/// The cluster, and where its operators find it.
pub struct Scene {
    /// The cluster.
    pub cluster: Cluster,
    directory: PathBuf,
    token: String,
}

impl Scene {
    /// Starts a control plane.
    pub async fn start(name: &str) -> Self {
        let cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap();
        let directory =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("outages-{}-{name}", std::process::id()));
        sweep();
        fs::create_dir_all(&directory).unwrap();
        let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client().await, "dijob-system");
        let spec = TokenRequestSpec { expiration_seconds: Some(7200), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let answer = accounts.create_token_request("dijob-operator", &PostParams::default(), &request).await.unwrap();
        Self { cluster, directory, token: answer.status.unwrap().token }
    }

    /// How an operator is started that reaches the API server at `url`.
    pub fn launch(&self, url: &str, flags: &[&str]) -> Launch {
        let file = self.directory.join(format!("{}.yaml", url.rsplit(':').next().unwrap()));
        let (_, authority) = self.cluster.server();
        let ca = fs::File::create(self.directory.join("ca.pem")).and_then(|mut f| f.write_all(authority.as_bytes()));
        ca.unwrap();
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{ "name": "it", "cluster": { "server": url, "certificate-authority": "ca.pem" } }],
            "users": [{ "name": "it", "user": { "token": self.token } }],
            "contexts": [{ "name": "it", "context": { "cluster": "it", "user": "it" } }],
        });
        let mut open = fs::OpenOptions::new();
        let mut out = open.create(true).truncate(true).write(true).mode(0o600).open(&file).unwrap();
        out.write_all(kubeconfig.to_string().as_bytes()).unwrap();
        Launch {
            kubeconfig: file,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            environment: Vec::new(),
            before: "",
            output: Output::Read,
        }
    }

    /// For files of the test.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the API server listens.
    pub fn upstream(&self) -> std::net::SocketAddr {
        self.cluster.server().0.trim_start_matches("https://").parse().unwrap()
    }
}

/// A static scene is never dropped: what a test process that is gone left behind goes now.
fn sweep() {
    for entry in fs::read_dir(env!("CARGO_TARGET_TMPDIR")).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let process = name.strip_prefix("outages-").and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A namespace whose jobs are judged: what was asked of each is counted, and compared with what the cloud did.
pub struct Fleet {
    /// Its cloud and its objects.
    pub tenant: Tenant,
    history: History,
    jobs: BTreeMap<String, Job>,
}

struct Job {
    id: i64,
    is_forced: bool,
    asked: usize,
}

impl Fleet {
    /// An empty one with an account.
    pub async fn new(scene: &Scene, namespace: &str) -> Self {
        let tenant = Tenant::new(&scene.cluster, namespace).await.with_account().await;
        let history = History::begin(tenant.client.clone(), namespace).await;
        Self { tenant, history, jobs: BTreeMap::new() }
    }

    /// Applies a job that was never run: its first start is one trigger.
    pub async fn add(&mut self, name: &str, is_forced: bool) {
        let id = i64::try_from(self.jobs.len()).unwrap() + 1;
        self.tenant.apply(name, &json!({ "diJobId": id, "forceToRerun": is_forced })).await;
        self.jobs.insert(name.to_owned(), Job { id, is_forced, asked: 1 });
    }

    /// Asks for one more start: a token, which is one trigger.
    pub async fn rerun(&mut self, name: &str) {
        let job = self.jobs.get_mut(name).unwrap();
        job.asked += 1;
        let token = format!("token-{}", job.asked);
        let force = if job.is_forced { json!(token) } else { json!(null) };
        self.tenant.annotate(name, &json!({ "dijob.dev/rerun": token, "dijob.dev/rerun-force": force })).await;
    }

    /// Changes the settings of a job: one trigger.
    pub async fn change(&mut self, name: &str) {
        let job = self.jobs.get_mut(name).unwrap();
        job.asked += 1;
        let settings = json!({ "failoverSettings": { "interval": job.asked } });
        self.tenant.merge(name, &json!({ "spec": { "realtimeStartSettings": settings } })).await;
    }

    /// The number of a job.
    pub fn id(&self, name: &str) -> i64 {
        self.jobs.get(name).unwrap().id
    }

    fn is_done(&self, object: &DataIntegrationJob) -> bool {
        let Some(job) = object.metadata.name.as_ref().and_then(|name| self.jobs.get(name)) else { return false };
        let token = object.metadata.annotations.as_ref().and_then(|all| all.get("dijob.dev/rerun"));
        let handled = object.status.as_ref().map(|status| status.handled_rerun_tokens.as_slice()).unwrap_or_default();
        if is_ready(object) && token.is_none_or(|token| handled.contains(token)) {
            return true;
        }
        // A forced start of a process that died may rest, visibly, for its signature's life and longer.
        let reason = ready(object).map(|ready| ready.reason.as_str());
        job.is_forced && matches!(reason, Some("ResolvingStart" | "StartOutcomeUnknown"))
    }

    /// Waits until nothing that was asked for is open.
    pub async fn until_done(&self, limit: Duration) {
        let wait = async {
            loop {
                if let Ok(all) = self.tenant.jobs.list(&ListParams::default()).await
                    && all.items.len() == self.jobs.len()
                    && all.items.iter().all(|job| self.is_done(job))
                {
                    return;
                }
                crate::look_again().await;
            }
        };
        if tokio::time::timeout(limit, wait).await.is_err() {
            let all = self.tenant.jobs.list(&ListParams::default()).await.unwrap();
            let open: Vec<String> = all
                .iter()
                .filter(|job| !self.is_done(job))
                .map(|job| format!("{:?} {}", job.metadata, serde_json::to_string(&job.status).unwrap()))
                .collect();
            panic!("{}: not done:\n{}\n{}", self.tenant.namespace, open.join("\n"), self.tenant.story(""));
        }
    }

    /// What the promises say of what happened: forced at most once for each trigger, ordinary exactly once here, where
    /// the cloud remembers nonces and shows a start at once; nothing lost in silence; no start without its intent.
    pub async fn judge(&self) {
        let all = self.tenant.jobs.list(&ListParams::default()).await.unwrap();
        for (name, job) in &self.jobs {
            let ran = self.tenant.cloud.executions(job.id).len();
            let object = all.iter().find(|object| object.metadata.name.as_ref() == Some(name)).unwrap();
            let rests = !is_ready(object);
            let lawful = ran == job.asked || (job.is_forced && rests && ran + 1 == job.asked);
            assert!(lawful, "{name}: asked {} times, ran {ran} times\n{}", job.asked, self.tenant.story(name));
        }
        let ledger = self.tenant.cloud.ledger();
        let unfounded = || self.history.unfounded(ledger.of_action("StartDIJob"));
        for _ in 0..100 {
            if unfounded().is_empty() {
                break;
            }
            crate::look_again().await; // the history is told a moment later
        }
        let unfounded = unfounded();
        assert!(unfounded.is_empty(), "{unfounded:#?}\n{:#?}", self.history.commits());
    }

    /// Jobs that are not settled: after an orderly end, none rests as unknown.
    pub async fn unsettled(&self) -> Vec<String> {
        let all = self.tenant.jobs.list(&ListParams::default()).await.unwrap();
        all.iter().filter(|job| !is_ready(job)).filter_map(|job| job.metadata.name.clone()).collect()
    }

    /// Executions beyond what was asked.
    pub fn doubles(&self) -> usize {
        self.jobs.values().map(|job| self.tenant.cloud.executions(job.id).len().saturating_sub(job.asked)).sum()
    }

    /// Events of the namespace so far.
    pub async fn events(&self) -> usize {
        let api: Api<Event> = Api::namespaced(self.tenant.client.clone(), &self.tenant.namespace);
        api.list(&ListParams::default()).await.unwrap().items.len()
    }

    /// Takes all jobs away, so that the next operators do not find them, and looks for secrets in these texts.
    pub async fn end(self, logs: &[Vec<String>]) {
        let secret = self.tenant.secret();
        let told = logs.iter().flatten().any(|line| line.contains(&secret) || line.contains(&self.tenant.key_id));
        assert!(!told, "a secret is in a log");
        for name in self.jobs.keys() {
            let _ = self.tenant.jobs.delete(name, &kube::api::DeleteParams::default()).await;
        }
        self.tenant.end(&[]).await;
    }
}
