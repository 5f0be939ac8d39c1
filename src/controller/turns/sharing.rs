//! Which accounts share which budget, and what each of them is to be told of it.

use std::collections::BTreeMap;

use kube::ResourceExt as _;

use super::{Budget, BudgetKey, Inner, Turns};
use crate::api::DataWorksAccount;
use crate::controller::objects::key_of;
use crate::controller::queue::ObjectKey;
use crate::quota::{Governor, Limits, Usage};

/// An account that draws on a budget.
#[derive(Clone, Debug, PartialEq)]
pub struct Party {
    /// Its uid.
    pub uid: String,
    /// Its namespace and name.
    pub key: ObjectKey,
    /// What it states; the lowest of all holds.
    pub limits: Limits,
}

impl Party {
    /// The account, with these limits.
    #[must_use]
    pub fn of(account: &DataWorksAccount, limits: Limits) -> Self {
        Self { uid: account.uid().unwrap_or_default(), key: key_of(account), limits }
    }
}

impl Turns {
    /// An account states the limits of its budget. From another budget it is gone.
    pub fn state(&self, budget: &BudgetKey, party: &Party) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        if inner.budget_of.get(&party.uid) != Some(budget) {
            inner.leave_budget(&party.uid);
            inner.budget_of.insert(party.uid.clone(), budget.clone());
        }
        let entry = inner.budgets.entry(budget.clone()).or_insert_with(|| Budget {
            governor: Governor::new(party.limits),
            parties: BTreeMap::new(),
            under_way: 0,
            known_hold: None,
        });
        if entry.parties.get(&party.uid) != Some(party) {
            entry.parties.insert(party.uid.clone(), party.clone());
            entry.lowest_holds();
        }
    }

    /// The account is gone, or has no key any more.
    pub fn forget_account(&self, uid: &str) {
        self.lock().leave_budget(uid);
    }

    /// What there is to tell of a budget.
    #[must_use]
    pub fn usage(&self, budget: &BudgetKey) -> Option<Usage> {
        let now = self.now();
        self.lock().budgets.get(budget).map(|b| b.governor.usage(now))
    }
}

impl Budget {
    fn lowest_holds(&mut self) {
        if let Some(lowest) = self.parties.values().map(|party| party.limits).reduce(Limits::lowest) {
            self.governor.set_limits(lowest);
        }
    }
}

impl Inner {
    fn leave_budget(&mut self, uid: &str) {
        let left = self.budget_of.remove(uid);
        if let Some(budget) = left.and_then(|key| self.budgets.get_mut(&key)) {
            budget.parties.remove(uid);
            budget.lowest_holds();
        }
    }

    /// Budgets that no account draws on, and of which nothing is to be remembered.
    pub(super) fn forget_budgets(&mut self) {
        let waiting = &self.waiting;
        self.budgets.retain(|key, budget| {
            !budget.parties.is_empty()
                || budget.under_way > 0
                || budget.governor.has_day_limit()
                || waiting.values().any(|(asked, _, _)| asked == key)
        });
    }
}
