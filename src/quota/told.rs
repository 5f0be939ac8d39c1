//! What there is to tell of a budget and of those who wait for it.
//!
//! **May touch:** its arguments, like all of this module.

use std::time::Duration;

use super::bucket::Day;
use super::lane::{Class, Lane};
use super::rate::Hold;
use super::{Governor, Moment};

/// Where a waiter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How many turns come before its own; 0: it is next.
    pub position: usize,
    /// The wait, if nobody comes or goes and the pace stays as it is.
    pub expected_wait: Duration,
    /// Whether the whole lane is held back.
    pub held: Option<Hold>,
    /// How long the cloud has refused every call of the budget for its rate; zero: it took the last one.
    pub refused_for: Duration,
}

/// What there is to tell of a budget.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// The pace of reads, per second.
    pub reads_per_second: f64,
    /// The pace of writes, per second.
    pub writes_per_second: f64,
    /// Calls of this day of UTC+8, granted and not given back.
    pub used_today: u32,
    /// Calls left today; absent: no limit.
    pub left_today: Option<u32>,
    /// Calls of this day that are counted by those who keep the count, be they made or not.
    pub counted_today: u32,
    /// Whether starts are held back.
    pub held: Option<Hold>,
    /// How many wait for a turn.
    pub waiting: usize,
}

impl Governor {
    /// Where a waiter stands; absent: it does not wait.
    #[must_use]
    pub fn standing(&self, uid: &str, now: Moment) -> Option<Standing> {
        let place = self.places.get(uid)?;
        let class = place.lane.class();
        let shared = |lane: &Lane| {
            let limited = self.buckets.iter().filter(|bucket| bucket.rate.is_limited());
            limited.filter(|bucket| bucket.covers(class)).any(|bucket| bucket.covers(lane.class()))
        };
        let before = self.queues.iter().filter(|(lane, _)| **lane < place.lane && shared(lane));
        let own = self.queues.get(&place.lane).map_or(0, |queue| queue.ahead_of(&place.namespace, place.ticket));
        let position = before.map(|(_, queue)| queue.len()).sum::<usize>() + own;

        let turns = u32::try_from(position).unwrap_or(u32::MAX);
        let free = self.free_at(place.lane, now).saturating_sub(now.mono);
        let mut expected_wait = free.saturating_add(self.interval(class, now).saturating_mul(turns));
        if let Some(over) = self.day.left(place.lane, now.wall).and_then(|left| turns.checked_sub(left)) {
            let days = over.checked_div(self.day.limit.unwrap_or_default()).unwrap_or_default();
            let turn = Day::until_turn(now.wall).saturating_add(Day::LENGTH.saturating_mul(days));
            expected_wait = expected_wait.max(turn);
        }
        let refused_for = self.refused_since.map_or(Duration::ZERO, |since| now.mono.saturating_sub(since));
        Some(Standing { position, expected_wait, held: self.held(place.lane, now), refused_for })
    }

    /// What there is to tell of this budget.
    #[must_use]
    pub fn usage(&self, now: Moment) -> Usage {
        Usage {
            reads_per_second: self.interval(Class::Read, now).as_secs_f64().recip(),
            writes_per_second: self.interval(Class::Write, now).as_secs_f64().recip(),
            used_today: self.day.used(now.wall),
            left_today: self.day.left(Lane::Start, now.wall),
            counted_today: self.counted_today(now),
            held: self.held(Lane::Start, now),
            waiting: self.places.len(),
        }
    }
}
