//! What the processes do, one effect at a time.

use super::*;

impl World {
    pub(super) fn observe(&mut self, p: usize, version: &Version) -> Observed {
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
            account: Account::Found {
                region: REGION.to_owned(),
                version: "a".to_owned(),
                service: String::new(),
                projects: vec![],
            },
            key: Key::Ready { id: format!("K{}", self.key), version: format!("s{}", self.key) },
            missing_since: None,
            reading: me.reading.clone(),
            call_at: me.call_at,
            unrecorded: me.unrecorded.clone(),
            never_sent,
            turn: me.turn,
            turn_at: None,
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
        let answered = Answered { pending: record, credentials_version: seen.credentials_version(), answer };
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
}

pub(super) fn short(answer: &Answer) -> String {
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
