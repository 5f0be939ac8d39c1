//! The surroundings fail, for real: the API server is killed, silent or slow, watches end, the Lease is edited by hand,
//! the leader is stopped, clocks are wrong. No start is lost in silence and none is doubled, and the operator recovers.
//!
//! The ordinary run uses short times. The full lengths, with the times as shipped, are one command; what it found is in
//! `tests/outages/results.md`: `OUTAGES=15,60,300 cargo test --test outages -- --nocapture outage`

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "support"]
#[expect(dead_code, reason = "this test uses a part of what the tests share")]
mod support {
    pub mod plan;
    pub mod proxy;
    pub mod schema;
    pub mod world;
}
#[path = "outages/history.rs"]
mod history;
#[path = "outages/process.rs"]
#[expect(dead_code, reason = "the other half is for the limits of the machine")]
mod process;
#[path = "outages/scene.rs"]
mod scene;
#[path = "outages/wire.rs"]
mod wire;

use std::time::Duration;

use jiff::Timestamp;
use process::{Deployment, Seen};
use scene::{Fleet, SHIPPED, SHORT, Scene};
use simulator::Ledger;
use wire::{State, Wire};

/// Between two looks at the cluster.
async fn look_again() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// How the API server fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Killed, and started again.
    Killed,
    /// Its bytes wait for the end of the outage.
    Held,
    /// Every connection of that time is dead for ever, and nobody is told.
    Swallowed,
    /// 30 s a request.
    Late,
    /// 1 byte a second.
    Trickling,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Killed, Self::Held, Self::Swallowed, Self::Late, Self::Trickling];
}

/// Who works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setup {
    /// One process without an election.
    Alone,
    /// One elected replica.
    One,
    /// Two, as shipped.
    Two,
}

/// One outage.
struct Outage {
    kind: Kind,
    setup: Setup,
    length: Duration,
    shipped: bool,
}

/// What one outage showed.
struct Shown {
    first: f64,
    all: f64,
    doubles: usize,
    leaders: usize,
    before: (usize, usize),
    seen: Seen,
    after: (usize, usize),
    events: usize,
}

impl Outage {
    fn row(&self, shown: &Shown) -> String {
        let Shown { first, all, doubles, leaders, before, seen, after, events } = shown;
        format!(
            "| {:?} | {:?} | {} | {first:.1} | {all:.1} | {doubles} | {} | {leaders} | {} / {} / {} | {} / {} / {} | {events} | {} |",
            self.kind,
            self.setup,
            self.length.as_secs(),
            seen.ends.len(),
            before.0,
            seen.most_files,
            after.0,
            before.1,
            seen.most_threads,
            after.1,
            seen.unhealthy.len(),
        )
    }

    /// The fault begins, lasts, and ends; gives back when the API server serves again.
    async fn happen(&self, scene: &Scene, wire: &Wire, fleet: &mut Fleet) -> Timestamp {
        match self.kind {
            Kind::Killed => tokio::task::block_in_place(|| scene.cluster.kill_api_server()),
            Kind::Held => wire.set(State::Hold),
            Kind::Swallowed => wire.set(State::Swallow),
            Kind::Late => wire.set(State::Late(Duration::from_secs(30))),
            Kind::Trickling => wire.set(State::Trickle(Duration::from_secs(1))),
        }
        if self.kind != Kind::Killed {
            // Behind the wire's back; whoever is killed cannot be told anything.
            edit(fleet).await;
        }
        tokio::time::sleep(self.length).await; // the length of the outage
        if self.kind == Kind::Killed {
            tokio::task::block_in_place(|| scene.cluster.start_api_server());
        }
        wire.set(State::Pass);
        let served = fleet.tenant.cloud.now();
        if self.kind == Kind::Killed {
            edit(fleet).await;
        }
        served
    }

    async fn run(&self, scene: &Scene, name: &str) -> Shown {
        let mut fleet = Fleet::new(scene, name).await;
        let wire = Wire::start(scene.upstream()).await;
        let url = format!("https://{}", wire.address());
        let flags = if self.shipped { &SHIPPED[..] } else { &SHORT[..] };
        let alone = if self.setup == Setup::Alone { "--leader-elect=false" } else { "--leader-elect=true" };
        let launch = scene.launch(&url, &[flags, &[alone]].concat());
        let replicas = if self.setup == Setup::Two { 2 } else { 1 };
        let deployment = tokio::task::block_in_place(|| Deployment::start(vec![launch; replicas]));
        for (name, is_forced) in [("changed", false), ("forced", true), ("steady", false), ("busy", false), ("hasty", true)] {
            fleet.add(name, is_forced).await;
        }
        let limit = Duration::from_secs(if self.shipped { 400 } else { 60 });
        fleet.until_done(limit).await;
        let before = tokio::task::block_in_place(|| {
            let leader = deployment.wait_leader();
            deployment.with(|all| all[leader].open_files_and_threads())
        });
        deployment.measure_anew();
        // Two starts are under way when it begins.
        let count = |ledger: &Ledger| ledger.of_action("StartDIJob").count();
        let settled = count(&fleet.tenant.cloud.ledger());
        fleet.rerun("busy").await;
        fleet.rerun("hasty").await;
        fleet.tenant.until_ledger("the first start", |ledger| count(ledger) > settled).await;

        let served = self.happen(scene, &wire, &mut fleet).await;
        fleet.until_done(limit).await;
        fleet.judge().await;
        let seen = deployment.seen();
        assert!(seen.unhealthy.is_empty(), "{:?}", seen.unhealthy);
        let logs = deployment.logs();
        let terms = history::terms(&logs);
        let overlaps = history::overlaps(&terms);
        assert!(self.setup == Setup::Alone || overlaps.is_empty(), "two led at once: {overlaps:?}");
        let after = tokio::task::block_in_place(|| {
            let leader = deployment.wait_leader();
            deployment.with(|all| all[leader].open_files_and_threads())
        });
        assert!(after.0 <= before.0 + 16 && after.1 <= before.1 + 4, "files and threads: {before:?}, then {after:?}");
        assert!(seen.most_files <= before.0 + 48, "{} open files, {} before", seen.most_files, before.0);
        let events = fleet.events().await;
        assert!(events <= 40, "{events} Events");
        let arrived = |name: &str| {
            let starts = fleet.tenant.cloud.starts(fleet.id(name));
            starts.last().unwrap().last_byte.duration_since(served).as_secs_f64().max(0.0)
        };
        let times = ["changed", "forced", "new"].map(arrived);
        let first = times.into_iter().fold(f64::MAX, f64::min);
        let all = times.into_iter().fold(0.0, f64::max);
        let shown = Shown { first, all, doubles: fleet.doubles(), leaders: terms.len(), before, seen, after, events };
        tokio::task::block_in_place(|| drop(deployment));
        fleet.end(&logs).await;
        shown
    }
}

/// What users ask for meanwhile: a change, a forced rerun, a new job.
async fn edit(fleet: &mut Fleet) {
    fleet.change("changed").await;
    fleet.rerun("forced").await;
    fleet.add("new", false).await;
}

/// Outages of one kind, one after another.
async fn outages(kind: Kind, setups: &[Setup], lengths: &[u64], shipped: bool) -> Vec<String> {
    let scene = Scene::start(&format!("{kind:?}").to_lowercase()).await;
    let mut rows = Vec::new();
    for length in lengths {
        for setup in setups {
            let outage = Outage { kind, setup: *setup, length: Duration::from_secs(*length), shipped };
            let name = format!("{kind:?}-{setup:?}-{length}").to_lowercase();
            let row = outage.row(&outage.run(&scene, &name).await);
            println!("{row}");
            rows.push(row);
        }
    }
    rows
}

/// Covers: 20p, 22p, 39p.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_an_api_outage_what_was_asked_meanwhile_is_done_once() {
    #[expect(clippy::disallowed_methods, reason = "the switch of the full run")]
    let lengths = std::env::var("OUTAGES");
    let rows = if let Ok(lengths) = lengths {
        let lengths: Vec<u64> = lengths.split(',').map(|length| length.parse().unwrap()).collect();
        let setups = [Setup::Two, Setup::One, Setup::Alone];
        let kinds = Kind::ALL.map(|kind| {
            let lengths = lengths.clone();
            tokio::spawn(async move { outages(kind, &setups, &lengths, true).await })
        });
        futures::future::join_all(kinds).await
    } else {
        let kinds = [
            (Kind::Killed, Setup::Two),
            (Kind::Held, Setup::Alone),
            (Kind::Swallowed, Setup::One),
            (Kind::Late, Setup::Alone),
            (Kind::Trickling, Setup::Two),
        ];
        let short = kinds.map(|(kind, setup)| tokio::spawn(async move { outages(kind, &[setup], &[6], false).await }));
        futures::future::join_all(short).await
    };
    for row in rows {
        assert!(!row.unwrap().is_empty());
    }
}
