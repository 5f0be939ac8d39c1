//! What the ledger of a cell says.
//!
//! **May touch:** the ledger, to read.

use std::ops::Range;
use std::time::Duration;

use jiff::Timestamp;
use simulator::{ACCOUNT, Drawn, Entry, Ledger, Simulator, Verdict};

use super::cell::{Cell, Load};
use crate::operator::LIMIT;
use crate::report::Series;
use crate::{Failure, calls};

/// Between two looks at the ledger.
const PAUSE: Duration = Duration::from_millis(250);

/// The numbers of one cell.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    starts: f64,
    accepted: f64,
    refused: f64,
    seconds: f64,
    goodput: f64,
    neighbour: Option<f64>,
    jain: Option<f64>,
    /// Of each latecomer, in milliseconds.
    waits: Option<Vec<f64>>,
    is_complete: bool,
}

impl Measured {
    /// What [`Self::values`] are.
    pub const NAMES: [&'static str; 8] = ["P1", "starts/s", "P2", "P3", "Jain", "wait p50 s", "wait max s", "seconds"];

    /// In the order of [`Self::NAMES`]; absent: not measured here.
    pub fn values(&self) -> [Option<f64>; 8] {
        let wait = |rank| {
            let values = self.waits.clone()?;
            Some(Series { key: "", what: "", values }.quantile(rank) / 1e3)
        };
        let pace = self.starts / self.seconds;
        let refused = self.refused / self.accepted;
        let jain = self.jain;
        [Some(self.goodput), Some(pace), Some(refused), self.neighbour, jain, wait(0.5), wait(1.0), Some(self.seconds)]
    }

    /// For progress.
    pub fn words(&self) -> String {
        let values = self.values().into_iter().zip(Self::NAMES);
        let told: Vec<_> = values.filter_map(|(value, name)| Some(format!("{name} {:.3}", value?))).collect();
        format!("{}{}", told.join(", "), if self.is_complete { "" } else { ", not at its end" })
    }
}

/// A cell under way.
pub struct Tally<'a> {
    cell: &'a Cell,
    cloud: &'a Simulator,
    /// What the neighbour had drawn before.
    drawn: Drawn,
}

impl<'a> Tally<'a> {
    /// Waits for the first call.
    pub async fn begin(cell: &'a Cell, cloud: &'a Simulator) -> Result<Self, Failure> {
        let mut drawn = Drawn::default();
        let has_begun = cloud.wait_until(LIMIT, |ledger| {
            drawn = ledger.neighbour(ACCOUNT);
            !ledger.entries().is_empty()
        });
        if !has_begun.await {
            return Err(format!("no call within {LIMIT:?}").into());
        }
        Ok(Self { cell, cloud, drawn })
    }

    /// Waits until the cell is through, and counts.
    pub async fn end(self, waits: Option<Vec<f64>>) -> Measured {
        let backlogs = self.cell.backlogs();
        let is_over = |ledger: &Ledger| {
            let started = started(ledger, &backlogs);
            let mut is_through = started.iter().zip(&backlogs).map(|(started, ids)| *started >= ids.clone().count());
            match self.cell.load {
                Load::Starts => is_through.all(|through| through),
                Load::Fair => is_through.any(|through| through),
                Load::Latecomers => true,
            }
        };
        let wait = async {
            while !calls::peek(self.cloud, is_over).await {
                tokio::time::sleep(PAUSE).await;
            }
        };
        let is_complete = tokio::time::timeout(self.cell.patience(), wait).await.is_ok();
        let mut measured = calls::peek(self.cloud, |ledger| self.count(ledger, &backlogs)).await;
        measured.is_complete = is_complete;
        measured.waits = waits;
        measured
    }

    /// From the first call to the last start that was accepted.
    fn count(&self, ledger: &Ledger, backlogs: &[Range<i64>]) -> Measured {
        let entries = ledger.entries();
        let mut measured = Measured::default();
        let Some((first, last)) = entries.first().zip(entries.iter().rev().find(|entry| is_accepted_start(entry)))
        else {
            return measured;
        };
        for entry in entries.iter().filter(|entry| entry.last_byte <= last.last_byte) {
            measured.starts += f64::from(u8::from(is_accepted_start(entry)));
            measured.accepted += f64::from(u8::from(entry.verdict == Verdict::Accepted));
            measured.refused += f64::from(u8::from(matches!(entry.verdict, Verdict::Refused { .. })));
        }
        measured.seconds = last.last_byte.duration_since(first.first_byte).as_secs_f64();
        let counted = if self.cell.is_split { measured.starts } else { measured.accepted };
        measured.goodput = counted / (f64::from(self.cell.limit()) * measured.seconds);
        let drawn = ledger.neighbour(ACCOUNT);
        let (calls, refused) = (drawn.calls - self.drawn.calls, drawn.refused - self.drawn.refused);
        measured.neighbour = (calls > 0).then(|| float(refused) / float(calls));
        if self.cell.load == Load::Fair {
            let shares: Vec<_> = started(ledger, backlogs).into_iter().map(|count| float(count as u64)).collect();
            measured.jain = Some(jain(&shares));
        }
        measured
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count of calls")]
fn float(count: u64) -> f64 {
    count as f64
}

fn is_accepted_start(entry: &Entry) -> bool {
    entry.action.as_deref() == Some("StartDIJob") && entry.verdict == Verdict::Accepted
}

/// Accepted starts of each namespace.
fn started(ledger: &Ledger, backlogs: &[Range<i64>]) -> Vec<usize> {
    let jobs: Vec<_> = ledger.entries().iter().filter(|entry| is_accepted_start(entry)).filter_map(|e| e.job).collect();
    backlogs.iter().map(|ids| jobs.iter().filter(|job| ids.contains(job)).count()).collect()
}

fn jain(shares: &[f64]) -> f64 {
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    let count: f64 = shares.iter().map(|_| 1.0).sum();
    shares.iter().sum::<f64>().powi(2) / (count * squares)
}

/// How long after `from` the start of this job was accepted, in milliseconds; at most [`LIMIT`].
pub async fn wait_of(cloud: &Simulator, job: i64, from: Timestamp) -> f64 {
    let mut at = None;
    let is_its = |entry: &&Entry| entry.job == Some(job) && is_accepted_start(entry);
    let started = cloud.wait_until(LIMIT, |ledger| {
        at = ledger.entries().iter().rev().find(is_its).map(|entry| entry.first_byte);
        at.is_some()
    });
    started.await;
    at.map_or(LIMIT.as_secs_f64() * 1e3, |at| crate::latency::milliseconds(from, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_shares_have_an_index_of_one_and_unequal_ones_less() {
        assert!((jain(&[7.0; 5]) - 1.0).abs() < 1e-9);
        assert!((jain(&[10.0, 1.0, 10.0, 1.0, 1.0]) - 529.0 / 1015.0).abs() < 1e-9);
        assert!((jain(&[3.0, 0.0, 0.0]) - 1.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn values_are_told_by_their_names_and_what_was_not_measured_is_absent() {
        let waits = Some(vec![3000.0, 1000.0, 2000.0]);
        let (starts, accepted, refused, seconds, goodput) = (60.0, 180.0, 9.0, 40.0, 0.9);
        let measured = Measured { starts, accepted, refused, seconds, goodput, waits, ..Measured::default() };
        let expected = [Some(0.9), Some(1.5), Some(0.05), None, None, Some(2.0), Some(3.0), Some(40.0)];
        assert_eq!(measured.values(), expected);
        assert!(measured.words().ends_with("wait max s 3.000, seconds 40.000, not at its end"), "{}", measured.words());
    }
}
