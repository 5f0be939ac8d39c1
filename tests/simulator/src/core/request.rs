//! One request as it came over the wire, and what the shell must do for it.
//!
//! **May touch:** nothing; plain data.
//!
//! **Guarantees**
//! 1. Debug shows no query, no body and no value of a header: keys, tokens and signatures travel in them.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::answer::Reply;

/// One request as it came over the wire.
#[derive(Clone, Default)]
pub struct Request {
    /// The connection that it came on.
    pub connection: u64,
    /// When its head was there.
    pub first_byte: Timestamp,
    /// HTTP method.
    pub method: String,
    /// Path; only `/` is known.
    pub path: String,
    /// Raw query, without `?`.
    pub query: String,
    /// `Content-Type`. The body counts as parameters only if it is a form.
    pub content_type: Option<String>,
    /// `Host`.
    pub host: String,
    /// Raw body.
    pub body: Vec<u8>,
}

impl Request {
    /// The request with all its headers, which ACS3 signs.
    #[must_use]
    pub fn with_headers(self, headers: Headers) -> Arrival {
        Arrival { request: self, headers }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connection, first_byte, method, path, content_type, host, query: _, body: _ } = self;
        f.debug_struct("Request")
            .field("connection", connection)
            .field("first_byte", first_byte)
            .field("method", method)
            .field("path", path)
            .field("content_type", content_type)
            .field("host", host)
            .finish_non_exhaustive()
    }
}

/// Headers, in the order received. Names are in lower case, values without white space around them.
#[derive(Clone, Default)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// The first value of this lower-case name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// All headers.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Headers {
    fn from_iter<T: IntoIterator<Item = (N, V)>>(headers: T) -> Self {
        let header = |(name, value): (N, V)| (name.as_ref().to_ascii_lowercase(), value.as_ref().trim().to_owned());
        Self(headers.into_iter().map(header).collect())
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

/// A request and its headers.
#[derive(Clone, Debug, Default)]
pub struct Arrival {
    /// All but the headers.
    pub request: Request,
    /// The headers.
    pub headers: Headers,
}

impl From<Request> for Arrival {
    /// With the headers that the request itself tells: enough for V1, which signs none.
    fn from(request: Request) -> Self {
        let host = ("host", request.host.clone());
        let content_type = request.content_type.clone().map(|content_type| ("content-type", content_type));
        let headers = [host].into_iter().chain(content_type).collect();
        Self { request, headers }
    }
}

/// What the shell must do for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Place in the ledger.
    pub seq: u64,
    /// Wait so long first.
    pub after: SignedDuration,
    /// Then do this.
    pub outgoing: Outgoing,
}

/// What leaves the cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// An answer.
    Reply(Reply),
    /// None: close the connection.
    Drop,
    /// None: keep the connection open.
    Hang,
}
