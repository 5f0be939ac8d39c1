//! Which trials there are, and how many at once.
//!
//! **May touch:** processes, by way of the runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::exchanges::Name;
use super::faults::{Trial, chosen, points};
use super::run::{Record, run};
use super::stories::Story;

/// Seeds of the crash loops.
const SEEDS: u64 = 10;

/// One numbered trial of a story, and what came of it.
pub struct Done {
    /// The story.
    pub story: Story,
    /// Its number in the story, from 1.
    pub number: usize,
    /// The trial.
    pub trial: Trial,
    /// What came of it.
    pub record: Record,
}

/// Tells a story without a fault. Its exchanges are what is hurt in the others.
///
/// # Errors
/// It failed without a fault.
pub async fn count(story: Story) -> Result<Vec<Name>, String> {
    let record = run(story, Trial::Plain, namespace(story)).await;
    if record.violations.is_empty() { Ok(chosen(&record.names)) } else { Err(failure(story, &Trial::Plain, &record)) }
}

/// All trials of a story with these exchanges.
pub fn trials(story: Story, names: &[Name]) -> Vec<Trial> {
    let loops = (!story.elected()).then(|| std::iter::once(None).chain((1..=SEEDS).map(Some)).map(Trial::Loop));
    points(names).into_iter().map(Trial::Point).chain(loops.into_iter().flatten()).collect()
}

fn namespace(story: Story) -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(1);
    format!("{}-{}", story.name, NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Runs trials, so many at once, and tells of each as it ends. A trial whose exchange did not come is tried twice more:
/// a busy machine can change a story.
pub async fn run_all(trials: Vec<(Story, usize, Trial)>, lanes: usize, tell: impl Fn(&Done)) -> Vec<Done> {
    let (free, mut running, mut all) = (Arc::new(Semaphore::new(lanes)), JoinSet::new(), Vec::new());
    for (story, number, trial) in trials {
        let free = free.clone();
        running.spawn(async move {
            let _turn = free.acquire_owned().await.unwrap();
            let mut record = run(story, trial.clone(), namespace(story)).await;
            for _ in 0..2 {
                if !record.reached {
                    record = run(story, trial.clone(), namespace(story)).await;
                }
            }
            Done { story, number, trial, record }
        });
    }
    while let Some(done) = running.join_next().await {
        let done = done.unwrap();
        tell(&done);
        all.push(done);
    }
    all.sort_by_key(|done| (done.story.name, done.number));
    all
}

/// All that a person needs of a failure, and how to see it again.
pub fn failure(story: Story, trial: &Trial, record: &Record) -> String {
    format!(
        "{}, {trial}:\n  {}\n{}\nagain: cargo crash-points --story {} --named '{trial}'",
        story.name,
        record.violations.join("\n  "),
        record.told,
        story.name,
    )
}
