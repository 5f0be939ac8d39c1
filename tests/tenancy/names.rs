//! Somebody names another namespace's Secret or account, in every way that a name can be written.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::fmt::Debug;

use dijob_operator::api::{DataIntegrationJob, DataWorksAccount};
use futures::future::join_all;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, NamespaceResourceScope};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::support::proxy::Exchange;
use crate::support::world::tenant::Tenant;
use crate::support::world::{CRDS, documents, is_ready, ready};
use crate::{cluster, operator_of};

/// Paths of all properties of a schema whose name speaks of a namespace.
fn namespaces(schema: &Value, at: &str, found: &mut Vec<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{at}.{name}");
        if name.to_lowercase().contains("namespace") {
            found.push(path.clone());
        }
        namespaces(property, &path, found);
    }
    for below in ["items", "additionalProperties"] {
        if schema[below].is_object() {
            namespaces(&schema[below], &format!("{at}.{below}"), found);
        }
    }
    // What is not listed is kept only where a schema says so.
    for open in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
        if schema[open] == true {
            found.push(format!("{at}: {open}"));
        }
    }
}

/// Covers: 38p.
#[test]
fn no_field_of_a_spec_names_a_namespace_and_none_takes_what_is_not_listed() {
    for crd in CRDS.iter().flat_map(|file| documents(file)) {
        let (mut found, mut seen) = (Vec::new(), 0);
        for version in crd["spec"]["versions"].as_array().unwrap() {
            let spec = &version["schema"]["openAPIV3Schema"]["properties"]["spec"];
            assert!(spec["properties"].as_object().is_some_and(|all| all.len() > 3), "{spec}");
            namespaces(spec, "spec", &mut found);
            seen += 1;
        }
        assert!(seen > 0 && found.is_empty(), "{found:?}");
        assert_eq!(crd["spec"]["scope"], "Namespaced");
    }
    let mut found = Vec::new();
    let bad = json!({ "properties": { "ref": { "items": { "properties": { "targetNamespace": {} } } } } });
    namespaces(&bad, "spec", &mut found);
    assert_eq!(found, ["spec.ref.items.targetNamespace"], "the search finds one where there is one");
}

/// The names that somebody tries, who wants `NAME` of the namespace `victim`; `KIND` is the plural of what is named.
const TRICKS: [&str; 17] = [
    "?fieldSelector=metadata.namespace=victim",
    "NAME?x=../victim",
    "../../../../victim/KIND/NAME;x",
    "victim/NAME",
    "victim.NAME",
    "NAME.victim",
    "victim:NAME",
    "NAME@victim",
    "../victim/NAME",
    "../../victim/KIND/NAME",
    "../../../namespaces/victim/KIND/NAME",
    "x/../../../victim/KIND/NAME",
    "..%2f..%2fvictim%2fKIND%2fNAME",
    "%2e%2e/%2e%2e/victim/KIND/NAME",
    "..\\..\\victim\\KIND\\NAME",
    "../../victim/KIND/NAME?fieldManager=x",
    "//api/v1/namespaces/victim/KIND/NAME",
];

/// Those that are names of objects, and can be written at all.
const NAMES: [&str; 2] = ["victim.NAME", "NAME.victim"];

/// The schema refuses what is no name, and says which are.
async fn refused<K>(thief: &Tenant, name: &str, spec: &Value)
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let body = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": { "name": name }, "spec": spec,
    });
    let objects: Api<K> = Api::namespaced(thief.client.clone(), &thief.namespace);
    let told = objects.patch(name, &PatchParams::apply("user").force(), &Patch::Apply(&body)).await.unwrap_err();
    assert!(told.to_string().contains("should match"), "{told}");
}

fn trick(pattern: &str, kind: &str, name: &str) -> String {
    pattern.replace("KIND", kind).replace("NAME", name)
}

fn job_at(account: &Value, id: usize) -> Value {
    json!({ "diJobId": id, "accountRef": account })
}

/// A namespace field written where there is none: an apply is refused, a create loses it.
async fn a_field_that_is_not_there_is_refused_or_pruned(thief: &Tenant) {
    let resource = ApiResource::erase::<DataIntegrationJob>(&());
    let jobs: Api<DynamicObject> = Api::namespaced_with(thief.client.clone(), &thief.namespace, &resource);
    let spec = job_at(&json!({ "name": "default", "namespace": "victim" }), 900);
    let object = json!({
        "apiVersion": "dijob.dev/v1alpha1", "kind": "DataIntegrationJob", "metadata": { "name": "extra" }, "spec": spec,
    });
    let apply = jobs.patch("extra", &PatchParams::apply("user").force(), &Patch::Apply(&object)).await;
    let told = apply.unwrap_err().to_string();
    assert!(told.contains("spec.accountRef.namespace") && told.contains("not declared"), "{told}");
    let typed: DynamicObject = serde_json::from_value(object).unwrap();
    let kept = jobs.create(&PostParams::default(), &typed).await.unwrap();
    assert_eq!(kept.data["spec"]["accountRef"], json!({ "name": "default" }));
}

/// Covers: 38p.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_name_is_written_nothing_of_another_namespace_is_read_or_called() {
    let cluster = tokio::task::spawn_blocking(cluster).await.unwrap();
    let victim = Tenant::new(cluster, "victim").await.with_account().await;
    let thief = Tenant::new(cluster, "thief").await;
    let (operator, proxy) = operator_of("thief").await;
    a_field_that_is_not_there_is_refused_or_pruned(&thief).await;

    // An account of its own that calls the victim's cloud: with the victim's key it would be obeyed.
    let account_with = |secret: Value| {
        let mut account = victim.account_spec();
        account["credentials"]["secretRef"] = secret;
        account
    };
    let mut wanted = vec![("extra".to_owned(), "AccountNotFound")];
    for (at, pattern) in TRICKS.into_iter().enumerate() {
        let (by_account, by_secret) = (format!("by-account-{at}"), format!("by-secret-{at}"));
        let account = json!({ "name": trick(pattern, "dataworksaccounts", "default") });
        let secret = account_with(json!({ "name": trick(pattern, "secrets", "key") }));
        if !NAMES.contains(&pattern) {
            refused::<DataIntegrationJob>(&thief, &by_account, &job_at(&account, at + 1)).await;
            refused::<DataWorksAccount>(&thief, &by_secret, &secret).await;
            continue;
        }
        thief.apply(&by_account, &job_at(&account, at + 1)).await;
        wanted.push((by_account, "AccountNotFound"));
        thief.put_account(&by_secret, &secret).await;
        thief.apply(&by_secret, &job_at(&json!({ "name": by_secret }), at + 101)).await;
        wanted.push((by_secret, "CredentialsMissing"));
    }
    join_all(wanted.iter().map(async |(name, reason)| {
        let job = thief.until_reason(name, reason).await;
        assert!(!is_ready(&job) && ready(&job).unwrap().message.len() > 20);
    }))
    .await;

    assert_eq!(victim.cloud.ledger().entries().len(), 0, "{}", victim.story(""));
    let key = victim.key_id.clone();
    let told = |text: &str| text.contains(&key) || text.contains(&victim.secret());
    assert!(operator.log().iter().all(|line| !told(line)), "the victim's key is in the log");
    let asked: Vec<Exchange> = proxy.exchanges().into_iter().filter(|e| e.path.contains("secrets/")).collect();
    assert!(asked.len() >= NAMES.len(), "{asked:?}");
    for exchange in asked {
        let ok = exchange.status.is_none_or(|status| status.is_success() || status.is_redirection());
        assert!(exchange.path.starts_with("/api/v1/namespaces/thief/secrets/") && !ok, "{exchange:?}");
    }

    // The same operator serves this namespace as soon as it has what it names: the tricks alone were refused.
    thief.put_key().await;
    thief.put_account("default", &thief.account_spec()).await;
    thief.until_ready("extra").await;
    assert_eq!((thief.cloud.executions(900).len(), victim.cloud.ledger().entries().len()), (1, 0));
    thief.end(&[&operator]).await;
    victim.end(&[&operator]).await;
}
