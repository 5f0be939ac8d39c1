//! Takes out each guard of the operator, alone, and demands that the test named for it fails. `cargo mutate -- --help`.
//!
//! The guards stand in `guards.toml`; that each still fits its file is an ordinary test of this crate.
//!
//! **May touch:** `mutations` below the target directory; processes that it starts; standard output for the table,
//! standard error for progress.
//!
//! **Guarantees**
//! 1. The sources of this repository are read, never written.
//! 2. A guard counts as killed only if its test passes on the unchanged sources, and, with the guard taken out, is built,
//!    runs and says itself that it failed.
//! 3. Interrupted or too slow, a build or test is ended with all that it started.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::guards::Guard;
use crate::tree::Tree;
use crate::trial::{Bench, Verdict};

mod guards;
mod tree;
mod trial;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The first run builds all dependencies.
const FIRST: Duration = Duration::from_secs(45 * 60);
/// Builds the operator and one test, and runs that; the slowest waits for a minute in vain.
const EACH: Duration = Duration::from_secs(10 * 60);

/// Takes out each guard of the operator, alone, and demands that the test named for it fails. About 15 seconds a guard,
/// a minute where the test needs a control plane, and minutes more where all has to be built first.
#[derive(Parser)]
#[command(name = "mutate")]
struct Flags {
    /// Try only the guards with this in their name or their test; may be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// List the guards and their tests, and try nothing
    #[arg(long)]
    list: bool,
    /// Where the copy of the sources and its builds are kept
    #[arg(long, value_name = "PATH", env = "CARGO_TARGET_DIR", default_value = "target")]
    target_dir: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(&Flags::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mutate: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The folder of the repository.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Whether each guard was killed.
async fn run(flags: &Flags) -> Result<bool, Failure> {
    let mut guards = guards::read(root())?;
    let is_of = |guard: &Guard, part: &String| guard.name.contains(part) || guard.test.contains(part);
    guards.retain(|guard| flags.only.is_empty() || flags.only.iter().any(|part| is_of(guard, part)));
    if flags.list {
        for guard in &guards {
            println!("{}: {}", guard.name, guard.test);
        }
        return Ok(true);
    }
    let folder = root().join(&flags.target_dir).join("mutations");
    let bench = Bench::new(Tree::copy(root(), &folder.join("tree"))?, &folder)?;
    for (binary, tests) in guards::by_binary(&guards) {
        eprintln!("unchanged: {} tests of {binary}", tests.len());
        bench.all_pass(binary, &tests, FIRST).await?;
    }
    println!(
        "{}\n\n| guard | test that fails without it | verdict | seconds |\n|---|---|---|---|",
        bench.about().await?
    );
    let mut all_killed = true;
    for guard in &guards {
        eprintln!("{}: {}", guard.name, guard.why);
        let (verdict, seconds) = bench.without(guard, EACH).await?;
        all_killed &= verdict == Verdict::Killed;
        println!("{}", row(guard, &verdict, seconds));
    }
    Ok(all_killed)
}

fn row(guard: &Guard, verdict: &Verdict, seconds: u64) -> String {
    let word = match verdict {
        Verdict::Killed => "killed",
        Verdict::Survived => "**survived**",
        Verdict::Broken(why) => why,
    };
    format!("| {} | `{}` | {word} | {seconds} |", guard.name, guard.test)
}
