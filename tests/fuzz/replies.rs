//! Answers of any status, with any headers and any body.

use std::time::Duration;

use dijob_operator::dataworks::model::DiJob;
use dijob_operator::dataworks::{Error, ErrorKind, Ran, Reply};
use serde_json::{Map, Value};

use super::cloud::{Answer, get, start};
use super::harness::{Verdict, demand, fuzz, plain};

/// `name` or `other` as a text that is not empty; numbers count.
fn text(object: &Map<String, Value>, name: &str, other: &str) -> Option<String> {
    [name, other].iter().filter_map(|name| object.get(*name)).find_map(|value| match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => None,
    })
}

/// Whether the answer says of itself that it failed.
fn denies(object: &Map<String, Value>) -> bool {
    ["Success", "success"].iter().any(|name| match object.get(*name) {
        Some(Value::Bool(success)) => !success,
        Some(Value::String(success)) => success.eq_ignore_ascii_case("false"),
        Some(Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_)) | None => false,
    })
}

fn judge(bytes: &[u8]) -> Verdict {
    let answer = Answer::read(bytes);
    let object = match serde_json::from_slice(&answer.body) {
        Ok(Value::Object(object)) => Some(object),
        Ok(_) | Err(_) => None,
    };
    let (started, looked) = (start(&answer), get(&answer));
    demand(started == start(&answer) && looked == get(&answer), || "another answer the second time".to_owned())?;
    let succeeds = answer.status == 200 && object.as_ref().is_some_and(|object| !denies(object));
    demand(started.result.is_ok() == succeeds, || format!("{:?}, but success is {succeeds}", started.result))?;
    let holds_a_job =
        object.as_ref().and_then(|object| object.get("Data")?.as_object()).is_some_and(|data| !data.is_empty());
    demand(looked.result.is_ok() == (succeeds && holds_a_job), || format!("{:?}", looked.result))?;
    demand(started.server_time.is_none() || answer.header("date").is_some(), || "a time from nowhere".to_owned())?;
    if let Ok(taken) = &started.result {
        taken.request_id.as_ref().map_or(Ok(()), |id| plain("RequestId", id, 128))?;
    }
    match &looked.result {
        Ok(job) => lawful_job(job)?,
        Err(error) => lawful_error(error, &answer, object.as_ref())?,
    }
    refused(&started, &answer, object.as_ref())
}

fn refused<T>(reply: &Reply<T>, answer: &Answer, object: Option<&Map<String, Value>>) -> Verdict {
    let Err(error) = &reply.result else { return Ok(()) };
    lawful_error(error, answer, object)?;
    // "Surely not executed" needs evidence: the cloud's own word, with its code and its RequestId, or a throttle's status.
    let own_word = object.is_some_and(|o| {
        answer.status == 200 || (text(o, "Code", "code").is_some() && text(o, "RequestId", "requestId").is_some())
    });
    demand(error.ran() == Ran::May || own_word || answer.status == 429, || {
        format!("did not run, says {error:?} of {} without evidence", answer.status)
    })
}

fn lawful_job(job: &DiJob) -> Verdict {
    demand(job.started_time.is_none_or(|time| (1..=4_102_444_799).contains(&time)), || {
        format!("StartedTime {:?}", job.started_time)
    })?;
    for (what, text, most) in [
        ("JobName", &job.name, 1024),
        ("JobStatus", &job.status, 128),
        ("ErrorMessage", &job.error_message, 1024),
        ("RequestId", &job.request_id, 128),
    ] {
        text.as_ref().map_or(Ok(()), |text| plain(what, text, most))?;
    }
    Ok(())
}

fn lawful_error(error: &Error, answer: &Answer, object: Option<&Map<String, Value>>) -> Verdict {
    demand(error.http_status == Some(answer.status) && error.answered() && !error.never_left(), || {
        format!("{error:?}")
    })?;
    for (what, text, most) in [
        ("code", &error.code, 128),
        ("message", &error.message, 1024),
        ("RequestId", &error.request_id, 128),
        ("all of it", &Some(error.to_string()), 1400),
    ] {
        text.as_ref().map_or(Ok(()), |text| plain(what, text, most))?;
    }
    demand(error.wait.is_none_or(|wait| wait > Duration::ZERO && wait <= Duration::from_secs(600)), || {
        format!("waits {:?}", error.wait)
    })?;
    let echoes = object.and_then(|o| text(o, "Code", "code")).is_some_and(|code| code.contains("Signature"));
    demand(!(echoes && object.is_some() && error.code.is_some()) || error.message.is_none(), || {
        format!("the message of a signature error is kept: {error:?}")
    })?;
    let nobody = object.is_none() && answer.status != 429;
    demand(!nobody || error.kind == ErrorKind::Server, || format!("{error:?} of an answer that is none of the cloud's"))
}

/// Covers: 9u.
#[test]
fn any_answer_is_read_as_what_it_is() {
    fuzz("replies", judge);
}

/// Covers: 9u.
#[test]
fn a_body_of_one_mebibyte_of_anything_is_read() {
    let unit: [&[u8]; 4] = [b"{\"Data\":", b"\x1f\x8b", b"9", b"\\u0000"];
    for unit in unit {
        for (before, after) in
            [(&b""[..], &b""[..]), (b"{\"Message\":\"", b"\"}"), (b"{\"Data\":{\"ErrorMessage\":\"", b"\"}}")]
        {
            let body = [before, &unit.repeat(1024 * 1024 / unit.len()), after].concat();
            for status in ["200", "400"] {
                judge(&[status.as_bytes(), b"\n\n", &body].concat()).unwrap();
            }
        }
    }
}
