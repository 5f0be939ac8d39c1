//! Schedules that are written down rather than drawn: one thing goes wrong, at a time that is known.
//!
//! **May touch:** its arguments.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use simulator::{JobPatch, JobStatus, Switches};

use crate::faults::Faults;
use crate::story::{Edit, JobPlan, Profile, Schedule, Story, WAYS};
use crate::weather::{Ill, Of, Spell};
use crate::world::World;

/// Something that a test does to the world at its time.
#[derive(Clone)]
pub struct Act {
    what: &'static str,
    act: Arc<dyn Fn(&World) + Send + Sync>,
}

impl Act {
    /// Does it.
    pub fn run(&self, world: &World) {
        (self.act)(world);
    }
}

impl fmt::Debug for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

/// Builds a schedule without any fault but those that it is told. One process, no election, a cloud in order.
#[derive(Clone, Debug)]
pub struct Scene(Schedule);

impl Scene {
    /// Goes on for so many seconds before the world is waited for to settle.
    #[must_use]
    pub fn of(seconds: u64) -> Self {
        let faults =
            Faults { seed: 1, api: 0, lease: 0, cloud: 0, event: 0, ends: 0, only: None, without: BTreeSet::new() };
        Self(Schedule {
            seed: 1,
            story: Story::SpecChange,
            profile: Profile::Default,
            way: WAYS[0],
            replicas: 1,
            election: false,
            jobs: Vec::new(),
            edits: Vec::new(),
            faults,
            faulty: Duration::from_secs(seconds),
            switches: Switches::default(),
            calls_per_day: None,
            begins: 0,
            drift: 0,
            clocks: Some(|_| SignedDuration::ZERO),
            spells: Vec::new(),
            scripted: true,
        })
    }

    /// Another seed: other latencies, jitters, nonces.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.0.seed = seed;
        self
    }

    /// A job that has never run, with this spec; it is applied only by [`Edit::Create`].
    #[must_use]
    pub fn job(mut self, namespace: &str, spec: Value) -> Self {
        let n = self.0.jobs.len();
        let (name, id) = (format!("job-{n}"), 7000 + i64::try_from(n).unwrap_or(0));
        let mut spec = spec;
        if let Value::Object(fields) = &mut spec {
            fields.entry("diJobId").or_insert(json!(id));
            fields.entry("accountRef").or_insert(json!({ "name": "main" }));
        }
        let object = json!({
            "apiVersion": "dijob.dev/v1alpha1", "kind": "DataIntegrationJob",
            "metadata": { "name": name, "namespace": namespace }, "spec": spec,
        });
        let before = JobPatch { status: Some(JobStatus::Initialized), ..JobPatch::default() };
        self.0.jobs.push(JobPlan { namespace: namespace.to_owned(), name, id, object, before });
        self
    }

    /// So many jobs that are applied at that second, a few milliseconds apart.
    #[must_use]
    pub fn fleet(mut self, count: usize, namespace: &str, second: u64) -> Self {
        for n in 0..count {
            let job = self.0.jobs.len();
            let at = Duration::from_millis(second * 1000 + 3 * u64::try_from(n).unwrap_or(0));
            self = self.job(namespace, json!({})).at(at, Edit::Create(job));
        }
        self
    }

    /// Somebody does that, so long after the beginning.
    #[must_use]
    pub fn at(mut self, at: Duration, edit: Edit) -> Self {
        self.0.edits.push((at, edit));
        self
    }

    /// The same for what no person does.
    #[must_use]
    pub fn act(self, at: Duration, what: &'static str, act: impl Fn(&World) + Send + Sync + 'static) -> Self {
        self.at(at, Edit::Act(Act { what, act: Arc::new(act) }))
    }

    /// Something is wrong with these requests to the API server from one second to another.
    #[must_use]
    pub fn spell(mut self, seconds: std::ops::Range<u64>, ill: Ill, of: Of) -> Self {
        let [from, until] = [seconds.start, seconds.end].map(Duration::from_secs);
        self.0.spells.push(Spell { from, until, ill, of });
        self
    }

    /// Another cloud.
    #[must_use]
    pub fn cloud(mut self, change: impl FnOnce(&mut Switches)) -> Self {
        change(&mut self.0.switches);
        self
    }

    /// So many processes that elect a leader.
    #[must_use]
    pub fn elects(mut self, replicas: u64) -> Self {
        (self.0.replicas, self.0.election) = (replicas, true);
        self
    }

    /// It all begins so many seconds after midnight UTC.
    #[must_use]
    pub fn begins(mut self, seconds: i64) -> Self {
        self.0.begins = seconds;
        self
    }

    /// The wall clock of each process at its birth, against the true time.
    #[must_use]
    pub fn clocks(mut self, clocks: fn(u64) -> SignedDuration) -> Self {
        self.0.clocks = Some(clocks);
        self
    }

    /// The clocks of API server and cloud gain so many of a thousand seconds on those of the processes.
    #[must_use]
    pub fn drift(mut self, of_a_thousand: i64) -> Self {
        self.0.drift = of_a_thousand;
        self
    }

    /// The schedule.
    #[must_use]
    pub fn done(self) -> Schedule {
        let mut schedule = self.0;
        schedule.edits.sort_by_key(|(at, _)| *at);
        schedule
    }
}
