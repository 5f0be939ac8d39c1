//! The signature ACS3-HMAC-SHA256, in the `Authorization` header.
//!
//! **May touch:** its arguments. It is one of the two places that open a secret.
//!
//! **Guarantees**
//! 1. The same arguments give the same bytes: a request can be made again exactly.
//! 2. Method, query, body, host, content type and every `x-acs-*` header are signed; no other header is, so that what
//!    lies between may change them.
//!
//! **Assumes:** values of headers are plain text without white space at either end; ours are.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use super::Signer;

const ALGORITHM: &str = "ACS3-HMAC-SHA256";

/// The signed headers of a request, by name in lower case.
pub type Headers = BTreeMap<&'static str, String>;

/// What is signed of a request besides its headers.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// The query as it is sent: percent-encoded and sorted.
    pub query: &'a str,
    /// The body as it is sent.
    pub body: &'a str,
}

/// Adds what the signer brings to `headers`: the body's digest, its key and token, and `authorization`.
pub fn sign(signer: Signer<'_>, message: Message<'_>, headers: &mut Headers) {
    headers.insert("x-acs-content-sha256", hex(&Sha256::digest(message.body)));
    if let Some(token) = signer.token {
        headers.insert("x-acs-accesskey-id", signer.id.to_owned());
        headers.insert("x-acs-security-token", token.expose_secret().to_owned());
    }
    let names = signed_names(headers);
    let signature = signature(signer.secret, &string_to_sign(&canonical_request(message, headers, &names)));
    headers.insert(
        "authorization",
        format!("{ALGORITHM} Credential={},SignedHeaders={names},Signature={signature}", signer.id),
    );
}

fn is_signed(name: &str) -> bool {
    name == "host" || name == "content-type" || name.starts_with("x-acs-")
}

fn signed_names(headers: &Headers) -> String {
    headers.keys().copied().filter(|name| is_signed(name)).collect::<Vec<_>>().join(";")
}

/// The path is always `/`. The body's digest stands among the headers.
fn canonical_request(message: Message<'_>, headers: &Headers, names: &str) -> String {
    let signed = headers.iter().filter(|(name, _)| is_signed(name));
    let lines: Vec<String> = signed.map(|(name, value)| format!("{name}:{value}")).collect();
    let digest = headers.get("x-acs-content-sha256").map_or("", String::as_str);
    format!("{}\n/\n{}\n{}\n\n{names}\n{digest}", message.method, message.query, lines.join("\n"))
}

fn string_to_sign(canonical_request: &str) -> String {
    format!("{ALGORITHM}\n{}", hex(&Sha256::digest(canonical_request)))
}

/// The HMAC key is the secret as it is.
fn signature(secret: &SecretString, string_to_sign: &str) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()).expect("HMAC takes a key of any length");
    mac.update(string_to_sign.as_bytes());
    hex(&mac.finalize().into_bytes())
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use serde_json::Value;

    use super::super::{Parameters, encoded};
    use super::*;

    fn vectors() -> Value {
        serde_json::from_str(include_str!("../../../tests/golden/signature-vectors.json")).unwrap()
    }

    fn text<'a>(of: &'a Value, name: &str) -> &'a str {
        of[name].as_str().unwrap_or_default()
    }

    fn headers(of: &Value) -> Headers {
        let leak = |name: &String| -> &'static str { Box::leak(name.clone().into_boxed_str()) };
        of.as_object().unwrap().iter().map(|(name, value)| (leak(name), value.as_str().unwrap().into())).collect()
    }

    #[test]
    fn every_acs3_vector_is_reproduced_byte_for_byte() {
        let vectors = vectors();
        let acs3: Vec<&Value> =
            vectors["vectors"].as_array().unwrap().iter().filter(|v| v["kind"] == "ACS3-HMAC-SHA256").collect();
        assert_eq!(acs3.len(), 15);
        for vector in acs3 {
            let name = text(vector, "name");
            let query: Parameters = vector["query_params"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, value)| (name.clone(), value.as_str().unwrap().into()))
                .collect();
            assert_eq!(encoded(&query), text(vector, "canonical_query"), "{name}");
            let secret = SecretString::from(text(vector, "access_key_secret"));
            let expected = &vector["minimal_headers_signed"];
            let token = expected["headers"]["x-acs-security-token"].as_str().map(SecretString::from);
            let signer = Signer { id: text(vector, "access_key_id"), secret: &secret, token: token.as_ref() };
            let (method, query) = (text(vector, "method"), encoded(&query));
            let message = Message { method, query: &query, body: text(vector, "body") };
            let given = headers(&expected["headers"]);
            let canonical = canonical_request(message, &given, &signed_names(&given));
            assert_eq!(canonical, text(expected, "canonical_request"), "{name}");
            assert_eq!(string_to_sign(&canonical), text(expected, "string_to_sign"), "{name}");

            // The signer brings its own headers: without them the request must come out the same.
            let own = ["x-acs-content-sha256", "x-acs-accesskey-id", "x-acs-security-token"];
            let mut sent = given.clone();
            sent.retain(|name, _| !own.contains(name));
            sent.insert("user-agent", "any".to_owned());
            sign(signer, message, &mut sent);
            assert_eq!(sent.remove("authorization").unwrap(), text(expected, "authorization"), "{name}");
            sent.remove("user-agent").unwrap();
            assert_eq!(sent, given, "{name}");
        }
    }

    #[test]
    fn the_published_vector_is_reproduced() {
        let vectors = vectors();
        let published = &vectors["published_vectors"][1];
        let canonical = text(published, "canonical_request");
        assert_eq!(string_to_sign(canonical), text(published, "string_to_sign"));
        let secret = SecretString::from(text(published, "access_key_secret"));
        let given = signature(&secret, text(published, "string_to_sign"));
        assert!(text(published, "authorization").ends_with(&format!("Signature={given}")));
    }
}
