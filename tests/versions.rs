//! Both versions of the API in both signatures, end to end: each starts, is confirmed, starts anew by token, sends a start
//! without an answer again, and tells what is refused; and what else an account says of its calls. The simulated cloud verifies every request by a reading of its own.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use dijob_operator::api::{DataIntegrationJob, JobStatus};
use futures::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};
use simulator::{ACCOUNT, Behaviour, Console, Fault, JobPatch, SignatureKind};

#[path = "support"]
#[expect(dead_code, reason = "this test uses a part of what the tests share")]
mod support {
    pub mod plan;
    pub mod schema;
    pub mod world;
}

use support::world::tenant::Tenant;
use support::world::{is_ready, ready, world};

const START: &str = "StartDIJob";

/// Version and signature as an account states them, a short name, and what the cloud must have seen.
const WAYS: [Way; 4] = [
    ("2020-05-18", "HMAC-SHA1", "2020-rpc", SignatureKind::V1),
    ("2020-05-18", "ACS3-HMAC-SHA256", "2020-acs3", SignatureKind::Acs3),
    ("2024-05-18", "HMAC-SHA1", "2024-rpc", SignatureKind::V1),
    ("2024-05-18", "ACS3-HMAC-SHA256", "2024-acs3", SignatureKind::Acs3),
];

type Way = (&'static str, &'static str, &'static str, SignatureKind);

fn status(job: &DataIntegrationJob) -> &JobStatus {
    job.status.as_ref().unwrap()
}

fn plain(id: i64) -> Value {
    json!({ "diJobId": id })
}

fn account_spec(tenant: &Tenant, (version, signature, ..): Way) -> Value {
    let mut spec = tenant.account_spec();
    (spec["dataworksVersion"], spec["signature"]) = (json!(version), json!(signature));
    spec
}

async fn tenant(what: &str, way: Way) -> Tenant {
    let tenant = Tenant::new(&world().cluster, &format!("{what}-{}", way.2)).await;
    tenant.put_key().await;
    tenant.put_account("default", &account_spec(&tenant, way)).await;
    tenant
}

fn fault(tenant: &Tenant, action: &str, id: i64, behaviour: Behaviour) {
    let (calls, action) = (Some(1), Some(action.to_owned()));
    tenant.cloud.add_fault(Fault { calls, action, job: Some(id), account: None, behaviour });
}

#[tokio::test]
async fn a_job_is_started_confirmed_and_started_anew_in_each_way() {
    join_all(WAYS.map(async |way| {
        let tenant = tenant("whole", way).await;
        let settings = json!({ "startTime": 1_671_516_776, "failoverSettings": { "interval": 10, "upperLimit": 30 } });
        tenant.apply("job", &json!({ "diJobId": 1, "realtimeStartSettings": settings })).await;
        let job = tenant.until_ready("job").await;
        assert_eq!(status(&job).last_start.as_ref().unwrap().outcome, "Confirmed");
        assert_eq!(tenant.cloud.executions(1)[0].offset, Some(1_671_516_776));

        tenant.cloud.console(1, Console::Stop);
        tenant.annotate("job", &json!({ "dijob.dev/rerun": "again", "dijob.dev/rerun-force": "again" })).await;
        let handled = |job: &DataIntegrationJob| is_ready(job) && status(job).handled_rerun_tokens == ["again"];
        tenant.until("job", "the token to be handled", handled).await;
        let starts = tenant.cloud.starts(1);
        assert_eq!((starts.len(), tenant.cloud.executions(1).len()), (2, 2), "{}", tenant.story("job"));
        assert_eq!(starts[1].parameters.get("ForceToRerun").map(String::as_str), Some("true"));
        for entry in tenant.cloud.ledger().entries() {
            assert_eq!((entry.version.as_deref(), entry.signature), (Some(way.0), Some(way.3)));
            assert_eq!(entry.method, if way.0 == "2020-05-18" { "POST" } else { "GET" });
        }
        tenant.end(&[&world().operator]).await;
    }))
    .await;
}

#[tokio::test]
async fn a_start_without_an_answer_is_confirmed_by_its_effect_or_sent_again_in_each_way() {
    join_all(WAYS.map(async |way| {
        let tenant = tenant("open", way).await;
        fault(&tenant, START, 1, Behaviour::lost_answer());
        fault(&tenant, START, 2, Behaviour::lost_request());
        tenant.apply("ran", &plain(1)).await;
        tenant.apply("lost", &plain(2)).await;
        for (name, id, copies) in [("ran", 1, 1), ("lost", 2, 2)] {
            let job = tenant.until_ready(name).await;
            assert_eq!(status(&job).last_start.as_ref().unwrap().outcome, "Confirmed", "{name}");
            let starts = tenant.cloud.starts(id);
            assert_eq!((starts.len(), tenant.cloud.executions(id).len()), (copies, 1), "{}", tenant.story(name));
            assert!(
                starts
                    .iter()
                    .all(|copy| (&copy.nonce, &copy.signed_time) == (&starts[0].nonce, &starts[0].signed_time))
            );
        }
        tenant.end(&[&world().operator]).await;
    }))
    .await;
}

#[tokio::test]
async fn what_is_refused_is_told_in_each_way() {
    join_all(WAYS.map(async |way| {
        let tenant = Tenant::new(&world().cluster, &format!("refused-{}", way.2)).await;
        tenant.put_secret(&[("accessKeyId", tenant.key_id.as_bytes()), ("accessKeySecret", b"canary-wrong")]).await;
        tenant.put_account("default", &account_spec(&tenant, way)).await;
        tenant.another_secret("canary-wrong");
        tenant.apply("job", &plain(1)).await;
        let job = tenant.until_reason("job", "AccessDenied").await;
        assert!(ready(&job).unwrap().message.contains("SignatureDoesNotMatch"), "{}", ready(&job).unwrap().message);
        assert_eq!(tenant.cloud.executions(1).len(), 0);
        tenant.put_key().await;
        tenant.until_ready("job").await;
        assert_eq!(tenant.cloud.executions(1).len(), 1);
        tenant.end(&[&world().operator]).await;
    }))
    .await;
}

#[tokio::test]
async fn a_temporary_key_of_a_secret_starts_with_its_token_and_a_renewed_one_after_its_end() {
    join_all(WAYS.map(async |way| {
        let tenant = Tenant::new(&world().cluster, &format!("temporary-{}", way.2)).await;
        tenant.cloud.remove_key(&tenant.key_id); // a lasting key asks for no token
        let mut spec = account_spec(&tenant, way);
        spec["credentials"]["secretRef"]["securityTokenKey"] = json!("securityToken");
        tenant.put_account("default", &spec).await;
        let lend = async |round: &str| {
            let secret = tenant.another_secret(&format!("canary-{}-{round}", way.2));
            let token = tenant.another_secret(&format!("canary+/={}-{round}-token", way.2));
            tenant.cloud.add_temporary_key(ACCOUNT, &tenant.key_id, &secret, &token, Timestamp::MAX);
            let parts =
                [("accessKeyId", tenant.key_id.as_str()), ("accessKeySecret", &secret), ("securityToken", &token)];
            tenant.put_secret(&parts.map(|(name, value)| (name, value.as_bytes()))).await;
        };
        lend("first").await;
        tenant.apply("first", &plain(1)).await;
        tenant.until_ready("first").await;

        tenant.cloud.expire_temporary_keys();
        tenant.apply("second", &plain(2)).await;
        tenant.until_reason("second", "CredentialsExpired").await;
        assert_eq!(tenant.cloud.executions(2).len(), 0);
        lend("second").await;
        tenant.until_ready("second").await;
        assert_eq!(tenant.cloud.executions(2).len(), 1, "{}", tenant.story("second"));
        tenant.end(&[&world().operator]).await;
    }))
    .await;
}

/// An edit of the account between two copies: the second one is no repetition to a gateway that counts nonces by signature.
#[tokio::test]
async fn an_account_that_is_edited_while_a_start_is_open_sends_no_other_copy_of_it() {
    join_all([(0, 1), (0, 2), (3, 1)].map(|(before, after)| edited(WAYS[before], WAYS[after]))).await;
}

async fn edited(before: Way, after: Way) {
    let tenant = tenant(&format!("edited-{}-{}", before.2, after.2), before).await;
    fault(&tenant, START, 1, Behaviour::lost_request());
    tenant.apply("job", &plain(1)).await;
    tenant.until_ledger("the start", |ledger| ledger.starts(1).count() == 1).await;
    tenant.put_account("default", &account_spec(&tenant, after)).await;
    // Another start without an answer is sent again after the settle time; by then this one's copy would have been sent, too.
    fault(&tenant, START, 2, Behaviour::lost_request());
    tenant.apply("later", &plain(2)).await;
    tenant.until_ledger("a copy of the later start", |ledger| ledger.starts(2).count() == 2).await;
    assert!(tenant.cloud.starts(2).iter().all(|entry| entry.signature == Some(after.3)));
    assert_eq!(tenant.cloud.starts(1).len(), 1, "{}", tenant.story("job"));
    tenant.end(&[&world().operator]).await;
}

#[tokio::test]
async fn a_job_of_an_unlisted_project_is_refused_until_its_account_allows_it() {
    let tenant = tenant("projects", WAYS[0]).await;
    let mut spec = account_spec(&tenant, WAYS[0]);
    spec["allowedProjects"] = json!([1, 2]);
    tenant.put_account("default", &spec).await;
    tenant.cloud.put_job(1, &JobPatch { project_id: Some(3), ..JobPatch::default() });
    tenant.apply("job", &plain(1)).await;
    let job = tenant.until_reason("job", "ProjectNotAllowed").await;
    assert!(ready(&job).unwrap().message.starts_with("job 1 is in project 3, and DataWorksAccount \"default\" allows"));
    spec["allowedProjects"] = json!([3]);
    tenant.put_account("default", &spec).await;
    tenant.until_ready("job").await;
    assert_eq!((tenant.cloud.starts(1).len(), tenant.cloud.executions(1).len()), (1, 1), "{}", tenant.story("job"));
    tenant.end(&[&world().operator]).await;
}
