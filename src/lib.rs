//! A Kubernetes operator that runs Alibaba Cloud DataWorks Data Integration jobs declaratively: the architecture.
//!
//! `README.md` says what it promises to its users; this page says how the code keeps that, and where things are.
//!
//! # Map
//!
//! ```text
//!               main     flags -> clients -> tasks; the end of one ends the process
//!                 |
//!            controller  the edge: watches, queue, passes; no decisions
//!           /  |     \  \
//!       plan   |  lease  dataworks   the decision, pure | leader election | the client, knows no Kubernetes
//!         |  quota                   the governor: whose turn it is, pure
//!        api                         the kinds, as types
//!
//!  clock  config  telemetry  health  server  the one reader of time and randomness; flags; logs and metrics; probes
//! ```
//!
//! # The flow of a pass
//!
//! A watch, a timer or a turn that came puts an object into the controller's queue. One task at a time passes it, and only
//! in the process that holds the Lease:
//!
//! | step | where | what |
//! |---|---|---|
//! | observe | `controller::observe` | object, account, Secret and memory become one [`plan::Observed`]; no cloud call |
//! | decide | [`plan::decide`] | pure: one [`plan::Action`], how the object stands, and what ends the wait |
//! | execute | `controller::execute` | does that action; a failure of the cloud is an outcome, not an error |
//! | next status | [`plan::next_status`] | pure: the only constructor of a status, conditions included |
//! | record | `controller::record` | writes it under the version that was decided on; equal status is not sent |
//!
//! An account has passes of its own, which call nothing: `controller::account_pass` tells how it stands by [`plan::account`],
//! and keeps the day's count of [`quota`] in its status, ahead of the calls.
//!
//! A job's pass then observes again, a few times in a row at most. Each call of the cloud is an action of its own and waits for its
//! turn in [`quota`], with nothing durable held. One action must not be repeated, and its order is its meaning:
//!
//! ```text
//! Start: intent -> fence -> call -> answer
//!        |         |        |       `- kept in memory until status holds it
//!        |         |        `- once: nothing below retries, redirects or uses a proxy
//!        |         `- the Lease outlasts the sending of the bytes
//!        `- status.pendingStart, under the object's version; a conflict ends the pass, and nothing leaves
//! ```
//!
//! A process that finds a `pendingStart` which it did not send in this life takes it for a start that may have run. What
//! follows from that is the table in [`plan`].
//!
//! Keys that the cloud lends are asked for beside the passes: one that needs a key on its way ends without a decision, and its
//! object is woken when the key has come or is refused.
//!
//! Status is the only memory that counts. What a process remembers besides (looks, turns, answers not yet recorded) is
//! keyed by uid, and losing it costs time, never correctness.
//!
//! # Who may use what
//!
//! | module | of ours | of others | never |
//! |---|---|---|---|
//! | [`api`] | – | serde, schemars, kube's derive, types of k8s-openapi and jiff | clients, async, clock |
//! | [`quota`], [`lease::state`] | – | std, types of jiff | serde, async, kube, clock, logs |
//! | [`dataworks::model`], [`dataworks::sign`], [`dataworks::error`] | each other | serde, hmac, sha1, sha2, secrecy, types of jiff | kube, async, clock |
//! | [`dataworks`], the rest | the row above, [`clock`] | reqwest, tokio | kube, k8s-openapi |
//! | [`plan`] | [`api`]; types of [`quota`] and of `dataworks::{model, error}` | types of jiff | clients, async, clock, logs |
//! | [`lease`] | [`lease::state`], [`clock`] | kube, tokio, tracing | [`plan`], [`controller`] |
//! | [`controller`] | all but [`config`] | kube, tokio, tracing | signing, HTTP |
//! | [`clock`], [`config`], [`telemetry`], [`health`], [`server`] | [`clock`]; `server`: [`health`] | tokio; clap; prometheus-client, tracing; axum | kube, [`plan`] |
//!
//! Time, randomness and the environment are read in [`clock`] and [`config`] alone, and enter as values: so every decision
//! can be tested at any moment, and a whole process under a paused clock.
//!
//! # Where to add …
//!
//! - **A spec field.** [`api::v1alpha1`]: optional, documented, bounded, a CEL rule whose message says what to do.
//!   [`plan::inputs`] does not compile until it is said whether a change of it starts anything. Then its row in
//!   `crds/*.md`, and `UPDATE=1 cargo test --test crds`.
//! - **A status field.** [`api::v1alpha1`], with its bound; `full.rs` does not compile without it. Absent must mean what
//!   every stored status means today.
//! - **A reason.** A variant of [`api::condition::Reason`]; what gives it, usually a row of [`plan::problem`]; its
//!   troubleshooting row in `README.md`, which `tests/pages.rs` asks for.
//! - **A condition.** A variant of [`api::condition::ConditionType`], and how it is computed in `plan::conditions`; YAML on
//!   the page. If [`controller`] must change, it hides a decision.
//! - **An action.** A variant of [`plan::Action`], with "may be repeated" in its doc; a row of the table in [`plan`]; the
//!   compiler lists the arms. If it must not be repeated: intent, fence, evidence and settle time first.
//! - **An API operation.** [`dataworks::model`], one method of [`dataworks::Client`], its codes in [`dataworks::error`]; the
//!   simulator learns it from the cloud's own page, not from here.
//! - **A credential kind.** [`api::v1alpha1`]: a field, part of the rule "exactly one of", and no namespace in it; an arm in
//!   `controller::credentials`; who lends its key in `controller::lenders`; a flag, off by default, if it uses the operator's own
//!   identity; the hint of a refusal in [`plan::problem`]; the simulator answers for it; page, rights, and its secrets among
//!   those that tests look for.
//! - **A metric or a flag.** [`telemetry`] or [`config`]; `tests/pages.rs` holds the README to both.
//!
//! # Tests
//!
//! The least powerful one that can fail for the right reason: beside the code for what is pure; `tests/*.rs` for laws, wire
//! and pages; a real API server, which the crate `tests/control-plane` starts, for what only a cluster shows. The cloud is
//! the crate `tests/simulator`, which does not know this one: a struct shared by both would hide a shared mistake.

pub mod api;
pub mod clock;
pub mod config;
pub mod controller;
pub mod dataworks;
pub mod health;
pub mod lease;
pub mod plan;
pub mod quota;
pub mod server;
pub mod telemetry;
