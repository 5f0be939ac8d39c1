//! The kinds that users apply, and what the operator writes back.
//!
//! **May touch:** serde, schemars, kube's derive, and the types of k8s-openapi and jiff. No client, no clock.
//!
//! **Guarantees**
//! 1. [`crds`] gives the CRDs exactly as they are shipped in `crds/`.
//! 2. [`v1alpha1::JobStatus::bounded`] makes any status fit its own schema.
//! 3. Words of the cloud, and of newer operators, are text: no status stops an older operator from reading the object.

pub mod condition;
mod crd;
pub mod v1alpha1;

pub use crd::crds;
pub use v1alpha1::*;

/// The API group of both kinds.
pub const GROUP: &str = "dijob.dev";

/// Annotation that asks for one more start: any token not handled before.
pub const RERUN_ANNOTATION: &str = "dijob.dev/rerun";

/// Annotation that makes that start a full rerun, if it holds the same token.
pub const RERUN_FORCE_ANNOTATION: &str = "dijob.dev/rerun-force";
