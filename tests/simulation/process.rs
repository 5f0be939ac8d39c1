//! One life of an operator process: its memory, and the pass one effect at a time.

use dijob_operator::api::{JobStatus, PendingStart};
use dijob_operator::plan::observed::{Answered, Reading, Turn};
use dijob_operator::plan::{Observed, Outcome, Plan};
use jiff::Timestamp;

use super::cloud::Ms;

/// Where a pass stands between two effects.
#[derive(Clone, Debug)]
pub enum Doing {
    /// Between two passes.
    Idle,
    /// The intent is committed; the fence and the call come next.
    Committed(Box<(Observed, Plan, PendingStart)>),
    /// Behind the fence: the bytes leave, now or after a pause.
    Fenced(Box<(Observed, Plan, PendingStart)>),
    /// The call is out; `Ms` is when it ends, with which answer.
    Calling(Box<(Observed, Plan, Answered, Ms)>),
    /// Something is to be written.
    Writing(Box<(Observed, Plan, Outcome)>),
}

/// A process, from its start to its death.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its lease identity, one per life.
    pub holder: String,
    /// Its clock minus the true one.
    pub clock: Ms,
    /// It knows how far the cloud's clock is from its own.
    pub learned: bool,
    /// Where its pass stands.
    pub doing: Doing,
    /// Not before then, unless something changes.
    pub wake: Ms,
    /// resourceVersion of its last write.
    pub wrote: u64,
    /// resourceVersion that its last pass saw.
    pub saw: u64,
    /// The last look.
    pub reading: Option<Reading>,
    /// See [`Observed::call_at`].
    pub call_at: Option<Timestamp>,
    /// Starts it sent in this life: id and attempt.
    pub sent: Vec<(String, i64)>,
    /// The record that `call_at` is about.
    pub about: Option<(String, i64)>,
    /// An answer that status does not hold.
    pub unrecorded: Option<Answered>,
    /// Intents it wrote and surely never sent.
    pub never_sent: Vec<(String, i64)>,
    /// Its turn.
    pub turn: Turn,
}

impl Process {
    /// A new life.
    pub fn new(holder: String, clock: Ms, now: Ms) -> Self {
        Self {
            holder,
            clock,
            learned: false,
            doing: Doing::Idle,
            wake: now,
            wrote: 0,
            saw: 0,
            reading: None,
            call_at: None,
            sent: Vec::new(),
            about: None,
            unrecorded: None,
            never_sent: Vec::new(),
            turn: Turn::None,
        }
    }

    /// The process's own time.
    pub fn time(&self, now: Ms) -> Timestamp {
        Timestamp::from_millisecond(now + self.clock).unwrap()
    }

    /// What `status` is about: a pending attempt, or a finished start.
    pub fn about(status: &JobStatus) -> Option<(String, i64)> {
        let pending = status.pending_start.as_ref().map(|p| (p.id.clone(), p.attempt));
        pending.or_else(|| status.last_start.as_ref().map(|l| (l.id.clone(), 0)))
    }

    /// A record that this process did not send counts from when it first sees it.
    pub fn first_seen(&mut self, status: &JobStatus, now: Ms) {
        let Some(about) = Self::about(status) else { return };
        if self.about.as_ref() == Some(&about) {
            return;
        }
        // An outcome that another process wrote may be that of a later attempt than ours.
        let ours = self.sent.contains(&about);
        let refused =
            status.pending_start.is_none() && status.last_start.as_ref().is_some_and(|l| l.outcome == "Rejected");
        if !(ours || (refused && self.call_at.is_some())) {
            self.call_at = Some(self.time(now));
        }
        self.about = Some(about);
    }
}
