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

use super::codes::usual;
use super::gzip::packed_run;

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

    /// The same as version 2024-05-18 says it: by number (API page 3.3). A status or message that is set stays.
    #[must_use]
    pub fn in_numbers(self) -> Self {
        if self.code.starts_with("Throttling") {
            return Self { code: "9990020002".to_owned(), ..self };
        }
        if self.code == "Forbidden.RAM" {
            return Self { code: "403030".to_owned(), ..self };
        }
        self
    }

    /// Whether its code is a number.
    #[must_use]
    pub fn is_number(&self) -> bool {
        self.code.bytes().all(|byte| byte.is_ascii_digit())
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
    /// `x-ratelimit-user-api`, its twin.
    RateLimitApi(Option<i64>),
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
            Self::RateLimit(millis) => Some(("x-ratelimit-user".to_owned(), older(millis.unwrap_or(asked)))),
            Self::RateLimitApi(millis) => Some(("x-ratelimit-user-api".to_owned(), older(millis.unwrap_or(asked)))),
            Self::Header { name, value } => Some((name.clone(), value.clone())),
        }
    }
}

fn older(left: i64) -> String {
    format!("Limit:0,Remain:0,TimeLeft:{left},Reset:0")
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
    /// The right head, so many bytes of the body, then the connection is closed.
    CutAfter {
        /// Bytes of the body that are sent.
        bytes: usize,
    },
    /// All of the right answer, but its body trickles.
    Slow {
        /// Bytes of the body a second; at least 1.
        bytes_per_second: u32,
    },
    /// The right JSON with so many bytes of padding in a field more.
    Huge {
        /// Bytes of padding.
        bytes: usize,
    },
    /// The same under `Content-Encoding: gzip`: small on the wire.
    Gzip {
        /// Bytes of padding once unpacked.
        bytes: usize,
    },
    /// The right body under another name.
    ContentType {
        /// What the head says it is.
        content_type: String,
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
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers but `Content-Length`.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Close the connection after so many bytes of the body.
    pub cut: Option<usize>,
    /// Send no more bytes of the body a second than so many. Absent: all at once.
    pub bytes_per_second: Option<u32>,
}

impl Reply {
    /// What a client can have of the body so long after its head, and whether that is the end, good or bad.
    #[must_use]
    pub fn body_after(&self, elapsed: SignedDuration) -> (&[u8], bool) {
        let end = self.cut.unwrap_or(self.body.len()).min(self.body.len());
        let sent = self.bytes_per_second.map_or(end, |pace| {
            let bytes = elapsed.as_nanos().max(0) * i128::from(pace.max(1)) / 1_000_000_000;
            usize::try_from(bytes).unwrap_or(usize::MAX).min(end)
        });
        (self.body.get(..sent).unwrap_or_default(), sent == end)
    }

    /// The value of a header, by its lower-case name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

impl std::fmt::Debug for Reply {
    /// Without the body, which may hold what a client sent, or a key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { status, headers, body, cut, bytes_per_second } = self;
        f.debug_struct("Reply")
            .field("status", status)
            .field("headers", headers)
            .field("body", &format_args!("{} bytes", body.len()))
            .field("cut", cut)
            .field("bytes_per_second", bytes_per_second)
            .finish()
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

    /// Plain text, as the metadata service answers.
    #[must_use]
    pub fn text(&self, text: String) -> Reply {
        self.reply(200, "text/plain", text.into_bytes())
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
            Oddity::CutAfter { bytes } => Reply { cut: Some(*bytes), ..right },
            Oddity::Slow { bytes_per_second } => Reply { bytes_per_second: Some(*bytes_per_second), ..right },
            Oddity::Huge { bytes } => {
                let mut body = PADDING.to_vec();
                body.resize(body.len() + bytes, b'x');
                body.extend_from_slice(&after_padding(&right));
                Reply { body, ..right }
            }
            Oddity::Gzip { bytes } => {
                let body = packed_run(PADDING, *bytes, &after_padding(&right));
                let mut reply = Reply { body, ..right };
                reply.headers.push(("content-encoding".to_owned(), "gzip".to_owned()));
                reply
            }
            Oddity::ContentType { content_type } => self.reply(right.status, content_type, right.body),
            Oddity::Html { status } => self.html(*status),
            Oddity::Empty => self.reply(200, JSON, Vec::new()),
            Oddity::Raw { status, content_type, body } => self.reply(*status, content_type, body.clone().into_bytes()),
        }
    }

    /// JSON as it is, without a request id.
    #[must_use]
    pub fn json(&self, status: u16, body: &Value) -> Reply {
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
        Reply { status, headers, body, cut: None, bytes_per_second: None }
    }
}

const JSON: &str = "application/json;charset=utf-8";
const PADDING: &[u8] = b"{\"Padding\":\"";

/// What closes the padding and goes on with the right answer, whose own brace is gone.
fn after_padding(right: &Reply) -> Vec<u8> {
    [b"\",", right.body.get(1..).unwrap_or_default()].concat()
}

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
        let twin = ("x-ratelimit-user-api".to_owned(), "Limit:0,Remain:0,TimeLeft:7,Reset:0".to_owned());
        assert_eq!(Hint::RateLimitApi(Some(7)).header(wait), Some(twin));
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

    #[test]
    fn a_slow_or_cut_body_is_there_as_far_as_time_and_cut_let_it() {
        let right = HEAD.success(json!({}));
        let whole = right.body.clone();
        assert_eq!(right.body_after(SignedDuration::ZERO), (whole.as_slice(), true));
        let cut = HEAD.odd(&Oddity::CutAfter { bytes: 7 }, right.clone());
        assert_eq!(cut.body_after(SignedDuration::ZERO), (&whole[..7], true));
        let mut slow = HEAD.odd(&Oddity::Slow { bytes_per_second: 10 }, right.clone());
        let after = |millis| SignedDuration::from_millis(millis);
        assert_eq!(slow.body_after(after(0)), (&whole[..0], false));
        assert_eq!(slow.body_after(after(499)), (&whole[..4], false));
        assert_eq!(slow.body_after(after(100_000)), (whole.as_slice(), true));
        slow.cut = Some(3);
        assert_eq!(slow.body_after(after(100_000)), (&whole[..3], true));
    }

    #[test]
    fn a_bomb_is_small_on_the_wire_and_a_wrong_name_leaves_the_body() {
        let right = HEAD.success(json!({}));
        let bomb = HEAD.odd(&Oddity::Gzip { bytes: 2_000_000 }, right.clone());
        assert_eq!(bomb.header("content-encoding"), Some("gzip"));
        assert!(bomb.body.len() < 20_000, "{}", bomb.body.len());
        assert!(bomb.body.starts_with(&[0x1F, 0x8B, 8]));
        let named = HEAD.odd(&Oddity::ContentType { content_type: "text/xml".to_owned() }, right.clone());
        assert_eq!((named.header("content-type"), &named.body), (Some("text/xml"), &right.body));
    }
}
