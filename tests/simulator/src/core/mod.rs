//! The simulated cloud as a pure core: `(state, now, request) -> answer`, and executions as time passes.
//!
//! **May touch:** its arguments. No clock, no socket, no task, no randomness but a seed.
//!
//! **Guarantees**
//! 1. Deterministic: the same calls with the same times give the same answers, ids and ledger.
//! 2. What is due happens at its own time and in order, however late anybody looks: [`Cloud::advance`] with a later time
//!    gives the same ledger as many small steps.
//! 3. It shares no code with the operator.
//!
//! A shell carries the bytes: it calls [`Cloud::receive`] for each request, does what the [`Answer`] says, and reports
//! what became of it to [`Cloud::answered`].

pub mod answer;
pub mod gateway;
mod gzip;
pub mod jobs;
pub mod ledger;
mod parameters;
pub mod profile;
pub mod rules;
pub mod signature;
pub mod switches;
pub mod throttle;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use answer::{Letterhead, Refusal, Reply};
use gateway::{Counts, Gateway, Key, Operation, Passed, Stopped, required};
use jobs::{Effect, Job, JobPatch, Jobs};
use ledger::{ByHand, Entry, Execution, Fate, Ledger, Verdict, without_secrets};
use parameters::{drawn, forced, offset, parse, request_id};
use signature::{Malformed, Parameters};
use switches::{Behaviour, Response, Switches};

/// One request as it came over the wire.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The connection that it came on.
    pub connection: u64,
    /// When its head was there.
    pub first_byte: Timestamp,
    /// HTTP method.
    pub method: String,
    /// Path; only `/` is known.
    pub path: String,
    /// Raw query, without `?`.
    pub query: String,
    /// `Content-Type`. The body counts as parameters only if it is a form.
    pub content_type: Option<String>,
    /// `Host`.
    pub host: String,
    /// Raw body.
    pub body: Vec<u8>,
}

/// What the shell must do for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Place in the ledger.
    pub seq: u64,
    /// Wait so long first.
    pub after: SignedDuration,
    /// Then do this.
    pub outgoing: Outgoing,
}

/// What leaves the cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// An answer.
    Reply(Reply),
    /// None: close the connection.
    Drop,
    /// None: keep the connection open.
    Hang,
}

#[derive(Debug)]
struct Start {
    seq: u64,
    job: i64,
    forced: bool,
    offset: Option<i64>,
}

#[derive(Debug)]
enum Due {
    Arrive { seq: u64, request: Box<Request>, behaviour: Box<Behaviour> },
    Copy { of: u64, request: Box<Request> },
    Execute(Start),
}

/// The cloud: keys, jobs, gateway, ledger, and what is still to come.
#[derive(Debug)]
pub struct Cloud {
    /// What can be switched; take effect with the next call.
    pub switches: Switches,
    keys: BTreeMap<String, Key>,
    jobs: Jobs,
    gateway: Gateway,
    ledger: Ledger,
    agenda: BTreeMap<(Timestamp, u64), Due>,
    planned: u64,
    seed: u64,
    /// Until when the neighbours have called.
    drawn_until: Option<Timestamp>,
}

impl Cloud {
    /// A cloud without keys and jobs. The seed makes its request ids differ from another's.
    #[must_use]
    pub fn new(switches: Switches, seed: u64) -> Self {
        Self {
            switches,
            keys: BTreeMap::new(),
            jobs: Jobs::new(),
            gateway: Gateway::default(),
            ledger: Ledger::default(),
            agenda: BTreeMap::new(),
            planned: 0,
            seed,
            drawn_until: None,
        }
    }

    /// Takes in one request, whole at `now`.
    pub fn receive(&mut self, now: Timestamp, request: Request) -> Answer {
        self.advance(now);
        let (seq, behaviour) = self.enter(now, &request, None);
        let (after, withheld) = (behaviour.answer_after, behaviour.answer.withheld());
        if let Some(later) = behaviour.copy_after {
            self.plan(now + later, Due::Copy { of: seq, request: Box::new(request.clone()) });
        }
        let outgoing = match behaviour.arrive.delay(drawn(self.seed, seq)) {
            Some(SignedDuration::ZERO) => {
                let reply = self.serve(now, seq, &request, &behaviour);
                withheld.unwrap_or(Outgoing::Reply(reply))
            }
            Some(delay) => {
                let due = Due::Arrive { seq, request: Box::new(request), behaviour: Box::new(behaviour) };
                self.plan(now + delay, due);
                withheld.unwrap_or(Outgoing::Hang)
            }
            None => withheld.unwrap_or(Outgoing::Hang),
        };
        Answer { seq, after, outgoing }
    }

    /// Opens the entry of a request, and tells how it is treated.
    fn enter(&mut self, now: Timestamp, request: &Request, copy_of: Option<u64>) -> (u64, Behaviour) {
        let parameters = parse(request).unwrap_or_default();
        let get = |name| parameters.get(name).map(str::to_owned);
        let job = parameters.get("DIJobId").and_then(|id| id.parse().ok());
        let (action, key_id) = (get("Action"), get("AccessKeyId"));
        let account = key_id.as_ref().and_then(|id| self.keys.get(id)).map(|key| key.account.clone());
        let behaviour = match copy_of {
            None => self.switches.pick(action.as_deref(), job, account.as_deref()),
            Some(_) => Behaviour { answer: Response::Drop, ..Behaviour::default() },
        };
        let seed = self.seed;
        let seq = self.ledger.open(|seq| Entry {
            seq,
            copy_of,
            connection: request.connection,
            first_byte: if copy_of.is_some() { now } else { request.first_byte },
            last_byte: now,
            method: request.method.clone(),
            account,
            key_id,
            action,
            job,
            parameters: without_secrets(&parameters),
            nonce: get("SignatureNonce"),
            signed_time: get("Timestamp"),
            request_id: request_id(seed, seq),
            verdict: Verdict::Underway,
            executed: None,
            effect: None,
            answer: Fate::Due,
            answered: None,
            status: None,
            window_count: None,
            day_count: None,
        });
        (seq, behaviour)
    }

    /// Notes what became of an answer.
    pub fn answered(&mut self, now: Timestamp, seq: u64, fate: Fate) {
        self.ledger.note(seq, |entry| (entry.answer, entry.answered) = (fate, Some(now)));
    }

    /// Lets happen all that is due until `now`.
    pub fn advance(&mut self, now: Timestamp) {
        while let Some(next) = self.agenda.first_entry().filter(|next| next.key().0 <= now) {
            let ((at, _), due) = next.remove_entry();
            match due {
                Due::Arrive { seq, request, behaviour } => drop(self.serve(at, seq, &request, &behaviour)),
                Due::Copy { of, request } => {
                    let (seq, behaviour) = self.enter(at, &request, Some(of));
                    drop(self.serve(at, seq, &request, &behaviour));
                    self.answered(at, seq, Fate::Dropped);
                }
                Due::Execute(start) => self.execute(at, &start),
            }
        }
        for job in self.jobs.values_mut() {
            job.advance(now);
        }
        self.jobs.retain(|_, job| !job.is_gone);
        self.draw(now);
    }

    /// Lets the neighbours call until `now`.
    fn draw(&mut self, now: Timestamp) {
        let Self { switches, keys, gateway, ledger, drawn_until, .. } = self;
        let Some(neighbour) = &switches.neighbour else {
            *drawn_until = None;
            return;
        };
        let from = drawn_until.unwrap_or(now);
        *drawn_until = Some(from.max(now));
        let accounts: BTreeSet<&String> = match &neighbour.account {
            Some(account) => BTreeSet::from([account]),
            None => keys.values().map(|key| &key.account).collect(),
        };
        for account in accounts {
            gateway.draw((from, now), account, neighbour, switches, |refused| ledger.drew(account, refused));
        }
    }

    /// When the ledger changes next by itself.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.agenda.first_key_value().map(|((at, _), _)| *at)
    }

    /// What happened so far.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Adds a key, or replaces the one of the same id.
    pub fn put_key(&mut self, id: &str, key: Key) {
        self.keys.insert(id.to_owned(), key);
    }

    /// Gives a key another secret. False: there is no such key.
    pub fn replace_secret(&mut self, id: &str, secret: &str) -> bool {
        let key = self.keys.get_mut(id);
        key.map(|key| secret.clone_into(&mut key.secret)).is_some()
    }

    /// Takes a key away. False: there was none.
    pub fn remove_key(&mut self, id: &str) -> bool {
        self.keys.remove(id).is_some()
    }

    /// A job as it was at the last [`Self::advance`].
    #[must_use]
    pub fn job(&self, id: i64) -> Option<&Job> {
        self.jobs.get(&id)
    }

    /// Changes a job by hand, or makes it.
    pub fn put_job(&mut self, now: Timestamp, id: i64, patch: &JobPatch) -> &Job {
        self.advance(now);
        let job = self.jobs.entry(id).or_insert_with(|| Job::new(id, now));
        let effect = job.patch(now, patch, self.switches.rules(id));
        if let Some(effect @ (Effect::Started | Effect::Restarted)) = effect {
            self.ledger.moved_by_hand(id, ByHand { at: now, is_restart: effect == Effect::Restarted });
        }
        job
    }

    /// Takes a job away. False: there was none.
    pub fn remove_job(&mut self, id: i64) -> bool {
        self.jobs.remove(&id).is_some()
    }

    fn plan(&mut self, at: Timestamp, due: Due) {
        self.planned += 1;
        self.agenda.insert((at, self.planned), due);
    }

    /// One request at the gateway: checked, carried out or planned, and the answer that a client would get.
    fn serve(&mut self, now: Timestamp, seq: u64, request: &Request, behaviour: &Behaviour) -> Reply {
        self.draw(now);
        let id = request_id(self.seed, seq);
        let date = now + self.switches.clock_offset;
        let head = Letterhead { request_id: &id, host: &request.host, date };
        let right = self.decide(now, seq, request, behaviour);
        let answered = match (right, &behaviour.answer) {
            (Ok(_), Response::Error(refusal)) => {
                // What a hint without a number tells where no window asks anything: one second.
                let wait = SignedDuration::from_secs(1);
                Err(Stopped::Error(refusal.clone(), behaviour.hint.clone(), wait))
            }
            (right, _) => right,
        };
        let (reply, verdict) = match answered {
            Ok(fields) => (head.success(fields), Verdict::Accepted),
            Err(Stopped::Error(refusal, hint, wait)) => {
                let verdict = Verdict::Refused { code: refusal.code.clone(), status: refusal.http_status() };
                (head.error(&refusal, &hint, wait), verdict)
            }
            Err(Stopped::Html(status)) => (head.html(status), Verdict::Refused { code: "html".to_owned(), status }),
        };
        let reply = match (&behaviour.answer, &verdict) {
            (Response::Odd(oddity), Verdict::Accepted) => head.odd(oddity, reply),
            _ => reply,
        };
        self.ledger.note(seq, |entry| (entry.verdict, entry.status) = (verdict, Some(reply.status)));
        reply
    }

    fn decide(&mut self, now: Timestamp, seq: u64, request: &Request, behaviour: &Behaviour) -> Result<Value, Stopped> {
        if request.path != "/" {
            return Err(Refusal::of("InvalidApi.NotFound").into());
        }
        let parameters = parse(request).map_err(|Malformed| Refusal::of("InvalidParameter"))?;
        let is_throttled_anyway = match &behaviour.answer {
            Response::Error(refusal) => refusal.is_throttling(),
            Response::Right | Response::Odd(_) | Response::Drop | Response::Hang => false,
        };
        let mut counts = Counts::default();
        let wire = (request.method.as_str(), &parameters);
        let checked = self.gateway.check(now, wire, &self.keys, &self.switches, is_throttled_anyway, &mut counts);
        self.ledger.note(seq, |entry| (entry.window_count, entry.day_count) = (counts.window, counts.day));
        let Passed { operation, account } = checked?;
        let done = self.find_job(now, &parameters, &account).and_then(|job| match operation {
            Operation::GetDiJob => {
                let rules = self.switches.rules(job);
                let data = self.jobs.get(&job).map(|job| job.data(now, rules, &account));
                Ok(json!({ "Data": data }))
            }
            Operation::StartDiJob => self.start(now, seq, job, &parameters, behaviour),
        });
        done.map_err(|refusal| self.switches.shaped(refusal).into())
    }

    /// The job that a call names, if it is there for this account.
    fn find_job(&mut self, now: Timestamp, parameters: &Parameters, account: &str) -> Result<i64, Refusal> {
        let id = required(parameters, "DIJobId")?.parse::<i64>().map_err(|_| Refusal::of("InvalidDIJobId"))?;
        if self.switches.auto_create {
            self.jobs.entry(id).or_insert_with(|| Job::new(id, now));
        }
        let is_theirs = |job: &&mut Job| job.account.as_deref().is_none_or(|owner| owner == account);
        let job = self.jobs.get_mut(&id).filter(is_theirs).ok_or_else(|| self.switches.no_such_job.clone())?;
        job.advance(now);
        if job.is_gone { Err(self.switches.no_such_job.clone()) } else { Ok(id) }
    }

    fn start(
        &mut self,
        now: Timestamp,
        seq: u64,
        job: i64,
        parameters: &Parameters,
        behaviour: &Behaviour,
    ) -> Result<Value, Refusal> {
        let start = Start { seq, job, forced: forced(parameters)?, offset: offset(parameters)? };
        let rules = self.switches.rules(job);
        if let Some(Effect::Refused(refusal)) = self.jobs.get(&job).map(|job| job.effect_of_start(rules, start.forced))
        {
            return Err(refusal);
        }
        // Another place in the seed's sequence than the one that says when a call arrives.
        match self.switches.execution(behaviour).delay(drawn(!self.seed, seq)) {
            Some(SignedDuration::ZERO) => self.execute(now, &start),
            Some(delay) => self.plan(now + delay, Due::Execute(start)),
            None => {}
        }
        Ok(json!({}))
    }

    fn execute(&mut self, at: Timestamp, start: &Start) {
        let Start { seq, job: id, forced, offset } = *start;
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let effect = job.start(at, self.switches.rules(id), forced);
        if matches!(effect, Effect::Started | Effect::Restarted) {
            let is_restart = effect == Effect::Restarted;
            self.ledger.executed(id, Execution { seq, at, forced, offset, is_restart });
        }
        self.ledger.note(seq, |entry| (entry.executed, entry.effect) = (Some(at), Some(effect)));
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
