//! The day's count over crashes: processes that come and go, a status that keeps the count under a version, writes that
//! fail, conflict or lose their answer, an account that is made again. No day sees more calls than its limit.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use dijob_operator::quota::{Counted, Governor, Lane, Limits, Moment, PermitId, Waiter};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

/// Accounts that share the budget.
const KEEPERS: usize = 2;

fn begin() -> Timestamp {
    "2026-11-24T02:00:00Z".parse().unwrap()
}

/// The day of UTC+8, reckoned apart from the governor.
fn day(at: Timestamp) -> i64 {
    (at + SignedDuration::from_hours(8)).as_second().div_euclid(86_400)
}

/// The status of an account.
#[derive(Clone, Debug, Default)]
struct Stored {
    version: u64,
    today: Option<(String, i64)>,
}

/// A process: its governor, the statuses as its watch last showed them, and the permits that it has not used yet.
struct Process {
    governor: Governor,
    seen: Vec<Stored>,
    born: Duration,
    asked: u32,
    permits: Vec<PermitId>,
}

struct World {
    limit: u32,
    now: Duration,
    stored: Vec<Stored>,
    processes: Vec<Process>,
    /// Calls by day, as the cloud counts them.
    calls: BTreeMap<i64, u32>,
}

impl World {
    fn new(limit: u32) -> Self {
        let mut world = Self {
            limit,
            now: Duration::ZERO,
            stored: vec![Stored::default(); KEEPERS],
            processes: Vec::new(),
            calls: BTreeMap::new(),
        };
        world.processes = vec![world.process(), world.process()];
        world
    }

    fn process(&self) -> Process {
        let governor = Governor::new(Limits::shared(1000.0, Some(self.limit)));
        let mut process =
            Process { governor, seen: self.stored.clone(), born: self.now, asked: 0, permits: Vec::new() };
        process.show(self.wall(), self.now);
        process
    }

    fn wall(&self) -> Timestamp {
        begin() + SignedDuration::try_from(self.now).unwrap()
    }

    fn moment(&self, of: usize) -> Moment {
        Moment { mono: self.now.saturating_sub(self.processes[of].born), wall: self.wall() }
    }

    fn apply(&mut self, step: &Step) {
        let (wall, now) = (self.wall(), self.now);
        match *step {
            Step::Ask(p) => {
                let at = self.moment(p);
                let process = &mut self.processes[p];
                process.asked += 1;
                let uid = format!("{p}/{}", process.asked);
                process.governor.ask(Waiter { uid, namespace: "team".to_owned() }, Lane::Start, at);
            }
            Step::Grant(p) => {
                let at = self.moment(p);
                let process = &mut self.processes[p];
                process.permits.extend(process.governor.grants(at).into_iter().map(|grant| grant.permit));
            }
            Step::Call(p) => {
                let at = self.moment(p);
                let process = &mut self.processes[p];
                let Some(permit) = process.permits.pop() else { return };
                if process.governor.sent(permit, at) {
                    *self.calls.entry(day(wall)).or_default() += 1;
                }
                process.governor.done(permit, at);
            }
            Step::Return(p) => {
                let at = self.moment(p);
                let process = &mut self.processes[p];
                let Some(permit) = process.permits.pop() else { return };
                process.governor.give_back(permit, at);
            }
            Step::Watch(p) => {
                self.processes[p].seen.clone_from(&self.stored);
                self.processes[p].show(wall, now);
            }
            Step::Write(p, keeper, fate) => self.write(p, keeper, fate),
            Step::Pass(p) => {
                self.apply(&Step::Watch(p));
                (0..KEEPERS).for_each(|keeper| self.write(p, keeper, Fate::Answered));
            }
            Step::Crash(p) => self.processes[p] = self.process(),
            Step::Again(p) => {
                let version = self.stored[0].version + 1;
                self.stored[0] = Stored { version, today: None };
                self.processes[p].governor.forget_keeper("0");
                self.apply(&Step::Watch(p));
            }
            Step::Wait(seconds) => self.now += Duration::from_secs(seconds),
            Step::ToMidnight => {
                let second = (wall + SignedDuration::from_hours(8)).as_second().rem_euclid(86_400).unsigned_abs();
                self.now += Duration::from_secs(86_399 - second);
            }
        }
        for (day, calls) in &self.calls {
            assert!(*calls <= self.limit, "{calls} calls on day {day}");
        }
    }

    /// What a pass of an account does: it asks for the count that is to be written, and writes it under the version that it
    /// has seen.
    fn write(&mut self, p: usize, keeper: usize, fate: Fate) {
        let at = self.moment(p);
        let name = keeper.to_string();
        let Some(block) = self.processes[p].governor.block(&name, at) else { return };
        let conflicts = self.stored[keeper].version != self.processes[p].seen[keeper].version;
        let is_applied = !conflicts && fate != Fate::Refused;
        if is_applied {
            let stored = &mut self.stored[keeper];
            (stored.version, stored.today) = (stored.version + 1, Some((block.day_text(), i64::from(block.calls))));
        }
        if is_applied && fate == Fate::Answered {
            self.processes[p].seen[keeper] = self.stored[keeper].clone();
            self.processes[p].governor.written(&name);
        } else {
            self.processes[p].governor.not_written(&name);
        }
    }
}

impl Process {
    /// The governor is shown what the watch shows.
    fn show(&mut self, wall: Timestamp, now: Duration) {
        for (keeper, stored) in self.seen.iter().enumerate() {
            let counted = stored.today.as_ref().and_then(|(day, calls)| Counted::read(day, *calls));
            self.governor.keep(&keeper.to_string(), counted, Moment { mono: now.saturating_sub(self.born), wall });
        }
    }
}

/// What becomes of a write that does not conflict.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Answered,
    AnswerLost,
    Refused,
}

#[derive(Clone, Debug)]
enum Step {
    Ask(usize),
    Grant(usize),
    Call(usize),
    Return(usize),
    Watch(usize),
    Write(usize, usize, Fate),
    /// A look and a write of all.
    Pass(usize),
    Crash(usize),
    /// The first account is deleted and made again, and this process knows.
    Again(usize),
    Wait(u64),
    /// The last second of the day.
    ToMidnight,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fate = prop_oneof![6 => Just(Fate::Answered), 1 => Just(Fate::AnswerLost), 1 => Just(Fate::Refused)];
    let step = prop_oneof![
        6 => (0..2_usize).prop_map(Step::Ask),
        6 => (0..2_usize).prop_map(Step::Grant),
        6 => (0..2_usize).prop_map(Step::Call),
        1 => (0..2_usize).prop_map(Step::Return),
        4 => (0..2_usize).prop_map(Step::Watch),
        8 => (0..2_usize, 0..KEEPERS, fate).prop_map(|(p, keeper, fate)| Step::Write(p, keeper, fate)),
        4 => (0..2_usize).prop_map(Step::Pass),
        1 => (0..2_usize).prop_map(Step::Crash),
        1 => (0..2_usize).prop_map(Step::Again),
        1 => Just(Step::ToMidnight),
        2 => (0..3_u64).prop_map(Step::Wait),
        1 => (0..40_000_u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_crash_conflict_or_lost_answer_makes_a_day_longer(steps in steps(), limit in 1..14_u32) {
        let mut world = World::new(limit);
        for step in &steps {
            world.apply(step);
        }
    }
}

/// One process at a time, that uses up its day: what is lost is a block for each crash.
#[test]
fn a_crash_costs_no_more_than_a_block_of_the_day() {
    for crashes in 0..4 {
        let mut world = World::new(23);
        world.processes.truncate(1);
        let round = |world: &mut World, calls: u32| {
            for _ in 0..calls {
                world.apply(&Step::Ask(0));
                (0..KEEPERS).for_each(|keeper| world.apply(&Step::Write(0, keeper, Fate::Answered)));
                world.apply(&Step::Grant(0));
                world.apply(&Step::Call(0));
                world.apply(&Step::Wait(1));
            }
        };
        for _ in 0..crashes {
            round(&mut world, 1); // the first of a block: four are lost
            world.apply(&Step::Crash(0));
        }
        round(&mut world, 40);
        let calls: u32 = world.calls.values().sum();
        assert_eq!(calls, 23 - 4 * crashes, "{crashes} crashes");
    }
}
