//! Objects that this operator cannot read: each is told so in its own status, and disturbs no other.

use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Resource};
use serde_json::{Value, json};

use super::Context;
use super::error::{Error, whole};
use super::queue::ObjectKey;
use super::record::MANAGER;
use crate::api::condition::{Condition, ConditionStatus, ConditionType, Reason, Saying, set};
use crate::dataworks::error::safe_text;

/// How often it is told again: nothing else brings a write that failed back.
pub const AGAIN: Duration = Duration::from_secs(60);

/// Writes Ready=False, Stalled, with what is wrong; all else in status, a record of a start above all, stays as it is.
///
/// # Errors
/// The API server could not be asked.
pub async fn tell<K: Resource<DynamicType = ()>>(ctx: &Context, key: &ObjectKey, problem: &str) -> Result<(), Error> {
    let resource = ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(ctx.client.clone(), &key.namespace, &resource);
    let Some(object) = whole(api.get_opt(&key.name)).await.map_err(Error::kube("cannot read the object"))? else {
        return Ok(());
    };
    let before = object.data.get("status").cloned().unwrap_or_else(|| json!({}));
    let known: Vec<Condition> =
        before.get("conditions").and_then(|c| serde_json::from_value(c.clone()).ok()).unwrap_or_default();
    let generation = object.metadata.generation.unwrap_or_default();
    let message = format!(
        "this object cannot be read by the operator ({}): correct it, or apply the CRDs of the operator's version",
        safe_text(problem)
    );
    let saying = |type_, status| Saying { type_, status, reason: Reason::InvalidObject, message: message.clone() };
    let says = vec![
        saying(ConditionType::Ready, ConditionStatus::False),
        saying(ConditionType::Stalled, ConditionStatus::True),
    ];
    let conditions = set(&known, says, generation, ctx.clock.now());
    if known == conditions {
        return Ok(());
    }
    let mut status = before;
    if let Value::Object(fields) = &mut status {
        fields.insert("conditions".to_owned(), json!(conditions));
        fields.insert("observedGeneration".to_owned(), json!(generation));
    }
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": key.name, "resourceVersion": object.metadata.resource_version },
        "status": status,
    });
    let how = PatchParams::apply(MANAGER).force();
    whole(api.patch_status(&key.name, &how, &Patch::Apply(&body))).await.map_err(Error::kube("cannot write status"))?;
    Ok(())
}
