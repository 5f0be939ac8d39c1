//! Sums over many schedules, and the page that is made of them.
//!
//! **May touch:** its arguments.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::run::Played;
use crate::story::{STORIES, WAITING};

/// Sums over schedules.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Schedules played.
    pub schedules: u64,
    /// Faults by kind.
    pub faults: BTreeMap<String, u64>,
    /// Faults by story, exchange and kind.
    pub points: BTreeMap<(String, String, String), u64>,
    /// Exchanges by what they were about.
    pub exchanges: BTreeMap<String, u64>,
    /// Starts carried out, by profile.
    pub executions: BTreeMap<String, u64>,
    /// Lawful doubles by profile.
    pub doubles: BTreeMap<String, u64>,
    /// Records committed.
    pub commits: u64,
    /// Broken promises: seed, number, what.
    pub broken: Vec<(u64, String, String)>,
}

impl Report {
    /// Counts one schedule.
    pub fn add(&mut self, seed: u64, played: &Played) {
        self.schedules += 1;
        let record = &played.record;
        let story = format!("{:?}", record.schedule.story);
        for (_, kind, what) in &record.faults {
            let kind = format!("{kind:?}");
            *self.faults.entry(kind.clone()).or_default() += 1;
            *self.points.entry((story.clone(), what.clone(), kind)).or_default() += 1;
        }
        for (what, count) in &record.exchanges {
            *self.exchanges.entry(what.clone()).or_default() += count;
        }
        match &played.verdict {
            Ok(tally) => {
                let profile = format!("{:?}", record.schedule.profile);
                *self.executions.entry(profile.clone()).or_default() += tally.executions;
                *self.doubles.entry(profile).or_default() += tally.lawful_doubles;
                self.commits += tally.commits;
            }
            Err(broken) => self.broken.push((seed, broken.invariant.to_owned(), broken.what.clone())),
        }
    }

    /// Adds another one.
    pub fn merge(&mut self, other: Self) {
        fn sum<K: Ord>(into: &mut BTreeMap<K, u64>, from: BTreeMap<K, u64>) {
            for (key, count) in from {
                *into.entry(key).or_default() += count;
            }
        }
        self.schedules += other.schedules;
        self.commits += other.commits;
        sum(&mut self.faults, other.faults);
        sum(&mut self.points, other.points);
        sum(&mut self.exchanges, other.exchanges);
        sum(&mut self.executions, other.executions);
        sum(&mut self.doubles, other.doubles);
        self.broken.extend(other.broken);
        self.broken.sort();
    }

    /// All faults.
    #[must_use]
    pub fn struck(&self) -> u64 {
        self.faults.values().sum()
    }

    /// As Markdown.
    #[must_use]
    pub fn page(&self, seeds: &str, commit: &str, seconds: u64) -> String {
        let mut text = format!(
            "# Simulated schedules\n\nSeeds {seeds}, commit {commit}, {seconds} s.\n\n| measure | count |\n|---|---|\n| schedules | {} |\n| faults | {} |\n| records committed | {} |\n| violations | {} |\n",
            self.schedules,
            self.struck(),
            self.commits,
            self.broken.len()
        );
        text.push_str("\n| cloud | starts carried out | lawful doubles |\n|---|---|---|\n");
        for (profile, count) in &self.executions {
            let doubles = self.doubles.get(profile).copied().unwrap_or_default();
            let _ = writeln!(text, "| {profile} | {count} | {doubles} |");
        }
        text.push_str("\n| fault | struck |\n|---|---|\n");
        for (kind, count) in &self.faults {
            let _ = writeln!(text, "| {kind} | {count} |");
        }
        text.push_str("\n| exchange | reached | faults of so many kinds | in stories |\n|---|---|---|---|\n");
        for (what, count) in &self.exchanges {
            let here = || self.points.keys().filter(|(_, at, _)| at == what);
            let kinds: std::collections::BTreeSet<_> = here().map(|(.., kind)| kind).collect();
            let stories: std::collections::BTreeSet<_> = here().map(|(story, ..)| story).collect();
            let _ = writeln!(text, "| {what} | {count} | {} | {} |", kinds.len(), stories.len());
        }
        text.push_str("\nHoles (story x exchange without any fault):\n");
        for story in STORIES.iter().map(|s| format!("{s:?}")) {
            for what in self.exchanges.keys() {
                if !self.points.keys().any(|(s, at, _)| *s == story && at == what) {
                    let _ = writeln!(text, "- {story}: {what}");
                }
            }
        }
        let _ = writeln!(text, "\nStories that wait for features: {}.", WAITING.join("; "));
        for (seed, invariant, what) in &self.broken {
            let _ = writeln!(text, "\nviolation: seed {seed}: {invariant}: {what}");
        }
        text
    }
}
