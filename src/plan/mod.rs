//! Decides what one pass does for one job, and does none of it.
//!
//! **May touch:** its arguments. No clock, no client, no environment, no randomness, no log.
//!
//! **Guarantees**
//! 1. Total: every [`Observed`] has a plan; nothing here panics.
//! 2. A start that forces or moves the offset, once it may have run, is not planned again for its trigger.
//! 3. While the object is suspended, being deleted, or without account, key or turn, no start is planned.
//! 4. [`next_status`] is the only constructor of a status, and a fixed point: on its own result it changes nothing.
//!
//! **Assumes:** [`Observed::record`] is what the API server held at the object's resourceVersion, and that a status is
//! written only under that version.
//!
//! | first row that fits | what the pass does |
//! |---|---|
//! | `pendingStart` of a newer protocol | nothing, not even status |
//! | an answer to our own call is not recorded | `Settle(Answered)` |
//! | an intent of ours was surely not sent | `Settle(NotSent)` |
//! | being deleted | nothing |
//! | no usable account | wait, Stalled after the grace |
//! | `pendingStart`, a sign | `Settle(Confirmed)` |
//! | `pendingStart`, forced, held, unreadable or replaced | look at 30 s, 1, 2, 4, 8 and 15 min, then `Settle(Unknown)` |
//! | `pendingStart`, ordinary | after the settle time look; no sign: `Start` again, with the same nonce for 10 min |
//! | a start is due, the last one is unconfirmed | look until confirmed or timed out |
//! | a start is due, suspended | nothing |
//! | a start is due, a failure is waited out | wait |
//! | a start is due, no young baseline | `Look`, in its turn |
//! | first sight of a running or finished job | `Adopt` |
//! | a start is due | `Start`, in its turn |
//! | the account means another job | Stalled |
//! | a generation that starts nothing | `Tidy` |
//! | nothing is due | confirm the last start, or rest |
//!
//! Decision (2026-11): the look comes before the start's turn, not after it, so that a start in its turn is sent at once
//! and the baseline is seconds old; the governor's lanes let a job that has looked start next. Rejected: holding a turn
//! for a start over a look, which makes calls bunch and breaks the cloud's window.

pub mod account;
pub mod action;
pub mod backoff;
mod conditions;
mod decide;
mod evidence;
pub mod inputs;
pub mod last_call;
pub mod notice;
pub mod observed;
mod obstacle;
pub mod problem;
mod record;
mod resolve;
mod status;
pub mod trigger;

pub use action::{Action, Plan, Rest, Stance, Verdict, Wait};
pub use decide::decide;
pub use observed::Observed;
pub use status::{Next, Outcome, next_status};
