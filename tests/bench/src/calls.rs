//! What reached the simulated cloud, by its ledger.
//!
//! **May touch:** the ledger, to read.

use std::time::Duration;

use jiff::Timestamp;
use simulator::{Entry, Ledger, Simulator, Verdict};

/// Calls by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// `StartDIJob`, whatever became of it.
    pub starts: u32,
    /// `GetDIJob`, whatever became of it.
    pub looks: u32,
    /// Of all calls, those refused.
    pub refused: u32,
}

/// Where the ledger ends now.
pub async fn mark(cloud: &Simulator) -> usize {
    peek(cloud, |ledger| ledger.entries().len()).await
}

/// All calls since `mark`.
pub async fn since(cloud: &Simulator, mark: usize) -> Calls {
    peek(cloud, |ledger| {
        let mut calls = Calls::default();
        for entry in entries(ledger, mark) {
            calls.starts += u32::from(entry.action.as_deref() == Some("StartDIJob"));
            calls.looks += u32::from(entry.action.as_deref() == Some("GetDIJob"));
            calls.refused += u32::from(matches!(entry.verdict, Verdict::Refused { .. }));
        }
        calls
    })
    .await
}

/// Waits for the first start of this job after `mark`; says when its first byte was there.
pub async fn start_of(cloud: &Simulator, job: i64, mark: usize, limit: Duration) -> Option<Timestamp> {
    let mut arrived = None;
    let is_start = |entry: &&Entry| entry.job == Some(job) && entry.action.as_deref() == Some("StartDIJob");
    let found = cloud.wait_until(limit, |ledger| {
        arrived = entries(ledger, mark).iter().find(is_start).map(|entry| entry.first_byte);
        arrived.is_some()
    });
    found.await;
    arrived
}

fn entries(ledger: &Ledger, mark: usize) -> &[Entry] {
    ledger.entries().get(mark..).unwrap_or_default()
}

/// A look without the copy that `Simulator::ledger` makes.
pub async fn peek<T: Default>(cloud: &Simulator, mut look: impl FnMut(&Ledger) -> T) -> T {
    let mut seen = T::default();
    let looked = cloud.wait_until(Duration::from_secs(1), |ledger| {
        seen = look(ledger);
        true
    });
    looked.await;
    seen
}
