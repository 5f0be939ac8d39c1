//! What is counted of each account. Its series begin when it is first told of, and end with it.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Answer, Metrics, Operation, level};

type Labels<const N: usize> = [(&'static str, String); N];

/// Namespace and name.
#[derive(Clone, Copy, Debug)]
pub struct AccountName<'a> {
    /// Namespace.
    pub namespace: &'a str,
    /// Name.
    pub name: &'a str,
}

/// What there is to tell of the budget that an account draws on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// The pace of reads, per second.
    pub reads_per_second: f64,
    /// The pace of writes, per second.
    pub writes_per_second: f64,
    /// Calls left today. Absent: no limit.
    pub left_today: Option<u32>,
}

/// The classes of calls.
const CLASSES: [&str; 2] = ["read", "write"];

#[derive(Clone, Debug, Default)]
pub(super) struct Accounts {
    calls: Family<Labels<4>, Counter>,
    rate: Family<Labels<3>, Gauge<f64, AtomicU64>>,
    left: Family<Labels<2>, Gauge>,
}

impl Accounts {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let all = Self::default();
        registry.register(
            "account_calls",
            "Calls of the cloud's API by account and what came of them",
            all.calls.clone(),
        );
        registry.register("account_rate", "Calls per second that an account's budget allows now", all.rate.clone());
        registry.register(
            "account_calls_left_today",
            "Calls left of the day, where they are limited",
            all.left.clone(),
        );
        all
    }
}

fn calls(of: AccountName<'_>, operation: Operation, answer: Answer) -> Labels<4> {
    let [namespace, account] = account(of);
    [namespace, account, ("operation", operation.as_str().to_owned()), ("answer", answer.as_str().to_owned())]
}

fn account(of: AccountName<'_>) -> Labels<2> {
    [("namespace", of.namespace.to_owned()), ("account", of.name.to_owned())]
}

fn rate(of: AccountName<'_>, class: &str) -> Labels<3> {
    let [namespace, account] = account(of);
    [namespace, account, ("class", class.to_owned())]
}

impl Metrics {
    /// Counts one call of the cloud for the account that it was made for.
    pub fn account_call(&self, of: AccountName<'_>, operation: Operation, answer: Answer) {
        self.accounts.calls.get_or_create(&calls(of, operation, answer)).inc();
    }

    /// Says how the budget of an account stands now.
    pub fn account_budget(&self, of: AccountName<'_>, now: Budget) {
        for (class, pace) in CLASSES.into_iter().zip([now.reads_per_second, now.writes_per_second]) {
            self.accounts.rate.get_or_create(&rate(of, class)).set(pace);
        }
        match now.left_today {
            Some(left) => {
                let left = level(usize::try_from(left).unwrap_or(usize::MAX));
                self.accounts.left.get_or_create(&account(of)).set(left);
            }
            None => drop(self.accounts.left.remove(&account(of))),
        }
    }

    /// The account is gone, and all its series with it.
    pub fn forget_account(&self, of: AccountName<'_>) {
        for operation in Operation::ALL {
            for answer in Answer::ALL {
                self.accounts.calls.remove(&calls(of, *operation, *answer));
            }
        }
        for class in CLASSES {
            self.accounts.rate.remove(&rate(of, class));
        }
        self.accounts.left.remove(&account(of));
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const PROD: AccountName<'_> = AccountName { namespace: "team", name: "prod" };
    const TEST: AccountName<'_> = AccountName { namespace: "team", name: "test" };

    fn series(metrics: &Metrics) -> Vec<String> {
        let text = metrics.encode().unwrap();
        let mut series: Vec<String> =
            text.lines().filter(|line| line.starts_with("dijob_account_")).map(str::to_owned).collect();
        series.sort();
        series
    }

    #[test]
    fn the_series_of_an_account_begin_with_it_and_end_with_it() {
        let metrics = Metrics::new();
        assert_eq!(series(&metrics), [""; 0]);
        let budget = Budget { reads_per_second: 4.85, writes_per_second: 2.5, left_today: Some(40) };
        for of in [PROD, TEST] {
            metrics.account_call(of, Operation::StartDiJob, Answer::Ok);
            metrics.account_budget(of, budget);
        }
        metrics.account_call(PROD, Operation::GetDiJob, Answer::Denied);
        metrics.forget_account(TEST);
        let expected = [
            r#"dijob_account_calls_left_today{namespace="team",account="prod"} 40"#,
            r#"dijob_account_calls_total{namespace="team",account="prod",operation="get_di_job",answer="denied"} 1"#,
            r#"dijob_account_calls_total{namespace="team",account="prod",operation="start_di_job",answer="ok"} 1"#,
            r#"dijob_account_rate{namespace="team",account="prod",class="read"} 4.85"#,
            r#"dijob_account_rate{namespace="team",account="prod",class="write"} 2.5"#,
        ];
        assert_eq!(series(&metrics), expected);
        metrics.account_budget(PROD, Budget { left_today: None, ..budget });
        assert_eq!(series(&metrics).len(), 4, "it has no limit of the day any more");
        for answer in Answer::ALL {
            for operation in Operation::ALL {
                metrics.account_call(PROD, *operation, *answer);
            }
        }
        metrics.forget_account(PROD);
        assert_eq!(series(&metrics), [""; 0]);
    }
}
