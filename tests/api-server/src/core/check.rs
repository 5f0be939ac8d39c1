//! What a body has to be before it is written, and what is said if it is not.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Call;
use super::kinds::Kind;
use super::meta::{at, copy, drop_empty, is_deleting, is_name, set, take_text, text, unset};
use super::schema::{Fault, strings};
use crate::answer::Refusal;
use crate::request::Target;
use crate::wire::Verb;

pub(super) fn body(call: &Call<'_>) -> Result<Value, Refusal> {
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

pub(super) fn applied(call: &Call<'_>) -> Result<Value, Refusal> {
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

pub(super) fn not_typed(call: &Call<'_>, config: &Value, problem: &str) -> Refusal {
    let Kind { kind, api_version, .. } = &*call.kind;
    let (namespace, name) = (text(config, &["metadata", "namespace"]), text(config, &["metadata", "name"]));
    let what = format!("{namespace}/{name}; {api_version}, Kind={kind}");
    Refusal::new(500, "", format!("failed to create typed patch object ({what}): {problem}"))
}

/// Prunes and fills a body, and makes it one of its kind.
pub(super) fn prepare(call: &Call<'_>, object: &mut Value) -> Result<(), Refusal> {
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

pub(super) fn check_namespace(call: &Call<'_>, object: &mut Value) -> Result<(), Refusal> {
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

pub(super) fn other_name(call: &Call<'_>, name: &str) -> Refusal {
    let wanted = &call.target.name;
    let message = format!("the name of the object ({name}) does not match the name on the URL ({wanted})");
    Refusal::new(400, "BadRequest", message)
}

pub(super) fn check_version(call: &Call<'_>, live: &Value, new: &mut Value) -> Result<(), Refusal> {
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
pub(super) fn check_finalizers(call: &Call<'_>, live: &Value, new: &Value) -> Result<(), Refusal> {
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

pub(super) fn validate(call: &Call<'_>, object: &Value) -> Result<(), Refusal> {
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

pub(super) fn invalid(call: &Call<'_>, faults: &[Fault]) -> Refusal {
    invalid_as(&call.kind.kind, call, &call.target.name, faults)
}

pub(super) fn invalid_as(kind: &str, call: &Call<'_>, name: &str, faults: &[Fault]) -> Refusal {
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
pub(super) fn stored_badly(call: &Call<'_>, why: &str) -> String {
    let Target { group, resource, namespace, name, .. } = &call.target;
    let place = if call.kind.custom { format!("{group}/{resource}") } else { resource.clone() };
    let key = format!("/registry/{place}/{namespace}/{name}");
    format!("StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: {why}")
}
