//! The start inputs of a spec against those last handled.

use crate::api::{Applied, DataIntegrationJobSpec, RealtimeStartSettings, StartInputs};

/// The start inputs that `spec` states. An empty object counts as absent.
#[must_use]
pub fn inputs_of(spec: &DataIntegrationJobSpec) -> StartInputs {
    // Without `..`: a new spec field does not compile until it is said here whether it starts anything.
    let DataIntegrationJobSpec {
        realtime_start_settings,
        force_to_rerun,
        account_ref: _, // which account: compared by its region
        di_job_id: _,   // which job: compared apart
        rerun_token: _, // a request of its own
        on_unknown: _,  // policy: starts nothing
        suspend: _,     // policy: starts nothing
    } = spec;
    StartInputs { realtime_start_settings: normal(realtime_start_settings.as_ref()), force_to_rerun: *force_to_rerun }
}

fn normal(settings: Option<&RealtimeStartSettings>) -> Option<RealtimeStartSettings> {
    settings.filter(|s| !s.is_empty()).cloned()
}

/// What an edit did to the start inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "four independent facts of one edit")]
pub struct Change {
    /// `startTime` is there and new.
    pub start_time: bool,
    /// `forceToRerun` was turned on.
    pub force: bool,
    /// `failoverSettings` are there and new.
    pub failover: bool,
    /// Something was only taken away.
    pub removed: bool,
}

impl Change {
    /// Something that a start must carry to the cloud.
    #[must_use]
    pub fn starts(self) -> bool {
        self.start_time || self.force || self.failover
    }
}

/// What separates `wanted` from what was handled.
#[must_use]
pub fn change(applied: &Applied, wanted: &StartInputs) -> Change {
    let Applied {
        realtime_start_settings,
        force_to_rerun,
        region: _,
        di_job_id: _,
        account: _,
        generation: _,
        uncertain: _,
        previous: _,
    } = applied;
    let none = RealtimeStartSettings::default();
    let RealtimeStartSettings { start_time: old_time, failover_settings: old_failover } =
        realtime_start_settings.as_ref().unwrap_or(&none);
    let RealtimeStartSettings { start_time, failover_settings } =
        wanted.realtime_start_settings.as_ref().unwrap_or(&none);
    let (old_failover, failover) =
        (old_failover.clone().unwrap_or_default(), failover_settings.clone().unwrap_or_default());
    let new_failover = (failover.interval.is_some() && failover.interval != old_failover.interval)
        || (failover.upper_limit.is_some() && failover.upper_limit != old_failover.upper_limit);
    Change {
        start_time: start_time.is_some() && start_time != old_time,
        force: wanted.force_to_rerun && !force_to_rerun,
        failover: new_failover,
        removed: (start_time.is_none() && old_time.is_some())
            || (!wanted.force_to_rerun && *force_to_rerun)
            || (failover.interval.is_none() && old_failover.interval.is_some())
            || (failover.upper_limit.is_none() && old_failover.upper_limit.is_some()),
    }
}
