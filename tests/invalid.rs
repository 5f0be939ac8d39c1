//! Objects and CRDs that the operator cannot work with: each is told so, and nothing else is disturbed.
//!
//! The CRD is changed here, so that each test has a cluster of its own.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::{Api, Client};
use serde_json::{Value, json};

#[path = "support"]
#[expect(dead_code, reason = "this test uses a part of what the tests share")]
mod support {
    pub mod plan;
    pub mod schema;
    pub mod world;
}

use dijob_operator::api::DataIntegrationJob;
use support::world::tenant::Tenant;
use support::world::{Cluster, FLAGS};

const CRD: &str = "dataintegrationjobs.dijob.dev";

/// Changes the schema of the job's CRD: a JSON patch below `openAPIV3Schema`.
async fn change_schema(client: &Client, changes: &[Value]) {
    let root = "/spec/versions/0/schema/openAPIV3Schema";
    let changes: Vec<Value> = changes
        .iter()
        .cloned()
        .map(|mut change| {
            change["path"] = json!(format!("{root}{}", change["path"].as_str().unwrap()));
            change
        })
        .collect();
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let patch: Patch<()> = Patch::Json(serde_json::from_value(json!(changes)).unwrap());
    api.patch(CRD, &PatchParams::default(), &patch).await.unwrap();
}

/// Tries until the API server works with the changed schema, which it takes up a moment later.
async fn try_until<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..200 {
        if let Some(done) = attempt().await {
            return done;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("waited for {what}")
}

fn untyped(tenant: &Tenant) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<DataIntegrationJob>(&());
    Api::namespaced_with(tenant.client.clone(), &tenant.namespace, &resource)
}

fn object(name: &str, spec: &Value) -> DynamicObject {
    let object = json!({
        "apiVersion": "dijob.dev/v1alpha1", "kind": "DataIntegrationJob", "metadata": { "name": name }, "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

async fn until_invalid(api: &Api<DynamicObject>, name: &str) -> Value {
    try_until("InvalidObject", async || {
        let object = api.get(name).await.unwrap();
        let conditions = object.data["status"]["conditions"].as_array()?;
        conditions.iter().any(|c| c["reason"] == "InvalidObject").then(|| object.data["status"].clone())
    })
    .await
}

/// As when another version of the CRD let its spec in.
#[tokio::test]
async fn an_object_that_cannot_be_read_is_told_so_and_disturbs_no_other() {
    let cluster = &Cluster::start();
    let operator = &cluster.operator(&FLAGS);
    let tenant = Tenant::new(cluster, "invalid").await.with_account().await;
    tenant.apply("sound", &json!({ "diJobId": 1 })).await;
    tenant.until_ready("sound").await;

    let on_unknown = "/properties/spec/properties/onUnknown/enum";
    change_schema(&tenant.client, &[json!({ "op": "add", "path": format!("{on_unknown}/-"), "value": "Guess" })]).await;
    let api = untyped(&tenant);
    let strange = object("strange", &json!({ "diJobId": 2, "onUnknown": "Guess" }));
    try_until("the looser CRD", async || api.create(&PostParams::default(), &strange).await.ok()).await;
    let back = [json!({ "op": "remove", "path": format!("{on_unknown}/2") })];
    change_schema(&tenant.client, &back).await;

    let status = until_invalid(&api, "strange").await;
    assert_eq!(status["observedGeneration"], 1);
    let conditions = status["conditions"].as_array().unwrap();
    let told: Vec<_> =
        conditions.iter().map(|c| (c["type"].as_str().unwrap(), c["status"].as_str().unwrap())).collect();
    assert_eq!(told, [("Ready", "False"), ("Stalled", "True")]);
    let message = conditions[0]["message"].as_str().unwrap();
    assert!(message.contains("Guess") && message.contains("correct it"), "{message}");
    assert!(operator.metric(r#"dijob_unparsable_objects{kind="job"}"#) >= 1);

    // Others go on: the one that was there, and a new one.
    tenant.annotate("sound", &json!({ "dijob.dev/rerun": "a" })).await;
    tenant.until("sound", "a rerun", |job| job.status.as_ref().unwrap().handled_rerun_tokens == ["a"]).await;
    tenant.apply("new", &json!({ "diJobId": 3 })).await;
    tenant.until_ready("new").await;
    assert_eq!(tenant.cloud.starts(2).len(), 0);

    // Corrected, it works as any other.
    let mend: Patch<Value> = Patch::Merge(json!({ "spec": { "onUnknown": "Hold" } }));
    api.patch("strange", &PatchParams::default(), &mend).await.unwrap();
    tenant.until_ready("strange").await;
    assert_eq!(tenant.cloud.executions(2).len(), 1);
    assert_eq!(operator.metric(r#"dijob_unparsable_objects{kind="job"}"#), 0);
    tenant.end(&[operator]).await;
}

/// It would drop a field of the record that is written before a start.
/// Covers: 29p, 43p.
#[tokio::test]
async fn an_older_crd_is_told_and_nothing_is_started_until_it_is_replaced() {
    let cluster = &Cluster::start();
    let tenant = Tenant::new(cluster, "older").await.with_account().await;
    let nonce = "/properties/status/properties/pendingStart/properties/nonce";
    let required = "/properties/status/properties/pendingStart/required";
    let whole = json!([
        "attempt",
        "diJobId",
        "generation",
        "id",
        "keyId",
        "nonce",
        "protocol",
        "region",
        "signedTime",
        "trigger"
    ]);
    let without: Vec<&Value> = whole.as_array().unwrap().iter().filter(|name| *name != "nonce").collect();
    let older =
        [json!({ "op": "remove", "path": nonce }), json!({ "op": "replace", "path": required, "value": without })];
    change_schema(&tenant.client, &older).await;
    // The API server works with the older CRD as soon as it refuses the field.
    tenant
        .jobs
        .create(
            &PostParams::default(),
            &serde_json::from_value(json!(object("probe", &json!({ "diJobId": 9, "suspend": true })))).unwrap(),
        )
        .await
        .unwrap();
    try_until("the older CRD", async || {
        let body = json!({
            "apiVersion": "dijob.dev/v1alpha1", "kind": "DataIntegrationJob", "metadata": { "name": "probe" },
            "status": dijob_operator::api::JobStatus::full(),
        });
        let how = PatchParams { dry_run: true, ..PatchParams::apply("probe").force() };
        tenant.jobs.patch_status("probe", &how, &Patch::Apply(&body)).await.err()
    })
    .await;
    tenant.jobs.delete("probe", &DeleteParams::default()).await.unwrap();

    let operator = cluster.operator(&FLAGS);
    tenant.apply("job", &json!({ "diJobId": 1 })).await;
    let why = operator.wait_unready(|why| why.contains("older than this operator"));
    assert!(why.contains(CRD) && why.contains("pendingStart.nonce") && why.contains("apply the CRDs"), "{why}");
    operator.wait_line("the same in the log", |line| line["error"].as_str().is_some_and(|e| e.contains("older than")));
    let job = tenant.jobs.get("job").await.unwrap();
    assert_eq!(job.status.unwrap().observed_generation, -1, "nothing was written");
    assert_eq!(tenant.cloud.ledger().entries().len(), 0, "and nobody called");

    let newer = [
        json!({ "op": "add", "path": nonce, "value": { "type": "string", "maxLength": 128 } }),
        json!({ "op": "replace", "path": required, "value": whole }),
    ];
    change_schema(&tenant.client, &newer).await;
    tenant.until_ready("job").await;
    assert_eq!(tenant.cloud.executions(1).len(), 1);
    operator.wait_ready();
    tenant.end(&[&operator]).await;
}
