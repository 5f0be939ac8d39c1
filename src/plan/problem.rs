//! What stands in the way, and how it shows: the one table of reason, message, event and label.

use std::time::Duration;

use super::backoff::{SLOW, delay};
use crate::api::LastError;
use crate::api::condition::Reason;
use crate::dataworks::error::{Error, ErrorKind, Operation, classify};

/// What stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// No DataWorksAccount of this name.
    AccountNotFound(String),
    /// Its endpoint is refused; says why.
    AccountInvalid(String),
    /// It means another job now.
    AccountChanged,
    /// Its project is not one that the account allows; says what is known of it.
    ProjectNotAllowed(String),
    /// The Secret or a key in it is missing or malformed; says what.
    CredentialsMissing(String),
    /// The cloud, or the way to it.
    Cloud(CloudProblem),
}

/// A failed call, as status keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudProblem {
    /// Its kind.
    pub kind: ErrorKind,
    /// Name of the operation.
    pub operation: String,
    /// The cloud's code.
    pub code: Option<String>,
    /// The cloud's message.
    pub message: Option<String>,
    /// The cloud's RequestId.
    pub request_id: Option<String>,
}

/// How a problem shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Face {
    /// The one word.
    pub reason: Reason,
    /// What happened and what to do.
    pub message: String,
    /// A person should be told: the event is a Warning.
    pub warning: bool,
}

impl Problem {
    /// The problem that a stored error is.
    #[must_use]
    pub fn of_record(error: &LastError) -> Self {
        let status = error.http_status.and_then(|s| u16::try_from(s).ok());
        let kind = status.map_or(ErrorKind::Server, |s| classify(error.code.as_deref(), error.message.as_deref(), s));
        Self::Cloud(CloudProblem {
            kind,
            operation: error.operation.clone(),
            code: error.code.clone(),
            message: error.message.clone(),
            request_id: error.request_id.clone(),
        })
    }

    /// The problem that a failed call is.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        Self::Cloud(CloudProblem {
            kind: error.kind,
            operation: error.operation.action().to_owned(),
            code: error.code.clone(),
            message: error.message.clone(),
            request_id: error.request_id.clone(),
        })
    }

    /// It does not pass by itself: it is Stalled, and its retry is the slow one.
    #[must_use]
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::AccountNotFound(_)
            | Self::AccountInvalid(_)
            | Self::AccountChanged
            | Self::ProjectNotAllowed(_)
            | Self::CredentialsMissing(_) => true,
            Self::Cloud(cloud) => match cloud.kind {
                ErrorKind::Denied
                | ErrorKind::Expired
                | ErrorKind::ClockSkew
                | ErrorKind::NotFound
                | ErrorKind::Invalid
                | ErrorKind::CallerUnknown => true,
                ErrorKind::Throttled | ErrorKind::DailyLimit | ErrorKind::NonceUsed | ErrorKind::Server => false,
            },
        }
    }

    /// How it shows.
    #[must_use]
    pub fn face(&self) -> Face {
        let (reason, message, warning) = match self {
            Self::AccountNotFound(name) => (
                Reason::AccountNotFound,
                format!("DataWorksAccount \"{name}\" does not exist in this namespace: create it, or correct spec.accountRef"),
                true,
            ),
            Self::AccountInvalid(why) => (Reason::AccountInvalid, format!("the DataWorksAccount cannot be used: {why}"), true),
            Self::AccountChanged => (
                Reason::AccountChanged,
                "the DataWorksAccount now means another region, so another job; nothing is started for it: set a new rerun token to start it there, or point accountRef back".to_owned(),
                true,
            ),
            Self::ProjectNotAllowed(why) => (Reason::ProjectNotAllowed, why.clone(), true),
            Self::CredentialsMissing(why) => (Reason::CredentialsMissing, why.clone(), true),
            Self::Cloud(cloud) => cloud.face(),
        };
        Face { reason, message, warning }
    }
}

impl CloudProblem {
    fn face(&self) -> (Reason, String, bool) {
        let of_a_key = [Operation::AssumeRole, Operation::AssumeRoleWithOidc, Operation::MachineKey];
        if of_a_key.iter().any(|of| self.operation == of.action()) {
            return self.face_of_a_key();
        }
        let of_a_look = self.operation == Operation::GetDiJob.action();
        let (reason, hint, warning) = match self.kind {
            ErrorKind::Invalid if of_a_look => {
                (Reason::ReadRefused, "correct spec.diJobId, or mend the job in DataWorks", true)
            }
            ErrorKind::NonceUsed if of_a_look => (Reason::CloudUnavailable, "it is read again with backoff", false),
            ErrorKind::Throttled => (Reason::Throttled, "it is sent again in its turn", false),
            ErrorKind::DailyLimit => (Reason::DailyLimitReached, "calls go on after midnight, UTC+8", true),
            ErrorKind::Denied => (Reason::AccessDenied, self.denied_hint(), true),
            ErrorKind::Expired => (
                Reason::CredentialsExpired,
                "put an AccessKey that has not expired into the Secret; a key of a role is renewed by itself",
                true,
            ),
            ErrorKind::ClockSkew => {
                (Reason::ClockSkew, "correct the clock of the node that the operator runs on", true)
            }
            ErrorKind::NotFound => (Reason::JobNotFound, "correct spec.diJobId, or the account's region", true),
            ErrorKind::Invalid => (Reason::StartRejected, "correct the spec, or mend the job in DataWorks", true),
            ErrorKind::CallerUnknown => {
                (Reason::CallerUnknown, "the credentials carry no user id: use the key of a RAM user", true)
            }
            ErrorKind::NonceUsed => {
                (Reason::ResolvingStart, "an earlier copy of the request arrived; its effect is looked for", false)
            }
            ErrorKind::Server => (Reason::CloudUnavailable, "it is tried again with backoff", false),
        };
        (reason, format!("{}; {hint}", self.fact()), warning)
    }

    /// Of a temporary key that was not lent.
    fn face_of_a_key(&self) -> (Reason, String, bool) {
        let (reason, hint, warning) = match self.kind {
            ErrorKind::Denied => (Reason::AccessDenied, self.sts_hint(), true),
            ErrorKind::Invalid | ErrorKind::NotFound => {
                (Reason::AccessDenied, "correct what the account's credentials say of the role", true)
            }
            ErrorKind::Expired => {
                (Reason::CredentialsExpired, "put an AccessKey that has not expired into the Secret", true)
            }
            ErrorKind::ClockSkew => {
                (Reason::ClockSkew, "correct the clock of the node that the operator runs on", true)
            }
            ErrorKind::CallerUnknown => {
                (Reason::CallerUnknown, "the credentials carry no user id: use the key of a RAM user", true)
            }
            ErrorKind::Throttled | ErrorKind::DailyLimit | ErrorKind::NonceUsed | ErrorKind::Server => {
                (Reason::CloudUnavailable, "it is asked again with backoff", false)
            }
        };
        (reason, format!("{}; {hint}", self.fact()), warning)
    }

    fn sts_hint(&self) -> &'static str {
        match self.code.as_deref().unwrap_or_default() {
            code if code.starts_with("EntityNotExist") => {
                "there is no such role: correct roleArn in the account's credentials, or create the role"
            }
            code if code.contains("AudienceNotMatch") => {
                "let the OIDC provider in RAM list the audience (client ID) sts.aliyuncs.com"
            }
            code if code.starts_with("AuthenticationFail") => {
                "let the role's trust policy name the OIDC provider and the ServiceAccount, with the audience sts.aliyuncs.com, and check oidcProviderArn"
            }
            code if code.starts_with("InvalidAccessKeyId") || code.contains("Signature") => self.denied_hint(),
            _ => {
                "let the key's RAM user call sts:AssumeRole, and the role's trust policy name its cloud account (and externalId, if it asks for one)"
            }
        }
    }

    /// Operation, code, message and RequestId.
    fn fact(&self) -> String {
        let mut fact = format!("{} failed", self.operation);
        for (before, part) in [(": ", &self.code), (": ", &self.message)] {
            if let Some(part) = part {
                fact.push_str(before);
                fact.extend(part.chars().take(240));
            }
        }
        if let Some(id) = &self.request_id {
            fact.push_str(" (RequestId ");
            fact.push_str(id);
            fact.push(')');
        }
        fact
    }

    fn denied_hint(&self) -> &'static str {
        match self.code.as_deref().unwrap_or_default() {
            "Forbidden.Access" => {
                "the edition that was bought does not allow this call, or the key may not make it: below Enterprise set dataworksVersion \"2024-05-18\" in the account, else check the edition, or use another key in the Secret"
            }
            code if code.starts_with("InvalidAccessKeyId") => {
                "the cloud does not know this AccessKey ID: correct the Secret"
            }
            code if code.contains("Signature") => "the AccessKey secret does not fit its ID: correct the Secret",
            _ => {
                "let the key's RAM user call dataworks:StartDIJob and GetDIJob and make it a member of the workspace, or use another key in the Secret"
            }
        }
    }
}

/// How long to wait after `attempts` failures in a row, the last of them `error`; `None`: one new attempt at once,
/// mended by a fresh clock or key.
#[must_use]
pub fn retry_after(error: &Error, before: Option<&LastError>, attempts: i32, jitter: f64) -> Option<Duration> {
    let problem = Problem::of(error);
    let was_the_same = before.is_some_and(|b| Problem::of_record(b).face().reason == problem.face().reason);
    match error.kind {
        ErrorKind::Expired | ErrorKind::ClockSkew => was_the_same.then_some(SLOW),
        ErrorKind::Denied | ErrorKind::NotFound | ErrorKind::Invalid | ErrorKind::CallerUnknown => Some(SLOW),
        ErrorKind::Server | ErrorKind::NonceUsed => Some(delay(attempts, jitter)),
        ErrorKind::Throttled | ErrorKind::DailyLimit => None, // the governor waits
    }
}

/// Whether a refused read means that reading is refused, so that a start goes on without it, rather than that it fails
/// for a passing reason or that a start would fail as well.
#[must_use]
pub fn read_is_refused(error: &Error) -> bool {
    debug_assert_eq!(error.operation, Operation::GetDiJob);
    match error.kind {
        ErrorKind::Denied | ErrorKind::Invalid => true,
        // A gateway that knows StartDIJob alone may answer with a page of its own.
        ErrorKind::Server => error.http_status.is_some_and(|s| (400..500).contains(&s)),
        ErrorKind::Throttled
        | ErrorKind::DailyLimit
        | ErrorKind::Expired
        | ErrorKind::ClockSkew
        | ErrorKind::NotFound
        | ErrorKind::NonceUsed
        | ErrorKind::CallerUnknown => false,
    }
}
