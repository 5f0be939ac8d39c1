//! What may happen to bytes between a client and the API server.
//!
//! **May touch:** nothing.
//!
//! **Guarantees**
//! 1. A [`Wire`] is asked once for each request, in the order in which the requests were made, and once for each event of
//!    each watch, in the order of the events.
//! 2. [`Direct`], and each value by default, harms nothing.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

/// What a request wants. A PATCH is named by its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// GET of one object.
    Get,
    /// GET of a collection.
    List,
    /// GET of a collection, or of one object by a field selector, with `watch=true`.
    Watch,
    /// POST.
    Create,
    /// PUT.
    Replace,
    /// PATCH by server-side apply.
    Apply,
    /// PATCH by merge.
    Merge,
    /// PATCH by a list of operations.
    JsonPatch,
    /// DELETE of one object.
    Delete,
    /// All that is no request for objects: version, discovery, health.
    Other,
}

impl Verb {
    /// Whether it may change something.
    #[must_use]
    pub fn writes(self) -> bool {
        match self {
            Self::Create | Self::Replace | Self::Apply | Self::Merge | Self::JsonPatch | Self::Delete => true,
            Self::Get | Self::List | Self::Watch | Self::Other => false,
        }
    }
}

/// A request, as a [`Wire`] sees it.
#[derive(Clone, Debug)]
pub struct RequestInfo {
    /// Whom the service was made for.
    pub caller: Arc<str>,
    /// Counts the requests of this service, from 0.
    pub nth: u64,
    /// What it wants.
    pub verb: Verb,
    /// Plural name of the kind, such as `dataintegrationjobs`; empty for [`Verb::Other`].
    pub resource: String,
    /// `status` or empty.
    pub subresource: String,
    /// Empty: all namespaces, or no namespace at all.
    pub namespace: String,
    /// Empty: a collection. The name in the body, for [`Verb::Create`].
    pub name: String,
    /// Path and query as they were sent.
    pub uri: String,
    /// `dryRun=All`: writes nothing.
    pub dry_run: bool,
    /// The body, if it is JSON.
    pub body: Option<Arc<Value>>,
}

/// A watch, as a [`Wire`] sees it.
#[derive(Clone, Debug)]
pub struct WatchInfo {
    /// Whom the service was made for.
    pub caller: Arc<str>,
    /// [`RequestInfo::nth`] of the request that opened it.
    pub request: u64,
    /// Plural name of the kind.
    pub resource: String,
    /// Empty: all namespaces.
    pub namespace: String,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// From the call until the request arrives.
    pub before: Duration,
    /// Whether it arrives, and what the caller hears.
    pub then: Then,
    /// From the arrival until the caller hears.
    pub after: Duration,
    /// How old the world is that a list or a watch shows; nothing else looks at it.
    pub view: View,
}

/// Whether a request arrives, and what the caller hears.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Then {
    /// It arrives and is answered.
    #[default]
    Deliver,
    /// It never arrives: a connection error.
    LoseRequest,
    /// It arrives; then a connection error.
    LoseAnswer,
    /// It never arrives, and no answer comes.
    HangBefore,
    /// It arrives, and no answer comes.
    HangAfter,
    /// It never takes effect: the answer is this HTTP status with a `Status` as body, such as 409, 410, 429, 500, 503, 504.
    Refuse(u16),
    /// It takes effect, and yet the answer is this HTTP status.
    TakeThenRefuse(u16),
}

/// Which past a list or a watch shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// What is.
    #[default]
    Now,
    /// As it was before the last so many versions of objects of that kind. A watch shows a version when so many more
    /// have followed it.
    Behind(u64),
}

/// What becomes of one event of a watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EventFate {
    /// It comes.
    #[default]
    Deliver,
    /// It comes so much later, and whatever follows it not before it.
    Delay(Duration),
    /// It never comes; what follows does.
    Lose,
    /// It comes twice.
    Double,
    /// Neither it nor anything else ever comes; the connection stays open.
    Silence,
    /// The answer ends in its place, in good order.
    Close,
    /// The connection breaks in its place.
    Break,
    /// 410 as an `ERROR` event in its place, and the answer ends.
    Gone,
}

/// Between a client and the API server.
pub trait Wire: Send + Sync {
    /// What becomes of a request.
    fn request(&self, info: &RequestInfo) -> Route;

    /// What becomes of the nth event of a watch, counted from 0, bookmarks included.
    fn event(&self, info: &WatchInfo, nth: u64) -> EventFate;
}

/// A wire without faults.
#[derive(Clone, Copy, Debug, Default)]
pub struct Direct;

impl Wire for Direct {
    fn request(&self, _: &RequestInfo) -> Route {
        Route::default()
    }

    fn event(&self, _: &WatchInfo, _: u64) -> EventFate {
        EventFate::Deliver
    }
}
