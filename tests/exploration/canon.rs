//! One 128-bit number for all states from which the same can follow.
//!
//! Times are hashed relative to now, names (ids, nonces, holders, `RequestId`s) by order of first sight, values of
//! `StartedTime` by rank. Left out: what nothing reads again (texts, `history`, transition times), a view that is not the
//! current one unless it may still be seen, and what a pass would write under a version that is gone.

use std::hash::Hash;

use dijob_operator::api::{
    Applied, DataIntegrationJobSpec, JobStatus, LastError, LastStart, PendingStart, StartInputs,
};
use dijob_operator::dataworks::error::Error;
use dijob_operator::plan::Outcome;
use dijob_operator::plan::last_call::LastCall;
use dijob_operator::plan::observed::{Answer, Answered, Reading, Seen, View};
use jiff::Timestamp;

use super::lanes::{Lanes, START};
use super::ledger::{Attempt, Ledger, Start};
use super::process::{Doing, Facts, Process};
use super::world::{Edit, Version, World};

struct Canon {
    lanes: Lanes,
    now: i64,
    names: Vec<String>,
    ranks: Vec<i64>,
}

/// The number of this state.
pub fn number(world: &World) -> u128 {
    let mut to = Canon::at(world.now, started_times(world));
    to.world(world);
    to.number()
}

/// The number of all statuses that differ in names, times and texts alone.
pub fn shape(status: &JobStatus, now: i64) -> u128 {
    let mut ranks = Vec::new();
    started_times_of(status, &mut ranks);
    let mut to = Canon::at(now, ranks);
    to.status(status);
    to.number()
}

fn started_times_of(status: &JobStatus, all: &mut Vec<i64>) {
    all.extend(status.job_started_time.as_ref().map(|t| t.0.as_second()));
    all.extend(status.pending_start.as_ref().and_then(|p| p.baseline_started_time));
    all.extend(status.last_start.as_ref().and_then(|l| l.baseline_started_time));
}

fn started_times(world: &World) -> Vec<i64> {
    let mut all: Vec<i64> = world.cloud.jobs.iter().filter_map(|j| j.started).collect();
    let versions = [Some(&world.object), world.before.as_ref(), world.shelf.as_ref()];
    versions.into_iter().flatten().for_each(|v| started_times_of(&v.status, &mut all));
    let attempts = world.ledger.starts.iter().flat_map(|s| &s.attempts);
    all.extend(attempts.filter_map(|a| a.record.baseline_started_time));
    for process in &world.processes {
        if let Some(Reading { seen: Seen::Job(view), .. }) = &process.facts.reading {
            all.extend(view.started);
        }
    }
    all
}

impl Canon {
    fn at(now: i64, mut ranks: Vec<i64>) -> Self {
        ranks.sort_unstable();
        ranks.dedup();
        Self { lanes: START, now: now / 1_000, names: Vec::new(), ranks }
    }

    fn number(&self) -> u128 {
        self.lanes.number()
    }

    fn put(&mut self, value: impl Hash) {
        value.hash(&mut self.lanes);
    }

    fn name(&mut self, name: &str) {
        let place = self.names.iter().position(|n| n == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        self.put(place);
    }

    fn time(&mut self, at: Option<Timestamp>) {
        self.put(at.map(|at| (self.now - at.as_second()).clamp(-10_000, 10_000)));
    }

    fn age(&mut self, at: Option<i64>, cap: i64) {
        self.put(at.map(|at| (self.now - at / 1_000).min(cap)));
    }

    fn rank(&mut self, started: Option<i64>) {
        self.put(started.map(|s| self.ranks.binary_search(&s).unwrap()));
    }

    fn world(&mut self, world: &World) {
        let World {
            profile: _,
            menu,
            budget,
            now: _,
            cloud,
            object,
            before,
            shelf,
            first: _,
            processes,
            leader,
            wire,
            key,
            region,
            ledger,
            counters,
        } = world;
        self.put((budget, key.1, region, counters[2]));
        self.name(&format!("K{}", key.0));
        self.version(object);
        self.put(budget.stale > 0);
        if let Some(before) = before.as_ref().filter(|_| budget.stale > 0) {
            self.version(before);
        }
        let restorable = budget.edits > 0 && menu.contains(&Edit::RolledBack);
        if let Some(shelf) = shelf.as_ref().filter(|_| restorable) {
            self.version(shelf);
        }
        // The two processes differ in nothing but which of them leads.
        for process in [&processes[*leader], &processes[1 - leader]] {
            self.process(process, object);
        }
        for job in &cloud.jobs {
            self.put(job.word);
            self.rank(job.started);
        }
        self.put(cloud.nonces.len());
        for (nonce, at) in &cloud.nonces {
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
        self.ledger(ledger);
    }

    fn version(&mut self, version: &Version) {
        let Version { uid, rv: _, generation, spec, annotations, deleting, status } = version;
        self.put((uid, generation, deleting, &annotations.rerun, &annotations.force));
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
        self.put((observed_generation, job_status, uid, handled_rerun_tokens, attempts));
        self.put(conditions.len());
        for c in conditions {
            self.put((&c.type_, &c.reason, c.status as u8));
        }
        self.rank(job_started_time.as_ref().map(|t| t.0.as_second()));
        self.time(next_attempt_time.as_ref().map(|t| t.0));
        self.put((applied.is_some(), pending_start.is_some(), last_start.is_some(), last_error.is_some()));
        if let Some(applied) = applied {
            let Applied { region, di_job_id, account, generation, uncertain, previous, .. } = applied;
            self.put((region, di_job_id, account, generation, uncertain, previous.is_some()));
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
            self.put((operation, code, generation, rerun_tokens, credentials_version, http_status));
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
            answered,
            force_to_rerun,
            realtime_start_settings,
            inputs,
            baseline_started_time,
            baseline_job_status,
            holder,
            lease_transitions: _,
        } = record;
        self.put((protocol, trigger, rerun_tokens, generation, region, di_job_id, account, attempt));
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
        self.put(last.request_id.is_some());
        if let Some(r) = &last.request_id {
            self.name(r);
        }
        self.rank(last.baseline_started_time);
    }

    fn process(&mut self, process: &Process, object: &Version) {
        let Process { life: _, doing, facts, uid } = process;
        self.name(&process.holder());
        self.put(uid);
        let Facts { call, reading, unrecorded, never_sent, missing_since, credentials } = facts;
        let LastCall { at: call_at, of: call_of, own } = call;
        self.put(own);
        self.time(*call_at);
        self.time(*missing_since);
        self.put(credentials);
        self.put(call_of.as_ref().map(|of| of.1));
        if let Some(of) = call_of {
            self.name(&of.0);
        }
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
            Seen::Job(View { word, started, name: _, error: _ }) => {
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

    fn ledger(&mut self, ledger: &Ledger) {
        let Ledger { starts, epoch, asked_at, ran_at, read_at, word, words, taken, by_token, most } = ledger;
        self.put((epoch, asked_at, word, words, taken, most));
        for n in 0..3 {
            self.age(ran_at[n], 62);
            self.age(read_at[n], 200);
        }
        self.put(starts.len());
        for start in starts {
            let Start { attempts, ran, forced, epoch, asked_at, taken, died, removed } = start;
            self.put((ran, forced, epoch, asked_at, died, removed, attempts.len(), taken.len()));
            for (at, request) in taken {
                self.age(Some(*at), 200);
                if let Some(r) = request {
                    self.name(r);
                }
            }
            for Attempt { record, at, sent, verdict, looked } in attempts {
                self.name(&record.id);
                self.name(&record.nonce);
                self.put((sent, verdict, looked, &record.rerun_tokens, &record.trigger, record.generation));
                self.age(Some(*at), 700);
            }
            let job = super::cloud::index(&start.record().region, start.record().di_job_id);
            let (first, last) = (start.attempts[0].at, start.attempts[start.attempts.len() - 1].at);
            self.put((ran_at[job].map(|at| at >= first - 61_000), read_at[job].map(|at| at - last >= 120_000)));
        }
        for ((epoch, token), id) in by_token {
            self.put((epoch, token));
            self.name(id);
        }
    }
}
