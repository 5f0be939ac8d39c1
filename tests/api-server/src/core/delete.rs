//! DELETE, and the end of a namespace.

use serde_json::{Value, json};

use super::meta::{at, generation, has_finalizers, is_deleting, plain, set, text};
use super::{Call, Core};
use crate::answer::{Answer, Json, Refusal};
use crate::history::Happened;

impl Core {
    /// DELETE: at once, or the mark if there are finalizers.
    pub(super) fn delete(&mut self, call: &Call<'_>) -> Result<Answer, Refusal> {
        let stored = self.stored(call).ok_or_else(|| call.not_found())?.clone();
        let mut object = plain(stored.change.object());
        check(call, &object)?;
        let namespace = call.kind.is_namespace();
        let held = namespace && at(&object, &["spec", "finalizers"]).is_some_and(|list| *list != json!([]));
        if has_finalizers(&object) || held {
            if is_deleting(&object) {
                return Ok(Answer::new(200, stored.change.object.clone()));
            }
            if generation(&object) > 0 {
                let next = generation(&object) + 1;
                set(&mut object, &["metadata", "generation"], next);
            }
            set(&mut object, &["metadata", "deletionTimestamp"], call.seconds());
            if namespace {
                set(&mut object, &["status", "phase"], "Terminating");
            } else {
                set(&mut object, &["metadata", "deletionGracePeriodSeconds"], 0);
            }
            return Ok(Answer::new(200, self.commit(call, Happened::Modified, object, (*stored.owned).clone())));
        }
        let mut details =
            json!({ "name": call.target.name, "kind": &*call.kind.plural, "uid": text(&object, &["metadata", "uid"]) });
        if !call.target.group.is_empty() {
            set(&mut details, &["group"], call.target.group.clone());
        }
        self.commit(call, Happened::Deleted, object, (*stored.owned).clone());
        let status =
            json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details });
        Ok(Answer::new(200, Json::new(status)))
    }

    /// PUT of `/finalize`: the finalizers of a namespace, as its controller takes them away.
    pub(super) fn finalize(&mut self, call: &Call<'_>, body: &Value) -> Result<Answer, Refusal> {
        let stored = self.stored(call).ok_or_else(|| call.not_found())?.clone();
        let mut object = plain(stored.change.object());
        let finalizers = at(body, &["spec", "finalizers"]).cloned().unwrap_or_else(|| json!([]));
        let gone = finalizers == json!([]) && is_deleting(&object) && !has_finalizers(&object);
        set(&mut object, &["spec", "finalizers"], finalizers);
        let happened = if gone { Happened::Deleted } else { Happened::Modified };
        Ok(Answer::new(200, self.commit(call, happened, object, (*stored.owned).clone())))
    }
}

/// The preconditions of the body.
fn check(call: &Call<'_>, object: &Value) -> Result<(), Refusal> {
    let options = call.request.body.as_deref().unwrap_or(&Value::Null);
    let wanted = |field: &str| text(options, &["preconditions", field]);
    let (uid, version) = (text(object, &["metadata", "uid"]), text(object, &["metadata", "resourceVersion"]));
    let (wanted_uid, wanted_version) = (wanted("uid"), wanted("resourceVersion"));
    let why = if !wanted_uid.is_empty() && wanted_uid != uid {
        format!(
            "the UID in the precondition ({wanted_uid}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
        )
    } else if !wanted_version.is_empty() && wanted_version != version {
        format!(
            "the ResourceVersion in the precondition ({wanted_version}) does not match the ResourceVersion in record ({version}). The object might have been modified"
        )
    } else {
        return Ok(());
    };
    let mut refusal = call.conflict(&why);
    if let Some(details) = &mut refusal.details {
        set(details, &["kind"], call.kind.kind.clone());
    }
    refusal.message = refusal.message.replacen(&call.kind.qualified(), &call.kind.qualified_kind(), 1);
    Err(refusal)
}
