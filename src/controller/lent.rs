//! Temporary keys that the cloud lends, one for each account: asked for beside the passes, kept until shortly before they end.
//!
//! **May touch:** the clock; tasks of its own.
//!
//! **Guarantees**
//! 1. One question is under way for an account at a time. No pass waits for it; its end is told to those it matters to.
//! 2. A key whose source changed is gone at once, and so is one that the cloud says has expired.
//! 3. In the last minutes of a key the next one is asked for, while it serves to its end.
//! 4. What failed is asked again with backoff, by the next pass that needs it; nothing is asked for accounts at rest.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tracing::Instrument as _;

use super::queue::ObjectKey;
use crate::clock::Clock;
use crate::dataworks::{AccessKey, Error as CloudError};
use crate::plan::backoff::delay;

/// So long before its end a key is replaced; one with a short life, in its second half.
const EARLY: Duration = Duration::from_secs(5 * 60);
/// After an answer, at the least: a source that gives the same key again is not asked without a pause.
const PAUSE: Duration = Duration::from_secs(10);

/// A key that was lent.
#[derive(Clone, Debug)]
pub struct Loan {
    /// The key.
    pub key: AccessKey,
    /// When it was asked for and when it ends, on the monotonic clock.
    pub from: Duration,
    /// See [`Self::from`].
    pub until: Duration,
}

/// Why none was lent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The cloud refused it, or failed.
    Cloud(CloudError),
    /// Something else is missing; says what, and what to do.
    Missing(String),
}

/// A question on its way.
pub type Asking = Pin<Box<dyn Future<Output = Result<Loan, Failure>> + Send>>;

/// What is known of an account's key.
#[derive(Clone, Debug)]
pub enum LentView {
    /// It serves.
    Ready(AccessKey),
    /// There is none; why.
    Failed(Failure),
    /// It is being asked for: the account's jobs are woken when that ends.
    Pending,
}

#[derive(Debug, Default)]
struct Entry {
    source: String,
    loan: Option<Loan>,
    failure: Option<Failure>,
    failures: i32,
    /// Not asked before; on the monotonic clock.
    again: Duration,
    /// The question under way, and its number.
    task: Option<(u64, AbortHandle)>,
    /// A pass was told that there is no key.
    awaited: bool,
}

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<ObjectKey, Entry>,
    asked: u64,
    /// Accounts whose jobs are to be woken.
    ended: Vec<ObjectKey>,
}

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    clock: Clock,
    changed: Notify,
}

/// The keys of all accounts. Dropped, it ends what is under way.
#[derive(Debug)]
pub struct Lent {
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
}

impl Lent {
    /// None yet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let shared = Shared { inner: Mutex::default(), clock, changed: Notify::new() };
        Self { shared: Arc::new(shared), tasks: Mutex::default() }
    }

    /// The key of `account` as it follows from `source`, which names all that it depends on.
    pub fn key(&self, account: &ObjectKey, source: &str, ask: impl FnOnce() -> Asking) -> LentView {
        let now = self.shared.clock.elapsed();
        let mut guard = self.shared.lock();
        let Inner { entries, asked, .. } = &mut *guard;
        let entry = entries.entry(account.clone()).or_default();
        if entry.source != source {
            entry.end();
            *entry = Entry { source: source.to_owned(), ..Entry::default() };
        }
        entry.loan.take_if(|loan| loan.until <= now);
        if entry.task.is_none() && entry.is_due(now) {
            *asked += 1;
            let asking = self.shared.clone().asked(account.clone(), *asked, ask());
            let asking =
                asking.instrument(tracing::info_span!("key", namespace = account.namespace, name = account.name));
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            while tasks.try_join_next().is_some() {}
            entry.task = Some((*asked, tasks.spawn(asking)));
        }
        match (&entry.loan, &entry.failure) {
            (Some(loan), _) => LentView::Ready(loan.key.clone()),
            (None, failure) => {
                entry.awaited = true;
                failure.clone().map_or(LentView::Pending, LentView::Failed)
            }
        }
    }

    /// The cloud says that the key with this id serves no longer.
    pub fn expired(&self, account: &ObjectKey, key_id: &str) {
        if let Some(entry) = self.shared.lock().entries.get_mut(account) {
            entry.loan.take_if(|loan| loan.key.id == key_id);
        }
    }

    /// The account is gone, or has no such key any more.
    pub fn forget(&self, account: &ObjectKey) {
        if let Some(mut entry) = self.shared.lock().entries.remove(account) {
            entry.end();
        }
    }

    /// The accounts whose questions ended with news since the last time.
    pub fn ended(&self) -> Vec<ObjectKey> {
        std::mem::take(&mut self.shared.lock().ended)
    }

    /// Returns when there are some.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }
}

impl Entry {
    /// Whether to ask now. Without key and failure it always is: nobody else would wake those who wait.
    fn is_due(&self, now: Duration) -> bool {
        match (&self.loan, &self.failure) {
            (None, None) => true,
            (None, Some(_)) => now >= self.again,
            (Some(loan), _) => {
                let early = EARLY.min(loan.until.saturating_sub(loan.from) / 2);
                now >= self.again && now + early >= loan.until
            }
        }
    }

    fn end(&mut self) {
        if let Some((_, task)) = self.task.take() {
            task.abort();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn asked(self: Arc<Self>, account: ObjectKey, number: u64, asking: Asking) {
        let answer = asking.await;
        let now = self.clock.elapsed();
        let answer = answer.and_then(|loan| {
            let late =
                || Failure::Missing("the key that was lent has ended already: correct the node's clock".to_owned());
            if loan.until > now { Ok(loan) } else { Err(late()) }
        });
        let mut inner = self.lock();
        let Some(entry) = inner.entries.get_mut(&account) else { return };
        if entry.task.as_ref().is_none_or(|(current, _)| *current != number) {
            return; // its source changed meanwhile
        }
        entry.task = None;
        let is_news = match answer {
            Ok(loan) => {
                entry.loan = Some(loan);
                (entry.failure, entry.failures, entry.again) = (None, 0, now + PAUSE);
                true
            }
            Err(failure) => {
                entry.failures = entry.failures.saturating_add(1);
                entry.again = now + delay(entry.failures, self.clock.jitter()).max(failure.wait());
                // What was told already stays as it is: each answer has another RequestId.
                let is_news = entry.failure.as_ref().is_none_or(|before| !before.is_like(&failure));
                if is_news {
                    entry.failure = Some(failure);
                }
                is_news
            }
        };
        if is_news && std::mem::take(&mut entry.awaited) {
            inner.ended.push(account);
            drop(inner);
            self.changed.notify_one();
        }
    }
}

impl Failure {
    /// How long the cloud asks us to wait.
    fn wait(&self) -> Duration {
        match self {
            Self::Cloud(error) => error.wait.unwrap_or_default(),
            Self::Missing(_) => Duration::ZERO,
        }
    }

    /// The same to a person, but for the number of the request.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Cloud(one), Self::Cloud(two)) => {
                (one.operation, one.kind, &one.code, &one.message) == (two.operation, two.kind, &two.code, &two.message)
            }
            (Self::Missing(one), Self::Missing(two)) => one == two,
            (Self::Cloud(_), Self::Missing(_)) | (Self::Missing(_), Self::Cloud(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::dataworks::Operation;

    const SECOND: Duration = Duration::from_secs(1);

    /// What STS answers, after how long.
    struct Sts {
        lent: Lent,
        life: Duration,
        after: Duration,
        fails: bool,
        wait: Option<Duration>,
        asked: Arc<Mutex<usize>>,
    }

    impl Sts {
        fn new(life: Duration) -> Self {
            let lent = Lent::new(Clock::seeded(Timestamp::UNIX_EPOCH, 1));
            Self { lent, life, after: SECOND, fails: false, wait: None, asked: Arc::default() }
        }

        /// The id of the key, `pending`, or why there is none.
        fn key(&self, source: &str) -> String {
            let ask = || -> Asking {
                let (after, life, fails, wait, asked) =
                    (self.after, self.life, self.fails, self.wait, self.asked.clone());
                let clock = self.lent.shared.clock.clone();
                Box::pin(async move {
                    let from = clock.elapsed();
                    let number = {
                        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
                        *asked += 1;
                        *asked
                    };
                    tokio::time::sleep(after).await;
                    if fails {
                        let mut error = CloudError::unanswered(Operation::AssumeRole, false, "no");
                        (error.request_id, error.wait) = (Some(format!("R-{number}")), wait);
                        return Err(Failure::Cloud(error));
                    }
                    let key = AccessKey::new(&format!("STS.{number}"), "secret", Some("token"));
                    let key = key.map_err(|problem| Failure::Missing(problem.to_string()))?;
                    Ok(Loan { key, from, until: from + life })
                })
            };
            match self.lent.key(&account(), source, ask) {
                LentView::Ready(key) => key.id,
                LentView::Pending => "pending".to_owned(),
                LentView::Failed(Failure::Cloud(error)) => error.request_id.unwrap_or_default(),
                LentView::Failed(Failure::Missing(why)) => why,
            }
        }

        fn asked(&self) -> usize {
            *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    fn account() -> ObjectKey {
        ObjectKey { namespace: "team".to_owned(), name: "main".to_owned() }
    }

    /// Virtual time, with what falls due in it.
    async fn pass(time: Duration) {
        tokio::time::sleep(time).await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_question_serves_all_who_need_the_key_and_wakes_them() {
        let sts = Sts::new(SECOND * 3600);
        for _ in 0..5 {
            assert_eq!(sts.key("a"), "pending");
        }
        sts.lent.changed().await;
        assert_eq!((sts.lent.ended(), sts.asked()), (vec![account()], 1));
        assert_eq!(sts.key("a"), "STS.1");
        pass(SECOND * 3000).await;
        assert_eq!((sts.key("a").as_str(), sts.asked()), ("STS.1", 1));
        assert!(sts.lent.ended().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn in_its_last_minutes_a_key_serves_while_the_next_is_asked_for() {
        let sts = Sts::new(SECOND * 3600);
        sts.key("a");
        pass(SECOND * 3299).await;
        assert_eq!((sts.key("a").as_str(), sts.asked()), ("STS.1", 1));
        pass(SECOND).await;
        assert_eq!(sts.key("a"), "STS.1");
        pass(SECOND * 2).await;
        assert_eq!((sts.key("a").as_str(), sts.asked()), ("STS.2", 2));
        assert!(sts.lent.ended().len() < 2, "nobody waited for the second one");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_serves_to_its_end_though_the_next_is_not_to_be_had() {
        let mut sts = Sts::new(SECOND * 3600);
        sts.key("a");
        pass(SECOND * 3400).await;
        sts.fails = true;
        for _ in 0..19 {
            assert_eq!(sts.key("a"), "STS.1");
            pass(SECOND * 10).await;
        }
        assert!((2..=12).contains(&sts.asked()), "with backoff: {}", sts.asked());
        pass(SECOND * 10).await;
        assert_eq!(sts.key("a"), "R-2", "it has ended, and the first refusal says why there is no other");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_told_once_and_asked_again_with_backoff() {
        let mut sts = Sts::new(SECOND * 3600);
        sts.fails = true;
        assert_eq!(sts.key("a"), "pending");
        pass(SECOND * 2).await;
        assert_eq!(sts.lent.ended().len(), 1);
        for _ in 0..720 {
            assert_eq!(sts.key("a"), "R-1", "the same refusal is told in the same words");
            pass(SECOND * 5).await;
        }
        assert!((12..=60).contains(&sts.asked()), "an hour, at most 5 min apart: {}", sts.asked());
        assert!(sts.lent.ended().is_empty(), "it was no news");
        sts.fails = false;
        pass(SECOND * 300).await;
        sts.key("a");
        pass(SECOND * 2).await;
        assert_eq!(sts.lent.ended().len(), 1, "they are woken: there is a key");
        assert!(sts.key("a").starts_with("STS."));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_the_cloud_asks_for_is_kept() {
        let mut sts = Sts::new(SECOND * 3600);
        (sts.fails, sts.wait) = (true, Some(SECOND * 600));
        for _ in 0..118 {
            sts.key("a");
            pass(SECOND * 5).await;
        }
        assert_eq!(sts.asked(), 1);
        pass(SECOND * 15).await;
        sts.key("a");
        pass(SECOND).await;
        assert_eq!(sts.asked(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn another_source_drops_the_key_and_the_question_under_way() {
        let sts = Sts::new(SECOND * 3600);
        sts.key("a");
        pass(SECOND * 2).await;
        assert_eq!(sts.key("b"), "pending");
        pass(SECOND / 2).await;
        assert_eq!(sts.key("c"), "pending");
        pass(SECOND * 3 / 4).await;
        assert_eq!(sts.key("c"), "pending", "the answer for b is not for c");
        pass(SECOND).await;
        assert_eq!(sts.key("c"), "STS.3");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_the_cloud_says_has_expired_is_dropped_but_not_the_one_after_it() {
        let sts = Sts::new(SECOND * 3600);
        sts.key("a");
        pass(SECOND * 2).await;
        sts.lent.expired(&account(), "STS.1");
        assert_eq!(sts.key("a"), "pending");
        pass(SECOND * 2).await;
        sts.lent.expired(&account(), "STS.1");
        assert_eq!(sts.key("a"), "STS.2", "a late word of the one before");
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_hangs_holds_up_no_other_account() {
        let mut sts = Sts::new(SECOND * 3600);
        sts.after = SECOND * 1_000_000;
        sts.key("a");
        let other = ObjectKey { name: "other".to_owned(), ..account() };
        let asking = || -> Asking { Box::pin(async { Err(Failure::Missing("no".to_owned())) }) };
        assert!(matches!(sts.lent.key(&other, "a", asking), LentView::Pending));
        sts.lent.changed().await;
        assert_eq!(sts.lent.ended(), [other]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_has_ended_when_it_comes_is_none() {
        let mut sts = Sts::new(SECOND);
        sts.after = SECOND * 2;
        sts.key("a");
        pass(SECOND * 3).await;
        assert!(sts.key("a").contains("correct the node's clock"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_forgotten_account_keeps_nothing() {
        let sts = Sts::new(SECOND * 3600);
        sts.key("a");
        sts.lent.forget(&account());
        pass(SECOND * 2).await;
        assert!(sts.lent.ended().is_empty() && sts.lent.shared.lock().entries.is_empty());
    }
}
