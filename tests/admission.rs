//! What the real API server makes of the CRDs and of all that is shipped: refusals with their messages, defaults, columns,
//! selectors, the guard of a status write, Pod Security.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::OnceLock;

use dijob_operator::api::{self, AccountStatus, DataIntegrationJob, DataWorksAccount, JobStatus};
use futures::future::join_all;
use http::Request;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind, TypeMeta};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

#[path = "support"]
#[expect(dead_code, reason = "this test uses a part of what the tests share")]
mod support {
    pub mod plan;
    pub mod schema;
    pub mod world;
}

use support::world::{Cluster, documents};

const MANAGER: &str = "dijob-operator";

fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(Cluster::start)
}

async fn namespace(name: &str) -> Client {
    let client = cluster().client().await;
    let object = Namespace {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        ..Namespace::default()
    };
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
    client
}

fn resource(kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(api::GROUP, "v1alpha1", kind))
}

/// Creates an object with this spec: what the API server stored, or the message of its refusal.
async fn create(client: &Client, namespace: &str, kind: &str, spec: Value) -> Result<DynamicObject, String> {
    let resource = resource(kind);
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let object = DynamicObject {
        types: Some(TypeMeta { api_version: resource.api_version.clone(), kind: kind.to_owned() }),
        metadata: ObjectMeta { generate_name: Some("x-".to_owned()), ..ObjectMeta::default() },
        data: json!({ "spec": spec }),
    };
    api.create(&PostParams::default(), &object).await.map_err(refusal)
}

fn refusal(error: kube::Error) -> String {
    let kube::Error::Api(status) = error else { panic!("{error}") };
    assert_eq!(status.code, 422, "{}", status.message);
    status.message
}

#[expect(clippy::needless_pass_by_value, reason = "rows read better")]
fn account(changes: Value) -> Value {
    let mut spec = json!({
        "regionId": "cn-shanghai", "edition": "Basic", "credentials": { "secretRef": { "name": "key" } },
    });
    for (name, value) in changes.as_object().unwrap() {
        spec[name] = value.clone();
    }
    spec
}

#[expect(clippy::needless_pass_by_value, reason = "rows read better")]
fn job(changes: Value) -> Value {
    let mut spec = json!({ "diJobId": 11743 });
    for (name, value) in changes.as_object().unwrap() {
        spec[name] = value.clone();
    }
    spec
}

/// Each row: a spec, and nothing if it is taken, or part of the message that it is refused with.
async fn judge(namespace_name: &str, kind: &str, rows: Vec<(Value, Option<&str>)>) {
    let client = namespace(namespace_name).await;
    join_all(rows.into_iter().map(async |(spec, refused)| {
        match (create(&client, namespace_name, kind, spec.clone()).await, refused) {
            (Ok(_), None) => {}
            (Err(message), Some(part)) => assert!(message.contains(part), "{spec}\nwanted: {part}\ngot: {message}"),
            (Ok(_), Some(part)) => panic!("{spec}\nis taken, wanted: {part}"),
            (Err(message), None) => panic!("{spec}\nis refused: {message}"),
        }
    }))
    .await;
}

#[tokio::test]
async fn a_job_is_refused_with_a_message_that_says_what_to_do() {
    let word = |length: usize| "a".repeat(length);
    let start_time = |t: i64| job(json!({ "realtimeStartSettings": { "startTime": t } }));
    let failover = |name: &str, n: i64| job(json!({ "realtimeStartSettings": { "failoverSettings": { name: n } } }));
    let not_seconds = Some("startTime is in Unix seconds (10 digits, e.g. 1671516776), not milliseconds");
    let not_plain = Some("rerunToken is a plain word of at most 256 printable ASCII characters without spaces");
    let rows = vec![
        (job(json!({})), None),
        (job(json!({ "diJobId": 1 })), None),
        (job(json!({ "diJobId": i64::MAX })), None),
        (job(json!({ "diJobId": 0 })), Some("diJobId is the number of the job in DataWorks, 1 or more")),
        (job(json!({ "diJobId": -5 })), Some("diJobId is the number of the job in DataWorks, 1 or more")),
        (job(json!({ "diJobId": null })), Some("spec.diJobId: Required value")),
        (job(json!({ "diJobId": "11743" })), Some("must be of type integer")),
        (start_time(946_684_800), None),
        (start_time(946_684_799), not_seconds),
        (start_time(4_102_444_799), None),
        (start_time(4_102_444_800), not_seconds),
        (start_time(1_671_516_776_000), not_seconds),
        (failover("interval", 1), None),
        (failover("interval", 0), Some("should be greater than or equal to 1")),
        (failover("interval", 10_080), None),
        (failover("interval", 10_081), Some("should be less than or equal to 10080")),
        (failover("upperLimit", 0), None),
        (failover("upperLimit", -1), Some("should be greater than or equal to 0")),
        (failover("upperLimit", 10_000), None),
        (failover("upperLimit", 10_001), Some("should be less than or equal to 10000")),
        (job(json!({ "rerunToken": "" })), None),
        (job(json!({ "rerunToken": "!2026-11-24-a~" })), None),
        (job(json!({ "rerunToken": word(256) })), None),
        (job(json!({ "rerunToken": word(257) })), Some("Too long")),
        (job(json!({ "rerunToken": "two words" })), not_plain),
        (job(json!({ "rerunToken": "umläut" })), not_plain),
        (job(json!({ "rerunToken": "line\n" })), not_plain),
        (job(json!({ "accountRef": { "name": word(253) } })), None),
        (job(json!({ "accountRef": { "name": word(254) } })), Some("Too long")),
        (job(json!({ "accountRef": { "name": "" } })), Some("should be at least 1 chars long")),
        (job(json!({ "accountRef": { "name": "a-1.b" } })), None),
        (job(json!({ "accountRef": { "name": "other/default" } })), Some("should match")),
        (job(json!({ "onUnknown": "Hold" })), None),
        (job(json!({ "onUnknown": "Retry" })), Some(r#"supported values: "Resolve", "Hold""#)),
        (job(json!({ "onUnknown": "" })), Some(r#"supported values: "Resolve", "Hold""#)),
        (job(json!({ "suspend": "yes" })), Some("must be of type boolean")),
        (job(json!({ "forceToRerun": 1 })), Some("must be of type boolean")),
        // Null is the same as absent.
        (
            job(json!({
                "accountRef": null, "realtimeStartSettings": null, "forceToRerun": null, "rerunToken": null,
                "onUnknown": null, "suspend": null,
            })),
            None,
        ),
        (job(json!({ "realtimeStartSettings": { "startTime": null, "failoverSettings": null } })), None),
        (
            job(json!({ "realtimeStartSettings": { "failoverSettings": { "interval": null, "upperLimit": null } } })),
            None,
        ),
    ];
    judge("jobs", "DataIntegrationJob", rows).await;
}

#[tokio::test]
async fn an_account_is_refused_with_a_message_that_says_what_to_do() {
    let word = |length: usize| "a".repeat(length);
    let quota = |edition: &str, quota: Value| account(json!({ "edition": edition, "quota": quota }));
    let endpoint = |url: &str| account(json!({ "regionId": null, "endpoint": url }));
    let secret = |secret: Value| account(json!({ "credentials": { "secretRef": secret } }));
    let one_of = Some("set exactly one of regionId (usual) and endpoint (a gateway or a test server)");
    let not_https =
        Some("endpoint is an https URL; http is only for a loopback host and only where the operator allows it");
    let more = Some("endpoint is a scheme and a host, without path, query, fragment or user name");
    let too_much =
        Some("only edition Enterprise allows more than 5 calls per second; edition Basic allows 100 calls a day");
    let pattern = Some("should match");
    let rows = vec![
        (account(json!({})), None),
        (account(json!({ "endpoint": "https://gateway.example.com" })), one_of),
        (account(json!({ "regionId": null })), one_of),
        (account(json!({ "regionId": "ap-southeast-1" })), None),
        (account(json!({ "regionId": "cn" })), pattern),
        (account(json!({ "regionId": "CN-shanghai" })), pattern),
        (account(json!({ "regionId": "cn-shanghai.evil.example" })), pattern),
        (account(json!({ "regionId": "c-shanghai" })), pattern),
        (account(json!({ "regionId": format!("cn-{}", word(29)) })), None),
        (account(json!({ "regionId": format!("cn-{}", word(30)) })), Some("Too long")),
        (endpoint("https://gateway.example.com"), None),
        (endpoint("https://gateway.example.com:8443/"), None),
        (endpoint("http://127.0.0.1:8080"), None),
        (endpoint("http://localhost"), None),
        (endpoint("http://[::1]:8080"), None),
        (endpoint("http://gateway.example.com"), not_https),
        (endpoint("http://127.0.0.1.example.com"), not_https),
        (endpoint("ftp://gateway.example.com"), not_https),
        (endpoint("gateway.example.com"), not_https),
        (endpoint("https://"), not_https),
        (endpoint("https://gateway.example.com/path"), more),
        (endpoint("https://gateway.example.com?a=b"), more),
        (endpoint("https://gateway.example.com/#part"), more),
        (endpoint("https://gateway.example.com#part"), not_https),
        (endpoint("https://user@gateway.example.com"), more),
        (endpoint(&format!("https://{}.example", word(237))), None),
        (endpoint(&format!("https://{}.example", word(238))), Some("Too long")),
        (
            account(json!({ "edition": "Flagship" })),
            Some(r#"supported values: "Basic", "Standard", "Professional", "Enterprise""#),
        ),
        (account(json!({ "edition": null })), Some("spec.edition: Required value")),
        (quota("Basic", json!({ "readsPerSecond": 5, "writesPerSecond": 5, "callsPerDay": 100 })), None),
        (quota("Basic", json!({ "callsPerDay": 101 })), too_much),
        (quota("Basic", json!({ "readsPerSecond": 6 })), too_much),
        (quota("Standard", json!({ "callsPerDay": 101 })), None),
        (quota("Standard", json!({ "writesPerSecond": 6 })), too_much),
        (quota("Professional", json!({ "readsPerSecond": 6 })), too_much),
        (
            quota("Enterprise", json!({ "readsPerSecond": 1000, "writesPerSecond": 1000, "callsPerDay": 100_000_000 })),
            None,
        ),
        (quota("Enterprise", json!({ "readsPerSecond": 1001 })), Some("should be less than or equal to 1000")),
        (quota("Enterprise", json!({ "writesPerSecond": 1001 })), Some("should be less than or equal to 1000")),
        (quota("Enterprise", json!({ "callsPerDay": 100_000_001 })), Some("should be less than or equal to 100000000")),
        (quota("Enterprise", json!({ "readsPerSecond": 0 })), Some("should be greater than or equal to 1")),
        (quota("Enterprise", json!({ "writesPerSecond": 0 })), Some("should be greater than or equal to 1")),
        (quota("Enterprise", json!({ "callsPerDay": 0 })), Some("should be greater than or equal to 1")),
        (quota("Basic", json!({ "readsPerSecond": null, "writesPerSecond": null, "callsPerDay": null })), None),
        (account(json!({ "quota": null })), None),
        (account(json!({ "network": "VPC" })), None),
        (account(json!({ "network": "vpc" })), Some("spec.network: Unsupported value")),
        (
            account(json!({ "network": "VPC", "regionId": null, "endpoint": "https://gateway.example.com" })),
            Some("network: VPC needs regionId; with endpoint, name the VPC host itself"),
        ),
        (account(json!({ "signature": "ACS3-HMAC-SHA256" })), None),
        (account(json!({ "signature": "hmac-sha1" })), Some("spec.signature: Unsupported value")),
        (account(json!({ "credentials": null })), Some("spec.credentials: Required value")),
        (secret(json!({})), Some("spec.credentials.secretRef.name: Required value")),
        (secret(json!({ "name": "" })), Some("should be at least 1 chars long")),
        (secret(json!({ "name": word(253), "accessKeyIdKey": word(253), "accessKeySecretKey": word(253) })), None),
        (secret(json!({ "name": word(254) })), Some("Too long")),
        (secret(json!({ "name": "two words" })), pattern),
        (secret(json!({ "name": "line\n" })), pattern),
        (secret(json!({ "name": "../../other/secrets/key" })), pattern),
        (secret(json!({ "name": ".." })), pattern),
        (secret(json!({ "name": "key?watch=true" })), pattern),
        (secret(json!({ "name": "Key" })), pattern),
        (secret(json!({ "name": "key", "accessKeyIdKey": word(254) })), Some("Too long")),
        (secret(json!({ "name": "key", "accessKeySecretKey": word(254) })), Some("Too long")),
        (secret(json!({ "name": "key", "accessKeyIdKey": "" })), Some("should be at least 1 chars long")),
        (secret(json!({ "name": "key", "securityTokenKey": word(253) })), None),
        (secret(json!({ "name": "key", "securityTokenKey": word(254) })), Some("Too long")),
        (secret(json!({ "name": "key", "securityTokenKey": "" })), Some("should be at least 1 chars long")),
        (secret(json!({ "name": "key", "accessKeySecretKey": "" })), Some("should be at least 1 chars long")),
    ];
    judge("accounts", "DataWorksAccount", rows).await;
}

#[tokio::test]
async fn credentials_are_refused_with_a_message_that_says_what_to_do() {
    let word = |length: usize| "a".repeat(length);
    let pattern = Some("should match");
    let role = |role: Value| account(json!({ "credentials": { "secretRef": { "name": "key" }, "assumeRole": role } }));
    let arn = "acs:ram::1000000000000001:role/starter";
    let with = |name: &str, value: Value| role(json!({ "roleArn": arn, name: value }));
    let oidc = json!({
        "roleArn": arn, "oidcProviderArn": "acs:ram::1:oidc-provider/ack", "serviceAccountRef": { "name": "dijob" },
    });
    let token = |name: &str, value: Value| {
        let mut oidc = oidc.clone();
        oidc[name] = value;
        account(json!({ "credentials": { "oidc": oidc } }))
    };
    let one_source =
        Some("credentials needs exactly one of secretRef, oidc or operatorIdentity (assumeRole may come on top)");
    let no_provider = Some("oidcProviderArn looks like acs:ram::123456789012:oidc-provider/name");
    let no_role = Some("roleArn looks like acs:ram::123456789012:role/name");
    let rows = vec![
        (account(json!({ "credentials": {} })), one_source),
        (account(json!({ "credentials": { "assumeRole": { "roleArn": arn } } })), one_source),
        (account(json!({ "credentials": { "operatorIdentity": {} } })), None),
        (account(json!({ "credentials": { "operatorIdentity": {}, "assumeRole": { "roleArn": arn } } })), None),
        (account(json!({ "credentials": { "operatorIdentity": {}, "oidc": oidc } })), one_source),
        (account(json!({ "credentials": { "operatorIdentity": true } })), Some("must be of type object")),
        (account(json!({ "credentials": { "secretRef": { "name": "key" }, "oidc": oidc } })), one_source),
        (token("roleArn", json!(arn)), None),
        (token("roleArn", json!("starter")), no_role),
        (token("roleArn", json!(null)), Some("spec.credentials.oidc.roleArn: Required value")),
        (token("oidcProviderArn", json!(null)), Some("spec.credentials.oidc.oidcProviderArn: Required value")),
        (token("oidcProviderArn", json!(format!("acs:ram::{}:oidc-provider/{}", "1".repeat(20), word(128)))), None),
        (token("oidcProviderArn", json!(format!("acs:ram::1:oidc-provider/{}", word(129)))), no_provider),
        (token("oidcProviderArn", json!(arn)), no_provider),
        (token("oidcProviderArn", json!(format!("acs:ram::1:oidc-provider/{}", word(200)))), Some("Too long")),
        (token("serviceAccountRef", json!(null)), Some("spec.credentials.oidc.serviceAccountRef: Required value")),
        (token("serviceAccountRef", json!({ "name": word(253) })), None),
        (token("serviceAccountRef", json!({ "name": word(254) })), Some("Too long")),
        (token("serviceAccountRef", json!({ "name": "../other" })), pattern),
        (token("serviceAccountRef", json!({ "name": "" })), Some("should be at least 1 chars long")),
        (role(json!({ "roleArn": arn })), None),
        (role(json!({})), Some("spec.credentials.assumeRole.roleArn: Required value")),
        (role(json!({ "roleArn": "" })), Some("should be at least 1 chars long")),
        (role(json!({ "roleArn": "starter" })), no_role),
        (role(json!({ "roleArn": "acs:ram::me:role/starter" })), no_role),
        (role(json!({ "roleArn": "acs:ram::1:user/starter" })), no_role),
        (role(json!({ "roleArn": format!("acs:ram::{}:role/{}", "1".repeat(20), word(64)) })), None),
        (role(json!({ "roleArn": format!("acs:ram::1:role/{}", word(65)) })), no_role),
        (role(json!({ "roleArn": format!("acs:ram::1:role/{}", word(200)) })), Some("Too long")),
        (with("sessionName", json!("a.b@c_d-1")), None),
        (with("sessionName", json!("a")), Some("should be at least 2 chars long")),
        (with("sessionName", json!(word(64))), None),
        (with("sessionName", json!(word(65))), Some("Too long")),
        (with("sessionName", json!("two words")), pattern),
        (with("externalId", json!("e=1/2+3,4.5@6:7_8-9")), None),
        (with("externalId", json!("a")), Some("should be at least 2 chars long")),
        (with("externalId", json!(word(1224))), None),
        (with("externalId", json!(word(1225))), Some("Too long")),
        (with("externalId", json!("two words")), pattern),
    ];
    judge("credentials", "DataWorksAccount", rows).await;
}

#[tokio::test]
async fn the_region_of_an_account_cannot_change() {
    let client = namespace("regions").await;
    let stored = create(&client, "regions", "DataWorksAccount", account(json!({}))).await.unwrap();
    let at_a_gateway = account(json!({ "regionId": null, "endpoint": "https://gateway.example.com" }));
    let moving = create(&client, "regions", "DataWorksAccount", at_a_gateway).await.unwrap();
    let api: Api<DataWorksAccount> = Api::namespaced(client, "regions");
    let merge = async |name: String, spec: Value| {
        api.patch(&name, &PatchParams::default(), &Patch::Merge(json!({ "spec": spec }))).await.map_err(refusal)
    };
    let cannot = "regionId cannot change, it says which jobs the ids mean: create another DataWorksAccount";
    for other in
        [json!({ "regionId": "cn-beijing" }), json!({ "regionId": null, "endpoint": "https://gateway.example.com" })]
    {
        let message = merge(stored.name_any(), other).await.unwrap_err();
        assert!(message.contains(cannot), "{message}");
    }
    merge(stored.name_any(), json!({ "regionId": "cn-shanghai", "edition": "Standard" })).await.unwrap();
    merge(moving.name_any(), json!({ "endpoint": "https://other.example.com" })).await.unwrap();
    merge(moving.name_any(), json!({ "endpoint": null, "regionId": "cn-beijing" })).await.unwrap();
}

#[tokio::test]
async fn a_fresh_job_has_the_defaults_and_a_status_that_was_never_looked_at() {
    let client = namespace("defaults").await;
    let bare = create(&client, "defaults", "DataIntegrationJob", json!({ "diJobId": 7 })).await.unwrap();
    let spec = json!({
        "accountRef": { "name": "default" }, "diJobId": 7, "forceToRerun": false, "onUnknown": "Resolve", "rerunToken": "",
        "suspend": false,
    });
    assert_eq!(bare.data, json!({ "spec": spec, "status": { "observedGeneration": -1 } }));
    // What a user writes into status at creation is not kept.
    let resource = resource("DataIntegrationJob");
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), "defaults", &resource);
    let mut own = bare.clone();
    own.metadata = ObjectMeta { name: Some("own".to_owned()), ..ObjectMeta::default() };
    own.data["status"] = json!({ "observedGeneration": 1, "jobStatus": "Running" });
    let own = api.create(&PostParams::default(), &own).await.unwrap();
    assert_eq!(own.data["status"], json!({ "observedGeneration": -1 }));
    let bare = create(&client, "defaults", "DataWorksAccount", account(json!({}))).await.unwrap();
    let secret = json!({ "accessKeyIdKey": "accessKeyId", "accessKeySecretKey": "accessKeySecret", "name": "key" });
    assert_eq!(bare.data["spec"]["credentials"]["secretRef"], secret);
    let role = json!({ "roleArn": "acs:ram::1:role/starter" });
    let spec = account(json!({ "credentials": { "secretRef": { "name": "key" }, "assumeRole": role } }));
    let playing = create(&client, "defaults", "DataWorksAccount", spec).await.unwrap();
    assert_eq!(playing.data["spec"]["credentials"]["assumeRole"]["sessionName"], "dijob-operator");
    let how = ["network", "signature"].map(|field| bare.data["spec"][field].clone());
    assert_eq!(how, ["Public", "HMAC-SHA1"]);
}

/// A job in a namespace of its own, with a whole status.
async fn job_with_status(name: &str) -> (Client, Api<DataIntegrationJob>, DataIntegrationJob) {
    let client = namespace(name).await;
    let made = create(&client, name, "DataIntegrationJob", job(json!({ "accountRef": { "name": "prod" } }))).await;
    let api: Api<DataIntegrationJob> = Api::namespaced(client.clone(), name);
    let made = made.unwrap();
    let mut status = JobStatus::full();
    status.job_status = Some("Running".to_owned());
    let stored = apply_status(&api, &made.name_any(), made.resource_version(), &status).await.unwrap();
    (client, api, stored)
}

async fn apply_status(
    api: &Api<DataIntegrationJob>,
    name: &str,
    version: Option<String>,
    status: &JobStatus,
) -> kube::Result<DataIntegrationJob> {
    let body = json!({
        "apiVersion": "dijob.dev/v1alpha1", "kind": "DataIntegrationJob",
        "metadata": { "name": name, "resourceVersion": version }, "status": status,
    });
    api.patch_status(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&body)).await
}

#[tokio::test]
async fn a_whole_status_comes_back_as_it_was_written() {
    let (_, _, stored) = job_with_status("whole-status").await;
    let mut expected = JobStatus::full();
    expected.job_status = Some("Running".to_owned());
    assert_eq!(stored.status, Some(expected));
    assert_eq!(stored.metadata.generation, Some(1), "a status moves no generation");
}

#[tokio::test]
async fn two_writers_cannot_commit_the_same_attempt() {
    let (_, api, stored) = job_with_status("two-writers").await;
    let name = stored.name_any();
    let with_holder = |holder: &str| {
        let mut status = stored.status.clone().unwrap();
        holder.clone_into(&mut status.pending_start.as_mut().unwrap().holder);
        status
    };
    let decided_on = stored.resource_version();
    let (one, two) = (with_holder("one"), with_holder("two"));
    let written = tokio::join!(
        apply_status(&api, &name, decided_on.clone(), &one),
        apply_status(&api, &name, decided_on.clone(), &two)
    );
    let winner = match written {
        (Ok(winner), Err(kube::Error::Api(status))) | (Err(kube::Error::Api(status)), Ok(winner)) => {
            assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"), "{}", status.message);
            winner
        }
        other => panic!("both or none: {other:?}"),
    };
    let kept = api.get(&name).await.unwrap();
    assert_eq!(kept.status, winner.status);
    // The very same content under the old version is refused too.
    let again = apply_status(&api, &name, decided_on, winner.status.as_ref().unwrap()).await.unwrap_err();
    assert!(matches!(again, kube::Error::Api(status) if status.code == 409));
}

async fn table(client: &Client, plural: &str, namespace: &str) -> Value {
    let path = format!("/apis/dijob.dev/v1alpha1/namespaces/{namespace}/{plural}");
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let request = Request::get(path).header("Accept", accept).body(Vec::new()).unwrap();
    client.request(request).await.unwrap()
}

fn columns(table: &Value) -> Vec<(String, i64)> {
    let columns = table["columnDefinitions"].as_array().unwrap();
    columns.iter().map(|c| (c["name"].as_str().unwrap().to_owned(), c["priority"].as_i64().unwrap())).collect()
}

#[tokio::test]
async fn get_shows_the_columns_that_are_promised() {
    let (client, _, stored) = job_with_status("columns").await;
    let jobs = table(&client, "dataintegrationjobs", "columns").await;
    let expected = [
        ("Name", 0),
        ("Job-ID", 0),
        ("Ready", 0),
        ("Reason", 0),
        ("Since", 0),
        ("State", 0),
        ("Last-Start", 0),
        ("Age", 0),
        ("Outcome", 1),
        ("Next-Attempt", 1),
        ("Request-ID", 1),
        ("Message", 1),
    ];
    assert_eq!(columns(&jobs), expected.map(|(n, p)| (n.to_owned(), p)));
    let cells = jobs["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(cells[..4], [json!(stored.name_any()), json!(11743), json!("Unknown"), json!("StartDue")]);
    assert_eq!(cells[5], "Running");
    assert_eq!(cells[8..], [json!("x"), json!("1970-01-01T00:00:00Z"), json!("x"), json!("x")]);

    let stored = create(&client, "columns", "DataWorksAccount", account(json!({}))).await.unwrap();
    let fresh = table(&client, "dataworksaccounts", "columns").await;
    assert_eq!(fresh["rows"][0]["cells"][5], Value::Null, "never looked at: not Ready");
    let api: Api<DataWorksAccount> = Api::namespaced(client.clone(), "columns");
    let body = json!({
        "apiVersion": "dijob.dev/v1alpha1", "kind": "DataWorksAccount",
        "metadata": { "name": stored.name_any() }, "status": AccountStatus::full(),
    });
    let how = PatchParams::apply("dijob-operator").force();
    let written = api.patch_status(&stored.name_any(), &how, &Patch::Apply(&body)).await.unwrap();
    assert_eq!(written.status, Some(AccountStatus::full()), "the schema keeps every field");
    let accounts = table(&client, "dataworksaccounts", "columns").await;
    let expected = [
        ("Name", 0),
        ("Region", 0),
        ("Endpoint", 1),
        ("Edition", 0),
        ("Secret", 1),
        ("Ready", 0),
        ("Reason", 0),
        ("Left-Today", 0),
        ("Throttled-Until", 0),
        ("Jobs", 0),
        ("Age", 0),
        ("Message", 1),
    ];
    assert_eq!(columns(&accounts), expected.map(|(n, p)| (n.to_owned(), p)));
    let cells = accounts["rows"][0]["cells"].as_array().unwrap();
    assert_eq!((&cells[1], &cells[3], &cells[4]), (&json!("cn-shanghai"), &json!("Basic"), &json!("key")));
    let of_status = [json!("Unknown"), json!("AccountReady"), json!(1), json!("1970-01-01T00:00:00Z"), json!(1)];
    assert_eq!((&cells[5..10], &cells[11]), (&of_status[..], &json!("x")));
}

#[tokio::test]
async fn jobs_are_selected_by_id_account_and_state() {
    let (client, api, stored) = job_with_status("selected").await;
    create(&client, "selected", "DataIntegrationJob", job(json!({ "diJobId": 2 }))).await.unwrap();
    for (selector, found) in [
        ("spec.diJobId=11743", true),
        ("spec.diJobId=11744", false),
        ("spec.accountRef.name=prod", true),
        ("spec.accountRef.name=other", false),
        ("status.jobStatus=Running", true),
        ("status.jobStatus=Failed", false),
    ] {
        let listed = api.list(&ListParams::default().fields(selector)).await.unwrap();
        let names: Vec<String> = listed.iter().map(DataIntegrationJob::name_any).collect();
        assert_eq!(names, if found { vec![stored.name_any()] } else { vec![] }, "{selector}");
    }
}

/// Server-side apply of any object, as `kubectl apply --server-side` does it.
async fn apply(client: &Client, object: &Value, namespace: Option<&str>, dry_run: bool) -> kube::Result<DynamicObject> {
    let (group, version) =
        object["apiVersion"].as_str().unwrap().split_once('/').unwrap_or(("", object["apiVersion"].as_str().unwrap()));
    let kind = object["kind"].as_str().unwrap();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str().or(namespace) {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let how = PatchParams { dry_run, ..PatchParams::apply("admin") };
    // Unknown fields are errors, not warnings.
    let how = PatchParams { field_validation: Some(kube::api::ValidationDirective::Strict), ..how };
    api.patch(object["metadata"]["name"].as_str().unwrap(), &how.force(), &Patch::Apply(object)).await
}

#[tokio::test]
async fn all_that_is_shipped_applies_cleanly_and_twice() {
    let client = namespace("samples").await;
    for folder in ["crds", "deploy/base", "deploy/samples"] {
        let kustomization = &documents(&format!("{folder}/kustomization.yaml"))[0];
        let files = kustomization["resources"].as_array().unwrap().iter().filter_map(Value::as_str);
        for file in files.filter(|file| !file.ends_with("crds")) {
            for object in documents(&format!("{folder}/{file}")) {
                let namespace = (folder == "deploy/samples").then_some("samples");
                let first = apply(&client, &object, namespace, false).await.unwrap_or_else(|e| panic!("{file}: {e}"));
                let again = apply(&client, &object, namespace, false).await.unwrap_or_else(|e| panic!("{file}: {e}"));
                assert_eq!(first.metadata.generation, again.metadata.generation, "{file}");
            }
        }
    }
}

#[tokio::test]
async fn pod_security_restricted_admits_the_shipped_pod_and_no_weaker_one() {
    let client = cluster().client().await;
    let deployment = documents("deploy/base/deployment.yaml").remove(0);
    let mut pod = deployment["spec"]["template"].clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!("operator");
    let pod_in = async |pod: &Value| apply(&client, pod, Some("dijob-system"), true).await;
    pod_in(&pod).await.unwrap();
    let mut weaker = pod.clone();
    weaker["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    let refused = pod_in(&weaker).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(s) if s.code == 403 && s.message.contains("PodSecurity")), "{refused}");
}

#[tokio::test]
async fn the_operator_s_account_may_do_what_it_needs_and_nothing_else() {
    use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview};
    let client = cluster().client_of(support::world::OPERATOR).await;
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client);
    let rows = [
        (("get", "", "secrets", ""), true),
        (("create", "", "serviceaccounts", "token"), false),
        (("list", "", "secrets", ""), false),
        (("watch", "", "secrets", ""), false),
        (("patch", "dijob.dev", "dataintegrationjobs", "status"), true),
        (("update", "dijob.dev", "dataintegrationjobs", "status"), false),
        (("patch", "dijob.dev", "dataintegrationjobs", ""), false),
        (("update", "dijob.dev", "dataintegrationjobs", ""), false),
        (("delete", "dijob.dev", "dataintegrationjobs", ""), false),
        (("list", "dijob.dev", "dataworksaccounts", ""), true),
        (("patch", "dijob.dev", "dataworksaccounts", "status"), true),
        (("update", "dijob.dev", "dataworksaccounts", "status"), false),
        (("patch", "dijob.dev", "dataworksaccounts", ""), false),
        (("create", "events.k8s.io", "events", ""), true),
        (("create", "coordination.k8s.io", "leases", ""), false),
        (("get", "", "configmaps", ""), false),
        (("create", "", "pods", ""), false),
    ];
    join_all(rows.map(async |((verb, group, resource, subresource), is_allowed)| {
        let text = |text: &str| Some(text.to_owned());
        let attributes = ResourceAttributes {
            namespace: text("default"),
            verb: text(verb),
            group: text(group),
            resource: text(resource),
            subresource: text(subresource),
            ..ResourceAttributes::default()
        };
        let mut review = SelfSubjectAccessReview::default();
        review.spec.resource_attributes = Some(attributes);
        let review = reviews.create(&PostParams::default(), &review).await.unwrap();
        assert_eq!(review.status.unwrap().allowed, is_allowed, "{verb} {group} {resource} {subresource}");
    }))
    .await;
}
