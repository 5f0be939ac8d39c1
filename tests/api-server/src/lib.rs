//! A Kubernetes API server in memory, to stand under the real `kube::Client` in tests under a paused clock.
//!
//! [`Core`] is pure: the time, the caller and the request come as values. [`ApiServer`] shares one core; [`ApiService`] is
//! one client's way to it, over a [`Wire`] that may delay, lose, refuse and show the past.
//!
//! **May touch:** memory; [`ApiService`] also tokio's tasks and time.
//!
//! **Guarantees**
//! 1. What is served here is answered as a real `kube-apiserver` does: one list of requests runs against both.
//! 2. Nothing depends on a clock, a random source, a thread or the order of a hash map.
//! 3. [`ApiServer::history`] holds every version of every object, in the order in which they were made: that of their
//!    resourceVersions, unless the server fell back into the past.
//!
//! **Caveats:** no authentication, no RBAC, no CEL, no garbage collection; of the built-in kinds only Namespace, Secret,
//! Event and Lease. It shares no code with the operator.

mod answer;
mod core;
mod history;
mod request;
mod service;
mod stream;
mod wire;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Notify;

pub use crate::answer::Answer;
pub use crate::core::{BadCrd, Core, Kinds, Snapshot};
pub use crate::history::{Change, Happened};
pub use crate::request::{Request, Target};
pub use crate::service::{AnswerBody, ApiService};
pub use crate::wire::{Direct, EventFate, RequestInfo, Route, Then, Verb, View, WatchInfo, Wire};

use crate::answer::Refusal;
use crate::core::Watch;

/// An API server; a clone is the same one.
#[derive(Clone)]
pub struct ApiServer {
    core: Arc<Mutex<Core>>,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    changed: Arc<Notify>,
}

impl ApiServer {
    /// A server with these custom resources, as YAML, and the namespaces `default` and `dijob-system`.
    ///
    /// # Errors
    /// If a text is no `CustomResourceDefinition`.
    pub fn new(crds: &[&str], clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Result<Self, BadCrd> {
        Ok(Self::of(&Kinds::read(crds)?, clock))
    }

    /// The same with kinds read before: reading takes longer than most schedules.
    #[must_use]
    pub fn of(kinds: &Kinds, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self { core: Arc::new(Mutex::new(Core::new(kinds))), clock: Arc::new(clock), changed: Arc::default() }
    }

    /// One client's way to it, for `kube::Client::new(service, "default")`.
    #[must_use]
    pub fn service(&self, caller: &str, wire: Arc<dyn Wire>) -> ApiService {
        ApiService::new(self.clone(), caller, wire)
    }

    /// Asks at once and past any wire, as a person with `kubectl` does. [`Verb::Get`] serves lists too.
    #[expect(clippy::must_use_candidate, reason = "a write is done whether or not somebody looks")]
    pub fn request(&self, caller: &str, verb: Verb, uri: &str, body: Option<Value>) -> Answer {
        self.respond(caller, &Request::new(verb, uri, body))
    }

    /// The same for a request made before.
    #[expect(clippy::must_use_candidate, reason = "a write is done whether or not somebody looks")]
    pub fn respond(&self, caller: &str, request: &Request) -> Answer {
        let now = (self.clock)();
        let (answer, before, after) = {
            let mut core = self.lock();
            let before = core.version();
            let answer = core.respond(now, caller, request);
            (answer, before, core.version())
        };
        if after != before {
            self.changed.notify_waiters();
        }
        answer
    }

    /// Every version of every object from the first one on that is newer than `version`; 0 for all.
    #[must_use]
    pub fn history(&self, version: u64) -> Vec<Arc<Change>> {
        let core = self.lock();
        let history = core.history();
        let from = history.partition_point(|change| change.version <= version);
        history.get(from..).unwrap_or_default().to_vec()
    }

    /// The last resourceVersion given.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.lock().version()
    }

    /// Forgets all but the last state of each object, as etcd's compaction does: an older watch or page gets 410.
    /// [`Self::history`] keeps everything.
    pub fn compact(&self) {
        self.lock().compact();
    }

    /// All objects as they are.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.lock().snapshot()
    }

    /// Falls back into the past: see [`Core::restore`].
    pub fn restore(&self, past: &Snapshot) {
        self.lock().restore(past);
        self.changed.notify_waiters();
    }

    /// All watches that are open end, in good order.
    pub fn end_watches(&self) {
        self.lock().end_watches();
        self.changed.notify_waiters();
    }

    /// Other schemas for the kinds of the same names: see [`Core::serve`].
    pub fn serve(&self, kinds: &Kinds) {
        self.lock().serve(kinds);
    }

    pub(crate) fn open_watch(&self, request: &Request) -> Result<Watch, Refusal> {
        self.lock().open_watch(request)
    }

    pub(crate) fn next_event(&self, watch: &mut Watch) -> Option<Bytes> {
        watch.next(&self.lock())
    }

    pub(crate) fn bookmark(&self, watch: &Watch) -> Option<Bytes> {
        watch.bookmark(&self.lock())
    }

    /// Word of the next change, in the order of asking: tokio's watch channel wakes in a random one.
    pub(crate) fn change(&self) -> Arc<Notify> {
        self.changed.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
