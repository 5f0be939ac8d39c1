//! How the story is told: do something, wait and show what changes, compare with what was expected.
//!
//! **May touch:** the stage and the screen.
//!
//! **Guarantees**
//! 1. Whatever changes while it waits is shown, in the order in which the API server told it.
//! 2. A wait ends within [`PATIENCE`]; then it says what it waited for and what it saw.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dijob_operator::api::DataIntegrationJob;
use dijob_operator::api::condition::ConditionStatus;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::Value;
use simulator::Entry;

use crate::Failure;
use crate::cluster::{Change, Watch, apply, manifest, rows};
use crate::show::Show;
use crate::stage::Stage;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(45);
const TICK: Duration = Duration::from_millis(250);

/// What is expected of the calls for one job.
struct Account {
    job: String,
    id: i64,
    sent: usize,
    ran: usize,
    how: String,
}

/// What the watch has told so far.
#[derive(Default)]
pub struct Seen {
    jobs: BTreeMap<String, DataIntegrationJob>,
    /// Every `Ready` reason and message that a job had.
    said: Vec<(String, String, String)>,
    /// Reason, job and note of every Event.
    events: Vec<(String, String, String)>,
    event_ids: BTreeSet<String>,
}

impl Seen {
    /// The job as it is.
    pub fn job(&self, name: &str) -> Option<&DataIntegrationJob> {
        self.jobs.get(name)
    }

    /// Its spec was looked at and nothing is left to do.
    pub fn is_ready(&self, name: &str) -> bool {
        let Some(job) = self.job(name) else { return false };
        let Some(status) = &job.status else { return false };
        let ready = status.conditions.iter().find(|c| c.type_ == "Ready");
        let generation = job.metadata.generation.unwrap_or_default();
        status.observed_generation == generation && ready.is_some_and(|c| c.status == ConditionStatus::True)
    }

    /// The outcome of its last start.
    pub fn outcome(&self, name: &str) -> Option<&str> {
        Some(self.job(name)?.status.as_ref()?.last_start.as_ref()?.outcome.as_str())
    }

    /// The message of `Ready` when it had this reason.
    pub fn said(&self, name: &str, reason: &str) -> Option<&str> {
        self.said.iter().find(|(job, r, _)| job == name && r == reason).map(|(_, _, message)| message.as_str())
    }

    /// The notes of its Events with this reason.
    pub fn events(&self, name: &str, reason: &str) -> impl Iterator<Item = &str> {
        self.events.iter().filter(move |(r, job, _)| job == name && r == reason).map(|(_, _, note)| note.as_str())
    }

    fn last_words(&self, name: &str) -> String {
        let last = self.said.iter().rfind(|(job, _, _)| job == name);
        last.map_or("nothing yet".to_owned(), |(_, reason, message)| format!("{reason}: {message}"))
    }

    fn learn(&mut self, job: &DataIntegrationJob, name: &str) {
        let ready = job.status.iter().flat_map(|s| &s.conditions).find(|c| c.type_ == "Ready");
        if let Some(c) = ready {
            self.said.push((name.to_owned(), c.reason.clone(), c.message.clone()));
        }
        self.jobs.insert(name.to_owned(), job.clone());
    }
}

/// The story as it goes.
pub struct Play {
    /// The screen.
    pub show: Show,
    /// All that runs.
    pub stage: Stage,
    /// What was seen.
    pub seen: Seen,
    watch: Watch,
    accounts: Vec<Account>,
}

impl Play {
    /// Begins to watch.
    pub async fn begin(stage: Stage, show: Show) -> Result<Self, Failure> {
        let watch = Watch::open(&stage.client).await?;
        Ok(Self { show, stage, seen: Seen::default(), watch, accounts: Vec::new() })
    }

    /// Waits until it is so, and shows meanwhile what changes.
    pub async fn wait(&mut self, job: &str, what: &str, is_so: impl Fn(&Seen) -> bool) -> Result<(), Failure> {
        let mut ticks = tokio::time::interval(TICK);
        let started = ticks.tick().await;
        let mut elapsed = Duration::ZERO;
        while !is_so(&self.seen) {
            if elapsed > PATIENCE {
                let (limit, last) = (PATIENCE.as_secs(), self.seen.last_words(job));
                return Err(format!("expected within {limit} s: {job}: {what}; seen last: {last}").into());
            }
            tokio::select! {
                biased;
                change = self.watch.next() => self.tell(change?),
                tick = ticks.tick() => {
                    elapsed = tick.duration_since(started);
                    self.stage.is_running()?;
                    self.show.progress(&format!("waiting for {job}: {what}"), elapsed);
                }
            }
        }
        self.show.done();
        Ok(())
    }

    /// Waits until the operator holds its Lease; returns who does.
    pub async fn wait_for_leader(&mut self) -> Result<String, Failure> {
        let leases: Api<Lease> = Api::namespaced(self.stage.client.clone(), "dijob-system");
        let mut ticks = tokio::time::interval(TICK);
        let started = ticks.tick().await;
        loop {
            let lease = leases.get_opt("dijob-operator").await?;
            let holder = lease.and_then(|lease| lease.spec).and_then(|spec| spec.holder_identity);
            if let Some(holder) = holder.filter(|holder| !holder.is_empty()) {
                self.show.done();
                return Ok(holder);
            }
            let elapsed = ticks.tick().await.duration_since(started);
            self.stage.is_running()?;
            self.show.progress("waiting for the operator to lead", elapsed);
            if elapsed > PATIENCE {
                return Err(
                    format!("expected: the operator leads within {} s; seen: no Lease", PATIENCE.as_secs()).into()
                );
            }
        }
    }

    /// All jobs, as `kubectl get dij` shows them.
    pub async fn table(&mut self) -> Result<(), Failure> {
        let (columns, rows) = rows(&self.stage.client).await?;
        self.show.all_rows(&columns, &rows);
        Ok(())
    }

    /// Shows what changes, for ever.
    pub async fn follow(&mut self) -> Result<(), Failure> {
        loop {
            let change = self.watch.next().await?;
            self.tell(change);
        }
    }

    fn tell(&mut self, change: Change) {
        match change {
            Change::Job(job, cells) => {
                let name = job.metadata.name.clone().unwrap_or_default();
                self.seen.learn(&job, &name);
                self.show.row(&name, &self.watch.columns, &cells);
            }
            Change::Event(event) => {
                if !self.seen.event_ids.insert(event.metadata.name.clone().unwrap_or_default()) {
                    return; // told by the watch before this one
                }
                let about = event.regarding.and_then(|r| r.name).unwrap_or_default();
                let (reason, note) = (event.reason.unwrap_or_default(), event.note.unwrap_or_default());
                self.show.event(&event.type_.unwrap_or_default(), &reason, &about, &note);
                self.seen.events.push((reason, about, note));
            }
        }
    }

    /// Goes on if it holds; else what was expected and what was seen end the story.
    pub fn expect(&mut self, holds: bool, claim: &str, seen: &str) -> Result<(), Failure> {
        if !holds {
            return Err(format!("expected: {claim}; seen: {seen}").into());
        }
        self.show.as_expected(claim);
        Ok(())
    }

    /// Applies one document of a sample, changed.
    pub async fn apply(&self, path: &str, change: impl FnOnce(&mut Value)) -> Result<(), Failure> {
        let mut object = manifest(path)?.into_iter().next().ok_or(format!("{path} is empty"))?;
        change(&mut object);
        apply(&self.stage.client, &object).await
    }

    /// The requests to start a job, as the cloud saw them.
    pub fn starts(&self, id: i64) -> Vec<Entry> {
        self.stage.cloud.starts(id)
    }

    /// From now on, and at the end, the ledger must say this of a job.
    pub fn account(&mut self, job: &str, id: i64, (sent, ran): (usize, usize), how: &str) -> Result<(), Failure> {
        let (is_sent, has_run) = self.counts(id);
        let claim = format!("by the cloud's ledger, StartDIJob {}", told(sent, ran));
        self.expect((is_sent, has_run) == (sent, ran), &claim, &format!("sent {is_sent}, ran {has_run}"))?;
        let account = Account { job: job.to_owned(), id, sent, ran, how: how.to_owned() };
        match self.accounts.iter_mut().find(|account| account.id == id) {
            Some(before) => *before = account,
            None => self.accounts.push(account),
        }
        Ok(())
    }

    fn counts(&self, id: i64) -> (usize, usize) {
        (self.starts(id).len(), self.stage.cloud.executions(id).len())
    }

    /// The account of all jobs, and whether it is as expected still.
    pub fn settle_accounts(&mut self) -> Result<(), Failure> {
        let header = ["JOB", "SENT", "EXPECTED", "RAN", "EXPECTED", "BECAUSE"].map(str::to_owned).to_vec();
        let mut rows = vec![header];
        let mut wrong = Vec::new();
        for account in &self.accounts {
            let (sent, ran) = self.counts(account.id);
            if (sent, ran) != (account.sent, account.ran) {
                wrong.push(account.job.clone());
            }
            let numbers = [sent, account.sent, ran, account.ran].map(|n| n.to_string());
            rows.push([account.job.clone()].into_iter().chain(numbers).chain([account.how.clone()]).collect());
        }
        self.show.table(&rows);
        let all = self.stage.cloud.ledger();
        let (calls, signed) = (all.entries().len(), all.entries().iter().filter(|e| e.day_count.is_some()).count());
        let starts = all.of_action("StartDIJob").count();
        self.expect(wrong.is_empty(), "every start was sent and ran as often as it should", &wrong.join(", "))?;
        let claim = format!("all {calls} calls ({starts} starts, {} reads) bore a valid signature", calls - starts);
        self.expect(calls == signed, &claim, &format!("{signed} of {calls}"))
    }

    /// How to look around.
    pub fn invite(&mut self) {
        let lines = [
            String::new(),
            "Everything keeps running until Ctrl-C, and what changes is shown below. In another terminal:".to_owned(),
            format!("export KUBECONFIG={}", self.stage.kubeconfig.display()),
            "kubectl get dij".to_owned(),
            "kubectl annotate dij orders-to-hologres --overwrite dijob.dev/rerun=by-hand-1".to_owned(),
            format!("curl {}/_sim/ledger    # what the cloud saw", self.stage.cloud.url()),
            format!("tail -f {}", self.stage.log.display()),
            String::new(),
        ];
        for line in lines {
            self.show.line(&line);
        }
    }
}

fn told(sent: usize, ran: usize) -> String {
    let times = |n| match n {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        n => format!("{n} times"),
    };
    match (sent, ran) {
        (0, 0) => "was never sent".to_owned(),
        (sent, ran) => format!("was sent {} and ran {}", times(sent), times(ran)),
    }
}
