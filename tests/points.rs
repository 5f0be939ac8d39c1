//! What an ordinary run of the tests takes of the crash points: of the two stories that differ most, a start that always
//! runs and one that never runs twice, every moment of the call and of the two writes around it. `cargo crash-points` takes
//! all stories, exchanges, moments and faults.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "support"]
#[expect(dead_code, reason = "this test uses a part of what the tests share")]
mod support {
    pub mod plan;
    pub mod proxy;
    pub mod schema;
    pub mod world;
}

#[path = "points"]
#[expect(dead_code, reason = "this test uses a part of what the crash points share")]
mod points {
    pub mod exchanges;
    pub mod faults;
    pub mod history;
    pub mod oracle;
    pub mod plan;
    pub mod run;
    pub mod scene;
    pub mod stories;
}

use points::exchanges::{Name, class};
use points::faults::{FAULTS, Fault, Trial, points};
use points::plan::{failure, run_all};
use points::stories::{STORIES, Story};

/// At once in each of the tests, of which as many run at once as there are cores.
const LANES: usize = 6;
/// The intent, the outcome, and the call between them.
const AROUND_THE_CALL: [(&str, usize); 3] = [("PATCH status", 1), ("StartDIJob", 1), ("PATCH status", 2)];
/// A request to the API server is given up after 30 s: faults that wait for that are left to the full run.
const QUICK: [Fault; 3] = [Fault::Kill, Fault::Term, Fault::Cut];

/// All moments of these exchanges with these faults.
fn around(story: &str, exchanges: &[(&str, usize)], faults: &[Fault]) -> Vec<(Story, Trial)> {
    let story = Story::of(story).unwrap();
    let names: Vec<Name> =
        exchanges.iter().map(|(class, nth)| Name { class: (*class).to_owned(), nth: *nth }).collect();
    let chosen = points(&names).into_iter().filter(|point| faults.contains(&point.fault));
    chosen.map(|point| (story, Trial::Point(point))).collect()
}

/// Runs them all; each must have reached its point, and broken no promise.
async fn hold(trials: Vec<(Story, Trial)>) {
    let numbered = trials.into_iter().enumerate().map(|(number, (story, trial))| (story, number, trial)).collect();
    let mut broken = Vec::new();
    for done in run_all(numbered, LANES, |_| {}).await {
        if !done.record.reached {
            broken.push(format!("{}, {}: the exchange did not come", done.story.name, done.trial));
        }
        if !done.record.violations.is_empty() {
            broken.push(failure(done.story, &done.trial, &done.record));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
}

/// Covers: 1p, 2p, 3p, 4p.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn killed_at_any_moment_around_the_call_a_start_keeps_its_promise() {
    let mut trials = around("forced-rerun", &AROUND_THE_CALL, &[Fault::Kill]);
    trials.extend(around("first-start", &AROUND_THE_CALL, &[Fault::Kill]));
    hold(trials).await;
}

/// Covers: 6p, 18p.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_connection_lost_at_any_moment_around_the_call_breaks_no_promise() {
    let mut trials = around("forced-rerun", &AROUND_THE_CALL, &[Fault::Cut]);
    trials.extend(around("first-start", &AROUND_THE_CALL, &[Fault::Cut]));
    hold(trials).await;
}

/// Covers: 6p.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_start_that_hangs_or_arrives_late_runs_at_most_once_and_an_ordinary_one_runs() {
    let waits: Vec<Fault> = FAULTS.into_iter().filter(|fault| !QUICK.contains(fault)).collect();
    let mut trials = around("forced-rerun", &[("StartDIJob", 1)], &waits);
    trials.extend(around("first-start", &[("StartDIJob", 1)], &waits));
    hold(trials).await;
}

/// Covers: 42p.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn an_orderly_stop_at_any_moment_around_the_call_loses_no_start_and_leaves_none_unknown() {
    let mut trials = around("forced-rerun", &AROUND_THE_CALL, &[Fault::Term]);
    trials.extend(around("first-start", &[("StartDIJob", 1)], &[Fault::Term]));
    hold(trials).await;
}

/// Covers: 24p.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_key_that_is_replaced_around_the_call_breaks_no_promise_at_a_crash() {
    let mut trials = around("forced-rotation", &[("StartDIJob", 1)], &[Fault::Kill]);
    trials.extend(around("rotation", &[("PATCH status", 2)], &[Fault::Kill]));
    trials.push((Story::of("rotation").unwrap(), Trial::Plain));
    hold(trials).await;
}

/// Covers: 3p, 22p.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn when_the_leader_dies_or_its_lease_hangs_the_other_replica_keeps_the_promise() {
    let mut trials = around("forced-fail-over", &[("StartDIJob", 1)], &[Fault::Kill, Fault::Term]);
    trials.extend(around("fail-over", &[("PUT lease", 1)], &[Fault::Hang, Fault::Cut]));
    hold(trials).await;
}

/// Covers: 5p.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn ten_crashes_in_a_row_add_no_execution_in_any_story() {
    let stories = STORIES.into_iter().filter(|story| !story.elected() && !story.rotates());
    hold(stories.map(|story| (story, Trial::Loop(Some(1)))).collect()).await;
}

#[test]
fn an_exchange_is_named_by_what_it_asks_for() {
    let jobs = "/apis/dijob.dev/v1alpha1/dataintegrationjobs";
    let mine = "/apis/dijob.dev/v1alpha1/namespaces/events/dataintegrationjobs";
    let lease = "/apis/coordination.k8s.io/v1/namespaces/a/leases";
    let rows = [
        ("GET", format!("{jobs}?limit=1"), "PROBE jobs"),
        ("GET", format!("{jobs}?limit=500&resourceVersion=0"), "LIST jobs"),
        ("GET", format!("{jobs}?watch=true&timeoutSeconds=90"), "WATCH jobs"),
        ("PATCH", format!("{mine}/secrets/status?fieldManager=a&dryRun=All"), "PATCH status (dry run)"),
        ("PATCH", format!("{mine}/secrets/status?fieldManager=a"), "PATCH status"),
        ("GET", format!("{mine}/leases"), "GET job"),
        ("GET", "/api/v1/namespaces/leases/secrets/key".to_owned(), "GET secret"),
        ("POST", "/apis/events.k8s.io/v1/namespaces/secrets/events?".to_owned(), "POST event"),
        ("PUT", format!("{lease}/dijob-operator?"), "PUT lease"),
        ("POST", format!("{lease}?"), "POST lease"),
        ("POST", "/?Action=StartDIJob&DIJobId=1".to_owned(), "StartDIJob"),
    ];
    for (method, path, name) in rows {
        let exchange = support::proxy::Exchange {
            number: 1,
            method: method.parse().unwrap(),
            path,
            body: hyper::body::Bytes::new(),
            moment: support::proxy::Moment::RequestSeen,
            status: None,
            ended: None,
            answered: None,
        };
        assert_eq!(class(&exchange), name, "{}", exchange.path);
    }
}
