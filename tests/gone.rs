//! What the operator works on is taken away while it works: the namespace, the CRD. It lives on, makes no storm of calls
//! and lines, and works on what comes after.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use dijob_operator::api::{DataIntegrationJob, DataWorksAccount};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use simulator::{Behaviour, Fault};

#[path = "support"]
#[expect(dead_code, reason = "this test uses a part of what the tests share")]
mod support {
    pub mod plan;
    pub mod proxy;
    pub mod schema;
    pub mod world;
}

use support::proxy::{Proxy, Upstream};
use support::world::tenant::Tenant;
use support::world::{CRDS, Cluster, FLAGS, Operator, is_current};

/// Tries until it is so, for as long as a busy machine may need.
async fn until<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..400 {
        if let Some(done) = attempt().await {
            return done;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("waited for {what}")
}

/// A cluster, its operator, and the proxy between them.
async fn scene() -> (Cluster, Operator, Proxy) {
    let cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap();
    let (url, authority) = cluster.server();
    let proxy = Proxy::start(Upstream::https(&url, &authority)).await;
    let operator = tokio::task::block_in_place(|| cluster.operator_via(proxy.url(), "gone", &FLAGS));
    (cluster, operator, proxy)
}

/// What the namespace controller does with a namespace that is deleted, in an order that suits the operator least: first
/// what jobs need, then the jobs, one after the other. Then nothing of it is left.
async fn end_content(tenant: &Tenant, mut meanwhile: impl AsyncFnMut()) {
    let (all, how) = (ListParams::default(), DeleteParams::default());
    let (client, namespace) = (&tenant.client, tenant.namespace.as_str());
    Api::<Secret>::namespaced(client.clone(), namespace).delete_collection(&how, &all).await.unwrap();
    meanwhile().await;
    Api::<DataWorksAccount>::namespaced(client.clone(), namespace).delete_collection(&how, &all).await.unwrap();
    meanwhile().await;
    for job in tenant.jobs.list(&all).await.unwrap() {
        tenant.jobs.delete(&job.metadata.name.unwrap(), &how).await.unwrap();
    }
    let path = format!("/api/v1/namespaces/{namespace}/finalize");
    let mut object: Value =
        serde_json::to_value(Api::<Namespace>::all(client.clone()).get(namespace).await.unwrap()).unwrap();
    assert_eq!(object["status"]["phase"], "Terminating");
    object["spec"]["finalizers"] = json!([]);
    object["apiVersion"] = json!("v1");
    object["kind"] = json!("Namespace");
    let request =
        http::Request::put(path).header("content-type", "application/json").body(object.to_string().into_bytes());
    client.request::<Value>(request.unwrap()).await.unwrap();
}

/// One job of each kind of work: at rest, confirming, resolving a lost answer, waiting after refusals, waiting its turn.
async fn put_to_work(tenant: &Tenant) -> usize {
    let start = |id: i64, behaviour| Fault {
        job: Some(id),
        action: Some("StartDIJob".to_owned()),
        behaviour,
        ..Fault::default()
    };
    tenant.apply("rests", &json!({ "diJobId": 1 })).await;
    tenant.until_ready("rests").await;
    tenant.cloud.add_fault(start(2, Behaviour::lost_answer()));
    tenant.cloud.add_fault(start(3, Behaviour::lost_request()));
    tenant.cloud.add_fault(start(4, Behaviour::error(simulator::Refusal::of("Forbidden.Access"))));
    tenant.cloud.add_fault(start(6, Behaviour::error(simulator::Refusal::of("Throttling.User"))));
    let jobs = ["answer-lost", "request-lost", "refused", "confirms", "throttled"];
    for (name, id) in jobs.iter().zip(2..) {
        // One after the other: the last one is refused for all of its account.
        tenant.apply(name, &json!({ "diJobId": id, "forceToRerun": *name == "request-lost" })).await;
        tenant.until_ledger("its start", |ledger| ledger.starts(id).next().is_some()).await;
    }
    jobs.len() + 1
}

/// Covers: 28p.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_deleted_with_jobs_at_work_ends_without_a_storm() {
    let (cluster, operator, proxy) = scene().await;
    let doomed = Tenant::new(&cluster, "doomed").await.with_account().await;
    let other = Tenant::new(&cluster, "other").await.with_account().await;
    other.apply("job", &json!({ "diJobId": 1 })).await;
    other.until_ready("job").await;
    let jobs = put_to_work(&doomed).await;

    let of_it = |path: &str| path.contains("/namespaces/doomed/");
    let asked = || proxy.exchanges().iter().filter(|e| of_it(&e.path)).count();
    let lines =
        || operator.count_lines(|line| line["span"]["namespace"] == "doomed" || line.to_string().contains("doomed"));
    let (calls_before, lines_before) = (asked(), lines());
    let namespaces: Api<Namespace> = Api::all(doomed.client.clone());
    namespaces.delete("doomed", &DeleteParams::default()).await.unwrap();
    // From here on whatever is created in it is refused: Events too.
    let mut tokens = 0..;
    end_content(&doomed, async || {
        // Somebody else's work goes on meanwhile; each token is one start.
        let token = format!("during-{}", tokens.next().unwrap());
        other.annotate("job", &json!({ "dijob.dev/rerun": token })).await;
        let handled = |job: &DataIntegrationJob| {
            is_current(job) && job.status.as_ref().is_some_and(|s| s.handled_rerun_tokens.last() == Some(&token))
        };
        other.until("job", "the token", handled).await;
    })
    .await;
    until("the end of the namespace", async || namespaces.get_opt("doomed").await.unwrap().is_none().then_some(()))
        .await;
    let refused =
        proxy.exchanges().iter().filter(|e| of_it(&e.path) && e.status.is_some_and(|s| s.as_u16() == 403)).count();
    assert!(refused > 0, "no Event was refused: the namespace was not seen to end");

    // As long as it takes to do three starts elsewhere, nothing of it is asked for any more.
    let gone = (asked(), doomed.cloud.ledger().entries().len());
    for token in ["after-1", "after-2", "after-3"] {
        other.annotate("job", &json!({ "dijob.dev/rerun": token })).await;
        let handled = |job: &DataIntegrationJob| {
            is_current(job)
                && job.status.as_ref().is_some_and(|s| s.handled_rerun_tokens.last().is_some_and(|t| t == token))
        };
        other.until("job", "the token", handled).await;
    }
    let after = (asked(), doomed.cloud.ledger().entries().len());
    let told = lines() - lines_before;
    println!(
        "{} calls and {told} lines for {jobs} jobs of a namespace that ended, {refused} refused; then {:?}",
        gone.0 - calls_before,
        (after.0 - gone.0, after.1 - gone.1)
    );
    assert!(after.0 - gone.0 <= jobs, "{} calls into a namespace that is gone", after.0 - gone.0);
    assert_eq!(after.1, gone.1, "the cloud is called for jobs that are gone");
    assert!(gone.0 - calls_before <= 20 * jobs && told <= 10 * jobs, "{} calls, {told} lines", gone.0 - calls_before);
    assert_eq!(operator.get("/healthz").0, 200);
    drop_without_objects(doomed, &operator).await;
    other.end(&[&operator]).await;
}

/// A tenant whose namespace is gone has nothing left to list; its secrets must be in no log all the same.
async fn drop_without_objects(tenant: Tenant, operator: &Operator) {
    let namespaces: Api<Namespace> = Api::all(tenant.client.clone());
    assert!(namespaces.get_opt(&tenant.namespace).await.unwrap().is_none());
    tenant.end(&[operator]).await;
}

async fn delete_crds(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for name in ["dataintegrationjobs.dijob.dev", "dataworksaccounts.dijob.dev"] {
        api.delete(name, &DeleteParams::default()).await.unwrap();
        until("the CRD to be gone", async || api.get_opt(name).await.unwrap().is_none().then_some(())).await;
    }
}

/// Covers: 29p.
#[tokio::test(flavor = "multi_thread")]
async fn a_crd_that_is_deleted_and_installed_again_ends_nothing_and_starts_nothing_twice() {
    let (cluster, operator, proxy) = scene().await;
    let tenant = Tenant::new(&cluster, "crd").await.with_account().await;
    for id in 1..=3 {
        tenant.apply(&format!("job-{id}"), &json!({ "diJobId": id, "forceToRerun": id == 2 })).await;
    }
    for id in 1..=3 {
        tenant.until_ready(&format!("job-{id}")).await;
    }
    // One more start is under way when it goes.
    tenant.annotate("job-1", &json!({ "dijob.dev/rerun": "late" })).await;
    tenant.until_ledger("the second start", |ledger| ledger.starts(1).count() == 2).await;
    delete_crds(&tenant.client).await;
    let before = proxy.exchanges().len();
    let began = proxy.elapsed();
    operator.wait_line("word of it", |line| {
        let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
        text("message").contains("a watch failed") && text("error").contains("404")
    });
    assert_eq!(operator.get("/healthz").0, 200, "it lives");

    // Objects come again from where users keep them, as from a backup without status; jobs run as they did.
    let again = tokio::task::block_in_place(|| {
        cluster.install(&CRDS);
        proxy.exchanges().len() - before
    });
    let took = proxy.elapsed().saturating_sub(began).as_secs();
    println!("{again} calls in {took} s without the CRDs");
    assert!(again <= 20 + 10 * usize::try_from(took).unwrap(), "{again} calls in {took} s");
    tenant.put_account("default", &tenant.account_spec()).await;
    for id in 1..=3 {
        tenant.apply(&format!("job-{id}"), &json!({ "diJobId": id, "forceToRerun": id == 2 })).await;
    }
    for id in 1..=3 {
        let job = tenant.until_ready(&format!("job-{id}")).await;
        let reason = support::world::ready(&job).unwrap().reason.clone();
        assert_eq!(reason, "Adopted", "it runs, and is not started again");
    }
    tenant.apply("new", &json!({ "diJobId": 4 })).await;
    tenant.until_ready("new").await;
    let ran: Vec<usize> = (1..=4).map(|id| tenant.cloud.executions(id).len()).collect();
    assert_eq!(ran, [2, 1, 1, 1], "{}", tenant.story(""));
    operator.wait_ready();
    tenant.end(&[&operator]).await;
}
