//! The way to the cloud and back: whose bytes are whose, and what becomes of them.
//!
//! **May touch:** the world.
//!
//! **Guarantee:** bytes that have left travel in a task of the world: they arrive whatever becomes of their process.

use std::sync::Arc;
use std::time::Duration;

use dijob_operator::dataworks::TransportError;
use jiff::{SignedDuration, Timestamp};
use simulator::core::{Arrival, Outgoing, Request};
use simulator::{Behaviour, Fate, Oddity, Refusal};
use tokio::sync::oneshot;

use crate::chance::Chance;
use crate::faults::{Fault, Kind, Place};
use crate::play::wait;
use crate::process::Process;
use crate::world::{Sent, World, lock};

/// How the bytes of a call travel.
#[derive(Default)]
struct Way {
    before: Duration,
    behaviour: Option<Behaviour>,
    /// The process stands still for so long before the bytes leave.
    pause: Duration,
    lost: bool,
}

impl World {
    /// One call of the cloud by a process.
    ///
    /// # Errors
    /// No answer came.
    pub async fn call(
        self: Arc<Self>,
        process: &Arc<Process>,
        request: http::Request<Vec<u8>>,
    ) -> Result<http::Response<Vec<u8>>, TransportError> {
        let nth = process.exchange();
        let place = Place { process: process.number, nth, event: 0 };
        let action = request.headers().get("x-acs-action").and_then(|v| v.to_str().ok()).unwrap_or("?").to_owned();
        *lock(&self.notes).exchanges.entry(action.clone()).or_default() += 1;
        self.tell(&format!("p{} {nth}: {action}", process.number));
        if self.is_faulty() {
            self.asked_to_end(process, place, &action);
        }
        let fault = self.schedule.faults.cloud(place).filter(|_| self.is_faulty());
        if let Some(fault) = &fault {
            self.struck(place, fault.kind, &action);
        }
        let mut quick = Chance::about(&[self.schedule.seed, 4, place.process, nth]);
        let mut way = Way { before: Duration::from_millis(5 + quick.below(60)), ..Way::default() };
        if let Some(mut fault) = fault
            && let Some(error) = self.cloud_fault(process, &mut fault, &mut way).await
        {
            return Err(error);
        }
        let (tell, told) = oneshot::channel();
        if !way.lost {
            tokio::spawn(self.clone().carry(process.number, request, way, tell));
        }
        let answer = async {
            match told.await {
                Ok(answer) => answer,
                Err(_) => std::future::pending().await,
            }
        };
        match tokio::time::timeout(Duration::from_secs(15), answer).await {
            Ok(answer) => answer,
            Err(_) => Err(TransportError::MayHaveRun("operation timed out".to_owned())),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the others strike elsewhere")]
    async fn cloud_fault(&self, process: &Process, fault: &mut Fault, way: &mut Way) -> Option<TransportError> {
        let time = fault.time();
        let long = SignedDuration::from_secs(i64::try_from(fault.chance.below(1200)).unwrap_or(0));
        let broken = Refusal::of("InternalError.System");
        let throttled = ["Throttling.Api", "Throttling.User", "9990020002"];
        let denied =
            ["Forbidden.RAM", "InvalidParameter", "InvalidTimeStamp.Expired", "SignatureNonceUsed", "Odd.Code"];
        let behaviour = match fault.kind {
            Kind::NoConnection => {
                wait(Duration::from_millis(fault.chance.pick(&[1, 5000], 1))).await;
                return Some(TransportError::NeverLeft("error trying to connect".to_owned()));
            }
            Kind::RequestLost => Behaviour::lost_request(),
            Kind::AnswerLost => Behaviour::lost_answer(),
            Kind::HangBefore => Behaviour::hang_before(),
            Kind::HangAfter => Behaviour::hang_after(),
            Kind::Delay => {
                way.before += time.min(Duration::from_secs(20));
                return None;
            }
            Kind::LateAnswer => Behaviour::late_answer(SignedDuration::try_from(time).unwrap_or_default()),
            Kind::Refused => Behaviour::error(broken),
            Kind::TakenAndRefused => Behaviour::executed_error(broken),
            Kind::KillBefore => {
                self.kill(process);
                way.lost = true;
                return None;
            }
            Kind::KillAfter => {
                self.kill(process);
                return None;
            }
            Kind::PauseBefore => {
                process.hold(self, time);
                way.before += time;
                way.pause = time;
                return None;
            }
            Kind::PauseAfter => {
                process.hold(self, time);
                return None;
            }
            Kind::LateArrival => Behaviour::late_arrival(long),
            Kind::LateExecution => Behaviour::late_execution(long),
            Kind::Swallowed => Behaviour::swallowed(),
            Kind::Malformed => Behaviour::odd(
                fault.chance.pick(&[Oddity::Malformed, Oddity::Truncated, Oddity::Empty, Oddity::Cut], Oddity::Cut),
            ),
            Kind::Huge => Behaviour::odd(Oddity::Huge { bytes: 2_000_000 }),
            Kind::Html => Behaviour::odd(Oddity::Html { status: fault.chance.pick(&[200, 403, 404, 502], 404) }),
            Kind::Throttled => Behaviour::error(Refusal::of(fault.chance.pick(&throttled, "Throttling.Api"))),
            _ => Behaviour::error(Refusal::of(fault.chance.pick(&denied, "Odd.Code"))),
        };
        way.behaviour = Some(behaviour);
        None
    }

    /// The bytes of one call, which no longer belong to the process.
    async fn carry(
        self: Arc<Self>,
        process: u64,
        request: http::Request<Vec<u8>>,
        way: Way,
        tell: oneshot::Sender<Result<http::Response<Vec<u8>>, TransportError>>,
    ) {
        let left = self.now() + SignedDuration::try_from(way.pause).unwrap_or_default();
        wait(way.before).await;
        let now = self.now();
        let arrival = arrival_of(process, now, request);
        let answer = {
            let mut cloud = lock(&self.cloud);
            if let Some(behaviour) = way.behaviour {
                let fault = simulator::Fault { calls: Some(1), behaviour, ..simulator::Fault::default() };
                cloud.switches.faults.push(fault);
            }
            cloud.receive(now, arrival)
        };
        lock(&self.notes).sent.push(Sent { process, seq: answer.seq, left, paused: !way.pause.is_zero() });
        if let Some(after) = Duration::try_from(answer.after).ok().filter(|after| !after.is_zero()) {
            wait(after).await;
        }
        let (fate, told) = match answer.outgoing {
            Outgoing::Reply(reply) if reply.cut.is_some() => {
                (Fate::Sent, Some(Err(TransportError::MayHaveRun("the answer broke off".to_owned()))))
            }
            Outgoing::Reply(reply) if reply.body.len() > 1024 * 1024 => {
                (Fate::Sent, Some(Err(TransportError::MayHaveRun("the answer is larger than 1 MiB".to_owned()))))
            }
            Outgoing::Reply(reply) => {
                let mut builder = http::Response::builder().status(reply.status);
                for (name, value) in reply.headers {
                    builder = builder.header(name, value);
                }
                let problem = |e: http::Error| TransportError::MayHaveRun(e.to_string());
                (Fate::Sent, Some(builder.body(reply.body).map_err(problem)))
            }
            Outgoing::Drop => (Fate::Dropped, Some(Err(TransportError::MayHaveRun("connection closed".to_owned())))),
            Outgoing::Hang => (Fate::Hung, None),
        };
        lock(&self.cloud).answered(self.now(), answer.seq, fate);
        match told {
            Some(told) => drop(tell.send(told)),
            None => std::future::pending().await,
        }
    }
}

/// A request as the cloud receives it.
fn arrival_of(process: u64, now: Timestamp, request: http::Request<Vec<u8>>) -> Arrival {
    let (head, body) = request.into_parts();
    let text = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let host = text("host").or_else(|| head.uri.host().map(str::to_owned)).unwrap_or_default();
    let told = head.headers.iter().filter(|(name, _)| name.as_str() != "host");
    let told = told.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let headers = told.chain([("host", host.as_str())]).collect();
    let request = Request {
        connection: process,
        first_byte: now,
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        content_type: text("content-type"),
        host: host.clone(),
        body,
    };
    request.with_headers(headers)
}
