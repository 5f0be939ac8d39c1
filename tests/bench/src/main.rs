//! Measures the operator: the real binary, a real API server, the simulated cloud. `cargo bench-operator -- --help`.
//!
//! It fails if something cannot be measured, never because of a number. Times of a shared machine say little alone:
//! compare the ratios of one run.
//!
//! **May touch:** processes that it starts; standard output for the numbers, standard error for progress.
//!
//! **Guarantees**
//! 1. All times are read from one monotonic clock, the simulator's.
//! 2. Finished, failed or interrupted, it ends what it started and leaves no file.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use simulator::{JobRules, Settings, Simulator, StartOnRunning, Switches};
use tokio::signal::unix::{SignalKind, signal};

use crate::cluster::Cluster;
use crate::idle::Idle;
use crate::latency::Latency;
use crate::operator::Operator;
use crate::report::Report;
use crate::watch::Watch;

mod about;
mod audit;
mod calls;
mod cluster;
mod compile;
mod http;
mod idle;
mod latency;
mod operator;
mod quota;
mod report;
mod watch;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The access key of the one account.
const KEY: (&str, &str) = ("bench-key", "bench-secret");

/// Measures the operator on a real API server and a simulated cloud. About 5 minutes, and minutes more where the
/// operator or the API server has to be built first. P4 to P10 number the project's measures.
#[derive(Parser)]
#[command(name = "bench-operator")]
struct Flags {
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// The operator's binary, built in release mode; default: it is built now
    #[arg(long, value_name = "PATH")]
    operator: Option<PathBuf>,
    /// Edits to measure, one by one
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u16).range(1..))]
    edits: u16,
    /// Jobs that are there while edits are measured
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    objects: u16,
    /// Jobs that are there while memory, processor time and the restart are measured
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..))]
    idle_jobs: u16,
    /// Measure how much of a quota is used instead, beside plain backoff (P1, P2, P3, P15): about an hour and a half
    #[arg(long)]
    quota: bool,
    /// Starts that are ready at once in a cell of the quota
    #[arg(long, default_value_t = 1000, requires = "quota", value_parser = clap::value_parser!(u16).range(1..=5000))]
    starts: u16,
    /// Jobs before which another namespace's job waits
    #[arg(long, default_value_t = 10_000, requires = "quota", value_parser = clap::value_parser!(u16).range(1..=20_000))]
    backlog: u16,
    /// Only the cell of the quota with this name, such as 20-fixed, or all with this in their names, such as neighbour,
    /// fair or wait; may be repeated
    #[arg(long, value_name = "NAME", requires = "quota")]
    only: Vec<String>,
    /// Also write the table, and below it the JSON, to this file
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// Also time a cold cargo build --locked, and cargo test --workspace --locked --no-run on top of it, in a target
    /// directory that is thrown away: about 10 minutes more, with all dependencies in cargo's cache
    #[arg(long)]
    cold: bool,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    // Fails only if a provider is set already, and then it is this one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bench-operator: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = run(&flags) => ended,
            () = interrupted() => Err("interrupted".into()),
        }
    });
    // Not waiting for a build of the control plane that was interrupted: it ends with this process.
    runtime.shutdown_background();
    let written = ended.and_then(|report| match &flags.out {
        Some(path) => Ok(std::fs::write(path, format!("{}\n{:#}\n", report.table(), report.json())).map(|()| report)?),
        None => Ok(report),
    });
    match written {
        Ok(report) if flags.json => println!("{:#}", report.json()),
        Ok(report) => print!("{}", report.table()),
        Err(error) => {
            eprintln!("bench-operator: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

async fn interrupted() {
    let signals = signal(SignalKind::interrupt()).and_then(|first| Ok((first, signal(SignalKind::terminate())?)));
    let Ok((mut interrupt, mut terminate)) = signals else { return std::future::pending().await };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

async fn run(flags: &Flags) -> Result<Report, Failure> {
    let mut report = Report::default();
    let binary = match &flags.operator {
        Some(path) => std::path::absolute(path)?,
        None => compile::operator().await?,
    };
    let version = about::version(&binary.to_string_lossy()).await;
    let origin = if flags.operator.is_some() { "as given, perhaps of another commit" } else { "built now, release" };
    report.about("operator", format!("{version}, {origin}"));
    report.about("commit", about::commit().await);
    report.about("rustc", about::version("rustc").await);
    report.about("machine", about::machine());
    report.about("load at first", about::load());

    // A start of a running job starts it anew, so that each start shows in `StartedTime` and can be confirmed.
    let rules = JobRules { start_on_running: StartOnRunning::Restart, ..JobRules::default() };
    let switches = Switches { rules, ..Switches::default() };
    let cloud = Arc::new(Simulator::start(Settings { switches, ..Settings::default() }.with_key(KEY.0, KEY.1))?);
    if flags.quota {
        quota::measure(flags, &binary, &cloud, &mut report).await?;
    } else {
        measure(flags, &binary, &cloud, &mut report).await?;
    }
    if flags.cold {
        compile::times(&cloud, &mut report).await?;
    }
    report.about("load at last", about::load());
    Ok(report)
}

async fn measure(
    flags: &Flags,
    binary: &std::path::Path,
    cloud: &Arc<Simulator>,
    report: &mut Report,
) -> Result<(), Failure> {
    eprintln!("starting the API server: seconds, or minutes if Go has to build it first");
    let cluster = Cluster::start(cloud).await?;
    let (server, etcd) = cluster.versions().await?;
    report.about("control plane", format!("kube-apiserver {server}, etcd {etcd} with fsync"));
    report.about("cloud", "simulated, Enterprise limits (50 reads, 20 writes a second), no added latency");

    eprintln!("starting the operator");
    let watch = Watch::start(cluster.jobs(), Arc::clone(cloud));
    let operator = Operator::start(binary, &cluster.kubeconfig, cloud).await?;
    operator.ready(cloud).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (rss, _) = operator.memory()?;
    report.numbers([("rss_empty", "P7  RSS without any job", rss, "MB", "/proc")]);

    eprintln!("measuring {} edits over {} jobs", flags.edits, flags.objects);
    let edits = async {
        let latency = Latency::prepare(&cluster, cloud, &watch, flags.objects).await?;
        latency.measure(flags.edits, &operator, report).await
    };
    edits.await.map_err(|error| operator.explain(&error))?;
    operator.stop().await?;

    let idle = Idle { cluster: &cluster, cloud, watch: &watch, binary, count: flags.idle_jobs };
    idle.measure(report).await
}
