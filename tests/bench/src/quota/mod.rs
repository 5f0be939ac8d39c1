//! How much of a quota is used, and at whose cost: the real operator beside plain backoff, on the same clouds.
//!
//! Each cell is a cloud of its own, with one kind of window, and a load that is there at once. The operator serves it as
//! objects of the cluster; then, on a cloud just like it, one task per job calls by itself and waits after each refusal as
//! most operators do. Cells of 5 calls a second take long and load nothing: all of them run at the same time.
//!
//! **May touch:** the cluster; simulators that it starts; sockets on loopback.
//!
//! **Guarantees**
//! 1. Every number comes from a simulator's ledger.
//! 2. A cell that does not end in its time is measured up to then, and one that fails is named below the others.

use std::path::Path;

use simulator::Simulator;

use self::cell::{Cell, all};
use self::tally::Measured;
use crate::cluster::Cluster;
use crate::operator::Operator;
use crate::report::{Grid, Report};
use crate::{Failure, Flags, about};

mod cell;
mod plain;
mod served;
mod tally;

/// What the numbers mean, below their table.
const MEANING: [&str; 6] = [
    "P1: 20/s: starts over the limit of writes; 5/s: all accepted calls over the one limit; first call to last start",
    "P2: calls refused per call accepted, all calls",
    "P3: refused share of the calls of a neighbour, which draws 40 % of the limit evenly",
    "Jain: index over 5 namespaces, backlogs 10:1, up to the last start of the first that is through",
    "wait: a job applied, or its first call tried, to its start; of 10 jobs, one after the other, behind the backlog",
    "plain: a task per job, full jitter, 1 s to 20 s, 64 calls at once. Operator: 64 passes, as shipped",
];

/// The cells that `--only` names, in whole or in part; without it, all.
fn chosen(flags: &Flags) -> Result<Vec<Cell>, Failure> {
    let all = all(flags.starts, flags.backlog);
    let names: Vec<_> = all.iter().map(|cell| cell.name.clone()).collect();
    let is_named = |name: &String, part: &String| if names.contains(part) { name == part } else { name.contains(part) };
    let is_chosen = |cell: &Cell| flags.only.is_empty() || flags.only.iter().any(|part| is_named(&cell.name, part));
    let chosen: Vec<Cell> = all.into_iter().filter(is_chosen).collect();
    if chosen.is_empty() {
        return Err(format!("no cell has such a name; there are {}", names.join(", ")).into());
    }
    Ok(chosen)
}

/// Runs the chosen cells.
pub async fn measure(flags: &Flags, binary: &Path, clock: &Simulator, report: &mut Report) -> Result<(), Failure> {
    let chosen = chosen(flags)?;
    eprintln!("starting the API server: seconds, or minutes if Go has to build it first");
    let cluster = Cluster::start(clock).await?;
    let operator = Operator::start(binary, &cluster.kubeconfig, clock).await?;
    operator.ready(clock).await?;
    let (slow, fast): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|cell| !cell.is_split);
    let mut ended = Vec::new();
    for cell in &fast {
        ended.push(both(cell, &cluster).await);
    }
    ended.extend(futures::future::join_all(slow.iter().map(|cell| both(cell, &cluster))).await);
    report.about("load after cells", about::load());
    let (rows, failures): (Vec<_>, Vec<_>) = ended.into_iter().partition(Result::is_ok);
    let rows: Vec<_> = rows.into_iter().flatten().collect();
    let failures: Vec<_> = failures.into_iter().filter_map(Result::err).map(|error| error.to_string()).collect();
    for failure in &failures {
        eprintln!("{}", operator.explain(&failure.as_str().into()));
    }
    if rows.is_empty() {
        return Err("no cell could be measured".into());
    }
    report.grid(grid(&rows, failures));
    operator.stop().await
}

type Row = (Cell, Measured, Measured);

/// The cell as the operator serves it, then the same with plain backoff.
async fn both(cell: &Cell, cluster: &Cluster) -> Result<Row, Failure> {
    eprintln!("{}: the operator", cell.name);
    let ours = served::measure(cell, cluster).await.map_err(|error| format!("{}: {error}", cell.name))?;
    eprintln!("{}: {}; plain backoff", cell.name, ours.words());
    let plain = plain::measure(cell).await.map_err(|error| format!("{}, plain: {error}", cell.name))?;
    eprintln!("{}: {}", cell.name, plain.words());
    Ok((cell.clone(), ours, plain))
}

fn grid(rows: &[Row], failures: Vec<String>) -> Grid {
    let mut grid = Grid {
        key: "quota",
        title: "quota",
        columns: Measured::NAMES.iter().map(|name| (*name).to_owned()).collect(),
        rows: Vec::new(),
        notes: MEANING.map(str::to_owned).into_iter().chain(failures).collect(),
    };
    for (cell, ours, plain) in rows {
        grid.rows.push((cell.name.clone(), "operator", ours.values().to_vec()));
        grid.rows.push((cell.name.clone(), "plain", plain.values().to_vec()));
    }
    grid
}
