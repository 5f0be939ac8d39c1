//! What the story is played on: a control plane, a simulated cloud, and the operator as a process of its own.
//!
//! **May touch:** cargo, processes, loopback ports, a log file in the target folder.
//!
//! **Guarantees**
//! 1. The operator is the binary of this source tree: cargo decides whether it must be built.
//! 2. It runs as its own user, with the rights in `deploy/base` and no other.
//! 3. All of it ends with the stage, and with this process, however that ends.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use control_plane::{ADMIN, ControlPlane, Options};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use simulator::{JobRules, Limits, Settings, Simulator, StartOnRunning, Switches};

use crate::Failure;
use crate::cluster::{apply, manifest};
use crate::show::Show;

/// The service account of `deploy/base`, as RBAC names it.
pub const OPERATOR: &str = "system:serviceaccount:dijob-system:dijob-operator";

/// The key that the simulator knows.
pub const KEY: (&str, &str) = ("demo-key", "demo-secret");

/// What an admin applies, but for the Deployment: no node is here to run it.
const BASE: [&str; 5] = [
    "crds/dataintegrationjobs.dijob.dev.yaml",
    "crds/dataworksaccounts.dijob.dev.yaml",
    "deploy/base/namespace.yaml",
    "deploy/base/serviceaccount.yaml",
    "deploy/base/rbac.yaml",
];

/// Waits, so short that nobody has to wait for them. The rules between them hold as for the defaults.
const SHORTENED: [&str; 7] = [
    "--connect-timeout=1s",
    "--call-timeout=2s",
    "--settle-time=3s",
    "--confirm-timeout=10s",
    "--lease-duration=5s",
    "--renew-deadline=4s",
    "--retry-period=1s",
];

const FLAGS: [&str; 4] =
    ["--allow-insecure-endpoints", "--lease-namespace=dijob-system", "--listen=127.0.0.1:0", "--log-format=text"];

/// All that runs. Fields are dropped in this order.
pub struct Stage {
    operator: Option<Operator>,
    /// The simulated `DataWorks`.
    pub cloud: Simulator,
    /// Kubernetes, as its admin.
    pub client: Client,
    /// The control plane.
    pub plane: ControlPlane,
    binary: PathBuf,
    /// Where the operator writes its log.
    pub log: PathBuf,
    /// The admin's kubeconfig.
    pub kubeconfig: PathBuf,
}

struct Operator(Child);

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Stage {
    /// Builds what must be built and starts all but the operator.
    pub async fn set(show: &mut Show) -> Result<Self, Failure> {
        show.line("First, cargo brings the operator's binary up to date.");
        let binary = built_operator().await?;
        show.step("A cluster and a cloud, both on this machine");
        show.say(
            "etcd and kube-apiserver start: 3 s. The first time they are compiled from source: 5 minutes or more.",
        );
        let options = Options { users: vec![OPERATOR.to_owned()], ..Options::default() };
        let plane = tokio::task::spawn_blocking(move || ControlPlane::start(&options)).await??;
        let (client, kubeconfig) = (admin(&plane).await?, plane.directory().join("kubeconfig"));
        plane.write_kubeconfig(ADMIN, &kubeconfig)?;
        let version = client.apiserver_version().await?.git_version;
        show.as_expected(&format!("kube-apiserver {version} answers at {}", plane.server_url()));

        // A rerun of a job that runs must show, or it would be waited for until the confirm timeout.
        let rules = JobRules { start_on_running: StartOnRunning::Restart, ..JobRules::default() };
        let switches = Switches { rules, limits: Limits::basic(), ..Switches::default() };
        let settings = Settings { switches, ..Settings::default() };
        let cloud = Simulator::start(settings.with_key(KEY.0, KEY.1))?;
        show.as_expected(&format!(
            "a DataWorks simulator answers at {}: it verifies every signature, throttles, fails on demand, and keeps a \
             ledger of what arrived and what ran",
            cloud.url()
        ));
        show.command("kubectl apply -k deploy/base");
        for object in BASE.iter().map(|path| manifest(path)).collect::<Result<Vec<_>, _>>()?.iter().flatten() {
            apply(&client, object).await?;
        }
        let log = binary.with_file_name("demo-operator.log");
        File::create(&log)?;
        Ok(Self { operator: None, cloud, client, plane, binary, log, kubeconfig })
    }

    /// Starts the operator and returns the id of its process.
    pub fn start_operator(&mut self) -> Result<u32, Failure> {
        let kubeconfig = self.plane.directory().join("operator.kubeconfig");
        self.plane.write_kubeconfig(OPERATOR, &kubeconfig)?;
        let log = File::options().append(true).open(&self.log)?;
        let mut command = Command::new(&self.binary);
        command.arg("--kubeconfig").arg(kubeconfig).args(FLAGS).args(SHORTENED);
        // A proxy for the internet has no way to this machine's own ports.
        command.env_remove("HTTPS_PROXY").env_remove("https_proxy");
        let child = self.plane.bind(&mut command).stdout(log.try_clone()?).stderr(log).spawn()?;
        let id = child.id();
        self.operator = Some(Operator(child));
        Ok(id)
    }

    /// `kill -9`. Returns the id of the process that was.
    pub fn kill_operator(&mut self) -> u32 {
        self.operator.take().map_or(0, |operator| operator.0.id())
    }

    /// An error if the operator ended by itself.
    pub fn is_running(&mut self) -> Result<(), Failure> {
        match self.operator.as_mut().map(|operator| operator.0.try_wait()).transpose()?.flatten() {
            Some(status) => Err(format!("the operator ended by itself: {status}").into()),
            None => Ok(()),
        }
    }

    /// The last lines of the operator's log.
    pub fn last_words(&self) -> Vec<String> {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(20)).map(|line| (*line).to_owned()).collect()
    }

    /// The flags that shorten waits, for people.
    pub fn shortened() -> String {
        SHORTENED.join(" ")
    }
}

async fn admin(plane: &ControlPlane) -> Result<Client, Failure> {
    let kubeconfig = Kubeconfig::from_yaml(&plane.kubeconfig_yaml(ADMIN)?)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.proxy_url = None;
    Ok(Client::try_from(config)?)
}

/// The operator beside this executable, built by cargo if it is absent or older than its sources. Selecting this package
/// too keeps the features of the dependencies as they are: nothing is compiled twice.
#[expect(clippy::disallowed_methods, reason = "edge: cargo tells its programs where it is")]
async fn built_operator() -> Result<PathBuf, Failure> {
    let executable = std::env::current_exe()?;
    let folder = executable.parent().ok_or("this executable is in no folder")?;
    let target = folder.parent().ok_or("this executable is in no target folder")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = tokio::process::Command::new(cargo);
    build.args(["build", "--package", "demo", "--package", "dijob-operator", "--bin", "dijob-operator"]);
    build.arg("--manifest-path").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml"));
    build.arg("--target-dir").arg(target).kill_on_drop(true);
    if folder.ends_with("release") {
        build.arg("--release");
    }
    // What `cargo run` says of this package would make build scripts that look at it run again.
    for (name, _) in std::env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            build.env_remove(name);
        }
    }
    let status = build.status().await.map_err(|error| format!("cannot run cargo: {error}"))?;
    let binary = folder.join("dijob-operator");
    if status.success() && binary.is_file() { Ok(binary) } else { Err(format!("cargo build: {status}").into()) }
}
