//! The simulator by hand: `cargo run -p simulator -- --help`.
//!
//! **May touch:** its flags, standard output, one listener.
//!
//! **Guarantees**
//! 1. The first line is the URL; then one line per request, as it arrives. No secret is printed.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use simulator::{Entry, Limits, Settings, Simulator, Switches, Verdict};

/// DataWorks over HTTP, simulated: StartDIJob and GetDIJob of versions 2020-05-18 and 2024-05-18, signatures V1 and ACS3.
/// STS and the metadata service of a machine lend temporary keys, for roles that switches declare.
///
/// It verifies every signature, throttles as the edition says, and keeps a ledger. Nothing leaves this machine.
#[derive(Parser)]
#[command(after_help = "\
While it runs:
  curl $URL/_sim/ledger                                    all requests so far
  curl $URL/_sim/switches                                  all switches as they are
  curl -X PATCH $URL/_sim/switches -H content-type:application/json \\
    -d '{\"rules\": {\"startedTime\": {\"lagging\": \"30s\"}}}'     change some
  curl $URL/_sim/faults -H content-type:application/json \\
    -d '{\"calls\": 1, \"action\": \"StartDIJob\", \"behaviour\": {\"answer\": \"drop\"}}'
                                                           execute the next start, lose its answer
  curl $URL/_sim/jobs/11 -H content-type:application/json \\
    -d '{\"console\": \"stop\"}'                               a person stops job 11

A behaviour has these parts: arrive and execute: \"now\", \"never\" or {\"after\": \"5s\"}; answer: \"right\", \"drop\", \"hang\",
{\"error\": {\"code\": \"Throttling.User\"}} or {\"odd\": \"malformed\"}; answerAfter: \"5s\"; hint: {\"retryAfter\": 1500}.")]
struct Flags {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// An access key that may call; may be repeated
    #[arg(long = "key", value_name = "ID:SECRET", value_parser = key)]
    keys: Vec<(String, String)>,
    /// Whose limits hold: basic 5 calls a second and 100 a day, enterprise 50 reads and 20 writes a second
    #[arg(long, value_enum, default_value_t = Edition::Enterprise)]
    edition: Edition,
    /// A job that is there, never run; may be repeated
    #[arg(long = "job", value_name = "ID")]
    jobs: Vec<i64>,
    /// Make a job when it is first named
    #[arg(long)]
    auto_create: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Edition {
    Basic,
    Enterprise,
    Unlimited,
}

fn key(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((id, secret)) if !id.is_empty() && !secret.is_empty() => Ok((id.to_owned(), secret.to_owned())),
        _ => Err("expected ID:SECRET".to_owned()),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Flags { listen, keys, edition, jobs, auto_create } = Flags::parse();
    let limits = match edition {
        Edition::Basic => Limits::basic(),
        Edition::Enterprise => Limits::enterprise(),
        Edition::Unlimited => Limits::unlimited(),
    };
    let switches = Switches { limits, auto_create, ..Switches::default() };
    let settings =
        keys.iter().fold(Settings { listen, switches, jobs, ..Settings::default() }, |settings, (id, secret)| {
            settings.with_key(id, secret)
        });
    let simulator = Simulator::start(settings)?;
    println!("{}", simulator.url());
    let mut printed = 0;
    loop {
        let mut fresh = Vec::new();
        simulator.block_until(Duration::from_secs(3600), |ledger| {
            fresh = ledger.entries().get(printed..).unwrap_or_default().to_vec();
            !fresh.is_empty()
        })?;
        for entry in &fresh {
            println!("{}", line(entry));
        }
        printed += fresh.len();
    }
}

fn line(entry: &Entry) -> String {
    let verdict = match &entry.verdict {
        Verdict::Underway => "underway".to_owned(),
        Verdict::Accepted => "accepted".to_owned(),
        Verdict::Refused { code, status } => format!("refused {status} {code}"),
    };
    let text = |value: &Option<String>| value.as_deref().unwrap_or("-").escape_debug().to_string();
    format!(
        "{} #{} {} job={} key={} {verdict} executed={} request={}",
        entry.last_byte,
        entry.seq,
        text(&entry.action),
        entry.job.map_or_else(|| "-".to_owned(), |job| job.to_string()),
        text(&entry.key_id),
        entry.executed.map_or_else(|| "-".to_owned(), |at| at.to_string()),
        entry.request_id,
    )
}
