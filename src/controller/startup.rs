//! What must be there before anything can be watched, each in one clear line, tried again while it makes sense.

use std::time::Duration;

use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use super::error::short;
use crate::api::{DataIntegrationJob, DataWorksAccount};
use crate::health::Health;

const AGAIN: Duration = Duration::from_secs(5);

/// Waits until both kinds can be listed. False: stopped before that.
pub async fn wait_for_kinds(client: &Client, health: &Health, stop: &CancellationToken) -> bool {
    let mut told = String::new();
    loop {
        let Err(problem) = kinds(client).await else { return true };
        if problem != told {
            tracing::error!(retry_in = ?AGAIN, "{problem}");
            told.clone_from(&problem);
        }
        health.set_ready(Err(problem));
        tokio::select! {
            biased;
            () = stop.cancelled() => return false,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

async fn kinds(client: &Client) -> Result<(), String> {
    let one = ListParams::default().limit(1);
    let jobs: Api<DeserializeGuard<DataIntegrationJob>> = Api::all(client.clone());
    let accounts: Api<DeserializeGuard<DataWorksAccount>> = Api::all(client.clone());
    jobs.list(&one).await.map_err(|e| explain("dataintegrationjobs.dijob.dev", &e))?;
    accounts.list(&one).await.map_err(|e| explain("dataworksaccounts.dijob.dev", &e))?;
    Ok(())
}

fn explain(what: &str, error: &kube::Error) -> String {
    let code = if let kube::Error::Api(status) = error { status.code } else { 0 };
    let said = short(error);
    match code {
        404 => format!("the CRD {what} is not installed: apply the files in crds/"),
        403 => format!("the operator may not list {what}: apply deploy/base/rbac.yaml ({said})"),
        401 => format!(
            "the API server does not accept the operator's credentials: check its service account or kubeconfig ({said})"
        ),
        _ => format!("the Kubernetes API server cannot be reached: {said}"),
    }
}
