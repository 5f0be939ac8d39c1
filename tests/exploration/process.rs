//! One life of an operator process: its memory, and its pass, one effect at a time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dijob_operator::api::PendingStart;
use dijob_operator::dataworks::error::{Error, Operation, Ran};
use dijob_operator::plan::last_call::LastCall;
use dijob_operator::plan::observed::{Account, Answer, Answered, Key, Object, Reading, Settings, Turn};
use dijob_operator::plan::{Action, Observed, Outcome, Plan, Stance, Verdict, Wait, decide, next_status};
use jiff::{SignedDuration, Timestamp};

use super::cloud::Fate;
use super::laws;
use super::world::{REGIONS, Touched, Version, World};

/// What a process remembers of the object besides its status. The rules are those of `controller::memory`.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The last call that matters.
    pub call: LastCall,
    /// The last look.
    pub reading: Option<Reading>,
    /// An answer that status does not hold.
    pub unrecorded: Option<Answered>,
    /// Starts that surely never left.
    pub never_sent: BTreeSet<String>,
    /// Since when account or key is missing.
    pub missing_since: Option<Timestamp>,
    /// What the last look was made with.
    pub credentials: String,
}

/// A start between its decision and its record.
#[derive(Debug)]
pub struct Held {
    /// What it was decided on.
    pub seen: Observed,
    /// The decision.
    pub plan: Plan,
    /// The record.
    pub record: Arc<PendingStart>,
    /// The version of the intent.
    pub rv: u64,
}

/// Where a pass stands between two effects.
#[derive(Clone, Debug)]
pub enum Doing {
    /// Between two passes.
    Idle,
    /// The intent is written; fence and call come next.
    Committed(Arc<Held>),
    /// The call is out; its answer is known to the network, or not yet.
    Calling(Arc<Held>, Option<Answer>),
    /// The outcome is to be written.
    Recording(Arc<Held>, Outcome),
}

/// A process, from its start to its death.
#[derive(Clone, Debug)]
pub struct Process {
    /// Which life.
    pub life: u32,
    /// Where its pass stands.
    pub doing: Doing,
    /// Its memory.
    pub facts: Facts,
    /// The object that the memory is of.
    pub uid: u8,
}

impl Process {
    /// A new life.
    pub fn new(life: u32) -> Self {
        Self { life, doing: Doing::Idle, facts: Facts::default(), uid: 0 }
    }

    /// Its lease identity.
    pub fn holder(&self) -> String {
        format!("p{}", self.life)
    }

    /// Its look. Who begins to lead drops it, so that of a process without work is seen by nobody.
    pub fn look(&self, leads: bool) -> Option<&Reading> {
        let Facts { unrecorded, never_sent, reading, .. } = &self.facts;
        let idle = matches!(self.doing, Doing::Idle) && unrecorded.is_none() && never_sent.is_empty();
        reading.as_ref().filter(|_| leads || !idle)
    }
}

/// As the flags are by default.
const SETTINGS: Settings =
    Settings { settle: Duration::from_secs(30), confirm: Duration::from_secs(120), grace: Duration::from_secs(120) };

/// How the API server takes a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Api {
    /// As it should.
    Good,
    /// It is stored, and the reply is lost.
    ReplyLost,
    /// It is not stored.
    Fails,
}

impl World {
    /// The one clock, as every process has it.
    pub fn time(&self) -> Timestamp {
        Timestamp::from_millisecond(self.now).unwrap()
    }

    fn me(&mut self, p: usize) -> &mut Process {
        Arc::make_mut(&mut self.processes[p])
    }

    fn observe(&mut self, p: usize, version: &Version) -> Observed {
        let now = self.time();
        let (number, there) = self.key;
        let key = if there {
            Key::Ready { id: format!("K{number}"), version: format!("s{number}") }
        } else {
            Key::Missing("the Secret is missing".to_owned())
        };
        let region = REGIONS[self.region].to_owned();
        let account =
            Account::Found { version: format!("a{}", self.region), service: region.clone(), projects: vec![], region };
        self.counters[0] += 1;
        let nonce = format!("{:012x}{:020x}", self.counters[0], 0);
        let me = self.me(p);
        if me.uid != version.uid {
            (me.uid, me.facts) = (version.uid, Facts::default()); // keyed by uid
        }
        let mut record = version.status.clone();
        let conditions = std::mem::take(&mut record.conditions);
        me.facts.call.meet(&record, now);
        me.facts.missing_since = if there { None } else { me.facts.missing_since.or(Some(now)) };
        let never_sent =
            record.pending_start.as_ref().is_some_and(|s| s.attempt <= 1 && me.facts.never_sent.contains(&s.id));
        let holder = me.holder();
        let facts = me.facts.clone();
        let mut seen = Observed {
            object: Object {
                uid: format!("u{}", version.uid),
                generation: version.generation,
                deleting: version.deleting,
            },
            spec: version.spec.clone(),
            annotations: version.annotations.clone(),
            record,
            conditions,
            account,
            key,
            missing_since: facts.missing_since,
            reading: facts.reading,
            call_at: facts.call.at,
            unrecorded: facts.unrecorded,
            never_sent,
            turn: Turn::None,
            turn_at: None,
            hold: None,
            cloud_offset: SignedDuration::ZERO,
            jitter: 0.5,
            fresh_nonce: nonce,
            holder,
            lease_transitions: 0,
            settings: SETTINGS,
        };
        let credentials = seen.credentials_version();
        if facts.credentials != credentials {
            seen.reading = None;
            let me = self.me(p);
            (me.facts.reading, me.facts.credentials) = (None, credentials);
        }
        seen
    }

    /// What the next pass of `p` would wait for.
    pub fn wait_of(&self, p: usize) -> Wait {
        let mut world = self.clone();
        let object = world.object.clone();
        let seen = world.observe(p, &object);
        decide(&seen, world.time()).wait
    }

    /// A pass, up to its first effect.
    pub fn pass(&mut self, p: usize, stale: usize, read_fails: bool, api: Api) -> Result<Touched, String> {
        let version = if stale == 0 { self.object.clone() } else { self.past[stale - 1].clone() };
        let mut seen = self.observe(p, &version);
        let now = self.time();
        let mut plan = decide(&seen, now);
        laws::of_plan(&seen, &plan, now)?;
        if let Action::TakeTurn(lane) = plan.action {
            // To wait for a turn is to be passed later: what counts is decided when it comes.
            seen.turn = Turn::Held(lane);
            plan = decide(&seen, now);
            laws::of_plan(&seen, &plan, now)?;
        }
        if self.leader != p && !matches!(plan.action, Action::Settle(Verdict::Answered(_) | Verdict::NotSent)) {
            return Ok(Touched::default());
        }
        let mut touched = Touched::default();
        let outcome = match &plan.action {
            Action::Nothing | Action::Adopt | Action::Tidy | Action::Settle(_) => Outcome::Done,
            Action::TakeTurn(_) => return Err("a turn at hand is asked for once more".to_owned()),
            Action::Look(job) => {
                touched.read = true;
                let result = Arc::make_mut(&mut self.cloud).read(self.profile, job, read_fails);
                let reading = Some(Reading { job: job.clone(), at: now, seen: result });
                let ms = self.now;
                Arc::make_mut(&mut self.ledger).read(reading.as_ref().unwrap(), ms);
                self.me(p).facts.reading.clone_from(&reading);
                (seen.reading, seen.turn) = (reading, Turn::None);
                Outcome::Looked
            }
            Action::Start(record) => {
                touched.wrote = true;
                let record = Arc::new((**record).clone());
                self.commit(p, seen, plan, record, version.rv, api)?;
                return Ok(touched);
            }
        };
        seen.turn = Turn::None;
        touched.wrote = self.store(p, &seen, &plan, &outcome, version.rv, api)?;
        Ok(touched)
    }

    /// The status after an outcome is written, if that is worth a write. Says whether it tried.
    fn store(
        &mut self,
        p: usize,
        seen: &Observed,
        plan: &Plan,
        outcome: &Outcome,
        rv: u64,
        api: Api,
    ) -> Result<bool, String> {
        let now = self.time();
        let next = next_status(seen, plan, outcome, now);
        let rests = matches!(next.plan.action, Action::Nothing) && next.plan.wait != Wait::OnTurn;
        if !(next.must_write || rests) || plan.stance == Stance::Foreign {
            return Ok(false);
        }
        laws::of_status(seen, &next.status, &next.plan, now)?;
        let equal = rv == self.object.rv && next.status == self.object.status;
        let applied = rv == self.object.rv && api != Api::Fails;
        if applied && !equal {
            let old = self.object.clone();
            self.push(Version { status: next.status, ..(*old).clone() });
            let (new, ms) = (self.object.clone(), self.now);
            let by = self.processes[p].holder();
            let ledger = Arc::make_mut(&mut self.ledger);
            ledger.written(&old, &new, &by, ms)?;
            ledger.goes_back(&old.status, &new.status)?;
        }
        if equal || (applied && api == Api::Good) {
            let facts = &mut self.me(p).facts;
            facts.unrecorded = None;
            if !equal {
                facts.never_sent.clear();
            }
        }
        Ok(!equal)
    }

    fn commit(
        &mut self,
        p: usize,
        seen: Observed,
        plan: Plan,
        record: Arc<PendingStart>,
        rv: u64,
        api: Api,
    ) -> Result<(), String> {
        let intended = Outcome::Intended(Box::new((*record).clone()));
        let next = next_status(&seen, &plan, &intended, self.time());
        laws::of_status(&seen, &next.status, &next.plan, self.time())?;
        let applied = rv == self.object.rv && api != Api::Fails;
        if applied {
            let old = self.object.clone();
            self.push(Version { status: next.status, ..(*old).clone() });
            self.shelf = Some(self.object.clone());
            let (new, ms) = (self.object.clone(), self.now);
            let by = self.processes[p].holder();
            let ledger = Arc::make_mut(&mut self.ledger);
            ledger.committed(&old, &record, ms)?;
            ledger.written(&old, &new, &by, ms)?;
        }
        if applied && api == Api::Good {
            let rv = self.object.rv;
            self.me(p).doing = Doing::Committed(Arc::new(Held { seen, plan, record, rv }));
        } else if record.attempt <= 1 {
            self.me(p).facts.never_sent.insert(record.id.clone());
        }
        Ok(())
    }

    /// Fence and call. `None`: the request gets lost, or late.
    pub fn send(&mut self, p: usize, fate: Option<Fate>, late: bool) -> Result<(), String> {
        let Doing::Committed(held) = self.processes[p].doing.clone() else { return Ok(()) };
        if self.leader != p {
            if held.record.attempt <= 1 {
                self.me(p).facts.never_sent.insert(held.record.id.clone());
            }
            self.me(p).doing = Doing::Recording(held, Outcome::NotSent);
            return Ok(());
        }
        Arc::make_mut(&mut self.ledger).sent(&held.record)?;
        let answer = match fate {
            Some(fate) => Some(self.deliver(&held.record, fate)?),
            None => None,
        };
        if late {
            self.wire.push(super::world::Wire { record: held.record.clone() });
        }
        self.me(p).doing = Doing::Calling(held, answer);
        Ok(())
    }

    /// The answer comes, or the call times out.
    pub fn answered(&mut self, p: usize, lost: bool) {
        let Doing::Calling(held, answer) = self.processes[p].doing.clone() else { return };
        if answer.is_some() && !lost {
            Arc::make_mut(&mut self.ledger).heard(&held.record);
        }
        let silence = Answer::Failed(Error::unanswered(Operation::StartDiJob, false, "timed out"));
        let answer = answer.filter(|_| !lost).unwrap_or(silence);
        let may_have_run = match &answer {
            Answer::Accepted { .. } => true,
            Answer::Failed(e) => e.ran() == Ran::May,
        };
        let now = self.time();
        let credentials_version = held.seen.credentials_version();
        let answered = Answered { pending: (*held.record).clone(), credentials_version, answer };
        let me = self.me(p);
        me.facts.unrecorded = Some(answered.clone());
        me.facts.call.made(&answered.pending, may_have_run, now);
        me.doing = Doing::Recording(held, Outcome::Answered(Box::new(answered)));
    }

    /// The outcome is written under the version of the intent.
    pub fn record(&mut self, p: usize, api: Api) -> Result<(), String> {
        let Doing::Recording(held, outcome) = self.processes[p].doing.clone() else { return Ok(()) };
        self.me(p).doing = Doing::Idle;
        let facts = &self.processes[p].facts;
        let (reading, call_at) = (facts.reading.clone(), facts.call.at);
        let seen = Observed { reading, call_at, turn: Turn::None, ..held.seen.clone() };
        self.store(p, &seen, &held.plan, &outcome, held.rv, api)?;
        Ok(())
    }
}
