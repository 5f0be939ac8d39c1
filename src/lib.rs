//! A Kubernetes operator that runs Alibaba Cloud DataWorks Data Integration jobs declaratively.

pub mod api;
pub mod clock;
pub mod config;
pub mod controller;
pub mod dataworks;
pub mod lease;
pub mod plan;
pub mod quota;
pub mod server;
pub mod telemetry;
