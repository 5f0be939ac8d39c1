//! What the API server says, and how it says no.
//!
//! **May touch:** nothing.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::{Map, Value, json};

/// An answer: an HTTP status and a body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub code: u16,
    body: Body,
}

/// JSON that is written out at most once.
#[derive(Debug)]
pub(crate) struct Json {
    pub(crate) value: Value,
    bytes: OnceLock<Bytes>,
}

#[derive(Clone, Debug)]
enum Body {
    Json(Arc<Json>),
    Bytes(Bytes),
}

impl Json {
    pub(crate) fn new(value: Value) -> Arc<Self> {
        Arc::new(Self { value, bytes: OnceLock::new() })
    }

    pub(crate) fn bytes(&self) -> Bytes {
        self.bytes.get_or_init(|| Bytes::from(self.value.to_string())).clone()
    }
}

impl Answer {
    pub(crate) fn new(code: u16, body: Arc<Json>) -> Self {
        Self { code, body: Body::Json(body) }
    }

    pub(crate) fn raw(code: u16, body: Bytes) -> Self {
        Self { code, body: Body::Bytes(body) }
    }

    /// The body as it is sent.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        match &self.body {
            Body::Json(json) => json.bytes(),
            Body::Bytes(bytes) => bytes.clone(),
        }
    }

    /// The body, read.
    #[must_use]
    pub fn value(&self) -> Value {
        match &self.body {
            Body::Json(json) => json.value.clone(),
            Body::Bytes(bytes) => serde_json::from_slice(bytes)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).into_owned())),
        }
    }

    /// Whether the request was granted.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.code)
    }
}

/// Marks a no that is no `Status`.
const NO_PAGE: &str = "no page";

/// A no, as Kubernetes says it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) details: Option<Value>,
    /// Where a list that is too old may go on.
    pub(crate) list_continue: Option<String>,
}

impl Refusal {
    pub(crate) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None, list_continue: None }
    }

    pub(crate) fn with(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    /// What any server in front may say instead of it.
    pub(crate) fn of_code(code: u16) -> Self {
        let (reason, message) = match code {
            400 => ("BadRequest", "the server rejected our request for an unknown reason"),
            401 => ("Unauthorized", "Unauthorized"),
            403 => ("Forbidden", "forbidden"),
            404 => ("NotFound", "the server could not find the requested resource"),
            409 => (
                "Conflict",
                "Operation cannot be fulfilled: the object has been modified; please apply your changes to the latest version and try again",
            ),
            410 => ("Expired", "The resourceVersion for the provided watch is too old."),
            429 => ("TooManyRequests", "Too many requests, please try again later."),
            500 => ("InternalError", "Internal error occurred: etcdserver: request timed out"),
            503 => ("ServiceUnavailable", "the server is currently unable to handle the request"),
            504 => ("Timeout", "Timeout: request did not complete within the allotted timeout"),
            _ => ("", "the server says nothing more"),
        };
        let refusal = Self::new(code, reason, message);
        if code == 429 { refusal.with(json!({ "retryAfterSeconds": 1 })) } else { refusal }
    }

    /// There is nothing at this path.
    pub(crate) fn no_page() -> Self {
        Self::new(404, NO_PAGE, "404 page not found\n")
    }

    pub(crate) fn status(&self) -> Value {
        let mut status = Map::new();
        status.insert("kind".into(), "Status".into());
        status.insert("apiVersion".into(), "v1".into());
        let metadata = self.list_continue.as_ref().map_or_else(|| json!({}), |token| json!({ "continue": token }));
        status.insert("metadata".into(), metadata);
        status.insert("status".into(), "Failure".into());
        status.insert("message".into(), self.message.clone().into());
        if !self.reason.is_empty() {
            status.insert("reason".into(), self.reason.into());
        }
        if let Some(details) = &self.details {
            status.insert("details".into(), details.clone());
        }
        status.insert("code".into(), self.code.into());
        Value::Object(status)
    }

    pub(crate) fn answer(&self) -> Answer {
        if self.reason == NO_PAGE {
            return Answer::raw(self.code, self.message.clone().into());
        }
        Answer::new(self.code, Json::new(self.status()))
    }
}
