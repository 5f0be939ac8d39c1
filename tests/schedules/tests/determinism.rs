//! What makes schedules worth anything: a seed is a run. Alone in its process, since the log's filter is shared by threads.

use schedules::run::{How, run};

#[test]
fn a_seed_is_a_run_byte_for_byte() {
    for seed in 0..100 {
        let how = How { logs: true, ..How::default() };
        let (first, second) = (run(seed, &how).trace(), run(seed, &how).trace());
        let differs = || first.lines().zip(second.lines()).find(|(one, other)| one != other);
        assert!(first == second, "seed {seed} differs: {:#?}", differs());
        assert!(first.len() > 1_000, "seed {seed} did nothing");
    }
}
