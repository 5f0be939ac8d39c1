//! Every version of every object.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::answer::Json;
use crate::wire::Verb;

/// What a version of an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// Its first.
    Created,
    /// A later one.
    Modified,
    /// The one with which it went.
    Deleted,
}

/// One version of one object, and who made it.
#[derive(Clone)]
pub struct Change {
    /// The resourceVersion, unique over all objects and growing by one.
    pub version: u64,
    /// When it was made, by the clock of the API server.
    pub time: Timestamp,
    /// Who asked.
    pub caller: Arc<str>,
    /// What was asked.
    pub verb: Verb,
    /// `status` or empty.
    pub subresource: &'static str,
    /// Plural name of the kind.
    pub resource: Arc<str>,
    /// Empty for what has none.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// What it is.
    pub happened: Happened,
    pub(crate) object: Arc<Json>,
    /// The version before; that of a new object is absent.
    pub(crate) previous: Option<Arc<Json>>,
}

impl Change {
    /// The whole object. Of one that went: its last state.
    #[must_use]
    pub fn object(&self) -> &Value {
        &self.object.value
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, time, caller, verb, subresource, resource, namespace, name, happened, object, previous: _ } =
            self;
        write!(
            f,
            "{version} {time} {caller} {verb:?} {resource}/{subresource} {namespace}/{name} {happened:?} {}",
            object.value
        )
    }
}
