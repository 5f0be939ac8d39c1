//! Builds: the operator that is measured, and, if asked, how long builds take.
//!
//! **May touch:** cargo; a folder of its own below the target directory.
//!
//! **Guarantees**
//! 1. That folder is removed at every end but a kill of this process by SIGKILL, and then lies where `cargo clean` finds it.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;
use simulator::Simulator;
use tokio::process::Command;

use crate::about::root;
use crate::latency::milliseconds;
use crate::report::Report;
use crate::{Failure, about};

/// Builds the operator as it is shipped; where it is.
pub async fn operator() -> Result<PathBuf, Failure> {
    eprintln!("building the operator in release mode: minutes if little of it is there yet");
    let mut cargo = cargo(&["build", "--release", "--locked", "--bin", "dijob-operator"]);
    let output = cargo.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit()).output().await?;
    if !output.status.success() {
        return Err(format!("cargo build ended with {}", output.status).into());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let executable = |message: Value| message.get("executable")?.as_str().map(PathBuf::from);
    Ok(messages.filter_map(executable).next_back().ok_or("cargo names no executable")?)
}

/// A cold build of the workspace's own default, then its tests on top of it.
pub async fn times(clock: &Simulator, report: &mut Report) -> Result<(), Failure> {
    let beside = std::env::current_exe()?;
    let target = beside.ancestors().nth(2).ok_or("no target directory")?;
    let cold = Folder(target.join(format!("bench-cold-{}", std::process::id())));
    report.about("cargo", about::version("cargo").await);
    for (key, what, arguments) in [
        ("cold_build_s", "cold cargo build --locked", ["build", "--locked"].as_slice()),
        (
            "tests_build_s",
            "then cargo test --workspace --locked --no-run",
            ["test", "--workspace", "--locked", "--no-run"].as_slice(),
        ),
    ] {
        eprintln!("{what}: minutes");
        let from = clock.now();
        let status = cargo(arguments).env("CARGO_TARGET_DIR", &cold.0).stdout(Stdio::null()).status().await?;
        if !status.success() {
            return Err(format!("{what} ended with {status}").into());
        }
        report.numbers([(key, what, milliseconds(from, clock.now()) / 1e3, "s", "wall time")]);
    }
    Ok(())
}

fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(arguments).current_dir(root()).stdin(Stdio::null()).kill_on_drop(true);
    cargo
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // A compiler that is being killed may still finish one write.
        let removed = (0..1000).any(|_| fs::remove_dir_all(&self.0).is_ok() || !self.0.exists());
        if !removed {
            eprintln!("left behind: {}", self.0.display());
        }
    }
}
