#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha1::Sha1;

use super::answer::{Hint, Oddity, Refusal, Reply};
use super::identity::RoleArn;
use super::jobs::{Console, Course, ForcedRerun, JobRules, JobStatus, StartOnRunning};
use super::ledger::Execution;
use super::signature::Parameters;
use super::switches::{Denial, Failures, Fault, Neighbour, NonceScope, Permissions, When};
use super::throttle::{DayTurn, Limits, Rate, Window};
use super::*;

#[path = "delivery_tests.rs"]
mod delivery;
#[path = "metadata_tests.rs"]
mod metadata;
#[path = "quota_tests.rs"]
mod quota;
#[path = "sts_tests.rs"]
mod sts;
#[path = "versions_tests.rs"]
mod versions;

const JOB: i64 = 11_743;

fn at(seconds: i64) -> Timestamp {
    Timestamp::constant(1_767_323_045, 0) + SignedDuration::from_secs(seconds)
}

fn minutes(minutes: i64) -> SignedDuration {
    SignedDuration::from_mins(minutes)
}

fn cloud(switches: Switches) -> Cloud {
    let mut cloud = Cloud::new(switches, 7);
    for (id, account) in [("key", "main"), ("key2", "main"), ("stranger", "other")] {
        cloud.put_key(id, Key { account: account.to_owned(), secret: format!("secret of {id}") });
    }
    cloud.put_job(at(-60), JOB, &JobPatch { account: Some("main".to_owned()), ..JobPatch::default() });
    cloud
}

/// A call in order, but for what a test changes before it is signed, or after.
#[derive(Clone)]
struct Call {
    action: &'static str,
    key: &'static str,
    nonce: String,
    signed: String,
    version: &'static str,
    body: String,
    content_type: &'static str,
    extra: &'static str,
}

fn call(action: &'static str, nonce: &(impl ToString + ?Sized), signed: Timestamp) -> Call {
    Call {
        action,
        key: "key",
        nonce: nonce.to_string(),
        signed: signed.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        version: "2020-05-18",
        body: format!("DIJobId={JOB}"),
        content_type: "application/x-www-form-urlencoded",
        extra: "",
    }
}

fn start(nonce: &(impl ToString + ?Sized), signed: Timestamp) -> Call {
    call("StartDIJob", nonce, signed)
}

fn read(nonce: &(impl ToString + ?Sized), signed: Timestamp) -> Call {
    call("GetDIJob", nonce, signed)
}

impl Call {
    fn request(&self) -> Request {
        let Self { action, key, nonce, signed, version, body, content_type, extra } = self;
        let mut query = format!(
            "Action={action}&Version={version}&Format=json&AccessKeyId={key}&SignatureMethod=HMAC-SHA1\
             &SignatureVersion=1.0&SignatureNonce={nonce}&Timestamp={}{extra}",
            signed.replace(':', "%3A")
        );
        let parameters = Parameters::parse(query.as_bytes(), body.as_bytes()).unwrap();
        let mut mac = Hmac::<Sha1>::new_from_slice(format!("secret of {key}&").as_bytes()).unwrap();
        mac.update(parameters.string_to_sign("POST").as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes()).replace('+', "%2B").replace('/', "%2F");
        query.push_str("&Signature=");
        query.push_str(&signature.replace('=', "%3D"));
        Request {
            connection: 1,
            first_byte: at(0),
            method: "POST".to_owned(),
            path: "/".to_owned(),
            query,
            content_type: Some((*content_type).to_owned()),
            host: "dataworks.cn-shanghai.aliyuncs.com".to_owned(),
            body: body.clone().into_bytes(),
        }
    }

    fn with(self, change: impl FnOnce(&mut Self)) -> Self {
        let mut changed = self;
        change(&mut changed);
        changed
    }
}

fn reply(cloud: &mut Cloud, now: Timestamp, request: impl Into<Arrival>) -> Reply {
    match cloud.receive(now, request).outgoing {
        Outgoing::Reply(reply) => reply,
        other @ (Outgoing::Drop | Outgoing::Hang) => panic!("{other:?} instead of an answer"),
    }
}

fn body(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap()
}

/// `Code` of the answer, or `ok`.
fn code(cloud: &mut Cloud, now: Timestamp, call: &Call) -> String {
    code_of(&reply(cloud, now, call.request()))
}

fn code_of(reply: &Reply) -> String {
    if reply.header("content-type").unwrap().starts_with("text/html") {
        return format!("html {}", reply.status);
    }
    body(reply)["Code"].as_str().map_or_else(|| "ok".to_owned(), |code| format!("{code} {}", reply.status))
}

#[test]
fn a_start_in_order_is_accepted_executed_once_and_seen() {
    let mut cloud = cloud(Switches::default());
    let settings = "&ForceToRerun=true&RealtimeStartSettings=%7B%22StartTime%22%3A1671516776%7D";
    let started = reply(&mut cloud, at(0), start("n1", at(0)).with(|call| call.body.push_str(settings)).request());
    assert_eq!(started.status, 200);
    let seen = body(&reply(&mut cloud, at(2), read("n2", at(2)).request()));
    assert_ne!(seen["RequestId"], body(&started)["RequestId"]);
    let data = seen["Data"].as_object().unwrap();
    assert_eq!((&data["DIJobId"], &data["JobStatus"]), (&json!(JOB), &json!("Running")));
    assert_eq!(data["StartedTime"], json!(at(0).as_second()));
    let execution = Execution { seq: 0, at: at(0), forced: true, offset: Some(1_671_516_776), is_restart: false };
    assert_eq!(cloud.ledger().executions(JOB), [execution]);
    let entry = cloud.ledger().starts(JOB).next().unwrap();
    assert_eq!((&entry.verdict, entry.executed, entry.status), (&Verdict::Accepted, Some(at(0)), Some(200)));
    assert_eq!(entry.parameters["ForceToRerun"], "true");
    assert_eq!((entry.window_count, entry.day_count), (Some(1), Some(1)));
}

#[test]
fn each_thing_that_is_wrong_has_its_own_code_and_executes_nothing() {
    let fine = || start("n", at(0));
    let rows = [
        ("StopDIJob", fine().with(|call| call.action = "StopDIJob"), "InvalidAction.NotFound 404"),
        ("old version", fine().with(|call| call.version = "2018-06-01"), "NoSuchVersion 400"),
        ("unknown key", fine().with(|call| call.key = "nobody"), "InvalidAccessKeyId.NotFound 404"),
        ("too old", start("n", at(-901)), "InvalidTimeStamp.Expired 400"),
        ("too new", start("n", at(901)), "InvalidTimeStamp.Expired 400"),
        (
            "fraction",
            fine().with(|call| call.signed = "2026-01-02T03:04:05.0Z".to_owned()),
            "InvalidTimeStamp.Format 400",
        ),
        ("no nonce", start("", at(0)), "MissingSignatureNonce 400"),
        ("unknown job", fine().with(|call| call.body = "DIJobId=5".to_owned()), "500130 404"),
        ("another account's job", fine().with(|call| call.key = "stranger"), "500130 404"),
        ("no number", fine().with(|call| call.body = "DIJobId=x".to_owned()), "InvalidDIJobId 400"),
        ("body not a form", fine().with(|call| call.content_type = "text/plain"), "SignatureDoesNotMatch 400"),
        (
            "settings not JSON",
            fine().with(|call| call.body.push_str("&RealtimeStartSettings=%7B")),
            "InvalidRealtimeStartSettings 400",
        ),
        (
            "neither true nor false",
            fine().with(|call| call.body.push_str("&ForceToRerun=yes")),
            "InvalidForceToRerun 400",
        ),
    ];
    for (why, call, expected) in rows {
        let mut cloud = cloud(Switches::default());
        assert_eq!(code(&mut cloud, at(0), &call), expected, "{why}");
        assert!(cloud.ledger().executions(JOB).is_empty(), "{why}");
    }
    let mut cloud = cloud(Switches::default());
    let mut forged = fine().request();
    forged.body = b"DIJobId=11744".to_vec();
    let refused = reply(&mut cloud, at(0), forged);
    let answer = body(&refused);
    assert_eq!(code_of(&refused), "SignatureDoesNotMatch 400");
    let message = answer["Message"].as_str().unwrap();
    assert!(message.contains("server string to sign is:POST&%2F&AccessKeyId%3Dkey%26"), "{message}");
    assert!(message.contains("DIJobId%3D11744%26"), "{message}");
}

#[test]
fn a_nonce_is_refused_for_a_quarter_of_an_hour_per_key() {
    let mut first = cloud(Switches::default());
    assert_eq!(code(&mut first, at(0), &start("n", at(0))), "ok");
    assert_eq!(code(&mut first, at(899), &start("n", at(899))), "SignatureNonceUsed 400");
    assert_eq!(code(&mut first, at(899), &start("n", at(899)).with(|call| call.key = "key2")), "ok");
    assert_eq!(code(&mut first, at(900), &start("n", at(900))), "ok");

    let mut shared = cloud(Switches { nonce_scope: NonceScope::AllKeys, ..Switches::default() });
    assert_eq!(code(&mut shared, at(0), &start("n", at(0))), "ok");
    assert_eq!(code(&mut shared, at(0), &start("n", at(0)).with(|call| call.key = "key2")), "SignatureNonceUsed 400");

    let mut off = cloud(Switches { nonce_memory: None, ..Switches::default() });
    assert_eq!([0, 0].map(|t| code(&mut off, at(t), &start("n", at(t)))), ["ok", "ok"]);
}

#[test]
fn a_server_whose_clock_is_wrong_says_so_in_its_date_and_judges_by_it() {
    let mut cloud = cloud(Switches { clock_offset: minutes(60), ..Switches::default() });
    let refused = reply(&mut cloud, at(0), start("a", at(0)).request());
    assert_eq!(code_of(&refused), "InvalidTimeStamp.Expired 400");
    assert_eq!(refused.header("date"), Some("Fri, 02 Jan 2026 04:04:05 GMT"));
    assert_eq!(code(&mut cloud, at(0), &start("b", at(3600))), "ok");
}

#[test]
fn permissions_can_leave_starts_alone() {
    let rows = [
        (Permissions::NoReads(Denial::Forbidden), "Forbidden.RAM 403", "InvalidAction.NotFound 404"),
        (Permissions::NoReads(Denial::Numeric), "403030 403", "InvalidAction.NotFound 404"),
        (Permissions::NoReads(Denial::Html), "html 404", "InvalidAction.NotFound 404"),
        (Permissions::StartOnly(Denial::Forbidden), "Forbidden.RAM 403", "Forbidden.RAM 403"),
        (Permissions::StartOnly(Denial::Html), "html 404", "html 404"),
    ];
    for (permissions, of_read, of_list) in rows {
        let mut cloud = cloud(Switches { permissions, ..Switches::default() });
        assert_eq!(code(&mut cloud, at(0), &read("a", at(0))), of_read);
        assert_eq!(code(&mut cloud, at(0), &call("ListDIJobs", "b", at(0))), of_list);
        assert_eq!(code(&mut cloud, at(0), &start("c", at(0))), "ok");
    }
}

#[test]
fn a_start_on_a_running_job_follows_the_rule_and_the_ledger_tells() {
    let refusal = Refusal::of("DIJob.NotAtRest");
    let rows = [
        (StartOnRunning::NoOp, "ok", Some(Effect::NoOp), 1),
        (StartOnRunning::Error(refusal), "DIJob.NotAtRest 400", None, 1),
        (StartOnRunning::Restart, "ok", Some(Effect::Restarted), 2),
    ];
    for (start_on_running, expected, effect, executions) in rows {
        let mut cloud = cloud(Switches::default());
        cloud.switches.rules_of.insert(JOB, JobRules { start_on_running, ..JobRules::default() });
        assert_eq!(code(&mut cloud, at(0), &start("a", at(0))), "ok");
        assert_eq!(code(&mut cloud, at(5), &start("b", at(5))), expected);
        assert_eq!(cloud.ledger().entries().last().unwrap().effect, effect);
        assert_eq!(cloud.ledger().executions(JOB).len(), executions);
    }
}

#[test]
fn a_person_s_start_is_no_execution_of_a_call() {
    let mut cloud = cloud(Switches::default());
    cloud.put_job(at(0), JOB, &JobPatch { console: Some(Console::Start), ..JobPatch::default() });
    cloud.advance(at(1));
    assert_eq!(cloud.job(JOB).unwrap().status, JobStatus::Running);
    assert!(cloud.ledger().executions(JOB).is_empty());
    assert!(cloud.remove_job(JOB));
    assert_eq!(code(&mut cloud, at(2), &read("a", at(2))), "500130 404");
    cloud.switches.auto_create = true;
    assert_eq!(code(&mut cloud, at(2), &read("b", at(2))), "ok");
}

#[test]
fn one_long_step_gives_the_ledger_of_many_small_ones() {
    let run = |steps: &[i64]| {
        let mut cloud = cloud(Switches::default());
        let late = |behaviour| Fault { calls: Some(1), behaviour, ..Fault::default() };
        cloud.switches.faults = vec![
            late(Behaviour::late_execution(minutes(7))),
            late(Behaviour::late_arrival(minutes(3))),
            late(Behaviour::late_execution(minutes(3))),
        ];
        cloud.switches.rules.start_on_running = StartOnRunning::Restart;
        for nonce in ["a", "b", "c"] {
            cloud.receive(at(0), start(nonce, at(0)).request());
        }
        for step in steps {
            cloud.advance(at(*step));
        }
        (cloud.ledger().entries().to_vec(), cloud.ledger().executions(JOB).to_vec(), cloud.job(JOB).cloned())
    };
    let steps: Vec<i64> = (0..=600).collect();
    let (entries, executions, job) = run(&steps);
    assert_eq!(executions.len(), 3);
    assert_eq!((entries, executions, job), run(&[600]));
}

#[test]
fn the_ledger_keeps_no_secret() {
    let mut cloud = cloud(Switches::default());
    let call = start("n", at(0)).with(|call| call.extra = "&SecurityToken=a-security-token");
    let request = call.request();
    let signature = Parameters::parse(request.query.as_bytes(), b"").unwrap().get("Signature").unwrap().to_owned();
    assert_eq!(code_of(&reply(&mut cloud, at(0), request)), "ok");
    let mut forged = call.request();
    forged.body = b"DIJobId=1".to_vec();
    reply(&mut cloud, at(0), forged);
    let ledger = serde_json::to_string(cloud.ledger().entries()).unwrap();
    let shown = format!("{ledger}{cloud:?}");
    for secret in ["secret of key", "a-security-token", signature.as_str()] {
        assert!(!shown.contains(secret), "{secret}");
    }
    assert_eq!(cloud.ledger().entries().len(), 2);
}

#[test]
fn failures_of_dataworks_itself_look_as_switched_and_those_of_the_gateway_do_not() {
    let rows = [
        (Failures::ByStatus, None, "500130 404"),
        (Failures::ByStatus, Some(400), "500130 400"),
        (Failures::ByStatus, Some(500), "500130 500"),
        (Failures::BySuccess, Some(500), "500130 200"),
    ];
    for (failures, numeric_status, expected) in rows {
        let mut cloud = cloud(Switches { failures, numeric_status, ..Switches::default() });
        let unknown = read("a", at(0)).with(|call| call.body = "DIJobId=5".to_owned());
        let refused = reply(&mut cloud, at(0), unknown.request());
        assert_eq!(code_of(&refused), expected);
        assert_eq!(body(&refused)["Success"] == json!(false), refused.status == 200);
        let invalid = if failures == Failures::BySuccess { "InvalidDIJobId 200" } else { "InvalidDIJobId 400" };
        assert_eq!(code(&mut cloud, at(0), &read("b", at(0)).with(|call| call.body = "DIJobId=x".to_owned())), invalid);
        let stranger = read("c", at(0)).with(|call| call.key = "nobody");
        assert_eq!(code(&mut cloud, at(0), &stranger), "InvalidAccessKeyId.NotFound 404");
    }
}

#[test]
fn a_person_s_starts_stand_in_the_ledger_too() {
    let mut cloud = cloud(Switches::default());
    let by_hand = |act| JobPatch { console: Some(act), ..JobPatch::default() };
    cloud.put_job(at(0), JOB, &by_hand(Console::Start));
    cloud.put_job(at(5), JOB, &by_hand(Console::Start));
    cloud.put_job(at(6), JOB, &by_hand(Console::Rerun));
    cloud.put_job(at(7), JOB, &by_hand(Console::Stop));
    let starts = [ByHand { at: at(0), is_restart: false }, ByHand { at: at(6), is_restart: true }];
    assert_eq!(cloud.ledger().by_hand(JOB), starts);
}

#[test]
fn a_job_that_vanished_is_not_there_for_anybody() {
    let mut cloud = cloud(Switches::default());
    cloud.switches.rules.course = Course::Vanishes(minutes(1));
    assert_eq!(code(&mut cloud, at(0), &start("a", at(0))), "ok");
    assert_eq!(code(&mut cloud, at(60), &read("b", at(60))), "ok");
    assert_eq!(code(&mut cloud, at(61), &read("c", at(61))), "500130 404");
    assert_eq!((cloud.job(JOB), cloud.ledger().executions(JOB).len()), (None, 1));
}

#[test]
fn a_forced_start_follows_its_own_rule_on_a_running_job() {
    let mut cloud = cloud(Switches::default());
    let forced = |nonce: &str, t| start(nonce, at(t)).with(|call| call.body.push_str("&ForceToRerun=true"));
    assert_eq!(code(&mut cloud, at(0), &start("a", at(0))), "ok");
    assert_eq!(code(&mut cloud, at(5), &forced("b", 5)), "ok");
    cloud.switches.rules.forced_rerun = ForcedRerun::StopFirst(Refusal::of("DIJob.StopFirst"));
    assert_eq!(code(&mut cloud, at(9), &forced("c", 9)), "DIJob.StopFirst 400");
    let restarts: Vec<_> = cloud.ledger().executions(JOB).iter().map(|execution| execution.is_restart).collect();
    assert_eq!(restarts, [false, true]);
}
