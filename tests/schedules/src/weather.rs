//! Times in which the API server, or the way to it, is not well: written down by a test, not drawn from the seed.
//!
//! **May touch:** the world.

use std::time::Duration;

use api_server::{EventFate, RequestInfo, Route, Then, Verb, View, WatchInfo};

use crate::process::Process;
use crate::world::{World, lock};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ill {
    /// Connections are refused, and those that are open break.
    Refuses,
    /// Nothing comes back, not even on connections that outlive it: a firewall has forgotten them.
    Silent,
    /// This status instead of an answer, and watches end.
    Answers(u16),
    /// Carried out, and this status all the same.
    TakesAndAnswers(u16),
    /// So much later.
    Slow(Duration),
    /// One byte of an answer at a time, so far apart.
    Trickles(Duration),
    /// Lists and watches show the world as it was so many versions ago.
    Past(u64),
}

/// Which requests it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// All.
    All,
    /// Lists and watches.
    Views,
    /// Lists and watches of jobs.
    Jobs,
    /// Writes of the status of a job.
    StatusWrites,
    /// Writes of the status of an account.
    AccountWrites,
    /// Those in this namespace.
    Namespace(&'static str),
}

/// A time in which something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spell {
    /// From then on.
    pub from: Duration,
    /// Until then.
    pub until: Duration,
    /// What.
    pub ill: Ill,
    /// Which requests.
    pub of: Of,
}

/// A request to the API server, as a scripted schedule keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// When, since the beginning.
    pub at: Duration,
    /// By which process.
    pub process: u64,
    /// What it wants.
    pub verb: Verb,
    /// `dataintegrationjobs/status`.
    pub resource: String,
    /// Of which object.
    pub object: (String, String),
}

impl Spell {
    fn is_on(&self, now: Duration) -> bool {
        (self.from..self.until).contains(&now)
    }

    fn is_about(&self, verb: Verb, (resource, subresource): (&str, &str), namespace: &str) -> bool {
        match self.of {
            Of::All => true,
            Of::Views => matches!(verb, Verb::List | Verb::Watch),
            Of::Jobs => matches!(verb, Verb::List | Verb::Watch) && resource == "dataintegrationjobs",
            Of::StatusWrites => verb.writes() && (resource, subresource) == ("dataintegrationjobs", "status"),
            Of::AccountWrites => verb.writes() && (resource, subresource) == ("dataworksaccounts", "status"),
            Of::Namespace(name) => name == namespace,
        }
    }

    fn is_about_watches(&self) -> bool {
        self.is_about(Verb::Watch, ("dataintegrationjobs", ""), "")
    }
}

impl World {
    /// Notes a request of a scripted schedule; what the weather makes of it.
    pub(crate) fn in_weather(&self, process: &Process, info: &RequestInfo) -> Option<Route> {
        if !self.schedule.scripted {
            return None;
        }
        let at = self.elapsed();
        let mut notes = lock(&self.notes);
        let resource = format!("{}/{}", info.resource, info.subresource).trim_end_matches('/').to_owned();
        let object = (info.namespace.clone(), info.name.clone());
        notes.asked.push(Asked { at, process: process.number, verb: info.verb, resource, object });
        if info.verb == Verb::Watch {
            notes.opened.insert((process.number, info.nth), at);
        }
        drop(notes);
        let what = (info.resource.as_str(), info.subresource.as_str());
        let mut spells = self.schedule.spells.iter().filter(|s| s.is_on(at) && !info.dry_run);
        let spell = spells.find(|s| s.is_about(info.verb, what, &info.namespace))?;
        let then = match spell.ill {
            Ill::Refuses => Then::LoseRequest,
            Ill::Silent => Then::HangBefore,
            Ill::Answers(code) => Then::Refuse(code),
            Ill::TakesAndAnswers(code) => Then::TakeThenRefuse(code),
            Ill::Slow(time) => return Some(Route { before: time, ..Route::default() }),
            Ill::Past(versions) => return Some(Route { view: View::Behind(versions), ..Route::default() }),
            Ill::Trickles(_) => return None,
        };
        Some(Route { then, ..Route::default() })
    }

    /// What the weather makes of an event.
    pub(crate) fn event_in_weather(&self, process: &Process, info: &WatchInfo) -> EventFate {
        let now = self.elapsed();
        let opened = lock(&self.notes).opened.get(&(process.number, info.request)).copied().unwrap_or_default();
        let lived_through = |s: &&Spell| s.is_about_watches() && s.from <= now && s.until > opened;
        for spell in self.schedule.spells.iter().filter(lived_through) {
            match spell.ill {
                Ill::Silent => return EventFate::Silence,
                Ill::Refuses | Ill::Answers(_) if spell.is_on(now) => return EventFate::Break,
                Ill::Slow(time) if spell.is_on(now) => return EventFate::Delay(time),
                Ill::Refuses
                | Ill::Answers(_)
                | Ill::TakesAndAnswers(_)
                | Ill::Slow(_)
                | Ill::Trickles(_)
                | Ill::Past(_) => {}
            }
        }
        EventFate::Deliver
    }

    /// How far apart the bytes of an answer come, if they do not come at once.
    pub(crate) fn trickle(&self, path: &str) -> Option<Duration> {
        let now = self.elapsed();
        self.schedule.spells.iter().filter(|s| s.is_on(now)).find_map(|s| {
            let namespace = path.split("/namespaces/").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or("");
            let here = s.of == Of::All || matches!(s.of, Of::Namespace(name) if name == namespace);
            if let (Ill::Trickles(time), true) = (s.ill, here) { Some(time) } else { None }
        })
    }

    /// Connections break where a spell begins that refuses them, or shows the past.
    pub(crate) async fn break_connections(self: std::sync::Arc<Self>) {
        let mut from: Vec<Duration> =
            self.schedule.spells.iter().filter(|s| s.ends_watches()).map(|s| s.from).collect();
        from.sort_unstable();
        for at in from {
            crate::play::wait(at.saturating_sub(self.elapsed())).await;
            self.api.end_watches();
        }
    }
}

impl Spell {
    fn ends_watches(&self) -> bool {
        matches!(self.ill, Ill::Refuses | Ill::Answers(_) | Ill::Past(_)) && self.is_about_watches()
    }
}
