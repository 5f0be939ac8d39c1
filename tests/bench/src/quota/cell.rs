//! The cells: which cloud, and which load.
//!
//! **May touch:** its arguments; a simulator that it starts.

use std::ops::Range;
use std::time::Duration;

use simulator::{Limits, Neighbour, Rate, Settings, Simulator, Switches, Window};

use crate::{Failure, KEY};

/// Jobs that come to a backlog that others made.
const LATECOMERS: i64 = 10;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// All starts of one namespace; measured until each was accepted.
    Starts,
    /// Namespaces with unequal backlogs; measured until the first of them has none.
    Fair,
    /// A backlog, and behind it some jobs of another namespace; measured until these were started.
    Latecomers,
}

/// One measurement.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Limit, window and what is special, in one word.
    pub name: String,
    /// What is asked for.
    pub load: Load,
    /// Edition Enterprise, with a limit of 20/s for starts and one of 50/s for looks; else 5/s for all calls.
    pub is_split: bool,
    window: Window,
    has_neighbour: bool,
    /// Jobs of each namespace.
    jobs: Vec<u16>,
}

/// All of them, with so many starts each, and that backlog.
pub fn all(starts: u16, backlog: u16) -> Vec<Cell> {
    let windows = [("fixed", Window::FixedSecond), ("sliding", Window::SlidingLog), ("bucket", Window::TokenBucket)];
    let small = starts.div_ceil(23);
    let large = small.saturating_mul(10);
    let mut cells = Vec::new();
    for is_split in [true, false] {
        let mut add = |word: String, window, has_neighbour, load, jobs: &[u16]| {
            let name = format!("{}-{word}", if is_split { 20 } else { 5 });
            cells.push(Cell { name, load, is_split, window, has_neighbour, jobs: jobs.to_vec() });
        };
        for (word, window) in windows {
            add(word.to_owned(), window, false, Load::Starts, &[starts]);
            add(format!("{word}-neighbour"), window, true, Load::Starts, &[starts]);
        }
        add("fair".to_owned(), Window::FixedSecond, false, Load::Fair, &[large, small, large, small, small]);
        add("wait".to_owned(), Window::FixedSecond, false, Load::Latecomers, &[backlog]);
    }
    cells
}

impl Cell {
    /// The limit that starts draw on, per second.
    pub fn limit(&self) -> u32 {
        if self.is_split { 20 } else { 5 }
    }

    /// The edition with these limits.
    pub fn edition(&self) -> &'static str {
        if self.is_split { "Enterprise" } else { "Standard" }
    }

    /// The jobs of each namespace, by their ids.
    pub fn backlogs(&self) -> Vec<Range<i64>> {
        let mut end = 1;
        let next = |count: &u16| {
            let begin = end;
            end += i64::from(*count);
            begin..end
        };
        self.jobs.iter().map(next).collect()
    }

    /// The jobs that come later, to a namespace of their own.
    pub fn latecomers(&self) -> Range<i64> {
        let begin = self.backlogs().last().map_or(1, |ids| ids.end);
        begin..begin + if self.load == Load::Latecomers { LATECOMERS } else { 0 }
    }

    /// Several times what a pace near the limit needs, with a look before and after each start.
    pub fn patience(&self) -> Duration {
        let starts: u32 = self.jobs.iter().copied().map(u32::from).sum();
        let calls = if self.is_split { starts } else { 3 * starts };
        Duration::from_secs(60 + u64::from(6 * calls / self.limit()))
    }

    /// Its cloud, and all of its jobs at rest there.
    pub fn cloud(&self) -> Result<Simulator, Failure> {
        let rate = if self.is_split { Rate::Split { reads: 50, writes: 20 } } else { Rate::Total(5) };
        let limits = Limits { rate, window: self.window, burst: Some(1), ..Limits::enterprise() };
        let two_fifths = 2 * self.limit() / 5;
        let neighbour = Neighbour { writes_per_second: two_fifths, ..Neighbour::default() };
        let switches = Switches { limits, neighbour: self.has_neighbour.then_some(neighbour), ..Switches::default() };
        let jobs = (1..self.latecomers().end).collect();
        Ok(Simulator::start(Settings { switches, jobs, ..Settings::default() }.with_key(KEY.0, KEY.1))?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_cell_has_a_name_of_its_own_and_every_job_one_namespace() {
        let cells = all(1_000, 10_000);
        let names: BTreeSet<_> = cells.iter().map(|cell| cell.name.as_str()).collect();
        assert_eq!((names.len(), cells.len()), (16, 16));
        for cell in &cells {
            let mut ids: Vec<_> = cell.backlogs().into_iter().flatten().collect();
            ids.extend(cell.latecomers());
            let count = i64::try_from(ids.len()).unwrap_or_default();
            assert_eq!(ids, (1..=count).collect::<Vec<_>>(), "{}", cell.name);
        }
    }
}
