//! What a call says of itself: in its parameters under signature V1, in its headers under ACS3.
//!
//! **May touch:** its arguments.
//!
//! **Guarantees**
//! 1. Under ACS3 nothing that only V1 would read counts: an `Action` in the query is a parameter like any other.
//! 2. Nothing here is believed yet; the gateway judges.
//!
//! Source: API page 2.2 and 2.3.

use serde::Serialize;

use super::acs3::{Authorization, SCHEME};
use super::answer::Refusal;
use super::metadata;
use super::request::Arrival;
use super::signature::{Malformed, Parameters};

/// A version of the API of `DataWorks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiVersion {
    /// 2020-05-18.
    V2020,
    /// 2024-05-18.
    V2024,
}

impl ApiVersion {
    fn of(text: &str) -> Option<Self> {
        match text {
            "2020-05-18" => Some(Self::V2020),
            "2024-05-18" => Some(Self::V2024),
            _ => None,
        }
    }
}

/// How a call is signed, as far as it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum SignatureKind {
    /// HMAC-SHA1 over the parameters.
    V1,
    /// `ACS3-HMAC-SHA256` over headers, query and body.
    Acs3,
}

/// One call.
pub struct Call<'a> {
    /// Its bytes.
    pub arrival: &'a Arrival,
    /// Its query, and its body if that is a form.
    pub parameters: Parameters,
    /// Whether action, version and all that belongs to the signature stand in headers.
    speaks_in_headers: bool,
    /// What ACS3 puts into one header. Absent under V1, or if it cannot be read.
    pub(crate) authorization: Option<Authorization<'a>>,
}

impl<'a> Call<'a> {
    /// Reads a request.
    ///
    /// # Errors
    /// [`Malformed`] if query or form is not percent-encoded UTF-8.
    pub fn read(arrival: &'a Arrival) -> Result<Self, Malformed> {
        let parameters = parse(arrival)?;
        let header = |name| arrival.headers.get(name);
        let authorization = header("authorization").filter(|text| text.starts_with(SCHEME));
        let is_named_in_headers = parameters.get("Action").is_none() && header("x-acs-action").is_some();
        Ok(Self {
            arrival,
            parameters,
            speaks_in_headers: authorization.is_some() || is_named_in_headers,
            authorization: authorization.and_then(Authorization::parse),
        })
    }

    /// A call of which nothing can be read.
    pub(crate) fn unreadable(arrival: &'a Arrival) -> Self {
        Self { arrival, parameters: Parameters::default(), speaks_in_headers: false, authorization: None }
    }

    /// How it is signed; absent: not at all, or in no way that can be read.
    #[must_use]
    pub fn signature(&self) -> Option<SignatureKind> {
        if self.speaks_in_headers {
            self.authorization.as_ref().map(|_| SignatureKind::Acs3)
        } else {
            self.parameters.get("Signature").map(|_| SignatureKind::V1)
        }
    }

    /// Whether there is an `Authorization` of ACS3 that cannot be read.
    pub(crate) fn is_garbled(&self) -> bool {
        self.speaks_in_headers && self.authorization.is_none() && self.arrival.headers.get("authorization").is_some()
    }

    /// `Action`; a request to the metadata service has a name of ours.
    #[must_use]
    pub fn action(&self) -> Option<&str> {
        metadata::action(&self.arrival.request.path).or_else(|| self.either("Action", "x-acs-action"))
    }

    /// `Version`, as text.
    #[must_use]
    pub fn version_text(&self) -> Option<&str> {
        self.either("Version", "x-acs-version")
    }

    /// `Version`, if it is one of `DataWorks`.
    #[must_use]
    pub fn version(&self) -> Option<ApiVersion> {
        self.version_text().and_then(ApiVersion::of)
    }

    /// `AccessKeyId`.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        if self.speaks_in_headers {
            self.authorization.as_ref().map(|authorization| authorization.key_id)
        } else {
            self.parameters.get("AccessKeyId")
        }
    }

    /// `SignatureNonce`.
    #[must_use]
    pub fn nonce(&self) -> Option<&str> {
        self.either("SignatureNonce", "x-acs-signature-nonce")
    }

    /// `Timestamp`, as text.
    #[must_use]
    pub fn signed_time(&self) -> Option<&str> {
        self.either("Timestamp", "x-acs-date")
    }

    /// `SecurityToken`.
    pub(crate) fn token(&self) -> Option<&str> {
        self.either("SecurityToken", "x-acs-security-token")
    }

    /// The job it names, and by which parameter. `Id` replaced `DIJobId` in 2024-05-18, which still takes both.
    #[must_use]
    pub fn job(&self) -> Option<(&'static str, &str)> {
        let names: &[&'static str] = match self.version() {
            Some(ApiVersion::V2024) => &["Id", "DIJobId"],
            Some(ApiVersion::V2020) | None => &["DIJobId"],
        };
        names.iter().find_map(|name| Some((*name, self.parameters.get(name).filter(|id| !id.is_empty())?)))
    }

    fn either(&self, parameter: &str, header: &str) -> Option<&str> {
        if self.speaks_in_headers { self.arrival.headers.get(header) } else { self.parameters.get(parameter) }
    }
}

/// All parameters of a request: its query, and its body if that is a form.
fn parse(Arrival { request, .. }: &Arrival) -> Result<Parameters, Malformed> {
    let content_type = request.content_type.as_deref().unwrap_or_default().to_ascii_lowercase();
    let is_form = content_type.starts_with("application/x-www-form-urlencoded");
    Parameters::parse(request.query.as_bytes(), if is_form { &request.body } else { b"" })
}

/// A value that must be there and not be empty.
pub(crate) fn required<'a>(name: &str, value: Option<&'a str>) -> Result<&'a str, Refusal> {
    value.filter(|value| !value.is_empty()).ok_or_else(|| missing(name))
}

/// `Missing{Parameter}`.
pub(crate) fn missing(name: &str) -> Refusal {
    Refusal::of(&format!("Missing{name}")).with_message(&format!("{name} is mandatory for this action."))
}
