//! Events, through a bounded queue that no pass ever waits for. What must not be lost is in status.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, Resource};
use tokio::sync::mpsc;

use super::error::{short, whole};
use crate::clock::Clock;
use crate::plan::notice::Notice;
use crate::telemetry::{EventFate, Metrics};

/// Notes that wait to be sent; more are dropped.
const QUEUE: usize = 256;
/// The same note about the same object is told once in this time.
const REPEAT: Duration = Duration::from_secs(600);
/// The API server refuses longer notes.
const NOTE: usize = 1000;
/// A name is the object's, a dot and up to 32 digits; the API server takes 253 characters.
const NAME: usize = 200;

type Told = Mutex<BTreeMap<(String, &'static str, String), Duration>>;

/// Where a pass leaves what is worth telling.
#[derive(Clone, Debug)]
pub struct Events {
    queue: mpsc::Sender<(ObjectReference, Notice)>,
    told: Arc<Told>,
    clock: Clock,
    metrics: Metrics,
}

impl Events {
    /// The queue, and the task that empties it until all senders are gone.
    pub fn new(client: Client, clock: Clock, metrics: Metrics, reporter: String) -> (Self, impl Future<Output = ()>) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let events = Self { queue, told: Arc::default(), clock: clock.clone(), metrics: metrics.clone() };
        (events, publish(client, clock, metrics, reporter, waiting))
    }

    /// Tells it, unless it was told a short while ago or the queue is full.
    pub fn send<K: Resource<DynamicType = ()>>(&self, object: &K, notice: Notice) {
        let reference = object.object_ref(&());
        let now = self.clock.elapsed();
        let what = (reference.uid.clone().unwrap_or_default(), notice.reason.as_str(), notice.note.clone());
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.retain(|_, at| now.saturating_sub(*at) < REPEAT);
            if told.insert(what, now).is_some() {
                return;
            }
        }
        if self.queue.try_send((reference, notice)).is_err() {
            self.metrics.event(EventFate::Dropped);
        }
    }
}

async fn publish(
    client: Client,
    clock: Clock,
    metrics: Metrics,
    reporter: String,
    mut waiting: mpsc::Receiver<(ObjectReference, Notice)>,
) {
    while let Some((regarding, notice)) = waiting.recv().await {
        let namespace = regarding.namespace.clone().unwrap_or_default();
        let event = event(regarding, &notice, &clock, &reporter);
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        match whole(api.create(&PostParams::default(), &event)).await {
            Ok(_) => metrics.event(EventFate::Sent),
            Err(error) => {
                metrics.event(EventFate::Dropped);
                tracing::warn!(error = short(&error), reason = event.reason, "cannot send an Event");
            }
        }
    }
}

fn event(regarding: ObjectReference, notice: &Notice, clock: &Clock, reporter: &str) -> Event {
    let name: String = regarding.name.iter().flat_map(|n| n.chars()).take(NAME).collect();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{}", name.trim_end_matches(['.', '-']), clock.nonce())),
            namespace: regarding.namespace.clone(),
            ..ObjectMeta::default()
        },
        type_: Some(if notice.warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(notice.reason.as_str().to_owned()),
        note: Some(notice.note.chars().take(NOTE).collect()),
        action: Some("Reconcile".to_owned()),
        event_time: Some(MicroTime(clock.now())),
        regarding: Some(regarding),
        reporting_controller: Some("dijob.dev/dijob-operator".to_owned()),
        reporting_instance: Some(reporter.chars().take(128).collect()),
        ..Event::default()
    }
}
