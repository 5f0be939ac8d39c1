//! The real binary on a real API server against the simulated cloud: what users see, and what the cloud was asked.
//!
//! All tests share one operator, each has a namespace and a cloud of its own. The cloud's ledger is the judge.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use dijob_operator::api::condition::ConditionStatus;
use dijob_operator::api::{DataIntegrationJob, JobStatus, LastStart};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use simulator::{
    Behaviour, Console, Denial, Entry, Execution, Fault, Hint, JobPatch, JobStatus as Word, Limits, Permissions,
    Refusal, Window,
};

#[path = "support"]
#[expect(dead_code, reason = "this test uses a part of what the tests share")]
mod support {
    pub mod plan;
    pub mod schema;
    pub mod world;
}

use support::world::tenant::Tenant;
use support::world::{FOREIGN, condition, is_current, is_ready, is_stalled, ready, world};

const JOB: i64 = 11743;
const START: &str = "StartDIJob";

async fn tenant(namespace: &str) -> Tenant {
    Tenant::new(&world().cluster, namespace).await
}

async fn equipped(namespace: &str) -> Tenant {
    tenant(namespace).await.with_account().await
}

async fn end(tenant: Tenant) {
    tenant.end(&[&world().operator]).await;
}

fn status(job: &DataIntegrationJob) -> &JobStatus {
    job.status.as_ref().unwrap()
}

fn last(job: &DataIntegrationJob) -> &LastStart {
    status(job).last_start.as_ref().unwrap()
}

/// The parameters of a start that say what is started and how.
fn asked(entry: &Entry) -> BTreeMap<&str, &str> {
    let own = ["DIJobId", "ForceToRerun", "RealtimeStartSettings"];
    entry.parameters.iter().filter(|(k, _)| own.contains(&k.as_str())).map(|(k, v)| (k.as_str(), v.as_str())).collect()
}

/// One job of that id, nothing else set.
fn plain(id: i64) -> Value {
    json!({ "diJobId": id })
}

/// With a start time: never sent twice.
fn forced(id: i64) -> Value {
    json!({ "diJobId": id, "realtimeStartSettings": { "startTime": 1_671_516_776 } })
}

impl Tenant {
    /// One more start is asked for, and is the only one since: whatever happened before it started nothing.
    async fn only_a_token_starts(&self, name: &str, id: i64, starts_before: usize) -> DataIntegrationJob {
        self.annotate(name, &json!({ "dijob.dev/rerun": "the-proof" })).await;
        let handled = |job: &DataIntegrationJob| {
            is_ready(job) && status(job).handled_rerun_tokens.last().is_some_and(|t| t == "the-proof")
        };
        let job = self.until(name, "the token to be handled", handled).await;
        let starts = self.cloud.starts(id);
        assert_eq!(starts.len(), starts_before + 1, "{}", self.story(name));
        assert_eq!(last(&job).trigger, "Rerun");
        job
    }

    fn fault(&self, id: i64, calls: u32, behaviour: Behaviour) {
        let fault =
            Fault { calls: Some(calls), action: Some(START.to_owned()), job: Some(id), account: None, behaviour };
        self.cloud.add_fault(fault);
    }

    fn executed(&self, id: i64) -> usize {
        self.cloud.executions(id).len()
    }
}

#[tokio::test]
async fn a_first_apply_sends_one_start_with_exactly_the_parameters_of_the_spec() {
    let tenant = equipped("first-apply").await;
    let spec = json!({
        "diJobId": JOB, "forceToRerun": true,
        "realtimeStartSettings": { "startTime": 1_671_516_776, "failoverSettings": { "interval": 10, "upperLimit": 30 } },
    });
    tenant.apply("full", &spec).await;
    tenant.apply("bare", &plain(JOB + 1)).await;
    let full = tenant.until_ready("full").await;
    tenant.until_ready("bare").await;

    let starts = tenant.cloud.starts(JOB);
    assert_eq!(starts.len(), 1);
    let mut parameters = starts[0].parameters.clone();
    let signed = parameters.remove("Timestamp").unwrap().parse::<Timestamp>().unwrap();
    assert_eq!(signed.to_string(), last(&full).requested_time.0.to_string());
    assert_eq!(parameters.remove("SignatureNonce").unwrap().len(), 32);
    let expected = [
        ("AccessKeyId", tenant.key_id.as_str()),
        ("Action", START),
        ("DIJobId", "11743"),
        ("ForceToRerun", "true"),
        ("Format", "json"),
        ("RealtimeStartSettings", r#"{"FailoverSettings":{"Interval":10,"UpperLimit":30},"StartTime":1671516776}"#),
        ("SignatureMethod", "HMAC-SHA1"),
        ("SignatureVersion", "1.0"),
        ("Version", "2020-05-18"),
    ];
    assert_eq!(parameters, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    assert_eq!(starts[0].method, "POST");
    assert_eq!(asked(&tenant.cloud.starts(JOB + 1)[0]), [("DIJobId", "11744")].into());
    let executions = tenant.cloud.executions(JOB);
    assert!(matches!(executions[..], [Execution { forced: true, offset: Some(1_671_516_776), is_restart: false, .. }]));

    assert_eq!(last(&full).request_id.as_deref(), Some(starts[0].request_id.as_str()));
    assert_eq!((last(&full).trigger.as_str(), last(&full).outcome.as_str()), ("FirstApply", "Confirmed"));
    assert_eq!(status(&full).job_status.as_deref(), Some("Running"));
    assert_eq!(ready(&full).unwrap().reason, "JobRunning");
    assert!(tenant.seen("full").iter().any(|s| s.pending_start.is_some()), "the intent was written ahead");
    let (type_, note) = tenant.until_event("full", "StartAccepted").await;
    assert_eq!(type_, "Normal");
    assert!(note.contains(&starts[0].request_id) && note.contains("FirstApply"), "{note}");
    tenant.until_event("full", "StartConfirmed").await;
    end(tenant).await;
}

#[tokio::test]
async fn what_is_no_start_input_starts_nothing() {
    let tenant = equipped("no-input").await;
    let spec = json!({ "diJobId": JOB, "realtimeStartSettings": { "failoverSettings": { "interval": 5 } } });
    tenant.apply("job", &spec).await;
    tenant.until_ready("job").await;

    let same = tenant.apply("job", &spec).await;
    assert_eq!(same.metadata.generation, Some(1));
    let other =
        json!({ "metadata": { "labels": { "team": "orders" }, "annotations": { "example.com/note": "seen" } } });
    tenant.merge("job", &other).await;
    let mut account = tenant.account_spec();
    account["edition"] = json!("Basic");
    account["quota"] = json!({ "callsPerDay": 90 });
    tenant.put_account("default", &account).await;
    account["edition"] = json!("Enterprise");
    account["quota"] = json!({ "readsPerSecond": 40 });
    tenant.put_account("default", &account).await;
    tenant.put_account("another", &account).await;
    for policy in [
        json!({ "onUnknown": "Hold" }),
        json!({ "suspend": true }),
        json!({ "suspend": false }),
        json!({ "accountRef": { "name": "another" } }),
    ] {
        let job = tenant.merge("job", &json!({ "spec": policy })).await;
        let generation = job.metadata.generation;
        let job = tenant.until("job", "the edit to be seen", |job| is_current(job) && is_ready(job)).await;
        assert!(job.metadata.generation >= generation);
    }
    tenant.only_a_token_starts("job", JOB, 1).await;
    end(tenant).await;
}

#[tokio::test]
async fn an_edit_of_a_start_input_starts_once_and_one_shot_settings_are_sent_only_if_they_changed() {
    let tenant = equipped("edits").await;
    let before = json!({ "startTime": 1_671_516_776, "failoverSettings": { "interval": 10, "upperLimit": 30 } });
    let settings = |s: Value| json!({ "realtimeStartSettings": s });
    let rows = [
        (
            "interval",
            settings(json!({ "failoverSettings": { "interval": 11 } })),
            Some((None, Some(r#"{"FailoverSettings":{"Interval":11,"UpperLimit":30}}"#))),
        ),
        (
            "upper-limit",
            settings(json!({ "failoverSettings": { "upperLimit": 0 } })),
            Some((None, Some(r#"{"FailoverSettings":{"Interval":10,"UpperLimit":0}}"#))),
        ),
        (
            "start-time",
            settings(json!({ "startTime": 1_671_516_777 })),
            Some((None, Some(r#"{"FailoverSettings":{"Interval":10,"UpperLimit":30},"StartTime":1671516777}"#))),
        ),
        (
            "force",
            json!({ "forceToRerun": true }),
            Some((Some("true"), Some(r#"{"FailoverSettings":{"Interval":10,"UpperLimit":30}}"#))),
        ),
        ("no-start-time", settings(json!({ "startTime": null })), None),
        ("no-failover", settings(json!({ "failoverSettings": null })), None),
        ("no-settings", settings(Value::Null), None),
        (
            "empty-settings",
            settings(json!({ "startTime": null, "failoverSettings": { "interval": null, "upperLimit": null } })),
            None,
        ),
    ];
    join_all(rows.into_iter().zip(1..).map(async |((name, edit, expected), id)| {
        tenant.apply(name, &json!({ "diJobId": id, "realtimeStartSettings": before })).await;
        tenant.until_ready(name).await;
        tenant.merge(name, &json!({ "spec": edit })).await;
        let job = tenant.until_ready(name).await;
        let starts = tenant.cloud.starts(id);
        let Some((force, sent)) = expected else {
            assert_eq!(starts.len(), 1, "{}", tenant.story(name));
            assert_eq!(status(&job).applied.as_ref().map(|a| a.generation), Some(2));
            tenant.only_a_token_starts(name, id, 1).await;
            return;
        };
        assert_eq!(starts.len(), 2, "{}", tenant.story(name));
        let asked = asked(&starts[1]);
        assert_eq!((asked.get("ForceToRerun").copied(), asked.get("RealtimeStartSettings").copied()), (force, sent));
        assert_eq!((last(&job).trigger.as_str(), last(&job).generation), ("SpecChange", 2));
    }))
    .await;
    end(tenant).await;
}

#[tokio::test]
async fn a_token_starts_once_wherever_it_stands_and_an_old_or_withdrawn_one_starts_nothing() {
    let tenant = equipped("tokens").await;
    tenant.apply("job", &plain(JOB)).await;
    tenant.until_ready("job").await;
    let handled = async |tokens: &[&str]| {
        let tokens: Vec<String> = tokens.iter().map(|t| (*t).to_owned()).collect();
        tenant.until("job", "tokens", |job| is_ready(job) && status(job).handled_rerun_tokens == tokens).await
    };
    tenant.annotate("job", &json!({ "dijob.dev/rerun": "a" })).await;
    let job = handled(&["a"]).await;
    assert_eq!(tenant.cloud.starts(JOB).len(), 2);
    assert_eq!(last(&job).rerun_tokens, ["a"]);
    let (_, note) = tenant.until_event("job", "StartAccepted").await;
    assert!(note.contains("RequestId"), "{note}");

    // The same token in spec is the same request; a new one there is another.
    tenant.merge("job", &json!({ "spec": { "rerunToken": "a" } })).await;
    tenant.until_ready("job").await;
    tenant.merge("job", &json!({ "spec": { "rerunToken": "b" } })).await;
    handled(&["a", "b"]).await;
    assert_eq!(tenant.cloud.starts(JOB).len(), 3);

    // Back to an old one, as git revert does, then gone.
    for token in ["a", ""] {
        tenant.merge("job", &json!({ "spec": { "rerunToken": token } })).await;
        tenant.until_ready("job").await;
    }
    tenant.annotate("job", &json!({ "dijob.dev/rerun": "" })).await;
    tenant.annotate("job", &json!({ "dijob.dev/rerun": null })).await;
    let job = tenant.only_a_token_starts("job", JOB, 3).await;
    assert!(tenant.cloud.executions(JOB).iter().all(|e| !e.forced && e.offset.is_none()));
    assert_eq!(status(&job).history.len(), 4);
    end(tenant).await;
}

#[tokio::test]
async fn a_rerun_is_forced_by_spec_or_by_both_annotations_with_the_same_token() {
    let tenant = equipped("force").await;
    let rows = [
        ("neither", json!({ "dijob.dev/rerun": "t" }), json!({}), false),
        ("both", json!({ "dijob.dev/rerun": "t", "dijob.dev/rerun-force": "t" }), json!({}), true),
        ("another", json!({ "dijob.dev/rerun": "t", "dijob.dev/rerun-force": "u" }), json!({}), false),
        ("in-spec", json!({}), json!({ "rerunToken": "t", "forceToRerun": true }), true),
        ("half", json!({ "dijob.dev/rerun-force": "t" }), json!({ "rerunToken": "t" }), false),
    ];
    join_all(rows.into_iter().zip(1..).map(async |((name, annotations, spec, is_forced), id)| {
        tenant.apply(name, &plain(id)).await;
        tenant.until_ready(name).await;
        tenant.merge(name, &json!({ "metadata": { "annotations": annotations }, "spec": spec })).await;
        tenant.until(name, "the token", |job| is_ready(job) && status(job).handled_rerun_tokens == ["t"]).await;
        let executions = tenant.cloud.executions(id);
        assert_eq!(executions.iter().map(|e| e.forced).collect::<Vec<_>>(), [false, is_forced], "{name}");
    }))
    .await;
    end(tenant).await;
}

#[tokio::test]
async fn a_throttled_start_waits_as_long_as_it_is_told_and_then_starts_once() {
    let rows = [
        ("api", "Throttling.Api", Hint::RetryAfter(Some(2500)), 2500),
        ("system", "Throttling.System", Hint::RateLimit(Some(1800)), 1800),
        ("number", "9990020002", Hint::RetryAfter(Some(1500)), 1500),
    ];
    join_all(rows.map(async |(name, code, hint, wait)| {
        let tenant = equipped(&format!("throttled-{name}")).await;
        tenant.fault(JOB, 1, Behaviour::error(Refusal::of(code)).with_hint(hint));
        tenant.apply("job", &plain(JOB)).await;
        let told = tenant.until("job", "Throttled", |job| condition(job, "Throttled").is_some()).await;
        let message = &condition(&told, "Throttled").unwrap().message;
        let until = message.split_once("until ").unwrap().1.get(..20).unwrap().parse::<Timestamp>().unwrap();
        let starts = tenant.cloud.starts(JOB);
        assert_eq!(starts.len(), 1, "{}", tenant.story("job"));
        let apart = until.duration_since(starts[0].answered.unwrap());
        // In whole seconds, and a little spread.
        assert!(apart > SignedDuration::from_millis(wait - 1000) && apart < SignedDuration::from_secs(10), "{message}");
        assert_eq!(ready(&told).unwrap().reason, "Throttled");
        let error = status(&told).last_error.as_ref().unwrap();
        assert_eq!((error.code.as_deref(), error.request_id.as_ref()), (Some(code), Some(&starts[0].request_id)));
        assert_eq!(tenant.until_event("job", "Throttled").await.0, "Normal");

        let job = tenant.until_ready("job").await;
        assert!(condition(&job, "Throttled").is_none());
        let starts = tenant.cloud.starts(JOB);
        assert_eq!(starts.len(), 2, "{}", tenant.story("job"));
        let waited = starts[1].first_byte.duration_since(starts[0].answered.unwrap());
        assert!(waited >= SignedDuration::from_millis(wait), "{name}: {waited}");
        assert_eq!((tenant.executed(JOB), status(&job).attempts), (1, 0));
        end(tenant).await;
    }))
    .await;
}

#[tokio::test]
async fn a_throttled_start_without_a_hint_is_sent_again_in_the_next_turn() {
    let tenant = equipped("throttled-user").await;
    tenant.fault(JOB, 2, Behaviour::error(Refusal::of("Throttling.User")).with_hint(Hint::None));
    tenant.apply("job", &plain(JOB)).await;
    let job = tenant.until_ready("job").await;
    let starts = tenant.cloud.starts(JOB);
    assert_eq!(starts.len(), 3, "{}", tenant.story("job"));
    assert_eq!((tenant.executed(JOB), status(&job).attempts), (1, 0));
    let took = starts[2].first_byte.duration_since(starts[0].answered.unwrap());
    assert!(took < SignedDuration::from_secs(5), "a refusal costs a turn, not a backoff: {took}");
    end(tenant).await;
}

#[tokio::test]
async fn twenty_jobs_of_a_basic_account_keep_to_five_calls_in_a_second() {
    let tenant = tenant("basic").await;
    tenant.cloud.switch(|s| s.limits = Limits { window: Window::SlidingLog, ..Limits::basic() });
    let mut account = tenant.account_spec();
    account["edition"] = json!("Basic");
    tenant.put_key().await;
    tenant.put_account("default", &account).await;
    let names: Vec<(String, i64)> = (1..=20).map(|id| (format!("job-{id}"), id)).collect();
    join_all(names.iter().map(async |(name, id)| tenant.apply(name, &plain(*id)).await)).await;
    join_all(names.iter().map(async |(name, _)| tenant.until_ready(name).await)).await;
    let ledger = tenant.cloud.ledger();
    let arrivals: Vec<Timestamp> = ledger.entries().iter().map(|e| e.last_byte).collect();
    // No second sees more than five leave; on a busy machine the last of them may travel a little faster than the first.
    for six in arrivals.windows(6) {
        assert!(six[5].duration_since(six[0]) >= SignedDuration::from_millis(850), "six calls in a second: {six:?}");
    }
    let refused = ledger.entries().iter().filter(|e| e.status != Some(200)).count();
    assert!(refused <= 2, "the cloud had to refuse {refused}");
    assert!(names.iter().all(|(_, id)| tenant.executed(*id) == 1));
    assert!(ledger.entries().len() <= 20 * 4, "calls of the day are scarce: {}", ledger.entries().len());
    end(tenant).await;
}

#[tokio::test]
async fn every_refusal_of_a_start_is_told_with_its_reason_hint_and_request_id() {
    let tenant = equipped("refusals").await;
    // Code, status, reason, part of the hint; first the codes of the page of StartDIJob.
    let rows = [
        ("Forbidden.Access", 403, "AccessDenied", "check the edition"),
        ("InternalError.UserId.Missing", 500, "CallerUnknown", "use the key of a RAM user"),
        ("Forbidden.RAM", 403, "AccessDenied", "dataworks:StartDIJob"),
        ("NoPermission", 403, "AccessDenied", "dataworks:StartDIJob"),
        ("403030", 403, "AccessDenied", "dataworks:StartDIJob"),
        ("InvalidAccessKeyId.NotFound", 404, "AccessDenied", "does not know this AccessKey ID"),
        ("InvalidAccessKeyId.Inactive", 400, "AccessDenied", "does not know this AccessKey ID"),
        ("SignatureDoesNotMatch", 400, "AccessDenied", "does not fit its ID"),
        ("InvalidSecurityToken.Malformed", 400, "AccessDenied", "Secret"),
        ("500130", 404, "JobNotFound", "spec.diJobId"),
        ("500130", 500, "JobNotFound", "spec.diJobId"),
        ("InvalidParameter", 400, "StartRejected", "correct the spec"),
        ("MissingScene", 400, "StartRejected", "correct the spec"),
        ("5801488441564725286", 400, "StartRejected", "mend the job in DataWorks"),
        ("9990010001", 200, "StartRejected", "mend the job in DataWorks"),
    ];
    join_all(rows.into_iter().zip(1..).map(async |((code, http, reason, hint), id)| {
        let name = &format!("job-{id}");
        tenant.fault(id, 9, Behaviour::error(Refusal::of(code).with_status(http)));
        tenant.apply(name, &plain(id)).await;
        let job = tenant.until(name, reason, |job| ready(job).is_some_and(|c| c.reason == reason)).await;
        let starts = tenant.cloud.starts(id);
        assert_eq!(starts.len(), 1, "{}", tenant.story(name));
        let request_id = starts[0].request_id.as_str();
        let message = &ready(&job).unwrap().message;
        assert!(is_stalled(&job), "{code}");
        assert!(message.contains(hint) && message.contains(code) && message.contains(request_id), "{message}");
        let error = status(&job).last_error.as_ref().unwrap();
        let expected = (START, Some(code), Some(request_id), Some(i32::from(http)));
        let told = (error.operation.as_str(), error.code.as_deref(), error.request_id.as_deref(), error.http_status);
        assert_eq!(told, expected);
        let (type_, note) = tenant.until_event(name, reason).await;
        assert_eq!(type_, "Warning");
        assert!(note.contains(request_id) && note.contains(code), "{note}");
    }))
    .await;
    end(tenant).await;
}

/// Covers: 24p.
#[tokio::test]
async fn a_denied_start_goes_on_within_ten_seconds_after_the_secret_is_mended() {
    let tenant = equipped("mended").await;
    let fault = Fault {
        action: Some(START.to_owned()),
        account: Some("1000000000000001".to_owned()),
        behaviour: Behaviour::error(Refusal::of("Forbidden.Access")),
        ..Fault::default()
    };
    tenant.cloud.add_fault(fault);
    let other = tenant.another_secret("canary-of-another-user");
    tenant.cloud.add_key_of("1000000000000002", "LTAI-other", &other);
    let before = tenant.apply("job", &plain(JOB)).await;
    let denied = tenant.until_reason("job", "AccessDenied").await;
    assert!(is_stalled(&denied) && status(&denied).next_attempt_time.is_some());
    assert_eq!(last(&denied).outcome, "Rejected");

    let mended = tenant.cloud.now();
    tenant.put_secret(&[("accessKeyId", b"LTAI-other"), ("accessKeySecret", other.as_bytes())]).await;
    let job = tenant.until_ready("job").await;
    assert_eq!(job.metadata.generation, before.metadata.generation, "nobody touched the job");
    let starts = tenant.cloud.starts(JOB);
    assert_eq!(starts.len(), 2, "{}", tenant.story("job"));
    let waited = starts[1].first_byte.duration_since(mended);
    assert!(waited <= SignedDuration::from_secs(10), "{waited}");
    assert_eq!(status(&job).last_error, None);
    end(tenant).await;
}

/// Waits until a look at `id` arrived so long after its first start.
async fn looked_after(tenant: &Tenant, id: i64, time: SignedDuration) {
    let looked = |ledger: &simulator::Ledger| {
        let Some(start) = ledger.starts(id).next().map(|e| e.last_byte) else { return false };
        ledger.of_action("GetDIJob").any(|e| e.job == Some(id) && e.last_byte.duration_since(start) >= time)
    };
    tenant.until_ledger("a late look", looked).await;
}

/// Covers: 6p.
#[tokio::test]
async fn a_start_that_ran_without_an_answer_is_confirmed_by_its_sign_and_not_repeated() {
    let tenant = equipped("ran").await;
    let error = |code| Behaviour::executed_error(Refusal::of(code));
    let rows = [
        ("lost", plain(1), Behaviour::lost_answer()),
        ("lost-forced", forced(2), Behaviour::lost_answer()),
        ("hung", plain(3), Behaviour::hang_after()),
        ("hung-forced", forced(4), Behaviour::hang_after()),
        ("error", plain(5), error("InternalError.System")),
        ("error-forced", forced(6), error("InternalError.System")),
        ("unavailable", plain(7), error("ServiceUnavailable")),
        ("late", plain(8), Behaviour::late_answer(SignedDuration::from_secs(4))),
    ];
    join_all(rows.into_iter().zip(1..).map(async |((name, spec, behaviour), id)| {
        tenant.fault(id, 1, behaviour);
        tenant.apply(name, &spec).await;
        let open = tenant.until_reason(name, "ResolvingStart").await;
        if name.starts_with("error") {
            let (message, id) = (&ready(&open).unwrap().message, tenant.cloud.starts(id)[0].request_id.clone());
            assert!(message.contains("InternalError.System") && message.contains(&id), "{message}");
            assert_eq!(status(&open).last_error.as_ref().unwrap().request_id, Some(id));
            assert_eq!(tenant.until_event(name, "ResolvingStart").await.0, "Warning");
        }
        assert_eq!(condition(&open, "Started").unwrap().status, ConditionStatus::Unknown);
        let job = tenant.until_ready(name).await;
        assert_eq!(last(&job).outcome, "Confirmed");
        assert_eq!((tenant.cloud.starts(id).len(), tenant.executed(id)), (1, 1), "{}", tenant.story(name));
        tenant.until_event(name, "StartConfirmed").await;
    }))
    .await;
    end(tenant).await;
}

/// Covers: 6p.
#[tokio::test]
async fn an_ordinary_start_that_did_not_run_is_sent_again_once_after_the_settle_time() {
    let tenant = equipped("did-not-run").await;
    let error = || Behaviour::error(Refusal::of("InternalError.System"));
    // A copy of a request that may still arrive bears its nonce; one that was answered is over.
    let rows = [
        ("request", Behaviour::lost_request(), true),
        ("swallowed", Behaviour::hang_before(), false),
        ("error", error(), false),
    ];
    join_all(rows.into_iter().zip(1..).map(async |((name, behaviour, is_same_nonce), id)| {
        tenant.fault(id, 1, behaviour);
        tenant.apply(name, &plain(id)).await;
        if name == "swallowed" {
            // The gateway has seen the nonce, and refuses it until it has forgotten it: a double is prevented, and the
            // next copy bears another.
            tenant.until_ledger("the refused copy", |l| l.starts(id).count() >= 2).await;
        }
        let job = tenant.until_ready(name).await;
        let starts = tenant.cloud.starts(id);
        let copies = if name == "swallowed" { 3 } else { 2 };
        assert_eq!((starts.len(), tenant.executed(id)), (copies, 1), "{}", tenant.story(name));
        assert_eq!(starts[0].nonce == starts[1].nonce, is_same_nonce || name == "swallowed", "{name}");
        assert_eq!(starts[0].signed_time == starts[1].signed_time, is_same_nonce || name == "swallowed", "{name}");
        let waited = starts[1].last_byte.duration_since(starts[0].last_byte);
        assert!(waited >= SignedDuration::from_secs(3), "{name}: {waited}");
        assert_eq!(last(&job).outcome, "Confirmed");
        assert_eq!(status(&job).history.len(), 1, "one start, however often it was sent");
    }))
    .await;
    end(tenant).await;
}

/// Covers: 6p.
#[tokio::test]
async fn a_forced_or_held_start_of_unknown_outcome_is_never_sent_again() {
    let tenant = equipped("never-again").await;
    let held = |id: i64| json!({ "diJobId": id, "onUnknown": "Hold" });
    let force = |id: i64| json!({ "diJobId": id, "forceToRerun": true });
    let rows = [
        ("request-offset", forced(1), Behaviour::lost_request()),
        ("request-force", force(2), Behaviour::lost_request()),
        ("request-held", held(3), Behaviour::lost_request()),
        ("error-offset", forced(4), Behaviour::error(Refusal::of("InternalError.System"))),
        ("error-force", force(5), Behaviour::error(Refusal::of("InternalError.System"))),
        ("error-held", held(6), Behaviour::error(Refusal::of("InternalError.System"))),
    ];
    join_all(rows.into_iter().zip(1..).map(async |((name, spec, behaviour), id)| {
        tenant.fault(id, 1, behaviour);
        tenant.apply(name, &spec).await;
        looked_after(&tenant, id, SignedDuration::from_secs(6)).await; // twice the settle time: an ordinary one is out
        let job = tenant.until_reason(name, "ResolvingStart").await;
        assert_eq!((tenant.cloud.starts(id).len(), tenant.executed(id)), (1, 0), "{}", tenant.story(name));
        let message = &ready(&job).unwrap().message;
        assert!(message.contains("never sent twice") && message.contains("until 20"), "{message}");
        // Whatever shows it to have run still confirms it.
        tenant.cloud.console(id, Console::Start);
        let job = tenant.until_ready(name).await;
        assert_eq!(last(&job).outcome, "Confirmed");
        assert_eq!(tenant.cloud.starts(id).len(), 1);
    }))
    .await;
    end(tenant).await;
}

#[tokio::test]
async fn a_job_that_runs_or_has_finished_at_first_sight_is_adopted() {
    let tenant = equipped("adopted").await;
    for (name, id, word) in [("running", 1, Word::Running), ("finished", 2, Word::Finished)] {
        tenant.cloud.put_job(id, &JobPatch { status: Some(word), ..JobPatch::default() });
        let spec = json!({
            "diJobId": id, "forceToRerun": true, "rerunToken": "old", "realtimeStartSettings": { "startTime": 1_671_516_776 },
        });
        tenant.apply(name, &spec).await;
        let job = tenant.until_ready(name).await;
        assert_eq!(ready(&job).unwrap().reason, "Adopted");
        assert_eq!(status(&job).handled_rerun_tokens, ["old"]);
        assert_eq!(tenant.until_event(name, "Adopted").await.0, "Normal");
        assert_eq!(tenant.cloud.starts(id).len(), 0);
        tenant.only_a_token_starts(name, id, 0).await;
    }
    end(tenant).await;
}

#[tokio::test]
async fn a_cloud_that_knows_only_start_di_job_still_gets_its_starts() {
    let rows = [("forbidden", Denial::Forbidden), ("html", Denial::Html)];
    join_all(rows.map(async |(name, denial)| {
        let tenant = equipped(&format!("start-only-{name}")).await;
        tenant.cloud.switch(|s| s.permissions = Permissions::StartOnly(denial));
        tenant.apply("job", &plain(JOB)).await;
        let job = tenant.until_ready("job").await;
        assert_eq!(ready(&job).unwrap().reason, "StartAccepted");
        let observed = condition(&job, "Observed").unwrap();
        assert_eq!((observed.status, observed.reason.as_str()), (ConditionStatus::False, "ReadRefused"));
        assert_eq!(tenant.executed(JOB), 1);

        tenant.merge("job", &json!({ "spec": { "realtimeStartSettings": { "startTime": 1_671_516_776 } } })).await;
        let job = tenant.until_ready("job").await;
        assert_eq!(last(&job).outcome, "Accepted");
        let offsets: Vec<_> = tenant.cloud.executions(JOB).iter().map(|e| e.offset).collect();
        assert_eq!(offsets, [None, Some(1_671_516_776)]);
        tenant.only_a_token_starts("job", JOB, 2).await;
        end(tenant).await;
    }))
    .await;
}

#[tokio::test]
async fn secret_account_and_job_may_come_in_any_order() {
    const ORDERS: [[&str; 3]; 6] = [
        ["secret", "account", "job"],
        ["secret", "job", "account"],
        ["account", "secret", "job"],
        ["account", "job", "secret"],
        ["job", "secret", "account"],
        ["job", "account", "secret"],
    ];
    join_all(ORDERS.map(async |order| {
        let tenant = tenant(&format!("order-{}", order.join("-"))).await;
        for (part, before) in order.iter().zip([&order[..0], &order[..1], &order[..2]]) {
            match *part {
                "secret" => tenant.put_key().await,
                "account" => tenant.put_account("default", &tenant.account_spec()).await,
                _ => drop(tenant.apply("job", &plain(JOB)).await),
            }
            let has = |what: &str| *part == what || before.contains(&what);
            // What is still missing is told, and nobody is asked for it yet.
            match (has("job"), has("account"), has("secret")) {
                (true, false, _) => drop(tenant.until_reason("job", "AccountNotFound").await),
                (true, true, false) => drop(tenant.until_reason("job", "CredentialsMissing").await),
                (true, true, true) | (false, _, _) => {}
            }
        }
        tenant.until_ready("job").await;
        assert_eq!((tenant.cloud.starts(JOB).len(), tenant.executed(JOB)), (1, 1), "{}", tenant.story("job"));
        let stalled = |s: &JobStatus| s.conditions.iter().any(|c| c.type_ == "Stalled");
        assert!(!tenant.seen("job").iter().any(stalled), "{}", tenant.story("job"));
        end(tenant).await;
    }))
    .await;
}

/// Covers: 24p.
#[tokio::test]
async fn a_secret_that_cannot_be_used_is_told_with_a_hint_and_stalls_its_jobs_alone_after_the_grace() {
    type Fields<'a> = &'a [(&'a str, &'a [u8])];
    let rows: [(&str, Fields, &str); 5] = [
        ("no-secret", &[], "create it with the keys accessKeyId and accessKeySecret"),
        ("half", &[("accessKeyId", b"LTAI-half")], "has no key accessKeySecret: add it"),
        ("empty", &[("accessKeyId", b"LTAI-empty"), ("accessKeySecret", b"")], "empty"),
        ("binary", &[("accessKeyId", b"\xff\xfe"), ("accessKeySecret", b"x")], "is not text"),
        ("spaces", &[("accessKeyId", b"LTAI-spaces"), ("accessKeySecret", b"two words")], "Secret \"key\""),
    ];
    join_all(rows.into_iter().map(async |(name, fields, hint)| {
        let tenant = tenant(&format!("secret-{name}")).await;
        tenant.put_account("default", &tenant.account_spec()).await;
        if !fields.is_empty() {
            tenant.put_secret(fields).await;
        }
        tenant.apply("job", &plain(JOB)).await;
        let job = tenant.until_reason("job", "CredentialsMissing").await;
        assert!(!is_stalled(&job), "within the grace");
        assert!(ready(&job).unwrap().message.contains(hint), "{name}: {}", ready(&job).unwrap().message);

        // Another job of the namespace has a Secret of its own name in order, and is not disturbed.
        let mut other = tenant.account_spec();
        other["credentials"]["secretRef"]["accessKeyIdKey"] = json!("otherId");
        other["credentials"]["secretRef"]["accessKeySecretKey"] = json!("otherSecret");
        let secret = tenant.secret();
        let own: [(&str, &[u8]); 2] = [("otherId", tenant.key_id.as_bytes()), ("otherSecret", secret.as_bytes())];
        let all: Vec<(&str, &[u8])> = fields.iter().copied().chain(own).collect();
        if !fields.is_empty() {
            tenant.put_secret(&all).await;
            tenant.put_account("other", &other).await;
            tenant.apply("other", &json!({ "diJobId": JOB + 1, "accountRef": { "name": "other" } })).await;
            tenant.until_ready("other").await;
        }
        let job = tenant.until("job", "Stalled", is_stalled).await;
        assert_eq!(ready(&job).unwrap().reason, "CredentialsMissing");
        assert_eq!(tenant.cloud.starts(JOB).len(), 0);
        tenant.put_key().await;
        tenant.until_ready("job").await;
        assert_eq!(tenant.executed(JOB), 1);
        end(tenant).await;
    }))
    .await;
}

#[tokio::test]
async fn a_wrong_secret_is_denied_and_its_message_is_not_shown() {
    let tenant = tenant("wrong-secret").await;
    let wrong = tenant.another_secret("canary-wrong-secret");
    tenant.put_secret(&[("accessKeyId", tenant.key_id.as_bytes()), ("accessKeySecret", wrong.as_bytes())]).await;
    tenant.put_account("default", &tenant.account_spec()).await;
    tenant.apply("job", &plain(JOB)).await;
    let job = tenant.until_reason("job", "AccessDenied").await;
    let message = &ready(&job).unwrap().message;
    assert!(message.contains("SignatureDoesNotMatch") && message.contains("does not fit its ID"), "{message}");
    assert!(!message.contains("string to sign"), "{message}");
    assert_eq!(status(&job).last_error.as_ref().unwrap().message, None, "it can echo a security token");
    tenant.put_key().await;
    tenant.until_ready("job").await;
    assert_eq!(tenant.executed(JOB), 1);
    end(tenant).await;
}

#[tokio::test]
async fn an_account_that_is_missing_or_not_allowed_is_told_with_a_hint() {
    let tenant = tenant("accounts").await;
    tenant.put_key().await;
    tenant.apply("missing", &json!({ "diJobId": 1, "accountRef": { "name": "nobody" } })).await;
    let mut foreign = tenant.account_spec();
    foreign["endpoint"] = json!("https://bucket.oss-cn-shanghai.aliyuncs.com");
    tenant.put_account("foreign", &foreign).await;
    tenant.apply("foreign", &json!({ "diJobId": 2, "accountRef": { "name": "foreign" } })).await;

    let job = tenant.until_reason("foreign", "AccountInvalid").await;
    assert!(is_stalled(&job), "no grace for what is there and wrong");
    assert!(ready(&job).unwrap().message.contains("bucket.oss-cn-shanghai.aliyuncs.com"));
    assert_eq!(tenant.until_event("foreign", "AccountInvalid").await.0, "Warning");
    let job = tenant.until_reason("missing", "AccountNotFound").await;
    assert!(!is_stalled(&job), "within the grace");
    let message = &ready(&job).unwrap().message;
    assert!(message.contains("\"nobody\"") && message.contains("spec.accountRef"), "{message}");

    tenant.put_account("foreign", &tenant.account_spec()).await;
    tenant.put_account("nobody", &tenant.account_spec()).await;
    tenant.until_ready("foreign").await;
    tenant.until_ready("missing").await;
    assert_eq!((tenant.executed(1), tenant.executed(2)), (1, 1));
    end(tenant).await;
}

/// Covers: 26p.
#[tokio::test]
async fn a_deleted_job_is_gone_at_once_without_a_call_and_a_new_one_of_its_name_adopts() {
    let tenant = equipped("deleted").await;
    tenant.apply("job", &plain(JOB)).await;
    let job = tenant.until_ready("job").await;
    assert_eq!(job.metadata.finalizers, None);
    let calls = tenant.cloud.ledger().entries().len();
    tenant.jobs.delete("job", &DeleteParams::default()).await.unwrap();
    assert!(tenant.jobs.get_opt("job").await.unwrap().is_none());
    let new = tenant.apply("job", &forced(JOB)).await;
    assert_ne!(new.uid(), job.uid());
    let new = tenant.until_ready("job").await;
    assert_eq!(ready(&new).unwrap().reason, "Adopted");
    let since: Vec<_> = tenant.cloud.ledger().entries()[calls..].iter().map(|e| e.action.clone()).collect();
    assert_eq!(since, [Some("GetDIJob".to_owned())], "one look for the new object, none for the old one");
    end(tenant).await;
}

#[tokio::test]
async fn a_suspended_job_keeps_its_due_start_until_the_suspension_is_lifted() {
    let tenant = equipped("suspended").await;
    tenant.apply("job", &json!({ "diJobId": JOB, "suspend": true })).await;
    let job = tenant.until_reason("job", "Suspended").await;
    assert!(ready(&job).unwrap().message.contains("FirstApply"));
    assert_eq!(tenant.until_event("job", "Suspended").await.0, "Normal");
    tenant.annotate("job", &json!({ "dijob.dev/rerun": "a" })).await;
    let asks = |job: &DataIntegrationJob| ready(job).is_some_and(|c| c.message.contains("Rerun"));
    tenant.until("job", "the token to be seen", asks).await;
    assert_eq!(tenant.cloud.ledger().entries().len(), 0, "not even a look");
    tenant.merge("job", &json!({ "spec": { "suspend": false } })).await;
    let job = tenant.until_ready("job").await;
    assert_eq!((tenant.cloud.starts(JOB).len(), last(&job).trigger.as_str()), (1, "Rerun"));
    end(tenant).await;
}

#[tokio::test]
async fn a_status_copied_from_another_object_is_no_history() {
    let tenant = equipped("copied").await;
    tenant.apply("one", &json!({ "diJobId": 1, "rerunToken": "t" })).await;
    let mut copied = status(&tenant.until_ready("one").await).clone();
    copied.applied.as_mut().unwrap().di_job_id = 2;
    tenant.apply("two", &json!({ "diJobId": 2, "rerunToken": "t", "suspend": true })).await;
    tenant.annotate("two", &json!({ FOREIGN: "yes" })).await;
    tenant.until_reason("two", "Suspended").await;
    let body = json!({ "status": copied });
    tenant.jobs.patch_status("two", &PatchParams::default(), &Patch::Merge(&body)).await.unwrap();
    let own = |job: &DataIntegrationJob| status(job).uid == job.metadata.uid && status(job).applied.is_none();
    tenant.until("two", "a status of its own", own).await;
    tenant.merge("two", &json!({ "spec": { "suspend": false } })).await;
    let job = tenant.until_ready("two").await;
    assert_eq!((tenant.executed(2), last(&job).trigger.as_str()), (1, "Rerun"));
    assert_eq!(status(&job).history.len(), 1, "not that of the other");
    end(tenant).await;
}

/// Covers: 43p.
#[tokio::test]
async fn the_record_of_a_newer_operator_is_left_alone() {
    let tenant = equipped("newer").await;
    tenant.apply("job", &json!({ "diJobId": JOB, "suspend": true })).await;
    tenant.annotate("job", &json!({ FOREIGN: "yes" })).await;
    tenant.until_reason("job", "Suspended").await;
    let body = json!({ "status": { "pendingStart": {
        "protocol": 2, "id": "new", "trigger": "SomethingNew", "generation": 1, "region": "cn-shanghai", "diJobId": JOB,
        "attempt": 1, "nonce": "n", "signedTime": "2026-11-24T00:00:00Z", "keyId": "k",
    } } });
    tenant.jobs.patch_status("job", &PatchParams::default(), &Patch::Merge(&body)).await.unwrap();
    let told = |line: &Value| {
        line["message"].as_str().is_some_and(|m| m.contains("newer operator")) && line["span"]["namespace"] == "newer"
    };
    world().operator.wait_line("word of the newer record", told);
    let before = tenant.jobs.get("job").await.unwrap();
    let passes = world().operator.count_lines(told);
    let after = tenant.merge("job", &json!({ "spec": { "suspend": false } })).await;
    while world().operator.count_lines(told) == passes {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let job = tenant.jobs.get("job").await.unwrap();
    assert_eq!(job.resource_version(), after.resource_version(), "nothing was written");
    assert_eq!(job.status, before.status);
    assert_eq!(tenant.cloud.ledger().entries().len(), 0);
    end(tenant).await;
}

#[tokio::test]
async fn a_job_that_fails_or_does_not_run_is_never_green() {
    let tenant = equipped("not-green").await;
    tenant.cloud.switch(|s| {
        let rules = s.rules.clone();
        s.rules_of.insert(
            1,
            simulator::JobRules { course: simulator::Course::Fails { message: "no table".to_owned() }, ..rules },
        );
    });
    tenant.apply("failed", &plain(1)).await;
    tenant.fault(2, 1, Behaviour { execute: simulator::When::Never, ..Behaviour::default() });
    tenant.apply("idle", &plain(2)).await;
    let failed = tenant.until_reason("failed", "JobFailed").await;
    assert!(is_stalled(&failed) && ready(&failed).unwrap().message.contains("no table"));
    assert_eq!(last(&failed).outcome, "Confirmed");
    // Accepted, and never seen to run.
    let idle = tenant.until_reason("idle", "NotRunning").await;
    assert!(is_stalled(&idle));
    assert_eq!((last(&idle).outcome.as_str(), tenant.cloud.starts(2).len()), ("Accepted", 1));
    tenant.cloud.remove_job(3);
    tenant.cloud.switch(|s| s.auto_create = false);
    tenant.apply("absent", &plain(3)).await;
    let absent = tenant.until_reason("absent", "JobNotFound").await;
    assert!(is_stalled(&absent));
    assert_eq!(tenant.cloud.starts(3).len(), 0);
    end(tenant).await;
}
