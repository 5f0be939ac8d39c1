//! The real operator, killed or paused at the worst moments: a forced start never runs twice, an ordinary one always runs,
//! and status tells the truth. Two proxies hold the moment: one before the API server, one before the cloud.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "support"]
#[expect(dead_code, reason = "this test uses a part of what the tests share")]
mod support {
    pub mod plan;
    pub mod proxy;
    pub mod schema;
    pub mod world;
}

use std::time::Duration;

use dijob_operator::api::{DataIntegrationJob, JobStatus};
use http::StatusCode;
use jiff::SignedDuration;
use serde_json::{Value, json};
use support::proxy::{Exchange, Held, Moment, Proxy, Upstream};
use support::world::tenant::Tenant;
use support::world::{Cluster, FLAGS, Operator, is_current, is_ready, ready};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

const ORDINARY: i64 = 101;
const FORCED: i64 = 102;
/// Elected, with times as short as the fence allows: connect 0.5 s, write 1 s, retry 0.3 s.
const ELECTED: [&str; 10] = [
    "--lease-namespace=dijob-system",
    "--leader-elect=true",
    "--lease-duration=3s",
    "--renew-deadline=2s",
    "--retry-period=300ms",
    "--connect-timeout=500ms",
    "--call-timeout=2s",
    "--settle-time=3s",
    "--confirm-timeout=6s",
    "--missing-grace=8s",
];

/// One cluster for this binary, and one operator at a time in it: each works on all namespaces.
async fn cluster() -> (&'static Cluster, MutexGuard<'static, ()>) {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    static TURN: Mutex<()> = Mutex::const_new(());
    let turn = TURN.lock().await;
    let cluster = CLUSTER.get_or_init(|| async { tokio::task::spawn_blocking(Cluster::start).await.unwrap() }).await;
    (cluster, turn)
}

/// A namespace whose operator talks to everything through proxies.
struct Scene {
    cluster: &'static Cluster,
    api: Proxy,
    cloud: Proxy,
    tenant: Tenant,
    _turn: MutexGuard<'static, ()>,
}

impl Scene {
    async fn new(name: &str) -> Self {
        let (cluster, turn) = cluster().await;
        let tenant = Tenant::new(cluster, name).await;
        let (url, ca) = cluster.server();
        let api = Proxy::start(Upstream::https(&url, &ca)).await;
        let cloud = Proxy::start(Upstream::http(&tenant.cloud.url())).await;
        tenant.put_key().await;
        let mut account = tenant.account_spec();
        account["endpoint"] = json!(cloud.url());
        tenant.put_account("default", &account).await;
        Self { cluster, api, cloud, tenant, _turn: turn }
    }

    fn operator(&self, flags: &[&str]) -> Operator {
        self.cluster.operator_via(self.api.url(), &self.tenant.namespace, flags)
    }

    /// An ordinary job and a forced one, both never run.
    async fn apply_both(&self) {
        self.tenant.apply("ordinary", &json!({ "diJobId": ORDINARY })).await;
        self.tenant.apply("forced", &json!({ "diJobId": FORCED, "forceToRerun": true })).await;
    }

    fn executions(&self, job: i64) -> usize {
        self.tenant.cloud.executions(job).len()
    }

    /// Starts that reached the cloud.
    fn arrivals(&self, job: i64) -> usize {
        self.tenant.cloud.starts(job).len()
    }

    async fn status(&self, name: &str) -> JobStatus {
        self.tenant.jobs.get(name).await.unwrap().status.unwrap()
    }

    /// The ordinary start ran once and is confirmed.
    async fn ordinary_ran_once(&self) {
        self.tenant.until_ready("ordinary").await;
        assert_eq!(self.executions(ORDINARY), 1, "{}", self.tenant.story("ordinary"));
        let last = self.status("ordinary").await.last_start.unwrap();
        assert_eq!((last.outcome.as_str(), last.trigger.as_str()), ("Confirmed", "FirstApply"));
    }

    /// The forced start never left: it is not sent again, and status says that this is not known.
    async fn forced_rests_as_unknown(&self) {
        self.tenant.until_reason("forced", "ResolvingStart").await;
        // Two looks after the settle time are proof enough that no copy follows them.
        self.tenant
            .until_ledger("two looks at the forced job", |ledger| {
                ledger.of_action("GetDIJob").filter(|e| e.job == Some(FORCED)).count() >= 3
            })
            .await;
        assert_eq!((self.arrivals(FORCED), self.executions(FORCED)), (0, 0), "{}", self.tenant.story("forced"));
        let job = self.tenant.jobs.get("forced").await.unwrap();
        let status = job.status.as_ref().unwrap();
        assert!(status.pending_start.is_some() && status.last_start.is_none());
        assert!(ready(&job).unwrap().message.contains("never sent twice"));
    }

    async fn end(self, operators: &[&Operator]) {
        let Self { tenant, .. } = &self;
        for name in ["ordinary", "forced"] {
            // The next operator in this cluster must not find them.
            let _ = tenant.jobs.delete(name, &kube::api::DeleteParams::default()).await;
        }
        self.tenant.end(operators).await;
    }
}

/// A status write that holds this field with a value.
fn writes(field: &'static str) -> impl Fn(&Exchange) -> bool + Send + Sync + 'static {
    move |exchange| {
        let body: Value = serde_json::from_slice(&exchange.body).unwrap_or_default();
        exchange.method == "PATCH" && !exchange.path.contains("dryRun") && body["status"][field].is_object()
    }
}

fn starts(exchange: &Exchange) -> bool {
    exchange.path.contains("Action=StartDIJob")
}

async fn killed_at(operator: Operator, held: Held) {
    held.reached_times(2).await;
    drop(operator); // kill -9
    held.drop_connection();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_ends_the_pass_without_a_call() {
    let scene = Scene::new("conflict").await;
    let held = scene.api.hold_each(Moment::RequestSeen, writes("pendingStart"));
    let operator = scene.operator(&FLAGS);
    scene.apply_both().await;
    held.reached_times(2).await;
    for name in ["ordinary", "forced"] {
        scene.tenant.merge(name, &json!({ "spec": { "suspend": true } })).await;
    }
    held.release();
    for (name, id) in [("ordinary", ORDINARY), ("forced", FORCED)] {
        let job = scene.tenant.until(name, "the edit to be seen", is_current).await;
        assert_eq!(scene.arrivals(id), 0, "{}", scene.tenant.story(name));
        assert_eq!(ready(&job).unwrap().reason, "Suspended");
    }
    scene.end(&[&operator]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unwritten_outcome_comes_before_anything_else() {
    let scene = Scene::new("unwritten").await;
    let held = scene.api.hold(Moment::RequestSeen, writes("lastStart"));
    let operator = scene.operator(&FLAGS);
    scene.tenant.apply("forced", &json!({ "diJobId": FORCED, "forceToRerun": true })).await;
    held.reached().await;
    scene.tenant.annotate("forced", &json!({ "example.com/note": "in between" })).await;
    held.release(); // into a conflict
    scene.tenant.until_ready("forced").await;
    let (last, sent) = (scene.status("forced").await.last_start.unwrap(), scene.tenant.cloud.starts(FORCED));
    assert_eq!((last.request_id.as_ref(), sent.len()), (Some(&sent[0].request_id), 1));
    scene.end(&[&operator]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails_is_decided_anew_and_not_repeated_behind_our_back() {
    let scene = Scene::new("busy").await;
    let held = scene.api.hold(Moment::RequestSeen, writes("pendingStart"));
    let operator = scene.operator(&FLAGS);
    scene.tenant.apply("ordinary", &json!({ "diJobId": ORDINARY })).await;
    held.reached().await;
    let busy = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "busy", "code": 503 });
    held.answer(StatusCode::SERVICE_UNAVAILABLE, "application/json", busy.to_string());
    scene.ordinary_ran_once().await;
    let intents = scene.api.exchanges().into_iter().filter(writes("pendingStart"));
    let nonce = |e: Exchange| {
        let body: Value = serde_json::from_slice(&e.body).unwrap();
        body["status"]["pendingStart"]["nonce"].as_str().unwrap().to_owned()
    };
    let nonces: Vec<String> = intents.map(nonce).collect();
    assert!(nonces.len() == 2 && nonces[0] != nonces[1], "{nonces:?}");
    scene.end(&[&operator]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settled_object_is_not_written() {
    let scene = Scene::new("settled").await;
    let operator = scene.operator(&FLAGS);
    scene.apply_both().await;
    scene.tenant.until_ready("ordinary").await;
    scene.tenant.until_ready("forced").await;
    let written = || {
        let is_write = |e: &&Exchange| e.method == "PATCH" && e.path.contains("/forced/status");
        scene.api.exchanges().iter().filter(is_write).count()
    };
    let before = written();
    scene.tenant.annotate("forced", &json!({ "example.com/note": "nothing to do" })).await;
    // Its pass comes before that of the other one, which has something to do.
    scene.tenant.annotate("ordinary", &json!({ "dijob.dev/rerun": "a" })).await;
    let handled = |status: &JobStatus| status.handled_rerun_tokens == ["a"];
    let done = |job: &DataIntegrationJob| is_ready(job) && job.status.as_ref().is_some_and(handled);
    scene.tenant.until("ordinary", "the token to be handled", done).await;
    assert_eq!(written(), before);
    scene.end(&[&operator]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_right_before_the_intent_write_both_starts_run_once() {
    let scene = Scene::new("before-intent").await;
    let held = scene.api.hold_each(Moment::RequestSeen, writes("pendingStart"));
    let first = scene.operator(&FLAGS);
    scene.apply_both().await;
    killed_at(first, held).await;
    assert_eq!((scene.arrivals(ORDINARY), scene.arrivals(FORCED)), (0, 0));
    assert_eq!(scene.status("forced").await.pending_start, None);
    let second = scene.operator(&FLAGS);
    scene.ordinary_ran_once().await;
    scene.tenant.until_ready("forced").await;
    assert_eq!(scene.executions(FORCED), 1);
    scene.end(&[&second]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_the_intent_write_the_ordinary_start_runs_and_the_forced_one_rests() {
    let scene = Scene::new("after-intent").await;
    let held = scene.api.hold_each(Moment::AnswerSeen, writes("pendingStart"));
    let first = scene.operator(&FLAGS);
    scene.apply_both().await;
    killed_at(first, held).await;
    let intent = scene.status("ordinary").await.pending_start.unwrap();
    let found = scene.tenant.cloud.now();
    let second = scene.operator(&FLAGS);
    scene.ordinary_ran_once().await;
    let sent = &scene.tenant.cloud.starts(ORDINARY)[0];
    assert_eq!(sent.nonce.as_deref(), Some(intent.nonce.as_str()), "the resend bears the same nonce");
    let waited = sent.first_byte.duration_since(found);
    assert!(waited >= SignedDuration::from_secs(3), "a call of the first life might be under way: {waited}");
    scene.forced_rests_as_unknown().await;
    scene.end(&[&second]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_the_call_left_is_the_same() {
    let scene = Scene::new("before-call").await;
    let held = scene.cloud.hold_each(Moment::RequestSeen, starts);
    let first = scene.operator(&FLAGS);
    scene.apply_both().await;
    killed_at(first, held).await;
    let second = scene.operator(&FLAGS);
    scene.ordinary_ran_once().await;
    scene.forced_rests_as_unknown().await;
    scene.end(&[&second]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_the_call_left_both_starts_are_found_and_not_sent_again() {
    let scene = Scene::new("after-call").await;
    let held = scene.cloud.hold_each(Moment::Forwarded, starts);
    let first = scene.operator(&FLAGS);
    scene.apply_both().await;
    killed_at(first, held).await;
    scene.tenant.until_ledger("both starts", |l| l.executions(ORDINARY).len() + l.executions(FORCED).len() == 2).await;
    let second = scene.operator(&FLAGS);
    both_were_found(&scene).await;
    scene.end(&[&second]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_the_answer_both_starts_are_found_and_no_request_id_is_invented() {
    let scene = Scene::new("after-answer").await;
    let held = scene.api.hold_each(Moment::RequestSeen, writes("lastStart"));
    let first = scene.operator(&FLAGS);
    scene.apply_both().await;
    killed_at(first, held).await;
    assert!(scene.status("forced").await.pending_start.is_some());
    let second = scene.operator(&FLAGS);
    both_were_found(&scene).await;
    scene.end(&[&second]).await;
}

async fn both_were_found(scene: &Scene) {
    scene.ordinary_ran_once().await;
    scene.tenant.until_ready("forced").await;
    assert_eq!((scene.arrivals(ORDINARY), scene.arrivals(FORCED)), (1, 1));
    assert_eq!((scene.executions(ORDINARY), scene.executions(FORCED)), (1, 1));
    let last = scene.status("forced").await.last_start.unwrap();
    assert_eq!((last.outcome.as_str(), last.request_id), ("Confirmed", None));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_crashes_in_a_row_add_no_execution() {
    let scene = Scene::new("crash-loop").await;
    scene.apply_both().await;
    for round in 0..10 {
        // Each life ends at another exchange with the API server or the cloud.
        let held = scene.api.hold_each(Moment::RequestSeen, |e| e.method == "PATCH");
        let call = scene.cloud.hold_each(Moment::Forwarded, starts);
        let operator = scene.operator(&FLAGS);
        let reached = async {
            if round % 2 == 0 {
                held.reached().await
            } else {
                held.release();
                call.reached().await
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(4), reached).await;
        drop(operator);
        held.drop_connection();
        call.drop_connection();
    }
    let last = scene.operator(&FLAGS);
    scene.tenant.until_ready("ordinary").await;
    assert!(scene.executions(FORCED) <= 1 && scene.executions(ORDINARY) >= 1, "{}", scene.tenant.story("forced"));
    scene.end(&[&last]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_paused_after_its_commit_sends_nothing_when_it_wakes() {
    let scene = Scene::new("paused-commit").await;
    let held = scene.api.hold_each(Moment::AnswerSeen, writes("pendingStart"));
    let old = scene.operator(&ELECTED);
    old.wait_line("it to lead", |line| line["message"] == "leading");
    scene.apply_both().await;
    held.reached_times(2).await;
    old.signal("STOP");
    held.release();
    let new = scene.operator(&ELECTED);
    // Once the new leader has written, the old one's guarded writes end in conflicts.
    scene.tenant.until_reason("ordinary", "ResolvingStart").await;
    scene.tenant.until_reason("forced", "ResolvingStart").await;
    old.signal("CONT");
    old.wait_end();
    scene.ordinary_ran_once().await;
    scene.forced_rests_as_unknown().await;
    scene.end(&[&new]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_paused_leader_that_arrives_late_is_refused_by_its_nonce() {
    let scene = Scene::new("paused-call").await;
    let held = scene.cloud.hold(Moment::RequestSeen, starts);
    let old = scene.operator(&ELECTED);
    old.wait_line("it to lead", |line| line["message"] == "leading");
    scene.tenant.apply("ordinary", &json!({ "diJobId": ORDINARY })).await;
    held.reached().await;
    old.signal("STOP");
    let new = scene.operator(&ELECTED);
    scene.ordinary_ran_once().await;
    held.release(); // the first copy comes last
    scene.cloud.until(|all| all.iter().filter(|e| starts(e) && e.moment >= Moment::AnswerSeen).count() == 2).await;
    old.signal("CONT");
    old.wait_end();
    assert_eq!((scene.arrivals(ORDINARY), scene.executions(ORDINARY)), (2, 1), "{}", scene.tenant.story("ordinary"));
    scene.end(&[&new]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_stop_hands_over_at_once_and_nothing_is_sent_twice() {
    let scene = Scene::new("hand-over").await;
    let old = scene.operator(&ELECTED);
    old.wait_line("it to lead", |line| line["message"] == "leading");
    let held = scene.cloud.hold_each(Moment::Forwarded, starts);
    scene.apply_both().await;
    held.reached_times(2).await;
    let new = scene.operator(&ELECTED);
    old.signal("TERM");
    held.release();
    old.wait_line("the lease to be released", |line| line["message"] == "released the lease");
    old.wait_end();
    new.wait_line("the other to lead", |line| line["message"] == "leading");
    scene.tenant.until("forced", "Ready", is_ready).await;
    scene.ordinary_ran_once().await;
    assert_eq!((scene.arrivals(ORDINARY), scene.arrivals(FORCED)), (1, 1));
    scene.end(&[&new]).await;
}
