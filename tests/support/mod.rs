//! What several tests share: builders, laws. Modules, not tests.

pub mod arbitrary;
pub mod plan;
pub mod schema;
