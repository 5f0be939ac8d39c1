//! What kinds there are: four built in, and those of the CRDs.

use std::sync::Arc;

use serde_json::{Value, json};

use super::fields::Set;
use super::schema::{Schema, strings};

/// Why a text is no CRD that can be served.
#[derive(Debug, thiserror::Error)]
#[error("not a CustomResourceDefinition that can be served: {0}")]
pub struct BadCrd(String);

/// One kind.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, clippy::struct_field_names, reason = "facts of a kind, by Kubernetes' names")]
pub(crate) struct Kind {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) plural: Arc<str>,
    pub(crate) singular: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) namespaced: bool,
    /// Defined by a CRD.
    pub(crate) custom: bool,
    /// Has `/status`.
    pub(crate) status: bool,
    /// A write without a resourceVersion is taken.
    pub(crate) unconditional: bool,
    /// A PUT of what is absent makes it.
    pub(crate) create_on_update: bool,
    pub(crate) schema: Arc<Schema>,
    /// What the object itself does not write, and what `/status` does not.
    pub(crate) ignored: (Set, Set),
}

impl Kind {
    /// `dataintegrationjobs.dijob.dev`, as messages name it.
    pub(crate) fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_string() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// `DataIntegrationJob.dijob.dev`.
    pub(crate) fn qualified_kind(&self) -> String {
        if self.group.is_empty() { self.kind.clone() } else { format!("{}.{}", self.kind, self.group) }
    }

    /// What the write of this endpoint does not write.
    pub(crate) fn ignored(&self, subresource: &str) -> &Set {
        if subresource.is_empty() { &self.ignored.0 } else { &self.ignored.1 }
    }

    pub(crate) fn is_namespace(&self) -> bool {
        !self.custom && &*self.plural == "namespaces"
    }

    fn custom(crd: &Value) -> Option<Self> {
        let text = |path: &str| crd.pointer(path).and_then(Value::as_str);
        let versions = crd.pointer("/spec/versions")?.as_array()?;
        let served = versions.iter().find(|version| version.get("storage") == Some(&Value::Bool(true)))?;
        let (group, version) = (text("/spec/group")?, served.get("name")?.as_str()?);
        let mut schema = served.pointer("/schema/openAPIV3Schema")?.clone();
        let properties = schema.as_object_mut()?.entry("properties").or_insert_with(|| json!({})).as_object_mut()?;
        properties.insert("metadata".into(), metadata());
        properties.insert("apiVersion".into(), json!({ "type": "string" }));
        properties.insert("kind".into(), json!({ "type": "string" }));
        let status = served.pointer("/subresources/status").is_some();
        Some(Self {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: format!("{group}/{version}"),
            kind: text("/spec/names/kind")?.to_owned(),
            plural: text("/spec/names/plural")?.into(),
            singular: text("/spec/names/singular").unwrap_or_default().to_owned(),
            short_names: strings(crd.pointer("/spec/names/shortNames")),
            namespaced: text("/spec/scope") == Some("Namespaced"),
            custom: true,
            status,
            unconditional: false,
            create_on_update: false,
            schema: Schema::parse(&schema),
            ignored: (
                if status { Set::of(&[&["status"]]) } else { Set::default() },
                Set::of(&[&["metadata"], &["spec"]]),
            ),
        })
    }

    fn built_in(group: &str, kind: &str, namespaced: bool, (unconditional, create): (bool, bool), rest: Value) -> Self {
        let version = "v1";
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        let mut properties = rest;
        if let Value::Object(properties) = &mut properties {
            properties.insert("metadata".into(), metadata());
            properties.insert("apiVersion".into(), json!({ "type": "string" }));
            properties.insert("kind".into(), json!({ "type": "string" }));
        }
        let status = kind == "Namespace";
        Self {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version,
            kind: kind.to_owned(),
            plural: format!("{}s", kind.to_lowercase()).into(),
            singular: kind.to_lowercase(),
            short_names: Vec::new(),
            namespaced,
            custom: false,
            status,
            unconditional,
            create_on_update: create,
            schema: Schema::parse(&json!({ "type": "object", "properties": properties })),
            ignored: if status { (Set::of(&[&["status"]]), Set::of(&[&["spec"]])) } else { Default::default() },
        }
    }
}

/// What kinds a server has: the built-in ones first. Read once, it serves any number of servers.
#[derive(Clone, Debug)]
pub struct Kinds(pub(crate) Vec<Arc<Kind>>);

impl Kinds {
    /// The built-in kinds and those of these CRDs, as YAML.
    ///
    /// # Errors
    /// If a text is no `CustomResourceDefinition`.
    pub fn read(crds: &[&str]) -> Result<Self, BadCrd> {
        Ok(Self(all(crds)?.into_iter().map(Arc::new).collect()))
    }
}

fn all(crds: &[&str]) -> Result<Vec<Kind>, BadCrd> {
    let mut kinds = built_in();
    for text in crds {
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| BadCrd(error.to_string()))?;
        for crd in &documents {
            let kind =
                Kind::custom(crd).ok_or_else(|| BadCrd("a name, a version or a schema is missing".to_owned()))?;
            kinds.push(kind);
        }
    }
    Ok(kinds)
}

fn built_in() -> Vec<Kind> {
    vec![namespace(), secret(), lease(), event()]
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn texts() -> Value {
    json!({ "type": "object", "additionalProperties": text() })
}

fn namespace() -> Kind {
    let condition = json!({
        "type": "object",
        "properties": {
            "type": text(), "status": text(), "reason": text(), "message": text(),
            "lastTransitionTime": { "type": "string", "nullable": true },
        },
    });
    let conditions = json!({
        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"], "items": condition,
    });
    let spec = json!({ "type": "object", "properties": { "finalizers": { "type": "array", "items": text() } } });
    let status = json!({ "type": "object", "properties": { "phase": text(), "conditions": conditions } });
    Kind::built_in("", "Namespace", false, (true, false), json!({ "spec": spec, "status": status }))
}

fn secret() -> Kind {
    let fields = json!({
        "data": texts(), "stringData": texts(), "type": { "type": "string", "default": "Opaque" },
        "immutable": { "type": "boolean" },
    });
    Kind::built_in("", "Secret", true, (true, false), fields)
}

fn lease() -> Kind {
    let number = json!({ "type": "integer" });
    let spec = json!({
        "type": "object", "default": {},
        "properties": {
            "holderIdentity": text(), "leaseDurationSeconds": number, "leaseTransitions": number,
            "acquireTime": text(), "renewTime": text(), "strategy": text(), "preferredHolder": text(),
        },
    });
    Kind::built_in("coordination.k8s.io", "Lease", true, (false, true), json!({ "spec": spec }))
}

fn event() -> Kind {
    let time = json!({ "type": "string", "nullable": true });
    let no_time = json!({ "type": "string", "nullable": true, "default": null });
    let number = json!({ "type": "integer" });
    let object = json!({
        "apiVersion": text(), "kind": text(), "namespace": text(), "name": text(), "uid": text(),
        "resourceVersion": text(), "fieldPath": text(),
    });
    let fields = json!({
        "eventTime": time, "reportingController": text(), "reportingInstance": text(), "action": text(), "reason": text(),
        "note": text(), "type": text(),
        "series": { "type": "object", "properties": { "count": number, "lastObservedTime": time } },
        "regarding": { "type": "object", "x-kubernetes-map-type": "atomic", "default": {}, "properties": object },
        "related": { "type": "object", "x-kubernetes-map-type": "atomic", "properties": object },
        "deprecatedSource": { "type": "object", "default": {}, "properties": { "component": text(), "host": text() } },
        "deprecatedFirstTimestamp": no_time, "deprecatedLastTimestamp": no_time, "deprecatedCount": number,
    });
    Kind::built_in("events.k8s.io", "Event", true, (true, true), fields)
}

fn metadata() -> Value {
    let (text, texts) = (text(), texts());
    let owner = json!({
        "type": "object", "x-kubernetes-map-type": "atomic",
        "properties": {
            "apiVersion": text, "kind": text, "name": text, "uid": text,
            "controller": { "type": "boolean" }, "blockOwnerDeletion": { "type": "boolean" },
        },
    });
    json!({
        "type": "object",
        "properties": {
            "name": text, "generateName": text, "namespace": text, "selfLink": text, "uid": text, "resourceVersion": text,
            "generation": { "type": "integer" },
            "creationTimestamp": { "type": "string", "nullable": true },
            "deletionTimestamp": { "type": "string", "nullable": true },
            "deletionGracePeriodSeconds": { "type": "integer" },
            "labels": texts, "annotations": texts,
            "finalizers": { "type": "array", "items": text, "x-kubernetes-list-type": "set" },
            "ownerReferences": {
                "type": "array", "items": owner, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["uid"],
            },
            "managedFields": { "type": "array", "items": {} },
        },
    })
}
