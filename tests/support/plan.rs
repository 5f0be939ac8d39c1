//! Builders of what a decision looks at, and the laws that every status keeps.

use std::collections::BTreeSet;
use std::time::Duration;

use dijob_operator::api::condition::{ConditionStatus, Reason, reason_of, whole_seconds};
use dijob_operator::api::{
    AccountRef, Applied, DataIntegrationJobSpec, FailoverSettings, JobStatus, LastStart, OnUnknown, PendingStart,
    RealtimeStartSettings,
};
use dijob_operator::dataworks::error::{Error, ErrorKind, Operation};
use dijob_operator::plan::Observed;
use dijob_operator::plan::inputs::inputs_of;
use dijob_operator::plan::observed::{
    Account, Annotations, JobRef, Key, Lane, Object, PROTOCOL, Reading, Seen, Settings, Turn, View,
};
use jiff::{SignedDuration, Timestamp};

use super::schema::misfits;

/// How the account of [`observed`] is spoken to.
pub const SERVICE: &str = "dataworks.cn-shanghai.aliyuncs.com 2020-05-18 HMAC-SHA1";
/// The same in the version whose looks tell no `StartedTime`.
pub const NEWER: &str = "dataworks.cn-shanghai.aliyuncs.com 2024-05-18 HMAC-SHA1";

/// The moment at which every row is decided.
pub fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

/// `seconds` before [`now`].
pub fn ago(seconds: i64) -> Timestamp {
    now() - SignedDuration::from_secs(seconds)
}

/// `seconds` after [`now`].
pub fn hence(seconds: i64) -> Timestamp {
    ago(-seconds)
}

/// The job that the default spec names.
pub fn job() -> JobRef {
    JobRef { region: "cn-shanghai".to_owned(), di_job_id: 11_743 }
}

/// A failed call as the cloud's own well-formed error.
pub fn refused(operation: Operation, kind: ErrorKind, code: &str, status: u16) -> Error {
    Error {
        operation,
        kind,
        code: Some(code.to_owned()),
        message: Some("said the cloud".to_owned()),
        request_id: Some("R-9".to_owned()),
        http_status: Some(status),
        wait: None,
        never_left: false,
    }
}

/// A fresh object, a usable account and key, every turn at hand, no look yet.
pub fn observed() -> Observed {
    Observed {
        object: Object { uid: "u-1".to_owned(), generation: 3, deleting: false },
        spec: DataIntegrationJobSpec {
            account_ref: AccountRef { name: "prod".to_owned() },
            di_job_id: 11_743,
            realtime_start_settings: None,
            force_to_rerun: false,
            rerun_token: String::new(),
            on_unknown: OnUnknown::Resolve,
            suspend: false,
        },
        annotations: Annotations::default(),
        record: JobStatus::default(),
        conditions: Vec::new(),
        account: Account::Found {
            region: "cn-shanghai".to_owned(),
            version: "a1".to_owned(),
            service: SERVICE.to_owned(),
            projects: vec![],
        },
        key: Key::Ready { id: "LTAI".to_owned(), version: "s1".to_owned() },
        missing_since: None,
        reading: None,
        call_at: None,
        unrecorded: None,
        never_sent: false,
        turn: Turn::Held(Lane::Start),
        turn_at: None,
        hold: None,
        cloud_offset: SignedDuration::ZERO,
        jitter: 0.5,
        fresh_nonce: "0123456789abcdef0123456789abcdef".to_owned(),
        holder: "me".to_owned(),
        lease_transitions: 1,
        settings: Settings {
            settle: Duration::from_secs(30),
            confirm: Duration::from_secs(120),
            grace: Duration::from_secs(120),
        },
    }
}

/// Chains from one valid default.
pub trait Build: Sized {
    /// Changes anything at all.
    fn with(self, change: impl FnOnce(&mut Observed)) -> Observed;

    /// `startTime` in spec.
    fn start_time(self, at: i64) -> Observed {
        self.with(|o| o.spec.realtime_start_settings.get_or_insert_default().start_time = Some(at))
    }
    /// `failoverSettings` in spec.
    fn failover(self, interval: i64) -> Observed {
        self.with(|o| {
            o.spec.realtime_start_settings.get_or_insert_default().failover_settings =
                Some(FailoverSettings { interval: Some(interval), upper_limit: Some(30) });
        })
    }
    /// `forceToRerun: true` in spec.
    fn force(self) -> Observed {
        self.with(|o| o.spec.force_to_rerun = true)
    }
    /// The rerun annotation.
    fn token(self, token: &str) -> Observed {
        self.with(|o| o.annotations.rerun = Some(token.to_owned()))
    }
    /// `onUnknown: Hold`.
    fn hold_unknown(self) -> Observed {
        self.with(|o| o.spec.on_unknown = OnUnknown::Hold)
    }
    /// `suspend: true`.
    fn suspended(self) -> Observed {
        self.with(|o| o.spec.suspend = true)
    }
    /// The turn.
    fn turn(self, turn: Turn) -> Observed {
        self.with(|o| o.turn = turn)
    }
    /// The last call ended, or its record was first seen, so many seconds ago.
    fn called(self, seconds: i64) -> Observed {
        self.with(|o| o.call_at = Some(ago(seconds)))
    }
    /// A look so many seconds ago.
    fn looked(self, seconds: i64, seen: Seen) -> Observed {
        self.with(|o| o.reading = Some(Reading { job: job(), at: ago(seconds), seen }))
    }
    /// A look one second ago, with a word and a `StartedTime`.
    fn cloud(self, word: &str, started: Option<i64>) -> Observed {
        self.looked(1, saw(word, started))
    }
    /// A write-ahead record.
    fn pending(self, pending: PendingStart) -> Observed {
        self.with(|o| {
            o.record.pending_start = Some(pending);
            o.call_at = o.call_at.or(Some(now()));
        })
    }
    /// Started by us an hour ago with the spec as it is now, confirmed, and running.
    fn settled(self) -> Observed {
        self.with(|o| {
            let inputs = inputs_of(&o.spec);
            o.record.applied = Some(Applied {
                region: job().region,
                di_job_id: job().di_job_id,
                account: "prod".to_owned(),
                realtime_start_settings: inputs.realtime_start_settings,
                force_to_rerun: inputs.force_to_rerun,
                generation: o.object.generation,
                uncertain: false,
                previous: None,
            });
            o.record.last_start = Some(last("Confirmed"));
            o.record.job_status = Some("Running".to_owned());
            o.record.handled_rerun_tokens.extend(o.annotations.rerun.clone());
            o.call_at = Some(ago(3600));
        })
    }
    /// As [`Self::settled`], and then the object was edited.
    fn edited(self, edit: impl FnOnce(&mut DataIntegrationJobSpec)) -> Observed {
        self.settled().with(|o| {
            o.object.generation += 1;
            edit(&mut o.spec);
        })
    }
}

impl Build for Observed {
    fn with(mut self, change: impl FnOnce(&mut Observed)) -> Observed {
        change(&mut self);
        self
    }
}

/// The job as the cloud shows it.
pub fn saw(word: &str, started: Option<i64>) -> Seen {
    Seen::Job(View {
        word: word.to_owned(),
        started,
        project: Some(10_000),
        name: Some("orders".to_owned()),
        error: None,
    })
}

/// A look that failed.
pub fn look_failed(kind: ErrorKind, code: &str, status: u16) -> Error {
    refused(Operation::GetDiJob, kind, code, status)
}

/// A finished start of an hour ago.
pub fn last(outcome: &str) -> LastStart {
    LastStart {
        id: "old".to_owned(),
        trigger: "FirstApply".to_owned(),
        rerun_tokens: Vec::new(),
        generation: 3,
        request_id: Some("R-1".to_owned()),
        force_to_rerun: false,
        start_time: None,
        requested_time: whole_seconds(ago(3600)),
        service: SERVICE.to_owned(),
        outcome: outcome.to_owned(),
        error: None,
        baseline_started_time: Some(100),
        baseline_job_status: Some("Stopped".to_owned()),
        confirmation: None,
    }
}

/// An ordinary start, signed `seconds` ago, from a baseline of `Stopped`, last started at 100.
pub fn ordinary(seconds: i64) -> PendingStart {
    PendingStart {
        protocol: PROTOCOL,
        id: "0123456789ab".to_owned(),
        trigger: "FirstApply".to_owned(),
        rerun_tokens: Vec::new(),
        generation: 3,
        region: job().region,
        di_job_id: job().di_job_id,
        account: "prod".to_owned(),
        attempt: 1,
        nonce: "first-nonce".to_owned(),
        signed_time: whole_seconds(ago(seconds)),
        key_id: "LTAI".to_owned(),
        service: SERVICE.to_owned(),
        answered: false,
        force_to_rerun: false,
        realtime_start_settings: None,
        inputs: dijob_operator::api::StartInputs::default(),
        baseline_started_time: Some(100),
        baseline_job_status: Some("Stopped".to_owned()),
        holder: "me".to_owned(),
        lease_transitions: 1,
    }
}

/// The same with `ForceToRerun: true`, as the spec of `observed().force()` asks.
pub fn forced(seconds: i64) -> PendingStart {
    let mut record = ordinary(seconds);
    record.force_to_rerun = true;
    record.inputs.force_to_rerun = true;
    record
}

/// The same with a `StartTime`, as the spec of `observed().start_time(at)` asks.
pub fn with_offset(seconds: i64, at: i64) -> PendingStart {
    let settings = Some(RealtimeStartSettings { start_time: Some(at), failover_settings: None });
    let mut record = ordinary(seconds);
    record.realtime_start_settings.clone_from(&settings);
    record.inputs.realtime_start_settings = settings;
    record
}

/// The laws of a status that need nothing but the status: schema, kstatus, order, bounds, text.
pub fn status_laws(status: &JobStatus) -> Result<(), String> {
    let misfits = misfits(status);
    demand(misfits.is_empty(), || format!("schema: {misfits:?}"))?;
    let types: Vec<&str> = status.conditions.iter().map(|c| c.type_.as_str()).collect();
    let order = ["Ready", "Reconciling", "Stalled", "Started", "Observed", "Throttled"];
    let listed: Vec<&str> = order.into_iter().filter(|t| types.contains(t)).collect();
    demand(types == listed, || format!("types are not the known ones, each once, in order: {types:?}"))?;
    let of = |type_: &str| status.conditions.iter().find(|c| c.type_ == type_);
    let ready = of("Ready").ok_or("Ready is missing")?;
    let (reconciling, stalled) = (of("Reconciling"), of("Stalled"));
    demand(reconciling.is_none() || stalled.is_none(), || "Stalled with Reconciling".to_owned())?;
    for only_true in [reconciling, stalled, of("Throttled")].into_iter().flatten() {
        demand(only_true.status == ConditionStatus::True, || format!("{} is not True", only_true.type_))?;
    }
    let companions = usize::from(reconciling.is_some()) + usize::from(stalled.is_some());
    let wanted = match ready.status {
        ConditionStatus::True | ConditionStatus::Unknown => 0,
        ConditionStatus::False => usize::from(ready.reason != Reason::Suspended.as_str()),
    };
    demand(companions == wanted, || format!("Ready is {:?} {} with {types:?}", ready.status, ready.reason))?;
    for companion in [reconciling, stalled].into_iter().flatten() {
        demand(companion.reason == ready.reason, || "Ready's companion has another reason".to_owned())?;
    }
    for c in &status.conditions {
        demand(reason_of(&c.reason).is_some(), || format!("no such reason: {}", c.reason))?;
        demand(!c.message.is_empty(), || format!("{} says nothing", c.type_))?;
        demand(c.observed_generation == status.observed_generation, || format!("generation of {}", c.type_))?;
    }
    if ready.status == ConditionStatus::True {
        demand(status.pending_start.is_none(), || "Ready with an unresolved start".to_owned())?;
        demand(!status.applied.as_ref().is_none_or(|a| a.uncertain), || "Ready, but nothing is certain".to_owned())?;
    }
    let tokens: BTreeSet<&String> = status.handled_rerun_tokens.iter().collect();
    demand(tokens.len() == status.handled_rerun_tokens.len(), || "a token twice".to_owned())?;
    let text = serde_json::to_value(status).unwrap();
    demand(!has_control(&text), || "a control character".to_owned())
}

fn demand(holds: bool, law: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(law()) }
}

fn has_control(value: &serde_json::Value) -> bool {
    use serde_json::Value;
    match value {
        Value::String(text) => text.chars().any(char::is_control),
        Value::Array(items) => items.iter().any(has_control),
        Value::Object(fields) => fields.values().any(has_control),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
