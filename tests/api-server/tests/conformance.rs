//! One list of requests, sent to the server in memory and to a real `kube-apiserver`: both must answer alike.
//!
//! Compared are the HTTP status and the whole body. Names of versions and uids are compared by where they first came up, so
//! "the same as before" and "moved" count, and the numbers do not; times are only there or not.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use api_server::{ApiServer, Direct};
use control_plane::{ADMIN, ControlPlane, Options};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;

use run::Run;

#[path = "conformance/run.rs"]
mod run;

const CRDS: [&str; 2] = [
    include_str!("../../../crds/dataintegrationjobs.dijob.dev.yaml"),
    include_str!("../../../crds/dataworksaccounts.dijob.dev.yaml"),
];

async fn real(plane: &ControlPlane) -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let file = Kubeconfig::from_yaml(&plane.kubeconfig_yaml(ADMIN).unwrap()).unwrap();
    let mut config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = false; // an answer of 504 is to be seen
    let client = Client::try_from(config).unwrap();
    for text in CRDS {
        let crd: Value = serde_saphyr::from_str(text).unwrap();
        run::install(&client, &crd).await;
    }
    client
}

fn in_memory(server: &ApiServer) -> Client {
    Client::new(server.service("conformance", Arc::new(Direct)), "default")
}

#[tokio::test]
async fn both_servers_answer_alike() {
    let plane = ControlPlane::start(&Options::default()).unwrap();
    let server = ApiServer::new(&CRDS, || "2026-11-24T10:00:00Z".parse().unwrap()).unwrap();
    let (mut theirs, mut ours) = (Run::new(real(&plane).await), Run::new(in_memory(&server)));
    let steps = run::steps(include_str!("conformance/requests.yaml"));
    let mut different = Vec::new();
    for step in &steps {
        if step.name == "watch from a version long gone" {
            server.compact();
        }
        let (real, mine) = (theirs.take(step).await, ours.take(step).await);
        if real != mine {
            different.push(format!("{}\n  {} {}\n  real {real}\n  here {mine}", step.name, step.verb, step.uri));
        }
    }
    println!("{} requests compared, {} answered differently", steps.len(), different.len());
    assert!(different.is_empty(), "{}", different.join("\n"));
}
