//! How fast a budget may go: falls when the cloud refuses, climbs back by itself, parks when the cloud says until when.
//!
//! **May touch:** its arguments, like all of this module.
//!
//! **Guarantees**
//! 1. The pace never exceeds 97 % of the limit, and never falls below half a call per second (or the pace of a limit
//!    below that): a storm of refusals is over for us at most 2 s after it is over.
//! 2. No hint holds a budget for more than ten minutes, whatever the cloud writes into it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Moment;

/// The part of a known limit that is used: clocks differ, and a little slack turns no refusal into many.
const SHARE: f64 = 0.97;
/// What a refusal leaves of the estimate.
const FALL: f64 = 0.85;
/// A burst of refusals is one piece of news: the estimate falls at most once in this time.
const FALL_PERIOD: Duration = Duration::from_secs(1);
/// Calls per second that the estimate gains each second: 20/s are back within 40 s of the worst storm.
const CLIMB: f64 = 0.5;
/// Calls per second that a storm leaves.
const FLOOR: f64 = 0.5;
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
    /// Calls per second as of the last fall; without limit as long as nothing was refused.
    estimate: f64,
    fell: Duration,
}

impl Rate {
    pub(super) fn new(limit: f64) -> Self {
        Self { limit: limit.max(LEAST), estimate: f64::INFINITY, fell: Duration::ZERO }
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

    fn estimate(&self, now: Duration) -> f64 {
        (self.estimate + CLIMB * now.saturating_sub(self.fell).as_secs_f64()).min(self.limit)
    }

    /// Calls per second.
    fn pace(&self, now: Duration) -> f64 {
        self.estimate(now).min(SHARE * self.limit)
    }

    /// The time between two calls.
    pub(super) fn interval(&self, now: Duration) -> Duration {
        Duration::try_from_secs_f64(self.pace(now).recip()).unwrap_or_default()
    }

    /// The cloud refused a call for its rate.
    pub(super) fn refused(&mut self, now: Duration) {
        if self.estimate.is_finite() && now.saturating_sub(self.fell) < FALL_PERIOD {
            return;
        }
        self.estimate = (FALL * self.estimate(now)).max(FLOOR.min(self.limit));
        self.fell = now;
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
    fn refusals_of_one_second_are_one_fall() {
        let mut rate = Rate::new(20.0);
        for n in 0..10 {
            rate.refused(at(5.0 + f64::from(n) * 0.09));
        }
        assert!((rate.estimate(at(5.0)) - 17.0).abs() < 1e-9);
        rate.refused(at(6.0));
        assert!((rate.estimate(at(6.0)) - 17.5 * 0.85).abs() < 1e-9);
    }

    #[test]
    fn the_estimate_climbs_half_a_call_each_second_and_stops_at_the_limit() {
        let mut rate = Rate::new(20.0);
        rate.refused(at(0.0));
        assert!((rate.estimate(at(2.0)) - 18.0).abs() < 1e-9);
        assert!((rate.estimate(at(600.0)) - 20.0).abs() < 1e-9);
    }

    #[test]
    fn the_floor_is_half_a_call_each_second_or_a_lower_limit() {
        for (limit, floor) in [(20.0, 0.5), (0.2, 0.2)] {
            let mut rate = Rate::new(limit);
            for n in 0..200 {
                rate.refused(at(1.0 + f64::from(n) * 1e-9)); // a fall each, were they not one second apart
                rate.fell = Duration::ZERO;
            }
            rate.fell = at(2.0);
            assert!(rate.estimate(at(2.0)) >= floor - 1e-9, "{limit}");
            assert!(rate.interval(at(2.0)) <= Duration::from_secs_f64(1.0 / (0.97 * floor) + 1e-9), "{limit}");
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
