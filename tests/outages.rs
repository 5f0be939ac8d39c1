//! The surroundings fail, for real: the API server is killed, silent or slow, watches end, the Lease is edited by hand,
//! the leader is stopped, clocks are wrong. No start is lost in silence and none is doubled, and the operator recovers.
//!
//! The ordinary run uses short times. The full lengths, with the times as shipped, are one command; what it found is in
//! `tests/outages/results.md`: `OUTAGES=15,60,300 cargo test --test outages -- --nocapture outage`

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "support"]
#[expect(dead_code, reason = "this test uses a part of what the tests share")]
mod support {
    pub mod plan;
    pub mod proxy;
    pub mod schema;
    pub mod world;
}
#[path = "outages/api.rs"]
mod api;
#[path = "outages/faults.rs"]
mod faults;
#[path = "outages/history.rs"]
mod history;
#[path = "outages/process.rs"]
#[expect(dead_code, reason = "the other half is for the limits of the machine")]
mod process;
#[path = "outages/scene.rs"]
mod scene;
#[path = "outages/wire.rs"]
mod wire;

use std::time::Duration;

use api::{Kind, Setup, outages};

/// Between two looks at the cluster.
async fn look_again() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Work that blocks, where other tasks go on.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

/// The lengths of the full run, if this is one.
#[expect(clippy::disallowed_methods, reason = "the switch of the full run")]
fn full_run() -> Option<String> {
    std::env::var("OUTAGES").ok()
}

fn is_full_run() -> bool {
    full_run().is_some()
}

/// Covers: 20p, 22p, 39p.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_an_api_outage_what_was_asked_meanwhile_is_done_once() {
    let rows = if let Some(lengths) = full_run() {
        let lengths: Vec<u64> = lengths.split(',').map(|length| length.parse().unwrap()).collect();
        let setups = [Setup::Two, Setup::One, Setup::Alone];
        let kinds = Kind::ALL.map(|kind| {
            let lengths = lengths.clone();
            tokio::spawn(async move { outages(&[kind], &setups, &lengths, true).await })
        });
        futures::future::join_all(kinds).await
    } else {
        let kinds: [(&[Kind], Setup); 5] = [
            (&[Kind::Killed], Setup::Two),
            (&[Kind::Held, Kind::Unavailable], Setup::Alone),
            (&[Kind::Swallowed], Setup::One),
            (&[Kind::Late], Setup::Alone),
            (&[Kind::Trickling], Setup::Two),
        ];
        let short =
            kinds.map(|(kinds, setup)| tokio::spawn(async move { outages(kinds, &[setup], &[6], false).await }));
        futures::future::join_all(short).await
    };
    for row in rows {
        assert!(!row.unwrap().is_empty());
    }
}
