//! What a tenant may write into its objects, against the real API server and the real operator: names that reach for
//! another namespace, and objects that are huge, deep or at the edge of their types. Refused, or survived; and nobody
//! else is disturbed.
//!
//! All share one cluster. Each test has an operator of its own, which is shown the namespace of that test alone.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::OnceLock;

#[path = "support"]
#[expect(dead_code, reason = "this test uses a part of what the tests share")]
mod support {
    pub mod plan;
    pub mod proxy;
    pub mod schema;
    pub mod world;
}
#[path = "tenancy/names.rs"]
mod names;
#[path = "tenancy/sizes.rs"]
mod sizes;

use support::proxy::{Proxy, Upstream};
use support::world::{Cluster, FLAGS, Operator};

fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(Cluster::start)
}

/// An operator that works on one namespace, and the proxy that shows what it asks for.
async fn operator_of(namespace: &str) -> (Operator, Proxy) {
    let (url, authority) = tokio::task::spawn_blocking(|| cluster().server()).await.unwrap();
    let proxy = Proxy::start(Upstream::https(&url, &authority).within(namespace)).await;
    let (url, name) = (proxy.url().to_owned(), namespace.to_owned());
    let operator = tokio::task::spawn_blocking(move || cluster().operator_via(&url, &name, &FLAGS)).await.unwrap();
    (operator, proxy)
}
