//! What the real cloud leaves unknown: one row for each question, one value for each answer that it may give.
//!
//! **May touch:** its arguments.
//!
//! **Guarantees**
//! 1. The first value of every row together are [`Switches::default`].
//! 2. Rows are independent: a value of one changes no field that another row sets.
//! 3. A mixture is a function of its seed, and every mixture has a name that tells it from every other.
//!
//! The edition is no question: limits and keys are set beside a profile.

use jiff::SignedDuration;

use super::answer::{Hint, Refusal};
use super::jobs::{Course, ForcedRerun, StartOnRunning, StartedTime};
use super::parameters::drawn;
use super::switches::{Denial, Failures, Form2024, NonceScope, Permissions, Switches, VersionQuota, When};
use super::throttle::{DayTurn, Window};

/// One answer that the cloud may give: a short word, and how it is set.
pub type Value = (&'static str, fn(&mut Switches));

/// One thing that the cloud does not document.
pub struct Row {
    /// A short word for it.
    pub name: &'static str,
    /// What it may be. The first is the default, the last the harshest.
    pub values: &'static [Value],
}

const fn row(name: &'static str, values: &'static [Value]) -> Row {
    Row { name, values }
}

fn set_rate(switches: &mut Switches, code: &str, status: Option<u16>) {
    switches.limits.refusal = Refusal { status, ..Refusal::of(code) };
}

fn set_running(switches: &mut Switches, seconds: i64, word: Option<&str>, course: Course) {
    switches.rules.running_after = SignedDuration::from_secs(seconds);
    switches.rules.starting_word = word.map(str::to_owned);
    switches.rules.course = course;
}

fn set_reading(switches: &mut Switches, hides_project: bool, permissions: Permissions) {
    switches.rules.hides_project = hides_project;
    switches.permissions = permissions;
}

const READING: &str = "reading";

/// All questions, in one order.
pub const ROWS: &[Row] = &[
    row(
        "start-on-running",
        &[
            ("no-op", |s| s.rules.start_on_running = StartOnRunning::NoOp),
            ("error", |s| s.rules.start_on_running = StartOnRunning::Error(Refusal::of("DIJob.NotAtRest"))),
            ("restart", |s| s.rules.start_on_running = StartOnRunning::Restart),
        ],
    ),
    row(
        "forced-on-running",
        &[
            ("accepted", |s| s.rules.forced_rerun = ForcedRerun::Accepted),
            ("stop-first", |s| s.rules.forced_rerun = ForcedRerun::StopFirst(Refusal::of("DIJob.StopFirst"))),
        ],
    ),
    row(
        "nonce-memory",
        &[
            ("15m", |s| s.nonce_memory = Some(SignedDuration::from_mins(15))),
            ("31m", |s| s.nonce_memory = Some(SignedDuration::from_mins(31))),
            ("off", |s| s.nonce_memory = None),
        ],
    ),
    row(
        "nonce-scope",
        &[("key", |s| s.nonce_scope = NonceScope::PerKey), ("all-keys", |s| s.nonce_scope = NonceScope::AllKeys)],
    ),
    row(
        "throttled-nonce",
        &[("kept", |s| s.throttled_burns_nonce = false), ("burnt", |s| s.throttled_burns_nonce = true)],
    ),
    row(
        "signature-age",
        &[
            ("15m", |s| s.signature_age = Some(SignedDuration::from_mins(15))),
            ("5m", |s| s.signature_age = Some(SignedDuration::from_mins(5))),
            ("off", |s| s.signature_age = None),
        ],
    ),
    row(
        "started-time",
        &[
            ("at-accept", |s| s.rules.started_time = StartedTime::AtAccept),
            ("when-running", |s| s.rules.started_time = StartedTime::WhenRunning),
            ("lagging", |s| s.rules.started_time = StartedTime::Lagging(SignedDuration::from_secs(60))),
            ("absent", |s| s.rules.started_time = StartedTime::Absent),
        ],
    ),
    row(
        "running-after",
        &[
            ("1s", |s| set_running(s, 1, None, Course::Runs)),
            ("30s", |s| set_running(s, 30, None, Course::Runs)),
            ("5m", |s| set_running(s, 300, None, Course::Runs)),
            ("fails", |s| set_running(s, 0, None, Course::Fails { message: "no such table".to_owned() })),
            ("odd-word", |s| set_running(s, 30, Some("Initializing"), Course::Runs)),
        ],
    ),
    row(
        "stopped-word",
        &[
            ("Stopped", |s| "Stopped".clone_into(&mut s.rules.stopped_word)),
            ("Stop", |s| "Stop".clone_into(&mut s.rules.stopped_word)),
        ],
    ),
    row(
        "read-lag",
        &[
            ("fresh", |s| s.rules.read_lag = SignedDuration::ZERO),
            ("2m", |s| s.rules.read_lag = SignedDuration::from_mins(2)),
        ],
    ),
    row(
        "window",
        &[
            ("fixed", |s| s.limits.window = Window::FixedSecond),
            ("bucket", |s| s.limits.window = Window::TokenBucket),
            ("sliding", |s| s.limits.window = Window::SlidingLog),
        ],
    ),
    row("refused-count", &[("no", |s| s.limits.refused_count = false), ("yes", |s| s.limits.refused_count = true)]),
    row(
        "hint",
        &[
            ("retry-after", |s| s.limits.hint = Hint::RetryAfter(None)),
            ("user", |s| s.limits.hint = Hint::RateLimit(None)),
            ("user-api", |s| s.limits.hint = Hint::RateLimitApi(None)),
            ("none", |s| s.limits.hint = Hint::None),
            ("garbage", |s| {
                s.limits.hint = Hint::Header { name: "x-acs-retry-after".to_owned(), value: "-1e12 soon".to_owned() };
            }),
        ],
    ),
    row(
        "throttled",
        &[
            ("429", |s| set_rate(s, "Throttling.Api", None)),
            ("400", |s| set_rate(s, "Throttling.Api", Some(400))),
            ("503", |s| set_rate(s, "Throttling.Api", Some(503))),
            ("number-400", |s| set_rate(s, "9990020002", Some(400))),
            ("number-200", |s| set_rate(s, "9990020002", Some(200))),
        ],
    ),
    row(
        "day-turn",
        &[
            ("utc+8", |s| s.limits.day_turn = DayTurn::UtcPlus8),
            ("utc", |s| s.limits.day_turn = DayTurn::Utc),
            ("rolling", |s| s.limits.day_turn = DayTurn::Rolling),
        ],
    ),
    row(
        "day-code",
        &[
            ("throttling", |s| s.limits.day_refusal = Switches::default().limits.day_refusal),
            ("other", |s| {
                let message = "Exceeded the daily quota of API calls.";
                s.limits.day_refusal = Refusal::of("QuotaExceeded.Day").with_message(message);
            }),
        ],
    ),
    row(
        "number-status",
        &[
            ("404", |s| s.numeric_status = None),
            ("400", |s| s.numeric_status = Some(400)),
            ("500", |s| s.numeric_status = Some(500)),
        ],
    ),
    row(
        "failures",
        &[("by-status", |s| s.failures = Failures::ByStatus), ("by-success", |s| s.failures = Failures::BySuccess)],
    ),
    row(
        READING,
        &[
            ("allowed", |s| set_reading(s, false, Permissions::All)),
            ("no-project", |s| set_reading(s, true, Permissions::All)),
            ("denied-number", |s| set_reading(s, false, Permissions::NoReads(Denial::Numeric))),
            ("denied-html", |s| set_reading(s, false, Permissions::NoReads(Denial::Html))),
            ("denied", |s| set_reading(s, false, Permissions::NoReads(Denial::Forbidden))),
        ],
    ),
    row(
        "when-lost",
        &[
            ("at-once", |s| s.execution_when_lost = When::Now),
            ("within-20m", |s| s.execution_when_lost = When::Within(SignedDuration::from_mins(20))),
            ("never", |s| s.execution_when_lost = When::Never),
        ],
    ),
    row(
        "2024-form",
        &[
            ("any", |s| s.form_2024 = Form2024::Any),
            ("get-and-lower-case", |s| s.form_2024 = Form2024::GetAndLowerCase),
        ],
    ),
    row(
        "version-quota",
        &[("one", |s| s.version_quota = VersionQuota::One), ("apart", |s| s.version_quota = VersionQuota::Apart)],
    ),
];

impl Switches {
    /// The last value of each row, but that reads are allowed.
    #[must_use]
    pub fn harsh() -> Self {
        let mut switches = Self::default();
        for row in ROWS.iter().filter(|row| row.name != READING) {
            if let Some((_, set)) = row.values.last() {
                set(&mut switches);
            }
        }
        switches
    }

    /// Each row with a value of its own, drawn from the seed.
    #[must_use]
    pub fn mixture(seed: u64) -> Self {
        let mut switches = Self::default();
        for (place, row) in (0..).zip(ROWS) {
            let chosen = drawn(seed, place) % u64::try_from(row.values.len()).unwrap_or(1);
            let value = usize::try_from(chosen).ok().and_then(|at| row.values.get(at));
            if let Some((_, set)) = value {
                set(&mut switches);
            }
        }
        switches
    }

    /// The rows that are not at their default, as `nonce-memory=off window=bucket`; `default` if none. A value that is in
    /// no row is called `own`.
    #[must_use]
    pub fn profile_name(&self) -> String {
        let is = |set: fn(&mut Self)| {
            let mut same = self.clone();
            set(&mut same);
            same == *self
        };
        let value = |row: &Row| row.values.iter().find(|(_, set)| is(*set)).map_or("own", |(value, _)| value);
        let is_default = |row: &Row| row.values.first().is_some_and(|(_, set)| is(*set));
        let names: Vec<_> =
            ROWS.iter().filter(|row| !is_default(row)).map(|row| format!("{}={}", row.name, value(row))).collect();
        if names.is_empty() { "default".to_owned() } else { names.join(" ") }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_first_values_are_the_default_and_every_value_has_its_own_name() {
        assert_eq!(Switches::default().profile_name(), "default");
        for row in ROWS {
            for (place, (name, set)) in row.values.iter().enumerate() {
                let mut switches = Switches::default();
                set(&mut switches);
                let expected = if place == 0 { "default".to_owned() } else { format!("{}={name}", row.name) };
                assert_eq!(switches.profile_name(), expected);
                assert_eq!(switches == Switches::default(), place == 0, "{expected}");
            }
        }
    }

    #[test]
    fn no_row_touches_the_field_of_another() {
        for row in ROWS {
            let last = row.values.last().unwrap().1;
            for other in ROWS.iter().filter(|other| other.name != row.name) {
                let (mut first, mut second) = (Switches::default(), Switches::default());
                let set = other.values.last().unwrap().1;
                last(&mut first);
                set(&mut first);
                set(&mut second);
                last(&mut second);
                assert_eq!(first, second, "{} {}", row.name, other.name);
            }
        }
    }

    #[test]
    fn harsh_is_the_last_of_each_row_but_can_be_read() {
        let names = Switches::harsh().profile_name();
        for row in ROWS.iter().filter(|row| row.name != READING) {
            let last = row.values.last().unwrap().0;
            assert!(names.split(' ').any(|name| name == format!("{}={last}", row.name)), "{names}");
        }
        assert_eq!(Switches::harsh().permissions, Permissions::All);
    }

    #[test]
    fn a_mixture_is_a_function_of_its_seed_and_all_values_come_up() {
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let switches = Switches::mixture(seed);
            assert_eq!(switches, Switches::mixture(seed));
            let name = switches.profile_name();
            assert!(!name.contains("own"), "{name}");
            seen.extend(name.split(' ').map(str::to_owned));
            let again: Switches = serde_json::from_str(&serde_json::to_string(&switches).unwrap()).unwrap();
            assert_eq!(again, switches);
        }
        let values: usize = ROWS.iter().map(|row| row.values.len() - 1).sum();
        assert_eq!(seen.len(), values, "{seen:?}");
        let names: BTreeSet<_> = (0..50).map(|seed| Switches::mixture(seed).profile_name()).collect();
        assert!(names.len() > 45, "{}", names.len());
    }

    #[test]
    fn a_value_of_no_row_is_told_as_one() {
        let switches = Switches { nonce_memory: Some(SignedDuration::from_mins(7)), ..Switches::default() };
        assert_eq!(switches.profile_name(), "nonce-memory=own");
    }
}
