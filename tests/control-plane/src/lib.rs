//! Starts a real `kube-apiserver` and `etcd` for a test, the demo or the bench, and throws them away.
//!
//! No mock of Kubernetes shows that a resourceVersion conflict, a CEL rule, a status subresource, RBAC or a watch behaves.
//! Neither a container runtime nor root is needed. One control plane per test binary, a namespace per test.
//!
//! **May touch:** processes, a temporary directory, the cache of binaries, loopback ports.
//!
//! **Guarantees**
//! 1. Nothing outlives its owner: dropped, interrupted or killed with `kill -9`, it takes its processes and its directory
//!    with it. So a static, which is never dropped, may hold a [`ControlPlane`].
//! 2. What [`ControlPlane::start`] returns has answered `ok` at `/readyz`.
//! 3. [`ControlPlane::kill_api_server`] and [`ControlPlane::start_api_server`] keep port, keys, tokens and data.
//!
//! The binaries are those in `KUBEBUILDER_ASSETS`, else those in the cache, which Go fills from the module in this folder:
//! it holds no code, only the versions. All calls block; none needs an async runtime, and one instance serves tests that
//! each have a runtime of their own.
//!
//! etcd listens on Unix sockets in the directory: no port to race for, and no other API server that finds it by mistake.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::binaries::{API_SERVER, CONTROLLER_MANAGER, ETCD, Places};
use crate::watchdog::{Watchdog, random_hex};

pub use crate::error::Error;

mod binaries;
mod error;
mod https;
mod watchdog;

/// The user that may do everything. It is always there.
pub const ADMIN: &str = "admin";

/// Ready after about 3 s; a busy machine with several control planes is given its time.
const START_LIMIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

/// What a control plane is to be like.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Users beside [`ADMIN`], as RBAC names them. Each gets a token; none may do anything until a role is bound to it.
    /// `system:serviceaccount:NAMESPACE:NAME` stands for that service account.
    pub users: Vec<String>,
    /// Whether to run the controllers that end namespaces and collect what has lost its owner.
    pub controller_manager: bool,
    /// Where the API server writes who asked for what: one JSON event a line, at level `Metadata`.
    pub audit_log: Option<PathBuf>,
    /// Whether etcd waits for the disk. Tests gain speed without; a measurement should have it.
    pub fsync: bool,
}

/// A running control plane. Dropping it ends it, and returns when nothing of it is left.
#[derive(Debug)]
pub struct ControlPlane {
    watchdog: Watchdog,
    api_server: PathBuf,
    arguments: Vec<OsString>,
    tokens: BTreeMap<String, String>,
    port: u16,
    ca_pem: String,
}

impl ControlPlane {
    /// Starts everything and waits until the API server is ready: about 3 s, or minutes if the binaries are to be built.
    ///
    /// # Errors
    /// If the binaries are not there and cannot be built, or a process ends or is not ready in time.
    pub fn start(options: &Options) -> Result<Self, Error> {
        let watchdog = Watchdog::start().map_err(Error::io("making a temporary directory"))?;
        let mut tools = vec![ETCD, API_SERVER];
        tools.extend(options.controller_manager.then_some(CONTROLLER_MANAGER));
        let mut binaries = Places::of_environment().provide(&tools, &watchdog)?.into_iter();
        let mut next = || binaries.next().unwrap_or_default();
        let (etcd, api_server, controller_manager) = (next(), next(), next());

        start_etcd(&watchdog, &etcd, options.fsync)?;
        let tokens = tokens(options).map_err(Error::io("reading random numbers"))?;
        let arguments = api_server_arguments(&watchdog, options, &tokens)?;
        let mut plane = Self { watchdog, api_server, arguments, tokens, port: 0, ca_pem: String::new() };
        plane.start_on_a_free_port()?;
        if options.controller_manager {
            plane.start_controller_manager(&controller_manager)?;
        }
        Ok(plane)
    }

    /// Kills the API server with SIGKILL. Clients see their connections break and new ones refused. etcd goes on.
    ///
    /// # Errors
    /// If the process cannot be killed.
    pub fn kill_api_server(&self) -> Result<(), Error> {
        self.watchdog.kill(API_SERVER.name).map_err(Error::io("killing the API server"))
    }

    /// Starts the API server after [`Self::kill_api_server`], on the same port and data, and waits until it is ready.
    ///
    /// # Errors
    /// If it ends or is not ready in time.
    pub fn start_api_server(&self) -> Result<(), Error> {
        self.launch_api_server(self.port).map(drop)
    }

    /// Ends the control plane. Nothing of it is left when this returns; dropping it does the same.
    pub fn stop(self) {
        drop(self);
    }

    /// `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn server_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The certificates by which clients know the API server.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Where the processes keep their data and write their logs, for as long as the control plane lives.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.watchdog.directory()
    }

    /// The bearer token of [`ADMIN`] or of one of [`Options::users`].
    ///
    /// # Errors
    /// If there is no such user.
    pub fn token(&self, user: &str) -> Result<&str, Error> {
        self.tokens.get(user).map(String::as_str).ok_or_else(|| Error::UnknownUser(user.to_owned()))
    }

    /// A kubeconfig for a user.
    ///
    /// # Errors
    /// If there is no such user.
    pub fn kubeconfig_yaml(&self, user: &str) -> Result<String, Error> {
        self.kubeconfig_yaml_via(&self.server_url(), user)
    }

    /// A kubeconfig for a user that reaches the API server through another URL, such as that of a proxy.
    ///
    /// # Errors
    /// If there is no such user.
    pub fn kubeconfig_yaml_via(&self, server_url: &str, user: &str) -> Result<String, Error> {
        let token = self.token(user)?;
        let ca = STANDARD.encode(&self.ca_pem);
        Ok(format!(
            r#"apiVersion: v1
kind: Config
clusters:
- name: control-plane
  cluster:
    server: {server_url}
    certificate-authority-data: {ca}
users:
- name: "{user}"
  user:
    token: {token}
contexts:
- name: control-plane
  context:
    cluster: control-plane
    user: "{user}"
current-context: control-plane
"#
        ))
    }

    /// Writes a user's kubeconfig to a file that this user of the machine alone can read.
    ///
    /// # Errors
    /// If there is no such user, or the file cannot be written.
    pub fn write_kubeconfig(&self, user: &str, path: &Path) -> Result<(), Error> {
        let yaml = self.kubeconfig_yaml(user)?;
        OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| file.write_all(yaml.as_bytes()))
            .map_err(Error::io(format!("writing {}", path.display())))
    }

    /// Makes a process of the caller's end with this control plane, however that ends, and begin in its directory.
    /// The caller spawns it, and waits for it if it is to end sooner.
    pub fn bind<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        self.watchdog.bind(command)
    }

    /// Sends one request as a user, with a JSON body or an empty one; gives back the status and the body.
    /// For a quick look. Clients worth the name have connections of their own.
    ///
    /// # Errors
    /// If there is no such user or no answer.
    pub fn request(&self, user: &str, method: &str, path: &str, body: &str) -> Result<(u16, String), Error> {
        https::request(self.port, &self.ca_pem, self.token(user)?, method, path, body)
            .map_err(Error::io(format!("{method} {path}")))
    }

    /// Between the look for a free port and its use, another process may have taken it.
    fn start_on_a_free_port(&mut self) -> Result<(), Error> {
        let mut tries = 0;
        loop {
            let port = free_port().map_err(Error::io("looking for a free port"))?;
            match self.launch_api_server(port) {
                Err(Error::Ended { log, .. }) if tries < 5 && log.contains("address already in use") => tries += 1,
                Err(error) => return Err(error),
                Ok(ca_pem) => {
                    self.port = port;
                    self.ca_pem = ca_pem;
                    return Ok(());
                }
            }
        }
    }

    /// Starts the API server, waits until it is ready, and returns its certificates, which it makes at its first start.
    fn launch_api_server(&self, port: u16) -> Result<String, Error> {
        let certificates = self.directory().join("certificates");
        let mut command = Command::new(&self.api_server);
        command.args(&self.arguments).arg(format!("--secure-port={port}")).arg("--cert-dir").arg(&certificates);
        self.watchdog.spawn(API_SERVER.name, &mut command).map_err(Error::io("starting the API server"))?;
        let token = self.token(ADMIN)?;
        wait_for(&self.watchdog, API_SERVER.name, || {
            let ca_pem = fs::read_to_string(certificates.join("apiserver.crt"))?;
            match https::request(port, &ca_pem, token, "GET", "/readyz", "")? {
                (200, _) => Ok(ca_pem),
                (_, why) => Err(io::Error::other(why)),
            }
        })
    }

    fn start_controller_manager(&self, binary: &Path) -> Result<(), Error> {
        let kubeconfig = self.directory().join("controller-manager.kubeconfig");
        self.write_kubeconfig(ADMIN, &kubeconfig)?;
        let mut command = Command::new(binary);
        command.arg("--kubeconfig").arg(kubeconfig).args([
            "--use-service-account-credentials=false",
            "--controllers=namespace-controller,garbage-collector-controller",
            "--leader-elect=false",
            "--secure-port=0",
        ]);
        self.watchdog.spawn(CONTROLLER_MANAGER.name, &mut command).map_err(Error::io("starting the controller manager"))
    }
}

/// Starts etcd and waits until its socket accepts. Its advertised addresses are names that nobody calls.
fn start_etcd(watchdog: &Watchdog, binary: &Path, fsync: bool) -> Result<(), Error> {
    let mut command = Command::new(binary);
    command.arg("--data-dir").arg(watchdog.directory().join("etcd")).args([
        "--listen-client-urls=unix://etcd.sock",
        "--advertise-client-urls=http://localhost:1",
        "--listen-peer-urls=unix://etcd-peer.sock",
        "--log-level=error",
    ]);
    command.args((!fsync).then_some("--unsafe-no-fsync"));
    watchdog.spawn(ETCD.name, &mut command).map_err(Error::io("starting etcd"))?;
    let socket = watchdog.directory().join("etcd.sock");
    wait_for(watchdog, ETCD.name, || UnixStream::connect(&socket).map(drop))
}

/// A token for each user.
fn tokens(options: &Options) -> io::Result<BTreeMap<String, String>> {
    let users = options.users.iter().map(String::as_str).chain([ADMIN]);
    users.map(|user| Ok((user.to_owned(), random_hex()?))).collect()
}

/// All arguments but the port. The files that they name are written here.
fn api_server_arguments(
    watchdog: &Watchdog,
    options: &Options,
    tokens: &BTreeMap<String, String>,
) -> Result<Vec<OsString>, Error> {
    let directory = watchdog.directory();
    let row = |(user, token): (&String, &String)| {
        let groups = if user == ADMIN { ",system:masters" } else { "" };
        format!("{token},{user},{user}{groups}\n")
    };
    let table: String = tokens.iter().map(row).collect();
    fs::write(directory.join("tokens.csv"), table).map_err(Error::io("writing the tokens"))?;
    // The key that the API server makes for its own certificate also signs service account tokens: it is there in time.
    let mut arguments: Vec<OsString> = [
        "--etcd-servers=unix://etcd.sock",
        "--bind-address=127.0.0.1",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-account-key-file=certificates/apiserver.key",
        "--service-account-signing-key-file=certificates/apiserver.key",
        "--authorization-mode=RBAC",
        "--token-auth-file=tokens.csv",
        "--disable-admission-plugins=ServiceAccount",
    ]
    .map(OsString::from)
    .into();
    if let Some(log) = &options.audit_log {
        let policy =
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [level: Metadata]\n";
        fs::write(directory.join("audit.yaml"), policy).map_err(Error::io("writing the audit policy"))?;
        let log = std::path::absolute(log).map_err(Error::io("finding the audit log"))?;
        let mut argument = OsString::from("--audit-log-path=");
        argument.push(log);
        arguments.extend([argument, "--audit-policy-file=audit.yaml".into()]);
    }
    Ok(arguments)
}

/// Asks `ready` until it succeeds, the process ends, or the time is over.
#[expect(clippy::disallowed_methods, reason = "edge: waits for real processes in real time")]
fn wait_for<T>(watchdog: &Watchdog, name: &'static str, mut ready: impl FnMut() -> io::Result<T>) -> Result<T, Error> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        let answer = ready();
        // In this order: a dead process whose port now answers is another one's.
        if let Some(status) = watchdog.ended(name).map_err(Error::io(format!("looking after {name}")))? {
            return Err(Error::Ended { name, status, log: watchdog.last_words(name) });
        }
        match answer {
            Ok(value) => return Ok(value),
            Err(_) if Instant::now() < deadline => std::thread::sleep(POLL),
            Err(error) => {
                return Err(Error::NotReady { name, log: format!("{error}\n{}", watchdog.last_words(name)) });
            }
        }
    }
}

/// A port that nobody listens on, below the range from which Linux takes the ports of outgoing connections. In that range,
/// a client that keeps calling a killed API server can be given its very port, connect to itself and so block the restart.
fn free_port() -> io::Result<u16> {
    let random = u32::from_str_radix(random_hex()?.get(..7).unwrap_or_default(), 16).unwrap_or_default();
    let ports = (0..10_000).filter_map(|n| u16::try_from(20_000 + (random + n) % 10_000).ok());
    ports
        .take(1_000)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or_else(|| io::Error::other("1,000 ports in a row are taken"))
}
