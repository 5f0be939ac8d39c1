//! The cluster's side: the object and its history, a person who edits it, two processes, faults.

use dijob_operator::api::{AccountRef, DataIntegrationJobSpec, FailoverSettings, JobStatus, OnUnknown};
use dijob_operator::dataworks::error::{Error, Operation, Ran};
use dijob_operator::plan::observed::{Account, Annotations, Answer, Answered, Key, Object, Reading, Settings, Turn};
use dijob_operator::plan::{Action, Observed, Outcome, Plan, Stance, Verdict, Wait, decide, next_status};
use jiff::SignedDuration;
use std::time::Duration;

use super::cloud::{Cloud, Fate, Ms, Profile};
use super::process::{Doing, Process};

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
        let (spec, annotations) = (&next.spec, &next.annotations);
        let settings = spec.realtime_start_settings.as_ref();
        let what = format!(
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
        );
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

    fn observe(&mut self, p: usize, version: &Version) -> Observed {
        let now = self.now;
        let me = &mut self.processes[p];
        let mut record = version.status.clone();
        let conditions = std::mem::take(&mut record.conditions);
        me.first_seen(&record, now);
        let pending = record.pending_start.as_ref().map(|s| (s.id.clone(), s.attempt, s.holder.clone()));
        let never_sent = pending.is_some_and(|(id, n, holder)| holder == me.holder && me.never_sent.contains(&(id, n)));
        Observed {
            object: Object { uid: "u".to_owned(), generation: version.generation, deleting: version.deleting },
            spec: version.spec.clone(),
            annotations: version.annotations.clone(),
            record,
            conditions,
            account: Account::Found { region: REGION.to_owned(), version: "a".to_owned() },
            key: Key::Ready { id: format!("K{}", self.key), version: format!("s{}", self.key) },
            missing_since: None,
            reading: me.reading.clone(),
            call_at: me.call_at,
            unrecorded: me.unrecorded.clone(),
            never_sent,
            turn: me.turn,
            hold: None,
            cloud_offset: if me.learned { SignedDuration::from_millis(-me.clock) } else { SignedDuration::ZERO },
            jitter: self.rng.f64(),
            fresh_nonce: format!("{:032x}", self.rng.u128(..)),
            holder: me.holder.clone(),
            lease_transitions: 0,
            settings: Settings {
                settle: Duration::from_secs(30),
                confirm: Duration::from_secs(120),
                grace: Duration::from_secs(120),
            },
        }
    }

    /// One effect of a process.
    pub fn step(&mut self, p: usize) {
        match std::mem::replace(&mut self.processes[p].doing, Doing::Idle) {
            Doing::Idle => {
                // Who has lost the lease still tells what became of its own call.
                let me = &self.processes[p];
                if self.leader == p || me.unrecorded.is_some() || !me.never_sent.is_empty() {
                    self.begin(p);
                }
            }
            Doing::Committed(held) => {
                if self.leader == p && !self.chance(12) {
                    self.processes[p].doing = Doing::Fenced(held);
                } else {
                    let (seen, plan, record) = *held;
                    self.tell(&format!("p{p} does not pass the fence with {}#{}", record.id, record.attempt));
                    self.processes[p].never_sent.push((record.id, record.attempt));
                    self.processes[p].doing = Doing::Writing(Box::new((seen, plan, Outcome::NotSent)));
                }
            }
            Doing::Fenced(held) => self.send(p, *held),
            Doing::Calling(held) => {
                let (seen, plan, answered, end) = *held;
                if end > self.now {
                    self.pass_time(end - self.now);
                }
                self.answered(p, seen, plan, answered);
            }
            Doing::Writing(held) => self.record(p, *held),
        }
    }

    fn begin(&mut self, p: usize) {
        // A view behind the truth, though never behind our own last write.
        let oldest = self.history.iter().position(|v| v.rv >= self.processes[p].wrote).unwrap_or(0);
        let behind = if self.chance(8) { self.rng.usize(0..3) } else { 0 };
        let version = self.history[(self.history.len() - 1).saturating_sub(behind).max(oldest)].clone();
        if version.rv == self.processes[p].saw && self.processes[p].wake > self.now {
            return;
        }
        self.processes[p].saw = version.rv;
        let mut seen = self.observe(p, &version);
        let at = self.processes[p].time(self.now);
        let plan = decide(&seen, at);
        if self.leader != p && !matches!(plan.action, Action::Settle(Verdict::Answered(_) | Verdict::NotSent)) {
            let still_there = seen.never_sent || version.rv != self.object().rv;
            let me = &mut self.processes[p];
            me.never_sent.retain(|_| still_there);
            me.wake = self.now;
            return;
        }
        let outcome = match &plan.action {
            Action::Nothing | Action::Adopt | Action::Tidy | Action::Settle(_) => Outcome::Done,
            Action::TakeTurn(lane) => {
                let held = !self.chance(5);
                self.processes[p].turn =
                    if held { Turn::Held(*lane) } else { Turn::Waiting { lane: *lane, long: false } };
                seen.turn = self.processes[p].turn;
                Outcome::Done
            }
            Action::Look(job) => {
                let fails = self.chance(8);
                let result = self.cloud.read(self.now, job.di_job_id, fails);
                self.tell(&format!("p{p} reads job {}: {}", job.di_job_id, short_seen(&result)));
                let reading = Some(Reading { job: job.clone(), at, seen: result });
                let me = &mut self.processes[p];
                (me.reading, me.turn, me.learned) = (reading.clone(), Turn::None, true);
                (seen.reading, seen.turn) = (reading, Turn::None);
                Outcome::Looked
            }
            Action::Start(record) => {
                self.processes[p].turn = Turn::None;
                return self.commit(p, seen, plan.clone(), (**record).clone());
            }
        };
        if plan.lane.is_none() {
            self.processes[p].turn = Turn::None;
        } else if let Turn::Waiting { lane, .. } = self.processes[p].turn {
            self.processes[p].turn = Turn::Held(lane);
        }
        self.processes[p].doing = Doing::Writing(Box::new((seen, plan, outcome)));
    }

    fn commit(&mut self, p: usize, seen: Observed, plan: Plan, record: dijob_operator::api::PendingStart) {
        let at = self.processes[p].time(self.now);
        let intended = Outcome::Intended(Box::new(record.clone()));
        let status = next_status(&seen, &plan, &intended, at).status;
        let rv = self.processes[p].saw;
        match self.write(rv, &status) {
            Some(true) => {
                let forced = if record.is_forced() { "forced " } else { "" };
                self.tell(&format!("p{p} commits {forced}{}#{} ({})", record.id, record.attempt, record.trigger));
                let rv = self.object().rv;
                let me = &mut self.processes[p];
                (me.wrote, me.saw) = (rv, rv);
                me.doing = Doing::Committed(Box::new((seen, plan, record)));
            }
            Some(false) => self.tell(&format!("p{p} loses a conflict over {}", record.id)),
            None => {
                self.tell(&format!("p{p} does not know whether {}#{} is committed", record.id, record.attempt));
                self.processes[p].never_sent.push((record.id, record.attempt));
            }
        }
        self.processes[p].wake = self.now;
    }

    fn send(&mut self, p: usize, held: (Observed, Plan, dijob_operator::api::PendingStart)) {
        let (seen, plan, record) = held;
        let fates =
            [Fate::Throttled, Fate::Denied, Fate::Invalid, Fate::ServerRan, Fate::ServerDidNot, Fate::Swallowed];
        let fate = if self.chance(3) { fates[self.rng.usize(0..6)] } else { Fate::Good };
        let me = &mut self.processes[p];
        me.sent.push((record.id.clone(), record.attempt));
        me.never_sent.retain(|i| *i != (record.id.clone(), record.attempt));
        let is_it = |v: &&Version| v.status.pending_start.as_ref() == Some(&record);
        let mut committed = 0;
        for (n, v) in self.history.iter().enumerate().skip(1) {
            let new = self.history[n - 1].status.pending_start.as_ref() != Some(&record);
            committed = if new && is_it(&v) { v.rv } else { committed };
        }
        self.sent.push(committed);
        me.about = Some((record.id.clone(), record.attempt));
        let (answer, end) = if self.chance(if self.calm { 2 } else { 4 }) {
            let late = [0, 0, 1_000, 40_000, 400_000, 1_200_000][self.rng.usize(0..6)];
            if self.chance(3) {
                self.tell(&format!("{}#{} is lost on the way", record.id, record.attempt));
            } else {
                self.wire.push((self.now + late, record.clone(), fate));
                self.pass_time(0);
            }
            (Answer::Failed(Error::unanswered(Operation::StartDiJob, false, "timed out")), self.now + 15_000)
        } else {
            let answer = self.cloud.start(self.now, &record, fate);
            self.processes[p].learned = true;
            (answer, self.now)
        };
        self.tell(&format!("p{p} sends {}#{}: {}", record.id, record.attempt, short(&answer)));
        let answered = Answered { pending: record, answer };
        self.processes[p].doing = Doing::Calling(Box::new((seen, plan, answered, end)));
    }

    fn answered(&mut self, p: usize, mut seen: Observed, plan: Plan, answered: Answered) {
        let may_have_run = match &answered.answer {
            Answer::Accepted { .. } => true,
            Answer::Failed(e) => e.ran() == Ran::May,
        };
        let at = self.processes[p].time(self.now);
        if may_have_run {
            self.processes[p].call_at = Some(at);
            seen.call_at = Some(at);
        }
        self.processes[p].unrecorded = Some(answered.clone());
        self.processes[p].doing = Doing::Writing(Box::new((seen, plan, Outcome::Answered(Box::new(answered)))));
    }

    fn record(&mut self, p: usize, held: (Observed, Plan, Outcome)) {
        let (seen, plan, outcome) = held;
        let at = self.processes[p].time(self.now);
        let next = next_status(&seen, &plan, &outcome, at);
        let goes_on = next.plan.action != Action::Nothing;
        let wait = match next.plan.wait {
            _ if goes_on => self.now,
            Wait::OnChange => Ms::MAX,
            Wait::Until(until) => until.as_millisecond() - self.processes[p].clock,
            Wait::OnTurn => self.now + 1_000,
        };
        self.processes[p].wake = wait;
        let foreign = matches!(next.plan.stance, Stance::Foreign);
        if foreign || (!next.must_write && goes_on && self.rng.bool()) {
            return;
        }
        let rv = self.processes[p].saw;
        let written = self.write(rv, &next.status);
        if written == Some(true) {
            let rv = self.object().rv;
            let me = &mut self.processes[p];
            (me.wrote, me.saw) = (rv, rv);
            me.unrecorded = None;
            me.about = Process::about(&next.status).or(me.about.take());
            if matches!(outcome, Outcome::NotSent) || matches!(plan.action, Action::Settle(Verdict::NotSent)) {
                me.never_sent.clear();
            }
        } else {
            self.processes[p].wake = self.now; // read again
            self.processes[p].saw = 0;
        }
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

fn short(answer: &Answer) -> String {
    match answer {
        Answer::Accepted { request_id } => format!("accepted, {}", request_id.as_deref().unwrap_or("-")),
        Answer::Failed(e) => e.code.clone().unwrap_or_else(|| "no answer".to_owned()),
    }
}

fn short_seen(seen: &dijob_operator::plan::observed::Seen) -> String {
    use dijob_operator::plan::observed::Seen;
    match seen {
        Seen::Job(view) => format!("{} {:?}", view.word, view.started),
        Seen::NotFound(_) => "not found".to_owned(),
        Seen::Refused(_) => "refused".to_owned(),
        Seen::Failed(_) => "fails".to_owned(),
    }
}
