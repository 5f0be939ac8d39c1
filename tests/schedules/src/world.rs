//! The world around the processes: the API server, the cloud, the people, and whoever starts a process that died.
//!
//! **May touch:** one current-thread runtime whose clock is paused (`start_paused`).
//!
//! **Guarantee:** one seed is one history, one ledger and one log, byte for byte.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api_server::{Answer, ApiServer, ApiService, Change, Verb};
use base64::Engine as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use simulator::core::Cloud;
use simulator::{JobPatch, Key, Ledger, Rate};
use tokio::time::Instant;

use crate::chance::Chance;
use crate::faults::{Kind, Place};
use crate::hands::true_time;
use crate::play::wait;
use crate::process::{Ended, Lines, Process, live};
use crate::story::{Edit, Schedule};
use crate::weather::Asked;

const JOBS: &str = "dataintegrationjobs";
/// Who writes as a person.
pub const PEOPLE: &str = "people";
/// The secret of every key begins with this, and must be found nowhere.
pub const CANARY: &str = "canarysecret";
/// The CRDs of this operator.
pub const CRDS: [&str; 2] = [
    include_str!("../../../crds/dataintegrationjobs.dijob.dev.yaml"),
    include_str!("../../../crds/dataworksaccounts.dijob.dev.yaml"),
];

/// A call of `StartDIJob` or another action, as a process sent it.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The process.
    pub process: u64,
    /// Place in the ledger.
    pub seq: u64,
    /// When its bytes left.
    pub left: Timestamp,
    /// The process stood still between the fence and this.
    pub paused: bool,
}

/// What a schedule left behind.
pub struct Record {
    /// What it was.
    pub schedule: Schedule,
    /// Every version of every object.
    pub history: Vec<Arc<Change>>,
    /// What the cloud saw.
    pub ledger: Ledger,
    /// Calls by process.
    pub sent: Vec<Sent>,
    /// Identity of each process.
    pub identities: BTreeMap<u64, String>,
    /// Processes that did not end in order, and when.
    pub died: Vec<(u64, Timestamp)>,
    /// When the faults stopped.
    pub honest: Timestamp,
    /// When the last wait was over.
    pub settled: Timestamp,
    /// When all was over.
    pub end: Timestamp,
    /// What happened, in plain words.
    pub story: Vec<String>,
    /// Faults that struck.
    pub faults: Vec<(Place, Kind, String)>,
    /// Exchanges by what they were about.
    pub exchanges: BTreeMap<String, u64>,
    /// What went wrong with the processes themselves.
    pub wrong: Vec<String>,
    /// Requests to the API server, of a scripted schedule.
    pub asked: Vec<Asked>,
    /// Processes that were asked to end, when, and when they had.
    pub stopped: Vec<(u64, Timestamp, Option<Timestamp>)>,
}

#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) sent: Vec<Sent>,
    pub(crate) identities: BTreeMap<u64, String>,
    pub(crate) died: Vec<(u64, Timestamp)>,
    pub(crate) story: Vec<String>,
    pub(crate) faults: Vec<(Place, Kind, String)>,
    pub(crate) exchanges: BTreeMap<String, u64>,
    pub(crate) wrong: Vec<String>,
    pub(crate) asked: Vec<Asked>,
    /// When each watch of each process was opened.
    pub(crate) opened: BTreeMap<(u64, u64), Duration>,
    pub(crate) stopped: Vec<(u64, Timestamp, Option<Timestamp>)>,
    pub(crate) processes: Vec<Arc<Process>>,
}

/// The world.
pub struct World {
    /// What is played.
    pub schedule: Schedule,
    pub(crate) start: Instant,
    pub(crate) api: ApiServer,
    pub(crate) cloud: Mutex<Cloud>,
    pub(crate) faulty: AtomicBool,
    processes: AtomicU64,
    keys: AtomicU64,
    pub(crate) notes: Mutex<Notes>,
}

pub(crate) fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "edge: tokio's clock, which is paused")]
    pub(crate) fn new(schedule: Schedule) -> Self {
        let start = Instant::now();
        let (begins, drift) = (schedule.begins, schedule.drift);
        let clock = move || true_time(begins, drift, start.elapsed());
        let api = ApiServer::new(&CRDS, clock).unwrap_or_else(|e| unreachable!("our own CRDs: {e}"));
        let cloud = Cloud::new(schedule.switches.clone(), schedule.seed);
        Self {
            schedule,
            start,
            api,
            cloud: Mutex::new(cloud),
            faulty: AtomicBool::new(true),
            processes: AtomicU64::new(0),
            keys: AtomicU64::new(0),
            notes: Mutex::default(),
        }
    }

    /// Time since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The true time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        true_time(self.schedule.begins, self.schedule.drift, self.elapsed())
    }

    /// The way to the API server.
    pub fn service(self: &Arc<Self>, process: &Arc<Process>) -> ApiService {
        let lines = Lines { world: self.clone(), process: process.clone() };
        self.api.service(&format!("p{}", process.number), Arc::new(lines))
    }

    /// A process has chosen its name.
    pub fn identified(&self, process: u64, identity: &str) {
        lock(&self.notes).identities.insert(process, identity.to_owned());
    }

    pub(crate) fn tell(&self, line: &str) {
        let at = self.elapsed();
        tracing::debug!(target: "story", "{:>9.3} s  {line}", at.as_secs_f64());
        lock(&self.notes).story.push(format!("{:>9.3} s  {line}", at.as_secs_f64()));
    }

    pub(crate) fn struck(&self, place: Place, kind: Kind, what: &str) {
        self.tell(&format!("fault {place}: {kind:?} at {what}"));
        lock(&self.notes).faults.push((place, kind, what.to_owned()));
    }

    pub(crate) fn is_faulty(&self) -> bool {
        self.faulty.load(Ordering::Relaxed)
    }

    /// SIGKILL.
    pub fn kill(&self, process: &Process) {
        process.killed.cancel();
        lock(&self.notes).died.push((process.number, self.now()));
        self.tell(&format!("p{} is killed", process.number));
    }

    /// Asks the API server at once, as a person with `kubectl` does.
    pub fn ask(&self, caller: &str, verb: Verb, uri: &str, body: Option<Value>) -> Answer {
        self.api.request(caller, verb, uri, body)
    }
}

/// Path of a job.
#[must_use]
pub fn uri(namespace: &str, name: &str) -> String {
    format!("/apis/dijob.dev/v1alpha1/namespaces/{namespace}/{JOBS}/{name}")
}

/// Each team has a cloud account of its own, so that one budget of the operator is one of the cloud.
#[must_use]
pub fn account_of(namespace: &str) -> String {
    format!("10000000000000{:02}", namespace.len() + usize::from(namespace.as_bytes().last().copied().unwrap_or(0)))
}

/// The people's part.
impl World {
    pub(crate) fn prepare(&self) {
        let now = self.now();
        let mut cloud = lock(&self.cloud);
        for job in &self.schedule.jobs {
            cloud.put_job(now, job.id, &job.before);
        }
        drop(cloud);
        let mut namespaces: Vec<&str> = self.schedule.jobs.iter().map(|j| j.namespace.as_str()).collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        for namespace in namespaces {
            let body = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
            self.ask(PEOPLE, Verb::Create, "/api/v1/namespaces", Some(body));
            let (id, secret) = self.new_key(namespace);
            self.put_secret(namespace, &id, &secret, Verb::Create);
            let edition = match self.schedule.switches.limits.rate {
                Rate::Total(_) => "Professional",
                Rate::Split { .. } | Rate::Unlimited => "Enterprise",
            };
            let (version, signature) = self.schedule.way;
            let quota = self.schedule.calls_per_day.map_or(json!({}), |calls| json!({ "callsPerDay": calls }));
            let account = json!({
                "apiVersion": "dijob.dev/v1alpha1", "kind": "DataWorksAccount",
                "metadata": { "name": "main", "namespace": namespace },
                "spec": {
                    "regionId": "cn-shanghai", "edition": edition, "quota": quota,
                    "credentials": { "secretRef": { "name": "key" } },
                    "dataworksVersion": version, "signature": signature,
                },
            });
            let uri = format!("/apis/dijob.dev/v1alpha1/namespaces/{namespace}/dataworksaccounts");
            self.ask(PEOPLE, Verb::Create, &uri, Some(account));
        }
    }

    fn new_key(&self, namespace: &str) -> (String, String) {
        let n = self.keys.fetch_add(1, Ordering::Relaxed);
        let (id, secret) = (format!("LTAIkey{n}"), format!("{CANARY}{n}"));
        let key = Key { account: account_of(namespace), secret: secret.clone() };
        lock(&self.cloud).put_key(&id, key);
        (id, secret)
    }

    fn put_secret(&self, namespace: &str, id: &str, secret: &str, verb: Verb) {
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let mut body = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "key", "namespace": namespace },
            "data": { "accessKeyId": encode(id), "accessKeySecret": encode(secret) },
        });
        let mut uri = format!("/api/v1/namespaces/{namespace}/secrets");
        if verb == Verb::Merge {
            uri.push_str("/key");
            body = json!({ "data": body.get("data") });
        }
        self.ask(PEOPLE, verb, &uri, Some(body));
    }

    fn edit(&self, edit: &Edit) {
        let answer = match edit {
            Edit::Create(n) => self.schedule.jobs.get(*n).map(|job| {
                let uri = format!("/apis/dijob.dev/v1alpha1/namespaces/{}/{JOBS}", job.namespace);
                self.ask(PEOPLE, Verb::Create, &uri, Some(job.object.clone()))
            }),
            Edit::Patch(n, patch) => self
                .schedule
                .jobs
                .get(*n)
                .map(|job| self.ask(PEOPLE, Verb::Merge, &uri(&job.namespace, &job.name), Some(patch.clone()))),
            Edit::Delete(n) => self
                .schedule
                .jobs
                .get(*n)
                .map(|job| self.ask(PEOPLE, Verb::Delete, &uri(&job.namespace, &job.name), None)),
            Edit::RestoreStatus(n) => self.restore(*n),
            Edit::Rotate(n) => self.schedule.jobs.get(*n).map(|job| {
                let (id, secret) = self.new_key(&job.namespace);
                self.put_secret(&job.namespace, &id, &secret, Verb::Merge);
                let before = self.keys.load(Ordering::Relaxed).saturating_sub(2);
                lock(&self.cloud).remove_key(&format!("LTAIkey{before}"));
                self.ask(PEOPLE, Verb::Get, &uri(&job.namespace, &job.name), None)
            }),
            Edit::Switch(n, (version, signature)) => {
                self.edit_account(*n, &json!({ "dataworksVersion": version, "signature": signature }))
            }
            Edit::Quota(n, calls) => self.edit_account(*n, &json!({ "quota": { "callsPerDay": calls } })),
            Edit::Console(n, act) => {
                if let Some(job) = self.schedule.jobs.get(*n) {
                    let patch = JobPatch { console: Some(*act), ..JobPatch::default() };
                    let now = self.now();
                    lock(&self.cloud).put_job(now, job.id, &patch);
                }
                None
            }
            Edit::Act(act) => {
                act.run(self);
                None
            }
        };
        let code = answer.map(|answer| answer.code);
        self.tell(&format!("people: {edit:?} -> {code:?}"));
    }

    fn edit_account(&self, n: usize, spec: &Value) -> Option<Answer> {
        let job = self.schedule.jobs.get(n)?;
        let uri = format!("/apis/dijob.dev/v1alpha1/namespaces/{}/dataworksaccounts/main", job.namespace);
        Some(self.ask(PEOPLE, Verb::Merge, &uri, Some(json!({ "spec": spec }))))
    }

    fn restore(&self, n: usize) -> Option<Answer> {
        let job = self.schedule.jobs.get(n)?;
        let history = self.api.history(0);
        let first = history
            .iter()
            .rev()
            .filter(|c| &*c.resource == JOBS && *c.namespace == *job.namespace && *c.name == *job.name)
            .find(|c| c.happened == api_server::Happened::Deleted)?;
        let status = first.object().get("status")?.clone();
        let uri = format!("{}/status", uri(&job.namespace, &job.name));
        Some(self.ask(PEOPLE, Verb::Merge, &uri, Some(json!({ "status": status }))))
    }

    pub(crate) async fn people(self: Arc<Self>) {
        for (at, edit) in &self.schedule.edits {
            // Edits of one moment are one act: nobody sees what is between them.
            let left = at.saturating_sub(self.elapsed());
            if !left.is_zero() {
                wait(left).await;
            }
            self.edit(edit);
        }
    }

    /// One pod: a process after the other.
    pub(crate) async fn pod(self: Arc<Self>, slot: u64) {
        loop {
            let number = self.processes.fetch_add(1, Ordering::Relaxed) + 1;
            let process = Arc::new(Process::new(number, slot));
            lock(&self.notes).processes.push(process.clone());
            self.tell(&format!("p{number} begins"));
            tokio::spawn(self.clone().kubelet(process.clone()));
            let ended = tokio::spawn(live(self.clone(), process.clone())).await;
            match ended {
                Ok(Ended::Stopped) => {
                    let now = self.now();
                    let mut notes = lock(&self.notes);
                    notes.stopped.iter_mut().filter(|s| s.0 == number).for_each(|s| s.2 = Some(now));
                }
                Ok(Ended::Killed) => {}
                Ok(Ended::Lost) => lock(&self.notes).died.push((number, self.now())),
                Err(ref error) => lock(&self.notes).wrong.push(format!("I9: p{number} broke: {error}")),
            }
            process.killed.cancel();
            self.tell(&format!("p{number} has ended: {ended:?}"));
            let pause = Chance::about(&[self.schedule.seed, 5, number]).pick(&[10, 1000, 5000, 20_000], 10);
            wait(Duration::from_millis(pause)).await;
        }
    }

    pub(crate) fn hearts(&self) {
        let mut notes = lock(&self.notes);
        let stopped = notes.processes.iter().filter(|p| !p.killed.is_cancelled());
        let found: Vec<String> =
            stopped.filter_map(|p| p.problem().map(|why| format!("I9: p{}: {why}", p.number))).collect();
        notes.wrong.extend(found);
    }

    /// Whether every object has come to an end of its own, as it says itself.
    pub(crate) fn at_rest(&self) -> bool {
        self.schedule.jobs.iter().all(|job| {
            let answer = self.ask(PEOPLE, Verb::Get, &uri(&job.namespace, &job.name), None);
            if answer.code == 404 {
                return true;
            }
            let body: Value = serde_json::from_slice(&answer.bytes()).unwrap_or_default();
            let generation = body.pointer("/metadata/generation");
            let conditions = body.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
            body.pointer("/status/pendingStart").is_none()
                && generation == body.pointer("/status/observedGeneration")
                && !conditions.is_empty()
                && !conditions.iter().any(|c| c["type"] == "Reconciling")
        })
    }
}
