//! What several test binaries share: modules, not tests.
#![allow(dead_code, reason = "each test binary uses its own part of these modules")]

pub mod arbitrary;
pub mod plan;
pub mod proxy;
pub mod schema;
pub mod world;
