//! Every state of a small world, each once: one object, two processes, a few edits, deaths and lost answers.
//!
//! Under test is the pure core. After every step the promises are judged from the ledger and the history alone, and from
//! every state an honest world must come to a visible end. A failure prints the shortest path to it.
//!
//! `SCOPE=full cargo test --profile fast --test exploration -- --nocapture` explores the whole scope; its result is kept in
//! `exploration/results.md`. The ordinary run explores a part of it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

#[path = "exploration/canon.rs"]
mod canon;
#[path = "exploration/cloud.rs"]
mod cloud;
#[path = "exploration/deep.rs"]
mod deep;
#[path = "exploration/heard.rs"]
mod heard;
#[path = "exploration/honest.rs"]
mod honest;
#[path = "exploration/lanes.rs"]
mod lanes;
#[path = "exploration/laws.rs"]
mod laws;
#[path = "exploration/ledger.rs"]
mod ledger;
#[path = "exploration/live.rs"]
mod live;
#[path = "exploration/process.rs"]
mod process;
#[path = "exploration/scopes.rs"]
mod scopes;
#[path = "exploration/search.rs"]
mod search;
#[path = "exploration/story.rs"]
mod story;
#[path = "support"]
mod support {
    #[expect(dead_code, reason = "here only the laws of a status are used")]
    pub mod plan;
    pub mod schema;
}
#[path = "exploration/world.rs"]
mod world;
