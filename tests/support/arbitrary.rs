//! Any `Observed` at all, made from a string of bytes: each byte is a choice, and 0 is the plainest one, so that a
//! counterexample shrinks to its point.

use dijob_operator::api::condition::{Condition, ConditionStatus, whole_seconds};
use dijob_operator::api::{
    Applied, FailoverSettings, FinishedStart, JobStatus, LastError, LastStart, OnUnknown, PendingStart,
    RealtimeStartSettings, StartInputs,
};
use dijob_operator::dataworks::error::{Error, ErrorKind, Operation};
use dijob_operator::plan::Observed;
use dijob_operator::plan::observed::{
    Account, Answer, Answered, Hold, JobRef, Key, Lane, Object, PROTOCOL, Reading, Seen, Turn, View,
};
use jiff::SignedDuration;

use super::plan::{NEWER, SERVICE, ago, hence, job, last, observed, ordinary};

/// Choices, one byte each; after the last one all are 0.
pub struct Choices<'a>(pub &'a [u8]);

impl Choices<'_> {
    /// One of `all`.
    pub fn of<T: Clone>(&mut self, all: &[T]) -> T {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        all[usize::from(*first) % all.len()].clone()
    }

    fn yes(&mut self) -> bool {
        self.of(&[false, true])
    }

    fn rarely(&mut self) -> bool {
        self.of(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]) == 9
    }

    /// The plain value, rarely another.
    fn or<T>(&mut self, plain: T, other: impl FnOnce(&mut Self) -> T) -> T {
        if self.rarely() { other(self) } else { plain }
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.yes() { Some(make(self)) } else { None }
    }

    fn seconds(&mut self) -> i64 {
        if self.yes() {
            return self.of(&[0, 1, 5, 31, 45]);
        }
        self.of(&[0, 1, 5, 9, 11, 29, 31, 45, 59, 61, 119, 121, 301, 481, 599, 601, 899, 901, 4000, 100_000])
    }

    fn text(&mut self) -> String {
        self.of(&["text", "a\u{0}b\u{1b}[31m\nc", "", "é", "*", "x&AccessKeyId=LTAI"]).replace('*', &"ab ".repeat(500))
    }

    fn job(&mut self) -> JobRef {
        let di_job_id = self.or(11_743, |_| 5);
        JobRef { region: self.or("cn-shanghai", |_| "cn-beijing").to_owned(), di_job_id }
    }

    fn settings(&mut self) -> Option<RealtimeStartSettings> {
        let start_time = self.of(&[None, Some(1_671_516_776), Some(1_700_000_000)]);
        let failover_settings =
            self.of(&[None, Some((Some(10), Some(30))), Some((Some(20), None)), Some((None, None))]);
        let failover_settings =
            failover_settings.map(|(interval, upper_limit)| FailoverSettings { interval, upper_limit });
        self.of(&[None, Some(RealtimeStartSettings { start_time, failover_settings })])
    }

    fn inputs(&mut self) -> StartInputs {
        let settings = self.settings().filter(|s| !s.is_empty());
        StartInputs { realtime_start_settings: settings, force_to_rerun: self.yes() }
    }

    fn tokens(&mut self) -> Vec<String> {
        self.of(&[vec![], vec!["a"], vec!["b"], vec!["a", "b"]]).into_iter().map(str::to_owned).collect()
    }

    fn word(&mut self) -> String {
        let word = ["Stopped", "Running", "Finished", "Failed", "Initialized", "Stopping", "Stop", "Odd", "*"];
        self.of(&word).replace('*', "od\u{7}d")
    }

    fn started(&mut self) -> Option<i64> {
        self.of(&[Some(100), None, Some(99), Some(200), Some(4_000_000_000)])
    }

    /// Any failed call.
    pub fn error(&mut self, operation: Operation) -> Error {
        use ErrorKind::{
            CallerUnknown, ClockSkew, DailyLimit, Denied, Expired, Invalid, NonceUsed, NotFound, Server, Throttled,
        };
        let (kind, code, http_status) = self.of(&[
            (Server, Some("InternalError.System"), Some(500)),
            (Server, None, None),
            (Server, None, Some(502)),
            (Throttled, Some("Throttling.User"), Some(429)),
            (DailyLimit, Some("Throttling.Api"), Some(429)),
            (Denied, Some("Forbidden.RAM"), Some(403)),
            (Expired, Some("InvalidSecurityToken.Expired"), Some(400)),
            (ClockSkew, Some("InvalidTimeStamp.Expired"), Some(400)),
            (NotFound, Some("500130"), Some(404)),
            (NonceUsed, Some("SignatureNonceUsed"), Some(400)),
            (Invalid, Some("InvalidParameter"), Some(400)),
            (CallerUnknown, Some("InternalError.UserId.Missing"), Some(500)),
        ]);
        let message = self.maybe(Self::text);
        let request_id = code.map(|_| self.text());
        let never_left = http_status.is_none() && self.yes();
        Error {
            operation,
            kind,
            code: code.map(str::to_owned),
            message,
            request_id,
            http_status,
            wait: None,
            never_left,
        }
    }

    /// Any look.
    pub fn seen(&mut self) -> Seen {
        let view = View {
            word: self.word(),
            started: self.started(),
            project: Some(10_000),
            name: self.maybe(Self::text),
            error: self.maybe(Self::text),
        };
        match self.of(&[0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]) {
            0 => Seen::Job(view),
            1 => Seen::NotFound(Error {
                kind: ErrorKind::NotFound,
                code: Some("500130".to_owned()),
                http_status: Some(404),
                ..self.error(Operation::GetDiJob)
            }),
            2 => Seen::Refused(Error {
                kind: ErrorKind::Denied,
                code: Some("Forbidden.RAM".to_owned()),
                http_status: Some(403),
                ..self.error(Operation::GetDiJob)
            }),
            _ => Seen::Failed(self.error(Operation::GetDiJob)),
        }
    }

    /// Any answer to a start.
    pub fn answer(&mut self) -> Answer {
        match self.maybe(|c| c.error(Operation::StartDiJob)) {
            Some(error) => Answer::Failed(error),
            None => Answer::Accepted { request_id: self.maybe(Self::text) },
        }
    }

    fn pending(&mut self, spec: &StartInputs) -> PendingStart {
        let inputs = self.or(spec.clone(), Self::inputs);
        let job = self.job();
        let mut settings = inputs.realtime_start_settings.clone();
        if !self.rarely() {
            settings = settings.map(|s| RealtimeStartSettings { start_time: None, ..s }).filter(|s| !s.is_empty());
        }
        PendingStart {
            protocol: self.or(PROTOCOL, |c| c.of(&[0, 2])),
            trigger: self.of(&["FirstApply", "SpecChange", "FirstApply", "SpecChange", "Rerun", "Drift"]).to_owned(),
            rerun_tokens: self.or(Vec::new(), Self::tokens),
            region: job.region,
            di_job_id: job.di_job_id,
            attempt: self.of(&[1, 2, 7]),
            signed_time: whole_seconds(ago(self.seconds())),
            key_id: self.or("LTAI", |_| "LTAI2").to_owned(),
            answered: self.yes(),
            force_to_rerun: self.or(false, |c| inputs.force_to_rerun || c.yes()),
            realtime_start_settings: settings,
            inputs,
            baseline_started_time: self.started(),
            baseline_job_status: self.maybe(Self::word).map(|w| w.replace('\u{7}', "")),
            ..ordinary(0)
        }
    }

    fn last(&mut self) -> LastStart {
        LastStart {
            id: self.of(&["old", "0123456789ab"]).to_owned(),
            outcome: self.of(&["Confirmed", "Accepted", "Unknown", "Rejected", "Odd"]).to_owned(),
            confirmation: self.of(&[None, Some("TimedOut"), Some("Refused")]).map(str::to_owned),
            error: self.of(&[None, Some("InvalidParameter")]).map(str::to_owned),
            baseline_started_time: self.started(),
            baseline_job_status: self.maybe(Self::word).map(|w| w.replace('\u{7}', "")),
            force_to_rerun: self.yes(),
            ..last("Confirmed")
        }
    }

    fn applied(&mut self, spec: &StartInputs) -> Applied {
        let (inputs, job) = (if self.yes() { self.inputs() } else { spec.clone() }, self.job());
        let uncertain = self.rarely();
        Applied {
            region: job.region,
            di_job_id: job.di_job_id,
            account: self.or("prod", |_| "other").to_owned(),
            realtime_start_settings: inputs.realtime_start_settings,
            force_to_rerun: inputs.force_to_rerun,
            generation: self.of(&[3, 2, 1]),
            uncertain,
            previous: if uncertain { self.maybe(Self::inputs) } else { None },
        }
    }

    fn last_error(&mut self) -> LastError {
        let operation = self.of(&[Operation::StartDiJob, Operation::GetDiJob]);
        let error = self.error(operation);
        let plain = |text: Option<String>| text.map(|t| t.replace(char::is_control, ""));
        LastError {
            operation: operation.action().to_owned(),
            code: error.code,
            message: plain(error.message).map(|m| m.chars().take(1024).collect()),
            request_id: plain(error.request_id).map(|m| m.chars().take(128).collect()),
            http_status: error.http_status.map(i32::from),
            time: whole_seconds(ago(self.seconds())),
            generation: self.of(&[3, 2]),
            rerun_tokens: self.tokens(),
            credentials_version: self.of(&["a1/s1", "a0/s0"]).to_owned(),
        }
    }

    fn record(&mut self, spec: &StartInputs) -> JobStatus {
        let history = FinishedStart {
            id: "h".to_owned(),
            trigger: "Rerun".to_owned(),
            rerun_tokens: Vec::new(),
            generation: 1,
            outcome: "Confirmed".to_owned(),
            code: None,
            request_id: None,
            time: whole_seconds(ago(90_000)),
        };
        let old = self.of(&[0, 1, 10]);
        JobStatus {
            observed_generation: self.of(&[3, 2, -1]),
            applied: self.of(&[false, true, true]).then(|| self.applied(spec)),
            pending_start: self.of(&[false, false, true]).then(|| self.pending(spec)),
            last_start: self.maybe(Self::last),
            last_error: self.maybe(Self::last_error),
            job_status: self.maybe(Self::word).map(|w| w.replace('\u{7}', "")),
            job_started_time: self
                .maybe(|c| whole_seconds(jiff::Timestamp::from_second(c.of(&[100, 200, 99])).unwrap())),
            handled_rerun_tokens: self.tokens().into_iter().chain((0..old).map(|n| format!("old-{n}"))).collect(),
            attempts: self.of(&[0, 1, 9, i32::MAX]),
            next_attempt_time: self.or(None, |c| Some(whole_seconds(hence(c.seconds() - 100)))),
            history: vec![history; self.of(&[0, 1, 5])],
            ..JobStatus::default()
        }
    }

    fn conditions(&mut self) -> Vec<Condition> {
        let reason = self.of(&["CredentialsMissing", "JobRunning", "Confirming", "OfANewerOperator"]).to_owned();
        let time = whole_seconds(ago(5000));
        let says = |type_: &str, status| Condition {
            type_: type_.to_owned(),
            status,
            observed_generation: 2,
            last_transition_time: time.clone(),
            reason: reason.clone(),
            message: "as it was".to_owned(),
        };
        match self.of(&[0, 1, 2]) {
            0 => Vec::new(),
            1 => vec![says("Ready", ConditionStatus::True), says("Observed", ConditionStatus::True)],
            _ => vec![says("Ready", ConditionStatus::False), says("Stalled", ConditionStatus::True)],
        }
    }

    /// The versions of the API that the account and the records name, and the projects that it allows. In the newer version
    /// nothing tells a time.
    fn accounts(&mut self, o: &mut Observed) {
        if let Account::Found { service, projects, .. } = &mut o.account {
            *projects = self.or(vec![], |c| c.of(&[vec![10_000, 2], vec![2]]));
            self.or(SERVICE, |_| NEWER).clone_into(service);
            if let Some(Reading { seen: Seen::Job(view), .. }) = o.reading.as_mut().filter(|_| service == NEWER) {
                view.started = None;
            }
        }
        let of_record = |c: &mut Self| c.or(SERVICE, |c| c.of(&[NEWER, ""])).to_owned();
        if let Some(pending) = &mut o.record.pending_start {
            pending.service = of_record(self);
            pending.baseline_started_time = pending.baseline_started_time.filter(|_| pending.service != NEWER);
        }
        if let Some(last) = &mut o.record.last_start {
            last.service = of_record(self);
            last.baseline_started_time = last.baseline_started_time.filter(|_| last.service != NEWER);
        }
    }

    fn around(&mut self, o: &mut Observed) {
        let account = |region: &str| Account::Found {
            region: region.to_owned(),
            version: "a1".to_owned(),
            service: SERVICE.to_owned(),
            projects: vec![],
        };
        o.account = self.or(account("cn-shanghai"), |c| {
            c.of(&[account("cn-beijing"), Account::Absent, Account::Invalid("no\u{7}host".to_owned())])
        });
        let key = |id: &str| Key::Ready { id: id.to_owned(), version: "s1".to_owned() };
        o.key = self.or(key("LTAI"), |c| match c.of(&[0, 1, 2]) {
            0 => key("LTAI2"),
            1 => Key::Missing("Secret prod does not exist".to_owned()),
            _ => Key::Refused(c.error(Operation::AssumeRole)),
        });
        let missing = !matches!(o.key, Key::Ready { .. }) || !matches!(o.account, Account::Found { .. });
        o.missing_since = missing.then(|| ago(self.seconds()));
        let lane = self.of(&[Lane::Start, Lane::Look]);
        o.turn = self.of(&[
            Turn::Held(lane),
            Turn::Held(lane),
            Turn::Held(lane),
            Turn::Held(lane),
            Turn::None,
            Turn::Waiting { lane, long: false },
            Turn::Waiting { lane, long: true },
            Turn::Uncounted(lane),
        ]);
        o.turn_at = matches!(o.turn, Turn::Waiting { long: true, .. }).then(|| hence(4000));
        o.hold =
            self.of(&[None, Some(Hold { until: hence(60), day: false }), Some(Hold { until: hence(999), day: true })]);
        o.cloud_offset = SignedDuration::from_secs(self.of(&[0, 1, -700, 700]));
    }

    /// Any `Observed`, as far as the edge can make one.
    pub fn observed(&mut self) -> Observed {
        let mut o = observed();
        o.object = Object { generation: 3, deleting: self.rarely(), ..o.object };
        o.spec.realtime_start_settings = self.settings();
        o.spec.force_to_rerun = self.yes();
        self.of(&["", "", "a", "b"]).clone_into(&mut o.spec.rerun_token);
        o.spec.on_unknown = self.or(OnUnknown::Resolve, |_| OnUnknown::Hold);
        o.spec.suspend = self.rarely();
        o.spec.di_job_id = self.or(11_743, |_| 5);
        self.or("prod", |_| "other").clone_into(&mut o.spec.account_ref.name);
        let long = "x".repeat(257);
        o.annotations.rerun =
            self.of(&[None, None, Some("a"), Some("b"), Some(""), Some("a\nb"), Some(&long)]).map(str::to_owned);
        o.annotations.force = self.of(&[None, None, Some("a"), Some("b")]).map(str::to_owned);
        self.around(&mut o);
        let spec = dijob_operator::plan::inputs::inputs_of(&o.spec);
        o.record = self.record(&spec);
        o.conditions = self.conditions();
        let open = o.record.pending_start.is_some() || o.record.last_start.is_some();
        o.call_at = (open || self.yes()).then(|| ago(self.seconds()));
        o.reading = self.of(&[false, true, true, true, true]).then(|| Reading {
            job: self.or(job(), |_| JobRef { di_job_id: 5, ..job() }),
            at: ago(self.seconds()),
            seen: self.seen(),
        });
        if let Some(pending) = o.record.pending_start.clone().filter(|p| p.protocol <= PROTOCOL) {
            o.never_sent = self.rarely();
            let attempt = self.of(&[pending.attempt, 1, 2]);
            if self.rarely() {
                let credentials_version = o.credentials_version();
                let pending = PendingStart { attempt, ..pending };
                o.unrecorded = Some(Answered { pending, credentials_version, answer: self.answer() });
            }
        }
        o.jitter = self.of(&[0.5, 0.0, 0.999]);
        self.accounts(&mut o);
        o
    }
}
