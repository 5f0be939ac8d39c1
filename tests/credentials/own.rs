//! The operator's own identity: one cluster, and one operator after the other, each with an environment of its own.

use std::path::Path;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use simulator::Metadata;

use super::support::world::{Operator, is_ready};
use super::*;

/// The variables of the operator's environment that say who it is, and further flags.
fn operator(cluster: &Cluster, name: &str, variables: &[(&str, &str)], flags: &[String]) -> Operator {
    let operator = cluster.plain_operator(&cluster.server().0, name, |command| {
        command.args(FLAGS).arg("--allow-insecure-endpoints").args(flags);
        command.arg(format!("--sts-endpoint={}", sts().url()));
        command.envs(variables.iter().copied());
    });
    operator.wait_ready();
    operator
}

/// A namespace whose account takes the operator's identity.
async fn own(cluster: &Cluster, name: &str) -> Tenant {
    let tenant = Tenant::new(cluster, name).await;
    let mut spec = tenant.account_spec();
    spec["credentials"] = json!({ "operatorIdentity": {} });
    tenant.put_account("default", &spec).await;
    sts().serve(name, &tenant.cloud.url());
    trust(&tenant, Role::default());
    tenant
}

async fn end(tenant: Tenant, operator: Operator) {
    for secret in sts().lent() {
        tenant.another_secret(&secret);
    }
    tenant.end(&[&operator]).await;
    assert!(operator.terminate().success());
}

async fn callers(tenant: &Tenant, id: i64) -> Vec<String> {
    tenant.until_ready("job").await;
    assert_eq!(tenant.cloud.executions(id).len(), 1, "{}", tenant.story("job"));
    tenant.cloud.starts(id).into_iter().filter_map(|entry| entry.caller).collect()
}

#[tokio::test]
async fn the_operator_s_own_identity_is_for_the_namespaces_alone_that_a_flag_names() {
    let cluster = Cluster::start();
    key(&cluster).await;
    token_file(&cluster).await;
    machine(&cluster).await;
}

/// An AccessKey in the environment, and two namespaces of which one is named.
async fn key(cluster: &Cluster) {
    let (named, other) = (own(cluster, "own-key").await, own(cluster, "own-not").await);
    let secret = named.secret();
    let variables = [("ALIBABA_CLOUD_ACCESS_KEY_ID", &named.key_id[..]), ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", &secret)];
    let flags = ["--operator-identity-namespaces=elsewhere,own-key".to_owned()];
    let operator = operator(cluster, "own-key", &variables, &flags);
    named.apply("job", &plain(1)).await;
    other.apply("job", &plain(2)).await;
    assert_eq!(callers(&named, 1).await, [format!("acs:ram::{ACCOUNT}:user/LTAI-own-key")]);
    let job = other.until_reason("job", "CredentialsMissing").await;
    assert!(message(&job).contains("--operator-identity-namespaces"), "{}", message(&job));
    assert_eq!(other.cloud.ledger().entries().len(), 0);
    other.end(&[&operator]).await;
    end(named, operator).await;
}

/// A role for a token that the platform puts into a file, and writes anew.
async fn token_file(cluster: &Cluster) {
    let tenant = own(cluster, "own-token").await;
    let provider = Provider { issuers: vec![ISSUER.to_owned()], ..Provider::default() };
    tenant.cloud.switch(|switches| drop(switches.sts.providers.insert(provider_arn(), provider)));
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("own-token");
    let (role, provider, file) = (role_arn(&tenant), provider_arn(), path.display().to_string());
    let variables = [
        ("ALIBABA_CLOUD_ROLE_ARN", &role[..]),
        ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", &provider),
        ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", &file),
    ];
    let _ = std::fs::remove_file(&path);
    let operator = operator(cluster, "own-token", &variables, &["--operator-identity-namespaces=own-token".to_owned()]);
    tenant.apply("job", &plain(1)).await;
    let job = tenant.until_reason("job", "CredentialsMissing").await;
    assert!(message(&job).contains("cannot read its own token"), "{}", message(&job));
    let accounts: Api<ServiceAccount> = Api::namespaced(tenant.client.clone(), "dijob-system");
    let spec = TokenRequestSpec { audiences: vec!["sts.aliyuncs.com".to_owned()], ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let token = accounts.create_token_request("dijob-operator", &PostParams::default(), &request).await.unwrap();
    std::fs::write(&path, format!("{}\n", token.status.unwrap().token)).unwrap();
    let caller = format!("acs:ram::{ACCOUNT}:assumed-role/own-token/dijob-operator");
    assert_eq!(callers(&tenant, 1).await, [caller]);
    std::fs::remove_file(&path).unwrap();
    end(tenant, operator).await;
}

/// The role of the machine; when its key has expired, the next one.
async fn machine(cluster: &Cluster) {
    let tenant = own(cluster, "own-machine").await;
    sts().serve("machine", &tenant.cloud.url());
    let flags =
        [format!("--metadata-endpoint={}", sts().url()), "--operator-identity-namespaces=own-machine".to_owned()];
    let operator = operator(cluster, "own-machine", &[], &flags);
    tenant.apply("job", &plain(1)).await;
    let job = tenant.until_reason("job", "CredentialsMissing").await;
    assert!(message(&job).contains("plays no RAM role"), "{}", message(&job));
    tenant.cloud.switch(|switches| {
        switches.metadata = Metadata { role: Some(role_arn(&tenant)), ..Metadata::default() };
    });
    assert_eq!(callers(&tenant, 1).await, [format!("acs:ram::{ACCOUNT}:assumed-role/own-machine/vm-simulated")]);

    // Another role on top, played with the machine's key.
    let starter = format!("acs:ram::{ACCOUNT}:role/machine");
    tenant.cloud.switch(|switches| drop(switches.sts.roles.insert(starter.clone(), Role::default())));
    let mut spec = tenant.account_spec();
    spec["credentials"] = json!({ "operatorIdentity": {}, "assumeRole": { "roleArn": starter } });
    tenant.put_account("default", &spec).await;
    tenant.apply("later", &plain(2)).await;
    tenant.until("later", "Ready=True", is_ready).await;
    let last = tenant.cloud.starts(2).remove(0);
    assert_eq!(last.caller, Some(format!("acs:ram::{ACCOUNT}:assumed-role/machine/dijob-operator")));
    end(tenant, operator).await;
}
