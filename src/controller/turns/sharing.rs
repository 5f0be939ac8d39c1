//! Which accounts share which budget, and what each of them is to be told of it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt as _;

use super::{Budget, BudgetKey, Inner, LONG, Turns};
use crate::api::DataWorksAccount;
use crate::controller::objects::key_of;
use crate::controller::queue::ObjectKey;
use crate::quota::{Counted, Governor, Limits, Moment, Usage};
use crate::telemetry::{self, AccountName};

/// An account that draws on a budget.
#[derive(Clone, Debug, PartialEq)]
pub struct Party {
    /// Its uid.
    pub uid: String,
    /// Its namespace and name.
    pub key: ObjectKey,
    /// What it states; the lowest of all holds.
    pub limits: Limits,
    /// The day's count that its status holds.
    pub counted: Option<Counted>,
}

impl Party {
    /// The account, with these limits.
    #[must_use]
    pub fn of(account: &DataWorksAccount, limits: Limits) -> Self {
        let today = account.status.as_ref().and_then(|status| status.calls_today.as_ref());
        let counted = today.and_then(|today| Counted::read(&today.day, today.counted));
        Self { uid: account.uid().unwrap_or_default(), key: key_of(account), limits, counted }
    }
}

/// How long calls have waited for their count to be kept.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Uncounted {
    since: Option<Duration>,
    /// It is long, and those who wait know of it.
    is_told: bool,
}

impl Uncounted {
    /// Calls wait so, or do not, as of now. Says whether those who wait are to be told.
    fn goes_on(&mut self, waits: bool, now: Duration) -> bool {
        self.since = self.since.or(Some(now)).filter(|_| waits);
        let is_long = self.is_long(now);
        let was_told = std::mem::replace(&mut self.is_told, is_long);
        self.is_told != was_told
    }

    /// When it will be long, if it goes on.
    pub(super) fn long_at(self) -> Option<Duration> {
        self.since.filter(|_| !self.is_told).map(|since| since + LONG)
    }

    pub(super) fn is_long(self, now: Duration) -> bool {
        self.since.is_some_and(|since| now.saturating_sub(since) >= LONG)
    }
}

impl Turns {
    /// An account states the limits of its budget, and shows its count of the day. From another budget it is gone. One that
    /// is not there any more states nothing: it would be waited for, for ever, to keep the count.
    pub fn state(&self, budget: &BudgetKey, party: &Party, is_there: impl FnOnce() -> bool) {
        let now = self.now();
        let mut guard = self.lock();
        let inner = &mut *guard;
        if !is_there() {
            return;
        }
        if inner.budget_of.get(&party.uid) != Some(budget) {
            inner.leave_budget(&party.uid);
            inner.budget_of.insert(party.uid.clone(), budget.clone());
        }
        let entry = inner.budgets.entry(budget.clone()).or_insert_with(|| Budget {
            governor: Governor::new(party.limits),
            parties: BTreeMap::new(),
            under_way: 0,
            known_hold: None,
            asked: BTreeMap::new(),
            uncounted: Uncounted::default(),
            told: None,
        });
        if entry.parties.get(&party.uid) != Some(party) {
            entry.parties.insert(party.uid.clone(), party.clone());
            entry.told = None;
            entry.lowest_holds();
            entry.governor.keep(&party.uid, party.counted, now);
        }
    }

    /// All accounts were read: of a budget that several share, the highest count of the day is known.
    pub fn begin_counting(&self) {
        let began = std::mem::replace(&mut self.lock().counts, true);
        if !began {
            self.changed.notify_one();
        }
    }

    /// The count of the day that this account is to write now, if any. It says afterwards whether it did.
    pub fn block(&self, budget: &BudgetKey, uid: &str) -> Option<Counted> {
        let now = self.now();
        self.lock().budgets.get_mut(budget)?.governor.block(uid, now)
    }

    /// The account holds the count that it was to write, or may not hold it.
    pub fn block_ended(&self, budget: &BudgetKey, uid: &str, is_written: bool) {
        if let Some(budget) = self.lock().budgets.get_mut(budget) {
            if is_written {
                budget.governor.written(uid);
            } else {
                budget.governor.not_written(uid);
                // It may have been shown while it was written, and taken for that write's: it is looked at again.
                if let Some(party) = budget.parties.get_mut(uid) {
                    party.counted = None;
                }
            }
        }
        self.changed.notify_one();
    }

    /// The account is gone; it is so for all who are asked whether it is there.
    pub fn forget_account(&self, uid: &str) {
        self.lock().leave_budget(uid);
    }

    /// Tells how the budgets of all accounts stand, where that differs from what was told.
    pub fn tell_budgets(&self) {
        let now = self.now();
        for budget in self.lock().budgets.values_mut() {
            let usage = budget.governor.usage(now);
            let stands = telemetry::Budget {
                reads_per_second: usage.reads_per_second,
                writes_per_second: usage.writes_per_second,
                left_today: usage.left_today,
            };
            let is_news = budget.told != Some(stands);
            budget.told = Some(stands);
            for party in budget.parties.values().filter(|_| is_news) {
                let of = AccountName { namespace: &party.key.namespace, name: &party.key.name };
                self.metrics.account_budget(of, stands);
            }
        }
    }

    /// When the turn of an object that waits is expected to come, if nobody comes or goes.
    #[must_use]
    pub fn expected(&self, budget: Option<&BudgetKey>, uid: &str) -> Option<Timestamp> {
        let now = self.now();
        let standing = self.lock().budgets.get(budget?)?.governor.standing(uid, now)?;
        now.wall.checked_add(standing.expected_wait).ok()
    }

    /// What there is to tell of a budget.
    #[must_use]
    pub fn usage(&self, budget: &BudgetKey) -> Option<Usage> {
        let now = self.now();
        self.lock().budgets.get(budget).map(|b| b.governor.usage(now))
    }
}

impl Budget {
    /// Whether calls may begin: with a count of the day, not before the counts of all accounts are known.
    pub(super) fn may_call(&self, counts: bool) -> bool {
        counts || !self.governor.has_day_limit()
    }

    /// The accounts that are to write the count of the day, each told once of each count.
    pub(super) fn ask_for_block(&mut self, now: Moment) -> Vec<ObjectKey> {
        let lacking: BTreeMap<String, Counted> = self.governor.lacking(now).into_iter().collect();
        let is_news = |(uid, count): &(&String, &Counted)| self.asked.get(*uid) != Some(*count);
        let told: Vec<_> = lacking.iter().filter(is_news).filter_map(|(uid, _)| self.parties.get(uid)).collect();
        let told = told.into_iter().map(|party| party.key.clone()).collect();
        self.asked = lacking;
        told
    }

    fn lowest_holds(&mut self) {
        if let Some(lowest) = self.parties.values().map(|party| party.limits).reduce(Limits::lowest) {
            self.governor.set_limits(lowest);
        }
    }
}

impl Inner {
    /// Who is to write a count of the day, and who is to be told that none is written.
    pub(super) fn see_to_counts(&mut self, now: Moment) {
        for (key, budget) in &mut self.budgets {
            self.accounts.extend(budget.ask_for_block(now));
            if budget.uncounted.goes_on(!budget.asked.is_empty(), now.mono) {
                let waiting = self.waiting.values().filter(|(asked, _, _)| asked == key);
                self.woken.extend(waiting.map(|(_, _, object)| object.clone()));
            }
        }
    }

    fn leave_budget(&mut self, uid: &str) {
        let left = self.budget_of.remove(uid);
        if let Some(budget) = left.and_then(|key| self.budgets.get_mut(&key)) {
            budget.parties.remove(uid);
            budget.governor.forget_keeper(uid);
            budget.lowest_holds();
        }
    }

    /// Budgets that no account draws on, and of which nothing is to be remembered.
    pub(super) fn forget_budgets(&mut self, now: Moment) {
        let waiting = &self.waiting;
        let counts = |budget: &Budget| budget.governor.has_day_limit() && budget.governor.usage(now).used_today > 0;
        self.budgets.retain(|key, budget| {
            !budget.parties.is_empty()
                || budget.under_way > 0
                || counts(budget)
                || waiting.values().any(|(asked, _, _)| asked == key)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::plan::observed::Turn;
    use crate::quota::Lane;
    use crate::telemetry::Metrics;

    fn key(name: &str) -> ObjectKey {
        ObjectKey { namespace: "team".to_owned(), name: name.to_owned() }
    }

    fn budget(key_id: &str) -> BudgetKey {
        BudgetKey { place: "cn-shanghai".to_owned(), owner: key_id.to_owned() }
    }

    fn party(name: &str, calls_per_day: Option<u32>) -> Party {
        let limits = Limits::shared(5.0, calls_per_day);
        Party { uid: name.to_owned(), key: key(name), limits, counted: None }
    }

    fn turns() -> Turns {
        let turns = Turns::new(Clock::seeded(Timestamp::UNIX_EPOCH, 1), Metrics::new(), 64);
        turns.begin_counting();
        turns
    }

    fn asked(turns: &Turns) -> Vec<String> {
        turns.tick();
        turns.accounts_to_tell().into_iter().map(|key| key.name).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn all_accounts_of_a_budget_are_asked_once_for_each_block() {
        let turns = turns();
        let shared = budget("k");
        for name in ["basic", "other"] {
            turns.state(&shared, &party(name, Some(100).filter(|_| name == "basic")), || true);
        }
        turns.state(&budget("l"), &party("apart", Some(100)), || true);
        assert_eq!(asked(&turns), [""; 0], "nobody waits");
        turns.ask(&shared, "1", &key("job"), Lane::Start);
        assert_eq!(asked(&turns), ["basic", "other"]);
        assert_eq!(asked(&turns), [""; 0], "they know");
        for (name, turn) in
            [("basic", Turn::Waiting { lane: Lane::Start, long: false }), ("other", Turn::Held(Lane::Start))]
        {
            assert_eq!(turns.block(&shared, name).map(|block| block.calls), Some(5));
            turns.block_ended(&shared, name, true);
            turns.tick();
            assert_eq!(turns.standing(Some(&shared), "1").0, turn, "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_count_whose_write_had_no_answer_and_that_shows_meanwhile_opens_the_next_block() {
        let (turns, k) = (turns(), budget("k"));
        turns.state(&k, &party("basic", Some(100)), || true);
        turns.ask(&k, "1", &key("job"), Lane::Start);
        let block = turns.block(&k, "basic");
        assert_eq!(block.map(|block| block.calls), Some(5));
        let shown = Party { counted: block, ..party("basic", Some(100)) };
        turns.state(&k, &shown, || true);
        turns.block_ended(&k, "basic", false);
        turns.state(&k, &shown, || true);
        assert_eq!(turns.block(&k, "basic").map(|block| block.calls), Some(10), "the calls of the first may be made");
        turns.block_ended(&k, "basic", true);
        turns.tick();
        assert_eq!(turns.standing(Some(&k), "1").0, Turn::Held(Lane::Start));
    }

    #[tokio::test(start_paused = true)]
    async fn a_limited_day_begins_when_all_accounts_were_read() {
        let turns = Turns::new(Clock::seeded(Timestamp::UNIX_EPOCH, 1), Metrics::new(), 64);
        turns.state(&budget("k"), &party("basic", Some(100)), || true);
        turns.state(&budget("l"), &party("other", None), || true);
        turns.ask(&budget("k"), "1", &key("job"), Lane::Start);
        turns.ask(&budget("l"), "2", &key("job-2"), Lane::Start);
        assert!(turns.block(&budget("k"), "basic").is_some());
        turns.block_ended(&budget("k"), "basic", true);
        assert_eq!(turns.tick(), (vec![], None), "there is nothing to wake up for");
        assert_eq!(turns.standing(Some(&budget("l")), "2").0, Turn::Held(Lane::Start), "the other has no day");
        turns.begin_counting();
        assert_eq!(turns.tick().0, [key("job")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_count_that_is_not_written_is_told_after_a_while_and_when_that_is_over() {
        let turns = turns();
        turns.state(&budget("k"), &party("basic", Some(100)), || true);
        turns.ask(&budget("k"), "1", &key("job"), Lane::Start);
        let standing = || turns.standing(Some(&budget("k")), "1").0;
        let (woken, next) = turns.tick();
        assert_eq!((woken, next), (vec![], Some(LONG)), "it is looked at again when it is long");
        assert_eq!(turns.block(&budget("k"), "basic").map(|block| block.calls), Some(5));
        turns.block_ended(&budget("k"), "basic", false);
        tokio::time::advance(LONG.saturating_sub(Duration::from_millis(1))).await;
        assert_eq!(turns.tick().0, []);
        assert_eq!(standing(), Turn::Waiting { lane: Lane::Start, long: false });
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!((turns.tick(), standing()), ((vec![key("job")], None), Turn::Uncounted(Lane::Start)));
        assert_eq!(asked(&turns), ["basic"; 1], "it was asked once, and tries by itself");
        assert!(turns.block(&budget("k"), "basic").is_some());
        turns.block_ended(&budget("k"), "basic", true);
        assert_eq!((turns.tick().0, standing()), (vec![key("job")], Turn::Held(Lane::Start)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_with_another_key_leaves_its_budget_and_one_that_nobody_needs_is_forgotten() {
        let turns = turns();
        turns.state(&budget("k"), &party("low", None), || true);
        turns.state(&budget("k"), &Party { limits: Limits::split(50.0, 20.0), ..party("high", None) }, || true);
        let pace = || turns.usage(&budget("k")).map(|usage| usage.reads_per_second > 20.0);
        assert_eq!(pace(), Some(false));
        turns.state(&budget("l"), &party("low", None), || true);
        turns.tick();
        assert_eq!(pace(), Some(true), "the lowest of those that are left");
        turns.forget_account("high");
        turns.tick();
        assert_eq!(pace(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_budget_whose_calls_of_the_day_are_counted_is_remembered_until_the_day_is_over() {
        let turns = turns();
        turns.state(
            &budget("k"),
            &Party { counted: Counted::read("1970-01-01", 40), ..party("basic", Some(100)) },
            || true,
        );
        turns.forget_account("basic");
        turns.tick();
        assert_eq!(turns.usage(&budget("k")).map(|usage| usage.used_today), Some(40));
        tokio::time::advance(Duration::from_secs(24 * 3600)).await;
        turns.tick();
        assert_eq!(turns.usage(&budget("k")), None);
    }
}
