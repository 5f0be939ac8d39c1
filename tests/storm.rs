//! A cloud that refuses everything for a while, and then nothing: the real binary goes on at once, and at full pace soon.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "support"]
#[expect(dead_code, reason = "this test uses a part of what the tests share")]
mod support {
    pub mod plan;
    pub mod schema;
    pub mod world;
}

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use simulator::{Behaviour, Entry, Fault, Ledger, Refusal, Verdict};
use support::world::tenant::Tenant;
use support::world::{Cluster, FLAGS, is_stalled};

const JOBS: i64 = 60;
/// Long enough for the estimate to fall from 5/s to its floor.
const STORM: SignedDuration = SignedDuration::from_secs(20);
const WINDOW: SignedDuration = SignedDuration::from_secs(4);

fn refused(ledger: &Ledger) -> impl Iterator<Item = &Entry> {
    ledger.entries().iter().filter(|entry| matches!(entry.verdict, Verdict::Refused { .. }))
}

/// Accepted calls in the window that begins here.
fn accepted(ledger: &Ledger, from: Timestamp) -> usize {
    let inside = |entry: &&Entry| entry.first_byte >= from && entry.first_byte < from + WINDOW;
    ledger.entries().iter().filter(|entry| entry.verdict == Verdict::Accepted).filter(inside).count()
}

/// Covers: 10p.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_storm_of_refusals_the_first_start_comes_at_once_and_the_full_pace_soon() {
    let cluster = Cluster::start();
    let operator = cluster.operator(&FLAGS);
    let tenant = Tenant::new(&cluster, "storm").await;
    tenant.put_key().await;
    let mut account = tenant.account_spec();
    account["edition"] = json!("Standard"); // 5 calls a second
    tenant.put_account("default", &account).await;
    let everything = Fault { behaviour: Behaviour::error(Refusal::of("Throttling.User")), ..Fault::default() };
    tenant.cloud.add_fault(everything);
    for id in 1..=JOBS {
        tenant.apply(&format!("job-{id}"), &json!({ "diJobId": id })).await;
    }
    let over = |ledger: &Ledger| {
        let (first, last) = (refused(ledger).next(), refused(ledger).last());
        first.zip(last).is_some_and(|(first, last)| last.first_byte.duration_since(first.first_byte) >= STORM)
    };
    tenant.until_ledger("the storm to be over", over).await;
    let calm = tenant.cloud.now();
    tenant.cloud.clear_faults();
    for job in tenant.jobs.list(&kube::api::ListParams::default()).await.unwrap() {
        let attempts = job.status.as_ref().map_or(0, |status| status.attempts);
        assert!(attempts == 0 && !is_stalled(&job), "a refusal of the account is no failure of a job: {job:?}");
    }
    let starts = |ledger: &Ledger| ledger.of_action("StartDIJob").find(|e| e.executed.is_some()).map(|e| e.first_byte);
    tenant.until_ledger("a start", |ledger| starts(ledger).is_some()).await;
    let first = tenant.cloud.ledger().entries().iter().find(|e| e.verdict == Verdict::Accepted).unwrap().first_byte;
    let start = starts(&tenant.cloud.ledger()).unwrap();
    // At the floor of the estimate a call is due every 2 s, and a look comes before a start.
    assert!(first.duration_since(calm) <= SignedDuration::from_millis(2500), "{}", first.duration_since(calm));
    assert!(start.duration_since(calm) <= SignedDuration::from_secs(5), "{}", start.duration_since(calm));
    // 97 % of 5/s are 19 in 4 s; one may fall out of the window at each end.
    let full = |ledger: &Ledger| ledger.entries().iter().any(|entry| accepted(ledger, entry.first_byte) >= 18);
    tenant.until_ledger("the full pace", full).await;
    let took = tenant.cloud.now().duration_since(calm);
    assert!(took <= SignedDuration::from_secs(40), "{took}");
    tenant.end(&[&operator]).await;
}
