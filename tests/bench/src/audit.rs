//! The API server's audit log: who wrote what.
//!
//! **May touch:** one file without a name, below the directory for temporary files.
//!
//! **Guarantees**
//! 1. Nothing is left behind, however the process ends: the file has no name from the moment it is there, and the API
//!    server reaches it through ours.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use serde_json::Value;

/// The log while it is written.
pub struct Audit {
    file: File,
}

/// Writes of one user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    /// Patches of a job's status that were taken.
    pub status: u32,
    /// Those refused because somebody else was first.
    pub conflicts: u32,
    /// Events.
    pub events: u32,
    /// Writes of the Lease.
    pub lease: u32,
    /// Any other that was taken.
    pub other: u32,
}

impl Audit {
    /// An empty log.
    pub fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("dijob-bench-{}.audit", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        fs::remove_file(&path)?;
        Ok(Self { file })
    }

    /// The path by which another process of this user can write it.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }

    /// Where the log ends now.
    pub fn mark(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// What `user` wrote since `mark`.
    pub fn since(&self, mark: u64, user: &str) -> io::Result<Writes> {
        let mut text = String::new();
        let mut file = &self.file;
        file.seek(SeekFrom::Start(mark))?;
        file.read_to_string(&mut text)?;
        Ok(count(&text, user))
    }
}

fn count(log: &str, user: &str) -> Writes {
    let mut writes = Writes::default();
    // The last line may be cut: what is not a whole event yet belongs to a later count.
    for event in log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let is_write = matches!(text("/verb"), "create" | "update" | "patch" | "delete");
        let is_dry = text("/requestURI").contains("dryRun");
        if text("/user/username") != user || !is_write || is_dry {
            continue;
        }
        let code = event.pointer("/responseStatus/code").and_then(Value::as_u64).unwrap_or_default();
        let counter = match (text("/objectRef/resource"), text("/objectRef/subresource"), code) {
            ("dataintegrationjobs", "status", 200) => &mut writes.status,
            ("dataintegrationjobs", "status", 409) => &mut writes.conflicts,
            ("events", _, _) => &mut writes.events,
            ("leases", _, _) => &mut writes.lease,
            (_, _, 200..=299) => &mut writes.other,
            (_, _, _) => continue,
        };
        *counter += 1;
    }
    writes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_of_the_user_are_told_apart_and_dry_runs_are_none() {
        let line = |user: &str, verb: &str, uri: &str, resource: &str, sub: &str, code: u32| {
            format!(
                r#"{{"user":{{"username":"{user}"}},"verb":"{verb}","requestURI":"{uri}","objectRef":{{"resource":"{resource}","subresource":"{sub}"}},"responseStatus":{{"code":{code}}}}}"#
            )
        };
        let jobs = "dataintegrationjobs";
        let log = [
            line("operator", "patch", "/a", jobs, "status", 200),
            line("operator", "patch", "/a", jobs, "status", 200),
            line("operator", "patch", "/a", jobs, "status", 409),
            line("operator", "patch", "/a?dryRun=All", jobs, "status", 200),
            line("operator", "get", "/a", "secrets", "", 200),
            line("admin", "patch", "/a", jobs, "", 200),
            line("operator", "create", "/e", "events", "", 201),
            line("operator", "update", "/l", "leases", "", 200),
            r#"{"user":{"username":"operator"},"verb":"pat"#.to_owned(),
        ];
        let expected = Writes { status: 2, conflicts: 1, events: 1, lease: 1, other: 0 };
        assert_eq!(count(&log.join("\n"), "operator"), expected);
    }
}
