//! `cargo simulate`: plays seeds over all threads that it is given, and tells what was broken.
//!
//! **May touch:** threads, one file for the report, standard output.

use std::io::Write as _;
use std::ops::Range;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use schedules::faults::Place;
use schedules::report::Report;
use schedules::run::{How, explain, run};
use schedules::story::Schedule;

/// Whole operator processes under seeded faults.
#[derive(Parser)]
struct Flags {
    /// Seeds to play, as `0..1000`.
    #[arg(long, default_value = "0..1000")]
    seeds: String,
    /// One seed: plays it and prints its story.
    #[arg(long)]
    seed: Option<u64>,
    /// Faults and edits to leave out, as a failure prints them.
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// With `--seed`: tells everything on standard error while it happens.
    #[arg(long)]
    live: bool,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    jobs: u64,
    /// Writes the report here, as Markdown.
    #[arg(long)]
    report: Option<std::path::PathBuf>,
    /// The commit to name in the report.
    #[arg(long)]
    commit: Option<String>,
    /// How many failures are shrunk and told whole.
    #[arg(long, default_value_t = 3)]
    explain: usize,
}

/// Each sixteenth seed keeps its log; each eighth is watched for a quiet hour, of those that elect fewer.
fn how(seed: u64, flags: &Flags) -> How {
    let mut how = How { logs: seed.is_multiple_of(16), ..How::default() };
    how.wishes.without = flags.without.iter().filter_map(|text| text.parse::<Place>().ok()).collect();
    // An hour of elections is 3,000 requests that all look alike.
    let elects = Schedule::of(seed, &how.wishes).election;
    if seed.is_multiple_of(if elects { 64 } else { 8 }) {
        how.quiet = Duration::from_secs(3600);
    }
    how
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    if let Some(seed) = flags.seed {
        return one(seed, &flags);
    }
    let Some((Ok(from), Ok(to))) = flags.seeds.split_once("..").map(|(a, b)| (a.parse(), b.parse())) else {
        eprintln!("--seeds is a range such as 0..1000");
        return ExitCode::from(2);
    };
    many(from..to, &flags)
}

fn one(seed: u64, flags: &Flags) -> ExitCode {
    let how = How { logs: true, live: flags.live, ..how(seed, flags) };
    let played = run(seed, &how);
    for line in &played.record.story {
        println!("{line}");
    }
    for line in played.logs.lines() {
        println!("log {line}");
    }
    println!("{:?}, {:?} cloud", played.record.schedule.story, played.record.schedule.profile);
    match &played.verdict {
        Ok(tally) => {
            println!("{tally:?}");
            ExitCode::SUCCESS
        }
        Err(broken) => {
            println!("{}", explain(seed, &how, broken));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "edge: how long it took is for people")]
fn many(seeds: Range<u64>, flags: &Flags) -> ExitCode {
    let began = Instant::now();
    let (next, total) = (AtomicU64::new(seeds.start), Mutex::new(Report::default()));
    let playing: Vec<Mutex<Option<(u64, Instant)>>> = (0..flags.jobs.max(1)).map(|_| Mutex::default()).collect();
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            playing.iter().map(|place| scope.spawn(|| work(&seeds, flags, (&next, &total), (place, began)))).collect();
        while !workers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            std::thread::park_timeout(Duration::from_millis(200));
            playing.iter().for_each(stands_still);
        }
    });
    let report = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    let seconds = began.elapsed().as_secs();
    let commit = flags.commit.clone().unwrap_or_else(commit);
    let page = report.page(&format!("{}..{}", seeds.start, seeds.end), &commit, seconds);
    println!("{page}");
    if let Some(path) = &flags.report
        && let Err(problem) = std::fs::write(path, &page)
    {
        eprintln!("{}: {problem}", path.display());
    }
    for (seed, invariant, what) in report.broken.iter().take(flags.explain) {
        let how = how(*seed, flags);
        if let Err(broken) = run(*seed, &how).verdict {
            println!("{}", explain(*seed, &how, &broken));
        } else {
            println!("seed {seed}: {invariant}: {what}: gone when played again, so something is not determined");
        }
    }
    if report.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A schedule takes milliseconds. One that does not end spins at one moment, and nothing in its thread can end it.
fn stands_still(place: &Mutex<Option<(u64, Instant)>>) {
    let playing = *place.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((seed, since)) = playing
        && since.elapsed() > Duration::from_secs(60)
    {
        println!("seed {seed}: I9: stands still at one moment for a minute; the run ends here");
        std::process::exit(3);
    }
}

#[expect(clippy::disallowed_methods, reason = "edge: whether a schedule stands still is seen in real time")]
fn work(
    seeds: &Range<u64>,
    flags: &Flags,
    shared: (&AtomicU64, &Mutex<Report>),
    (place, began): (&Mutex<Option<(u64, Instant)>>, Instant),
) {
    let (next, total) = shared;
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if !seeds.contains(&seed) {
            return;
        }
        *place.lock().unwrap_or_else(PoisonError::into_inner) = Some((seed, Instant::now()));
        let played = run(seed, &how(seed, flags));
        *place.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let mut sum = total.lock().unwrap_or_else(PoisonError::into_inner);
        sum.add(seed, &played);
        if let Err(broken) = &played.verdict {
            println!("seed {seed} ({:?}): {}: {}", played.record.schedule.story, broken.invariant, broken.what);
        }
        if sum.schedules.is_multiple_of(500) {
            let rate = sum.schedules / began.elapsed().as_secs().max(1);
            println!("{} schedules, {rate}/s, {} faults, {} broken", sum.schedules, sum.struck(), sum.broken.len());
            let _ = std::io::stdout().flush();
        }
    }
}

fn commit() -> String {
    let found = Command::new("git").args(["rev-parse", "HEAD"]).output().ok();
    found.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
}
