//! Lanes, and fair turns inside them: namespaces in a ring, oldest first within one.
//!
//! **May touch:** its arguments, like all of this module.
//!
//! **Guarantees**
//! 1. A namespace waits for at most one call of each other namespace between two turns of its own, however many wait
//!    there (deficit round robin, with a quantum of one call and calls of one size).
//! 2. Order depends on the order of asking alone: no hash, no clock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What a call counts as in the cloud's quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// `GetDIJob`, `ListDIJobs`.
    Read,
    /// `StartDIJob`, `StopDIJob`.
    Write,
}

/// What a turn is for. The earlier lane goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// A start or a stop.
    Start,
    /// A read that a start needs, before or after it.
    Look,
    /// A routine read.
    Sweep,
}

impl Lane {
    /// All lanes, in their precedence.
    pub const ALL: [Self; 3] = [Self::Start, Self::Look, Self::Sweep];

    /// What the calls of this lane count as.
    #[must_use]
    pub fn class(self) -> Class {
        match self {
            Self::Start => Class::Write,
            Self::Look | Self::Sweep => Class::Read,
        }
    }
}

/// A waiter's place in its namespace: older is smaller.
pub(super) type Ticket = i64;

/// Those who wait in one lane.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    /// Exactly the namespaces of `waiting`, next one first.
    ring: VecDeque<Arc<str>>,
    /// Per namespace its waiters, by ticket; never empty.
    waiting: BTreeMap<Arc<str>, VecDeque<(Ticket, Arc<str>)>>,
    len: usize,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn of(&mut self, namespace: &Arc<str>) -> &mut VecDeque<(Ticket, Arc<str>)> {
        if !self.waiting.contains_key(namespace) {
            self.ring.push_back(Arc::clone(namespace));
        }
        self.waiting.entry(Arc::clone(namespace)).or_default()
    }

    /// Last of its namespace.
    pub(super) fn push_back(&mut self, namespace: &Arc<str>, uid: Arc<str>) -> Ticket {
        let waiting = self.of(namespace);
        let ticket = waiting.back().map_or(0, |(last, _)| last + 1);
        waiting.push_back((ticket, uid));
        self.len += 1;
        ticket
    }

    /// First of its namespace, whose turn is next.
    pub(super) fn push_front(&mut self, namespace: &Arc<str>, uid: Arc<str>) -> Ticket {
        let waiting = self.of(namespace);
        let ticket = waiting.front().map_or(0, |(first, _)| first - 1);
        waiting.push_front((ticket, uid));
        self.len += 1;
        self.ring.retain(|name| name != namespace);
        self.ring.push_front(Arc::clone(namespace));
        ticket
    }

    /// Whose turn it is; its namespace goes to the end of the ring.
    pub(super) fn pop(&mut self) -> Option<Arc<str>> {
        let namespace = self.ring.pop_front()?;
        let waiting = self.waiting.get_mut(&namespace)?;
        let (_, uid) = waiting.pop_front()?;
        self.len -= 1;
        if waiting.is_empty() {
            self.waiting.remove(&namespace);
        } else {
            self.ring.push_back(namespace);
        }
        Some(uid)
    }

    pub(super) fn remove(&mut self, namespace: &Arc<str>, ticket: Ticket) {
        let Some(waiting) = self.waiting.get_mut(namespace) else { return };
        let Ok(index) = waiting.binary_search_by_key(&ticket, |(ticket, _)| *ticket) else { return };
        waiting.remove(index);
        self.len -= 1;
        if waiting.is_empty() {
            self.waiting.remove(namespace);
            self.ring.retain(|name| name != namespace);
        }
    }

    /// How many turns of this lane come before that of a waiter, if nobody comes or goes.
    pub(super) fn ahead_of(&self, namespace: &Arc<str>, ticket: Ticket) -> usize {
        let index = |waiting: &VecDeque<(Ticket, Arc<str>)>| waiting.partition_point(|(older, _)| *older < ticket);
        let own = self.waiting.get(namespace).map_or(0, index);
        let mut rounds = own + 1; // of the namespaces before ours in the ring; one less of those after it
        let mut ahead = own;
        for name in &self.ring {
            if name == namespace {
                rounds = own;
            } else {
                ahead += self.waiting.get(name).map_or(0, |waiting| waiting.len().min(rounds));
            }
        }
        ahead
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    type Waiting = (Arc<str>, Ticket, Arc<str>);

    fn queue(waiters: &str) -> (Queue, Vec<Waiting>) {
        let mut queue = Queue::default();
        let places = waiters.split_whitespace().map(|uid| {
            let (namespace, uid): (Arc<str>, Arc<str>) = (Arc::from(&uid[..1]), Arc::from(uid));
            (Arc::clone(&namespace), queue.push_back(&namespace, Arc::clone(&uid)), uid)
        });
        let places = places.collect();
        (queue, places)
    }

    fn order(mut queue: Queue) -> String {
        let turns: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!((queue.len(), queue.ring.len(), queue.waiting.len()), (0, 0, 0));
        turns.join(" ")
    }

    #[test]
    fn namespaces_take_turns_and_the_oldest_of_each_goes_first() {
        assert_eq!(order(queue("a1 a2 a3 b1 c1 c2").0), "a1 b1 c1 a2 c2 a3");
    }

    #[test]
    fn the_front_is_that_of_the_namespace_and_of_the_ring() {
        let (mut queue, _) = queue("a1 a2 b1 b2");
        queue.push_front(&Arc::from("b"), Arc::from("b0"));
        assert_eq!(order(queue), "b0 a1 b1 a2 b2");
    }

    #[test]
    fn the_front_is_a_place_of_its_own() {
        let (mut queue, places) = queue("a1 a2");
        let (namespace, first, _) = places.first().unwrap();
        let front = queue.push_front(namespace, Arc::from("a0"));
        assert_eq!((queue.ahead_of(namespace, front), queue.ahead_of(namespace, *first)), (0, 1));
        queue.remove(namespace, front);
        assert_eq!(order(queue), "a1 a2");
    }

    #[test]
    fn whoever_leaves_delays_nobody() {
        let (mut queue, places) = queue("a1 a2 a3 b1 c1");
        for gone in [1, 3] {
            let (namespace, ticket, _) = places.get(gone).unwrap();
            queue.remove(namespace, *ticket);
            queue.remove(namespace, *ticket);
        }
        assert_eq!(order(queue), "a1 c1 a3");
    }

    #[test]
    fn the_position_told_is_the_number_of_turns_before() {
        let (mut queue, places) = queue("a1 a2 a3 a4 b1 c1 c2 d1 d2 d3 b2");
        queue.pop();
        queue.pop();
        let turns = order(queue.clone());
        for (namespace, ticket, uid) in &places {
            if let Some(turn) = turns.split(' ').position(|turn| turn == &**uid) {
                assert_eq!(queue.ahead_of(namespace, *ticket), turn, "{uid} in {turns}");
            }
        }
    }
}
