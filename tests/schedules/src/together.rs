//! Promises about a run as a whole: what was sent, by whom, how fast, and what must be seen nowhere.
//!
//! **May touch:** its arguments.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::facts::{Check, Commit, Tally, carried, demand, recorded, secs, starts};
use crate::faults::Kind;
use crate::world::{CANARY, Record};

pub(crate) fn arrivals_were_committed(run: &Record, commits: &[Commit<'_>]) -> Check {
    let mut arrived: BTreeMap<&str, u64> = BTreeMap::new();
    for entry in starts(run) {
        let nonce = entry.nonce.as_deref().unwrap_or_default();
        let matches = |c: &&Commit<'_>| {
            let record = c.record;
            record.nonce == nonce
                && c.at <= entry.first_byte
                && Some(record.di_job_id) == entry.job
                && Some(record.signed_time.0.to_string()) == entry.signed_time
                && recorded(record) == carried(entry)
        };
        demand(commits.iter().any(|c| matches(&c)), "I3", || format!("arrival {} has no commit", entry.seq))?;
        let seen = arrived.entry(nonce).or_default();
        *seen += 1;
        let may = commits.iter().filter(|c| c.record.nonce == nonce).count() as u64;
        demand(*seen <= may, "I3", || format!("{seen} arrivals with the nonce of {may} commits"))?;
    }
    Ok(())
}

pub(crate) fn the_sender_held_the_lease(run: &Record) -> Check {
    if !run.schedule.election {
        return Ok(());
    }
    let start = |seq: u64| starts(run).any(|e| e.seq == seq);
    for sent in run.sent.iter().filter(|s| !s.paused && start(s.seq)) {
        let identity = run.identities.get(&sent.process);
        let renewed = run.history.iter().rev().find(|c| {
            &*c.resource == "leases"
                && c.time <= sent.left
                && *c.caller == *format!("p{}", sent.process)
                && c.object().pointer("/spec/holderIdentity").and_then(Value::as_str) == identity.map(String::as_str)
        });
        let held = renewed.is_some_and(|c| sent.left.duration_since(c.time) < secs(10));
        demand(held, "I3", || format!("p{} sent {} without the lease", sent.process, sent.seq))?;
    }
    Ok(())
}

pub(crate) fn within_the_limits(run: &Record) -> Check {
    let entries = run.ledger.entries();
    let mut windows: BTreeMap<(u64, String, bool), Vec<Timestamp>> = BTreeMap::new();
    for sent in &run.sent {
        let entry = usize::try_from(sent.seq).ok().and_then(|n| entries.get(n));
        let Some(entry) = entry else { continue };
        let is_start = entry.action.as_deref() == Some("StartDIJob");
        let key = entry.key_id.clone().unwrap_or_default();
        windows.entry((sent.process, key, is_start)).or_default().push(sent.left);
    }
    for ((process, _, is_start), mut times) in windows {
        times.sort_unstable();
        let limit = if is_start { 20 } else { 50 };
        let too_close = |w: &[Timestamp]| match (w.first(), w.last()) {
            (Some(first), Some(last)) => last.duration_since(*first) < SignedDuration::from_millis(990),
            _ => false,
        };
        let bad = times.windows(limit + 1).any(too_close);
        demand(!bad, "I6", || format!("p{process} made more than {limit} calls in a second"))?;
    }
    Ok(())
}

/// Where calls of a day are limited, the account's status has counted each call: over all days no more calls left than the
/// counts of its days come to. Clocks of processes differ by an hour, so their days are not compared with ours; and shortly
/// before a day turns one may count on the day to come, which begins anew for the next one.
pub(crate) fn calls_were_counted(run: &Record) -> Check {
    let turns = run.schedule.story == crate::story::Story::DayExhausted;
    let mut last: BTreeMap<&str, (String, i64)> = BTreeMap::new();
    let mut counted: BTreeMap<String, i64> = BTreeMap::new();
    for change in run.history.iter().filter(|c| &*c.resource == "dataworksaccounts") {
        let today = |field: &str| change.object().pointer(&format!("/status/callsToday/{field}")).cloned();
        let (day, calls) = (today("day").unwrap_or_default(), today("counted").unwrap_or_default());
        let (day, calls) = (day.as_str().unwrap_or_default(), calls.as_i64().unwrap_or_default());
        let (before, known) = last.remove(&*change.namespace).unwrap_or_default();
        let goes_on = before == day && (calls >= known || !turns);
        let (most, more) = if goes_on { (calls.max(known), (calls - known).max(0)) } else { (calls, calls) };
        last.insert(&change.namespace, (day.to_owned(), most));
        *counted.entry(crate::world::account_of(&change.namespace)).or_default() += more;
    }
    let limited = run.schedule.calls_per_day.is_some();
    let entries = run.ledger.entries();
    let mut made: BTreeMap<String, i64> = BTreeMap::new();
    for sent in &run.sent {
        let entry = usize::try_from(sent.seq).ok().and_then(|n| entries.get(n));
        let of_dataworks = |e: &&simulator::Entry| e.action.as_deref().is_some_and(|action| action.ends_with("DIJob"));
        let entry = entry.filter(of_dataworks); // STS has a quota of its own
        if let Some(namespace) = entry.and_then(|e| e.account.as_deref()) {
            *made.entry(namespace.to_owned()).or_default() += 1;
        }
    }
    for (account, calls) in made.into_iter().filter(|_| limited) {
        let counted = counted.get(&account).copied().unwrap_or_default();
        demand(calls <= counted, "I6", || format!("{calls} calls of {account}, and {counted} are counted"))?;
    }
    Ok(())
}

pub(crate) fn secrets_stay_secret(run: &Record, logs: &str) -> Check {
    demand(!logs.contains(CANARY), "I7", || "a secret is in the log".to_owned())?;
    for change in run.history.iter().filter(|c| &*c.resource != "secrets" && &*c.resource != "leases") {
        let text = change.object().to_string();
        let found = text.contains(CANARY) || text.contains("Signature=");
        demand(!found, "I7", || format!("a secret is in {} {}", change.resource, change.name))?;
    }
    Ok(())
}

/// A cloud that remembers nonces and shows starts at once lets no ordinary start run twice, unless the network or the
/// cloud itself held a copy back.
pub(crate) fn doubles_need_a_forgetful_cloud(run: &Record, tally: &Tally) -> Check {
    let held_back = run
        .faults
        .iter()
        .any(|(_, kind, _)| matches!(kind, Kind::LateArrival | Kind::LateExecution | Kind::Delay | Kind::PauseBefore));
    let kind = run.schedule.profile == crate::story::Profile::Default;
    demand(!kind || held_back || tally.lawful_doubles == 0, "I1", || "a double in a cloud that remembers".to_owned())
}
