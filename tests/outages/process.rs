//! Operator processes as a cluster runs them: probed all the time, started anew when they end, measured from outside.
//!
//! **May touch:** processes, `/proc`, loopback ports.
//!
//! **Guarantees**
//! 1. None outlives the test process.
//! 2. A probe that fails while its process lives is on record, with what it said.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a broken test tool fails its test")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

/// Between two looks.
const POLL: Duration = Duration::from_millis(50);
/// Looks before a test gives up: a minute, more on a busy machine.
const LOOKS: usize = 1200;

/// Ends with the operator's life if ours ends first: then its standard input is closed.
const KEEPER: &str = r#"read -r _; kill -s KILL "$0" 2>/dev/null"#;

/// How a process is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Its kubeconfig.
    pub kubeconfig: PathBuf,
    /// Flags beside those that every test needs.
    pub flags: Vec<String>,
    /// Variables of its environment.
    pub environment: Vec<(String, String)>,
    /// What a shell does before it becomes the operator; empty: no shell.
    pub before: &'static str,
    /// Where its output goes.
    pub output: Output,
}

/// Where output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// To us.
    Read,
    /// To a full disk.
    FullDisk,
}

type Log = Arc<Mutex<Vec<String>>>;

/// One operator process. Dropped, it is killed.
pub struct Process {
    address: SocketAddr,
    child: Child,
    keeper: Child,
    log: Log,
    /// It has written to `/dev/full` as told, and told nothing else.
    is_mute: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks until there is something.
pub fn poll<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..LOOKS {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(POLL);
    }
    panic!("waited in vain for {what}")
}

impl Process {
    /// Starts it, and waits until it listens.
    pub fn start(launch: &Launch) -> Self {
        let binary = env!("CARGO_BIN_EXE_dijob-operator");
        let mut command = if launch.before.is_empty() {
            Command::new(binary)
        } else {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("{}; exec \"$0\" \"$@\"", launch.before), binary]);
            shell
        };
        let is_mute = launch.output == Output::FullDisk;
        // Who cannot tell where it listens must be told.
        let port = if is_mute { free_port() } else { 0 };
        command.arg("--kubeconfig").arg(&launch.kubeconfig).arg(format!("--listen=127.0.0.1:{port}"));
        command.args(["--log-format=json", "--allow-insecure-endpoints"]).args(&launch.flags);
        command.envs(launch.environment.iter().cloned()).stdin(Stdio::null());
        if is_mute {
            let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
            command.stdout(full.try_clone().unwrap()).stderr(full);
        } else {
            command.stdout(Stdio::null()).stderr(Stdio::piped());
        }
        let mut child = command.spawn().unwrap();
        let keeper =
            Command::new("sh").args(["-c", KEEPER, &child.id().to_string()]).stdin(Stdio::piped()).spawn().unwrap();
        let log = Log::default();
        if let Some(output) = child.stderr.take() {
            let (lines, told) = (BufReader::new(output).lines(), Arc::clone(&log));
            std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| lock(&told).push(line)));
        }
        let mut process = Self { address: ([127, 0, 0, 1], port).into(), child, keeper, log, is_mute };
        if is_mute {
            poll("a port that answers", || process.get("/healthz"));
        } else {
            let first = process.wait_line("the first line of its log", |line| line["listen"].is_string());
            process.address = first.get("listen").and_then(Value::as_str).unwrap().parse().unwrap();
        }
        process
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it logged.
    pub fn log(&self) -> Vec<String> {
        lock(&self.log).clone()
    }

    /// Waits for a line of the log.
    pub fn wait_line(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..LOOKS {
            if let Some(line) = self.lines().into_iter().find(&is_it) {
                return line;
            }
            std::thread::sleep(POLL);
        }
        panic!("waited in vain for {what}; the log:\n{}", self.log().join("\n"))
    }

    /// The lines of the log so far, parsed.
    pub fn lines(&self) -> Vec<Value> {
        self.log().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// One request to its own port, if it answers within 5 s.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let limit = Duration::from_secs(5);
        let mut stream = TcpStream::connect_timeout(&self.address, limit).ok()?;
        stream.set_read_timeout(Some(limit)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// Waits until it is ready.
    pub fn wait_ready(&self) {
        poll(&format!("{} to be ready", self.id()), || self.get("/readyz").filter(|(status, _)| *status == 200));
    }

    /// Whether it says that it leads.
    pub fn leads(&self) -> bool {
        self.get("/metrics").is_some_and(|(_, text)| text.lines().any(|line| line == "dijob_leader 1"))
    }

    /// Sends it a signal, and waits until a `STOP` is obeyed.
    pub fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args(["-s", signal, &self.id().to_string()]).status().unwrap().success());
        if signal == "STOP" {
            poll("all its threads to stop", || self.is_stopped().then_some(()));
        }
    }

    fn is_stopped(&self) -> bool {
        self.states().iter().all(|state| *state == 'T')
    }

    /// Whether one of its threads runs, or could if it had a processor.
    pub fn is_at_work(&self) -> bool {
        self.states().contains(&'R')
    }

    /// Of each thread, as `/proc` has it.
    fn states(&self) -> Vec<char> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        let state = |stat: String| stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or(' ');
        threads
            .flatten()
            .map(|thread| state(std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default()))
            .collect()
    }

    /// Its open files and its threads now.
    pub fn open_files_and_threads(&self) -> (usize, usize) {
        let count = |what| std::fs::read_dir(format!("/proc/{}/{what}", self.id())).map_or(0, Iterator::count);
        (count("fd"), count("task"))
    }

    /// The most memory that it ever held, in kB.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse().unwrap_or_default()
    }

    /// How much of one processor it had since it began.
    pub fn cpu_share(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap_or_default();
        let fields: Vec<f64> =
            stat.rsplit(") ").next().unwrap_or_default().split(' ').map(|n| n.parse().unwrap_or(0.0)).collect();
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
        let uptime: f64 = uptime.split(' ').next().unwrap_or_default().parse().unwrap_or_default();
        // proc_pid_stat(5), from the state on: utime, stime and starttime, in hundredths of a second.
        let at = |field: usize| fields.get(field).copied().unwrap_or_default() / 100.0;
        (at(11) + at(12)) / (uptime - at(19)).max(0.01)
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until it has ended by itself.
    pub fn wait_end(&mut self) -> ExitStatus {
        poll("the operator to end", || self.child.try_wait().unwrap())
    }

    /// Asks it to end in order, and waits until it has.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait_end()
    }

    /// Kills it (-9).
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The keeper first: it must not outlive the id that it knows.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() && !self.is_mute {
            eprintln!("the log of operator {}:\n{}", self.id(), self.log().join("\n"));
        }
    }
}

/// A port that nobody listens on now, below those of outgoing connections.
fn free_port() -> u16 {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let begin = usize::try_from(std::process::id()).unwrap() % 5_000;
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| u16::try_from(11_000 + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % 8_000).unwrap())
        .take(1_000)
        .find(free)
        .unwrap()
}

/// What was seen of a deployment.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Lives that ended by themselves, with their codes.
    pub ends: Vec<Option<i32>>,
    /// Failed probes of live processes.
    pub unhealthy: Vec<String>,
    /// Most open files of one process.
    pub most_files: usize,
    /// Most threads of one process.
    pub most_threads: usize,
    /// Logs of lives that are over.
    pub old_logs: Vec<Vec<String>>,
}

struct Inner {
    replicas: Mutex<Vec<Process>>,
    seen: Mutex<Seen>,
    over: AtomicBool,
}

/// Replicas that are probed, and started anew when they end.
pub struct Deployment {
    inner: Arc<Inner>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Deployment {
    /// Starts one process for each launch.
    pub fn start(launches: Vec<Launch>) -> Self {
        let replicas = launches.iter().map(Process::start).collect();
        let inner = Arc::new(Inner { replicas: Mutex::new(replicas), seen: Mutex::default(), over: false.into() });
        let watched = Arc::clone(&inner);
        let thread = std::thread::spawn(move || {
            while !watched.over.load(Ordering::Relaxed) {
                for (at, launch) in launches.iter().enumerate() {
                    look_after(&watched, at, launch);
                }
                std::thread::sleep(POLL);
            }
        });
        Self { inner, thread: Some(thread) }
    }

    /// Works with the processes as they are now; none is started anew meanwhile.
    pub fn with<T>(&self, work: impl FnOnce(&mut Vec<Process>) -> T) -> T {
        work(&mut lock(&self.inner.replicas))
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        lock(&self.inner.seen).clone()
    }

    /// Forgets the most that was seen.
    pub fn measure_anew(&self) {
        let mut seen = lock(&self.inner.seen);
        (seen.most_files, seen.most_threads) = (0, 0);
    }

    /// The logs of all lives.
    pub fn logs(&self) -> Vec<Vec<String>> {
        let mut logs = self.seen().old_logs;
        logs.extend(self.with(|all| all.iter().map(Process::log).collect::<Vec<_>>()));
        logs
    }

    /// Waits until one leads, and tells which.
    pub fn wait_leader(&self) -> usize {
        poll("a leader", || self.with(|all| all.iter().position(Process::leads)))
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        self.inner.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if std::thread::panicking() {
            for log in self.seen().old_logs {
                eprintln!("the log of an operator that ended:\n{}", log.join("\n"));
            }
        }
    }
}

/// One look at one replica.
fn look_after(inner: &Inner, at: usize, launch: &Launch) {
    let mut replicas = lock(&inner.replicas);
    let Some(process) = replicas.get_mut(at) else { return };
    if let Some(status) = process.ended() {
        let log = process.log();
        *process = Process::start(launch);
        let mut seen = lock(&inner.seen);
        seen.ends.push(status.code());
        seen.old_logs.push(log);
        return;
    }
    // A process that just ends refuses connections a moment before its end can be seen.
    let mut health = process.get("/healthz");
    for _ in 0..20 {
        if health.is_some() || process.ended().is_some() {
            break;
        }
        std::thread::sleep(POLL);
        health = process.get("/healthz");
    }
    let (files, threads) = process.open_files_and_threads();
    let is_alive = process.ended().is_none();
    let mut seen = lock(&inner.seen);
    seen.most_files = seen.most_files.max(files);
    seen.most_threads = seen.most_threads.max(threads);
    if is_alive && health.as_ref().is_none_or(|(status, _)| *status != 200) {
        seen.unhealthy.push(format!("{health:?}"));
    }
}
