//! The edge: watches, the queue, and the passes. No decisions.
//!
//! **May touch:** the Kubernetes API, the cloud's client, the clock, logs and metrics.
//!
//! **Guarantees**
//! 1. An object is passed by one task at a time, and by the leader alone.
//! 2. What a pass decided on is what it writes under: a stale view ends in a conflict before anything is sent.
//! 3. The loop's heartbeat is independent of the API server, of leadership and of the number of objects.

mod account_pass;
mod accounts;
mod crd;
mod credentials;
mod ending;
mod error;
mod events;
mod execute;
mod invalid;
mod lenders;
mod lent;
mod memory;
mod objects;
mod observe;
mod owners;
mod pass;
mod queue;
mod record;
mod secrets;
pub mod startup;
mod turns;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::watch as role_watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use self::accounts::{Accounts, Passes};
use self::crd::CrdCheck;
pub use self::credentials::CredentialSettings;
use self::credentials::Credentials;
pub use self::error::Error;
use self::events::Events;
pub use self::lenders::Base;
use self::memory::Memory;
use self::objects::Objects;
use self::pass::{one, span_of};
use self::queue::{ObjectKey, Queue};
use self::turns::Turns;
use self::watch::{Seen, Watches};
use crate::clock::Clock;
use crate::dataworks::{Client as Cloud, HostRules};
use crate::health::Health;
use crate::lease::Role;
use crate::plan::observed::Settings;
use crate::telemetry::Metrics;

/// The heartbeat of the loop.
const BEAT: Duration = Duration::from_secs(1);
/// Metrics of budgets are brought up to date at each of so many beats.
const TELL: u32 = 5;

/// What is needed to run; all of it is given, nothing is read from the environment.
pub struct Parts {
    /// Kubernetes.
    pub client: Client,
    /// DataWorks.
    pub cloud: Cloud,
    /// Time and randomness.
    pub clock: Clock,
    /// Probes.
    pub health: Health,
    /// Metrics.
    pub metrics: Metrics,
    /// Whether this process leads.
    pub role: role_watch::Receiver<Role>,
    /// Which endpoints are allowed.
    pub hosts: HostRules,
    /// Where keys come from.
    pub credentials: CredentialSettings,
    /// Times that flags set.
    pub settings: Settings,
    /// Longest time until the bytes of a call have left: connecting and writing.
    pub time_to_send: Duration,
    /// Passes at once.
    pub passes: usize,
    /// Name of this process in events.
    pub reporter: String,
}

/// What every pass shares.
pub struct Context {
    client: Client,
    cloud: Cloud,
    clock: Clock,
    health: Health,
    metrics: Metrics,
    role: role_watch::Receiver<Role>,
    hosts: HostRules,
    settings: Settings,
    time_to_send: Duration,
    objects: Objects,
    memory: Memory,
    turns: Turns,
    credentials: Credentials,
    accounts: Accounts,
    events: Events,
    crd: CrdCheck,
    stop: CancellationToken,
}

/// Runs until `stop`, then lets the passes under way end.
pub async fn run(parts: Parts, stop: CancellationToken) {
    let Parts { client, cloud, clock, health, metrics, role, hosts, credentials, .. } = parts;
    let Parts { settings, time_to_send, passes, reporter, .. } = parts;
    let (events, publisher) = Events::new(client.clone(), clock.clone(), metrics.clone(), reporter);
    let publisher = tokio::spawn(publisher);
    let ctx = Arc::new(Context {
        turns: Turns::new(clock.clone(), metrics.clone(), passes),
        credentials: Credentials::new(client.clone(), cloud.clone(), clock.clone(), metrics.clone(), credentials),
        memory: Memory::default(),
        objects: Objects::default(),
        accounts: Accounts::default(),
        crd: CrdCheck::default(),
        client,
        cloud,
        clock,
        health,
        metrics,
        role,
        hosts,
        settings,
        time_to_send,
        events,
        stop: stop.clone(),
    });
    let mut controller = Controller {
        ctx,
        queue: Queue::default(),
        running: JoinSet::new(),
        passes,
        accounts: Passes::default(),
        invalid: BTreeMap::new(),
        listed: false,
        leads: false,
        beats: 0,
    };
    controller.work(&stop).await;
    controller.end().await;
    drop(controller);
    // Events of the last passes leave, but nobody waits long for them.
    if tokio::time::timeout(Duration::from_secs(2), publisher).await.is_err() {
        tracing::debug!("some Events were not sent");
    }
}

struct Controller {
    ctx: Arc<Context>,
    queue: Queue,
    running: JoinSet<(ObjectKey, Option<Duration>)>,
    passes: usize,
    accounts: Passes,
    /// Objects that cannot be read, and why.
    invalid: BTreeMap<ObjectKey, String>,
    /// Both kinds were listed once.
    listed: bool,
    /// This process leads.
    leads: bool,
    beats: u32,
}

impl Controller {
    async fn work(&mut self, stop: &CancellationToken) {
        let ctx = self.ctx.clone();
        let mut role = ctx.role.clone();
        let mut watches = Watches::new(&ctx.client, &ctx.clock);
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut next_turn = None;
        loop {
            let now_role = role.borrow_and_update().clone();
            if self.lead(&now_role) {
                watches.renew(&ctx.client, &ctx.clock);
            }
            self.start_passes(&now_role);
            self.start_account_passes(&now_role);
            let wake = self.wake_at(next_turn);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = beat.tick() => self.beat(),
                changed = role.changed() => {
                    if changed.is_err() || *role.borrow() == Role::Lost {
                        return;
                    }
                }
                Some(ended) = self.running.join_next() => self.ended(ended),
                passed = self.accounts.ended() => self.account_ended(&passed),
                seen = watches.next() => self.seen(seen),
                () = ctx.credentials.changed() => self.keys_came(),
                () = ctx.accounts.changed.notified() => self.wake_accounts(),
                () = ctx.turns.changed.notified() => next_turn = self.turns(),
                () = tokio::time::sleep_until(wake) => next_turn = self.turns(),
            }
        }
    }

    fn beat(&mut self) {
        self.ctx.health.beat();
        self.beats = self.beats.wrapping_add(1);
        if self.beats.is_multiple_of(TELL) {
            self.ctx.turns.tell_budgets();
        }
    }

    fn wake_at(&self, next_turn: Option<Duration>) -> tokio::time::Instant {
        let busy = self.running.len() >= self.passes;
        let queued = if busy { None } else { self.queue.next_at() };
        let hour = self.ctx.clock.elapsed() + Duration::from_secs(3600);
        let at = [queued, next_turn, self.accounts.next_at()].into_iter().flatten().min().unwrap_or(hour);
        // A due object that may not run yet (we follow, or lists are missing) must not make the loop spin.
        let soonest = if self.may_pass(&self.ctx.role.borrow()) { at } else { at.max(hour) };
        self.ctx.clock.instant(soonest)
    }

    fn may_pass(&self, role: &Role) -> bool {
        self.listed && role.outlasts(self.ctx.clock.elapsed(), Duration::ZERO)
    }

    fn start_passes(&mut self, role: &Role) {
        while self.may_pass(role) && self.running.len() < self.passes {
            let Some(key) = self.queue.pop(self.ctx.clock.elapsed()) else { return };
            let ctx = self.ctx.clone();
            let problem = self.invalid.get(&key).cloned();
            let span = span_of(&key);
            self.running.spawn(one(ctx, key, problem).instrument(span));
        }
    }

    fn ended(&mut self, ended: Result<(ObjectKey, Option<Duration>), tokio::task::JoinError>) {
        match ended {
            Ok((key, next)) => self.queue.done(&key, next, self.ctx.clock.elapsed()),
            // Shipped builds abort on a panic; a build that unwinds must not go on with a broken pass.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {}
        }
    }

    fn turns(&mut self) -> Option<Duration> {
        let (granted, next) = self.ctx.turns.tick();
        let now = self.ctx.clock.elapsed();
        for key in granted {
            self.queue.changed(&key, now);
        }
        self.wake_accounts();
        next
    }

    /// A process that begins to lead passes every object once. Says whether it begins now.
    fn lead(&mut self, role: &Role) -> bool {
        let leads = matches!(role, Role::Leader { .. });
        let begins = leads && !self.leads;
        if begins {
            self.ctx.memory.forget_looks();
            let now = self.ctx.clock.elapsed();
            for key in self.ctx.objects.job_keys().into_iter().chain(self.invalid.keys().cloned()) {
                self.queue.changed(&key, now);
            }
        }
        self.leads = leads;
        if begins && self.listed {
            self.pass_all_accounts();
        }
        begins
    }

    fn seen(&mut self, seen: Seen) {
        let now = self.ctx.clock.elapsed();
        match seen {
            Seen::Job(job) => {
                let key = objects::key_of(&*job);
                self.invalid.remove(&key);
                let before = self.ctx.objects.uid(&key);
                self.name_account(&key, &job.spec.account_ref.name);
                self.ctx.objects.put_job(*job);
                if let Some(before) = before.filter(|before| self.ctx.objects.uid(&key).as_ref() != Some(before)) {
                    self.ctx.forget(&before);
                }
                self.queue.changed(&key, now);
            }
            Seen::InvalidJob(key, problem) => {
                tracing::warn!(namespace = key.namespace, name = key.name, problem, "cannot read a DataIntegrationJob");
                self.lose(&key);
                self.invalid.insert(key.clone(), problem);
                self.queue.changed(&key, now);
            }
            // A late word of the object before says nothing of the one made again.
            Seen::JobGone(key, uid) if self.ctx.objects.uid(&key).is_some_and(|known| Some(known) != uid) => {}
            Seen::JobGone(key, _) => self.gone(&key),
            Seen::JobsListed(listed) => {
                for key in self.ctx.objects.jobs_gone(&listed) {
                    self.gone(&key);
                }
                self.invalid.retain(|key, _| listed.contains(key));
            }
            Seen::Account(account) => self.account_seen(*account),
            Seen::InvalidAccount(key, problem) => {
                tracing::warn!(namespace = key.namespace, name = key.name, problem, "cannot read a DataWorksAccount");
                self.account_unreadable(&key, problem);
            }
            Seen::AccountGone(key) => self.account_gone(&key),
            Seen::AccountsListed(listed) => {
                for key in self.ctx.objects.accounts_gone(&listed) {
                    self.account_gone(&key);
                }
            }
            Seen::AllListed => {
                self.listed = true;
                if self.leads {
                    self.pass_all_accounts();
                }
                self.ctx.health.set_ready(Ok(()));
            }
            Seen::Failed(kind, error) => {
                self.ctx.metrics.watch_error(kind);
                tracing::warn!(kind = kind.as_str(), error, "a watch failed; it is tried again");
            }
        }
        self.ctx.metrics.unparsable_objects(crate::telemetry::Kind::Job, self.invalid.len());
        self.ctx.metrics.unparsable_objects(crate::telemetry::Kind::Account, self.ctx.objects.invalid_accounts());
    }

    fn gone(&mut self, key: &ObjectKey) {
        self.lose(key);
        self.invalid.remove(key);
        self.queue.remove(key);
    }

    /// Removed before it is forgotten: a pass under way asks when it ends whether its object is still there.
    fn lose(&mut self, key: &ObjectKey) {
        let account = self.ctx.objects.job(key).map(|job| job.spec.account_ref.name.clone());
        self.jobs_changed(&key.namespace, account.as_deref());
        if let Some(uid) = self.ctx.objects.remove_job(key) {
            self.ctx.forget(&uid);
        }
    }

    /// Keys came, or word that they do not: the jobs and accounts that wait for them are woken.
    fn keys_came(&mut self) {
        for account in self.ctx.credentials.ended() {
            self.wake(&account);
            self.pass_account(&account);
        }
    }

    /// A changed account wakes its jobs. No key outlives an account that is gone or cannot be read.
    fn wake(&mut self, account: &ObjectKey) {
        if !matches!(self.ctx.objects.account(&account.namespace, &account.name), Some(Ok(_))) {
            self.ctx.credentials.forget(account);
        }
        let now = self.ctx.clock.elapsed();
        for key in self.ctx.objects.jobs_of(account) {
            self.queue.changed(&key, now);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use std::future::pending;
    use std::sync::Mutex;

    use http::{Method, Request, Response};
    use jiff::Timestamp;
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::pass::{Requeue, pass};
    use super::*;
    use crate::dataworks::error::{Error as CloudError, Operation};
    use crate::dataworks::transport::{Sending, Transport, TransportError};
    use crate::plan::observed::{JobRef, Observed, Reading, Seen as Looked, Turn, View};

    /// A cluster of one job with its account and Secret, whose watches stay silent, and a cloud that no call reaches.
    #[derive(Debug, Default)]
    struct World {
        lists: Mutex<usize>,
        /// What was called, and whether the nonce of the call stood in status by then.
        calls: Mutex<Vec<(String, bool)>>,
        /// The statuses that were written.
        statuses: Mutex<Vec<Value>>,
        /// Those of the account.
        account_statuses: Mutex<Vec<Value>>,
        /// The cloud is reached: it refuses looks, and takes starts.
        reached: bool,
        /// The write of a status with this number, from 0, meets a conflict.
        conflict: Option<usize>,
        writes: Mutex<usize>,
        /// What the API server says when a status is tried.
        refuses_trial: Option<(u16, &'static str)>,
        /// The CRD of accounts has no status.
        old_accounts: bool,
        /// How long the API server takes to write a status.
        write: Duration,
        /// How long it takes to try one.
        trial: Duration,
    }

    impl Transport for World {
        fn send(&self, request: http::Request<Vec<u8>>) -> Sending<'_> {
            let action = request.headers()["x-acs-action"].to_str().unwrap().to_owned();
            if action == "GetCallerIdentity" {
                return Box::pin(async { Err(TransportError::NeverLeft("no STS".to_owned())) });
            }
            let query = request.uri().query().unwrap().to_owned();
            let committed = self.stored()["status"]["pendingStart"]["nonce"].as_str().map(str::to_owned);
            let is_committed = committed.is_some_and(|nonce| query.contains(&format!("SignatureNonce={nonce}")));
            let (code, body) = match action.as_str() {
                "GetDIJob" => (403, r#"{"Code":"Forbidden.RAM","Message":"no","RequestId":"R-1"}"#),
                _ => (200, r#"{"Success":true,"RequestId":"R-2"}"#),
            };
            self.calls.lock().unwrap().push((action, is_committed));
            let answer = if self.reached {
                Ok(Response::builder().status(code).body(body.into()).unwrap())
            } else {
                Err(TransportError::NeverLeft("no way".to_owned()))
            };
            Box::pin(async { answer })
        }
    }

    fn job() -> Value {
        json!({
            "apiVersion": "dijob.dev/v1alpha1", "kind": "DataIntegrationJob",
            "metadata": { "namespace": "team", "name": "orders", "uid": "u-1", "resourceVersion": "7", "generation": 1 },
            "spec": { "diJobId": 11743, "accountRef": { "name": "main" } },
        })
    }

    fn account() -> Value {
        let credentials = json!({ "secretRef": { "name": "key" } });
        json!({
            "apiVersion": "dijob.dev/v1alpha1", "kind": "DataWorksAccount",
            "metadata": { "namespace": "team", "name": "main", "uid": "u-2", "resourceVersion": "7", "generation": 1 },
            "spec": { "regionId": "cn-shanghai", "edition": "Enterprise", "credentials": credentials },
        })
    }

    fn secret() -> Value {
        // "canary", as a Secret holds it.
        let data = json!({ "accessKeyId": "Y2FuYXJ5", "accessKeySecret": "Y2FuYXJ5" });
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "key" }, "data": data })
    }

    fn refusal(code: u16, message: &str) -> Value {
        let reason = if code == 409 { "Conflict" } else { "InternalError" };
        json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message })
    }

    fn settings() -> Settings {
        let seconds = Duration::from_secs;
        Settings { settle: seconds(30), confirm: seconds(120), grace: seconds(120) }
    }

    fn changed(mut object: Value, at: &str, to: Value) -> Value {
        *object.pointer_mut(at).unwrap() = to;
        object
    }

    impl World {
        async fn serve(self: Arc<Self>, request: Request<Body>) -> Result<Response<Body>, tower::BoxError> {
            let (head, body) = request.into_parts();
            let sent = body.collect_bytes().await?;
            let query = head.uri.query().unwrap_or_default();
            let list = |item: Value| {
                *self.lists.lock().unwrap() += 1;
                json!({ "kind": "List", "metadata": { "resourceVersion": "7" }, "items": [item] })
            };
            let answer = match (head.method, head.uri.path().rsplit('/').next().unwrap_or_default()) {
                _ if query.contains("watch=true") => pending().await,
                (Method::GET, "dataintegrationjobs") => list(job()),
                (Method::GET, "dataworksaccounts") => list(account()),
                (Method::GET, "key") => secret(),
                (Method::GET, "main") => account(),
                (Method::PATCH, "status") if head.uri.path().contains("dataworksaccounts") => {
                    let sent: Value = serde_json::from_slice(&sent)?;
                    if !query.contains("dryRun") {
                        self.account_statuses.lock().unwrap().push(sent["status"].clone());
                    }
                    let unknown = "the server could not find the requested resource";
                    let mut account = account();
                    account["status"] = self.account_statuses.lock().unwrap().last().cloned().unwrap_or_default();
                    if self.old_accounts { refusal(404, unknown) } else { account }
                }
                (Method::PATCH, "status") if query.contains("dryRun") => {
                    tokio::time::sleep(self.trial).await;
                    self.refuses_trial.map_or_else(job, |(code, message)| refusal(code, message))
                }
                (Method::PATCH, "status") => {
                    tokio::time::sleep(self.write).await;
                    self.write(&serde_json::from_slice(&sent)?)
                }
                (_, _) => self.stored(),
            };
            let code = answer["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(200);
            Ok(Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()))?)
        }

        /// The job with the status that was written last.
        fn stored(&self) -> Value {
            let mut job = job();
            job["status"] = self.statuses.lock().unwrap().last().cloned().unwrap_or_default();
            job
        }

        fn write(&self, sent: &Value) -> Value {
            let mut writes = self.writes.lock().unwrap();
            let number = *writes;
            *writes += 1;
            if self.conflict == Some(number) {
                return refusal(409, "conflict");
            }
            self.statuses.lock().unwrap().push(sent["status"].clone());
            self.stored()
        }

        /// For each start that was called: whether its intent was written before.
        fn starts(&self) -> Vec<bool> {
            let calls = self.calls.lock().unwrap();
            calls.iter().filter(|(action, _)| action == "StartDIJob").map(|(_, committed)| *committed).collect()
        }

        fn client(self: &Arc<Self>) -> Client {
            let world = self.clone();
            Client::new(tower::service_fn(move |request| world.clone().serve(request)), "team")
        }

        /// What the passes of a leader share.
        fn context(self: &Arc<Self>) -> Context {
            let (clock, metrics) = (Clock::seeded(Timestamp::UNIX_EPOCH, 1), Metrics::new());
            Context {
                client: self.client(),
                cloud: Cloud::new(self.clone()),
                health: Health::new(clock.clone()),
                role: role_watch::channel(Role::always("pod")).1,
                hosts: HostRules::default(),
                settings: settings(),
                time_to_send: Duration::from_secs(6),
                objects: Objects::default(),
                memory: Memory::default(),
                turns: Turns::new(clock.clone(), metrics.clone(), 8),
                credentials: Credentials::new(
                    self.client(),
                    Cloud::new(self.clone()),
                    clock.clone(),
                    metrics.clone(),
                    CredentialSettings::default(),
                )
                .without_owner("team", "canary"),
                accounts: Accounts::default(),
                events: Events::new(self.client(), clock.clone(), metrics.clone(), "pod".to_owned()).0,
                crd: CrdCheck::default(),
                stop: CancellationToken::new(),
                clock,
                metrics,
            }
        }

        /// A process in this world that runs until the test ends.
        fn start(self: &Arc<Self>, role: role_watch::Receiver<Role>) {
            let clock = Clock::seeded(Timestamp::UNIX_EPOCH, 1);
            let parts = Parts {
                client: self.client(),
                cloud: Cloud::new(self.clone()),
                health: Health::new(clock.clone()),
                clock,
                metrics: Metrics::new(),
                role,
                hosts: HostRules::default(),
                credentials: CredentialSettings::default(),
                settings: settings(),
                time_to_send: Duration::from_secs(6),
                passes: 8,
                reporter: "pod".to_owned(),
            };
            tokio::spawn(run(parts, CancellationToken::new()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_begins_to_lead_opens_its_watches_anew_unless_they_are_young() {
        for (follows, lists) in [(60, 4), (2, 2)] {
            let world = Arc::new(World::default());
            let (role, seen) = role_watch::channel(Role::Follower);
            world.start(seen);
            tokio::time::sleep(Duration::from_secs(follows)).await;
            assert_eq!(*world.lists.lock().unwrap(), 2, "a follower lists both kinds once");
            role.send_replace(Role::always("pod"));
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(*world.lists.lock().unwrap(), lists, "after {follows} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_whose_lease_ends_before_a_call_could_leave_begins_none() {
        for (valid, calls) in [(6, 0), (60, 1)] {
            let world = Arc::new(World::default());
            let valid_until = Duration::from_secs(valid);
            let (_role, seen) =
                role_watch::channel(Role::Leader { holder: "pod".to_owned(), transitions: 1, valid_until });
            world.start(seen);
            tokio::time::sleep(Duration::from_millis(900)).await;
            assert_eq!(world.calls.lock().unwrap().len(), calls, "with a lease of {valid} s");
        }
    }

    impl Context {
        fn put(&self, job: Value, account: Option<Value>) -> ObjectKey {
            if let Some(account) = account {
                self.objects.put_account(serde_json::from_value(account).unwrap());
            }
            let job: crate::api::DataIntegrationJob = serde_json::from_value(job).unwrap();
            let key = objects::key_of(&job);
            self.objects.put_job(job);
            key
        }

        async fn observed(&self, key: &ObjectKey) -> Observed {
            observe::observe(self, key).await.unwrap().unwrap().seen
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_recreated_object_inherits_nothing() {
        let ctx = Arc::new(World::default()).context();
        let key = ctx.put(job(), None);
        let began = ctx.clock.now();
        assert_eq!(ctx.observed(&key).await.missing_since, Some(began), "its account is missing");
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(ctx.observed(&key).await.missing_since, Some(began));
        ctx.put(changed(job(), "/metadata/uid", json!("u-9")), None);
        assert_eq!(ctx.observed(&key).await.missing_since, Some(ctx.clock.now()), "another object of this name");
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_made_under_another_account_or_key_says_nothing() {
        let ctx = Arc::new(World::default()).context();
        let key = ctx.put(job(), Some(account()));
        let seen = ctx.observed(&key).await;
        let error = CloudError::unanswered(Operation::GetDiJob, false, "refused");
        let look = Reading { job: seen.job().unwrap(), at: ctx.clock.now(), seen: Looked::Refused(error) };
        ctx.memory.update("u-1", |facts| facts.reading = Some(look.clone()));
        assert_eq!(ctx.observed(&key).await.reading, Some(look));
        ctx.put(job(), Some(changed(account(), "/metadata/generation", json!(2))));
        assert_eq!(ctx.observed(&key).await.reading, None);
    }

    /// A look that fails, at an object that was told of so many times a moment ago.
    async fn fails_after_telling(times: usize) -> (Arc<World>, Context, ObjectKey) {
        let world = Arc::new(World::default());
        let ctx = world.context();
        let key = ctx.put(job(), Some(account()));
        ctx.memory.update("u-1", |facts| (0..times).for_each(|_| facts.tell(ctx.clock.elapsed())));
        pass(&ctx, &key, "u-1").await.unwrap();
        (world, ctx, key)
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_fails_is_recorded_though_the_object_was_told_of_often() {
        let (world, ..) = Box::pin(fails_after_telling(4)).await;
        let attempts: Vec<_> = world.statuses.lock().unwrap().iter().map(|status| status["attempts"].clone()).collect();
        assert_eq!(attempts, [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_backoff_that_has_no_room_in_status_is_kept_all_the_same() {
        let (world, ctx, key) = Box::pin(fails_after_telling(6)).await;
        tokio::time::advance(Duration::from_secs(30)).await;
        pass(&ctx, &key, "u-1").await.unwrap();
        assert_eq!(
            (world.statuses.lock().unwrap().len(), world.calls.lock().unwrap().len()),
            (0, 1),
            "an event is early"
        );
        tokio::time::advance(Duration::from_secs(31)).await;
        pass(&ctx, &key, "u-1").await.unwrap();
        assert_eq!(
            (world.statuses.lock().unwrap().len(), world.calls.lock().unwrap().len()),
            (1, 2),
            "a minute is over"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_the_write_of_its_intent_outlived_sends_nothing() {
        for (seconds, starts) in [(0, 1), (25, 0)] {
            let write = Duration::from_secs(seconds);
            let world = Arc::new(World { reached: true, write, ..World::default() });
            let ctx = world.context();
            let key = ctx.put(job(), Some(account()));
            pass(&ctx, &key, "u-1").await.unwrap();
            assert!(world.statuses.lock().unwrap().iter().any(|status| status["pendingStart"].is_object()));
            assert_eq!(world.starts().len(), starts, "after {seconds} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_ends_soon_after_the_intent_was_written_sends_nothing() {
        for (valid, starts) in [(12, 0), (17, 1)] {
            let world = Arc::new(World { reached: true, write: Duration::from_secs(10), ..World::default() });
            let mut ctx = world.context();
            let valid_until = Duration::from_secs(valid);
            ctx.role = role_watch::channel(Role::Leader { holder: "pod".to_owned(), transitions: 1, valid_until }).1;
            let key = ctx.put(job(), Some(account()));
            pass(&ctx, &key, "u-1").await.unwrap();
            assert!(world.statuses.lock().unwrap().iter().any(|status| status["pendingStart"].is_object()));
            assert_eq!(world.starts().len(), starts, "with a lease of {valid} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_is_sent_once_after_its_intent_was_written_and_a_settled_object_is_not_written() {
        let world = Arc::new(World { reached: true, ..World::default() });
        let ctx = world.context();
        let key = ctx.put(job(), Some(account()));
        pass(&ctx, &key, "u-1").await.unwrap();
        let written = world.statuses.lock().unwrap().len();
        assert_eq!(world.stored()["status"]["lastStart"]["requestId"], "R-2");
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(600)).await;
            pass(&ctx, &key, "u-1").await.unwrap();
        }
        assert_eq!(world.starts(), [true]);
        assert_eq!(world.statuses.lock().unwrap().len(), written);
    }

    #[tokio::test(start_paused = true)]
    async fn an_intent_that_meets_a_conflict_sends_nothing() {
        let world = Arc::new(World { reached: true, conflict: Some(0), ..World::default() });
        let ctx = world.context();
        let key = ctx.put(job(), Some(account()));
        assert!(pass(&ctx, &key, "u-1").await.unwrap_err().is_conflict());
        assert!(world.starts().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_whose_write_met_a_conflict_is_written_by_the_next_pass() {
        let world = Arc::new(World { reached: true, conflict: Some(1), ..World::default() });
        let ctx = world.context();
        let key = ctx.put(job(), Some(account()));
        assert!(pass(&ctx, &key, "u-1").await.unwrap_err().is_conflict());
        assert_eq!(world.stored()["status"]["pendingStart"]["attempt"], 1, "the answer is not written yet");
        pass(&ctx, &key, "u-1").await.unwrap();
        assert_eq!(world.stored()["status"]["lastStart"]["requestId"], "R-2");
        assert_eq!(world.starts(), [true]);
    }

    #[tokio::test(start_paused = true)]
    async fn under_an_older_crd_nothing_is_called_or_written() {
        let refuses_trial = Some((500, ".status.x: field not declared in schema"));
        let world = Arc::new(World { reached: true, refuses_trial, ..World::default() });
        let ctx = world.context();
        let key = ctx.put(job(), Some(account()));
        assert!(matches!(pass(&ctx, &key, "u-1").await, Err(Error::OldCrd(_))));
        assert!(world.calls.lock().unwrap().is_empty() && world.statuses.lock().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn under_an_older_crd_of_accounts_nothing_is_called_or_written() {
        let world = Arc::new(World { reached: true, old_accounts: true, ..World::default() });
        let (_role, seen) = role_watch::channel(Role::always("pod"));
        world.start(seen);
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(world.account_statuses.lock().unwrap().len(), 0);
        let ctx = world.context();
        let key = ctx.put(job(), Some(account()));
        let of_account = ObjectKey { namespace: "team".to_owned(), name: "main".to_owned() };
        assert!(matches!(ctx.crd.check_account(&ctx, &of_account).await, Err(Error::OldCrd(_))));
        assert!(matches!(pass(&ctx, &key, "u-1").await, Err(Error::OldCrd(_))));
        assert!(ctx.health.ready().unwrap_err().contains("dataworksaccounts.dijob.dev is older"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_written_to_the_status_of_an_account_wakes_no_job() {
        let mut controller = controller();
        let key = controller.ctx.put(job(), Some(account()));
        let at = |path, to| serde_json::from_value(changed(account(), path, to)).unwrap();
        controller.seen(Seen::Account(at("/metadata/resourceVersion", json!("8"))));
        assert_eq!(controller.queue.next_at(), None);
        let mut edited = changed(account(), "/metadata/resourceVersion", json!("9"));
        edited["metadata"]["generation"] = json!(2);
        controller.seen(Seen::Account(serde_json::from_value(edited).unwrap()));
        assert_eq!(controller.queue.pop(controller.ctx.clock.elapsed()), Some(key));
    }

    #[tokio::test(start_paused = true)]
    async fn the_series_of_an_account_that_is_gone_do_not_come_back_with_a_late_pass() {
        let mut controller = controller();
        let ctx = controller.ctx.clone();
        controller.seen(Seen::Account(serde_json::from_value(account()).unwrap()));
        let key = ctx.put(job(), None);
        let of_account = ObjectKey { namespace: "team".to_owned(), name: "main".to_owned() };
        let late = ctx.objects.account("team", "main").unwrap().unwrap();
        let limits = crate::quota::Limits::shared(5.0, Some(100));
        let budget = turns::BudgetKey { place: "cn-shanghai".to_owned(), owner: "canary".to_owned() };
        let series = || {
            let party = turns::Party::of(&late, limits);
            ctx.turns.state(&budget, &party, || ctx.objects.account_uid(&of_account).as_ref() == Some(&party.uid));
            ctx.count_call(&of_account, crate::telemetry::Operation::GetDiJob, crate::telemetry::Answer::Ok);
            ctx.accounts.saw(&of_account, "late");
            ctx.turns.tell_budgets();
            ctx.metrics.encode().unwrap().lines().filter(|line| line.starts_with("dijob_account_")).count()
        };
        assert_eq!(series(), 4, "calls, two classes, calls left");
        controller.seen(Seen::AccountGone(of_account.clone()));
        assert_eq!(series(), 0);
        assert_eq!(controller.queue.pop(ctx.clock.elapsed()), Some(key), "its job is told");
        ctx.turns.tick();
        assert_eq!(ctx.turns.usage(&budget), None, "nobody draws on its budget");
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_in_order_is_told_so_once_and_its_status_comes_back_as_no_news() {
        let world = Arc::new(World { reached: true, ..World::default() });
        let (_role, seen) = role_watch::channel(Role::always("pod"));
        world.start(seen);
        tokio::time::sleep(Duration::from_secs(50)).await;
        let told = world.account_statuses.lock().unwrap().clone();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!((&told[0]["conditions"][0]["reason"], &told[0]["jobs"]), (&json!("AccountReady"), &json!(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_status_that_another_object_left_behind_is_no_history() {
        let ctx = Arc::new(World::default()).context();
        for (uid, word) in [("u-1", Some("Running")), ("u-0", None)] {
            let mut copied = job();
            copied["status"] = json!({ "uid": uid, "jobStatus": "Running" });
            let key = ctx.put(copied, Some(account()));
            assert_eq!(ctx.observed(&key).await.record.job_status.as_deref(), word, "{uid}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_that_goes_while_it_is_passed_keeps_no_turn() {
        for (goes, calls) in [(false, 1), (true, 0)] {
            let world = Arc::new(World { trial: Duration::from_secs(1), ..World::default() });
            let ctx = Arc::new(world.context());
            let key = ctx.put(job(), Some(account()));
            let budget = observe::observe(&ctx, &key).await.unwrap().unwrap().access.unwrap().budget;
            let passed = tokio::spawn(one(ctx.clone(), key.clone(), None));
            tokio::time::sleep(Duration::from_millis(1)).await;
            if goes {
                ctx.forget(&ctx.objects.remove_job(&key).unwrap());
            }
            passed.await.unwrap();
            assert_eq!(ctx.turns.standing(Some(&budget), "u-1").0, Turn::None, "it goes: {goes}");
            assert_eq!(world.calls.lock().unwrap().len(), calls, "it goes: {goes}");
        }
    }

    fn controller() -> Controller {
        let ctx = Arc::new(Arc::new(World::default()).context());
        let (queue, running, invalid) = (Queue::default(), JoinSet::new(), BTreeMap::new());
        let accounts = Passes::default();
        Controller { ctx, queue, running, passes: 8, accounts, invalid, listed: true, leads: false, beats: 0 }
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_word_of_the_object_before_takes_nothing_from_the_one_made_again() {
        let mut controller = controller();
        let ctx = controller.ctx.clone();
        let key = ctx.put(changed(job(), "/metadata/resourceVersion", json!("9")), None);
        ctx.memory.update("u-1", |facts| facts.failures = 3);
        let before = changed(job(), "/metadata/uid", json!("u-0"));
        controller.seen(Seen::Job(serde_json::from_value(before).unwrap()));
        controller.seen(Seen::JobGone(key.clone(), Some("u-0".to_owned())));
        assert_eq!((ctx.objects.uid(&key).as_deref(), ctx.memory.facts("u-1").failures), (Some("u-1"), 3));
        controller.seen(Seen::JobGone(key.clone(), Some("u-1".to_owned())));
        assert_eq!((ctx.objects.uid(&key), ctx.memory.facts("u-1").failures), (None, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_begins_to_lead_looks_anew() {
        let mut controller = controller();
        let ctx = controller.ctx.clone();
        let job = JobRef { region: "cn-shanghai".to_owned(), di_job_id: 11_743 };
        let error = CloudError::unanswered(Operation::GetDiJob, false, "refused");
        let look = Reading { job, at: ctx.clock.now(), seen: Looked::Refused(error) };
        for (begins, kept) in [(true, None), (false, Some(look.clone()))] {
            ctx.memory.update("u-1", |facts| facts.reading = Some(look.clone()));
            assert_eq!(controller.lead(&Role::always("pod")), begins);
            assert_eq!(ctx.memory.facts("u-1").reading, kept);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_left_in_a_status_is_no_older_crd() {
        let world = Arc::new(World { reached: true, refuses_trial: Some((422, "invalid")), ..World::default() });
        let ctx = world.context();
        let key = ctx.put(job(), Some(account()));
        pass(&ctx, &key, "u-1").await.unwrap();
        assert_eq!(world.starts(), [true]);
    }

    /// Passed with a confirmed start, recorded as running, and an unwritten look that shows it stopped.
    async fn passed_at_rest(token: &str) -> Requeue {
        let ctx = Arc::new(World::default()).context();
        let mut status = crate::api::JobStatus { pending_start: None, ..crate::api::JobStatus::full() };
        (status.uid, status.job_status) = (Some("u-1".to_owned()), Some("Running".to_owned()));
        (status.attempts, status.next_attempt_time, status.last_error) = (0, None, None);
        let last = status.last_start.as_mut().unwrap();
        (last.outcome, last.confirmation) = ("Confirmed".to_owned(), None);
        let called = ctx.clock.now();
        ctx.memory.update("u-1", |facts| {
            (facts.call.at, facts.call.of, facts.call.own) = (Some(called), Some((last.id.clone(), 1)), true);
        });
        let applied = status.applied.as_mut().unwrap();
        (applied.region, applied.di_job_id, applied.account) = ("cn-shanghai".to_owned(), 11_743, "main".to_owned());
        (applied.realtime_start_settings, applied.force_to_rerun) = (None, false);
        (applied.generation, applied.uncertain, applied.previous) = (1, false, None);
        let mut settled = job();
        settled["status"] = serde_json::to_value(&status).unwrap();
        settled["spec"]["rerunToken"] = json!(token);
        let key = ctx.put(settled, Some(account()));
        tokio::time::advance(Duration::from_secs(600)).await;
        let seen = ctx.observed(&key).await;
        let view = View { word: "Stopped".to_owned(), ..View::default() };
        let look = Reading { job: seen.job().unwrap(), at: ctx.clock.now(), seen: Looked::Job(view) };
        ctx.memory.update("u-1", |facts| facts.reading = Some(look));
        pass(&ctx, &key, "u-1").await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_status_does_not_hold_yet_makes_no_pass_repeat_itself() {
        assert_ne!(Box::pin(passed_at_rest("")).await, Requeue::Again);
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_that_is_due_after_such_a_look_makes_no_pass_repeat_itself_either() {
        assert_ne!(Box::pin(passed_at_rest("again")).await, Requeue::Again);
    }
}
