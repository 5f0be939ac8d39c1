//! Whole operator processes under seeded faults, in one thread and in virtual time.
//!
//! Real are the controller, its watches, the election, the cloud's client with its signatures and the Kubernetes client.
//! Replaced at the wire are the API server, by the crate `api-server`, and the cloud, by the core of the crate
//! `simulator`.
//!
//! **May touch:** memory, and tokio's paused clock.
//!
//! **Guarantees**
//! 1. A seed is a run: ledger, history and log repeat byte for byte.
//! 2. What is judged is judged from the ledger and the history alone.

pub mod chance;
pub mod cloud;
pub mod clouds;
mod deeds;
pub mod facts;
pub mod faults;
pub mod hands;
pub mod oracle;
pub mod play;
pub mod process;
pub mod report;
pub mod run;
pub mod scene;
pub mod story;
pub mod together;
pub mod weather;
pub mod wire;
pub mod world;
