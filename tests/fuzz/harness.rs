//! Runs a target over its corpus and over what is made from it.
//!
//! **May touch:** the files of the corpus, two variables of the environment, and the real clock.
//!
//! **Guarantees**
//! 1. Every file of the corpus is replayed before anything is random, and a target without one fails.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};

/// What is wrong with what came of an input.
pub type Verdict = Result<(), String>;

/// Random inputs of the ordinary run.
const CASES: u32 = 200;
/// An input does not grow beyond this, the cap of an answer and a bit more.
const LARGEST: usize = 1024 * 1024 + 1024;

/// One change of an input. Positions are taken modulo its length.
#[derive(Clone, Debug)]
enum Change {
    Set(usize, u8),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Cut(usize),
    Repeat(usize, usize, usize),
    Splice(usize, usize, usize),
}

/// What parsers stumble over.
const HARD: [&[u8]; 38] = [
    b"\0",
    b"\r\n",
    b"\n\n",
    b"\x1b[31m",
    b"\xff\xfe",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xe2\x80\xae",
    b"\xe2\x80\x8b",
    b"\xef\xbb\xbf",
    b"\x1f\x8b\x08\0",
    b"\x1e",
    b"%",
    b"%00",
    b"%2F",
    b"&",
    b"+",
    b"=",
    b"?a=b",
    b"*",
    b"~",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"[",
    b"}",
    b"]",
    b"null",
    b"-1",
    b"0",
    b"1e999",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"18446744073709551616",
    b"500130",
    b"Throttling.",
    b"Signature=canary",
];

/// Replays the corpus of `target`, then tries random inputs.
pub fn fuzz(target: &str, judge: impl Fn(&[u8]) -> Verdict) {
    let corpus = corpus(target);
    for (name, bytes) in &corpus {
        if let Err(wrong) = judge(bytes) {
            panic!("{target}/{name}: {wrong}");
        }
    }
    let files: Vec<Vec<u8>> = corpus.into_iter().map(|(_, bytes)| bytes).collect();
    let strategy = inputs(files);
    let (mut tried, began) = (0, began());
    loop {
        let cases = asked("FUZZ_CASES").unwrap_or(CASES);
        let config =
            ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 2_000, ..ProptestConfig::default() };
        let ended = TestRunner::new(config).run(&strategy, |bytes| judge(&bytes).map_err(TestCaseError::fail));
        match ended {
            Ok(()) => tried += cases,
            Err(TestError::Fail(wrong, bytes)) => {
                let head = &bytes[..bytes.len().min(2_000)];
                panic!("{target}: {wrong}\n{} bytes, which begin: b\"{}\"", bytes.len(), head.escape_ascii());
            }
            Err(TestError::Abort(why)) => panic!("{target}: {why}"),
        }
        if asked("FUZZ_SECONDS").is_none_or(|seconds| began.elapsed() >= Duration::from_secs(seconds.into())) {
            break;
        }
    }
    println!("{target}: {tried} random inputs");
}

#[expect(clippy::disallowed_methods, reason = "edge: how long a person wants it to run")]
fn asked(name: &str) -> Option<u32> {
    std::env::var(name).ok().map(|n| n.parse().unwrap_or_else(|_| panic!("{name} is a number, not {n}")))
}

#[expect(clippy::disallowed_methods, reason = "edge: real time of a long run")]
fn began() -> Instant {
    Instant::now()
}

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/corpus").join(target);
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{target} has no corpus");
    files
}

fn inputs(corpus: Vec<Vec<u8>>) -> BoxedStrategy<Vec<u8>> {
    let fresh = prop::collection::vec(any::<u8>(), 0..400);
    let text = any::<String>().prop_map(String::into_bytes);
    let changes = prop::collection::vec(change(), 0..6);
    let others = corpus.clone();
    let from_corpus = (prop::sample::select(corpus), changes).prop_map(move |(mut bytes, changes)| {
        for change in changes {
            apply(&mut bytes, change, &others);
            bytes.truncate(LARGEST);
        }
        bytes
    });
    prop_oneof![1 => fresh, 1 => text, 6 => from_corpus].boxed()
}

fn change() -> impl Strategy<Value = Change> {
    let at = 0..4096_usize;
    let hard = prop::sample::select(HARD.to_vec()).prop_map(<[u8]>::to_vec);
    let fresh = prop::collection::vec(any::<u8>(), 1..8);
    prop_oneof![
        4 => (at.clone(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        6 => (at.clone(), prop_oneof![hard, fresh]).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        3 => (at.clone(), 1..40_usize).prop_map(|(at, length)| Change::Remove(at, length)),
        1 => at.clone().prop_map(Change::Cut),
        3 => (at.clone(), 1..60_usize, 1..6_usize).prop_map(|(at, length, times)| Change::Repeat(at, length, times)),
        // Deep nesting, long lists and long texts.
        1 => (at.clone(), 1..40_usize, 100..1_000_usize).prop_map(|(at, length, times)| Change::Repeat(at, length, times)),
        2 => (at.clone(), any::<usize>(), at).prop_map(|(at, file, from)| Change::Splice(at, file, from)),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: Change, corpus: &[Vec<u8>]) {
    let length = bytes.len();
    let place = |at: usize| at % (length + 1);
    match change {
        Change::Set(at, byte) => {
            if let Some(old) = bytes.get_mut(place(at)) {
                *old = byte;
            }
        }
        Change::Insert(at, more) => drop(bytes.splice(place(at)..place(at), more)),
        Change::Remove(at, many) => drop(bytes.drain(place(at)..(place(at) + many).min(length))),
        Change::Cut(at) => bytes.truncate(place(at)),
        Change::Repeat(at, many, times) => {
            let end = (place(at) + many).min(length);
            let more = bytes[place(at)..end].repeat(times);
            bytes.splice(end..end, more);
        }
        Change::Splice(at, file, from) => {
            let other = &corpus[file % corpus.len()];
            bytes.truncate(place(at));
            bytes.extend(&other[from % (other.len() + 1)..]);
        }
    }
}

/// Fails with `law` unless it holds.
pub fn demand(holds: bool, law: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(law()) }
}

/// What a reader of `text` could be misled by; at most `most` bytes.
pub fn plain(what: &str, text: &str, most: usize) -> Verdict {
    demand(text.len() <= most, || format!("{what} has {} bytes, {most} are allowed", text.len()))?;
    let bad = |c: char| {
        c.is_control()
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200b}'..='\u{200f}' | '\u{feff}')
    };
    demand(!text.contains(bad), || format!("{what} holds a hidden character: {text:?}"))?;
    let signed = ["AccessKeyId=", "Signature=", "SecurityToken=", "Signature%3D", "AccessKeyId%3D"];
    demand(!signed.iter().any(|name| text.contains(name)), || format!("{what} holds a signed parameter: {text}"))
}
