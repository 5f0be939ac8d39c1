//! A seed is a run.
#![expect(clippy::panic, reason = "tests")]

use std::time::Duration;

use schedules::run::{How, run};

#[test]
fn a_seed_repeats_its_run_byte_for_byte() {
    let how = How { logs: true, quiet: Duration::ZERO, ..How::default() };
    for seed in 0..40 {
        let (first, second) = (run(seed, &how).trace(), run(seed, &how).trace());
        if first != second {
            let differs = first.lines().zip(second.lines()).find(|(a, b)| a != b);
            panic!("seed {seed} differs: {differs:#?}");
        }
    }
}
