//! Stored objects as an older, newer or foreign hand may have left them, and what is decided on them.

use dijob_operator::api::{DataIntegrationJob, DataWorksAccount, JobStatus};
use dijob_operator::plan::observed::PROTOCOL;
use dijob_operator::plan::{Action, Outcome, decide, next_status, notice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DeserializeGuard;
use serde_json::Value;

use super::harness::{Verdict, demand, fuzz};
use super::support::plan::{Build as _, ago, now, observed};
use super::support::schema::misfits;

fn judge_status(bytes: &[u8]) -> Verdict {
    let Ok(status) = serde_json::from_slice::<JobStatus>(bytes) else { return Ok(()) };
    let stored = serde_json::to_string(&status).map_err(|error| error.to_string())?;
    if stored.contains(":\"-0") || stored.contains(":\"-9") {
        return decided(status); // a year before 0, which a schema's date-time does not let in
    }
    let again: JobStatus = serde_json::from_str(&stored).map_err(|error| format!("cannot be read again: {error}"))?;
    demand(again == status, || format!("{again:?} is not {status:?}"))?;
    let bounded = status.clone().bounded();
    demand(bounded.clone().bounded() == bounded, || "cut twice, it is shorter".to_owned())?;
    decided(status)
}

/// Decides on it with an account, a key and a look; what comes of a status that fits the schema fits it too.
fn decided(mut status: JobStatus) -> Verdict {
    let stored = status.clone();
    let fits = misfits(&status).is_empty();
    let conditions = std::mem::take(&mut status.conditions);
    let newer = status.pending_start.as_ref().is_some_and(|p| p.protocol > PROTOCOL);
    for (word, called) in [("Stopped", 31), ("Running", 5), ("Odd", 4000)] {
        let seen = observed().cloud(word, Some(200)).with(|o| {
            o.record = status.clone();
            o.conditions.clone_from(&conditions);
            o.call_at = Some(ago(called));
        });
        let plan = decide(&seen, now());
        demand(plan == decide(&seen, now()), || "another plan the second time".to_owned())?;
        if newer {
            demand(plan.action == Action::Nothing, || format!("{:?} on a newer operator's record", plan.action))?;
        }
        let outcome = match &plan.action {
            Action::Start(record) => Outcome::Intended(record.clone()),
            Action::Look(_) => Outcome::Looked,
            Action::Nothing | Action::TakeTurn(_) | Action::Adopt | Action::Tidy | Action::Settle(_) => Outcome::Done,
        };
        let next = next_status(&seen, &plan, &outcome, now());
        let _ = notice::notices(&seen, &plan.action, &next.status);
        let wrong = misfits(&next.status);
        demand(!fits || wrong.is_empty(), || format!("{wrong:?} after {:?} of {stored:?}", plan.action))?;
    }
    Ok(())
}

fn judge_object(bytes: &[u8]) -> Verdict {
    let job = serde_json::from_slice::<DeserializeGuard<DataIntegrationJob>>(bytes);
    let account = serde_json::from_slice::<DeserializeGuard<DataWorksAccount>>(bytes);
    // An answer of the API server is text, and so is all that it escapes; where it is not, the two readers differ in what
    // they skip.
    let whole = serde_json::from_slice::<Value>(bytes).is_ok();
    let plain = std::str::from_utf8(bytes).ok().filter(|_| whole);
    let plain = plain.and_then(|text| serde_json::from_str::<DataIntegrationJob>(text).ok());
    if let Some(plain) = plain {
        let guarded = job.as_ref().ok().and_then(|job| job.0.as_ref().ok());
        demand(guarded == Some(&plain), || format!("the guard hides an object that can be read: {guarded:?}"))?;
        if let Some(status) = plain.status {
            decided(status)?;
        }
    }
    // One object with a name that cannot be read must not end a whole list.
    let named = serde_json::from_slice::<Value>(bytes).ok().filter(|value| {
        let metadata = value.get("metadata").cloned().map(serde_json::from_value::<ObjectMeta>);
        let is_text = |name: &str| value.get(name).is_none_or(Value::is_string);
        metadata.is_some_and(|m| m.is_ok()) && is_text("apiVersion") && is_text("kind")
    });
    for (kind, error) in [("job", job.err()), ("account", account.err())] {
        demand(named.is_none() || error.is_none(), || format!("the guard of the {kind} fails: {error:?}"))?;
    }
    Ok(())
}

#[test]
fn any_status_is_read_or_refused_and_decided_on() {
    fuzz("statuses", judge_status);
}

#[test]
fn any_object_is_read_or_set_aside() {
    fuzz("objects", judge_object);
}
