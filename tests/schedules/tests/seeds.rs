//! A fixed block of seeds over every story.
#![expect(clippy::panic, reason = "tests")]

use std::time::Duration;

use schedules::run::{How, explain, run};
use schedules::story::{STORIES, Wishes};

/// The seeds of each story.
const SEEDS: u64 = 8;

#[test]
fn no_story_breaks_a_promise() {
    let mut doubles = 0;
    for (n, story) in (0_u64..).zip(STORIES) {
        for seed in n * 100..n * 100 + SEEDS {
            let mut how = How { logs: seed.is_multiple_of(4), ..How::default() };
            how.wishes = Wishes { story: Some(*story), ..Wishes::default() };
            how.quiet = Duration::from_secs(if seed.is_multiple_of(6) { 600 } else { 0 });
            let played = run(seed, &how);
            match &played.verdict {
                Ok(tally) => doubles += tally.lawful_doubles,
                Err(broken) => panic!("{story:?} {}", explain(seed, &how, broken)),
            }
        }
    }
    assert!(doubles < 100, "{doubles} lawful doubles");
}
