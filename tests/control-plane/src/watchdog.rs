//! Ends every process of a control plane and removes its directory, however the process that started it ends.
//!
//! **May touch:** processes, one temporary directory.
//!
//! **Guarantees**
//! 1. Dropped, interrupted, or killed with `kill -9`: the processes end and the directory is gone.
//! 2. There is one way out, so each orderly end exercises what a killed test process relies on.
//! 3. Ctrl-C in a terminal reaches our process alone, not its children.
//!
//! How: two shells block on pipes that only we hold, and the kernel closes those pipes whatever ends us. The *anchor* does
//! nothing but lead the process group that all children join, so that the group has an id before its first member and is
//! never left without an heir. The *keeper*, outside the group, kills it and removes the directory.
//! Not `PR_SET_PDEATHSIG`: it is Linux alone, it acts when the starting *thread* ends, and it removes no directory.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

const ANCHOR: &str = "read -r _";

/// A process that is being killed may still finish one write, hence the loop around `rm`; it is bounded, lest a directory
/// that cannot be removed keeps a shell for ever.
const KEEPER: &str = r#"trap '' HUP INT TERM
read -r _
kill -s KILL -- "-$1"
tries=0
until rm -rf -- "$0" 2>/dev/null || [ "$tries" -ge 1000 ]; do tries=$((tries + 1)); done"#;

/// The directory and the processes of one control plane.
#[derive(Debug)]
pub(crate) struct Watchdog {
    directory: PathBuf,
    group: i32,
    anchor: Child,
    keeper: Child,
    children: Mutex<BTreeMap<&'static str, Child>>,
}

impl Watchdog {
    /// Makes the directory, readable for this user alone.
    pub(crate) fn start() -> io::Result<Self> {
        let directory = std::env::temp_dir().join(format!("dijob-control-plane-{}", random_hex()?));
        let anchor = shell(ANCHOR).arg(&directory).spawn()?;
        let group = i32::try_from(anchor.id()).map_err(io::Error::other)?;
        let keeper = shell(KEEPER).arg(&directory).arg(group.to_string()).spawn()?;
        // Only now: what the keeper does not know of, it could not remove.
        DirBuilder::new().mode(0o700).create(&directory)?;
        Ok(Self { directory, group, anchor, keeper, children: Mutex::default() })
    }

    /// Where all files of this control plane lie.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes a command's process end with ours, and start in the directory.
    pub(crate) fn bind<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.process_group(self.group).current_dir(&self.directory).stdin(Stdio::null())
    }

    /// Starts a process whose output is added to its log.
    pub(crate) fn spawn(&self, name: &'static str, command: &mut Command) -> io::Result<()> {
        let log: File = OpenOptions::new().create(true).append(true).open(self.log(name))?;
        let child = self.bind(command).stdout(log.try_clone()?).stderr(log).spawn()?;
        self.children().insert(name, child);
        Ok(())
    }

    /// Kills a process with SIGKILL and waits for its end. Nothing happens if it does not run.
    pub(crate) fn kill(&self, name: &str) -> io::Result<()> {
        let Some(mut child) = self.children().remove(name) else { return Ok(()) };
        child.kill()?;
        child.wait().map(drop)
    }

    /// How a process ended, if it did so by itself.
    pub(crate) fn ended(&self, name: &str) -> io::Result<Option<ExitStatus>> {
        self.children().get_mut(name).map_or(Ok(None), Child::try_wait)
    }

    /// The last lines of a process's log, for an error message.
    pub(crate) fn last_words(&self, name: &str) -> String {
        let log = fs::read(self.log(name)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
    }

    fn log(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.log"))
    }

    fn children(&self) -> MutexGuard<'_, BTreeMap<&'static str, Child>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // `wait` closes the pipe first. The keeper goes first too: while the anchor lives, the id of its group is not reused.
        let _ = self.keeper.wait();
        let _ = self.anchor.wait();
        for child in self.children().values_mut() {
            let _ = child.wait();
        }
    }
}

/// A shell in a group of its own, beyond the reach of Ctrl-C, that holds none of our output streams open.
fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// 128 random bits in hexadecimal digits.
pub(crate) fn random_hex() -> io::Result<String> {
    use io::Read as _;
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
