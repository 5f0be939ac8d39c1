//! Objects that are huge, deep or at the edge of their types.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;

use futures::future::join_all;
use http::Request;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::support::world::tenant::Tenant;
use crate::support::world::{is_current, is_ready};
use crate::{cluster, operator_of};

/// What becomes of an object.
enum Fate {
    /// The API server answers with one of these, and keeps nothing.
    Refused(&'static [u16]),
    /// It is kept, and started once.
    Started,
}

#[expect(clippy::disallowed_methods, reason = "the switch of the full run")]
fn is_full_run() -> bool {
    std::env::var_os("OUTAGES").is_some()
}

/// So many short entries.
fn entries(count: usize, prefix: &str, value: &str) -> Value {
    json!((0..count).map(|n| (format!("{prefix}{n}"), value.to_owned())).collect::<BTreeMap<_, _>>())
}

/// A JSON text: maps in maps, around a number.
fn nest(depth: usize) -> String {
    format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth))
}

/// The JSON text of a job: metadata and spec as they are, so that numbers no parser of ours would write can be tried.
fn text(name: &str, metadata: &Value, spec: &str) -> String {
    let mut metadata = metadata.clone();
    metadata["name"] = json!(name);
    format!(r#"{{"apiVersion":"dijob.dev/v1alpha1","kind":"DataIntegrationJob","metadata":{metadata},"spec":{spec}}}"#)
}

/// Sends it as it is; the status of the answer.
async fn create(tenant: &Tenant, body: String) -> u16 {
    let path = format!("/apis/dijob.dev/v1alpha1/namespaces/{}/dataintegrationjobs", tenant.namespace);
    let request =
        Request::post(path).header("content-type", "application/json").body(body.into_bytes().into()).unwrap();
    tenant.client.send(request).await.unwrap().status().as_u16()
}

const OUTSIZE: Fate = Fate::Refused(&[400, 413, 422, 500]);
const INVALID: Fate = Fate::Refused(&[400, 422]);

/// Name, metadata, spec with `ID` for the job's number, and what becomes of it.
fn objects() -> Vec<(&'static str, Value, String, Fate)> {
    let none = || json!({});
    let plain = || r#"{"diJobId":ID}"#.to_owned();
    let annotation = |name: &str, value: &str| json!({ "annotations": { name: value } });
    let field = |value: &str| format!(r#"{{"diJobId":ID,"unknown":{value}}}"#);
    let id = |id: &str| format!(r#"{{"diJobId":{id}}}"#);
    let start_time = |t: &str| format!(r#"{{"diJobId":ID,"realtimeStartSettings":{{"startTime":{t}}}}}"#);
    let account = |name: &str| json!({ "diJobId": 1, "accountRef": { "name": name } }).to_string();
    let finalizers: Vec<String> = (0..500).map(|n| format!("test.dev/{n}")).collect();
    let quoted = |length: usize| format!("\"{}\"", "x".repeat(length));
    vec![
        // Huge.
        ("spec-of-1500-kb", none(), field(&quoted(1_500_000)), Fate::Started), // pruned: the field is not there
        ("spec-of-4-mb", none(), field(&quoted(4_000_000)), OUTSIZE),
        ("token-of-1500-kb", none(), format!(r#"{{"diJobId":ID,"rerunToken":{}}}"#, quoted(1_500_000)), INVALID),
        ("account-of-1500-kb", none(), account(&"x".repeat(1_500_000)), INVALID),
        ("annotation-of-1500-kb", annotation("a", &"x".repeat(1_500_000)), plain(), INVALID),
        ("annotation-of-255-kb", annotation("a", &"x".repeat(255_000)), plain(), Fate::Started),
        ("rerun-of-255-kb", annotation("dijob.dev/rerun", &"x".repeat(255_000)), plain(), Fate::Started),
        ("labels-10000", json!({ "labels": entries(10_000, "label", "value") }), plain(), Fate::Started),
        ("finalizers-500", json!({ "finalizers": finalizers }), plain(), Fate::Started),
        // Deep.
        ("deep-100000", none(), field(&nest(100_000)), INVALID),
        ("deep-5000", none(), field(&nest(5_000)), Fate::Started),
        (
            "deep-in-text",
            annotation("kubectl.kubernetes.io/last-applied-configuration", &nest(20_000)),
            plain(),
            Fate::Started,
        ),
        // The edges of numbers.
        ("most", none(), id("9223372036854775807"), Fate::Started),
        ("more-than-most", none(), id("9223372036854775808"), INVALID),
        ("far-more", none(), id("1e400"), INVALID),
        ("least", none(), id("-9223372036854775808"), INVALID),
        ("zero", none(), id("0"), INVALID),
        ("half", none(), id("1.5"), INVALID),
        ("time-most", none(), start_time("9223372036854775807"), INVALID),
        ("time-least", none(), start_time("-9223372036854775808"), INVALID),
        // Texts.
        ("nul-in-token", none(), r#"{"diJobId":ID,"rerunToken":"a\u0000b"}"#.to_owned(), INVALID),
        ("bidi-in-token", none(), r#"{"diJobId":ID,"rerunToken":"a\u202eb"}"#.to_owned(), INVALID),
        ("nul-in-rerun", annotation("dijob.dev/rerun", "a\0b"), plain(), Fate::Started),
        ("bidi-in-rerun", annotation("dijob.dev/rerun", "a\u{202e}b\u{2066}"), plain(), Fate::Started),
        ("lines-in-rerun", annotation("dijob.dev/rerun", "a\r\nlevel=ERROR"), plain(), Fate::Started),
        ("half-a-character", none(), r#"{"diJobId":ID,"rerunToken":"\ud800"}"#.to_owned(), INVALID),
    ]
}

/// `OUTAGES=1 cargo test --test tenancy` tries 100,000 labels too.
///
/// Covers: 34p.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_huge_deep_or_at_an_edge_is_refused_or_works_and_disturbs_no_other() {
    let cluster = tokio::task::spawn_blocking(cluster).await.unwrap();
    let tenant = Tenant::new(cluster, "sizes").await.with_account().await;
    let (operator, _proxy) = operator_of("sizes").await;
    tenant.apply("sound", &json!({ "diJobId": 1 })).await;
    tenant.until_ready("sound").await;

    let mut objects = objects();
    if is_full_run() {
        // The API server thinks for 10 s and more before it refuses them.
        let labels = json!({ "labels": entries(100_000, "label", "value") });
        objects.push(("labels-100000", labels, r#"{"diJobId":ID}"#.to_owned(), OUTSIZE));
    }
    let long_name = "n".repeat(253);
    assert_eq!(create(&tenant, text(&long_name, &json!({}), r#"{"diJobId":2}"#)).await, 201);
    let mut kept = vec![(long_name.as_str(), 2)];
    for ((name, metadata, spec, fate), id) in objects.iter().zip(10_i64..) {
        let answered = create(&tenant, text(name, metadata, &spec.replace("ID", &id.to_string()))).await;
        match fate {
            Fate::Refused(with) => assert!(with.contains(&answered), "{name}: {answered}"),
            Fate::Started => {
                assert_eq!(answered, 201, "{name}");
                kept.push((name, if *name == "most" { i64::MAX } else { id }));
            }
        }
    }
    join_all(kept.iter().map(async |(name, id)| {
        let job = tenant.until_ready(name).await;
        assert_eq!(tenant.cloud.executions(*id).len(), 1, "{name}");
        let tokens = &job.status.as_ref().unwrap().handled_rerun_tokens;
        assert!(tokens.iter().all(|token| token.chars().count() <= 256 && !token.chars().any(char::is_control)));
    }))
    .await;
    tenant.until_event(&long_name, "StartConfirmed").await;

    // No name turns around what is told of it.
    let strange = "key\u{202e}\u{2066}\n\u{7}".to_owned() + &"y".repeat(200);
    let spec = json!({ "diJobId": 3, "accountRef": { "name": strange } }).to_string();
    assert_eq!(create(&tenant, text("strange", &json!({}), &spec)).await, 422);

    // Others go on, also a new one, in a process that is the same.
    tenant.annotate("sound", &json!({ "dijob.dev/rerun": "after" })).await;
    let handled = |job: &dijob_operator::api::DataIntegrationJob| {
        is_current(job) && is_ready(job) && job.status.as_ref().unwrap().handled_rerun_tokens == ["after"]
    };
    tenant.until("sound", "the token", handled).await;
    assert_eq!(tenant.cloud.executions(1).len(), 2);
    assert_eq!(operator.get("/healthz").0, 200);
    assert_eq!(operator.count_lines(|line| line["message"].as_str().is_some_and(|m| m.contains("panic"))), 0);
    for line in operator.log() {
        assert!(line.len() < 16_384, "a line of {} bytes", line.len());
        assert!(serde_json::from_str::<Value>(&line).is_ok(), "{line}");
    }
    for (name, _) in kept {
        let _ = tenant.jobs.delete(name, &DeleteParams::default()).await;
    }
    tenant.end(&[&operator]).await;
}
