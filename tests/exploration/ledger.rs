//! What the oracle remembers, and the judging of each step. Shares no rule with the code under test: what a start means
//! is read from the record that was committed, what ran from the cloud, what was asked from the edits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dijob_operator::api::{DataIntegrationJobSpec, JobStatus, PendingStart, StartInputs};
use dijob_operator::plan::observed::{Answer, Reading, Seen};

use super::cloud::{Ms, Verdict, index};
use super::world::Version;

/// `startTime`, failover interval, `forceToRerun`.
pub type Inputs = (Option<i64>, Option<i64>, bool);

/// What a spec asks to be sent, empty and absent being one.
pub fn asked(spec: &DataIntegrationJobSpec) -> Inputs {
    of(&StartInputs {
        realtime_start_settings: spec.realtime_start_settings.clone(),
        force_to_rerun: spec.force_to_rerun,
    })
}

fn of(inputs: &StartInputs) -> Inputs {
    let settings = inputs.realtime_start_settings.as_ref();
    let failover = settings.and_then(|s| s.failover_settings.as_ref());
    (settings.and_then(|s| s.start_time), failover.and_then(|f| f.interval), inputs.force_to_rerun)
}

/// One sending of a start.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// As committed.
    pub record: Arc<PendingStart>,
    /// When.
    pub at: Ms,
    /// It left its process.
    pub sent: bool,
    /// What the cloud said.
    pub verdict: Option<Verdict>,
    /// A look late enough showed no sign.
    pub looked: bool,
    /// Its process heard what the cloud said.
    pub heard: bool,
}

/// One start over its attempts.
#[derive(Clone, Debug)]
pub struct Start {
    /// Its attempts, oldest first.
    pub attempts: Vec<Attempt>,
    /// How often it ran.
    pub ran: u8,
    /// It must not run twice.
    pub forced: bool,
    /// The job has changed so often.
    pub epoch: u8,
    /// Generation since which the inputs are as they are.
    pub asked_at: i64,
    /// When the cloud took a copy of it, and as which request.
    pub taken: Vec<(Ms, Option<String>)>,
    /// Its process died, with or after its commit.
    pub died: bool,
    /// Something was taken away since.
    pub removed: bool,
}

impl Start {
    /// As first committed.
    pub fn record(&self) -> &PendingStart {
        &self.attempts[0].record
    }
}

/// The ledger of the cloud and the history of the object, as far as anything still depends on them.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// By id, in order of commit.
    pub starts: Vec<Start>,
    /// Which job the object means, counted up.
    pub epoch: u8,
    /// Generation at which the inputs became what they are.
    pub asked_at: i64,
    /// Last execution of each job, by whomever.
    pub ran_at: [Option<Ms>; 3],
    /// Last read of each job that showed it.
    pub read_at: [Option<Ms>; 3],
    /// The last word read of each job.
    pub word: [Option<String>; 3],
    /// Words that the cloud told.
    pub words: BTreeSet<String>,
    /// The inputs that the cloud surely took, while nothing has been taken away since.
    pub taken: Option<Inputs>,
    /// Forced starts by token and epoch.
    pub by_token: BTreeMap<(u8, String), String>,
    /// Most executions of one ordinary start.
    pub most: u8,
}

/// An error, unless it holds.
pub fn demand(holds: bool, broken: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(broken()) }
}

impl Ledger {
    /// Nothing has happened.
    pub fn new(object: &Version) -> Self {
        Self {
            starts: Vec::new(),
            epoch: 0,
            asked_at: object.generation,
            ran_at: [None; 3],
            read_at: [None; 3],
            word: [const { None }; 3],
            words: BTreeSet::new(),
            taken: None,
            by_token: BTreeMap::new(),
            most: 0,
        }
    }

    /// The start of that id, to be changed.
    pub fn start(&mut self, id: &str) -> Option<&mut Start> {
        self.starts.iter_mut().find(|s| s.record().id == id)
    }

    /// The start of that id.
    pub fn known(&self, id: &str) -> Option<&Start> {
        self.starts.iter().find(|s| s.record().id == id)
    }

    /// A process died.
    pub fn died(&mut self, holder: &str) {
        for start in &mut self.starts {
            start.died |= start.attempts.iter().any(|a| a.record.holder == holder);
        }
    }

    /// Somebody edited the object.
    pub fn edited(&mut self, before: &Version, after: &Version, rolled_back: bool) {
        // What a process knows of an intent that was withdrawn does not survive its return.
        for start in self.starts.iter_mut().filter(|_| rolled_back) {
            start.died = true;
            start.attempts.iter_mut().for_each(|a| a.heard = false);
        }
        let (old, new) = (asked(&before.spec), asked(&after.spec));
        if old != new || before.uid != after.uid {
            self.asked_at = after.generation;
        }
        // With its status the object loses all that it knew, as if it were made again.
        let forgot = after.status.uid.is_none() && before.status.uid.is_some();
        let other = before.spec.di_job_id != after.spec.di_job_id || before.uid != after.uid || forgot;
        self.epoch += u8::from(other);
        let removed =
            other || (old.0.is_some() && new.0.is_none()) || (old.1.is_some() && new.1.is_none()) || (old.2 && !new.2);
        if removed || before.status != after.status {
            self.taken = None;
            self.starts.iter_mut().for_each(|s| s.removed = true);
        }
    }

    /// The cloud was read.
    pub fn read(&mut self, reading: &Reading, now: Ms) {
        let Seen::Job(view) = &reading.seen else { return };
        let job = index(&reading.job.region, reading.job.di_job_id);
        self.read_at[job] = Some(now);
        self.word[job] = Some(view.word.clone());
        self.words.insert(view.word.clone());
        for start in &mut self.starts {
            let Some(last) = start.attempts.last_mut() else { continue };
            let record = &last.record;
            if index(&record.region, record.di_job_id) != job {
                continue;
            }
            let sign = record.baseline_job_status.is_some()
                && view.started.is_some()
                && view.started > record.baseline_started_time;
            last.looked |= !sign && now - last.at >= 30_000;
        }
    }

    /// I1 and I4 for one commit, from the object just before.
    pub fn committed(&mut self, before: &Version, record: &Arc<PendingStart>, now: Ms) -> Result<(), String> {
        self.latest_only(before, record)?;
        let attempt =
            Attempt { record: record.clone(), at: now, sent: false, verdict: None, looked: false, heard: false };
        if record.attempt > 1 {
            self.lawful(record, now)?;
            let start = self.start(&record.id).ok_or("I1: a further attempt of nothing")?;
            start.attempts.push(attempt);
            return Ok(());
        }
        demand(self.known(&record.id).is_none(), || format!("I1: id {} is used twice", record.id))?;
        self.one_at_a_time(before, record, now)?;
        self.adopts(before, record)?;
        let forced =
            record.force_to_rerun || record.realtime_start_settings.as_ref().is_some_and(|s| s.start_time.is_some());
        let (epoch, asked_at) = (self.epoch, self.asked_at);
        let attempts = vec![attempt];
        self.starts.push(Start {
            attempts,
            ran: 0,
            forced,
            epoch,
            asked_at,
            taken: Vec::new(),
            died: false,
            removed: false,
        });
        Ok(())
    }

    fn lawful(&mut self, record: &PendingStart, now: Ms) -> Result<(), String> {
        let id = format!("{}#{}", record.id, record.attempt);
        let Some(start) = self.known(&record.id) else { return Err(format!("I1: {id} comes from nowhere")) };
        demand(!start.forced, || format!("I1: forced {id} is sent again"))?;
        let Some(earlier) = start.attempts.iter().rev().find(|a| a.sent) else { return Ok(()) };
        if matches!(earlier.verdict, Some(Verdict::Refused(_))) {
            return Ok(());
        }
        demand(now - earlier.at >= 30_000, || format!("I1: {id} comes too soon"))?;
        demand(earlier.looked, || format!("I1: {id} without a look that shows no sign"))?;
        let age = now / 1_000 - earlier.record.signed_time.0.as_second();
        let answered = earlier.verdict.is_some();
        let same = record.nonce == earlier.record.nonce;
        demand(age >= 600 || answered || same, || format!("I1: {id} has a new nonce"))?;
        demand(age <= 600 || !same, || format!("I1: {id} has an old nonce"))?;
        let resent = (&record.inputs, &record.rerun_tokens, record.di_job_id);
        let first = (&earlier.record.inputs, &earlier.record.rerun_tokens, earlier.record.di_job_id);
        demand(resent == first, || format!("I1: {id} is not what was sent before"))
    }

    /// I1: the next start of a job waits until the last is confirmed or its time is over.
    fn one_at_a_time(&self, before: &Version, record: &PendingStart, now: Ms) -> Result<(), String> {
        let Some(last) = before.status.last_start.as_ref().filter(|l| l.outcome == "Accepted") else { return Ok(()) };
        let taken = self.known(&last.id).and_then(|s| s.taken.iter().find(|(_, id)| *id == last.request_id));
        let Some((at, _)) = taken.cloned() else { return Ok(()) };
        let same = self
            .known(&last.id)
            .is_some_and(|s| (&s.record().region, s.record().di_job_id) == (&record.region, record.di_job_id));
        demand(!same || now - at >= 120_000, || format!("I1: {} does not wait for {}", record.id, last.id))
    }

    /// What is at work when it is first seen is not started.
    fn adopts(&self, before: &Version, record: &PendingStart) -> Result<(), String> {
        let applied = before.status.applied.as_ref();
        let known = applied.is_some_and(|a| a.region == record.region && a.di_job_id == record.di_job_id);
        let word = self.word[index(&record.region, record.di_job_id)].as_deref();
        let at_work = record.baseline_job_status.is_some() && matches!(word, Some("Running" | "Finished"));
        demand(known || !at_work, || format!("I4: {} starts what is at work at first sight", record.id))
    }

    fn latest_only(&self, before: &Version, record: &PendingStart) -> Result<(), String> {
        let id = format!("{}#{}", record.id, record.attempt);
        let Version { spec, annotations, .. } = before;
        demand(!before.deleting && !spec.suspend, || format!("I4: {id} while deleted or suspended"))?;
        demand(of(&record.inputs) == asked(spec), || format!("I4: {id} is not what spec says"))?;
        demand(record.di_job_id == spec.di_job_id, || format!("I4: {id} is for another job"))?;
        let on_object = [annotations.rerun.as_deref(), Some(spec.rerun_token.as_str())];
        let there = record.rerun_tokens.iter().all(|t| on_object.contains(&Some(t)));
        demand(there, || format!("I4: {id} answers a withdrawn token"))?;
        let both = annotations.rerun.is_some() && annotations.rerun == annotations.force;
        demand(!record.force_to_rerun || spec.force_to_rerun || both || record.attempt > 1, || {
            format!("I4: {id} is forced")
        })?;
        let sends = record.realtime_start_settings.as_ref().and_then(|s| s.start_time);
        demand(sends.is_none() || sends == asked(spec).0, || format!("I4: {id} sends another startTime"))?;
        let Some(old) = self.taken.filter(|_| record.trigger == "SpecChange" && record.attempt == 1) else {
            return Ok(());
        };
        let new = of(&record.inputs);
        demand(sends.is_none() || sends != old.0, || format!("I4: {id} sends startTime a second time"))?;
        let grew = (new.0.is_some() && new.0 != old.0) || (new.1.is_some() && new.1 != old.1) || (new.2 && !old.2);
        demand(grew, || format!("I4: {id} though nothing was added"))
    }

    /// I3 for a request that leaves.
    pub fn sent(&mut self, record: &Arc<PendingStart>) -> Result<(), String> {
        let id = format!("{}#{}", record.id, record.attempt);
        let start = self.start(&record.id).ok_or_else(|| format!("I3: {id} without a commit"))?;
        let attempt = start.attempts.iter_mut().rev().find(|a| a.record == *record && !a.sent);
        let attempt = attempt.ok_or_else(|| format!("I3: {id} leaves without a commit, or twice"))?;
        attempt.sent = true;
        Ok(())
    }

    /// I3 for a request that arrives.
    pub fn arrived(
        &mut self,
        record: &Arc<PendingStart>,
        verdict: Verdict,
        answer: &Answer,
        now: Ms,
    ) -> Result<(), String> {
        let id = record.id.clone();
        let start = self.start(&id).ok_or_else(|| format!("I3: {id} arrived without a commit"))?;
        let attempt = start.attempts.iter_mut().find(|a| a.record == *record && a.sent && a.verdict.is_none());
        attempt.ok_or_else(|| format!("I3: {id} arrived twice"))?.verdict = Some(verdict);
        if let Answer::Accepted { request_id } = answer {
            start.taken.push((now, request_id.clone()));
        }
        Ok(())
    }

    /// I1 and I5 when a start takes effect.
    pub fn executed(&mut self, job: usize, id: Option<&str>, now: Ms, status: &JobStatus) -> Result<(), String> {
        self.ran_at[job] = Some(now);
        let Some(id) = id else { return Ok(()) };
        let last = status.last_start.as_ref().filter(|l| l.id == id);
        demand(last.is_none_or(|l| l.outcome != "Rejected"), || format!("I5: {id} is called rejected and ran"))?;
        let start = self.start(id).ok_or("I3: what ran was never committed")?;
        start.ran += 1;
        let this = start.clone();
        if !this.forced {
            self.most = self.most.max(this.ran);
        }
        for other in self.starts.iter().filter(|o| o.ran > 0 && o.epoch == this.epoch) {
            let (first, second) = (other.record(), this.record());
            if first.id == second.id {
                demand(!this.forced || this.ran == 1, || format!("I1: forced {id} ran {} times", this.ran))?;
            } else if this.forced && second.trigger != "Rerun" && first.signed_time.0 <= second.signed_time.0 {
                let earlier = first.generation >= this.asked_at;
                demand(!earlier, || format!("I1: {} ran for this edit already, then forced {id}", first.id))?;
            }
        }
        for token in this.record().rerun_tokens.iter().filter(|_| this.forced) {
            let first = self.by_token.entry((this.epoch, token.clone())).or_insert_with(|| id.to_owned());
            demand(first == id, || format!("I1: token {token} forced {first} and {id}"))?;
        }
        Ok(())
    }

    /// I5 for one version that a process wrote.
    pub fn written(&mut self, before: &Version, after: &Version, by: &str, now: Ms) -> Result<(), String> {
        let (old, new) = (&before.status, &after.status);
        let generation = new.observed_generation <= after.generation;
        demand(generation, || "I5: observedGeneration".to_owned())?;
        demand(new.job_status.as_ref().is_none_or(|w| self.words.contains(w)), || "I5: jobStatus".to_owned())?;
        if let Some(pending) = &old.pending_start {
            self.not_forgotten(pending, new)?;
            self.tells(pending, new, by)?;
        }
        let fresh: Vec<_> = new.handled_rerun_tokens.iter().filter(|t| !old.handled_rerun_tokens.contains(t)).collect();
        let answers = |t: &&String| {
            let pending = old.pending_start.as_ref().is_some_and(|p| p.rerun_tokens.contains(t));
            pending || new.last_start.is_none() || self.starts.iter().any(|s| s.record().rerun_tokens.contains(t))
        };
        demand(fresh.iter().all(answers), || format!("I2: {fresh:?} are called handled, and nothing was done"))?;
        let of =
            |s: &JobStatus| s.last_start.as_ref().map(|l| (l.id.clone(), l.outcome.clone(), l.confirmation.clone()));
        if new.last_start.is_some() && of(old) != of(new) {
            self.truthful(old, new, now)?;
        }
        Ok(())
    }

    fn truthful(&mut self, old: &JobStatus, new: &JobStatus, now: Ms) -> Result<(), String> {
        let Some(last) = &new.last_start else { return Ok(()) };
        let start = self.known(&last.id).ok_or_else(|| format!("I5: {} was never committed", last.id))?;
        let job = index(&start.record().region, start.record().di_job_id);
        let changed = old.last_start.as_ref().is_none_or(|l| (&l.id, &l.outcome) != (&last.id, &last.outcome));
        match last.outcome.as_str() {
            "Accepted" if changed => {
                let taken = start.taken.iter().any(|(_, id)| *id == last.request_id);
                demand(taken, || format!("I5: {} is called accepted", last.id))?;
            }
            "Rejected" if changed => {
                let said = start
                    .attempts
                    .iter()
                    .any(|a| matches!(a.verdict, Some(Verdict::Refused(code)) if Some(code) == last.error.as_deref()));
                demand(said && last.request_id.is_some(), || format!("I5: {} is called rejected", last.id))?;
                demand(start.ran == 0, || format!("I5: {} is called rejected and ran", last.id))?;
            }
            "Confirmed" if changed => {
                let since = start.attempts[0].at - 61_000;
                let ran = self.ran_at[job].is_some_and(|at| at >= since);
                demand(ran, || format!("I5: {} is called confirmed", last.id))?;
            }
            "Accepted" | "Rejected" | "Confirmed" | "Unknown" => {}
            other => return Err(format!("I5: outcome {other}")),
        }
        if last.confirmation.as_deref() == Some("TimedOut") {
            let called = start.attempts.last().map_or(now, |a| a.at);
            let late = self.read_at[job].is_some_and(|at| at - called >= 120_000);
            demand(late, || format!("I5: {} is called not running too soon", last.id))?;
        }
        if matches!(last.outcome.as_str(), "Accepted" | "Confirmed") && changed {
            let inputs = of(&start.record().inputs);
            let current =
                new.applied.as_ref().is_some_and(|a| of(&a.inputs()) == inputs && !a.uncertain) && !start.removed;
            self.taken = Some(inputs).filter(|_| current);
        }
        Ok(())
    }
}
