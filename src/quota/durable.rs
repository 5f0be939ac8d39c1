//! The day's count as it is kept outside this process: written ahead of its use, in blocks, by those who keep it.
//!
//! **May touch:** its arguments, like all of this module.
//!
//! **Guarantees**
//! 1. With anybody to keep the count, a call of a budget with a day limit is granted only below what all of them hold. So
//!    whoever is asked after a crash knows of every call, and of a few that were never made: of a block at most.
//! 2. A count that others wrote is taken for calls that were made.
//! 3. With nobody to keep it, or without a day limit, none of this holds anything back.
//!
//! **Assumes:** a keeper writes only on top of the count that it last showed here. A call that travels over midnight while
//! its process ends is in the count of the day before alone.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;

use super::bucket::Day;
use super::lane::{Lane, Queue};
use super::{Governor, Moment};

/// Calls that are counted ahead at a time: a write for each five calls, and five calls lost at most by a crash.
const BLOCK: u32 = 5;

/// At most so many calls were made on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Days since 1970-01-01, in UTC+8.
    pub day: i64,
    /// Calls.
    pub calls: u32,
}

impl Counted {
    /// The day as people write it: `2026-11-24`.
    #[must_use]
    pub fn day_text(&self) -> String {
        let midnight = self.day.checked_mul(86_400).and_then(|second| Timestamp::from_second(second).ok());
        midnight.unwrap_or_default().strftime("%Y-%m-%d").to_string()
    }

    /// What was kept as text and number. What cannot be read was written by nobody.
    #[must_use]
    pub fn read(day: &str, calls: i64) -> Option<Self> {
        let date: Date = day.parse().ok()?;
        let midnight = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
        let calls = u32::try_from(calls.max(0)).unwrap_or(u32::MAX);
        Some(Self { day: midnight.as_second().div_euclid(86_400), calls })
    }
}

/// Those who keep the count, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Keepers(BTreeMap<String, Keeper>);

#[derive(Clone, Debug)]
struct Keeper {
    holds: Counted,
    writes: Option<Counted>,
}

impl Keeper {
    fn calls(&self, today: i64) -> u32 {
        if self.holds.day == today { self.holds.calls } else { 0 }
    }
}

impl Governor {
    /// A keeper shows what it holds. What it holds beyond what it was given here, another process wrote: those calls were
    /// made. A day yet to come is that of another clock, and counts as today.
    pub fn keep(&mut self, keeper: &str, shown: Option<Counted>, now: Moment) {
        self.turn_day(now);
        let today = self.today(now);
        let calls = shown.filter(|shown| shown.day >= today).map_or(0, |shown| shown.calls);
        let shown = Counted { day: today, calls };
        let is_foreign = match self.keepers.0.get(keeper) {
            None => true,
            Some(known) => calls > known.calls(today) && known.writes != Some(shown),
        };
        if is_foreign {
            let writes = self.keepers.0.get(keeper).and_then(|known| known.writes);
            self.keepers.0.insert(keeper.to_owned(), Keeper { holds: shown, writes });
            self.day.at_least(calls);
        }
    }

    /// Keeps it no more.
    pub fn forget_keeper(&mut self, keeper: &str) {
        self.keepers.0.remove(keeper);
    }

    /// What each keeper should write now: somebody waits, and may not call before.
    #[must_use]
    pub fn lacking(&self, now: Moment) -> Vec<(String, Counted)> {
        let Some(wanted) = self.wanted(now) else { return Vec::new() };
        let short = self.keepers.0.iter().filter(|(_, keeper)| keeper.calls(wanted.day) < wanted.calls);
        short.map(|(name, _)| (name.clone(), wanted)).collect()
    }

    /// What this keeper is to write now, if anything; it says afterwards whether it did. While it writes, nobody else tells
    /// it to.
    pub fn block(&mut self, keeper: &str, now: Moment) -> Option<Counted> {
        let wanted = self.wanted(now)?;
        let keeper = self.keepers.0.get_mut(keeper).filter(|keeper| keeper.calls(wanted.day) < wanted.calls)?;
        keeper.writes = Some(wanted);
        Some(wanted)
    }

    /// The keeper holds what it was to write.
    pub fn written(&mut self, keeper: &str) {
        if let Some(keeper) = self.keepers.0.get_mut(keeper)
            && let Some(written) = keeper.writes.take()
            && (written.day > keeper.holds.day || written.calls > keeper.holds.calls)
        {
            keeper.holds = written;
        }
    }

    /// It may not hold it. If it does, that shows, and counts as calls that were made.
    pub fn not_written(&mut self, keeper: &str) {
        if let Some(keeper) = self.keepers.0.get_mut(keeper) {
            keeper.writes = None;
        }
    }

    /// A call that has not left when the day turns is in no count of the new one, and must not leave.
    pub(super) fn void_at_midnight(&mut self, now: Moment) {
        let is_kept = self.day.limit.is_some() && !self.keepers.0.is_empty();
        if is_kept && Day::number(now.wall) > self.day.current() {
            self.permits.values_mut().filter(|permit| permit.sent.is_none()).for_each(|permit| permit.end = now.mono);
        }
    }

    /// The most that any keeper holds for today.
    pub(super) fn counted_today(&self, now: Moment) -> u32 {
        let today = self.today(now);
        self.keepers.0.values().map(|keeper| keeper.calls(today)).max().unwrap_or_default()
    }

    /// A call that is due otherwise waits for its count to be kept.
    pub(super) fn lacks_block(&self, lane: Lane, now: Moment) -> bool {
        let pauses = self.parking.is_some_and(|parking| parking.until > now.mono);
        let has_calls = self.day.left(lane, now.wall).is_some_and(|left| left > 0);
        let open = self.keepers.0.values().map(|keeper| keeper.calls(self.today(now))).min();
        has_calls && !pauses && open.is_some_and(|open| self.day.used(now.wall) >= open)
    }

    fn wanted(&self, now: Moment) -> Option<Counted> {
        let waits = |lane: &&Lane| self.queues.get(lane).map_or(0, Queue::len) > 0;
        let lacks = Lane::ALL.iter().filter(waits).any(|lane| self.lacks_block(*lane, now));
        let limit = self.day.limit.filter(|_| lacks)?;
        let (used, most) = (self.day.used(now.wall), self.counted_today(now));
        let calls = if most > used { most } else { used.saturating_add(BLOCK).min(limit) };
        Some(Counted { day: self.today(now), calls })
    }

    /// The day on which calls count now: a clock that goes back refills no day.
    fn today(&self, now: Moment) -> i64 {
        Day::number(now.wall).max(self.day.current())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::time::Duration;

    use super::*;
    use crate::quota::{Grant, HeldBy, Limits, Waiter};

    const NOON: &str = "2026-11-24T04:00:00Z";

    fn at(seconds: u64) -> Moment {
        let wall: Timestamp = NOON.parse().unwrap();
        Moment { mono: Duration::from_secs(seconds), wall: wall + Duration::from_secs(seconds) }
    }

    fn counted(day: &str, calls: i64) -> Option<Counted> {
        Counted::read(day, calls)
    }

    /// A budget of 100 calls a day whose count `shown` is kept by one.
    fn kept(shown: Option<Counted>) -> Governor {
        let mut governor = Governor::new(Limits::shared(1000.0, Some(100)));
        governor.keep("k", shown, at(0));
        governor
    }

    fn ask(governor: &mut Governor, calls: u32, now: Moment) {
        for n in 0..calls {
            let who = Waiter { uid: format!("{}/{n}", now.mono.as_secs()), namespace: "team".to_owned() };
            governor.ask(who, Lane::Start, now);
        }
    }

    /// Grants what may be granted within a minute.
    fn granted(governor: &mut Governor, now: Moment) -> usize {
        let mut all: Vec<Grant> = Vec::new();
        for n in 0..600 {
            let step = Duration::from_millis(100 * n);
            all.extend(governor.grants(Moment { mono: now.mono + step, wall: now.wall + step }));
        }
        all.len()
    }

    #[test]
    fn a_day_is_text_and_text_a_day() {
        for (text, calls, read) in [("2026-11-24", 7, 7), ("2026-11-24", -7, 0), ("2026-11-24", i64::MAX, u32::MAX)] {
            let counted = counted(text, calls).unwrap();
            assert_eq!((counted.day_text().as_str(), counted.calls), (text, read));
            assert_eq!(counted.day, Day::number(at(0).wall));
        }
        for text in ["", "today", "2026-13-01", "-"] {
            assert_eq!(counted(text, 5), None, "{text}");
        }
    }

    #[test]
    fn five_calls_are_counted_ahead_and_no_more_are_made_before_five_more_are() {
        let mut governor = kept(None);
        ask(&mut governor, 12, at(1));
        for (calls, made) in [(5, 5), (10, 5), (15, 2)] {
            assert_eq!((granted(&mut governor, at(1)), governor.next_at(at(1))), (0, None), "nothing comes by itself");
            let wanted = Counted { calls, ..counted("2026-11-24", 0).unwrap() };
            assert_eq!(governor.lacking(at(1)), [("k".to_owned(), wanted)]);
            assert_eq!(governor.block("k", at(1)), Some(wanted));
            assert_eq!(granted(&mut governor, at(1)), 0, "it is not written yet");
            governor.written("k");
            assert_eq!(granted(&mut governor, at(1)), made);
        }
        assert_eq!((governor.lacking(at(1)), governor.block("k", at(1))), (vec![], None), "nobody waits");
    }

    #[test]
    fn the_last_block_ends_at_the_limit_and_then_the_day_is_over() {
        let mut governor = kept(counted("2026-11-24", 98));
        ask(&mut governor, 5, at(1));
        assert_eq!(governor.block("k", at(1)).map(|block| block.calls), Some(100));
        governor.written("k");
        assert_eq!(granted(&mut governor, at(1)), 2);
        assert_eq!(governor.block("k", at(1)), None);
        assert_eq!(governor.usage(at(1)).held.map(|hold| hold.by), Some(HeldBy::DailyLimit));
        let midnight = at(12 * 3600);
        assert_eq!(governor.next_at(at(1)), Some(midnight.mono), "then it is asked again");
        assert_eq!(granted(&mut governor, midnight), 0);
        let tomorrow = counted("2026-11-25", 5);
        assert_eq!(governor.block("k", midnight), tomorrow, "a new day's first block comes before its first call");
        governor.written("k");
        assert_eq!(granted(&mut governor, midnight), 3);
    }

    #[test]
    fn what_is_held_already_was_used_by_whoever_wrote_it() {
        for (shown, used) in [
            (counted("2026-11-24", 40), 40),
            (counted("2026-11-23", 40), 0),
            (counted("2026-11-25", 40), 40), // of a clock that is ahead
            (None, 0),
        ] {
            let governor = kept(shown);
            assert_eq!(governor.usage(at(0)).used_today, used, "{shown:?}");
        }
        let mut governor = kept(counted("2026-11-24", 40));
        ask(&mut governor, 9, at(1));
        assert_eq!(granted(&mut governor, at(1)), 0, "what stands there is another's");
        governor.block("k", at(1)).unwrap();
        governor.written("k");
        governor.keep("k", counted("2026-11-24", 45), at(2));
        assert_eq!(governor.usage(at(2)).used_today, 40, "that is our own");
        assert_eq!(granted(&mut governor, at(2)), 5);
        governor.keep("k", counted("2026-11-24", 60), at(3));
        assert_eq!(governor.usage(at(3)).used_today, 60, "and that is not");
        governor.keep("k", counted("2026-11-24", 50), at(4));
        assert_eq!(governor.block("k", at(4)).map(|block| block.calls), Some(65), "an old view refills nothing");
    }

    #[test]
    fn a_block_that_comes_back_before_its_answer_is_our_own_and_one_without_an_answer_is_not() {
        let mut governor = kept(None);
        ask(&mut governor, 9, at(1));
        let block = governor.block("k", at(1));
        governor.keep("k", block, at(1));
        assert_eq!(granted(&mut governor, at(1)), 0, "the watch is no answer");
        governor.written("k");
        assert_eq!(granted(&mut governor, at(1)), 5);
        let block = governor.block("k", at(1));
        governor.not_written("k");
        governor.keep("k", block, at(1));
        assert_eq!(governor.usage(at(1)).used_today, 10, "it may be another's");
    }

    #[test]
    fn a_block_is_open_when_all_who_keep_the_count_hold_it() {
        let mut governor = kept(counted("2026-11-24", 10));
        governor.keep("l", None, at(0));
        ask(&mut governor, 9, at(1));
        let wanted = counted("2026-11-24", 15).unwrap();
        assert_eq!(governor.lacking(at(1)), [("k".to_owned(), wanted), ("l".to_owned(), wanted)]);
        for keeper in ["k", "l"] {
            assert_eq!(granted(&mut governor, at(1)), 0, "{keeper}");
            governor.block(keeper, at(1)).unwrap();
            governor.written(keeper);
        }
        assert_eq!(granted(&mut governor, at(1)), 5);
        governor.forget_keeper("l");
        governor.keep("m", None, at(1));
        assert_eq!(governor.lacking(at(1)).len(), 2, "one that comes later holds it too before calls go on");
    }

    #[test]
    fn a_budget_without_a_day_limit_or_a_pause_asks_for_no_block() {
        let mut governor = Governor::new(Limits::shared(1000.0, None));
        governor.keep("k", None, at(0));
        ask(&mut governor, 9, at(1));
        assert_eq!((governor.lacking(at(1)), granted(&mut governor, at(1))), (vec![], 9));
        let mut governor = kept(None);
        let hint = Some(Duration::from_secs(60));
        governor.learn(crate::quota::Lesson::Throttled { hint }, Lane::Start, at(1), 0.0);
        ask(&mut governor, 9, at(2));
        assert_eq!(governor.lacking(at(2)), [], "calls pause anyway");
        let then = governor.next_at(at(2)).unwrap();
        assert_eq!(then, at(61).mono, "it is asked again when they go on");
        assert_eq!(governor.lacking(at(61)).len(), 1);
    }
}
