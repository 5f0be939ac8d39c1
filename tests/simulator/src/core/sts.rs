//! STS, version 2015-04-01: who a key belongs to, and temporary keys for roles.
//!
//! **May touch:** the cloud's keys; time is passed in.
//!
//! **Guarantees**
//! 1. A role or provider that no switch declares does not exist.
//! 2. A token of a provider is taken only if its issuer is listed, or the token itself was announced; its signature is
//!    not looked at. Of announced tokens the hash alone is kept.
//! 3. STS draws on no quota of `DataWorks`.
//!
//! Source: the vendor's pages of STS 2015-04-01; the official credential providers, for what is sent unsigned.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::acs3::hex;
use super::answer::Refusal;
use super::call::required;
use super::identity::{Caller, Keys, RoleArn, Session, Temporary, number};
use super::jwt::Claims;
use super::signature::Parameters;

/// Who may play which role, and how temporary keys behave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Sts {
    /// Roles by ARN: `acs:ram::<account>:role/<name>`.
    pub roles: BTreeMap<String, Role>,
    /// Identity providers by ARN: `acs:ram::<account>:oidc-provider/<name>`.
    pub providers: BTreeMap<String, Provider>,
    /// How long temporary keys live; absent: as asked.
    pub life: Option<SignedDuration>,
    /// How much earlier than told they end.
    pub expires_early: SignedDuration,
    /// The answer to every call with a temporary key, to `DataWorks` and STS alike; absent: none.
    pub refused: Option<Refusal>,
}

/// A role and whom it trusts. Empty lists trust everybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Role {
    /// Main accounts whose users and roles may play it.
    pub accounts: Vec<String>,
    /// `ExternalId` that they must name; absent: none.
    pub external_id: Option<String>,
    /// ARNs of the providers whose tokens may play it.
    pub providers: Vec<String>,
    /// Subjects of those tokens, as `system:serviceaccount:<namespace>:<name>`.
    pub subjects: Vec<String>,
    /// Longest life that may be asked.
    pub max_session: SignedDuration,
}

impl Default for Role {
    fn default() -> Self {
        Self { accounts: Vec::new(), external_id: None, providers: Vec::new(), subjects: Vec::new(), max_session: HOUR }
    }
}

/// A provider of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Provider {
    /// `iss` of tokens that are taken unseen.
    pub issuers: Vec<String>,
    /// What `aud` must hold.
    pub audience: String,
}

impl Default for Provider {
    fn default() -> Self {
        Self { issuers: Vec::new(), audience: "sts.aliyuncs.com".to_owned() }
    }
}

/// What is asked if nothing is asked.
const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// The least that may be asked.
const LEAST: SignedDuration = SignedDuration::from_mins(15);

/// Tokens that are taken though their issuer is not listed: provider and hash.
#[derive(Clone, Debug, Default)]
pub struct Announced(BTreeSet<(String, String)>);

impl Announced {
    pub(crate) fn add(&mut self, provider: &str, token: &str) {
        self.0.insert((provider.to_owned(), hash(token)));
    }

    fn has(&self, provider: &str, token: &str) -> bool {
        self.0.contains(&(provider.to_owned(), hash(token)))
    }
}

fn hash(token: &str) -> String {
    hex(&Sha256::digest(token))
}

/// `GetCallerIdentity`.
pub(crate) fn identity(caller: &Caller) -> Value {
    let (account, arn) = (&caller.account, caller.arn());
    match &caller.session {
        None => {
            let id = number(&format!("{account} {}", caller.key_id));
            json!({ "IdentityType": "RAMUser", "AccountId": account, "UserId": id, "PrincipalId": id, "Arn": arn })
        }
        Some(session) => {
            let id = session.role.id();
            let principal = format!("{id}:{}", session.name);
            json!({
                "IdentityType": "AssumedRoleUser", "AccountId": account, "RoleId": id, "PrincipalId": principal, "Arn": arn,
            })
        }
    }
}

/// `AssumeRole` and `AssumeRoleWithOIDC`.
pub(crate) struct Lender<'a> {
    pub clock: Timestamp,
    pub parameters: &'a Parameters,
    pub switches: &'a Sts,
    pub keys: &'a mut Keys,
}

impl<'a> Lender<'a> {
    fn required(&self, name: &str) -> Result<&'a str, Refusal> {
        required(name, self.parameters.get(name))
    }

    /// `AssumeRole` by a caller whose signature was right.
    pub(crate) fn assume(mut self, caller: &Caller) -> Result<Value, Refusal> {
        let (session, role) = self.asked()?;
        let is_known = role.accounts.is_empty() || role.accounts.contains(&caller.account);
        let given = self.parameters.get("ExternalId");
        let is_named = role.external_id.as_deref().is_none_or(|wanted| given == Some(wanted));
        if !is_known || !is_named {
            return Err(Refusal::of("NoPermission"));
        }
        self.lend(session, role)
    }

    /// `AssumeRoleWithOIDC` by whoever has a token.
    pub(crate) fn assume_with_token(mut self, announced: &Announced) -> Result<Value, Refusal> {
        let (arn, token) = (self.required("OIDCProviderArn")?, self.required("OIDCToken")?);
        let provider = self.switches.providers.get(arn).ok_or_else(|| {
            Refusal::of("AuthenticationFail.NoPermission").with_message("No such OIDC Provider registered.")
        })?;
        let claims = Claims::read(token)?;
        if !provider.issuers.contains(&claims.iss) && !announced.has(arn, token) {
            return Err(Refusal::of("AuthenticationFail.OIDCToken.InvalidSignature"));
        }
        claims.check(self.clock, &provider.audience)?;
        let (session, role) = self.asked()?;
        let trusts = |list: &[String], one: &str| list.is_empty() || list.iter().any(|trusted| trusted == one);
        if !trusts(&role.providers, arn) || !trusts(&role.subjects, &claims.sub) {
            return Err(Refusal::of("AuthenticationFail.NoPermission"));
        }
        let mut answer = self.lend(session, role)?;
        if let Some(fields) = answer.as_object_mut() {
            fields.insert("OIDCTokenInfo".to_owned(), token_info(&claims));
        }
        Ok(answer)
    }

    /// The role that is asked for, and what it asks.
    fn asked(&self) -> Result<(Session, &'a Role), Refusal> {
        let arn = self.required("RoleArn")?;
        let name = self.required("RoleSessionName")?;
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b".@-_".contains(&byte);
        if !(2..=64).contains(&name.len()) || !name.bytes().all(is_of_name) {
            return Err(Refusal::of("InvalidParameter.RoleSessionName"));
        }
        let role = RoleArn::parse(arn).ok_or_else(|| Refusal::of("InvalidParameter.RoleArn"))?;
        let trust = self.switches.roles.get(arn).ok_or_else(|| Refusal::of("EntityNotExist.Role"))?;
        Ok((Session { role, name: name.to_owned() }, trust))
    }

    fn lend(&mut self, session: Session, role: &Role) -> Result<Value, Refusal> {
        let invalid = || Refusal::of("InvalidParameter.DurationSeconds");
        let asked = match self.parameters.get("DurationSeconds") {
            None | Some("") => HOUR.min(role.max_session),
            Some(seconds) => SignedDuration::from_secs(seconds.parse().map_err(|_| invalid())?),
        };
        if asked < LEAST || asked > role.max_session {
            return Err(invalid());
        }
        let RoleArn { account, name } = &session.role;
        let user = json!({
            "Arn": format!("acs:ram::{account}:role/{name}/{}", session.name),
            "AssumedRoleId": format!("{}:{}", session.role.id(), session.name),
        });
        let life = self.switches.life.unwrap_or(asked);
        let (id, lent) = self.keys.lend(self.clock, session, life);
        Ok(json!({ "AssumedRoleUser": user, "Credentials": credentials(&id, &lent) }))
    }
}

/// What a client needs to call with a temporary key.
pub(crate) fn credentials(id: &str, lent: &Temporary) -> Value {
    json!({
        "AccessKeyId": id,
        "AccessKeySecret": lent.key.secret,
        "SecurityToken": lent.token,
        "Expiration": in_seconds(lent.expiration),
    })
}

/// `2026-01-02T03:04:05Z`.
pub(crate) fn in_seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn token_info(claims: &Claims) -> Value {
    let time = |seconds| Timestamp::from_second(seconds).map(in_seconds).unwrap_or_default();
    json!({
        "Subject": claims.sub,
        "Issuer": claims.iss,
        "ClientIds": claims.aud.all().join(","),
        "ExpirationTime": time(claims.exp),
        "IssuanceTime": claims.iat.map(time),
        "VerificationInfo": "Success",
    })
}
