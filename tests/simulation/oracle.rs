//! Judges a run from the ledger of the cloud and the history of the object, and from nothing else.
//!
//! Shares no rule with the code under test: what a start means is read from the record that was committed, what ran from
//! the cloud, what was asked from the edits.

use std::collections::{BTreeMap, BTreeSet};

use dijob_operator::api::condition::ConditionStatus;
use dijob_operator::api::{DataIntegrationJobSpec, JobStatus, PendingStart};

use super::cloud::{Arrival, Ms};
use super::world::{Version, World};

/// What schedules reached.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    commits: usize,
    resends: usize,
    executions: usize,
    lawful_doubles: usize,
    unknown: usize,
    confirmed: usize,
    adopted: usize,
    rejected: usize,
}

impl Tally {
    /// Sums up.
    pub fn add(&mut self, other: &Self) {
        self.commits += other.commits;
        self.resends += other.resends;
        self.executions += other.executions;
        self.lawful_doubles += other.lawful_doubles;
        self.unknown += other.unknown;
        self.confirmed += other.confirmed;
        self.adopted += other.adopted;
        self.rejected += other.rejected;
    }

    /// Nothing was missed.
    pub fn covers_all(&self) -> bool {
        [self.resends, self.executions, self.unknown, self.confirmed, self.adopted, self.rejected]
            .iter()
            .all(|n| *n > 0)
    }
}

/// A start that the API server has accepted, and the object as it was just before.
struct Commit<'a> {
    at: Ms,
    record: &'a PendingStart,
    before: &'a Version,
    epoch: usize,
    /// The version that it made.
    rv: u64,
}

fn forced(record: &PendingStart) -> bool {
    record.force_to_rerun || record.realtime_start_settings.as_ref().is_some_and(|s| s.start_time.is_some())
}

type Inputs = (Option<i64>, Option<i64>, Option<i64>, bool);

/// What a spec asks to be sent, empty and absent being one.
fn inputs(spec: &DataIntegrationJobSpec) -> Inputs {
    let settings = spec.realtime_start_settings.as_ref();
    let failover = settings.and_then(|s| s.failover_settings.as_ref());
    (
        settings.and_then(|s| s.start_time),
        failover.and_then(|f| f.interval),
        failover.and_then(|f| f.upper_limit),
        spec.force_to_rerun,
    )
}

fn committed_inputs(record: &PendingStart) -> Inputs {
    let settings = record.inputs.realtime_start_settings.as_ref();
    let failover = settings.and_then(|s| s.failover_settings.as_ref());
    (
        settings.and_then(|s| s.start_time),
        failover.and_then(|f| f.interval),
        failover.and_then(|f| f.upper_limit),
        record.inputs.force_to_rerun,
    )
}

/// Every commit, from the history alone. `epoch` counts how often the object has meant another job.
fn commits(history: &[Version]) -> Vec<Commit<'_>> {
    let (mut all, mut epoch) = (Vec::new(), 0);
    for pair in history.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        epoch += usize::from(before.spec.di_job_id != after.spec.di_job_id);
        let (old, new) = (&before.status.pending_start, &after.status.pending_start);
        let Some(record) = new else { continue };
        if old.as_ref().is_none_or(|p| p.id != record.id || p.attempt < record.attempt) {
            all.push(Commit { at: after.at, record, before, epoch, rv: after.rv });
        }
    }
    all
}

/// The promises.
pub fn judge(world: &World) -> Result<Tally, String> {
    let commits = commits(&world.history);
    every_arrival_was_committed(world, &commits)?;
    never_twice_where_twice_hurts(world, &commits)?;
    further_attempts_are_lawful(world, &commits)?;
    no_start_is_forgotten(world, &commits)?;
    one_start_at_a_time(world, &commits)?;
    latest_only(world, &commits)?;
    for pair in world.history.windows(2) {
        truthful(world, &commits, &pair[0].status, &pair[1])?;
    }
    nothing_is_lost(world, &commits)?;
    quiet(world)?;
    Ok(tally(world, &commits))
}

fn demand(holds: bool, broken: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(broken()) }
}

fn every_arrival_was_committed(world: &World, commits: &[Commit<'_>]) -> Result<(), String> {
    for arrival in &world.cloud.arrivals {
        let known = commits.iter().any(|c| c.at <= arrival.at && c.record == &arrival.record);
        demand(known, || format!("I3: {}#{} arrived without a commit", arrival.record.id, arrival.record.attempt))?;
    }
    Ok(())
}

/// I1 for forced starts: by id, by token, and by the edit that asked.
fn never_twice_where_twice_hurts(world: &World, commits: &[Commit<'_>]) -> Result<(), String> {
    let ran = |id: &str| world.cloud.executions.iter().filter(|e| e.id.as_deref() == Some(id)).count();
    let firsts: Vec<_> = commits.iter().filter(|c| c.record.attempt == 1).collect();
    let mut by_token: BTreeMap<(usize, &str), &str> = BTreeMap::new();
    for commit in &firsts {
        let id = commit.record.id.as_str();
        if !forced(commit.record) || ran(id) == 0 {
            continue;
        }
        demand(ran(id) == 1, || format!("I1: forced {id} ran {} times", ran(id)))?;
        for token in &commit.record.rerun_tokens {
            let first = by_token.entry((commit.epoch, token)).or_insert(id);
            demand(*first == id, || format!("I1: token {token} forced {first} and {id}"))?;
        }
        if commit.record.trigger == "Rerun" {
            continue;
        }
        // Nothing that already ran for this edit, or for a later one, may be followed by a forced start for it.
        let asked_at = last_edit_of_inputs(world, commit.before);
        let earlier = firsts.iter().find(|e| {
            e.at < commit.at && e.epoch == commit.epoch && ran(&e.record.id) > 0 && e.record.generation >= asked_at
        });
        demand(earlier.is_none(), || {
            format!("I1: generation {asked_at} started {} already, then forced {id}", earlier.unwrap().record.id)
        })?;
    }
    Ok(())
}

/// The generation at which the start inputs last became what they are in `at`.
fn last_edit_of_inputs(world: &World, at: &Version) -> i64 {
    let past = world.history.iter().filter(|v| v.rv <= at.rv);
    let mut since = 1;
    let mut last: Option<(Inputs, i64)> = None;
    for version in past {
        let now = (inputs(&version.spec), version.spec.di_job_id);
        if last.as_ref().is_some_and(|l| *l != now) {
            since = version.generation;
        }
        last = Some(now);
    }
    since
}

/// Codes that say that the call surely did not run.
fn did_not(code: &str) -> bool {
    ["Throttling.User", "Forbidden.RAM", "InvalidParameter", "InvalidTimeStamp.Expired"].contains(&code)
}

/// I5: a record leaves status with an outcome, or when all that was sent of it surely did not run.
fn no_start_is_forgotten(world: &World, commits: &[Commit<'_>]) -> Result<(), String> {
    for pair in world.history.windows(2) {
        let (Some(old), after) = (&pair[0].status.pending_start, &pair[1].status) else { continue };
        if after.pending_start.as_ref().is_some_and(|p| p.id == old.id) {
            continue;
        }
        let outcome = after.last_start.as_ref().filter(|l| l.id == old.id && l.outcome != "Rejected");
        let ran_not = |c: &Commit<'_>| {
            let arrival = world.cloud.arrivals.iter().find(|a| a.record == *c.record);
            let code = arrival.and_then(|a| a.verdict.as_ref().err()).and_then(Option::as_deref);
            !world.sent.contains(&c.rv) || code.is_some_and(did_not)
        };
        let harmless = commits.iter().filter(|c| c.record.id == old.id).all(ran_not);
        demand(outcome.is_some() || harmless, || format!("I5: {} may have run and is forgotten", old.id))?;
    }
    Ok(())
}

/// I1: the next start of a job waits until the last is confirmed or its time is over.
fn one_start_at_a_time(world: &World, commits: &[Commit<'_>]) -> Result<(), String> {
    for commit in commits.iter().filter(|c| c.record.attempt == 1) {
        let last = commit.before.status.last_start.as_ref().filter(|l| l.outcome == "Accepted");
        let Some(last) = last else { continue };
        let taken = |a: &&Arrival| a.record.id == last.id && a.verdict.is_ok() && a.at <= commit.at;
        let arrival = world.cloud.arrivals.iter().rev().find(taken);
        let Some(arrival) = arrival.filter(|a| a.record.di_job_id == commit.record.di_job_id) else { continue };
        let over = commit.at - arrival.at >= 120_000;
        demand(over, || format!("I1: {} does not wait for {}", commit.record.id, last.id))?;
    }
    Ok(())
}

/// I1 for every further attempt.
fn further_attempts_are_lawful(world: &World, commits: &[Commit<'_>]) -> Result<(), String> {
    for (n, commit) in commits.iter().enumerate().filter(|(_, c)| c.record.attempt > 1) {
        let (id, record) = (&commit.record.id, commit.record);
        demand(!forced(record), || format!("I1: forced {id} is sent again"))?;
        // The last attempt that left its process; one that did not is no attempt.
        let left = |c: &&Commit<'_>| world.sent.contains(&c.rv);
        let Some(earlier) = commits[..n].iter().rev().filter(|c| c.record.id == *id).find(left) else { continue };
        let arrival = world.cloud.arrivals.iter().find(|a| a.record == *earlier.record);
        let refused = arrival.and_then(|a| a.verdict.as_ref().err()).and_then(Option::as_deref);
        if refused.is_some_and(did_not) {
            continue;
        }
        demand(commit.at - earlier.at >= 30_000, || format!("I1: {id}#{} comes too soon", record.attempt))?;
        let looks = world.cloud.reads.iter().filter(|r| r.job == record.di_job_id);
        let looked = looks.clone().any(|r| {
            let sign =
                r.started.is_some() && record.baseline_job_status.is_some() && r.started > record.baseline_started_time;
            r.at >= earlier.at + 30_000 && r.at <= commit.at && !sign
        });
        demand(looked, || format!("I1: {id}#{} without a look that shows no sign", record.attempt))?;
        let age = commit.at - earlier.record.signed_time.0.as_millisecond();
        let answered = refused.is_some();
        if age < 599_000 && !answered {
            demand(record.nonce == earlier.record.nonce, || format!("I1: {id}#{} has a new nonce", record.attempt))?;
        } else if age > 601_000 {
            demand(record.nonce != earlier.record.nonce, || format!("I1: {id}#{} has an old nonce", record.attempt))?;
        }
    }
    Ok(())
}

/// I4, from the object just before each commit.
fn latest_only(world: &World, commits: &[Commit<'_>]) -> Result<(), String> {
    for (n, Commit { record, before, epoch, .. }) in commits.iter().enumerate() {
        let id = format!("{}#{}", record.id, record.attempt);
        let Version { spec, annotations, .. } = before;
        demand(!before.deleting && !spec.suspend, || format!("I4: {id} while deleted or suspended"))?;
        demand(committed_inputs(record) == inputs(spec), || format!("I4: {id} is not what spec says"))?;
        demand(record.di_job_id == spec.di_job_id, || format!("I4: {id} is for another job"))?;
        let on_object = [annotations.rerun.as_deref(), Some(spec.rerun_token.as_str())];
        for token in &record.rerun_tokens {
            demand(on_object.contains(&Some(token)), || format!("I4: {id} answers a withdrawn token"))?;
        }
        let both_keys = annotations.rerun.is_some() && annotations.rerun == annotations.force;
        demand(!record.force_to_rerun || spec.force_to_rerun || both_keys || record.attempt > 1, || {
            format!("I4: {id} is forced")
        })?;
        let spec_change = record.trigger == "SpecChange" && record.attempt == 1;
        if let Some(last) = commits[..n].last().filter(|c| spec_change && c.epoch == *epoch && was_taken(world, c)) {
            let (new, old) = (committed_inputs(record), committed_inputs(last.record));
            let time = record.realtime_start_settings.as_ref().and_then(|s| s.start_time);
            demand(time.is_none() || time != old.0, || format!("I4: {id} sends startTime a second time"))?;
            let grew = [(new.0, old.0), (new.1, old.1), (new.2, old.2)].iter().any(|(n, o)| n.is_some() && n != o);
            demand(grew || (new.3 && !old.3), || format!("I4: {id} though something was only taken away"))?;
        }
        let sends = record.realtime_start_settings.as_ref().and_then(|s| s.start_time);
        demand(sends.is_none() || sends == inputs(spec).0, || format!("I4: {id} sends another startTime"))?;
    }
    Ok(())
}

/// The cloud took it, it is known, and nothing was handled since but what that start carried.
fn was_taken(world: &World, commit: &Commit<'_>) -> bool {
    let mut since = world.history.iter().filter(|v| v.rv >= commit.rv);
    let told = world.cloud.arrivals.iter().any(|a| a.record.id == commit.record.id && a.verdict.is_ok());
    let known =
        |v: &Version| v.status.last_start.as_ref().is_some_and(|l| l.id == commit.record.id && l.outcome != "Unknown");
    let same = |v: &Version| {
        v.status.last_start.is_some() && v.status.pending_start.as_ref().is_none_or(|p| p.id == commit.record.id)
    };
    let asked = committed_inputs(commit.record);
    told && since.any(|v| known(v) && same(v))
        && world.history.iter().filter(|v| v.rv >= commit.rv).all(|v| {
            // A removal seen meanwhile was tidied up, and what comes back after it is new.
            let now = inputs(&v.spec);
            [(now.0, asked.0), (now.1, asked.1), (now.2, asked.2)].iter().all(|(n, a)| a.is_none() || n.is_some())
                && (now.3 || !asked.3)
                && v.spec.di_job_id == commit.record.di_job_id
        })
}

/// I5 for one version of the status.
fn truthful(world: &World, commits: &[Commit<'_>], before: &JobStatus, version: &Version) -> Result<(), String> {
    let status = &version.status;
    demand(status.observed_generation <= version.generation, || "I5: observedGeneration".to_owned())?;
    let last = status.last_start.as_ref();
    let Some(last) =
        last.filter(|l| before.last_start.as_ref().is_none_or(|b| (&b.id, &b.outcome) != (&l.id, &l.outcome)))
    else {
        return Ok(());
    };
    let arrivals = || world.cloud.arrivals.iter().filter(|a| a.record.id == last.id && a.at <= version.at);
    match last.outcome.as_str() {
        "Accepted" => demand(arrivals().any(|a| a.verdict.as_ref().ok() == last.request_id.as_ref()), || {
            format!("I5: {} is called accepted", last.id)
        }),
        "Rejected" => {
            let said = arrivals().any(|a| a.verdict.as_ref().err().is_some_and(|code| *code == last.error));
            demand(said && last.request_id.is_some(), || format!("I5: {} is called rejected", last.id))?;
            let ran = world.cloud.executions.iter().any(|e| e.id.as_ref() == Some(&last.id));
            demand(!ran, || format!("I5: {} is called rejected and ran", last.id))
        }
        "Confirmed" => {
            let commit = commits.iter().find(|c| c.record.id == last.id).unwrap();
            // Its baseline was read at most a minute before.
            let job = commit.record.di_job_id;
            let after = commit.at - 61_000;
            let ran = world.cloud.executions.iter().any(|e| e.job == job && e.at >= after && e.at <= version.at);
            demand(ran, || format!("I5: {} is called confirmed", last.id))
        }
        "Unknown" => Ok(()),
        other => Err(format!("I5: outcome {other}")),
    }
}

/// I2: what is still wanted has ended, visibly.
fn nothing_is_lost(world: &World, commits: &[Commit<'_>]) -> Result<(), String> {
    let end = world.history.last().unwrap();
    let status = &end.status;
    if end.deleting {
        return Ok(());
    }
    let condition = |type_: &str| status.conditions.iter().find(|c| c.type_ == type_);
    let ready = condition("Ready").ok_or("I2: no Ready")?;
    demand(condition("Reconciling").is_none(), || {
        format!("I2: still in progress: {} {}", ready.reason, ready.message)
    })?;
    demand(status.observed_generation == end.generation, || "I2: an edit was overlooked".to_owned())?;
    if end.spec.suspend {
        return Ok(());
    }
    demand(status.pending_start.is_none(), || "I2: a start is unresolved".to_owned())?;
    let applied = status.applied.as_ref().ok_or("I2: nothing was ever handled")?;
    demand(applied.di_job_id == end.spec.di_job_id, || "I2: the job was not changed".to_owned())?;
    let settings = applied.realtime_start_settings.as_ref();
    let failover = settings.and_then(|s| s.failover_settings.as_ref());
    let handled = (
        settings.and_then(|s| s.start_time),
        failover.and_then(|f| f.interval),
        failover.and_then(|f| f.upper_limit),
        applied.force_to_rerun,
    );
    demand(handled == inputs(&end.spec), || "I2: the last edit was not handled".to_owned())?;
    let on_object: BTreeSet<&str> = end
        .annotations
        .rerun
        .as_deref()
        .into_iter()
        .chain([end.spec.rerun_token.as_str()])
        .filter(|t| !t.is_empty())
        .collect();
    for token in on_object {
        demand(status.handled_rerun_tokens.iter().any(|t| t == token), || format!("I2: token {token} was overlooked"))?;
        let answered = commits.iter().any(|c| c.record.rerun_tokens.iter().any(|t| t == token));
        let adopted = world.history.windows(2).any(|w| adopted_with(&w[0].status, &w[1].status, token));
        demand(answered || adopted, || format!("I2: token {token} is called handled, and nothing was done"))?;
    }
    if ready.status == ConditionStatus::True {
        return unless_unseen(world, end.spec.di_job_id, &ready.reason);
    }
    if status.last_start.as_ref().is_some_and(|l| l.outcome == "Unknown") {
        let id = &status.last_start.as_ref().unwrap().id;
        return silence_has_a_cause(world, commits, id);
    }
    let stalled = condition("Stalled").is_some();
    demand(stalled || ready.status == ConditionStatus::Unknown, || format!("I2: {} is no end", ready.reason))
}

fn adopted_with(before: &JobStatus, after: &JobStatus, token: &str) -> bool {
    let has = |s: &JobStatus| s.handled_rerun_tokens.iter().any(|t| t == token);
    !has(before) && has(after) && after.last_start.is_none()
}

/// Ready means that the job really was at work or done when it was last read.
fn unless_unseen(world: &World, job: i64, reason: &str) -> Result<(), String> {
    let read = world.cloud.reads.iter().rev().find(|r| r.job == job);
    demand(read.is_some() || reason == "StartAccepted", || format!("I2: Ready {reason}, and the job was never read"))
}

/// A start whose outcome is unknown and that never arrived must have lost its process, or its answer on the way.
fn silence_has_a_cause(world: &World, commits: &[Commit<'_>], id: &str) -> Result<(), String> {
    if world.cloud.arrivals.iter().any(|a| a.record.id == id) {
        return Ok(());
    }
    // A process that was paused for as long as a signature lives tells too late; in the honest world none is.
    let closed = |v: &&Version| v.status.last_start.as_ref().is_some_and(|l| l.id == id);
    if world.history.iter().find(closed).is_some_and(|v| v.at < world.honest_at + 60_000) {
        return Ok(());
    }
    let mut attempts = commits.iter().filter(|c| c.record.id == id);
    let excused = attempts.any(|c| {
        world.sent.contains(&c.rv) || world.crashed.iter().any(|(holder, at)| *holder == c.record.holder && *at >= c.at)
    });
    demand(excused, || format!("I2: {id} was lost though its process lived and nothing was sent"))
}

/// I10: the last two hours of the honest world write nothing and start nothing.
fn quiet(world: &World) -> Result<(), String> {
    demand(world.quiet_at.is_some(), || "I10: never quiet".to_owned())
}

fn tally(world: &World, commits: &[Commit<'_>]) -> Tally {
    let ids: BTreeSet<&str> = world.cloud.executions.iter().filter_map(|e| e.id.as_deref()).collect();
    let ours = world.cloud.executions.iter().filter(|e| e.id.is_some()).count();
    let outcomes = |word: &str| {
        let of = |v: &Version| v.status.last_start.as_ref().map(|l| (l.id.clone(), l.outcome.clone()));
        world.history.windows(2).filter(|w| of(&w[0]) != of(&w[1]) && of(&w[1]).is_some_and(|l| l.1 == word)).count()
    };
    Tally {
        commits: commits.len(),
        resends: commits.iter().filter(|c| c.record.attempt > 1).count(),
        executions: world.cloud.executions.len(),
        lawful_doubles: ours - ids.len(),
        unknown: outcomes("Unknown"),
        confirmed: outcomes("Confirmed"),
        adopted: world
            .history
            .windows(2)
            .filter(|w| {
                w[0].status.applied != w[1].status.applied
                    && w[1].status.applied.is_some()
                    && w[1].status.last_start.is_none()
            })
            .count(),
        rejected: outcomes("Rejected"),
    }
}
