//! The limits of the machine and of the cloud: a full disk, few files, little memory, a tenth of a processor, and a cloud
//! that accepts calls and never answers. Slower, but no start is doubled and no status lies.
//!
//! What the limits mean: logs go to `/dev/full`, where each write fails as on a full disk; 64 open files are
//! `RLIMIT_NOFILE`; 64 MB are `RLIMIT_DATA`, all private writable memory, heap and stacks of all threads; a tenth of a
//! processor is SIGSTOP for 90 ms of each 100 ms, so that time passes while nothing runs, as under a CPU quota.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "support"]
#[expect(dead_code, reason = "this test uses a part of what the tests share")]
mod support {
    pub mod plan;
    pub mod schema;
    pub mod world;
}
#[path = "outages/history.rs"]
#[expect(dead_code, reason = "terms of leaders are for the outages")]
mod history;
#[path = "outages/process.rs"]
#[expect(dead_code, reason = "the other half is for the outages")]
mod process;
#[path = "outages/scene.rs"]
#[expect(dead_code, reason = "the other half is for the outages")]
mod scene;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use process::{Output, Process};
use scene::{Fleet, SHORT, Scene};
use simulator::{Behaviour, Fate, Fault};

/// Between two looks at the cluster.
async fn look_again() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Jobs of a fleet; every fifth is forced.
const JOBS: usize = 50;
const LIMIT: Duration = Duration::from_secs(600);

#[expect(clippy::disallowed_methods, reason = "the switch of the full run")]
fn is_full_run() -> bool {
    std::env::var("OUTAGES").is_ok()
}

/// Starts a fleet under an operator that `limit` has been put on, and ends that operator in order.
async fn a_fleet_under(
    name: &str,
    flags: &[&str],
    limit: impl FnOnce(&mut process::Launch),
    while_it_runs: impl FnOnce(&Process, &AtomicBool) + Send + 'static,
) -> Shown {
    let scene = Scene::start(name).await;
    let mut launch = scene.launch(&scene.cluster.server().0, &[&SHORT[..], flags].concat());
    limit(&mut launch);
    let mut fleet = Fleet::new(&scene, name).await;
    for at in 0..JOBS {
        fleet.add(&format!("job-{at}"), at % 5 == 0).await;
    }
    let enough = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&enough);
    let process = tokio::task::spawn_blocking(move || {
        let process = Process::start(&launch);
        while_it_runs(&process, &over);
        process
    });
    fleet.until_done(LIMIT).await;
    for at in (0..JOBS).step_by(7) {
        fleet.rerun(&format!("job-{at}")).await;
    }
    fleet.until_done(LIMIT).await;
    enough.store(true, Ordering::Relaxed);
    let mut process = process.await.unwrap();
    fleet.judge().await;
    assert_eq!(process.get("/healthz").map(|(status, _)| status), Some(200), "it lives");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
    let cpu = process.cpu_share();
    println!(
        "{name}: {:?}, {} kB at most, {cpu:.3} of a processor",
        process.open_files_and_threads(),
        process.peak_memory()
    );
    assert!(tokio::task::block_in_place(|| process.terminate()).success(), "it ends in order");
    let log = process.log();
    drop(process);
    fleet.end(std::slice::from_ref(&log)).await;
    Shown { limits, cpu, log }
}

/// What the process was like.
struct Shown {
    limits: String,
    cpu: f64,
    log: Vec<String>,
}

impl Shown {
    /// The limit was in force: as the kernel tells it.
    fn has(&self, limit: &str) -> bool {
        self.limits.lines().any(|line| line.split_whitespace().collect::<Vec<_>>().join(" ").starts_with(limit))
    }
}

/// Covers: 41p.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_costs_log_lines_and_nothing_else() {
    let shown = a_fleet_under("full-disk", &[], |launch| launch.output = Output::FullDisk, |_, _| ()).await;
    assert!(shown.log.is_empty());
}

/// Covers: 41p.
#[tokio::test(flavor = "multi_thread")]
async fn with_64_open_files_a_fleet_is_started_once_each() {
    // With as many passes as shipped it works too, but idle connections hold files, and the waits grow to minutes.
    let flags: &[&str] = if is_full_run() { &[] } else { &["--max-concurrent-passes=24"] };
    let shown = a_fleet_under("few-files", flags, |launch| launch.before = "ulimit -n 64", |_, _| ()).await;
    assert!(shown.has("Max open files 64 64"), "{}", shown.limits);
    let refused = shown.log.iter().filter(|line| line.contains("Too many open files")).count();
    println!("{refused} lines about files that could not be opened");
}

/// Covers: 41p.
#[tokio::test(flavor = "multi_thread")]
async fn in_64_mb_of_memory_a_fleet_is_started_once_each() {
    let shown = a_fleet_under("little-memory", &[], |launch| launch.before = "ulimit -d 65536", |_, _| ()).await;
    assert!(shown.has("Max data size 67108864 67108864"), "{}", shown.limits);
}

/// Covers: 41p.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_tenth_of_a_processor_a_fleet_is_started_once_each() {
    let duty = |process: &Process, over: &AtomicBool| {
        while !over.load(Ordering::Relaxed) {
            process.signal("STOP");
            std::thread::sleep(Duration::from_millis(90)); // off
            process.signal("CONT");
            std::thread::sleep(Duration::from_millis(10)); // on
        }
    };
    let shown = a_fleet_under("slow", &["--leader-elect=false"], |_| (), duty).await;
    assert!(shown.cpu <= 0.25, "{} of a processor", shown.cpu);
}

/// A cloud of its own that never answers.
async fn hanging(scene: &Scene, namespace: &str, jobs: usize) -> Fleet {
    let mut fleet = Fleet::new(scene, namespace).await;
    fleet.tenant.cloud.add_fault(Fault { behaviour: Behaviour::hang_before(), ..Fault::default() });
    for at in 0..jobs {
        fleet.add(&format!("job-{at}"), at % 5 == 0).await;
    }
    fleet
}

/// Accounts whose cloud never answers, with more jobs each than may call at once.
const SILENT: usize = 1;

/// Covers: 40p.
#[tokio::test(flavor = "multi_thread")]
async fn while_calls_hang_another_account_starts_its_jobs() {
    let scene = Scene::start("hanging").await;
    // Longer than the test waits for what must not wait for it.
    let times = ["--leader-elect=false", "--call-timeout=60s", "--settle-time=61s", "--confirm-timeout=62s"];
    let launch = scene.launch(&scene.cluster.server().0, &times);
    let mut silent = Vec::new();
    for at in 0..SILENT {
        silent.push(hanging(&scene, &format!("silent-{at}"), 80).await);
    }
    let process = tokio::task::spawn_blocking(move || Process::start(&launch)).await.unwrap();
    let fates = |fate: Fate| {
        let count = |fleet: &Fleet| fleet.tenant.cloud.ledger().entries().iter().filter(|e| e.answer == fate).count();
        silent.iter().map(count).sum::<usize>()
    };
    // Half of the passes that are shipped, for each account.
    let all_hang = async {
        while fates(Fate::Hung) < (32 * SILENT).min(64) {
            look_again().await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, all_hang).await.is_ok(), "{} calls hang", fates(Fate::Hung));
    let mut well = Fleet::new(&scene, "well").await;
    well.add("ordinary", false).await;
    well.add("forced", true).await;
    let both = |ledger: &simulator::Ledger| !ledger.executions(1).is_empty() && !ledger.executions(2).is_empty();
    let started = well.tenant.cloud.wait_until(Duration::from_secs(50), both).await;
    let (hang, given_up) = (fates(Fate::Hung), fates(Fate::ClientGone));
    assert!(started, "{hang} calls hang, and nobody else's leave");
    assert_eq!(given_up, 0, "the others were not served before these calls were given up");
    for fleet in &silent {
        fleet.tenant.cloud.clear_faults();
    }
    well.until_done(LIMIT).await;
    well.judge().await;
    let logs = [process.log()];
    drop(process);
    for fleet in silent.into_iter().chain([well]) {
        fleet.end(&logs).await;
    }
}
