//! What a process heard or read, and must not forget.

use dijob_operator::api::{JobStatus, PendingStart};

use super::cloud::Verdict;
use super::ledger::{Attempt, Ledger, demand};

impl Ledger {
    /// A record leaves status with an outcome, or when all that was sent of it surely did not run.
    pub fn not_forgotten(&self, old: &PendingStart, new: &JobStatus) -> Result<(), String> {
        let still = new.pending_start.as_ref().is_some_and(|p| p.id == old.id);
        let told = new.last_start.as_ref().is_some_and(|l| l.id == old.id && l.outcome != "Rejected");
        let harmless = self
            .known(&old.id)
            .is_none_or(|s| s.attempts.iter().all(|a| !a.sent || matches!(a.verdict, Some(Verdict::Refused(_)))));
        demand(still || told || harmless, || format!("I5: {} may have run and is forgotten", old.id))
    }

    /// The sender of `record` has the answer to it.
    pub fn heard(&mut self, record: &PendingStart) {
        let Some(start) = self.start(&record.id) else { return };
        let attempt = start.attempts.iter_mut().find(|a| *a.record == *record && a.sent && a.verdict.is_some());
        if let Some(attempt) = attempt {
            attempt.heard = true;
        }
    }

    /// What a process heard of the record in status is the next that it writes: it knows of nothing newer.
    pub fn tells(&self, old: &PendingStart, new: &JobStatus, by: &str) -> Result<(), String> {
        let Some(start) = self.known(&old.id) else { return Ok(()) };
        let ours = |a: &&Attempt| a.heard && a.record.attempt == old.attempt && a.record.holder == by;
        let Some(attempt) = start.attempts.iter().find(ours) else { return Ok(()) };
        let pending = new.pending_start.as_ref().filter(|p| p.id == old.id && p.attempt == old.attempt);
        let last = new.last_start.as_ref().filter(|l| l.id == old.id);
        match attempt.verdict {
            Some(Verdict::Taken) => {
                let told = last.is_some_and(|l| l.outcome == "Accepted" && l.request_id.is_some());
                demand(told, || format!("I5: {by} heard that {} was accepted, and writes something else", old.id))
            }
            Some(Verdict::Refused(_)) if old.attempt == 1 => {
                demand(pending.is_none(), || format!("I5: {by} heard that {} was refused, and keeps it", old.id))
            }
            Some(Verdict::Refused(_) | Verdict::Silent) | None => Ok(()),
        }
    }

    /// A word that changes is the last one read: status does not go back to an older look.
    pub fn goes_back(&self, old: &JobStatus, new: &JobStatus) -> Result<(), String> {
        let Some(word) = new.job_status.as_ref().filter(|_| new.job_status != old.job_status) else { return Ok(()) };
        let last = self.word.iter().flatten().any(|read| read == word);
        demand(last, || format!("I5: jobStatus goes back to {word}, which was read before {:?}", old.job_status))
    }
}
