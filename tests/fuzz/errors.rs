//! Codes, messages and statuses, and the hints of headers, each against a second reading of the API's pages.

use std::time::Duration;

use dijob_operator::dataworks::error::classify;
use dijob_operator::dataworks::{Error, ErrorKind, Operation, Ran};

use super::cloud::{Answer, get, start};
use super::harness::{Verdict, demand, fuzz};

/// An input: a line with the status, a line with the code (none if empty), the message.
fn judge_code(bytes: &[u8]) -> Verdict {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.splitn(3, '\n');
    let status: u16 = lines.next().and_then(|line| line.trim().parse().ok()).unwrap_or(400);
    let code = lines.next().filter(|code| !code.is_empty());
    let message = lines.next().unwrap_or_default();
    let kind = classify(code, Some(message), status);
    demand(kind == classify(code, Some(message), status), || "another kind the second time".to_owned())?;
    let code_ = code.unwrap_or_default();
    let says = format!("{kind:?} of {status}, {code_:?}, {message:?}");
    let is = |kinds: &[ErrorKind]| demand(kinds.contains(&kind), || says.clone());
    let names = |families: &[&str]| families.iter().any(|family| code_.starts_with(family));
    let names_no_job = message.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == "500130");
    // By code, whatever the status.
    if names(&["Throttling", "Rejected.Throttling"]) || code_ == "9990020002" {
        return is(&[ErrorKind::Throttled, ErrorKind::DailyLimit]);
    }
    if code_ == "500130" {
        return is(&[ErrorKind::NotFound]);
    }
    if code_ == "SignatureNonceUsed" {
        return is(&[ErrorKind::NonceUsed]);
    }
    if names(&["Forbidden", "NoPermission", "InvalidAccessKeyId"]) || code_ == "SignatureDoesNotMatch" {
        return is(&[ErrorKind::Denied]);
    }
    if names(&["InvalidTimeStamp"]) {
        return is(&[ErrorKind::ClockSkew]);
    }
    if names(&["InternalError", "ServiceUnavailable"]) {
        return is(&[ErrorKind::Server, ErrorKind::CallerUnknown, ErrorKind::NotFound]);
    }
    // By message, where the code says nothing.
    if message.contains("Throttling.") && !names(&["Invalid", "Missing", "Incomplete", "Illegal", "Unknown", "403030"])
    {
        return is(&[ErrorKind::Throttled, ErrorKind::DailyLimit, ErrorKind::NotFound]);
    }
    if status == 429 && code.is_none() && !names_no_job {
        return is(&[ErrorKind::Throttled, ErrorKind::DailyLimit]);
    }
    // By status: without a code nothing but a throttle or a message is evidence that it did not run.
    let error = Error { kind, ..Error::unanswered(Operation::StartDiJob, false, "") };
    let told = [ErrorKind::Throttled, ErrorKind::DailyLimit, ErrorKind::NotFound].contains(&kind);
    demand(code.is_some() || status == 200 || told || error.ran() == Ran::May, || says.clone())?;
    demand(status < 500 || told || code.is_some() || kind == ErrorKind::Server, || says.clone())
}

/// The longest of the hints, in milliseconds, read from the pages again.
fn hint(answer: &Answer) -> Option<u64> {
    let mut hints: Vec<String> = answer.header("x-acs-retry-after").map(str::to_owned).into_iter().collect();
    for name in ["x-ratelimit-user-api", "x-ratelimit-user"] {
        for field in answer.header(name).unwrap_or_default().split(',') {
            let field = field.trim();
            if let Some((name, value)) = field.split_once(':')
                && name.trim().eq_ignore_ascii_case("timeleft")
            {
                hints.push(value.to_owned());
            }
        }
    }
    let numbers = hints.iter().filter_map(|hint| hint.trim().parse::<i128>().ok());
    numbers.filter(|n| (1..=i128::from(u64::MAX)).contains(n)).max().and_then(|n| u64::try_from(n.min(600_000)).ok())
}

fn judge_hint(bytes: &[u8]) -> Verdict {
    let mut answer = Answer::read(bytes);
    if answer.status == 200 {
        answer.status = 429; // a success keeps no hint
    }
    let expected = hint(&answer).map(Duration::from_millis);
    for wait in [start(&answer).result.unwrap_err().wait, get(&answer).result.unwrap_err().wait] {
        demand(wait == expected, || format!("{wait:?}, not {expected:?}: {:?}", answer.headers))?;
    }
    Ok(())
}

/// Covers: 11u.
#[test]
fn any_error_is_classified_by_code_then_message_then_status() {
    fuzz("errors", judge_code);
}

/// Covers: 11u.
#[test]
fn any_hint_is_read_in_milliseconds_and_capped() {
    fuzz("hints", judge_hint);
}
