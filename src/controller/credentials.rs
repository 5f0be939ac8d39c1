//! The key that calls for an account are signed with, wherever its credentials come from.
//!
//! **May touch:** Secrets by `get`, and STS, both through what it is given.
//!
//! **Guarantees**
//! 1. A pass waits for Secrets alone; what STS is asked is asked beside it, once for all jobs of an account.
//! 2. A key's version names the source that it comes from, and stays as it is when the same source gives the next key.
//! 3. Calls of STS draw on no quota of `DataWorks`.

use kube::{Client, ResourceExt as _};

use super::error::Error;
use super::lenders::{Base, Lenders};
use super::lent::{Failure, Lent, LentView};
use super::objects::key_of;
use super::owners::{Owner, Owners, Subject};
use super::queue::ObjectKey;
use super::secrets::{SecretView, Secrets};
use crate::api::{AssumeRole, Credentials as Spec, DataWorksAccount, Oidc, SESSION_NAME};
use crate::clock::Clock;
use crate::dataworks::{AccessKey, Client as Cloud, Endpoint, Error as CloudError, ErrorKind, Role};
use crate::telemetry::Metrics;

/// What flags say of credentials.
#[derive(Clone, Debug, Default)]
pub struct CredentialSettings {
    /// Where STS is, for all accounts. Absent: the host of each account's region.
    pub sts_endpoint: Option<Endpoint>,
    /// Namespaces whose accounts may take the operator's own identity.
    pub own_identity_namespaces: Vec<String>,
    /// That identity. Absent: it has none.
    pub own_identity: Option<Base>,
}

/// The key of an account.
#[derive(Clone, Debug)]
pub enum KeyView {
    /// It serves.
    Ready(AccountKey),
    /// Why there is none, and what to do.
    Missing(String),
    /// STS refused it, or failed.
    Refused(CloudError),
    /// It is being asked for. The account's jobs are woken when that ends.
    Pending,
}

/// A key, and what is known of it.
#[derive(Clone, Debug)]
pub struct AccountKey {
    /// The key.
    pub key: AccessKey,
    /// Changes with its source, not with a mere renewal.
    pub version: String,
    /// Whose quota its calls draw on: the cloud account, or the key where that is not known.
    pub owner: String,
}

/// The keys of all accounts.
pub struct Credentials {
    secrets: Secrets,
    lent: Lent,
    owners: Owners,
    lenders: Lenders,
    settings: CredentialSettings,
}

/// What an account's key comes from.
enum Source {
    /// This, with a version that changes with it, and the name of its field.
    Base(Base, String, &'static str),
    /// It is missing; says what.
    Missing(String),
}

impl Credentials {
    /// None at hand.
    #[must_use]
    pub fn new(client: Client, cloud: Cloud, clock: Clock, metrics: Metrics, settings: CredentialSettings) -> Self {
        let lenders = Lenders::new(client.clone(), cloud, clock.clone(), metrics);
        let (lent, owners) = (Lent::new(clock.clone()), Owners::new(clock.clone()));
        Self { secrets: Secrets::new(client, clock), lent, owners, lenders, settings }
    }

    /// The key for calls of `account` to `endpoint`.
    ///
    /// # Errors
    /// The API server could not be asked for the Secret.
    pub async fn key(&self, account: &DataWorksAccount, endpoint: &Endpoint) -> Result<KeyView, Error> {
        let (name, spec) = (key_of(account), &account.spec.credentials);
        let (base, version, field) = match self.source(&name.namespace, spec).await? {
            Source::Base(base, version, field) => (base, version, field),
            Source::Missing(why) => {
                self.lent.forget(&name); // no key outlives the Secret that it came from
                return Ok(KeyView::Missing(why));
            }
        };
        let account_of_role =
            spec.assume_role.as_ref().map(|role| &role.role_arn).or(base.role_arn()).map(|arn| in_arn(arn));
        let stand_in = base.stand_in();
        let key = match self.lent_or_at_hand(account, endpoint, base, &version, field) {
            LentView::Ready(key) => key,
            LentView::Failed(Failure::Cloud(error)) => return Ok(KeyView::Refused(error)),
            LentView::Failed(Failure::Missing(why)) => return Ok(KeyView::Missing(why)),
            LentView::Pending => return Ok(KeyView::Pending),
        };
        let owner = match account_of_role {
            Some(account) => Owner::Account(account),
            None => self.owner(&name, &stand_in, &version, endpoint, &key),
        };
        Ok(match owner {
            // Told apart: anybody may write the number of another's account into a Secret as if it were a key's id.
            Owner::Account(id) => KeyView::Ready(AccountKey { key, version, owner: format!("account {id}") }),
            Owner::Unknown => KeyView::Ready(AccountKey { key, version, owner: format!("key {stand_in}") }),
            Owner::Pending => KeyView::Pending,
        })
    }

    fn lent_or_at_hand(
        &self,
        account: &DataWorksAccount,
        endpoint: &Endpoint,
        base: Base,
        version: &str,
        field: &str,
    ) -> LentView {
        let (name, role) = (key_of(account), account.spec.credentials.assume_role.as_ref());
        let base = match (base, role) {
            (Base::Key(key), None) => {
                self.lent.forget(&name); // it may have played a role before
                return LentView::Ready(key);
            }
            (base, _) => base,
        };
        let host = self.sts_of(endpoint);
        if host.is_none() && (role.is_some() || base.needs_sts()) {
            return LentView::Failed(Failure::Missing(no_sts(if role.is_some() { "assumeRole" } else { field })));
        }
        let (uid, generation) = (account.uid().unwrap_or_default(), account.metadata.generation);
        let source = format!("{uid}.{}/{version}", generation.unwrap_or_default());
        self.lent.key(&name, &source, || self.lenders.clone().asking(host, base, role.map(role_of)))
    }

    /// Whose a key is that plays no role which would tell it. Without STS nobody is asked.
    fn owner(&self, account: &ObjectKey, stand_in: &str, version: &str, endpoint: &Endpoint, key: &AccessKey) -> Owner {
        let Some(host) = self.sts_of(endpoint) else { return Owner::Unknown };
        let subject = Subject { namespace: account.namespace.clone(), key_id: stand_in.to_owned() };
        self.owners.owner(&subject, version, account, || Box::pin(self.lenders.clone().owner(host, key.clone())))
    }

    async fn source(&self, namespace: &str, spec: &Spec) -> Result<Source, Error> {
        Ok(match (&spec.secret_ref, &spec.oidc, &spec.operator_identity) {
            (Some(secret), None, None) => match self.secrets.key(namespace, secret).await? {
                SecretView::Ready(key, version) => Source::Base(Base::Key(key), version, "secretRef"),
                SecretView::Missing(why) => Source::Missing(why),
            },
            (None, Some(oidc), None) => Source::Base(oidc_of(namespace, oidc), "oidc".to_owned(), "oidc"),
            (None, None, Some(_)) => self.own(namespace),
            // The schema lets no other one in; the CRD may be older or newer than this operator.
            (_, _, _) => Source::Missing(
                "credentials needs exactly one of secretRef, oidc or operatorIdentity (assumeRole may come on top)"
                    .to_owned(),
            ),
        })
    }

    /// The operator's own identity, for the namespaces that may take it.
    fn own(&self, namespace: &str) -> Source {
        if !self.settings.own_identity_namespaces.iter().any(|allowed| allowed == namespace) {
            return Source::Missing(
                "operatorIdentity is not allowed in this namespace: have the operator's flag --operator-identity-namespaces name it, or set secretRef or oidc instead".to_owned(),
            );
        }
        match &self.settings.own_identity {
            Some(base) => Source::Base(base.clone(), "operator".to_owned(), "operatorIdentity"),
            None => Source::Missing(
                "the operator has no identity of its own: give it an AccessKey or a role, or set secretRef or oidc instead".to_owned(),
            ),
        }
    }

    /// The cloud refused this key of `account`: what it came from is read or asked anew when it is needed next.
    pub fn refused(&self, account: &DataWorksAccount, key_id: &str, error: &CloudError) {
        let name = key_of(account);
        if let Some(secret) = &account.spec.credentials.secret_ref
            && matches!(error.kind, ErrorKind::Denied | ErrorKind::Expired)
        {
            self.secrets.forget(&name.namespace, &secret.name);
        }
        let code = error.code.as_deref().unwrap_or_default();
        let is_of_the_key =
            ["InvalidAccessKeyId", "InvalidSecurityToken"].iter().any(|family| code.starts_with(family));
        if error.kind == ErrorKind::Expired || is_of_the_key {
            self.lent.expired(&name, key_id);
        }
    }

    /// The Secret of `account` is read when it is needed next, however young what was read of it.
    pub fn read_again(&self, account: &DataWorksAccount) {
        if let Some(secret) = &account.spec.credentials.secret_ref {
            self.secrets.forget(&key_of(account).namespace, &secret.name);
        }
    }

    /// The account is gone.
    pub fn forget(&self, account: &ObjectKey) {
        self.lent.forget(account);
    }

    /// The accounts whose keys came, or did not come, since the last time.
    pub fn ended(&self) -> Vec<ObjectKey> {
        [self.lent.ended(), self.owners.ended()].concat()
    }

    /// Returns when there are some.
    pub async fn changed(&self) {
        tokio::select! {
            () = self.lent.changed() => {}
            () = self.owners.changed() => {}
        }
    }

    fn sts_of(&self, endpoint: &Endpoint) -> Option<Endpoint> {
        self.settings.sts_endpoint.clone().or_else(|| endpoint.sts())
    }
}

fn role_of(role: &AssumeRole) -> Role {
    let AssumeRole { role_arn, session_name, external_id } = role;
    Role { arn: role_arn.clone(), session_name: session_name.clone(), external_id: external_id.clone() }
}

fn oidc_of(namespace: &str, oidc: &Oidc) -> Base {
    let Oidc { role_arn, oidc_provider_arn, service_account_ref } = oidc;
    Base::Oidc {
        namespace: namespace.to_owned(),
        service_account: service_account_ref.name.clone(),
        provider_arn: oidc_provider_arn.clone(),
        role: Role { arn: role_arn.clone(), session_name: SESSION_NAME.to_owned(), external_id: None },
    }
}

/// The account in `acs:ram::<account>:role/<name>`; a key is there only if STS has taken it.
fn in_arn(role_arn: &str) -> String {
    role_arn.split(':').nth(3).unwrap_or_default().to_owned()
}

fn no_sts(field: &str) -> String {
    format!(
        "credentials.{field} needs STS, and the host of the endpoint tells no region: set regionId instead of endpoint, or have the operator's flag --sts-endpoint name the URL of STS"
    )
}

#[cfg(test)]
impl Credentials {
    /// Nobody is asked whose this key is.
    pub(super) fn without_owner(self, namespace: &str, key_id: &str) -> Self {
        self.owners.know(namespace, key_id, None);
        self
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;

    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::dataworks::HostRules;
    use crate::dataworks::transport::{Sending, Transport, TransportError};

    /// Neither the cloud nor the API server may be asked.
    #[derive(Debug)]
    struct Nobody;

    impl Transport for Nobody {
        fn send(&self, _: http::Request<Vec<u8>>) -> Sending<'_> {
            Box::pin(async { Err(TransportError::NeverLeft("asked".to_owned())) })
        }
    }

    fn credentials(namespaces: &[&str], own_identity: Option<Base>) -> Credentials {
        let asked = |_| async { Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("asked")) };
        let own_identity_namespaces = namespaces.iter().map(|name| (*name).to_owned()).collect();
        let settings = CredentialSettings { own_identity_namespaces, own_identity, ..CredentialSettings::default() };
        let clock = Clock::seeded(Timestamp::UNIX_EPOCH, 1);
        let client = Client::new(tower::service_fn(asked), "team");
        Credentials::new(client, Cloud::new(Arc::new(Nobody)), clock, Metrics::new(), settings)
    }

    async fn key(credentials: &Credentials, spec: Value) -> String {
        let account = serde_json::from_value(json!({
            "apiVersion": "dijob.dev/v1alpha1", "kind": "DataWorksAccount", "metadata": { "namespace": "team", "name": "main" },
            "spec": { "endpoint": "http://127.0.0.1:1", "edition": "Basic", "credentials": spec },
        }));
        let rules = HostRules { allow_insecure_endpoints: true, ..HostRules::default() };
        let endpoint = Endpoint::parse("http://127.0.0.1:1", &rules).unwrap();
        match credentials.key(&account.unwrap(), &endpoint).await.unwrap() {
            KeyView::Ready(AccountKey { owner, version, .. }) => format!("{owner}, version {version}"),
            KeyView::Missing(why) => why,
            KeyView::Refused(_) | KeyView::Pending => String::new(),
        }
    }

    fn own() -> Base {
        Base::Key(AccessKey::new("LTAI", "secret", None).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn the_operator_s_identity_is_for_named_namespaces_alone() {
        let wish = || json!({ "operatorIdentity": {} });
        for refused in [&[][..], &["tea"], &["teams", ""]] {
            let told = key(&credentials(refused, Some(own())), wish()).await;
            assert!(told.starts_with("operatorIdentity is not allowed in this namespace"), "{refused:?}: {told}");
        }
        assert_eq!(key(&credentials(&["other", "team"], Some(own())), wish()).await, "key LTAI, version operator");
        let told = key(&credentials(&["team"], None), wish()).await;
        assert!(told.starts_with("the operator has no identity of its own"), "{told}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_needs_sts_says_so_where_no_host_of_it_is_known() {
        let role = json!({ "roleArn": "acs:ram::1:role/a" });
        let oidc = json!({
            "roleArn": "acs:ram::1:role/a", "oidcProviderArn": "acs:ram::1:oidc-provider/p", "serviceAccountRef": { "name": "a" },
        });
        for (spec, field) in [
            (json!({ "oidc": oidc }), "credentials.oidc needs STS"),
            (json!({ "operatorIdentity": {}, "assumeRole": role }), "credentials.assumeRole needs STS"),
        ] {
            let told = key(&credentials(&["team"], Some(own())), spec).await;
            assert!(told.starts_with(field) && told.contains("--sts-endpoint"), "{told}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_namespace_knows_of_a_key_s_owner_serves_it_alone() {
        for (namespace, owner) in [("team", "account 1000000000000001"), ("other", "key LTAI")] {
            let mut credentials = credentials(&["team"], Some(own()));
            credentials.settings.sts_endpoint = Endpoint::of_flag("http://127.0.0.1:1", true).ok();
            credentials.owners.know(namespace, "LTAI", Some("1000000000000001"));
            let wish = || json!({ "operatorIdentity": {} });
            let mut told = key(&credentials, wish()).await;
            if told.is_empty() {
                credentials.changed().await; // it was asked, and nobody answers
                told = key(&credentials, wish()).await;
            }
            assert_eq!(told, format!("{owner}, version operator"), "known in {namespace}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn none_or_two_sources_are_told() {
        for spec in [json!({}), json!({ "operatorIdentity": {}, "secretRef": { "name": "key" } })] {
            let told = key(&credentials(&["team"], Some(own())), spec).await;
            assert!(told.starts_with("credentials needs exactly one of"), "{told}");
        }
    }
}
