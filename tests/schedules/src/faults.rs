//! Which fault strikes which exchange: a function of the seed, the process and the number of the exchange.
//!
//! **May touch:** its arguments.
//!
//! **Guarantee:** leaving one fault out changes no other one by itself.

use std::collections::BTreeSet;
use std::time::Duration;

use api_server::{EventFate, Verb};

use crate::chance::Chance;

/// A place where a fault may strike: process, kind of place, number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Processes are counted from 1; 0 is the people.
    pub process: u64,
    /// Exchange of the process, or edit of the people.
    pub nth: u64,
    /// Event of a watch that this exchange opened, counted from 1; 0: the exchange itself.
    pub event: u64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.process, self.nth)?;
        if self.event > 0 { write!(f, ".{}", self.event) } else { Ok(()) }
    }
}

impl std::str::FromStr for Place {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut numbers = text.split('.').map(str::parse);
        let mut next = || numbers.next().unwrap_or(Ok(0));
        Ok(Self { process: next()?, nth: next()?, event: next()? })
    }
}

/// What may go wrong, in one word each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A request is lost on the way.
    RequestLost,
    /// An answer is lost.
    AnswerLost,
    /// The request is not carried out, and no answer comes.
    HangBefore,
    /// The request is carried out, and no answer comes.
    HangAfter,
    /// The request is late.
    Delay,
    /// The answer is late.
    LateAnswer,
    /// An error instead.
    Refused,
    /// Carried out, and an error all the same.
    TakenAndRefused,
    /// Kill -9 before the request has left.
    KillBefore,
    /// Kill -9 when the request has left.
    KillAfter,
    /// The process stands still before the request leaves.
    PauseBefore,
    /// The process stands still before it sees the answer.
    PauseAfter,
    /// A list or watch shows the past.
    Behind,
    /// Another writer is faster.
    Conflict,
    /// The connection cannot be made.
    NoConnection,
    /// The request reaches the cloud minutes later.
    LateArrival,
    /// The call is carried out minutes later.
    LateExecution,
    /// Accepted and never carried out.
    Swallowed,
    /// A body that is none.
    Malformed,
    /// A body of 2 MB.
    Huge,
    /// HTML, with a status that says nothing.
    Html,
    /// The cloud throttles.
    Throttled,
    /// A well-formed refusal.
    Denied,
    /// An event comes late.
    EventLate,
    /// An event is lost, and the watch ends at the next one.
    EventLost,
    /// An event comes twice.
    EventTwice,
    /// A watch that stays open and says nothing.
    Silence,
    /// A watch ends in good order.
    Closed,
    /// A watch breaks.
    Broken,
    /// 410 in a watch.
    Gone,
    /// The Lease is deleted by hand.
    LeaseDeleted,
    /// The Lease is edited by hand.
    LeaseEdited,
    /// The list of what happened is forgotten, as by compaction.
    Compacted,
    /// SIGTERM; besides what else strikes there.
    AskedToEnd,
}

use Kind as K;

/// What may go wrong with a request to the API server.
pub const API: &[Kind] = &[
    K::RequestLost,
    K::AnswerLost,
    K::HangBefore,
    K::HangAfter,
    K::Delay,
    K::LateAnswer,
    K::Refused,
    K::TakenAndRefused,
    K::KillBefore,
    K::KillAfter,
    K::PauseBefore,
    K::PauseAfter,
    K::Behind,
    K::Conflict,
    K::Conflict,
    K::LeaseDeleted,
    K::LeaseEdited,
    K::Compacted,
];
/// What may go wrong with a call of the cloud.
pub const CLOUD: &[Kind] = &[
    K::RequestLost,
    K::AnswerLost,
    K::HangBefore,
    K::HangAfter,
    K::Delay,
    K::LateAnswer,
    K::Refused,
    K::TakenAndRefused,
    K::KillBefore,
    K::KillAfter,
    K::PauseBefore,
    K::PauseAfter,
    K::NoConnection,
    K::LateArrival,
    K::LateExecution,
    K::Swallowed,
    K::Malformed,
    K::Huge,
    K::Html,
    K::Throttled,
    K::Denied,
];
/// What may go wrong with an event of a watch.
pub const EVENT: &[Kind] = &[K::EventLate, K::EventLost, K::EventTwice, K::Silence, K::Closed, K::Broken, K::Gone];

/// How likely faults are, in thousandths of all exchanges.
#[derive(Clone, Debug)]
pub struct Faults {
    /// The seed.
    pub seed: u64,
    /// Of requests to the API server.
    pub api: u64,
    /// Of requests for the Lease.
    pub lease: u64,
    /// Of calls of the cloud.
    pub cloud: u64,
    /// Of events.
    pub event: u64,
    /// Of exchanges of either kind: the process is asked to end.
    pub ends: u64,
    /// Only these; absent: all.
    pub only: Option<Vec<Kind>>,
    /// Left out.
    pub without: BTreeSet<Place>,
}

/// A fault and the chance that fills in its numbers.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What goes wrong.
    pub kind: Kind,
    /// Its numbers.
    pub chance: Chance,
}

impl Fault {
    /// A time between a tenth of a second and a minute, short ones more often.
    pub fn time(&mut self) -> Duration {
        let longest = self.chance.pick(&[500, 3_000, 12_000, 60_000], 500);
        Duration::from_millis(100 + self.chance.below(longest))
    }
}

impl Faults {
    fn draw(&self, place: Place, likely: u64, of: &[Kind], salt: u64) -> Option<Fault> {
        let mut chance = Chance::about(&[self.seed, salt, place.process, place.nth, place.event]);
        if chance.below(1000) >= likely || self.without.contains(&place) {
            return None;
        }
        let allowed: Vec<Kind> =
            of.iter().copied().filter(|k| self.only.as_ref().is_none_or(|only| only.contains(k))).collect();
        let kind = chance.pick(&allowed, *allowed.first()?);
        Some(Fault { kind, chance })
    }

    /// What strikes a request to the API server.
    #[must_use]
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others fit everywhere")]
    pub fn api(&self, place: Place, verb: Verb, resource: &str) -> Option<Fault> {
        let lease = resource == "leases";
        let fault = self.draw(place, if lease { self.lease } else { self.api }, API, 11)?;
        let fits = match fault.kind {
            K::Conflict => matches!(verb, Verb::Apply | Verb::JsonPatch) && resource == "dataintegrationjobs",
            K::Behind | K::Compacted => matches!(verb, Verb::List | Verb::Watch),
            K::LeaseDeleted | K::LeaseEdited => lease,
            _ => true,
        };
        fits.then_some(fault)
    }

    /// Whether its process is asked to end there.
    #[must_use]
    pub fn ends(&self, place: Place) -> bool {
        self.draw(place, self.ends, &[K::AskedToEnd], 14).is_some()
    }

    /// What strikes a call of the cloud.
    #[must_use]
    pub fn cloud(&self, place: Place) -> Option<Fault> {
        self.draw(place, self.cloud, CLOUD, 12)
    }

    /// What strikes an event.
    #[must_use]
    #[expect(clippy::wildcard_enum_match_arm, reason = "no others are drawn for events")]
    pub fn event(&self, place: Place) -> (EventFate, Option<Kind>) {
        let drawn = self.draw(place, self.event, EVENT, 13);
        let Some(mut fault) = drawn else { return (EventFate::Deliver, None) };
        let fate = match fault.kind {
            K::EventLate => EventFate::Delay(fault.time()),
            K::EventLost => EventFate::Lose,
            K::EventTwice => EventFate::Double,
            K::Silence => EventFate::Silence,
            K::Closed => EventFate::Close,
            K::Broken => EventFate::Break,
            _ => EventFate::Gone,
        };
        (fate, Some(fault.kind))
    }
}
