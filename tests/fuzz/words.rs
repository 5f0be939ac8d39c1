//! Durations of flags, rerun tokens, and parts of access keys.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::time::Duration;

use clap::Parser as _;
use dijob_operator::config::Config;
use dijob_operator::dataworks::AccessKey;
use dijob_operator::plan::trigger::is_token;
use secrecy::ExposeSecret as _;

use super::harness::{Verdict, demand, fuzz};

/// A duration in Go's simple form, read by hand: whole numbers with `h`, `m`, `s` and `ms`, each unit once, in this order.
fn simple(text: &str) -> Option<u128> {
    let (mut rest, mut total, mut some) = (text, 0_u128, false);
    for (unit, worth) in [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let word = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        if digits > 0 && digits < 9 && &after[..word] == unit {
            total += number.parse::<u128>().ok()? * worth;
            (rest, some) = (&after[word..], true);
        }
    }
    (some && rest.is_empty()).then_some(total)
}

fn judge_duration(bytes: &[u8]) -> Verdict {
    let flag = OsString::from_vec([b"--settle-time=", bytes].concat());
    let read = Config::try_parse_from([OsString::from("dijob-operator"), flag]).map(|config| config.settle_time);
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    if let Some(milliseconds) = simple(text) {
        let valid = (1..=86_400_000).contains(&milliseconds);
        let as_read = read.as_ref().ok().map(Duration::as_millis);
        demand(as_read == valid.then_some(milliseconds), || format!("{text:?} is {as_read:?}, not {milliseconds} ms"))?;
    }
    match read {
        Ok(time) => {
            demand(time > Duration::ZERO && time <= Duration::from_secs(86_400), || format!("{text:?} is {time:?}"))
        }
        Err(error) => demand(!error.to_string().is_empty(), || "refused without a word".to_owned()),
    }
}

fn judge_word(bytes: &[u8]) -> Verdict {
    let text = String::from_utf8_lossy(bytes);
    let count = text.chars().count();
    let token = (1..=256).contains(&count) && text.chars().all(|c| !c.is_control());
    demand(is_token(&text) == token, || format!("{text:?} as a token"))?;
    let trimmed = text.trim();
    let key = !trimmed.is_empty() && trimmed.len() <= 256 && trimmed.chars().all(|c| ('!'..='~').contains(&c));
    let read = AccessKey::new(&text, &text, None);
    demand(read.is_ok() == key, || format!("{text:?} as a key: {read:?}"))?;
    match read {
        Ok(read) => {
            demand(read.id == trimmed && read.secret.expose_secret() == trimmed, || format!("{text:?} was changed"))
        }
        Err(problem) => {
            let shown = format!("{problem} {problem:?}");
            demand(trimmed.len() < 12 || !shown.contains(trimmed), || format!("it shows the key: {shown}"))
        }
    }
}

#[test]
fn any_text_is_a_duration_within_bounds_or_refused() {
    fuzz("durations", judge_duration);
}

#[test]
fn any_text_is_a_token_and_a_key_or_neither() {
    fuzz("words", judge_word);
}
