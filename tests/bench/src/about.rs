//! The circumstances of a run: what was measured, on what.
//!
//! **May touch:** git, rustc and `/proc`, to ask; what cannot be told is said to be unknown.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use tokio::process::Command;

/// The folder of the workspace, as it was when this was built.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The commit, and whether files differ from it.
pub async fn commit() -> String {
    let Some(commit) = said("git", &["rev-parse", "HEAD"]).await else { return "unknown".to_owned() };
    match said("git", &["status", "--porcelain"]).await {
        Some(changes) if changes.is_empty() => commit,
        Some(_) | None => format!("{commit}, with changes"),
    }
}

/// What a program says of its version.
pub async fn version(program: &str) -> String {
    said(program, &["--version"]).await.unwrap_or_else(|| "unknown".to_owned())
}

/// Cores, and the system's release.
pub fn machine() -> String {
    let cores = available_parallelism().map_or_else(|_| "?".to_owned(), |n| n.to_string());
    format!("{cores} cores, Linux {}", first_words("/proc/sys/kernel/osrelease", 1))
}

/// The load average over 1, 5 and 15 minutes.
pub fn load() -> String {
    first_words("/proc/loadavg", 3)
}

fn first_words(file: &str, count: usize) -> String {
    let text = fs::read_to_string(file).unwrap_or_else(|_| "unknown".to_owned());
    text.split_whitespace().take(count).collect::<Vec<_>>().join(" ")
}

async fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).current_dir(root()).kill_on_drop(true).output().await.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
