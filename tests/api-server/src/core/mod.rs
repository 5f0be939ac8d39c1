//! The API server itself, pure.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use crate::answer::{Answer, Refusal};
use crate::history::Change;
use crate::request::Request;

/// Why a text is no CRD that can be served.
#[derive(Debug, thiserror::Error)]
#[error("not a CustomResourceDefinition that can be served: {0}")]
pub struct BadCrd(String);

/// All objects and all their versions.
#[derive(Debug, Default)]
pub struct Core {
    history: Vec<Arc<Change>>,
    version: u64,
}

impl Core {
    /// A core with these custom resources, as YAML.
    ///
    /// # Errors
    /// If a text is no CustomResourceDefinition.
    pub fn new(_crds: &[&str]) -> Result<Self, BadCrd> {
        Ok(Self::default())
    }

    /// Answers one request. A watch cannot be answered so: it is refused.
    pub fn respond(&mut self, _now: Timestamp, _caller: &str, _request: &Request) -> Answer {
        Refusal::of_code(404).answer()
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

    /// Forgets all but the last state of each object.
    pub fn compact(&mut self) {}

    pub(crate) fn open_watch(&self, _request: &Request) -> Result<Watch, Refusal> {
        Err(Refusal::of_code(404))
    }
}

/// A watch that is open.
pub(crate) struct Watch;

impl Watch {
    pub(crate) fn next(&mut self, _core: &Core) -> Option<Bytes> {
        None
    }
    pub(crate) fn bookmark(&self, _core: &Core) -> Option<Bytes> {
        None
    }
    pub(crate) fn gone() -> Bytes {
        Bytes::new()
    }
    pub(crate) fn is_over(&self) -> bool {
        false
    }
    pub(crate) fn timeout(&self) -> Option<Duration> {
        None
    }
}
