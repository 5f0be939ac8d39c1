//! Rate limits: windows of one second, and the calls of a day.
//!
//! **May touch:** its arguments; time is passed in.
//!
//! **Guarantees**
//! 1. Exact: whole nanoseconds, no floating point, so a test can name the very call that is refused.
//! 2. No more calls are admitted than the limit, in the meaning of the window in force.
//! 3. The window and the limits may change between any two calls.
//!
//! Numbers: API page 4.1. The kind of window is not documented; hence the switch.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::answer::{Hint, Refusal};

const SECOND: i128 = 1_000_000_000;

/// How calls per second are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Window {
    /// Whole seconds of the server's clock.
    #[default]
    FixedSecond,
    /// Any second: the calls of the last 1,000 ms.
    SlidingLog,
    /// A bucket that holds [`Limits::burst`] calls and refills at the limit's pace.
    TokenBucket,
}

/// Calls per second of one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Rate {
    /// No limit.
    Unlimited,
    /// One limit over all calls.
    Total(u32),
    /// Reads and writes are limited apart.
    #[serde(rename_all = "camelCase")]
    Split {
        /// Reads a second.
        reads: u32,
        /// Writes a second.
        writes: u32,
    },
}

/// When the count of the day begins anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DayTurn {
    /// Midnight of UTC+8. A guess: the vendor's local time.
    #[default]
    UtcPlus8,
    /// Midnight UTC.
    Utc,
    /// Never: the last 24 hours count.
    Rolling,
}

impl DayTurn {
    /// The number of the day that `at` belongs to. None: there are no days.
    #[must_use]
    pub fn day(self, at: Timestamp) -> Option<i64> {
        let offset = match self {
            Self::UtcPlus8 => 8 * 3600,
            Self::Utc => 0,
            Self::Rolling => return None,
        };
        Some((at.as_second() + offset).div_euclid(86_400))
    }
}

/// The calls of one account on its day. A switch to another turn begins a new count.
#[derive(Clone, Debug, Default)]
pub struct Day {
    today: Option<i64>,
    calls: u32,
    /// Calls of the last 24 hours, where those count.
    log: VecDeque<Timestamp>,
}

impl Day {
    /// Counts one call at `now`, and tells how many there were with it.
    pub fn count(&mut self, now: Timestamp, turn: DayTurn) -> u32 {
        let today = turn.day(now);
        let is_same = self.today.is_some() && self.today == today;
        self.calls = if is_same { self.calls.saturating_add(1) } else { 1 };
        self.today = today;
        if today.is_some() {
            self.log.clear();
            return self.calls;
        }
        while self.log.front().is_some_and(|at| now.duration_since(*at) >= SignedDuration::from_hours(24)) {
            self.log.pop_front();
        }
        self.log.push_back(now);
        u32::try_from(self.log.len()).unwrap_or(u32::MAX)
    }
}

/// The limits of one account, and what a call beyond them is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Limits {
    /// Calls per second.
    pub rate: Rate,
    /// How they are counted.
    pub window: Window,
    /// Size of the token bucket; absent: as large as the limit.
    pub burst: Option<u32>,
    /// Whether a call that the window refuses counts in it.
    pub refused_count: bool,
    /// Calls a day, failed ones included; absent: no limit.
    pub per_day: Option<u32>,
    /// When the day turns.
    pub day_turn: DayTurn,
    /// Answer beyond the rate.
    pub refusal: Refusal,
    /// Answer beyond the day's calls.
    pub day_refusal: Refusal,
    /// Headers about waiting that come with `refusal`.
    pub hint: Hint,
}

impl Default for Limits {
    fn default() -> Self {
        Self::enterprise()
    }
}

impl Limits {
    /// Enterprise edition: 50 reads and 20 writes a second.
    #[must_use]
    pub fn enterprise() -> Self {
        Self {
            rate: Rate::Split { reads: 50, writes: 20 },
            window: Window::FixedSecond,
            burst: None,
            refused_count: false,
            per_day: None,
            day_turn: DayTurn::UtcPlus8,
            refusal: Refusal::of("Throttling.Api"),
            day_refusal: Refusal::of("Throttling.User")
                .with_message("Request was denied due to user flow control: the daily limit is exceeded."),
            hint: Hint::RetryAfter(None),
        }
    }

    /// Basic edition: 5 calls a second in all, 100 a day.
    #[must_use]
    pub fn basic() -> Self {
        Self { rate: Rate::Total(5), per_day: Some(100), ..Self::enterprise() }
    }

    /// No limit at all.
    #[must_use]
    pub fn unlimited() -> Self {
        Self { rate: Rate::Unlimited, ..Self::enterprise() }
    }

    /// The class that a call belongs to and its limit a second. None: unlimited.
    #[must_use]
    pub fn class(&self, is_write: bool) -> Option<(&'static str, u32)> {
        match (self.rate, is_write) {
            (Rate::Unlimited, _) => None,
            (Rate::Total(limit), _) => Some(("all", limit)),
            (Rate::Split { writes, .. }, true) => Some(("write", writes)),
            (Rate::Split { reads, .. }, false) => Some(("read", reads)),
        }
    }
}

/// What the window says to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Whether the call may pass.
    pub is_admitted: bool,
    /// Calls that count in the window now, this one included if it counts.
    pub count: u32,
    /// How long until a call would pass, if no other comes; zero if this one passed.
    pub wait: SignedDuration,
}

/// The calls of one account in one class.
#[derive(Clone, Debug, Default)]
pub struct Throttle {
    log: VecDeque<i128>,
    /// Billionths of a call that the bucket holds, and when that was so. None: full.
    bucket: Option<(i128, i128)>,
}

impl Throttle {
    /// Counts one call at `now` against `limit` a second.
    pub fn call(&mut self, now: Timestamp, limit: u32, limits: &Limits) -> Turn {
        let now = now.as_nanosecond();
        while self.log.front().is_some_and(|at| now - at >= SECOND) {
            self.log.pop_front();
        }
        let turn = match limits.window {
            Window::FixedSecond => self.fixed(now, limit, limits.refused_count),
            Window::SlidingLog => self.sliding(now, limit, limits.refused_count),
            Window::TokenBucket => self.bucket(now, limit, limits),
        };
        // The log is kept under a bucket too: the window may be switched between two calls.
        if turn.is_admitted || limits.refused_count {
            self.log.push_back(now);
        }
        turn
    }

    fn fixed(&self, now: i128, limit: u32, refused_count: bool) -> Turn {
        let start = now.div_euclid(SECOND) * SECOND;
        let before = self.log.iter().filter(|at| **at >= start).count();
        turn(before, limit, refused_count, start + SECOND - now)
    }

    fn sliding(&self, now: i128, limit: u32, refused_count: bool) -> Turn {
        let before = self.log.len();
        // The call that must leave the window first; a refused call that counts is itself in the way.
        let in_the_way =
            (before + usize::from(refused_count)).saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
        let wait = self.log.get(in_the_way).map_or(SECOND, |at| at + SECOND - now);
        turn(before, limit, refused_count, wait)
    }

    fn bucket(&mut self, now: i128, limit: u32, limits: &Limits) -> Turn {
        let size = i128::from(limits.burst.unwrap_or(limit)) * SECOND;
        let level = self.bucket.map_or(size, |(level, at)| (level + (now - at).max(0) * i128::from(limit)).min(size));
        let is_admitted = level >= SECOND;
        let left = if is_admitted {
            level - SECOND
        } else if limits.refused_count {
            0
        } else {
            level
        };
        self.bucket = Some((left, now));
        let wait = if is_admitted { 0 } else { ceil(SECOND - left, limit) };
        Turn { is_admitted, count: u32::try_from(ceil(size - left, 1) / SECOND).unwrap_or(u32::MAX), wait: nanos(wait) }
    }
}

fn turn(before: usize, limit: u32, refused_count: bool, wait: i128) -> Turn {
    let before = u32::try_from(before).unwrap_or(u32::MAX);
    let is_admitted = before < limit;
    Turn {
        is_admitted,
        count: before + u32::from(is_admitted || refused_count),
        wait: nanos(if is_admitted { 0 } else { wait }),
    }
}

fn ceil(amount: i128, pace: u32) -> i128 {
    let pace = i128::from(pace.max(1));
    (amount + pace - 1) / pace
}

fn nanos(nanos: i128) -> SignedDuration {
    SignedDuration::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::constant(1_700_000_000, 0) + SignedDuration::from_millis(millis)
    }

    fn limits(window: Window) -> Limits {
        Limits { window, ..Limits::basic() }
    }

    /// Which of the calls at these times pass, under 5 a second.
    fn admitted(limits: &Limits, times: &[i64]) -> Vec<bool> {
        let mut throttle = Throttle::default();
        times.iter().map(|millis| throttle.call(at(*millis), 5, limits).is_admitted).collect()
    }

    #[test]
    fn a_fixed_second_lets_ten_calls_pass_around_its_turn() {
        let times = [900, 910, 920, 930, 940, 950, 1000, 1001, 1002, 1003, 1004, 1005];
        let expected = [true, true, true, true, true, false, true, true, true, true, true, false];
        assert_eq!(admitted(&limits(Window::FixedSecond), &times), expected);
    }

    #[test]
    fn a_sliding_log_counts_the_last_thousand_milliseconds() {
        let times = [900, 910, 920, 930, 940, 1000, 1899, 1900, 1905, 1910];
        let expected = [true, true, true, true, true, false, false, true, false, true];
        assert_eq!(admitted(&limits(Window::SlidingLog), &times), expected);
    }

    #[test]
    fn a_bucket_refills_one_call_every_fifth_of_a_second() {
        let times = [0, 0, 0, 0, 0, 0, 199, 200, 399, 400, 5000, 5000, 5000, 5000, 5000, 5000];
        let expected =
            [true, true, true, true, true, false, false, true, false, true, true, true, true, true, true, false];
        assert_eq!(admitted(&limits(Window::TokenBucket), &times), expected);
        let single = Limits { burst: Some(1), ..limits(Window::TokenBucket) };
        assert_eq!(admitted(&single, &[0, 1, 199, 200, 401]), [true, false, false, true, true]);
    }

    #[test]
    fn the_wait_named_is_exactly_long_enough() {
        for window in [Window::FixedSecond, Window::SlidingLog, Window::TokenBucket] {
            for refused_count in [false, true] {
                let limits = Limits { refused_count, ..limits(window) };
                let mut throttle = Throttle::default();
                for call in 0..5 {
                    assert!(throttle.call(at(300 + call), 5, &limits).is_admitted, "{window:?}");
                }
                let refused = throttle.call(at(310), 5, &limits);
                assert!(!refused.is_admitted);
                let nanosecond = SignedDuration::from_nanos(1);
                let mut early = throttle.clone();
                assert!(!early.call(at(310) + refused.wait - nanosecond, 5, &limits).is_admitted, "{window:?}");
                assert!(throttle.call(at(310) + refused.wait, 5, &limits).is_admitted, "{window:?} {refused_count}");
            }
        }
    }

    #[test]
    fn where_refused_calls_count_a_storm_keeps_the_sliding_log_shut() {
        let storm: Vec<i64> = (0..40).map(|n| n * 100).collect();
        let counting = Limits { refused_count: true, ..limits(Window::SlidingLog) };
        assert_eq!(admitted(&counting, &storm).iter().filter(|passed| **passed).count(), 5);
        assert_eq!(admitted(&limits(Window::SlidingLog), &storm).iter().filter(|passed| **passed).count(), 20);
    }

    #[test]
    fn the_count_names_the_calls_in_the_window() {
        let mut throttle = Throttle::default();
        let counts: Vec<u32> = (0..7).map(|n| throttle.call(at(n), 5, &limits(Window::FixedSecond)).count).collect();
        assert_eq!(counts, [1, 2, 3, 4, 5, 5, 5]);
    }

    #[test]
    fn the_day_turns_at_midnight_of_utc_plus_8() {
        let before: Timestamp = "2026-01-02T15:59:59Z".parse().unwrap_or_default();
        let after = before + SignedDuration::from_secs(1);
        assert_ne!(DayTurn::UtcPlus8.day(before), DayTurn::UtcPlus8.day(after));
        assert_eq!(DayTurn::Utc.day(before), DayTurn::Utc.day(after));
        assert_eq!((DayTurn::Rolling.day(before), DayTurn::Rolling.day(after)), (None, None));
    }

    #[test]
    fn a_rolling_day_counts_the_last_twenty_four_hours() {
        let hour = |hour: i64| at(hour * 3_600_000);
        let mut day = Day::default();
        let counts = [0, 1, 23, 24, 25, 48].map(|h| day.count(hour(h), DayTurn::Rolling));
        assert_eq!(counts, [1, 2, 3, 3, 3, 2]);
        let mut fixed = Day::default();
        // 22:13 UTC: the second midnight falls between the hours 1 and 2, that of UTC+8 between 17 and 18.
        assert_eq!([0, 1, 2, 17, 18, 25].map(|h| fixed.count(hour(h), DayTurn::Utc)), [1, 2, 1, 2, 3, 4]);
        let mut local = Day::default();
        assert_eq!([0, 1, 2, 17, 18, 25].map(|h| local.count(hour(h), DayTurn::UtcPlus8)), [1, 2, 3, 4, 1, 2]);
    }
}
