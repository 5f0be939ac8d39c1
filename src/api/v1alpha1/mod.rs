//! Version `v1alpha1`: what both kinds share.

mod account;
mod full;
mod job;
mod record;

pub use account::{AccountQuota, Credentials, DataWorksAccount, DataWorksAccountSpec, Edition, SecretRef};
pub use job::{
    AccountRef, DataIntegrationJob, DataIntegrationJobSpec, FailoverSettings, JobStatus, OnUnknown,
    RealtimeStartSettings,
};
pub use record::{Applied, FinishedStart, LastError, LastStart, PendingStart, StartInputs};

/// Limits of the text in a status, in characters: the schema states them, [`JobStatus::bounded`] cuts to them.
pub mod bounds {
    /// A word: a status of the cloud, an outcome, a trigger, an id, a code.
    pub const WORD: usize = 128;
    /// A name or a rerun token.
    pub const NAME: usize = 256;
    /// A text for people.
    pub const TEXT: usize = 1024;
    /// Tokens kept as handled that are no longer on the object.
    pub const TOKENS: usize = 10;
    /// Tokens that one object can ask with at a time: the annotation and `rerunToken`.
    pub const REQUESTS: usize = 2;
    /// Finished starts kept.
    pub const HISTORY: usize = 5;
}

pub(crate) fn cut(text: &mut String, most: usize) {
    if let Some((at, _)) = text.char_indices().nth(most) {
        text.truncate(at);
    }
}

pub(crate) fn cut_some(text: &mut Option<String>, most: usize) {
    if let Some(text) = text {
        cut(text, most);
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
pub(crate) fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
pub(crate) fn is_zero(value: &i32) -> bool {
    *value == 0
}
