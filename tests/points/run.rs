//! One run: the story is told, the fault is made, all comes to rest, and the oracle judges.

use std::sync::Arc;
use std::time::Duration;

use dijob_operator::api::DataIntegrationJob;
use tokio::task::block_in_place;

use super::exchanges::{Name, class, names};
use super::faults::{Fault, MOMENTS, Point, Trial};
use super::oracle;
use super::scene::{SETTLE, Scene};
use super::stories::{CLOUD_JOB, Story};
use crate::support::proxy::{Exchange, Held, Moment, Proxy};
use crate::support::world::{is_current, ready};

/// After a fault all comes to rest well within this: a request to the API server is given up after 30 s.
const PATIENCE: Duration = Duration::from_secs(100);
/// How long an orderly stop may take: the call, its record, and what is left of Events.
const GRACE: Duration = Duration::from_secs(10);
/// Between two looks at what tells nobody that it has changed.
const BEAT: Duration = Duration::from_millis(100);

/// How it ended for the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Ready.
    Ready,
    /// Visibly unknown, and not sent again.
    Resting,
    /// Neither.
    Unsettled,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Record {
    /// The fault was made: the exchange came.
    pub reached: bool,
    /// How it ended.
    pub end: End,
    /// Arrivals of the start at the cloud.
    pub arrivals: usize,
    /// Executions of the start.
    pub executions: usize,
    /// What should not be.
    pub violations: Vec<String>,
    /// The exchanges after the act.
    pub names: Vec<Name>,
    /// All that happened, for a person.
    pub told: String,
}

/// What was done to a run.
struct Wound {
    /// Since when it is left alone, by the run's clock.
    since: Duration,
    /// What should not be, of an orderly stop.
    broken: Vec<String>,
    /// Kept until the end, since silence is to last.
    _held: Option<Held>,
}

/// Runs one trial in a namespace of its own. A run that breaks off is a violation too.
pub async fn run(story: Story, trial: Trial, namespace: String) -> Record {
    let run = tokio::spawn(async move { tell(story, &trial, &namespace).await });
    run.await.unwrap_or_else(|failed| {
        let panic = failed.try_into_panic().ok();
        let text = panic.and_then(|p| p.downcast::<String>().ok()).map_or_else(|| "no word".to_owned(), |text| *text);
        Record {
            reached: true,
            end: End::Unsettled,
            arrivals: 0,
            executions: 0,
            violations: vec![format!("the run broke off: {}", text.lines().next().unwrap_or_default())],
            names: Vec::new(),
            told: text,
        }
    })
}

async fn tell(story: Story, trial: &Trial, namespace: &str) -> Record {
    let mut scene = Scene::new(story, namespace).await;
    let marks = scene.marks();
    let rotation = scene.rotate_at_intent();
    let wound = match trial {
        Trial::Plain => {
            act(&mut scene).await;
            None
        }
        Trial::Point(point) => {
            let held = arm(&scene, point, marks);
            act(&mut scene).await;
            hurt(&mut scene, point, held).await
        }
        Trial::Loop(seed) => {
            act(&mut scene).await;
            Some(crash(&mut scene, *seed).await)
        }
    };
    let reached = wound.is_some() || *trial == Trial::Plain;
    let end = rest(&scene, wound.as_ref().map_or(Duration::ZERO, |wound| wound.since)).await;
    if let (Trial::Plain, Some(process)) = (trial, scene.replicas[0].process.take()) {
        block_in_place(|| process.terminate()); // what is still to be said is said before it ends, and counts
    }
    let last = scene.catch_up().await;
    let mut violations = oracle::judge(&scene, trial, end, &last);
    violations.extend(wound.iter().flat_map(|wound| wound.broken.clone()));
    let mut named = names(&scene.replicas[0].api.exchanges(), marks.0);
    named.extend(names(&scene.cloud.exchanges(), marks.1));
    let ledger = scene.tenant.cloud.ledger();
    let (arrivals, executions) = (ledger.starts(CLOUD_JOB).count(), ledger.executions(CLOUD_JOB).len());
    let record = Record { reached, end, arrivals, executions, violations, names: named, told: scene.told() };
    if let Some(rotation) = rotation {
        rotation.abort();
        let _ = rotation.await;
    }
    let Scene { tenant, replicas, .. } = scene;
    let alive: Vec<_> = replicas.iter().filter_map(|replica| replica.process.as_ref()).collect();
    let tenant = Arc::into_inner(tenant).unwrap();
    tenant.end(&alive).await;
    record
}

async fn act(scene: &mut Scene) {
    if scene.story.begins_adopted() {
        scene.story.act(&scene.tenant).await;
    } else {
        scene.start(0);
    }
}

fn side<'a>(scene: &'a Scene, point: &Point) -> &'a Proxy {
    if point.at.is_of_cloud() { &scene.cloud } else { &scene.replicas[0].api }
}

fn arm(scene: &Scene, point: &Point, (api, cloud): (usize, usize)) -> Held {
    let before = if point.at.is_of_cloud() { cloud } else { api };
    let at = point.at.clone();
    let is_it = move |exchange: &Exchange, all: &[Exchange]| at.is(exchange, all, before);
    match point.fault {
        Fault::Late | Fault::VeryLate => side(scene, point).hold_back(is_it),
        Fault::Kill | Fault::Term | Fault::Cut | Fault::Hang => side(scene, point).hold_among(point.moment, is_it),
    }
}

/// The exchange, when it has come there. None: all came true without it.
async fn reached(scene: &Scene, held: &Held) -> Option<Exchange> {
    let story = scene.story;
    tokio::select! {
        exchange = held.reached() => Some(exchange),
        _ = scene.history.until(PATIENCE, |job| story.is_done(job)) => {
            // What is said afterwards, in Events, comes at once or not at all.
            tokio::time::timeout(Duration::from_secs(3), held.reached()).await.ok()
        }
    }
}

async fn hurt(scene: &mut Scene, point: &Point, held: Held) -> Option<Wound> {
    let exchange = reached(scene, &held).await?;
    let (mut broken, mut since) = (Vec::new(), None);
    match point.fault {
        Fault::Kill => {
            scene.replicas[0].process = None;
            held.drop_connection();
            again(scene);
        }
        Fault::Term => {
            broken = stop_in_order(scene, &held).await;
            again(scene);
        }
        Fault::Cut => held.drop_connection(),
        Fault::Hang => {}
        Fault::Late | Fault::VeryLate => {
            let at = exchange.number - 1;
            side(scene, point).until(|all| all[at].ended.is_some()).await;
            if point.fault == Fault::VeryLate {
                since = Some(scene.now()); // where it came to rest before, there is no further look
                copy_or_rest(scene, exchange.number).await;
            }
            held.release();
            side(scene, point).until(|all| all[at].answered.is_some()).await;
        }
    }
    Some(Wound { since: since.unwrap_or_else(|| scene.now()), broken, _held: Some(held) })
}

/// A new process, unless the other replica takes over.
fn again(scene: &mut Scene) {
    if !scene.story.elected() {
        scene.start(0);
    }
}

/// Waits until the next copy of a start was answered, or there is none to come.
async fn copy_or_rest(scene: &Scene, number: usize) {
    let since = scene.now();
    let another =
        |all: &[Exchange]| all.iter().any(|e| e.number > number && class(e) == "StartDIJob" && e.answered.is_some());
    tokio::select! {
        () = scene.cloud.until(another) => {}
        _ = rest(scene, since) => {}
    }
}

/// SIGTERM in the middle: it ends in time and in order, and a committed start was sent or is withdrawn.
async fn stop_in_order(scene: &mut Scene, held: &Held) -> Vec<String> {
    let mut broken = Vec::new();
    let process = scene.replicas[0].process.take().unwrap();
    let from = scene.now();
    process.signal("TERM");
    held.release();
    let status = block_in_place(|| process.wait_end());
    let took = scene.now().saturating_sub(from);
    if !status.success() {
        broken.push(format!("I2: an orderly stop ended with {status}"));
    }
    if took > GRACE {
        broken.push(format!("an orderly stop took {took:?}"));
    }
    if !scene.story.elected() {
        let left = scene.catch_up().await.status.and_then(|status| status.pending_start);
        let sent = |nonce: &str| scene.tenant.cloud.starts(CLOUD_JOB).iter().any(|e| e.nonce.as_deref() == Some(nonce));
        if left.is_some_and(|pending| !sent(&pending.nonce)) {
            broken.push("I2: after an orderly stop a committed start is neither sent nor withdrawn".to_owned());
        }
    }
    broken
}

/// Ten lives in a row, each killed at one of its exchanges; then one that is left alone.
async fn crash(scene: &mut Scene, seed: Option<u64>) -> Wound {
    #[expect(clippy::disallowed_methods, reason = "its numbers are those of the seed")]
    let mut random = seed.map(fastrand::Rng::with_seed);
    for life in 1..=10 {
        let (api, cloud) = scene.marks();
        let (nth, call, moment) = match &mut random {
            None => (life, life / 4, Moment::RequestSeen),
            Some(random) => (random.usize(1..=16), random.usize(0..=3), MOMENTS[random.usize(0..3)]),
        };
        let at_api = scene.replicas[0].api.hold_among(moment, move |e, _| e.number == api + nth);
        let at_cloud = scene.cloud.hold_among(moment, move |e, _| call > 0 && e.number == cloud + call);
        if scene.replicas[0].process.is_none() {
            scene.start(0);
        }
        let either = async {
            tokio::select! { _ = at_api.reached() => {}, _ = at_cloud.reached() => {} }
        };
        // A life that has nothing more to do ends too.
        let _ = tokio::time::timeout(Duration::from_secs(3), either).await;
        scene.replicas[0].process = None;
        at_api.drop_connection();
        at_cloud.drop_connection();
    }
    scene.start(0);
    Wound { since: scene.now(), broken: Vec::new(), _held: None }
}

/// Waits until it is Ready, or visibly unknown where that may be, with looks that show that no copy follows.
async fn rest(scene: &Scene, since: Duration) -> End {
    let (story, cloud) = (scene.story, &scene.tenant.cloud);
    let from = scene.cloud_time(&scene.replicas[0].api, since + SETTLE);
    // An ordinary start under a key that is replaced is looked for once, and waits until its signature is old.
    let enough = if story.forced { 2 } else { 1 };
    let is_unseen = |ledger: &simulator::Ledger| ledger.executions(CLOUD_JOB).is_empty() || !story.shows_a_sign();
    let rests = |job: &DataIntegrationJob| {
        let ledger = cloud.ledger();
        let looks = ledger.of_action("GetDIJob").filter(|entry| entry.first_byte >= from).count();
        let unknown = is_current(job) && ready(job).is_some_and(|c| c.reason == "ResolvingStart");
        (story.forced || story.rotates()) && unknown && looks >= enough && is_unseen(&ledger)
    };
    let wait = async {
        loop {
            let last = scene.history.last();
            if story.is_done(&last) {
                return End::Ready;
            }
            if rests(&last) {
                return End::Resting;
            }
            let version = last.metadata.resource_version;
            scene.history.until(BEAT, |job| job.metadata.resource_version != version).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or(End::Unsettled)
}
