//! What this process remembers of each object besides its status. Losing it costs time, never correctness.
//!
//! Keyed by uid: a re-created object inherits nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::plan::observed::{Answered, Reading};

/// What is remembered of one object.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// See [`crate::plan::Observed::call_at`].
    pub call_at: Option<Timestamp>,
    /// The id and attempt of the start that `call_at` is about.
    pub call_of: Option<(String, i64)>,
    /// The last look.
    pub reading: Option<Reading>,
    /// An answer that status does not hold yet.
    pub unrecorded: Option<Answered>,
    /// Ids of starts whose intent may be written and that surely never left.
    pub never_sent: BTreeSet<String>,
    /// Since when the account or key has been missing.
    pub missing_since: Option<Timestamp>,
    /// Versions of the account and the key that the last look was made with.
    pub credentials_version: String,
    /// Passes that failed in a row.
    pub failures: i32,
}

/// The memory of this process.
#[derive(Debug, Default)]
pub struct Memory {
    objects: Mutex<BTreeMap<String, Facts>>,
    /// Per endpoint: its clock minus ours.
    offsets: Mutex<BTreeMap<String, SignedDuration>>,
}

impl Memory {
    /// What is remembered of the object.
    #[must_use]
    pub fn facts(&self, uid: &str) -> Facts {
        self.lock().get(uid).cloned().unwrap_or_default()
    }

    /// Changes it.
    pub fn update<T>(&self, uid: &str, change: impl FnOnce(&mut Facts) -> T) -> T {
        change(self.lock().entry(uid.to_owned()).or_default())
    }

    /// The object is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// The clock of an endpoint minus ours; zero before its first answer.
    #[must_use]
    pub fn offset(&self, endpoint: &str) -> SignedDuration {
        self.offsets.lock().unwrap_or_else(PoisonError::into_inner).get(endpoint).copied().unwrap_or_default()
    }

    /// An endpoint told its time. Its `Date` has whole seconds: less than 2 s apart is no difference.
    pub fn learn_time(&self, endpoint: &str, theirs: Timestamp, ours: Timestamp) {
        let apart = theirs.duration_since(ours);
        let offset = if apart.abs() < SignedDuration::from_secs(2) { SignedDuration::ZERO } else { apart };
        self.offsets.lock().unwrap_or_else(PoisonError::into_inner).insert(endpoint.to_owned(), offset);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Facts>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
