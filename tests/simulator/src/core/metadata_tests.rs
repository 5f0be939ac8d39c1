//! The metadata service of a machine: whom it gives a key of its role, and that no key it or STS lends is shown elsewhere.

use super::sts::{PROVIDER, ROLE, assume, borrow, claims, jwt, lent, trusting, with_token};
use super::versions::{answer, outcome};
use super::*;
use crate::core::call::SignatureKind::V1;
use crate::core::metadata::Metadata;

fn metadata(cloud: &mut Cloud, t: i64, method: &str, path: &str, header: Option<(&str, &str)>) -> Reply {
    let request = Request {
        method: method.to_owned(),
        path: format!("/latest/{path}"),
        host: "100.100.100.200".to_owned(),
        ..Request::default()
    };
    reply(cloud, at(t), request.with_headers(header.into_iter().collect()))
}

fn metadata_token(cloud: &mut Cloud, t: i64, seconds: &str) -> String {
    let ttl = ("X-aliyun-ecs-metadata-token-ttl-seconds", seconds);
    let told = metadata(cloud, t, "PUT", "api/token", Some(ttl));
    assert_eq!((told.status, told.header("content-type")), (200, Some("text/plain")));
    String::from_utf8(told.body).unwrap()
}

fn machine(metadata: Metadata) -> Cloud {
    let mut cloud = trusting(|_| {});
    cloud.switches.metadata = metadata;
    cloud
}

fn of_role() -> Metadata {
    Metadata { role: Some(ROLE.to_owned()), ..Metadata::default() }
}

const KEYS: &str = "meta-data/ram/security-credentials/";

#[test]
fn a_machine_tells_its_role_and_a_key_of_it_to_whoever_has_a_token() {
    let mut cloud = machine(of_role());
    let token = metadata_token(&mut cloud, 0, "21600");
    let header = Some(("x-aliyun-ecs-metadata-token", token.as_str()));
    assert_eq!(metadata(&mut cloud, 0, "GET", KEYS, header).body, b"runner");
    let told = body(&metadata(&mut cloud, 0, "GET", &format!("{KEYS}runner"), header));
    assert_eq!((&told["Code"], &told["LastUpdated"]), (&json!("Success"), &json!("2026-01-02T03:04:05Z")));
    let fields: Vec<_> = told.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["AccessKeyId", "AccessKeySecret", "Code", "Expiration", "LastUpdated", "SecurityToken"]);
    let key = lent(&told);
    assert_eq!(key.expiration, "2026-01-02T09:04:05Z");
    assert_eq!(outcome(&mut cloud, at(1), &key.start("a", 1)), "ok");
    let again = |cloud: &mut Cloud, t| lent(&body(&metadata(cloud, t, "GET", &format!("{KEYS}runner"), header)));
    assert_eq!(again(&mut cloud, 10_799).id, key.id);
    assert_ne!(again(&mut cloud, 10_800).id, key.id);
    assert_eq!(outcome(&mut cloud, at(10_801), &key.start("b", 10_801)), "ok", "the old one is good to its end");
    let actions: Vec<_> = cloud.ledger().entries().iter().filter_map(|entry| entry.action.as_deref()).collect();
    assert_eq!(actions[..4], ["MetadataToken", "MetadataRole", "MetadataKey", "StartDIJob"]);
}

#[test]
fn a_machine_tells_nothing_without_a_token_unless_switched() {
    let mut cloud = machine(of_role());
    let token = metadata_token(&mut cloud, 0, "60");
    let header = Some(("x-aliyun-ecs-metadata-token", token.as_str()));
    let runner = format!("{KEYS}runner");
    assert_eq!(metadata(&mut cloud, 0, "GET", &runner, None).status, 403);
    assert_eq!(metadata(&mut cloud, 0, "GET", &runner, Some(("x-aliyun-ecs-metadata-token", "x"))).status, 403);
    assert_eq!(metadata(&mut cloud, 59, "GET", &runner, header).status, 200);
    assert_eq!(metadata(&mut cloud, 60, "GET", &runner, header).status, 403);
    let token = metadata_token(&mut cloud, 60, "60");
    let header = Some(("x-aliyun-ecs-metadata-token", token.as_str()));
    let rows = [
        ("GET", "meta-data/instance-id", 404),
        ("GET", "meta-data/ram/security-credentials/else", 404),
        ("POST", KEYS, 405),
    ];
    for (method, path, expected) in rows {
        assert_eq!(metadata(&mut cloud, 60, method, path, header).status, expected, "{path}");
    }
    for seconds in ["0", "21601", "x"] {
        let ttl = Some(("x-aliyun-ecs-metadata-token-ttl-seconds", seconds));
        assert_eq!(metadata(&mut cloud, 60, "PUT", "api/token", ttl).status, 400, "{seconds}");
    }
    cloud.switches.metadata.needs_token = false;
    assert_eq!(metadata(&mut cloud, 60, "GET", &runner, None).status, 200);
    cloud.switches.metadata.role = None;
    assert_eq!(metadata(&mut cloud, 60, "GET", KEYS, None).status, 404);
    let fault =
        Fault { action: Some("MetadataKey".to_owned()), behaviour: Behaviour::lost_answer(), ..Fault::default() };
    cloud.switches.faults = vec![fault];
    let request = Request { method: "GET".to_owned(), path: format!("/latest/{runner}"), ..Request::default() };
    assert_eq!(cloud.receive(at(60), request).outgoing, Outgoing::Drop);
}

#[test]
fn what_is_lent_is_shown_nowhere_but_in_its_answer() {
    let mut cloud = machine(of_role());
    let token = jwt(&claims());
    let announced = jwt(&json!({"iss": "canary"}));
    cloud.announce_token(PROVIDER, &announced);
    let mine = metadata_token(&mut cloud, 0, "60");
    let header = Some(("x-aliyun-ecs-metadata-token", mine.as_str()));
    let keys = [
        borrow(&mut cloud, "a"),
        lent(&body(&reply(&mut cloud, at(0), with_token(PROVIDER, &token)))["Credentials"]),
        lent(&body(&metadata(&mut cloud, 0, "GET", &format!("{KEYS}runner"), header))),
    ];
    for (nonce, key) in (0..).zip(&keys) {
        assert_eq!(outcome(&mut cloud, at(0), &key.start(&format!("b{nonce}"), 0)), "ok");
        assert_eq!(
            outcome(&mut cloud, at(0), &key.start(&format!("c{nonce}"), 0).with(|wire| wire.signature = V1)),
            "ok"
        );
    }
    let late = Fault { behaviour: Behaviour::late_arrival(minutes(1)), ..Fault::default() };
    cloud.switches.faults = vec![late];
    cloud.receive(at(0), with_token(PROVIDER, &token));
    cloud.receive(at(0), keys[0].start("d", 0).arrival());
    let json = |value: Result<String, serde_json::Error>| value.unwrap();
    let shown = [
        format!("{cloud:?}"),
        json(serde_json::to_string(cloud.ledger().entries())),
        json(serde_json::to_string(&cloud.temporary_keys())),
        json(serde_json::to_string(&cloud.switches)),
        format!("{:?}", answer(&mut trusting(|_| {}), at(0), &assume("a"))),
    ];
    let of_keys = keys.iter().flat_map(|key| [key.secret.clone(), key.token.clone()]);
    for secret in of_keys.chain([token, announced, mine]) {
        let encoded = crate::core::signature::encode(&secret);
        for text in &shown {
            assert!(!text.contains(&secret) && !text.contains(&encoded), "{secret}");
        }
    }
}
