//! Who lends keys: STS, asked with a key or with a token of a ServiceAccount or of a file; the machine's metadata service.
//!
//! **May touch:** STS; the TokenRequest API of ServiceAccounts in an account's own namespace; for the operator's own identity
//! the file and the metadata service that its environment names.
//!
//! **Guarantees**
//! 1. A token is asked for one audience, STS's, and lives for one question.
//! 2. What is asked here is asked once; who asks again, and when, is said in [`super::lent`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};

use super::error::{short, whole};
use super::execute::count_call;
use super::lent::{Asking, Failure, Loan};
use super::memory::Memory;
use crate::api::is_object_name;
use crate::clock::Clock;
use crate::dataworks::error::safe_text;
use crate::dataworks::{
    AccessKey, AssumedRole, Client as Cloud, Endpoint, ErrorKind, MachineProblem, Operation, Reply, Role, Stamp,
    WebIdentity,
};
use crate::telemetry::Metrics;

/// What STS wants to be named in a token.
const AUDIENCE: &str = "sts.aliyuncs.com";
/// The life of a token, the least that is common to clusters; STS takes it once.
const TOKEN_SECONDS: i64 = 3600;

/// What the first key comes from.
#[derive(Clone, Debug)]
pub enum Base {
    /// It is at hand.
    Key(AccessKey),
    /// A token of a ServiceAccount of this namespace.
    Oidc {
        /// Namespace of the account, and so of the ServiceAccount.
        namespace: String,
        /// Its name.
        service_account: String,
        /// The identity provider that knows the cluster.
        provider_arn: String,
        /// The role that the token may play.
        role: Role,
    },
    /// A token in a file, the operator's own.
    TokenFile {
        /// The file. It is written anew before the token ends.
        path: PathBuf,
        /// The identity provider that knows the token.
        provider_arn: String,
        /// The role that the token may play.
        role: Role,
    },
    /// The role of the machine that the operator runs on.
    Machine {
        /// Its metadata service.
        endpoint: Endpoint,
        /// The role's name; absent: the machine is asked.
        role: Option<String>,
    },
}

impl Base {
    /// The role that its key plays by itself, if its name is known.
    #[must_use]
    pub fn role_arn(&self) -> Option<&String> {
        match self {
            Self::Oidc { role, .. } | Self::TokenFile { role, .. } => Some(&role.arn),
            Self::Key(_) | Self::Machine { .. } => None,
        }
    }

    /// What its calls are counted under as long as nobody tells whose they are. Keys of a machine come and go, and the budget
    /// must not go with them.
    #[must_use]
    pub fn stand_in(&self) -> String {
        match self {
            Self::Key(key) => key.id.clone(),
            Self::Oidc { role, .. } | Self::TokenFile { role, .. } => role.arn.clone(),
            Self::Machine { .. } => "machine".to_owned(),
        }
    }

    /// Whether STS is asked for its key.
    #[must_use]
    pub fn needs_sts(&self) -> bool {
        match self {
            Self::Oidc { .. } | Self::TokenFile { .. } => true,
            Self::Key(_) | Self::Machine { .. } => false,
        }
    }
}

/// What STS is shown.
enum Proof {
    Key(AccessKey),
    Token(WebIdentity),
}

/// What asks. Cheap to clone.
#[derive(Clone)]
pub struct Lenders {
    client: Client,
    cloud: Cloud,
    clock: Clock,
    metrics: Metrics,
    /// The clocks of the hosts of STS.
    clocks: Arc<Memory>,
}

impl Lenders {
    /// Nobody was asked yet.
    #[must_use]
    pub fn new(client: Client, cloud: Cloud, clock: Clock, metrics: Metrics) -> Self {
        Self { client, cloud, clock, metrics, clocks: Arc::default() }
    }

    /// A key from `base`, and with it one for `role` if there is one.
    /// `host` is that of STS; without it only what needs none can be had.
    pub fn asking(self, host: Option<Endpoint>, base: Base, role: Option<Role>) -> Asking {
        Box::pin(async move {
            let host = host.ok_or_else(|| Failure::Missing("no host of STS is known".to_owned()));
            let first = match base {
                // What is at hand has no end that is known here.
                Base::Key(key) => Loan { key, from: Duration::ZERO, until: Duration::MAX },
                Base::Oidc { namespace, service_account, provider_arn, role } => {
                    let token = self.token(&namespace, &service_account).await?.into();
                    self.assume(&host.clone()?, &Proof::Token(WebIdentity { provider_arn, token }), &role).await?
                }
                Base::TokenFile { path, provider_arn, role } => {
                    let token = token_in(&path)?.into();
                    self.assume(&host.clone()?, &Proof::Token(WebIdentity { provider_arn, token }), &role).await?
                }
                Base::Machine { endpoint, role } => self.machine(&endpoint, role.as_deref()).await?,
            };
            match role {
                Some(role) => self.assume(&host?, &Proof::Key(first.key), &role).await,
                None => Ok(first),
            }
        })
    }

    /// A token of a ServiceAccount, for STS.
    async fn token(&self, namespace: &str, name: &str) -> Result<String, Failure> {
        if !is_object_name(name) {
            return Err(Failure::Missing(format!(
                "no ServiceAccount can have the name \"{}\": correct credentials.oidc.serviceAccountRef.name",
                safe_text(name)
            )));
        }
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: vec![AUDIENCE.to_owned()],
                expiration_seconds: Some(TOKEN_SECONDS),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let told = match whole(api.create_token_request(name, &PostParams::default(), &request)).await {
            Ok(answer) => return Ok(answer.status.map(|status| status.token).unwrap_or_default()),
            Err(kube::Error::Api(status)) if status.code == 403 => format!(
                "the operator may not ask for a token of ServiceAccount \"{name}\": apply the Role and RoleBinding of deploy/oidc with its name to this namespace"
            ),
            Err(kube::Error::Api(status)) if status.code == 404 => {
                format!("ServiceAccount \"{name}\" does not exist in this namespace: create it")
            }
            Err(error) => {
                tracing::warn!(namespace, name, error = short(&error), "no token of a ServiceAccount");
                format!(
                    "no token of ServiceAccount \"{name}\" can be had from the Kubernetes API; it is asked for again"
                )
            }
        };
        Err(Failure::Missing(told))
    }

    /// A key for the role; a second question if the first one bore a wrong time.
    async fn assume(&self, host: &Endpoint, proof: &Proof, role: &Role) -> Result<Loan, Failure> {
        let operation = match proof {
            Proof::Key(_) => Operation::AssumeRole,
            Proof::Token(_) => Operation::AssumeRoleWithOidc,
        };
        let (mut from, mut reply) = (self.clock.elapsed(), self.ask(host, proof, role).await);
        if self.learn(host, operation, &reply) == Some(ErrorKind::ClockSkew) {
            (from, reply) = (self.clock.elapsed(), self.ask(host, proof, role).await);
            self.learn(host, operation, &reply);
        }
        self.loan(from, reply)
    }

    /// A key of the role that the machine plays.
    async fn machine(&self, endpoint: &Endpoint, role: Option<&str>) -> Result<Loan, Failure> {
        let from = self.clock.elapsed();
        let problem = match self.cloud.machine_key(endpoint, role).await {
            Ok(reply) => {
                self.learn(endpoint, Operation::MachineKey, &reply);
                return self.loan(from, reply);
            }
            Err(problem) => problem,
        };
        match problem {
            MachineProblem::NoRole => Err(Failure::Missing(
                "the machine that the operator runs on plays no RAM role: attach one to it, or give the operator another identity".to_owned(),
            )),
            MachineProblem::Failed(error) => {
                count_call(&self.metrics, Operation::MachineKey, Some(&error));
                Err(Failure::Cloud(error))
            }
        }
    }

    /// The life of a key is measured on the cloud's clock, and counted from when it was asked for.
    fn loan(&self, from: Duration, reply: Reply<AssumedRole>) -> Result<Loan, Failure> {
        let now = reply.server_time.unwrap_or_else(|| self.clock.now());
        let AssumedRole { key, expiration } = reply.result.map_err(Failure::Cloud)?;
        let life = Duration::try_from(expiration.duration_since(now)).unwrap_or_default();
        Ok(Loan { key, from, until: from + life })
    }

    async fn ask(&self, host: &Endpoint, proof: &Proof, role: &Role) -> Reply<AssumedRole> {
        let stamp = self.stamp(host);
        match proof {
            Proof::Key(key) => self.cloud.assume_role(host, key, &stamp, role).await,
            Proof::Token(identity) => self.cloud.assume_role_with_oidc(host, identity, &stamp, role).await,
        }
    }

    /// The main account of a key, if STS tells it.
    pub async fn owner(self, host: Endpoint, key: AccessKey) -> Option<String> {
        let reply = self.cloud.get_caller_identity(&host, &key, &self.stamp(&host)).await;
        if let Some(theirs) = reply.server_time {
            self.clocks.learn_time(host.host(), theirs, self.clock.now());
        }
        count_call(&self.metrics, Operation::GetCallerIdentity, reply.result.as_ref().err());
        match reply.result {
            Ok(caller) => Some(caller.account_id),
            Err(error) => {
                tracing::info!(%error, "STS does not tell whose a key is: its calls are counted apart");
                None
            }
        }
    }

    fn stamp(&self, host: &Endpoint) -> Stamp {
        let now = self.clock.now();
        let time = now.checked_add(self.clocks.offset(host.host())).unwrap_or(now);
        Stamp { nonce: self.clock.nonce(), time }
    }

    /// What any answer teaches: the host's clock, a count. Gives the kind of its failure.
    fn learn<T>(&self, host: &Endpoint, operation: Operation, reply: &Reply<T>) -> Option<ErrorKind> {
        if let Some(theirs) = reply.server_time {
            self.clocks.learn_time(host.host(), theirs, self.clock.now());
        }
        let error = reply.result.as_ref().err();
        if let Some(error) = error {
            tracing::warn!(%error, "no key was lent");
        }
        count_call(&self.metrics, operation, error);
        error.map(|error| error.kind)
    }
}

fn token_in(path: &Path) -> Result<String, Failure> {
    let token = std::fs::read_to_string(path).map(|text| text.trim().to_owned());
    token.map_err(|problem| {
        Failure::Missing(format!(
            "the operator cannot read its own token, the file {}: {problem}",
            safe_text(&path.display().to_string())
        ))
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use std::collections::VecDeque;
    use std::sync::Mutex;

    use jiff::Timestamp;
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;
    use crate::dataworks::transport::{Sending, Transport};

    const LENT: &str = r#"{"RequestId":"R-2","Credentials":{"AccessKeyId":"STS.id","AccessKeySecret":"s","SecurityToken":"t","Expiration":"1970-01-01T02:00:00Z"}}"#;

    /// STS with an hour more on its clock; answers in turn, and keeps the signed time of each question.
    #[derive(Debug, Default)]
    struct Sts {
        answers: Mutex<VecDeque<(u16, &'static str)>>,
        signed: Mutex<Vec<String>>,
    }

    impl Transport for Sts {
        fn send(&self, request: http::Request<Vec<u8>>) -> Sending<'_> {
            let query = request.uri().query().unwrap_or_default();
            let signed = query.split('&').find_map(|pair| pair.strip_prefix("Timestamp=")).unwrap_or_default();
            self.signed.lock().unwrap().push(signed.replace("%3A", ":"));
            let (status, body) = self.answers.lock().unwrap().pop_front().unwrap();
            let answer = http::Response::builder().status(status).header("date", "Thu, 01 Jan 1970 01:00:00 GMT");
            Box::pin(async move { Ok(answer.body(body.into()).unwrap()) })
        }
    }

    /// What the API server was asked: path and body.
    type Asked = Arc<Mutex<Vec<(String, Value)>>>;

    /// It gives a token, or refuses with this code.
    fn cluster(code: u16) -> (Client, Asked) {
        let asked = Asked::default();
        let kept = asked.clone();
        let serve = move |request: http::Request<Body>| {
            let kept = kept.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = serde_json::from_slice(&body.collect_bytes().await?)?;
                kept.lock().unwrap().push((head.uri.path().to_owned(), body));
                let answer = match code {
                    200 => json!({
                        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {},
                        "spec": { "audiences": ["sts.aliyuncs.com"] },
                        "status": { "token": "header.claims.signature", "expirationTimestamp": "1970-01-01T01:00:00Z" },
                    }),
                    code => {
                        json!({ "kind": "Status", "status": "Failure", "code": code, "reason": "No", "message": "no" })
                    }
                };
                let answer = http::Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
                Ok::<_, tower::BoxError>(answer?)
            }
        };
        (Client::new(tower::service_fn(serve), "team"), asked)
    }

    fn lenders(client: Client, sts: &Arc<Sts>) -> Lenders {
        Lenders::new(client, Cloud::new(sts.clone()), Clock::seeded(Timestamp::UNIX_EPOCH, 1), Metrics::new())
    }

    fn host() -> Option<Endpoint> {
        Endpoint::of_region("cn-shanghai", false).unwrap().sts()
    }

    fn role() -> Role {
        Role { arn: "acs:ram::1:role/a".to_owned(), session_name: "s".to_owned(), external_id: None }
    }

    fn oidc(name: &str) -> Base {
        Base::Oidc {
            namespace: "team".to_owned(),
            service_account: name.to_owned(),
            provider_arn: "acs:ram::1:oidc-provider/p".to_owned(),
            role: role(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_with_a_wrong_time_is_asked_once_more_on_the_clock_of_sts() {
        let skew = r#"{"RequestId":"R-1","Code":"InvalidTimeStamp.Expired","Message":"late"}"#;
        let key = || Base::Key(AccessKey::new("id", "secret", None).unwrap());
        let sts = Arc::new(Sts { answers: Mutex::new([(400, skew), (200, LENT)].into()), ..Sts::default() });
        let loan = lenders(cluster(200).0, &sts).asking(host(), key(), Some(role())).await.unwrap();
        assert_eq!(*sts.signed.lock().unwrap(), ["1970-01-01T00:00:00Z", "1970-01-01T01:00:00Z"]);
        let hour = Duration::from_secs(3600);
        assert_eq!(loan.until.checked_sub(loan.from), Some(hour), "its life is measured on that clock, too");

        let sts = Arc::new(Sts { answers: Mutex::new([(400, skew), (400, skew)].into()), ..Sts::default() });
        let failure = lenders(cluster(200).0, &sts).asking(host(), key(), Some(role())).await.unwrap_err();
        assert!(matches!(failure, Failure::Cloud(error) if error.kind == ErrorKind::ClockSkew));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_asked_for_the_one_audience_in_the_account_s_own_namespace() {
        let sts = Arc::new(Sts { answers: Mutex::new([(200, LENT)].into()), ..Sts::default() });
        let (client, asked) = cluster(200);
        assert_eq!(lenders(client, &sts).asking(host(), oidc("dijob"), None).await.unwrap().key.id, "STS.id");
        let asked = asked.lock().unwrap().remove(0);
        assert_eq!(asked.0, "/api/v1/namespaces/team/serviceaccounts/dijob/token");
        assert_eq!(asked.1["spec"], json!({ "audiences": ["sts.aliyuncs.com"], "expirationSeconds": 3600 }));
    }

    async fn missing(code: u16, name: &str) -> (String, usize) {
        let (client, asked) = cluster(code);
        match lenders(client, &Arc::default()).asking(host(), oidc(name), None).await {
            Err(Failure::Missing(why)) => (why, asked.lock().unwrap().len()),
            other => (format!("{other:?}"), 0),
        }
    }

    /// Covers: 38u.
    #[tokio::test(start_paused = true)]
    async fn a_name_that_no_service_account_can_have_is_told_and_not_asked_for() {
        for name in ["../../other/serviceaccounts/dijob", "..", "two words", "dijob/token?x"] {
            let (why, asked) = missing(200, name).await;
            assert!(why.starts_with("no ServiceAccount can have the name ") && asked == 0, "{why}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_is_not_to_be_had_is_told_with_what_to_do() {
        for (code, part) in
            [(403, "apply the Role and RoleBinding of deploy/oidc"), (404, "create it"), (500, "asked for again")]
        {
            let (why, asked) = missing(code, "dijob").await;
            assert!(why.contains("\"dijob\"") && why.contains(part) && asked == 1, "{code}: {why}");
        }
    }
}
