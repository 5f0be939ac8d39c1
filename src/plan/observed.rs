//! [`Observed`]: all that a decision may look at, as plain data.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::api::condition::Condition;
use crate::api::{DataIntegrationJobSpec, JobStatus, PendingStart};
use crate::dataworks::error::Error;
pub use crate::quota::Lane;

/// The meaning of the records that this operator writes.
pub const PROTOCOL: i64 = 1;
/// How long the gateway takes a signature: 15 minutes (RPC signature documentation, skew of `Timestamp`).
pub const SIGNATURE_LIFE: SignedDuration = SignedDuration::from_mins(15);

/// One job, and everything around it, at one moment.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The object.
    pub object: Object,
    /// Its spec.
    pub spec: DataIntegrationJobSpec,
    /// The rerun annotations.
    pub annotations: Annotations,
    /// The memory part of status; empty if the stored one is another object's. Its conditions are moved out.
    pub record: JobStatus,
    /// The conditions as stored. No decision looks at them.
    pub conditions: Vec<Condition>,
    /// The account that spec names.
    pub account: Account,
    /// The access key of that account.
    pub key: Key,
    /// Since when, in this process, the account or the key has been missing. Never absent while one is.
    pub missing_since: Option<Timestamp>,
    /// The last look of this process at a job in the cloud.
    pub reading: Option<Reading>,
    /// When this process's last call that may have run ended; for a record that it did not send, when it first saw it.
    /// Never absent while status holds a `pendingStart` or a `lastStart`. A `lastStart` that another process wrote is
    /// such a record even if we sent that id: it may be about a later attempt than ours.
    pub call_at: Option<Timestamp>,
    /// An answer to our own call that status does not hold yet.
    pub unrecorded: Option<Answered>,
    /// Status holds a `pendingStart` that this process wrote and surely never sent.
    pub never_sent: bool,
    /// Our place in the governor.
    pub turn: Turn,
    /// When our turn is expected to come. Absent: we do not wait, or for nobody's turn.
    pub turn_at: Option<Timestamp>,
    /// What holds every call of the account back.
    pub hold: Option<Hold>,
    /// The cloud's clock minus ours.
    pub cloud_offset: SignedDuration,
    /// A number in `[0, 1)`.
    pub jitter: f64,
    /// Never used before.
    pub fresh_nonce: String,
    /// Lease identity of this process.
    pub holder: String,
    /// Lease transitions.
    pub lease_transitions: i64,
    /// Times that flags set.
    pub settings: Settings,
}

/// Whose spec and status this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Unique in time, unlike the name.
    pub uid: String,
    /// Of the spec.
    pub generation: i64,
    /// Marked for deletion.
    pub deleting: bool,
}

/// Values of the rerun annotations, as they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// `dijob.dev/rerun`.
    pub rerun: Option<String>,
    /// `dijob.dev/rerun-force`.
    pub force: Option<String>,
}

/// Times that flags set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long an unanswered call may still take effect before its absence means something. Longer than a whole call.
    pub settle: Duration,
    /// How long after an accepted start the job may take to be seen running.
    pub confirm: Duration,
    /// How long an account, a Secret or a key may be missing before a person is asked.
    pub grace: Duration,
}

/// The account that spec names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// Usable.
    Found {
        /// Region of the jobs, or the host of the endpoint.
        region: String,
        /// Changes with its spec.
        version: String,
        /// How calls are made: host, version of the API, signature.
        service: String,
        /// The projects whose jobs may be started. Empty: any.
        projects: Vec<i64>,
    },
    /// There is none of that name.
    Absent,
    /// Its endpoint is refused; says why.
    Invalid(String),
}

/// The access key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// At hand.
    Ready {
        /// Id of the key.
        id: String,
        /// Changes with the Secret.
        version: String,
    },
    /// The Secret or a key in it is missing or malformed; says what.
    Missing(String),
    /// STS was asked for it, and refused or failed.
    Refused(Error),
}

/// A job in the cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRef {
    /// Region, or host.
    pub region: String,
    /// Number.
    pub di_job_id: i64,
}

/// One look.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// At which job.
    pub job: JobRef,
    /// When it was asked for.
    pub at: Timestamp,
    /// What came of it.
    pub seen: Seen,
}

/// What a look gave. Absent, refused and failed for now are three different things.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// The job.
    Job(View),
    /// The cloud has no such job.
    NotFound(Error),
    /// Reading is refused: a start goes on without it.
    Refused(Error),
    /// No answer of use, for now: a start waits.
    Failed(Error),
}

/// A job as the cloud shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The cloud's word.
    pub word: String,
    /// `StartedTime`, Unix seconds.
    pub started: Option<i64>,
    /// The project that it belongs to.
    pub project: Option<i64>,
    /// Its name.
    pub name: Option<String>,
    /// Its error text.
    pub error: Option<String>,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// The record under which it was sent.
    pub pending: PendingStart,
    /// [`Observed::credentials_version`] that it was signed under.
    pub credentials_version: String,
    /// The answer.
    pub answer: Answer,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The cloud took it.
    Accepted {
        /// Of the cloud's answer.
        request_id: Option<String>,
    },
    /// It did not, or did not say.
    Failed(Error),
}

/// Our place in the governor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Not asked for.
    None,
    /// Waiting.
    Waiting {
        /// For which call.
        lane: Lane,
        /// So long that a person should be told.
        long: bool,
    },
    /// Waiting for this call, and for a while already because the account's count of the day could not be written.
    Uncounted(Lane),
    /// A permit is at hand.
    Held(Lane),
}

/// What holds every call of the account back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Until when.
    pub until: Timestamp,
    /// The day's calls are used up, rather than those of the second.
    pub day: bool,
}

impl Observed {
    /// The job that spec means, if the account is known.
    #[must_use]
    pub fn job(&self) -> Option<JobRef> {
        match &self.account {
            Account::Found { region, .. } => Some(JobRef { region: region.clone(), di_job_id: self.spec.di_job_id }),
            Account::Absent | Account::Invalid(_) => None,
        }
    }

    /// How the next call would be made: host, version and signature. Empty if the account is not known.
    #[must_use]
    pub fn service(&self) -> &str {
        match &self.account {
            Account::Found { service, .. } => service,
            Account::Absent | Account::Invalid(_) => "",
        }
    }

    /// Versions of what the next call would be signed with.
    #[must_use]
    pub fn credentials_version(&self) -> String {
        credentials_version(&self.account, &self.key)
    }

    /// `at` of this process on the cloud's clock, in whole seconds as signatures carry it.
    #[must_use]
    pub fn cloud_time(&self, at: Timestamp) -> Timestamp {
        let cloud = at.checked_add(self.cloud_offset).unwrap_or(at);
        Timestamp::from_second(cloud.as_second()).unwrap_or(cloud)
    }

    /// When, on our clock, the cloud stops taking a signature made at `signed` on its own.
    #[must_use]
    pub fn expiry(&self, signed: Timestamp) -> Timestamp {
        signed.checked_add(SIGNATURE_LIFE).and_then(|t| t.checked_sub(self.cloud_offset)).unwrap_or(Timestamp::MAX)
    }

    /// The look at `job` of this process, if it was made after our own last call.
    #[must_use]
    pub fn look_at(&self, job: &JobRef) -> Option<&Reading> {
        self.reading.as_ref().filter(|r| r.job == *job && self.call_at.is_none_or(|call| r.at > call))
    }
}

/// Versions of what a call is signed with.
#[must_use]
pub fn credentials_version(account: &Account, key: &Key) -> String {
    let account = match account {
        Account::Found { version, .. } => version.as_str(),
        Account::Absent | Account::Invalid(_) => "",
    };
    let key = match key {
        Key::Ready { version, .. } => version.as_str(),
        Key::Missing(_) | Key::Refused(_) => "",
    };
    format!("{account}/{key}")
}

/// `at` plus `wait`, never past the end of time.
#[must_use]
pub fn after(at: Timestamp, wait: Duration) -> Timestamp {
    at.checked_add(wait).unwrap_or(Timestamp::MAX)
}
