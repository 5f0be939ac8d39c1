//! A schedule from its first moment to its last: faults, then honest time, then quiet.
//!
//! **May touch:** one current-thread runtime of its own, whose clock is paused.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;

use crate::story::Schedule;
use crate::world::{Notes, Record, World, lock};

/// Waits in virtual time.
pub async fn wait(time: Duration) {
    tokio::time::sleep(time).await;
}

/// The longest that anything may take once the faults have stopped: a late execution of 20 minutes, a signature of 15,
/// a slow retry of 15, and what follows from each.
const BOUND: Duration = Duration::from_secs(60 * 60);

/// Plays a schedule to its end.
#[must_use]
pub fn play(schedule: Schedule, quiet: Duration) -> Record {
    let built = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = built.unwrap_or_else(|e| unreachable!("a runtime without threads and files: {e}"));
    runtime.block_on(async move {
        let world = Arc::new(World::new(schedule));
        world.prepare();
        let mut tasks = tokio::task::JoinSet::new();
        for slot in 0..world.schedule.replicas {
            tasks.spawn(world.clone().pod(slot));
        }
        tasks.spawn(world.clone().break_connections());
        let people = tokio::spawn(world.clone().people());
        wait(world.schedule.faulty).await;
        world.hearts();
        drop(people.await);
        let honest = world.now();
        world.faulty.store(false, Ordering::Relaxed);
        lock(&world.cloud).switches.faults.clear();
        world.tell("the faults stop");
        let end = world.elapsed() + BOUND;
        let soonest = world.elapsed() + Duration::from_secs(180);
        while world.elapsed() < end {
            wait(Duration::from_secs(60)).await;
            if world.elapsed() > soonest && world.at_rest() {
                break;
            }
        }
        let settled = world.now();
        world.tell("settled, or the bound is over");
        wait(quiet).await;
        world.hearts();
        world.record(honest, settled)
    })
}

impl World {
    fn record(&self, honest: Timestamp, settled: Timestamp) -> Record {
        let end = self.now();
        let mut cloud = lock(&self.cloud);
        cloud.advance(end);
        let notes = std::mem::take(&mut *lock(&self.notes));
        let Notes { sent, identities, died, story, faults, exchanges, wrong, asked, opened: _, stopped, processes: _ } =
            notes;
        Record {
            schedule: self.schedule.clone(),
            history: self.api.history(0),
            ledger: cloud.ledger().clone(),
            sent,
            identities,
            died,
            honest,
            settled,
            end,
            story,
            faults,
            exchanges,
            wrong,
            asked,
            stopped,
        }
    }
}
