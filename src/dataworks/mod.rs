//! The client of the `DataWorks` API, versions 2020-05-18 and 2024-05-18, of STS and of a machine's metadata: one method
//! per operation.
//!
//! **May touch:** the network, through a [`Transport`]. It knows no Kubernetes.
//!
//! **Guarantees**
//! 1. One call of a method is one attempt: nothing here or below sends a request again.
//! 2. The same service, key, stamp and request give the same bytes: a resend can be an exact copy.
//! 3. Success is claimed only for HTTP 200 with a JSON object that does not say `Success: false`.
//!
//! An XML body is not read: `Format=json` is sent, so XML comes from something else and counts as no answer of the cloud.

use std::fmt;
use std::sync::Arc;

use http::header::{DATE, HeaderMap};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

pub use self::credentials::{AccessKey, KeyPart, KeyProblem};
pub use self::endpoint::{Endpoint, EndpointProblem, HostRules};
pub use self::error::{Error, ErrorKind, Operation, Ran};
pub use self::metadata::MachineProblem;
pub use self::model::Version;
use self::model::{Answer, DiJob, StartDiJobAnswer, StartDiJobRequest, look_parameters};
use self::request::signed;
pub use self::sign::Scheme;
pub use self::sts::{AssumedRole, Caller, Role, WebIdentity};
pub use self::transport::{HttpTransport, Timeouts, Transport, TransportError};

pub mod credentials;
pub mod endpoint;
pub mod error;
pub mod metadata;
pub mod model;
mod request;
pub mod sign;
pub mod sts;
pub mod transport;

/// How the API is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Where.
    pub endpoint: Endpoint,
    /// In which version.
    pub version: Version,
    /// How requests are signed.
    pub scheme: Scheme,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.endpoint.host(), self.version.as_str(), self.scheme.as_str())
    }
}

/// What makes one signature differ from the next. An attempt that repeats an earlier one bears the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// `SignatureNonce`, which the cloud takes once.
    pub nonce: String,
    /// `Timestamp`, sent in whole seconds. The cloud refuses one that is more than 15 minutes off.
    pub time: Timestamp,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply<T> {
    /// The answer, or why there is none.
    pub result: Result<T, Error>,
    /// The answerer's clock: the `Date` header of any answer, a failure too.
    pub server_time: Option<Timestamp>,
}

/// The client. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Arc<dyn Transport>,
}

impl Client {
    /// A client that sends through `transport`.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self { transport }
    }

    /// Starts a job. A write; it changes the cloud and must not be repeated blindly: there is no idempotency token, and
    /// what a start does to a running job is documented nowhere.
    pub async fn start_di_job(
        &self,
        service: &Service,
        key: &AccessKey,
        stamp: &Stamp,
        request: &StartDiJobRequest,
    ) -> Reply<StartDiJobAnswer> {
        let request = signed(Operation::StartDiJob, service, key, stamp, &request.parameters(service.version));
        self.call(Operation::StartDiJob, request, |answer| Some(answer.started())).await
    }

    /// Looks at a job. A read; it changes nothing and may be repeated.
    pub async fn get_di_job(&self, service: &Service, key: &AccessKey, stamp: &Stamp, di_job_id: i64) -> Reply<DiJob> {
        let version = service.version;
        let request = signed(Operation::GetDiJob, service, key, stamp, &look_parameters(version, di_job_id));
        self.call(Operation::GetDiJob, request, |answer| answer.di_job(version, di_job_id)).await
    }

    /// One attempt. `read` finds the result in an answer that is a success.
    async fn call<T>(
        &self,
        operation: Operation,
        request: http::Result<http::Request<Vec<u8>>>,
        read: impl FnOnce(&Answer) -> Option<T>,
    ) -> Reply<T> {
        let sent = match request {
            Ok(request) => self.transport.send(request).await,
            Err(problem) => Err(TransportError::NeverLeft(problem.to_string())),
        };
        match sent {
            Ok(response) => {
                let server_time = header(response.headers(), DATE.as_str())
                    .and_then(|date| DateTimeParser::new().parse_timestamp(date).ok());
                Reply { result: judge(operation, &response, read), server_time }
            }
            Err(problem) => {
                let never_left = matches!(problem, TransportError::NeverLeft(_));
                let error = Error::unanswered(operation, never_left, &problem.to_string());
                Reply { result: Err(error), server_time: None }
            }
        }
    }
}

fn judge<T>(
    operation: Operation,
    response: &http::Response<Vec<u8>>,
    read: impl FnOnce(&Answer) -> Option<T>,
) -> Result<T, Error> {
    let status = response.status().as_u16();
    let headers = response.headers();
    let limits = ["x-ratelimit-user-api", "x-ratelimit-user"];
    let wait = error::wait_hint(
        header(headers, "x-acs-retry-after"),
        limits.into_iter().filter_map(|name| header(headers, name)),
    );
    let Some(answer) = Answer::parse(response.body()) else {
        return Err(Error::unreadable(operation, status, "the answer is no JSON object", wait));
    };
    if status != 200 || answer.says_failure() {
        return Err(Error::refused(operation, status, &answer, wait));
    }
    read(&answer)
        .ok_or_else(|| Error::unreadable(operation, status, "the answer holds nothing of what was asked for", wait))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use std::sync::Mutex;
    use std::time::Duration;

    use super::model::{FailoverSettings, RealtimeStartSettings};
    use super::transport::Sending;
    use super::*;

    /// Keeps each request and gives the same result to all.
    #[derive(Debug)]
    struct Canned {
        seen: Mutex<Vec<http::Request<Vec<u8>>>>,
        status: u16,
        headers: Vec<(&'static str, &'static str)>,
        result: Result<&'static str, TransportError>,
    }

    impl Transport for Canned {
        fn send(&self, request: http::Request<Vec<u8>>) -> Sending<'_> {
            self.seen.lock().unwrap().push(request);
            let mut builder = http::Response::builder().status(self.status);
            for (name, value) in &self.headers {
                builder = builder.header(*name, *value);
            }
            let result = self.result.clone().map(|body| builder.body(body.into()).unwrap());
            Box::pin(async { result })
        }
    }

    fn canned(status: u16, body: &'static str) -> Canned {
        Canned { seen: Mutex::default(), status, headers: Vec::new(), result: Ok(body) }
    }

    fn service() -> Service {
        Service {
            endpoint: Endpoint::of_region("cn-shanghai", false).unwrap(),
            version: Version::V2020,
            scheme: Scheme::Rpc,
        }
    }

    fn key() -> AccessKey {
        AccessKey::new("testAccessKeyId", "testAccessKeySecret", None).unwrap()
    }

    fn stamp() -> Stamp {
        Stamp { nonce: "0f1e2d3c4b5a69788796a5b4c3d2e1f0".into(), time: "2026-01-02T03:04:05.987Z".parse().unwrap() }
    }

    fn full_start() -> StartDiJobRequest {
        StartDiJobRequest {
            di_job_id: 11_743,
            force_to_rerun: true,
            realtime_start_settings: Some(RealtimeStartSettings {
                start_time: Some(1_671_516_776),
                failover_settings: Some(FailoverSettings { interval: Some(10), upper_limit: Some(30) }),
            }),
        }
    }

    async fn start(canned: Canned) -> Reply<StartDiJobAnswer> {
        Client::new(Arc::new(canned)).start_di_job(&service(), &key(), &stamp(), &full_start()).await
    }

    async fn get(canned: Canned) -> Reply<DiJob> {
        Client::new(Arc::new(canned)).get_di_job(&service(), &key(), &stamp(), 7).await
    }

    fn failed<T: std::fmt::Debug>(reply: Reply<T>) -> Error {
        reply.result.unwrap_err()
    }

    /// What a vector of the official SDK sends, in the order in which headers are compared.
    fn sent_by_the_sdk(vector: &serde_json::Value) -> (String, Vec<(String, String)>) {
        let text = |of: &serde_json::Value| of.as_str().unwrap_or_default().to_owned();
        let signed = &vector["minimal_headers_signed"];
        let mut headers: Vec<(String, String)> = if let Some(headers) = signed["headers"].as_object() {
            headers.iter().map(|(name, value)| (name.clone(), text(value))).collect()
        } else {
            let (action, version) = vector["api"].as_str().unwrap().split_once(' ').unwrap();
            let form = vector["body_strict_percent_encoded"].as_str();
            let form = form.map(|_| ("content-type".into(), "application/x-www-form-urlencoded".into()));
            let names = [("host", &text(&vector["host"])[..]), ("x-acs-action", action), ("x-acs-version", version)];
            names.into_iter().map(|(name, value)| (name.into(), value.into())).chain(form).collect()
        };
        headers.extend(signed["authorization"].as_str().map(|value| ("authorization".into(), value.into())));
        headers.push(("accept".into(), "application/json".into()));
        headers.push(("user-agent".into(), concat!("dijob-operator/", env!("CARGO_PKG_VERSION")).into()));
        headers.sort();
        let suffix = match (vector["canonical_url_suffix"].as_str(), text(&vector["canonical_query"])) {
            (Some(suffix), _) => suffix.to_owned(),
            (None, query) if query.is_empty() => "/".to_owned(),
            (None, query) => format!("/?{query}"),
        };
        (format!("https://{}{suffix}", text(&vector["host"])), headers)
    }

    #[tokio::test]
    async fn a_start_is_the_vector_of_the_sdk_and_its_copy_is_the_same() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/golden/signature-vectors.json")).unwrap();
        let sts = AccessKey::new("STS.testAccessKeyId", "testStsSecret", Some("CAIS+abc/def==*~token")).unwrap();
        for (name, version, scheme, key) in [
            ("v1_start_2020_full_lowercase_bool", Version::V2020, Scheme::Rpc, key()),
            ("v1_start_2020_full_sts_lowercase_bool", Version::V2020, Scheme::Rpc, sts.clone()),
            ("v1_start_2024_full_lowercase_bool", Version::V2024, Scheme::Rpc, key()),
            ("acs3_start_2020_full_lowercase_bool", Version::V2020, Scheme::Acs3, key()),
            ("acs3_start_2020_full_sts_lowercase_bool", Version::V2020, Scheme::Acs3, sts),
            ("acs3_start_2024_full_lowercase_bool", Version::V2024, Scheme::Acs3, key()),
        ] {
            let vector = vectors["vectors"].as_array().unwrap().iter().find(|vector| vector["name"] == name).unwrap();
            let canned = Arc::new(canned(200, r#"{"RequestId":"R-1"}"#));
            let client = Client::new(canned.clone());
            let service = Service { version, scheme, ..service() };
            for _ in 0..2 {
                let reply = client.start_di_job(&service, &key, &stamp(), &full_start()).await;
                assert_eq!(reply.result, Ok(StartDiJobAnswer { request_id: Some("R-1".into()) }));
            }
            let seen = canned.seen.lock().unwrap();
            assert_eq!(seen.len(), 2);
            let (uri, headers) = sent_by_the_sdk(vector);
            let body = vector["body_strict_percent_encoded"].as_str().or(vector["body"].as_str()).unwrap_or_default();
            for request in seen.iter() {
                assert_eq!(request.method().as_str(), vector["method"].as_str().unwrap(), "{name}");
                assert_eq!(request.uri().to_string(), uri, "{name}");
                assert_eq!(request.body(), body.as_bytes(), "{name}");
                let mut sent: Vec<(String, String)> = request
                    .headers()
                    .iter()
                    .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
                    .collect();
                sent.sort();
                assert_eq!(sent, headers, "{name}");
                let printed = format!("{:?}", request.headers());
                assert!(!printed.contains("CAIS") && !printed.contains("Signature="), "{printed}");
            }
        }
    }

    #[test]
    fn a_service_says_host_version_and_signature() {
        assert_eq!(service().to_string(), "dataworks.cn-shanghai.aliyuncs.com 2020-05-18 HMAC-SHA1");
        let other = Service { version: Version::V2024, scheme: Scheme::Acs3, ..service() };
        assert_eq!(other.to_string(), "dataworks.cn-shanghai.aliyuncs.com 2024-05-18 ACS3-HMAC-SHA256");
    }

    #[tokio::test]
    async fn a_look_names_the_job_and_reads_it() {
        let canned = Arc::new(canned(200, r#"{"RequestId":"R-2","Data":{"DIJobId":7,"JobStatus":"Running"}}"#));
        let reply = Client::new(canned.clone()).get_di_job(&service(), &key(), &stamp(), 7).await;
        let job =
            DiJob { di_job_id: 7, status: Some("Running".into()), request_id: Some("R-2".into()), ..DiJob::default() };
        assert_eq!(reply, Reply { result: Ok(job), server_time: None });
        let seen = canned.seen.lock().unwrap();
        assert_eq!(seen[0].body(), b"DIJobId=7");
        assert!(seen[0].uri().query().unwrap().contains("Action=GetDIJob&Format=json&Signature="));
    }

    #[tokio::test]
    async fn success_is_claimed_only_for_what_is_one() {
        assert_eq!(start(canned(200, "{}")).await.result, Ok(StartDiJobAnswer { request_id: None }));
        for (status, body, kind, ran) in [
            (200, "", ErrorKind::Server, Ran::May),
            (200, "<html>", ErrorKind::Server, Ran::May),
            (200, "[]", ErrorKind::Server, Ran::May),
            (201, "{}", ErrorKind::Server, Ran::May),
            (204, "", ErrorKind::Server, Ran::May),
            (302, "", ErrorKind::Server, Ran::May),
            (403, "<html>", ErrorKind::Server, Ran::May),
            (404, r#"{"Code":"x"}"#, ErrorKind::Server, Ran::May),
            (502, "Bad Gateway", ErrorKind::Server, Ran::May),
            (400, "<Error><Code>Throttling</Code><RequestId>R</RequestId></Error>", ErrorKind::Server, Ran::May),
            (429, "slow down", ErrorKind::Throttled, Ran::DidNot),
            (200, r#"{"Success":false,"RequestId":"R"}"#, ErrorKind::Invalid, Ran::DidNot),
            (200, r#"{"Success":false,"Code":"500130"}"#, ErrorKind::NotFound, Ran::DidNot),
            (200, r#"{"Success":false,"Code":"InternalError.System"}"#, ErrorKind::Server, Ran::May),
            (403, r#"{"Code":"Forbidden.RAM","RequestId":"R"}"#, ErrorKind::Denied, Ran::DidNot),
        ] {
            let error = failed(start(canned(status, body)).await);
            assert_eq!((error.kind, error.ran(), error.http_status), (kind, ran, Some(status)), "{status} {body}");
            assert!(error.answered() && !error.never_left());
        }
        let error = failed(get(canned(200, r#"{"RequestId":"R-1"}"#)).await);
        assert_eq!((error.kind, error.http_status), (ErrorKind::Server, Some(200)));
    }

    #[tokio::test]
    async fn a_failure_on_the_way_says_whether_the_request_left() {
        for (problem, ran) in [
            (TransportError::NeverLeft("refused".into()), Ran::DidNot),
            (TransportError::MayHaveRun("reset".into()), Ran::May),
        ] {
            let reply = start(Canned { result: Err(problem), ..canned(0, "") }).await;
            let error = failed(reply);
            assert_eq!((error.kind, error.ran(), error.answered()), (ErrorKind::Server, ran, false));
            assert_eq!(error.never_left(), ran == Ran::DidNot);
        }
    }

    #[tokio::test]
    async fn the_clock_of_any_answer_is_read() {
        let time: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        for (date, read) in [("Fri, 02 Jan 2026 03:04:05 GMT", Some(time)), ("yesterday", None), ("", None)] {
            for (status, body) in [(200, "{}"), (400, "{}"), (500, "")] {
                let reply = start(Canned { headers: vec![("date", date)], ..canned(status, body) }).await;
                assert_eq!(reply.server_time, read, "{date}");
            }
        }
    }

    #[tokio::test]
    async fn a_hint_is_kept_and_makes_nothing_throttled() {
        for (status, kind) in [(500, ErrorKind::Server), (429, ErrorKind::Throttled)] {
            let headers = vec![("x-acs-retry-after", "1500"), ("X-RateLimit-User", "Limit:5,TimeLeft:2000")];
            for body in ["{}", "slow down"] {
                let error = failed(start(Canned { headers: headers.clone(), ..canned(status, body) }).await);
                assert_eq!((error.kind, error.wait), (kind, Some(Duration::from_secs(2))), "{body}");
            }
        }
    }

    #[tokio::test]
    async fn the_canary_appears_in_no_output() {
        let key = AccessKey::new("canary-id", "canary-secret", Some("canary-token")).unwrap();
        let bodies = [
            r#"{"RequestId":"R","Code":"SignatureDoesNotMatch","Message":"POST&%2F&SecurityToken%3Dcanary-token"}"#,
            r#"{"RequestId":"R","Code":"Unheard","Message":"at https://h/?AccessKeyId=canary-id&Signature=canary"}"#,
            r#"{"RequestId":"R","Code":"Unheard","Message":"SecurityToken=canary-token is malformed"}"#,
        ];
        for body in bodies {
            let client = Client::new(Arc::new(canned(400, body)));
            let reply = client.start_di_job(&service(), &key, &stamp(), &full_start()).await;
            let shown = format!("{key:?} {reply:?} {}", failed(reply.clone()));
            assert!(!shown.contains("canary"), "{shown}");
        }
    }

    #[tokio::test]
    async fn a_real_exchange_gives_a_real_error() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let rules = HostRules { allow_insecure_endpoints: true, ..HostRules::default() };
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let transport = HttpTransport::new(crate::clock::Clock::system(), Timeouts::default()).unwrap();
        let client = Client::new(Arc::new(transport));
        let service = Service { endpoint: Endpoint::parse(&url, &rules).unwrap(), ..service() };
        let reply = client.get_di_job(&service, &key(), &stamp(), 7).await;
        let error = failed(reply);
        assert!(error.never_left() && error.to_string().starts_with("GetDIJob failed: the request did not leave"));
        assert!(!error.to_string().contains("Signature"), "{error}");
    }
}
