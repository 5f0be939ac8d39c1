//! The simulated cloud as a value: started in a test, stopped when it goes out of scope.
//!
//! **May touch:** a listener, the wall clock once at start, a thread with a runtime of its own.
//!
//! **Guarantees**
//! 1. It answers whatever the caller's runtime does, blocked or paused: it shares no thread with it.
//! 2. [`Simulator::start`] returns when the port is open. On drop the port is closed, with every connection.
//! 3. Every look sees all that was due until now.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::core::Cloud;
use crate::core::gateway::Key;
use crate::core::identity::{Lent, Temporary};
use crate::core::jobs::{Console, Job, JobPatch};
use crate::core::ledger::{Entry, Execution, Ledger};
use crate::core::switches::{Behaviour, Fault, Switches};
use crate::server::{Shared, serve};

/// The main account of keys that name no other.
pub const ACCOUNT: &str = "1000000000000001";

/// What a simulator begins with.
#[derive(Debug)]
pub struct Settings {
    /// Where to listen; default: a free port of 127.0.0.1.
    pub listen: SocketAddr,
    /// The switches; default: a cloud in order.
    pub switches: Switches,
    /// Access keys by id; default: none.
    pub keys: Vec<(String, Key)>,
    /// Jobs that are there, never run; default: none.
    pub jobs: Vec<i64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { listen: ([127, 0, 0, 1], 0).into(), switches: Switches::default(), keys: Vec::new(), jobs: Vec::new() }
    }
}

impl Settings {
    /// With this key of [`ACCOUNT`] too.
    #[must_use]
    pub fn with_key(mut self, id: &str, secret: &str) -> Self {
        self.keys.push((id.to_owned(), Key { account: ACCOUNT.to_owned(), secret: secret.to_owned() }));
        self
    }

    /// With this job too.
    #[must_use]
    pub fn with_job(mut self, id: i64) -> Self {
        self.jobs.push(id);
        self
    }
}

/// A running simulator.
pub struct Simulator {
    shared: Arc<Shared>,
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Simulator {
    /// Opens the port and begins to serve.
    ///
    /// # Errors
    /// If the address cannot be bound, or there is no thread or runtime to be had.
    pub fn start(settings: Settings) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(settings.listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let now = wall();
        let seed = u64::try_from(now.as_nanosecond()).unwrap_or_default();
        let mut cloud = Cloud::new(settings.switches, seed);
        for (id, key) in settings.keys {
            cloud.put_key(&id, key);
        }
        for id in settings.jobs {
            cloud.put_job(now, id, &JobPatch::default());
        }
        let shared = Arc::new(Shared::new(cloud, now));
        let stop = CancellationToken::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (served, stopped) = (Arc::clone(&shared), stop.clone());
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let thread = std::thread::Builder::new()
            .name("simulator".to_owned())
            .spawn(move || runtime.block_on(serve(listener, served, stopped)))?;
        Ok(Self { shared, address, stop, thread: Some(thread) })
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Wall time by the simulator's clock, without [`Switches::clock_offset`].
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.shared.now()
    }

    /// Changes switches; they hold from the next call on.
    pub fn switch(&self, change: impl FnOnce(&mut Switches)) {
        self.shared.change(|cloud, _| change(&mut cloud.switches));
    }

    /// Treats the next `calls` calls like this: those of one action, or any.
    pub fn next_calls(&self, calls: u32, action: Option<&str>, behaviour: Behaviour) {
        self.add_fault(Fault { calls: Some(calls), action: action.map(str::to_owned), behaviour, ..Fault::default() });
    }

    /// Adds a fault.
    pub fn add_fault(&self, fault: Fault) {
        self.switch(|switches| switches.faults.push(fault));
    }

    /// Takes all faults away.
    pub fn clear_faults(&self) {
        self.switch(|switches| switches.faults.clear());
    }

    /// A job as it is now.
    #[must_use]
    pub fn job(&self, id: i64) -> Option<Job> {
        self.shared.look(|cloud, _| cloud.job(id).cloned())
    }

    /// Changes a job by hand, or makes it.
    pub fn put_job(&self, id: i64, patch: &JobPatch) {
        self.shared.change(|cloud, now| {
            cloud.put_job(now, id, patch);
        });
    }

    /// A person starts or stops the job in the console.
    pub fn console(&self, id: i64, act: Console) {
        self.put_job(id, &JobPatch { console: Some(act), ..JobPatch::default() });
    }

    /// Takes a job away, if it is there.
    pub fn remove_job(&self, id: i64) {
        self.shared.change(|cloud, _| cloud.remove_job(id));
    }

    /// Adds a key of [`ACCOUNT`], or replaces the secret of one.
    pub fn add_key(&self, id: &str, secret: &str) {
        self.add_key_of(ACCOUNT, id, secret);
    }

    /// Adds a key of this main account, or replaces account and secret of one.
    pub fn add_key_of(&self, account: &str, id: &str, secret: &str) {
        let key = Key { account: account.to_owned(), secret: secret.to_owned() };
        self.shared.change(|cloud, _| cloud.put_key(id, key));
    }

    /// Gives a key another secret, if it is there; its account stays.
    pub fn replace_secret(&self, id: &str, secret: &str) {
        self.shared.change(|cloud, _| cloud.replace_secret(id, secret));
    }

    /// Takes a key away, if it is there.
    pub fn remove_key(&self, id: &str) {
        self.shared.change(|cloud, _| cloud.remove_key(id));
    }

    /// Adds a temporary key of this main account, or replaces the one of the same id.
    pub fn add_temporary_key(&self, account: &str, id: &str, secret: &str, token: &str, expiration: Timestamp) {
        let temporary = Temporary::by_hand(account, secret, token, expiration);
        self.shared.change(|cloud, _| cloud.put_temporary_key(id, temporary));
    }

    /// What may be told of the temporary keys, STS's and the machine's among them.
    #[must_use]
    pub fn temporary_keys(&self) -> Vec<Lent> {
        self.shared.look(|cloud, _| cloud.temporary_keys())
    }

    /// Ends all temporary keys, whatever was told of their end.
    pub fn expire_temporary_keys(&self) {
        self.shared.change(Cloud::expire_temporary_keys);
    }

    /// From now on STS takes this token from this provider, though its issuer is not listed.
    pub fn announce_token(&self, provider: &str, token: &str) {
        self.shared.change(|cloud, _| cloud.announce_token(provider, token));
    }

    /// All that happened so far.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.shared.look(|cloud, _| cloud.ledger().clone())
    }

    /// Arrivals of `StartDIJob` for this job so far, whatever became of them.
    #[must_use]
    pub fn starts(&self, job: i64) -> Vec<Entry> {
        self.shared.look(|cloud, _| cloud.ledger().starts(job).cloned().collect())
    }

    /// Starts and restarts of this job that calls caused so far.
    #[must_use]
    pub fn executions(&self, job: i64) -> Vec<Execution> {
        self.shared.look(|cloud, _| cloud.ledger().executions(job).to_vec())
    }

    /// Waits until the ledger is as wished; false if it is not within `timeout`. Wakes on each change, without polling.
    ///
    /// Runs on the caller's runtime, whose time must be enabled and not paused.
    pub async fn wait_until(&self, timeout: Duration, mut is_so: impl FnMut(&Ledger) -> bool) -> bool {
        let mut changes = self.shared.changes();
        let wait = async {
            loop {
                let due = match self.shared.look(|cloud, now| (is_so(cloud.ledger()), cloud.next_due(), now)) {
                    (true, ..) => return,
                    // What is due later changes the ledger without a word: look again then.
                    (false, Some(due), now) => due.duration_since(now).try_into().unwrap_or_default(),
                    (false, None, _) => timeout,
                };
                // The sender lives in `self`, so an error is time that is up: both mean to look again.
                let _ = tokio::time::timeout(due, changes.changed()).await;
            }
        };
        tokio::time::timeout(timeout, wait).await.is_ok()
    }

    /// [`Self::wait_until`] for a caller without a runtime; blocks its thread.
    ///
    /// # Errors
    /// If no runtime can be had to wait on.
    pub fn block_until(&self, timeout: Duration, is_so: impl FnMut(&Ledger) -> bool) -> io::Result<bool> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        Ok(runtime.block_on(self.wait_until(timeout, is_so)))
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "edge: wall time, once at start")]
fn wall() -> Timestamp {
    Timestamp::now()
}
