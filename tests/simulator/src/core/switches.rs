//! All that can be switched while the cloud runs: faults of single calls, and what the real cloud leaves unknown.
//!
//! **May touch:** nothing; plain data, which the admin endpoint reads and writes as JSON. Durations are text as `5s`,
//! `1m 30s` or `PT5S`.
//!
//! **Guarantees**
//! 1. The default is a cloud in order: Enterprise limits, no fault, the first value of each unknown.
//! 2. A fault says three things apart from each other: whether and when the call reaches the gateway, whether and when it
//!    is executed, and what the client gets. So every mixture can be made, also those that no one thought of.
//! 3. A field that is not known is an error, so that a misspelt switch does not pass for one that is set.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::Outgoing;
use super::answer::{Hint, Oddity, Refusal};
pub use super::choices::{Denial, Failures, Form2024, NonceScope, Permissions, VersionQuota};
use super::jobs::JobRules;
use super::metadata::Metadata;
use super::sts::Sts;
use super::throttle::Limits;

/// When something happens, if at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum When {
    /// As soon as it can.
    #[default]
    Now,
    /// So much later.
    After(SignedDuration),
    /// At some time within so much, to the millisecond: drawn from the seed, another for each call.
    Within(SignedDuration),
    /// Not at all.
    Never,
}

impl When {
    /// How much later, where a drawn number decides. None: never.
    pub(crate) fn delay(self, drawn: u64) -> Option<SignedDuration> {
        match self {
            Self::Now => Some(SignedDuration::ZERO),
            Self::After(delay) => Some(delay),
            Self::Within(most) => {
                let most = u64::try_from(most.as_millis()).unwrap_or_default();
                let millis = i64::try_from(drawn % most.saturating_add(1)).unwrap_or_default();
                Some(SignedDuration::from_millis(millis))
            }
            Self::Never => None,
        }
    }
}

/// What the client gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Response {
    /// The answer that is true.
    #[default]
    Right,
    /// This error. A call that the gateway refuses anyway gets the gateway's.
    Error(Refusal),
    /// The right answer with a body that is not.
    Odd(Oddity),
    /// The connection is closed without an answer.
    Drop,
    /// Silence, until the client goes away.
    Hang,
}

impl Response {
    /// What leaves the cloud instead of an answer.
    pub(crate) fn withheld(&self) -> Option<Outgoing> {
        match self {
            Self::Drop => Some(Outgoing::Drop),
            Self::Hang => Some(Outgoing::Hang),
            Self::Right | Self::Error(_) | Self::Odd(_) => None,
        }
    }
}

/// How one call is treated. The default is a call in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Behaviour {
    /// When the gateway sees the call: until then no check is made, no nonce burnt, no call counted. `After` is an old
    /// copy that the network held back: its client gets silence, or a closed connection under [`Response::Drop`].
    pub arrive: When,
    /// When an accepted `StartDIJob` is carried out. The answer is as if it were at once.
    pub execute: When,
    /// What the client gets.
    pub answer: Response,
    /// How much later it gets it.
    pub answer_after: SignedDuration,
    /// Headers about waiting with [`Response::Error`].
    pub hint: Hint,
    /// The network delivers the same bytes once more, so much later; whoever sends the copy waits for no answer.
    pub copy_after: Option<SignedDuration>,
}

impl Behaviour {
    /// This error, and nothing is executed.
    #[must_use]
    pub fn error(refusal: Refusal) -> Self {
        Self { execute: When::Never, answer: Response::Error(refusal), ..Self::default() }
    }

    /// This error, though the call is executed.
    #[must_use]
    pub fn executed_error(refusal: Refusal) -> Self {
        Self { answer: Response::Error(refusal), ..Self::default() }
    }

    /// The call never reaches the cloud, and the connection is closed.
    #[must_use]
    pub fn lost_request() -> Self {
        Self { arrive: When::Never, answer: Response::Drop, ..Self::default() }
    }

    /// The call is accepted but not executed, and the connection is closed.
    #[must_use]
    pub fn swallowed() -> Self {
        Self { execute: When::Never, answer: Response::Drop, ..Self::default() }
    }

    /// The call is executed, and the connection is closed without an answer.
    #[must_use]
    pub fn lost_answer() -> Self {
        Self { answer: Response::Drop, ..Self::default() }
    }

    /// Silence, and nothing is executed.
    #[must_use]
    pub fn hang_before() -> Self {
        Self { execute: When::Never, answer: Response::Hang, ..Self::default() }
    }

    /// Silence, though the call is executed.
    #[must_use]
    pub fn hang_after() -> Self {
        Self { answer: Response::Hang, ..Self::default() }
    }

    /// The right answer, so much later.
    #[must_use]
    pub fn late_answer(after: SignedDuration) -> Self {
        Self { answer_after: after, ..Self::default() }
    }

    /// Answered at once, executed so much later.
    #[must_use]
    pub fn late_execution(after: SignedDuration) -> Self {
        Self { execute: When::After(after), ..Self::default() }
    }

    /// The connection is closed; the call reaches the cloud so much later.
    #[must_use]
    pub fn late_arrival(after: SignedDuration) -> Self {
        Self { arrive: When::After(after), answer: Response::Drop, ..Self::default() }
    }

    /// A call in order, and its bytes once more so much later.
    #[must_use]
    pub fn doubled(after: SignedDuration) -> Self {
        Self { copy_after: Some(after), ..Self::default() }
    }

    /// The right answer made odd.
    #[must_use]
    pub fn odd(oddity: Oddity) -> Self {
        Self { answer: Response::Odd(oddity), ..Self::default() }
    }

    /// The same with a hint about waiting.
    #[must_use]
    pub fn with_hint(self, hint: Hint) -> Self {
        Self { hint, ..self }
    }
}

/// Which calls are treated how. Absent filters match every call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Fault {
    /// The next so many calls that match; absent: all, until it is taken away.
    pub calls: Option<u32>,
    /// Only this action.
    pub action: Option<String>,
    /// Only this job.
    pub job: Option<i64>,
    /// Only keys of this main account.
    pub account: Option<String>,
    /// What happens to them.
    pub behaviour: Behaviour,
}

impl Fault {
    fn matches(&self, action: Option<&str>, job: Option<i64>, account: Option<&str>) -> bool {
        self.calls != Some(0)
            && self.action.as_deref().is_none_or(|wanted| Some(wanted) == action)
            && self.job.is_none_or(|wanted| Some(wanted) == job)
            && self.account.as_deref().is_none_or(|wanted| Some(wanted) == account)
    }
}

/// Another client of the same quota. It calls evenly, the first call of a second at its turn, and never stops for a
/// refusal. What is too much for both is refused to whoever comes later. It begins when it is first seen here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Neighbour {
    /// Only beside the keys of this main account; absent: one beside each.
    pub account: Option<String>,
    /// Reads a second.
    pub reads_per_second: u32,
    /// Writes a second.
    pub writes_per_second: u32,
}

/// All switches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Switches {
    /// Faults. The first match with a count left wins, else the first match without a count.
    pub faults: Vec<Fault>,
    /// How jobs behave.
    pub rules: JobRules,
    /// How single jobs behave instead.
    pub rules_of: BTreeMap<i64, JobRules>,
    /// Whether a job that nobody declared is made when it is first named.
    pub auto_create: bool,
    /// Answer to a job that does not exist.
    pub no_such_job: Refusal,
    /// What keys may do.
    pub permissions: Permissions,
    /// How `DataWorks` itself says that a call failed.
    pub failures: Failures,
    /// HTTP status of numeric codes of `DataWorks` itself; absent: the usual one of each.
    pub numeric_status: Option<u16>,
    /// When a start is carried out whose answer a fault withholds, unless that fault says when.
    pub execution_when_lost: When,
    /// Limits of every account.
    pub limits: Limits,
    /// Who else draws on them; absent: nobody.
    pub neighbour: Option<Neighbour>,
    /// How far the server's clock is ahead of the true time: its `Date`, its age check, its day.
    pub clock_offset: SignedDuration,
    /// Farthest that a signed time may be off the server's clock; absent: not checked.
    pub signature_age: Option<SignedDuration>,
    /// How long a nonce is remembered; absent: not at all.
    pub nonce_memory: Option<SignedDuration>,
    /// Whose nonces are remembered together.
    pub nonce_scope: NonceScope,
    /// Whether a throttled call burns its nonce.
    pub throttled_burns_nonce: bool,
    /// In which form version 2024-05-18 takes a call.
    pub form_2024: Form2024,
    /// Whether the calls of both versions count together, in rate and day.
    pub version_quota: VersionQuota,
    /// Roles, and how temporary keys behave.
    pub sts: Sts,
    /// The machine whose metadata service this is.
    pub metadata: Metadata,
}

impl Default for Switches {
    fn default() -> Self {
        let quarter = SignedDuration::from_mins(15);
        Self {
            faults: Vec::new(),
            rules: JobRules::default(),
            rules_of: BTreeMap::new(),
            auto_create: false,
            no_such_job: Refusal::of("500130"),
            permissions: Permissions::All,
            failures: Failures::ByStatus,
            numeric_status: None,
            execution_when_lost: When::Now,
            limits: Limits::default(),
            neighbour: None,
            clock_offset: SignedDuration::ZERO,
            signature_age: Some(quarter),
            nonce_memory: Some(quarter),
            nonce_scope: NonceScope::PerKey,
            throttled_burns_nonce: false,
            form_2024: Form2024::Any,
            version_quota: VersionQuota::One,
            sts: Sts::default(),
            metadata: Metadata::default(),
        }
    }
}

impl Switches {
    /// The behaviour of a call, and one less of a counted fault.
    pub(crate) fn pick(&mut self, action: Option<&str>, job: Option<i64>, account: Option<&str>) -> Behaviour {
        let matches = |fault: &Fault| fault.matches(action, job, account);
        let counted = self.faults.iter_mut().find(|fault| fault.calls.is_some() && matches(fault));
        if let Some(fault) = counted {
            fault.calls = fault.calls.map(|left| left.saturating_sub(1));
            let behaviour = fault.behaviour.clone();
            self.faults.retain(|fault| fault.calls != Some(0));
            return behaviour;
        }
        self.faults.iter().find(|fault| matches(fault)).map(|fault| fault.behaviour.clone()).unwrap_or_default()
    }

    /// A refusal of `DataWorks` itself, as it looks on the wire. One that names its status keeps it.
    pub(crate) fn shaped(&self, refusal: Refusal) -> Refusal {
        let numeric = self.numeric_status.filter(|_| refusal.is_number());
        let status = match self.failures {
            Failures::ByStatus => numeric,
            Failures::BySuccess => Some(200),
        };
        Refusal { status: refusal.status.or(status), ..refusal }
    }

    /// A refusal of the gateway, as version 2024-05-18 says it. What comes as a number looks as if from `DataWorks` itself.
    pub(crate) fn numbered(&self, refusal: Refusal) -> Refusal {
        let refusal = refusal.in_numbers();
        if refusal.is_number() { self.shaped(refusal) } else { refusal }
    }

    /// When an accepted start is carried out.
    pub(crate) fn execution(&self, behaviour: &Behaviour) -> When {
        match (behaviour.execute, &behaviour.answer) {
            (When::Now, Response::Drop | Response::Hang) => self.execution_when_lost,
            (when, _) => when,
        }
    }

    /// The rules of one job.
    #[must_use]
    pub fn rules(&self, job: i64) -> &JobRules {
        self.rules_of.get(&job).unwrap_or(&self.rules)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    #[test]
    fn counted_faults_come_first_and_are_used_up() {
        let counted = Fault {
            calls: Some(2),
            action: Some("StartDIJob".to_owned()),
            behaviour: Behaviour::lost_answer(),
            ..Fault::default()
        };
        let lasting = Fault { job: Some(7), behaviour: Behaviour::hang_before(), ..Fault::default() };
        let mut switches = Switches { faults: vec![lasting, counted], ..Switches::default() };
        let mut pick = |action, job| switches.pick(Some(action), Some(job), None);
        assert_eq!(pick("GetDIJob", 7), Behaviour::hang_before());
        assert_eq!(pick("StartDIJob", 7), Behaviour::lost_answer());
        assert_eq!(pick("GetDIJob", 8), Behaviour::default());
        assert_eq!(pick("StartDIJob", 8), Behaviour::lost_answer());
        assert_eq!(pick("StartDIJob", 7), Behaviour::hang_before());
        assert_eq!(pick("StartDIJob", 8), Behaviour::default());
        assert_eq!(switches.faults.len(), 1);
    }

    #[test]
    fn switches_are_short_json_and_survive_the_way_there_and_back() {
        let text = json!({
            "faults": [{"calls": 3, "action": "StartDIJob", "behaviour": {
                "execute": {"after": "5s"}, "answer": {"error": {"code": "Throttling.User"}}, "hint": {"retryAfter": 1500},
            }}],
            "rules": {"startedTime": {"lagging": "1m"}, "course": {"fails": {"message": "no table"}}, "stoppedWord": "Stop"},
            "permissions": {"noReads": "html"},
            "limits": {"rate": {"total": 5}, "window": "tokenBucket", "perDay": 100},
            "clockOffset": "-20m",
            "nonceMemory": null,
        });
        let switches: Switches = serde_json::from_value(text).unwrap();
        assert_eq!(switches.clock_offset, SignedDuration::from_mins(-20));
        assert_eq!(switches.nonce_memory, None);
        assert_eq!(switches.rules.running_after, SignedDuration::from_secs(1));
        let again: Switches = serde_json::from_value(serde_json::to_value(&switches).unwrap()).unwrap();
        assert_eq!(again, switches);
    }

    #[test]
    fn a_misspelt_switch_is_an_error() {
        assert!(serde_json::from_value::<Switches>(json!({"clockOfset": "1s"})).is_err());
    }
}
