//! Rows of the fault matrix that are about one thing at one time: each a scene, or a few, with whole processes.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "rows/api.rs"]
mod api;
#[path = "rows/cloud.rs"]
mod cloud;
#[path = "rows/objects.rs"]
mod objects;
#[path = "rows/process.rs"]
mod process;
#[path = "rows/tools.rs"]
mod tools;
