//! Signature ACS3-HMAC-SHA256 as the gateway checks it: over the bytes that arrived.
//!
//! **May touch:** its arguments.
//!
//! **Guarantees**
//! 1. Method, query, body and every signed header are part of what is compared; the body counts as it arrived.
//! 2. What the gateway acts on must be signed: `host`, `content-type` and all of `x-acs-*`. A call that leaves one of them
//!    out is incomplete. How far the real gateway insists on that is not documented.
//! 3. The comparison takes the same time whatever differs.
//!
//! Source: API page 2.3 and 2.4; proven by the vectors of the official SDK.

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::request::{Arrival, Headers};
use super::signature::{Malformed, Parameters, encode};

/// The name of the scheme, which the header begins with.
pub(crate) const SCHEME: &str = "ACS3-HMAC-SHA256";

/// What a call cannot do without.
const NEEDED: [&str; 6] =
    ["host", "x-acs-action", "x-acs-content-sha256", "x-acs-date", "x-acs-signature-nonce", "x-acs-version"];

/// The `Authorization` header.
#[derive(Clone)]
pub(crate) struct Authorization<'a> {
    pub key_id: &'a str,
    /// Lower-case names, sorted.
    signed: Vec<&'a str>,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    /// `ACS3-HMAC-SHA256 Credential=<id>,SignedHeaders=<names>,Signature=<hex>`, to the letter.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let text = text.strip_prefix(SCHEME)?.strip_prefix(" Credential=")?;
        let (key_id, text) = text.split_once(",SignedHeaders=")?;
        let (names, signature) = text.split_once(",Signature=")?;
        let mut signed: Vec<_> = names.split(';').collect();
        signed.sort_unstable();
        Some(Self { key_id, signed, signature })
    }
}

/// Why a signature is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// Something that must be signed is not.
    Incomplete,
    /// It belongs to something else than arrived; this is what should have been signed.
    Mismatch { string_to_sign: String, canonical_request: String },
}

impl From<Malformed> for Wrong {
    fn from(Malformed: Malformed) -> Self {
        Self::Incomplete
    }
}

/// Whether the call is signed with `secret`.
pub(crate) fn check(secret: &str, authorization: &Authorization<'_>, arrival: &Arrival) -> Result<(), Wrong> {
    let Authorization { signed, signature, .. } = authorization;
    let acted_on = |name: &str| name == "content-type" || name.starts_with("x-acs-");
    let mut needed =
        NEEDED.into_iter().chain(arrival.headers.iter().map(|(name, _)| name).filter(|name| acted_on(name)));
    if !needed.all(|name| signed.contains(&name)) {
        return Err(Wrong::Incomplete);
    }
    let hash = hex(&Sha256::digest(&arrival.request.body));
    let canonical_request = canonical_request(arrival, signed, &hash)?;
    let string_to_sign = format!("{SCHEME}\n{}", hex(&Sha256::digest(&canonical_request)));
    // The hash is signed twice, as a header and by itself: both must be that of the body.
    let is_of_body = arrival.headers.get("x-acs-content-sha256") == Some(hash.as_str());
    if is_of_body && verify(secret, &string_to_sign, signature) {
        return Ok(());
    }
    Err(Wrong::Mismatch { string_to_sign, canonical_request })
}

fn canonical_request(arrival: &Arrival, signed: &[&str], hash: &str) -> Result<String, Wrong> {
    let Arrival { request, headers } = arrival;
    let query = canonical_query(&request.query)?;
    let mut text = format!("{}\n/\n{query}\n", request.method);
    for name in signed {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}:{}", value(headers, name).ok_or(Wrong::Incomplete)?);
    }
    Ok(format!("{text}\n{}\n{hash}", signed.join(";")))
}

fn canonical_query(query: &str) -> Result<String, Malformed> {
    let parameters = Parameters::parse(query.as_bytes(), b"")?;
    let mut pairs: Vec<_> = parameters.iter().collect();
    pairs.sort_unstable();
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    Ok(pairs.join("&"))
}

/// All values of one name.
fn value(headers: &Headers, name: &str) -> Option<String> {
    let values: Vec<_> = headers.iter().filter(|(n, _)| *n == name).map(|(_, value)| value).collect();
    (!values.is_empty()).then(|| values.join(","))
}

fn verify(secret: &str, string_to_sign: &str, signature: &str) -> bool {
    let Some(given) = unhex(signature) else { return false };
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return false };
    mac.update(string_to_sign.as_bytes());
    mac.verify_slice(&given).is_ok()
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<_>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok())).collect();
    let (pairs, rest) = digits.as_ref()?.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
#[path = "acs3_tests.rs"]
mod tests;
