//! Plays one seed, judges it, and finds the shortest story that still breaks the same promise.
//!
//! **May touch:** this thread: its runtime, and its log while one is kept.

use std::fmt::Write as _;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use crate::faults::Place;
use crate::oracle::{Broken, Tally, judge};
use crate::play::play;
use crate::story::{Schedule, Wishes};
use crate::world::Record;

/// What came of a seed.
pub struct Played {
    /// What happened.
    pub record: Record,
    /// The log of all processes, if it was kept.
    pub logs: String,
    /// What it is worth.
    pub verdict: Result<Tally, Broken>,
}

impl Played {
    /// Ledger, history and logs as text: equal for equal runs.
    #[must_use]
    pub fn trace(&self) -> String {
        let mut text = String::new();
        for change in &self.record.history {
            let _ = writeln!(text, "{change:?}");
        }
        for entry in self.record.ledger.entries() {
            let _ = writeln!(text, "{entry:?}");
        }
        for line in &self.record.story {
            let _ = writeln!(text, "{line}");
        }
        text + &self.logs
    }
}

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
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

/// How a seed is played.
#[derive(Clone, Debug, Default)]
pub struct How {
    /// What is demanded of it.
    pub wishes: Wishes,
    /// The log is kept, which costs time.
    pub logs: bool,
    /// Everything is told on standard error while it happens.
    pub live: bool,
    /// How long the world is watched when all is settled.
    pub quiet: Duration,
}

/// Plays a seed and judges it.
#[must_use]
pub fn run(seed: u64, how: &How) -> Played {
    let schedule = Schedule::of(seed, &how.wishes);
    let kept = Kept::default();
    let record = if how.live {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .without_time()
            .with_ansi(false)
            .with_writer(io::stderr)
            .finish();
        tracing::subscriber::with_default(subscriber, || play(schedule, how.quiet))
    } else if how.logs {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::INFO)
            .without_time()
            .with_ansi(false)
            .with_writer(kept.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || play(schedule, how.quiet))
    } else {
        play(schedule, how.quiet)
    };
    let logs = String::from_utf8_lossy(&kept.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned();
    let verdict = catch_unwind(AssertUnwindSafe(|| judge(&record, &logs)))
        .unwrap_or_else(|_| Err(Broken { invariant: "oracle", what: "the oracle itself broke".to_owned() }));
    Played { record, logs, verdict }
}

/// How many shorter schedules are tried for one failure.
const TRIES: usize = 400;

/// The shortest schedule found that breaks the same promise, and what is left out of it.
#[must_use]
pub fn shrink(seed: u64, how: &How, broken: &Broken) -> (Played, How) {
    let mut how = How { logs: true, ..how.clone() };
    let mut best = run(seed, &how);
    let mut tries = 0;
    let mut size = places(&best.record, &how).len().max(1);
    while size > 0 {
        let all = places(&best.record, &how);
        let mut from = 0;
        while from < all.len() && tries < TRIES {
            tries += 1;
            let mut shorter = how.clone();
            shorter.wishes.without.extend(all.iter().skip(from).take(size));
            let played = run(seed, &shorter);
            if played.verdict.as_ref().is_err_and(|b| b.invariant == broken.invariant) {
                (best, how) = (played, shorter);
            }
            from += size;
        }
        size /= 2;
    }
    (best, how)
}

/// Halves first, then smaller parts: all that could still be left out.
fn places(record: &Record, how: &How) -> Vec<Place> {
    let edits = (1..=Schedule::of(record.schedule.seed, &Wishes::default()).edits.len() as u64).map(|nth| Place {
        process: 0,
        nth,
        event: 0,
    });
    let all = edits.chain(record.faults.iter().map(|(place, ..)| *place));
    all.filter(|place| !how.wishes.without.contains(place)).collect()
}

/// A failure in plain words, with the command that plays it again.
#[must_use]
pub fn explain(seed: u64, how: &How, broken: &Broken) -> String {
    let (best, how) = shrink(seed, how, broken);
    let record = &best.record;
    let mut text = format!("seed {seed}: {}: {}\n", broken.invariant, broken.what);
    if let Err(now) = &best.verdict {
        let _ = writeln!(text, "shortest: {}: {}", now.invariant, now.what);
    }
    let schedule = &record.schedule;
    let _ = writeln!(
        text,
        "{:?}, {:?} cloud, {} replicas{}",
        schedule.story,
        schedule.profile,
        schedule.replicas,
        if schedule.election { " that elect" } else { "" }
    );
    let _ = writeln!(text, "{:?}", schedule.switches);
    for line in &record.story {
        let _ = writeln!(text, "  {line}");
    }
    for entry in record.ledger.of_action("StartDIJob") {
        let _ = writeln!(
            text,
            "  ledger {} {} {:?} executed {:?}",
            entry.seq, entry.last_byte, entry.verdict, entry.executed
        );
    }
    for change in record.history.iter().filter(|c| &*c.resource == "dataintegrationjobs") {
        let (object, ready) = (change.object(), "/status/conditions/0/reason");
        let find = |path: &str| object.pointer(path).map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(
            text,
            "  version {} {} {} {:?} {}: generation {} ready {} job {} pending {} last {} {}",
            change.version,
            change.time,
            change.caller,
            change.verb,
            change.name,
            find("/metadata/generation"),
            find(ready),
            find("/status/jobStatus"),
            find("/status/pendingStart/id"),
            find("/status/lastStart/id"),
            find("/status/lastStart/outcome"),
        );
    }
    let left_out: Vec<String> = how.wishes.without.iter().map(ToString::to_string).collect();
    let _ = write!(text, "cargo simulate -- --seed {seed}");
    if !left_out.is_empty() {
        let _ = write!(text, " --without {}", left_out.join(","));
    }
    text.push('\n');
    text
}
