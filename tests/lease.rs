//! Many candidates over one in-memory API server: cut networks, lost and late answers, edits by hand. Time is tokio's
//! paused clock; every run follows from its seed.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dijob_operator::clock::Clock;
use dijob_operator::lease::{Role, Settings, run};
use http::{Method, Request, Response};
use jiff::Timestamp;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(10);
const PERIOD: Duration = Duration::from_secs(2);
const LATENCY: Duration = Duration::from_millis(5);

// ---- the API server

/// One Lease, if it exists, and what was written into it.
#[derive(Default)]
struct Store {
    version: u64,
    lease: Option<Value>,
    /// Every version, with its time.
    history: Vec<(Duration, Value)>,
    /// So many writes are refused for another writer's sake.
    conflicts: usize,
}

impl Store {
    fn put(&mut self, mut lease: Value, at: Duration) -> Value {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.history.push((at, lease.clone()));
        self.lease = Some(lease.clone());
        lease
    }

    fn edit(&mut self, at: Duration, change: impl FnOnce(&mut Value)) {
        if let Some(mut lease) = self.lease.clone() {
            change(&mut lease["spec"]);
            self.put(lease, at);
        }
    }

    fn answer(&mut self, method: &Method, sent: &[u8], at: Duration) -> (u16, Value) {
        let refuse = |code: u16, reason: &str| {
            (code, json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason}))
        };
        if *method == Method::GET {
            return self.lease.clone().map_or_else(|| refuse(404, "NotFound"), |lease| (200, lease));
        }
        if self.conflicts > 0 {
            self.conflicts -= 1;
            return refuse(409, "Conflict");
        }
        let sent: Value = serde_json::from_slice(sent).unwrap();
        match (method, &self.lease) {
            (&Method::POST, Some(_)) => refuse(409, "AlreadyExists"),
            (&Method::POST, None) => (201, self.put(sent, at)),
            (&Method::PUT, None) => refuse(404, "NotFound"),
            (&Method::PUT, Some(now)) if now["metadata"]["resourceVersion"] != sent["metadata"]["resourceVersion"] => {
                refuse(409, "Conflict")
            }
            (&Method::PUT, Some(_)) => (200, self.put(sent, at)),
            other => panic!("unexpected {other:?}"),
        }
    }
}

/// What the network of one candidate does to a call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Network {
    Fine,
    /// Nothing passes.
    Cut,
    /// Calls are carried out, answers are lost.
    Deaf,
    /// Calls arrive this late, long after they were given up.
    Late(Duration),
    /// Each way takes this long.
    Slow(Duration),
    /// The API server answers 503.
    Down,
}

struct World {
    seed: u64,
    clock: Clock,
    store: Mutex<Store>,
    networks: Mutex<Vec<Network>>,
    /// The roles of the processes that live.
    roles: Mutex<Vec<(String, watch::Receiver<Role>)>>,
}

impl World {
    fn new(seed: u64, candidates: usize) -> Arc<Self> {
        Arc::new(Self {
            seed,
            clock: Clock::seeded(Timestamp::from_second(1_795_500_000).unwrap(), seed),
            store: Mutex::default(),
            networks: Mutex::new(vec![Network::Fine; candidates]),
            roles: Mutex::default(),
        })
    }

    /// A world whose Lease a former leader released.
    fn released(seed: u64, candidates: usize) -> Arc<Self> {
        let world = Self::new(seed, candidates);
        let spec = json!({"leaseDurationSeconds": 1, "leaseTransitions": 7});
        let metadata = json!({"name": "leader", "namespace": "operator", "labels": {"kept": "yes"}});
        let lease =
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec});
        world.store.lock().unwrap().put(lease, Duration::ZERO);
        world
    }

    fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    fn set(&self, who: usize, network: Network) {
        self.networks.lock().unwrap()[who] = network;
    }

    fn spec(&self) -> Value {
        self.store.lock().unwrap().lease.as_ref().unwrap()["spec"].clone()
    }

    /// A number below `end`.
    fn draw(&self, end: usize) -> usize {
        (0..end).rev().find(|n| self.clock.jitter() < 1.0 / f64::from(u32::try_from(n + 1).unwrap())).unwrap_or(0)
    }

    /// A time below `end`.
    fn delay(&self, end: Duration) -> Duration {
        end.mul_f64(self.clock.jitter())
    }

    /// Who leads now, each by its own lights.
    fn leaders(&self) -> Vec<String> {
        let now = self.now();
        let roles = self.roles.lock().unwrap();
        let leading = roles.iter().filter(|(_, role)| role.borrow().outlasts(now, Duration::ZERO));
        leading.map(|(identity, _)| identity.clone()).collect()
    }

    fn check(&self) -> Vec<String> {
        let leaders = self.leaders();
        assert!(leaders.len() <= 1, "seed {}, at {:?}: {leaders:?} lead together", self.seed, self.now());
        leaders
    }

    async fn serve(self: Arc<Self>, who: usize, request: Request<Body>) -> Result<Response<Body>, tower::BoxError> {
        let method = request.method().clone();
        assert!(request.uri().path().starts_with("/apis/coordination.k8s.io/v1/namespaces/operator/leases"));
        let sent = request.into_body().collect_bytes().await?;
        let network = self.networks.lock().unwrap()[who];
        match network {
            Network::Fine | Network::Deaf | Network::Down => sleep(LATENCY).await,
            Network::Cut => pending().await,
            Network::Slow(latency) => sleep(latency).await,
            Network::Late(delay) => {
                let world = Arc::clone(&self);
                tokio::spawn(async move {
                    sleep(delay).await;
                    world.store.lock().unwrap().answer(&method, &sent, world.now());
                });
                return pending().await;
            }
        }
        let (code, json) = if network == Network::Down {
            (503, json!({"kind": "Status", "status": "Failure", "code": 503, "message": "down", "reason": "Down"}))
        } else {
            self.store.lock().unwrap().answer(&method, &sent, self.now())
        };
        self.check();
        match network {
            Network::Fine | Network::Down | Network::Late(_) | Network::Cut => sleep(LATENCY).await,
            Network::Deaf => pending().await,
            Network::Slow(latency) => sleep(latency).await,
        }
        Ok(Response::builder().status(code).body(Body::from(json.to_string().into_bytes()))?)
    }

    /// Starts one process.
    fn start(self: &Arc<Self>, who: usize, life: usize) -> Process {
        let world = Arc::clone(self);
        let serve = tower::service_fn(move |request| Arc::clone(&world).serve(who, request));
        let client = Client::new(serve, "operator");
        let identity = format!("pod-{who}-{life}");
        let settings = Settings {
            namespace: "operator".to_owned(),
            name: "leader".to_owned(),
            identity: identity.clone(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: DEADLINE,
            retry_period: PERIOD,
        };
        let (sender, role) = watch::channel(Role::Follower);
        self.roles.lock().unwrap().push((identity.clone(), role.clone()));
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(client, settings, self.clock.clone(), sender, stop.clone()));
        Process { world: Arc::clone(self), identity, role, stop, task }
    }
}

struct Process {
    world: Arc<World>,
    identity: String,
    role: watch::Receiver<Role>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Process {
    /// As by `kill -9`.
    fn kill(&self) {
        self.task.abort();
        self.world.roles.lock().unwrap().retain(|(identity, _)| *identity != self.identity);
    }

    async fn leads(&mut self) -> (i64, Duration) {
        match &*self.role.wait_for(|role| matches!(role, Role::Leader { .. })).await.unwrap() {
            Role::Leader { holder, transitions, valid_until } => {
                assert_eq!(*holder, self.identity);
                (*transitions, *valid_until)
            }
            other @ (Role::Follower | Role::Lost) => panic!("{other:?}"),
        }
    }
}

// ---- one thing at a time

#[tokio::test(start_paused = true)]
async fn a_released_lease_is_taken_at_the_first_look() {
    let world = World::released(1, 1);
    let mut process = world.start(0, 0);
    let (transitions, valid_until) = process.leads().await;
    assert_eq!(transitions, 8);
    assert_eq!(world.now(), 4 * LATENCY, "a read and a write");
    assert_eq!(valid_until, 2 * LATENCY + DEADLINE, "counted from before the write was sent");
    let lease = world.store.lock().unwrap().lease.clone().unwrap();
    assert_eq!(lease["metadata"]["labels"]["kept"], "yes");
    let spec = &lease["spec"];
    assert_eq!((&spec["holderIdentity"], &spec["leaseTransitions"]), (&json!("pod-0-0"), &json!(8)));
    assert_eq!(spec["leaseDurationSeconds"], 15);
    assert_eq!(spec["acquireTime"], spec["renewTime"]);
    sleep(PERIOD).await;
    let renewed = world.spec();
    assert_eq!(renewed["acquireTime"], spec["acquireTime"]);
    assert_ne!(renewed["renewTime"], spec["renewTime"]);
}

#[tokio::test(start_paused = true)]
async fn an_absent_lease_is_created_once_no_former_leader_can_be_left() {
    let world = World::new(1, 2);
    let (mut one, mut two) = (world.start(0, 0), world.start(1, 0));
    let (transitions, _) = tokio::select! { led = one.leads() => led, led = two.leads() => led };
    assert_eq!(transitions, 1);
    assert!(world.now() >= Duration::from_secs(15) && world.now() < Duration::from_secs(16), "{:?}", world.now());
    sleep(DEADLINE).await;
    assert_eq!(world.check().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_api_hangs_stops_before_the_deadline() {
    for network in [Network::Cut, Network::Deaf, Network::Down, Network::Late(DEADLINE)] {
        let world = World::released(1, 2);
        let mut leader = world.start(0, 0);
        leader.leads().await;
        sleep(Duration::from_secs(7)).await;
        let (_, valid_until) = leader.leads().await;
        let mut next = world.start(1, 0);
        world.set(0, network);
        assert!(leader.role.borrow().outlasts(world.now(), Duration::from_secs(6)));
        leader.role.wait_for(|role| *role == Role::Lost).await.unwrap();
        assert!(world.now() <= valid_until + Duration::from_millis(1), "{network:?}: {:?}", world.now());
        assert!(leader.task.is_finished() || leader.task.await.is_ok(), "the task ends");
        let (transitions, _) = next.leads().await;
        assert_eq!(transitions, 9, "a take-over counts");
        let bound = if network == Network::Cut || network == Network::Down { 17 } else { 30 };
        let waited = world.now().checked_sub(valid_until).unwrap() + DEADLINE;
        assert!(waited <= Duration::from_secs(bound), "{network:?}: the next one led after {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_dies_is_followed_within_17_seconds() {
    for seed in 0..20 {
        let world = World::released(seed, 2);
        let mut leader = world.start(0, 0);
        leader.leads().await;
        let mut next = world.start(1, 0);
        sleep(Duration::from_millis(9_000 + 100 * seed)).await;
        leader.kill();
        let died = world.now();
        let (transitions, _) = next.leads().await;
        assert_eq!(transitions, 9);
        let waited = world.now().checked_sub(died).unwrap();
        assert!(waited <= Duration::from_secs(17) + 4 * LATENCY, "seed {seed}: {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_lets_the_next_one_lead_within_one_retry_period() {
    for seed in 0..20 {
        let world = World::released(seed, 2);
        let mut leader = world.start(0, 0);
        leader.leads().await;
        let mut next = world.start(1, 0);
        sleep(Duration::from_millis(7_000 + 90 * seed)).await;
        leader.stop.cancel();
        let stopped = world.now();
        leader.task.await.unwrap();
        assert_eq!(*leader.role.borrow(), Role::Follower);
        let (transitions, _) = next.leads().await;
        assert_eq!(transitions, 9);
        let waited = world.now().checked_sub(stopped).unwrap();
        assert!(waited <= PERIOD + 10 * LATENCY, "seed {seed}: {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_leaves_no_holder_and_gives_up_on_a_dead_api() {
    let world = World::released(1, 1);
    let mut leader = world.start(0, 0);
    leader.leads().await;
    world.store.lock().unwrap().conflicts = 1;
    leader.stop.cancel();
    leader.task.await.unwrap();
    let spec = world.spec();
    assert_eq!((spec.get("holderIdentity"), &spec["leaseDurationSeconds"]), (None, &json!(1)));
    assert_eq!(spec["leaseTransitions"], 8);

    let mut leader = world.start(0, 1);
    leader.leads().await;
    world.set(0, Network::Cut);
    leader.stop.cancel();
    let stopped = world.now();
    leader.task.await.unwrap();
    assert!(world.now().checked_sub(stopped).unwrap() < Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_stops_writes_nothing() {
    let world = World::released(1, 2);
    let mut leader = world.start(0, 0);
    leader.leads().await;
    let follower = world.start(1, 0);
    sleep(PERIOD).await;
    leader.kill();
    let version = world.store.lock().unwrap().version;
    follower.stop.cancel();
    follower.task.await.unwrap();
    assert_eq!(world.store.lock().unwrap().version, version);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_news_and_no_loss() {
    let world = World::released(1, 1);
    let mut leader = world.start(0, 0);
    leader.leads().await;
    let until = world.now() + 60 * PERIOD;
    while world.now() < until {
        world.store.lock().unwrap().conflicts = 3;
        sleep(4 * PERIOD).await;
        assert_eq!(world.leaders(), ["pod-0-0"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_api_server_keeps_its_leader() {
    let world = World::released(1, 1);
    world.set(0, Network::Slow(Duration::from_millis(1_500)));
    let mut leader = world.start(0, 0);
    leader.leads().await;
    for _ in 0..100 {
        sleep(Duration::from_secs(1)).await;
        assert_eq!(world.leaders(), ["pod-0-0"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_lease_is_created_again_by_its_leader_in_the_same_epoch() {
    let world = World::released(1, 2);
    let mut leader = world.start(0, 0);
    leader.leads().await;
    world.start(1, 0);
    sleep(3 * PERIOD).await;
    world.store.lock().unwrap().lease = None;
    world.start(1, 1); // one that never saw the Lease
    for _ in 0..100 {
        sleep(PERIOD / 4).await;
        assert_eq!(world.leaders(), ["pod-0-0"]);
    }
    assert_eq!((&world.spec()["holderIdentity"], &world.spec()["leaseTransitions"]), (&json!("pod-0-0"), &json!(8)));
}

#[tokio::test(start_paused = true)]
async fn an_emptied_lease_is_filled_again_by_its_leader() {
    let world = World::released(1, 2);
    let mut leader = world.start(0, 0);
    leader.leads().await;
    world.start(1, 0);
    sleep(3 * PERIOD).await;
    world.store.lock().unwrap().edit(world.now(), |spec| *spec = json!({}));
    for _ in 0..100 {
        sleep(PERIOD / 4).await;
        assert_eq!(world.leaders(), ["pod-0-0"]);
    }
    assert_eq!((&world.spec()["holderIdentity"], &world.spec()["leaseTransitions"]), (&json!("pod-0-0"), &json!(8)));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_finds_another_name_in_the_lease_is_lost() {
    let world = World::released(1, 1);
    let mut leader = world.start(0, 0);
    leader.leads().await;
    let edited = world.now();
    world.store.lock().unwrap().edit(edited, |spec| spec["holderIdentity"] = json!("somebody"));
    leader.role.wait_for(|role| *role == Role::Lost).await.unwrap();
    assert!(world.now().checked_sub(edited).unwrap() <= PERIOD + 2 * LATENCY);
    leader.task.await.unwrap();
    assert_eq!(world.spec()["holderIdentity"], "somebody", "what is not ours is not touched");
}

// ---- anything at any time

/// One candidate: its process is killed, stopped, or ends by itself, and starts again under another name.
async fn live(world: Arc<World>, who: usize, calm: Duration, lost: Arc<Mutex<usize>>) {
    for life in 0.. {
        let mut process = world.start(who, life);
        let end = world.now() + world.delay(Duration::from_secs(90));
        tokio::select! {
            biased;
            done = &mut process.task => {
                done.unwrap();
                assert_eq!(*process.role.borrow(), Role::Lost, "an election ends by itself only when it is lost");
                *lost.lock().unwrap() += 1;
            }
            () = sleep_until(world.clock.instant(end)), if end < calm => {
                if world.draw(2) == 0 {
                    process.kill();
                } else {
                    process.stop.cancel();
                    (&mut process.task).await.unwrap();
                }
            }
        }
        process.kill();
        sleep(Duration::from_millis(300)).await;
    }
}

/// Someone with kubectl. The one thing not done is to forge a clean release.
fn meddle(world: &World) {
    let now = world.now();
    let mut names: Vec<_> = world.roles.lock().unwrap().iter().map(|(identity, _)| identity.clone()).collect();
    names.push("somebody".to_owned());
    let name = names[world.draw(names.len())].clone();
    let choice = world.draw(6);
    let mut store = world.store.lock().unwrap();
    match choice {
        0 => store.lease = None,
        1 => store.edit(now, |spec| spec["holderIdentity"] = json!(name)),
        2 => store.edit(now, |spec| *spec = json!({})),
        3 => store.edit(now, |spec| spec["leaseDurationSeconds"] = json!(if name == "somebody" { -1 } else { 2 })),
        4 => store.edit(now, |spec| spec["leaseTransitions"] = json!(i32::MAX)),
        _ => store.conflicts = 2,
    }
}

async fn schedule(seed: u64) -> (usize, usize) {
    let world = World::new(seed, 3);
    let (calm, end) = (Duration::from_secs(400), Duration::from_secs(480));
    let lost = Arc::new(Mutex::new(0));
    for who in 0..3 {
        tokio::spawn(live(Arc::clone(&world), who, calm, Arc::clone(&lost)));
    }
    let mut terms = Vec::new();
    let mut next_fault = Duration::ZERO;
    while world.now() < end {
        if world.now() >= calm {
            world.networks.lock().unwrap().fill(Network::Fine);
        } else if world.now() >= next_fault {
            next_fault = world.now() + world.delay(Duration::from_secs(12));
            let delay = world.delay(Duration::from_secs(20));
            let bad = [Network::Cut, Network::Deaf, Network::Late(delay), Network::Slow(delay / 8), Network::Down];
            let network = if world.draw(2) == 0 { Network::Fine } else { bad[world.draw(bad.len())] };
            world.set(world.draw(3), network);
            if world.draw(6) == 0 {
                meddle(&world);
            }
        }
        sleep(Duration::from_millis(50)).await;
        terms.extend(world.check().into_iter().filter(|leader| terms.last() != Some(leader)).collect::<Vec<_>>());
        // After all faults: the last late call (20 s), one whole wait, one round.
        let settled = world.now() > calm + Duration::from_secs(60);
        assert!(!settled || world.leaders().len() == 1, "seed {seed}: nobody leads at {:?}", world.now());
    }
    let losses = *lost.lock().unwrap();
    (terms.len(), losses)
}

#[test]
fn never_two_leaders_and_always_one_again() {
    let (mut terms, mut losses) = (0, 0);
    for seed in 0..30 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (led, lost) = runtime.block_on(async { tokio::spawn(schedule(seed)).await.unwrap() });
        terms += led;
        losses += lost;
    }
    assert!(terms > 30 * 4 && losses > 30, "the schedules are too tame: {terms} terms, {losses} lost");
}
