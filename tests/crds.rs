//! `crds/` is what the types say. `UPDATE=1 cargo test --test crds` writes it again.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;

use dijob_operator::api::{self, DataIntegrationJob, DataWorksAccount, Network};
use kube::core::cel::{validate_cel, validate_cel_update};
use serde_json::{Value, json};

const MOST: usize = 30_000;

#[test]
fn the_crds_are_those_of_the_types_and_stay_small() {
    #[expect(clippy::disallowed_methods, reason = "edge: asked for by hand")]
    let update = std::env::var_os("UPDATE").is_some();
    for crd in api::crds() {
        let name = crd.metadata.name.clone().unwrap();
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("crds").join(format!("{name}.yaml"));
        let made = serde_saphyr::to_string(&crd).unwrap();
        assert!(made.len() < MOST, "{name} has {} bytes", made.len());
        if update {
            std::fs::write(&path, &made).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == made, "{} differs from the types: UPDATE=1 cargo test --test crds", path.display());
    }
}

/// What the rules of the types say without a cluster; `tests/admission.rs` asks the API server.
fn refusals(result: Result<(), impl std::fmt::Display>) -> String {
    result.err().map(|errors| errors.to_string()).unwrap_or_default()
}

fn job(spec: &Value) -> DataIntegrationJob {
    let object = json!({ "apiVersion": "dijob.dev/v1alpha1", "kind": "DataIntegrationJob", "metadata": { "name": "x" }, "spec": spec });
    serde_json::from_value(object).unwrap()
}

fn account(region: Option<&str>, endpoint: Option<&str>, edition: &str, quota: Value) -> DataWorksAccount {
    let mut spec = json!({ "edition": edition, "credentials": { "secretRef": { "name": "key" } } });
    for (name, value) in [("regionId", json!(region)), ("endpoint", json!(endpoint)), ("quota", quota)] {
        if let (false, Some(fields)) = (value.is_null(), spec.as_object_mut()) {
            fields.insert(name.to_owned(), value);
        }
    }
    let object = json!({ "apiVersion": "dijob.dev/v1alpha1", "kind": "DataWorksAccount", "metadata": { "name": "x" }, "spec": spec });
    serde_json::from_value(object).unwrap()
}

/// The same account, reached from inside the cloud's network.
fn within(mut account: DataWorksAccount) -> DataWorksAccount {
    account.spec.network = Network::Vpc;
    account
}

#[test]
fn the_rules_of_a_job_refuse_with_their_message() {
    let start_time = |t: i64| json!({ "diJobId": 1, "realtimeStartSettings": { "startTime": t } });
    let rows = [
        (json!({ "diJobId": 1 }), ""),
        (json!({ "diJobId": 0 }), "diJobId is the number of the job in DataWorks, 1 or more"),
        (start_time(946_684_800), ""),
        (start_time(946_684_799), "startTime is in Unix seconds"),
        (start_time(4_102_444_799), ""),
        (start_time(1_671_516_776_000), "not milliseconds"),
        (json!({ "diJobId": 1, "rerunToken": "2026-11-24-a" }), ""),
        (json!({ "diJobId": 1, "rerunToken": "two words" }), "rerunToken is a plain word"),
    ];
    for (spec, expected) in rows {
        let told = refusals(validate_cel(&job(&spec)));
        assert!(told.contains(expected) && told.is_empty() == expected.is_empty(), "{spec}: {told}");
    }
}

#[test]
fn the_rules_of_an_account_refuse_with_their_message() {
    let none = || Value::Null;
    let gateway = Some("https://gateway.example.com");
    let shanghai = Some("cn-shanghai");
    let basic = |quota: Value| account(shanghai, None, "Basic", quota);
    let at = |url| account(None, Some(url), "Basic", Value::Null);
    let rows = [
        (account(shanghai, None, "Basic", none()), ""),
        (account(None, gateway, "Basic", none()), ""),
        (account(shanghai, gateway, "Basic", none()), "set exactly one of regionId"),
        (account(None, None, "Basic", none()), "set exactly one of regionId"),
        (at("http://127.0.0.1:8080"), ""),
        (at("http://gateway.example.com"), "endpoint is an https URL"),
        (at("gateway"), "endpoint is an https URL"),
        (at("https://gateway.example.com/path"), "endpoint is a scheme and a host"),
        (at("https://gateway.example.com?a=b"), "endpoint is a scheme and a host"),
        (at("https://user@gateway.example.com"), "endpoint is a scheme and a host"),
        (within(account(shanghai, None, "Basic", none())), ""),
        (within(account(None, gateway, "Basic", none())), "network: VPC needs regionId"),
        (basic(json!({ "readsPerSecond": 5, "writesPerSecond": 5, "callsPerDay": 100 })), ""),
        (basic(json!({ "readsPerSecond": 6 })), "only edition Enterprise"),
        (basic(json!({ "writesPerSecond": 6 })), "only edition Enterprise"),
        (basic(json!({ "callsPerDay": 101 })), "edition Basic allows 100 calls a day"),
        (account(shanghai, None, "Standard", json!({ "callsPerDay": 101 })), ""),
        (account(shanghai, None, "Enterprise", json!({ "readsPerSecond": 50 })), ""),
    ];
    for (account, expected) in rows {
        let told = refusals(validate_cel(&account));
        assert!(told.contains(expected) && told.is_empty() == expected.is_empty(), "{:?}: {told}", account.spec);
    }
}

#[test]
fn the_region_of_an_account_cannot_change() {
    let region = |region| account(Some(region), None, "Basic", Value::Null);
    let gateway = account(None, Some("https://gateway.example.com"), "Basic", Value::Null);
    let shanghai = region("cn-shanghai");
    assert_eq!(refusals(validate_cel_update(&shanghai, &shanghai)), "");
    assert_eq!(refusals(validate_cel_update(&shanghai, &gateway)), "");
    for other in [region("cn-beijing"), gateway] {
        let told = refusals(validate_cel_update(&other, &shanghai));
        assert!(told.contains("regionId cannot change"), "{told}");
    }
}
