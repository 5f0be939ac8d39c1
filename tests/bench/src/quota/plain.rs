//! A cell as most operators would serve it: each job calls by itself, and waits longer after each refusal.
//!
//! The same client, signed requests and as many calls at once as the operator has passes; but no Kubernetes, whose writes
//! would only slow it down.
//!
//! **May touch:** the cell's cloud.

use std::sync::Arc;
use std::time::Duration;

use dijob_operator::clock::Clock;
use dijob_operator::dataworks::model::StartDiJobRequest;
use dijob_operator::dataworks::{
    AccessKey, Client, Endpoint, HostRules, HttpTransport, Scheme, Service, Stamp, Timeouts, Version,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::cell::{Cell, Load};
use super::tally::{Measured, Tally, wait_of};
use crate::{Failure, KEY};

/// The longest wait after the first refusal.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait of all.
const CAP: Duration = Duration::from_secs(20);
/// Calls at once.
const CALLS: usize = 64;
/// From a start to the look that confirms it.
const CONFIRM: Duration = Duration::from_secs(2);
/// Until the backlog has spread over its waits.
const SETTLED: Duration = Duration::from_secs(30);

/// Runs it.
pub async fn measure(cell: &Cell) -> Result<Measured, Failure> {
    let cloud = cell.cloud()?;
    let callers = Arc::new(Callers::of(&cloud.url())?);
    let mut tasks = JoinSet::new();
    let mut spawn = |id| tasks.spawn(Arc::clone(&callers).run(id));
    for id in cell.backlogs().into_iter().flatten() {
        spawn(id);
    }
    let tally = Tally::begin(cell, &cloud).await?;
    let mut waits = None;
    if cell.load == Load::Latecomers {
        tokio::time::sleep(SETTLED).await;
        let from = cloud.now();
        cell.latecomers().for_each(|id| {
            spawn(id);
        });
        waits = Some(futures::future::join_all(cell.latecomers().map(|id| wait_of(&cloud, id, from))).await);
    }
    Ok(tally.end(waits).await)
}

#[derive(Clone, Copy)]
enum Call {
    Look,
    Start,
}

struct Callers {
    client: Client,
    service: Service,
    key: AccessKey,
    clock: Clock,
    room: Semaphore,
}

impl Callers {
    fn of(url: &str) -> Result<Self, Failure> {
        let clock = Clock::system();
        let rules = HostRules { allow_insecure_endpoints: true, ..HostRules::default() };
        let endpoint = Endpoint::parse(url, &rules).map_err(|problem| format!("{url}: {problem:?}"))?;
        let key = AccessKey::new(KEY.0, KEY.1, None).map_err(|problem| format!("the key: {problem:?}"))?;
        Ok(Self {
            client: Client::new(Arc::new(HttpTransport::new(clock.clone(), Timeouts::default())?)),
            service: Service { endpoint, version: Version::V2020, scheme: Scheme::Rpc },
            key,
            clock,
            room: Semaphore::new(CALLS),
        })
    }

    async fn run(self: Arc<Self>, id: i64) {
        self.insist(Call::Look, id).await;
        self.insist(Call::Start, id).await;
        tokio::time::sleep(CONFIRM).await;
        self.insist(Call::Look, id).await;
    }

    async fn insist(&self, call: Call, id: i64) {
        let mut most = FIRST;
        while !self.try_once(call, id).await {
            tokio::time::sleep(most.mul_f64(self.clock.jitter())).await;
            most = most.saturating_mul(2).min(CAP);
        }
    }

    async fn try_once(&self, call: Call, id: i64) -> bool {
        let Ok(_room) = self.room.acquire().await else { return true }; // never closed
        let stamp = Stamp { nonce: self.clock.nonce(), time: self.clock.now() };
        match call {
            Call::Look => self.client.get_di_job(&self.service, &self.key, &stamp, id).await.result.is_ok(),
            Call::Start => {
                let request = StartDiJobRequest { di_job_id: id, ..StartDiJobRequest::default() };
                self.client.start_di_job(&self.service, &self.key, &stamp, &request).await.result.is_ok()
            }
        }
    }
}
