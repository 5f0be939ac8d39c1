//! Both versions under both signatures.

use sha2::{Digest, Sha256};

use super::*;
use crate::core::acs3::hex;
use crate::core::call::SignatureKind::{self, Acs3, V1};
use crate::core::switches::{Form2024, VersionQuota};

const V2020: &str = "2020-05-18";
const V2024: &str = "2024-05-18";

/// A call in order, as the SDK of its version sends it.
#[derive(Clone)]
pub(super) struct Wire {
    pub version: &'static str,
    pub signature: SignatureKind,
    pub action: &'static str,
    pub key: String,
    pub secret: String,
    pub token: Option<String>,
    pub nonce: String,
    pub signed: Timestamp,
    pub method: &'static str,
    /// Business parameters: sorted and strictly encoded, so that ACS3 signs them as they are.
    pub query: String,
    pub body: String,
}

pub(super) fn wire(version: &'static str, signature: SignatureKind, action: &'static str, nonce: &str) -> Wire {
    let (method, query, body) = match version {
        V2024 => ("GET", format!("Id={JOB}"), String::new()),
        _ => ("POST", String::new(), format!("DIJobId={JOB}")),
    };
    Wire {
        version,
        signature,
        action,
        key: "key".to_owned(),
        secret: "secret of key".to_owned(),
        token: None,
        nonce: nonce.to_owned(),
        signed: at(0),
        method,
        query,
        body,
    }
}

fn pe(text: &str) -> String {
    crate::core::signature::encode(text)
}

impl Wire {
    pub(super) fn arrival(&self) -> Arrival {
        match self.signature {
            V1 => self.rpc(),
            Acs3 => self.acs3(),
        }
    }

    pub(super) fn with(self, change: impl FnOnce(&mut Self)) -> Self {
        let mut changed = self;
        change(&mut changed);
        changed
    }

    /// A business parameter more, where those of this version travel. Its name sorts behind the ones before.
    fn with_parameter(self, name: &str, value: &str) -> Self {
        self.with(|wire| {
            let travels_in = if wire.method == "GET" { &mut wire.query } else { &mut wire.body };
            *travels_in = format!("{travels_in}&{name}={}", pe(value));
        })
    }

    fn request(&self, query: String) -> Request {
        Request {
            method: self.method.to_owned(),
            path: "/".to_owned(),
            query,
            content_type: (!self.body.is_empty()).then(|| "application/x-www-form-urlencoded".to_owned()),
            host: "dataworks.cn-shanghai.aliyuncs.com".to_owned(),
            body: self.body.clone().into_bytes(),
            ..Request::default()
        }
    }

    fn time(&self) -> String {
        self.signed.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    fn rpc(&self) -> Arrival {
        let Self { version, action, key, nonce, query, .. } = self;
        let mut query = format!(
            "Action={action}&Version={version}&Format=json&AccessKeyId={key}&SignatureMethod=HMAC-SHA1\
             &SignatureVersion=1.0&SignatureNonce={nonce}&Timestamp={}&{query}",
            pe(&self.time())
        );
        if let Some(token) = &self.token {
            query = format!("{query}&SecurityToken={}", pe(token));
        }
        let parameters = Parameters::parse(query.as_bytes(), self.body.as_bytes()).unwrap();
        let mut mac = Hmac::<Sha1>::new_from_slice(format!("{}&", self.secret).as_bytes()).unwrap();
        mac.update(parameters.string_to_sign(self.method).as_bytes());
        let signature = pe(&STANDARD.encode(mac.finalize().into_bytes()));
        self.request(format!("{query}&Signature={signature}")).into()
    }

    fn acs3(&self) -> Arrival {
        let hash = hex(&Sha256::digest(&self.body));
        let mut headers = vec![
            ("host", "dataworks.cn-shanghai.aliyuncs.com".to_owned()),
            ("x-acs-action", self.action.to_owned()),
            ("x-acs-content-sha256", hash.clone()),
            ("x-acs-date", self.time()),
        ];
        headers.extend(self.token.clone().map(|token| ("x-acs-security-token", token)));
        headers.push(("x-acs-signature-nonce", self.nonce.clone()));
        headers.push(("x-acs-version", self.version.to_owned()));
        if !self.body.is_empty() {
            headers.insert(0, ("content-type", "application/x-www-form-urlencoded".to_owned()));
        }
        let lines: String = headers.iter().map(|(name, value)| [*name, ":", value.as_str(), "\n"].concat()).collect();
        let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let canonical = format!("{}\n/\n{}\n{lines}\n{names}\n{hash}", self.method, self.query);
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).unwrap();
        mac.update(format!("ACS3-HMAC-SHA256\n{}", hex(&Sha256::digest(canonical))).as_bytes());
        let signature = hex(&mac.finalize().into_bytes());
        let authorization =
            format!("ACS3-HMAC-SHA256 Credential={},SignedHeaders={names},Signature={signature}", self.key);
        headers.push(("authorization", authorization));
        self.request(self.query.clone()).with_headers(headers.into_iter().collect())
    }
}

pub(super) fn answer(cloud: &mut Cloud, now: Timestamp, wire: &Wire) -> Reply {
    reply(cloud, now, wire.arrival())
}

pub(super) fn outcome(cloud: &mut Cloud, now: Timestamp, wire: &Wire) -> String {
    code_of(&answer(cloud, now, wire))
}

fn all() -> [(&'static str, SignatureKind); 4] {
    [(V2020, V1), (V2020, Acs3), (V2024, V1), (V2024, Acs3)]
}

#[test]
fn each_version_goes_with_each_signature() {
    for (version, signature) in all() {
        let mut cloud = cloud(Switches::default());
        let settings = r#"{"StartTime":1671516776}"#;
        let start = wire(version, signature, "StartDIJob", "a").with_parameter("ForceToRerun", "True");
        let start = start.with_parameter("RealtimeStartSettings", settings);
        // Names sort by bytes: `F` before `I`, for ACS3 signs them as they stand.
        let start = start
            .with(|wire| wire.query = wire.query.replace("Id=11743&ForceToRerun=True", "ForceToRerun=True&Id=11743"));
        let started = answer(&mut cloud, at(0), &start);
        assert_eq!((code_of(&started).as_str(), started.status), ("ok", 200), "{version} {signature:?}");
        assert_eq!(body(&started).get("Success"), (version == V2024).then_some(&json!(true)));
        let seen = body(&answer(&mut cloud, at(2), &wire(version, signature, "GetDIJob", "b")));
        let job = if version == V2024 { &seen["PagingInfo"] } else { &seen["Data"] };
        assert_eq!((&job["JobStatus"], &job["JobName"]), (&json!("Running"), &json!("job_11743")));

        let execution = Execution { seq: 0, at: at(0), forced: true, offset: Some(1_671_516_776), is_restart: false };
        assert_eq!(cloud.ledger().executions(JOB), [execution]);
        let entry = cloud.ledger().starts(JOB).next().unwrap();
        assert_eq!((entry.version.as_deref(), entry.signature), (Some(version), Some(signature)));
        assert_eq!((entry.nonce.as_deref(), entry.signed_time.as_deref()), (Some("a"), Some("2026-01-02T03:04:05Z")));
        assert_eq!((entry.key_id.as_deref(), entry.account.as_deref()), (Some("key"), Some("main")));
        assert_eq!((entry.parameters["ForceToRerun"].as_str(), entry.method.as_str()), ("True", start.method));
        assert_eq!((entry.window_count, entry.day_count), (Some(1), Some(1)));
    }
}

#[test]
fn the_version_of_2024_tells_of_a_job_its_status_and_of_a_start_nothing() {
    let mut cloud = cloud(Switches::default());
    assert_eq!(outcome(&mut cloud, at(0), &wire(V2024, Acs3, "StartDIJob", "a")), "ok");
    let failed = JobPatch {
        status: Some(JobStatus::Stopped),
        error_message: Some("no table".to_owned()),
        ..JobPatch::default()
    };
    cloud.put_job(at(5), JOB, &failed);
    "Stop".clone_into(&mut cloud.switches.rules.stopped_word);
    let seen = body(&answer(&mut cloud, at(6), &wire(V2024, V1, "GetDIJob", "b")));
    let expected = json!({
        "Id": JOB, "DIJobId": JOB.to_string(), "JobName": "job_11743", "ProjectId": 10_000, "JobStatus": "Stop",
        "JobType": "DatabaseRealtimeMigration", "MigrationType": "FullAndRealtimeIncremental", "Owner": "main",
        "SourceDataSourceType": "MySQL", "DestinationDataSourceType": "Hologres",
    });
    assert_eq!(seen["PagingInfo"], expected);
    let fields: Vec<_> = seen.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["PagingInfo", "RequestId"]);
    cloud.switches.rules.hides_project = true;
    let hidden = body(&answer(&mut cloud, at(7), &wire(V2024, V1, "GetDIJob", "c")));
    assert_eq!(hidden["PagingInfo"].get("ProjectId"), None);
}

#[test]
fn the_version_of_2024_takes_both_names_of_the_job_and_needs_one() {
    let named =
        |nonce, query: &str| wire(V2024, Acs3, "StartDIJob", nonce).with(|wire| query.clone_into(&mut wire.query));
    let mut cloud = cloud(Switches::default());
    assert_eq!(outcome(&mut cloud, at(0), &named("a", "DIJobId=11743")), "ok");
    assert_eq!(outcome(&mut cloud, at(0), &named("b", "DIJobId=5&Id=11743")), "ok");
    assert_eq!(outcome(&mut cloud, at(0), &named("c", "Id=x")), "InvalidId 400");
    assert_eq!(outcome(&mut cloud, at(0), &named("d", "DIJobId=x")), "InvalidDIJobId 400");
    let none = answer(&mut cloud, at(0), &named("e", ""));
    assert_eq!((code_of(&none).as_str(), &body(&none)["Message"]), ("InvalidParameter 400", &json!("diJobId is null")));
    let jobs: Vec<_> = cloud.ledger().entries().iter().map(|entry| entry.job).collect();
    assert_eq!(jobs, [Some(JOB), Some(JOB), None, None, None]);
    let old = wire(V2020, V1, "StartDIJob", "f").with(|wire| wire.body = format!("Id={JOB}"));
    assert_eq!(outcome(&mut cloud, at(0), &old), "MissingDIJobId 400");
}

#[test]
fn the_version_of_2024_speaks_of_errors_in_numbers() {
    let missing = wire(V2024, Acs3, "GetDIJob", "a").with(|wire| wire.query = "Id=5".to_owned());
    let rows = [(Failures::ByStatus, None, "500130 404"), (Failures::BySuccess, Some(500), "500130 200")];
    for (failures, numeric_status, expected) in rows {
        let mut cloud = cloud(Switches { failures, numeric_status, ..Switches::default() });
        assert_eq!(outcome(&mut cloud, at(0), &missing), expected);
    }
    let mut denied = cloud(Switches { permissions: Permissions::NoReads(Denial::Forbidden), ..Switches::default() });
    assert_eq!(outcome(&mut denied, at(0), &wire(V2024, V1, "GetDIJob", "a")), "403030 403");
    assert_eq!(outcome(&mut denied, at(0), &wire(V2020, V1, "GetDIJob", "b")), "Forbidden.RAM 403");

    denied.switches.failures = Failures::BySuccess;
    let refused = answer(&mut denied, at(0), &wire(V2024, V1, "GetDIJob", "c"));
    assert_eq!((code_of(&refused).as_str(), &body(&refused)["Success"]), ("403030 200", &json!(false)));
    let wrong = wire(V2024, V1, "GetDIJob", "d").with(|wire| wire.secret.push('x'));
    assert_eq!(outcome(&mut denied, at(0), &wrong), "SignatureDoesNotMatch 400", "no error of DataWorks itself");

    let one = Limits { rate: Rate::Total(1), ..Limits::enterprise() };
    let mut throttled = cloud(Switches { limits: one, ..Switches::default() });
    assert_eq!(outcome(&mut throttled, at(0), &wire(V2024, Acs3, "GetDIJob", "a")), "ok");
    let refused = answer(&mut throttled, at(0), &wire(V2024, Acs3, "GetDIJob", "b"));
    assert_eq!((code_of(&refused).as_str(), &body(&refused)["Message"]), ("9990020002 400", &json!("Throttling.User")));
    assert_eq!(refused.header("x-acs-retry-after"), Some("1000"));
    throttled.switches.numeric_status = Some(500);
    assert_eq!(outcome(&mut throttled, at(0), &wire(V2024, V1, "GetDIJob", "e")), "9990020002 500");
    throttled.switches.limits.refusal.status = Some(503);
    assert_eq!(outcome(&mut throttled, at(0), &wire(V2024, V1, "GetDIJob", "c")), "9990020002 503");
    assert_eq!(outcome(&mut throttled, at(0), &wire(V2020, V1, "GetDIJob", "d")), "Throttling.Api 503");
}

#[test]
fn the_version_of_2024_can_insist_on_get_and_lower_case() {
    let posted = wire(V2024, Acs3, "StartDIJob", "a").with(|wire| {
        wire.method = "POST";
        wire.body = std::mem::take(&mut wire.query);
    });
    let python = wire(V2024, V1, "StartDIJob", "b").with_parameter("ForceToRerun", "True");
    let lower = wire(V2024, V1, "StartDIJob", "c").with_parameter("ForceToRerun", "true");
    let old = wire(V2020, V1, "StartDIJob", "d").with_parameter("ForceToRerun", "False");
    let run = |form_2024| {
        let mut cloud = cloud(Switches { form_2024, ..Switches::default() });
        [&posted, &python, &lower, &old].map(|call| outcome(&mut cloud, at(0), call))
    };
    assert_eq!(run(Form2024::Any), ["ok", "ok", "ok", "ok"]);
    assert_eq!(run(Form2024::GetAndLowerCase), ["UnsupportedHTTPMethod 400", "InvalidForceToRerun 400", "ok", "ok"]);
}

#[test]
fn both_versions_draw_on_one_quota_unless_counted_apart() {
    let limits = Limits { rate: Rate::Total(1), per_day: Some(2), ..Limits::enterprise() };
    let run = |version_quota| {
        let mut cloud = cloud(Switches { version_quota, limits: limits.clone(), ..Switches::default() });
        let mut call = |version, nonce, t| {
            outcome(&mut cloud, at(t), &wire(version, V1, "GetDIJob", nonce).with(|wire| wire.signed = at(t)))
        };
        let codes = [call(V2020, "a", 0), call(V2024, "b", 0), call(V2020, "c", 1), call(V2024, "d", 2)];
        let days: Vec<_> = cloud.ledger().entries().iter().filter_map(|entry| entry.day_count).collect();
        (codes.map(|code| code.split(' ').next().unwrap().to_owned()), days)
    };
    let (codes, days) = run(VersionQuota::One);
    assert_eq!(
        (codes, days),
        (["ok", "9990020002", "Throttling.User", "9990020002"].map(str::to_owned), vec![1, 2, 3, 4])
    );
    let (codes, days) = run(VersionQuota::Apart);
    assert_eq!((codes, days), (["ok"; 4].map(str::to_owned), vec![1, 1, 2, 2]));
}

#[test]
fn what_is_wrong_under_acs3_has_the_codes_of_v1() {
    let fine = || wire(V2024, Acs3, "StartDIJob", "n");
    let without = |name: &str| {
        let mut arrival = fine().arrival();
        arrival.headers = arrival.headers.iter().filter(|(n, _)| *n != name).collect();
        arrival
    };
    let with = |name: &str, value: &str| {
        let mut arrival = without(name);
        arrival.headers = arrival.headers.iter().chain([(name, value)]).collect();
        arrival
    };
    let mut forged = fine().arrival();
    forged.request.query = "Id=11744".to_owned();
    let rows = [
        ("unknown action", with("x-acs-action", "StopDIJob"), "InvalidAction.NotFound 404"),
        ("no action", without("x-acs-action"), "MissingAction 400"),
        ("unknown version", with("x-acs-version", "2018-06-01"), "NoSuchVersion 400"),
        ("other version", with("x-acs-version", V2020), "SignatureDoesNotMatch 400"),
        (
            "unknown key",
            fine().with(|wire| wire.key = "nobody".to_owned()).arrival(),
            "InvalidAccessKeyId.NotFound 404",
        ),
        ("other key", fine().with(|wire| wire.key = "key2".to_owned()).arrival(), "SignatureDoesNotMatch 400"),
        ("too old", fine().with(|wire| wire.signed = at(-901)).arrival(), "InvalidTimeStamp.Expired 400"),
        ("too new", fine().with(|wire| wire.signed = at(901)).arrival(), "InvalidTimeStamp.Expired 400"),
        ("no date", without("x-acs-date"), "IncompleteSignature 400"),
        ("empty nonce", fine().with(|wire| wire.nonce = String::new()).arrival(), "MissingSignatureNonce 400"),
        ("a header that is not signed", with("x-acs-security-token", "t"), "IncompleteSignature 400"),
        ("garbled", with("authorization", "ACS3-HMAC-SHA256 Credential=key"), "IncompleteSignature 400"),
        ("another scheme", with("authorization", "Bearer x"), "IncompleteSignature 400"),
        ("not signed", without("authorization"), "MissingAccessKeyId 400"),
        ("forged", forged, "SignatureDoesNotMatch 400"),
        ("headers alone", fine().arrival().request.into(), "MissingAction 400"),
    ];
    for (why, arrival, expected) in rows {
        let mut cloud = cloud(Switches::default());
        let refused = reply(&mut cloud, at(0), arrival);
        assert_eq!(code_of(&refused), expected, "{why}");
        assert!(cloud.ledger().executions(JOB).is_empty(), "{why}");
        if why == "forged" {
            let message = body(&refused)["Message"].as_str().unwrap().to_owned();
            assert!(message.contains("server string to sign is:ACS3-HMAC-SHA256\n"), "{message}");
            assert!(message.contains("server canonical request is:GET\n/\nId=11744\nhost:"), "{message}");
        }
    }
}

#[test]
fn both_signatures_share_one_memory_of_nonces() {
    for (first, second) in [(V1, Acs3), (Acs3, V1)] {
        let mut cloud = cloud(Switches::default());
        assert_eq!(outcome(&mut cloud, at(0), &wire(V2020, first, "StartDIJob", "n")), "ok");
        assert_eq!(outcome(&mut cloud, at(1), &wire(V2024, second, "StartDIJob", "n")), "SignatureNonceUsed 400");
    }
}

#[test]
fn what_travels_in_headers_and_waits_on_the_way_is_shown_nowhere() {
    let mut cloud = cloud(Switches::default());
    let late = Behaviour::late_arrival(minutes(1));
    cloud.switches.faults = vec![Fault { behaviour: late, ..Fault::default() }];
    for (nonce, signature) in [("a", V1), ("b", Acs3)] {
        let call =
            wire(V2024, signature, "StartDIJob", nonce).with(|wire| wire.token = Some("canary-token".to_owned()));
        let arrival = call.arrival();
        let authorization = arrival.headers.get("authorization").map(|text| text.split_once("Signature=").unwrap().1);
        let signature = authorization.unwrap_or_else(|| arrival.request.query.split_once("Signature=").unwrap().1);
        let signature = signature.to_owned();
        assert_eq!(cloud.receive(at(0), arrival).outgoing, Outgoing::Drop);
        let shown = format!("{cloud:?}{}", serde_json::to_string(cloud.ledger().entries()).unwrap());
        for secret in ["secret of key", "canary-token", signature.as_str()] {
            assert!(!shown.contains(secret), "{secret}");
        }
    }
}
