//! The judge of a run: it reads the cloud's ledger, the history of the object, and when its writes were answered.
//!
//! **May touch:** its arguments.
//!
//! **Guarantees:** it shares no code with the operator but the types of status. The invariants I1 to I5 are those that its
//! findings name.

use std::collections::{BTreeMap, BTreeSet};

use dijob_operator::api::{DataIntegrationJob, JobStatus, PendingStart};
use jiff::{SignedDuration, Timestamp};
use simulator::{Entry, Fate, Ledger, Verdict};

use super::faults::{Fault, Trial};
use super::run::End;
use super::scene::{SETTLE, Scene, status_of};
use super::stories::{CLOUD_JOB, Story};
use crate::support::proxy::Moment;
use crate::support::world::laws;

/// Two clocks that are read one after the other.
const READING: SignedDuration = SignedDuration::from_millis(20);
/// For so long a resend bears the same nonce.
const SAME_NONCE: SignedDuration = SignedDuration::from_mins(10);

/// A commit: the record, and when it was surely durable.
struct Commit {
    record: PendingStart,
    at: Option<Timestamp>,
}

/// All that is wrong.
pub fn judge(scene: &Scene, trial: &Trial, end: End, last: &DataIntegrationJob) -> Vec<String> {
    let (ledger, versions) = (scene.tenant.cloud.ledger(), scene.history.versions());
    let commits = commits(scene, &versions);
    let mut broken = Vec::new();
    broken.extend(executed(scene.story, &ledger));
    broken.extend(written_ahead(&ledger, &commits));
    broken.extend(resent(scene.story, &ledger, &commits));
    for (at, version) in versions.iter().enumerate() {
        broken.extend(laws(version).err().map(|law| format!("I5: {law}")));
        broken.extend(true_to_the_ledger(&ledger, version));
        broken.extend(tokens(scene.story, version, at.checked_sub(1).and_then(|before| versions.get(before))));
    }
    broken.extend(ended(scene.story, trial, end, &ledger, last));
    broken.sort();
    broken.dedup();
    broken
}

fn status(job: &DataIntegrationJob) -> JobStatus {
    job.status.clone().unwrap_or_default()
}

/// Each attempt that the history holds, in order.
fn commits(scene: &Scene, versions: &[DataIntegrationJob]) -> Vec<Commit> {
    let mut answered = BTreeMap::new();
    for replica in &scene.replicas {
        for exchange in replica.api.exchanges() {
            let pending: Option<PendingStart> =
                serde_json::from_value(status_of(&exchange)["pendingStart"].clone()).ok();
            let written = exchange.status.is_none_or(|status| status.is_success());
            // Whoever was killed with the write on its way saw no answer, and nor did the proxy.
            let cut = exchange.ended.filter(|_| exchange.moment == Moment::Forwarded);
            if let (Some(pending), Some(at), true) = (pending, exchange.answered.or(cut), written) {
                let at = scene.cloud_time(&replica.api, at);
                answered.entry((pending.nonce, pending.attempt)).or_insert(at);
            }
        }
    }
    let records: Vec<PendingStart> = versions.iter().filter_map(|version| status(version).pending_start).collect();
    let of = |record: &PendingStart| (record.nonce.clone(), record.attempt);
    let told: BTreeSet<_> = records.iter().filter(|record| record.answered).map(of).collect();
    let mut known = BTreeSet::new();
    let firsts = records.into_iter().filter(|record| known.insert(of(record)));
    firsts
        .map(|record| Commit {
            at: answered.get(&of(&record)).copied(),
            record: PendingStart { answered: told.contains(&of(&record)), ..record },
        })
        .collect()
}

/// I1: one start is asked for, the gateway remembers nonces, and a sign shows at once: so nothing runs twice.
fn executed(story: Story, ledger: &Ledger) -> Option<String> {
    let executions = ledger.executions(CLOUD_JOB);
    let law = if story.forced { "a forced start" } else { "an ordinary start, whose sign was there to be seen," };
    // Where no look can tell, a copy after one that was refused as a repetition bears another nonce: at least once.
    let may_run_again = !story.forced && !story.shows_a_sign();
    (executions.len() > 1 && !may_run_again).then(|| format!("I1: {law} ran {} times", executions.len()))
}

/// I3: what arrives was committed before, as it was committed, and not more often.
fn written_ahead(ledger: &Ledger, commits: &[Commit]) -> Vec<String> {
    let mut broken = Vec::new();
    for arrival in ledger.starts(CLOUD_JOB) {
        let of_nonce: Vec<&Commit> =
            commits.iter().filter(|c| Some(c.record.nonce.as_str()) == arrival.nonce.as_deref()).collect();
        let Some(first) = of_nonce.first() else {
            broken.push(format!("I3: arrival {} has no commit", arrival.seq));
            continue;
        };
        if of_nonce.iter().all(|c| c.at.is_none_or(|at| at > arrival.first_byte + READING)) {
            broken.push(format!("I3: arrival {} came before its commit was answered", arrival.seq));
        }
        let arrivals = ledger.starts(CLOUD_JOB).filter(|other| other.nonce == arrival.nonce).count();
        if arrivals > of_nonce.len() {
            broken.push(format!("I3: {arrivals} arrivals of {} commits", of_nonce.len()));
        }
        broken.extend(same(&first.record, arrival).map(|what| format!("I3: {what} is not as committed")));
    }
    broken
}

fn same(record: &PendingStart, arrival: &Entry) -> Option<&'static str> {
    let parameter = |name: &str| arrival.parameters.get(name).map(String::as_str);
    let settings = parameter("RealtimeStartSettings").map(|text| {
        serde_json::from_str::<serde_json::Value>(text).unwrap_or_else(|_| serde_json::Value::String(text.to_owned()))
    });
    let sent_start = settings.as_ref().and_then(|s| s["StartTime"].as_i64());
    let record_settings = record.realtime_start_settings.as_ref();
    let failover = settings.as_ref().and_then(|s| s["FailoverSettings"]["Interval"].as_i64());
    let rules = [
        (arrival.job == Some(record.di_job_id), "the job"),
        (arrival.signed_time.as_deref() == Some(record.signed_time.0.to_string().as_str()), "the signed time"),
        (arrival.key_id.as_deref() == Some(record.key_id.as_str()), "the key"),
        (
            parameter("ForceToRerun").is_some_and(|word| word.eq_ignore_ascii_case("true")) == record.force_to_rerun,
            "force",
        ),
        (sent_start == record_settings.and_then(|s| s.start_time), "the offset"),
        (
            failover == record_settings.and_then(|s| s.failover_settings.as_ref()).and_then(|f| f.interval),
            "the failover setting",
        ),
    ];
    rules.into_iter().find(|(holds, _)| !holds).map(|(_, what)| what)
}

/// I1: a further attempt follows a late enough look without a sign, and bears the nonce that it must.
fn resent(story: Story, ledger: &Ledger, commits: &[Commit]) -> Vec<String> {
    let mut broken = Vec::new();
    let settle = SignedDuration::try_from(SETTLE).unwrap();
    for pair in commits.windows(2) {
        let [before, after] = pair else { continue };
        if before.record.id != after.record.id || after.record.attempt <= before.record.attempt {
            continue;
        }
        let (Some(from), Some(until)) = (before.at, after.at) else { continue };
        let look = |entry: &&Entry| {
            entry.verdict == Verdict::Accepted
                && entry.answer == Fate::Sent
                && entry.first_byte + READING >= from + settle
                && entry.first_byte <= until
        };
        match ledger.of_action("GetDIJob").filter(look).last() {
            None => broken.push(format!("I1: attempt {} without a look after the settle time", after.record.attempt)),
            Some(look)
                if story.shows_a_sign()
                    && ledger.executions(CLOUD_JOB).iter().any(|e| e.at + READING < look.first_byte) =>
            {
                broken.push(format!("I1: attempt {} though the look showed a sign", after.record.attempt));
            }
            Some(_) => {}
        }
        if before.record.is_forced() {
            broken.push(format!("I1: attempt {} of a forced start", after.record.attempt));
        }
        let young = until.duration_since(before.record.signed_time.0) < SAME_NONCE;
        if young && !before.record.answered && after.record.nonce != before.record.nonce {
            broken.push(format!("I1: attempt {} with another nonce", after.record.attempt));
        }
    }
    broken
}

/// I5: what status says of starts, the ledger holds.
fn true_to_the_ledger(ledger: &Ledger, version: &DataIntegrationJob) -> Vec<String> {
    let mut broken = Vec::new();
    let status = status(version);
    let starts: Vec<&Entry> = ledger.starts(CLOUD_JOB).collect();
    let accepted = |id: &str| starts.iter().any(|e| e.request_id == id && e.verdict == Verdict::Accepted);
    if let Some(last) = &status.last_start {
        if last.request_id.as_ref().is_some_and(|id| last.outcome != "Rejected" && !accepted(id)) {
            broken.push(format!("I5: RequestId {:?} is invented", last.request_id));
        }
        let holds = match last.outcome.as_str() {
            "Accepted" => last.request_id.is_some(),
            "Confirmed" => !ledger.executions(CLOUD_JOB).is_empty(),
            "Rejected" => starts.iter().any(|e| match &e.verdict {
                Verdict::Refused { code, .. } => Some(code) == last.error.as_ref(),
                Verdict::Underway | Verdict::Accepted => false,
            }),
            _ => true,
        };
        if !holds {
            broken.push(format!("I5: {} is not what the cloud knows", last.outcome));
        }
    }
    if Some(status.observed_generation) > version.metadata.generation {
        broken.push("I5: a later generation than there is".to_owned());
    }
    broken
}

/// Only what is asked for is handled, only by an outcome, once, and never forgotten.
fn tokens(story: Story, version: &DataIntegrationJob, before: Option<&DataIntegrationJob>) -> Vec<String> {
    let (now, asked) = (status(version), story.tokens());
    let before = before.map(status).unwrap_or_default();
    let mut broken = Vec::new();
    if now.handled_rerun_tokens.iter().any(|token| !asked.contains(token)) {
        broken.push(format!("I4: {:?} was not asked for", now.handled_rerun_tokens));
    }
    if before.handled_rerun_tokens.iter().any(|token| !now.handled_rerun_tokens.contains(token)) {
        broken.push("I4: a token was forgotten".to_owned());
    }
    let open = now.pending_start.as_ref().is_some_and(|p| p.rerun_tokens == asked);
    if open && !asked.is_empty() && !now.handled_rerun_tokens.is_empty() {
        broken.push("I4: a token is handled before its start has an outcome".to_owned());
    }
    // What was refused surely did not run, and is asked for again.
    let finished = now.history.iter().filter(|s| s.trigger == story.trigger() && s.outcome != "Rejected").count();
    if finished > 1 {
        broken.push(format!("I4: one request has {finished} finished starts"));
    }
    broken
}

/// I2: nothing is lost in silence.
fn ended(story: Story, trial: &Trial, end: End, ledger: &Ledger, last: &DataIntegrationJob) -> Vec<String> {
    let mut broken = Vec::new();
    let status = status(last);
    match end {
        End::Ready => {
            if ledger.executions(CLOUD_JOB).is_empty() {
                broken.push("I2: it is Ready, and nothing ran".to_owned());
            }
            if status.handled_rerun_tokens != story.tokens() {
                broken.push(format!("I4: {:?} are the handled tokens", status.handled_rerun_tokens));
            }
        }
        End::Resting if !may_rest(trial) => {
            broken
                .push("I2: the start rests as unknown, though it surely never left, or its answer is known".to_owned());
        }
        End::Resting => {
            let pending = status.pending_start.as_ref();
            let refused = status.last_start.as_ref().is_none_or(|last| last.outcome == "Rejected");
            if pending.is_none_or(|p| p.trigger != story.trigger()) || !refused {
                broken.push("I2: an unknown start is not on record as such".to_owned());
            }
        }
        End::Unsettled => {
            let ready = last.status.iter().flat_map(|s| &s.conditions).find(|c| c.type_ == "Ready");
            let ready = ready.map(|c| format!("{} {}", c.reason, c.message));
            broken.push(format!("I2: it does not come to rest: {}", ready.unwrap_or_default()));
        }
    }
    broken
}

/// A start may be left unknown if a process died between commit and answer, or no usable answer came to the start itself,
/// or the process lost its Lease in between.
fn may_rest(trial: &Trial) -> bool {
    match trial {
        Trial::Plain => false,
        Trial::Loop(_) => true,
        Trial::Point(point) => match point.fault {
            Fault::Kill => true,
            Fault::Term => false,
            Fault::Cut | Fault::Hang | Fault::Late | Fault::VeryLate => {
                point.at.class == "StartDIJob" || point.at.class.ends_with("lease")
            }
        },
    }
}
