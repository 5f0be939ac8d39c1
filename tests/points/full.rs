//! All crash points: `cargo crash-points --help`. What an ordinary run of the tests takes of them is in `points.rs`.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "../support"]
#[expect(dead_code, reason = "this test uses a part of what the tests share")]
mod support {
    pub mod plan;
    pub mod proxy;
    pub mod schema;
    pub mod world;
}

#[path = "."]
mod points {
    pub mod exchanges;
    pub mod faults;
    pub mod history;
    pub mod oracle;
    pub mod plan;
    pub mod report;
    pub mod run;
    pub mod scene;
    pub mod stories;
}

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Parser;
use points::faults::Trial;
use points::plan::{Done, count, failure, run_all, trials};
use points::report::{commit, report};
use points::stories::{STORIES, Story};

/// Tells each story once without a fault, and then once for each exchange, moment and fault.
#[derive(Parser)]
#[command(name = "crash-points")]
struct Flags {
    /// Only this story; may be repeated
    #[arg(long, value_name = "NAME")]
    story: Vec<String>,
    /// Only the trial of this number in its story; may be repeated. 0 is the story without a fault
    #[arg(long, value_name = "NUMBER")]
    only: Vec<usize>,
    /// Only trials with this in their name
    #[arg(long, value_name = "TEXT")]
    named: Option<String>,
    /// How many at once
    #[arg(long, value_name = "NUMBER", default_value_t = 8)]
    lanes: usize,
    /// List the trials, and run nothing but the stories without a fault
    #[arg(long)]
    list: bool,
    /// Write the result here as Markdown
    #[arg(long, value_name = "PATH")]
    output: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = std::env::args().enumerate().filter(|(at, text)| *at != 1 || text != "--").map(|(_, text)| text);
    let flags = Flags::parse_from(arguments);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(flags.lanes + 4).enable_all().build();
    match runtime.unwrap().block_on(all(&flags)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing was violated.
async fn all(flags: &Flags) -> Result<bool, String> {
    let wanted = |story: &Story| flags.story.is_empty() || flags.story.iter().any(|name| name == story.name);
    if let Some(unknown) = flags.story.iter().find(|name| Story::of(name).is_none()) {
        return Err(format!("there is no story {unknown}; there are {}", STORIES.map(|s| s.name).join(", ")));
    }
    let (commit, mut planned) = (commit(), Vec::new());
    for story in STORIES.into_iter().filter(wanted) {
        let names = count(story).await?;
        let numbered = std::iter::once(Trial::Plain).chain(trials(story, &names)).enumerate();
        let fits = |trial: &Trial| flags.named.as_ref().is_none_or(|text| trial.to_string().contains(text));
        let wanted = numbered.filter(|(n, trial)| (flags.only.is_empty() || flags.only.contains(n)) && fits(trial));
        planned.extend(wanted.map(|(number, trial)| (story, number, trial)));
        eprintln!("{}: {} exchanges", story.name, names.len());
    }
    if flags.list {
        for (story, number, trial) in &planned {
            println!("{} {number}: {trial}", story.name);
        }
        return Ok(true);
    }
    let (total, ended) = (planned.len(), AtomicUsize::new(0));
    let done = run_all(planned, flags.lanes, |done| tell(done, ended.fetch_add(1, Ordering::Relaxed) + 1, total)).await;
    let text = report(&done, &commit);
    match &flags.output {
        Some(path) => std::fs::write(path, &text).map_err(|error| format!("{}: {error}", path.display()))?,
        None => println!("{text}"),
    }
    Ok(done.iter().all(|done| done.record.violations.is_empty() && done.record.reached))
}

fn tell(done: &Done, ended: usize, total: usize) {
    let Done { story, number, trial, record } = done;
    let mut word = format!("{:?}, {} arrived, {} ran", record.end, record.arrivals, record.executions);
    if !record.reached {
        word.push_str(", NOT REACHED");
    }
    eprintln!("{ended}/{total} {} {number}: {trial}: {word}", story.name);
    if !record.violations.is_empty() {
        eprintln!("{}", failure(*story, trial, record));
    }
}
