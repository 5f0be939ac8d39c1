//! The whole state, small and cheap to clone, and the steps that are no effect of a process.

use std::sync::Arc;

use dijob_operator::api::{AccountRef, DataIntegrationJobSpec, FailoverSettings, JobStatus, OnUnknown, PendingStart};
use dijob_operator::plan::observed::{Annotations, Answer};

use super::cloud::{Cloud, Fate, Ms, Profile};
use super::ledger::Ledger;
use super::process::{Doing, Process};

/// The account's region, and the one that it may mean later.
pub const REGIONS: [&str; 2] = ["cn-shanghai", "cn-beijing"];

/// So many versions old a view may be.
pub const VIEWS: usize = 2;

/// One version of the object.
#[derive(Clone, Debug)]
pub struct Version {
    /// Counts re-creations.
    pub uid: u8,
    /// resourceVersion.
    pub rv: u64,
    /// Of the spec.
    pub generation: i64,
    /// The spec.
    pub spec: DataIntegrationJobSpec,
    /// The annotations.
    pub annotations: Annotations,
    /// Marked for deletion.
    pub deleting: bool,
    /// The status, conditions and all.
    pub status: JobStatus,
}

/// What may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Edits, by users of cluster and cloud.
    pub edits: u8,
    /// Deaths of a process.
    pub crashes: u8,
    /// Answers, requests and replies of the API server that are lost or late.
    pub lost: u8,
    /// Refusals and 5xx.
    pub troubles: u8,
    /// Moves of the lease.
    pub moves: u8,
    /// Passes on an old view.
    pub stale: u8,
    /// Steps of time.
    pub ticks: u8,
}

/// An edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Edit {
    /// `failoverSettings` are new.
    Failover,
    /// `startTime` is new.
    Offset,
    /// `forceToRerun` is turned on.
    Force,
    /// Every start setting is taken away.
    Tidy,
    /// A fresh rerun token.
    Token,
    /// A fresh rerun token, forced.
    ForcedToken,
    /// The token is withdrawn.
    Withdraw,
    /// `suspend` is turned over.
    Suspend,
    /// The spec is as at first, and the tokens are gone.
    Revert,
    /// Another job.
    OtherJob,
    /// Marked for deletion.
    Delete,
    /// Deleted and made again under its name.
    Recreate,
    /// Restored without its status.
    StatusLost,
    /// Restored as it was when the last intent was written.
    RolledBack,
    /// The access key is another one.
    Rotate,
    /// The Secret goes away, or comes back.
    KeyGone,
    /// The account means another region.
    AccountMoves,
    /// Somebody starts the job in the console.
    PersonStarts,
    /// Somebody stops the job in the console.
    PersonStops,
}

/// A request on its way.
#[derive(Clone, Debug)]
pub struct Wire {
    /// What it is.
    pub record: Arc<PendingStart>,
}

/// Everything.
#[derive(Clone, Debug)]
pub struct World {
    /// The cloud's unknowns.
    pub profile: Profile,
    /// Edits that this scope knows.
    pub menu: &'static [Edit],
    /// What may still happen.
    pub budget: Budget,
    /// The one clock. Each effect takes a millisecond, so the order within a second is that of the effects.
    pub now: Ms,
    /// The cloud.
    pub cloud: Arc<Cloud>,
    /// The object.
    pub object: Arc<Version>,
    /// The versions before, newest first: [`VIEWS`] at most.
    pub past: Vec<Arc<Version>>,
    /// The version of the last intent.
    pub shelf: Option<Arc<Version>>,
    /// The first spec.
    pub first: Arc<DataIntegrationJobSpec>,
    /// Two processes.
    pub processes: [Arc<Process>; 2],
    /// Which of them leads.
    pub leader: usize,
    /// Late copies.
    pub wire: Vec<Wire>,
    /// Number of the key; `None`: the Secret is gone.
    pub key: (u8, bool),
    /// Index into [`REGIONS`].
    pub region: usize,
    /// What the oracle remembers.
    pub ledger: Arc<Ledger>,
    /// For fresh nonces, lives and tokens.
    pub counters: [u32; 3],
}

/// What an effect touched, for the faults that it can meet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Touched {
    /// The cloud was read.
    pub read: bool,
    /// The API server was written to.
    pub wrote: bool,
}

impl World {
    /// The first state of a scope.
    pub fn new(profile: Profile, menu: &'static [Edit], budget: Budget, spec: DataIntegrationJobSpec) -> Self {
        let first = Arc::new(spec.clone());
        let object = Version {
            uid: 0,
            rv: 1,
            generation: 1,
            spec,
            annotations: Annotations::default(),
            deleting: false,
            status: JobStatus { observed_generation: -1, ..JobStatus::default() },
        };
        let processes = [0, 1].map(|n| Arc::new(Process::new(n)));
        Self {
            profile,
            menu,
            budget,
            now: 1_764_000_000_000,
            cloud: Arc::new(Cloud::new(profile)),
            ledger: Arc::new(Ledger::new(&object)),
            object: Arc::new(object),
            past: Vec::new(),
            shelf: None,
            first,
            processes,
            leader: 0,
            wire: Vec::new(),
            key: (0, true),
            region: 0,
            counters: [0, 2, 0],
        }
    }

    /// The next version is stored.
    pub fn push(&mut self, mut next: Version) {
        next.rv = self.object.rv + 1;
        self.past.insert(0, std::mem::replace(&mut self.object, Arc::new(next)));
        self.past.truncate(VIEWS);
    }

    /// A process dies and comes back with an empty memory.
    pub fn crash(&mut self, p: usize) {
        let life = self.counters[1];
        self.counters[1] += 1;
        let holder = self.processes[p].holder();
        Arc::make_mut(&mut self.ledger).died(&holder);
        self.processes[p] = Arc::new(Process::new(life));
    }

    /// The lease goes to the other process, whose looks are dropped.
    pub fn lease_moves(&mut self) {
        self.leader = 1 - self.leader;
        Arc::make_mut(&mut self.processes[self.leader]).facts.reading = None;
    }

    /// A late copy arrives.
    pub fn arrive(&mut self, n: usize) -> Result<(), String> {
        let Wire { record } = self.wire.remove(n);
        let answer = self.deliver(&record, Fate::Good)?;
        for p in 0..2 {
            let Doing::Calling(held, None) = self.processes[p].doing.clone() else { continue };
            if held.record == record {
                Arc::make_mut(&mut self.processes[p]).doing = Doing::Calling(held, Some(answer.clone()));
            }
        }
        Ok(())
    }

    /// A copy reaches the cloud.
    pub fn deliver(&mut self, record: &Arc<PendingStart>, fate: Fate) -> Result<Answer, String> {
        let (now, profile) = (self.now, self.profile);
        let (answer, verdict, runs) = Arc::make_mut(&mut self.cloud).take(profile, now, record, fate);
        Arc::make_mut(&mut self.ledger).arrived(record, verdict, &answer, now)?;
        if runs {
            self.execute(super::cloud::index(&record.region, record.di_job_id), &record.id)?;
        }
        Ok(answer)
    }

    /// A start of ours takes effect.
    pub fn execute(&mut self, job: usize, id: &str) -> Result<(), String> {
        Arc::make_mut(&mut self.cloud).run(self.now, job);
        let status = &self.object.status;
        Arc::make_mut(&mut self.ledger).executed(job, Some(id), self.now, status)
    }

    /// The cloud carries out what it accepted.
    pub fn carry_out(&mut self, n: usize) -> Result<(), String> {
        let (job, id) = Arc::make_mut(&mut self.cloud).coming.remove(n);
        self.execute(job, &id)
    }

    /// Whether an edit changes anything.
    pub fn edit(&mut self, edit: Edit) -> Result<bool, String> {
        let old = self.object.clone();
        let mut next = (*old).clone();
        match edit {
            Edit::Rotate => {
                self.key.0 += 1;
                return Ok(self.key.1);
            }
            Edit::KeyGone => {
                self.key.1 = !self.key.1;
                return Ok(true);
            }
            Edit::AccountMoves => {
                self.region = 1 - self.region;
                return Ok(true);
            }
            Edit::PersonStarts | Edit::PersonStops => return self.person(edit == Edit::PersonStarts),
            Edit::Recreate => {
                next = Version { uid: old.uid + 1, generation: 1, deleting: false, ..next };
                next.status = JobStatus { observed_generation: -1, ..JobStatus::default() };
            }
            Edit::StatusLost => next.status = JobStatus { observed_generation: -1, ..JobStatus::default() },
            Edit::RolledBack => match &self.shelf {
                Some(kept) if kept.uid == old.uid => next = Version { generation: old.generation, ..(**kept).clone() },
                Some(_) | None => return Ok(false),
            },
            Edit::Delete => next.deleting = true,
            Edit::Failover
            | Edit::Offset
            | Edit::Force
            | Edit::Tidy
            | Edit::Token
            | Edit::ForcedToken
            | Edit::Withdraw
            | Edit::Suspend
            | Edit::Revert
            | Edit::OtherJob => self.ask(edit, &mut next),
        }
        if old.deleting && edit != Edit::Recreate {
            return Ok(false);
        }
        let moved = next.spec != old.spec || next.deleting != old.deleting;
        next.generation += i64::from(moved && next.uid == old.uid);
        if !moved && next.annotations == old.annotations && next.status == old.status && next.uid == old.uid {
            return Ok(false);
        }
        self.push(next);
        let after = self.object.clone();
        Arc::make_mut(&mut self.ledger).edited(&old, &after, edit == Edit::RolledBack);
        Ok(true)
    }

    fn ask(&mut self, edit: Edit, next: &mut Version) {
        let spec = &mut next.spec;
        let settings = &mut spec.realtime_start_settings;
        match edit {
            Edit::Failover => {
                let all = settings.get_or_insert_default();
                let old = all.failover_settings.as_ref().and_then(|f| f.interval);
                let interval = Some(if old == Some(10) { 20 } else { 10 });
                all.failover_settings = Some(FailoverSettings { interval, upper_limit: None });
            }
            Edit::Offset => {
                let all = settings.get_or_insert_default();
                let one = Some(1_671_516_776);
                all.start_time = if all.start_time == one { Some(1_700_000_000) } else { one };
            }
            Edit::Force => spec.force_to_rerun = true,
            Edit::Tidy => {
                *settings = None;
                spec.force_to_rerun = false;
            }
            Edit::Token | Edit::ForcedToken => {
                self.counters[2] += 1;
                next.annotations.rerun = Some(format!("t{}", self.counters[2]));
                if edit == Edit::ForcedToken {
                    next.annotations.force.clone_from(&next.annotations.rerun);
                }
            }
            Edit::Withdraw => next.annotations.rerun = None,
            Edit::Suspend => spec.suspend = !spec.suspend,
            Edit::Revert => {
                *spec = (*self.first).clone();
                next.annotations = Annotations::default();
            }
            Edit::OtherJob => spec.di_job_id = 3 - spec.di_job_id,
            Edit::Rotate
            | Edit::KeyGone
            | Edit::AccountMoves
            | Edit::PersonStarts
            | Edit::PersonStops
            | Edit::Recreate
            | Edit::StatusLost
            | Edit::RolledBack
            | Edit::Delete => unreachable!("handled by the caller"),
        }
    }

    fn person(&mut self, starts: bool) -> Result<bool, String> {
        let job = super::cloud::index(REGIONS[self.region], self.object.spec.di_job_id);
        let now = self.now;
        let runs = self.cloud.jobs[job].word == "Running";
        if starts {
            Arc::make_mut(&mut self.cloud).run(now, job);
            Arc::make_mut(&mut self.ledger).executed(job, None, now, &self.object.status)?;
        } else if runs {
            Arc::make_mut(&mut self.cloud).jobs[job].word = "Stopped";
        }
        Ok(starts || runs)
    }

    /// Something is still on its way.
    pub fn is_busy(&self) -> bool {
        !self.wire.is_empty() || !self.cloud.coming.is_empty()
    }
}

/// A spec that asks for an ordinary first start of job 1.
pub fn ordinary() -> DataIntegrationJobSpec {
    DataIntegrationJobSpec {
        account_ref: AccountRef::default(),
        di_job_id: 1,
        realtime_start_settings: None,
        force_to_rerun: false,
        rerun_token: String::new(),
        on_unknown: OnUnknown::Resolve,
        suspend: false,
    }
}
