//! The governor against simulated clouds: rates, fairness, reserve, parking. Time is counted, never waited for; every
//! run follows from its seed.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use dijob_operator::quota::{Counted, Governor, Grant, HeldBy, Lane, Lesson, Limits, Moment, PermitId, Waiter};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

#[path = "quota/pace.rs"]
mod pace;

const SECOND: Duration = Duration::from_secs(1);

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// Ten in the morning of UTC+8: no day turns by accident.
fn morning() -> Timestamp {
    "2026-11-24T02:00:00Z".parse().unwrap()
}

fn moment(mono: Duration) -> Moment {
    Moment { mono, wall: morning() + SignedDuration::try_from(mono).unwrap() }
}

/// A waiter whose namespace is the part of its uid before the slash.
fn waiter(uid: &str) -> Waiter {
    Waiter { uid: uid.to_owned(), namespace: uid.split('/').next().unwrap().to_owned() }
}

fn namespace(uid: &str) -> String {
    waiter(uid).namespace
}

// ---- the simulated cloud

/// How the cloud counts a second.
#[derive(Clone, Copy, Debug)]
enum Window {
    /// Seconds that begin at this offset.
    Fixed(Duration),
    /// Any second.
    Sliding,
    /// One call each part of a second, none of them saved up.
    Bucket,
}

/// One limit of the cloud over all calls that it sees.
#[derive(Clone, Debug)]
struct Cloud {
    limit: usize,
    window: Window,
    counts_refused: bool,
    /// Refuses everything in this time.
    storm: Range<Duration>,
    hint: Option<Duration>,
    counted: Vec<Duration>,
    /// What a bucket holds, in calls, as of the last one that came.
    level: (f64, Duration),
    neighbour: Option<Neighbour>,
}

/// Another client, which calls evenly, and does not care for refusals.
#[derive(Clone, Debug)]
struct Neighbour {
    interval: Duration,
    next: Duration,
    calls: usize,
    refused: usize,
}

impl Cloud {
    fn new(limit: usize, window: Window) -> Self {
        Self {
            limit,
            window,
            counts_refused: true,
            storm: SECOND..SECOND,
            hint: None,
            counted: Vec::new(),
            level: (1.0, Duration::ZERO),
            neighbour: None,
        }
    }

    fn accepts(&mut self, at: Duration) -> bool {
        while let Some(due) = self.neighbour.as_ref().map(|neighbour| neighbour.next).filter(|next| *next <= at) {
            let is_refused = !self.admits(due);
            let Some(neighbour) = &mut self.neighbour else { break };
            neighbour.next += neighbour.interval;
            neighbour.calls += 1;
            neighbour.refused += usize::from(is_refused);
        }
        self.admits(at)
    }

    fn admits(&mut self, at: Duration) -> bool {
        let in_window = |earlier: &&Duration| match self.window {
            Window::Fixed(offset) => (**earlier + offset).as_secs() == (at + offset).as_secs(),
            Window::Sliding | Window::Bucket => **earlier + SECOND > at,
        };
        let seen = self.counted.iter().rev().take_while(in_window).count();
        let level = (self.level.0 + at.abs_diff(self.level.1).as_secs_f64() * count(self.limit)).min(1.0);
        let has_room = if matches!(self.window, Window::Bucket) { level >= 1.0 - 1e-9 } else { seen < self.limit };
        let accepted = has_room && !self.storm.contains(&at);
        if accepted || self.counts_refused {
            self.counted.push(at);
            self.level = ((level - 1.0).max(0.0), at);
        }
        accepted
    }
}

/// How long things take, in milliseconds.
#[derive(Clone, Debug)]
struct Delays {
    before_send: Range<u64>,
    there: Range<u64>,
    back: Range<u64>,
}

const CALM: Delays = Delays { before_send: 0..5, there: 10..40, back: 10..40 };

#[derive(Clone, Debug)]
enum Event {
    Ask(String, Lane),
    Send(Grant),
    /// With the time of sending.
    Arrive(Grant, Duration),
    Answer(Grant, bool),
}

/// A call that reached the cloud.
#[derive(Clone, Debug)]
struct Arrival {
    sent: Duration,
    at: Duration,
    uid: String,
    lane: Lane,
    accepted: bool,
}

struct World {
    governor: Governor,
    cloud: Cloud,
    delays: Delays,
    random: fastrand::Rng,
    now: Duration,
    events: BTreeMap<(Duration, u64), Event>,
    planned: u64,
    ledger: Vec<Arrival>,
    /// After an accepted look, its job asks for the start.
    looks_before_starts: bool,
    /// The longest queue of starts that was seen.
    starts_waiting: BTreeSet<String>,
    longest_start_queue: usize,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "a seeded source for simulations")]
    fn new(limits: Limits, cloud: Cloud, delays: Delays, seed: u64) -> Self {
        Self {
            governor: Governor::new(limits),
            cloud,
            delays,
            random: fastrand::Rng::with_seed(seed),
            now: Duration::ZERO,
            events: BTreeMap::new(),
            planned: 0,
            ledger: Vec::new(),
            looks_before_starts: false,
            starts_waiting: BTreeSet::new(),
            longest_start_queue: 0,
        }
    }

    fn plan(&mut self, at: Duration, event: Event) {
        self.planned += 1;
        self.events.insert((at, self.planned), event);
    }

    fn after(&mut self, millis: Range<u64>, event: Event) {
        let at = self.now + Duration::from_micros(self.random.u64(millis.start * 1_000..millis.end * 1_000));
        self.plan(at, event);
    }

    fn ask(&mut self, uid: &str, lane: Lane) {
        self.plan(self.now, Event::Ask(uid.to_owned(), lane));
    }

    fn note_start(&mut self, uid: &str, lane: Lane) {
        if lane == Lane::Start {
            self.starts_waiting.insert(uid.to_owned());
            self.longest_start_queue = self.longest_start_queue.max(self.starts_waiting.len());
        }
    }

    fn happen(&mut self, event: Event) {
        let now = moment(self.now);
        match event {
            Event::Ask(uid, lane) => {
                self.governor.ask(waiter(&uid), lane, now);
                self.note_start(&uid, lane);
            }
            Event::Send(grant) => {
                assert!(self.governor.sent(grant.permit, now));
                self.after(self.delays.there.clone(), Event::Arrive(grant, self.now));
            }
            Event::Arrive(grant, sent) => {
                let accepted = self.cloud.accepts(self.now);
                let Grant { uid, lane, .. } = grant.clone();
                self.ledger.push(Arrival { sent, at: self.now, uid, lane, accepted });
                self.after(self.delays.back.clone(), Event::Answer(grant, accepted));
            }
            Event::Answer(grant, accepted) => {
                self.governor.done(grant.permit, now);
                let lesson = if accepted { Lesson::Accepted } else { Lesson::Throttled { hint: self.cloud.hint } };
                self.governor.learn(lesson, grant.lane, now, 0.5);
                if !accepted {
                    self.governor.ask_front(waiter(&grant.uid), grant.lane, now);
                    self.note_start(&grant.uid, grant.lane);
                } else if grant.lane == Lane::Look && self.looks_before_starts {
                    self.governor.ask(waiter(&grant.uid), Lane::Start, now);
                    self.note_start(&grant.uid, Lane::Start);
                }
            }
        }
    }

    /// Runs until `end`, or until nothing waits and nothing is under way.
    fn run(&mut self, end: Duration) {
        while self.now < end {
            for grant in self.governor.grants(moment(self.now)) {
                self.starts_waiting.remove(&grant.uid);
                self.after(self.delays.before_send.clone(), Event::Send(grant));
            }
            let due = self.governor.next_at(moment(self.now));
            assert!(due.is_none_or(|due| due > self.now), "what is due now was granted");
            let event = self.events.keys().next().map(|(at, _)| *at);
            let Some(next) = due.into_iter().chain(event).min() else { return };
            self.now = next.min(end);
            while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let event = entry.remove();
                self.happen(event);
            }
        }
    }

    fn accepted(&self) -> impl Iterator<Item = &Arrival> {
        self.ledger.iter().filter(|arrival| arrival.accepted)
    }

    /// The most calls that fell into any one second, by one of their times.
    fn busiest_second(&self, time: impl Fn(&Arrival) -> Duration) -> usize {
        let mut times: Vec<_> = self.ledger.iter().map(time).collect();
        times.sort_unstable();
        let busy = |n: usize| times[n..].iter().take_while(|later| **later < times[n] + SECOND).count();
        (0..times.len()).map(busy).max().unwrap_or(0)
    }

    /// Accepted calls per second, from the first call to the last.
    fn goodput(&self) -> f64 {
        let span = self.ledger.last().unwrap().at.abs_diff(self.ledger[0].at);
        count(self.accepted().count()) / span.as_secs_f64()
    }
}

fn count(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap())
}

fn enterprise() -> Limits {
    Limits::split(50.0, 20.0)
}

fn standard() -> Limits {
    Limits::shared(5.0, None)
}

// ---- rates

#[test]
fn no_second_sees_more_calls_sent_than_the_limit() {
    let slow = Delays { before_send: 0..900, there: 1..900, back: 1..300 };
    let hurried = Delays { before_send: 0..1, there: 0..1, back: 0..1 };
    for seed in 0..8 {
        for (limits, limit) in [(standard(), 5), (enterprise(), 20)] {
            for (delays, more) in [(&CALM, 2), (&slow, limit), (&hurried, 1)] {
                for window in [Window::Sliding, Window::Fixed(Duration::from_millis(seed * 125)), Window::Bucket] {
                    let mut world = World::new(limits, Cloud::new(limit, window), delays.clone(), seed);
                    (0..300).for_each(|n| world.ask(&format!("a/{n}"), Lane::Start));
                    world.run(seconds(1200.0));
                    assert_eq!(world.accepted().count(), 300);
                    assert!(world.busiest_second(|call| call.sent) <= limit, "seed {seed}, {window:?}, {delays:?}");
                    let arrived = world.busiest_second(|call| call.at);
                    assert!(arrived <= limit + more, "{arrived} arrived, seed {seed}, {window:?}, {delays:?}");
                }
            }
        }
    }
}

#[test]
fn a_limit_lower_than_known_is_found_out() {
    let mut world = World::new(enterprise(), Cloud::new(10, Window::Fixed(Duration::ZERO)), CALM, 1);
    (0..1_000).for_each(|n| world.ask(&format!("a/{n}"), Lane::Start));
    world.run(seconds(600.0));
    assert_eq!(world.accepted().count(), 1_000);
    let refused = world.ledger.len() - 1_000;
    assert!(refused < 150 && world.goodput() > 7.0, "{refused} refused, {} a second", world.goodput());
}

#[test]
fn a_storm_of_ten_minutes_is_over_when_it_is_over() {
    for seed in 0..5 {
        for (limits, limit) in [(standard(), 5), (enterprise(), 20)] {
            let mut cloud = Cloud::new(limit, Window::Fixed(Duration::ZERO));
            cloud.storm = seconds(20.0)..seconds(620.0);
            let mut world = World::new(limits, cloud, CALM, seed);
            (0..5_000).for_each(|n| world.ask(&format!("a/{n}"), Lane::Start));
            world.run(seconds(700.0));
            let first = world.accepted().find(|arrival| arrival.at >= seconds(620.0)).unwrap();
            assert!(first.at <= seconds(622.0), "first accepted at {:?}", first.at);
            let refused = world.ledger.iter().filter(|arrival| !arrival.accepted).count();
            assert!(refused < 600 * 5, "{refused} calls were spent on the storm");
            let pace = world.governor.usage(moment(seconds(660.0))).writes_per_second;
            assert!(pace >= 0.9699 * count(limit), "{pace} a second 40 s after the storm");
            let late = world.accepted().filter(|arrival| arrival.at >= seconds(660.0)).count();
            assert!(count(late) >= 0.9 * 40.0 * count(limit), "{late} accepted in 40 s");
        }
    }
}

// ---- hints and days

/// A governor with one start waiting whose first call was answered with `lesson` at one second.
fn taught(limits: Limits, lesson: Lesson, wall_after: Moment) -> Governor {
    let mut governor = Governor::new(limits);
    governor.ask(waiter("a/1"), Lane::Start, wall_after);
    let grants = governor.grants(wall_after);
    assert!(governor.sent(grants[0].permit, wall_after));
    governor.done(grants[0].permit, wall_after);
    governor.learn(lesson, Lane::Start, wall_after, 0.5);
    governor.ask_front(waiter("a/1"), Lane::Start, wall_after);
    governor
}

#[test]
fn a_hint_holds_the_whole_budget() {
    let now = moment(SECOND);
    let mut governor = taught(enterprise(), Lesson::Throttled { hint: Some(seconds(7.0)) }, now);
    governor.ask(waiter("b/1"), Lane::Sweep, now);
    let held = governor.standing("b/1", now).unwrap().held.unwrap();
    assert_eq!((held.until, held.by), (moment(seconds(8.0)).wall, HeldBy::Cloud));
    assert_eq!(governor.next_at(now), Some(seconds(8.0)));
    assert_eq!(governor.grants(moment(seconds(7.999))), []);
    let grants = governor.grants(moment(seconds(8.0)));
    assert_eq!(grants.iter().map(|grant| grant.uid.as_str()).collect::<Vec<_>>(), ["a/1", "b/1"]);
    assert_eq!(governor.usage(moment(seconds(8.0))).held, None);
}

#[test]
fn a_hint_is_followed_by_no_burst() {
    let now = moment(SECOND);
    let mut governor = taught(standard(), Lesson::Throttled { hint: Some(seconds(30.0)) }, now);
    (2..9).for_each(|n| governor.ask(waiter(&format!("a/{n}")), Lane::Start, now));
    let end = moment(seconds(31.0));
    assert_eq!(governor.grants(end).len(), 1);
    assert_eq!(governor.next_at(end), Some(end.mono + seconds(1.0 / 4.85)));
}

#[test]
fn a_shorter_hint_shortens_nothing() {
    let now = moment(SECOND);
    let mut governor = taught(enterprise(), Lesson::Throttled { hint: Some(seconds(7.0)) }, now);
    governor.learn(Lesson::Throttled { hint: Some(seconds(1.0)) }, Lane::Look, now, 0.5);
    assert_eq!(governor.next_at(now), Some(seconds(8.0)));
}

/// Covers: 11u.
#[test]
fn an_absurd_hint_is_capped() {
    let now = moment(SECOND);
    let mut governor = taught(standard(), Lesson::Throttled { hint: Some(Duration::MAX) }, now);
    assert_eq!(governor.next_at(now), Some(seconds(601.0)));
    assert_eq!(governor.grants(moment(seconds(601.0))).len(), 1);
}

#[test]
fn a_refusal_without_a_hint_costs_one_interval() {
    for hint in [None, Some(Duration::ZERO)] {
        let now = moment(SECOND);
        let governor = taught(standard(), Lesson::Throttled { hint }, now);
        assert_eq!(governor.next_at(now), Some(SECOND + seconds(0.2 * 17.0 / 16.0)));
        assert_eq!(governor.usage(now).held, None);
    }
}

#[test]
fn a_used_up_day_parks_the_budget_until_midnight_of_utc_plus_8() {
    let now = moment(SECOND);
    let mut governor = taught(standard(), Lesson::DailyLimit, now);
    let midnight = seconds(14.0 * 3600.0); // the morning is at ten
    assert_eq!(governor.next_at(now), Some(midnight + seconds(30.0)));
    let held = governor.standing("a/1", now).unwrap().held.unwrap();
    assert_eq!((held.until.to_string().as_str(), held.by), ("2026-11-24T16:00:30Z", HeldBy::DailyLimit));
    assert_eq!(governor.grants(moment(midnight)), []);
    assert_eq!(governor.grants(moment(midnight + seconds(30.0))).len(), 1);
}

#[test]
fn a_daily_limit_told_at_midnight_is_not_believed_for_a_whole_day() {
    let past = seconds(14.0 * 3600.0 + 20.0);
    let governor = taught(Limits::shared(5.0, Some(100)), Lesson::DailyLimit, moment(past));
    assert_eq!(governor.next_at(moment(past)), Some(past + seconds(280.0 + 30.0)));
    assert_eq!(governor.usage(moment(past)).left_today, Some(99));
}

#[test]
fn a_day_has_its_limit_and_the_next_one_too() {
    let mut world = World::new(Limits::shared(5.0, Some(100)), Cloud::new(5, Window::Fixed(Duration::ZERO)), CALM, 1);
    (0..250).for_each(|n| world.ask(&format!("a/{n}"), Lane::Start));
    let told = |world: &World, n: u32| world.governor.standing(&format!("a/{n}"), moment(world.now)).unwrap();
    world.run(seconds(1.0));
    assert!(told(&world, 50).expected_wait < seconds(12.0));
    assert!(told(&world, 150).expected_wait > seconds(13.0 * 3600.0));
    assert!(told(&world, 249).expected_wait > seconds(37.0 * 3600.0));
    world.run(seconds(3600.0));
    assert_eq!(world.ledger.len(), 100);
    assert_eq!(told(&world, 150).held.map(|hold| hold.by), Some(HeldBy::DailyLimit));
    let midnight = seconds(14.0 * 3600.0);
    assert_eq!(world.governor.next_at(moment(world.now)), Some(midnight));
    world.run(midnight + seconds(3600.0));
    assert_eq!(world.ledger.len(), 200);
    world.run(midnight + seconds(25.0 * 3600.0));
    assert_eq!(world.accepted().count(), 250);
}

#[test]
fn a_tenth_of_the_day_is_kept_for_starts_and_looks() {
    let mut world = World::new(Limits::shared(5.0, Some(100)), Cloud::new(5, Window::Fixed(Duration::ZERO)), CALM, 1);
    (0..200).for_each(|n| world.ask(&format!("a/{n}"), Lane::Sweep));
    world.run(seconds(3600.0));
    assert_eq!(world.ledger.len(), 90);
    assert_eq!(world.governor.standing("a/150", moment(world.now)).unwrap().held.unwrap().by, HeldBy::DailyLimit);
    assert_eq!(world.governor.usage(moment(world.now)).held, None, "starts are not held");
    (0..8).for_each(|n| world.ask(&format!("b/{n}"), if n < 4 { Lane::Look } else { Lane::Start }));
    (0..8).for_each(|n| world.ask(&format!("c/{n}"), Lane::Start));
    world.run(seconds(7200.0));
    assert_eq!(world.ledger.len(), 100);
}

#[test]
fn a_restart_does_not_refill_the_day() {
    let now = moment(SECOND);
    let mut governor = Governor::new(Limits::shared(5.0, Some(100)));
    let shows = |governor: &mut Governor, day, calls| governor.keep("main", Counted::read(day, calls), now);
    shows(&mut governor, "2026-11-23", 100);
    assert_eq!(governor.usage(now).left_today, Some(100), "that was yesterday");
    shows(&mut governor, "2026-11-24", 100);
    shows(&mut governor, "2026-11-24", 40);
    governor.ask(waiter("a/1"), Lane::Start, now);
    assert_eq!(governor.grants(now), []);
    assert_eq!(governor.next_at(now), Some(seconds(14.0 * 3600.0)));
}

#[test]
fn calls_under_way_at_midnight_count_for_both_days() {
    let mut governor = Governor::new(Limits::split(50.0, 20.0));
    let late = moment(seconds(14.0 * 3600.0 - 0.5));
    for n in 0..4 {
        let at = moment(late.mono + seconds(0.06) * n);
        governor.ask(waiter(&format!("a/{n}")), Lane::Start, at);
        let permit = governor.grants(at)[0].permit;
        match n {
            0 => governor.done(permit, at),
            1 => assert!(governor.sent(permit, at)),
            _ => {}
        }
    }
    assert_eq!(governor.usage(late).used_today, 4);
    let next = moment(seconds(14.0 * 3600.0));
    assert_eq!(governor.grants(next), []);
    assert_eq!(governor.usage(next).used_today, 3, "all but the one that is done");
}

fn one_start(governor: &mut Governor, now: Moment) -> PermitId {
    governor.ask(waiter("a/1"), Lane::Start, now);
    governor.grants(now)[0].permit
}

#[test]
fn a_permit_given_back_costs_neither_its_slot_nor_the_day() {
    let mut governor = Governor::new(Limits::shared(5.0, Some(2)));
    let now = moment(SECOND);
    for n in 0..50 {
        governor.ask(waiter(&format!("a/{n}")), Lane::Start, now);
        let grants = governor.grants(now);
        assert_eq!(grants.len(), 1, "{n}");
        governor.give_back(grants[0].permit, now);
        governor.give_back(grants[0].permit, now);
        assert!(!governor.sent(grants[0].permit, now), "it is gone");
    }
    assert_eq!(governor.usage(now).left_today, Some(2));
}

#[test]
fn a_call_that_was_sent_cannot_be_given_back() {
    let mut governor = Governor::new(Limits::shared(5.0, Some(2)));
    let now = moment(SECOND);
    governor.ask(waiter("a/1"), Lane::Start, now);
    let permit = governor.grants(now)[0].permit;
    assert!(governor.sent(permit, now));
    governor.give_back(permit, now);
    assert_eq!(governor.usage(now).left_today, Some(1));
}

#[test]
fn a_permit_taken_back_cannot_be_given_back() {
    let mut governor = Governor::new(enterprise());
    let permit = one_start(&mut governor, moment(Duration::ZERO));
    let end = moment(seconds(20.0));
    assert_eq!(governor.grants(end), []);
    governor.give_back(permit, end);
    assert_eq!(governor.usage(end).used_today, 1, "whoever held it may have called");
}

#[test]
fn a_call_answered_at_midnight_was_of_the_day_before() {
    let mut governor = Governor::new(enterprise());
    let at = |mono, wall: &str| Moment { mono: seconds(mono), wall: wall.parse().unwrap() };
    let permit = one_start(&mut governor, at(1.0, "2026-11-24T15:59:59.9Z"));
    assert!(governor.sent(permit, at(1.0, "2026-11-24T15:59:59.9Z")));
    let midnight = at(1.1, "2026-11-24T16:00:00Z");
    governor.done(permit, midnight);
    assert_eq!(governor.grants(midnight), []);
    assert_eq!(governor.usage(midnight).used_today, 0);
}

#[test]
fn a_lost_permit_is_taken_back() {
    let mut governor = Governor::new(Limits::shared(1.0, None));
    for (uid, at) in [("a/1", 1.0), ("a/2", 21.0)] {
        governor.ask(waiter(uid), Lane::Start, moment(seconds(1.0)));
        let grants = governor.grants(moment(seconds(at)));
        assert_eq!(grants.len(), 1, "{uid}");
        assert_eq!(governor.next_at(moment(seconds(at))), None);
        governor.ask(waiter("a/2"), Lane::Start, moment(seconds(at)));
        assert_eq!(governor.next_at(moment(seconds(at))), Some(seconds(at + 20.0)));
        assert!(!governor.sent(grants[0].permit, moment(seconds(at + 20.0))), "too late for {uid}");
    }
}

// ---- turns

fn jain(shares: &[f64]) -> f64 {
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    shares.iter().sum::<f64>().powi(2) / (count(shares.len()) * squares)
}

#[test]
fn namespaces_with_unequal_queues_get_equal_shares() {
    let mut world = World::new(enterprise(), Cloud::new(20, Window::Fixed(Duration::ZERO)), CALM, 1);
    for (name, backlog) in [("a", 1_000), ("b", 100), ("c", 1_000), ("d", 100), ("e", 100)] {
        (0..backlog).for_each(|n| world.ask(&format!("{name}/{n}"), Lane::Start));
    }
    world.run(seconds(20.0));
    let mut shares = BTreeMap::<String, f64>::new();
    world.accepted().for_each(|arrival| *shares.entry(namespace(&arrival.uid)).or_default() += 1.0);
    let index = jain(&shares.values().copied().collect::<Vec<_>>());
    assert!(shares.len() == 5 && index >= 0.95, "{index}: {shares:?}");
}

#[test]
fn one_job_beside_ten_thousand_waits_its_share() {
    let mut world = World::new(standard(), Cloud::new(5, Window::Fixed(Duration::ZERO)), CALM, 1);
    (0..10_000).for_each(|n| world.ask(&format!("crowd/{n}"), Lane::Start));
    world.run(seconds(10.0));
    world.ask("alone/1", Lane::Start);
    world.run(seconds(20.0));
    let served = world.accepted().find(|arrival| arrival.uid == "alone/1").unwrap();
    let fair = 2.0 * 2.0 / 5.0; // twice the namespaces over the limit
    assert!(served.at <= seconds(10.0 + fair), "{:?}", served.at);
}

#[test]
fn a_place_is_kept_over_repeated_asks() {
    let mut governor = Governor::new(standard());
    let now = moment(Duration::ZERO);
    for _ in 0..50 {
        for n in 0..20 {
            governor.ask(waiter(&format!("a/{n}")), Lane::Start, now);
        }
    }
    let told = governor.standing("a/7", now).unwrap();
    assert_eq!((told.position, told.held), (7, None));
    governor.ask(waiter("a/3"), Lane::Start, now);
    assert_eq!(governor.standing("a/3", now).unwrap().position, 3, "out of its turn, too");
    assert_eq!(governor.usage(now).waiting, 20);
    let mut order = Vec::new();
    while let Some(at) = governor.next_at(moment(Duration::ZERO)) {
        for grant in governor.grants(moment(at)) {
            governor.done(grant.permit, moment(at));
            order.push(grant.uid);
        }
        governor.ask(waiter("a/19"), Lane::Start, moment(at));
        if order.last().is_some_and(|uid| uid == "a/19") {
            break;
        }
    }
    assert_eq!(order, (0..20).map(|n| format!("a/{n}")).collect::<Vec<_>>());
}

#[test]
fn asking_for_another_lane_moves_the_waiter() {
    let mut governor = Governor::new(enterprise());
    let now = moment(Duration::ZERO);
    governor.ask(waiter("a/1"), Lane::Look, now);
    governor.ask(waiter("a/1"), Lane::Start, now);
    let grants = governor.grants(now);
    assert_eq!(grants.iter().map(|grant| grant.lane).collect::<Vec<_>>(), [Lane::Start]);
    assert_eq!((governor.standing("a/1", now), governor.next_at(now)), (None, None));
}

#[test]
fn whoever_leaves_gets_no_turn() {
    let mut governor = Governor::new(standard());
    let now = moment(Duration::ZERO);
    governor.ask(waiter("a/1"), Lane::Start, now);
    governor.leave("a/1");
    governor.leave("a/2");
    assert_eq!((governor.grants(now), governor.next_at(now)), (vec![], None));
}

#[test]
fn a_throttled_start_returns_to_the_front() {
    let mut governor = Governor::new(standard());
    let now = moment(Duration::ZERO);
    for uid in ["a/1", "a/2", "a/3", "b/1", "c/1"] {
        governor.ask(waiter(uid), Lane::Start, now);
    }
    let first = governor.grants(now);
    assert_eq!(first[0].uid, "a/1");
    governor.done(first[0].permit, now);
    governor.learn(Lesson::Throttled { hint: None }, Lane::Start, now, 0.5);
    governor.ask_front(waiter("a/1"), Lane::Start, now);
    assert_eq!(governor.standing("a/1", now).unwrap().position, 0);
    let mut order = Vec::new();
    let mut at = Duration::ZERO;
    while let Some(next) = governor.next_at(moment(at)) {
        at = next;
        for grant in governor.grants(moment(at)) {
            governor.done(grant.permit, moment(at));
            order.push(grant.uid);
        }
    }
    assert_eq!(order, ["a/1", "b/1", "c/1", "a/2", "a/3"]);
}

#[test]
fn the_expected_wait_comes_true() {
    let mut world = World::new(enterprise(), Cloud::new(20, Window::Fixed(Duration::ZERO)), CALM, 1);
    for (name, backlog) in [("a", 300), ("b", 30)] {
        (0..backlog).for_each(|n| world.ask(&format!("{name}/{n}"), Lane::Start));
    }
    world.run(seconds(1.0));
    let told: Vec<_> = ["a/15", "a/200", "b/25"]
        .map(|uid| (uid, world.now + world.governor.standing(uid, moment(world.now)).unwrap().expected_wait))
        .into();
    world.run(seconds(60.0));
    for (uid, expected) in told {
        let served = world.ledger.iter().find(|arrival| arrival.uid == uid).unwrap().at;
        assert!(served.abs_diff(expected) < expected.mul_f64(0.1), "{uid}: told {expected:?}, served {served:?}");
    }
}

// ---- lanes

#[test]
fn only_those_who_draw_on_the_same_limit_stand_before_one() {
    for (limits, position) in [(enterprise(), 0), (standard(), 3)] {
        let mut governor = Governor::new(limits);
        let now = moment(SECOND);
        (0..3).for_each(|n| governor.ask(waiter(&format!("a/{n}")), Lane::Start, now));
        governor.ask(waiter("b/look"), Lane::Look, now);
        assert_eq!(governor.standing("b/look", now).unwrap().position, position);
    }
}

#[test]
fn starts_go_before_looks_and_looks_before_sweeps() {
    let mut world = World::new(standard(), Cloud::new(5, Window::Fixed(Duration::ZERO)), CALM, 1);
    for n in 0..20 {
        world.ask(&format!("a/{n}"), Lane::Sweep);
        world.ask(&format!("b/{n}"), Lane::Look);
        world.ask(&format!("c/{n}"), Lane::Start);
    }
    world.run(Duration::from_nanos(1));
    assert_eq!(world.governor.standing("a/3", moment(world.now)).unwrap().position, 19 + 20 + 3);
    world.run(seconds(60.0));
    let mut ledger = world.ledger.clone();
    ledger.sort_by_key(|arrival| arrival.lane);
    let lanes = |ledger: &[Arrival]| ledger.iter().map(|arrival| arrival.lane).collect::<Vec<_>>();
    assert_eq!(lanes(&world.ledger), lanes(&ledger));
}

#[test]
fn looks_do_not_starve_starts_and_stay_close_ahead_of_them() {
    for (limits, limit, queue) in [(standard(), 5, 5), (enterprise(), 1_000, 97 + 20)] {
        let mut world = World::new(limits, Cloud::new(limit, Window::Fixed(Duration::ZERO)), CALM, 1);
        world.looks_before_starts = true;
        (0..600).for_each(|n| world.ask(&format!("a/{n}"), Lane::Look));
        (0..600).for_each(|n| world.ask(&format!("b/{n}"), Lane::Sweep));
        world.run(seconds(20.0));
        let starts = world.accepted().filter(|arrival| arrival.lane == Lane::Start).count();
        let share = if limit == 5 { 2.5 } else { 19.4 };
        assert!(count(starts) >= 20.0 * share * 0.9 - 3.0, "{starts} starts");
        assert!(world.longest_start_queue <= queue, "{} starts wait with an old look", world.longest_start_queue);
    }
}

#[test]
fn looks_are_withheld_while_five_seconds_of_starts_wait() {
    let mut governor = Governor::new(enterprise());
    let now = moment(Duration::ZERO);
    (0..99).for_each(|n| governor.ask(waiter(&format!("a/{n}")), Lane::Start, now));
    governor.ask(waiter("b/1"), Lane::Look, now);
    let lanes = |grants: Vec<Grant>| grants.into_iter().map(|grant| grant.lane).collect::<Vec<_>>();
    assert_eq!(lanes(governor.grants(now)), [Lane::Start], "98 starts are 5.05 s at 19.4 a second");
    governor.leave("a/50");
    governor.leave("a/60");
    assert_eq!(lanes(governor.grants(now)), [Lane::Look], "96 starts are less");
}

#[test]
fn looks_are_not_withheld_while_just_five_seconds_of_starts_wait() {
    // One start a second, of which the first is granted at once.
    for (starts, looks) in [(6, 1), (7, 0)] {
        let mut governor = Governor::new(Limits::split(50.0, 1.0 / 0.97));
        let now = moment(SECOND);
        (0..starts).for_each(|n| governor.ask(waiter(&format!("a/{n}")), Lane::Start, now));
        governor.ask(waiter("a/look"), Lane::Look, now);
        let grants = governor.grants(now);
        assert_eq!(grants.iter().filter(|grant| grant.lane == Lane::Look).count(), looks, "{starts}");
    }
}

#[test]
fn reads_and_writes_of_a_shared_budget_take_one_pace() {
    let mut governor = Governor::new(standard());
    let now = moment(Duration::ZERO);
    governor.ask(waiter("a/1"), Lane::Start, now);
    governor.ask(waiter("a/2"), Lane::Look, now);
    assert_eq!(governor.grants(now).len(), 1);
    assert_eq!(governor.next_at(now), Some(seconds(1.0 / 4.85)));
}

#[test]
fn idle_time_saves_up_nothing() {
    let mut governor = Governor::new(standard());
    governor.ask(waiter("a/0"), Lane::Start, moment(seconds(1.0)));
    assert_eq!(governor.grants(moment(seconds(1.0))).len(), 1);
    for at in [1.35, 100.0] {
        (0..3).for_each(|n| governor.ask(waiter(&format!("a/{n}")), Lane::Start, moment(seconds(at))));
        assert_eq!(governor.grants(moment(seconds(at))).len(), 1);
        assert_eq!(governor.next_at(moment(seconds(at))), Some(seconds(at) + seconds(1.0 / 4.85)));
        (0..3).for_each(|n| governor.leave(&format!("a/{n}")));
    }
}

#[test]
fn the_first_of_an_idle_budget_begins_a_new_schedule() {
    let at = seconds(100.0);
    let mut governor = Governor::new(standard());
    governor.ask(waiter("a/0"), Lane::Start, moment(at));
    assert_eq!(governor.grants(moment(at)).len(), 1);
    governor.ask(waiter("a/1"), Lane::Start, moment(at));
    assert_eq!(governor.next_at(moment(at)), Some(at + seconds(1.0 / 4.85)), "idle time gave a second call at once");
}

#[test]
fn whoever_joins_a_queue_costs_it_no_pace() {
    let (first, late) = (seconds(1.0), seconds(1.0 + 1.5 / 4.85));
    let mut governor = Governor::new(standard());
    (0..2).for_each(|n| governor.ask(waiter(&format!("a/{n}")), Lane::Start, moment(first)));
    assert_eq!(governor.grants(moment(first)).len(), 1);
    governor.ask(waiter("a/2"), Lane::Start, moment(late));
    assert_eq!(governor.grants(moment(late)).len(), 1);
    let next = governor.next_at(moment(late)).unwrap();
    assert!(next.abs_diff(first + seconds(2.0 / 4.85)) < Duration::from_nanos(10), "{next:?}");
}

#[test]
fn the_lowest_limits_hold() {
    let both = enterprise().lowest(Limits::shared(5.0, Some(100)));
    assert_eq!(both, Limits::shared(5.0, Some(100)));
    assert_eq!(both, Limits::shared(5.0, Some(100)).lowest(enterprise()));
    let mut governor = Governor::new(enterprise());
    governor.set_limits(both);
    let usage = governor.usage(moment(Duration::ZERO));
    assert!((usage.writes_per_second - 4.85).abs() < 1e-6 && usage.left_today == Some(100));
}

// ---- any order of anything

#[derive(Clone, Debug)]
enum Step {
    Ask(u8, Lane),
    AskFront(u8, Lane),
    Leave(u8),
    Wait(u64),
    WaitForTurn,
    Send(u8),
    Done(u8),
    GiveBack(u8),
    Learn(Lesson, Lane),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lane = || prop_oneof![Just(Lane::Start), Just(Lane::Look), Just(Lane::Sweep)];
    let hint = prop_oneof![Just(None), (0_u64..2_000).prop_map(|millis| Some(Duration::from_millis(millis)))];
    let lesson = prop_oneof![
        4 => Just(Lesson::Accepted),
        4 => hint.prop_map(|hint| Lesson::Throttled { hint }),
        1 => Just(Lesson::DailyLimit),
    ];
    let step = prop_oneof![
        8 => (any::<u8>(), lane()).prop_map(|(who, lane)| Step::Ask(who, lane)),
        2 => (any::<u8>(), lane()).prop_map(|(who, lane)| Step::AskFront(who, lane)),
        1 => any::<u8>().prop_map(Step::Leave),
        4 => (0_u64..3_000).prop_map(Step::Wait),
        1 => (0_u64..90_000_000).prop_map(Step::Wait),
        8 => Just(Step::WaitForTurn),
        6 => any::<u8>().prop_map(Step::Send),
        6 => any::<u8>().prop_map(Step::Done),
        3 => any::<u8>().prop_map(Step::GiveBack),
        1 => (lesson, lane()).prop_map(|(lesson, lane)| Step::Learn(lesson, lane)),
    ];
    prop::collection::vec(step, 1..300)
}

/// A second reading of the rules, kept beside the governor.
struct Book {
    governor: Governor,
    limits: Limits,
    now: Duration,
    waiting: BTreeMap<String, Lane>,
    /// Granted, sent, done.
    permits: Vec<(Grant, Duration, Option<Duration>, Option<Duration>)>,
    gone: BTreeSet<PermitId>,
}

impl Book {
    fn occupied(&self, lanes: &[Lane]) -> f64 {
        let open = self.permits.iter().filter(|(grant, granted, sent, done)| {
            // Its guess of the arrival apart: a second from sending at least, two at most.
            let left = sent.map_or(*granted + 20 * SECOND, |sent| sent + 2 * SECOND);
            let end = done.map_or(left, |done| left.min(sent.unwrap_or(done) + SECOND));
            end > self.now && lanes.contains(&grant.lane) && !self.gone.contains(&grant.permit)
        });
        count(open.count())
    }

    fn pick(&self, n: u8) -> Option<usize> {
        let recent = self.permits.len().min(8);
        (recent > 0).then(|| self.permits.len() - 1 - usize::from(n) % recent)
    }

    fn take_grants(&mut self) -> usize {
        let now = moment(self.now);
        let grants = self.governor.grants(now);
        for grant in &grants {
            assert_eq!(self.waiting.remove(&grant.uid), Some(grant.lane), "only who waits is granted a turn");
            self.permits.push((grant.clone(), self.now, None, None));
        }
        assert!(self.occupied(&[Lane::Start]) <= self.limits.writes_per_second);
        assert!(self.occupied(&[Lane::Look, Lane::Sweep]) <= self.limits.reads_per_second);
        assert!(self.occupied(&Lane::ALL) <= self.limits.total_per_second.unwrap_or(f64::INFINITY));
        let usage = self.governor.usage(now);
        assert_eq!(usage.waiting, self.waiting.len(), "no waiter is lost");
        assert!(self.limits.calls_per_day.is_none_or(|limit| grants.is_empty() || usage.used_today <= limit));
        assert!(self.governor.next_at(now).is_none_or(|next| next > self.now), "what is due now was granted");
        grants.len()
    }

    fn apply(&mut self, step: &Step) {
        let now = moment(self.now);
        let who = |n: &u8| waiter(&format!("{}/{n}", n % 3));
        match step {
            Step::Ask(n, lane) => {
                self.governor.ask(who(n), *lane, now);
                self.waiting.insert(who(n).uid, *lane);
            }
            Step::AskFront(n, lane) => {
                self.governor.ask_front(who(n), *lane, now);
                self.waiting.insert(who(n).uid, *lane);
                let standing = self.governor.standing(&who(n).uid, now).unwrap();
                let before = self.waiting.values().filter(|other| **other < *lane).count();
                assert!(standing.position <= before, "the front is the front");
            }
            Step::Leave(n) => {
                self.governor.leave(&who(n).uid);
                self.waiting.remove(&who(n).uid);
            }
            Step::Wait(millis) => self.now += Duration::from_millis(*millis),
            Step::WaitForTurn => {
                if let Some(next) = self.governor.next_at(now) {
                    self.now = self.now.max(next);
                    assert!(self.take_grants() > 0, "a turn told is a turn given");
                }
            }
            Step::Send(n) => {
                let Some(at) = self.pick(*n) else { return };
                let (grant, granted, sent, done) = &mut self.permits[at];
                let may = self.governor.sent(grant.permit, now);
                if sent.is_none() && done.is_none() && !self.gone.contains(&grant.permit) {
                    assert_eq!(may, self.now < *granted + 20 * SECOND);
                    *sent = may.then_some(self.now);
                }
            }
            Step::Done(n) => {
                let Some(at) = self.pick(*n) else { return };
                let (grant, granted, sent, done) = &mut self.permits[at];
                self.governor.done(grant.permit, now);
                if done.is_none() && (sent.is_some() || self.now < *granted + 20 * SECOND) {
                    *done = Some(self.now);
                }
            }
            Step::GiveBack(n) => {
                let Some(at) = self.pick(*n) else { return };
                let (grant, _, sent, done) = &self.permits[at];
                if sent.is_none() && done.is_none() {
                    self.governor.give_back(grant.permit, now);
                    self.gone.insert(grant.permit);
                }
            }
            Step::Learn(lesson, lane) => self.governor.learn(*lesson, *lane, now, 0.3),
        }
        self.take_grants();
    }

    /// Lets all that waits have its turn.
    fn drain(&mut self) {
        for _ in 0..10_000 {
            let Some(next) = self.governor.next_at(moment(self.now)) else { break };
            self.now = self.now.max(next);
            self.take_grants();
            (0..8).for_each(|n| self.apply(&Step::Done(n)));
        }
        assert_eq!(self.waiting, BTreeMap::new(), "everyone had a turn");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_steps_exceeds_the_window_panics_or_loses_a_waiter(steps in steps(), edition in 0..3) {
        let limits = [Limits::shared(5.0, Some(100)), standard(), Limits::split(6.0, 3.0)][usize::try_from(edition).unwrap()];
        let mut book = Book {
            governor: Governor::new(limits),
            limits,
            now: Duration::ZERO,
            waiting: BTreeMap::new(),
            permits: Vec::new(),
            gone: BTreeSet::new(),
        };
        for step in &steps {
            book.apply(step);
        }
        book.drain();
    }
}
