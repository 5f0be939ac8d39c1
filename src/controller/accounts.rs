//! Which accounts are to be passed, and what is remembered of each besides its status.
//!
//! **Guarantee:** an account is passed by one task at a time, by the leader alone, and a few accounts at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt as _;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::Instrument as _;

use super::account_pass::one;
use super::objects::News;
use super::queue::{ObjectKey, Queue};
use super::{Context, Controller};
use crate::api::DataWorksAccount;
use crate::dataworks::error::{Error as CloudError, Operation};
use crate::lease::Role;
use crate::plan::account::Answers;
use crate::telemetry::{self, AccountName};

/// Passes of accounts at once.
const AT_ONCE: usize = 4;
/// The number of jobs is told this long after it changed, and no more often.
pub(super) const JOBS: Duration = Duration::from_secs(60);

/// What this process remembers of an account besides its status.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// Versions of account and Secret that the answers are about.
    pub(super) version: String,
    /// Versions at its last pass.
    pub(super) passed: Option<String>,
    pub(super) answers: Answers,
    pub(super) missing_since: Option<Timestamp>,
    /// When its status was last written, on the monotonic clock.
    pub(super) written: Option<Duration>,
    pub(super) failures: i32,
}

impl Known {
    /// These are the versions of account and Secret now. Says whether others were before: then what was answered is over.
    pub(super) fn meets(&mut self, version: &str) -> bool {
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
        if self.update(key, |known| known.meets(version)) == Some(true) {
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

    /// Changes what is remembered of an account, unless it went.
    pub(super) fn update<T>(&self, key: &ObjectKey, change: impl FnOnce(&mut Known) -> T) -> Option<T> {
        self.lock().known.get_mut(key).map(change)
    }

    /// An account is there. Only the loop that sees accounts come and go says so: what passes say late of one that went
    /// would be kept for ever.
    fn begin(&self, key: &ObjectKey) {
        self.lock().known.entry(key.clone()).or_default();
    }

    fn take_woken(&self) -> BTreeSet<ObjectKey> {
        std::mem::take(&mut self.lock().woken)
    }
}

/// The passes that are due and those under way.
#[derive(Debug, Default)]
pub struct Passes {
    queue: Queue,
    running: JoinSet<Passed>,
    /// Accounts that were there when this process began to lead, and were not passed since. Their counts of the day may be
    /// higher than those of others that share their budgets.
    unread: BTreeSet<ObjectKey>,
}

/// What a pass of an account leads to.
#[derive(Debug)]
pub struct Passed {
    pub(super) key: ObjectKey,
    /// When it is passed again, on the monotonic clock.
    pub(super) next: Option<Duration>,
    /// It can be used now, or with another key: its jobs need not wait for what is over.
    pub(super) wakes_jobs: bool,
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
        self.account_was_read(key);
        if *wakes_jobs {
            self.wake(key);
        }
    }

    pub(super) fn pass_account(&mut self, key: &ObjectKey) {
        if self.ctx.objects.account(&key.namespace, &key.name).is_some() {
            self.accounts.queue.changed(key, self.ctx.clock.elapsed());
        }
    }

    /// Accounts of which passes of jobs, or budgets, have news.
    pub(super) fn wake_accounts(&mut self) {
        let now = self.ctx.clock.elapsed();
        for key in self.ctx.accounts.take_woken().union(&self.ctx.turns.accounts_to_tell()) {
            self.accounts.queue.changed(key, now);
        }
    }

    /// A process that begins to lead, and knows the accounts, passes each of them once.
    pub(super) fn pass_all_accounts(&mut self) {
        let now = self.ctx.clock.elapsed();
        for key in self.ctx.objects.account_keys() {
            self.accounts.queue.changed(&key, now);
            self.accounts.unread.insert(key);
        }
        self.count_when_all_are_read();
    }

    fn account_was_read(&mut self, key: &ObjectKey) {
        if self.accounts.unread.remove(key) {
            self.count_when_all_are_read();
        }
    }

    /// When all accounts were read once, or could not be, calls of budgets with a count of the day may begin.
    fn count_when_all_are_read(&self) {
        if self.accounts.unread.is_empty() {
            self.ctx.turns.begin_counting();
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
        self.ctx.accounts.begin(&key);
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
        self.ctx.accounts.begin(key);
        self.wake(key);
        self.accounts.queue.changed(key, self.ctx.clock.elapsed());
    }

    pub(super) fn account_gone(&mut self, key: &ObjectKey) {
        let uid = self.ctx.objects.remove_account(key).unwrap_or_default();
        self.ctx.forget_account(key, &uid);
        self.accounts.queue.remove(key);
        self.account_was_read(key);
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
    /// What is counted of the account goes under the same lock as in [`Self::count_call`].
    fn forget_account(&self, key: &ObjectKey, uid: &str) {
        self.turns.forget_account(uid);
        let mut inner = self.accounts.lock();
        inner.known.remove(key);
        inner.woken.remove(key);
        self.metrics.forget_account(AccountName { namespace: &key.namespace, name: &key.name });
    }

    /// Counts a call for its account, unless that went while it was made.
    pub(super) fn count_call(&self, key: &ObjectKey, operation: telemetry::Operation, answer: telemetry::Answer) {
        let of = AccountName { namespace: &key.namespace, name: &key.name };
        self.accounts.update(key, |_| self.metrics.account_call(of, operation, answer));
    }
}
