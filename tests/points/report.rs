//! What came of all trials, as a table.
//!
//! **May touch:** its arguments; `git`, for the commit.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;

use super::faults::{Trial, word};
use super::plan::Done;
use super::run::End;

/// Rows with the same text in the first columns.
type Row = (usize, &'static str, String, String);

fn git(arguments: &[&str]) -> String {
    let output = Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
}

/// What is tried: asked before the trials, since the sources may move on while they run.
pub fn commit() -> String {
    let changed = if git(&["status", "--porcelain", "--", "src"]).is_empty() { "" } else { ", with changes in src" };
    git(&["rev-parse", "--short=12", "HEAD"]) + changed
}

/// The whole page.
pub fn report(all: &[Done], commit: &str) -> String {
    let count = |is_it: &dyn Fn(&Done) -> bool| all.iter().filter(|done| is_it(done)).count();
    let mut text = format!(
        "# Crash points\n\nWhat `cargo crash-points` said at commit {commit}: each story once without a fault, and once for each of its \
         exchanges, moments and faults, with the real binary, a real API server and the simulated cloud. A number in the last columns is a \
         run's executions; `?` behind it: the start rests as visibly unknown, by promise never sent twice.\n\n\
         Runs {}, of which {} ended Ready and {} as visibly unknown; not reached {}; executions {}, of which lawful doubles {}; runs with a \
         violation {}.\n\n| story | exchange | fault | moments | executions | violations |\n|---|---|---|---|---|---|\n",
        all.len(),
        count(&|d| d.record.end == End::Ready),
        count(&|d| d.record.end == End::Resting),
        count(&|d| !d.record.reached),
        all.iter().map(|d| d.record.executions).sum::<usize>(),
        all.iter().filter(|d| !d.story.forced).map(|d| d.record.executions.saturating_sub(1)).sum::<usize>(),
        count(&|d| !d.record.violations.is_empty()),
    );
    let mut rows: BTreeMap<Row, Vec<&Done>> = BTreeMap::new();
    for done in all {
        let row = match &done.trial {
            Trial::Plain => (0, done.story.name, String::new(), "none".to_owned()),
            Trial::Point(point) => (1, done.story.name, point.at.to_string(), point.fault.to_string()),
            Trial::Loop(_) => (2, done.story.name, "any".to_owned(), "ten crashes".to_owned()),
        };
        rows.entry(row).or_default().push(done);
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by_key(|((kind, story, ..), done)| (*story, *kind, done.iter().map(|d| d.number).min()));
    for ((_, story, exchange, fault), done) in rows {
        let moments: Vec<&str> = done.iter().map(|d| moment(&d.trial)).collect();
        let executions: Vec<String> = done.iter().map(|d| cell(d)).collect();
        let broken: Vec<&str> = done.iter().flat_map(|d| &d.record.violations).map(String::as_str).collect();
        let broken = if broken.is_empty() { "0".to_owned() } else { format!("**{}**", broken.join("; ")) };
        let _ = writeln!(
            text,
            "| {story} | {exchange} | {fault} | {} | {} | {broken} |",
            moments.join(", "),
            executions.join(", ")
        );
    }
    text
}

fn moment(trial: &Trial) -> &'static str {
    match trial {
        Trial::Plain => "-",
        Trial::Point(point) => word(point.moment),
        Trial::Loop(None) => "successive",
        Trial::Loop(Some(_)) => "random",
    }
}

fn cell(done: &Done) -> String {
    let end = match done.record.end {
        End::Ready => "",
        End::Resting => "?",
        End::Unsettled => "!",
    };
    let reached = if done.record.reached { "" } else { " (not reached)" };
    format!("{}{end}{reached}", done.record.executions)
}
