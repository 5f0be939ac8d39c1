//! Are the CRDs as new as this operator? Older ones would lose fields of the record.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use kube::api::{Patch, PatchParams};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::Context;
use super::error::{Error, short, whole};
use super::queue::ObjectKey;
use super::record::MANAGER;
use crate::api::{AccountStatus, DataIntegrationJob, DataWorksAccount, JobStatus};

/// Each kind is checked once per process, on the first object there is: `/status` cannot be tried without one.
#[derive(Debug, Default)]
pub struct CrdCheck {
    jobs: AtomicBool,
    accounts: AtomicBool,
    /// What the CRD of accounts lacks: then no job is started either.
    old_accounts: Mutex<Option<String>>,
}

impl CrdCheck {
    /// Applies a full status to the job as a dry run. Nothing is written.
    ///
    /// # Errors
    /// A CRD lacks a field, or the API server could not be asked.
    pub async fn check(&self, ctx: &Context, key: &ObjectKey) -> Result<(), Error> {
        if let Some(problem) = self.of_accounts().clone() {
            return Err(Error::OldCrd(problem));
        }
        if self.jobs.load(Ordering::Acquire) {
            return Ok(());
        }
        try_full::<DataIntegrationJob>(ctx, key, "dataintegrationjobs.dijob.dev", &JobStatus::full()).await?;
        self.jobs.store(true, Ordering::Release);
        ctx.health.set_ready(Ok(()));
        Ok(())
    }

    /// The same with an account.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub async fn check_account(&self, ctx: &Context, key: &ObjectKey) -> Result<(), Error> {
        if self.accounts.load(Ordering::Acquire) {
            return Ok(());
        }
        let full = AccountStatus::full();
        let tried = try_full::<DataWorksAccount>(ctx, key, "dataworksaccounts.dijob.dev", &full).await;
        let old = if let Err(Error::OldCrd(problem)) = &tried { Some(problem.clone()) } else { None };
        let was_old = std::mem::replace(&mut *self.of_accounts(), old).is_some();
        tried?;
        self.accounts.store(true, Ordering::Release);
        if was_old {
            ctx.health.set_ready(Ok(()));
        }
        Ok(())
    }

    fn of_accounts(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.old_accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn try_full<K>(ctx: &Context, key: &ObjectKey, crd: &str, full: &impl Serialize) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let api: Api<K> = Api::namespaced(ctx.client.clone(), &key.namespace);
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": key.name },
        "status": full,
    });
    let how = PatchParams { dry_run: true, ..PatchParams::apply(MANAGER).force() };
    let problem = match whole(api.patch_status(&key.name, &how, &Patch::Apply(&body))).await {
        Ok(_) => return Ok(()),
        // What others hold of the status made the whole invalid; every field of ours was known before that.
        Err(kube::Error::Api(problem)) if problem.code == 422 => return Ok(()),
        Err(error) => error,
    };
    let said = short(&problem);
    // Without a status at all, there is no such resource.
    if said.contains("field not declared in schema") || said.contains("could not find the requested resource") {
        let old = Error::OldCrd(format!("{crd} is older than this operator ({said})"));
        ctx.health.set_ready(Err(old.to_string()));
        return Err(old);
    }
    Err(Error::kube("cannot check the CRD")(problem))
}
