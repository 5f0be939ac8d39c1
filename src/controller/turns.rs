//! The async face of the governor: keeps places and permits per object, and says whose turn has come.

mod sharing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

pub use self::sharing::Party;
use self::sharing::Uncounted;
use super::queue::ObjectKey;
use crate::clock::Clock;
use crate::dataworks::error::{Error, ErrorKind};
use crate::plan::observed::{Hold, Turn};
use crate::quota::{Counted, Governor, HeldBy, Lane, Lesson, Moment, PermitId, Waiter};
use crate::telemetry::{self, Metrics};

/// A wait that a person should be told of.
const LONG: Duration = Duration::from_secs(5);
/// A hold that all who wait are told of: a write for each of them is worth it. Its end moves by less while it lasts.
const LONG_HOLD: SignedDuration = SignedDuration::from_mins(1);

/// Whose calls are counted together: where they count, and for whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BudgetKey {
    /// Region, over all of its networks, or the host of an endpoint that names none.
    pub place: String,
    /// The cloud account, or the AccessKey where that is not known, each by its id.
    pub owner: String,
}

/// Permission for one call.
#[derive(Debug)]
pub struct Permit {
    budget: BudgetKey,
    lane: Lane,
    id: PermitId,
}

#[derive(Debug)]
struct Budget {
    governor: Governor,
    /// The accounts that share it, by uid.
    parties: BTreeMap<String, Party>,
    /// Calls granted that have not ended. Each holds a pass, or soon will.
    under_way: usize,
    /// The end of the long hold that those who wait know of.
    known_hold: Option<Timestamp>,
    /// The counts of the day that accounts were asked to write, by uid.
    asked: BTreeMap<String, Counted>,
    uncounted: Uncounted,
    /// What was last told of it in metrics.
    told: Option<telemetry::Budget>,
}

#[derive(Debug, Default)]
struct Inner {
    budgets: BTreeMap<BudgetKey, Budget>,
    /// The budget of each account, by uid.
    budget_of: BTreeMap<String, BudgetKey>,
    waiting: BTreeMap<String, (BudgetKey, Lane, ObjectKey)>,
    /// Since when each of them waits.
    asked_at: BTreeMap<String, Duration>,
    held: BTreeMap<String, Permit>,
    throttled: BTreeSet<String>,
    /// Whose turn came while another one asked, or who waits in a budget that is held now; they are yet to be woken.
    woken: Vec<ObjectKey>,
    /// Accounts whose budget has a long hold that began, moved or ended; they are yet to be told.
    accounts: BTreeSet<ObjectKey>,
    /// Every account was read since this process began to lead: what the day's counts say is known.
    counts: bool,
}

/// All budgets of this process.
#[derive(Debug)]
pub struct Turns {
    inner: Mutex<Inner>,
    clock: Clock,
    metrics: Metrics,
    /// Passes at once.
    passes: usize,
    /// Something changed that may bring a turn forward.
    pub changed: Notify,
}

impl Turns {
    /// No budget yet. Of the `passes` that others leave, one budget gets half: clouds that hang must not hold every pass.
    #[must_use]
    pub fn new(clock: Clock, metrics: Metrics, passes: usize) -> Self {
        Self { inner: Mutex::default(), clock, metrics, passes, changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Moment {
        Moment { mono: self.clock.elapsed(), wall: self.clock.now() }
    }

    /// Asks for a turn; a place once taken is kept.
    pub fn ask(&self, budget: &BudgetKey, uid: &str, key: &ObjectKey, lane: Lane) {
        let now = self.now();
        {
            let mut guard = self.lock();
            let inner = &mut *guard;
            if inner.held.get(uid).is_some_and(|p| p.lane != lane || p.budget != *budget) {
                inner.give_back(uid, now);
            }
            if inner.waiting.get(uid).is_some_and(|(asked, _, _)| asked != budget) {
                inner.leave(uid);
            }
            let Some(entry) = inner.budgets.get_mut(budget) else { return };
            let waiter = Waiter { uid: uid.to_owned(), namespace: key.namespace.clone() };
            if lane == Lane::Start && inner.throttled.remove(uid) {
                entry.governor.ask_front(waiter, lane, now);
            } else {
                entry.governor.ask(waiter, lane, now);
            }
            inner.waiting.insert(uid.to_owned(), (budget.clone(), lane, key.clone()));
            inner.asked_at.entry(uid.to_owned()).or_insert(now.mono);
            inner.grant(&self.metrics, self.passes, now);
            inner.woken.retain(|woken| woken != key); // it is awake
        }
        self.changed.notify_one();
    }

    /// Accounts that are to be told of their budget.
    #[must_use]
    pub fn accounts_to_tell(&self) -> BTreeSet<ObjectKey> {
        std::mem::take(&mut self.lock().accounts)
    }

    /// Gives out the turns that are due; says who is to be passed, and when to ask again.
    pub fn tick(&self) -> (Vec<ObjectKey>, Option<Duration>) {
        let now = self.now();
        let mut inner = self.lock();
        inner.grant(&self.metrics, self.passes, now);
        inner.wake_for_holds(now);
        inner.see_to_counts(now);
        inner.forget_budgets(now);
        let granted = std::mem::take(&mut inner.woken);
        self.metrics.waiting_turns(inner.waiting.len());
        // A budget with all its calls under way is looked at again when one of them ends.
        let total = inner.under_way();
        let free = inner.budgets.values().filter(|b| b.room(self.passes, total) > 0 && b.may_call(inner.counts));
        let next = free.filter_map(|b| b.governor.next_at(now)).min();
        let uncounted = inner.budgets.values().filter_map(|b| b.uncounted.long_at()).min();
        (granted, next.into_iter().chain(uncounted).min())
    }

    /// Where the object stands, and what holds its whole budget back.
    #[must_use]
    pub fn standing(&self, budget: Option<&BudgetKey>, uid: &str) -> (Turn, Option<Hold>) {
        let now = self.now();
        let inner = self.lock();
        let budgeted = budget.and_then(|b| inner.budgets.get(b));
        let governor = budgeted.map(|b| &b.governor);
        let uncounted = budgeted.is_some_and(|b| b.uncounted.is_long(now.mono));
        let turn = match (inner.held.get(uid), inner.waiting.get(uid)) {
            (Some(permit), _) if budget == Some(&permit.budget) => Turn::Held(permit.lane),
            (_, Some((asked, lane, _))) if budget == Some(asked) => {
                // A cloud that refuses everything makes a job wait that is always next.
                let wait = governor.and_then(|g| g.standing(uid, now)).map(|s| s.expected_wait.max(s.refused_for));
                if uncounted {
                    Turn::Uncounted(*lane)
                } else {
                    Turn::Waiting { lane: *lane, long: wait.is_some_and(|w| w > LONG) }
                }
            }
            (_, _) => Turn::None,
        };
        let held = governor.and_then(|g| g.usage(now).held);
        (turn, held.map(|h| Hold { until: h.until, day: h.by == HeldBy::DailyLimit }))
    }

    /// Takes the permit that is held, for a call that is made now.
    pub fn take(&self, uid: &str, lane: Lane) -> Option<Permit> {
        let mut inner = self.lock();
        if inner.held.get(uid)?.lane != lane {
            return None;
        }
        inner.held.remove(uid)
    }

    /// The call leaves now. False: the permit was kept too long and is void.
    #[must_use]
    pub fn sent(&self, permit: &Permit) -> bool {
        let now = self.now();
        self.lock().budgets.get_mut(&permit.budget).is_some_and(|b| b.governor.sent(permit.id, now))
    }

    /// The call was never made.
    #[expect(clippy::needless_pass_by_value, reason = "a permit is used up")]
    pub fn return_unused(&self, permit: Permit) {
        let now = self.now();
        self.metrics.permit(label(permit.lane), telemetry::Permit::Returned);
        if let Some(budget) = self.lock().budgets.get_mut(&permit.budget) {
            budget.governor.give_back(permit.id, now);
            budget.under_way = budget.under_way.saturating_sub(1);
        }
        self.changed.notify_one();
    }

    /// The call is over; its error, if any, teaches.
    #[expect(clippy::needless_pass_by_value, reason = "a permit is used up")]
    pub fn done(&self, uid: &str, permit: Permit, error: Option<&Error>) {
        let now = self.now();
        let lesson = match error.map(|e| (e.kind, e.wait)) {
            Some((ErrorKind::Throttled, hint)) => Lesson::Throttled { hint },
            Some((ErrorKind::DailyLimit, _)) => Lesson::DailyLimit,
            Some(_) | None => Lesson::Accepted,
        };
        let jitter = self.clock.jitter();
        let mut inner = self.lock();
        if lesson != Lesson::Accepted && permit.lane == Lane::Start {
            inner.throttled.insert(uid.to_owned());
        }
        if let Some(budget) = inner.budgets.get_mut(&permit.budget) {
            budget.under_way = budget.under_way.saturating_sub(1);
            budget.governor.done(permit.id, now);
            budget.governor.learn(lesson, permit.lane, now, jitter);
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Gives back what the object has or waits for, unless it is a turn in `wanted`.
    pub fn keep_only(&self, uid: &str, wanted: Option<Lane>) {
        let now = self.now();
        let mut inner = self.lock();
        if inner.held.get(uid).is_some_and(|p| Some(p.lane) != wanted) {
            inner.give_back(uid, now);
            self.changed.notify_one();
        }
        if inner.waiting.get(uid).is_some_and(|(_, lane, _)| Some(*lane) != wanted) {
            inner.leave(uid);
            self.changed.notify_one();
        }
    }

    /// The object is gone.
    pub fn forget(&self, uid: &str) {
        self.keep_only(uid, None);
        self.lock().throttled.remove(uid);
    }
}

impl Budget {
    /// Calls that it may still begin, with `total` of all budgets under way.
    fn room(&self, passes: usize, total: usize) -> usize {
        let others = total.saturating_sub(self.under_way);
        let most = passes.saturating_sub(others).div_ceil(2).max(1);
        most.saturating_sub(self.under_way)
    }
}

impl Inner {
    fn under_way(&self) -> usize {
        self.budgets.values().map(|budget| budget.under_way).sum()
    }

    fn grant(&mut self, metrics: &Metrics, passes: usize, now: Moment) {
        let mut total = self.under_way();
        let counts = self.counts;
        for (key, budget) in self.budgets.iter_mut().filter(|(_, budget)| budget.may_call(counts)) {
            let room = budget.room(passes, total);
            for grant in budget.governor.grants_within(now, room) {
                budget.under_way += 1;
                total += 1;
                metrics.permit(label(grant.lane), telemetry::Permit::Granted);
                let since = self.asked_at.remove(&grant.uid).unwrap_or(now.mono);
                metrics.permit_wait(label(grant.lane), now.mono.saturating_sub(since));
                if let Some((_, _, object)) = self.waiting.remove(&grant.uid) {
                    self.woken.push(object);
                }
                self.held.insert(grant.uid, Permit { budget: key.clone(), lane: grant.lane, id: grant.permit });
            }
        }
    }

    /// A long hold that begins, moves or ends is told to all that wait for it: nothing else would wake them before it ends.
    fn wake_for_holds(&mut self, now: Moment) {
        for (key, budget) in &mut self.budgets {
            let until = budget.governor.usage(now).held.map(|hold| hold.until);
            let until = until.filter(|until| until.duration_since(now.wall) > LONG_HOLD);
            let is_known = match (until, budget.known_hold) {
                (Some(until), Some(known)) => until.duration_since(known).abs() < LONG_HOLD,
                (until, known) => until == known,
            };
            if !is_known {
                budget.known_hold = until;
                let waiting = self.waiting.values().filter(|(asked, _, _)| asked == key);
                self.woken.extend(waiting.map(|(_, _, object)| object.clone()));
                self.accounts.extend(budget.parties.values().map(|party| party.key.clone()));
            }
        }
    }

    fn give_back(&mut self, uid: &str, now: Moment) {
        if let Some(permit) = self.held.remove(uid)
            && let Some(budget) = self.budgets.get_mut(&permit.budget)
        {
            budget.governor.give_back(permit.id, now);
            budget.under_way = budget.under_way.saturating_sub(1);
        }
    }

    fn leave(&mut self, uid: &str) {
        self.asked_at.remove(uid);
        if let Some((key, _, _)) = self.waiting.remove(uid)
            && let Some(budget) = self.budgets.get_mut(&key)
        {
            budget.governor.leave(uid);
        }
    }
}

fn label(lane: Lane) -> telemetry::Lane {
    match lane {
        Lane::Start => telemetry::Lane::Start,
        Lane::Look | Lane::Sweep => telemetry::Lane::Read,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataworks::error::Operation;
    use crate::quota::Limits;

    fn party(name: &str, limits: Limits) -> Party {
        Party { uid: name.to_owned(), key: object(name), limits, counted: None }
    }

    fn object(uid: &str) -> ObjectKey {
        ObjectKey { namespace: "team".to_owned(), name: uid.to_owned() }
    }

    fn budget(endpoint: &str) -> BudgetKey {
        BudgetKey { place: endpoint.to_owned(), owner: "k".to_owned() }
    }

    fn turns(passes: usize) -> Turns {
        let turns = Turns::new(Clock::seeded(Timestamp::UNIX_EPOCH, 1), Metrics::new(), passes);
        for endpoint in ["a", "b", "c", "d"] {
            turns.begin_counting();
            turns.state(&budget(endpoint), &party(endpoint, Limits::split(50.0, 20.0)), || true);
        }
        turns
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_came_while_another_asked_wakes_its_job() {
        let turns = turns(64);
        for uid in ["1", "2"] {
            turns.ask(&budget("a"), uid, &object(uid), Lane::Look);
        }
        assert_eq!(turns.standing(Some(&budget("a")), "1").0, Turn::Held(Lane::Look), "the first asks and has it");
        tokio::time::advance(Duration::from_secs(1)).await;
        turns.ask(&budget("a"), "3", &object("3"), Lane::Look);
        assert_eq!(turns.tick().0, [object("2")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cloud_that_hangs_holds_half_of_the_passes_that_others_leave() {
        let turns = turns(8);
        let mut calls = calls_that_hang(&turns, "a").await;
        assert_eq!(calls.len(), 4, "no call has ended, and half of 8 passes are taken");
        assert_eq!(turns.tick(), (Vec::new(), None), "nothing to wake up for before one of them ends");
        turns.ask(&budget("b"), "other", &object("other"), Lane::Look);
        let other = turns.take("other", Lane::Look);
        turns.done("other", other.expect("another account is not held up"), None);
        assert_eq!(calls_that_hang(&turns, "b").await.len(), 2, "a second cloud that hangs gets half of the rest");
        assert_eq!(calls_that_hang(&turns, "c").await.len(), 1, "and a third one half of that");
        turns.ask(&budget("d"), "d", &object("d"), Lane::Look);
        assert!(turns.take("d", Lane::Look).is_some(), "one is left");
        if let Some(call) = calls.pop() {
            turns.done("0", call, None);
        }
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(turns.tick().1.is_none(), "the last one is kept for yet another account");
    }

    /// The first calls of 20 that are asked for; none of them ends.
    async fn calls_that_hang(turns: &Turns, endpoint: &str) -> Vec<Permit> {
        let uids: Vec<String> = (0..20).map(|n| format!("{endpoint}{n}")).collect();
        for uid in &uids {
            turns.ask(&budget(endpoint), uid, &object(uid), Lane::Look);
        }
        let mut calls = Vec::new();
        for _ in 0..500 {
            turns.tick();
            calls.extend(uids.iter().filter_map(|uid| turns.take(uid, Lane::Look)));
            tokio::time::advance(Duration::from_millis(20)).await;
        }
        calls
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_that_nothing_but_refusals_keep_waiting_is_told_after_five_seconds() {
        let (turns, account) = (turns(64), budget("a"));
        let refusal = Error { kind: ErrorKind::Throttled, ..Error::unanswered(Operation::StartDiJob, false, "429") };
        let mut told = Vec::new();
        for (answer, after) in [(Some(&refusal), 0), (Some(&refusal), 4), (Some(&refusal), 2), (None, 2)] {
            tokio::time::advance(Duration::from_secs(after)).await;
            turns.ask(&account, "1", &object("1"), Lane::Start);
            let permit = turns.take("1", Lane::Start).expect("it is always next");
            assert!(turns.sent(&permit));
            turns.done("1", permit, answer);
            turns.ask(&account, "1", &object("1"), Lane::Start);
            let (turn, hold) = turns.standing(Some(&account), "1");
            assert_eq!(hold, None, "nobody says until when");
            told.push(matches!(turn, Turn::Waiting { long: true, .. }));
        }
        assert_eq!(told, [false, false, true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_told_once_when_the_days_calls_are_used_up() {
        let turns = turns(64);
        let spent = Limits { calls_per_day: Some(1), ..Limits::split(50.0, 20.0) };
        turns.state(&budget("a"), &party("a", spent), || true);
        for uid in ["1", "2", "3"] {
            turns.ask(&budget("a"), uid, &object(uid), Lane::Look);
        }
        turns.ask(&budget("b"), "other", &object("other"), Lane::Look);
        assert!(turns.block(&budget("a"), "a").is_some());
        turns.block_ended(&budget("a"), "a", true);
        assert_eq!(turns.tick().0, ["1", "2", "3"].map(object), "a turn, and all of the account whose day is over");
        for uid in ["2", "3"] {
            turns.ask(&budget("a"), uid, &object(uid), Lane::Look);
        }
        assert_eq!(turns.tick().0, [], "they know");
        tokio::time::advance(Duration::from_secs(24 * 3600)).await;
        let woken = turns.tick().0;
        assert!(woken.contains(&object("3")), "the day has turned, and what was said of it is over: {woken:?}");
    }
}
