//! The cloud: three jobs, a gateway that may remember nonces, and starts that take effect at once, late or never.

use std::sync::Arc;

use dijob_operator::api::PendingStart;
use dijob_operator::dataworks::error::{Error, ErrorKind, Operation};
use dijob_operator::plan::observed::{Answer, JobRef, Seen, View};

/// Milliseconds of the world's one clock.
pub type Ms = i64;

/// When an accepted start takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Execution {
    /// With its answer.
    AtOnce,
    /// At any later step.
    Late,
    /// Not at all.
    Never,
}

/// What is unknown about the real cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Profile {
    /// `StartedTime` is told.
    pub started_time: bool,
    /// Reading is refused.
    pub unreadable: bool,
    /// The gateway remembers nonces, for 31 minutes.
    pub remembers: bool,
    /// When starts take effect.
    pub execution: Execution,
    /// The jobs' word at first.
    pub word: &'static str,
}

/// How the cloud takes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// As it should.
    Good,
    /// 429.
    Throttled,
    /// 403.
    Denied,
    /// 400.
    Invalid,
    /// 500, and it ran.
    ServerRan,
    /// 500, and it did not.
    ServerDidNot,
}

/// One job.
#[derive(Clone, Copy, Debug, Hash)]
pub struct Job {
    /// The word.
    pub word: &'static str,
    /// `StartedTime`.
    pub started: Option<i64>,
}

/// What the gateway said of one copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Accepted.
    Taken,
    /// Refused, and surely did not run.
    Refused(&'static str),
    /// Answered without saying whether it ran.
    Silent,
}

/// The cloud.
#[derive(Clone, Debug)]
pub struct Cloud {
    /// By [`index`].
    pub jobs: [Job; 3],
    /// Nonce, and when it was taken.
    pub nonces: Vec<(String, Ms)>,
    /// Accepted starts without effect so far: job and id.
    pub coming: Vec<(usize, String)>,
    requests: u32,
}

/// Jobs 1 and 2 of the region, and job 1 of another one.
pub fn index(region: &str, job: i64) -> usize {
    if region == super::world::REGIONS[1] { 2 } else { usize::from(job == 2) }
}

impl Cloud {
    /// Three jobs that were started once, long ago.
    pub fn new(profile: Profile) -> Self {
        let started = (profile.word != "Initialized").then_some(1_000);
        let job = Job { word: profile.word, started };
        Self { jobs: [job; 3], nonces: Vec::new(), coming: Vec::new(), requests: 0 }
    }

    /// A copy arrives. Says the answer, what it means, and whether the start takes effect now.
    pub fn take(
        &mut self,
        profile: Profile,
        now: Ms,
        record: &Arc<PendingStart>,
        fate: Fate,
    ) -> (Answer, Verdict, bool) {
        self.requests += 1;
        let request_id = format!("R{}", self.requests);
        let age = now / 1_000 - record.signed_time.0.as_second();
        self.nonces.retain(|(_, at)| now - at < 1_860_000);
        let used = profile.remembers && self.nonces.iter().any(|(nonce, _)| *nonce == record.nonce);
        let refusal = match fate {
            _ if age.abs() > 900 => Some((ErrorKind::ClockSkew, "InvalidTimeStamp.Expired", 400)),
            _ if used => Some((ErrorKind::NonceUsed, "SignatureNonceUsed", 400)),
            Fate::Throttled => Some((ErrorKind::Throttled, "Throttling.User", 429)),
            Fate::Denied => Some((ErrorKind::Denied, "Forbidden.RAM", 403)),
            Fate::Invalid => Some((ErrorKind::Invalid, "InvalidParameter", 400)),
            Fate::ServerRan | Fate::ServerDidNot => Some((ErrorKind::Server, "InternalError.System", 500)),
            Fate::Good => None,
        };
        let Some((kind, code, status)) = refusal else {
            self.remember(profile, record, now);
            let now_runs = self.accept(profile, record);
            return (Answer::Accepted { request_id: Some(request_id) }, Verdict::Taken, now_runs);
        };
        let error = error(Operation::StartDiJob, kind, code, status, &request_id);
        if kind == ErrorKind::Server {
            self.remember(profile, record, now);
            let now_runs = fate == Fate::ServerRan && self.accept(profile, record);
            return (Answer::Failed(error), Verdict::Silent, now_runs);
        }
        let verdict = if kind == ErrorKind::NonceUsed { Verdict::Silent } else { Verdict::Refused(code) };
        (Answer::Failed(error), verdict, false)
    }

    fn remember(&mut self, profile: Profile, record: &PendingStart, now: Ms) {
        if profile.remembers {
            self.nonces.push((record.nonce.clone(), now));
        }
    }

    fn accept(&mut self, profile: Profile, record: &PendingStart) -> bool {
        if profile.execution == Execution::Late {
            self.coming.push((index(&record.region, record.di_job_id), record.id.clone()));
        }
        profile.execution == Execution::AtOnce
    }

    /// A start takes effect, ours or a person's.
    pub fn run(&mut self, now: Ms, job: usize) {
        let state = &mut self.jobs[job];
        state.word = "Running";
        state.started = Some((now / 1_000).max(state.started.unwrap_or(0) + 1));
    }

    /// A job is read.
    pub fn read(&mut self, profile: Profile, job: &JobRef, fails: bool) -> Seen {
        self.requests += 1;
        let id = format!("R{}", self.requests);
        if fails {
            return Seen::Failed(error(Operation::GetDiJob, ErrorKind::Server, "InternalError.System", 500, &id));
        }
        if profile.unreadable {
            return Seen::Refused(error(Operation::GetDiJob, ErrorKind::Denied, "Forbidden.RAM", 403, &id));
        }
        let state = self.jobs[index(&job.region, job.di_job_id)];
        let started = state.started.filter(|_| profile.started_time);
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
