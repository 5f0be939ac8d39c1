//! Conditions: their types, their reasons, and the one function that sets them.
//!
//! **May touch:** serde, schemars, jiff types.
//!
//! **Guarantees**
//! 1. [`set`] moves `lastTransitionTime` only when `status` moves.
//! 2. A reason is one word of [`Reason`], the same in condition, event and metric.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One aspect of an object's state, as Kubernetes' API conventions define it.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// type of condition, for example Ready.
    #[serde(rename = "type")]
    #[schemars(length(max = 64))]
    pub type_: String,
    /// status of the condition: True, False or Unknown.
    pub status: ConditionStatus,
    /// observedGeneration is the generation of the spec that this condition speaks of.
    pub observed_generation: i64,
    /// lastTransitionTime is when status last changed.
    pub last_transition_time: Time,
    /// reason in one word; README lists them all.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// message for people: what happened, until when, what to do.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// The three values of a condition.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It is so.
    True,
    /// It is not so.
    False,
    /// It cannot be said.
    Unknown,
}

/// Every condition type that the operator sets, in the order in which they are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// Always present. True: no start is due, the last one did not fail, the job runs or has finished.
    Ready,
    /// Present only while True: work is in hand and goes on by itself.
    Reconciling,
    /// Present only while True, never with Reconciling: a person must act.
    Stalled,
    /// Present after the first trigger. True: the last start was accepted or confirmed; False: rejected; Unknown: outcome unknown.
    Started,
    /// Present once reading was tried. True: the job was read; False: reading is refused.
    Observed,
    /// Present only while True: the cloud or the budget makes us wait.
    Throttled,
}

impl ConditionType {
    /// All types, in their order.
    pub const ALL: [Self; 6] =
        [Self::Ready, Self::Reconciling, Self::Stalled, Self::Started, Self::Observed, Self::Throttled];

    /// The word in `type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::Started => "Started",
            Self::Observed => "Observed",
            Self::Throttled => "Throttled",
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Every reason, in conditions and events alike. The README has a troubleshooting row for each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[doc = $doc])+ $name,)+ }

        impl Reason {
            /// All reasons, in the order of the README.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The word.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }
        }
    };
}

reasons! {
    /// The job runs in the cloud.
    JobRunning,
    /// The job has finished.
    JobFinished,
    /// The cloud accepted the start; the job cannot be read to confirm it.
    StartAccepted,
    /// The start was seen to have taken effect.
    StartConfirmed,
    /// The job was already running or finished when first seen; nothing was started.
    Adopted,
    /// A start is due and is being prepared.
    StartDue,
    /// StartDIJob is being sent.
    Starting,
    /// The start was accepted; its effect is being looked for.
    Confirming,
    /// A start has no answer; whether it ran is being found out.
    ResolvingStart,
    /// A start is due and waits for its turn in the account's call budget, which others use or the cloud throttles.
    WaitingForTurn,
    /// The cloud refused a call for its rate limit; calls pause.
    Throttled,
    /// The calls of the day are used up.
    DailyLimitReached,
    /// The cloud cannot be reached or fails; tried again with backoff.
    CloudUnavailable,
    /// A start is due, and `suspend` holds it back.
    Suspended,
    /// The cloud refused the key or the permission.
    AccessDenied,
    /// The credentials carry no user id.
    CallerUnknown,
    /// The security token has expired.
    CredentialsExpired,
    /// The cloud does not accept our clock.
    ClockSkew,
    /// The cloud has no job of this id.
    JobNotFound,
    /// The cloud refused the start.
    StartRejected,
    /// Whether a start ran is not known, and it is not sent again by itself.
    StartOutcomeUnknown,
    /// The start was accepted, but the job was not seen running in time.
    NotRunning,
    /// The job failed in the cloud.
    JobFailed,
    /// The cloud says a status that this operator does not know.
    UnknownJobStatus,
    /// The account now means another region, so another job.
    AccountChanged,
    /// The account does not allow the job's project, or the job's project cannot be read.
    ProjectNotAllowed,
    /// The DataWorksAccount does not exist.
    AccountNotFound,
    /// The account can be used: its spec is valid, its key is at hand, and no call refused it.
    AccountReady,
    /// The account's spec cannot be used: a host that is not allowed.
    AccountInvalid,
    /// The Secret or a key in it is missing or malformed.
    CredentialsMissing,
    /// The object cannot be read by this operator.
    InvalidObject,
    /// The job was read.
    JobRead,
    /// Reading the job is refused.
    ReadRefused,
    /// The rerun annotation is not a usable token.
    RerunTokenIgnored,
}

/// The reason's word in a stored condition, if this operator knows it.
#[must_use]
pub fn reason_of(word: &str) -> Option<Reason> {
    Reason::ALL.iter().copied().find(|r| r.as_str() == word)
}

/// Whether the condition is of a type that this operator writes; those of other types are others' business.
#[must_use]
pub fn is_ours(condition: &Condition) -> bool {
    ConditionType::ALL.iter().any(|t| t.as_str() == condition.type_)
}

/// What a condition is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saying {
    /// Which condition.
    pub type_: ConditionType,
    /// Its value.
    pub status: ConditionStatus,
    /// Why.
    pub reason: Reason,
    /// For people.
    pub message: String,
}

/// Makes the stored form of `says`: the transition time is kept from `before` while the status is the same.
#[must_use]
pub fn set(before: &[Condition], mut says: Vec<Saying>, generation: i64, now: Timestamp) -> Vec<Condition> {
    says.sort_by_key(|s| s.type_);
    says.into_iter()
        .map(|s| {
            let kept = before.iter().find(|c| c.type_ == s.type_.as_str() && c.status == s.status);
            Condition {
                type_: s.type_.as_str().to_owned(),
                status: s.status,
                observed_generation: generation,
                last_transition_time: kept.map_or_else(|| whole_seconds(now), |c| c.last_transition_time.clone()),
                reason: s.reason.as_str().to_owned(),
                message: s.message,
            }
        })
        .collect()
}

/// A time as the API server keeps it: without a fraction.
#[must_use]
pub fn whole_seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}
