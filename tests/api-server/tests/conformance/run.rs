//! One server's answers, made comparable.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use http::Request;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// What the file calls the paths of collections.
const PATHS: [(&str, &str); 5] = [
    ("{jobs}", "/apis/dijob.dev/v1alpha1/namespaces/conformance/dataintegrationjobs"),
    ("{accounts}", "/apis/dijob.dev/v1alpha1/namespaces/conformance/dataworksaccounts"),
    ("{leases}", "/apis/coordination.k8s.io/v1/namespaces/conformance/leases"),
    ("{secrets}", "/api/v1/namespaces/conformance/secrets"),
    ("{events}", "/apis/events.k8s.io/v1/namespaces/conformance/events"),
];

/// One request of the list.
pub(crate) struct Step {
    /// What it is about, and the name by which later ones mean its answer.
    pub(crate) name: String,
    /// `GET`, `POST`, `PUT`, `DELETE`, `APPLY`, `MERGE`, `JSON`, or `WATCH:n`: so many events.
    pub(crate) verb: String,
    /// May hold `{rv of NAME}`, `{uid of NAME}`, `{continue of NAME}`.
    pub(crate) uri: String,
    /// The same. Null: none.
    pub(crate) body: Value,
}

/// Reads the list.
pub(crate) fn steps(file: &str) -> Vec<Step> {
    let steps: Vec<Value> = serde_saphyr::from_str(file).unwrap();
    let read = |step: &Value| {
        let (verb, uri) = step["send"].as_str().unwrap().split_once(' ').unwrap();
        let uri = PATHS.iter().fold(uri.to_owned(), |uri, (name, path)| uri.replace(name, path));
        Step { name: step["name"].as_str().unwrap().to_owned(), verb: verb.to_owned(), uri, body: step["body"].clone() }
    };
    steps.iter().map(read).collect()
}

/// A server, and what it answered so far.
pub(crate) struct Run {
    client: Client,
    answers: BTreeMap<String, Value>,
    versions: Vec<String>,
    uids: Vec<String>,
}

impl Run {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, answers: BTreeMap::new(), versions: Vec::new(), uids: Vec::new() }
    }

    /// Sends it; gives back what is to be compared.
    pub(crate) async fn take(&mut self, step: &Step) -> Value {
        let (uri, body) = (self.filled(&step.uri), self.filled(&step.body.to_string()));
        let (code, mut answer) = if let Some(count) = step.verb.strip_prefix("WATCH:") {
            watch(&self.client, &uri, count.parse().unwrap()).await
        } else {
            send(&self.client, &step.verb, &uri, if step.body.is_null() { "" } else { &body }).await
        };
        self.answers.insert(step.name.clone(), answer.clone());
        self.learn(&answer);
        self.level(&mut answer);
        json!({ "code": code, "body": answer })
    }

    fn filled(&self, text: &str) -> String {
        let mut filled = text.to_owned();
        while let Some(start) = ["{rv of ", "{uid of ", "{continue of "].iter().filter_map(|w| filled.find(w)).min() {
            let end = start + filled[start..].find('}').unwrap();
            let (what, name) = filled[start + 1..end].split_once(" of ").unwrap();
            let answer = self.answers.get(name).unwrap_or_else(|| panic!("no step {name}"));
            let field = match what {
                "rv" => &answer["metadata"]["resourceVersion"],
                "uid" => &answer["metadata"]["uid"],
                _ => &answer["metadata"]["continue"],
            };
            let value = field.as_str().unwrap_or("absent").to_owned();
            filled.replace_range(start..=end, &value);
        }
        filled
    }

    /// Notes versions and uids of objects in the order in which they come up.
    fn learn(&mut self, answer: &Value) {
        let note = |known: &mut Vec<String>, value: &Value| {
            if let Some(text) = value.as_str().filter(|text| !known.iter().any(|k| k == text)) {
                known.push(text.to_owned());
            }
        };
        match answer {
            Value::Array(all) => all.iter().for_each(|one| self.learn(one)),
            Value::Object(map) => {
                if let Some(metadata) = map.get("metadata").filter(|m| m.get("name").is_some()) {
                    note(&mut self.versions, &metadata["resourceVersion"]);
                    note(&mut self.uids, &metadata["uid"]);
                }
                map.values().for_each(|value| self.learn(value));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn level(&self, value: &mut Value) {
        match value {
            Value::Array(list) => list.iter_mut().for_each(|value| self.level(value)),
            Value::Object(map) => {
                if map.contains_key("fieldsV1") {
                    map.remove("time");
                }
                // That of a list is the server's, not an object's.
                if !map.contains_key("name") && map.contains_key("resourceVersion") {
                    map.insert("resourceVersion".into(), "list".into());
                }
                for (key, value) in map.iter_mut() {
                    match key.as_str() {
                        "creationTimestamp" | "deletionTimestamp" if value.is_string() => *value = "time".into(),
                        "continue" => *value = "more".into(),
                        _ => self.level(value),
                    }
                }
                // The real server's order of causes is that of a hash map, and it checks metadata twice.
                for list in ["managedFields", "causes"] {
                    if let Some(Value::Array(entries)) = map.get_mut(list) {
                        entries.sort_by_key(ToString::to_string);
                        entries.dedup();
                    }
                }
            }
            Value::String(text) => *text = self.levelled(text),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Names of versions and uids, alone or in a message, by their place; times in messages gone.
    fn levelled(&self, text: &str) -> String {
        if let Some(at) = self.versions.iter().position(|version| version == text) {
            return format!("version {at}");
        }
        let mut levelled = text.to_owned();
        for (at, uid) in self.uids.iter().enumerate() {
            levelled = levelled.replace(uid, &format!("uid {at}"));
        }
        for (at, version) in self.versions.iter().enumerate() {
            levelled = levelled.replace(&format!("({version})"), &format!("(version {at})"));
        }
        if let Some(at) = levelled.find(" at 20") {
            levelled.replace_range(at..(at + " at 2026-11-24T10:00:00Z".len()).min(levelled.len()), " at time");
        }
        // What follows is a number of the server's own, or how its parser complains.
        for end in ["too old resource version: ", ", current: ", "continue key is not valid"] {
            if let Some(at) = levelled.find(end) {
                levelled.truncate(at + end.len());
            }
        }
        if let Some((before, (_, after))) = levelled
            .split_once("Invalid value: \"{")
            .and_then(|(before, rest)| Some((before, rest.rsplit_once("}\": ")?)))
        {
            levelled = format!("{before}Invalid value: all of it: {after}");
        }
        levelled
    }
}

async fn send(client: &Client, verb: &str, uri: &str, body: &str) -> (u16, Value) {
    let (method, content) = match verb {
        "APPLY" => ("PATCH", "application/apply-patch+yaml"),
        "MERGE" => ("PATCH", "application/merge-patch+json"),
        "JSON" => ("PATCH", "application/json-patch+json"),
        method => (method, "application/json"),
    };
    let request = Request::builder().method(method).uri(uri).header("content-type", content);
    let answer = client.send(request.body(Body::from(body.as_bytes().to_vec())).unwrap()).await.unwrap();
    let code = answer.status().as_u16();
    let bytes = answer.into_body().collect_bytes().await.unwrap();
    (code, serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into()))
}

/// The first events of a watch; fewer if it ends.
async fn watch(client: &Client, uri: &str, count: usize) -> (u16, Value) {
    let request = Request::get(uri).body(Body::empty()).unwrap();
    let answer = client.send(request).await.unwrap();
    let code = answer.status().as_u16();
    let mut frames = frames(answer.into_body());
    let mut text = String::new();
    let all = async {
        while text.lines().count() < count || !text.ends_with('\n') {
            let Some(bytes) = frames.next().await else { break };
            text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(20), all).await;
    (code, text.lines().take(count).map(|line| serde_json::from_str::<Value>(line).unwrap()).collect())
}

fn frames(body: Body) -> impl futures::Stream<Item = Vec<u8>> + Unpin {
    Box::pin(futures::stream::unfold(body, |mut body| async move {
        let frame = std::future::poll_fn(|cx| http_body::Body::poll_frame(std::pin::Pin::new(&mut body), cx)).await;
        Some((frame?.unwrap().into_data().unwrap().to_vec(), body))
    }))
}

/// Installs a CRD and waits until it is served.
pub(crate) async fn install(client: &Client, crd: &Value) {
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let (code, answer) = send(client, "POST", path, &crd.to_string()).await;
    assert_eq!(code, 201, "{answer}");
    let name = crd["metadata"]["name"].as_str().unwrap();
    let uri = format!("{path}?watch=true&fieldSelector=metadata.name={name}");
    let answer = client.send(Request::get(uri).body(Body::empty()).unwrap()).await.unwrap();
    let mut frames = frames(answer.into_body());
    let mut seen = String::new();
    while !seen.contains(r#""type":"Established","status":"True""#) && !established(&seen) {
        seen.push_str(std::str::from_utf8(&frames.next().await.unwrap()).unwrap());
    }
}

fn established(seen: &str) -> bool {
    seen.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).any(|event| {
        let conditions = event["object"]["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True")
    })
}
