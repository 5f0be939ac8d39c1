//! Takes out each guard of the operator, alone, and demands that the test named for it fails. `cargo mutate -- --help`.
//!
//! The guards stand in `guards.toml`; that each still fits its file is an ordinary test of this crate. What was said of
//! each stands in `results.md`.
//!
//! **May touch:** `results.md`; `mutations` below the target directory; processes that it starts; standard error for
//! progress.
//!
//! **Guarantees**
//! 1. Of this repository `results.md` alone is written: a row after each guard, those of other guards stay.
//! 2. A guard counts as killed only if its test passes on the unchanged sources, and, with the guard taken out, is built,
//!    runs and says itself that it failed.
//! 3. Interrupted or too slow, a build or test is ended with all that it started.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::guards::Guard;
use crate::results::Results;
use crate::tree::Tree;
use crate::trial::{Bench, Verdict};

mod guards;
mod results;
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
    /// Leave out the guards that, as their entries stand, were killed already
    #[arg(long)]
    open: bool,
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
    let (all, results) = (guards::read(root())?, Results::of(root()));
    let is_of = |guard: &Guard, part: &String| guard.name.contains(part) || guard.test.contains(part);
    let mut chosen = Vec::new();
    for guard in &all {
        let asked = flags.only.is_empty() || flags.only.iter().any(|part| is_of(guard, part));
        if asked && !(flags.open && results.is_killed(guard)?) {
            chosen.push(guard.clone());
        }
    }
    if flags.list {
        for guard in &chosen {
            println!("{}: {}", guard.name, guard.test);
        }
        return Ok(true);
    }
    let folder = root().join(&flags.target_dir).join("mutations");
    let bench = Bench::new(Tree::copy(root(), &folder.join("tree"))?, &folder)?;
    let commit = bench.commit().await?;
    let mut all_killed = true;
    for (binary, guards) in guards::by_binary(chosen) {
        eprintln!("{binary}: its tests on the unchanged sources");
        let unable = bench.unable(&binary, &guards, FIRST).await?;
        for guard in &guards {
            let (verdict, seconds) = match unable.get(guard.test().1) {
                Some(why) => (Verdict::Broken(why.clone()), 0),
                None => bench.without(guard, EACH).await?,
            };
            eprintln!("{}: {verdict:?} in {seconds} s", guard.name);
            results.keep(&all, guard, &verdict, seconds, &commit)?;
            all_killed &= verdict == Verdict::Killed;
        }
    }
    Ok(all_killed)
}
