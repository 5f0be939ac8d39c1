//! Text of the cloud on its way to a condition, an event and a log line.

use std::io;
use std::sync::{Arc, Mutex};

use dijob_operator::api::JobStatus;
use dijob_operator::dataworks::error::safe_text;
use dijob_operator::plan::observed::{Answer as Said, Answered, Reading, Seen, View};
use dijob_operator::plan::{Action, Outcome, decide, next_status, notice};
use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

use super::cloud::{Answer, get, start};
use super::harness::{Verdict, demand, fuzz, plain};
use super::support::plan::{Build as _, ago, job, now, observed, status_laws};

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Kept {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn answered(status: u16, body: &Value) -> Answer {
    Answer { status, headers: Vec::new(), body: body.to_string().into_bytes() }
}

fn shown(what: &str, status: &JobStatus) -> Verdict {
    status_laws(status).map_err(|law| format!("{what}: {law}"))?;
    for condition in &status.conditions {
        // 1,024 characters, which the schema counts.
        plain(&format!("{what}: {}", condition.type_), &condition.message, 4 * 1024)?;
        demand(condition.message.chars().count() <= 1024, || format!("{what}: too long"))?;
    }
    let texts = [&status.job_error, &status.job_name, &status.job_status];
    texts.into_iter().flatten().try_for_each(|text| plain(what, text, 1024))
}

/// The text as message and RequestId of a refused start.
fn refused(text: &str, status: u16, code: &str) -> Verdict {
    let reply = start(&answered(status, &json!({"Code": code, "Message": text, "RequestId": text})));
    let error = reply.result.unwrap_err();
    let seen = observed().cloud("Stopped", Some(100));
    let plan = decide(&seen, now());
    let Action::Start(pending) = plan.action.clone() else { return Err(format!("no start: {plan:?}")) };
    let answer = Said::Failed(error.clone());
    let outcome =
        Outcome::Answered(Box::new(Answered { pending: *pending, credentials_version: String::new(), answer }));
    let next = next_status(&seen.called(0), &plan, &outcome, now());
    shown("a refused start", &next.status)?;
    for notice in notice::notices(&observed(), &plan.action, &next.status) {
        plain("an event", &notice.note, 4 * 1024)?;
    }
    logged(&error.to_string())
}

/// The text as name, word and error of a job that is read.
fn read(text: &str) -> Verdict {
    let data = json!({"DIJobId": 7, "JobName": text, "JobStatus": text, "ErrorMessage": text});
    let found = get(&answered(200, &json!({"RequestId": text, "Data": data}))).result.unwrap();
    for word in [found.status.clone().unwrap_or_default(), "Failed".to_owned()] {
        let view = View {
            word,
            started: Some(200),
            project: None,
            name: found.name.clone(),
            error: found.error_message.clone(),
        };
        let seen = observed().settled().with(|o| {
            o.reading = Some(Reading { job: job(), at: ago(0), seen: Seen::Job(view) });
            o.call_at = Some(ago(60));
        });
        let plan = decide(&seen, now());
        let outcome = if matches!(plan.action, Action::Look(_)) { Outcome::Looked } else { Outcome::Done };
        shown("a job that was read", &next_status(&seen, &plan, &outcome, now()).status)?;
    }
    Ok(())
}

/// One event is one line of JSON, and its text comes back as it was.
fn logged(text: &str) -> Verdict {
    let kept = Kept::default();
    // As the operator sets it up.
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(kept.clone());
    let log = log.json().flatten_event(true).with_span_list(false).finish();
    tracing::subscriber::with_default(log, || tracing::warn!(error = %text, "a call failed"));
    let bytes = kept.0.lock().unwrap().clone();
    let lines = String::from_utf8(bytes).map_err(|error| error.to_string())?;
    demand(lines.ends_with('\n') && lines.lines().count() == 1, || {
        format!("{} lines: {lines}", lines.lines().count())
    })?;
    let line: Value = serde_json::from_str(&lines).map_err(|error| format!("{error}: {lines}"))?;
    demand(line["error"] == text, || format!("{text:?} is logged as {line}"))
}

fn judge(bytes: &[u8]) -> Verdict {
    let text = String::from_utf8_lossy(bytes);
    let safe = safe_text(&text);
    plain("a safe text", &safe, 1024)?;
    demand(safe_text(&safe) == safe, || format!("made safe twice it differs: {safe:?}"))?;
    logged(&safe)?;
    for (status, code) in
        [(403, "Forbidden.RAM"), (500, "InternalError.System"), (429, "Throttling.User"), (400, &*text)]
    {
        refused(&text, status, code)?;
    }
    read(&text)
}

/// Covers: 37u.
#[test]
fn any_text_of_the_cloud_is_stripped_bounded_and_one_log_line() {
    fuzz("texts", judge);
}

/// Covers: 37u.
#[test]
fn one_mebibyte_of_any_character_is_cut_to_one_kibibyte() {
    for unit in ["\u{0}", "\u{202e}", "<script>", "é", "\u{1b}[31m", "https://h/?Signature=x "] {
        let text = unit.repeat(1024 * 1024 / unit.len());
        let judged = refused(&text, 403, "Forbidden.RAM").and_then(|()| read(&text));
        judged.unwrap_or_else(|wrong| panic!("{unit:?}: {wrong:.300}"));
    }
}
