//! The limits of the machine and of the cloud: a full disk, few files, little memory, a tenth of a processor, and a cloud
//! that accepts calls and never answers. Slower, but no start is doubled and no status lies.
//!
//! What the limits mean: logs go to `/dev/full`, where each write fails as on a full disk; 64 open files are
//! `RLIMIT_NOFILE`; 64 MB are `RLIMIT_DATA`, all private writable memory, heap and stacks of all threads; a tenth of a
//! processor is SIGSTOP for 90 ms of each 100 ms, so that time passes while nothing runs, as under a CPU quota.
//!
//! That they are felt: of memory, a third of 64 MB with the largest answers there can be, which end the process at least
//! once; 64 MB hold all that there can be. Of the processor, a thread was at work, or ready to be, at many of the moments at
//! which it was taken away.

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
#[expect(dead_code, reason = "a part is for the outages")]
mod process;
#[path = "outages/scene.rs"]
#[expect(dead_code, reason = "the other half is for the outages")]
mod scene;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use jiff::SignedDuration;
use process::{Deployment, Output, Process};
use scene::{Fleet, SHORT, Scene};
use simulator::{Behaviour, Fate, Fault, Oddity};

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
    let cut = Arc::new(AtomicUsize::new(0));
    let cuts = Arc::clone(&cut);
    let duty = move |process: &Process, over: &AtomicBool| {
        while !over.load(Ordering::Relaxed) {
            cuts.fetch_add(usize::from(process.is_at_work()), Ordering::Relaxed);
            process.signal("STOP");
            std::thread::sleep(Duration::from_millis(90)); // off
            process.signal("CONT");
            std::thread::sleep(Duration::from_millis(10)); // on
        }
    };
    let shown = a_fleet_under("slow", &["--leader-elect=false"], |_| (), duty).await;
    assert!(shown.cpu <= 0.25, "{} of a processor", shown.cpu);
    let cut = cut.load(Ordering::Relaxed);
    println!("{cut} times it was at work when it was stopped");
    assert!(cut >= 10, "it was at work {cut} times when it was stopped: it does not feel the limit");
}

/// Answers of almost 1 MiB, which the client reads whole, of two accounts: 48 at once. With 40 MB of memory all is well (55
/// MB resident at most, code included), 24 MB are too few.
///
/// Covers: 41p.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn answers_that_do_not_fit_into_memory_end_the_process_and_double_no_start() {
    let scene = Scene::start("no-memory").await;
    let times = ["--leader-elect=false", "--call-timeout=10s", "--settle-time=11s", "--confirm-timeout=15s"];
    let mut launch = scene.launch(&scene.cluster.server().0, &times);
    launch.before = "ulimit -d 24000";
    let mut fleets = Vec::new();
    for namespace in ["no-memory-a", "no-memory-b"] {
        let mut fleet = Fleet::new(&scene, namespace).await;
        for at in 0..40 {
            fleet.add(&format!("job-{at}"), at % 5 == 0).await;
        }
        let huge = Behaviour::odd(Oddity::Huge { bytes: 1_000_000 });
        let late = Behaviour { answer_after: SignedDuration::from_secs(3), ..huge };
        fleet.tenant.cloud.add_fault(Fault { behaviour: late, ..Fault::default() });
        fleets.push(fleet);
    }
    let deployment = tokio::task::spawn_blocking(move || Deployment::start(vec![launch])).await.unwrap();
    let ended = async {
        while deployment.seen().ends.is_empty() {
            look_again().await;
        }
    };
    let felt = tokio::time::timeout(Duration::from_secs(60), ended).await.is_ok();
    let peak = tokio::task::block_in_place(|| deployment.with(|all| all[0].peak_memory()));
    println!("{:?} ended, {peak} kB at most in the life that is now", deployment.seen().ends);
    assert!(felt, "it never felt the limit");
    for fleet in &fleets {
        fleet.tenant.cloud.clear_faults();
    }
    for fleet in &fleets {
        fleet.until_done(LIMIT).await;
        fleet.judge().await;
        assert_eq!(fleet.doubles(), 0);
    }
    let logs = deployment.logs();
    assert!(logs.iter().flatten().any(|line| line.contains("memory allocation of")), "it ended for another reason");
    tokio::task::block_in_place(|| drop(deployment));
    for fleet in fleets {
        fleet.end(&logs).await;
    }
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

/// Calls at once that each next account with a silent cloud may hold: half of what the others leave of 64. Of six, the
/// last two hold one each; the one that is left is for the others.
const HELD: [usize; 5] = [32, 16, 8, 4, 2];

/// Covers: 40p.
#[tokio::test(flavor = "multi_thread")]
async fn while_calls_hang_another_account_starts_its_jobs() {
    let scene = Scene::start("hanging").await;
    // Longer than the test waits for what must not wait for it.
    let times = ["--leader-elect=false", "--call-timeout=240s", "--settle-time=241s", "--confirm-timeout=242s"];
    let launch = scene.launch(&scene.cluster.server().0, &times);
    let process = tokio::task::spawn_blocking(move || Process::start(&launch)).await.unwrap();
    let mut well = Fleet::new(&scene, "well").await;
    let mut silent = Vec::<Fleet>::new();
    let fates = |fleet: &Fleet, fate: Fate| {
        fleet.tenant.cloud.ledger().entries().iter().filter(|entry| entry.answer == fate).count()
    };
    for (at, held) in HELD.into_iter().enumerate().take(if is_full_run() { 5 } else { 2 }) {
        silent.push(hanging(&scene, &format!("silent-{at}"), held + 16).await);
        let all_hang = async {
            while fates(&silent[at], Fate::Hung) < held {
                look_again().await;
            }
        };
        let all_hang = tokio::time::timeout(Duration::from_secs(60), all_hang).await.is_ok();
        let hang: Vec<usize> = silent.iter().map(|fleet| fates(fleet, Fate::Hung)).collect();
        assert!(all_hang, "{hang:?} calls hang, not {held} of the last");
        let [ordinary, forced] = [false, true].map(|is_forced| (format!("job-{at}-{is_forced}"), is_forced));
        for (name, is_forced) in [ordinary, forced] {
            well.add(&name, is_forced).await;
            let id = well.id(&name);
            let runs = |ledger: &simulator::Ledger| !ledger.executions(id).is_empty();
            let started = well.tenant.cloud.wait_until(Duration::from_secs(50), runs).await;
            assert!(started, "{hang:?} calls hang, and nobody else's leave");
        }
        // As many as may be, while another account was served.
        let hang: Vec<usize> = silent.iter().map(|fleet| fates(fleet, Fate::Hung)).collect();
        assert_eq!(hang, HELD[..=at], "calls hang");
        println!("{hang:?} calls hang, and others go on");
        let given_up: usize = silent.iter().map(|fleet| fates(fleet, Fate::ClientGone)).sum();
        assert_eq!(given_up, 0, "the others were not served before these calls were given up");
    }
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
