//! The operator's binary as a process: started, asked, looked at from outside, stopped.
//!
//! **May touch:** that process; `/proc` of it; its probes on loopback.
//!
//! **Guarantees**
//! 1. It runs with the shipped flags, but for loopback endpoints and a free port.
//! 2. Dropped, it is killed. Should this process be killed itself, the operator ends by its own rules soon after: its
//!    API server is gone and with it the Lease.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use simulator::Simulator;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};

use crate::{Failure, http};

/// Longest wait for anything that should take seconds.
pub const LIMIT: Duration = Duration::from_secs(120);

/// All series of one scrape.
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// The sum of all series whose name and labels contain every one of `parts`.
    pub fn sum(&self, parts: &[&str]) -> f64 {
        self.0.iter().filter(|(name, _)| parts.iter().all(|part| name.contains(part))).map(|(_, value)| value).sum()
    }

    fn parse(text: &str) -> Self {
        let series = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        Self(series.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
    }
}

/// A running operator.
pub struct Operator {
    child: Child,
    pid: u32,
    address: String,
    log: Arc<Mutex<VecDeque<String>>>,
    /// When it was about to be started.
    pub executed: Timestamp,
}

impl Operator {
    /// Starts it and waits until it says where it listens.
    pub async fn start(binary: &Path, kubeconfig: &Path, cloud: &Simulator) -> Result<Self, Failure> {
        let mut command = Command::new(binary);
        command.arg("--kubeconfig").arg(kubeconfig).args([
            "--lease-namespace=dijob-system",
            "--listen=127.0.0.1:0",
            "--allow-insecure-endpoints=true",
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let executed = cloud.now();
        let mut child = command.spawn().map_err(|error| format!("starting {}: {error}", binary.display()))?;
        let pid = child.id().ok_or("the operator ended at once")?;
        let mut lines = BufReader::new(child.stderr.take().ok_or("the operator has no standard error")?).lines();
        let mut said = VecDeque::new();
        let address = loop {
            let Some(line) = lines.next_line().await? else {
                return Err(format!("the operator ended:\n{}", Vec::from(said).join("\n")).into());
            };
            let listen =
                serde_json::from_str::<Value>(&line).ok().and_then(|v| Some(v.get("listen")?.as_str()?.to_owned()));
            said.push_back(line);
            if let Some(listen) = listen {
                break listen;
            }
        };
        let log = Arc::new(Mutex::new(said));
        tokio::spawn(keep_last(lines, Arc::clone(&log)));
        Ok(Self { child, pid, address, log, executed })
    }

    async fn get(&self, path: &str) -> Result<(u16, String), Failure> {
        let answer = async { http::get(TcpStream::connect(&self.address).await?, path).await };
        answer.await.map_err(|error| self.explain(&format!("the operator's {path}: {error}").into()))
    }

    /// All metrics as they are now.
    pub async fn metrics(&self) -> Result<Metrics, Failure> {
        Ok(Metrics::parse(&self.get("/metrics").await?.1))
    }

    /// Waits for `/readyz`; says when.
    pub async fn ready(&self, cloud: &Simulator) -> Result<Timestamp, Failure> {
        self.poll("ready", Duration::from_millis(5), async || {
            Ok((self.get("/readyz").await?.0 == 200).then(|| cloud.now()))
        })
        .await
    }

    /// Waits until so many passes have ended; says when.
    pub async fn passed(&self, passes: f64, cloud: &Simulator) -> Result<Timestamp, Failure> {
        self.poll("through all objects", Duration::from_millis(20), async || {
            Ok((self.metrics().await?.sum(&["dijob_passes_total"]) >= passes).then(|| cloud.now()))
        })
        .await
    }

    /// Waits until no pass has ended for 2 s and nobody waits for a turn.
    pub async fn quiet(&self) -> Result<(), Failure> {
        let mut before = -1.0;
        self.poll("quiet", Duration::from_secs(2), async || {
            let metrics = self.metrics().await?;
            let passes = metrics.sum(&["dijob_passes_total"]);
            let is_quiet = passes.total_cmp(&before).is_eq() && metrics.sum(&["dijob_waiting_turns"]) < 1.0;
            before = passes;
            Ok(is_quiet.then_some(()))
        })
        .await
    }

    async fn poll<T>(
        &self,
        what: &str,
        every: Duration,
        mut ask: impl AsyncFnMut() -> Result<Option<T>, Failure>,
    ) -> Result<T, Failure> {
        let asked = async {
            loop {
                if let Some(value) = ask().await? {
                    return Ok(value);
                }
                tokio::time::sleep(every).await;
            }
        };
        let late = |_| self.explain(&format!("the operator is not {what} after {LIMIT:?}").into());
        tokio::time::timeout(LIMIT, asked).await.map_err(late)?
    }

    /// Resident memory in MB now, and the most there ever was.
    pub fn memory(&self) -> Result<(f64, f64), Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let field = |name: &str| -> Result<f64, Failure> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such field in /proc")?;
            let kib: f64 = line.trim_start_matches(':').trim().trim_end_matches(" kB").parse()?;
            Ok(kib * 1024.0 / 1e6)
        };
        Ok((field("VmRSS")?, field("VmHWM")?))
    }

    /// Time on a processor so far, in milliseconds, of all its threads.
    pub fn cpu(&self) -> Result<f64, Failure> {
        let mut sum = 0.0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.pid))? {
            let schedstat = fs::read_to_string(thread?.path().join("schedstat"))?;
            let nanoseconds: f64 = schedstat.split(' ').next().unwrap_or_default().parse()?;
            sum += nanoseconds / 1e6;
        }
        Ok(sum)
    }

    /// Ends it as a rolling update does, with SIGTERM, and waits for the end.
    pub async fn stop(mut self) -> Result<(), Failure> {
        let pid = self.pid.to_string();
        Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]).kill_on_drop(true).status().await?;
        let ended =
            tokio::time::timeout(LIMIT, self.child.wait()).await.map_err(|_| "the operator does not stop")??;
        if ended.success() {
            return Ok(());
        }
        Err(self.explain(&format!("the operator ended with {ended}").into()))
    }

    /// An error, and what the operator last said.
    pub fn explain(&self, error: &Failure) -> Failure {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let words: Vec<&str> = log.iter().map(String::as_str).collect();
        format!("{error}; the operator's last words:\n{}", words.join("\n")).into()
    }
}

/// Its log must be read, or it would stand still at a full pipe.
async fn keep_last(mut lines: Lines<BufReader<ChildStderr>>, log: Arc<Mutex<VecDeque<String>>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push_back(line);
        if log.len() > 20 {
            log.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_parts_of_their_name() {
        let text =
            "# TYPE a counter\na_total{kind=\"x\",result=\"ok\"} 2\na_total{kind=\"y\",result=\"ok\"} 3\nb 7\n# EOF\n";
        let metrics = Metrics::parse(text);
        assert!((metrics.sum(&["a_total"]) - 5.0).abs() < f64::EPSILON);
        assert!((metrics.sum(&["a_total", "kind=\"y\""]) - 3.0).abs() < f64::EPSILON);
        assert!(metrics.sum(&["c"]).abs() < f64::EPSILON);
    }
}
