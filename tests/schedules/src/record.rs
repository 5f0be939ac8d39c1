//! What a run leaves to be judged.
//!
//! **May touch:** nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use api_server::Change;
use jiff::Timestamp;
use simulator::Ledger;

use crate::faults::{Kind, Place};
use crate::story::Schedule;
use crate::world::Sent;

/// What a schedule left behind.
pub struct Record {
    /// What it was.
    pub schedule: Schedule,
    /// Every version of every object.
    pub history: Vec<Arc<Change>>,
    /// What the cloud saw.
    pub ledger: Ledger,
    /// Calls by process.
    pub sent: Vec<Sent>,
    /// Identity of each process.
    pub identities: BTreeMap<u64, String>,
    /// Processes that did not end in order, and when.
    pub died: Vec<(u64, Timestamp)>,
    /// When the faults stopped.
    pub honest: Timestamp,
    /// When the last wait was over.
    pub settled: Timestamp,
    /// When all was over.
    pub end: Timestamp,
    /// What happened, in plain words.
    pub story: Vec<String>,
    /// Faults that struck.
    pub faults: Vec<(Place, Kind, String)>,
    /// Exchanges by what they were about.
    pub exchanges: BTreeMap<String, u64>,
    /// What went wrong with the processes themselves.
    pub wrong: Vec<String>,
}
