//! One 128-bit number for all states from which the same can follow.
//!
//! Times are hashed relative to now, generations to the object's, names (ids, nonces, tokens, uids, holders, `RequestId`s)
//! by order of first sight, values of `StartedTime` by rank. Left out: what nothing reads again (texts, `history`,
//! transition times, most of a start that is over), a view that is not the current one unless it may still be seen, and
//! what a pass would write under a version that is gone.

use std::hash::{Hash, Hasher as _};

use dijob_operator::api::{
    Applied, DataIntegrationJobSpec, JobStatus, LastError, LastStart, PendingStart, StartInputs,
};
use dijob_operator::dataworks::error::Error;
use dijob_operator::plan::Outcome;
use dijob_operator::plan::last_call::LastCall;
use dijob_operator::plan::observed::{Answer, Answered, Reading, Seen, View};
use jiff::Timestamp;

use super::lanes::{Lanes, START};
use super::live::{Live, started_times, started_times_of, versions};
use super::process::{Doing, Facts, Process};
use super::world::{Edit, Version, World};

/// A number in the making.
#[derive(Debug)]
pub struct Canon {
    lanes: Lanes,
    now: i64,
    /// Hashes of the names seen, in order.
    names: Vec<u128>,
    ranks: Vec<i64>,
    /// Generations count from this one.
    generation: i64,
}

/// The number of this state.
pub fn number(world: &World) -> u128 {
    let live = Live::of(world);
    let mut to = Canon::of(world, &live);
    to.put(world.budget);
    to.world(world, &live);
    to.number()
}

/// The number of all states that differ in what may still happen alone.
pub fn place(world: &World) -> (u64, u64) {
    let live = Live::of(world);
    let mut to = Canon::of(world, &live);
    to.world(world, &live);
    to.lanes.both()
}

/// The number of all statuses that differ in names, times and texts alone.
pub fn shape(status: &JobStatus, now: i64) -> u128 {
    let mut ranks = Vec::new();
    started_times_of(status, &mut ranks);
    let mut to = Canon::at(now, ranks, status.observed_generation);
    to.status(status);
    to.number()
}

impl Canon {
    fn of(world: &World, live: &Live<'_>) -> Self {
        Self::at(world.now, started_times(world, live), world.object.generation)
    }

    fn at(now: i64, mut ranks: Vec<i64>, generation: i64) -> Self {
        ranks.sort_unstable();
        ranks.dedup();
        Self { lanes: START, now: now / 1_000, names: Vec::new(), ranks, generation }
    }

    fn number(&self) -> u128 {
        self.lanes.number()
    }

    /// A value.
    pub fn put(&mut self, value: impl Hash) {
        value.hash(&mut self.lanes);
    }

    /// A name, as the place at which it was first seen.
    pub fn name(&mut self, name: &str) {
        let mut lanes = START;
        lanes.write(name.as_bytes());
        let name = lanes.number();
        let place = self.names.iter().position(|n| *n == name).unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        });
        self.put(place);
    }

    /// Names, in their order.
    pub fn all_names(&mut self, names: &[String]) {
        self.put(names.len());
        for n in names {
            self.name(n);
        }
    }

    /// A name that may be absent.
    pub fn maybe(&mut self, name: Option<&String>) {
        self.put(name.is_some());
        if let Some(n) = name {
            self.name(n);
        }
    }

    /// Every edit adds one, so what counts is how far generations are apart.
    pub fn generation(&mut self, generation: i64) {
        self.put(if generation < 0 { i64::MIN } else { generation - self.generation });
    }

    fn time(&mut self, at: Option<Timestamp>) {
        self.put(at.map(|at| (self.now - at.as_second()).clamp(-10_000, 10_000)));
    }

    /// Seconds since then, up to where they make no difference.
    pub fn age(&mut self, at: Option<i64>, cap: i64) {
        self.put(at.map(|at| (self.now - at / 1_000).min(cap)));
    }

    fn rank(&mut self, started: Option<i64>) {
        self.put(started.map(|s| self.ranks.binary_search(&s).unwrap()));
    }

    fn world(&mut self, world: &World, live: &Live<'_>) {
        let World {
            profile: _,
            menu,
            budget,
            now: _,
            cloud,
            object,
            past: _,
            shelf: _,
            first: _,
            processes,
            leader,
            wire,
            key,
            region,
            ledger,
            counters: _, // names made from them are told apart by order of sight
        } = world;
        self.put((key.1, region));
        self.name(&format!("K{}", key.0));
        self.put((
            budget.stale > 0,
            if budget.stale > 0 { world.past.len() } else { 0 },
            budget.edits > 0 && menu.contains(&Edit::RolledBack),
        ));
        versions(world).for_each(|version| self.version(version));
        // The two processes differ in nothing but which of them leads.
        for (process, leads) in [(&processes[*leader], true), (&processes[1 - leader], false)] {
            self.process(process, object, leads);
        }
        for job in &cloud.jobs {
            self.put(job.word);
            self.rank(job.started);
        }
        // Nobody sends a nonce any more that no record bears.
        for (nonce, at) in cloud.nonces.iter().filter(|(nonce, _)| live.nonces.contains(&nonce.as_str())) {
            self.name(nonce);
            self.age(Some(*at), 1_900);
        }
        self.put(cloud.coming.len());
        for (job, id) in &cloud.coming {
            self.put(job);
            self.name(id);
        }
        self.put(wire.len());
        for copy in wire {
            self.pending(&copy.record);
        }
        self.ledger(ledger, live);
    }

    fn version(&mut self, version: &Version) {
        let Version { uid, rv: _, generation, spec, annotations, deleting, status } = version;
        self.name(&format!("u{uid}"));
        self.generation(*generation);
        self.put(deleting);
        self.maybe(annotations.rerun.as_ref());
        self.maybe(annotations.force.as_ref());
        self.spec(spec);
        self.status(status);
    }

    fn spec(&mut self, spec: &DataIntegrationJobSpec) {
        let DataIntegrationJobSpec {
            account_ref,
            di_job_id,
            realtime_start_settings,
            force_to_rerun,
            rerun_token,
            on_unknown,
            suspend,
        } = spec;
        self.put((&account_ref.name, di_job_id, force_to_rerun, rerun_token, *on_unknown as u8, suspend));
        let inputs = StartInputs {
            realtime_start_settings: realtime_start_settings.clone().filter(|s| !s.is_empty()),
            force_to_rerun: false,
        };
        self.inputs(&inputs);
    }

    fn inputs(&mut self, inputs: &StartInputs) {
        let settings = inputs.realtime_start_settings.as_ref();
        let failover = settings.and_then(|s| s.failover_settings.as_ref()).map(|f| (f.interval, f.upper_limit));
        self.put((settings.is_some(), settings.and_then(|s| s.start_time), failover, inputs.force_to_rerun));
    }

    fn status(&mut self, status: &JobStatus) {
        let JobStatus {
            observed_generation,
            conditions,
            job_status,
            job_status_time: _,
            job_name: _,
            job_error: _,
            job_started_time,
            applied,
            uid,
            pending_start,
            open_until: _, // written, and read by nobody yet
            last_start,
            last_error,
            handled_rerun_tokens,
            attempts,
            next_attempt_time,
            history: _,
        } = status;
        self.generation(*observed_generation);
        self.put((job_status, attempts));
        self.maybe(uid.as_ref());
        self.all_names(handled_rerun_tokens);
        self.put(conditions.len());
        for c in conditions {
            self.put((&c.type_, &c.reason, c.status as u8));
        }
        self.rank(job_started_time.as_ref().map(|t| t.0.as_second()));
        self.time(next_attempt_time.as_ref().map(|t| t.0));
        self.put((applied.is_some(), pending_start.is_some(), last_start.is_some(), last_error.is_some()));
        if let Some(applied) = applied {
            let Applied { region, di_job_id, account, generation, uncertain, previous, .. } = applied;
            self.put((region, di_job_id, account, uncertain, previous.is_some()));
            self.generation(*generation);
            self.inputs(&applied.inputs());
            if let Some(p) = previous {
                self.inputs(p);
            }
        }
        if let Some(p) = pending_start {
            self.pending(p);
        }
        if let Some(l) = last_start {
            self.last(l);
        }
        if let Some(error) = last_error {
            let LastError { operation, code, generation, rerun_tokens, credentials_version, http_status, time, .. } =
                error;
            self.generation(*generation);
            self.all_names(rerun_tokens);
            self.put((operation, code, credentials_version, http_status));
            self.put(self.now - time.0.as_second() > 600);
        }
    }

    fn pending(&mut self, record: &PendingStart) {
        let PendingStart {
            protocol,
            id,
            trigger,
            rerun_tokens,
            generation,
            region,
            di_job_id,
            account,
            attempt,
            nonce,
            signed_time,
            key_id,
            service,
            answered,
            force_to_rerun,
            realtime_start_settings,
            inputs,
            baseline_started_time,
            baseline_job_status,
            holder,
            lease_transitions: _,
        } = record;
        self.generation(*generation);
        self.all_names(rerun_tokens);
        self.put((protocol, trigger, region, di_job_id, account, attempt, service));
        for n in [id, nonce, holder, key_id] {
            self.name(n);
        }
        self.time(Some(signed_time.0));
        self.put((answered, baseline_job_status));
        self.rank(*baseline_started_time);
        self.inputs(inputs);
        let sent = realtime_start_settings.clone();
        self.inputs(&StartInputs { realtime_start_settings: sent, force_to_rerun: *force_to_rerun });
    }

    fn last(&mut self, last: &LastStart) {
        self.name(&last.id);
        self.put((&last.trigger, &last.outcome, &last.confirmation, &last.error, &last.baseline_job_status));
        self.maybe(last.request_id.as_ref());
        self.rank(last.baseline_started_time);
    }

    fn process(&mut self, process: &Process, object: &Version, leads: bool) {
        let Process { life: _, doing, facts, uid } = process;
        self.name(&process.holder());
        self.name(&format!("u{uid}"));
        let Facts { call, reading: _, unrecorded, never_sent, missing_since, credentials } = facts;
        let LastCall { at: call_at, of: call_of, own } = call;
        self.put(own);
        self.time(*call_at);
        self.time(*missing_since);
        self.put(credentials);
        self.put(call_of.as_ref().map(|of| of.1));
        if let Some(of) = call_of {
            self.name(&of.0);
        }
        let reading = process.look(leads);
        self.put(reading.is_some());
        if let Some(reading) = reading {
            self.reading(reading);
            self.put(call_at.is_none_or(|call| reading.at > call));
        }
        self.put(unrecorded.is_some());
        if let Some(a) = unrecorded {
            self.answered(a);
        }
        self.put(never_sent.len());
        for id in never_sent {
            self.name(id);
        }
        let (stage, held) = match doing {
            Doing::Idle => return self.put(0),
            Doing::Committed(held) => (1, held),
            Doing::Calling(held, None) => (2, held),
            Doing::Calling(held, Some(answer)) => {
                self.answer(answer);
                (3, held)
            }
            Doing::Recording(held, Outcome::Answered(answered)) => {
                self.answered(answered);
                (4, held)
            }
            Doing::Recording(held, _) => (5, held),
        };
        self.put((stage, held.rv == object.rv));
        self.pending(&held.record);
        let old = held.seen.record.pending_start.as_ref().filter(|_| held.rv == object.rv);
        if let Some(p) = old {
            self.pending(p);
        }
    }

    fn reading(&mut self, reading: &Reading) {
        self.put((&reading.job.region, reading.job.di_job_id));
        self.time(Some(reading.at));
        match &reading.seen {
            Seen::Job(View { word, started, project: _, name: _, error: _ }) => {
                self.put((0, word));
                self.rank(*started);
            }
            Seen::NotFound(_) => self.put(1),
            Seen::Refused(_) => self.put(2),
            Seen::Failed(_) => self.put(3),
        }
    }

    fn answered(&mut self, answered: &Answered) {
        self.pending(&answered.pending);
        self.answer(&answered.answer);
    }

    fn answer(&mut self, answer: &Answer) {
        match answer {
            Answer::Accepted { request_id } => {
                self.put(0);
                if let Some(r) = request_id {
                    self.name(r);
                }
            }
            Answer::Failed(Error { code, http_status, .. }) => self.put((1, code, http_status)),
        }
    }
}
