//! The API server itself, pure: time, caller and request come as values.

mod check;
mod delete;
mod discovery;
mod fields;
mod kinds;
mod list;
mod meta;
mod owned;
mod patch;
mod schema;
mod select;
mod store;
mod typed;
mod update;
mod watch;

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

pub use kinds::{BadCrd, Kinds};
pub(crate) use watch::Watch;

use crate::answer::{Answer, Json, Refusal};
use crate::history::{Change, Happened};
use crate::request::{Request, Target};
use crate::wire::Verb;
use kinds::Kind;
use meta::{copy, set, take_text};
use owned::Owned;
use store::{Collection, Key, Stored};

/// All objects and all their versions.
#[derive(Debug)]
pub struct Core {
    collections: Vec<Collection>,
    history: Vec<Arc<Change>>,
    version: u64,
    uids: u64,
    /// How often all watches were ended.
    ends: u64,
}

/// All objects as they were at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    collections: Vec<Collection>,
    version: u64,
}

/// A request that is about objects.
struct Call<'a> {
    now: Timestamp,
    caller: &'a str,
    request: &'a Request,
    target: Target,
    collection: usize,
    kind: Arc<Kind>,
}

impl Call<'_> {
    fn refuse(&self, code: u16, reason: &'static str, what: &str) -> Refusal {
        let Target { group, name, .. } = &self.target;
        let mut details = json!({ "name": name, "kind": &*self.kind.plural });
        if !group.is_empty() {
            set(&mut details, &["group"], group.clone());
        }
        Refusal::new(code, reason, what).with(details)
    }

    fn not_found(&self) -> Refusal {
        self.refuse(404, "NotFound", &format!("{} {:?} not found", self.kind.qualified(), self.target.name))
    }

    fn conflict(&self, why: &str) -> Refusal {
        let message =
            format!("Operation cannot be fulfilled on {} {:?}: {why}", self.kind.qualified(), self.target.name);
        self.refuse(409, "Conflict", &message)
    }

    /// Who is noted for the fields of this write.
    fn manager(&self) -> &str {
        self.request.parameter("fieldManager").unwrap_or(self.caller)
    }

    fn key(&self) -> Key {
        (self.target.namespace.as_str().into(), self.target.name.as_str().into())
    }

    /// Now, in whole seconds.
    fn seconds(&self) -> String {
        Timestamp::from_second(self.now.as_second()).unwrap_or(self.now).to_string()
    }
}

impl Core {
    /// A core with these kinds, and the namespaces `default` and `dijob-system`.
    #[must_use]
    pub fn new(kinds: &Kinds) -> Self {
        let collections = kinds.0.iter().cloned().map(Collection::new).collect();
        let mut core = Self { collections, history: Vec::new(), version: 0, uids: 0, ends: 0 };
        for name in ["default", "dijob-system"] {
            let body = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
            core.respond(
                Timestamp::UNIX_EPOCH,
                "api-server",
                &Request::new(Verb::Create, "/api/v1/namespaces", Some(body)),
            );
        }
        core
    }

    /// Answers one request. A watch cannot be answered so: it is refused.
    pub fn respond(&mut self, now: Timestamp, caller: &str, request: &Request) -> Answer {
        self.answer(now, caller, request).unwrap_or_else(|refusal| refusal.answer())
    }

    fn answer(&mut self, now: Timestamp, caller: &str, request: &Request) -> Result<Answer, Refusal> {
        if let Some(answer) = discovery::answer(&self.collections, request) {
            return Ok(answer);
        }
        let (target, collection) = self.find(request)?;
        let kind = self.collection(collection).kind.clone();
        let call = Call { now, caller, request, target, collection, kind };
        let named = !call.target.name.is_empty();
        match request.verb {
            Verb::Get if named => self.get(&call),
            Verb::List => list::list(self.collection(collection), self.version, &call.target, request),
            Verb::Create if !named => self.create(&call),
            Verb::Replace if named => self.replace(&call),
            Verb::Apply if named => self.apply(&call),
            Verb::Merge | Verb::JsonPatch if named => self.patch(&call),
            Verb::Delete if named && call.target.subresource.is_empty() => self.delete(&call),
            Verb::Get
            | Verb::Watch
            | Verb::Create
            | Verb::Replace
            | Verb::Apply
            | Verb::Merge
            | Verb::JsonPatch
            | Verb::Delete
            | Verb::Other => Err(Refusal::new(
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            )),
        }
    }

    /// Every version of every object, in order.
    #[must_use]
    pub fn history(&self) -> &[Arc<Change>] {
        &self.history
    }

    /// The last resourceVersion given.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Forgets all but the last state of each object: an older watch or page gets 410.
    pub fn compact(&mut self) {
        let version = self.version;
        self.collections.iter_mut().for_each(|collection| collection.compacted = version);
    }

    /// All objects as they are.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { collections: self.collections.clone(), version: self.version }
    }

    /// Falls back into the past, as etcd does that is restored from a backup: objects, versions to watch and the
    /// resourceVersion are those of then, and all watches end. [`Self::history`] keeps what is lost here, so its versions
    /// are no longer in order.
    pub fn restore(&mut self, past: &Snapshot) {
        self.collections.clone_from(&past.collections);
        self.version = past.version;
        self.end_watches();
    }

    /// All watches that are open end, in good order.
    pub fn end_watches(&mut self) {
        self.ends += 1;
    }

    /// Other schemas for the kinds of the same names, as CRDs that are applied anew. What is stored stays.
    pub fn serve(&mut self, kinds: &Kinds) {
        for kind in &kinds.0 {
            let same = |collection: &&mut Collection| {
                collection.kind.group == kind.group && collection.kind.plural == kind.plural
            };
            if let Some(collection) = self.collections.iter_mut().find(same) {
                collection.kind = kind.clone();
            }
        }
    }

    pub(crate) fn open_watch(&self, request: &Request) -> Result<Watch, Refusal> {
        let (_, collection) = self.find(request)?;
        Watch::open(self, collection, request)
    }

    #[expect(clippy::indexing_slicing, reason = "the number comes from `find`, and no collection ever goes")]
    pub(crate) fn collection(&self, collection: usize) -> &Collection {
        &self.collections[collection]
    }

    fn find(&self, request: &Request) -> Result<(Target, usize), Refusal> {
        let target = request.target().ok_or_else(Refusal::no_page)?;
        let is_it = |kind: &Kind| {
            (kind.group.as_str(), kind.version.as_str(), &*kind.plural)
                == (&target.group, &target.version, &target.resource)
                && (kind.namespaced || target.namespace.is_empty())
                && match target.subresource.as_str() {
                    "" => true,
                    "status" => kind.status,
                    "finalize" => kind.is_namespace(),
                    _ => false,
                }
                && (!kind.namespaced || target.name.is_empty() || !target.namespace.is_empty())
        };
        let collection = self.collections.iter().position(|collection| is_it(&collection.kind));
        collection.map(|collection| (target, collection)).ok_or_else(Refusal::no_page)
    }

    fn stored(&self, call: &Call<'_>) -> Option<&Stored> {
        self.collection(call.collection).objects.get(&call.key())
    }

    fn get(&self, call: &Call<'_>) -> Result<Answer, Refusal> {
        let stored = self.stored(call).ok_or_else(|| call.not_found())?;
        Ok(Answer::new(200, stored.change.object.clone()))
    }

    /// Writes down one version of one object. `object` has no managedFields; `owned` becomes them.
    fn commit(&mut self, call: &Call<'_>, happened: Happened, mut object: Value, owned: Owned) -> Arc<Json> {
        let version = self.version + 1;
        let key = match happened {
            Happened::Created => {
                (call.target.namespace.as_str().into(), take_text(&object, &["metadata", "name"]).into())
            }
            Happened::Modified | Happened::Deleted => call.key(),
        };
        if call.request.is_dry_run() {
            // It stays under the version that it has, and what is not there has none.
            if let Some(stored) = self.stored(call) {
                copy(&mut object, stored.change.object(), &["metadata", "resourceVersion"]);
            }
        } else {
            set(&mut object, &["metadata", "resourceVersion"], version.to_string());
        }
        if !owned.is_empty() {
            set(&mut object, &["metadata", "managedFields"], owned.to_json(&call.kind.api_version));
        }
        let object = Json::new(object);
        if call.request.is_dry_run() {
            return object;
        }
        let Some(collection) = self.collections.get_mut(call.collection) else { return object };
        let change = Arc::new(Change {
            version,
            time: call.now,
            caller: call.caller.into(),
            verb: call.request.verb,
            subresource: match call.target.subresource.as_str() {
                "status" => "status",
                "finalize" => "finalize",
                _ => "",
            },
            resource: call.kind.plural.clone(),
            namespace: key.0.clone(),
            name: key.1.clone(),
            happened,
            object: object.clone(),
            previous: collection.objects.get(&key).map(|stored| stored.change.object.clone()),
        });
        self.version = version;
        self.history.push(change.clone());
        collection.changes.push(change.clone());
        if happened == Happened::Deleted {
            collection.objects.remove(&key);
        } else {
            // The real one fills in the status when it reads: what it stored at creation has none, so that even a write
            // that changes nothing is stored once.
            let unsettled = happened == Happened::Created && call.kind.custom && object.value.get("status").is_some();
            collection.objects.insert(key, Stored { change, owned: Arc::new(owned), unsettled });
        }
        object
    }
}
