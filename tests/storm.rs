//! A cloud that refuses everything for a while, and then nothing: the real binary goes on at once, and at full pace soon.
//!
//! The ordinary run has a storm of 20 s; `OUTAGES=1 cargo test --test storm` has one of ten minutes.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::OnceLock;
use std::time::Duration;

#[path = "support"]
#[expect(dead_code, reason = "this test uses a part of what the tests share")]
mod support {
    pub mod plan;
    pub mod schema;
    pub mod world;
}

use futures::FutureExt as _;
use futures::future::select_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use simulator::{Behaviour, DayTurn, Entry, Fault, Ledger, Limits, Rate, Refusal, Verdict};
use support::world::tenant::Tenant;
use support::world::{is_stalled, ready, world};

const JOBS: i64 = 60;
const WINDOW: SignedDuration = SignedDuration::from_secs(4);

/// Short, but long enough for the estimate to fall from 5/s to a quarter; or as the matrix has it.
fn storm() -> SignedDuration {
    static LENGTH: OnceLock<SignedDuration> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "the switch of the full run")]
    let is_full_run = || std::env::var_os("OUTAGES").is_some();
    *LENGTH.get_or_init(|| SignedDuration::from_secs(if is_full_run() { 600 } else { 20 }))
}

fn refused(ledger: &Ledger) -> impl Iterator<Item = &Entry> {
    ledger.entries().iter().filter(|entry| matches!(entry.verdict, Verdict::Refused { .. }))
}

/// Accepted calls in the window that begins here.
fn accepted(ledger: &Ledger, from: Timestamp) -> usize {
    let inside = |entry: &&Entry| entry.first_byte >= from && entry.first_byte < from + WINDOW;
    ledger.entries().iter().filter(|entry| entry.verdict == Verdict::Accepted).filter(inside).count()
}

/// A tenant with an account of this edition, whose cloud refuses everything, and its jobs.
async fn in_a_storm(namespace: &str, edition: &str, calls_per_day: Option<u32>) -> Tenant {
    let tenant = Tenant::new(&world().cluster, namespace).await;
    tenant.put_key().await;
    let mut account = tenant.account_spec();
    account["edition"] = json!(edition);
    if let Some(day) = calls_per_day {
        account["quota"] = json!({ "callsPerDay": day });
    }
    tenant.put_account("default", &account).await;
    let everything = Fault { behaviour: Behaviour::error(Refusal::of("Throttling.User")), ..Fault::default() };
    tenant.cloud.add_fault(everything);
    for id in 1..=JOBS {
        tenant.apply(&format!("job-{id}"), &json!({ "diJobId": id })).await;
    }
    tenant
}

/// Waits until the refusals span so much time.
async fn until_over(tenant: &Tenant, length: SignedDuration) {
    let over = |ledger: &Ledger| {
        let (first, last) = (refused(ledger).next(), refused(ledger).last());
        first.zip(last).is_some_and(|(first, last)| last.first_byte.duration_since(first.first_byte) >= length)
    };
    let patience = Duration::try_from(length).unwrap() + Duration::from_secs(40);
    assert!(tenant.cloud.wait_until(patience, over).await, "the storm is not over\n{}", tenant.story(""));
}

/// Waits for the first call that is accepted.
async fn first_accepted(tenant: &Tenant) -> Timestamp {
    let first = |ledger: &Ledger| {
        let mut accepted = ledger.entries().iter().filter(|e| e.verdict == Verdict::Accepted);
        accepted.next().map(|e| e.first_byte)
    };
    tenant.until_ledger("a call that is accepted", |ledger| first(ledger).is_some()).await;
    first(&tenant.cloud.ledger()).unwrap()
}

async fn nobody_is_punished(tenant: &Tenant) {
    for job in tenant.jobs.list(&kube::api::ListParams::default()).await.unwrap() {
        let attempts = job.status.as_ref().map_or(0, |status| status.attempts);
        assert!(attempts == 0 && !is_stalled(&job), "a refusal of the account is no failure of a job: {job:?}");
    }
}

/// At the floor of the estimate a call is due every 1.7 s.
const AT_ONCE: SignedDuration = SignedDuration::from_millis(2500);

/// Covers: 10p.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_storm_of_refusals_the_first_start_comes_at_once_and_the_full_pace_soon() {
    let tenant = in_a_storm("storm", "Standard", None).await; // 5 calls a second
    until_over(&tenant, storm()).await;
    let calm = tenant.cloud.now();
    tenant.cloud.clear_faults();
    nobody_is_punished(&tenant).await;
    let first = first_accepted(&tenant).await;
    let starts = |ledger: &Ledger| ledger.of_action("StartDIJob").find(|e| e.executed.is_some()).map(|e| e.first_byte);
    tenant.until_ledger("a start", |ledger| starts(ledger).is_some()).await;
    let start = starts(&tenant.cloud.ledger()).unwrap();
    // A look comes before a start.
    assert!(first.duration_since(calm) <= AT_ONCE, "{}", first.duration_since(calm));
    assert!(start.duration_since(calm) <= SignedDuration::from_secs(5), "{}", start.duration_since(calm));
    // 97 % of 5/s are 19 in 4 s; one may fall out of the window at each end.
    let full = |ledger: &Ledger| ledger.entries().iter().any(|entry| accepted(ledger, entry.first_byte) >= 18);
    tenant.until_ledger("the full pace", full).await;
    let took = tenant.cloud.now().duration_since(calm);
    assert!(took <= SignedDuration::from_secs(40), "{took}");
    println!(
        "{} refused, first {}, start {}, full pace {took}",
        refused(&tenant.cloud.ledger()).count(),
        first.duration_since(calm),
        start.duration_since(calm)
    );
    tenant.end(&[&world().operator]).await;
}

/// Fewer than the 100 of the Basic edition, as `quota` may say, so that the test is shorter.
const DAY: u32 = 60;

/// Basic edition: so many calls a day, refused ones included. What the storm left of them is used at once, and no more.
///
/// Covers: 10p.
#[tokio::test(flavor = "multi_thread")]
async fn in_the_basic_edition_a_storm_spends_the_day_and_never_more_than_it_has() {
    let tenant = in_a_storm("storm-basic", "Basic", Some(DAY)).await;
    // The cloud counts by itself, and begins its day when it likes: who calls too often is told.
    let limits = Limits {
        rate: Rate::Unlimited,
        day_turn: DayTurn::Rolling,
        refused_count: true,
        per_day: Some(DAY),
        ..Limits::basic()
    };
    tenant.cloud.switch(|switches| switches.limits = limits);
    let day = usize::try_from(DAY).unwrap();
    let spent = |ledger: &Ledger| ledger.entries().len() >= day - 1;
    if storm() > SignedDuration::from_secs(60) {
        // Of ten minutes, the day lasts for about two: the storm ends on an account that is parked.
        assert!(tenant.cloud.wait_until(Duration::from_secs(600), spent).await, "{}", tenant.story(""));
    } else {
        until_over(&tenant, SignedDuration::from_secs(8)).await;
        let calm = tenant.cloud.now();
        tenant.cloud.clear_faults();
        nobody_is_punished(&tenant).await;
        let first = first_accepted(&tenant).await;
        assert!(first.duration_since(calm) <= AT_ONCE, "{}", first.duration_since(calm));
    }
    let parked = |job: &dijob_operator::api::DataIntegrationJob| {
        ready(job).is_some_and(|c| c.reason == "DailyLimitReached" && c.message.contains("calls go on 20"))
    };
    tenant.until_ledger("the day to be spent", spent).await;
    // Who asks after that is told.
    let names: Vec<String> = (1..=JOBS).map(|id| format!("job-{id}")).collect();
    let told = names.iter().map(|name| tenant.until(name, "the day to be over in sight", parked).boxed());
    let _ = select_all(told).await;
    nobody_is_punished(&tenant).await;
    let ledger = tenant.cloud.ledger();
    let calls = ledger.entries().len();
    println!("{calls} calls, {} refused, {} starts", refused(&ledger).count(), ledger.of_action("StartDIJob").count());
    assert!((day - 1..=day).contains(&calls), "{calls} calls of {day}");
    assert!((1..=JOBS).all(|id| ledger.executions(id).len() <= 1));
    tenant.end(&[&world().operator]).await;
}
