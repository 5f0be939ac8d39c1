//! What an admin applies: `deploy/` and the list of `crds/` parse, hang together, and ask for no more than is used.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};
use dijob_operator::config::Config;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn is_manifest(name: &String) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "yaml")
}

/// The documents of one file.
fn documents(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn kustomization(of: &Path) -> Vec<String> {
    let all = documents(&of.join("kustomization.yaml"));
    assert_eq!(all.len(), 1);
    serde_json::from_value(all[0]["resources"].clone()).unwrap()
}

/// All objects that the kustomization of a folder names in files of that folder.
fn objects(of: &str) -> Vec<Value> {
    let of = folder(of);
    let files = kustomization(&of).into_iter().filter(is_manifest);
    files.flat_map(|name| documents(&of.join(name))).collect()
}

/// The one object of a kind and name.
fn object(kind: &str, name: &str) -> Value {
    let all = ["deploy/base", "deploy/samples"].into_iter().flat_map(objects);
    let mut found: Vec<_> = all.filter(|o| o["kind"] == kind && o["metadata"]["name"] == name).collect();
    assert_eq!(found.len(), 1, "{kind} {name}");
    found.remove(0)
}

fn pod() -> Value {
    object("Deployment", "dijob-operator")["spec"]["template"]["spec"].clone()
}

fn container() -> Value {
    let pod = pod();
    assert_eq!(pod["containers"].as_array().unwrap().len(), 1, "one container");
    assert!(pod["initContainers"].is_null() && pod["volumes"].is_null(), "these tests look at one container alone");
    pod["containers"][0].clone()
}

/// Each value of a table, sorted.
fn sorted(mut all: Vec<Value>) -> Vec<Value> {
    all.sort_by_key(Value::to_string);
    all
}

#[test]
fn every_kustomization_lists_all_files_beside_it_and_no_other() {
    for name in ["crds", "deploy/base", "deploy/oidc", "deploy/samples"] {
        let of = folder(name);
        let beside: BTreeSet<String> = fs::read_dir(&of)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|file| is_manifest(file) && file != "kustomization.yaml")
            .collect();
        let (files, folders): (BTreeSet<_>, BTreeSet<_>) = kustomization(&of).into_iter().partition(is_manifest);
        assert_eq!(files, beside, "{name}");
        let expected: &[&str] = if name == "deploy/base" { &["../../crds"] } else { &[] };
        assert!(folders.iter().eq(expected), "{name}: {folders:?}");
        for other in folders {
            assert!(of.join(other).join("kustomization.yaml").is_file());
        }
    }
}

/// The object again, as its Kubernetes type writes it: a field that the type does not know is gone.
fn round_trip<T: DeserializeOwned + Serialize>(object: &Value) -> Value {
    let typed: T = serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{object}: {error}"));
    serde_json::to_value(typed).unwrap()
}

#[test]
fn every_kubernetes_object_has_only_fields_of_its_kind() {
    for object in ["deploy/base", "deploy/oidc", "deploy/samples"].into_iter().flat_map(objects) {
        let kind = format!("{}/{}", object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
        let again = match kind.as_str() {
            "v1/Namespace" => round_trip::<Namespace>(&object),
            "v1/ServiceAccount" => round_trip::<ServiceAccount>(&object),
            "v1/Secret" => round_trip::<Secret>(&object),
            "apps/v1/Deployment" => round_trip::<Deployment>(&object),
            "policy/v1/PodDisruptionBudget" => round_trip::<PodDisruptionBudget>(&object),
            "rbac.authorization.k8s.io/v1/ClusterRole" => round_trip::<ClusterRole>(&object),
            "rbac.authorization.k8s.io/v1/ClusterRoleBinding" => round_trip::<ClusterRoleBinding>(&object),
            "rbac.authorization.k8s.io/v1/Role" => round_trip::<Role>(&object),
            "rbac.authorization.k8s.io/v1/RoleBinding" => round_trip::<RoleBinding>(&object),
            "dijob.dev/v1alpha1/DataIntegrationJob" | "dijob.dev/v1alpha1/DataWorksAccount" => continue,
            other => panic!("{other} is not among the kinds that this test knows"),
        };
        assert_eq!(again, object);
    }
}

#[test]
fn the_pod_obeys_the_restricted_pod_security_standard() {
    let namespace = object("Namespace", "dijob-system");
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    let (pod, container) = (pod(), container());
    for host in ["hostNetwork", "hostPID", "hostIPC"] {
        assert!(pod[host].is_null(), "{host}");
    }
    let expected = json!({
        "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": { "type": "RuntimeDefault" },
    });
    assert_eq!(pod["securityContext"], expected);
    let expected = json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] },
    });
    assert_eq!(container["securityContext"], expected);
    assert!(container["ports"].as_array().unwrap().iter().all(|port| port["hostPort"].is_null()));
}

#[test]
fn the_rights_are_exactly_those_that_are_used() {
    let mut found = Vec::new();
    for object in objects("deploy/base") {
        if !matches!(object["kind"].as_str(), Some("ClusterRole" | "Role")) {
            continue;
        }
        let role = format!("{}/{}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        let list =
            |value: &Value| serde_json::from_value::<Option<Vec<String>>>(value.clone()).unwrap().unwrap_or_default();
        for rule in object["rules"].as_array().unwrap() {
            let names = list(&rule["resourceNames"]);
            for (group, resource) in list(&rule["apiGroups"]).iter().flat_map(|group| {
                let resources = list(&rule["resources"]);
                resources.into_iter().map(move |resource| (group.clone(), resource))
            }) {
                found.push(json!([role, group, resource, names, list(&rule["verbs"])]));
            }
        }
    }
    let lease = Config::parse_from(["dijob-operator"]).lease_name;
    let expected = vec![
        json!(["ClusterRole/dijob-operator", "dijob.dev", "dataintegrationjobs", [], ["get", "list", "watch"]]),
        json!(["ClusterRole/dijob-operator", "dijob.dev", "dataworksaccounts", [], ["get", "list", "watch"]]),
        json!(["ClusterRole/dijob-operator", "dijob.dev", "dataintegrationjobs/status", [], ["patch"]]),
        json!(["ClusterRole/dijob-operator", "dijob.dev", "dataworksaccounts/status", [], ["patch"]]),
        json!(["ClusterRole/dijob-operator", "events.k8s.io", "events", [], ["create"]]),
        json!(["ClusterRole/dijob-operator-secrets", "", "secrets", [], ["get"]]),
        json!(["Role/dijob-operator", "coordination.k8s.io", "leases", [], ["create"]]),
        json!(["Role/dijob-operator", "coordination.k8s.io", "leases", [lease], ["get", "update"]]),
    ];
    assert_eq!(sorted(found), sorted(expected));
}

#[test]
fn every_role_is_bound_once_and_to_the_account_of_the_pod_alone() {
    let account = object("ServiceAccount", "dijob-operator");
    assert_eq!(pod()["serviceAccountName"], account["metadata"]["name"]);
    let subject = json!([{
        "kind": "ServiceAccount", "name": account["metadata"]["name"], "namespace": account["metadata"]["namespace"],
    }]);
    let (mut roles, mut bound) = (Vec::new(), Vec::new());
    for object in objects("deploy/base") {
        match object["kind"].as_str().unwrap() {
            "ClusterRole" | "Role" => roles.push(json!([object["kind"], object["metadata"]["name"]])),
            "ClusterRoleBinding" | "RoleBinding" => {
                assert_eq!(object["subjects"], subject);
                assert_eq!(object["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");
                bound.push(json!([object["roleRef"]["kind"], object["roleRef"]["name"]]));
            }
            _ => {}
        }
    }
    assert_eq!(sorted(bound), sorted(roles));
}

#[test]
fn tokens_are_allowed_by_namespace_and_name_alone() {
    let [role, binding] = <[Value; 2]>::try_from(objects("deploy/oidc")).unwrap();
    let right = json!({
        "apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": ["dijob"], "verbs": ["create"],
    });
    assert_eq!((&role["kind"], &role["rules"]), (&json!("Role"), &json!([right])));
    assert_eq!(binding["kind"], "RoleBinding");
    assert_eq!((&binding["roleRef"]["kind"], &binding["roleRef"]["name"]), (&role["kind"], &role["metadata"]["name"]));
    let account = object("ServiceAccount", "dijob-operator");
    let subject = json!({
        "kind": "ServiceAccount", "name": account["metadata"]["name"], "namespace": account["metadata"]["namespace"],
    });
    assert_eq!(binding["subjects"], json!([subject]));
    assert!([role, binding].iter().all(|object| object["metadata"]["namespace"].is_null()), "the user names it");
}

#[test]
fn everything_of_the_operator_is_in_its_one_namespace() {
    let without = ["Namespace", "ClusterRole", "ClusterRoleBinding"];
    for object in objects("deploy/base") {
        let expected =
            if without.contains(&object["kind"].as_str().unwrap()) { Value::Null } else { json!("dijob-system") };
        assert_eq!(object["metadata"]["namespace"], expected, "{object}");
        assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/name"], "dijob-operator", "{object}");
    }
}

#[test]
fn selectors_match_the_labels_of_the_pod() {
    let deployment = object("Deployment", "dijob-operator");
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    assert!(labels.is_object());
    assert_eq!(&deployment["spec"]["selector"]["matchLabels"], labels);
    let budget = object("PodDisruptionBudget", "dijob-operator");
    assert_eq!(&budget["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(&pod()["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"], labels);
    assert!(budget["spec"]["minAvailable"].as_i64() < deployment["spec"]["replicas"].as_i64(), "a node can be drained");
}

/// What the container says by flags and by their twins, as flags.
fn flags() -> Vec<String> {
    let container = container();
    let arguments: Vec<String> =
        serde_json::from_value::<Option<_>>(container["args"].clone()).unwrap().unwrap_or_default();
    let variables = container["env"].as_array().unwrap().iter().filter_map(|variable| {
        let name = variable["name"].as_str().unwrap().strip_prefix("DIJOB_")?;
        Some(format!("--{}={}", name.to_lowercase().replace('_', "-"), variable["value"].as_str().unwrap()))
    });
    variables.chain(arguments).collect()
}

fn configured() -> Config {
    let flags = flags();
    let all = ["dijob-operator"].into_iter().chain(flags.iter().map(String::as_str));
    Config::try_parse_from(all).and_then(Config::checked).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn flags_and_variables_of_the_deployment_exist() {
    configured();
    let twins: Vec<String> =
        Config::command().get_arguments().filter_map(|arg| arg.get_env()?.to_str().map(str::to_owned)).collect();
    let of_the_pod = ["POD_NAME", "POD_NAMESPACE"];
    for variable in container()["env"].as_array().unwrap() {
        let name = variable["name"].as_str().unwrap();
        assert!(of_the_pod.contains(&name) || twins.iter().any(|twin| twin == name), "{name}");
    }
    for name in of_the_pod {
        let field = format!("metadata.{}", name.trim_start_matches("POD_").to_lowercase());
        let expected = json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": field } } });
        assert!(container()["env"].as_array().unwrap().contains(&expected), "{name}");
    }
}

#[test]
fn probes_ask_the_port_that_is_listened_on() {
    let container = container();
    let ports = container["ports"].as_array().unwrap();
    let port = json!({ "name": "http", "containerPort": configured().listen.port() });
    assert_eq!(ports, &[port]);
    for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        assert_eq!(container[probe]["httpGet"], json!({ "path": path, "port": "http" }), "{probe}");
    }
}

#[test]
fn a_pod_that_stops_has_time_for_a_call_and_its_record() {
    let grace = pod()["terminationGracePeriodSeconds"].as_u64().unwrap();
    // 20 s for the record: it is tried again while the API server is away for a moment.
    assert!(grace >= configured().call_timeout.as_secs() + 20, "{grace}");
}

/// Fails on a field of `value` that `known` does not have.
fn only_known(value: &Value, known: &Value, at: &str) {
    let Some(fields) = value.as_object() else { return };
    for (name, inner) in fields {
        let expected = known.get(name).unwrap_or_else(|| panic!("{at}.{name} is no field"));
        assert_eq!(inner.is_object(), expected.is_object(), "{at}.{name}");
        only_known(inner, expected, &format!("{at}.{name}"));
    }
}

#[test]
fn samples_use_only_fields_that_exist() {
    let job = json!({
        "accountRef": { "name": 0 }, "diJobId": 0, "forceToRerun": 0, "rerunToken": 0, "onUnknown": 0, "suspend": 0,
        "realtimeStartSettings": { "startTime": 0, "failoverSettings": { "interval": 0, "upperLimit": 0 } },
    });
    let account = json!({
        "regionId": 0, "endpoint": 0, "network": 0, "dataworksVersion": 0, "signature": 0, "edition": 0, "allowedProjects": 0,
        "quota": { "readsPerSecond": 0, "writesPerSecond": 0, "callsPerDay": 0 },
        "credentials": { "secretRef": { "name": 0, "accessKeyIdKey": 0, "accessKeySecretKey": 0 } },
    });
    let whole = |spec| json!({ "apiVersion": 0, "kind": 0, "metadata": { "name": 0 }, "spec": spec });
    only_known(&object("DataIntegrationJob", "orders-to-hologres"), &whole(job), "job");
    only_known(&object("DataWorksAccount", "prod"), &whole(account), "account");
}

#[test]
fn samples_fit_together_and_hold_no_key() {
    let job = object("DataIntegrationJob", "orders-to-hologres");
    let account = object("DataWorksAccount", job["spec"]["accountRef"]["name"].as_str().unwrap());
    let reference = &account["spec"]["credentials"]["secretRef"];
    let secret = object("Secret", reference["name"].as_str().unwrap());
    let keys = secret["stringData"].as_object().unwrap();
    assert!(secret["data"].is_null());
    assert_eq!(keys.keys().collect::<Vec<_>>(), ["accessKeyId", "accessKeySecret"], "the default keys of secretRef");
    for value in keys.values() {
        assert!(value.as_str().unwrap().starts_with("REPLACE-WITH-"), "{value}");
    }
}
