//! All that makes or changes an object.

use serde_json::{Value, json};

use super::check::{
    applied, body, check_finalizers, check_namespace, check_version, invalid, not_typed, other_name, prepare,
    stored_badly, validate,
};
use super::kinds::Kind;
use super::meta::{at, copy, drop_empty, generation, has_finalizers, is_deleting, plain, set, take_text, text, unset};
use super::owned::{Owned, Rules};
use super::schema::Fault;
use super::{Call, Core, patch, typed};
use crate::answer::{Answer, Json, Refusal};
use crate::history::Happened;
use crate::request::Target;
use crate::wire::Verb;

impl Core {
    /// POST.
    pub(super) fn create(&mut self, call: &Call<'_>) -> Result<Answer, Refusal> {
        let mut object = body(call)?;
        prepare(call, &mut object)?;
        let mut owned = Owned::default();
        update_owned(call, &mut owned, &empty(&call.kind), &object);
        let mut call = Call { target: call.target.clone(), kind: call.kind.clone(), ..*call };
        call.target.name = take_text(&object, &["metadata", "name"]);
        self.insert(&call, object, owned)
    }

    /// PUT.
    pub(super) fn replace(&mut self, call: &Call<'_>) -> Result<Answer, Refusal> {
        let mut new = body(call)?;
        if let name @ Some(_) = at(&new, &["metadata", "name"]).and_then(Value::as_str)
            && name != Some(call.target.name.as_str())
        {
            return Err(other_name(call, name.unwrap_or_default()));
        }
        if call.target.subresource == "finalize" {
            return self.finalize(call, &new);
        }
        prepare(call, &mut new)?;
        let uid = take_text(&new, &["metadata", "uid"]);
        let known = self.stored(call).map(|stored| take_text(stored.change.object(), &["metadata", "uid"]));
        if known.is_none() && !(call.kind.create_on_update && call.target.subresource.is_empty()) {
            return Err(call.not_found());
        }
        let there = known.clone().unwrap_or_default();
        if !uid.is_empty() && uid != there {
            let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {there}");
            return Err(call.conflict(&stored_badly(call, &why)));
        }
        if known.is_none() {
            let mut owned = Owned::default();
            update_owned(call, &mut owned, &empty(&call.kind), &new);
            return self.insert(call, new, owned);
        }
        let given = unset(&mut new, &["metadata", "managedFields"]);
        self.change(call, |live, owned| {
            let mut owned = if call.target.subresource.is_empty() { given_owned(given.as_ref(), owned) } else { owned };
            update_owned(call, &mut owned, live, &new);
            Ok((new, owned))
        })
    }

    /// PATCH by merge or by operations.
    pub(super) fn patch(&mut self, call: &Call<'_>) -> Result<Answer, Refusal> {
        let patch = call.request.body.clone().ok_or_else(|| Refusal::new(400, "BadRequest", "the body is no JSON"))?;
        self.change(call, |live, owned| {
            let mut new = live.clone();
            if call.request.verb == Verb::Merge {
                patch::merge(&mut new, &patch);
            } else {
                let operations =
                    patch.as_array().ok_or_else(|| Refusal::new(400, "BadRequest", "no list of operations"))?;
                new = patch::operate(new, operations).map_err(|_| {
                    let message = "the server rejected our request due to an error in our request";
                    Refusal::new(422, "Invalid", message).with(json!({}))
                })?;
            }
            prepare(call, &mut new)?;
            let given = unset(&mut new, &["metadata", "managedFields"]);
            let mut owned = if call.target.subresource.is_empty() { given_owned(given.as_ref(), owned) } else { owned };
            update_owned(call, &mut owned, live, &new);
            Ok((new, owned))
        })
    }

    /// PATCH by server-side apply.
    pub(super) fn apply(&mut self, call: &Call<'_>) -> Result<Answer, Refusal> {
        let config = applied(call)?;
        let seconds = call.seconds();
        let rules = rules(call, &seconds);
        let subresource = call.target.subresource.as_str();
        let force = call.request.flag("force");
        let apply = |live: &Value, mut owned: Owned| {
            if let Some(problem) = typed::problem(&config, &call.kind.schema, "") {
                return Err(not_typed(call, &config, &problem));
            }
            let mut new = owned.apply(live, &config, call.manager(), subresource, force, rules)?;
            if let Value::Object(new) = &mut new {
                new.retain(|_, value| !value.is_null());
            }
            if !call.kind.custom {
                prepare(call, &mut new)?;
            }
            call.kind.schema.fill(&mut new);
            drop_empty(&mut new);
            Ok((new, owned))
        };
        if self.stored(call).is_some() {
            return self.change(call, apply);
        }
        if !subresource.is_empty() {
            return Err(call.not_found());
        }
        let (mut new, owned) = apply(&empty(&call.kind), Owned::default())?;
        let uid = text(&new, &["metadata", "uid"]);
        if !uid.is_empty() {
            let why =
                format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
            return Err(call.conflict(&why));
        }
        set(&mut new, &["metadata", "name"], call.target.name.clone());
        self.insert(call, new, owned)
    }

    /// Makes a new object of one that is pruned and filled.
    fn insert(&mut self, call: &Call<'_>, mut new: Value, owned: Owned) -> Result<Answer, Refusal> {
        check_namespace(call, &mut new)?;
        self.check_lifecycle(call)?;
        let kind = &call.kind;
        if text(&new, &["metadata", "name"]).is_empty() {
            let prefix = take_text(&new, &["metadata", "generateName"]);
            if !prefix.is_empty() {
                set(&mut new, &["metadata", "name"], format!("{prefix}{:05}", self.uids));
            }
        }
        if !text(&new, &["metadata", "resourceVersion"]).is_empty() && call.request.verb == Verb::Create {
            return Err(Refusal::new(500, "", "resourceVersion should not be set on objects to be created"));
        }
        for field in
            ["uid", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "managedFields"]
        {
            unset(&mut new, &["metadata", field]);
        }
        if kind.custom {
            if kind.status {
                unset(&mut new, &["status"]);
            }
            set(&mut new, &["metadata", "generation"], 1);
        }
        if kind.is_namespace() {
            set(&mut new, &["spec", "finalizers"], json!(["kubernetes"]));
            set(&mut new, &["status"], json!({ "phase": "Active" }));
        }
        validate(call, &new)?;
        kind.schema.fill(&mut new);
        if self.stored(call).is_some() {
            let message = format!("{} {:?} already exists", kind.qualified(), call.target.name);
            return Err(call.refuse(409, "AlreadyExists", &message));
        }
        self.uids += 1;
        set(&mut new, &["metadata", "uid"], format!("00000000-0000-4000-8000-{:012}", self.uids));
        set(&mut new, &["metadata", "creationTimestamp"], call.seconds());
        Ok(Answer::new(201, self.commit(call, Happened::Created, new, owned)))
    }

    /// Changes an object. `make` gets it without managedFields, and gives it back pruned and filled.
    pub(super) fn change(
        &mut self,
        call: &Call<'_>,
        make: impl FnOnce(&Value, Owned) -> Result<(Value, Owned), Refusal>,
    ) -> Result<Answer, Refusal> {
        let stored = self.stored(call).ok_or_else(|| call.not_found())?.clone();
        let live = plain(stored.change.object());
        let (mut new, owned) = make(&live, (*stored.owned).clone())?;
        check_namespace(call, &mut new)?;
        let name = text(&new, &["metadata", "name"]);
        if name != call.target.name {
            return Err(other_name(call, name));
        }
        check_version(call, &live, &mut new)?;
        before_update(call, &live, &mut new);
        if text(&new, &["metadata", "uid"]) != text(&live, &["metadata", "uid"]) {
            let message = format!("Invalid value: {:?}: field is immutable", text(&new, &["metadata", "uid"]));
            return Err(invalid(call, &[Fault { reason: "FieldValueInvalid", field: "metadata.uid".into(), message }]));
        }
        check_finalizers(call, &live, &new)?;
        if new == live && owned.same(&stored.owned) && (!stored.unsettled || call.request.is_dry_run()) {
            return Ok(Answer::new(200, stored.change.object.clone()));
        }
        validate(call, &new)?;
        let held = call.kind.is_namespace() && at(&new, &["spec", "finalizers"]).is_some_and(|list| *list != json!([]));
        let gone = is_deleting(&live) && !has_finalizers(&new) && has_finalizers(&live) && !held;
        let happened = if gone { Happened::Deleted } else { Happened::Modified };
        let written = self.commit(call, happened, new, owned);
        if gone {
            // What goes is shown under the version that it had.
            let mut shown = written.value.clone();
            copy(&mut shown, &live, &["metadata", "resourceVersion"]);
            return Ok(Answer::new(200, Json::new(shown)));
        }
        Ok(Answer::new(200, written))
    }

    /// The namespace is there, and not on its way out.
    fn check_lifecycle(&self, call: &Call<'_>) -> Result<(), Refusal> {
        let Target { namespace, .. } = &call.target;
        if !call.kind.namespaced {
            return Ok(());
        }
        let key = ("".into(), namespace.as_str().into());
        let namespaces = self.collections.iter().find(|collection| collection.kind.is_namespace());
        let Some(stored) = namespaces.and_then(|namespaces| namespaces.objects.get(&key)) else {
            let details = json!({ "name": namespace, "kind": "namespaces" });
            return Err(Refusal::new(404, "NotFound", format!("namespaces {namespace:?} not found")).with(details));
        };
        if !is_deleting(stored.change.object()) {
            return Ok(());
        }
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let message = format!("{} {:?} is forbidden: {why}", call.kind.qualified(), call.target.name);
        let mut refusal = call.refuse(403, "Forbidden", &message);
        let cause = json!({
            "reason": "NamespaceTerminating", "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        });
        if let Some(details) = &mut refusal.details {
            set(details, &["causes"], json!([cause]));
        }
        Err(refusal)
    }
}

fn rules<'a>(call: &'a Call<'_>, now: &'a str) -> Rules<'a> {
    let kind = &call.kind;
    Rules { schema: &kind.schema, ignored: kind.ignored(&call.target.subresource), api_version: &kind.api_version, now }
}

fn update_owned(call: &Call<'_>, owned: &mut Owned, live: &Value, new: &Value) {
    let is_new = at(live, &["metadata", "uid"]).is_none();
    if is_new || !owned.is_empty() {
        owned.update(live, new, call.manager(), &call.target.subresource, rules(call, &call.seconds()));
    }
}

/// What managedFields in a body mean: none or unreadable ones nothing, empty ones a new start.
fn given_owned(given: Option<&Value>, live: Owned) -> Owned {
    match given {
        Some(list) if *list == json!([]) || *list == json!([{}]) => Owned::default(),
        Some(list) => Owned::from_json(list).filter(|owned| !owned.is_empty()).unwrap_or(live),
        None => live,
    }
}

/// What an object is compared with that is not there.
fn empty(kind: &Kind) -> Value {
    let mut empty = json!({ "apiVersion": kind.api_version, "kind": kind.kind });
    if !kind.custom && &*kind.plural != "secrets" {
        kind.schema.fill(&mut empty);
    }
    empty
}

/// What an update cannot change stays, and the generation moves with the spec.
fn before_update(call: &Call<'_>, live: &Value, new: &mut Value) {
    if call.target.subresource == "status" {
        let status = new.get("status").cloned();
        let mut kept = live.clone();
        match status {
            Some(status) => set(&mut kept, &["status"], status),
            None => drop(unset(&mut kept, &["status"])),
        }
        *new = kept;
        return;
    }
    if call.kind.status {
        copy(new, live, &["status"]);
    }
    if call.kind.is_namespace() {
        copy(new, live, &["spec"]);
    }
    for field in ["generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        copy(new, live, &["metadata", field]);
    }
    if text(new, &["metadata", "uid"]).is_empty() {
        copy(new, live, &["metadata", "uid"]);
    }
    let content = |object: &Value| {
        let fields = object.as_object().into_iter().flatten();
        fields.filter(|(name, _)| *name != "metadata").map(|(n, v)| (n.clone(), v.clone())).collect::<Vec<_>>()
    };
    if call.kind.custom && content(new) != content(live) {
        set(new, &["metadata", "generation"], generation(live) + 1);
    }
}
