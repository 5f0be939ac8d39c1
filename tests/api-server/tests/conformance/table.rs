//! The requests, in order: each may stand on those before it.

use serde_json::{Value, json};

use super::run::Step;

const JOBS: &str = "/apis/dijob.dev/v1alpha1/namespaces/conformance/dataintegrationjobs";
const ACCOUNTS: &str = "/apis/dijob.dev/v1alpha1/namespaces/conformance/dataworksaccounts";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/conformance/leases";
const SECRETS: &str = "/api/v1/namespaces/conformance/secrets";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/conformance/events";
const TEST: &str = "fieldManager=test";
const OPERATOR: &str = "fieldManager=operator&force=true";

fn job(name: &str, rest: &Value) -> Value {
    let mut job =
        json!({ "apiVersion": "dijob.dev/v1alpha1", "kind": "DataIntegrationJob", "metadata": { "name": name } });
    merge(&mut job, rest);
    job
}

/// A body with these fields beside what it says already.
fn merge(value: &mut Value, rest: &Value) {
    if let (Value::Object(map), Value::Object(rest)) = (&mut *value, rest) {
        for (key, rest) in rest {
            merge(map.entry(key.clone()).or_insert(Value::Null), rest);
        }
    } else {
        value.clone_from(rest);
    }
}

fn condition(type_: &str, status: &str) -> Value {
    json!({
        "type": type_, "status": status, "reason": "Why", "message": "", "observedGeneration": 1,
        "lastTransitionTime": "2026-11-24T10:00:00Z",
    })
}

pub(crate) fn steps() -> Vec<Step> {
    let parts = [creation(), applies(), statuses(), patches(), puts(), deletions(), built_in(), lists(), watches()];
    parts.into_iter().flatten().map(|(name, verb, uri, body)| Step { name, verb, uri, body }).collect()
}

type Part = Vec<(&'static str, &'static str, String, Value)>;

fn creation() -> Part {
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "conformance" } });
    let post = |query: &str| format!("{JOBS}?{TEST}{query}");
    let number = |n: i64| json!({ "spec": { "diJobId": n } });
    vec![
        ("namespace made", "POST", format!("/api/v1/namespaces?{TEST}"), namespace),
        ("namespace read", "GET", "/api/v1/namespaces/conformance".into(), Value::Null),
        ("dry run of a creation", "POST", post("&dryRun=All"), job("a", &number(1))),
        ("nothing came of it", "GET", format!("{JOBS}/a"), Value::Null),
        ("created", "POST", post(""), job("a", &number(1))),
        ("created twice", "POST", post(""), job("a", &number(1))),
        (
            "status is not created",
            "POST",
            post(""),
            job("b", &json!({ "spec": { "diJobId": 2 }, "status": { "jobStatus": "X" } })),
        ),
        ("unknown field pruned", "POST", post(""), job("c", &json!({ "spec": { "diJobId": 3, "nothing": 1 } }))),
        (
            "unknown field refused",
            "POST",
            post("&fieldValidation=Strict"),
            job("d", &json!({ "spec": { "diJobId": 3, "nothing": 1 } })),
        ),
        ("a required field is absent", "POST", post(""), job("d", &json!({ "spec": {} }))),
        (
            "a word not in the list",
            "POST",
            post(""),
            job("d", &json!({ "spec": { "diJobId": 3, "onUnknown": "Maybe" } })),
        ),
        ("a wrong type", "POST", post(""), job("d", &json!({ "spec": { "diJobId": "three" } }))),
        (
            "a number out of bounds",
            "POST",
            post(""),
            job(
                "d",
                &json!({ "spec": { "diJobId": 3, "realtimeStartSettings": { "failoverSettings": { "interval": 0 } } } }),
            ),
        ),
        (
            "a text too long",
            "POST",
            post(""),
            job("d", &json!({ "spec": { "diJobId": 3, "rerunToken": "x".repeat(257) } })),
        ),
        (
            "no name",
            "POST",
            post(""),
            json!({ "apiVersion": "dijob.dev/v1alpha1", "kind": "DataIntegrationJob", "spec": { "diJobId": 1 } }),
        ),
        ("a bad name", "POST", post(""), job("Upper", &number(1))),
        (
            "another kind",
            "POST",
            post(""),
            json!({ "apiVersion": "dijob.dev/v1alpha1", "kind": "DataWorksAccount", "metadata": { "name": "d" } }),
        ),
        (
            "another namespace in the body",
            "POST",
            post(""),
            job("d", &json!({ "metadata": { "namespace": "default" }, "spec": { "diJobId": 1 } })),
        ),
        (
            "a namespace that is not there",
            "POST",
            format!("/apis/dijob.dev/v1alpha1/namespaces/nowhere/dataintegrationjobs?{TEST}"),
            job("d", &number(1)),
        ),
        (
            "a version at creation",
            "POST",
            post(""),
            job("d", &json!({ "metadata": { "resourceVersion": "1" }, "spec": { "diJobId": 1 } })),
        ),
        ("absent", "GET", format!("{JOBS}/d"), Value::Null),
        ("read", "GET", format!("{JOBS}/a"), Value::Null),
        (
            "a kind that is not there",
            "GET",
            "/apis/dijob.dev/v1alpha1/namespaces/conformance/others".into(),
            Value::Null,
        ),
        (
            "account with defaults",
            "APPLY",
            format!("{ACCOUNTS}/acc?fieldManager=user&force=true"),
            json!({
                "apiVersion": "dijob.dev/v1alpha1", "kind": "DataWorksAccount", "metadata": { "name": "acc" },
                "spec": { "regionId": "cn-shanghai", "edition": "Basic", "credentials": { "secretRef": { "name": "key" } } },
            }),
        ),
    ]
}

fn applies() -> Part {
    let user = |name: &str| format!("{JOBS}/{name}?fieldManager=user&force=true");
    let full = json!({
        "metadata": { "labels": { "team": "x" }, "annotations": { "dijob.dev/rerun": "1" } },
        "spec": { "diJobId": 5, "suspend": true, "realtimeStartSettings": { "startTime": 1_671_516_776 } },
    });
    let less = json!({ "metadata": { "labels": { "team": "x" } }, "spec": { "diJobId": 5 } });
    let other = |body: &Value| job("e", body);
    vec![
        ("applied", "APPLY", user("e"), other(&full)),
        ("applied again", "APPLY", user("e"), other(&full)),
        ("fields taken from the apply", "APPLY", user("e"), other(&less)),
        ("the generation moved", "GET", format!("{JOBS}/e"), Value::Null),
        (
            "another manager, the same value",
            "APPLY",
            format!("{JOBS}/e?fieldManager=second"),
            other(&json!({ "spec": { "diJobId": 5 } })),
        ),
        (
            "another manager, another value",
            "APPLY",
            format!("{JOBS}/e?fieldManager=second"),
            other(&json!({ "spec": { "diJobId": 6 } })),
        ),
        (
            "two conflicts",
            "APPLY",
            format!("{JOBS}/e?fieldManager=third"),
            other(&json!({ "metadata": { "labels": { "team": "y" } }, "spec": { "diJobId": 6 } })),
        ),
        (
            "forced",
            "APPLY",
            format!("{JOBS}/e?fieldManager=second&force=true"),
            other(&json!({ "spec": { "diJobId": 6 } })),
        ),
        (
            "a label more",
            "APPLY",
            user("e"),
            other(&json!({ "metadata": { "labels": { "team": "x", "more": "1" } }, "spec": { "diJobId": 6 } })),
        ),
        (
            "metadata alone moves no generation",
            "APPLY",
            user("e"),
            other(&json!({ "metadata": { "annotations": { "n": "1" } }, "spec": { "diJobId": 6 } })),
        ),
        ("an unknown field applied", "APPLY", user("e"), other(&json!({ "spec": { "diJobId": 6, "nothing": 1 } }))),
        ("apply without a manager", "APPLY", format!("{JOBS}/e"), other(&less)),
        (
            "apply under an old version",
            "APPLY",
            user("e"),
            other(&json!({ "metadata": { "resourceVersion": "{rv of applied}" }, "spec": { "diJobId": 7 } })),
        ),
        (
            "apply under its version",
            "APPLY",
            user("e"),
            other(
                &json!({ "metadata": { "resourceVersion": "{rv of metadata alone moves no generation}" }, "spec": { "diJobId": 7 } }),
            ),
        ),
        (
            "apply with another uid",
            "APPLY",
            user("e"),
            other(&json!({ "metadata": { "uid": "11111111-1111-1111-1111-111111111111" }, "spec": { "diJobId": 8 } })),
        ),
        ("apply with another name", "APPLY", user("e"), job("f", &less)),
        (
            "apply of nothing there, with a uid",
            "APPLY",
            user("g"),
            job(
                "g",
                &json!({ "metadata": { "uid": "11111111-1111-1111-1111-111111111111" }, "spec": { "diJobId": 8 } }),
            ),
        ),
        (
            "apply of nothing there, with a version",
            "APPLY",
            user("g"),
            job("g", &json!({ "metadata": { "resourceVersion": "1" }, "spec": { "diJobId": 8 } })),
        ),
        (
            "dry run of an apply",
            "APPLY",
            format!("{}&dryRun=All", user("e")),
            other(&json!({ "spec": { "diJobId": 9 } })),
        ),
        ("dry run left nothing", "GET", format!("{JOBS}/e"), Value::Null),
    ]
}

fn statuses() -> Part {
    let status = |query: &str| format!("{JOBS}/a/status?{query}");
    let says = |version: &str, status: &Value| {
        let mut body = job("a", &json!({ "status": status }));
        if !version.is_empty() {
            body["metadata"]["resourceVersion"] = version.into();
        }
        body
    };
    let ready = json!({ "observedGeneration": 1, "jobStatus": "Running", "conditions": [condition("Ready", "True")] });
    let theirs = json!({ "conditions": [condition("Theirs", "True")] });
    let pending = json!({
        "observedGeneration": 1, "conditions": [condition("Ready", "False"), condition("Reconciling", "True")],
        "handledRerunTokens": ["a", "b"], "applied": { "diJobId": 1, "generation": 1, "region": "r" },
    });
    vec![
        ("status written", "APPLY", status(OPERATOR), says("{rv of created}", &ready)),
        ("status under an old version", "APPLY", status(OPERATOR), says("{rv of created}", &pending)),
        ("an old version, nothing else new", "APPLY", status(OPERATOR), says("{rv of created}", &ready)),
        ("status as it is", "APPLY", status(OPERATOR), says("{rv of status written}", &ready)),
        ("another's condition", "APPLY", status("fieldManager=theirs"), says("", &theirs)),
        ("status with fields less and more", "APPLY", status(OPERATOR), says("{rv of another's condition}", &pending)),
        (
            "a condition of another manager, not forced",
            "APPLY",
            status("fieldManager=theirs"),
            says("", &json!({ "conditions": [condition("Ready", "True")] })),
        ),
        (
            "a condition withdrawn",
            "APPLY",
            status("fieldManager=theirs&force=true"),
            says("", &json!({ "conditions": [] })),
        ),
        (
            "status ignores the spec",
            "APPLY",
            status(OPERATOR),
            job("a", &json!({ "spec": { "diJobId": 99 }, "status": ready })),
        ),
        (
            "status with another uid",
            "APPLY",
            status(OPERATOR),
            job("a", &json!({ "metadata": { "uid": "11111111-1111-1111-1111-111111111111" }, "status": pending })),
        ),
        (
            "status of nothing there",
            "APPLY",
            format!("{JOBS}/zzz/status?{OPERATOR}"),
            job("zzz", &json!({ "status": ready })),
        ),
        (
            "status with an unknown field",
            "APPLY",
            format!("{}&dryRun=All", status(OPERATOR)),
            says("", &json!({ "observedGeneration": 1, "newer": { "x": 1 } })),
        ),
        ("status tried", "APPLY", format!("{}&dryRun=All", status(OPERATOR)), says("", &ready)),
        (
            "a condition too many of one type",
            "APPLY",
            status(OPERATOR),
            says("", &json!({ "conditions": [condition("Ready", "True"), condition("Ready", "False")] })),
        ),
        (
            "a status out of the schema",
            "APPLY",
            status(OPERATOR),
            says("", &json!({ "conditions": [condition("Ready", "Perhaps")] })),
        ),
        (
            "status replaced by operations",
            "JSON",
            status(OPERATOR.split('&').next().unwrap_or_default()),
            json!([
                { "op": "replace", "path": "/metadata/resourceVersion", "value": "{rv of status with another uid}" },
                { "op": "replace", "path": "/status", "value": ready },
            ]),
        ),
        (
            "status replaced under an old version",
            "JSON",
            status("fieldManager=operator"),
            json!([
                { "op": "replace", "path": "/metadata/resourceVersion", "value": "{rv of created}" },
                { "op": "replace", "path": "/status", "value": pending },
            ]),
        ),
        (
            "status merged",
            "MERGE",
            status("fieldManager=hand"),
            json!({ "status": { "jobStatus": "Stopped", "conditions": null } }),
        ),
        (
            "status put",
            "PUT",
            status("fieldManager=hand"),
            job(
                "a",
                &json!({ "metadata": { "resourceVersion": "{rv of status merged}" }, "status": { "observedGeneration": 1 } }),
            ),
        ),
        ("status taken away", "MERGE", status("fieldManager=hand"), json!({ "status": null })),
        ("status read", "GET", format!("{JOBS}/a/status"), Value::Null),
        (
            "the spec ignores status",
            "MERGE",
            format!("{JOBS}/a?fieldManager=hand"),
            json!({ "spec": { "suspend": true }, "status": { "jobStatus": "No" } }),
        ),
    ]
}

fn patches() -> Part {
    let at = |query: &str| format!("{JOBS}/b?fieldManager=hand{query}");
    vec![
        ("annotated", "MERGE", at(""), json!({ "metadata": { "annotations": { "dijob.dev/rerun": "t1" } } })),
        ("annotated again", "MERGE", at(""), json!({ "metadata": { "annotations": { "dijob.dev/rerun": "t1" } } })),
        (
            "annotation withdrawn",
            "MERGE",
            at(""),
            json!({ "metadata": { "annotations": { "dijob.dev/rerun": null } } }),
        ),
        (
            "merged under an old version",
            "MERGE",
            at(""),
            json!({ "metadata": { "resourceVersion": "{rv of annotated}" }, "spec": { "suspend": true } }),
        ),
        (
            "merged under its version",
            "MERGE",
            at(""),
            json!({ "metadata": { "resourceVersion": "{rv of annotation withdrawn}" }, "spec": { "suspend": true } }),
        ),
        ("merged back to the default", "MERGE", at(""), json!({ "spec": { "suspend": null } })),
        ("merge of an unknown field", "MERGE", at(""), json!({ "spec": { "nothing": 1 } })),
        (
            "merge of an unknown field, strictly",
            "MERGE",
            at("&fieldValidation=Strict"),
            json!({ "spec": { "nothing": 1 } }),
        ),
        ("merge of a wrong word", "MERGE", at(""), json!({ "spec": { "onUnknown": "Maybe" } })),
        ("merge into nothing", "MERGE", format!("{JOBS}/zzz?{TEST}"), json!({ "spec": { "suspend": true } })),
        (
            "merge with another uid",
            "MERGE",
            at(""),
            json!({ "metadata": { "uid": "11111111-1111-1111-1111-111111111111" } }),
        ),
        (
            "operations after a test",
            "JSON",
            at(""),
            json!([
                { "op": "test", "path": "/spec/diJobId", "value": 2 }, { "op": "replace", "path": "/spec/diJobId", "value": 22 },
            ]),
        ),
        (
            "a test that fails",
            "JSON",
            at(""),
            json!([
                { "op": "test", "path": "/spec/diJobId", "value": 2 }, { "op": "replace", "path": "/spec/diJobId", "value": 23 },
            ]),
        ),
        ("operations on nothing", "JSON", at(""), json!([{ "op": "remove", "path": "/spec/absent" }])),
        (
            "an added finalizer",
            "JSON",
            at(""),
            json!([{ "op": "add", "path": "/metadata/finalizers", "value": ["test.dev/one", "test.dev/two"] }]),
        ),
        (
            "a finalizer less",
            "JSON",
            at(""),
            json!([
                { "op": "test", "path": "/metadata/finalizers/0", "value": "test.dev/one" }, { "op": "remove", "path": "/metadata/finalizers/0" },
            ]),
        ),
    ]
}

fn puts() -> Part {
    let lease = |rv: &str, holder: &str| {
        let mut lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "leader" },
            "spec": {
                "holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 1,
                "acquireTime": "2026-11-24T10:00:00.000000Z", "renewTime": "2026-11-24T10:00:00.000000Z",
            },
        });
        if !rv.is_empty() {
            lease["metadata"]["resourceVersion"] = rv.into();
        }
        lease
    };
    let put = format!("{LEASES}/leader?{TEST}");
    let placeholder = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "leader" },
        "spec": { "leaseDurationSeconds": 1, "leaseTransitions": 0 },
    });
    let mut known = lease("{rv of lease placed}", "x");
    known["metadata"]["uid"] = "{uid of lease placed}".into();
    vec![
        (
            "put",
            "PUT",
            format!("{JOBS}/c?{TEST}"),
            job(
                "c",
                &json!({ "metadata": { "resourceVersion": "{rv of unknown field pruned}" }, "spec": { "diJobId": 33 } }),
            ),
        ),
        (
            "put stale",
            "PUT",
            format!("{JOBS}/c?{TEST}"),
            job(
                "c",
                &json!({ "metadata": { "resourceVersion": "{rv of unknown field pruned}" }, "spec": { "diJobId": 34 } }),
            ),
        ),
        ("put without a version", "PUT", format!("{JOBS}/c?{TEST}"), job("c", &json!({ "spec": { "diJobId": 34 } }))),
        (
            "put with another uid",
            "PUT",
            format!("{JOBS}/c?{TEST}"),
            job(
                "c",
                &json!({ "metadata": { "resourceVersion": "{rv of put}", "uid": "11111111-1111-1111-1111-111111111111" }, "spec": { "diJobId": 34 } }),
            ),
        ),
        (
            "put of nothing there",
            "PUT",
            format!("{JOBS}/zzz?{TEST}"),
            job("zzz", &json!({ "metadata": { "resourceVersion": "1" }, "spec": { "diJobId": 34 } })),
        ),
        ("put under another name", "PUT", format!("{JOBS}/c?{TEST}"), job("b", &json!({ "spec": { "diJobId": 34 } }))),
        (
            "put as it is",
            "PUT",
            format!("{JOBS}/c?{TEST}"),
            job("c", &json!({ "metadata": { "resourceVersion": "{rv of put}" }, "spec": { "diJobId": 33 } })),
        ),
        ("no lease", "GET", format!("{LEASES}/leader"), Value::Null),
        ("lease placed", "POST", format!("{LEASES}?{TEST}"), placeholder.clone()),
        ("lease placed by another too", "POST", format!("{LEASES}?{TEST}"), placeholder),
        ("lease taken", "PUT", put.clone(), lease("{rv of lease placed}", "one")),
        ("lease taken by another too", "PUT", put.clone(), lease("{rv of lease placed}", "two")),
        ("lease without a version", "PUT", put.clone(), lease("", "two")),
        ("lease put as it is", "PUT", put.clone(), lease("{rv of lease taken}", "one")),
        ("lease deleted", "DELETE", format!("{LEASES}/leader"), Value::Null),
        ("lease of before put", "PUT", put.clone(), known),
        ("lease put without uid", "PUT", put, lease("", "three")),
    ]
}

fn deletions() -> Part {
    let at = format!("{JOBS}/b");
    let options = |field: &str, value: &str| json!({ "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": { field: value } });
    vec![
        ("delete under another uid", "DELETE", at.clone(), options("uid", "11111111-1111-1111-1111-111111111111")),
        ("delete under an old version", "DELETE", at.clone(), options("resourceVersion", "{rv of annotated}")),
        ("dry run of a deletion", "DELETE", format!("{at}?dryRun=All"), Value::Null),
        ("marked for deletion", "DELETE", at.clone(), Value::Null),
        ("marked already", "DELETE", at.clone(), Value::Null),
        ("changed while it goes", "MERGE", format!("{at}?fieldManager=hand"), json!({ "spec": { "suspend": true } })),
        (
            "the mark stays",
            "MERGE",
            format!("{at}?fieldManager=hand"),
            json!({ "metadata": { "deletionTimestamp": null } }),
        ),
        (
            "a new finalizer comes too late",
            "MERGE",
            format!("{at}?fieldManager=hand"),
            json!({ "metadata": { "finalizers": ["test.dev/two", "test.dev/three"] } }),
        ),
        (
            "the last finalizer",
            "MERGE",
            format!("{at}?fieldManager=hand"),
            json!({ "metadata": { "finalizers": null } }),
        ),
        ("gone", "GET", at.clone(), Value::Null),
        ("deleted twice", "DELETE", at, Value::Null),
        ("deleted at once", "DELETE", format!("{JOBS}/c"), options("uid", "{uid of put}")),
        ("made again", "POST", format!("{JOBS}?{TEST}"), job("c", &json!({ "spec": { "diJobId": 3 } }))),
    ]
}

fn built_in() -> Part {
    let secret =
        |data: Value| json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "key" }, "data": data });
    let event = |name: &str, note: &str| {
        json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": { "name": name }, "type": "Normal",
            "reason": "Started", "note": note, "action": "Reconcile", "eventTime": "2026-11-24T10:00:00.000000Z",
            "regarding": { "apiVersion": "dijob.dev/v1alpha1", "kind": "DataIntegrationJob", "name": "a", "namespace": "conformance" },
            "reportingController": "dijob.dev/dijob-operator", "reportingInstance": "pod",
        })
    };
    vec![
        ("no secret", "GET", format!("{SECRETS}/key"), Value::Null),
        (
            "secret applied",
            "APPLY",
            format!("{SECRETS}/key?fieldManager=user&force=true"),
            secret(json!({ "id": "YQ==", "secret": "Yg==" })),
        ),
        (
            "secret with a key less",
            "APPLY",
            format!("{SECRETS}/key?fieldManager=user&force=true"),
            secret(json!({ "id": "YQ==" })),
        ),
        ("secret merged", "MERGE", format!("{SECRETS}/key?{TEST}"), json!({ "data": { "id": "Yw==" } })),
        ("secret put without a version", "PUT", format!("{SECRETS}/key?{TEST}"), secret(json!({ "id": "ZA==" }))),
        (
            "secret put stale",
            "PUT",
            format!("{SECRETS}/key?{TEST}"),
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "key", "resourceVersion": "{rv of secret applied}" } }),
        ),
        (
            "secret in plain text",
            "POST",
            format!("{SECRETS}?{TEST}"),
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "plain" }, "stringData": { "id": "a" } }),
        ),
        ("secret deleted", "DELETE", format!("{SECRETS}/key"), Value::Null),
        ("secrets listed", "GET", SECRETS.into(), Value::Null),
        ("event", "POST", format!("{EVENTS}?{TEST}"), event("a.1", "it started")),
        ("event twice", "POST", format!("{EVENTS}?{TEST}"), event("a.1", "it started")),
        ("a note too long", "POST", format!("{EVENTS}?{TEST}"), event("a.2", &"x".repeat(1025))),
        (
            "an event in another namespace than its object",
            "POST",
            format!("/apis/events.k8s.io/v1/namespaces/default/events?{TEST}"),
            event("a.3", "x"),
        ),
    ]
}

fn lists() -> Part {
    vec![
        ("all", "GET", JOBS.into(), Value::Null),
        ("all of all namespaces", "GET", "/apis/dijob.dev/v1alpha1/dataintegrationjobs?limit=500".into(), Value::Null),
        ("one page", "GET", format!("{JOBS}?limit=1"), Value::Null),
        (
            "a new one between two pages",
            "POST",
            format!("{JOBS}?{TEST}"),
            job("aa", &json!({ "spec": { "diJobId": 3 } })),
        ),
        ("the next page", "GET", format!("{JOBS}?limit=1&continue={{continue of one page}}"), Value::Null),
        ("the last page", "GET", format!("{JOBS}?limit=5&continue={{continue of the next page}}"), Value::Null),
        ("a broken page", "GET", format!("{JOBS}?continue=nonsense"), Value::Null),
        ("by label", "GET", format!("{JOBS}?labelSelector=team%3Dx"), Value::Null),
        ("by name", "GET", format!("{JOBS}?fieldSelector=metadata.name%3Da"), Value::Null),
        ("none of them", "GET", format!("{JOBS}?labelSelector=team%3Dnone"), Value::Null),
        ("none yet", "GET", "/apis/dijob.dev/v1alpha1/namespaces/default/dataintegrationjobs".into(), Value::Null),
    ]
}

fn watches() -> Part {
    let watch = |rest: &str| format!("{JOBS}?watch=true&timeoutSeconds=15{rest}");
    vec![
        ("before the watch", "GET", JOBS.into(), Value::Null),
        (
            "watched: made",
            "POST",
            format!("{JOBS}?{TEST}"),
            job("w", &json!({ "spec": { "diJobId": 7 }, "metadata": { "labels": { "l": "1" } } })),
        ),
        ("watched: changed", "MERGE", format!("{JOBS}/w?{TEST}"), json!({ "spec": { "suspend": true } })),
        (
            "watched: its status",
            "APPLY",
            format!("{JOBS}/w/status?{OPERATOR}"),
            job("w", &json!({ "status": { "observedGeneration": 2 } })),
        ),
        (
            "watched: another label",
            "MERGE",
            format!("{JOBS}/w?{TEST}"),
            json!({ "metadata": { "labels": { "l": "2" } } }),
        ),
        ("watched: deleted", "DELETE", format!("{JOBS}/w"), Value::Null),
        ("what the watch tells", "WATCH 5", watch("&resourceVersion={rv of before the watch}"), Value::Null),
        (
            "what a watch of one label tells",
            "WATCH 4",
            watch("&resourceVersion={rv of before the watch}&labelSelector=l%3D1"),
            Value::Null,
        ),
        (
            "a watch of one object",
            "WATCH 5",
            watch("&resourceVersion={rv of before the watch}&fieldSelector=metadata.name%3Dw"),
            Value::Null,
        ),
        ("a watch that starts with all", "WATCH 5", watch("&resourceVersion=0"), Value::Null),
        (
            "a watch that tells where all ends",
            "WATCH 6",
            watch("&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"),
            Value::Null,
        ),
        ("watch from a version long gone", "WATCH 1", watch("&resourceVersion=1"), Value::Null),
        ("a watch from no version", "GET", format!("{JOBS}?watch=true&resourceVersion=x"), Value::Null),
        (
            "a list from the future",
            "GET",
            format!("{JOBS}?resourceVersion=99999999&resourceVersionMatch=NotOlderThan"),
            Value::Null,
        ),
    ]
}
