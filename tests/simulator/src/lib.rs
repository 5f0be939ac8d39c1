//! `DataWorks` over HTTP, simulated: for tests, the demo and the bench.
//!
//! The [`core`] is pure: `(state, now, request) -> answer`. [`Simulator`] is its shell over loopback sockets, with an API
//! for tests in the same process and the same over HTTP under `/_sim/` for processes of their own. Another shell may
//! drive the core under a paused clock.
//!
//! It is a second reading of the cloud's API page and does not depend on the operator: a struct shared between the two
//! would hide a shared mistake.
//!
//! **May touch:** its listener, the wall clock once at start, a thread of its own.
//!
//! **Guarantees**
//! 1. Every request is verified as the cloud would, over the bytes that arrived, and stands in the ledger.
//! 2. A dropped connection is closed and a hanging one is silent at the socket itself.
//! 3. No secret in any answer of `/_sim/`, in the ledger or in a log line.
//!
//! Known so far: versions 2020-05-18 and 2024-05-18, signatures V1 and ACS3, `StartDIJob` and `GetDIJob`; of STS
//! `GetCallerIdentity`, `AssumeRole` and `AssumeRoleWithOIDC`; the metadata service of a machine. Any other action is
//! refused. All are served at one address: a call's version tells whose it is.

mod admin;
pub mod core;
mod server;
mod simulator;

pub use crate::core::answer::{Hint, Oddity, Refusal};
pub use crate::core::call::{ApiVersion, SignatureKind};
pub use crate::core::gateway::Key;
pub use crate::core::identity::{Lent, RoleArn, Session, Temporary};
pub use crate::core::jobs::{
    Console, Course, Effect, ForcedRerun, Job, JobPatch, JobRules, JobStatus, StartOnRunning, StartedTime,
};
pub use crate::core::ledger::{ByHand, Drawn, Entry, Execution, Fate, Ledger, Verdict};
pub use crate::core::metadata::Metadata;
pub use crate::core::sts::{Provider, Role, Sts};
pub use crate::core::switches::{
    Behaviour, Denial, Failures, Fault, Form2024, Neighbour, NonceScope, Permissions, Response, Switches, VersionQuota,
    When,
};
pub use crate::core::throttle::{DayTurn, Limits, Rate, Window};
pub use crate::simulator::{ACCOUNT, Settings, Simulator};
