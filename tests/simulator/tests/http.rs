//! The simulator over real sockets, through a client that knows nothing but bytes.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::SignedDuration;
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use simulator::core::signature::Parameters;
use simulator::{
    ACCOUNT, Behaviour, Console, Fate, Hint, JobPatch, JobStatus, Ledger, Limits, Oddity, Rate, Refusal, Settings,
    SignatureKind, Simulator, Switches, Verdict,
};

const JOB: i64 = 11_743;
/// Far beyond what any wait here takes; met only by a bug.
const LONG: Duration = Duration::from_secs(20);

fn simulator() -> Simulator {
    Simulator::start(Settings::default().with_key("id", "secret").with_job(JOB)).unwrap()
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().filter_map(|line| line.split_once(": ")).find(|(n, _)| *n == name).map(|(_, value)| value)
    }
}

fn send(simulator: &Simulator, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(simulator.address()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// What the server wrote until it closed the connection; None: nothing.
fn receive(mut stream: TcpStream) -> Option<Answer> {
    let mut bytes = Vec::new();
    // A closed connection may show as a reset; what came before it counts.
    let _ = stream.read_to_end(&mut bytes);
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    Some(Answer { status, head: text, body: bytes[head + 4..].to_vec() })
}

fn call(simulator: &Simulator, action: &str, nonce: &str, secret: &str) -> String {
    let mut query = format!(
        "Action={action}&Version=2020-05-18&Format=json&AccessKeyId=id&SignatureMethod=HMAC-SHA1&SignatureVersion=1.0\
         &SignatureNonce={nonce}&Timestamp={}",
        simulator.now().strftime("%Y-%m-%dT%H%%3A%M%%3A%SZ")
    );
    let body = format!("DIJobId={JOB}");
    let parameters = Parameters::parse(query.as_bytes(), body.as_bytes()).unwrap();
    let mut mac = Hmac::<Sha1>::new_from_slice(format!("{secret}&").as_bytes()).unwrap();
    mac.update(parameters.string_to_sign("POST").as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes()).replace('+', "%2B").replace('/', "%2F");
    query.push_str("&Signature=");
    query.push_str(&signature);
    format!(
        "POST /?{query} HTTP/1.1\r\nhost: dataworks.cn-shanghai.aliyuncs.com\r\nconnection: close\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn start(simulator: &Simulator, nonce: &str) -> Option<Answer> {
    receive(send(simulator, &call(simulator, "StartDIJob", nonce, "secret")))
}

fn read(simulator: &Simulator, nonce: &str) -> Answer {
    receive(send(simulator, &call(simulator, "GetDIJob", nonce, "secret"))).unwrap()
}

/// The same start by ACS3 and the version of 2024: what is signed travels in headers.
fn acs3(simulator: &Simulator, nonce: &str, secret: &str) -> String {
    let query = format!("Id={JOB}");
    let host = "dataworks.cn-shanghai.aliyuncs.com";
    let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    let hash = hex(&Sha256::digest(b""));
    let headers = format!(
        "host:{host}\nx-acs-action:StartDIJob\nx-acs-content-sha256:{hash}\nx-acs-date:{}\n\
         x-acs-signature-nonce:{nonce}\nx-acs-version:2024-05-18\n",
        simulator.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    );
    let names: Vec<_> = headers.lines().map(|line| line.split_once(':').unwrap().0).collect();
    let names = names.join(";");
    let canonical = format!("GET\n/\n{query}\n{headers}\n{names}\n{hash}");
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("ACS3-HMAC-SHA256\n{}", hex(&Sha256::digest(canonical))).as_bytes());
    let signature = hex(&mac.finalize().into_bytes());
    let authorization = format!("ACS3-HMAC-SHA256 Credential=id,SignedHeaders={names},Signature={signature}");
    let head = headers.replacen(':', ": ", 1).replace('\n', "\r\n");
    format!("GET /?{query} HTTP/1.1\r\n{head}Authorization: {authorization}\r\nconnection: close\r\n\r\n")
}

fn admin(simulator: &Simulator, method: &str, path: &str, body: &Value) -> Answer {
    let body = body.to_string();
    let request = format!(
        "{method} /_sim/{path} HTTP/1.1\r\nhost: sim\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    receive(send(simulator, &request)).unwrap()
}

fn last_fate(ledger: &Ledger) -> Option<Fate> {
    ledger.entries().last().map(|entry| entry.answer)
}

#[test]
fn a_start_in_order_runs_the_job() {
    let simulator = simulator();
    let answer = start(&simulator, "n1").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert!(answer.header("date").unwrap().ends_with(" GMT"));
    let entry = &simulator.starts(JOB)[0];
    assert_eq!(answer.json(), json!({"RequestId": entry.request_id}));
    assert!(entry.first_byte <= entry.last_byte && Some(entry.last_byte) <= entry.executed);
    assert_eq!(simulator.executions(JOB).len(), 1);
    let data = &read(&simulator, "n2").json()["Data"];
    assert_eq!(data["StartedTime"], json!(simulator.executions(JOB)[0].at.as_second()));
    assert!(simulator.block_until(LONG, |ledger| ledger.entries().iter().all(|e| e.answer == Fate::Sent)).unwrap());
}

#[test]
fn a_start_signed_in_headers_runs_the_job() {
    let simulator = simulator();
    let answer = receive(send(&simulator, &acs3(&simulator, "n1", "secret"))).unwrap();
    let entry = &simulator.starts(JOB)[0];
    assert_eq!(answer.json(), json!({"RequestId": entry.request_id, "Success": true}));
    assert_eq!((entry.signature, entry.executed.is_some()), (Some(SignatureKind::Acs3), true));
    let refused = receive(send(&simulator, &acs3(&simulator, "n2", "wrong"))).unwrap();
    assert_eq!(refused.json()["Code"], "SignatureDoesNotMatch");
    let shown = admin(&simulator, "GET", "ledger", &json!(null)).json();
    assert_eq!((&shown[0]["signature"], &shown[0]["version"]), (&json!("acs3"), &json!("2024-05-18")));
    assert!(!shown.to_string().contains("Credential="));
}

#[test]
fn a_wrong_secret_is_told_what_should_have_been_signed() {
    let simulator = simulator();
    let answer = receive(send(&simulator, &call(&simulator, "StartDIJob", "n", "wrong"))).unwrap();
    assert_eq!((answer.status, &answer.json()["Code"]), (400, &json!("SignatureDoesNotMatch")));
    assert!(answer.json()["Message"].as_str().unwrap().contains("POST&%2F&AccessKeyId%3Did%26Action%3DStartDIJob"));
    assert_eq!(answer.json()["HostId"], "dataworks.cn-shanghai.aliyuncs.com");
    assert!(simulator.executions(JOB).is_empty());
    simulator.replace_secret("id", "wrong");
    assert_eq!(receive(send(&simulator, &call(&simulator, "StartDIJob", "n", "wrong"))).unwrap().status, 200);
}

#[test]
fn a_lost_answer_closes_the_connection_after_the_execution() {
    let simulator = simulator();
    simulator.next_calls(1, Some("StartDIJob"), Behaviour::lost_answer());
    assert!(start(&simulator, "n").is_none());
    assert_eq!(simulator.executions(JOB).len(), 1);
    assert_eq!(last_fate(&simulator.ledger()), Some(Fate::Dropped));
    assert_eq!(start(&simulator, "n").unwrap().json()["Code"], "SignatureNonceUsed");
}

#[test]
fn a_lost_request_leaves_its_nonce_unused() {
    let simulator = simulator();
    simulator.next_calls(1, None, Behaviour::lost_request());
    assert!(start(&simulator, "n").is_none());
    assert!(simulator.executions(JOB).is_empty());
    assert_eq!(start(&simulator, "n").unwrap().status, 200);
}

#[test]
fn a_hang_is_silence_on_an_open_connection_that_holds_up_nobody() {
    let simulator = simulator();
    simulator.next_calls(1, Some("StartDIJob"), Behaviour::hang_after());
    let mut hung = send(&simulator, &call(&simulator, "StartDIJob", "n", "secret"));
    assert!(simulator.block_until(LONG, |ledger| last_fate(ledger) == Some(Fate::Hung)).unwrap());
    assert_eq!(read(&simulator, "other").status, 200);
    hung.set_nonblocking(true).unwrap();
    assert_eq!(hung.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    hung.set_nonblocking(false).unwrap();
    assert_eq!(simulator.executions(JOB).len(), 1);
    drop(simulator);
    assert!(receive(hung).is_none());
}

#[test]
fn an_answer_that_its_client_does_not_wait_for_is_known_to_be_lost() {
    let simulator = simulator();
    simulator.next_calls(1, None, Behaviour::late_answer(SignedDuration::from_hours(1)));
    let stream = send(&simulator, &call(&simulator, "StartDIJob", "n", "secret"));
    assert!(simulator.block_until(LONG, |ledger| last_fate(ledger) == Some(Fate::Due)).unwrap());
    drop(stream);
    assert!(simulator.block_until(LONG, |ledger| last_fate(ledger) == Some(Fate::ClientGone)).unwrap());
    assert_eq!(simulator.executions(JOB).len(), 1);
}

#[test]
fn a_late_execution_wakes_who_waits_for_it() {
    let simulator = simulator();
    let late = SignedDuration::from_millis(200);
    simulator.next_calls(1, None, Behaviour::late_execution(late));
    assert_eq!(start(&simulator, "n").unwrap().status, 200);
    assert!(simulator.block_until(LONG, |ledger| !ledger.executions(JOB).is_empty()).unwrap());
    let entry = &simulator.starts(JOB)[0];
    assert_eq!(entry.executed, Some(entry.last_byte + late));
}

#[test]
fn throttling_comes_with_its_hint_and_executes_nothing() {
    let simulator = simulator();
    let throttled = Behaviour::error(Refusal::of("Throttling.User")).with_hint(Hint::RetryAfter(Some(1500)));
    simulator.next_calls(1, Some("StartDIJob"), throttled);
    let answer = start(&simulator, "n").unwrap();
    assert_eq!((answer.status, answer.header("x-acs-retry-after")), (429, Some("1500")));
    assert!(simulator.executions(JOB).is_empty());
    assert_eq!(start(&simulator, "n").unwrap().status, 200);
}

#[test]
fn the_call_after_the_last_of_the_day_is_refused() {
    let simulator = simulator();
    // The server's clock is put to noon of UTC+8, so that the day cannot turn under the test.
    let noon = 4 * 3600 - simulator.now().as_second().rem_euclid(86_400);
    simulator.switch(|switches| {
        switches.clock_offset = SignedDuration::from_secs(noon);
        switches.signature_age = None;
        switches.limits = Limits { rate: Rate::Unlimited, ..Limits::basic() };
    });
    for n in 0..100 {
        assert_eq!(read(&simulator, &n.to_string()).status, 200);
    }
    let answer = start(&simulator, "n").unwrap();
    assert_eq!((answer.status, &answer.json()["Code"]), (429, &json!("Throttling.User")));
    assert!(answer.json()["Message"].as_str().unwrap().contains("daily limit is exceeded"));
    assert_eq!(simulator.starts(JOB)[0].day_count, Some(101));
    assert!(simulator.executions(JOB).is_empty());
}

#[test]
fn a_cut_body_ends_before_its_declared_length() {
    let simulator = simulator();
    simulator.next_calls(1, None, Behaviour::odd(Oddity::Cut));
    let answer = start(&simulator, "n").unwrap();
    let declared: usize = answer.header("content-length").unwrap().parse().unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, declared / 2));
    assert_eq!(simulator.executions(JOB).len(), 1);
}

#[test]
fn a_body_can_end_after_some_bytes_or_trickle_or_be_a_bomb() {
    let simulator = simulator();
    simulator.next_calls(1, None, Behaviour::odd(Oddity::CutAfter { bytes: 5 }));
    assert_eq!(start(&simulator, "a").unwrap().body.len(), 5);
    simulator.next_calls(1, None, Behaviour::odd(Oddity::Gzip { bytes: 1_000_000 }));
    let bomb = start(&simulator, "b").unwrap();
    assert_eq!((bomb.header("content-encoding"), bomb.body.len() < 10_000), (Some("gzip"), true));

    simulator.next_calls(1, None, Behaviour::odd(Oddity::Slow { bytes_per_second: 400 }));
    let begun = simulator.now();
    let slow = start(&simulator, "c").unwrap();
    let declared: usize = slow.header("content-length").unwrap().parse().unwrap();
    assert_eq!((slow.body.len(), slow.json()["RequestId"].is_string()), (declared, true));
    // The first step comes at once; each further one waits.
    let least = SignedDuration::from_millis(100) * i32::try_from((declared - 1) / 40).unwrap();
    assert!(least.is_positive() && simulator.now().duration_since(begun) >= least);
}

#[test]
fn two_calls_on_one_connection_bear_its_number() {
    let simulator = simulator();
    let keep = |nonce: &str| call(&simulator, "GetDIJob", nonce, "secret").replace("connection: close\r\n", "");
    let both = format!("{}{}", keep("a"), call(&simulator, "GetDIJob", "b", "secret"));
    receive(send(&simulator, &both)).unwrap();
    read(&simulator, "c");
    let numbers: Vec<u64> = simulator.ledger().entries().iter().map(|entry| entry.connection).collect();
    assert_eq!((numbers[0] == numbers[1], numbers[1] == numbers[2]), (true, false));
}

#[test]
fn the_admin_endpoint_can_do_what_the_api_can() {
    let simulator = simulator();
    let patched =
        admin(&simulator, "PATCH", "switches", &json!({"rules": {"stoppedWord": "Stop"}, "nonceMemory": null}));
    assert_eq!((patched.status, &patched.json()["rules"]["stoppedWord"]), (200, &json!("Stop")));
    simulator.switch(|switches| assert_eq!(switches.nonce_memory, None));
    assert_eq!(admin(&simulator, "PATCH", "switches", &json!({"rules": {"stopedWord": "Stop"}})).status, 422);
    let whole = serde_json::to_value(Switches::default()).unwrap();
    assert_eq!(admin(&simulator, "PUT", "switches", &whole).status, 200);
    assert_eq!(admin(&simulator, "GET", "switches", &json!(null)).json(), whole);

    let job = admin(&simulator, "POST", "jobs/5", &json!({"name": "orders", "status": "Running"}));
    assert_eq!((job.status, &job.json()["name"]), (200, &json!("orders")));
    assert_eq!(simulator.job(5).unwrap().status, JobStatus::Running);
    assert_eq!(admin(&simulator, "DELETE", "jobs/5", &json!(null)).status, 204);
    assert_eq!(admin(&simulator, "GET", "jobs/5", &json!(null)).status, 404);

    let fault =
        json!({"calls": 1, "behaviour": {"execute": "never", "answer": {"error": {"code": "InternalError.System"}}}});
    assert_eq!(admin(&simulator, "POST", "faults", &fault).status, 200);
    assert_eq!(start(&simulator, "a").unwrap().status, 500);
    assert_eq!(admin(&simulator, "PUT", "keys/id", &json!({"secret": "rotated"})).status, 200);
    assert_eq!(start(&simulator, "b").unwrap().json()["Code"], "SignatureDoesNotMatch");
    assert_eq!(admin(&simulator, "DELETE", "keys/id", &json!(null)).status, 204);
    assert_eq!(start(&simulator, "c").unwrap().json()["Code"], "InvalidAccessKeyId.NotFound");

    let ledger = admin(&simulator, "GET", "ledger?from=1", &json!(null)).json();
    assert_eq!((ledger.as_array().unwrap().len(), &ledger[0]["nonce"]), (2, &json!("b")));
    assert!(!ledger.to_string().contains("rotated"));
    assert_eq!(admin(&simulator, "GET", &format!("executions/{JOB}"), &json!(null)).json(), json!([]));

    let neighbour = json!({"neighbour": {"readsPerSecond": 1000}});
    assert_eq!(admin(&simulator, "PATCH", "switches", &neighbour).status, 200);
    admin(&simulator, "POST", &format!("jobs/{JOB}"), &json!({"console": "start"}));
    let by_hand = admin(&simulator, "GET", &format!("by-hand/{JOB}"), &json!(null)).json();
    assert_eq!((by_hand.as_array().unwrap().len(), &by_hand[0]["isRestart"]), (1, &json!(false)));
    assert_eq!(admin(&simulator, "GET", "neighbours", &json!(null)).json(), json!({}), "no key, no neighbour");
    simulator.switch(|switches| *switches = Switches { nonce_memory: None, ..Switches::default() });
    assert_eq!(admin(&simulator, "GET", "profile", &json!(null)).body, b"nonce-memory=off");
}

#[test]
fn temporary_keys_are_told_without_their_secrets_and_can_be_ended() {
    let simulator = simulator();
    let role = "acs:ram::1000000000000001:role/runner";
    simulator.switch(|switches| {
        switches.metadata.role = Some(role.to_owned());
        switches.metadata.needs_token = false;
    });
    let read = |path: &str| {
        let head = "HTTP/1.1\r\nhost: 100.100.100.200\r\nconnection: close\r\n\r\n";
        receive(send(&simulator, &format!("GET /latest/meta-data/ram/security-credentials/{path} {head}"))).unwrap()
    };
    assert_eq!(read("").body, b"runner");
    let lent = read("runner").json();
    let new = json!({"secret": "canary-s", "token": "canary-t", "expiration": "2099-01-01T00:00:00Z"});
    assert_eq!(admin(&simulator, "PUT", "temporary-keys/STS.x", &new).status, 200);
    let told = admin(&simulator, "GET", "temporary-keys", &json!(null)).json();
    assert_eq!((told.as_array().unwrap().len(), &told[1]["id"]), (2, &json!("STS.x")));
    assert_eq!(told[1]["caller"], "acs:ram::1000000000000001:assumed-role/by-hand/by-hand");
    assert_eq!(admin(&simulator, "DELETE", "temporary-keys", &json!(null)).status, 204);
    assert!(simulator.temporary_keys().iter().all(|key| key.expiration <= simulator.now()));
    let token = json!({"provider": "acs:ram::1000000000000001:oidc-provider/p", "token": "canary-o"});
    assert_eq!(admin(&simulator, "POST", "oidc-tokens", &token).status, 200);
    simulator.add_temporary_key(ACCOUNT, "STS.y", "canary-s", "canary-t", simulator.now());
    assert_eq!(simulator.temporary_keys().len(), 3);
    let shown =
        ["ledger", "switches", "temporary-keys"].map(|path| admin(&simulator, "GET", path, &json!(null)).json());
    for secret in ["canary", lent["AccessKeySecret"].as_str().unwrap(), lent["SecurityToken"].as_str().unwrap()] {
        assert!(shown.iter().all(|shown| !shown.to_string().contains(secret)), "{secret}");
    }
}

#[test]
fn a_person_in_the_console_moves_the_job_without_a_call() {
    let simulator = simulator();
    simulator.switch(|switches| switches.rules.running_after = SignedDuration::ZERO);
    simulator.console(JOB, Console::Start);
    assert_eq!(read(&simulator, "n").json()["Data"]["JobStatus"], "Running");
    let failed = JobPatch { status: Some(JobStatus::Failed), ..JobPatch::default() };
    simulator.put_job(JOB, &failed);
    assert_eq!(simulator.job(JOB).unwrap().status, JobStatus::Failed);
    assert!(simulator.executions(JOB).is_empty());
}

#[tokio::test]
async fn waiting_ends_with_the_wish_or_with_the_time() {
    let simulator = simulator();
    assert!(!simulator.wait_until(Duration::from_millis(1), |ledger| !ledger.entries().is_empty()).await);
    let request = call(&simulator, "StartDIJob", "n", "secret");
    let address = simulator.address();
    let client = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    });
    let accepted = |ledger: &Ledger| ledger.starts(JOB).any(|entry| entry.verdict == Verdict::Accepted);
    assert!(simulator.wait_until(LONG, accepted).await);
    assert_eq!(receive(client.join().unwrap()).unwrap().status, 200);
}
