//! Flags and environment, parsed once into one struct.
//!
//! **May touch:** the command line, the environment and the namespace file of the pod's service account, once, in
//! [`Config::load`].
//!
//! **Guarantees**
//! 1. A [`Config`] that exists is consistent: every rule between two flags was checked, and a broken one was reported in
//!    one line that names both.
//! 2. Every flag has a twin in the environment: `DIJOB_` and its name. The flag wins.
//! 3. Nothing else in the program reads the environment, except the libraries that find a kubeconfig.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::error::ErrorKind;
use clap::{ArgAction, Parser, ValueEnum};
use jiff::SignedDuration;

/// What the request itself may take once connected: the second half of the fence before a start. A hard limit of the
/// client, and so no flag.
pub const WRITE_LIMIT: Duration = Duration::from_secs(1);

/// The longest duration a flag takes. Longer is a typing mistake, and sums of two never overflow.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);

/// Where Kubernetes puts the namespace of a pod with a service account.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

const CLUSTER: &str = "Kubernetes";
const LEADER: &str = "Leader election";
const CLOUD: &str = "DataWorks API";
const JOBS: &str = "Jobs";
const WATCHING: &str = "Logs, metrics, probes";

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Runs Alibaba Cloud DataWorks Data Integration jobs declared as DataIntegrationJob objects.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[expect(clippy::doc_markdown, reason = "these docs are the help, shown as they stand")]
#[command(name = "dijob-operator", version, verbatim_doc_comment, next_line_help = true)]
#[command(after_long_help = "Durations are written as in Go: 500ms, 15s, 1m30s, 2m; more than 0s, at most 24h.\n\
                        Each flag can be set in the environment instead; a flag on the command line wins.")]
pub struct Config {
    /// Kubeconfig file. Default: the files in KUBECONFIG, else ~/.kube/config, else the pod's
    /// service account.
    #[arg(long, env = "DIJOB_KUBECONFIG", value_name = "FILE", help_heading = CLUSTER)]
    #[arg(hide_env_values = true, verbatim_doc_comment)]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig. Default: its current context.
    #[arg(long, env = "DIJOB_CONTEXT", value_name = "NAME", help_heading = CLUSTER)]
    #[arg(value_parser = NonEmptyStringValueParser::new(), hide_env_values = true, verbatim_doc_comment)]
    pub context: Option<String>,

    /// Work only while holding the Lease, so that of several replicas one works.
    /// Switch it off (--leader-elect=false) only where no second process can run: two that
    /// work at once spend the quota twice.
    #[arg(long, env = "DIJOB_LEADER_ELECT", value_name = "BOOL", help_heading = LEADER)]
    #[arg(action = ArgAction::Set, default_value_t = true, default_missing_value = "true")]
    #[arg(num_args = 0..=1, require_equals = true, hide_env_values = true, verbatim_doc_comment)]
    pub leader_elect: bool,

    /// Name of the Lease. The shipped Role allows this one name only.
    #[arg(long, env = "DIJOB_LEASE_NAME", value_name = "NAME", help_heading = LEADER)]
    #[arg(default_value = "dijob-operator", value_parser = NonEmptyStringValueParser::new())]
    #[arg(hide_env_values = true, verbatim_doc_comment)]
    pub lease_name: String,

    /// Namespace of the Lease. Default: POD_NAMESPACE, else the namespace of the pod's service
    /// account, else the default namespace of the kubeconfig.
    #[arg(long, env = "DIJOB_LEASE_NAMESPACE", value_name = "NAME", help_heading = LEADER)]
    #[arg(value_parser = NonEmptyStringValueParser::new(), hide_env_values = true, verbatim_doc_comment)]
    pub lease_namespace: Option<String>,

    /// Who holds the Lease, for people: a random part for this process is added.
    /// Default: POD_NAME, else HOSTNAME.
    #[arg(long, env = "DIJOB_POD_NAME", value_name = "NAME", help_heading = LEADER)]
    #[arg(value_parser = NonEmptyStringValueParser::new(), hide_env_values = true, verbatim_doc_comment)]
    pub pod_name: Option<String>,

    /// How long a Lease that is not renewed keeps others out: the longest time without a leader
    /// after a crash. Whole seconds, longer than --renew-deadline.
    #[arg(long, env = "DIJOB_LEASE_DURATION", value_name = "DURATION", help_heading = LEADER)]
    #[arg(default_value = "15s", value_parser = duration, hide_env_values = true, verbatim_doc_comment)]
    pub lease_duration: Duration,

    /// How long after its last renewal a leader stops by itself. At least --connect-timeout plus
    /// 1s (to send) plus --retry-period: a start leaves only if it is out before this deadline.
    #[arg(long, env = "DIJOB_RENEW_DEADLINE", value_name = "DURATION", help_heading = LEADER)]
    #[arg(default_value = "10s", value_parser = duration, hide_env_values = true, verbatim_doc_comment)]
    pub renew_deadline: Duration,

    /// Time between two renewals, and between two attempts of a follower.
    #[arg(long, env = "DIJOB_RETRY_PERIOD", value_name = "DURATION", help_heading = LEADER)]
    #[arg(default_value = "2s", value_parser = duration, hide_env_values = true, verbatim_doc_comment)]
    pub retry_period: Duration,

    /// Allow a DataWorksAccount whose endpoint is http on a loopback host.
    /// For tests and demos: keys then travel in the clear.
    #[arg(long, env = "DIJOB_ALLOW_INSECURE_ENDPOINTS", value_name = "BOOL", help_heading = CLOUD)]
    #[arg(action = ArgAction::Set, default_value_t = false, default_missing_value = "true")]
    #[arg(num_args = 0..=1, require_equals = true, hide_env_values = true, verbatim_doc_comment)]
    pub allow_insecure_endpoints: bool,

    /// A further host that a DataWorksAccount may name as its endpoint, such as a gateway's:
    /// host or host:port. May be given many times; in the variable, with commas between.
    #[arg(long = "allowed-host", env = "DIJOB_ALLOWED_HOST", value_name = "HOST", help_heading = CLOUD)]
    #[arg(value_parser = host, value_delimiter = ',', hide_env_values = true, verbatim_doc_comment)]
    pub allowed_hosts: Vec<String>,

    /// URL of STS, which lends keys for roles, for all accounts. Default: the STS host of each
    /// account's region. An account whose endpoint names no region needs it to play a role.
    #[arg(long, env = "DIJOB_STS_ENDPOINT", value_name = "URL", help_heading = CLOUD)]
    #[arg(value_parser = NonEmptyStringValueParser::new(), hide_env_values = true, verbatim_doc_comment)]
    pub sts_endpoint: Option<String>,

    /// Namespaces whose accounts may take the operator's own identity (operatorIdentity), with
    /// commas between. Default: none. That identity is the first that there is of
    /// - the AccessKey in ALIBABA_CLOUD_ACCESS_KEY_ID, ALIBABA_CLOUD_ACCESS_KEY_SECRET and
    ///   perhaps ALIBABA_CLOUD_SECURITY_TOKEN;
    /// - the role in ALIBABA_CLOUD_ROLE_ARN, for the token in ALIBABA_CLOUD_OIDC_TOKEN_FILE
    ///   of the provider in ALIBABA_CLOUD_OIDC_PROVIDER_ARN;
    /// - the role of the ECS instance, unless ALIBABA_CLOUD_ECS_METADATA_DISABLED is true.
    #[arg(long, env = "DIJOB_OPERATOR_IDENTITY_NAMESPACES", value_name = "NAMES", help_heading = CLOUD)]
    #[arg(value_parser = NonEmptyStringValueParser::new(), value_delimiter = ',')]
    #[arg(hide_env_values = true, verbatim_doc_comment)]
    pub operator_identity_namespaces: Vec<String>,

    /// URL of a metadata service other than that of the ECS instance: http on a loopback host,
    /// and only with --allow-insecure-endpoints. For tests.
    #[arg(long, env = "DIJOB_METADATA_ENDPOINT", value_name = "URL", help_heading = CLOUD)]
    #[arg(value_parser = NonEmptyStringValueParser::new(), hide_env_values = true, verbatim_doc_comment)]
    pub metadata_endpoint: Option<String>,

    /// The operator's own identity, if a namespace may take it: read from the environment, no flag.
    #[arg(skip)]
    pub own_identity: OwnIdentity,

    /// Limit for connecting to the API, TLS included.
    #[arg(long, env = "DIJOB_CONNECT_TIMEOUT", value_name = "DURATION", help_heading = CLOUD)]
    #[arg(default_value = "5s", value_parser = duration, hide_env_values = true, verbatim_doc_comment)]
    pub connect_timeout: Duration,

    /// Limit for one whole call, connecting included. A start without an answer by then has an
    /// unknown outcome.
    #[arg(long, env = "DIJOB_CALL_TIMEOUT", value_name = "DURATION", help_heading = CLOUD)]
    #[arg(default_value = "15s", value_parser = duration, hide_env_values = true, verbatim_doc_comment)]
    pub call_timeout: Duration,

    /// How long after a start of unknown outcome a look that shows no sign of it is believed.
    /// Longer than --call-timeout, since the call of a leader that died may still be under way.
    #[arg(long, env = "DIJOB_SETTLE_TIME", value_name = "DURATION", help_heading = JOBS)]
    #[arg(default_value = "30s", value_parser = duration, hide_env_values = true, verbatim_doc_comment)]
    pub settle_time: Duration,

    /// How long an accepted start may take to show in the job before it is reported as
    /// NotRunning. Longer than --settle-time.
    #[arg(long, env = "DIJOB_CONFIRM_TIMEOUT", value_name = "DURATION", help_heading = JOBS)]
    #[arg(default_value = "2m", value_parser = duration, hide_env_values = true, verbatim_doc_comment)]
    pub confirm_timeout: Duration,

    /// How long a missing account, Secret or key counts as on its way rather than as a fault:
    /// Git tools apply all of them at once, in any order.
    #[arg(long, env = "DIJOB_MISSING_GRACE", value_name = "DURATION", help_heading = JOBS)]
    #[arg(default_value = "2m", value_parser = duration, hide_env_values = true, verbatim_doc_comment)]
    pub missing_grace: Duration,

    /// How many jobs are worked on at once, 1 to 1024. Each may hold one connection to the
    /// Kubernetes API and one to the cloud. Waiting for the quota takes none of them.
    #[arg(long, env = "DIJOB_MAX_CONCURRENT_PASSES", value_name = "NUMBER", help_heading = JOBS)]
    #[arg(default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    #[arg(hide_env_values = true, verbatim_doc_comment)]
    pub max_concurrent_passes: u16,

    /// Address of /healthz, /readyz and /metrics. Plain http, and nothing secret in it.
    #[arg(long, env = "DIJOB_LISTEN", value_name = "IP:PORT", help_heading = WATCHING)]
    #[arg(default_value = "0.0.0.0:8080", hide_env_values = true, verbatim_doc_comment)]
    pub listen: SocketAddr,

    /// How log lines look: json for collectors, text for people. Times are in UTC.
    #[arg(long, env = "DIJOB_LOG_FORMAT", value_name = "FORMAT", help_heading = WATCHING)]
    #[arg(value_enum, default_value = "json", hide_env_values = true, hide_possible_values = true)]
    #[arg(verbatim_doc_comment)]
    pub log_format: LogFormat,

    /// What is logged: a level (error, warn, info, debug, trace), or levels by module, such as
    /// info,dijob_operator::lease=debug.
    #[arg(long, env = "DIJOB_LOG", value_name = "FILTER", help_heading = WATCHING)]
    #[arg(default_value = "info", value_parser = NonEmptyStringValueParser::new())]
    #[arg(hide_env_values = true, verbatim_doc_comment)]
    pub log: String,
}

impl Config {
    /// The configuration of this process. Ends the process after `--help` and `--version`, and with a message on
    /// standard error and code 2 if a flag, a twin or the rules between them are broken.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "edge: the one place that reads the environment")]
    pub fn load() -> Self {
        Self::try_parse()
            .and_then(Self::checked)
            .unwrap_or_else(|error| error.exit())
            .placed(|name| std::env::var(name).ok(), Path::new(NAMESPACE_FILE))
    }

    /// The same configuration, if the rules between flags hold.
    ///
    /// # Errors
    /// One line that names the flags of the first broken rule.
    pub fn checked(self) -> Result<Self, clap::Error> {
        let fence = self.connect_timeout + WRITE_LIMIT + self.retry_period;
        let rules = [
            (
                self.lease_duration.subsec_nanos() == 0,
                "--lease-duration must be in whole seconds, as the Lease holds them",
            ),
            (self.lease_duration > self.renew_deadline, "--lease-duration must be longer than --renew-deadline"),
            (self.renew_deadline > self.retry_period, "--renew-deadline must be longer than --retry-period"),
            (
                self.renew_deadline >= fence,
                "--renew-deadline must be at least --connect-timeout plus 1s plus --retry-period, \
                 or no start could leave while the Lease is surely held",
            ),
            (
                self.call_timeout >= self.connect_timeout + WRITE_LIMIT,
                "--call-timeout must be at least --connect-timeout plus 1s",
            ),
            (
                self.settle_time > self.call_timeout,
                "--settle-time must be longer than --call-timeout, or a start still under way would count as not sent",
            ),
            (self.confirm_timeout > self.settle_time, "--confirm-timeout must be longer than --settle-time"),
            (
                self.metadata_endpoint.is_none() || self.allow_insecure_endpoints,
                "--metadata-endpoint is for tests, and needs --allow-insecure-endpoints",
            ),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, broken)) => Err(clap::Error::raw(ErrorKind::ValueValidation, format!("{broken}\n"))),
            None => Ok(self),
        }
    }

    /// Fills what the pod itself says of its name and namespace. An empty variable counts as absent.
    fn placed(mut self, variable: impl Fn(&str) -> Option<String>, namespace_file: &Path) -> Self {
        let told = |name| variable(name).filter(|value| !value.is_empty());
        let of_account = || {
            let text = std::fs::read_to_string(namespace_file).ok()?;
            Some(text.trim().to_owned()).filter(|namespace| !namespace.is_empty())
        };
        self.lease_namespace = self.lease_namespace.or_else(|| told("POD_NAMESPACE")).or_else(of_account);
        self.pod_name = self.pod_name.or_else(|| told("POD_NAME")).or_else(|| told("HOSTNAME"));
        if !self.operator_identity_namespaces.is_empty() {
            self.own_identity = own_identity(told);
        }
        self
    }
}

/// Who the operator itself is to the cloud.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OwnIdentity {
    /// Nobody.
    #[default]
    None,
    /// The owner of an AccessKey.
    Key {
        /// Its id.
        id: String,
        /// Its secret.
        secret: Hidden,
        /// The token of a temporary one.
        security_token: Option<Hidden>,
    },
    /// Whoever a token in a file speaks for.
    TokenFile {
        /// The file. It is read for each question, since it is written anew before the token ends.
        path: PathBuf,
        /// The identity provider.
        provider_arn: String,
        /// The role that is played.
        role_arn: String,
        /// Under this name; absent: the usual one.
        session_name: Option<String>,
    },
    /// The role of the machine.
    Machine {
        /// Its name; absent: the machine is asked.
        role: Option<String>,
    },
}

/// A text that is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(pub String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hidden")
    }
}

/// The order is that of the cloud's own tools; files of profiles are not among it. `told` knows no empty variable.
fn own_identity(told: impl Fn(&'static str) -> Option<String>) -> OwnIdentity {
    if let (Some(id), Some(secret)) = (told("ALIBABA_CLOUD_ACCESS_KEY_ID"), told("ALIBABA_CLOUD_ACCESS_KEY_SECRET")) {
        let security_token = told("ALIBABA_CLOUD_SECURITY_TOKEN").map(Hidden);
        return OwnIdentity::Key { id, secret: Hidden(secret), security_token };
    }
    let role = told("ALIBABA_CLOUD_ROLE_ARN");
    if let (Some(role_arn), Some(provider_arn), Some(path)) =
        (role, told("ALIBABA_CLOUD_OIDC_PROVIDER_ARN"), told("ALIBABA_CLOUD_OIDC_TOKEN_FILE"))
    {
        let session_name = told("ALIBABA_CLOUD_ROLE_SESSION_NAME");
        return OwnIdentity::TokenFile { path: path.into(), provider_arn, role_arn, session_name };
    }
    let disabled = told("ALIBABA_CLOUD_ECS_METADATA_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true"));
    if disabled { OwnIdentity::None } else { OwnIdentity::Machine { role: told("ALIBABA_CLOUD_ECS_METADATA") } }
}

/// A duration as Go writes it.
fn duration(text: &str) -> Result<Duration, String> {
    let wanted = "write a duration such as 500ms, 15s, 1m30s or 2m; more than 0s, at most 24h";
    let parsed: SignedDuration = text.parse().map_err(|_| wanted.to_owned())?;
    if parsed > LONGEST || !parsed.is_positive() {
        return Err(wanted.to_owned());
    }
    Duration::try_from(parsed).map_err(|_| wanted.to_owned())
}

/// A host name, perhaps with a port. What no endpoint may ever name would be a flag without effect.
fn host(text: &str) -> Result<String, String> {
    let (name, port) = text.split_once(':').unwrap_or((text, "443"));
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-');
    let bare = name.trim_end_matches('.');
    let last = bare.rsplit('.').next().unwrap_or_default();
    let is_name = last.bytes().any(|byte| byte.is_ascii_alphabetic()) && !bare.eq_ignore_ascii_case("localhost");
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    if !is_plain || !is_name || !is_port {
        return Err("write the host name alone, such as gateway.example.com or gateway.example.com:8443; \
                    an address or localhost cannot be allowed"
            .to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use clap::CommandFactory;

    use super::*;

    fn parse(flags: &[&str]) -> Result<Config, String> {
        let all = ["dijob-operator"].iter().chain(flags);
        Config::try_parse_from(all).and_then(Config::checked).map_err(|error| error.to_string())
    }

    #[test]
    fn without_flags_the_defaults_are_those_of_the_design() {
        let seconds = Duration::from_secs;
        let defaults = Config {
            kubeconfig: None,
            context: None,
            leader_elect: true,
            lease_name: "dijob-operator".to_owned(),
            lease_namespace: None,
            pod_name: None,
            lease_duration: seconds(15),
            renew_deadline: seconds(10),
            retry_period: seconds(2),
            allow_insecure_endpoints: false,
            allowed_hosts: Vec::new(),
            sts_endpoint: None,
            operator_identity_namespaces: Vec::new(),
            metadata_endpoint: None,
            own_identity: OwnIdentity::None,
            connect_timeout: seconds(5),
            call_timeout: seconds(15),
            settle_time: seconds(30),
            confirm_timeout: seconds(120),
            missing_grace: seconds(120),
            max_concurrent_passes: 64,
            listen: ([0, 0, 0, 0], 8080).into(),
            log_format: LogFormat::Json,
            log: "info".to_owned(),
        };
        assert_eq!(parse(&[]), Ok(defaults));
    }

    #[test]
    fn every_flag_has_its_twin_a_heading_and_help() {
        let command = Config::command();
        let ours: Vec<_> = command.get_arguments().filter(|arg| arg.get_help_heading().is_some()).collect();
        assert_eq!(ours.len(), 23, "a flag without a heading, or one that this test does not count");
        for arg in ours {
            let long = arg.get_long().unwrap();
            let twin = format!("DIJOB_{}", long.replace('-', "_").to_uppercase());
            assert_eq!(arg.get_env().and_then(|name| name.to_str()), Some(twin.as_str()), "--{long}");
            assert!(arg.get_help().is_some_and(|help| help.to_string().len() > 30), "--{long} explains itself");
        }
    }

    #[test]
    fn help_fits_a_terminal_of_100_columns_and_is_consistent() {
        Config::command().debug_assert();
        let help = parse(&["--help"]).unwrap_err();
        for line in help.lines() {
            assert!(line.len() <= 100, "{line}");
        }
        for part in ["Leader election:", "[default: 15s]", "[env: DIJOB_LEASE_DURATION]", "Durations are written"] {
            assert!(help.contains(part), "{part} is missing in\n{help}");
        }
    }

    #[test]
    fn a_switch_is_set_bare_or_with_a_value() {
        assert!(parse(&["--leader-elect"]).unwrap().leader_elect);
        assert!(!parse(&["--leader-elect=false"]).unwrap().leader_elect);
        assert!(parse(&["--allow-insecure-endpoints"]).unwrap().allow_insecure_endpoints);
        assert!(!parse(&["--allow-insecure-endpoints=false"]).unwrap().allow_insecure_endpoints);
        assert!(parse(&["--leader-elect=perhaps"]).is_err());
    }

    #[test]
    fn an_allowed_host_is_a_host_and_nothing_else() {
        let hosts = parse(&["--allowed-host", "gateway.example", "--allowed-host=a.test:8443,b.test"]).unwrap();
        assert_eq!(hosts.allowed_hosts, ["gateway.example", "a.test:8443", "b.test"]);
        for wrong in [
            "https://gateway.example",
            "gateway.example/",
            "*.example",
            "user@host",
            "",
            " ",
            "10.0.0.1",
            "[::1]",
            "LocalHost.",
            "gateway.example:0",
            "gateway.example:+443",
            "gateway.example:99999",
        ] {
            let refused = parse(&["--allowed-host", wrong]).unwrap_err();
            assert!(refused.contains("host name alone"), "{wrong}: {refused}");
        }
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let milliseconds = Duration::from_millis;
        let rows =
            [("500ms", 500), ("15s", 15_000), ("2m", 120_000), ("1m30s", 90_000), ("1.5s", 1500), ("1h", 3_600_000)];
        for (text, expected) in rows {
            assert_eq!(duration(text), Ok(milliseconds(expected)), "{text}");
        }
        for text in ["", "15", "0s", "-5s", "5s ago", "soon", "15 parsecs", "25h", "999999999999999999h"] {
            let error = duration(text).unwrap_err();
            assert!(error.contains("500ms, 15s, 1m30s or 2m"), "{text}: {error}");
        }
    }

    #[test]
    fn a_broken_rule_is_one_line_that_names_its_flags() {
        let rows: [(&[&str], &[&str]); 7] = [
            (&["--lease-duration=15500ms"], &["--lease-duration", "whole seconds"]),
            (&["--lease-duration=10s"], &["--lease-duration", "--renew-deadline"]),
            (&["--retry-period=10s"], &["--renew-deadline", "--retry-period"]),
            (&["--connect-timeout=8s"], &["--renew-deadline", "--connect-timeout"]),
            (&["--call-timeout=5s"], &["--call-timeout", "--connect-timeout"]),
            (&["--settle-time=15s"], &["--settle-time", "--call-timeout"]),
            (&["--confirm-timeout=30s"], &["--confirm-timeout", "--settle-time"]),
        ];
        for (flags, names) in rows {
            let error = parse(flags).unwrap_err();
            assert_eq!(error.trim_end().lines().count(), 1, "{error}");
            assert!(names.iter().all(|name| error.contains(name)), "{flags:?}: {error}");
        }
    }

    #[test]
    fn limits_are_allowed_at_their_edge() {
        assert!(parse(&["--connect-timeout=7s"]).is_ok(), "7s + 1s + 2s is the renew deadline itself");
        assert!(parse(&["--max-concurrent-passes=1024"]).is_ok());
        assert!(parse(&["--max-concurrent-passes=0"]).is_err());
        assert!(parse(&["--max-concurrent-passes=1025"]).is_err());
    }

    #[test]
    fn a_metadata_endpoint_of_tests_needs_the_flag_for_them() {
        let flag = "--metadata-endpoint=http://127.0.0.1:1";
        let refused = parse(&[flag]).unwrap_err();
        assert!(refused.contains("--metadata-endpoint") && refused.contains("--allow-insecure-endpoints"), "{refused}");
        assert!(parse(&[flag, "--allow-insecure-endpoints"]).is_ok());
    }

    #[test]
    fn the_own_identity_is_the_first_that_is_whole_and_is_read_only_if_a_namespace_may_take_it() {
        let all = [
            ("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAI"),
            ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "canary-secret"),
            ("ALIBABA_CLOUD_SECURITY_TOKEN", "canary-token"),
            ("ALIBABA_CLOUD_ROLE_ARN", "role"),
            ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "provider"),
            ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", "/token"),
            ("ALIBABA_CLOUD_ROLE_SESSION_NAME", "session"),
            ("ALIBABA_CLOUD_ECS_METADATA", "machine"),
        ];
        let without = |flags: &[&str], names: &[&str]| {
            let variable = |name: &str| {
                let set = all.iter().find(|(known, _)| *known == name && !names.contains(known));
                set.map(|(_, value)| (*value).to_owned())
            };
            parse(flags).unwrap().placed(variable, Path::new("/nonexistent/namespace")).own_identity
        };
        let on = ["--operator-identity-namespaces=a,b"];
        assert_eq!(parse(&on).unwrap().operator_identity_namespaces, ["a", "b"]);
        let text = |text: &str| text.to_owned();
        let key = OwnIdentity::Key {
            id: text("LTAI"),
            secret: Hidden(text("canary-secret")),
            security_token: Some(Hidden(text("canary-token"))),
        };
        assert_eq!(without(&[], &[]), OwnIdentity::None);
        assert_eq!(without(&on, &[]), key);
        assert!(!format!("{key:?}").contains("canary"));
        let token = OwnIdentity::TokenFile {
            path: "/token".into(),
            provider_arn: text("provider"),
            role_arn: text("role"),
            session_name: Some(text("session")),
        };
        assert_eq!(without(&on, &["ALIBABA_CLOUD_ACCESS_KEY_SECRET"]), token);
        let machine = OwnIdentity::Machine { role: Some(text("machine")) };
        assert_eq!(without(&on, &["ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ROLE_ARN"]), machine);
        for (word, identity) in [("TRUE", OwnIdentity::None), ("false", OwnIdentity::Machine { role: None })] {
            let disabled = |name: &str| (name == "ALIBABA_CLOUD_ECS_METADATA_DISABLED").then(|| word.to_owned());
            let config = parse(&on).unwrap().placed(disabled, Path::new("/nonexistent/namespace"));
            assert_eq!(config.own_identity, identity, "{word}");
        }
    }

    #[test]
    fn an_empty_name_is_refused() {
        for flag in ["--lease-name=", "--lease-namespace=", "--pod-name=", "--context=", "--log=", "--kubeconfig="] {
            assert!(parse(&[flag]).is_err(), "{flag}");
        }
    }

    #[test]
    fn the_pod_tells_its_name_and_namespace_unless_flags_do() {
        let nowhere = Path::new("/nonexistent/namespace");
        let pod = |name: &str| match name {
            "POD_NAMESPACE" => Some("pod-namespace".to_owned()),
            "POD_NAME" => Some("pod-0".to_owned()),
            "HOSTNAME" => Some("host".to_owned()),
            _ => None,
        };
        let host = |name: &str| (name == "HOSTNAME").then(|| "host".to_owned());
        let place = |config: Config| (config.lease_namespace, config.pod_name);
        let some = |text: &str| Some(text.to_owned());

        let flags = parse(&["--lease-namespace=flag", "--pod-name=flag-0"]).unwrap();
        assert_eq!(place(flags.placed(pod, nowhere)), (some("flag"), some("flag-0")));
        let plain = parse(&[]).unwrap();
        assert_eq!(place(plain.clone().placed(pod, nowhere)), (some("pod-namespace"), some("pod-0")));
        assert_eq!(place(plain.clone().placed(host, nowhere)), (None, some("host")));
        assert_eq!(place(plain.placed(|_| Some(String::new()), nowhere)), (None, None));
    }

    #[test]
    fn the_namespace_of_the_service_account_is_read_without_its_line_end() {
        let file = std::env::temp_dir().join(format!("dijob-namespace-{}", std::process::id()));
        std::fs::write(&file, "from-account\n").unwrap();
        let config = parse(&[]).unwrap().placed(|_| None, &file);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(config.lease_namespace.as_deref(), Some("from-account"));
    }
}
