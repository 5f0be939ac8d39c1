//! All that makes or changes an object.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::kinds::Kind;
use super::meta::{
    at, copy, drop_empty, generation, has_finalizers, is_deleting, is_name, plain, set, take_text, text, unset,
};
use super::owned::{Owned, Rules};
use super::schema::{Fault, strings};
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

fn body(call: &Call<'_>) -> Result<Value, Refusal> {
    let body = call.request.body.as_deref().filter(|body| body.is_object());
    let body = body.ok_or_else(|| Refusal::new(400, "BadRequest", "the body is no object"))?;
    let Kind { kind, version, api_version, .. } = &*call.kind;
    let (given_version, given_kind) = (text(body, &["apiVersion"]), text(body, &["kind"]));
    if call.kind.custom && !given_kind.is_empty() && given_kind != kind && given_version == api_version {
        let message = format!("Invalid value: {given_kind:?}: must be {kind}");
        let fault = Fault { reason: "FieldValueInvalid", field: "kind".to_owned(), message };
        return Err(invalid_as(given_kind, call, text(body, &["metadata", "name"]), &[fault]));
    }
    if (!given_version.is_empty() && given_version != api_version) || (!given_kind.is_empty() && given_kind != kind) {
        let message = format!(
            "{given_kind} in version {version:?} cannot be handled as a {kind}: the object provided is unrecognized"
        );
        return Err(Refusal::new(400, "BadRequest", message));
    }
    Ok(body.clone())
}

fn applied(call: &Call<'_>) -> Result<Value, Refusal> {
    let config = call.request.body.as_deref().filter(|body| body.is_object()).cloned();
    let config = config.ok_or_else(|| Refusal::new(400, "BadRequest", "error decoding YAML"))?;
    if call.request.parameter("fieldManager").is_none() {
        let cause = json!({
            "reason": "FieldValueRequired", "message": "Required value: is required for apply patch", "field": "fieldManager",
        });
        let message =
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch";
        let details = json!({ "group": "meta.k8s.io", "kind": "PatchOptions", "causes": [cause] });
        return Err(Refusal::new(422, "Invalid", message).with(details));
    }
    let Kind { kind, api_version, .. } = &*call.kind;
    if text(&config, &["apiVersion"]) != api_version || text(&config, &["kind"]) != kind {
        return Err(Refusal::new(400, "BadRequest", "Incorrect version or kind specified in apply patch"));
    }
    if at(&config, &["metadata", "managedFields"]).is_some() {
        return Err(Refusal::new(400, "BadRequest", "metadata.managedFields must be nil"));
    }
    Ok(config)
}

fn not_typed(call: &Call<'_>, config: &Value, problem: &str) -> Refusal {
    let Kind { kind, api_version, .. } = &*call.kind;
    let (namespace, name) = (text(config, &["metadata", "namespace"]), text(config, &["metadata", "name"]));
    let what = format!("{namespace}/{name}; {api_version}, Kind={kind}");
    Refusal::new(500, "", format!("failed to create typed patch object ({what}): {problem}"))
}

/// Prunes and fills a body, and makes it one of its kind.
fn prepare(call: &Call<'_>, object: &mut Value) -> Result<(), Refusal> {
    let kind = &call.kind;
    let given = object.to_string();
    let mut unknown = Vec::new();
    kind.schema.prune(object, "", &mut unknown);
    drop_empty(object);
    if !unknown.is_empty() && call.request.parameter("fieldValidation") == Some("Strict") {
        let unknown: Vec<String> = unknown.iter().map(|path| format!("unknown field {path:?}")).collect();
        let error = format!("strict decoding error: {}", unknown.join(", "));
        return Err(if call.request.verb == Verb::Create || call.request.verb == Verb::Replace {
            let Kind { kind, version, .. } = &**kind;
            let message = format!("{kind} in version {version:?} cannot be handled as a {kind}: {error}");
            Refusal::new(400, "BadRequest", message)
        } else {
            let message = format!("Invalid value: {given:?}: {error}");
            let cause = json!({ "reason": "FieldValueInvalid", "message": message, "field": "patch" });
            Refusal::new(422, "Invalid", format!(" \"\" is invalid: patch: {message}"))
                .with(json!({ "causes": [cause] }))
        });
    }
    set(object, &["apiVersion"], kind.api_version.clone());
    set(object, &["kind"], kind.kind.clone());
    if let Some(Value::Object(texts)) = unset(object, &["stringData"]) {
        for (key, value) in texts {
            set(object, &["data", &key], STANDARD.encode(value.as_str().unwrap_or_default()));
        }
    }
    if kind.is_namespace() {
        let name = take_text(object, &["metadata", "name"]);
        set(object, &["metadata", "labels", "kubernetes.io/metadata.name"], name);
    }
    kind.schema.fill(object);
    Ok(())
}

fn check_namespace(call: &Call<'_>, object: &mut Value) -> Result<(), Refusal> {
    let Target { namespace, .. } = &call.target;
    let given = text(object, &["metadata", "namespace"]);
    if !given.is_empty() && given != namespace {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Refusal::new(400, "BadRequest", message));
    }
    if call.kind.namespaced {
        set(object, &["metadata", "namespace"], namespace.clone());
    }
    Ok(())
}

fn other_name(call: &Call<'_>, name: &str) -> Refusal {
    let wanted = &call.target.name;
    let message = format!("the name of the object ({name}) does not match the name on the URL ({wanted})");
    Refusal::new(400, "BadRequest", message)
}

fn check_version(call: &Call<'_>, live: &Value, new: &mut Value) -> Result<(), Refusal> {
    let version = text(new, &["metadata", "resourceVersion"]);
    if version.is_empty() || version == "0" {
        if !call.kind.unconditional {
            let message = "Invalid value: 0: must be specified for an update".to_owned();
            let field = "metadata.resourceVersion".to_owned();
            let mut refusal = invalid(call, &[Fault { reason: "FieldValueInvalid", field, message }]);
            if let Some(details) = &mut refusal.details {
                set(details, &["kind"], &*call.kind.plural);
            }
            refusal.message = refusal.message.replacen(&call.kind.qualified_kind(), &call.kind.qualified(), 1);
            return Err(refusal);
        }
        copy(new, live, &["metadata", "resourceVersion"]);
    } else if version != text(live, &["metadata", "resourceVersion"]) {
        return Err(call
            .conflict("the object has been modified; please apply your changes to the latest version and try again"));
    }
    Ok(())
}

/// What goes gets no new finalizers.
fn check_finalizers(call: &Call<'_>, live: &Value, new: &Value) -> Result<(), Refusal> {
    let finalizers = |object: &Value| strings(at(object, &["metadata", "finalizers"]));
    let old = finalizers(live);
    let added: Vec<String> = finalizers(new).into_iter().filter(|name| !old.contains(name)).collect();
    if !is_deleting(live) || added.is_empty() {
        return Ok(());
    }
    let added: Vec<String> = added.iter().map(|name| format!("{name:?}")).collect();
    let message = format!(
        "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
        added.join(", ")
    );
    Err(invalid(call, &[Fault { reason: "FieldValueForbidden", field: "metadata.finalizers".into(), message }]))
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

fn validate(call: &Call<'_>, object: &Value) -> Result<(), Refusal> {
    let mut faults = Vec::new();
    let name = text(object, &["metadata", "name"]);
    if name.is_empty() {
        let message = "Required value: name or generateName is required".to_owned();
        faults.push(Fault { reason: "FieldValueRequired", field: "metadata.name".into(), message });
    } else if !is_name(name) {
        let message = format!(
            "Invalid value: {name:?}: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        );
        faults.push(Fault { reason: "FieldValueInvalid", field: "metadata.name".into(), message });
    }
    if call.kind.custom {
        call.kind.schema.faults(object, "", &mut faults);
    } else if text(object, &["note"]).len() > 1024 {
        let message = "Invalid value: \"\": can have at most 1024 characters".to_owned();
        faults.push(Fault { reason: "FieldValueInvalid", field: "message".into(), message });
    }
    let blocks = [
        "FieldValueRequired",
        "FieldValueTypeInvalid",
        "FieldValueNotSupported",
        "FieldValueTooLong",
        "FieldValueTooMany",
    ];
    if call.kind.custom && faults.iter().any(|fault| blocks.contains(&fault.reason)) {
        let message = "Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation".to_owned();
        faults.push(Fault { reason: "FieldValueInvalid", field: "<nil>".into(), message });
    }
    if faults.is_empty() { Ok(()) } else { Err(invalid(call, &faults)) }
}

fn invalid(call: &Call<'_>, faults: &[Fault]) -> Refusal {
    invalid_as(&call.kind.kind, call, &call.target.name, faults)
}

fn invalid_as(kind: &str, call: &Call<'_>, name: &str, faults: &[Fault]) -> Refusal {
    let causes: Vec<Value> = faults
        .iter()
        .map(|fault| json!({ "reason": fault.reason, "message": fault.message, "field": fault.field }))
        .collect();
    let told: Vec<String> = faults.iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect();
    let told = if let [one] = told.as_slice() { one.clone() } else { format!("[{}]", told.join(", ")) };
    // Events are checked as those of the core group.
    let group = if kind == "Event" { "" } else { &call.kind.group };
    let qualified = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
    let mut details = json!({ "kind": kind, "causes": causes });
    for (key, value) in [("group", group), ("name", name)].into_iter().filter(|(_, value)| !value.is_empty()) {
        set(&mut details, &[key], value);
    }
    Refusal::new(422, "Invalid", format!("{qualified} {name:?} is invalid: {told}")).with(details)
}

/// As the storage below says it.
fn stored_badly(call: &Call<'_>, why: &str) -> String {
    let Target { group, resource, namespace, name, .. } = &call.target;
    let place = if call.kind.custom { format!("{group}/{resource}") } else { resource.clone() };
    let key = format!("/registry/{place}/{namespace}/{name}");
    format!("StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: {why}")
}
