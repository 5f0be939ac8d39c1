//! Bytes from outside, at random and near to what is known to be hard: no input panics, and what is read is lawful.
//!
//! Each target first replays its corpus, the files of `tests/golden/corpus/<target>`, then tries `FUZZ_CASES` random inputs:
//! fresh bytes, and changed and spliced files of the corpus. A failure prints the shortest input that was found; put into a
//! file of the corpus, it is replayed for ever.
//!
//! The ordinary run takes seconds. Ten minutes for one target, at full speed and with overflow checks (`FUZZ_SECONDS` counts
//! for each target, and the targets of one run share the cores):
//!
//! ```text
//! FUZZ_SECONDS=600 cargo test --profile fast --test fuzz replies -- --nocapture
//! ```
//!
//! **May touch:** the files of the corpus, and two variables of the environment.
//!
//! **Guarantees**
//! 1. Nothing is judged by the code that is under test: signatures, hints and hosts have a second reading here.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "fuzz/cloud.rs"]
mod cloud;
#[path = "fuzz/decisions.rs"]
mod decisions;
#[path = "fuzz/errors.rs"]
mod errors;
#[path = "fuzz/harness.rs"]
mod harness;
#[path = "fuzz/hosts.rs"]
mod hosts;
#[path = "fuzz/replies.rs"]
mod replies;
#[path = "fuzz/signing.rs"]
mod signing;
#[path = "fuzz/statuses.rs"]
mod statuses;
#[path = "fuzz/texts.rs"]
mod texts;
#[path = "fuzz/words.rs"]
mod words;
#[path = "support"]
mod support {
    pub mod arbitrary;
    #[expect(dead_code, reason = "the rows of the decision table use the rest")]
    pub mod plan;
    pub mod schema;
}
