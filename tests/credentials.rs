//! Accounts whose keys are lent, end to end: a real API server, the real operator, STS and DataWorks simulated.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::OnceLock;

use dijob_operator::api::DataIntegrationJob;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{Role as RbacRole, RoleBinding};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};
use simulator::{ACCOUNT, Behaviour, Fault, Provider, Refusal, Response, Role, Verdict};

#[path = "support"]
#[expect(dead_code, reason = "this test uses a part of what the tests share")]
mod support {
    pub mod plan;
    pub mod schema;
    pub mod world;
}
#[path = "credentials/own.rs"]
mod own;
#[path = "credentials/sts.rs"]
mod sts;

use sts::sts;
use support::world::tenant::Tenant;
use support::world::{Cluster, FLAGS, World, documents, is_current, is_stalled, ready};

/// Cluster and operator of most tests here.
fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let cluster = Cluster::start();
        let flag = format!("--sts-endpoint={}", sts().url());
        let operator = cluster.operator(&[&FLAGS[..], &[&flag]].concat());
        operator.wait_ready();
        World { cluster, operator }
    })
}

fn plain(id: i64) -> Value {
    json!({ "diJobId": id })
}

fn role_arn(tenant: &Tenant) -> String {
    format!("acs:ram::{ACCOUNT}:role/{}", tenant.namespace)
}

/// Lets whoever has a key of the account play the role.
fn trust(tenant: &Tenant, role: Role) {
    tenant.cloud.switch(|switches| drop(switches.sts.roles.insert(role_arn(tenant), role)));
}

/// A namespace whose calls of STS reach its own cloud.
async fn tenant(name: &str) -> Tenant {
    let tenant = Tenant::new(&world().cluster, name).await;
    sts().serve(name, &tenant.cloud.url());
    tenant
}

/// The same with a Secret and an account that plays a role with it.
async fn playing(name: &str) -> Tenant {
    let tenant = tenant(name).await;
    tenant.put_key().await;
    tenant.put_account("default", &playing_spec(&tenant)).await;
    tenant
}

fn playing_spec(tenant: &Tenant) -> Value {
    let mut spec = tenant.account_spec();
    spec["credentials"]["assumeRole"] = json!({ "roleArn": role_arn(tenant) });
    spec
}

fn calls(tenant: &Tenant, action: &str) -> usize {
    tenant.cloud.ledger().of_action(action).count()
}

fn message(job: &DataIntegrationJob) -> &str {
    &ready(job).unwrap().message
}

/// Looks for what was lent, too.
async fn end(tenant: Tenant) {
    for secret in sts().lent() {
        tenant.another_secret(&secret);
    }
    tenant.end(&[&world().operator]).await;
}

/// Keys with which this job was started so far.
fn keys_of_starts(tenant: &Tenant, id: i64) -> Vec<String> {
    tenant.cloud.starts(id).into_iter().filter_map(|entry| entry.key_id).collect()
}

#[tokio::test]
async fn jobs_of_an_account_with_a_role_are_started_with_one_lent_key() {
    let tenant = playing("role").await;
    trust(&tenant, Role { external_id: Some("dijob/1".to_owned()), ..Role::default() });
    let mut spec = playing_spec(&tenant);
    spec["credentials"]["assumeRole"]["externalId"] = json!("dijob/1");
    tenant.put_account("default", &spec).await;
    for (name, id) in [("one", 1), ("two", 2), ("three", 3)] {
        tenant.apply(name, &plain(id)).await;
    }
    for (name, id) in [("one", 1), ("two", 2), ("three", 3)] {
        tenant.until_ready(name).await;
        assert_eq!(tenant.cloud.executions(id).len(), 1, "{}", tenant.story(name));
        assert!(keys_of_starts(&tenant, id).iter().all(|key| key.starts_with("STS.")));
    }
    let ledger = tenant.cloud.ledger();
    // The account was told of the role before it was told of the externalId that the role asks for.
    let lends = ledger.of_action("AssumeRole").filter(|entry| entry.verdict == Verdict::Accepted).count();
    assert_eq!(lends, 1, "one key serves all");
    let lent = tenant.cloud.temporary_keys();
    assert_eq!(lent[0].caller, format!("acs:ram::{ACCOUNT}:assumed-role/role/dijob-operator"));
    end(tenant).await;
}

#[tokio::test]
async fn a_role_that_is_refused_is_told_with_what_to_do_and_played_when_it_is_mended() {
    let tenant = playing("refused").await;
    tenant.apply("job", &plain(1)).await;
    let job = tenant.until_reason("job", "AccessDenied").await;
    assert!(is_stalled(&job), "a role does not come with what names it, so there is no grace");
    assert!(message(&job).contains("AssumeRole failed: EntityNotExist.Role"), "{}", message(&job));
    assert!(message(&job).contains("correct roleArn"), "{}", message(&job));
    trust(&tenant, Role { accounts: vec!["1000000000000009".to_owned()], ..Role::default() });
    let tells = |job: &DataIntegrationJob| is_current(job) && message(job).contains("NoPermission");
    let job = tenant.until("job", "the next refusal", tells).await;
    assert!(message(&job).contains("trust policy"), "{}", message(&job));
    trust(&tenant, Role::default());
    tenant.until_ready("job").await;
    assert_eq!(tenant.cloud.executions(1).len(), 1, "{}", tenant.story("job"));
    end(tenant).await;
}

#[tokio::test]
async fn an_sts_that_fails_is_asked_again_and_is_no_matter_of_a_person() {
    let tenant = playing("failing").await;
    trust(&tenant, Role::default());
    let answer = Response::Error(Refusal::of("ServiceUnavailable"));
    let behaviour = Behaviour { answer, ..Behaviour::default() };
    let action = Some("AssumeRole".to_owned());
    tenant.cloud.add_fault(Fault { calls: Some(2), action, job: None, account: None, behaviour });
    tenant.apply("job", &plain(1)).await;
    let job = tenant.until_reason("job", "CloudUnavailable").await;
    assert!(!is_stalled(&job) && message(&job).contains("it is asked again"), "{}", message(&job));
    tenant.until_ready("job").await;
    assert_eq!(calls(&tenant, "AssumeRole"), 3);
    end(tenant).await;
}

#[tokio::test]
async fn a_lent_key_that_expires_early_is_replaced_and_its_start_sent_once() {
    let tenant = playing("expired").await;
    trust(&tenant, Role::default());
    tenant.apply("first", &plain(1)).await;
    tenant.until_ready("first").await;
    tenant.cloud.expire_temporary_keys();
    tenant.apply("second", &plain(2)).await;
    tenant.until_ready("second").await;
    assert_eq!(tenant.cloud.executions(2).len(), 1, "{}", tenant.story("second"));
    assert_eq!(calls(&tenant, "AssumeRole"), 2);
    assert_ne!(keys_of_starts(&tenant, 1)[0], keys_of_starts(&tenant, 2)[0]);
    end(tenant).await;
}

#[tokio::test]
async fn a_forced_start_that_meets_an_expired_key_is_sent_once_more_with_a_fresh_one() {
    let tenant = playing("expired-start").await;
    trust(&tenant, Role::default());
    let behaviour = Behaviour::error(Refusal::of("InvalidSecurityToken.Expired"));
    let action = Some("StartDIJob".to_owned());
    tenant.cloud.add_fault(Fault { calls: Some(1), action, job: None, account: None, behaviour });
    tenant.apply("job", &json!({ "diJobId": 1, "forceToRerun": true })).await;
    tenant.until_ready("job").await;
    assert_eq!(tenant.cloud.executions(1).len(), 1, "{}", tenant.story("job"));
    let keys = keys_of_starts(&tenant, 1);
    assert!(keys.len() == 2 && keys[0] != keys[1], "{keys:?}");
    assert_eq!(calls(&tenant, "AssumeRole"), 2);
    end(tenant).await;
}

/// Covers: 24p.
#[tokio::test]
async fn a_rotated_secret_is_what_the_role_is_played_with_at_once() {
    let tenant = playing("rotated").await;
    trust(&tenant, Role::default());
    tenant.apply("first", &plain(1)).await;
    tenant.until_ready("first").await;
    let next = tenant.another_secret("canary-rotated-next");
    tenant.cloud.replace_secret(&tenant.key_id, &next);
    tenant.cloud.expire_temporary_keys();
    tenant.put_secret(&[("accessKeyId", tenant.key_id.as_bytes()), ("accessKeySecret", next.as_bytes())]).await;
    tenant.apply("second", &plain(2)).await;
    tenant.until_ready("second").await;
    let ledger = tenant.cloud.ledger();
    let lent = ledger.of_action("AssumeRole").last().unwrap();
    let needed = ledger.entries().iter().find(|entry| entry.job == Some(2)).unwrap();
    assert!(lent.last_byte.duration_since(needed.last_byte).as_secs_f64() < 5.0, "{}", tenant.story("second"));
    assert_eq!(lent.status, Some(200), "by the new Secret");
    assert_eq!(tenant.cloud.executions(2).len(), 1);
    end(tenant).await;
}

#[tokio::test]
async fn a_wrong_secret_under_a_role_is_told_as_such_and_mended() {
    let tenant = tenant("wrong").await;
    trust(&tenant, Role::default());
    let wrong = tenant.another_secret("canary-wrong-under-role");
    tenant.put_secret(&[("accessKeyId", tenant.key_id.as_bytes()), ("accessKeySecret", wrong.as_bytes())]).await;
    tenant.put_account("default", &playing_spec(&tenant)).await;
    tenant.apply("job", &plain(1)).await;
    let job = tenant.until_reason("job", "AccessDenied").await;
    assert!(
        message(&job).contains("SignatureDoesNotMatch") && message(&job).contains("does not fit its ID"),
        "{}",
        message(&job)
    );
    tenant.put_key().await;
    tenant.until_ready("job").await;
    assert_eq!(tenant.cloud.executions(1).len(), 1);
    end(tenant).await;
}

/// What the API server names as issuer of its tokens.
const ISSUER: &str = "https://kubernetes.default.svc";

fn provider_arn() -> String {
    format!("acs:ram::{ACCOUNT}:oidc-provider/ack")
}

/// A namespace with the ServiceAccount `dijob`, whose tokens its cloud knows and a role trusts.
async fn with_service_account(name: &str) -> Tenant {
    let tenant = tenant(name).await;
    let body = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "dijob" } });
    let accounts: Api<ServiceAccount> = Api::namespaced(tenant.client.clone(), name);
    accounts.create(&PostParams::default(), &serde_json::from_value(body).unwrap()).await.unwrap();
    let provider = Provider { issuers: vec![ISSUER.to_owned()], ..Provider::default() };
    tenant.cloud.switch(|switches| drop(switches.sts.providers.insert(provider_arn(), provider)));
    let subjects = vec![format!("system:serviceaccount:{name}:dijob")];
    trust(&tenant, Role { providers: vec![provider_arn()], subjects, ..Role::default() });
    let mut spec = tenant.account_spec();
    spec["credentials"] = json!({ "oidc": {
        "roleArn": role_arn(&tenant), "oidcProviderArn": provider_arn(), "serviceAccountRef": { "name": "dijob" },
    } });
    tenant.put_account("default", &spec).await;
    tenant
}

/// Applies deploy/oidc to the namespace.
async fn allow_tokens(tenant: &Tenant) {
    let [role, binding] = <[Value; 2]>::try_from(documents("deploy/oidc/rbac.yaml")).unwrap();
    let (client, namespace) = (tenant.client.clone(), &tenant.namespace);
    let roles: Api<RbacRole> = Api::namespaced(client.clone(), namespace);
    roles.create(&PostParams::default(), &serde_json::from_value(role).unwrap()).await.unwrap();
    let bindings: Api<RoleBinding> = Api::namespaced(client, namespace);
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_service_account_of_the_namespace_plays_a_role_and_no_secret_is_needed() {
    let tenant = with_service_account("oidc").await;
    allow_tokens(&tenant).await;
    tenant.apply("one", &plain(1)).await;
    tenant.apply("two", &plain(2)).await;
    for (name, id) in [("one", 1), ("two", 2)] {
        tenant.until_ready(name).await;
        assert_eq!(tenant.cloud.executions(id).len(), 1, "{}", tenant.story(name));
    }
    assert_eq!(calls(&tenant, "AssumeRoleWithOIDC"), 1);
    assert_eq!(tenant.cloud.temporary_keys().len(), 1);

    tenant.cloud.expire_temporary_keys();
    tenant.apply("three", &plain(3)).await;
    tenant.until_ready("three").await;
    assert_eq!(tenant.cloud.executions(3).len(), 1, "{}", tenant.story("three"));
    end(tenant).await;
}

#[tokio::test]
async fn without_the_right_to_its_tokens_a_service_account_is_told_with_what_to_apply() {
    let tenant = with_service_account("no-tokens").await;
    tenant.apply("job", &plain(1)).await;
    let job = tenant.until_reason("job", "CredentialsMissing").await;
    assert!(message(&job).contains("deploy/oidc"), "{}", message(&job));
    assert_eq!(tenant.cloud.ledger().entries().len(), 0);
    allow_tokens(&tenant).await;
    tenant.until_ready("job").await;

    let accounts: Api<ServiceAccount> = Api::namespaced(tenant.client.clone(), &tenant.namespace);
    accounts.delete("dijob", &DeleteParams::default()).await.unwrap();
    tenant.cloud.expire_temporary_keys();
    tenant.apply("later", &plain(2)).await;
    let job = tenant.until_reason("later", "CredentialsMissing").await;
    assert!(message(&job).contains("\"dijob\" does not exist in this namespace: create it"), "{}", message(&job));
    end(tenant).await;
}

#[tokio::test]
async fn a_token_that_a_role_does_not_trust_is_told_with_what_to_name_and_another_role_may_come_on_top() {
    let tenant = with_service_account("on-top").await;
    allow_tokens(&tenant).await;
    let nobody = vec!["system:serviceaccount:on-top:another".to_owned()];
    trust(&tenant, Role { subjects: nobody, ..Role::default() });
    tenant.apply("job", &plain(1)).await;
    let job = tenant.until_reason("job", "AccessDenied").await;
    assert!(message(&job).contains("AssumeRoleWithOIDC failed: AuthenticationFail.NoPermission"), "{}", message(&job));
    assert!(message(&job).contains("trust policy name the OIDC provider"), "{}", message(&job));

    trust(&tenant, Role::default());
    let starter = format!("acs:ram::{ACCOUNT}:role/on-top-starter");
    sts().serve("on-top-starter", &tenant.cloud.url());
    tenant.cloud.switch(|switches| drop(switches.sts.roles.insert(starter.clone(), Role::default())));
    let mut spec = tenant.account_spec();
    spec["credentials"] = json!({
        "oidc": {
            "roleArn": role_arn(&tenant), "oidcProviderArn": provider_arn(), "serviceAccountRef": { "name": "dijob" },
        },
        "assumeRole": { "roleArn": starter, "sessionName": "on-top" },
    });
    tenant.put_account("default", &spec).await;
    tenant.until_ready("job").await;
    let ledger = tenant.cloud.ledger();
    let caller = ledger.starts(1).last().unwrap().caller.clone().unwrap();
    assert_eq!(caller, format!("acs:ram::{ACCOUNT}:assumed-role/on-top-starter/on-top"));
    end(tenant).await;
}

/// A namespace with two keys of one main account, each in an account with few calls a day.
async fn two_keys(name: &str) -> Tenant {
    let tenant = tenant(name).await;
    let (id, secret) = (format!("{}-b", tenant.key_id), tenant.another_secret(&format!("canary-{name}-b")));
    tenant.cloud.add_key(&id, &secret);
    sts().serve(&format!("{name}-b"), &tenant.cloud.url());
    let first = tenant.secret();
    let fields =
        [("accessKeyId", &tenant.key_id), ("accessKeySecret", &first), ("otherId", &id), ("otherSecret", &secret)];
    tenant.put_secret(&fields.map(|(field, value)| (field, value.as_bytes()))).await;
    let mut spec = tenant.account_spec();
    spec["quota"] = json!({ "callsPerDay": 4 });
    tenant.put_account("default", &spec).await;
    spec["credentials"]["secretRef"]["accessKeyIdKey"] = json!("otherId");
    spec["credentials"]["secretRef"]["accessKeySecretKey"] = json!("otherSecret");
    tenant.put_account("other", &spec).await;
    tenant
}

fn with_the_other_key(id: i64) -> Value {
    json!({ "diJobId": id, "accountRef": { "name": "other" } })
}

#[tokio::test]
async fn two_keys_of_one_main_account_share_its_budget_from_the_first_call() {
    let tenant = two_keys("shared").await;
    tenant.apply("one", &plain(1)).await;
    tenant.until_ready("one").await;
    tenant.apply("two", &with_the_other_key(2)).await;
    tenant.until_reason("two", "DailyLimitReached").await;
    assert_eq!(tenant.cloud.executions(2).len(), 0, "{}", tenant.story("two"));
    assert_eq!(calls(&tenant, "GetCallerIdentity"), 2, "once for each key");
    let ledger = tenant.cloud.ledger();
    let of_dataworks = ledger.entries().iter().filter(|entry| entry.job.is_some()).count();
    assert!(of_dataworks <= 4, "calls of STS do not count: {of_dataworks}\n{}", tenant.story("two"));
    end(tenant).await;
}

#[tokio::test]
async fn keys_whose_owner_sts_does_not_tell_have_budgets_of_their_own_and_no_start_waits_for_it() {
    let tenant = two_keys("apart").await;
    let action = || Some("GetCallerIdentity".to_owned());
    let fault = |behaviour| Fault { calls: None, action: action(), job: None, account: None, behaviour };
    tenant.cloud.add_fault(fault(Behaviour { answer: Response::Hang, ..Behaviour::default() }));
    tenant.apply("one", &plain(1)).await;
    tenant.until_ready("one").await;
    tenant.cloud.clear_faults();
    let answer = Response::Error(Refusal::of("NoPermission"));
    tenant.cloud.add_fault(fault(Behaviour { answer, ..Behaviour::default() }));
    tenant.apply("two", &with_the_other_key(2)).await;
    tenant.until_ready("two").await;
    assert_eq!((calls(&tenant, "GetCallerIdentity"), tenant.cloud.executions(2).len()), (2, 1));
    end(tenant).await;
}

#[tokio::test]
async fn without_a_region_or_a_flag_there_is_no_sts_and_status_says_what_to_do() {
    let cluster = Cluster::start();
    let operator = cluster.operator(&FLAGS);
    operator.wait_ready();
    let tenant = Tenant::new(&cluster, "no-sts").await;
    tenant.put_key().await;
    tenant.put_account("default", &playing_spec(&tenant)).await;
    tenant.apply("job", &plain(1)).await;
    let job = tenant.until_reason("job", "CredentialsMissing").await;
    assert!(message(&job).contains("set regionId instead of endpoint"), "{}", message(&job));
    assert!(message(&job).contains("--sts-endpoint"), "{}", message(&job));
    assert_eq!(tenant.cloud.ledger().entries().len(), 0);
    tenant.end(&[&operator]).await;
}
