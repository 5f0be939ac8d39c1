//! What can go wrong with a call, and what it means: the one table from codes to kinds.
//!
//! **May touch:** its arguments.
//!
//! **Guarantees**
//! 1. [`classify`] and [`Error::ran`] are total.
//! 2. [`Ran::DidNot`] is said only on evidence: the signed request never left, or a well-formed refusal of the cloud came
//!    back. A code without a `RequestId` may be anybody's page, and is no evidence.
//! 3. No text of an [`Error`] holds a URL query, a key, a signature or a control character, and each is bounded.

use std::fmt;
use std::time::Duration;

use super::model::Answer;

/// An operation of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `StartDIJob`: a write, which must not be repeated blindly.
    StartDiJob,
    /// `GetDIJob`: a read.
    GetDiJob,
    /// `AssumeRole` of STS: a temporary key for a role.
    AssumeRole,
    /// `AssumeRoleWithOIDC` of STS: the same, for a token of an identity provider.
    AssumeRoleWithOidc,
    /// `GetCallerIdentity` of STS: whose a key is.
    GetCallerIdentity,
    /// What a machine's metadata service is asked for the key of its role; the name is ours.
    MachineKey,
}

impl Operation {
    /// The name on the wire, the value of `Action`.
    #[must_use]
    pub const fn action(self) -> &'static str {
        match self {
            Self::StartDiJob => "StartDIJob",
            Self::GetDiJob => "GetDIJob",
            Self::AssumeRole => "AssumeRole",
            Self::AssumeRoleWithOidc => "AssumeRoleWithOIDC",
            Self::GetCallerIdentity => "GetCallerIdentity",
            Self::MachineKey => "MachineKey",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.action())
    }
}

/// What kind of failure it was; it decides what is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Too many calls at this moment.
    Throttled,
    /// The calls of this day are used up.
    DailyLimit,
    /// The key, its signature or its rights were refused.
    Denied,
    /// The temporary key has expired.
    Expired,
    /// The request's time is too far from the cloud's.
    ClockSkew,
    /// The job does not exist.
    NotFound,
    /// The cloud has seen this nonce: an earlier copy of the request arrived.
    NonceUsed,
    /// The request was refused for another reason.
    Invalid,
    /// The cloud, something in between, or the network failed.
    Server,
    /// The credentials carry no user id.
    CallerUnknown,
}

/// Whether the operation ran although the call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ran {
    /// Surely not.
    DidNot,
    /// It may have.
    May,
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What was called.
    pub operation: Operation,
    /// What kind of failure it was.
    pub kind: ErrorKind,
    /// The cloud's code, at most 128 bytes.
    pub code: Option<String>,
    /// The cloud's or the network's message, at most 1 KiB. Never that of a signature error, which can echo the token.
    pub message: Option<String>,
    /// The cloud's `RequestId`, at most 128 bytes.
    pub request_id: Option<String>,
    /// Status of the answer; absent if none came.
    pub http_status: Option<u16>,
    /// How long the cloud asks us to wait, at most 10 minutes.
    pub wait: Option<Duration>,
    /// Whether it is certain that the signed request never left this process.
    pub never_left: bool,
}

impl Error {
    /// No usable answer came. `message` is made safe here.
    #[must_use]
    pub fn unanswered(operation: Operation, never_left: bool, message: &str) -> Self {
        Self {
            operation,
            kind: ErrorKind::Server,
            code: None,
            message: Some(safe_text(message)),
            request_id: None,
            http_status: None,
            wait: None,
            never_left,
        }
    }

    /// The answer is a failure by its status, or says so itself.
    pub(super) fn refused(operation: Operation, http_status: u16, answer: &Answer, wait: Option<Duration>) -> Self {
        let (code, message, request_id) = (answer.code(), answer.message(), answer.request_id());
        let is_of_the_cloud = http_status == 200 || (code.is_some() && request_id.is_some());
        let kind = if is_of_the_cloud {
            classify(code.as_deref(), message.as_deref(), http_status)
        } else {
            classify(None, None, http_status)
        };
        let echoes = code.as_ref().is_some_and(|code| code.contains("Signature"));
        Self {
            operation,
            kind,
            code: code.and_then(|code| safe_word(&code)),
            message: message.filter(|_| !echoes).map(|message| safe_text(&message)),
            request_id,
            http_status: Some(http_status),
            wait,
            never_left: false,
        }
    }

    /// The answer cannot be what the operation answers. `problem` says why.
    pub(super) fn unreadable(operation: Operation, http_status: u16, problem: &str, wait: Option<Duration>) -> Self {
        let kind = if http_status == 200 { ErrorKind::Server } else { classify(None, None, http_status) };
        Self { kind, http_status: Some(http_status), wait, ..Self::unanswered(operation, false, problem) }
    }

    /// Whether the operation may have run all the same.
    #[must_use]
    pub fn ran(&self) -> Ran {
        if self.never_left {
            return Ran::DidNot;
        }
        match self.kind {
            ErrorKind::Throttled
            | ErrorKind::DailyLimit
            | ErrorKind::Denied
            | ErrorKind::Expired
            | ErrorKind::ClockSkew
            | ErrorKind::NotFound
            | ErrorKind::Invalid => Ran::DidNot,
            ErrorKind::NonceUsed | ErrorKind::Server | ErrorKind::CallerUnknown => Ran::May,
        }
    }

    /// Whether a whole HTTP answer came, from the cloud or from something in between.
    #[must_use]
    pub fn answered(&self) -> bool {
        self.http_status.is_some()
    }

    /// Whether it is certain that the signed request never left this process.
    #[must_use]
    pub fn never_left(&self) -> bool {
        self.never_left
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed", self.operation)?;
        for part in [&self.code, &self.message].into_iter().flatten() {
            write!(f, ": {part}")?;
        }
        match (&self.request_id, self.http_status) {
            (Some(id), Some(status)) => write!(f, " (RequestId {id}, HTTP {status})"),
            (None, Some(status)) => write!(f, " (HTTP {status})"),
            (Some(_) | None, None) => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// The kind of a failure: by code, then message, then status. First match wins.
///
/// `code` and `message` are those of a well-formed error of the cloud, absent if the answer is none. Status 200 stands for
/// an answer that says `Success: false`. The codes are those of the API's error pages; where a page and a status disagree,
/// the code holds.
#[must_use]
pub fn classify(code: Option<&str>, message: Option<&str>, http_status: u16) -> ErrorKind {
    let by_code = code.and_then(by_code);
    let message = message.unwrap_or_default();
    match by_code {
        None | Some(ErrorKind::Throttled) if says_daily_limit(message) => ErrorKind::DailyLimit,
        // Before any 5xx rule: the status of this code is not documented, and it is also seen inside the message.
        None | Some(ErrorKind::Server) if has_number(message, JOB_NOT_FOUND) => ErrorKind::NotFound,
        Some(kind) => kind,
        None if message.contains("Throttling.") => ErrorKind::Throttled,
        None => match http_status {
            429 => ErrorKind::Throttled,
            200 => ErrorKind::Invalid,
            400..=499 if code.is_some() => ErrorKind::Invalid,
            _ => ErrorKind::Server,
        },
    }
}

/// "The DI job or alarm rule does not exist."
const JOB_NOT_FOUND: &str = "500130";

fn by_code(code: &str) -> Option<ErrorKind> {
    const FAMILIES: [(&str, ErrorKind); 13] = [
        ("Throttling", ErrorKind::Throttled),
        ("Rejected.Throttling", ErrorKind::Throttled),
        ("Forbidden", ErrorKind::Denied),
        ("NoPermission", ErrorKind::Denied),
        // Of STS: a role, a provider or a token of one that is not there or not trusted.
        ("EntityNotExist", ErrorKind::Denied),
        ("AuthenticationFail", ErrorKind::Denied),
        ("InvalidAccessKeyId", ErrorKind::Denied),
        ("InvalidSecurityToken.Expired", ErrorKind::Expired),
        ("InvalidSecurityToken", ErrorKind::Denied),
        ("InvalidTimeStamp", ErrorKind::ClockSkew),
        ("InternalError.UserId.Missing", ErrorKind::CallerUnknown),
        ("InternalError", ErrorKind::Server),
        ("ServiceUnavailable", ErrorKind::Server),
    ];
    match code {
        "9990020002" => Some(ErrorKind::Throttled),
        JOB_NOT_FOUND => Some(ErrorKind::NotFound),
        "403030" | "SignatureDoesNotMatch" | "IncompleteSignature" | "MissingSecurityToken" | "MissingAccessKeyId" => {
            Some(ErrorKind::Denied)
        }
        "IllegalTimestamp" => Some(ErrorKind::ClockSkew),
        "SignatureNonceUsed" => Some(ErrorKind::NonceUsed),
        "UnknownError" => Some(ErrorKind::Server),
        _ => FAMILIES.iter().find(|(family, _)| code.starts_with(family)).map(|(_, kind)| *kind),
    }
}

/// The code of this answer is not documented, and neither is its wording: a guess at the plain English.
fn says_daily_limit(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["daily", "per day"].iter().any(|day| message.contains(day))
        && ["limit", "quota"].iter().any(|limit| message.contains(limit))
}

/// Whether `number` stands in `text` as a word of its own. Inside a longer number it may be part of a job's id.
fn has_number(text: &str, number: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == number)
}

/// No wait is longer than this, whatever a hint says.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// The longest wait that the headers ask for. `retry_after` is `x-acs-retry-after`, milliseconds; `limits` are the values
/// of `x-ratelimit-user-api` and `x-ratelimit-user`, lists such as `Limit:5,Remain:0,TimeLeft:800`, milliseconds too.
/// Zero, negative and unreadable values are none.
pub(super) fn wait_hint<'a>(retry_after: Option<&'a str>, limits: impl Iterator<Item = &'a str>) -> Option<Duration> {
    let limits = limits.flat_map(|limit| limit.split(',')).filter_map(|field| {
        let (name, value) = field.split_once(':')?;
        name.trim().eq_ignore_ascii_case("TimeLeft").then_some(value)
    });
    retry_after
        .into_iter()
        .chain(limits)
        .filter_map(|milliseconds| milliseconds.trim().parse().ok())
        .filter(|milliseconds| *milliseconds > 0)
        .max()
        .map(|milliseconds| Duration::from_millis(milliseconds).min(LONGEST_WAIT))
}

/// Text for people: white space folded, no control and no bidirectional or invisible characters, query strings and signed
/// parameters cut, at most 1 KiB.
#[must_use]
pub fn safe_text(text: &str) -> String {
    // Hidden characters go first, so that none of them can split a word that must be cut.
    let plain: String =
        text.chars().filter(|c| !is_hidden(*c)).map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
    let words: Vec<&str> = plain.split(' ').filter(|word| !word.is_empty()).map(without_query).collect();
    cut(&words.join(" "), 1024)
}

/// An id or a code as text for people: as [`safe_text`], at most 128 bytes; absent if nothing is left.
pub(super) fn safe_word(text: &str) -> Option<String> {
    Some(cut(&safe_text(text), 128)).filter(|word| !word.is_empty())
}

/// Whether `c` shows nothing itself, or changes how its neighbours show. White space is not among them.
fn is_hidden(c: char) -> bool {
    (c.is_control() && !c.is_whitespace())
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// `word` without the query of its URL; nothing but a mark if it is a list of parameters or a signed one.
fn without_query(word: &str) -> &str {
    const SIGNED: [&str; 3] = ["AccessKey", "SecurityToken", "Signature"];
    let assigns = |text: &str| ["=", "%3D", "%3d"].iter().any(|sign| text.contains(sign));
    let is_query = |(before, query): &(&str, &str)| before.contains("://") || assigns(query);
    let word = word.split_once('?').filter(is_query).map_or(word, |(before, _)| before);
    let is_signed = word.contains('&') || SIGNED.iter().any(|name| word.contains(name));
    if word.is_empty() || (is_signed && assigns(word)) { "…" } else { word }
}

/// The longest beginning of `text` that fits, marked if something is missing.
fn cut(text: &str, limit: usize) -> String {
    const MARK: char = '…';
    if text.len() <= limit {
        return text.to_owned();
    }
    let room = limit.saturating_sub(MARK.len_utf8());
    let fits = |(start, c): &(usize, char)| start + c.len_utf8() <= room;
    text.char_indices().take_while(fits).map(|(_, c)| c).chain([MARK]).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_documented_code_has_its_kind() {
        use ErrorKind::{
            CallerUnknown, ClockSkew, DailyLimit, Denied, Expired, Invalid, NonceUsed, NotFound, Server, Throttled,
        };
        let rows = [
            ("Throttling", "", 400, Throttled),
            ("Throttling.User", "", 429, Throttled),
            ("Throttling.Api", "", 429, Throttled),
            ("Throttling.System", "", 503, Throttled),
            ("Throttling.Resource", "", 400, Throttled),
            ("Rejected.Throttling", "", 400, Throttled),
            ("9990020002", "Throttling.User", 500, Throttled),
            ("9990020002", "", 400, Throttled),
            ("1", "Throttling.User", 500, Throttled),
            ("Unheard", "", 429, Throttled),
            ("Throttling.User", "The daily limit of API calls is exceeded", 429, DailyLimit),
            ("Unheard", "Exceeded the daily quota", 400, DailyLimit),
            ("Unheard", "More than 100 calls per day: the limit", 400, DailyLimit),
            ("Unheard", "The quota of rows is exceeded", 400, Invalid),
            ("Unheard", "The daily job is missing", 400, Invalid),
            ("ServiceUnavailable", "", 503, Server),
            ("ServiceUnavailableTemporary", "", 503, Server),
            ("InternalError", "", 500, Server),
            ("InternalError.System", "", 500, Server),
            ("InternalError.System", "the daily limit", 500, Server),
            ("UnknownError", "", 500, Server),
            ("UnknownError", "", 400, Server),
            ("Unheard", "", 502, Server),
            ("InternalError.UserId.Missing", "", 500, CallerUnknown),
            ("SignatureNonceUsed", "", 400, NonceUsed),
            ("InvalidTimeStamp.Expired", "", 400, ClockSkew),
            ("InvalidTimeStamp.Format", "", 400, ClockSkew),
            ("IllegalTimestamp", "", 400, ClockSkew),
            ("InvalidAccessKeyId.NotFound", "", 404, Denied),
            ("InvalidAccessKeyId.Inactive", "", 400, Denied),
            ("SignatureDoesNotMatch", "", 400, Denied),
            ("IncompleteSignature", "", 403, Denied),
            ("InvalidSecurityToken.Expired", "", 403, Expired),
            ("InvalidSecurityToken.Malformed", "", 400, Denied),
            ("InvalidSecurityToken.MismatchWithAccessKey", "", 403, Denied),
            ("MissingSecurityToken", "", 400, Denied),
            ("Forbidden.RAM", "", 403, Denied),
            ("Forbidden.Access", "", 403, Denied),
            ("Forbidden", "", 403, Denied),
            ("Forbidden.RiskControl", "", 403, Denied),
            ("NoPermission", "", 403, Denied),
            ("403030", "", 403, Denied),
            ("EntityNotExist.Role", "", 404, Denied),
            ("AuthenticationFail.NoPermission", "", 401, Denied),
            ("AuthenticationFail.OIDCToken.Expired", "", 401, Denied),
            ("InvalidParameter.RoleArn", "", 400, Invalid),
            ("MissingScene", "", 400, Invalid),
            ("InvalidParameter", "", 400, Invalid),
            ("Param.Invalid", "", 400, Invalid),
            ("InvalidApi.NotFound", "", 404, Invalid),
            ("InvalidAction.NotFound", "", 404, Invalid),
            ("InvalidProtocol.NeedSsl", "", 404, Invalid),
            ("NoSuchVersion", "", 400, Invalid),
            ("UnsupportedHTTPMethod", "", 403, Invalid),
            ("400010", "", 403, Invalid),
            ("9990010001", "", 400, Invalid),
            ("5801488441564725286", "", 404, Invalid),
            ("Unheard", "", 200, Invalid),
            ("500130", "", 500, NotFound),
            ("500130", "", 200, NotFound),
            ("InternalError.System", "code: 500130, no such job", 500, NotFound),
            ("Unheard", "500130", 400, NotFound),
            ("InternalError.System", "job 15001301 is busy, 5001300 too", 500, Server),
        ];
        for (code, message, status, kind) in rows {
            assert_eq!(classify(Some(code), Some(message), status), kind, "{code}, {message}, {status}");
        }
        let statuses = [
            (429, Throttled),
            (200, Invalid),
            (204, Server),
            (302, Server),
            (400, Server),
            (403, Server),
            (500, Server),
        ];
        for (status, kind) in statuses {
            assert_eq!(classify(None, None, status), kind, "{status}");
        }
    }

    fn refused(status: u16, body: &str) -> Error {
        Error::refused(Operation::StartDiJob, status, &Answer::parse(body.as_bytes()).unwrap(), None)
    }

    #[test]
    fn a_text_that_is_too_long_keeps_its_beginning() {
        assert_eq!(safe_text(&"a".repeat(1024)), "a".repeat(1024));
        assert_eq!(safe_text(&"a".repeat(1025)), "a".repeat(1021) + "…");
        assert_eq!(safe_text(&"数".repeat(400)), "数".repeat(340) + "…", "whole characters: 1,023 bytes");
    }

    #[test]
    fn a_refusal_keeps_what_the_cloud_said() {
        let body = r#"{"RequestId":"R-1","HostId":"h","Code":"Forbidden.Access","Message":"No\u202e edition","Recommend":"u"}"#;
        let expected = Error {
            operation: Operation::StartDiJob,
            kind: ErrorKind::Denied,
            code: Some("Forbidden.Access".into()),
            message: Some("No edition".into()),
            request_id: Some("R-1".into()),
            http_status: Some(403),
            wait: None,
            never_left: false,
        };
        assert_eq!(refused(403, body), expected);
        let lower = r#"{"requestId":"R-1","code":"Forbidden.Access","message":"No edition"}"#;
        assert_eq!(refused(403, lower), expected);
        assert_eq!(expected.to_string(), "StartDIJob failed: Forbidden.Access: No edition (RequestId R-1, HTTP 403)");
    }

    #[test]
    fn a_refusal_without_code_or_request_id_is_no_evidence() {
        for body in [
            "{}",
            r#"{"Code":"Forbidden"}"#,
            r#"{"RequestId":"R-1"}"#,
            r#"{"RequestId":"R-1","Message":"500130"}"#,
            r#"{"Code":"500130","Message":"x"}"#,
        ] {
            let error = refused(403, body);
            assert_eq!((error.kind, error.ran()), (ErrorKind::Server, Ran::May), "{body}");
        }
        assert_eq!(refused(429, "{}").kind, ErrorKind::Throttled);
        assert_eq!(refused(200, r#"{"Success":false}"#).kind, ErrorKind::Invalid);
    }

    #[test]
    fn a_number_is_a_code_too() {
        assert_eq!(refused(500, r#"{"RequestId":"R-1","Code":500130}"#).kind, ErrorKind::NotFound);
    }

    #[test]
    fn the_message_of_a_signature_error_is_never_kept() {
        for code in ["SignatureDoesNotMatch", "IncompleteSignature"] {
            for request_id in ["", r#""RequestId":"R-1","#] {
                let body = format!(r#"{{{request_id}"Code":"{code}","Message":"server string to sign is: canary"}}"#);
                let error = refused(400, &body);
                assert_eq!((error.code.as_deref(), &error.message), (Some(code), &None));
                assert!(!format!("{error} {error:?}").contains("canary"));
            }
        }
    }

    #[test]
    fn what_surely_did_not_run_is_told_from_what_may_have() {
        let of = |kind| Error { kind, ..Error::unanswered(Operation::StartDiJob, false, "") };
        for kind in [
            ErrorKind::Throttled,
            ErrorKind::DailyLimit,
            ErrorKind::Denied,
            ErrorKind::Expired,
            ErrorKind::ClockSkew,
            ErrorKind::NotFound,
            ErrorKind::Invalid,
        ] {
            assert_eq!(of(kind).ran(), Ran::DidNot, "{kind:?}");
        }
        for kind in [ErrorKind::NonceUsed, ErrorKind::Server, ErrorKind::CallerUnknown] {
            assert_eq!(of(kind).ran(), Ran::May, "{kind:?}");
        }
        let never_left = Error::unanswered(Operation::StartDiJob, true, "refused");
        assert_eq!((never_left.ran(), never_left.never_left(), never_left.answered()), (Ran::DidNot, true, false));
        assert_eq!(never_left.to_string(), "StartDIJob failed: refused");
    }

    #[test]
    fn a_hint_is_milliseconds_and_the_largest_counts() {
        let ms = Duration::from_millis;
        let rows: [(Option<&str>, &[&str], Option<Duration>); 13] = [
            (Some("1500"), &[], Some(ms(1500))),
            (Some(" 20 "), &[], Some(ms(20))),
            (Some("0"), &[], None),
            (Some("-5"), &[], None),
            (Some(""), &[], None),
            (Some("1.5"), &[], None),
            (Some("soon"), &["TimeLeft:"], None),
            (Some("1000000000000"), &[], Some(ms(600_000))),
            (Some("99999999999999999999999"), &[], None),
            (None, &["Limit:5,Remain:0,TimeLeft:800,Reset:99999"], Some(ms(800))),
            (None, &["TimeLeft:800", "Limit:1, timeleft:900"], Some(ms(900))),
            (Some("100"), &["TimeLeft:50"], Some(ms(100))),
            (None, &[], None),
        ];
        for (retry_after, limits, wait) in rows {
            assert_eq!(wait_hint(retry_after, limits.iter().copied()), wait, "{retry_after:?} {limits:?}");
        }
    }

    #[test]
    fn text_for_people_is_plain() {
        for (text, safe) in [
            ("a\nb\t c\u{0}\u{1b}[31m", "a b c[31m"),
            ("\u{202e}evil\u{2066} \u{200b}x\u{feff}", "evil x"),
            ("get https://h/?Action=A&Signature=canary now", "get https://h/ now"),
            ("at /?a%3Dcanary", "at /"),
            ("why? because", "why? because"),
            ("?a=canary", "…"),
            ("see https://h/x?canary", "see https://h/x"),
            ("POST&%2F&AccessKeyId%3Dcanary", "…"),
            ("a=1&b=canary", "…"),
            ("Security\u{200b}Token=canary is bad", "… is bad"),
            ("Signature=canary?x=y", "…"),
            ("x=1 stays, R&D too", "x=1 stays, R&D too"),
            ("节点不存在", "节点不存在"),
            ("", ""),
        ] {
            assert_eq!(safe_text(text), safe);
        }
    }

    proptest! {
        #[test]
        fn no_hint_panics_or_waits_longer_than_ten_minutes(
            retry_after in prop::option::of(prop_oneof![any::<String>(), any::<i128>().prop_map(|n| n.to_string())]),
            limits in prop::collection::vec(prop_oneof![
                any::<String>(), any::<u64>().prop_map(|n| format!("Limit:1,TimeLeft:{n}"))], 0..3),
        ) {
            let wait = wait_hint(retry_after.as_deref(), limits.iter().map(String::as_str));
            prop_assert!(wait.is_none_or(|wait| wait > Duration::ZERO && wait <= Duration::from_secs(600)));
        }

        #[test]
        fn safe_text_is_bounded_visible_and_final(text in prop_oneof![any::<String>(), "[ -~\u{80}-\u{9f}é中😀]{0,3000}"]) {
            let safe = safe_text(&text);
            prop_assert!(safe.len() <= 1024);
            prop_assert!(!safe.chars().any(|c| c.is_control() || is_hidden(c)));
            prop_assert_eq!(safe_text(&safe), safe);
        }

        #[test]
        fn any_code_message_and_status_has_a_kind(
            code in prop::option::of(any::<String>()), message in prop::option::of(any::<String>()), status in any::<u16>(),
        ) {
            let kind = classify(code.as_deref(), message.as_deref(), status);
            prop_assert_eq!(kind, classify(code.as_deref(), message.as_deref(), status));
        }
    }
}
