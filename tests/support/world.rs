//! One real cluster with the shipped operator in it, and a simulated cloud for each test.
//!
//! **May touch:** processes, loopback ports, the temporary directory of the control plane.
//!
//! **Guarantees**
//! 1. The operator is no cluster admin: it runs as the shipped service account, with the shipped roles as they are.
//! 2. It is the binary of this build even if another build ends meanwhile, and it does not outlive the test process.
//! 3. Every status that a test saw obeyed [`laws`], and no secret of a [`Tenant`] is in status, events, logs or metrics.
//!    [`Tenant::end`] looks, and a test that forgets it fails.
//! 4. Waits are on conditions, with a deadline that tells what was seen last.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use control_plane::{ADMIN, ControlPlane, Options};
use dijob_operator::api::condition::{Condition, ConditionStatus};
use dijob_operator::api::{DataIntegrationJob, DataWorksAccount, JobStatus};
use futures::StreamExt as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use simulator::{Entry, JobRules, Settings, Simulator, StartOnRunning, Switches};

use super::plan::status_laws;

/// Who the operator is: the shipped manifests bind their roles to it.
pub const OPERATOR: &str = "system:serviceaccount:dijob-system:dijob-operator";

/// Times short enough for tests, in the proportions of the defaults.
pub const FLAGS: [&str; 6] = [
    "--leader-elect=false",
    "--connect-timeout=500ms",
    "--call-timeout=2s",
    "--settle-time=3s",
    "--confirm-timeout=6s",
    "--missing-grace=8s",
];

/// Marks an object whose status a test writes by hand: the laws do not hold for it.
pub const FOREIGN: &str = "test.dijob.dev/foreign-status";

/// For what should take a few seconds; a busy machine is given its time.
const DEADLINE: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(50);

/// The cluster and the operator that the tests of one binary share.
pub struct World {
    /// The cluster.
    pub cluster: Cluster,
    /// Its only operator.
    pub operator: Operator,
}

/// Started by whichever test needs it first.
pub fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let cluster = Cluster::start();
        let operator = cluster.operator(&FLAGS);
        operator.wait_ready();
        World { cluster, operator }
    })
}

/// All documents of a YAML file of this repository.
pub fn documents(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    serde_saphyr::from_multiple(&text).unwrap()
}

/// A control plane with the CRDs, the namespace, the service account and the roles as shipped.
pub struct Cluster {
    plane: ControlPlane,
    binary: PathBuf,
    kubeconfig: PathBuf,
}

impl Cluster {
    /// Starts it and applies what is shipped, but for the pods.
    pub fn start() -> Self {
        let plane = ControlPlane::start(&Options { users: vec![OPERATOR.to_owned()], ..Options::default() }).unwrap();
        let (binary, kubeconfig) = (plane.directory().join("dijob-operator"), plane.directory().join("operator.yaml"));
        std::fs::copy(env!("CARGO_BIN_EXE_dijob-operator"), &binary).unwrap();
        plane.write_kubeconfig(OPERATOR, &kubeconfig).unwrap();
        let cluster = Self { plane, binary, kubeconfig };
        for file in [
            "crds/dataintegrationjobs.dijob.dev.yaml",
            "crds/dataworksaccounts.dijob.dev.yaml",
            "deploy/base/namespace.yaml",
            "deploy/base/serviceaccount.yaml",
            "deploy/base/rbac.yaml",
        ] {
            for object in documents(file) {
                cluster.create(&object);
            }
        }
        for crd in ["dataintegrationjobs.dijob.dev", "dataworksaccounts.dijob.dev"] {
            cluster.wait_established(crd);
        }
        cluster
    }

    /// Waits until the API server serves a CRD.
    pub fn wait_established(&self, crd: &str) {
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd}");
        poll(&format!("{crd} to be established"), || {
            let (_, body) = self.plane.request(ADMIN, "GET", &path, "").unwrap();
            let crd: Value = serde_json::from_str(&body).unwrap();
            let conditions = crd["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True").then_some(())
        });
    }

    fn create(&self, object: &Value) {
        let version = object["apiVersion"].as_str().unwrap();
        let root = if version.contains('/') { "apis" } else { "api" };
        let namespace =
            object["metadata"]["namespace"].as_str().map(|n| format!("/namespaces/{n}")).unwrap_or_default();
        let kind = object["kind"].as_str().unwrap().to_lowercase();
        let path = format!("/{root}/{version}{namespace}/{kind}s");
        let (status, body) = self.plane.request(ADMIN, "POST", &path, &object.to_string()).unwrap();
        assert_eq!(status, 201, "{body}");
    }

    /// A client of the caller's runtime that may do everything.
    pub async fn client(&self) -> Client {
        self.client_of(ADMIN).await
    }

    /// A client of the caller's runtime that is this user.
    pub async fn client_of(&self, user: &str) -> Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let file = Kubeconfig::from_yaml(&self.plane.kubeconfig_yaml(user).unwrap()).unwrap();
        let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
        Client::try_from(config).unwrap()
    }

    /// Starts an operator process with these flags.
    pub fn operator(&self, flags: &[&str]) -> Operator {
        self.operator_with(&self.kubeconfig, flags)
    }

    /// The same, but it reaches the API server at another URL.
    pub fn operator_via(&self, server_url: &str, name: &str, flags: &[&str]) -> Operator {
        let kubeconfig = self.plane.directory().join(format!("operator-{name}.yaml"));
        std::fs::write(&kubeconfig, self.plane.kubeconfig_yaml_via(server_url, OPERATOR).unwrap()).unwrap();
        self.operator_with(&kubeconfig, flags)
    }

    /// URL and certificate authority of the API server.
    pub fn server(&self) -> (String, String) {
        (self.plane.server_url(), self.plane.ca_pem().to_owned())
    }

    fn operator_with(&self, kubeconfig: &Path, flags: &[&str]) -> Operator {
        let mut command = Command::new(&self.binary);
        command.arg("--kubeconfig").arg(kubeconfig).args([
            "--listen=127.0.0.1:0",
            "--log-format=json",
            "--allow-insecure-endpoints",
        ]);
        Operator::start(command.args(flags))
    }
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

/// A running operator process. Dropped, it is killed.
pub struct Operator {
    address: SocketAddr,
    child: Child,
    keeper: Child,
    log: Arc<Log>,
}

/// Ends with the operator's life if ours ends first: then its standard input is closed.
const KEEPER: &str = r#"read -r _; kill -s KILL "$0" 2>/dev/null"#;

impl Operator {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = child.id().to_string();
        let keeper = Command::new("sh").args(["-c", KEEPER, &pid]).stdin(Stdio::piped()).spawn().unwrap();
        let log = Arc::<Log>::default();
        let (lines, told) = (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                told.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                told.grown.notify_all();
            }
        });
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut operator = Self { address: nowhere, child, keeper, log };
        let first = operator.wait_line("the first line of its log", |line| line["listen"].is_string());
        operator.address = first["listen"].as_str().unwrap().parse().unwrap();
        operator
    }

    /// All that it logged, one JSON object a line.
    pub fn log(&self) -> Vec<String> {
        self.log.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many lines of the log are so.
    pub fn count_lines(&self, is_it: impl Fn(&Value) -> bool) -> usize {
        self.log().iter().filter_map(|line| serde_json::from_str(line).ok()).filter(|line| is_it(line)).count()
    }

    /// Waits for a line of the log.
    pub fn wait_line(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let find = |lines: &[String]| -> Option<Value> {
            lines.iter().filter_map(|line| serde_json::from_str(line).ok()).find(|line| is_it(line))
        };
        let lines = self.log.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let (lines, _) = self.log.grown.wait_timeout_while(lines, DEADLINE, |lines| find(lines).is_none()).unwrap();
        find(&lines).unwrap_or_else(|| panic!("waited for {what}; the log:\n{}", lines.join("\n")))
    }

    /// One request to its own port: status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Waits until `/readyz` says yes.
    pub fn wait_ready(&self) {
        let ready = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            poll("the operator to be ready", || (self.get("/readyz").0 == 200).then_some(()));
        }));
        assert!(ready.is_ok(), "{}\n{}", self.get("/readyz").1, self.log().join("\n"));
    }

    /// Waits until `/readyz` says no, and why.
    pub fn wait_unready(&self, is_it: impl Fn(&str) -> bool) -> String {
        poll("the operator not to be ready", || {
            let (status, why) = self.get("/readyz");
            (status == 503 && is_it(&why)).then_some(why)
        })
    }

    /// The value of one series, named with its labels as in the exposition.
    pub fn metric(&self, series: &str) -> u64 {
        let (_, text) = self.get("/metrics");
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("no {series} in\n{text}"))
    }

    /// Sends it a signal: `TERM`, `STOP`, `CONT`.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
    }

    /// Waits until it has ended by itself.
    pub fn wait_end(mut self) -> ExitStatus {
        poll("the operator to end", || self.child.try_wait().unwrap())
    }

    /// Asks it to end in order, and waits until it has.
    pub fn terminate(self) -> ExitStatus {
        self.signal("TERM");
        self.wait_end()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // The keeper first: it must not outlive the id that it knows.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn poll<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..DEADLINE.as_millis() / POLL.as_millis() {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(POLL);
    }
    panic!("waited {DEADLINE:?} for {what}")
}

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
        let mut open = vec![serde_json::to_string(&events.list(&ListParams::default()).await.unwrap()).unwrap()];
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

/// A condition of a job.
pub fn condition<'a>(job: &'a DataIntegrationJob, type_: &str) -> Option<&'a Condition> {
    job.status.as_ref()?.conditions.iter().find(|c| c.type_ == type_)
}

/// Its Ready condition.
pub fn ready(job: &DataIntegrationJob) -> Option<&Condition> {
    condition(job, "Ready")
}

/// The status speaks of the spec as it is.
pub fn is_current(job: &DataIntegrationJob) -> bool {
    job.status.as_ref().is_some_and(|s| Some(s.observed_generation) == job.metadata.generation)
}

/// Ready, for the spec as it is.
pub fn is_ready(job: &DataIntegrationJob) -> bool {
    is_current(job) && ready(job).is_some_and(|c| c.status == ConditionStatus::True)
}

/// A person is asked.
pub fn is_stalled(job: &DataIntegrationJob) -> bool {
    condition(job, "Stalled").is_some()
}

/// What every status of a job that the operator has looked at obeys.
///
/// # Errors
/// The first law that is broken.
pub fn laws(job: &DataIntegrationJob) -> Result<(), String> {
    let Some(status) = &job.status else { return Err("no status at all: the CRD gives a default".to_owned()) };
    if status.observed_generation == -1 {
        return if status.conditions.is_empty() { Ok(()) } else { Err("conditions of an unseen object".to_owned()) };
    }
    status_laws(status)?;
    let rules = [
        (Some(status.observed_generation) <= job.metadata.generation, "no status is of a later spec"),
        (status.history.len() <= 5, "the history has 5 entries at most"),
        // What cannot be read has no record, and so nothing that could be another's.
        (
            status.uid == job.metadata.uid || ready(job).is_some_and(|c| c.reason == "InvalidObject"),
            "the status is of this object",
        ),
    ];
    match rules.iter().find(|(holds, _)| !holds) {
        Some((_, law)) => Err(format!("broken: {law}")),
        None => Ok(()),
    }
}
