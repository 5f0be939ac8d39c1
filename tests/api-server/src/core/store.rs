//! The objects of one kind, and all their versions.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::kinds::Kind;
use super::owned::Owned;
use crate::history::{Change, Happened};

/// Namespace and name.
pub(crate) type Key = (Arc<str>, Arc<str>);

/// An object as it is.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) change: Arc<Change>,
    pub(crate) owned: Arc<Owned>,
    /// Whether the next write is stored even if it changes nothing.
    pub(crate) unsettled: bool,
}

/// The objects of one kind.
#[derive(Clone, Debug)]
pub(crate) struct Collection {
    pub(crate) kind: Arc<Kind>,
    pub(crate) objects: BTreeMap<Key, Stored>,
    /// Every version, oldest first.
    pub(crate) changes: Vec<Arc<Change>>,
    /// Versions up to this one cannot be watched or listed from any more.
    pub(crate) compacted: u64,
}

impl Collection {
    pub(crate) fn new(kind: Arc<Kind>) -> Self {
        Self { kind, objects: BTreeMap::new(), changes: Vec::new(), compacted: 0 }
    }

    /// How many versions there were when the last so many had not happened.
    pub(crate) fn length_behind(&self, behind: u64) -> usize {
        self.changes.len().saturating_sub(usize::try_from(behind).unwrap_or(usize::MAX))
    }

    /// How many versions are not newer than this one.
    pub(crate) fn length_at(&self, version: u64) -> usize {
        self.changes.partition_point(|change| change.version <= version)
    }

    /// The resourceVersion of a world in which only so many versions happened.
    pub(crate) fn version_at(&self, length: usize, now: u64) -> u64 {
        self.changes.get(length).map_or(now, |next| next.version.saturating_sub(1))
    }

    /// What there was when so many versions had happened, in order of namespace and name.
    pub(crate) fn at(&self, length: usize) -> Vec<Arc<Change>> {
        if length >= self.changes.len() {
            return self.objects.values().map(|stored| stored.change.clone()).collect();
        }
        let mut objects = BTreeMap::new();
        for change in self.changes.iter().take(length) {
            let key = (change.namespace.clone(), change.name.clone());
            if change.happened == Happened::Deleted {
                objects.remove(&key)
            } else {
                objects.insert(key, change.clone())
            };
        }
        objects.into_values().collect()
    }
}
