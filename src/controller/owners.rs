//! Whose quota a key draws on: the cloud counts by main account, and STS tells whose a key is.
//!
//! **May touch:** the clock; tasks of its own.
//!
//! **Guarantees**
//! 1. A key is asked about once, before its first call; if no answer comes in [`PATIENCE`], calls go on under the key's own id.
//! 2. Without an answer it is asked again after [`AGAIN`] at the earliest, and nobody waits for that.
//! 3. What is known in one namespace says nothing in another: whoever writes down the id of a key need not own it.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::Instrument as _;

use super::queue::ObjectKey;
use crate::clock::Clock;

/// So long the first call of a key waits for the word of STS.
const PATIENCE: Duration = Duration::from_secs(3);
/// What STS did not tell is asked again after that.
const AGAIN: Duration = Duration::from_secs(10 * 60);
/// The same if the key's source has changed since.
const AGAIN_IF_CHANGED: Duration = Duration::from_secs(30);
/// What nobody asked for so long is forgotten.
const UNUSED: Duration = Duration::from_secs(24 * 3600);

/// A question on its way: the id of the main account, if it is told.
pub type Asking = Pin<Box<dyn Future<Output = Option<String>> + Send>>;

/// A key whose owner is asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// Where it is used.
    pub namespace: String,
    /// Its id, or what stands for it if that changes.
    pub key_id: String,
}

/// What is known of an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The id of the main account.
    Account(String),
    /// STS does not tell.
    Unknown,
    /// It is being asked for the first time. The account's jobs are woken when that ends.
    Pending,
}

#[derive(Debug, Default)]
struct Entry {
    account: Option<String>,
    /// The version of its source when it was asked about last.
    version: String,
    /// When that was, and when it was wanted last; on the monotonic clock.
    asked: Duration,
    used: Duration,
    /// It is being asked for the first time, and these accounts wait.
    waiting: Option<BTreeSet<ObjectKey>>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<Subject, Entry>,
    /// Accounts whose jobs are to be woken.
    ended: Vec<ObjectKey>,
}

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    clock: Clock,
    changed: Notify,
}

/// The owners of all keys. Dropped, it ends what is under way.
#[derive(Debug)]
pub struct Owners {
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
}

impl Owners {
    /// None yet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let shared = Shared { inner: Mutex::default(), clock, changed: Notify::new() };
        Self { shared: Arc::new(shared), tasks: Mutex::default() }
    }

    /// The owner of a key that `account` uses. `version` changes with the source of the key.
    pub fn owner(&self, subject: &Subject, version: &str, account: &ObjectKey, ask: impl FnOnce() -> Asking) -> Owner {
        let now = self.shared.clock.elapsed();
        let mut inner = self.shared.lock();
        let is_new = !inner.entries.contains_key(subject);
        let entry = inner.entries.entry(subject.clone()).or_default();
        entry.used = now;
        if let Some(owner) = &entry.account {
            return Owner::Account(owner.clone());
        }
        let pause = if entry.version == version { AGAIN } else { AGAIN_IF_CHANGED };
        if is_new || now.saturating_sub(entry.asked) >= pause {
            (entry.version, entry.asked) = (version.to_owned(), now);
            entry.waiting = is_new.then(BTreeSet::new);
            let span = tracing::info_span!("owner", namespace = account.namespace, name = account.name);
            let asked = self.shared.clone().asked(subject.clone(), ask()).instrument(span);
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            while tasks.try_join_next().is_some() {}
            tasks.spawn(asked);
            inner.entries.retain(|_, entry| now.saturating_sub(entry.used) < UNUSED);
        }
        match inner.entries.get_mut(subject).and_then(|entry| entry.waiting.as_mut()) {
            Some(waiting) => {
                waiting.insert(account.clone());
                Owner::Pending
            }
            None => Owner::Unknown,
        }
    }

    /// The accounts that waited and need not any more, since the last time.
    pub fn ended(&self) -> Vec<ObjectKey> {
        std::mem::take(&mut self.shared.lock().ended)
    }

    /// Returns when there are some.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn asked(self: Arc<Self>, subject: Subject, asking: Asking) {
        tokio::pin!(asking);
        let in_time = tokio::time::timeout(PATIENCE, &mut asking).await;
        let told = if let Ok(told) = in_time {
            told
        } else {
            self.told(&subject, None);
            asking.await
        };
        self.told(&subject, told);
    }

    fn told(&self, subject: &Subject, account: Option<String>) {
        let mut inner = self.lock();
        let Some(entry) = inner.entries.get_mut(subject) else { return };
        if account.is_some() {
            entry.account = account;
        }
        let waiting = entry.waiting.take().unwrap_or_default();
        if !waiting.is_empty() {
            inner.ended.extend(waiting);
            drop(inner);
            self.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    impl Owners {
        /// What STS has told, for tests in which it is not asked.
        pub(in crate::controller) fn know(&self, namespace: &str, key_id: &str, account: Option<&str>) {
            let subject = Subject { namespace: namespace.to_owned(), key_id: key_id.to_owned() };
            let entry =
                Entry { account: account.map(str::to_owned), asked: SECOND * 1_000_000_000, ..Entry::default() };
            self.shared.lock().entries.insert(subject, entry);
        }
    }

    struct Sts {
        owners: Owners,
        asked: Arc<Mutex<usize>>,
        /// What it tells, and after how long.
        told: Option<&'static str>,
        after: Duration,
    }

    fn sts(told: Option<&'static str>, after: Duration) -> Sts {
        Sts { owners: Owners::new(Clock::seeded(Timestamp::UNIX_EPOCH, 1)), asked: Arc::default(), told, after }
    }

    fn account(name: &str) -> ObjectKey {
        ObjectKey { namespace: "team".to_owned(), name: name.to_owned() }
    }

    impl Sts {
        fn owner(&self, namespace: &str, version: &str, name: &str) -> Owner {
            let subject = Subject { namespace: namespace.to_owned(), key_id: "LTAI".to_owned() };
            let (asked, told, after) = (self.asked.clone(), self.told.map(str::to_owned), self.after);
            self.owners.owner(&subject, version, &account(name), || {
                Box::pin(async move {
                    *asked.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                    tokio::time::sleep(after).await;
                    told
                })
            })
        }

        fn asked(&self) -> usize {
            *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    fn known() -> Owner {
        Owner::Account("1".to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_asked_about_once_and_all_accounts_that_wait_are_woken() {
        let sts = sts(Some("1"), SECOND);
        for name in ["a", "b", "a"] {
            assert_eq!(sts.owner("team", "1", name), Owner::Pending);
        }
        sts.owners.changed().await;
        assert_eq!(sts.owners.ended(), [account("a"), account("b")]);
        for version in ["1", "2"] {
            assert_eq!((sts.owner("team", version, "a"), sts.asked()), (known(), 1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_one_namespace_knows_another_does_not() {
        let sts = sts(Some("1"), SECOND);
        sts.owner("team", "1", "a");
        sts.owners.changed().await;
        assert_eq!((sts.owner("team", "1", "a"), sts.owner("other", "1", "a")), (known(), Owner::Pending));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_the_patience_and_a_late_word_counts() {
        let sts = sts(Some("1"), SECOND * 10);
        assert_eq!(sts.owner("team", "1", "a"), Owner::Pending);
        let began = sts.owners.shared.clock.elapsed();
        sts.owners.changed().await;
        assert_eq!(sts.owners.shared.clock.elapsed().checked_sub(began), Some(PATIENCE));
        assert_eq!(sts.owner("team", "1", "a"), Owner::Unknown);
        tokio::time::sleep(SECOND * 8).await;
        assert_eq!((sts.owner("team", "1", "a"), sts.asked()), (known(), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_told_is_asked_again_ten_minutes_later_without_a_wait() {
        let mut sts = sts(None, SECOND);
        sts.owner("team", "1", "a");
        sts.owners.changed().await;
        for _ in 0..59 {
            assert_eq!((sts.owner("team", "1", "a"), sts.asked()), (Owner::Unknown, 1));
            tokio::time::sleep(SECOND * 10).await;
        }
        sts.told = Some("1");
        tokio::time::sleep(SECOND * 10).await;
        assert_eq!(sts.owner("team", "1", "a"), Owner::Unknown);
        tokio::time::sleep(SECOND * 2).await;
        assert_eq!((sts.owner("team", "1", "a"), sts.asked()), (known(), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_source_is_asked_about_sooner_but_not_in_turns() {
        let sts = sts(None, SECOND);
        sts.owner("team", "1", "a");
        sts.owners.changed().await;
        for n in 0..60 {
            sts.owner("team", if n % 2 == 0 { "2" } else { "1" }, "a");
            tokio::time::sleep(SECOND).await;
        }
        assert!((2..=3).contains(&sts.asked()), "{}", sts.asked());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_nobody_uses_is_forgotten() {
        let sts = sts(Some("1"), SECOND);
        sts.owner("team", "1", "a");
        tokio::time::sleep(UNUSED + SECOND).await;
        sts.owner("other", "1", "a");
        assert_eq!(sts.owners.shared.lock().entries.len(), 1);
    }
}
