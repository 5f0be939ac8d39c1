//! The watches of both kinds, as one stream of what was seen.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt as _};
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource as _};

use super::error::chain;
use super::objects::key_of;
use super::queue::ObjectKey;
use crate::api::{DataIntegrationJob, DataWorksAccount};
use crate::clock::Clock;
use crate::telemetry::Kind;

/// A watch that went silent is noticed after this and 5 s more. It is opened again where it ended, without a list, so
/// this may be short.
const WATCH_SECONDS: u32 = 30;
/// Watches younger than this are not opened anew.
const YOUNG: Duration = Duration::from_secs(5);

/// What a watch saw.
#[derive(Debug)]
pub enum Seen {
    /// A job, new or changed.
    Job(Box<DataIntegrationJob>),
    /// A job that cannot be read; says why.
    InvalidJob(ObjectKey, String),
    /// The job of that uid was deleted.
    JobGone(ObjectKey, Option<String>),
    /// These jobs exist, no others.
    JobsListed(BTreeSet<ObjectKey>),
    /// An account, new or changed.
    Account(Box<DataWorksAccount>),
    /// An account that cannot be read; says why.
    InvalidAccount(ObjectKey, String),
    /// An account was deleted.
    AccountGone(ObjectKey),
    /// These accounts exist, no others.
    AccountsListed(BTreeSet<ObjectKey>),
    /// Both kinds were listed for the first time.
    AllListed,
    /// A watch failed; it is tried again.
    Failed(Kind, String),
}

type Guarded<K> = Result<Event<DeserializeGuard<K>>, watcher::Error>;

/// Both watches.
pub struct Watches {
    jobs: BoxStream<'static, Guarded<DataIntegrationJob>>,
    accounts: BoxStream<'static, Guarded<DataWorksAccount>>,
    listing_jobs: BTreeSet<ObjectKey>,
    listing_accounts: BTreeSet<ObjectKey>,
    listed: (bool, bool),
    told: bool,
    opened: Duration,
}

impl Watches {
    /// Watches in all namespaces.
    #[must_use]
    pub fn new(client: &Client, clock: &Clock) -> Self {
        Self {
            jobs: watch_all(client, clock),
            accounts: watch_all(client, clock),
            listing_jobs: BTreeSet::new(),
            listing_accounts: BTreeSet::new(),
            listed: (false, false),
            told: false,
            opened: clock.elapsed(),
        }
    }

    /// Opens both watches anew, with a list, unless they are young. Why the last leader ended may have silenced them too:
    /// connections that carry nothing any more look like a quiet cluster.
    pub fn renew(&mut self, client: &Client, clock: &Clock) {
        if clock.elapsed().saturating_sub(self.opened) > YOUNG {
            *self = Self::new(client, clock);
        }
    }

    /// The next thing seen. Cancel-safe.
    pub async fn next(&mut self) -> Seen {
        loop {
            if self.listed == (true, true) && !self.told {
                self.told = true;
                return Seen::AllListed;
            }
            let seen = tokio::select! {
                biased;
                Some(event) = self.jobs.next() => self.job(event),
                Some(event) = self.accounts.next() => self.account(event),
                else => std::future::pending().await,
            };
            if let Some(seen) = seen {
                return seen;
            }
        }
    }

    fn job(&mut self, event: Guarded<DataIntegrationJob>) -> Option<Seen> {
        match event {
            Ok(Event::Init) => {
                self.listing_jobs.clear();
                None
            }
            Ok(Event::InitApply(job)) => {
                self.listing_jobs.insert(key_of(&job));
                Some(readable(job))
            }
            Ok(Event::InitDone) => {
                self.listed.0 = true;
                Some(Seen::JobsListed(std::mem::take(&mut self.listing_jobs)))
            }
            Ok(Event::Apply(job)) => Some(readable(job)),
            Ok(Event::Delete(job)) => Some(Seen::JobGone(key_of(&job), job.meta().uid.clone())),
            Err(error) => Some(Seen::Failed(Kind::Job, chain(&error))),
        }
    }

    fn account(&mut self, event: Guarded<DataWorksAccount>) -> Option<Seen> {
        let seen = |account: DeserializeGuard<DataWorksAccount>| {
            let key = key_of(&account);
            match account.0 {
                Ok(account) => Seen::Account(Box::new(account)),
                Err(problem) => Seen::InvalidAccount(key, problem.error),
            }
        };
        match event {
            Ok(Event::Init) => {
                self.listing_accounts.clear();
                None
            }
            Ok(Event::InitApply(account)) => {
                self.listing_accounts.insert(key_of(&account));
                Some(seen(account))
            }
            Ok(Event::InitDone) => {
                self.listed.1 = true;
                Some(Seen::AccountsListed(std::mem::take(&mut self.listing_accounts)))
            }
            Ok(Event::Apply(account)) => Some(seen(account)),
            Ok(Event::Delete(account)) => Some(Seen::AccountGone(key_of(&account))),
            Err(error) => Some(Seen::Failed(Kind::Account, chain(&error))),
        }
    }
}

fn readable(job: DeserializeGuard<DataIntegrationJob>) -> Seen {
    let key = key_of(&job);
    match job.0 {
        Ok(job) => Seen::Job(Box::new(job)),
        Err(problem) => Seen::InvalidJob(key, problem.error),
    }
}

fn watch_all<K>(client: &Client, clock: &Clock) -> BoxStream<'static, Guarded<K>>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + serde::de::DeserializeOwned + 'static,
{
    let api: Api<DeserializeGuard<K>> = Api::all(client.clone());
    let config = watcher::Config::default().timeout(WATCH_SECONDS);
    let backoff = WatchBackoff { failures: 0, last: None, clock: clock.clone() };
    watcher(api, config).backoff(backoff).boxed()
}

/// Grows from 0.5 s to 4 s, and starts over after a quiet minute rather than at the next success: kube's own default
/// left an operator blind for 70 s and more after an outage, and a list that fails counts as a success to it.
struct WatchBackoff {
    failures: u32,
    last: Option<Duration>,
    clock: Clock,
}

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = self.clock.elapsed();
        let quiet = self.last.replace(now).is_none_or(|at| now.saturating_sub(at) > Duration::from_secs(60));
        self.failures = if quiet { 0 } else { self.failures.saturating_add(1) };
        let step = Duration::from_millis(500 << self.failures.min(3));
        Some(step.mul_f64(0.5 + 0.5 * self.clock.jitter()))
    }
}

impl Backoff for WatchBackoff {
    fn reset(&mut self) {}
}
