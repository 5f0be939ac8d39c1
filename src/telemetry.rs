//! Log set-up, and the registry of metrics with its labels.
//!
//! **May touch:** the process's subscriber of logs, once; standard error; counters in memory.
//!
//! **Guarantees**
//! 1. A label is a variant of an enum here, or the name of an account: no name of a job, no text of an error. So the number
//!    of series is fixed, but for those of accounts, which end with their account.
//! 2. Every series but those is there from the start, at 0, so that the first event already is an increase.
//! 3. Counting takes no lock that a pass could wait for longer than for another count or a scrape.

mod accounts;
mod waits;

use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::Arc;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

pub use self::accounts::{AccountName, Budget};

/// The kube client logs each failed call as an error of its own, those that a pass expects included. The operator says
/// it in its own words; a filter of the user's that names this target wins.
const QUIET: &str = "kube_client::client::builder=off";

/// Sends logs to standard error from now on: as JSON, or as text for people. Times are in UTC.
///
/// # Errors
/// One line, if `filter` is not a filter or logs were set up before.
pub fn init_logs(filter: &str, json: bool) -> Result<(), String> {
    let subscriber = subscriber(filter, json, io::stderr().is_terminal(), io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|error| format!("cannot set up logs: {error}"))
}

type BoxedSubscriber = Box<dyn Subscriber + Send + Sync>;

fn subscriber<W>(filter: &str, json: bool, colours: bool, to: W) -> Result<BoxedSubscriber, String>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(format!("{QUIET},{filter}"))
        .map_err(|error| format!("--log takes a level or levels by module, such as info,kube=debug: {error}"))?;
    // A full disk or a reader that went away costs log lines, not the process: the report of such an error would go to
    // standard error too, and fail by a panic.
    let base = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours && !json)
        .with_writer(to)
        .log_internal_errors(false);
    if json {
        // The list of spans would repeat the one span of a pass on each line.
        return Ok(Box::new(base.json().flatten_event(true).with_span_list(false).finish()));
    }
    Ok(Box::new(base.finish()))
}

/// An enum whose variants are the values of a label.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$of])* $variant,)+ }

        impl $name {
            const WORDS: &[&'static str] = &[$($text,)+];

            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The word in metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

label! {
    /// An operation of the cloud's API.
    Operation {
        /// `StartDIJob`.
        StartDiJob = "start_di_job",
        /// `GetDIJob`.
        GetDiJob = "get_di_job",
        /// `AssumeRole` of STS.
        AssumeRole = "assume_role",
        /// `AssumeRoleWithOIDC` of STS.
        AssumeRoleWithOidc = "assume_role_with_oidc",
        /// `GetCallerIdentity` of STS.
        GetCallerIdentity = "get_caller_identity",
        /// A key of the machine's role, of its metadata service.
        MachineKey = "machine_key",
    }
}

label! {
    /// What came of one call.
    Answer {
        /// It was accepted.
        Ok = "ok",
        /// Too many calls.
        Throttled = "throttled",
        /// The calls of the day are used up.
        DailyLimit = "daily_limit",
        /// The key or its rights were refused.
        Denied = "denied",
        /// The security token has expired.
        Expired = "expired",
        /// Our clock is wrong.
        ClockSkew = "clock_skew",
        /// There is no such job.
        NotFound = "not_found",
        /// The nonce was seen before: an earlier copy arrived.
        NonceUsed = "nonce_used",
        /// The request was refused for what it says.
        Invalid = "invalid",
        /// The cloud failed, or the answer was lost or unusable.
        Server = "server",
        /// The credentials carry no user id.
        CallerUnknown = "caller_unknown",
        /// Nothing left the host.
        NeverLeft = "never_left",
    }
}

label! {
    /// Why a job is started.
    Trigger {
        /// A new token asks for it.
        Rerun = "rerun",
        /// Nothing was ever handled for the job.
        FirstApply = "first_apply",
        /// The start inputs changed.
        SpecChange = "spec_change",
    }
}

label! {
    /// What became of a start.
    StartOutcome {
        /// The cloud said yes.
        Accepted = "accepted",
        /// It was seen running.
        Confirmed = "confirmed",
        /// The cloud said no.
        Rejected = "rejected",
        /// It may have run.
        Unknown = "unknown",
        /// It surely did not run.
        NotSent = "not_sent",
    }
}

label! {
    /// A queue of the quota.
    Lane {
        /// Starts.
        Start = "start",
        /// Reads of a job.
        Read = "read",
    }
}

label! {
    /// What happened to a permit.
    Permit {
        /// Given to a job whose turn came.
        Granted = "granted",
        /// Given back unused.
        Returned = "returned",
    }
}

label! {
    /// How a pass or a write ended.
    Ended {
        /// As it should.
        Ok = "ok",
        /// Another writer was first: news, not a failure.
        Conflict = "conflict",
        /// It failed.
        Error = "error",
    }
}

label! {
    /// Why status is written.
    StatusWrite {
        /// Ahead of a start.
        Intent = "intent",
        /// Everything else of a job.
        Record = "record",
        /// Of an account.
        Account = "account",
    }
}

label! {
    /// What became of an Event.
    EventFate {
        /// The API server took it.
        Sent = "sent",
        /// The queue was full, or the API server refused it.
        Dropped = "dropped",
    }
}

label! {
    /// A kind that is watched.
    Kind {
        /// `DataIntegrationJob`.
        Job = "job",
        /// `DataWorksAccount`.
        Account = "account",
    }
}

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// All that is counted. Cheap to clone; all clones share one registry.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    cloud_calls: Family<Labels<2>, Counter>,
    starts: Family<Labels<2>, Counter>,
    permits: Family<Labels<2>, Counter>,
    permit_waits: waits::Waits,
    accounts: accounts::Accounts,
    waiting_turns: Gauge,
    passes: Family<Labels<1>, Counter>,
    status_writes: Family<Labels<2>, Counter>,
    events: Family<Labels<1>, Counter>,
    watch_errors: Family<Labels<1>, Counter>,
    unparsable_objects: Family<Labels<1>, Gauge>,
    leader: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A registry of its own, with every series at 0.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("dijob");
        let r = &mut registry;
        r.register("build", "The version that runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let calls = pairs("operation", Operation::WORDS, "answer", Answer::WORDS);
        let starts = pairs("trigger", Trigger::WORDS, "outcome", StartOutcome::WORDS);
        let permits = pairs("lane", Lane::WORDS, "event", Permit::WORDS);
        let writes = pairs("kind", StatusWrite::WORDS, "result", Ended::WORDS);
        Self {
            cloud_calls: family(r, "cloud_calls", "Calls of the cloud's API by what came of them", calls),
            starts: family(r, "starts", "Starts of jobs; one may count as accepted and later as confirmed", starts),
            permits: family(r, "permits", "Permits of the quota: granted, and of these returned unused", permits),
            permit_waits: waits::register(r),
            accounts: accounts::Accounts::register(r),
            waiting_turns: gauge(r, "waiting_turns", "Jobs that wait for their turn in the quota"),
            passes: family(r, "passes", "Passes over jobs by how they ended", single("result", Ended::WORDS)),
            status_writes: family(r, "status_writes", "Writes of status by why and how they ended", writes),
            events: family(r, "events", "Kubernetes Events, sent or dropped", single("result", EventFate::WORDS)),
            watch_errors: family(r, "watch_errors", "Failed lists and watches", single("kind", Kind::WORDS)),
            unparsable_objects: family(
                r,
                "unparsable_objects",
                "Objects that this version cannot read and leaves alone",
                single("kind", Kind::WORDS),
            ),
            leader: gauge(r, "leader", "1 while this process works: it holds the Lease, or needs none"),
            registry: Arc::new(registry),
        }
    }

    /// Counts one call of the cloud.
    pub fn cloud_call(&self, operation: Operation, answer: Answer) {
        let labels = [("operation", operation.as_str()), ("answer", answer.as_str())];
        self.cloud_calls.get_or_create(&labels).inc();
    }

    /// Counts one turn in the life of a start.
    pub fn start(&self, trigger: Trigger, outcome: StartOutcome) {
        let labels = [("trigger", trigger.as_str()), ("outcome", outcome.as_str())];
        self.starts.get_or_create(&labels).inc();
    }

    /// Counts one permit.
    pub fn permit(&self, lane: Lane, permit: Permit) {
        self.permits.get_or_create(&[("lane", lane.as_str()), ("event", permit.as_str())]).inc();
    }

    /// Says how many jobs wait for their turn now.
    pub fn waiting_turns(&self, now: usize) {
        self.waiting_turns.set(level(now));
    }

    /// Counts one pass over a job.
    pub fn pass(&self, result: Ended) {
        self.passes.get_or_create(&[("result", result.as_str())]).inc();
    }

    /// Counts one write of status.
    pub fn status_write(&self, kind: StatusWrite, result: Ended) {
        self.status_writes.get_or_create(&[("kind", kind.as_str()), ("result", result.as_str())]).inc();
    }

    /// Counts one Kubernetes Event.
    pub fn event(&self, result: EventFate) {
        self.events.get_or_create(&[("result", result.as_str())]).inc();
    }

    /// Counts one failed list or watch.
    pub fn watch_error(&self, kind: Kind) {
        self.watch_errors.get_or_create(&[("kind", kind.as_str())]).inc();
    }

    /// Says how many objects of a kind cannot be read now.
    pub fn unparsable_objects(&self, kind: Kind, now: usize) {
        self.unparsable_objects.get_or_create(&[("kind", kind.as_str())]).set(level(now));
    }

    /// Says whether this process works.
    pub fn leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// All metrics in the `OpenMetrics` text format, 1.0.0.
    ///
    /// # Errors
    /// None in practice: a `String` takes every write.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

/// Every value of one label.
fn single(name: &'static str, values: &[&'static str]) -> Vec<Labels<1>> {
    values.iter().map(|value| [(name, *value)]).collect()
}

/// Every pair of values of two labels.
fn pairs(a: &'static str, of_a: &[&'static str], b: &'static str, of_b: &[&'static str]) -> Vec<Labels<2>> {
    of_a.iter().flat_map(|x| of_b.iter().map(move |y| [(a, *x), (b, *y)])).collect()
}

/// A registered family in which every series of `all` exists.
fn family<const N: usize, M>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    all: Vec<Labels<N>>,
) -> Family<Labels<N>, M>
where
    Family<Labels<N>, M>: Metric,
    M: Default + Clone,
{
    let family = Family::<Labels<N>, M>::default();
    for labels in all {
        drop(family.get_or_create(&labels));
    }
    registry.register(name, help, family.clone());
    family
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

fn level(now: usize) -> i64 {
    i64::try_from(now).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::io::Write;
    use std::sync::Mutex;

    use super::*;

    /// A writer that keeps what is written.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str, json: bool, log: impl FnOnce()) -> String {
        let kept = Kept::default();
        let to = kept.clone();
        let subscriber = subscriber(filter, json, false, move || to.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_json_line_is_one_flat_object_with_the_span_and_a_time_in_utc() {
        let text = logged("info", true, || {
            let _span = tracing::info_span!("pass", namespace = "prod").entered();
            tracing::info!(job = 11743, "started");
            tracing::debug!("too fine");
        });
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line.get("message"), Some(&"started".into()));
        assert_eq!(line.get("job"), Some(&11743.into()));
        assert_eq!(line.pointer("/span/namespace"), Some(&"prod".into()));
        assert_eq!(line.get("spans"), None);
        let time: jiff::Timestamp = line.get("timestamp").unwrap().as_str().unwrap().parse().unwrap();
        assert!(text.contains('Z') && time.as_second() > 1_700_000_000, "{text}");
    }

    #[test]
    fn text_is_for_people() {
        let text = logged("info", false, || tracing::warn!(job = 7, "drifted"));
        assert!(text.contains("WARN") && text.contains("drifted job=7"), "{text}");
    }

    #[test]
    fn the_kube_client_repeats_no_failed_call_unless_asked_to() {
        let log = || tracing::error!(target: "kube_client::client::builder", "failed");
        assert_eq!(logged("info", false, log), "");
        assert_eq!(logged("trace", false, log), "");
        assert!(logged("info,kube_client::client::builder=error", false, log).contains("failed"));
    }

    #[test]
    fn a_filter_that_is_none_is_refused_with_its_flag() {
        let error = subscriber("info,a=b=c", true, false, io::sink).err().unwrap();
        assert!(error.contains("--log") && error.lines().count() == 1, "{error}");
    }

    fn is_zero(line: &str) -> bool {
        line.ends_with(" 0") || line.ends_with(" 0.0")
    }

    #[test]
    fn every_series_is_there_from_the_start_and_at_zero() {
        let text = Metrics::new().encode().unwrap();
        let series: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        // waits 2 * (9 + 3); build; calls 6 * 12; starts 3 * 5; permits 2 * 2; turns; passes 3; writes 3 * 3; events 2; watch 2; unparsable 2; leader
        assert_eq!(series.len(), 24 + 1 + 72 + 15 + 4 + 1 + 3 + 9 + 2 + 2 + 2 + 1, "{text}");
        for line in series.iter().filter(|line| !line.starts_with("dijob_build_info")) {
            assert!(line.starts_with("dijob_") && is_zero(line), "{line}");
        }
        assert!(!text.contains("_total_total"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn what_is_counted_shows_under_its_name() {
        let metrics = Metrics::new();
        let clone = metrics.clone();
        clone.cloud_call(Operation::StartDiJob, Answer::Throttled);
        clone.start(Trigger::Rerun, StartOutcome::Unknown);
        clone.permit(Lane::Start, Permit::Granted);
        clone.permit_wait(Lane::Start, std::time::Duration::from_secs(7200));
        clone.waiting_turns(7);
        clone.pass(Ended::Conflict);
        clone.status_write(StatusWrite::Intent, Ended::Ok);
        clone.event(EventFate::Dropped);
        clone.watch_error(Kind::Account);
        clone.unparsable_objects(Kind::Job, 3);
        clone.leader(true);
        let text = metrics.encode().unwrap();
        let moved: Vec<_> = text.lines().filter(|line| !line.starts_with('#') && !is_zero(line)).collect();
        let expected = [
            concat!("dijob_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            r#"dijob_cloud_calls_total{operation="start_di_job",answer="throttled"} 1"#,
            r#"dijob_starts_total{trigger="rerun",outcome="unknown"} 1"#,
            r#"dijob_permits_total{lane="start",event="granted"} 1"#,
            r#"dijob_permit_wait_seconds_sum{lane="start"} 7200.0"#,
            r#"dijob_permit_wait_seconds_count{lane="start"} 1"#,
            r#"dijob_permit_wait_seconds_bucket{le="21600.0",lane="start"} 1"#,
            r#"dijob_permit_wait_seconds_bucket{le="+Inf",lane="start"} 1"#,
            "dijob_waiting_turns 7",
            r#"dijob_passes_total{result="conflict"} 1"#,
            r#"dijob_status_writes_total{kind="intent",result="ok"} 1"#,
            r#"dijob_events_total{result="dropped"} 1"#,
            r#"dijob_watch_errors_total{kind="account"} 1"#,
            r#"dijob_unparsable_objects{kind="job"} 3"#,
            "dijob_leader 1",
        ];
        assert_eq!(moved, expected);
    }
}
