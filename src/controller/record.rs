//! Writes status, guarded by the version that was decided on.

use std::fmt::Debug;
use std::sync::Arc;

use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::Context;
use super::error::{Error, whole};
use super::queue::ObjectKey;
use crate::api::condition::is_ours;
use crate::api::{DataIntegrationJob, JobStatus};
use crate::telemetry::{Ended, StatusWrite};

/// The one field manager of our status.
pub const MANAGER: &str = "dijob-operator";

/// Applies the whole status under the resourceVersion of `job`; equal status sends nothing.
///
/// # Errors
/// A conflict means that somebody wrote the object since: nothing was changed, and the object was read again.
pub async fn write_status(
    ctx: &Context,
    key: &ObjectKey,
    job: &DataIntegrationJob,
    next: &JobStatus,
    kind: StatusWrite,
) -> Result<Option<Arc<DataIntegrationJob>>, Error> {
    if holds(job, next) {
        return Ok(None);
    }
    let api: Api<DataIntegrationJob> = Api::namespaced(ctx.client.clone(), &key.namespace);
    // An apply takes away only what it alone put there: where others wrote, a restored history would be left behind, and
    // pass for ours. One write replaces it all, under the same version.
    let written =
        if others_wrote(job) { whole(replace(&api, job, next)).await } else { whole(apply(&api, job, next)).await };
    let written = written.map_err(Error::kube("cannot write status"));
    ctx.metrics.status_write(
        kind,
        match &written {
            Ok(_) => Ended::Ok,
            Err(error) if error.is_conflict() => Ended::Conflict,
            Err(_) => Ended::Error,
        },
    );
    match written {
        Ok(job) => Ok(Some(ctx.objects.put_written(job))),
        Err(error) => {
            read_again(ctx, key).await;
            Err(error)
        }
    }
}

/// Whether the object holds this status. Conditions of types that are not ours are others' business.
fn holds(job: &DataIntegrationJob, next: &JobStatus) -> bool {
    job.status.as_ref().is_some_and(|stored| {
        let mut stored = stored.clone();
        stored.conditions.retain(is_ours);
        stored == *next
    })
}

/// Somebody else put something in this status, or all of it under another object.
fn others_wrote(job: &DataIntegrationJob) -> bool {
    let of_another = job.status.as_ref().is_some_and(|s| s.uid.is_some() && s.uid != job.metadata.uid);
    of_another || !job.managed_fields().is_empty()
}

/// Applies the whole status, under the version of `object`.
pub(super) async fn apply<K>(api: &Api<K>, object: &K, next: &impl Serialize) -> kube::Result<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let name = object.name_any();
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": name, "resourceVersion": object.resource_version() },
        "status": next,
    });
    api.patch_status(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&body)).await
}

async fn replace(
    api: &Api<DataIntegrationJob>,
    job: &DataIntegrationJob,
    next: &JobStatus,
) -> kube::Result<DataIntegrationJob> {
    let mut next = next.clone();
    let stored = job.status.iter().flat_map(|status| &status.conditions);
    next.conditions.extend(stored.filter(|c| !is_ours(c)).cloned());
    put(api, job, &next).await
}

/// Puts the whole status in the place of what anybody wrote there, under the version of `object`.
pub(super) async fn put<K>(api: &Api<K>, object: &K, next: &impl Serialize) -> kube::Result<K>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let patch = json!([
        { "op": "replace", "path": "/metadata/resourceVersion", "value": object.resource_version() },
        { "op": "add", "path": "/status", "value": next },
    ]);
    let patch = serde_json::from_value(patch).map_err(kube::Error::SerdeError)?;
    let how = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    api.patch_status(&object.name_any(), &how, &Patch::<()>::Json(patch)).await
}

/// After a write that failed, the view here may be old: the next pass decides on a fresh one. Says whether it could be read.
pub async fn read_again(ctx: &Context, key: &ObjectKey) -> bool {
    let api: Api<DataIntegrationJob> = Api::namespaced(ctx.client.clone(), &key.namespace);
    let before = ctx.objects.job(key);
    match whole(api.get_opt(&key.name)).await {
        Ok(Some(job)) => ctx.objects.believe(job, before.as_ref()),
        Ok(None) => drop(ctx.objects.remove_job(key)), // the pass forgets it when it ends
        Err(error) => {
            tracing::debug!(error = super::error::short(&error), "cannot read the object again");
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::Mutex;

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::Value;

    use super::*;
    use crate::controller::objects::Objects;

    fn job(status: &Value, managers: &Value) -> DataIntegrationJob {
        let job = serde_json::from_value(json!({
            "apiVersion": "dijob.dev/v1alpha1", "kind": "DataIntegrationJob",
            "metadata": {
                "namespace": "team", "name": "orders", "uid": "u-1", "resourceVersion": "7", "managedFields": managers,
            },
            "spec": { "diJobId": 11743, "accountRef": { "name": "main" } },
            "status": status,
        }));
        // As every object is kept here.
        (*Objects::default().put_written(job.unwrap())).clone()
    }

    /// The API of a server that keeps what is sent and answers with the object as it was.
    fn api(sent: &Arc<Mutex<Vec<Value>>>) -> Api<DataIntegrationJob> {
        let sent = sent.clone();
        let serve = tower::service_fn(move |request: Request<Body>| {
            let sent = sent.clone();
            async move {
                let body = request.into_body().collect_bytes().await?;
                sent.lock().unwrap().push(serde_json::from_slice(&body)?);
                let job = serde_json::to_vec(&job(&json!({}), &json!([])))?;
                Ok::<_, tower::BoxError>(Response::new(Body::from(job)))
            }
        });
        Api::namespaced(kube::Client::new(serve, "team"), "team")
    }

    #[tokio::test]
    async fn both_ways_to_write_a_status_name_the_version_that_was_decided_on() {
        let sent = Arc::default();
        let (api, job, next) = (api(&sent), job(&json!({}), &json!([])), JobStatus::default());
        apply(&api, &job, &next).await.unwrap();
        replace(&api, &job, &next).await.unwrap();
        let sent = sent.lock().unwrap();
        assert_eq!(sent.first().and_then(|apply| apply.pointer("/metadata/resourceVersion")), Some(&json!("7")));
        // The API server takes the version that a patch leaves in the object for the one to compare with.
        let version = json!({ "op": "replace", "path": "/metadata/resourceVersion", "value": "7" });
        assert_eq!(sent.get(1).and_then(|patch| patch.get(0)), Some(&version));
    }

    #[test]
    fn a_status_in_which_others_wrote_is_told_from_one_of_our_own() {
        let entry = |manager: &str, operation: &str, subresource: Value| json!([{ "manager": manager, "operation": operation, "subresource": subresource, "fieldsV1": {} }]);
        let (ours, none) = (json!({ "uid": "u-1" }), json!([]));
        let rows = [
            (ours.clone(), none.clone(), false),
            (json!({}), none.clone(), false),
            (json!({ "uid": "u-0" }), none, true),
            (ours.clone(), entry(MANAGER, "Apply", json!("status")), false),
            (ours.clone(), entry(MANAGER, "Update", json!("status")), true),
            (ours.clone(), entry("velero", "Update", json!("status")), true),
            (ours, entry("kubectl", "Update", Value::Null), false),
        ];
        for (status, managers, others) in rows {
            assert_eq!(others_wrote(&job(&status, &managers)), others, "{status} {managers}");
        }
    }
}
