//! What is done to an operator, where.
//!
//! **May touch:** its arguments.

use std::fmt;

use super::exchanges::Name;
use crate::support::proxy::Moment;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// `kill -9`, and a new process (or the other replica).
    Kill,
    /// SIGTERM, and a new process (or the other replica) once it has ended.
    Term,
    /// The operator's connection is closed; what was forwarded is carried out.
    Cut,
    /// Silence, for as long as the operator waits; what was forwarded is carried out.
    Hang,
    /// Silence, and the request is forwarded when the operator has given it up.
    Late,
    /// The same, but after the operator has sent the next copy, or has come to rest without one.
    VeryLate,
}

/// All of them.
pub const FAULTS: [Fault; 6] = [Fault::Kill, Fault::Term, Fault::Cut, Fault::Hang, Fault::Late, Fault::VeryLate];

/// The moments of an exchange.
pub const MOMENTS: [Moment; 4] = [Moment::RequestSeen, Moment::Forwarded, Moment::AnswerSeen, Moment::AnswerSent];

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::Term => "term",
            Self::Cut => "cut",
            Self::Hang => "hang",
            Self::Late => "late",
            Self::VeryLate => "very late",
        })
    }
}

/// One fault at one moment of one exchange.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// The exchange.
    pub at: Name,
    /// How far it has come.
    pub moment: Moment,
    /// What happens then.
    pub fault: Fault,
}

/// How a moment is called.
pub fn word(moment: Moment) -> &'static str {
    match moment {
        Moment::RequestSeen => "not forwarded",
        Moment::Forwarded => "forwarded",
        Moment::AnswerSeen => "answer seen",
        Moment::AnswerSent => "answer sent",
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, {}", self.at, word(self.moment), self.fault)
    }
}

/// What is tried on a story without its like elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trial {
    /// Nothing goes wrong.
    Plain,
    /// One fault.
    Point(Point),
    /// Ten processes in a row, each killed: at its first, second, … exchange, or at random ones of this seed.
    Loop(Option<u64>),
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str("no fault"),
            Self::Point(point) => point.fmt(f),
            Self::Loop(None) => f.write_str("ten crashes at successive exchanges"),
            Self::Loop(Some(seed)) => write!(f, "ten crashes at random exchanges, seed {seed}"),
        }
    }
}

/// Each moment of each of these exchanges with each fault that can be made there. Held for ever or late, an exchange looks
/// to its caller the same once it was forwarded, so that is tried where the answer is seen; after the answer has been
/// sent, nothing is left to hold.
pub fn points(names: &[Name]) -> Vec<Point> {
    let here = |at: &Name, moment: Moment, fault: Fault| match fault {
        Fault::Kill | Fault::Term => true,
        Fault::Cut => moment != Moment::AnswerSent,
        Fault::Hang => matches!(moment, Moment::RequestSeen | Moment::AnswerSeen),
        Fault::Late => moment == Moment::RequestSeen,
        Fault::VeryLate => moment == Moment::RequestSeen && at.class == "StartDIJob",
    };
    let all = names.iter().flat_map(|at| FAULTS.map(|fault| MOMENTS.map(|moment| (at, moment, fault)))).flatten();
    all.filter(|(at, moment, fault)| here(at, *moment, *fault))
        // A watch has no answer that ends, and nothing but its start and its silence can be lost.
        .filter(|(at, moment, _)| !at.class.starts_with("WATCH") || *moment != Moment::AnswerSent)
        .map(|(at, moment, fault)| Point { at: at.clone(), moment, fault })
        .collect()
}

/// The exchanges of a story that faults are tried at: all, but of the Lease and the watches the first ones of each class.
pub fn chosen(names: &[Name]) -> Vec<Name> {
    names.iter().filter(|name| !name.is_apart() || name.nth <= 2).cloned().collect()
}
