//! The launcher with real processes. `ps` tells what is left of them.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use control_plane::{ADMIN, ControlPlane, Error, Options};
use kube::config::{KubeConfigOptions, Kubeconfig};

const NAMESPACE: &str = r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"team","labels":{"team":"a"}}}"#;
const CONFIG_MAP: &str = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"kept"},"data":{"a":"1"}}"#;
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// The command lines of all processes that name this directory, as each process of a control plane does or is made to.
fn processes_in(directory: &Path) -> Vec<String> {
    let output = Command::new("ps").args(["-A", "-ww", "-o", "args="]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let directory = directory.to_str().unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter(|line| line.contains(directory))
        .map(str::to_owned)
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "waits for real processes in real time")]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A process that a failed test does not leave behind.
struct Owner(Child);

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_killed_api_server_comes_back_with_its_data_tokens_and_port() {
    let plane = ControlPlane::start(&Options::default()).unwrap();
    let (url, ca) = (plane.server_url(), plane.ca_pem().to_owned());
    assert_eq!(plane.request(ADMIN, "POST", CONFIG_MAPS, CONFIG_MAP).unwrap().0, 201);

    plane.kill_api_server().unwrap();
    assert!(matches!(plane.request(ADMIN, "GET", "/readyz", ""), Err(Error::Io { .. })));

    plane.start_api_server().unwrap();
    assert_eq!((plane.server_url(), plane.ca_pem()), (url, ca.as_str()));
    let (status, body) = plane.request(ADMIN, "GET", &format!("{CONFIG_MAPS}/kept"), "").unwrap();
    assert_eq!(status, 200, "{body}");
    assert!(body.contains(r#""data":{"a":"1"}"#), "{body}");
}

#[test]
fn stopping_leaves_no_process_and_no_file() {
    let plane = ControlPlane::start(&Options::default()).unwrap();
    let directory = plane.directory().to_owned();
    assert_eq!(
        processes_in(&directory).len(),
        4,
        "etcd, the API server and two shells: {:?}",
        processes_in(&directory)
    );
    plane.stop();
    assert_eq!(processes_in(&directory), Vec::<String>::new());
    assert!(!directory.exists());
}

#[test]
fn a_process_bound_to_it_ends_with_it() {
    let plane = ControlPlane::start(&Options::default()).unwrap();
    let mut bound = Owner(plane.bind(Command::new("sleep").arg("600")).spawn().unwrap());
    assert_eq!(bound.0.try_wait().unwrap(), None);
    plane.stop();
    assert_eq!(bound.0.wait().unwrap().signal(), Some(9));
}

#[test]
fn a_user_may_do_nothing_until_a_role_is_bound_and_the_audit_log_tells_what_it_asked_for() {
    let log = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("audit.log");
    let _ = std::fs::remove_file(&log);
    let options = Options { users: vec!["operator".to_owned()], audit_log: Some(log.clone()), ..Options::default() };
    let plane = ControlPlane::start(&options).unwrap();

    let (status, body) = plane.request("operator", "GET", CONFIG_MAPS, "").unwrap();
    assert_eq!(status, 403, "{body}");
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"reader"},
        "rules":[{"apiGroups":[""],"resources":["configmaps"],"verbs":["list"]}]}"#;
    assert_eq!(plane.request(ADMIN, "POST", &format!("{rbac}/clusterroles"), role).unwrap().0, 201);
    let binding = r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding",
        "metadata":{"name":"operator"},"subjects":[{"kind":"User","name":"operator"}],
        "roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"reader"}}"#;
    assert_eq!(plane.request(ADMIN, "POST", &format!("{rbac}/clusterrolebindings"), binding).unwrap().0, 201);
    eventually("the role is in force", || plane.request("operator", "GET", CONFIG_MAPS, "").unwrap().0 == 200);

    let log = std::fs::read_to_string(log).unwrap();
    let asked = |line: &&str| line.contains(r#""username":"operator""#) && line.contains(r#""verb":"list""#);
    let codes: Vec<bool> = log.lines().filter(asked).map(|line| line.contains(r#""code":200"#)).collect();
    assert_eq!((codes.first(), codes.last()), (Some(&false), Some(&true)), "{log}");

    assert!(matches!(plane.token("nobody"), Err(Error::UnknownUser(name)) if name == "nobody"));
}

#[test]
fn a_service_account_gets_a_token_that_works() {
    let plane = ControlPlane::start(&Options::default()).unwrap();
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account = r#"{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"operator"}}"#;
    assert_eq!(plane.request(ADMIN, "POST", accounts, account).unwrap().0, 201);
    let request = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{}}"#;
    let (status, body) = plane.request(ADMIN, "POST", &format!("{accounts}/operator/token"), request).unwrap();
    assert_eq!(status, 201, "{body}");
    let token = body.split(r#""token":""#).nth(1).unwrap().split('"').next().unwrap();

    let review =
        format!(r#"{{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{{"token":"{token}"}}}}"#);
    let (_, body) = plane.request(ADMIN, "POST", "/apis/authentication.k8s.io/v1/tokenreviews", &review).unwrap();
    assert!(body.contains(r#""username":"system:serviceaccount:default:operator""#), "{body}");
}

#[test]
fn the_controller_manager_ends_a_deleted_namespace() {
    let plane = ControlPlane::start(&Options { controller_manager: true, ..Options::default() }).unwrap();
    assert_eq!(plane.request(ADMIN, "POST", "/api/v1/namespaces", NAMESPACE).unwrap().0, 201);
    assert_eq!(plane.request(ADMIN, "DELETE", "/api/v1/namespaces/team", "").unwrap().0, 200);
    eventually("the namespace is gone", || {
        plane.request(ADMIN, "GET", "/api/v1/namespaces/team", "").unwrap().0 == 404
    });
}

#[tokio::test]
async fn a_kubeconfig_is_all_that_a_client_needs() {
    let plane = ControlPlane::start(&Options::default()).unwrap();
    let yaml = plane.kubeconfig_yaml(ADMIN).unwrap();
    let kubeconfig = Kubeconfig::from_yaml(&yaml).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let version = kube::Client::try_from(config).unwrap().apiserver_version().await.unwrap();
    assert_eq!((version.major.as_str(), version.minor.as_str()), ("1", "36"));
}

#[test]
fn killed_with_sigkill_it_takes_everything_with_it() {
    let kubeconfig = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("killed.kubeconfig");
    let mut owner = Owner(
        Command::new(env!("CARGO_BIN_EXE_control-plane"))
            .arg(&kubeconfig)
            .arg("operator")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut first_line = String::new();
    BufReader::new(owner.0.stdout.take().unwrap()).read_line(&mut first_line).unwrap();
    let directory = PathBuf::from(first_line.trim().split("Logs and data: ").nth(1).unwrap());
    assert!(std::fs::read_to_string(&kubeconfig).unwrap().contains("name: \"admin\""));
    assert!(
        std::fs::read_to_string(kubeconfig.with_extension("kubeconfig.operator")).unwrap().contains("\"operator\"")
    );
    assert_eq!(processes_in(&directory).len(), 5, "{:?}", processes_in(&directory));

    owner.0.kill().unwrap();
    assert_eq!(owner.0.wait().unwrap().signal(), Some(9));
    eventually("the processes ended", || processes_in(&directory).is_empty());
    eventually("the directory is gone", || !directory.exists());
}
