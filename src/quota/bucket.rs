//! The budgets: one of calls per second for reads, writes or both, and one of calls per day.
//!
//! **May touch:** its arguments, like all of this module.
//!
//! **Guarantees**
//! 1. Slots come from the schedule: a late wake-up costs no pace, idle time saves up nothing.
//! 2. No more permits than the limit allows in one second occupy a window at any time; a permit occupies it from its
//!    grant until a second after its call arrived, as the end of its round trip tells, and never less than a second
//!    after it was sent. So no second sees more calls sent than the limit, however long a call lay between grant and
//!    wire. When they arrive is a guess: jitter may bring one or two more into a second of the cloud, and a call that
//!    travels for more than a second escapes this count.
//! 3. The day turns at midnight UTC+8. Calls under way at that time count for both days.

use std::time::Duration;

use jiff::Timestamp;

use super::lane::{Class, Lane};
use super::rate::Rate;

/// The cloud's second. A call occupies the window this long after its arrival.
pub(super) const WINDOW: Duration = Duration::from_secs(1);
/// The longest that a call is taken to travel to the cloud.
pub(super) const TRAVEL: Duration = Duration::from_secs(1);
/// How long a permit may go unused: longer than a pass needs between its turn and its call, so that only a lost permit
/// is taken back.
pub(super) const UNUSED: Duration = Duration::from_secs(20);
/// Milliseconds of a day, and of the cloud's distance from UTC.
const DAY: i64 = 86_400_000;
const OFFSET: i64 = 8 * 3_600_000;

/// One of so many calls of a day is kept from sweeps.
const RESERVE: u32 = 10;

/// The limits of one budget. Calls per second; a value that is not positive counts as very low.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Reads per second.
    pub reads_per_second: f64,
    /// Writes per second.
    pub writes_per_second: f64,
    /// Reads and writes per second together; absent: each has its own limit only.
    pub total_per_second: Option<f64>,
    /// Calls per day of UTC+8, refused and failed ones included; absent: no limit.
    pub calls_per_day: Option<u32>,
}

impl Limits {
    /// Reads and writes draw on one limit, as in the editions Basic, Standard and Professional.
    #[must_use]
    pub fn shared(per_second: f64, calls_per_day: Option<u32>) -> Self {
        let (reads_per_second, writes_per_second) = (per_second, per_second);
        Self { reads_per_second, writes_per_second, total_per_second: Some(per_second), calls_per_day }
    }

    /// Reads and writes have a limit each, as in the edition Enterprise.
    #[must_use]
    pub fn split(reads_per_second: f64, writes_per_second: f64) -> Self {
        Self { reads_per_second, writes_per_second, total_per_second: None, calls_per_day: None }
    }

    /// The lower of two, limit by limit: accounts that share a budget may state different ones.
    #[must_use]
    pub fn lowest(self, other: Self) -> Self {
        let both = self.total_per_second.zip(other.total_per_second).map(|(ours, theirs)| ours.min(theirs));
        Self {
            reads_per_second: self.reads_per_second.min(other.reads_per_second),
            writes_per_second: self.writes_per_second.min(other.writes_per_second),
            total_per_second: both.or(self.total_per_second).or(other.total_per_second),
            calls_per_day: self.calls_per_day.into_iter().chain(other.calls_per_day).min(),
        }
    }

    /// Per second: of reads, of writes, of both together.
    pub(super) fn per_second(self) -> [f64; 3] {
        [self.reads_per_second, self.writes_per_second, self.total_per_second.unwrap_or(f64::INFINITY)]
    }
}

/// A limit of calls per second: its pace and the next slot of its schedule.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    /// The calls that draw on it; absent: all.
    class: Option<Class>,
    pub(super) rate: Rate,
    next: Duration,
}

impl Bucket {
    pub(super) fn new(class: Option<Class>, limit: f64) -> Self {
        Self { class, rate: Rate::new(limit), next: Duration::ZERO }
    }

    /// Whether calls of this class draw on it.
    pub(super) fn covers(&self, class: Class) -> bool {
        self.class.is_none_or(|own| own == class)
    }

    /// Nothing is due before `at`.
    pub(super) fn not_before(&mut self, at: Duration) {
        self.next = self.next.max(at);
    }

    /// Takes the slot that is due. A slot missed by up to one interval still counts from when it was due.
    pub(super) fn take(&mut self, now: Duration) {
        let interval = self.rate.interval(now);
        self.next = self.next.max(now.saturating_sub(interval)) + interval;
    }

    /// A slot was taken for a call that was never made.
    pub(super) fn refund(&mut self, now: Duration) {
        self.next = self.next.saturating_sub(self.rate.interval(now));
    }

    pub(super) fn refused(&mut self, now: Duration) {
        self.rate.refused(now);
        self.not_before(now + self.rate.interval(now));
    }

    /// When a call may be granted, if permits occupy the window until `ends`.
    pub(super) fn due(&self, mut ends: Vec<Duration>) -> Duration {
        ends.sort_unstable();
        let full = ends.len().checked_sub(self.rate.window());
        full.and_then(|over| ends.get(over)).map_or(self.next, |end| self.next.max(*end))
    }
}

/// The day's count of calls.
#[derive(Clone, Debug)]
pub(super) struct Day {
    pub(super) limit: Option<u32>,
    number: i64,
    used: u32,
}

impl Day {
    pub(super) const LENGTH: Duration = Duration::from_millis(DAY.unsigned_abs());

    pub(super) fn new(limit: Option<u32>) -> Self {
        Self { limit, number: i64::MIN, used: 0 }
    }

    /// Which day of the cloud `wall` falls on.
    pub(super) fn number(wall: Timestamp) -> i64 {
        (wall.as_millisecond() + OFFSET).div_euclid(DAY)
    }

    /// The day that calls are counted on.
    pub(super) fn current(&self) -> i64 {
        self.number
    }

    /// Time since the day began.
    pub(super) fn since_turn(wall: Timestamp) -> Duration {
        let since = (wall.as_millisecond() + OFFSET).rem_euclid(DAY);
        Duration::from_millis(u64::try_from(since).unwrap_or_default())
    }

    /// Time until the day ends, never too short.
    pub(super) fn until_turn(wall: Timestamp) -> Duration {
        Self::LENGTH.saturating_sub(Self::since_turn(wall))
    }

    /// Begins a new day if one has come; `under_way` calls may arrive in it.
    pub(super) fn turn(&mut self, wall: Timestamp, under_way: usize) {
        let number = Self::number(wall);
        if number > self.number {
            self.number = number;
            self.used = u32::try_from(under_way).unwrap_or(u32::MAX);
        }
    }

    pub(super) fn take(&mut self) {
        self.used = self.used.saturating_add(1);
    }

    pub(super) fn refund(&mut self) {
        self.used = self.used.saturating_sub(1);
    }

    /// At least so many calls were made today.
    pub(super) fn at_least(&mut self, used: u32) {
        self.used = self.used.max(used);
    }

    pub(super) fn used(&self, wall: Timestamp) -> u32 {
        if Self::number(wall) > self.number { 0 } else { self.used }
    }

    /// What a lane may still use; absent: no limit.
    pub(super) fn left(&self, lane: Lane, wall: Timestamp) -> Option<u32> {
        let kept = |limit: u32| if lane == Lane::Sweep { limit.div_ceil(RESERVE) } else { 0 };
        self.limit.map(|limit| limit.saturating_sub(kept(limit)).saturating_sub(self.used(wall)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn wall(text: &str) -> Timestamp {
        text.parse().unwrap_or_default()
    }

    #[test]
    fn a_late_wake_up_costs_no_pace() {
        let mut bucket = Bucket::new(None, 1.0 / 0.97);
        bucket.not_before(at(10_000));
        bucket.take(at(10_400));
        assert_eq!(bucket.due(vec![]), at(11_000));
        bucket.take(at(11_900));
        assert_eq!(bucket.due(vec![]), at(12_000));
    }

    #[test]
    fn a_very_late_wake_up_saves_up_one_call() {
        let mut bucket = Bucket::new(None, 1.0 / 0.97);
        bucket.take(at(60_000));
        assert_eq!(bucket.due(vec![]), at(60_000));
        bucket.take(at(60_000));
        assert_eq!(bucket.due(vec![]), at(61_000));
    }

    #[test]
    fn a_full_window_is_due_when_enough_permits_end() {
        let bucket = Bucket::new(None, 2.0);
        assert_eq!(bucket.due(vec![at(900)]), at(0));
        assert_eq!(bucket.due(vec![at(900), at(700)]), at(700));
        assert_eq!(bucket.due(vec![at(900), at(700), at(800)]), at(800));
    }

    #[test]
    fn the_day_turns_at_midnight_of_utc_plus_8() {
        let (evening, night) = (wall("2026-11-24T15:59:59.999Z"), wall("2026-11-24T16:00:00Z"));
        assert_eq!(Day::number(evening) + 1, Day::number(night));
        assert_eq!(Day::until_turn(evening), at(1));
        assert_eq!(Day::until_turn(night), at(86_400_000));
        assert_eq!(Day::since_turn(night), Duration::ZERO);
    }

    #[test]
    fn calls_under_way_count_for_the_new_day_too() {
        let mut day = Day::new(None);
        day.turn(wall("2026-11-24T15:59:59Z"), 0);
        for _ in 0..9 {
            day.take();
        }
        day.turn(wall("2026-11-24T15:59:59.9Z"), 2);
        assert_eq!(day.used(wall("2026-11-24T15:59:59.9Z")), 9);
        assert_eq!(day.used(wall("2026-11-24T16:00:00Z")), 0);
        day.turn(wall("2026-11-24T16:00:00Z"), 2);
        assert_eq!(day.used(wall("2026-11-24T16:00:00Z")), 2);
    }

    #[test]
    fn a_wall_clock_that_goes_back_refills_no_day() {
        let mut day = Day::new(None);
        day.turn(wall("2026-11-24T16:00:01Z"), 0);
        day.at_least(50);
        day.turn(wall("2026-11-24T15:00:00Z"), 0);
        assert_eq!(day.used(wall("2026-11-24T15:00:00Z")), 50);
    }
}
