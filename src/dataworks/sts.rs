//! STS, version 2015-04-01: temporary keys for roles, and whose a key is. Methods of [`Client`], over the same transport.
//!
//! **May touch:** the network, through a transport. Beside [`super::sign`] it is the one place that opens a secret: the token
//! of an identity provider, into the form that STS takes it in.
//!
//! **Guarantees**
//! 1. One call of a method is one attempt, and none of them changes anything: each may be repeated.
//! 2. No text that comes out holds a part of a key or token that went in or came back.
//!
//! Source: the vendor's pages of STS 2015-04-01; the official credential providers, for what is sent unsigned. The form is
//! in the body, not in the query (2026-11): a URL is what proxies and logs keep.

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

use super::model::Answer;
use super::request::of_sts;
use super::sign::Parameters;
use super::{AccessKey, Client, Endpoint, Operation, Reply, Stamp};

/// A RAM role, and under which name it is played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// `RoleArn`: `acs:ram::<account>:role/<name>`.
    pub arn: String,
    /// `RoleSessionName`, which shows in the cloud's audit log: 2 to 64 of `A-Z a-z 0-9 . @ _ -`.
    pub session_name: String,
    /// `ExternalId`, if the role's trust policy asks for one. Not sent with the token of an identity provider.
    pub external_id: Option<String>,
}

/// Who asks for a role by a token of an identity provider.
#[derive(Clone, Debug)]
pub struct WebIdentity {
    /// `OIDCProviderArn`: `acs:ram::<account>:oidc-provider/<name>`.
    pub provider_arn: String,
    /// `OIDCToken`, a JSON Web Token.
    pub token: SecretString,
}

/// A key for a role.
#[derive(Clone, Debug)]
pub struct AssumedRole {
    /// The temporary key.
    pub key: AccessKey,
    /// When it ends, on the cloud's clock.
    pub expiration: Timestamp,
}

/// Whose a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// `AccountId`, the main account, which pays and whose quota it is: 1 to 20 digits.
    pub account_id: String,
}

impl Client {
    /// A key for `role`, asked for with another key. Lives as long as STS gives by itself: an hour.
    pub async fn assume_role(
        &self,
        endpoint: &Endpoint,
        key: &AccessKey,
        stamp: &Stamp,
        role: &Role,
    ) -> Reply<AssumedRole> {
        let mut form = form(role);
        if let Some(id) = &role.external_id {
            form.insert("ExternalId".to_owned(), id.clone());
        }
        let request = of_sts(Operation::AssumeRole, endpoint, Some(key), stamp, &form);
        self.call(Operation::AssumeRole, request, assumed).await
    }

    /// A key for `role`, asked for with a token of an identity provider. Nobody signs it.
    pub async fn assume_role_with_oidc(
        &self,
        endpoint: &Endpoint,
        identity: &WebIdentity,
        stamp: &Stamp,
        role: &Role,
    ) -> Reply<AssumedRole> {
        let token = identity.token.expose_secret();
        let mut form = form(role);
        form.insert("OIDCProviderArn".to_owned(), identity.provider_arn.clone());
        form.insert("OIDCToken".to_owned(), token.to_owned());
        let request = of_sts(Operation::AssumeRoleWithOidc, endpoint, None, stamp, &form);
        let mut reply = self.call(Operation::AssumeRoleWithOidc, request, assumed).await;
        if let Err(error) = &mut reply.result {
            // What STS says of a bad token is not documented: it may repeat it.
            error.message.take_if(|message| token.split('.').any(|part| part.len() >= 8 && message.contains(part)));
        }
        reply
    }

    /// Whose `key` is.
    pub async fn get_caller_identity(&self, endpoint: &Endpoint, key: &AccessKey, stamp: &Stamp) -> Reply<Caller> {
        let request = of_sts(Operation::GetCallerIdentity, endpoint, Some(key), stamp, &Parameters::new());
        self.call(Operation::GetCallerIdentity, request, caller).await
    }
}

fn form(role: &Role) -> Parameters {
    let Role { arn, session_name, external_id: _ } = role;
    [("RoleArn", arn), ("RoleSessionName", session_name)].map(|(name, value)| (name.to_owned(), value.clone())).into()
}

fn assumed(answer: &Answer) -> Option<AssumedRole> {
    let names = ["AccessKeyId", "AccessKeySecret", "SecurityToken", "Expiration"];
    let [id, secret, token, expiration] = answer.texts_in("Credentials", names)?;
    let key = AccessKey::new(&id, &secret, Some(&token)).ok()?;
    Some(AssumedRole { key, expiration: expiration.parse().ok()? })
}

fn caller(answer: &Answer) -> Option<Caller> {
    let account_id = answer.text("AccountId")?;
    let is_number = (1..=20).contains(&account_id.len()) && account_id.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(Caller { account_id })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use std::sync::{Arc, Mutex};

    use super::super::transport::{Sending, Transport};
    use super::super::{Error, ErrorKind};
    use super::*;

    const LENT: &str = r#"{"RequestId":"R-1","AssumedRoleUser":{},"Credentials":{"AccessKeyId":"STS.id","AccessKeySecret":"canary-lent",
        "SecurityToken":"canary-lent-token","Expiration":"2026-01-02T04:04:05Z"}}"#;

    /// Keeps each request and gives the same answer to all.
    #[derive(Debug)]
    struct Canned {
        seen: Mutex<Vec<http::Request<Vec<u8>>>>,
        status: u16,
        body: &'static str,
    }

    impl Transport for Canned {
        fn send(&self, request: http::Request<Vec<u8>>) -> Sending<'_> {
            self.seen.lock().unwrap().push(request);
            let response = http::Response::builder().status(self.status).body(self.body.into()).unwrap();
            Box::pin(async { Ok(response) })
        }
    }

    fn canned(status: u16, body: &'static str) -> (Arc<Canned>, Client) {
        let canned = Arc::new(Canned { seen: Mutex::default(), status, body });
        (canned.clone(), Client::new(canned))
    }

    fn sts() -> Endpoint {
        Endpoint::of_region("cn-shanghai", false).unwrap().sts().unwrap()
    }

    fn key() -> AccessKey {
        AccessKey::new("testId", "testSecret", None).unwrap()
    }

    fn stamp() -> Stamp {
        Stamp { nonce: "0f1e2d3c".into(), time: "2026-01-02T03:04:05.987Z".parse().unwrap() }
    }

    fn role() -> Role {
        Role {
            arn: "acs:ram::1:role/starter".to_owned(),
            session_name: "dijob-operator".to_owned(),
            external_id: Some("e/1".to_owned()),
        }
    }

    fn identity() -> WebIdentity {
        let token = "eyJhbGciOi.canary-oidc-claims.c2lnbmF0dXJl".into();
        WebIdentity { provider_arn: "acs:ram::1:oidc-provider/ack".to_owned(), token }
    }

    async fn assume(client: &Client) -> Reply<AssumedRole> {
        client.assume_role(&sts(), &key(), &stamp(), &role()).await
    }

    async fn assume_with_token(client: &Client) -> Reply<AssumedRole> {
        client.assume_role_with_oidc(&sts(), &identity(), &stamp(), &role()).await
    }

    fn sent(canned: &Canned) -> (String, String, String) {
        let seen = canned.seen.lock().unwrap();
        assert_eq!((seen.len(), seen[0].method().as_str()), (1, "POST"));
        let query = seen[0].uri().query().unwrap().to_owned();
        let names: Vec<&str> = query.split('&').map(|pair| pair.split('=').next().unwrap()).collect();
        (seen[0].uri().host().unwrap().to_owned(), names.join(" "), String::from_utf8(seen[0].body().clone()).unwrap())
    }

    #[tokio::test]
    async fn a_role_is_asked_for_by_a_signed_form_and_its_key_is_read() {
        let (canned, client) = canned(200, LENT);
        let lent = assume(&client).await.result.unwrap();
        assert_eq!((lent.key.id.as_str(), lent.expiration), ("STS.id", "2026-01-02T04:04:05Z".parse().unwrap()));
        assert_eq!(lent.key.security_token.as_ref().unwrap().expose_secret(), "canary-lent-token");
        let (host, names, form) = sent(&canned);
        assert_eq!(host, "sts.cn-shanghai.aliyuncs.com");
        let signed =
            "AccessKeyId Action Format Signature SignatureMethod SignatureNonce SignatureVersion Timestamp Version";
        assert_eq!(names, signed);
        assert_eq!(form, "ExternalId=e%2F1&RoleArn=acs%3Aram%3A%3A1%3Arole%2Fstarter&RoleSessionName=dijob-operator");
    }

    #[tokio::test]
    async fn a_token_is_sent_in_the_form_unsigned() {
        let (canned, client) = canned(200, LENT);
        assert_eq!(assume_with_token(&client).await.result.unwrap().key.id, "STS.id");
        let (_, names, form) = sent(&canned);
        assert_eq!(names, "Action Format Timestamp Version");
        assert!(form.contains("OIDCToken=eyJhbGciOi.canary-oidc-claims") && !form.contains("ExternalId"), "{form}");
    }

    #[tokio::test]
    async fn the_account_of_a_key_is_told() {
        let (sent_to, client) = canned(200, r#"{"AccountId":"1000000000000001","IdentityType":"RAMUser"}"#);
        let caller = client.get_caller_identity(&sts(), &key(), &stamp()).await.result.unwrap();
        assert_eq!(caller.account_id, "1000000000000001");
        assert_eq!(sent(&sent_to).2, "");
        for body in ["{}", r#"{"AccountId":""}"#, r#"{"AccountId":"one"}"#, r#"{"AccountId":"123456789012345678901"}"#]
        {
            let (_, client) = canned(200, body);
            let error = client.get_caller_identity(&sts(), &key(), &stamp()).await.result.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Server, "{body}");
        }
    }

    #[tokio::test]
    async fn an_answer_without_a_whole_key_is_none() {
        for body in [
            "{}",
            r#"{"Credentials":{}}"#,
            r#"{"Credentials":{"AccessKeyId":"a","AccessKeySecret":"b","SecurityToken":"c"}}"#,
            r#"{"Credentials":{"AccessKeyId":"a","AccessKeySecret":"b","SecurityToken":"c","Expiration":"soon"}}"#,
            r#"{"Credentials":{"AccessKeyId":"a b","AccessKeySecret":"b","SecurityToken":"c","Expiration":"2026-01-02T04:04:05Z"}}"#,
        ] {
            let (_, client) = canned(200, body);
            assert_eq!(assume(&client).await.result.unwrap_err().kind, ErrorKind::Server, "{body}");
        }
    }

    fn refused(reply: Reply<AssumedRole>) -> Error {
        reply.result.unwrap_err()
    }

    #[tokio::test]
    async fn refusals_are_read_by_the_same_table() {
        let (_, client) = canned(403, r#"{"RequestId":"R-1","Code":"NoPermission","Message":"no"}"#);
        let error = refused(assume(&client).await);
        assert_eq!((error.operation, error.kind), (Operation::AssumeRole, ErrorKind::Denied));
        assert_eq!(error.to_string(), "AssumeRole failed: NoPermission: no (RequestId R-1, HTTP 403)");
        let (_, client) = canned(502, "<html>");
        assert_eq!(refused(assume_with_token(&client).await).kind, ErrorKind::Server);
    }

    #[tokio::test]
    async fn the_canary_appears_in_no_output() {
        let (_, client) = canned(200, LENT);
        let (with_key, with_token) = (assume(&client).await, assume_with_token(&client).await);
        let mut shown = format!("{with_key:?} {with_token:?} {:?}", identity());
        for message in ["bad token eyJhbGciOi.canary-oidc-claims.c2lnbmF0dXJl", "claims canary-oidc-claims are bad"] {
            let body =
                format!(r#"{{"RequestId":"R","Code":"AuthenticationFail.OIDCToken.Invalid","Message":"{message}"}}"#);
            let (_, client) = canned(401, Box::leak(body.into_boxed_str()));
            let error = refused(assume_with_token(&client).await);
            assert_eq!(error.code.as_deref(), Some("AuthenticationFail.OIDCToken.Invalid"));
            shown = format!("{shown} {error} {error:?}");
        }
        let answer = Answer::parse(LENT.as_bytes()).unwrap();
        assert!(!format!("{shown} {answer:?}").contains("canary"), "{shown}");
    }
}
