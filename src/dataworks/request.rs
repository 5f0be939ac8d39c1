//! The whole signed request of an operation, in each version and scheme.
//!
//! **May touch:** its arguments.
//!
//! **Guarantee:** the same arguments give the same bytes.

use http::HeaderValue;
use http::header::{ACCEPT, USER_AGENT};
use jiff::Timestamp;

use super::sign::{Parameters, Scheme, Signer, acs3, encoded, rpc};
use super::{AccessKey, Endpoint, Operation, Service, Stamp, Version};

const FORM: &str = "application/x-www-form-urlencoded";

/// It fails only on a key so long that no URL or header holds it.
pub(super) fn signed(
    operation: Operation,
    service: &Service,
    key: &AccessKey,
    stamp: &Stamp,
    parameters: &Parameters,
) -> http::Result<http::Request<Vec<u8>>> {
    let signer = signer(key);
    let time = whole_seconds(stamp);
    let none = Parameters::new();
    // The SDKs' methods: the gateway lists no other one for 2024-05-18.
    let (method, query, form) = match service.version {
        Version::V2020 => ("POST", &none, parameters),
        Version::V2024 => ("GET", parameters, &none),
    };
    let body = encoded(form);
    let mut headers = acs3::Headers::from([
        ("host", service.endpoint.host().to_owned()),
        ("x-acs-action", operation.action().to_owned()),
        ("x-acs-version", service.version.as_str().to_owned()),
    ]);
    if !body.is_empty() {
        headers.insert("content-type", FORM.to_owned());
    }
    let query = match service.scheme {
        Scheme::Rpc => {
            let common = [
                ("Action", operation.action()),
                ("Version", service.version.as_str()),
                ("Format", "json"),
                ("SignatureNonce", &stamp.nonce),
                ("Timestamp", &time),
            ];
            let mut all = query.clone();
            all.extend(common.map(|(name, value)| (name.to_owned(), value.to_owned())));
            rpc::signed_query(method, signer, all, form)
        }
        Scheme::Acs3 => {
            headers.insert("x-acs-date", time);
            headers.insert("x-acs-signature-nonce", stamp.nonce.clone());
            let query = encoded(query);
            acs3::sign(signer, acs3::Message { method, query: &query, body: &body }, &mut headers);
            query
        }
    };
    whole(&service.endpoint, method, &query, headers, body)
}

/// A call of STS, by `POST` with a form, signed in the RPC style. Without a key nothing is signed: a token in the form says
/// who calls (official credential providers).
pub(super) fn of_sts(
    operation: Operation,
    endpoint: &Endpoint,
    key: Option<&AccessKey>,
    stamp: &Stamp,
    form: &Parameters,
) -> http::Result<http::Request<Vec<u8>>> {
    let time = whole_seconds(stamp);
    let common = [("Action", operation.action()), ("Version", STS_VERSION), ("Format", "json"), ("Timestamp", &time)];
    let mut query: Parameters = common.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let query = match key {
        Some(key) => {
            query.insert("SignatureNonce".to_owned(), stamp.nonce.clone());
            rpc::signed_query("POST", signer(key), query, form)
        }
        None => encoded(&query),
    };
    let body = encoded(form);
    let mut headers = acs3::Headers::from([
        ("host", endpoint.host().to_owned()),
        ("x-acs-action", operation.action().to_owned()),
        ("x-acs-version", STS_VERSION.to_owned()),
    ]);
    if !body.is_empty() {
        headers.insert("content-type", FORM.to_owned());
    }
    whole(endpoint, "POST", &query, headers, body)
}

/// The version of STS: there is one.
const STS_VERSION: &str = "2015-04-01";

fn signer(key: &AccessKey) -> Signer<'_> {
    Signer { id: &key.id, secret: &key.secret, token: key.security_token.as_ref() }
}

fn whole_seconds(stamp: &Stamp) -> String {
    Timestamp::from_second(stamp.time.as_second()).unwrap_or(stamp.time).to_string()
}

fn whole(
    endpoint: &Endpoint,
    method: &str,
    query: &str,
    headers: acs3::Headers,
    body: String,
) -> http::Result<http::Request<Vec<u8>>> {
    let mark = if query.is_empty() { "" } else { "?" };
    let uri = format!("{}/{mark}{query}", endpoint.origin());
    let mut request = http::Request::builder().method(method).uri(uri);
    request = request.header(ACCEPT, "application/json").header(USER_AGENT, AGENT);
    for (name, value) in headers {
        let mut value = HeaderValue::try_from(value)?;
        value.set_sensitive(matches!(name, "authorization" | "x-acs-security-token"));
        request = request.header(name, value);
    }
    request.body(body.into_bytes())
}

const AGENT: &str = concat!("dijob-operator/", env!("CARGO_PKG_VERSION"));
