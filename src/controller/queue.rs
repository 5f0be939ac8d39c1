//! Which object is passed next: an ordered queue of our own.
//!
//! kube's scheduler and runner are hash maps: with a limit on concurrency 1,717 of 5,000 objects never ran in 40 s, and
//! the order differs from run to run. This one is ordered by time, then by arrival.
//!
//! **Guarantees** 1. One place per object; an earlier time wins. 2. An object never runs twice at a time; what arrives
//! while it runs runs it once more afterwards. 3. First due, first served.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// The queue. Times are monotonic.
#[derive(Debug, Default)]
pub struct Queue {
    due: BTreeSet<(Duration, u64, ObjectKey)>,
    places: BTreeMap<ObjectKey, (Duration, u64)>,
    running: BTreeMap<ObjectKey, bool>,
    arrivals: u64,
}

impl Queue {
    /// The object is to run at `at`, or at the time already set if that is earlier.
    pub fn add(&mut self, key: &ObjectKey, at: Duration) {
        if let Some((set, arrival)) = self.places.get(key).copied() {
            if set <= at {
                return;
            }
            self.due.remove(&(set, arrival, key.clone()));
        }
        self.arrivals += 1;
        self.places.insert(key.clone(), (at, self.arrivals));
        self.due.insert((at, self.arrivals, key.clone()));
    }

    /// Something about the object changed: it runs now, or once more if it is running.
    pub fn changed(&mut self, key: &ObjectKey, now: Duration) {
        self.later(key, now);
    }

    /// The object is to run at `at` if it does not before; once more after its run, if it is running.
    pub fn later(&mut self, key: &ObjectKey, at: Duration) {
        match self.running.get_mut(key) {
            Some(again) => *again = true,
            None => self.add(key, at),
        }
    }

    /// The next object that is due, which now counts as running.
    pub fn pop(&mut self, now: Duration) -> Option<ObjectKey> {
        let (at, _, _) = self.due.first()?;
        if *at > now {
            return None;
        }
        let (_, _, key) = self.due.pop_first()?;
        self.places.remove(&key);
        self.running.insert(key.clone(), false);
        Some(key)
    }

    /// The object's run has ended; it runs again at `next` if that is given, at once if it changed meanwhile.
    pub fn done(&mut self, key: &ObjectKey, next: Option<Duration>, now: Duration) {
        let changed = self.running.remove(key).unwrap_or(false);
        match (changed, next) {
            (true, _) => self.add(key, now),
            (false, Some(at)) => self.add(key, at),
            (false, None) => {}
        }
    }

    /// The object is gone.
    pub fn remove(&mut self, key: &ObjectKey) {
        if let Some((at, arrival)) = self.places.remove(key) {
            self.due.remove(&(at, arrival, key.clone()));
        }
    }

    /// When the next object is due.
    #[must_use]
    pub fn next_at(&self) -> Option<Duration> {
        self.due.first().map(|(at, _, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey { namespace: "team".to_owned(), name: name.to_owned() }
    }

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_object_has_one_place_and_the_earlier_time_wins() {
        let mut queue = Queue::default();
        queue.add(&key("a"), s(5));
        queue.add(&key("a"), s(9));
        queue.add(&key("b"), s(3));
        queue.add(&key("a"), s(2));
        assert_eq!(queue.next_at(), Some(s(2)));
        assert_eq!(queue.pop(s(1)), None);
        assert_eq!(queue.pop(s(9)), Some(key("a")));
        assert_eq!(queue.pop(s(9)), Some(key("b")));
        assert_eq!(queue.pop(s(9)), None);
    }

    #[test]
    fn a_change_during_a_run_runs_it_once_more_and_its_own_wait_is_dropped() {
        let mut queue = Queue::default();
        queue.changed(&key("a"), s(0));
        assert_eq!(queue.pop(s(0)), Some(key("a")));
        queue.changed(&key("a"), s(0));
        queue.changed(&key("a"), s(0));
        assert_eq!(queue.pop(s(0)), None);
        queue.done(&key("a"), Some(s(60)), s(1));
        assert_eq!(queue.pop(s(1)), Some(key("a")));
        queue.done(&key("a"), Some(s(60)), s(1));
        assert_eq!(queue.next_at(), Some(s(60)));
        queue.remove(&key("a"));
        assert_eq!(queue.next_at(), None);
    }
}
