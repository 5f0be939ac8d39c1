//! How long jobs waited for their permits.

use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{Labels, Lane, Metrics};

/// Seconds: from a pass's own time to a parked day.
const BUCKETS: [f64; 9] = [0.01, 0.1, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0, 21_600.0];

pub(super) type Waits = Family<Labels<1>, Histogram, fn() -> Histogram>;

/// One histogram for each lane.
pub(super) fn register(registry: &mut Registry) -> Waits {
    let waits = Waits::new_with_constructor(|| Histogram::new(BUCKETS));
    for lane in Lane::WORDS {
        drop(waits.get_or_create(&[("lane", *lane)]));
    }
    registry.register("permit_wait_seconds", "Seconds that jobs waited for the permits that they got", waits.clone());
    waits
}

impl Metrics {
    /// Counts how long a job waited for a permit that it has now.
    pub fn permit_wait(&self, lane: Lane, wait: Duration) {
        self.permit_waits.get_or_create(&[("lane", lane.as_str())]).observe(wait.as_secs_f64());
    }
}
