//! The passes of accounts: each account is told in its own status how it stands.
//!
//! **Guarantees**
//! 1. An account is passed by one task at a time, by the leader alone, and a few accounts at once.
//! 2. Status is written whole, under the version that was decided on. After a conflict it is read again.
//! 3. No pass of an account calls the cloud.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::{Api, ResourceExt as _};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::Instrument as _;

use super::error::{Error, short, whole};
use super::objects::News;
use super::observe::{Access, key_of, usable};
use super::queue::{ObjectKey, Queue};
use super::record::{apply, is_ours, put};
use super::{Context, Controller, invalid};
use crate::api::{AccountStatus, DataWorksAccount};
use crate::dataworks::error::{Error as CloudError, Operation};
use crate::lease::Role;
use crate::plan::account::{Answers, Facts, next_status};
use crate::plan::backoff::delay;
use crate::plan::observed::{Key, credentials_version};
use crate::telemetry::{Ended, StatusWrite};

/// Passes of accounts at once.
const AT_ONCE: usize = 4;
/// The number of jobs is told this long after it changed, and no more often.
const JOBS: Duration = Duration::from_secs(60);
/// After a conflict.
const CONFLICT: Duration = Duration::from_millis(100);
/// With an old CRD nothing can be done until an admin applies the new one.
const OLD_CRD: Duration = Duration::from_secs(30);

/// What this process remembers of an account besides its status.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Versions of account and Secret that the answers are about.
    version: String,
    /// Versions at its last pass.
    passed: Option<String>,
    answers: Answers,
    missing_since: Option<Timestamp>,
    /// When its status was last written, on the monotonic clock.
    written: Option<Duration>,
    failures: i32,
}

impl Known {
    /// These are the versions of account and Secret now. Says whether others were before: then what was answered is over.
    fn meets(&mut self, version: &str) -> bool {
        let is_new = self.version != version;
        if is_new {
            version.clone_into(&mut self.version);
            self.answers = Answers::default();
        }
        is_new
    }
}

/// The memory of accounts, and those that are to be passed.
#[derive(Debug, Default)]
pub struct Accounts {
    inner: Mutex<Inner>,
    /// An account is to be passed.
    pub changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    known: BTreeMap<ObjectKey, Known>,
    woken: BTreeSet<ObjectKey>,
}

impl Accounts {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pass of a job saw these versions of account and Secret. Others than before are news to the account.
    pub fn saw(&self, key: &ObjectKey, version: &str) {
        if self.update(key, |known| known.meets(version)) {
            self.lock().woken.insert(key.clone());
            self.changed.notify_one();
        }
    }

    /// The cloud answered a call made with these versions. An answer to a key that was replaced since says nothing.
    pub fn learned(
        &self,
        key: &ObjectKey,
        version: &str,
        operation: Operation,
        error: Option<&CloudError>,
        now: Timestamp,
    ) {
        let mut inner = self.lock();
        let Some(known) = inner.known.get_mut(key).filter(|known| known.version == version) else { return };
        if known.answers.learn(operation, error, now) {
            inner.woken.insert(key.clone());
            drop(inner);
            self.changed.notify_one();
        }
    }

    fn update<T>(&self, key: &ObjectKey, change: impl FnOnce(&mut Known) -> T) -> T {
        change(self.lock().known.entry(key.clone()).or_default())
    }

    fn take_woken(&self) -> BTreeSet<ObjectKey> {
        std::mem::take(&mut self.lock().woken)
    }

    fn forget(&self, key: &ObjectKey) {
        let mut inner = self.lock();
        inner.known.remove(key);
        inner.woken.remove(key);
    }
}

/// The passes that are due and those under way.
#[derive(Debug, Default)]
pub struct Passes {
    queue: Queue,
    running: JoinSet<Passed>,
}

/// What a pass of an account leads to.
#[derive(Debug)]
pub struct Passed {
    key: ObjectKey,
    /// When it is passed again, on the monotonic clock.
    next: Option<Duration>,
    /// It can be used now, or with another key: its jobs need not wait for what is over.
    wakes_jobs: bool,
}

impl Passes {
    /// When the next one is due, if another may begin.
    pub fn next_at(&self) -> Option<Duration> {
        if self.running.len() < AT_ONCE { self.queue.next_at() } else { None }
    }

    /// The next one that ends. Cancel-safe.
    pub async fn ended(&mut self) -> Passed {
        match self.running.join_next().await {
            Some(Ok(passed)) => passed,
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Some(Err(_)) | None => std::future::pending().await,
        }
    }
}

impl Controller {
    pub(super) fn start_account_passes(&mut self, role: &Role) {
        while self.may_pass(role) && self.accounts.running.len() < AT_ONCE {
            let Some(key) = self.accounts.queue.pop(self.ctx.clock.elapsed()) else { return };
            let span = tracing::info_span!("account", namespace = key.namespace, name = key.name);
            self.accounts.running.spawn(one(self.ctx.clone(), key).instrument(span));
        }
    }

    pub(super) fn account_ended(&mut self, passed: &Passed) {
        let Passed { key, next, wakes_jobs } = passed;
        self.accounts.queue.done(key, *next, self.ctx.clock.elapsed());
        if *wakes_jobs {
            self.wake(key);
        }
    }

    /// Accounts of which passes of jobs, or budgets, have news.
    pub(super) fn wake_accounts(&mut self) {
        let now = self.ctx.clock.elapsed();
        for key in self.ctx.accounts.take_woken().union(&self.ctx.turns.accounts_to_tell()) {
            self.accounts.queue.changed(key, now);
        }
    }

    /// A process that begins to lead passes every account once.
    pub(super) fn pass_all_accounts(&mut self) {
        let now = self.ctx.clock.elapsed();
        for key in self.ctx.objects.account_keys() {
            self.accounts.queue.changed(&key, now);
        }
    }

    /// What is written to its status means nothing to its jobs.
    pub(super) fn account_seen(&mut self, account: DataWorksAccount) {
        let key = super::objects::key_of(&account);
        let before = self.ctx.objects.account_uid(&key);
        let uid = account.uid();
        let news = self.ctx.objects.put_account(account);
        if let Some(before) = before.filter(|before| Some(before) != uid.as_ref() && news == News::Spec) {
            self.ctx.forget_account(&key, &before); // it was made again under its name
        }
        match news {
            News::None => return,
            News::Status => {}
            News::Spec => self.wake(&key),
        }
        self.accounts.queue.changed(&key, self.ctx.clock.elapsed());
    }

    pub(super) fn account_unreadable(&mut self, key: &ObjectKey, problem: String) {
        if let Some(uid) = self.ctx.objects.account_uid(key) {
            self.ctx.forget_account(key, &uid);
        }
        self.ctx.objects.put_invalid_account(key, problem);
        self.wake(key);
        self.accounts.queue.changed(key, self.ctx.clock.elapsed());
    }

    pub(super) fn account_gone(&mut self, key: &ObjectKey) {
        if let Some(uid) = self.ctx.objects.remove_account(key) {
            self.ctx.forget_account(key, &uid);
        }
        self.ctx.accounts.forget(key);
        self.accounts.queue.remove(key);
        self.wake(key);
    }

    /// A job names this account now: if that is news, it and the one before are told in a while.
    pub(super) fn name_account(&mut self, job: &ObjectKey, account: &str) {
        let before = self.ctx.objects.job(job).map(|job| job.spec.account_ref.name.clone());
        if before.as_deref() != Some(account) {
            self.jobs_changed(&job.namespace, Some(account));
            self.jobs_changed(&job.namespace, before.as_deref());
        }
    }

    pub(super) fn jobs_changed(&mut self, namespace: &str, account: Option<&str>) {
        let Some(name) = account else { return };
        let key = ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() };
        if self.ctx.objects.account(namespace, name).is_some() {
            self.accounts.queue.later(&key, self.ctx.clock.elapsed() + JOBS);
        }
    }
}

impl Context {
    fn forget_account(&self, key: &ObjectKey, uid: &str) {
        self.accounts.forget(key);
        self.turns.forget_account(uid);
    }
}

/// One pass in its task.
async fn one(ctx: Arc<Context>, key: ObjectKey) -> Passed {
    let result = pass(&ctx, &key).await;
    let now = ctx.clock.elapsed();
    let failures = |change: fn(i32) -> i32| {
        ctx.accounts.update(&key, |known| {
            known.failures = change(known.failures);
            known.failures
        })
    };
    let (next, wakes_jobs) = match result {
        Ok((next, wakes_jobs)) => {
            failures(|_| 0);
            (next, wakes_jobs)
        }
        Err(error) if error.is_conflict() => (Some(now + CONFLICT), false),
        Err(error) if error.is_not_found() => (None, false),
        Err(error @ Error::OldCrd(_)) => {
            tracing::error!(%error, "not ready");
            (Some(now + OLD_CRD), false)
        }
        Err(error) => {
            let wait = delay(failures(|n| n.saturating_add(1)), ctx.clock.jitter());
            tracing::warn!(%error, retry_in = ?wait, "a pass of an account failed");
            (Some(now + wait), false)
        }
    };
    if ctx.objects.account(&key.namespace, &key.name).is_none() {
        ctx.accounts.forget(&key); // it went while it was passed
    }
    Passed { key, next, wakes_jobs }
}

/// Reads what there is to know, and tells it. Gives when to pass again, and whether its jobs are to be passed.
async fn pass(ctx: &Context, key: &ObjectKey) -> Result<(Option<Duration>, bool), Error> {
    let account = match ctx.objects.account(&key.namespace, &key.name) {
        None => return Ok((None, false)),
        Some(Err(problem)) => {
            invalid::tell::<DataWorksAccount>(ctx, key, &problem).await?;
            return Ok((Some(ctx.clock.elapsed() + invalid::AGAIN), false));
        }
        Some(Ok(account)) => account,
    };
    ctx.crd.check_account(ctx, key).await?;
    let (facts, access) = facts(ctx, key, &account).await?;
    let before = account.status.clone().unwrap_or_default();
    let now = ctx.clock.now();
    let next = next_status(&before, &facts, now);
    if next.status != ours(&before) {
        write(ctx, key, &account, &next.status).await?;
        ctx.accounts.update(key, |known| known.written = Some(ctx.clock.elapsed()));
        if let Some(notice) = next.notice {
            ctx.events.send(&*account, notice);
        }
    }
    if access.is_none() {
        ctx.turns.forget_account(&account.uid().unwrap_or_default());
    }
    let version = credentials_version(&facts.account, &facts.key);
    let passed = ctx.accounts.update(key, |known| known.passed.replace(version.clone()));
    let wakes_jobs = passed.is_some_and(|passed| passed != version);
    let wait = |at: Timestamp| ctx.clock.elapsed() + Duration::try_from(at.duration_since(now)).unwrap_or_default();
    Ok((next.again.map(wait), wakes_jobs))
}

async fn facts(
    ctx: &Context,
    key: &ObjectKey,
    account: &Arc<DataWorksAccount>,
) -> Result<(Facts, Option<Access>), Error> {
    let (view, service) = usable(ctx, Some(&Ok(account.clone())));
    let (key_view, access) = match service {
        Some(service) => key_of(ctx, key, account, service).await?,
        None => (Key::Missing(String::new()), None),
    };
    let now = ctx.clock.now();
    let version = credentials_version(&view, &key_view);
    let missing = matches!(key_view, Key::Missing(_));
    let known = ctx.accounts.update(key, |known| {
        known.meets(&version);
        known.missing_since = if missing { known.missing_since.or(Some(now)) } else { None };
        known.clone()
    });
    let elapsed = ctx.clock.elapsed();
    let facts = Facts {
        generation: account.metadata.generation.unwrap_or_default(),
        account: view,
        key: key_view,
        missing_since: known.missing_since,
        grace: ctx.settings.grace,
        answers: known.answers,
        usage: access.as_ref().and_then(|access| ctx.turns.usage(&access.budget)),
        jobs: ctx.objects.count_jobs_of(key),
        jobs_may_be_told: known.written.is_none_or(|at| elapsed.saturating_sub(at) >= JOBS),
    };
    Ok((facts, access))
}

/// Without the conditions of others.
fn ours(status: &AccountStatus) -> AccountStatus {
    let mut status = status.clone();
    status.conditions.retain(is_ours);
    status
}

async fn write(
    ctx: &Context,
    key: &ObjectKey,
    account: &Arc<DataWorksAccount>,
    next: &AccountStatus,
) -> Result<(), Error> {
    let api: Api<DataWorksAccount> = Api::namespaced(ctx.client.clone(), &key.namespace);
    // As with jobs: an apply takes away only what it alone put there.
    let written = if account.managed_fields().is_empty() {
        whole(apply(&api, account, next)).await
    } else {
        let mut next = next.clone();
        let stored = account.status.iter().flat_map(|status| &status.conditions);
        next.conditions.extend(stored.filter(|c| !is_ours(c)).cloned());
        whole(put(&api, account, &next)).await
    };
    let written = written.map_err(Error::kube("cannot write the status of an account"));
    let ended = match &written {
        Ok(_) => Ended::Ok,
        Err(error) if error.is_conflict() => Ended::Conflict,
        Err(_) => Ended::Error,
    };
    ctx.metrics.status_write(StatusWrite::Account, ended);
    match written {
        Ok(account) => ctx.objects.put_written_account(account),
        Err(error) => {
            read_again(&api, ctx, account).await;
            return Err(error);
        }
    }
    Ok(())
}

/// After a write that failed, the view here may be old. One that is gone is told by the watch.
async fn read_again(api: &Api<DataWorksAccount>, ctx: &Context, before: &Arc<DataWorksAccount>) {
    match whole(api.get_opt(&before.name_any())).await {
        Ok(Some(account)) => ctx.objects.believe_account(account, before),
        Ok(None) => {}
        Err(error) => tracing::debug!(error = short(&error), "cannot read the account again"),
    }
}
