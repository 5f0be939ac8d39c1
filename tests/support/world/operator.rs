//! The operator's process: started, read, signalled, killed.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use serde_json::Value;

use super::{DEADLINE, poll};

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

/// A running operator process. Dropped, it is killed.
pub struct Operator {
    address: SocketAddr,
    child: Child,
    keeper: Child,
    log: Arc<Log>,
}

/// Ends with the operator's life if ours ends first: then its standard input is closed.
const KEEPER: &str = r#"read -r _; kill -s KILL "$0" 2>/dev/null"#;

impl Operator {
    pub(super) fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = child.id().to_string();
        let keeper = Command::new("sh").args(["-c", KEEPER, &pid]).stdin(Stdio::piped()).spawn().unwrap();
        let log = Arc::<Log>::default();
        let (lines, told) = (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                told.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                told.grown.notify_all();
            }
        });
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut operator = Self { address: nowhere, child, keeper, log };
        let first = operator.wait_line("the first line of its log", |line| line["listen"].is_string());
        operator.address = first["listen"].as_str().unwrap().parse().unwrap();
        operator
    }

    /// All that it logged, one JSON object a line.
    pub fn log(&self) -> Vec<String> {
        self.log.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many lines of the log are so.
    pub fn count_lines(&self, is_it: impl Fn(&Value) -> bool) -> usize {
        self.log().iter().filter_map(|line| serde_json::from_str(line).ok()).filter(|line| is_it(line)).count()
    }

    /// Waits for a line of the log.
    pub fn wait_line(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let find = |lines: &[String]| -> Option<Value> {
            lines.iter().filter_map(|line| serde_json::from_str(line).ok()).find(|line| is_it(line))
        };
        let lines = self.log.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let (lines, _) = self.log.grown.wait_timeout_while(lines, DEADLINE, |lines| find(lines).is_none()).unwrap();
        find(&lines).unwrap_or_else(|| panic!("waited for {what}; the log:\n{}", lines.join("\n")))
    }

    /// One request to its own port: status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Waits until `/readyz` says yes.
    pub fn wait_ready(&self) {
        let ready = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            poll("the operator to be ready", || (self.get("/readyz").0 == 200).then_some(()));
        }));
        assert!(ready.is_ok(), "{}\n{}", self.get("/readyz").1, self.log().join("\n"));
    }

    /// Waits until `/readyz` says no, and why.
    pub fn wait_unready(&self, is_it: impl Fn(&str) -> bool) -> String {
        poll("the operator not to be ready", || {
            let (status, why) = self.get("/readyz");
            (status == 503 && is_it(&why)).then_some(why)
        })
    }

    /// The value of one series, named with its labels as in the exposition.
    pub fn metric(&self, series: &str) -> u64 {
        let (_, text) = self.get("/metrics");
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("no {series} in\n{text}"))
    }

    /// Sends it a signal: `TERM`, `STOP`, `CONT`.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        if signal == "STOP" {
            // The signal is sent, not yet obeyed: under load a thread may still run for a while.
            poll("all its threads to stop", || self.is_stopped().then_some(()));
        }
    }

    fn is_stopped(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        threads.flatten().all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')) // proc_pid_stat(5): state
        })
    }

    /// Waits until it has ended by itself.
    pub fn wait_end(mut self) -> ExitStatus {
        poll("the operator to end", || self.child.try_wait().unwrap())
    }

    /// Asks it to end in order, and waits until it has.
    pub fn terminate(self) -> ExitStatus {
        self.signal("TERM");
        self.wait_end()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // The keeper first: it must not outlive the id that it knows.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the log of operator {}:\n{}", self.child.id(), self.log().join("\n"));
        }
    }
}
