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
use kube::api::ListParams;
use serde_json::{Value, json};
use simulator::{JobPatch, JobStatus as Word};
use support::proxy::{Exchange, Held, Moment, Proxy, Upstream};
use support::world::tenant::Tenant;
use support::world::{Cluster, Operator, is_current, is_ready, ready};
use tokio::sync::OnceCell;

const ORDINARY: i64 = 101;
const FORCED: i64 = 102;
/// Times as short as the fence and a busy machine allow: connect 0.5 s, write 1 s, retry 0.3 s.
const ALONE: [&str; 6] = [
    "--leader-elect=false",
    "--connect-timeout=500ms",
    "--call-timeout=2s",
    "--settle-time=2200ms",
    "--confirm-timeout=8s",
    "--missing-grace=8s",
];
/// The same, elected.
const ELECTED: [&str; 9] = [
    "--leader-elect=true",
    "--lease-duration=3s",
    "--renew-deadline=2s",
    "--retry-period=300ms",
    "--connect-timeout=500ms",
    "--call-timeout=2s",
    "--settle-time=2200ms",
    "--confirm-timeout=8s",
    "--missing-grace=8s",
];

/// A namespace whose operators talk to everything through proxies, and see no other: so all tests run side by side.
struct Scene {
    cluster: &'static Cluster,
    api: Proxy,
    cloud: Proxy,
    tenant: Tenant,
    lease: String,
}

impl Scene {
    async fn new(name: &str) -> Self {
        static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
        let cluster =
            CLUSTER.get_or_init(|| async { tokio::task::spawn_blocking(Cluster::start).await.unwrap() }).await;
        let tenant = Tenant::new(cluster, name).await;
        let (url, ca) = cluster.server();
        let api = Proxy::start(Upstream::https(&url, &ca).within(name)).await;
        let cloud = Proxy::start(Upstream::http(&tenant.cloud.url())).await;
        tenant.put_key().await;
        let mut account = tenant.account_spec();
        account["endpoint"] = json!(cloud.url());
        tenant.put_account("default", &account).await;
        tokio::task::block_in_place(|| cluster.allow_lease(name));
        Self { cluster, api, cloud, tenant, lease: format!("--lease-namespace={name}") }
    }

    fn operator(&self, flags: &[&str]) -> Operator {
        let flags = [flags, &[&self.lease]].concat();
        tokio::task::block_in_place(|| self.cluster.operator_via(self.api.url(), &self.tenant.namespace, &flags))
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

/// Covers: 18p.
#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_ends_the_pass_without_a_call() {
    let scene = Scene::new("conflict").await;
    let held = scene.api.hold_each(Moment::RequestSeen, writes("pendingStart"));
    let operator = scene.operator(&ALONE);
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
    let operator = scene.operator(&ALONE);
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
    let operator = scene.operator(&ALONE);
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
    let operator = scene.operator(&ALONE);
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

/// Covers: 1p.
#[tokio::test(flavor = "multi_thread")]
async fn killed_right_before_the_intent_write_both_starts_run_once() {
    let scene = Scene::new("before-intent").await;
    let held = scene.api.hold_each(Moment::RequestSeen, writes("pendingStart"));
    let first = scene.operator(&ALONE);
    scene.apply_both().await;
    killed_at(first, held).await;
    assert_eq!((scene.arrivals(ORDINARY), scene.arrivals(FORCED)), (0, 0));
    assert_eq!(scene.status("forced").await.pending_start, None);
    let second = scene.operator(&ALONE);
    scene.ordinary_ran_once().await;
    scene.tenant.until_ready("forced").await;
    assert_eq!(scene.executions(FORCED), 1);
    scene.end(&[&second]).await;
}

/// Covers: 2p.
#[tokio::test(flavor = "multi_thread")]
async fn killed_after_the_intent_write_the_ordinary_start_runs_and_the_forced_one_rests() {
    let scene = Scene::new("after-intent").await;
    let held = scene.api.hold_each(Moment::AnswerSeen, writes("pendingStart"));
    let first = scene.operator(&ALONE);
    scene.apply_both().await;
    killed_at(first, held).await;
    let intent = scene.status("ordinary").await.pending_start.unwrap();
    let found = scene.tenant.cloud.now();
    let second = scene.operator(&ALONE);
    scene.ordinary_ran_once().await;
    let sent = &scene.tenant.cloud.starts(ORDINARY)[0];
    assert_eq!(sent.nonce.as_deref(), Some(intent.nonce.as_str()), "the resend bears the same nonce");
    let waited = sent.first_byte.duration_since(found);
    assert!(waited >= SignedDuration::from_millis(2200), "a call of the first life might be under way: {waited}");
    scene.forced_rests_as_unknown().await;
    scene.end(&[&second]).await;
}

/// Covers: 2p.
#[tokio::test(flavor = "multi_thread")]
async fn killed_before_the_call_left_is_the_same() {
    let scene = Scene::new("before-call").await;
    let held = scene.cloud.hold_each(Moment::RequestSeen, starts);
    let first = scene.operator(&ALONE);
    scene.apply_both().await;
    killed_at(first, held).await;
    let second = scene.operator(&ALONE);
    scene.ordinary_ran_once().await;
    scene.forced_rests_as_unknown().await;
    scene.end(&[&second]).await;
}

/// Covers: 3p.
#[tokio::test(flavor = "multi_thread")]
async fn killed_after_the_call_left_both_starts_are_found_and_not_sent_again() {
    let scene = Scene::new("after-call").await;
    let held = scene.cloud.hold_each(Moment::Forwarded, starts);
    let first = scene.operator(&ALONE);
    scene.apply_both().await;
    killed_at(first, held).await;
    scene.tenant.until_ledger("both starts", |l| l.executions(ORDINARY).len() + l.executions(FORCED).len() == 2).await;
    let second = scene.operator(&ALONE);
    both_were_found(&scene).await;
    scene.end(&[&second]).await;
}

/// Covers: 4p.
#[tokio::test(flavor = "multi_thread")]
async fn killed_after_the_answer_both_starts_are_found_and_no_request_id_is_invented() {
    let scene = Scene::new("after-answer").await;
    let held = scene.api.hold_each(Moment::RequestSeen, writes("lastStart"));
    let first = scene.operator(&ALONE);
    scene.apply_both().await;
    killed_at(first, held).await;
    assert!(scene.status("forced").await.pending_start.is_some());
    let second = scene.operator(&ALONE);
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

/// Covers: 5p.
#[tokio::test(flavor = "multi_thread")]
async fn ten_crashes_in_a_row_add_no_execution() {
    let scene = Scene::new("crash-loop").await;
    scene.apply_both().await;
    for round in 0..10 {
        // Each life ends at another exchange with the API server or the cloud.
        let held = scene.api.hold_each(Moment::RequestSeen, |e| e.method == "PATCH");
        let call = scene.cloud.hold_each(Moment::Forwarded, starts);
        let operator = scene.operator(&ALONE);
        let reached = async {
            if round % 2 == 0 {
                held.reached().await
            } else {
                held.release();
                call.reached().await
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(2500), reached).await;
        drop(operator);
        held.drop_connection();
        call.drop_connection();
    }
    let last = scene.operator(&ALONE);
    scene.tenant.until_ready("ordinary").await;
    assert!(scene.executions(FORCED) <= 1 && scene.executions(ORDINARY) >= 1, "{}", scene.tenant.story("forced"));
    scene.end(&[&last]).await;
}

/// Covers: 21p.
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

/// Covers: 21p.
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

/// Covers: 42p.
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

fn lists_jobs(exchange: &Exchange) -> bool {
    exchange.path.contains("/dataintegrationjobs?") && exchange.path.contains("limit=500")
}

fn watches_jobs(exchange: &Exchange) -> bool {
    exchange.path.contains("/dataintegrationjobs?") && exchange.path.contains("watch=true")
}

/// What the API server said to writes of an intent.
fn intents(scene: &Scene) -> Vec<Option<u16>> {
    let all = scene.api.exchanges().into_iter().filter(writes("pendingStart"));
    all.map(|exchange| exchange.status.map(|status| status.as_u16())).collect()
}

/// Covers: 14p.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_watch_ends_in_a_conflict_without_a_call() {
    let scene = Scene::new("silent-watch").await;
    scene.tenant.apply("forced", &json!({ "diJobId": FORCED, "forceToRerun": true })).await;
    let watch = scene.api.hold_each(Moment::RequestSeen, watches_jobs);
    let look = scene.cloud.hold(Moment::RequestSeen, |exchange| exchange.path.contains("Action=GetDIJob"));
    let operator = scene.operator(&ALONE);
    look.reached().await;
    watch.reached().await;
    scene.tenant.merge("forced", &json!({ "spec": { "suspend": true } })).await;
    look.release();
    let job = scene.tenant.until("forced", "the edit to be seen", is_current).await;
    assert_eq!((ready(&job).unwrap().reason.as_str(), scene.arrivals(FORCED)), ("Suspended", 0));
    assert_eq!(intents(&scene), [Some(409)], "it decided on what the watch had not told it of");
    scene.end(&[&operator]).await;
}

/// Covers: 14p.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_list_ends_in_a_conflict_without_a_call() {
    let scene = Scene::new("old-list").await;
    scene.tenant.apply("forced", &json!({ "diJobId": FORCED, "forceToRerun": true })).await;
    let old = scene.tenant.jobs.list(&ListParams::default()).await.unwrap();
    let first = scene.operator(&ALONE);
    scene.tenant.until_ready("forced").await;
    drop(first);
    // At rest again, so that what the old list asks for is a start, not an adoption.
    let rests = JobPatch { status: Some(Word::Stopped), ..JobPatch::default() };
    scene.tenant.cloud.put_job(FORCED, &rests);
    let before = intents(&scene).len();
    let list = scene.api.hold(Moment::RequestSeen, lists_jobs);
    list.answer(StatusCode::OK, "application/json", serde_json::to_vec(&old).unwrap());
    let watch = scene.api.hold_each(Moment::RequestSeen, watches_jobs);
    let second = scene.operator(&ALONE);
    scene
        .api
        .until(|all| all.iter().filter(|e| writes("pendingStart")(e) && e.answered.is_some()).count() > before)
        .await;
    assert_eq!(intents(&scene)[before..], [Some(409)]);
    watch.release();
    // The proof that it goes on, and that nothing of the old list is left.
    scene.tenant.annotate("forced", &json!({ "dijob.dev/rerun": "the-proof" })).await;
    let handled = |status: &JobStatus| status.handled_rerun_tokens == ["the-proof"];
    let done = |job: &DataIntegrationJob| is_ready(job) && job.status.as_ref().is_some_and(handled);
    scene.tenant.until("forced", "the token to be handled", done).await;
    assert_eq!((scene.arrivals(FORCED), scene.executions(FORCED)), (2, 2), "{}", scene.tenant.story("forced"));
    scene.end(&[&second]).await;
}

/// Covers: 26p.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_deleted_at_any_step_is_gone_at_once_and_nothing_is_committed_or_sent_after_that() {
    let scene = Scene::new("deleted").await;
    let operator = scene.operator(&ALONE);
    let looks = |exchange: &Exchange| exchange.path.contains("Action=GetDIJob");
    let moments = [Moment::RequestSeen, Moment::Forwarded, Moment::AnswerSeen];
    let steps = ["look", "intent", "call", "outcome"].into_iter().flat_map(|step| moments.map(|moment| (step, moment)));
    for (id, (step, moment)) in (1000..).zip(steps) {
        let name = format!("job-{id}");
        let held = match step {
            "look" => scene.cloud.hold(moment, looks),
            "intent" => scene.api.hold(moment, writes("pendingStart")),
            "call" => scene.cloud.hold(moment, starts),
            _ => scene.api.hold(moment, writes("lastStart")),
        };
        scene.tenant.apply(&name, &json!({ "diJobId": id, "forceToRerun": true })).await;
        held.reached().await;
        if moment == Moment::Forwarded && step == "intent" {
            // Only its own intent, on the way, is allowed to come before the deletion.
            scene.tenant.until(&name, "its intent", |job| job.status.as_ref().unwrap().pending_start.is_some()).await;
        }
        scene.tenant.jobs.delete(&name, &kube::api::DeleteParams::default()).await.unwrap();
        assert!(scene.tenant.jobs.get_opt(&name).await.unwrap().is_none(), "{step} {moment:?}: Retain never waits");
        held.release();
        let committed = step == "call" || step == "outcome" || (step == "intent" && moment > Moment::RequestSeen);
        if committed {
            scene.tenant.until_ledger("the call", |ledger| ledger.starts(id).count() == 1).await;
        }
        // The next job's whole start is the proof that nothing more came of this one.
        let next = format!("after-{id}");
        scene.tenant.apply(&next, &json!({ "diJobId": id + 500 })).await;
        scene.tenant.until_reason(&next, "Confirming").await;
        assert_eq!(scene.arrivals(id), usize::from(committed), "{step} {moment:?}");
        scene.tenant.jobs.delete(&next, &kube::api::DeleteParams::default()).await.unwrap();
    }
    assert_eq!(operator.get("/healthz").0, 200);
    scene.end(&[&operator]).await;
}
