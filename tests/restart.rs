//! Operators that come and go, in order: nothing is started twice, and nothing is lost. Crashes are in `crash.rs`.
//!
//! One operator at a time watches the whole cluster, so that these tests have one of their own each.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use serde_json::json;

#[path = "support"]
#[expect(dead_code, reason = "this test uses a part of what the tests share")]
mod support {
    pub mod plan;
    pub mod schema;
    pub mod world;
}

use std::collections::BTreeSet;
use std::time::Duration;

use dijob_operator::api::{DataIntegrationJob, DataWorksAccount};
use kube::Api;
use kube::runtime::wait::await_condition;
use support::world::tenant::Tenant;
use support::world::{Cluster, FLAGS, condition, is_ready};

const LIMIT_OF_TEST: Duration = Duration::from_secs(60);

fn handled(job: &DataIntegrationJob, token: &str) -> bool {
    is_ready(job) && job.status.as_ref().unwrap().handled_rerun_tokens.last().is_some_and(|t| t == token)
}

/// Covers: 42p.
#[tokio::test]
async fn a_restart_starts_nothing_and_does_what_was_asked_for_meanwhile() {
    let cluster = Cluster::start();
    let first = cluster.operator(&FLAGS);
    let tenant = Tenant::new(&cluster, "restart").await.with_account().await;
    let settings = json!({ "startTime": 1_671_516_776, "failoverSettings": { "interval": 5 } });
    let spec = json!({ "diJobId": 1, "rerunToken": "old", "forceToRerun": true, "realtimeStartSettings": settings });
    tenant.apply("untouched", &spec).await;
    tenant.apply("asked", &json!({ "diJobId": 2 })).await;
    let before = tenant.until_ready("untouched").await;
    tenant.until_ready("asked").await;
    assert!(first.terminate().success(), "it stops in order");

    tenant.annotate("asked", &json!({ "dijob.dev/rerun": "meanwhile" })).await;
    tenant.apply("new", &json!({ "diJobId": 3 })).await;
    let second = cluster.operator(&FLAGS);
    tenant.until("asked", "the token", |job| handled(job, "meanwhile")).await;
    tenant.until_ready("new").await;
    let starts = |id| tenant.cloud.starts(id).len();
    assert_eq!((starts(1), starts(2), starts(3)), (1, 2, 1), "{}", tenant.story(""));
    let after = tenant.jobs.get("untouched").await.unwrap();
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version, "nothing to say, nothing written");

    // And again, with a proof that the untouched one was looked at.
    assert!(second.terminate().success());
    let third = cluster.operator(&FLAGS);
    tenant.annotate("untouched", &json!({ "dijob.dev/rerun": "the-proof" })).await;
    tenant.until("untouched", "the token", |job| handled(job, "the-proof")).await;
    assert_eq!(starts(1), 2, "{}", tenant.story("untouched"));
    tenant.end(&[&third]).await;
}

/// Covers: 42p.
#[tokio::test]
async fn of_two_replicas_one_works_and_the_other_takes_over_when_it_stops() {
    let cluster = Cluster::start();
    let flags =
        ["--lease-namespace=dijob-system", "--lease-duration=5s", "--renew-deadline=4s", "--retry-period=500ms"];
    let flags: Vec<&str> = FLAGS.into_iter().filter(|f| !f.contains("leader")).chain(flags).collect();
    let replica = |name| cluster.operator(&[&flags[..], &[name]].concat());
    let (one, two) = (replica("--pod-name=one"), replica("--pod-name=two"));
    one.wait_ready();
    two.wait_ready(); // a follower is ready: its rollout is over
    let tenant = Tenant::new(&cluster, "replicas").await.with_account().await;
    tenant.apply("job", &json!({ "diJobId": 1 })).await;
    tenant.until_ready("job").await;
    let leads = |operator: &support::world::Operator| operator.metric("dijob_leader") > 0;
    assert!(leads(&one) != leads(&two), "exactly one leads");
    let (leader, follower) = if leads(&one) { (one, two) } else { (two, one) };
    assert!(leader.terminate().success());
    tenant.annotate("job", &json!({ "dijob.dev/rerun": "a" })).await;
    tenant.until("job", "the token", |job| handled(job, "a")).await;
    assert!(leads(&follower));
    assert_eq!((tenant.cloud.starts(1).len(), tenant.cloud.executions(1).len()), (2, 2));
    tenant.end(&[&follower]).await;
}

/// Covers: 24p.
#[tokio::test]
async fn a_mended_key_starts_a_job_at_once_with_the_times_as_shipped() {
    let cluster = Cluster::start();
    let operator = cluster.operator(&["--leader-elect=false"]);
    operator.wait_ready();
    let tenant = Tenant::new(&cluster, "mended").await.with_account().await;
    let wrong = tenant.another_secret("canary-mended-wrong");
    tenant.put_secret(&[("accessKeyId", tenant.key_id.as_bytes()), ("accessKeySecret", wrong.as_bytes())]).await;
    tenant.apply("job", &json!({ "diJobId": 1 })).await;
    tenant.until_reason("job", "AccessDenied").await;
    let mended = tenant.cloud.now();
    tenant.put_key().await;
    tenant.until_reason("job", "Confirming").await;
    let start = tenant.cloud.starts(1).pop().unwrap();
    let after = start.last_byte.duration_since(mended).as_secs();
    assert!(after < 20, "{after} s after the Secret was mended: it must not wait for the settle time of 30 s");
    tenant.end(&[&operator]).await;
}

/// Killed (-9) again and again: each life may lose what it counted ahead, and none begins the day anew.
///
/// Covers: 5p, 13p.
#[tokio::test]
async fn a_restart_does_not_refill_the_day() {
    const LIMIT: i64 = 40;
    const KILLS: i64 = 4;
    let cluster = Cluster::start();
    let tenant = Tenant::new(&cluster, "day").await;
    tenant.put_key().await;
    let mut spec = tenant.account_spec();
    spec["quota"] = json!({ "callsPerDay": LIMIT });
    tenant.put_account("default", &spec).await;
    for id in 1..=25 {
        tenant.apply(&format!("job-{id}"), &json!({ "diJobId": id })).await;
    }
    let calls = || tenant.cloud.ledger().entries().len();
    for _ in 0..KILLS {
        let before = calls();
        let operator = cluster.operator(&FLAGS);
        tenant.until_ledger("three calls more", |ledger| ledger.entries().len() >= before + 3).await;
        drop(operator);
    }
    let last = cluster.operator(&FLAGS);
    let accounts: Api<DataWorksAccount> = Api::namespaced(tenant.client.clone(), &tenant.namespace);
    let is_spent = |account: Option<&DataWorksAccount>| {
        account.and_then(|a| a.status.as_ref()).is_some_and(|status| status.throttled_until.is_some())
    };
    let spent = tokio::time::timeout(LIMIT_OF_TEST, await_condition(accounts, "default", is_spent)).await;
    let status = spent.unwrap().unwrap().unwrap().status.unwrap();
    let today = status.calls_today.unwrap();
    assert_eq!((today.counted, status.calls_left_today), (LIMIT, Some(0)), "{today:?}");
    let waits = |job: &DataIntegrationJob| condition(job, "Throttled").is_some_and(|c| c.reason == "DailyLimitReached");
    tenant.until("job-25", "the end of the day", waits).await;
    let made = i64::try_from(calls()).unwrap();
    // Should the day turn meanwhile, there are two.
    let days: BTreeSet<i64> = tenant.cloud.ledger().entries().iter().map(|e| day(e.last_byte)).collect();
    for day_of_calls in &days {
        let calls = tenant.cloud.ledger().entries().iter().filter(|e| day(e.last_byte) == *day_of_calls).count();
        assert!(i64::try_from(calls).unwrap() <= LIMIT, "{calls} calls of one day\n{}", tenant.story(""));
    }
    assert!(made >= LIMIT - 5 * KILLS, "{made} calls: a kill costs a block of five at most");
    tenant.end(&[&last]).await;
}

/// The day of UTC+8.
fn day(at: jiff::Timestamp) -> i64 {
    (at.as_second() + 8 * 3600).div_euclid(86_400)
}
