//! A cell as the operator serves it: namespaces, accounts and jobs of a real API server.
//!
//! **May touch:** namespaces of the cell's own name; its cloud.

use std::time::Duration;

use super::cell::{Cell, Load};
use super::tally::{Measured, Tally, wait_of};
use crate::Failure;
use crate::cluster::Cluster;

/// Until the queue of a backlog is as long as it will be.
const SETTLED: Duration = Duration::from_secs(10);

/// Runs it.
pub async fn measure(cell: &Cell, cluster: &Cluster) -> Result<Measured, Failure> {
    let cloud = cell.cloud()?;
    let names: Vec<_> = (1..).map(|n| format!("cell-{}-{n}", cell.name)).zip(cell.backlogs()).collect();
    for (name, _) in &names {
        cluster.create_namespace(name).await?;
    }
    let accounts = async || {
        for (name, _) in &names {
            cluster.create_account(name, &cloud.url(), cell.edition()).await?;
        }
        Ok::<_, Failure>(())
    };
    // All starts are ready at once when their account appears. For a backlog, it is enough that jobs come faster than
    // they are served.
    if cell.load == Load::Latecomers {
        accounts().await?;
    }
    for (name, ids) in &names {
        cluster.create_jobs(name, ids.clone()).await?;
    }
    if cell.load != Load::Latecomers {
        for (name, _) in &names {
            cluster.until_seen(name).await?;
        }
        accounts().await?;
    }
    let tally = Tally::begin(cell, &cloud).await?;
    let mut waits = None;
    if cell.load == Load::Latecomers {
        let late = format!("cell-{}-late", cell.name);
        cluster.create_namespace(&late).await?;
        cluster.create_account(&late, &cloud.url(), cell.edition()).await?;
        tokio::time::sleep(SETTLED).await;
        let mut each = Vec::new();
        for id in cell.latecomers() {
            let from = cloud.now();
            cluster.create_jobs(&late, id..id + 1).await?;
            each.push(wait_of(&cloud, id, from).await);
        }
        waits = Some(each);
        cluster.discard_jobs(&late, cell.latecomers()).await;
    }
    let measured = tally.end(waits).await;
    for (name, ids) in &names {
        cluster.discard_jobs(name, ids.clone()).await;
    }
    Ok(measured)
}
