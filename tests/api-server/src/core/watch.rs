//! Watches: what each is to be told next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::Core;
use super::meta::copy;
use super::select::Selector;
use super::store::Collection;
use crate::answer::Refusal;
use crate::history::{Change, Happened};
use crate::request::Request;
use crate::wire::View;

/// A watch that is open.
pub(crate) struct Watch {
    collection: usize,
    namespace: String,
    selector: Selector,
    behind: u64,
    /// How many versions of this kind were looked at.
    position: usize,
    /// Told before anything else.
    first: VecDeque<Bytes>,
    over: bool,
    /// [`Core::end_watches`] was done so often when it was opened.
    ends: u64,
    /// Versions up to this one are known to its client.
    since: u64,
    bookmarks: bool,
    timeout: Option<Duration>,
}

impl Watch {
    pub(crate) fn open(core: &Core, collection: usize, request: &Request) -> Result<Self, Refusal> {
        let target = request.target().unwrap_or_default();
        let of = core.collection(collection);
        let seconds = request.parameter("timeoutSeconds").and_then(|seconds| seconds.parse().ok());
        let behind = match request.view {
            View::Now => 0,
            View::Behind(versions) => versions,
        };
        let mut watch = Self {
            collection,
            namespace: target.namespace,
            selector: Selector::of(request, &target.name)?,
            behind,
            position: of.length_behind(behind),
            first: VecDeque::new(),
            over: false,
            ends: core.ends,
            since: 0,
            bookmarks: request.flag("allowWatchBookmarks"),
            timeout: seconds.map(Duration::from_secs),
        };
        let since = request.parameter("resourceVersion").unwrap_or("0");
        let Ok(since) = since.parse::<u64>() else {
            let message = format!(
                "resourceVersion: Invalid value: {since:?}: strconv.ParseUint: parsing {since:?}: invalid syntax"
            );
            return Err(Refusal::new(500, "", message));
        };
        if since == 0 || request.flag("sendInitialEvents") {
            watch.start_with_all(core, of, request.flag("sendInitialEvents"));
        } else if since < of.compacted {
            let message = format!("too old resource version: {since} ({})", of.compacted);
            watch.first.push_back(error(&Refusal::new(410, "Expired", message)));
            watch.over = true;
        } else {
            watch.position = of.length_at(since);
            watch.since = since; // it may lie in a future that was taken back
        }
        Ok(watch)
    }

    fn start_with_all(&mut self, core: &Core, of: &Collection, tell_end: bool) {
        let all = of.at(self.position);
        let shown = all.iter().filter(|change| self.shows(change) && self.selector.takes(change.object()));
        self.first = shown.map(|change| event("ADDED", &change.object.bytes())).collect();
        if tell_end {
            let version = of.version_at(self.position, core.version());
            self.first.push_back(mark(of, version, json!({ "k8s.io/initial-events-end": "true" })));
        }
    }

    /// The next event; `None`: nothing more now.
    pub(crate) fn next(&mut self, core: &Core) -> Option<Bytes> {
        if let Some(event) = self.first.pop_front() {
            return Some(event);
        }
        self.over |= self.ends != core.ends;
        let of = core.collection(self.collection);
        while !self.over && self.position < of.length_behind(self.behind) {
            let change = of.changes.get(self.position).cloned();
            self.position += 1;
            if let Some(event) = change
                .filter(|change| change.version > self.since && self.shows(change))
                .and_then(|change| self.told(&change))
            {
                return Some(event);
            }
        }
        None
    }

    fn shows(&self, change: &Arc<Change>) -> bool {
        self.namespace.is_empty() || *change.namespace == *self.namespace
    }

    fn told(&self, change: &Change) -> Option<Bytes> {
        let before = change.previous.as_ref().is_some_and(|object| self.selector.takes(&object.value));
        let after = change.happened != Happened::Deleted && self.selector.takes(change.object());
        let kind = match (before, after) {
            (false, false) => return None,
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        match &change.previous {
            // What is selected no more is shown as it was, under the version that took it away.
            Some(previous) if kind == "DELETED" && change.happened != Happened::Deleted => {
                let mut object = previous.value.clone();
                copy(&mut object, change.object(), &["metadata", "resourceVersion"]);
                Some(event(kind, object.to_string().as_bytes()))
            }
            _ => Some(event(kind, &change.object.bytes())),
        }
    }

    /// How far it is, if its client wants to know and has seen all of it.
    pub(crate) fn bookmark(&self, core: &Core) -> Option<Bytes> {
        let of = core.collection(self.collection);
        let version = of.version_at(self.position, core.version());
        (self.bookmarks && !self.over).then(|| mark(of, version, Value::Null))
    }

    /// 410 as the API server says it in a stream.
    pub(crate) fn gone() -> Bytes {
        error(&Refusal::of_code(410))
    }

    /// Nothing more will ever come.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }
}

fn event(kind: &str, object: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(object.len() + 40);
    line.extend_from_slice(b"{\"type\":\"");
    line.extend_from_slice(kind.as_bytes());
    line.extend_from_slice(b"\",\"object\":");
    line.extend_from_slice(object);
    line.extend_from_slice(b"}\n");
    line.into()
}

fn error(refusal: &Refusal) -> Bytes {
    event("ERROR", refusal.status().to_string().as_bytes())
}

fn mark(of: &Collection, version: u64, annotations: Value) -> Bytes {
    let mut metadata = json!({ "resourceVersion": version.to_string() });
    if let (Value::Object(metadata), false) = (&mut metadata, annotations.is_null()) {
        metadata.insert("annotations".into(), annotations);
    }
    let object = json!({ "apiVersion": of.kind.api_version, "kind": of.kind.kind, "metadata": metadata });
    event("BOOKMARK", object.to_string().as_bytes())
}
