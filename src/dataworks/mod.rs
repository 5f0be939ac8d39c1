//! dataworks.
