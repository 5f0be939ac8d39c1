//! The status of accounts, by the real operator on a real API server.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use dijob_operator::api::DataWorksAccount;
use dijob_operator::api::condition::{Condition, ConditionStatus};
use kube::Api;
use kube::runtime::wait::await_condition;
use serde_json::json;

#[path = "support"]
#[expect(dead_code, reason = "this test uses a part of what the tests share")]
mod support {
    pub mod plan;
    pub mod schema;
    pub mod world;
}

use support::world::tenant::Tenant;
use support::world::{is_ready, world};

const LIMIT: Duration = Duration::from_secs(40);

fn api(tenant: &Tenant) -> Api<DataWorksAccount> {
    Api::namespaced(tenant.client.clone(), &tenant.namespace)
}

fn find<'a>(account: &'a DataWorksAccount, type_: &str) -> Option<&'a Condition> {
    account.status.as_ref()?.conditions.iter().find(|c| c.type_ == type_)
}

/// Waits until the account is so.
async fn until(tenant: &Tenant, name: &str, what: &str, is_so: impl Fn(&DataWorksAccount) -> bool) -> DataWorksAccount {
    let met = |account: Option<&DataWorksAccount>| account.is_some_and(&is_so);
    let Ok(found) = tokio::time::timeout(LIMIT, await_condition(api(tenant), name, met)).await else {
        panic!("{name}: waited for {what}: {:?}", api(tenant).get(name).await.unwrap().status)
    };
    found.unwrap().unwrap()
}

/// Waits until Ready has this reason for the spec as it is now.
async fn until_reason(tenant: &Tenant, name: &str, reason: &str) -> DataWorksAccount {
    let is_so = |account: &DataWorksAccount| {
        let current =
            account.status.as_ref().is_some_and(|s| Some(s.observed_generation) == account.metadata.generation);
        current && find(account, "Ready").is_some_and(|c| c.reason == reason)
    };
    until(tenant, name, reason, is_so).await
}

/// Covers: 24p.
#[tokio::test]
async fn an_account_whose_secret_comes_late_is_told_of_it_and_its_job_starts() {
    let world = world();
    let tenant = Tenant::new(&world.cluster, "late-secret").await;
    tenant.put_account("default", &tenant.account_spec()).await;
    tenant.apply("job", &json!({ "diJobId": 1 })).await;
    let account = until_reason(&tenant, "default", "CredentialsMissing").await;
    assert_eq!(find(&account, "Ready").unwrap().status, ConditionStatus::False);
    assert!(find(&account, "Reconciling").is_some() != find(&account, "Stalled").is_some());
    assert_eq!(tenant.until_event("default", "CredentialsMissing").await.0, "Warning");
    let begun = tenant.cloud.now();
    tenant.put_key().await;
    until_reason(&tenant, "default", "AccountReady").await;
    assert_eq!(tenant.until_event("default", "AccountReady").await.0, "Normal");
    tenant.until_ledger("its start", |ledger| ledger.starts(1).next().is_some()).await;
    let start = tenant.cloud.starts(1).pop().unwrap();
    let after = start.last_byte.duration_since(begun).as_secs();
    assert!(after <= 10, "{after} s: the Secret is read every 5 s, and a busy machine is given as much");
    tenant.until("job", "Ready", is_ready).await;
    tenant.end(&[&world.operator]).await;
}

#[tokio::test]
async fn a_key_that_the_cloud_refuses_shows_in_the_account_until_it_is_mended() {
    let world = world();
    let tenant = Tenant::new(&world.cluster, "refused-key").await;
    let wrong = tenant.another_secret("canary-refused-wrong");
    tenant.put_secret(&[("accessKeyId", tenant.key_id.as_bytes()), ("accessKeySecret", wrong.as_bytes())]).await;
    tenant.put_account("default", &tenant.account_spec()).await;
    until_reason(&tenant, "default", "AccountReady").await;
    tenant.apply("job", &json!({ "diJobId": 1 })).await;
    let account = until_reason(&tenant, "default", "AccessDenied").await;
    let message = &find(&account, "Ready").unwrap().message;
    assert!(message.contains("does not fit its ID: correct the Secret"), "{message}");
    assert!(find(&account, "Stalled").is_some(), "a person must act");
    tenant.put_key().await;
    until_reason(&tenant, "default", "AccountReady").await;
    tenant.until("job", "Ready", is_ready).await;
    let told = tenant.events("default").await;
    let reasons: Vec<_> = told.iter().map(|(type_, reason, _)| (type_.as_str(), reason.as_str())).collect();
    assert_eq!(reasons.len(), 2, "one event for each change of reason: {reasons:?}");
    tenant.end(&[&world.operator]).await;
}

#[tokio::test]
async fn an_account_that_cannot_be_used_and_one_that_is_gone_are_told_to_its_jobs() {
    let world = world();
    let tenant = Tenant::new(&world.cluster, "unusable").await.with_account().await;
    let other = json!({ "endpoint": "https://gateway.example.com", "edition": "Basic", "credentials": { "secretRef": { "name": "key" } } });
    tenant.put_account("gateway", &other).await;
    let account = until_reason(&tenant, "gateway", "AccountInvalid").await;
    assert!(find(&account, "Stalled").is_some());
    assert_eq!(account.status.unwrap().reads_per_second, None, "no key was looked for");
    tenant.apply("job", &json!({ "diJobId": 1 })).await;
    tenant.until("job", "Ready", is_ready).await;
    api(&tenant).delete("default", &kube::api::DeleteParams::default()).await.unwrap();
    tenant.until_reason("job", "AccountNotFound").await;
    tenant.put_account("default", &tenant.account_spec()).await;
    tenant.until("job", "Ready", is_ready).await;
    assert_eq!(tenant.cloud.starts(1).len(), 1, "an account that is made again starts nothing");
    tenant.end(&[&world.operator]).await;
}
