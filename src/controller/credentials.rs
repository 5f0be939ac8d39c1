//! The key that calls for an account are signed with, wherever its credentials come from.
//!
//! **May touch:** Secrets by `get`, and STS, both through what it is given.
//!
//! **Guarantees**
//! 1. A pass waits for Secrets alone; what STS is asked is asked beside it, once for all jobs of an account.
//! 2. A key's version names the source that it comes from, and stays as it is when the same source gives the next key.
//! 3. Calls of STS draw on no quota of `DataWorks`.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::{Client, ResourceExt as _};

use super::error::Error;
use super::execute::count_call;
use super::lent::{Asking, Failure, Lent, LentView, Loan};
use super::memory::Memory;
use super::objects::key_of;
use super::queue::ObjectKey;
use super::secrets::{SecretView, Secrets};
use crate::api::{AssumeRole, DataWorksAccount};
use crate::clock::Clock;
use crate::dataworks::{
    AccessKey, AssumedRole, Client as Cloud, Endpoint, Error as CloudError, ErrorKind, Operation, Reply, Role, Stamp,
};
use crate::telemetry::Metrics;

/// What flags say of credentials.
#[derive(Clone, Debug, Default)]
pub struct CredentialSettings {
    /// Where STS is, for all accounts. Absent: the host of each account's region.
    pub sts_endpoint: Option<Endpoint>,
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
    /// Whose quota its calls draw on: the id of the cloud account, or of the key where that is not known.
    pub owner: String,
}

/// The keys of all accounts.
pub struct Credentials {
    secrets: Secrets,
    lent: Lent,
    sts: Sts,
    settings: CredentialSettings,
}

/// What asks STS.
#[derive(Clone)]
struct Sts {
    cloud: Cloud,
    clock: Clock,
    metrics: Metrics,
    /// The clocks of its hosts.
    clocks: Arc<Memory>,
}

impl Credentials {
    /// None at hand.
    #[must_use]
    pub fn new(client: Client, cloud: Cloud, clock: Clock, metrics: Metrics, settings: CredentialSettings) -> Self {
        let sts = Sts { cloud, clock: clock.clone(), metrics, clocks: Arc::default() };
        Self { secrets: Secrets::new(client, clock.clone()), lent: Lent::new(clock), sts, settings }
    }

    /// The key for calls of `account` to `endpoint`.
    ///
    /// # Errors
    /// The API server could not be asked for the Secret.
    pub async fn key(&self, account: &DataWorksAccount, endpoint: &Endpoint) -> Result<KeyView, Error> {
        let (name, spec) = (key_of(account), &account.spec.credentials);
        let (key, version) = match self.secrets.key(&name.namespace, &spec.secret_ref).await? {
            SecretView::Ready(key, version) => (key, version),
            SecretView::Missing(why) => {
                self.lent.forget(&name); // no key outlives the Secret that it came from
                return Ok(KeyView::Missing(why));
            }
        };
        let Some(role) = &spec.assume_role else {
            let owner = key.id.clone();
            return Ok(KeyView::Ready(AccountKey { key, version, owner }));
        };
        let Some(host) = self.sts_of(endpoint) else { return Ok(KeyView::Missing(no_sts("assumeRole"))) };
        let (uid, generation) = (account.uid().unwrap_or_default(), account.metadata.generation.unwrap_or_default());
        let source = format!("{uid}.{generation}/{version}");
        let view = self.lent.key(&name, &source, || self.sts.clone().assuming(host, key, role_of(role)));
        Ok(match view {
            LentView::Ready(key) => {
                KeyView::Ready(AccountKey { key, version, owner: account_of(&role.role_arn).to_owned() })
            }
            LentView::Failed(Failure::Cloud(error)) => KeyView::Refused(error),
            LentView::Failed(Failure::Missing(why)) => KeyView::Missing(why),
            LentView::Pending => KeyView::Pending,
        })
    }

    /// The cloud refused this key of `account`: what it came from is read or asked anew when it is needed next.
    pub fn refused(&self, account: &DataWorksAccount, key_id: &str, error: &CloudError) {
        let name = key_of(account);
        if matches!(error.kind, ErrorKind::Denied | ErrorKind::Expired) {
            self.secrets.forget(&name.namespace, &account.spec.credentials.secret_ref.name);
        }
        let code = error.code.as_deref().unwrap_or_default();
        if error.kind == ErrorKind::Expired
            || ["InvalidAccessKeyId", "InvalidSecurityToken"].iter().any(|c| code.starts_with(c))
        {
            self.lent.expired(&name, key_id);
        }
    }

    /// The account is gone.
    pub fn forget(&self, account: &ObjectKey) {
        self.lent.forget(account);
    }

    /// The accounts whose keys came, or did not come, since the last time.
    pub fn ended(&self) -> Vec<ObjectKey> {
        self.lent.ended()
    }

    /// Returns when there are some.
    pub async fn changed(&self) {
        self.lent.changed().await;
    }

    fn sts_of(&self, endpoint: &Endpoint) -> Option<Endpoint> {
        self.settings.sts_endpoint.clone().or_else(|| endpoint.sts())
    }
}

impl Sts {
    fn assuming(self, host: Endpoint, key: AccessKey, role: Role) -> Asking {
        Box::pin(async move { self.assume(&host, &key, &role).await })
    }

    /// A key for the role; a second question if the first one bore a wrong time.
    async fn assume(&self, host: &Endpoint, key: &AccessKey, role: &Role) -> Result<Loan, Failure> {
        let ask = async || self.cloud.assume_role(host, key, &self.stamp(host), role).await;
        let (mut from, mut reply) = (self.clock.elapsed(), ask().await);
        if self.learn(host, Operation::AssumeRole, &reply) == Some(ErrorKind::ClockSkew) {
            (from, reply) = (self.clock.elapsed(), ask().await);
            self.learn(host, Operation::AssumeRole, &reply);
        }
        self.loan(from, reply)
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
            tracing::warn!(%error, "STS gave no key");
        }
        count_call(&self.metrics, operation, error);
        error.map(|error| error.kind)
    }

    /// The life of a key is measured on the cloud's clock, and counted from when it was asked for.
    fn loan(&self, from: Duration, reply: Reply<AssumedRole>) -> Result<Loan, Failure> {
        let now: Timestamp = reply.server_time.unwrap_or_else(|| self.clock.now());
        let AssumedRole { key, expiration } = reply.result.map_err(Failure::Cloud)?;
        let life = Duration::try_from(expiration.duration_since(now)).unwrap_or_default();
        Ok(Loan { key, from, until: from + life })
    }
}

fn role_of(role: &AssumeRole) -> Role {
    let AssumeRole { role_arn, session_name, external_id } = role;
    Role { arn: role_arn.clone(), session_name: session_name.clone(), external_id: external_id.clone() }
}

/// `acs:ram::<account>:role/<name>`; STS has taken it.
fn account_of(role_arn: &str) -> &str {
    role_arn.split(':').nth(3).unwrap_or_default()
}

fn no_sts(what: &str) -> String {
    format!(
        "credentials.{what} needs STS, and the host of the endpoint tells no region: set regionId instead of endpoint, or have the operator's flag --sts-endpoint name the URL of STS"
    )
}
