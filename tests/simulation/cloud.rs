//! The cloud: jobs, a gateway with a memory of nonces, and a ledger of all that arrived and ran.

use std::collections::BTreeMap;

use dijob_operator::api::PendingStart;
use dijob_operator::dataworks::error::{Error, ErrorKind, Operation};
use dijob_operator::plan::observed::{Answer, Seen, View};

/// Milliseconds of the world's one true clock, which is the cloud's.
pub type Ms = i64;

/// What is unknown about the real cloud, one setting for one schedule.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches")]
pub struct Profile {
    /// `StartedTime` is told.
    pub started_time: bool,
    /// Reading is refused.
    pub unreadable: bool,
    /// How long the gateway remembers nonces; 0: not at all.
    pub nonce_memory: Ms,
    /// Nonces are remembered per key.
    pub per_key: bool,
    /// From taking a start to its effect.
    pub delay: Ms,
    /// A rejected or throttled call burns its nonce.
    pub burns: bool,
}

/// One job.
#[derive(Clone, Debug)]
pub struct Job {
    /// The word.
    pub word: &'static str,
    /// `StartedTime`.
    pub started: Option<i64>,
}

/// A request in the ledger.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// When it arrived.
    pub at: Ms,
    /// What it was.
    pub record: PendingStart,
    /// What the cloud answered: `Ok(RequestId)` or the code.
    pub verdict: Result<String, Option<String>>,
}

/// A start that took effect.
#[derive(Clone, Debug)]
pub struct Execution {
    /// When.
    pub at: Ms,
    /// Which job.
    pub job: i64,
    /// Id of our start; `None`: a person's.
    pub id: Option<String>,
}

/// A read that was answered.
#[derive(Clone, Debug)]
pub struct Read {
    /// When.
    pub at: Ms,
    /// Which job.
    pub job: i64,
    /// What was told.
    pub started: Option<i64>,
}

/// How a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// As it should.
    Good,
    /// Refused with 429.
    Throttled,
    /// Refused with 403.
    Denied,
    /// Refused with 400.
    Invalid,
    /// 5xx, and it ran.
    ServerRan,
    /// 5xx, and it did not.
    ServerDidNot,
    /// Accepted, and nothing comes of it.
    Swallowed,
}

/// The cloud.
#[derive(Clone, Debug)]
pub struct Cloud {
    /// Its unknowns.
    pub profile: Profile,
    /// Jobs by number.
    pub jobs: BTreeMap<i64, Job>,
    nonces: Vec<(String, String, Ms)>,
    coming: Vec<(Ms, i64, String)>,
    /// The ledger.
    pub arrivals: Vec<Arrival>,
    /// The ledger.
    pub executions: Vec<Execution>,
    /// The ledger.
    pub reads: Vec<Read>,
    requests: u32,
}

impl Cloud {
    /// Two jobs at rest.
    pub fn new(profile: Profile, words: [&'static str; 2]) -> Self {
        let job = |word: &'static str| Job { word, started: (word != "Initialized").then_some(1_000) };
        let jobs = BTreeMap::from([(1, job(words[0])), (2, job(words[1]))]);
        Self {
            profile,
            jobs,
            nonces: Vec::new(),
            coming: Vec::new(),
            arrivals: Vec::new(),
            executions: Vec::new(),
            reads: Vec::new(),
            requests: 0,
        }
    }

    /// What has come due by `now` takes effect.
    pub fn advance(&mut self, now: Ms) {
        self.coming.sort();
        let due: Vec<_> = self.coming.iter().filter(|c| c.0 <= now).cloned().collect();
        self.coming.retain(|c| c.0 > now);
        for (at, job, id) in due {
            self.run(at, job, Some(id));
        }
    }

    /// A start still on its way inside the cloud.
    pub fn busy(&self) -> bool {
        !self.coming.is_empty()
    }

    /// A start takes effect.
    pub fn run(&mut self, at: Ms, job: i64, id: Option<String>) {
        let state = self.jobs.get_mut(&job).unwrap();
        state.word = "Running";
        // Two starts within one second are told apart too: this model does not look below the second.
        state.started = Some((at / 1000).max(state.started.unwrap_or(0) + 1));
        self.executions.push(Execution { at, job, id });
    }

    /// A request arrives.
    pub fn start(&mut self, now: Ms, record: &PendingStart, fate: Fate) -> Answer {
        self.requests += 1;
        let request_id = format!("R{}", self.requests);
        let age = now - record.signed_time.0.as_millisecond();
        let memory = self.profile.nonce_memory;
        let used = self.nonces.iter().any(|(nonce, key, at)| {
            *nonce == record.nonce && now - at < memory && (!self.profile.per_key || *key == record.key_id)
        });
        let refusal = match fate {
            _ if age.abs() > 900_000 => Some((ErrorKind::ClockSkew, "InvalidTimeStamp.Expired", 400)),
            _ if used => Some((ErrorKind::NonceUsed, "SignatureNonceUsed", 400)),
            Fate::Throttled => Some((ErrorKind::Throttled, "Throttling.User", 429)),
            Fate::Denied => Some((ErrorKind::Denied, "Forbidden.RAM", 403)),
            Fate::Invalid => Some((ErrorKind::Invalid, "InvalidParameter", 400)),
            Fate::ServerRan | Fate::ServerDidNot => Some((ErrorKind::Server, "InternalError.System", 500)),
            Fate::Good | Fate::Swallowed => None,
        };
        if refusal.is_none_or(|(kind, _, _)| kind == ErrorKind::Server || self.profile.burns) {
            self.nonces.push((record.nonce.clone(), record.key_id.clone(), now));
        }
        let runs = match refusal {
            None => fate == Fate::Good,
            Some((kind, _, _)) => kind == ErrorKind::Server && fate == Fate::ServerRan,
        };
        if runs {
            self.coming.push((now + self.profile.delay, record.di_job_id, record.id.clone()));
        }
        let verdict = refusal.map_or_else(|| Ok(request_id.clone()), |(_, code, _)| Err(Some(code.to_owned())));
        self.arrivals.push(Arrival { at: now, record: record.clone(), verdict });
        self.advance(now);
        match refusal {
            None => Answer::Accepted { request_id: Some(request_id) },
            Some((kind, code, status)) => Answer::Failed(error(Operation::StartDiJob, kind, code, status, &request_id)),
        }
    }

    /// The job is read. `fails`: not this time.
    pub fn read(&mut self, now: Ms, job: i64, fails: bool) -> Seen {
        self.advance(now);
        self.requests += 1;
        let id = format!("R{}", self.requests);
        if fails {
            return Seen::Failed(error(Operation::GetDiJob, ErrorKind::Server, "InternalError.System", 500, &id));
        }
        if self.profile.unreadable {
            return Seen::Refused(error(Operation::GetDiJob, ErrorKind::Denied, "Forbidden.RAM", 403, &id));
        }
        let state = &self.jobs[&job];
        let started = state.started.filter(|_| self.profile.started_time);
        self.reads.push(Read { at: now, job, started });
        Seen::Job(View { word: state.word.to_owned(), started, ..View::default() })
    }
}

fn error(operation: Operation, kind: ErrorKind, code: &str, status: u16, request_id: &str) -> Error {
    Error {
        operation,
        kind,
        code: Some(code.to_owned()),
        message: None,
        request_id: Some(request_id.to_owned()),
        http_status: Some(status),
        wait: None,
        never_left: false,
    }
}
