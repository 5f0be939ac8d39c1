//! One operator process: the real controller and elector behind a gate that can be shut and held.
//!
//! **May touch:** the world that it is given.
//!
//! **Guarantees**
//! 1. What left a process before it was killed has its effect; nothing of it is sent or received after that.
//! 2. A process that stands still neither sends nor receives. Its timers go on, so a pause is never gentler than the
//!    real one towards the Lease.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use api_server::{AnswerBody, ApiService, EventFate, RequestInfo, Route, WatchInfo, Wire};
use bytes::Bytes;
use dijob_operator::clock::Clock;
use dijob_operator::controller::{self, CredentialSettings, Parts, startup};
use dijob_operator::dataworks::transport::Sending;
use dijob_operator::dataworks::{Client as Cloud, HostRules, Transport};
use dijob_operator::health::Health;
use dijob_operator::lease::{self, Role};
use dijob_operator::plan::observed::Settings;
use dijob_operator::telemetry::Metrics;
use http_body::Frame;
use jiff::SignedDuration;
use kube::client::Body;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::timeout::TimeoutLayer;
use tower::{Layer as _, Service};

use crate::chance::Chance;
use crate::play::wait;
use crate::world::World;

/// What the world knows of a process.
pub struct Process {
    /// Counted from 1 over the whole schedule; names it as a caller of the API server.
    pub number: u64,
    /// Name of its pod.
    pub slot: u64,
    /// Set when it is killed.
    pub killed: CancellationToken,
    /// Asks it to stop in order.
    pub stop: CancellationToken,
    /// Its probes.
    pub health: Mutex<Option<Health>>,
    /// Its metrics.
    pub metrics: Metrics,
    /// The version of each object that its last write made.
    written: Mutex<BTreeMap<(String, String), (String, u64)>>,
    exchanges: AtomicU64,
    held_until: Mutex<Duration>,
}

/// How a process ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was killed.
    Killed,
    /// It lost the Lease.
    Lost,
    /// It was asked to.
    Stopped,
}

impl Process {
    /// A process that has not begun.
    #[must_use]
    pub fn new(number: u64, slot: u64) -> Self {
        Self {
            number,
            slot,
            killed: CancellationToken::new(),
            stop: CancellationToken::new(),
            health: Mutex::default(),
            metrics: Metrics::new(),
            written: Mutex::default(),
            exchanges: AtomicU64::new(0),
            held_until: Mutex::default(),
        }
    }

    /// Number of the next exchange.
    pub fn exchange(&self) -> u64 {
        self.exchanges.fetch_add(1, Ordering::Relaxed)
    }

    /// SIGSTOP for so long.
    pub fn hold(&self, world: &World, time: Duration) {
        let mut until = self.held_until.lock().unwrap_or_else(PoisonError::into_inner);
        *until = (*until).max(world.elapsed() + time);
    }

    /// An answer to a write of a status: what it made.
    fn has_written(&self, path: &str, answer: &AnswerBody) {
        let writes = path.contains("/status") && !path.contains("dryRun");
        let (true, AnswerBody::Whole(Some(body))) = (writes, answer) else { return };
        let Ok(object) = serde_json::from_slice::<Value>(body) else { return };
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let Ok(version) = text("/metadata/resourceVersion").parse::<u64>() else { return };
        let key = (text("/metadata/namespace"), text("/metadata/name"));
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let last = written.entry(key).or_default();
        *last = (text("/metadata/uid"), version.max(last.1));
    }

    /// A write that was decided on a version older than that of its own last one. Of an object that is gone since, `now` being
    /// the uid under its name, the process may have forgotten that: a list that is behind shows it once more.
    pub(crate) fn looks_back(&self, info: &RequestInfo, now: impl FnOnce() -> Option<String>) -> Option<String> {
        let body = info.body.as_ref().filter(|_| info.subresource == "status" && !info.dry_run)?;
        let under = body.pointer("/metadata/resourceVersion").or_else(|| body.pointer("/0/value"))?;
        let under: u64 = under.as_str()?.parse().ok()?;
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let (uid, last) = written.get(&(info.namespace.clone(), info.name.clone()))?;
        let (who, name) = (self.number, &info.name);
        (under < *last && now().as_ref() == Some(uid))
            .then(|| format!("I4: p{who} wrote {last} of {name}, and then acts on {under}"))
    }

    fn held(&self, world: &World) -> Option<Duration> {
        let until = *self.held_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.checked_sub(world.elapsed()).filter(|left| !left.is_zero())
    }

    /// Returns when the process runs; never, if it is dead.
    pub async fn awake(&self, world: &World) {
        loop {
            if self.killed.is_cancelled() {
                return std::future::pending().await;
            }
            match self.held(world) {
                None => return,
                Some(left) => wait(left).await,
            }
        }
    }

    /// Whether its loop stands still.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.as_ref().and_then(|health| health.alive().err())
    }
}

/// Its life, until it ends.
pub async fn live(world: Arc<World>, process: Arc<Process>) -> Ended {
    let killed = process.killed.clone();
    tokio::select! {
        biased;
        () = killed.cancelled() => Ended::Killed,
        ended = run(world, process) => ended,
    }
}

/// The same steps as in the binary's `main`.
async fn run(world: Arc<World>, process: Arc<Process>) -> Ended {
    let mut chance = Chance::about(&[world.schedule.seed, 2, process.number]);
    let off = i64::try_from(chance.below(7200)).unwrap_or(0) - 3600;
    let off = if chance.percent(50) { 0 } else { off };
    let off = world.schedule.clocks.map_or(off, |clocks| clocks(process.number).as_secs());
    let clock = Clock::seeded(world.now() + SignedDuration::from_secs(off), chance.number());
    let health = Health::new(clock.clone());
    *process.health.lock().unwrap_or_else(PoisonError::into_inner) = Some(health.clone());
    let service = Gate { world: world.clone(), process: process.clone(), inner: world.service(&process) };
    let lease_client = kube::Client::new(service.clone(), "default");
    let client = kube::Client::new(TimeoutLayer::new(Duration::from_secs(30)).layer(service), "default");
    if !beating(&health, startup::wait_for_kinds(&client, &health, &process.stop)).await {
        return Ended::Stopped;
    }
    let identity = format!("pod-{}_{}", process.slot, clock.nonce().get(..8).unwrap_or_default());
    world.identified(process.number, &identity);
    let (role_sender, role) = watch::channel(Role::Follower);
    let release = CancellationToken::new();
    let elector = elect(&world, &identity, lease_client, clock.clone(), role_sender, release.clone());
    let metrics = process.metrics.clone();
    let road = Road { world: world.clone(), process: process.clone() };
    let parts = Parts {
        client,
        cloud: Cloud::new(Arc::new(road)),
        clock,
        health,
        metrics,
        role: role.clone(),
        hosts: HostRules::default(),
        credentials: CredentialSettings::default(),
        settings: Settings {
            settle: Duration::from_secs(30),
            confirm: Duration::from_secs(120),
            grace: Duration::from_secs(120),
        },
        time_to_send: Duration::from_secs(6),
        passes: 64,
        reporter: identity,
    };
    tokio::select! {
        biased;
        () = controller::run(parts, process.stop.clone()) => {}
        () = until_lost(role.clone()) => {}
    }
    if *role.borrow() == Role::Lost {
        return Ended::Lost;
    }
    release.cancel();
    drop(elector.await);
    Ended::Stopped
}

fn elect(
    world: &World,
    identity: &str,
    lease_client: kube::Client,
    clock: Clock,
    role_sender: watch::Sender<Role>,
    release: CancellationToken,
) -> tokio::task::JoinHandle<()> {
    if world.schedule.election {
        let settings = lease::Settings {
            namespace: "dijob-system".to_owned(),
            name: "dijob-operator".to_owned(),
            identity: identity.to_owned(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        };
        tokio::spawn(lease::run(lease_client, settings, clock, role_sender, release))
    } else {
        let ended = release;
        role_sender.send_replace(Role::always(identity.to_owned()));
        tokio::spawn(async move {
            ended.cancelled().await;
            drop(role_sender);
        })
    }
}

async fn beating(health: &Health, kinds: impl Future<Output = bool>) -> bool {
    tokio::pin!(kinds);
    loop {
        tokio::select! {
            biased;
            there = &mut kinds => return there,
            () = wait(Duration::from_secs(1)) => health.beat(),
        }
    }
}

async fn until_lost(mut role: watch::Receiver<Role>) {
    if role.wait_for(|role| *role == Role::Lost).await.is_err() {
        return std::future::pending().await;
    }
    wait(Duration::from_secs(5)).await;
}

/// What becomes of the bytes of one process.
pub struct Lines {
    /// The world.
    pub world: Arc<World>,
    /// The process.
    pub process: Arc<Process>,
}

impl Wire for Lines {
    fn request(&self, info: &RequestInfo) -> Route {
        self.world.api_request(&self.process, info)
    }

    fn event(&self, info: &WatchInfo, nth: u64) -> EventFate {
        self.world.api_event(&self.process, info, nth)
    }
}

/// Between a process and the API server.
#[derive(Clone)]
struct Gate {
    world: Arc<World>,
    process: Arc<Process>,
    inner: ApiService,
}

impl Service<http::Request<Body>> for Gate {
    type Response = http::Response<GatedBody>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Self { world, process, mut inner } = self.clone();
        Box::pin(async move {
            process.awake(&world).await;
            let path = request.uri().to_string(); // with `dryRun=All` where nothing is written
            let answer = inner.call(request).await;
            process.awake(&world).await;
            answer.map(|answer| {
                answer.map(|inner| {
                    process.has_written(&path, &inner);
                    let trickle = world.trickle(&path);
                    GatedBody { inner, world, process, hold: None, trickle, rest: Bytes::new() }
                })
            })
        })
    }
}

/// A body that stands still with its reader.
struct GatedBody {
    inner: AnswerBody,
    world: Arc<World>,
    process: Arc<Process>,
    hold: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// One byte in this time.
    trickle: Option<Duration>,
    rest: Bytes,
}

impl http_body::Body for GatedBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        loop {
            if let Some(hold) = &mut this.hold {
                if hold.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                this.hold = None;
            }
            if this.process.killed.is_cancelled() {
                return Poll::Pending;
            }
            match this.process.held(&this.world) {
                Some(left) => this.hold = Some(Box::pin(wait(left))),
                None if !this.rest.is_empty() => {
                    this.hold =
                        this.trickle.map(|time| -> Pin<Box<dyn Future<Output = ()> + Send>> { Box::pin(wait(time)) });
                    return Poll::Ready(Some(Ok(Frame::data(this.rest.split_to(1)))));
                }
                None => {
                    let next = Pin::new(&mut this.inner).poll_frame(cx);
                    match next {
                        Poll::Ready(Some(Ok(frame))) if this.trickle.is_some() && frame.is_data() => {
                            this.rest = frame.into_data().unwrap_or_default();
                        }
                        Poll::Ready(_) | Poll::Pending => return next,
                    }
                }
            }
        }
    }
}

/// The way to the cloud.
struct Road {
    world: Arc<World>,
    process: Arc<Process>,
}

impl std::fmt::Debug for Road {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Road of {}", self.process.number)
    }
}

impl Transport for Road {
    fn send(&self, request: http::Request<Vec<u8>>) -> Sending<'_> {
        Box::pin(async move {
            self.process.awake(&self.world).await;
            let answer = self.world.clone().call(&self.process, request).await;
            self.process.awake(&self.world).await;
            answer
        })
    }
}
