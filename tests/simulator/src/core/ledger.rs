//! What happened, as the cloud saw it: the judge of every test.
//!
//! **May touch:** its arguments.
//!
//! **Guarantees**
//! 1. Every request to the cloud has one entry, in the order of arrival, whatever became of it.
//! 2. No secret is kept: no signature, no token, no string to sign.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::call::SignatureKind;
use super::jobs::Effect;
use super::signature::Parameters;

/// What the cloud made of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It has not reached the gateway (yet).
    #[default]
    Underway,
    /// Passed all checks, and told so as far as the client was told anything.
    Accepted,
    /// Refused, or told so by a fault; see [`Entry::executed`] for what is true.
    Refused {
        /// `Code` of the answer; `html` for a page without one.
        code: String,
        /// HTTP status of the answer.
        status: u16,
    },
}

/// What became of the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Fate {
    /// Still to be given.
    #[default]
    Due,
    /// Handed to the connection, whole or cut as the fault wants it.
    Sent,
    /// Withheld; the connection was closed.
    Dropped,
    /// Withheld; the connection is left open.
    Hung,
    /// The client went away before it was due.
    ClientGone,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Place in the ledger, from 0.
    pub seq: u64,
    /// The request that this is a copy of, which the network made.
    pub copy_of: Option<u64>,
    /// The connection that it came on; equal for requests on one connection.
    pub connection: u64,
    /// When its head was there.
    pub first_byte: Timestamp,
    /// When its body was there.
    pub last_byte: Timestamp,
    /// HTTP method.
    pub method: String,
    /// Main account of the key; absent for a key nobody knows.
    pub account: Option<String>,
    /// `AccessKeyId`.
    pub key_id: Option<String>,
    /// ARN of who has the key; absent for a key nobody knows.
    pub caller: Option<String>,
    /// `Action`; for a request to the metadata service `MetadataToken`, `MetadataRole` or `MetadataKey`.
    pub action: Option<String>,
    /// `Version`, as text.
    pub version: Option<String>,
    /// How it is signed, rightly or not; absent: not at all, or in no way that can be read.
    pub signature: Option<SignatureKind>,
    /// The job it names.
    pub job: Option<i64>,
    /// All parameters of query and body but `Signature`, `SecurityToken` and `OIDCToken`; the first of each name. Under
    /// ACS3 action, version and all that belongs to the signature are not among them.
    pub parameters: BTreeMap<String, String>,
    /// `SignatureNonce`, or its header.
    pub nonce: Option<String>,
    /// `Timestamp`, or `x-acs-date`, as text.
    pub signed_time: Option<String>,
    /// The request id of the answer.
    pub request_id: String,
    /// What the cloud made of it.
    pub verdict: Verdict,
    /// When it was carried out, whatever the effect. Absent: not, or not yet.
    pub executed: Option<Timestamp>,
    /// What carrying it out did.
    pub effect: Option<Effect>,
    /// What became of the answer.
    pub answer: Fate,
    /// When that was decided.
    pub answered: Option<Timestamp>,
    /// HTTP status of the answer, given or withheld.
    pub status: Option<u16>,
    /// Calls in the window of its class, this one included if it counts. Absent: no limit, or refused before.
    pub window_count: Option<u32>,
    /// Calls of the account on this day, this one included. Absent: not authenticated.
    pub day_count: Option<u32>,
}

/// A start or restart that a call caused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Execution {
    /// The request that caused it.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Whether `ForceToRerun` was asked.
    pub forced: bool,
    /// `StartTime` of the settings: the offset to begin from, Unix seconds.
    pub offset: Option<i64>,
    /// Whether it hit a job that was not at rest.
    pub is_restart: bool,
}

/// A start or restart by a person's hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ByHand {
    /// When.
    pub at: Timestamp,
    /// Whether it hit a job that was not at rest.
    pub is_restart: bool,
}

/// The calls of a neighbour so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Drawn {
    /// All.
    pub calls: u64,
    /// Those that the limits refused.
    pub refused: u64,
}

/// All requests since the start.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    entries: Vec<Entry>,
    executions: BTreeMap<i64, Vec<Execution>>,
    by_hand: BTreeMap<i64, Vec<ByHand>>,
    neighbours: BTreeMap<String, Drawn>,
}

impl Ledger {
    /// All requests, in the order of arrival.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Requests with this action, whatever became of them.
    pub fn of_action<'a>(&'a self, action: &'a str) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(move |entry| entry.action.as_deref() == Some(action))
    }

    /// Arrivals of `StartDIJob` for this job, whatever became of them.
    pub fn starts(&self, job: i64) -> impl Iterator<Item = &Entry> {
        self.of_action("StartDIJob").filter(move |entry| entry.job == Some(job))
    }

    /// Starts and restarts of this job that calls caused, in the order of happening.
    #[must_use]
    pub fn executions(&self, job: i64) -> &[Execution] {
        self.executions.get(&job).map(Vec::as_slice).unwrap_or_default()
    }

    /// Starts and restarts of this job by a person's hand, in the order of happening.
    #[must_use]
    pub fn by_hand(&self, job: i64) -> &[ByHand] {
        self.by_hand.get(&job).map(Vec::as_slice).unwrap_or_default()
    }

    /// What the neighbour of this account has drawn so far.
    #[must_use]
    pub fn neighbour(&self, account: &str) -> Drawn {
        self.neighbours.get(account).copied().unwrap_or_default()
    }

    /// What each neighbour has drawn so far, by the account beside it.
    #[must_use]
    pub fn neighbours(&self) -> &BTreeMap<String, Drawn> {
        &self.neighbours
    }

    pub(crate) fn drew(&mut self, account: &str, is_refused: bool) {
        let drawn = self.neighbours.entry(account.to_owned()).or_default();
        drawn.calls += 1;
        drawn.refused += u64::from(is_refused);
    }

    pub(crate) fn moved_by_hand(&mut self, job: i64, start: ByHand) {
        self.by_hand.entry(job).or_default().push(start);
    }

    pub(crate) fn open(&mut self, entry: impl FnOnce(u64) -> Entry) -> u64 {
        let seq = u64::try_from(self.entries.len()).unwrap_or(u64::MAX);
        self.entries.push(entry(seq));
        seq
    }

    pub(crate) fn note(&mut self, seq: u64, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = usize::try_from(seq).ok().and_then(|at| self.entries.get_mut(at)) {
            change(entry);
        }
    }

    pub(crate) fn executed(&mut self, job: i64, execution: Execution) {
        self.executions.entry(job).or_default().push(execution);
    }
}

/// The parameters of a request, without what must not be kept.
pub(crate) fn without_secrets(parameters: &Parameters) -> BTreeMap<String, String> {
    let mut kept = BTreeMap::new();
    let is_secret = |name: &str| matches!(name, "Signature" | "SecurityToken" | "OIDCToken");
    for (name, value) in parameters.iter().filter(|(name, _)| !is_secret(name)) {
        kept.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }
    kept
}
