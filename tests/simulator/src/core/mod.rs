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

mod acs3;
pub mod answer;
pub mod call;
mod calls;
mod choices;
mod codes;
pub mod gateway;
mod gzip;
pub mod identity;
pub mod jobs;
mod jwt;
pub mod ledger;
pub mod metadata;
mod parameters;
pub mod profile;
pub mod request;
pub mod rules;
pub mod signature;
pub mod sts;
pub mod switches;
pub mod throttle;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use call::Call;
use gateway::{Gateway, Key};
use identity::{Keys, Lent, Temporary};
use jobs::{Effect, Job, JobPatch, Jobs};
use ledger::{ByHand, Entry, Fate, Ledger, Verdict, without_secrets};
use metadata::Machine;
use parameters::{drawn, request_id};
pub use request::{Answer, Arrival, Headers, Outgoing, Request};
use sts::Announced;
use switches::{Behaviour, Response, Switches};

#[derive(Debug)]
struct Start {
    seq: u64,
    job: i64,
    forced: bool,
    offset: Option<i64>,
}

#[derive(Debug)]
enum Due {
    Arrive { seq: u64, arrival: Box<Arrival>, behaviour: Box<Behaviour> },
    Copy { of: u64, arrival: Box<Arrival> },
    Execute(Start),
}

/// The cloud: keys, jobs, gateway, ledger, and what is still to come.
#[derive(Debug)]
pub struct Cloud {
    /// What can be switched; take effect with the next call.
    pub switches: Switches,
    keys: Keys,
    announced: Announced,
    machine: Machine,
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
            keys: Keys::new(seed),
            announced: Announced::default(),
            machine: Machine::default(),
            jobs: Jobs::new(),
            gateway: Gateway::default(),
            ledger: Ledger::default(),
            agenda: BTreeMap::new(),
            planned: 0,
            seed,
            drawn_until: None,
        }
    }

    /// Takes in one request, whole at `now`. One without its headers can be signed by V1 alone.
    pub fn receive(&mut self, now: Timestamp, request: impl Into<Arrival>) -> Answer {
        let arrival = request.into();
        self.advance(now);
        let (seq, behaviour) = self.enter(now, &arrival, None);
        let (after, withheld) = (behaviour.answer_after, behaviour.answer.withheld());
        if let Some(later) = behaviour.copy_after {
            self.plan(now + later, Due::Copy { of: seq, arrival: Box::new(arrival.clone()) });
        }
        let outgoing = match behaviour.arrive.delay(drawn(self.seed, seq)) {
            Some(SignedDuration::ZERO) => {
                let reply = self.serve(now, seq, &arrival, &behaviour);
                withheld.unwrap_or(Outgoing::Reply(reply))
            }
            Some(delay) => {
                let due = Due::Arrive { seq, arrival: Box::new(arrival), behaviour: Box::new(behaviour) };
                self.plan(now + delay, due);
                withheld.unwrap_or(Outgoing::Hang)
            }
            None => withheld.unwrap_or(Outgoing::Hang),
        };
        Answer { seq, after, outgoing }
    }

    /// Opens the entry of a request, and tells how it is treated.
    fn enter(&mut self, now: Timestamp, arrival: &Arrival, copy_of: Option<u64>) -> (u64, Behaviour) {
        let call = Call::read(arrival).unwrap_or_else(|_| Call::unreadable(arrival));
        let job = call.job().and_then(|(_, id)| id.parse().ok());
        let caller = call.key_id().and_then(|id| self.keys.caller(id));
        let account = caller.as_ref().map(|caller| caller.account.clone());
        let behaviour = match copy_of {
            None => self.switches.pick(call.action(), job, account.as_deref()),
            Some(_) => Behaviour { answer: Response::Drop, ..Behaviour::default() },
        };
        let own = |text: Option<&str>| text.map(str::to_owned);
        let seed = self.seed;
        let seq = self.ledger.open(|seq| Entry {
            seq,
            copy_of,
            connection: arrival.request.connection,
            first_byte: if copy_of.is_some() { now } else { arrival.request.first_byte },
            last_byte: now,
            method: arrival.request.method.clone(),
            account,
            key_id: own(call.key_id()),
            caller: caller.map(|caller| caller.arn()),
            action: own(call.action()),
            version: own(call.version_text()),
            signature: call.signature(),
            job,
            parameters: without_secrets(&call.parameters),
            nonce: own(call.nonce()),
            signed_time: own(call.signed_time()),
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
                Due::Arrive { seq, arrival, behaviour } => drop(self.serve(at, seq, &arrival, &behaviour)),
                Due::Copy { of, arrival } => {
                    let (seq, behaviour) = self.enter(at, &arrival, Some(of));
                    drop(self.serve(at, seq, &arrival, &behaviour));
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
            None => keys.accounts().collect(),
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
        self.keys.put(id, key);
    }

    /// Gives a key another secret. False: there is no such key.
    pub fn replace_secret(&mut self, id: &str, secret: &str) -> bool {
        self.keys.replace_secret(id, secret)
    }

    /// Takes a key away. False: there was none.
    pub fn remove_key(&mut self, id: &str) -> bool {
        self.keys.remove(id)
    }

    /// Adds a temporary key, or replaces the one of the same id.
    pub fn put_temporary_key(&mut self, id: &str, temporary: Temporary) {
        self.keys.put_temporary(id, temporary);
    }

    /// What may be told of the temporary keys.
    #[must_use]
    pub fn temporary_keys(&self) -> Vec<Lent> {
        self.keys.lent()
    }

    /// Ends all temporary keys, whatever was told of their end.
    pub fn expire_temporary_keys(&mut self, now: Timestamp) {
        self.keys.expire(now + self.switches.clock_offset);
    }

    /// From now on STS takes this token from this provider, though its issuer is not listed.
    pub fn announce_token(&mut self, provider: &str, token: &str) {
        self.announced.add(provider, token);
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
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
