//! Is the CRD as new as this operator? An older one would lose fields of the record.

use std::sync::atomic::{AtomicBool, Ordering};

use kube::api::{Patch, PatchParams};
use kube::{Api, Resource as _};
use serde_json::json;

use super::Context;
use super::error::{Error, short, whole};
use super::queue::ObjectKey;
use super::record::MANAGER;
use crate::api::{DataIntegrationJob, JobStatus};

/// Checked once per process, on the first object there is: `/status` cannot be tried without one.
#[derive(Debug, Default)]
pub struct CrdCheck(AtomicBool);

impl CrdCheck {
    /// Applies a full status to the object as a dry run. Nothing is written.
    ///
    /// # Errors
    /// The CRD lacks a field, or the API server could not be asked.
    pub async fn check(&self, ctx: &Context, key: &ObjectKey) -> Result<(), Error> {
        if self.0.load(Ordering::Acquire) {
            return Ok(());
        }
        let api: Api<DataIntegrationJob> = Api::namespaced(ctx.client.clone(), &key.namespace);
        let body = json!({
            "apiVersion": DataIntegrationJob::api_version(&()),
            "kind": DataIntegrationJob::kind(&()),
            "metadata": { "name": key.name },
            "status": JobStatus::full(),
        });
        let how = PatchParams { dry_run: true, ..PatchParams::apply(MANAGER).force() };
        match whole(api.patch_status(&key.name, &how, &Patch::Apply(&body))).await {
            Ok(_) => {}
            // What others hold of the status made the whole invalid; every field of ours was known before that.
            Err(kube::Error::Api(problem)) if problem.code == 422 => {}
            Err(error) if short(&error).contains("field not declared in schema") => {
                let old = Error::OldCrd(short(&error));
                ctx.health.set_ready(Err(old.to_string()));
                return Err(old);
            }
            Err(error) => return Err(Error::kube("cannot check the CRD")(error)),
        }
        self.0.store(true, Ordering::Release);
        ctx.health.set_ready(Ok(()));
        Ok(())
    }
}
