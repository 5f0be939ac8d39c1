//! What is still spoken of, and what of the ledger the future depends on.

use dijob_operator::api::JobStatus;
use dijob_operator::plan::observed::{Reading, Seen};

use super::canon::Canon;
use super::ledger::{Attempt, Ledger, Start};
use super::process::Doing;
use super::world::{Edit, VIEWS, Version, World};

/// What anything that is still there speaks of.
pub struct Live<'a> {
    /// Ids of starts.
    pub starts: Vec<&'a str>,
    /// Nonces that may still be sent.
    pub nonces: Vec<&'a str>,
}

impl<'a> Live<'a> {
    /// Of a world.
    pub fn of(world: &'a World) -> Self {
        let mut live = Self { starts: Vec::new(), nonces: Vec::new() };
        for version in versions(world) {
            version.status.pending_start.iter().for_each(|p| live.record(p));
            live.starts.extend(version.status.last_start.iter().map(|l| l.id.as_str()));
        }
        world.wire.iter().for_each(|copy| live.record(&copy.record));
        live.starts.extend(world.cloud.coming.iter().map(|(_, id)| id.as_str()));
        for process in &world.processes {
            process.facts.unrecorded.iter().for_each(|a| live.record(&a.pending));
            match &process.doing {
                Doing::Idle => {}
                Doing::Committed(held) | Doing::Calling(held, _) | Doing::Recording(held, _) => {
                    live.record(&held.record);
                    held.seen.record.pending_start.iter().for_each(|p| live.record(p));
                    live.starts.extend(held.seen.record.last_start.iter().map(|l| l.id.as_str()));
                }
            }
        }
        live
    }

    fn record(&mut self, record: &'a dijob_operator::api::PendingStart) {
        self.starts.push(&record.id);
        self.nonces.push(&record.nonce);
    }
}

/// The object, and what of its past can be seen again.
pub fn versions(world: &World) -> impl Iterator<Item = &Version> {
    let past = world.past.iter().take(if world.budget.stale > 0 { VIEWS } else { 0 });
    let restorable = world.budget.edits > 0 && world.menu.contains(&Edit::RolledBack);
    let shelf = world.shelf.as_ref().filter(|_| restorable);
    [Some(&world.object), shelf].into_iter().flatten().chain(past).map(AsRef::as_ref)
}

/// All values of `StartedTime` in a status.
pub fn started_times_of(status: &JobStatus, all: &mut Vec<i64>) {
    all.extend(status.job_started_time.as_ref().map(|t| t.0.as_second()));
    all.extend(status.pending_start.as_ref().and_then(|p| p.baseline_started_time));
    all.extend(status.last_start.as_ref().and_then(|l| l.baseline_started_time));
}

/// All that are still spoken of.
pub fn started_times(world: &World, live: &Live<'_>) -> Vec<i64> {
    let mut all: Vec<i64> = world.cloud.jobs.iter().filter_map(|j| j.started).collect();
    versions(world).for_each(|v| started_times_of(&v.status, &mut all));
    let starts = world.ledger.starts.iter().filter(|s| live.starts.contains(&s.record().id.as_str()));
    all.extend(starts.flat_map(|s| &s.attempts).filter_map(|a| a.record.baseline_started_time));
    for (p, process) in world.processes.iter().enumerate() {
        if let Some(Reading { seen: Seen::Job(view), .. }) = process.look(p == world.leader) {
            all.extend(view.started);
        }
    }
    all
}

impl Canon {
    /// The ledger.
    pub fn ledger(&mut self, ledger: &Ledger, live: &Live<'_>) {
        let Ledger { starts, epoch, asked_at, ran_at, read_at, word, words, taken, by_token, most: _ } = ledger;
        self.generation(*asked_at);
        self.put((word, words, taken));
        for n in 0..3 {
            self.age(ran_at[n], 62);
            self.age(read_at[n], 200);
        }
        for start in starts {
            let Start { attempts, ran, forced, epoch: of, asked_at, taken, died, removed } = start;
            let record = start.record();
            if !live.starts.contains(&record.id.as_str()) {
                // It is over: what is still asked of it is whether it ran for this edit, and which tokens it answered.
                if of == epoch {
                    self.put(ran > &0);
                    self.generation(record.generation);
                    self.all_names(&record.rerun_tokens);
                }
                continue;
            }
            self.name(&record.id);
            self.generation(*asked_at);
            self.put((ran, forced, epoch - of, died, removed, attempts.len(), taken.len()));
            for (at, request) in taken {
                self.age(Some(*at), 200);
                self.maybe(request.as_ref());
            }
            for Attempt { record, at, sent, verdict, looked, heard } in attempts {
                self.name(&record.nonce);
                self.all_names(&record.rerun_tokens);
                self.generation(record.generation);
                self.put((sent, verdict, looked, heard, &record.trigger));
                self.age(Some(*at), 700);
            }
            let job = super::cloud::index(&record.region, record.di_job_id);
            let (first, last) = (start.attempts[0].at, start.attempts[start.attempts.len() - 1].at);
            self.put((ran_at[job].map(|at| at >= first - 61_000), read_at[job].map(|at| at - last >= 120_000)));
        }
        for ((of, token), id) in by_token {
            let asked =
                of == epoch || starts.iter().any(|s| s.epoch == *of && live.starts.contains(&s.record().id.as_str()));
            if asked {
                self.put(epoch - of);
                self.name(token);
                self.name(id);
            }
        }
    }
}
