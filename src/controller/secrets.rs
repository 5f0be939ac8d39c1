//! Access keys, read from Secrets by `get` alone: no right to list or watch them is asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use super::error::{Error, whole};
use crate::api::{SecretRef, is_object_name};
use crate::clock::Clock;
use crate::dataworks::AccessKey;
use crate::dataworks::error::safe_text;

/// A Secret is not read more often than this, whatever the number of jobs that need it.
const FRESH: Duration = Duration::from_secs(4);

/// What a Secret gave.
#[derive(Clone, Debug)]
pub enum SecretView {
    /// The access key, and a version that changes with the Secret.
    Ready(AccessKey, String),
    /// Why there is none, and what to do.
    Missing(String),
}

type Entry = Arc<tokio::sync::Mutex<Option<(Duration, Option<Secret>)>>>;

/// A cache of seconds.
pub struct Secrets {
    client: Client,
    clock: Clock,
    entries: Mutex<BTreeMap<(String, String), Entry>>,
}

impl Secrets {
    /// An empty cache.
    #[must_use]
    pub fn new(client: Client, clock: Clock) -> Self {
        Self { client, clock, entries: Mutex::default() }
    }

    /// The access key that `from` names in `namespace`.
    ///
    /// # Errors
    /// The API server could not be asked.
    pub async fn key(&self, namespace: &str, from: &SecretRef) -> Result<SecretView, Error> {
        if !is_object_name(&from.name) {
            return Ok(SecretView::Missing(format!(
                "no Secret can have the name \"{}\": correct credentials.secretRef.name",
                safe_text(&from.name)
            )));
        }
        let entry = self.entry(namespace, &from.name);
        // One read at a time for one Secret: who waits here takes what the first one read.
        let mut entry = entry.lock().await;
        let now = self.clock.elapsed();
        if entry.as_ref().is_none_or(|(at, _)| now.saturating_sub(*at) > FRESH) {
            let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
            match whole(api.get_opt(&from.name)).await {
                Ok(secret) => *entry = Some((now, secret)),
                Err(kube::Error::Api(status)) if status.code == 403 => {
                    return Ok(SecretView::Missing(format!(
                        "the operator may not read Secret \"{}\": bind the ClusterRole dijob-operator-secrets to it in this namespace",
                        from.name
                    )));
                }
                Err(error) => return Err(Error::kube("cannot read the Secret")(error)),
            }
        }
        Ok(entry.as_ref().map_or_else(|| parse(None, from), |(_, secret)| parse(secret.as_ref(), from)))
    }

    /// The cloud refused the key: it is read again when it is needed next.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.lock().remove(&(namespace.to_owned(), name.to_owned()));
    }

    fn entry(&self, namespace: &str, name: &str) -> Entry {
        self.lock().entry((namespace.to_owned(), name.to_owned())).or_default().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, String), Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parse(secret: Option<&Secret>, from: &SecretRef) -> SecretView {
    let SecretRef { name, access_key_id_key: id_key, access_key_secret_key: secret_key, security_token_key } = from;
    let Some(secret) = secret else {
        return SecretView::Missing(format!(
            "Secret \"{name}\" does not exist in this namespace: create it with the keys {id_key} and {secret_key}"
        ));
    };
    let text = |key: &str| {
        let bytes = secret
            .data
            .as_ref()
            .and_then(|d| d.get(key))
            .ok_or_else(|| format!("Secret \"{name}\" has no key {key}: add it"))?;
        std::str::from_utf8(&bytes.0)
            .map_err(|_| format!("key {key} of Secret \"{name}\" is not text: store the AccessKey as it was given"))
    };
    let key = || {
        let token = security_token_key.as_deref().map(text).transpose()?;
        let key = AccessKey::new(text(id_key)?, text(secret_key)?, token);
        key.map_err(|problem| format!("Secret \"{name}\": {problem}"))
    };
    let version = secret.metadata.resource_version.clone().unwrap_or_default();
    match key() {
        Ok(key) => SecretView::Ready(key, version),
        Err(why) => SecretView::Missing(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_no_secret_can_have_is_told_and_not_asked_for() {
        let asked = |_| async { Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("asked")) };
        let secrets = Secrets::new(Client::new(tower::service_fn(asked), "team"), Clock::system());
        let from = |name: &str| SecretRef {
            name: name.to_owned(),
            access_key_id_key: "id".to_owned(),
            access_key_secret_key: "secret".to_owned(),
            security_token_key: None,
        };
        assert!(secrets.key("team", &from("key")).await.is_err(), "a name like others is asked for");
        for name in ["../../other/secrets/key", "..", "two words", "key?watch=true"] {
            let told = secrets.key("team", &from(name)).await.ok();
            let no_name = |why: &str| why.starts_with("no Secret can have the name ");
            assert!(matches!(&told, Some(SecretView::Missing(why)) if no_name(why)), "{told:?}");
        }
    }

    #[test]
    fn a_temporary_key_needs_the_token_that_is_named() {
        let data = |pairs: &[(&str, &str)]| {
            let data = pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), k8s_openapi::ByteString((*value).as_bytes().to_vec())));
            Secret { data: Some(data.collect()), ..Secret::default() }
        };
        let from = |token: Option<&str>| SecretRef {
            name: "key".to_owned(),
            access_key_id_key: "id".to_owned(),
            access_key_secret_key: "secret".to_owned(),
            security_token_key: token.map(str::to_owned),
        };
        let whole = data(&[("id", "STS.a"), ("secret", "b"), ("token", "c")]);
        let token = |view: &SecretView| match view {
            SecretView::Ready(key, _) => Some(key.security_token.is_some()),
            SecretView::Missing(_) => None,
        };
        assert_eq!(token(&parse(Some(&whole), &from(Some("token")))), Some(true));
        assert_eq!(token(&parse(Some(&whole), &from(None))), Some(false), "it is not asked for");
        let told = parse(Some(&data(&[("id", "STS.a"), ("secret", "b")])), &from(Some("token")));
        assert!(
            matches!(&told, SecretView::Missing(why) if why == "Secret \"key\" has no key token: add it"),
            "{told:?}"
        );
    }
}
