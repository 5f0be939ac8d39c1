//! What a client asks before it asks for objects.

use serde_json::{Value, json};

use super::kinds::Kind;
use super::store::Collection;
use crate::answer::{Answer, Json};
use crate::request::Request;
use crate::wire::Verb;

/// `None`: the request is about objects, or about nothing that is here.
pub(crate) fn answer(collections: &[Collection], request: &Request) -> Option<Answer> {
    if request.verb != Verb::Other {
        return None;
    }
    let kinds = || collections.iter().map(|collection| &*collection.kind);
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    let json = match path.as_slice() {
        ["readyz" | "livez" | "healthz"] => return Some(Answer::raw(200, "ok".into())),
        ["version"] => json!({
            "major": "1", "minor": "36", "gitVersion": "v1.36.3", "gitCommit": "", "gitTreeState": "clean", "buildDate": "",
            "goVersion": "", "compiler": "gc", "platform": "linux/amd64",
        }),
        ["api"] => json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] }),
        ["apis"] => {
            let mut groups: Vec<Value> = Vec::new();
            for kind in kinds().filter(|kind| !kind.group.is_empty()) {
                if !groups.iter().any(|group| group.get("name").is_some_and(|name| *name == kind.group)) {
                    groups.push(group(kind));
                }
            }
            json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
        }
        ["apis", name] => {
            let mut group = kinds().find(|kind| kind.group == *name).map(group)?;
            if let Value::Object(group) = &mut group {
                group.insert("kind".into(), "APIGroup".into());
                group.insert("apiVersion".into(), "v1".into());
            }
            group
        }
        ["api", version] => resources(kinds().filter(|kind| kind.group.is_empty() && kind.version == *version))?,
        ["apis", group, version] => resources(kinds().filter(|kind| kind.group == *group && kind.version == *version))?,
        _ => return None,
    };
    Some(Answer::new(200, Json::new(json)))
}

fn group(kind: &Kind) -> Value {
    let version = json!({ "groupVersion": kind.api_version, "version": kind.version });
    json!({ "name": kind.group, "versions": [version], "preferredVersion": version })
}

fn resources<'a>(kinds: impl Iterator<Item = &'a Kind>) -> Option<Value> {
    let mut all = Vec::new();
    let mut group_version = None;
    for kind in kinds {
        group_version = Some(kind.api_version.clone());
        let resource = |name: String, verbs: &[&str]| {
            json!({
                "name": name, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind,
                "verbs": verbs, "shortNames": kind.short_names,
            })
        };
        all.push(resource(kind.plural.to_string(), &["create", "delete", "get", "list", "patch", "update", "watch"]));
        if kind.status {
            all.push(resource(format!("{}/status", kind.plural), &["get", "patch", "update"]));
        }
    }
    let group_version = group_version?;
    Some(json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": all }))
}
