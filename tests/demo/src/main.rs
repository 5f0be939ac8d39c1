//! `cargo demo`: the operator's story on a real API server and a simulated cloud, told and checked.
//!
//! **May touch:** its flags, signals, standard output.
//!
//! **Guarantees**
//! 1. It ends with 0 if all was as expected, with 1 and what differed if not, with 130 after Ctrl-C.
//! 2. Nothing is left when it ends, however it ends, but the binaries it built and the operator's log.

mod cluster;
mod play;
mod show;
mod stage;
mod story;

use std::process::ExitCode;

use clap::Parser;
use dijob_operator::clock::Clock;

use crate::play::Play;
use crate::show::Show;
use crate::stage::Stage;

/// What ends the story early.
type Failure = Box<dyn std::error::Error + Send + Sync>;

const INTERRUPTED: u8 = 130;

/// Shows dijob-operator at work, on this machine alone: a real kube-apiserver, a simulated DataWorks, the real binary.
///
/// Needs Rust and Go; no kubectl, cluster, container or cloud account. The first run compiles kube-apiserver and etcd.
#[derive(Parser)]
struct Flags {
    /// Leave everything running at the end, until Ctrl-C, and print how to reach it with kubectl
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    // The alias in .cargo/config.toml ends with --, so `cargo demo -- --keep` brings a second one.
    let flags = Flags::parse_from(std::env::args().filter(|argument| argument != "--"));
    // Fails only if a provider is set already, and then it is this one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("demo: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run(&flags));
    // A build that was interrupted blocks a thread; it ends with this process.
    runtime.shutdown_background();
    ExitCode::from(code)
}

async fn run(flags: &Flags) -> u8 {
    let mut show = Show::stdout();
    let stage = match interruptible(Stage::set(&mut show)).await {
        None => return INTERRUPTED,
        Some(Ok(stage)) => stage,
        Some(Err(error)) => {
            show.verdict(false, &format!("CANNOT BEGIN: {error}"));
            return 1;
        }
    };
    let clock = Clock::system();
    let mut play = match Play::begin(stage, show).await {
        Ok(play) => play,
        Err(error) => {
            eprintln!("demo: {error}");
            return 1;
        }
    };
    let Some(told) = interruptible(story::tell(&mut play)).await else {
        play.show.verdict(false, "Interrupted.");
        return INTERRUPTED;
    };
    let code = match told {
        Ok(()) => {
            let seconds = clock.elapsed().as_secs();
            play.show.verdict(true, &format!("ALL AS EXPECTED, in {seconds} s."));
            0
        }
        Err(error) => {
            play.show.done();
            play.show.verdict(false, &format!("DIFFERS: {error}"));
            play.show.line(&format!("The last lines of the operator's log, {}:", play.stage.log.display()));
            for line in play.stage.last_words() {
                play.show.line(&format!("  {line}"));
            }
            1
        }
    };
    if flags.keep {
        play.invite();
        if let Some(Err(error)) = interruptible(play.follow()).await {
            play.show.verdict(false, &error.to_string());
        }
    } else {
        play.show.line("To look around with kubectl: cargo demo -- --keep");
    }
    code
}

/// `None` after Ctrl-C.
async fn interruptible<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        _ = tokio::signal::ctrl_c() => None,
    }
}
