//! The cluster's side: the object and its history, a person who edits it, two processes, faults.

use dijob_operator::api::{AccountRef, DataIntegrationJobSpec, FailoverSettings, JobStatus, OnUnknown};
use dijob_operator::dataworks::error::{Error, Operation, Ran};
use dijob_operator::plan::observed::{Account, Annotations, Answer, Answered, Key, Object, Reading, Settings, Turn};
use dijob_operator::plan::{Action, Observed, Outcome, Plan, Stance, Verdict, Wait, decide, next_status};
use jiff::SignedDuration;
use std::time::Duration;

use super::cloud::{Cloud, Fate, Ms, Profile};
use super::process::{Doing, Process};

mod steps;
use steps::short;

/// The region of both jobs.
pub const REGION: &str = "cn-shanghai";

/// One version of the object.
#[derive(Clone, Debug)]
pub struct Version {
    /// When it was written.
    pub at: Ms,
    /// resourceVersion.
    pub rv: u64,
    /// Of the spec.
    pub generation: i64,
    /// The spec.
    pub spec: DataIntegrationJobSpec,
    /// The annotations.
    pub annotations: Annotations,
    /// Marked for deletion.
    pub deleting: bool,
    /// The status, conditions and all.
    pub status: JobStatus,
}

/// Everything.
pub struct World {
    /// Of the seed.
    pub rng: fastrand::Rng,
    /// The true time.
    pub now: Ms,
    /// The cloud.
    pub cloud: Cloud,
    /// Every version of the object, oldest first.
    pub history: Vec<Version>,
    /// Two processes.
    pub processes: [Process; 2],
    /// Which of them leads.
    pub leader: usize,
    /// Lives that ended without warning, and when.
    pub crashed: Vec<(String, Ms)>,
    /// Resource version of each commit whose call left its process.
    pub sent: Vec<u64>,
    /// Copies on the wire: when they arrive, what they are, how it goes.
    wire: Vec<(Ms, dijob_operator::api::PendingStart, Fate)>,
    key: u32,
    lives: u32,
    faults: bool,
    calm: bool,
    token: u32,
    /// When the world became honest, and when it was quiet.
    pub honest_at: Ms,
    /// See [`Self::honest_at`].
    pub quiet_at: Option<Ms>,
    /// What happened, for people.
    pub story: Vec<String>,
}

impl World {
    /// The world of a seed.
    #[expect(clippy::disallowed_methods, reason = "a seeded source")]
    pub fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let calm = rng.bool();
        let profile = Profile {
            started_time: rng.u8(0..4) != 0,
            unreadable: rng.u8(0..8) == 0,
            nonce_memory: [900_000, 1_860_000, 0][usize::from(rng.u8(0..8)) % 5 % 3],
            per_key: rng.bool(),
            delay: [0, 1_000, 20_000, 300_000, 1_100_000][usize::from(rng.u8(0..8)) % 5],
            burns: rng.bool(),
        };
        let words = ["Initialized", "Stopped", "Stop", "Failed", "Running", "Finished"];
        let word = |rng: &mut fastrand::Rng| {
            let at_rest = rng.bool();
            words[rng.usize(0..if at_rest { 2 } else { 6 })]
        };
        let words = [word(&mut rng), word(&mut rng)];
        let now = 1_764_000_000_000;
        let spec = DataIntegrationJobSpec {
            account_ref: AccountRef::default(),
            di_job_id: 1,
            realtime_start_settings: None,
            force_to_rerun: !calm && rng.u8(0..4) == 0,
            rerun_token: String::new(),
            on_unknown: if rng.u8(0..6) == 0 { OnUnknown::Hold } else { OnUnknown::Resolve },
            suspend: false,
        };
        let first = Version {
            at: now,
            rv: 1,
            generation: 1,
            spec,
            annotations: Annotations::default(),
            deleting: false,
            status: JobStatus { observed_generation: -1, ..JobStatus::default() },
        };
        let clock = |rng: &mut fastrand::Rng| if rng.u8(0..5) == 0 { rng.i64(-3_600_000..3_600_000) } else { 0 };
        let processes = [0, 1].map(|n| Process::new(format!("p{n}-0"), clock(&mut rng), now));
        Self {
            rng,
            now,
            cloud: Cloud::new(profile, words),
            history: vec![first],
            processes,
            leader: 0,
            crashed: Vec::new(),
            sent: Vec::new(),
            wire: Vec::new(),
            key: 0,
            lives: 0,
            faults: true,
            calm,
            token: 0,
            honest_at: 0,
            quiet_at: None,
            story: Vec::new(),
        }
    }

    /// The switches of this schedule.
    pub fn profile(&self) -> String {
        format!("{:?}", self.cloud.profile)
    }

    fn tell(&mut self, what: &str) {
        let second = (self.now - 1_764_000_000_000) / 1000;
        self.story.push(format!("{second:>6} s  {what}"));
    }

    fn object(&self) -> &Version {
        self.history.last().unwrap()
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.faults && self.rng.u32(0..one_in) == 0
    }

    /// One event of the schedule.
    pub fn disturb(&mut self) {
        // A calm schedule goes from wake to wake, with few edits: it comes to resends.
        let event = self.rng.u8(0..40);
        match if self.calm && (27..=34).contains(&event) && !self.rng.u8(0..12).is_multiple_of(12) { 39 } else { event }
        {
            0..=25 => {
                let p = if self.rng.u8(0..4) == 0 { 1 - self.leader } else { self.leader };
                self.step(p);
            }
            26..=30 => {
                let by = [100, 1_000, 2_000, 5_000, 16_000, 31_000, 61_000, 130_000, 600_000, 910_000];
                let by = by[self.rng.usize(0..by.len())];
                self.pass_time(by);
            }
            31..=34 => self.edit(),
            35 => self.crash(),
            36 => {
                self.leader = 1 - self.leader;
                let gains = &mut self.processes[self.leader];
                gains.reading = None;
                gains.wake = self.now;
                self.tell(&format!("p{} leads", self.leader));
            }
            37 => self.person(),
            38 => {
                self.key += 1;
                self.tell(&format!("the key is rotated to K{}", self.key));
            }
            _ => self.jump(),
        }
    }

    /// Time goes to whatever the leader waits for.
    fn jump(&mut self) {
        let by = (self.processes[self.leader].wake - self.now).clamp(0, 3_600_000);
        self.pass_time(by);
    }

    /// Time passes, and what is on the wire arrives.
    fn pass_time(&mut self, by: Ms) {
        let end = self.now + by;
        self.wire.sort_by_key(|w| w.0);
        while let Some((at, record, fate)) = self.wire.first().cloned().filter(|w| w.0 <= end) {
            self.wire.remove(0);
            self.now = self.now.max(at);
            self.cloud.advance(self.now);
            let answer = self.cloud.start(self.now, &record, fate);
            self.tell(&format!("a late copy of {}#{} arrives: {}", record.id, record.attempt, short(&answer)));
        }
        self.now = end;
        self.cloud.advance(end);
    }

    fn crash(&mut self) {
        let p = self.rng.usize(0..2);
        self.lives += 1;
        let holder = format!("p{p}-{}", self.lives);
        self.tell(&format!("p{p} dies and comes back as {holder}"));
        self.crashed.push((self.processes[p].holder.clone(), self.now));
        self.processes[p] = Process::new(holder, self.processes[p].clock, self.now);
    }

    /// The job changes in the cloud without us.
    fn person(&mut self) {
        let job = self.rng.i64(1..3);
        let word = ["Running", "Stopped", "Finished", "Failed"][self.rng.usize(0..4)];
        if word != "Running" && self.cloud.jobs[&job].word != "Running" {
            return; // only what runs can end
        }
        self.tell(&format!("job {job} is {word} now, without us"));
        if word == "Running" {
            self.cloud.run(self.now, job, None);
        } else {
            self.cloud.jobs.get_mut(&job).unwrap().word = word;
        }
    }

    fn edit(&mut self) {
        let mut next = self.object().clone();
        let pick = self.rng.u8(0..16);
        match pick {
            0 | 1 => {
                self.token += 1;
                next.annotations.rerun = Some(format!("t{}", self.token));
            }
            2 => next.annotations.force.clone_from(&next.annotations.rerun),
            3 => next.annotations.rerun = None,
            4 => next.annotations.rerun = Some(format!("t{}", self.rng.u32(0..=self.token))),
            5 => {
                self.token += 1;
                next.spec.rerun_token = format!("t{}", self.token);
            }
            6 => next.spec.suspend = !next.spec.suspend,
            7 => next.spec.force_to_rerun = !next.spec.force_to_rerun,
            8 | 9 => {
                let time = [None, Some(1_671_516_776), Some(1_700_000_000 + self.now / 1_000_000)];
                next.spec.realtime_start_settings.get_or_insert_default().start_time = time[self.rng.usize(0..3)];
            }
            10 | 11 => {
                let failover = [None, Some(10), Some(20)][self.rng.usize(0..3)];
                next.spec.realtime_start_settings.get_or_insert_default().failover_settings =
                    failover.map(|i| FailoverSettings { interval: Some(i), upper_limit: None });
            }
            12 => next.spec.di_job_id = 3 - next.spec.di_job_id,
            13 => next.spec = self.history[self.rng.usize(0..self.history.len())].spec.clone(),
            14 => {
                let hold = next.spec.on_unknown == OnUnknown::Resolve && self.rng.u8(0..3) == 0;
                next.spec.on_unknown = if hold { OnUnknown::Hold } else { OnUnknown::Resolve };
            }
            _ => {
                if self.rng.u8(0..8) == 0 {
                    next.deleting = true;
                }
            }
        }
        let before = self.object();
        let spec_changed = next.spec != before.spec || next.deleting != before.deleting;
        if !spec_changed && next.annotations == before.annotations {
            return;
        }
        next.generation += i64::from(spec_changed);
        let what = edited(&next);
        self.tell(&what);
        self.push(next);
    }

    fn push(&mut self, mut next: Version) {
        next.rv = self.object().rv + 1;
        next.at = self.now;
        self.history.push(next);
    }

    /// A status write under the version that was decided on. `None`: the reply is lost, committed or not.
    fn write(&mut self, rv: u64, status: &JobStatus) -> Option<bool> {
        if self.chance(25) {
            return None;
        }
        if self.object().rv != rv {
            return Some(false);
        }
        if self.object().status != *status {
            let next = Version { status: status.clone(), ..self.object().clone() };
            self.push(next);
        }
        if self.chance(25) { None } else { Some(true) }
    }

    /// From here on nothing fails; until nobody has anything to do, then an hour more.
    pub fn settle(&mut self) {
        self.faults = false;
        self.honest_at = self.now;
        self.tell("from here on the world is honest");
        self.pass_time(0);
        let (mut idle, mut steps) = (0, 0);
        while idle < 3_600_000 * 3 && steps < 20_000 {
            steps += 1;
            let (versions, arrivals) = (self.history.len(), self.cloud.arrivals.len());
            let other = 1 - self.leader;
            self.step(other);
            self.step(self.leader);
            let me = &self.processes[self.leader];
            if self.history.len() != versions
                || self.cloud.arrivals.len() != arrivals
                || !self.wire.is_empty()
                || self.cloud.busy()
            {
                idle = 0;
            }
            let at_rest = matches!(me.doing, Doing::Idle) && me.wake > self.now;
            if at_rest {
                let by = (me.wake - self.now).clamp(100, 600_000);
                let next_copy = self.wire.iter().map(|w| w.0 - self.now).min().unwrap_or(by).max(0);
                let by = by.min(next_copy.max(100));
                idle += by;
                self.pass_time(by);
            } else {
                self.now += 1;
                self.cloud.advance(self.now);
            }
        }
        if steps < 20_000 {
            self.quiet_at = Some(self.now);
        }
    }
}

fn edited(next: &Version) -> String {
    let (spec, annotations) = (&next.spec, &next.annotations);
    let settings = spec.realtime_start_settings.as_ref();
    format!(
        "edited: job {} time {:?} failover {:?} force {} suspend {} {:?} tokens {:?} {:?} deleting {}",
        spec.di_job_id,
        settings.and_then(|s| s.start_time),
        settings.and_then(|s| s.failover_settings.as_ref()).and_then(|f| f.interval),
        spec.force_to_rerun,
        spec.suspend,
        spec.on_unknown,
        (&annotations.rerun, &annotations.force),
        spec.rerun_token,
        next.deleting
    )
}
