//! Judges a run from the ledger of the cloud and the history of the API server.
//!
//! **May touch:** its arguments. It shares no rule with the operator: what a start means is read from the record that was
//! committed, what ran from the cloud, what was asked from what people wrote.

use std::collections::{BTreeMap, BTreeSet};

use dijob_operator::api::condition::ConditionStatus;
use dijob_operator::api::{JobStatus, OnUnknown, PendingStart};
use jiff::{SignedDuration, Timestamp};
use simulator::{Console, Entry, Fate, StartedTime, Verdict};

pub use crate::facts::{Broken, Tally};

use crate::facts::{
    Check, Commit, Object, commits, committed, demand, inputs, is_process, objects, recorded, secs, starts,
    surely_not_executed,
};
use crate::faults::Kind;
use crate::story::Edit;
use crate::together::{
    arrivals_were_committed, calls_were_counted, doubles_need_a_forgetful_cloud, secrets_stay_secret,
    the_sender_held_the_lease, within_the_limits,
};
use crate::world::{PEOPLE, Record};

/// The promises.
///
/// # Errors
/// The first one that was broken.
pub fn judge(run: &Record, logs: &str) -> Result<Tally, Broken> {
    if let Some(wrong) = run.wrong.first() {
        return Err(Broken { invariant: "I9", what: wrong.clone() });
    }
    let objects = objects(run)?;
    let mut tally = Tally::default();
    let mut all: Vec<Commit<'_>> = Vec::new();
    for object in objects.values() {
        all.extend(commits(object));
    }
    arrivals_were_committed(run, &all)?;
    the_sender_held_the_lease(run)?;
    within_the_limits(run)?;
    calls_were_counted(run)?;
    secrets_stay_secret(run, logs)?;
    for (uid, object) in &objects {
        let judged = Judged { run, object, commits: commits(object), uid };
        judged.never_twice_where_twice_hurts()?;
        judged.further_attempts_are_lawful()?;
        judged.latest_only()?;
        judged.truthful()?;
        judged.few_writes()?;
        judged.nothing_is_lost()?;
        judged.quiet()?;
        let ids: BTreeSet<&str> = judged.commits.iter().map(|c| c.record.id.as_str()).collect();
        for id in ids {
            let ran = judged.ran(id);
            tally.executions += ran;
            tally.lawful_doubles += ran.saturating_sub(1);
        }
        tally.commits += judged.commits.len() as u64;
    }
    doubles_need_a_forgetful_cloud(run, &tally)?;
    Ok(tally)
}

/// One object of a run.
struct Judged<'a> {
    run: &'a Record,
    object: &'a Object,
    commits: Vec<Commit<'a>>,
    uid: &'a str,
}

impl Judged<'_> {
    fn arrivals(&self, id: &str) -> impl Iterator<Item = &Entry> {
        let nonces: BTreeSet<&str> =
            self.commits.iter().filter(|c| c.record.id == id).map(|c| c.record.nonce.as_str()).collect();
        starts(self.run).filter(move |e| e.nonce.as_deref().is_some_and(|n| nonces.contains(n)))
    }

    fn ran(&self, id: &str) -> u64 {
        let job = self.commits.iter().find(|c| c.record.id == id).map_or(0, |c| c.record.di_job_id);
        let seqs: BTreeSet<u64> = self.arrivals(id).map(|e| e.seq).collect();
        self.run.ledger.executions(job).iter().filter(|e| seqs.contains(&e.seq)).count() as u64
    }

    fn never_twice_where_twice_hurts(&self) -> Check {
        let mut by_token: BTreeMap<(usize, &str), &str> = BTreeMap::new();
        let firsts: Vec<_> = self.commits.iter().filter(|c| c.record.attempt == 1).collect();
        for commit in &firsts {
            let (id, record) = (commit.record.id.as_str(), commit.record);
            let ran = self.ran(id);
            if !record.is_forced() || ran == 0 {
                continue;
            }
            demand(ran == 1, "I1", || format!("forced {id} ran {ran} times"))?;
            for token in &record.rerun_tokens {
                let first = by_token.entry((commit.epoch, token)).or_insert(id);
                demand(*first == id, "I1", || format!("token {token} forced {first} and {id}"))?;
            }
            if record.trigger == "Rerun" {
                continue;
            }
            let asked = self.last_edit_of_inputs(commit.before.generation);
            let earlier = firsts.iter().find(|e| {
                e.at < commit.at
                    && e.epoch == commit.epoch
                    && self.ran(&e.record.id) > 0
                    && e.record.generation >= asked
            });
            demand(earlier.is_none(), "I1", || format!("generation {asked} ran already, then forced {id}"))?;
        }
        Ok(())
    }

    /// The generation at which the start inputs last became what they are in `generation`.
    fn last_edit_of_inputs(&self, generation: i64) -> i64 {
        let (mut since, mut last) = (1, None);
        for version in self.object.versions.iter().filter(|v| v.generation <= generation) {
            let now = (inputs(&version.spec), version.spec.di_job_id);
            if last.is_some_and(|l| l != now) {
                since = version.generation;
            }
            last = Some(now);
        }
        since
    }

    /// What the cloud saw of one attempt.
    fn arrival_of(&self, n: usize) -> Option<&Entry> {
        let commit = self.commits.get(n)?;
        let number = commit.caller.strip_prefix('p').and_then(|p| p.parse::<u64>().ok())?;
        let next = self.commits.get(n + 1).map(|c| c.at);
        let sent = |e: &&Entry| {
            let sent = self.run.sent.iter().find(|s| s.seq == e.seq);
            e.connection == number && sent.is_some_and(|s| s.left >= commit.at && next.is_none_or(|at| s.left < at))
        };
        starts(self.run).filter(|e| e.nonce.as_deref() == Some(commit.record.nonce.as_str())).find(sent)
    }

    fn further_attempts_are_lawful(&self) -> Check {
        for (n, commit) in self.commits.iter().enumerate().filter(|(_, c)| c.record.attempt > 1) {
            let (id, record) = (&commit.record.id, commit.record);
            let hold = commit.before.spec.on_unknown == OnUnknown::Hold;
            demand(!record.is_forced() && !hold, "I1", || format!("{id} must not be sent again, and is"))?;
            let earlier = (0..n)
                .rev()
                .filter(|m| self.commits.get(*m).is_some_and(|c| c.record.id == *id))
                .find_map(|m| self.arrival_of(m).map(|e| (m, e)));
            let Some((m, arrival)) = earlier else { continue };
            let Some(last) = self.commits.get(m) else { continue };
            if surely_not_executed(arrival) {
                continue;
            }
            let age = commit.at.duration_since(last.at);
            demand(age >= secs(30), "I1", || format!("{id}#{} comes too soon", record.attempt))?;
            let looked = self.run.ledger.of_action("GetDIJob").any(|e| {
                e.job == Some(record.di_job_id)
                    && e.verdict == Verdict::Accepted
                    && e.last_byte >= last.at + secs(30)
                    && e.last_byte <= commit.at
            });
            demand(looked, "I1", || format!("{id}#{} without a look", record.attempt))?;
            let signed = commit.at + self.run.schedule.switches.clock_offset;
            let age = signed.duration_since(last.record.signed_time.0);
            let told = matches!(arrival.verdict, Verdict::Refused { .. }) || arrival.answer == Fate::Sent;
            if age < secs(595) && !told {
                demand(record.nonce == last.record.nonce, "I1", || format!("{id}#{}: new nonce", record.attempt))?;
            } else if age > secs(605) + self.stood_still(commit.caller) {
                demand(record.nonce != last.record.nonce, "I1", || format!("{id}#{}: old nonce", record.attempt))?;
            }
        }
        Ok(())
    }

    /// The longest time that the process may have stood still between its decision and its commit.
    fn stood_still(&self, caller: &str) -> SignedDuration {
        let pauses = |kind: &Kind| matches!(kind, Kind::PauseBefore | Kind::PauseAfter);
        let its = |process: u64| format!("p{process}") == caller;
        if self.run.faults.iter().any(|(place, kind, _)| pauses(kind) && its(place.process)) {
            secs(61)
        } else {
            SignedDuration::ZERO
        }
    }

    fn latest_only(&self) -> Check {
        for Commit { record, before, .. } in &self.commits {
            let id = format!("{}#{}", record.id, record.attempt);
            demand(!before.deleting && !before.spec.suspend, "I4", || format!("{id} while deleted or suspended"))?;
            demand(committed(record) == inputs(&before.spec), "I4", || format!("{id} is not what spec says"))?;
            demand(record.di_job_id == before.spec.di_job_id, "I4", || format!("{id} is for another job"))?;
            let asked = [before.rerun.as_deref(), Some(before.spec.rerun_token.as_str())];
            // A backup restored into production must not redo it.
            let at_work = matches!(record.baseline_job_status.as_deref(), Some("Running" | "Finished"));
            let first_sight = before.status.applied.is_none() && record.attempt == 1;
            demand(!(at_work && first_sight), "I4", || format!("{id} starts a job that is to be adopted"))?;
            let all = record.rerun_tokens.iter().all(|t| asked.contains(&Some(t)));
            demand(all, "I4", || format!("{id} answers a withdrawn token"))?;
            let both = before.rerun.is_some() && before.rerun == before.force;
            let may_force = before.spec.force_to_rerun || both || record.attempt > 1;
            demand(!record.force_to_rerun || may_force, "I4", || format!("{id} is forced"))?;
            let sends = recorded(record).0;
            demand(sends.is_none() || sends == inputs(&before.spec).0, "I4", || format!("{id}: another startTime"))?;
        }
        Ok(())
    }

    fn truthful(&self) -> Check {
        for (before, after) in self.object.versions.iter().zip(self.object.versions.iter().skip(1)) {
            if !is_process(&after.caller) {
                continue;
            }
            demand(after.status.observed_generation <= after.generation, "I5", || "observedGeneration".to_owned())?;
            let Some(last) = &after.status.last_start else { continue };
            let same = |b: &dijob_operator::api::LastStart| (&b.id, &b.outcome) == (&last.id, &last.outcome);
            if before.status.last_start.as_ref().is_some_and(same) {
                continue;
            }
            let id = last.id.as_str();
            let told = |e: &Entry| Some(&e.request_id) == last.request_id.as_ref();
            match last.outcome.as_str() {
                "Accepted" => {
                    let said = self.arrivals(id).any(|e| e.verdict == Verdict::Accepted && told(e));
                    demand(said, "I5", || format!("{id} is called accepted"))?;
                }
                "Rejected" => {
                    let refused = |e: &Entry| match &e.verdict {
                        Verdict::Refused { code, .. } => Some(code) == last.error.as_ref() && told(e),
                        Verdict::Accepted | Verdict::Underway => false,
                    };
                    demand(self.arrivals(id).any(refused), "I5", || format!("{id} is called rejected"))?;
                    demand(self.ran(id) == 0, "I5", || format!("{id} is called rejected, and ran"))?;
                }
                "Confirmed" => self.really_ran(id, after.time)?,
                "Unknown" => {}
                other => return demand(false, "I5", || format!("outcome {other}")),
            }
        }
        Ok(())
    }

    fn really_ran(&self, id: &str, until: Timestamp) -> Check {
        let Some(commit) = self.commits.iter().find(|c| c.record.id == id) else {
            return demand(false, "I5", || format!("{id} is confirmed and was never committed"));
        };
        // Its baseline was read a minute before at most, and what it showed may have been a minute late. Without a
        // `StartedTime`, a word may still change by a start whose starting phase is longer than the settle time.
        let rules = &self.run.schedule.switches.rules;
        let starting = match rules.started_time {
            _ if self.run.schedule.hides_started_time() => rules.running_after,
            StartedTime::AtAccept | StartedTime::Lagging(_) => SignedDuration::ZERO,
            StartedTime::WhenRunning | StartedTime::Absent => rules.running_after,
        };
        let since = commit.at - secs(125) - starting;
        let within = |at: Timestamp| at >= since && at <= until;
        let ours = self.run.ledger.executions(commit.record.di_job_id).iter().any(|e| within(e.at));
        let people = self.run.schedule.edits.iter().any(|(_, e)| matches!(e, Edit::Console(_, Console::Start)));
        demand(ours || people, "I5", || format!("{id} is called confirmed, and nothing ran"))
    }

    fn few_writes(&self) -> Check {
        let ours: Vec<_> = self.object.versions.iter().filter(|v| is_process(&v.caller)).collect();
        for (n, first) in ours.iter().enumerate() {
            let from = &first.time;
            let until = *from + secs(60);
            let within = || ours.iter().skip(n).take_while(|v| v.time < until);
            // Each process has its own pace.
            let processes = within().map(|v| v.caller.as_str()).collect::<BTreeSet<_>>().len();
            let writes = within().count();
            let attempts = self.commits.iter().filter(|c| c.at >= *from && c.at < until).count();
            // A few edits are acted on one by one; a flood of them must be merged.
            let edits =
                self.object.versions.iter().filter(|v| !is_process(&v.caller) && v.time >= *from && v.time < until);
            demand(writes <= 6 * processes + 4 * attempts.max(1) + edits.count().min(4), "I6", || {
                format!("{writes} writes of {} in a minute, with {attempts} attempts", self.uid)
            })?;
        }
        Ok(())
    }

    fn nothing_is_lost(&self) -> Check {
        let Some(end) = self.object.versions.last().filter(|v| !self.object.gone && !v.deleting) else {
            return Ok(());
        };
        let status = &end.status;
        let condition = |type_: &str| status.conditions.iter().find(|c| c.type_ == type_);
        let Some(ready) = condition("Ready") else { return demand(false, "I2", || "no Ready".to_owned()) };
        let going = condition("Reconciling").is_some();
        demand(!going, "I2", || format!("still in progress: {} {}", ready.reason, ready.message))?;
        demand(status.observed_generation == end.generation, "I2", || "an edit was overlooked".to_owned())?;
        if end.spec.suspend {
            return Ok(());
        }
        // What the cloud refuses rests, visibly, and is tried again every 15 minutes: also where an earlier copy had no answer.
        let stalled = condition("Stalled").is_some();
        let refused = |id: &str| self.arrivals(id).any(surely_not_executed);
        let rests = |p: &PendingStart| stalled && status.next_attempt_time.is_some() && p.attempt > 1 && refused(&p.id);
        let resolved = status.pending_start.as_ref().is_none_or(rests);
        demand(resolved, "I2", || "a start is unresolved".to_owned())?;
        if stalled && status.next_attempt_time.is_some() {
            return Ok(());
        }
        let Some(applied) = &status.applied else {
            return demand(stalled, "I2", || format!("nothing was ever handled: {} {}", ready.reason, ready.message));
        };
        let settings = applied.realtime_start_settings.as_ref();
        let failover = settings.and_then(|s| s.failover_settings.as_ref());
        let interval = failover.and_then(|f| f.interval);
        let limit = failover.and_then(|f| f.upper_limit);
        let handled = (settings.and_then(|s| s.start_time), interval, limit, applied.force_to_rerun);
        demand(handled == inputs(&end.spec), "I2", || "the last edit was not handled".to_owned())?;
        let tokens = [end.rerun.as_deref().unwrap_or_default(), end.spec.rerun_token.as_str()];
        for token in tokens.into_iter().filter(|t| !t.is_empty()) {
            let known = status.handled_rerun_tokens.iter().any(|t| t == token);
            demand(known, "I2", || format!("token {token} was overlooked"))?;
            let answered = self.commits.iter().any(|c| c.record.rerun_tokens.iter().any(|t| t == token));
            demand(answered || self.adopted(token), "I2", || format!("nothing was done for token {token}"))?;
        }
        self.has_ended(status, ready.status == ConditionStatus::True || ready.status == ConditionStatus::Unknown)
    }

    fn adopted(&self, token: &str) -> bool {
        let has = |s: &JobStatus| s.handled_rerun_tokens.iter().any(|t| t == token);
        let pairs = self.object.versions.iter().zip(self.object.versions.iter().skip(1));
        let mut adopted = pairs.filter(|(b, a)| !has(&b.status) && has(&a.status));
        adopted.any(|(_, a)| a.status.last_start.is_none() || a.caller == PEOPLE)
    }

    fn has_ended(&self, status: &JobStatus, fine: bool) -> Check {
        let stalled = status.conditions.iter().any(|c| c.type_ == "Stalled");
        demand(fine || stalled, "I2", || "neither ready nor stalled".to_owned())?;
        let Some(last) = status.last_start.as_ref().filter(|l| l.outcome == "Unknown") else { return Ok(()) };
        if self.arrivals(&last.id).next().is_some() {
            return Ok(());
        }
        let excused = self.commits.iter().filter(|c| c.record.id == last.id).any(|c| {
            let number = c.caller.strip_prefix('p').and_then(|p| p.parse::<u64>().ok());
            // Killed when the bytes of the record had left, or at any time after.
            let died = self.run.died.iter().any(|(process, at)| Some(*process) == number && *at >= c.at - secs(60));
            // Looks before and after it tell different things: a job at work proves nothing.
            died || self.run.switched_after(c.at)
        });
        demand(excused, "I2", || format!("{} was lost though its process lived and nothing was sent", last.id))
    }

    fn quiet(&self) -> Check {
        if self.run.end == self.run.settled || self.object.gone {
            return Ok(());
        }
        let then = self.object.versions.iter().rev().find(|v| v.time <= self.run.settled);
        let confirmed = |s: &JobStatus| {
            s.last_start.as_ref().is_none_or(|l| l.outcome == "Confirmed")
                && s.next_attempt_time.is_none()
                && s.conditions.iter().any(|c| c.type_ == "Ready" && c.status == ConditionStatus::True)
        };
        let Some(then) = then.filter(|v| confirmed(&v.status)) else { return Ok(()) };
        let late = self.object.versions.iter().filter(|v| v.time > self.run.settled).count();
        demand(late == 0, "I10", || format!("{late} writes of a settled object"))?;
        let job = Some(then.spec.di_job_id);
        let called = starts(self.run).any(|e| e.job == job && e.last_byte > self.run.settled);
        demand(!called, "I10", || "a start of a settled job".to_owned())
    }
}
