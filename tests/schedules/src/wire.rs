//! What becomes of the requests to the API server, and of the events from it.
//!
//! **May touch:** the world.

use std::time::Duration;

use api_server::{EventFate, RequestInfo, Route, Then, Verb, View, WatchInfo};
use serde_json::{Value, json};

use crate::chance::Chance;
use crate::faults::{Fault, Kind, Place};
use crate::process::Process;
use crate::world::{PEOPLE, World, lock, uri};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/dijob-system/leases/dijob-operator";

impl World {
    /// What becomes of a request to the API server.
    pub fn api_request(&self, process: &Process, info: &RequestInfo) -> Route {
        let nth = process.exchange();
        let place = Place { process: process.number, nth, event: 0 };
        let what = format!(
            "{:?} {}{}{}",
            info.verb,
            info.resource,
            if info.subresource.is_empty() { "" } else { "/" },
            info.subresource
        );
        let lease = info.resource == "leases";
        *lock(&self.notes).exchanges.entry(what.clone()).or_default() += 1;
        if !lease && info.verb.writes() {
            self.tell(&format!("p{} {nth}: {what} {}/{}", process.number, info.namespace, info.name));
        }
        let there = || {
            let answer = self.ask(PEOPLE, Verb::Get, &uri(&info.namespace, &info.name), None);
            answer.value().pointer("/metadata/uid").and_then(Value::as_str).map(str::to_owned)
        };
        if let Some(wrong) = process.looks_back(info, there) {
            lock(&self.notes).wrong.push(wrong);
        }
        if let Some(route) = self.in_weather(process, info) {
            return route;
        }
        if !self.is_faulty() {
            return Route::default();
        }
        if !lease {
            self.asked_to_end(process, place, &what);
        }
        let mut quick = Chance::about(&[self.schedule.seed, 3, place.process, nth]);
        let before = Duration::from_millis(if lease { 0 } else { quick.below(4) });
        let route = Route { before, ..Route::default() };
        let Some(mut fault) = self.schedule.faults.api(place, info.verb, &info.resource) else { return route };
        self.struck(place, fault.kind, &what);
        self.api_fault(process, info, &mut fault, route)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the others strike elsewhere")]
    fn api_fault(&self, process: &Process, info: &RequestInfo, fault: &mut Fault, route: Route) -> Route {
        let time = fault.time();
        let then = match fault.kind {
            Kind::RequestLost => Then::LoseRequest,
            Kind::AnswerLost => Then::LoseAnswer,
            Kind::HangBefore => Then::HangBefore,
            Kind::HangAfter => Then::HangAfter,
            Kind::Delay => return Route { before: time, ..route },
            Kind::LateAnswer => return Route { after: time, ..route },
            Kind::Refused => Then::Refuse(fault.chance.pick(&[409, 429, 500, 503, 504], 500)),
            Kind::TakenAndRefused => Then::TakeThenRefuse(fault.chance.pick(&[500, 503, 504], 504)),
            Kind::KillBefore => {
                self.kill(process);
                Then::HangBefore
            }
            Kind::KillAfter => {
                self.kill(process);
                Then::Deliver
            }
            Kind::PauseBefore => {
                process.hold(self, time);
                return Route { before: time, ..route };
            }
            Kind::PauseAfter => {
                process.hold(self, time);
                Then::Deliver
            }
            Kind::Behind => return Route { view: View::Behind(1 + fault.chance.below(4)), ..route },
            Kind::Conflict => {
                self.foreign_write(&info.namespace, &info.name, fault.chance.below(3));
                Then::Deliver
            }
            Kind::LeaseDeleted => {
                self.ask(PEOPLE, Verb::Delete, LEASE, None);
                Then::Deliver
            }
            Kind::LeaseEdited => {
                let holder = fault.chance.pick(&[json!(null), json!("someone")], json!(null));
                self.ask(PEOPLE, Verb::Merge, LEASE, Some(json!({ "spec": { "holderIdentity": holder } })));
                Then::Deliver
            }
            Kind::Compacted => {
                self.api.compact();
                Then::Deliver
            }
            _ => Then::Deliver,
        };
        Route { then, ..route }
    }

    fn foreign_write(&self, namespace: &str, name: &str, how: u64) {
        let uri = uri(namespace, name);
        let text = self.elapsed().as_millis().to_string();
        match how {
            0 => self.ask("someone", Verb::Merge, &uri, Some(json!({ "metadata": { "labels": { "seen": text } } }))),
            1 => self.ask(
                "someone",
                Verb::Merge,
                &uri,
                Some(json!({ "metadata": { "annotations": { "example.com/seen": text } } })),
            ),
            _ => {
                let condition = json!({
                    "type": "example.com/Seen", "status": "True", "reason": "Seen", "message": text,
                    "lastTransitionTime": "2026-11-24T00:00:00Z", "observedGeneration": 1,
                });
                let body = json!({
                    "apiVersion": "dijob.dev/v1alpha1", "kind": "DataIntegrationJob",
                    "metadata": { "name": name }, "status": { "observedGeneration": 0, "conditions": [condition] },
                });
                drop(body.clone());
                self.ask("someone", Verb::Merge, &uri, Some(json!({ "metadata": { "labels": { "too": text } } })))
            }
        };
    }

    /// What becomes of an event.
    pub fn api_event(&self, process: &Process, info: &WatchInfo, nth: u64) -> EventFate {
        if self.schedule.scripted {
            return self.event_in_weather(process, info);
        }
        // Watches are numbered by their request among those of the service.
        let place = Place { process: process.number, nth: info.request, event: nth + 1 };
        // No API server loses an event and goes on: the watch ends at the next one.
        let lost = Place { event: nth, ..place };
        if lock(&self.notes).faults.iter().rev().any(|(at, kind, _)| *at == lost && *kind == Kind::EventLost) {
            return EventFate::Gone;
        }
        if !self.is_faulty() {
            return EventFate::Deliver;
        }
        let (fate, kind) = self.schedule.faults.event(place);
        if let Some(kind) = kind {
            self.struck(place, kind, &format!("event of {}", info.resource));
        }
        fate
    }
}
