//! What goes back to the client: bodies and headers as the gateway writes them, and bodies as no gateway should.
//!
//! **May touch:** its arguments.
//!
//! **Guarantees**
//! 1. An error is a JSON object with `RequestId`, `HostId`, `Code`, `Message` and `Recommend` (API page 3.1).
//! 2. No secret is in any answer; the string to sign that `SignatureDoesNotMatch` echoes holds none but a security token,
//!    as the real one does.

use jiff::fmt::rfc2822::DateTimePrinter;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// An error answer: its code decides, message and status follow from the code where they are absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Refusal {
    /// `Code` of the body; may be a number in text, as `500130`.
    pub code: String,
    /// `Message`; absent: the usual text of this code.
    #[serde(default)]
    pub message: Option<String>,
    /// HTTP status; absent: the usual one of this code, else 400. With 200 the body says `Success: false` too.
    #[serde(default)]
    pub status: Option<u16>,
}

impl Refusal {
    /// The usual answer with this code.
    #[must_use]
    pub fn of(code: &str) -> Self {
        Self { code: code.to_owned(), message: None, status: None }
    }

    /// The same with another message.
    #[must_use]
    pub fn with_message(self, message: &str) -> Self {
        Self { message: Some(message.to_owned()), ..self }
    }

    /// The same with another HTTP status.
    #[must_use]
    pub fn with_status(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }

    /// The HTTP status it is answered with.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        self.status.unwrap_or_else(|| usual(&self.code).0)
    }

    /// Whether it tells a client to slow down (API page 3.5).
    #[must_use]
    pub fn is_throttling(&self) -> bool {
        self.code.starts_with("Throttling") || self.code == "9990020002" || self.http_status() == 429
    }
}

/// Usual status and message of a code: API page 3.2 and 3.3. The messages of numeric codes are ours.
fn usual(code: &str) -> (u16, &'static str) {
    match code {
        "Forbidden.Access" => {
            (403, "Access is forbidden. Please first activate DataWorks Enterprise Edition or Flagship Edition.")
        }
        "Forbidden.RAM" => {
            (403, "User not authorized to operate on the specified resource, or this API doesn't support RAM.")
        }
        "Throttling.Api" => (429, "The request for this resource has exceeded your available limit."),
        "Throttling.System" => (429, "The DataWorks system is busy. Try again later."),
        "Throttling.User" => (429, "Your request is too frequent. Try again later."),
        "9990020002" => (400, "Throttling.User"),
        "InternalError.System" | "InternalError.UserId.Missing" => {
            (500, "An internal system error occurred. Try again later.")
        }
        "500130" => (404, "The data integration job does not exist."),
        "InvalidAction.NotFound" | "InvalidApi.NotFound" => {
            (404, "Specified api is not found, please check your url and method.")
        }
        "NoSuchVersion" => (400, "Specified version is not found."),
        "InvalidAccessKeyId.NotFound" => (404, "Specified access key is not found."),
        "InvalidTimeStamp.Expired" => (400, "Specified time stamp or date value is expired."),
        "InvalidTimeStamp.Format" => (400, "Specified time stamp or date value is not well formatted."),
        "SignatureNonceUsed" => (400, "Specified signature nonce was used already."),
        "SignatureDoesNotMatch" => (400, "Specified signature is not matched with our calculation."),
        "IncompleteSignature" => (400, "The request signature does not conform to Aliyun standards."),
        "UnsupportedHTTPMethod" => (400, "This http method is not supported."),
        "ServiceUnavailable" => (503, "The request has failed due to a temporary failure of the server."),
        _ => (400, "The request was refused."),
    }
}

/// Headers about waiting. Times are milliseconds; absent: what the window really asks, or one second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Hint {
    /// No header.
    #[default]
    None,
    /// `x-acs-retry-after`.
    RetryAfter(Option<i64>),
    /// `x-ratelimit-user`, the older form.
    RateLimit(Option<i64>),
    /// Any header with any value, garbage too.
    Header {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
}

impl Hint {
    fn header(&self, wait: SignedDuration) -> Option<(String, String)> {
        // Rounded up: a client that waits as told must not be refused for a fraction of a millisecond.
        let asked = i64::try_from((wait.as_nanos() + 999_999).div_euclid(1_000_000)).unwrap_or(i64::MAX);
        match self {
            Self::None => None,
            Self::RetryAfter(millis) => Some(("x-acs-retry-after".to_owned(), millis.unwrap_or(asked).to_string())),
            Self::RateLimit(millis) => {
                let left = millis.unwrap_or(asked);
                Some(("x-ratelimit-user".to_owned(), format!("Limit:0,Remain:0,TimeLeft:{left},Reset:0")))
            }
            Self::Header { name, value } => Some((name.clone(), value.clone())),
        }
    }
}

/// A body that no client should trust.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Oddity {
    /// Status 200, JSON that does not parse.
    Malformed,
    /// The right status and a whole HTTP message with half the JSON.
    Truncated,
    /// The right head, half the body, then the connection is closed.
    Cut,
    /// The right JSON with so many bytes of padding in a field more.
    Huge {
        /// Bytes of padding.
        bytes: usize,
    },
    /// A page of HTML, as proxies write it.
    Html {
        /// HTTP status.
        status: u16,
    },
    /// Status 200 and no body.
    Empty,
    /// Anything.
    Raw {
        /// HTTP status.
        status: u16,
        /// `Content-Type`.
        content_type: String,
        /// The body.
        body: String,
    },
}

/// One HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers but `Content-Length`.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Close the connection after so many bytes of the body.
    pub cut: Option<usize>,
}

impl Reply {
    /// The value of a header, by its lower-case name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// What every answer to one request has in common.
#[derive(Clone, Copy, Debug)]
pub struct Letterhead<'a> {
    /// Never the same twice.
    pub request_id: &'a str,
    /// The host that the client asked.
    pub host: &'a str,
    /// Time by the server's own clock.
    pub date: Timestamp,
}

impl Letterhead<'_> {
    /// A success: `fields` and the request id.
    #[must_use]
    pub fn success(&self, fields: Value) -> Reply {
        let mut body = fields;
        if let Some(fields) = body.as_object_mut() {
            fields.insert("RequestId".to_owned(), json!(self.request_id));
        }
        self.json(200, &body)
    }

    /// An error, with the hint's header if there is one.
    #[must_use]
    pub fn error(&self, refusal: &Refusal, hint: &Hint, wait: SignedDuration) -> Reply {
        let (status, message) = (refusal.http_status(), refusal.message.as_deref().unwrap_or(usual(&refusal.code).1));
        let recommend = format!(
            "https://api.aliyun.com/troubleshoot?q={}&product=dataworks-public&requestId={}",
            refusal.code, self.request_id
        );
        let mut body = json!({
            "RequestId": self.request_id,
            "HostId": self.host,
            "Code": refusal.code,
            "Message": message,
            "Recommend": recommend,
        });
        if let (200, Some(fields)) = (status, body.as_object_mut()) {
            fields.insert("Success".to_owned(), json!(false));
        }
        let mut reply = self.json(status, &body);
        reply.headers.extend(hint.header(wait));
        reply
    }

    /// A page of HTML instead of an answer.
    #[must_use]
    pub fn html(&self, status: u16) -> Reply {
        let page =
            format!("<html><head><title>{status}</title></head><body><h1>{status}</h1><hr>gateway</body></html>\n");
        self.reply(status, "text/html; charset=utf-8", page.into_bytes())
    }

    /// `right` made odd.
    #[must_use]
    pub fn odd(&self, oddity: &Oddity, right: Reply) -> Reply {
        let half = right.body.len() / 2;
        match oddity {
            Oddity::Malformed => self.reply(200, JSON, b"{\"RequestId\" \"no colon\",}".to_vec()),
            Oddity::Truncated => Reply { body: right.body.get(..half).unwrap_or_default().to_vec(), ..right },
            Oddity::Cut => Reply { cut: Some(half), ..right },
            Oddity::Huge { bytes } => {
                let mut body = b"{\"Padding\":\"".to_vec();
                body.resize(body.len() + bytes, b'x');
                body.extend_from_slice(b"\",");
                body.extend_from_slice(right.body.get(1..).unwrap_or_default());
                Reply { body, ..right }
            }
            Oddity::Html { status } => self.html(*status),
            Oddity::Empty => self.reply(200, JSON, Vec::new()),
            Oddity::Raw { status, content_type, body } => self.reply(*status, content_type, body.clone().into_bytes()),
        }
    }

    fn json(&self, status: u16, body: &Value) -> Reply {
        self.reply(status, JSON, body.to_string().into_bytes())
    }

    fn reply(&self, status: u16, content_type: &str, body: Vec<u8>) -> Reply {
        let mut headers = vec![
            ("content-type".to_owned(), content_type.to_owned()),
            ("x-acs-request-id".to_owned(), self.request_id.to_owned()),
        ];
        // A date that the format cannot hold is left out, and the shell's own takes its place.
        headers.extend(
            DateTimePrinter::new().timestamp_to_rfc9110_string(&self.date).ok().map(|date| ("date".to_owned(), date)),
        );
        Reply { status, headers, body, cut: None }
    }
}

const JSON: &str = "application/json;charset=utf-8";

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;

    const HEAD: Letterhead<'static> =
        Letterhead { request_id: "R-1", host: "dataworks.cn-shanghai.aliyuncs.com", date: Timestamp::UNIX_EPOCH };

    fn body(reply: &Reply) -> Value {
        serde_json::from_slice(&reply.body).unwrap()
    }

    #[test]
    fn an_error_has_the_five_fields_and_the_server_s_date() {
        let reply = HEAD.error(&Refusal::of("Throttling.Api"), &Hint::RetryAfter(Some(1500)), SignedDuration::ZERO);
        assert_eq!(reply.status, 429);
        assert_eq!(reply.header("date"), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
        assert_eq!(reply.header("x-acs-retry-after"), Some("1500"));
        let body = body(&reply);
        let names: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["Code", "HostId", "Message", "Recommend", "RequestId"]);
    }

    #[test]
    fn an_error_at_200_says_success_false() {
        let reply = HEAD.error(&Refusal::of("9990020002").with_status(200), &Hint::None, SignedDuration::ZERO);
        assert_eq!((reply.status, body(&reply)["Success"].clone()), (200, json!(false)));
    }

    #[test]
    fn a_hint_without_a_number_tells_the_wait_of_the_window_rounded_up() {
        let wait = SignedDuration::from_micros(200_500);
        assert_eq!(Hint::RetryAfter(None).header(wait).unwrap().1, "201");
        assert!(Hint::RateLimit(None).header(wait).unwrap().1.contains("TimeLeft:201,"));
    }

    #[test]
    fn odd_bodies_are_odd_in_their_own_way() {
        let right = HEAD.success(json!({}));
        assert!(serde_json::from_slice::<Value>(&HEAD.odd(&Oddity::Malformed, right.clone()).body).is_err());
        assert!(serde_json::from_slice::<Value>(&HEAD.odd(&Oddity::Truncated, right.clone()).body).is_err());
        let huge = HEAD.odd(&Oddity::Huge { bytes: 2_000_000 }, right.clone());
        assert!(huge.body.len() > 2_000_000);
        assert_eq!(body(&huge)["RequestId"], "R-1");
        assert_eq!(HEAD.odd(&Oddity::Html { status: 502 }, right).status, 502);
    }
}
