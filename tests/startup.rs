//! How the real operator starts, and lives through what is missing: each lack is one clear line, and no restart is needed.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "support"]
#[expect(dead_code, reason = "this test uses a part of what the tests share")]
mod support {
    pub mod plan;
    pub mod schema;
    pub mod world;
}

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use support::world::tenant::Tenant;
use support::world::{CRDS, Cluster, FLAGS, RIGHTS, is_ready};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

fn error(line: &Value, part: &str) -> bool {
    line["level"] == "ERROR" && line["message"].as_str().is_some_and(|text| text.contains(part))
}

#[test]
fn each_lack_is_told_in_one_line_until_nothing_is_missing() {
    let cluster = Cluster::bare();
    let operator = cluster.operator(&FLAGS);
    operator.wait_line("word of the missing rights", |line| error(line, "apply deploy/base/rbac.yaml"));
    operator.wait_unready(|why| why.contains("may not list dataintegrationjobs.dijob.dev"));
    assert_eq!(operator.get("/healthz").0, 200, "it is alive, and waits");
    cluster.install(&RIGHTS);
    operator.wait_line("word of the missing CRDs", |line| error(line, "is not installed: apply the files in crds/"));
    cluster.install(&CRDS);
    operator.wait_ready();
    let told = operator.count_lines(|line| line["level"] == "ERROR");
    assert!(told <= 3, "the same lack is told once: {:?}", operator.log());
    assert!(operator.terminate().success());
}

/// The operator with a kubeconfig of that name, whose cluster is `extra` and is not there.
fn without_a_cluster(name: &str, extra: &Value) -> Command {
    let kubeconfig = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut cluster = json!({ "server": "http://127.0.0.1:9" });
    cluster.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let nowhere = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{ "name": "c", "cluster": cluster }],
        "users": [{ "name": "u", "user": { "token": "t" } }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
    });
    std::fs::write(&kubeconfig, nowhere.to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dijob-operator"));
    command.arg("--kubeconfig").arg(&kubeconfig).arg("--listen=127.0.0.1:0").stderr(Stdio::piped()).kill_on_drop(true);
    command
}

#[tokio::test]
async fn a_proxy_that_the_kubeconfig_names_is_refused_with_what_to_do() {
    let mut operator = without_a_cluster("proxied.yaml", &json!({ "proxy-url": "http://127.0.0.1:8" }));
    let ended = operator.env("HTTPS_PROXY", "http://127.0.0.1:7").output().await.unwrap();
    let told = String::from_utf8(ended.stderr).unwrap();
    assert!(!ended.status.success() && told.contains("http://127.0.0.1:8/, and none is supported: remove"), "{told}");
}

#[tokio::test]
async fn a_log_that_nobody_takes_does_not_end_it() {
    let mut child = without_a_cluster("nowhere.yaml", &json!({})).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    for _ in 0..2 {
        assert!(log.read_line(&mut String::new()).await.unwrap() > 0); // it has started, and misses the API server
    }
    drop(log); // whoever read its log is gone
    let id = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &id]).status().await.unwrap().success());
    let ended = tokio::time::timeout(Duration::from_secs(20), child.wait()).await;
    assert!(ended.unwrap().unwrap().success(), "it stops in order, though the line that says so cannot be written");
}

/// Covers: 20p.
#[tokio::test(flavor = "multi_thread")]
async fn without_an_api_server_it_says_so_and_an_outage_does_not_end_it() {
    let cluster = Cluster::start();
    let lost = cluster.operator_via("http://127.0.0.1:9", "nowhere", &FLAGS);
    lost.wait_line("word of the API server", |line| error(line, "the Kubernetes API server cannot be reached"));
    assert_eq!(lost.get("/healthz").0, 200);
    assert!(lost.terminate().success(), "it can be stopped while it waits");

    let operator = cluster.operator(&FLAGS);
    operator.wait_ready();
    let tenant = Tenant::new(&cluster, "outage").await.with_account().await;
    tenant.apply("before", &json!({ "diJobId": 1 })).await;
    tenant.until_ready("before").await;
    cluster.kill_api_server();
    operator.wait_line("word of a watch that failed", |line| {
        line["message"].as_str().is_some_and(|text| text.contains("a watch failed"))
    });
    assert_eq!(operator.get("/healthz").0, 200, "an outage of the API server is not ours");
    cluster.start_api_server();
    tenant.apply("after", &json!({ "diJobId": 2 })).await;
    tenant.until("after", "Ready", is_ready).await;
    assert_eq!((tenant.cloud.starts(1).len(), tenant.cloud.starts(2).len()), (1, 1));
    tenant.end(&[&operator]).await;
}
