//! One real cluster with the shipped operator in it, and a simulated cloud for each test.
//!
//! **May touch:** processes, loopback ports, the temporary directory of the control plane.
//!
//! **Guarantees**
//! 1. The operator is no cluster admin: it runs as the shipped service account, with the shipped roles as they are.
//! 2. It is the binary of this build even if another build ends meanwhile, and it does not outlive the test process.
//! 3. Every status that a test saw obeyed [`laws`], and no secret of a [`tenant::Tenant`] is in status, events, logs or metrics.
//!    [`tenant::Tenant::end`] looks, and a test that forgets it fails.
//! 4. Waits are on conditions, with a deadline that tells what was seen last.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use control_plane::{ADMIN, ControlPlane, Options};
use dijob_operator::api::DataIntegrationJob;
use dijob_operator::api::condition::{Condition, ConditionStatus};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;

mod operator;
pub mod tenant;

pub use operator::Operator;

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

/// The CRDs.
pub const CRDS: [&str; 2] = ["crds/dataintegrationjobs.dijob.dev.yaml", "crds/dataworksaccounts.dijob.dev.yaml"];

/// Namespace, service account and roles.
pub const RIGHTS: [&str; 3] =
    ["deploy/base/namespace.yaml", "deploy/base/serviceaccount.yaml", "deploy/base/rbac.yaml"];

/// A control plane with the CRDs, the namespace, the service account and the roles as shipped.
pub struct Cluster {
    plane: ControlPlane,
    binary: PathBuf,
    kubeconfig: PathBuf,
}

impl Cluster {
    /// Starts it and applies what is shipped, but for the pods.
    pub fn start() -> Self {
        let cluster = Self::bare();
        cluster.install(&CRDS);
        cluster.install(&RIGHTS);
        cluster
    }

    /// Starts it with nothing in it.
    pub fn bare() -> Self {
        let plane = ControlPlane::start(&Options { users: vec![OPERATOR.to_owned()], ..Options::default() }).unwrap();
        let (binary, kubeconfig) = (plane.directory().join("dijob-operator"), plane.directory().join("operator.yaml"));
        std::fs::copy(env!("CARGO_BIN_EXE_dijob-operator"), &binary).unwrap();
        plane.write_kubeconfig(OPERATOR, &kubeconfig).unwrap();
        Self { plane, binary, kubeconfig }
    }

    /// Creates what these files of the repository hold; waits until CRDs are served.
    pub fn install(&self, files: &[&str]) {
        for object in files.iter().flat_map(|file| documents(file)) {
            self.create(&object);
            if object["kind"] == "CustomResourceDefinition" {
                self.wait_established(object["metadata"]["name"].as_str().unwrap());
            }
        }
    }

    /// Lets the operator hold its Lease in this namespace, by the rules as shipped for its own.
    pub fn allow_lease(&self, namespace: &str) {
        for mut object in documents("deploy/base/rbac.yaml") {
            if object["metadata"]["namespace"].is_string() {
                object["metadata"]["namespace"] = namespace.into();
                self.create(&object);
            }
        }
    }

    /// Kills the API server (-9); data and port are kept.
    pub fn kill_api_server(&self) {
        self.plane.kill_api_server().unwrap();
    }

    /// Starts it again.
    pub fn start_api_server(&self) {
        self.plane.start_api_server().unwrap();
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
        self.operator_with(&self.kubeconfig_via(server_url, name), flags)
    }

    fn kubeconfig_via(&self, server_url: &str, name: &str) -> PathBuf {
        let kubeconfig = self.plane.directory().join(format!("operator-{name}.yaml"));
        std::fs::write(&kubeconfig, self.plane.kubeconfig_yaml_via(server_url, OPERATOR).unwrap()).unwrap();
        kubeconfig
    }

    /// An operator with nothing set but what a test needs to see of it: flags and environment are the caller's.
    pub fn plain_operator(&self, server_url: &str, name: &str, prepare: impl FnOnce(&mut Command)) -> Operator {
        let kubeconfig = self.kubeconfig_via(server_url, name);
        let mut command = Command::new(&self.binary);
        command.arg("--kubeconfig").arg(kubeconfig).args(["--listen=127.0.0.1:0", "--log-format=json"]);
        prepare(&mut command);
        Operator::start(&mut command)
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

fn poll<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..DEADLINE.as_millis() / POLL.as_millis() {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(POLL);
    }
    panic!("waited {DEADLINE:?} for {what}")
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
