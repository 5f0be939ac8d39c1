//! Faults beside the outages: watches that end, a Lease edited by hand, a leader that is stopped, clocks that are wrong.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeSet, VecDeque};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::process::{Deployment, Process};
use crate::scene::{Fleet, SHORT, Scene};
use crate::support::proxy::{Edited, Exchange, Held, Moment, Proxy, Upstream};
use crate::wire::Wire;
use crate::{blocking, history, is_full_run};

const LIMIT: Duration = Duration::from_secs(60);

/// A cluster, for one test at a time: its deployment works on all namespaces. The next one finds it again.
struct Turn(Option<&'static Scene>);

static IDLE: Mutex<Vec<&'static Scene>> = Mutex::new(Vec::new());

impl Turn {
    async fn begin() -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let idle = IDLE.lock().unwrap().pop();
        if let Some(scene) = idle {
            return Self(Some(scene));
        }
        let name = format!("faults-{}", STARTED.fetch_add(1, Ordering::Relaxed));
        Self(Some(Box::leak(Box::new(Scene::start(&name).await)))) // its processes end with ours
    }
}

impl Deref for Turn {
    type Target = Scene;

    fn deref(&self) -> &Scene {
        self.0.unwrap()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // A failed test leaves objects behind that the next one's operator would find.
        if !std::thread::panicking() {
            IDLE.lock().unwrap().extend(self.0);
        }
    }
}

/// A fleet that has settled.
async fn settled(scene: &Scene, name: &str) -> Fleet {
    let mut fleet = Fleet::new(scene, name).await;
    fleet.add("ordinary", false).await;
    fleet.add("changed", false).await;
    fleet.add("forced", true).await;
    fleet.until_done(LIMIT).await;
    fleet
}

fn is_watch(exchange: &Exchange) -> bool {
    exchange.path.contains("watch=true") && exchange.path.contains("dijob.dev")
}

/// Every watch ends at once: by turns without a word, and with 410 as an event.
fn end_watches(proxy: &Proxy) -> [Held; 2] {
    let gone = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410,
        "message": "too old resource version" });
    let gone = format!("{}\n", json!({ "type": "ERROR", "object": gone }));
    let odd = proxy.hold_each(Moment::RequestSeen, |e| is_watch(e) && e.number % 2 == 1);
    let even = proxy.hold_each(Moment::RequestSeen, |e| is_watch(e) && e.number % 2 == 0);
    odd.answer(StatusCode::OK, "application/json", "");
    even.answer(StatusCode::OK, "application/json", gone);
    [odd, even]
}

/// Covers: 16p.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn watches_that_end_again_and_again_hide_nothing_and_make_no_storm() {
    let turn = Turn::begin().await;
    let scene: &Scene = &turn;
    let (url, authority) = scene.cluster.server();
    let proxy = Proxy::start(Upstream::https(&url, &authority)).await;
    let wire = Wire::start(proxy.url().trim_start_matches("http://").parse().unwrap()).await;
    let flags = [&SHORT[..], &["--leader-elect=false"]].concat();
    let launch = scene.launch(&format!("http://{}", wire.address()), &flags);
    let deployment = blocking(|| Deployment::start(vec![launch]));
    let mut fleet = settled(scene, "storm").await;
    let before = proxy.exchanges().iter().filter(|e| is_watch(e)).count();
    let held = end_watches(&proxy);
    wire.cut(); // the watches that there are
    fleet.rerun("ordinary").await;
    fleet.rerun("forced").await;
    let storm = Duration::from_secs(if is_full_run() { 10 } else { 4 });
    tokio::time::sleep(storm).await; // the length of the storm
    let asked = proxy.exchanges().iter().filter(|e| is_watch(e)).count() - before;
    drop(held);
    fleet.add("new", false).await;
    fleet.until_done(LIMIT).await;
    fleet.judge().await;
    println!("{asked} watches in a storm of {storm:?}");
    assert!(asked >= 4, "the storm never reached the operator");
    assert!(asked <= 60, "{asked} watches in {storm:?}: each failure must wait");
    let seen = deployment.seen();
    assert!(seen.unhealthy.is_empty() && seen.ends.is_empty(), "{seen:?}");
    let logs = deployment.logs();
    blocking(|| drop(deployment));
    fleet.end(&logs).await;
}

/// What becomes of the events of a watch.
#[derive(Clone, Copy, Debug)]
enum Events {
    /// Each comes three times.
    Doubled,
    /// Each is lost once, and its stream ends as if nothing had been.
    LostAtTheEnd,
    /// Each is lost once, and 410 comes in its place.
    GoneInstead,
    /// Each comes again after the next one: the older version last.
    OutOfOrder,
}

fn edited(events: Events) -> impl FnMut(&Exchange, &[u8]) -> Edited + Send + 'static {
    let gone = json!({ "type": "ERROR", "object": { "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "reason": "Expired", "code": 410, "message": "too old resource version" } });
    let mut before = Bytes::new();
    let mut lost = BTreeSet::new();
    move |exchange, line| {
        let is_event = [&br#"{"type":"ADDED""#[..], br#"{"type":"MODIFIED""#].iter().any(|kind| line.starts_with(kind));
        if !is_watch(exchange) || !is_event {
            return Edited::kept(line);
        }
        let line = Bytes::copy_from_slice(line);
        match events {
            Events::Doubled => Edited::Lines(vec![line; 3]),
            Events::LostAtTheEnd if lost.insert(line.clone()) => Edited::Last(Vec::new()),
            Events::GoneInstead if lost.insert(line.clone()) => Edited::Lines(vec![format!("{gone}\n").into()]),
            Events::LostAtTheEnd | Events::GoneInstead => Edited::Lines(vec![line]),
            Events::OutOfOrder => {
                let older = std::mem::replace(&mut before, line.clone());
                Edited::Lines([line, older].into_iter().filter(|line| !line.is_empty()).collect())
            }
        }
    }
}

/// Covers: 16p.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn events_that_are_doubled_lost_or_replaced_by_410_hide_nothing_and_start_nothing_twice() {
    let turn = Turn::begin().await;
    let scene: &Scene = &turn;
    let (url, authority) = scene.cluster.server();
    let proxy = Proxy::start(Upstream::https(&url, &authority)).await;
    let flags = [&SHORT[..], &["--leader-elect=false"]].concat();
    let launch = scene.launch(proxy.url(), &flags);
    let deployment = blocking(|| Deployment::start(vec![launch]));
    let mut fleet = settled(scene, "events").await;
    for events in [Events::Doubled, Events::LostAtTheEnd, Events::GoneInstead, Events::OutOfOrder] {
        let count = Arc::new(AtomicUsize::new(0));
        let (counted, mut edit) = (Arc::clone(&count), edited(events));
        proxy.edit_watches(Some(move |exchange: &Exchange, line: &[u8]| {
            let edited = edit(exchange, line);
            let is_kept = matches!(&edited, Edited::Lines(lines) if lines.len() == 1 && lines[0] == line);
            counted.fetch_add(usize::from(!is_kept), Ordering::Relaxed);
            edited
        }));
        let before = proxy.exchanges().iter().filter(|e| is_watch(e)).count();
        let began = proxy.elapsed();
        fleet.rerun("ordinary").await;
        fleet.rerun("forced").await;
        fleet.change("changed").await;
        fleet.add(&format!("new-{events:?}").to_lowercase(), false).await;
        fleet.until_done(LIMIT).await;
        let asked = proxy.exchanges().iter().filter(|e| is_watch(e)).count() - before;
        let took = proxy.elapsed().saturating_sub(began);
        let edited = count.load(Ordering::Relaxed);
        println!("{events:?}: {edited} events, {asked} watches in {took:?}");
        assert!(edited >= 2, "{edited} events were {events:?}");
        assert!(asked <= 20 + 4 * usize::try_from(took.as_secs()).unwrap(), "{asked} watches in {took:?}");
    }
    proxy.edit_watches(None::<fn(&Exchange, &[u8]) -> Edited>);
    fleet.judge().await;
    assert_eq!(fleet.doubles(), 0);
    let seen = deployment.seen();
    assert!(seen.unhealthy.is_empty() && seen.ends.is_empty(), "{seen:?}");
    let logs = deployment.logs();
    blocking(|| drop(deployment));
    fleet.end(&logs).await;
}

/// Covers: 42p.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rolling_update_with_two_more_replicas_starts_each_job_once() {
    let turn = Turn::begin().await;
    let scene: &Scene = &turn;
    let launch = scene.launch(&scene.cluster.server().0, &SHORT);
    let start = || {
        let process = Process::start(&launch);
        process.wait_ready();
        process
    };
    let mut running = blocking(|| VecDeque::from([start(), start()]));
    let mut fleet = settled(scene, "rolling").await;
    let mut logs = Vec::new();
    for update in 0..if is_full_run() { 10 } else { 2 } {
        // Two of the new kind beside two of the old one, then the old ones go, one after the other, with work under way.
        blocking(|| running.extend([start(), start()]));
        for old in 0..2 {
            fleet.rerun("ordinary").await;
            fleet.change("changed").await;
            fleet.rerun("forced").await;
            fleet.add(&format!("new-{update}-{old}"), old == 1).await;
            let mut process = running.pop_front().unwrap();
            assert!(blocking(|| process.terminate()).success(), "it ends in order");
            logs.push(process.log());
            fleet.until_done(LIMIT).await;
            assert_eq!(fleet.unsettled().await, Vec::<String>::new(), "an orderly end costs no start");
        }
        assert_eq!(running.len(), 2);
    }
    fleet.judge().await;
    assert_eq!(fleet.doubles(), 0);
    logs.extend(running.iter().map(Process::log));
    let terms = history::terms(&logs);
    assert!(terms.len() >= 2, "the leader was never replaced: {terms:?}");
    let overlaps = history::overlaps(&terms);
    assert!(overlaps.is_empty(), "two led at once: {overlaps:?}");
    blocking(|| drop(running));
    fleet.end(&logs).await;
}

/// What a person does to the Lease.
async fn edit_lease(leases: &Api<Lease>, edit: &Value) {
    leases.patch("dijob-operator", &PatchParams::default(), &Patch::Merge(edit)).await.unwrap();
}

/// Covers: 22p.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lease_edited_by_hand_leaves_one_leader_and_every_start_done_once() {
    let turn = Turn::begin().await;
    let scene: &Scene = &turn;
    let launch = scene.launch(&scene.cluster.server().0, &SHORT);
    let deployment = blocking(|| Deployment::start(vec![launch.clone(), launch]));
    let mut fleet = settled(scene, "by-hand").await;
    let leases: Api<Lease> = Api::namespaced(fleet.tenant.client.clone(), "dijob-system");
    // The API server takes microseconds, no more digits.
    let soon = |hours: i64| format!("{:.6}", fleet.tenant.cloud.now() + SignedDuration::from_hours(hours));
    let stranger = json!({ "spec": { "holderIdentity": "a stranger", "renewTime": soon(0) } });
    let future = json!({ "spec": { "renewTime": soon(1) } });
    let stranger_of_the_future = json!({ "spec": { "holderIdentity": "another stranger", "renewTime": soon(1) } });
    let nobody = json!({ "spec": { "holderIdentity": null, "leaseDurationSeconds": null } });
    for edit in [stranger, future, stranger_of_the_future, nobody, Value::Null] {
        fleet.rerun("ordinary").await;
        fleet.rerun("forced").await;
        if edit.is_null() {
            leases.delete("dijob-operator", &DeleteParams::default()).await.unwrap();
        } else {
            edit_lease(&leases, &edit).await;
        }
        fleet.until_done(LIMIT).await;
        let holder = leases.get_opt("dijob-operator").await.unwrap().and_then(|lease| lease.spec?.holder_identity);
        assert!(holder.is_some_and(|holder| holder.starts_with("dijob-operator_")), "after {edit}");
    }
    fleet.judge().await;
    let logs = deployment.logs();
    let terms = history::terms(&logs);
    let overlaps = history::overlaps(&terms);
    assert!(overlaps.is_empty(), "two led at once: {overlaps:?}");
    assert!(terms.len() >= 3, "the strangers deposed nobody: {terms:?}");
    assert!(deployment.seen().unhealthy.is_empty());
    blocking(|| drop(deployment));
    fleet.end(&logs).await;
}

/// Covers: 21p.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_stopped_at_random_moments_sends_nothing_twice() {
    let turn = Turn::begin().await;
    let scene: &Scene = &turn;
    let rounds = if is_full_run() { 20 } else { 3 };
    #[expect(clippy::disallowed_methods, reason = "the switch of a replay")]
    let seed = std::env::var("SEED").map_or(7, |seed| seed.parse().unwrap());
    #[expect(clippy::disallowed_methods, reason = "seeded, and told")]
    let mut random = fastrand::Rng::with_seed(seed);
    println!("SEED={seed}");
    let launch = scene.launch(&scene.cluster.server().0, &SHORT);
    let deployment = blocking(|| Deployment::start(vec![launch.clone(), launch]));
    let mut fleet = settled(scene, "stopped").await;
    for round in 0..rounds {
        blocking(|| deployment.wait_leader());
        // A forced start that rests as unknown would stand in the way of the next: each round has its own.
        fleet.add(&format!("forced-{round}"), true).await;
        fleet.rerun("ordinary").await;
        let (moment, pause) = (random.u64(0..300), random.u64(200..4500));
        blocking(|| {
            std::thread::sleep(Duration::from_millis(moment)); // a random moment
            let leader = deployment.with(|all| all.iter().position(Process::leads));
            deployment.with(|all| {
                let Some(process) = leader.and_then(|leader| all.get(leader)) else { return };
                process.signal("STOP");
                std::thread::sleep(Duration::from_millis(pause)); // the length of the pause
                process.signal("CONT");
            });
        });
        fleet.until_done(LIMIT).await;
    }
    fleet.judge().await;
    println!("{rounds} rounds, {} processes ended", deployment.seen().ends.len());
    let logs = deployment.logs();
    blocking(|| drop(deployment));
    fleet.end(&logs).await;
}

/// Builds what shifts the wall clock of a process.
fn shift_of_the_wall_clock(directory: &Path) -> PathBuf {
    let library = directory.join("wall.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/outages/wall.c");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status().unwrap();
    assert!(built.success(), "the compiler that links Rust also builds {source}");
    library
}

/// Covers: 23p.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replicas_and_a_cloud_whose_clocks_differ_and_jump_start_each_job_once() {
    let turn = Turn::begin().await;
    let scene: &Scene = &turn;
    let library = shift_of_the_wall_clock(scene.directory());
    let offset_of = |name: &str| scene.directory().join(name);
    let set = |name: &str, seconds: i64| std::fs::write(offset_of(name), seconds.to_string()).unwrap();
    let launches = ["early", "late"].map(|name| {
        let mut launch = scene.launch(&scene.cluster.server().0, &SHORT);
        let file = offset_of(name).to_str().unwrap().to_owned();
        let preload = library.to_str().unwrap().to_owned();
        launch.environment = vec![("LD_PRELOAD".to_owned(), preload), ("WALL_OFFSET_FILE".to_owned(), file)];
        launch
    });
    set("early", -3600);
    set("late", 3600);
    let deployment = blocking(|| Deployment::start(launches.into()));
    let mut fleet = settled(scene, "wall-clock").await;
    let now = fleet.tenant.cloud.now();
    for (log, hours) in deployment.logs().iter().zip([-1, 1]) {
        let first: Value = serde_json::from_str(&log[0]).unwrap();
        let told: Timestamp = first["timestamp"].as_str().unwrap().parse().unwrap();
        let apart = told.duration_since(now).as_secs_f64() / 3600.0;
        assert!((apart - f64::from(hours)).abs() < 0.1, "its clock is {apart} h off, not {hours}");
    }
    for (early, late, cloud) in [(3600, -3600, 1), (-3600, 0, -1)] {
        // Jumps while all run; then the other one leads, whose clock is elsewhere.
        set("early", early);
        set("late", late);
        fleet.tenant.cloud.switch(|switches| switches.clock_offset = SignedDuration::from_hours(cloud));
        fleet.rerun("ordinary").await;
        fleet.rerun("forced").await;
        fleet.until_done(LIMIT).await;
        let leader = blocking(|| deployment.wait_leader());
        assert!(blocking(|| deployment.with(|all| all[leader].terminate())).success());
        fleet.rerun("forced").await;
        fleet.rerun("ordinary").await;
        fleet.until_done(LIMIT).await;
    }
    fleet.judge().await;
    assert!(deployment.seen().unhealthy.is_empty());
    let logs = deployment.logs();
    blocking(|| drop(deployment));
    fleet.end(&logs).await;
}
