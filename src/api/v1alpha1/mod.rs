//! Version `v1alpha1`: what both kinds share.

mod account;
mod account_status;
mod full;
mod job;
mod record;

pub use account::{
    AccountQuota, AssumeRole, Credentials, DataWorksAccount, DataWorksAccountSpec, DataworksVersion, Edition, Network,
    Oidc, OperatorIdentity, SESSION_NAME, SecretRef, ServiceAccountRef, Signature,
};
pub use account_status::{AccountStatus, CallsToday};
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

/// What the API server allows as the name of an object (RFC 1123 subdomain).
const OBJECT_NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// Whether an object of that name can exist. The schema says so too; an object may be older than its schema, and a name
/// that holds a slash would make another path of a request.
#[must_use]
pub fn is_object_name(name: &str) -> bool {
    let of_label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_label = |label: &str| {
        !label.is_empty() && label.chars().all(of_label) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_an_object_makes_no_other_path() {
        for name in ["a", "default", "team-a.key1", "0", &"a".repeat(253)] {
            assert!(is_object_name(name), "{name}");
        }
        let long = "a".repeat(254);
        for name in ["", ".", "..", "a..b", "a/b", "a?b", "a%2fb", "A", "a b", "a\n", "-a", "a-", "ä", &long] {
            assert!(!is_object_name(name), "{name}");
        }
    }
}
