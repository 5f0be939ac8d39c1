//! A seed is a run.
#![expect(clippy::panic, reason = "tests")]

use std::time::Duration;

use schedules::run::{How, run};

#[test]
fn a_seed_repeats_its_run_byte_for_byte() {
    std::thread::scope(|scope| {
        scope.spawn(|| twice(0..50));
        scope.spawn(|| twice(50..100));
    });
}

fn twice(seeds: std::ops::Range<u64>) {
    let how = How { logs: true, quiet: Duration::ZERO, ..How::default() };
    for seed in seeds {
        let (first, second) = (run(seed, &how).trace(), run(seed, &how).trace());
        if first != second {
            let differs = first.lines().zip(second.lines()).find(|(a, b)| a != b);
            panic!("seed {seed} differs: {differs:#?}");
        }
    }
}
