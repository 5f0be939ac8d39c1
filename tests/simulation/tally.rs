//! Counts what schedules reached.

use std::collections::BTreeSet;

use super::oracle::Commit;
use super::world::{Version, World};

/// What schedules reached.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    commits: usize,
    resends: usize,
    executions: usize,
    lawful_doubles: usize,
    unknown: usize,
    confirmed: usize,
    adopted: usize,
    rejected: usize,
}

impl Tally {
    /// Sums up.
    pub fn add(&mut self, other: &Self) {
        self.commits += other.commits;
        self.resends += other.resends;
        self.executions += other.executions;
        self.lawful_doubles += other.lawful_doubles;
        self.unknown += other.unknown;
        self.confirmed += other.confirmed;
        self.adopted += other.adopted;
        self.rejected += other.rejected;
    }

    /// Nothing was missed.
    pub fn covers_all(&self) -> bool {
        [self.resends, self.executions, self.unknown, self.confirmed, self.adopted, self.rejected]
            .iter()
            .all(|n| *n > 0)
    }
}

/// Counts one run.
pub fn tally(world: &World, commits: &[Commit<'_>]) -> Tally {
    let ids: BTreeSet<&str> = world.cloud.executions.iter().filter_map(|e| e.id.as_deref()).collect();
    let ours = world.cloud.executions.iter().filter(|e| e.id.is_some()).count();
    let outcomes = |word: &str| {
        let of = |v: &Version| v.status.last_start.as_ref().map(|l| (l.id.clone(), l.outcome.clone()));
        world.history.windows(2).filter(|w| of(&w[0]) != of(&w[1]) && of(&w[1]).is_some_and(|l| l.1 == word)).count()
    };
    Tally {
        commits: commits.len(),
        resends: commits.iter().filter(|c| c.record.attempt > 1).count(),
        executions: world.cloud.executions.len(),
        lawful_doubles: ours - ids.len(),
        unknown: outcomes("Unknown"),
        confirmed: outcomes("Confirmed"),
        adopted: world
            .history
            .windows(2)
            .filter(|w| {
                w[0].status.applied != w[1].status.applied
                    && w[1].status.applied.is_some()
                    && w[1].status.last_start.is_none()
            })
            .count(),
        rejected: outcomes("Rejected"),
    }
}
