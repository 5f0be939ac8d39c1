//! What the scenes share: they are played and judged, and then looked at.

use std::time::Duration;

use schedules::oracle::judge;
use schedules::play::play;
use schedules::scene::Scene;
use schedules::story::{Edit, Schedule};
use schedules::world::Record;
use serde_json::Value;
use simulator::{Entry, Verdict};

pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Plays a scene; every promise must hold.
pub fn played(scene: Scene) -> Record {
    watched(scene.done(), Duration::ZERO)
}

/// The same, and the world is watched for so long once it has settled.
pub fn watched(schedule: Schedule, quiet: Duration) -> Record {
    let record = play(schedule, quiet);
    if let Err(broken) = judge(&record, "") {
        told(&record, &format!("{}: {}", broken.invariant, broken.what));
    }
    record
}

/// Fails with the story.
pub fn told(record: &Record, what: &str) -> ! {
    let ledger = record.ledger.entries().iter().map(|e| {
        let (at, action) = (record.second(e.last_byte), e.action.as_deref().unwrap_or_default());
        format!("{at:>9.3} s  ledger {action} {:?} {:?} executed {:?}", e.job, e.verdict, e.executed)
    });
    let versions = (0..record.schedule.jobs.len()).flat_map(|n| record.versions(n)).map(|(at, by, object)| {
        format!("{at:>9.3} s  version by {by}: {} {}", object["metadata"]["resourceVersion"], object["status"])
    });
    let mut lines: Vec<String> = record.story.iter().cloned().chain(ledger).chain(versions).collect();
    lines.sort();
    let skipped = lines.len().saturating_sub(400);
    panic!("{what}\n{}\n(and {skipped} lines more)\n{what}", lines[..lines.len() - skipped].join("\n"));
}

/// With the story if it does not hold.
pub fn must(record: &Record, holds: bool, what: &str) {
    if !holds {
        told(record, what);
    }
}

/// What the cloud saw of this action, with the second in which it came.
pub fn calls<'a>(record: &'a Record, action: &'a str) -> Vec<(f64, &'a Entry)> {
    record.ledger.of_action(action).map(|e| (record.second(e.last_byte), e)).collect()
}

/// Seconds in which starts were accepted.
pub fn accepted(record: &Record) -> Vec<f64> {
    let starts = calls(record, "StartDIJob").into_iter();
    starts.filter(|(_, e)| e.verdict == Verdict::Accepted).map(|(at, _)| at).collect()
}

pub fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// Status and reason of a condition; empty: it is not there.
pub fn condition<'a>(object: &'a Value, type_: &str) -> (&'a str, &'a str) {
    let all = object.pointer("/status/conditions").and_then(Value::as_array);
    let found = all.into_iter().flatten().find(|c| c["type"] == type_);
    found.map_or(("", ""), |c| (text(c, "/status"), text(c, "/reason")))
}

/// Requests of the processes between two seconds, but for the Lease, that this is true of.
pub fn asked(record: &Record, seconds: std::ops::Range<u64>, which: impl Fn(&str) -> bool) -> usize {
    let within = seconds.start * 1000..seconds.end * 1000;
    let here = record.asked.iter().filter(|a| within.contains(&u64::try_from(a.at.as_millis()).unwrap()));
    here.filter(|a| a.resource != "leases" && which(&format!("{:?} {}", a.verb, a.resource))).count()
}

/// How many versions of a job its processes made.
pub fn writes(record: &Record, n: usize) -> usize {
    record.versions(n).iter().filter(|(_, by, _)| by.starts_with('p') && *by != "people").count()
}

pub fn patch(n: usize, patch: Value) -> Edit {
    Edit::Patch(n, patch)
}
