//! Requests and answers of the DI job operations, in both versions of the API, with their wire names.
//!
//! **May touch:** its arguments.
//!
//! **Guarantees**
//! 1. The same request gives the same form, byte for byte.
//! 2. An answer with missing, unknown or oddly typed fields is still read: ids and numbers may be text, and a field that
//!    cannot be read is absent.
//! 3. Text of the cloud is bounded and made safe to print.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use super::error::{safe_text, safe_word};
use super::sign::Parameters;

/// A version of the API. Its text is the value of `Version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// 2020-05-18: `POST` with a form; a look tells `StartedTime`.
    V2020,
    /// 2024-05-18: `GET` with all in the query; a look tells no more of a start than the job's status.
    V2024,
}

impl Version {
    /// Its text on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2020 => "2020-05-18",
            Self::V2024 => "2024-05-18",
        }
    }

    /// The parameter that names the job. `DIJobId` is deprecated in 2024-05-18.
    const fn job_id(self) -> &'static str {
        match self {
            Self::V2020 => "DIJobId",
            Self::V2024 => "Id",
        }
    }

    /// What holds the job in the answer of a look.
    const fn holder(self) -> &'static str {
        match self {
            Self::V2020 => "Data",
            Self::V2024 => "PagingInfo",
        }
    }
}

/// A call of `StartDIJob` (API pages of `StartDIJob`, both versions).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartDiJobRequest {
    /// `DIJobId`, the job to start.
    pub di_job_id: i64,
    /// `ForceToRerun`: run all steps anew. Sent only if true; without it only steps that never ran are run.
    pub force_to_rerun: bool,
    /// `RealtimeStartSettings`. Absent and empty are the same: not sent.
    pub realtime_start_settings: Option<RealtimeStartSettings>,
}

/// `RealtimeStartSettings`, which travels as JSON text. Fields are in alphabetical order, as the SDKs write them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RealtimeStartSettings {
    /// `FailoverSettings`. Absent and empty are the same: not sent.
    #[serde(skip_serializing_if = "is_nothing")]
    pub failover_settings: Option<FailoverSettings>,
    /// `StartTime`, the offset to start from, in Unix seconds. Absent: the offset is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<i64>,
}

/// `FailoverSettings` of a start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct FailoverSettings {
    /// `Interval`, in minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<i64>,
    /// `UpperLimit`, a count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upper_limit: Option<i64>,
}

#[expect(clippy::ref_option, reason = "serde passes the field as it is")]
fn is_nothing(settings: &Option<FailoverSettings>) -> bool {
    settings.as_ref().is_none_or(|settings| *settings == FailoverSettings::default())
}

impl StartDiJobRequest {
    /// The business parameters of this request.
    #[must_use]
    pub fn parameters(&self, version: Version) -> Parameters {
        let mut parameters = look_parameters(version, self.di_job_id);
        if self.force_to_rerun {
            parameters.insert("ForceToRerun".into(), "true".into());
        }
        if let Some(settings) = self.realtime_start_settings.as_ref().filter(|settings| !settings.is_empty()) {
            parameters.insert("RealtimeStartSettings".into(), settings.json());
        }
        parameters
    }
}

/// The business parameters of `GetDIJob`.
#[must_use]
pub fn look_parameters(version: Version, di_job_id: i64) -> Parameters {
    Parameters::from([(version.job_id().into(), di_job_id.to_string())])
}

impl RealtimeStartSettings {
    fn is_empty(&self) -> bool {
        self.start_time.is_none() && is_nothing(&self.failover_settings)
    }

    fn json(&self) -> String {
        serde_json::to_string(self).expect("numbers under fixed names are always JSON")
    }
}

/// The answer of `StartDIJob`: the request was taken. It does not say that the job runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartDiJobAnswer {
    /// `RequestId`, at most 128 bytes.
    pub request_id: Option<String>,
}

/// The answer of `GetDIJob`, as far as it is used. In 2024-05-18 it has neither error message nor start time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiJob {
    /// The job's id, as answered; the id that was asked for if the answer names none.
    pub di_job_id: i64,
    /// `JobName`.
    pub name: Option<String>,
    /// `JobStatus`, the cloud's word verbatim, at most 128 bytes. [`JobState::of`] reads it.
    pub status: Option<String>,
    /// `ErrorMessage` of a failed job, at most 1 KiB.
    pub error_message: Option<String>,
    /// `StartedTime` of the last start, in Unix seconds. Missing, zero, negative and absurd ones are absent.
    pub started_time: Option<i64>,
    /// `ProjectId`, the workspace.
    pub project_id: Option<i64>,
    /// `RequestId` of this look, at most 128 bytes.
    pub request_id: Option<String>,
}

/// What a `JobStatus` word means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobState {
    /// Never run.
    Initialized,
    /// At work.
    Running,
    /// On its way to rest.
    Stopping,
    /// At rest, stopped.
    Stopped,
    /// At rest, failed.
    Failed,
    /// At rest, done.
    Finished,
    /// A word that is not documented. It is no failure.
    Unknown,
}

impl JobState {
    /// The state that a word names; the cloud spells stopped both `Stopped` and `Stop` (API pages of `GetDIJob`).
    #[must_use]
    pub fn of(word: &str) -> Self {
        match word {
            "Initialized" => Self::Initialized,
            "Running" => Self::Running,
            "Stopping" => Self::Stopping,
            "Stopped" | "Stop" => Self::Stopped,
            "Failed" => Self::Failed,
            "Finished" => Self::Finished,
            _ => Self::Unknown,
        }
    }
}

/// The latest `StartedTime` that is believed, the end of 2099. A greater one is no time in seconds, and taken as a
/// baseline it would hide every later start.
const LAST_STARTED_TIME: i64 = 4_102_444_799;

/// A body that is a JSON object. One of STS holds a key, so nothing of it is printed.
pub(super) struct Answer(Map<String, Value>);

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

impl Answer {
    /// Absent if the body is anything but a JSON object, or nested deeper than 128 levels.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok().map(Self)
    }

    /// The error code, verbatim.
    pub(super) fn code(&self) -> Option<String> {
        text(&self.0, "Code").or_else(|| text(&self.0, "code"))
    }

    /// The error message, verbatim.
    pub(super) fn message(&self) -> Option<String> {
        text(&self.0, "Message").or_else(|| text(&self.0, "message"))
    }

    /// Made safe.
    pub(super) fn request_id(&self) -> Option<String> {
        text(&self.0, "RequestId").or_else(|| text(&self.0, "requestId")).and_then(|id| safe_word(&id))
    }

    /// Whether the answer itself says that the call failed. Most answers say nothing.
    pub(super) fn says_failure(&self) -> bool {
        ["Success", "success"].into_iter().filter_map(|name| self.0.get(name)).any(|success| match success {
            Value::Bool(success) => !success,
            Value::String(success) => success.eq_ignore_ascii_case("false"),
            Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => false,
        })
    }

    /// The texts of these names in the object of this name; absent if one is missing.
    pub(super) fn texts_in<const N: usize>(&self, object: &str, names: [&str; N]) -> Option<[String; N]> {
        let object = self.0.get(object)?.as_object()?;
        let texts: Vec<String> = names.into_iter().map_while(|name| text(object, name)).collect();
        texts.try_into().ok()
    }

    /// The text of this name.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        text(&self.0, name)
    }

    /// The answer of a start.
    pub(super) fn started(&self) -> StartDiJobAnswer {
        StartDiJobAnswer { request_id: self.request_id() }
    }

    /// The job that was asked for; absent if the answer holds none.
    pub(super) fn di_job(&self, version: Version, asked: i64) -> Option<DiJob> {
        let job = self.0.get(version.holder())?.as_object().filter(|job| !job.is_empty())?;
        Some(DiJob {
            di_job_id: number(job, version.job_id()).or_else(|| number(job, "DIJobId")).unwrap_or(asked),
            name: text(job, "JobName").map(|name| safe_text(&name)),
            status: text(job, "JobStatus").and_then(|status| safe_word(&status)),
            error_message: text(job, "ErrorMessage").map(|message| safe_text(&message)),
            started_time: number(job, "StartedTime").filter(|time| (1..=LAST_STARTED_TIME).contains(time)),
            project_id: number(job, "ProjectId"),
            request_id: self.request_id(),
        })
    }
}

/// A text that is not empty. A number counts as one: types differ between operations and versions.
fn text(object: &Map<String, Value>, name: &str) -> Option<String> {
    let text = match object.get(name)? {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    (!text.is_empty()).then_some(text)
}

fn number(object: &Map<String, Value>, name: &str) -> Option<i64> {
    text(object, name)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn form(request: &StartDiJobRequest) -> Vec<(String, String)> {
        request.parameters(Version::V2020).into_iter().collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    fn settings(start_time: Option<i64>, interval: Option<i64>, upper_limit: Option<i64>) -> RealtimeStartSettings {
        RealtimeStartSettings { start_time, failover_settings: Some(FailoverSettings { interval, upper_limit }) }
    }

    #[test]
    fn a_full_start_sends_compact_settings_in_alphabetical_order() {
        let request = StartDiJobRequest {
            di_job_id: 11_743,
            force_to_rerun: true,
            realtime_start_settings: Some(settings(Some(1_671_516_776), Some(10), Some(30))),
        };
        let json = r#"{"FailoverSettings":{"Interval":10,"UpperLimit":30},"StartTime":1671516776}"#;
        assert_eq!(
            form(&request),
            pairs(&[("DIJobId", "11743"), ("ForceToRerun", "true"), ("RealtimeStartSettings", json)])
        );
    }

    #[test]
    fn the_newer_version_names_the_job_otherwise() {
        let request = StartDiJobRequest { di_job_id: 7, ..StartDiJobRequest::default() };
        let parameters: Vec<_> = request.parameters(Version::V2024).into_iter().collect();
        assert_eq!(parameters, pairs(&[("Id", "7")]));
    }

    #[test]
    fn a_job_of_the_newer_version_is_read() {
        let of = |job: Value| {
            let answer = json!({"RequestId": "R-1", "PagingInfo": job}).to_string();
            Answer::parse(answer.as_bytes()).unwrap().di_job(Version::V2024, 7)
        };
        let job =
            json!({"Id": 11743, "DIJobId": "11743", "JobName": "orders", "JobStatus": "Stop", "ProjectId": 10000});
        let expected = DiJob {
            di_job_id: 11_743,
            name: Some("orders".into()),
            status: Some("Stop".into()),
            project_id: Some(10_000),
            request_id: Some("R-1".into()),
            ..DiJob::default()
        };
        assert_eq!(of(job), Some(expected));
        assert_eq!(of(json!({"DIJobId": "8", "JobStatus": "Running"})).unwrap().di_job_id, 8, "the deprecated name");
        assert_eq!(of(json!({})), None);
        let other = json!({"Data": {"JobStatus": "Running"}}).to_string();
        assert_eq!(Answer::parse(other.as_bytes()).unwrap().di_job(Version::V2024, 7), None, "the older version's");
    }

    #[test]
    fn absent_settings_are_not_sent() {
        let start =
            |settings| StartDiJobRequest { di_job_id: 7, force_to_rerun: false, realtime_start_settings: settings };
        for empty in [None, Some(RealtimeStartSettings::default()), Some(settings(None, None, None))] {
            assert_eq!(form(&start(empty)), pairs(&[("DIJobId", "7")]));
        }
        for (some, json) in [
            (settings(Some(5), None, None), r#"{"StartTime":5}"#),
            (settings(None, None, Some(3)), r#"{"FailoverSettings":{"UpperLimit":3}}"#),
            (settings(None, Some(2), None), r#"{"FailoverSettings":{"Interval":2}}"#),
        ] {
            assert_eq!(form(&start(Some(some))), pairs(&[("DIJobId", "7"), ("RealtimeStartSettings", json)]));
        }
    }

    #[test]
    fn every_documented_word_is_a_state_and_any_other_is_unknown() {
        let states = [
            ("Initialized", JobState::Initialized),
            ("Running", JobState::Running),
            ("Stopping", JobState::Stopping),
            ("Stopped", JobState::Stopped),
            ("Stop", JobState::Stopped),
            ("Failed", JobState::Failed),
            ("Finished", JobState::Finished),
            ("Starting", JobState::Unknown),
            ("running", JobState::Unknown),
            ("", JobState::Unknown),
        ];
        for (word, state) in states {
            assert_eq!(JobState::of(word), state, "{word}");
        }
    }

    fn job(body: &Value) -> Option<DiJob> {
        Answer::parse(body.to_string().as_bytes()).unwrap().di_job(Version::V2020, 7)
    }

    #[test]
    fn a_job_is_read_whatever_the_types_of_its_numbers() {
        let expected = DiJob {
            di_job_id: 11_743,
            name: Some("orders".into()),
            status: Some("Failed".into()),
            error_message: Some("no such table".into()),
            started_time: Some(1_673_859_999),
            project_id: Some(10_000),
            request_id: Some("R-1".into()),
        };
        let numbers = json!({"RequestId": "R-1", "Unknown": [{}], "Data": {
            "DIJobId": 11743, "JobName": "orders", "JobStatus": "Failed", "ErrorMessage": "no\nsuch table",
            "StartedTime": 1_673_859_999, "ProjectId": 10000, "RunStats": {"a": "b"}}});
        let texts = json!({"requestId": "R-1", "Success": "true", "Data": {
            "DIJobId": "11743", "JobName": "orders", "JobStatus": "Failed", "ErrorMessage": "no such table",
            "StartedTime": " 1673859999 ", "ProjectId": "10000"}});
        assert_eq!(job(&numbers).as_ref(), Some(&expected));
        assert_eq!(job(&texts).as_ref(), Some(&expected));
    }

    #[test]
    fn fields_that_cannot_be_read_are_absent() {
        let odd =
            json!({"Data": {"DIJobId": {}, "JobName": 5, "JobStatus": "", "ErrorMessage": null, "ProjectId": 1.5}});
        assert_eq!(job(&odd), Some(DiJob { di_job_id: 7, name: Some("5".into()), ..DiJob::default() }));
        for none in
            [json!({}), json!({"Data": null}), json!({"Data": {}}), json!({"Data": []}), json!({"data": {"a": 1}})]
        {
            assert_eq!(job(&none), None, "{none}");
        }
    }

    #[test]
    fn a_started_time_that_is_no_time_is_absent() {
        for (wire, read) in [
            (json!(0), None),
            (json!(-1), None),
            (json!(1), Some(1)),
            (json!(4_102_444_799_i64), Some(4_102_444_799)),
            (json!(4_102_444_800_i64), None),
            (json!(1_673_859_999_000_i64), None),
            (json!(u64::MAX), None),
            (json!("soon"), None),
            (json!(1e300), None),
        ] {
            assert_eq!(job(&json!({"Data": {"StartedTime": wire}})).unwrap().started_time, read, "{wire}");
        }
    }

    #[test]
    fn only_an_object_is_an_answer() {
        let deep = "[".repeat(100_000);
        for body in ["", "null", "[]", "5", "\"x\"", "<html>", "{", "{}x", "{\"a\":1,}", deep.as_str()] {
            assert!(Answer::parse(body.as_bytes()).is_none(), "{body:.20}");
        }
        assert!(Answer::parse(b"{}").is_some());
    }

    #[test]
    fn only_a_plain_false_is_a_failure() {
        for (body, failure) in [
            (r#"{"Success": false}"#, true),
            (r#"{"success": false}"#, true),
            (r#"{"Success": "False"}"#, true),
            (r#"{"Success": true}"#, false),
            (r#"{"Success": null}"#, false),
            (r#"{"Success": 0}"#, false),
            ("{}", false),
        ] {
            assert_eq!(Answer::parse(body.as_bytes()).unwrap().says_failure(), failure, "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(answer) = Answer::parse(&body) {
                let _ = (answer.code(), answer.message(), answer.says_failure(), answer.di_job(Version::V2024, 1));
            }
        }

        #[test]
        fn any_value_in_any_field_is_read_and_bounded(
            field in prop::sample::select(
                vec!["DIJobId", "JobName", "JobStatus", "ErrorMessage", "StartedTime", "ProjectId"]),
            text in ".{0,2000}", number in any::<f64>(), kind in 0..4,
        ) {
            let value = match kind { 0 => json!(text), 1 => json!(number), 2 => json!([text]), _ => json!({"a": text}) };
            let job = job(&json!({"Data": {field: value}})).unwrap();
            prop_assert!(job.status.is_none_or(|status| status.len() <= 128));
            prop_assert!(job.name.into_iter().chain(job.error_message).all(|text| text.len() <= 1024));
            prop_assert!(job.started_time.is_none_or(|time| time > 0));
        }
    }
}
