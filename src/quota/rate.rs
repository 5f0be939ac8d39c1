//! How fast a budget may go: a refusal lengthens the interval a little, calm shortens it again, a hint parks it.
//!
//! Each refusal adds a sixteenth of the limit's interval to the interval. One interval later, if the next call is not
//! refused as well, the estimate begins to climb with the cube of time: slowly at first, where the last refusal was, then
//! steeply, and reaches the limit 38 s later at the latest.
//!
//! **May touch:** its arguments, like all of this module.
//!
//! **Guarantees**
//! 1. The pace never exceeds 97 % of the limit, and never falls below 0.6 calls per second (or the pace of a limit below
//!    that): a storm of refusals is over for us at most 2 s after it is over, and after 40 s the pace is full again.
//! 2. One stray refusal costs 6 % of the pace for some seconds; a cloud that takes less than we know is found out by as
//!    many small steps as it needs. Refusals are not gathered into one: a wave of them means that much too fast.
//! 3. No hint holds a budget for more than ten minutes, whatever the cloud writes into it.
//!
//! Decided by simulation of fixed windows, sliding logs and buckets, with and without a neighbour (`tests/quota.rs`).
//! A multiplicative fall (x 0.85, at most once a second, then half a call more each second) had a neighbour's calls refused
//! twice as often at 20/s and ten times as often at 5/s, and ours several times as often.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Moment;

/// The part of a known limit that is used: clocks differ, and a little slack turns no refusal into many.
const SHARE: f64 = 0.97;
/// One of so many parts of the limit's interval is what a refusal adds to ours.
const STEP: f64 = 16.0;
/// How long the climb from nothing to the limit takes: the full pace is back within 40 s of the worst storm.
const CLIMB: Duration = Duration::from_secs(38);
/// Calls per second that a storm leaves: the first call after it is at most 1.7 s late.
const FLOOR: f64 = 0.6;
/// The lowest limit that is taken at its word; no interval is longer than about ten seconds.
const LEAST: f64 = 0.1;
/// The longest that a hint is believed.
const LONGEST_HINT: Duration = Duration::from_secs(600);
/// Parked budgets wake up spread over this time.
const SPREAD: Duration = Duration::from_secs(60);

/// What an answer of the cloud says of the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// The call was counted and not refused for its rate.
    Accepted,
    /// The call came too fast.
    Throttled {
        /// How long the cloud asks us to wait; zero is no hint.
        hint: Option<Duration>,
    },
    /// The day's calls are used up.
    DailyLimit,
}

/// Who holds a budget back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldBy {
    /// The cloud asked us to wait.
    Cloud,
    /// The day's calls are used up, or what is left of them is kept for starts.
    DailyLimit,
}

/// Nothing is granted until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Wall time of the end.
    pub until: Timestamp,
    /// Who asks for it.
    pub by: HeldBy,
}

/// A limit, and what the cloud really takes, as far as its answers tell.
#[derive(Clone, Debug)]
pub(super) struct Rate {
    limit: f64,
    /// Calls per second as of the last refusal; without limit as long as nothing was refused.
    estimate: f64,
    refused: Duration,
}

impl Rate {
    pub(super) fn new(limit: f64) -> Self {
        Self { limit: limit.max(LEAST), estimate: f64::INFINITY, refused: Duration::ZERO }
    }

    pub(super) fn set_limit(&mut self, limit: f64) {
        self.limit = limit.max(LEAST);
    }

    /// How many calls may fall into one second: the limit, rounded down, but one at least.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and the cast saturates")]
    pub(super) fn window(&self) -> usize {
        (self.limit as usize).max(1)
    }

    pub(super) fn is_limited(&self) -> bool {
        self.limit.is_finite()
    }

    /// A limit without end leaves nothing to estimate.
    fn estimate(&self, now: Duration) -> f64 {
        // Not while the next call may be refused as well: in a storm a climb before each call would never let it slow down.
        let next = Duration::try_from_secs_f64(self.estimate.recip()).unwrap_or_default();
        let climbed = self.limit * now.saturating_sub(self.refused + next).div_duration_f64(CLIMB);
        (self.estimate.powi(3) + climbed.powi(3)).cbrt().min(self.limit)
    }

    /// Calls per second.
    fn pace(&self, now: Duration) -> f64 {
        self.estimate(now).min(SHARE * self.limit)
    }

    /// Whether a refusal still makes this slower than the limit would.
    pub(super) fn is_slowed(&self, now: Duration) -> bool {
        self.estimate(now) < SHARE * self.limit
    }

    /// The time between two calls.
    pub(super) fn interval(&self, now: Duration) -> Duration {
        Duration::try_from_secs_f64(self.pace(now).recip()).unwrap_or_default()
    }

    /// The cloud refused a call for its rate.
    pub(super) fn refused(&mut self, now: Duration) {
        let interval = self.estimate(now).recip() + (STEP * self.limit).recip();
        self.estimate = interval.recip().max(FLOOR.min(self.limit));
        self.refused = now;
    }
}

/// The time of which a hint asks, if it asks for any.
pub(super) fn heed(hint: Option<Duration>) -> Option<Duration> {
    hint.filter(|hint| !hint.is_zero()).map(|hint| hint.min(LONGEST_HINT))
}

/// A share of the time over which parked budgets wake up. `jitter` is from 0 to 1.
pub(super) fn spread(jitter: f64) -> Duration {
    Duration::try_from_secs_f64(SPREAD.as_secs_f64() * jitter).unwrap_or_default().min(SPREAD)
}

/// The wall time that is `wait` after `wall`.
pub(super) fn later(wall: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait).ok().and_then(|wait| wall.checked_add(wait).ok()).unwrap_or(Timestamp::MAX)
}

/// Until when nothing is granted at all, on both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parking {
    pub(super) until: Duration,
    pub(super) hold: Hold,
}

impl Parking {
    /// The later of two ends holds: a second refusal with a shorter hint shortens nothing.
    pub(super) fn longest(old: Option<Self>, new: Self, now: Moment) -> Self {
        old.filter(|old| old.until > now.mono && old.until > new.until).unwrap_or(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn the_pace_begins_at_97_percent_of_the_limit() {
        assert!((Rate::new(20.0).pace(at(0.0)) - 19.4).abs() < 1e-9);
    }

    #[test]
    fn each_refusal_adds_a_sixteenth_of_the_limits_interval() {
        let mut rate = Rate::new(20.0);
        for n in 1..=16_u32 {
            rate.refused(at(5.0));
            let interval = (1.0 + f64::from(n) / 16.0) / 20.0;
            assert!((rate.estimate(at(5.0)) - interval.recip()).abs() < 1e-9, "{n}");
        }
    }

    #[test]
    fn the_estimate_climbs_slowly_then_steeply_and_is_at_the_limit_after_38_seconds() {
        let mut rate = Rate::new(20.0);
        rate.refused(at(0.0));
        let fallen = 20.0 * 16.0 / 17.0;
        assert!((rate.estimate(at(3.8)) - fallen).abs() < 0.01, "{}", rate.estimate(at(3.8)));
        for _ in 0..10_000 {
            rate.refused(at(1.0));
        }
        let first = 1.0 + 1.0 / 0.6;
        assert!((rate.estimate(at(first)) - 0.6).abs() < 1e-9, "the next call may be refused as well");
        assert!((rate.estimate(at(first + 19.0)) - 10.0).abs() < 1e-2, "half of the time, half of the limit");
        assert!(rate.is_slowed(at(first + 36.0)) && !rate.is_slowed(at(first + 38.0)));
        assert!((rate.estimate(at(first + 38.0)) - 20.0).abs() < 1e-9);
        assert!((rate.estimate(at(600.0)) - 20.0).abs() < 1e-9);
    }

    #[test]
    fn the_floor_is_six_calls_in_ten_seconds_or_a_lower_limit() {
        for (limit, floor) in [(20.0, 0.6), (0.2, 0.2)] {
            let mut rate = Rate::new(limit);
            for n in 0..20_000 {
                rate.refused(at(1.0 + f64::from(n) * 1e-3));
                assert!(rate.estimate >= floor, "{limit}");
            }
            assert!(rate.interval(at(21.0)) <= Duration::from_secs_f64(1.0 / (0.97 * floor) + 1e-9), "{limit}");
        }
    }

    #[test]
    fn a_raised_limit_counts_at_once_where_nothing_was_refused() {
        let mut rate = Rate::new(5.0);
        rate.set_limit(20.0);
        assert!((rate.pace(at(0.0)) - 19.4).abs() < 1e-9);
    }

    #[test]
    fn a_limit_that_is_no_number_is_a_low_one() {
        for limit in [f64::NAN, -1.0, 0.0, f64::NEG_INFINITY] {
            let rate = Rate::new(limit);
            assert_eq!(rate.window(), 1);
            assert!(rate.interval(at(0.0)) <= Duration::from_secs(11));
        }
        assert_eq!(Rate::new(f64::INFINITY).interval(at(0.0)), Duration::ZERO);
    }

    #[test]
    fn hints_of_nothing_are_none_and_long_ones_are_cut() {
        assert_eq!(heed(None), None);
        assert_eq!(heed(Some(Duration::ZERO)), None);
        assert_eq!(heed(Some(at(7.0))), Some(at(7.0)));
        assert_eq!(heed(Some(Duration::MAX)), Some(at(600.0)));
    }

    #[test]
    fn jitter_out_of_range_is_harmless() {
        for (jitter, wait) in [(0.5, 30.0), (f64::NAN, 0.0), (-3.0, 0.0), (9.0, 60.0)] {
            assert_eq!(spread(jitter), at(wait), "{jitter}");
        }
    }

    #[test]
    fn a_later_end_holds_until_it_is_past() {
        let park = |until| Parking { until: at(until), hold: Hold { until: Timestamp::UNIX_EPOCH, by: HeldBy::Cloud } };
        let now = |mono| Moment { mono: at(mono), wall: Timestamp::UNIX_EPOCH };
        assert_eq!(Parking::longest(Some(park(9.0)), park(5.0), now(1.0)).until, at(9.0));
        assert_eq!(Parking::longest(Some(park(4.0)), park(5.0), now(1.0)).until, at(5.0));
        assert_eq!(Parking::longest(None, park(5.0), now(1.0)).until, at(5.0));
    }
}
