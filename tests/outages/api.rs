//! Outages of the API server: how they are made, what users do meanwhile, and what is measured.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use serde_json::json;
use simulator::Ledger;

use crate::blocking;
use crate::history;
use crate::process::{Deployment, Seen};
use crate::scene::{Fleet, SHIPPED, SHORT, Scene};
use crate::support::proxy::{Held, Moment, Proxy, Upstream};
use crate::wire::{State, Wire};

/// How the API server fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
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
    /// 503, from the API server or from a balancer before it, and no watch survives.
    Unavailable,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Killed, Self::Held, Self::Swallowed, Self::Late, Self::Trickling, Self::Unavailable];
}

/// Who works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
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

/// How the operator reaches the API server.
struct Way {
    wire: Wire,
    /// Where answers are given in the API server's stead.
    proxy: Option<Proxy>,
    url: String,
}

impl Way {
    async fn of(kind: Kind, scene: &Scene) -> Self {
        if kind != Kind::Unavailable {
            let wire = Wire::start(scene.upstream()).await;
            return Self { url: format!("https://{}", wire.address()), wire, proxy: None };
        }
        let (url, authority) = scene.cluster.server();
        let proxy = Proxy::start(Upstream::https(&url, &authority)).await;
        let wire = Wire::start(proxy.url().trim_start_matches("http://").parse().unwrap()).await;
        Self { url: format!("http://{}", wire.address()), wire, proxy: Some(proxy) }
    }
}

/// Every request gets 503: by turns with the API server's word, and with a balancer's page.
fn refuse(proxy: &Proxy) -> [Held; 2] {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "ServiceUnavailable",
        "code": 503, "message": "the server is currently unable to handle the request" });
    let odd = proxy.hold_each(Moment::RequestSeen, |e| e.number % 2 == 1);
    let even = proxy.hold_each(Moment::RequestSeen, |e| e.number % 2 == 0);
    odd.answer(StatusCode::SERVICE_UNAVAILABLE, "application/json", status.to_string());
    even.answer(StatusCode::SERVICE_UNAVAILABLE, "text/html", "<html><body>503 Service Unavailable</body></html>");
    [odd, even]
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
    async fn happen(&self, scene: &Scene, way: &Way, fleet: &mut Fleet) -> Timestamp {
        let Way { wire, proxy, .. } = way;
        let mut refused = None;
        match self.kind {
            Kind::Killed => blocking(|| scene.cluster.kill_api_server()),
            Kind::Held => wire.set(State::Hold),
            Kind::Swallowed => wire.set(State::Swallow),
            Kind::Late => wire.set(State::Late(Duration::from_secs(30))),
            Kind::Trickling => wire.set(State::Trickle(Duration::from_secs(1))),
            Kind::Unavailable => {
                refused = proxy.as_ref().map(refuse);
                wire.cut();
            }
        }
        if self.kind != Kind::Killed {
            // Behind the wire's back; whoever is killed cannot be told anything.
            edit(fleet).await;
        }
        tokio::time::sleep(self.length).await; // the length of the outage
        if self.kind == Kind::Killed {
            blocking(|| scene.cluster.start_api_server());
        }
        if let (Some(proxy), Some(refused)) = (proxy, refused) {
            let seconds = usize::try_from(self.length.as_secs()).unwrap();
            let asked = proxy.exchanges().iter().filter(|e| e.status == Some(StatusCode::SERVICE_UNAVAILABLE)).count();
            println!("{asked} requests were refused in {seconds} s");
            assert!((2..=30 + 3 * seconds).contains(&asked), "{asked} requests in {seconds} s");
            drop(refused);
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
        let way = Way::of(self.kind, scene).await;
        let flags = if self.shipped { &SHIPPED[..] } else { &SHORT[..] };
        let alone = if self.setup == Setup::Alone { "--leader-elect=false" } else { "--leader-elect=true" };
        let launch = scene.launch(&way.url, &[flags, &[alone]].concat());
        let replicas = if self.setup == Setup::Two { 2 } else { 1 };
        let deployment = blocking(|| Deployment::start(vec![launch; replicas]));
        for name in ["changed", "steady", "busy"] {
            fleet.add(name, false).await;
        }
        for name in ["forced", "hasty"] {
            fleet.add(name, true).await;
        }
        let limit = Duration::from_secs(if self.shipped { 400 } else { 60 });
        fleet.until_done(limit).await;
        let before = blocking(|| leaders_files_and_threads(&deployment));
        deployment.measure_anew();
        // Two starts are under way when it begins.
        let count = |ledger: &Ledger| ledger.of_action("StartDIJob").count();
        let settled = count(&fleet.tenant.cloud.ledger());
        fleet.rerun("busy").await;
        fleet.rerun("hasty").await;
        fleet.tenant.until_ledger("the first start", |ledger| count(ledger) > settled).await;

        let served = self.happen(scene, &way, &mut fleet).await;
        fleet.until_done(limit).await;
        fleet.judge().await;
        let shown = self.measure(&fleet, &deployment, before, served).await;
        let logs = deployment.logs();
        blocking(|| drop(deployment));
        fleet.end(&logs).await;
        shown
    }

    /// What the processes were like, against what they promise.
    async fn measure(
        &self,
        fleet: &Fleet,
        deployment: &Deployment,
        before: (usize, usize),
        served: Timestamp,
    ) -> Shown {
        let seen = deployment.seen();
        assert!(seen.unhealthy.is_empty(), "{:?}", seen.unhealthy);
        let terms = history::terms(&deployment.logs());
        let overlaps = history::overlaps(&terms);
        assert!(self.setup == Setup::Alone || overlaps.is_empty(), "two led at once: {overlaps:?}");
        assert!(self.setup == Setup::Alone || !seen.ends.is_empty(), "the leader outlived its deadline");
        let after = blocking(|| leaders_files_and_threads(deployment));
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
        Shown { first, all, doubles: fleet.doubles(), leaders: terms.len(), before, seen, after, events }
    }
}

/// Of the process that leads.
fn leaders_files_and_threads(deployment: &Deployment) -> (usize, usize) {
    let leader = deployment.wait_leader();
    deployment.with(|all| all[leader].open_files_and_threads())
}

/// What users ask for meanwhile: a change, a forced rerun, a new job.
async fn edit(fleet: &mut Fleet) {
    fleet.change("changed").await;
    fleet.rerun("forced").await;
    fleet.add("new", false).await;
}

/// Outages of these kinds, one after another, of one API server.
pub async fn outages(kinds: &[Kind], setups: &[Setup], lengths: &[u64], shipped: bool) -> Vec<String> {
    let scene = Scene::start(&format!("{:?}", kinds[0]).to_lowercase()).await;
    let mut rows = Vec::new();
    for kind in kinds {
        for length in lengths {
            for setup in setups {
                let outage = Outage { kind: *kind, setup: *setup, length: Duration::from_secs(*length), shipped };
                let name = format!("{kind:?}-{setup:?}-{length}").to_lowercase();
                let row = outage.row(&outage.run(&scene, &name).await);
                println!("{row}");
                rows.push(row);
            }
        }
    }
    rows
}
