//! Signature V1 (RPC, HMAC-SHA1) as the gateway checks it: over what arrived, not over what was meant.
//!
//! **May touch:** its arguments.
//!
//! **Guarantees**
//! 1. The parameters are decoded from the bytes received and encoded again by the strict rule, so a client that signs
//!    anything else than it sends is refused. `+` and `%20` both mean a space on the wire; signed is `%20`.
//! 2. Query and form body are one signed set. `Signature` itself is left out, empty values are kept.
//! 3. The comparison takes the same time whatever differs.
//!
//! Source: API page 2.2 and 2.4; proven by the vectors of the official SDK.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// The parameters of one request, decoded, in the order received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(String, String)>);

/// A query or body that is not percent-encoded UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Parameters {
    /// Parameters of a raw query (without `?`) and of a raw form body.
    ///
    /// # Errors
    /// [`Malformed`] if a `%` is not followed by two hexadecimal digits, or the decoded bytes are not UTF-8.
    pub fn parse(query: &[u8], body: &[u8]) -> Result<Self, Malformed> {
        let pairs = query.split(|b| *b == b'&').chain(body.split(|b| *b == b'&'));
        pairs.filter(|pair| !pair.is_empty()).map(parse_pair).collect::<Result<_, _>>().map(Self)
    }

    /// The first value of this name. Names are case-sensitive.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// All parameters, in the order received.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The string that a client with these parameters must have signed.
    #[must_use]
    pub fn string_to_sign(&self, method: &str) -> String {
        let mut signed: Vec<_> = self.iter().filter(|(name, _)| *name != "Signature").collect();
        signed.sort_unstable();
        let canonical: Vec<_> =
            signed.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        format!("{method}&%2F&{}", encode(&canonical.join("&")))
    }
}

/// Whether `signature` (base64) is the one of `string_to_sign` under `secret`.
#[must_use]
pub fn verify(secret: &str, string_to_sign: &str, signature: &str) -> bool {
    let Ok(given) = STANDARD.decode(signature) else { return false };
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(format!("{secret}&").as_bytes()) else { return false };
    mac.update(string_to_sign.as_bytes());
    mac.verify_slice(&given).is_ok()
}

fn parse_pair(pair: &[u8]) -> Result<(String, String), Malformed> {
    let (name, value) = match pair.iter().position(|b| *b == b'=') {
        Some(at) => (pair.get(..at), pair.get(at + 1..)),
        None => (Some(pair), None),
    };
    Ok((decode(name.unwrap_or_default())?, decode(value.unwrap_or_default())?))
}

fn decode(text: &[u8]) -> Result<String, Malformed> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => match (rest.next().and_then(hex), rest.next().and_then(hex)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(Malformed),
            },
            other => other,
        });
    }
    String::from_utf8(out).map_err(|_| Malformed)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Strict percent-encoding (API page 2.4).
pub(crate) fn encode(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use serde_json::Value;

    use super::*;

    fn vectors() -> Value {
        serde_json::from_str(include_str!("../../../golden/signature-vectors.json")).unwrap()
    }

    fn v1(vectors: &Value) -> Vec<&Value> {
        let of_v1 = |v: &&Value| v["kind"].as_str().unwrap().starts_with("V1");
        vectors["vectors"].as_array().unwrap().iter().filter(of_v1).collect()
    }

    /// What the client put on the wire: the query, signature and all, and the body.
    fn wire(vector: &Value) -> Parameters {
        let url = vector["url_as_sdk_sends_it"].as_str().or_else(|| vector["canonical_url_suffix"].as_str()).unwrap();
        let body =
            ["body_as_sdk_sends_it", "body_strict_percent_encoded"].iter().find_map(|name| vector[*name].as_str());
        Parameters::parse(url.split_once('?').unwrap().1.as_bytes(), body.unwrap_or_default().as_bytes()).unwrap()
    }

    #[test]
    fn every_request_the_official_sdk_made_is_accepted() {
        let vectors = vectors();
        assert_eq!(v1(&vectors).len(), 15);
        for vector in v1(&vectors) {
            let (name, parameters) = (&vector["name"], wire(vector));
            let string_to_sign = parameters.string_to_sign(vector["method"].as_str().unwrap());
            assert_eq!(string_to_sign, vector["string_to_sign"].as_str().unwrap(), "{name}");
            let given = parameters.get("Signature").unwrap();
            assert!(verify(vector["access_key_secret"].as_str().unwrap(), &string_to_sign, given), "{name}");
        }
    }

    #[test]
    fn the_legacy_client_and_the_published_example_are_accepted() {
        let vectors = vectors();
        let legacy = &vectors["legacy_core"];
        let mut parameters = Parameters::parse(&legacy["url"].as_str().unwrap().as_bytes()[2..], b"").unwrap();
        for (name, value) in legacy["body_params"].as_object().unwrap() {
            parameters.0.push((name.clone(), value.as_str().unwrap().to_owned()));
        }
        assert_eq!(parameters.string_to_sign("POST"), legacy["string_to_sign"].as_str().unwrap());
        assert!(verify(
            "testAccessKeySecret",
            &parameters.string_to_sign("POST"),
            parameters.get("Signature").unwrap()
        ));

        let published = &vectors["published_vectors"][0];
        let pair = |(name, value): (&String, &Value)| (name.clone(), value.as_str().unwrap().to_owned());
        let parameters = Parameters(published["params"].as_object().unwrap().iter().map(pair).collect());
        assert!(verify("testsecret", &parameters.string_to_sign("GET"), published["signature"].as_str().unwrap()));
    }

    #[test]
    fn one_changed_letter_anywhere_is_refused() {
        let vectors = vectors();
        for vector in v1(&vectors) {
            let secret = vector["access_key_secret"].as_str().unwrap();
            let (method, parameters) = (vector["method"].as_str().unwrap(), wire(vector));
            let given = parameters.get("Signature").unwrap().to_owned();
            for at in 0..parameters.0.len() {
                let mut forged = parameters.clone();
                if forged.0[at].0 != "Signature" {
                    forged.0[at].1.push('x');
                    assert!(!verify(secret, &forged.string_to_sign(method), &given), "{} {at}", vector["name"]);
                }
            }
            assert!(!verify("other", &parameters.string_to_sign(method), &given));
            assert!(!verify(secret, &parameters.string_to_sign("PUT"), &given));
            assert!(!verify(secret, &parameters.string_to_sign(method), "no base64"));
        }
    }

    #[test]
    fn the_percent_encoding_table_holds_both_ways() {
        let vectors = vectors();
        for row in vectors["percent_encoding_table"].as_array().unwrap() {
            let (plain, encoded) = (row["in"].as_str().unwrap(), row["out"].as_str().unwrap());
            assert_eq!(encode(plain), encoded);
            assert_eq!(decode(encoded.as_bytes()).unwrap(), plain);
        }
    }

    #[test]
    fn names_sort_by_bytes_and_empty_values_stay() {
        let parameters = Parameters::parse(b"b=2&a=&B=1&Signature=zzz", b"c=x+y").unwrap();
        assert_eq!(parameters.string_to_sign("GET"), "GET&%2F&B%3D1%26a%3D%26b%3D2%26c%3Dx%2520y");
    }

    #[test]
    fn bytes_that_are_no_encoded_text_are_refused() {
        for bad in [&b"a=%"[..], b"a=%4", b"a=%zz", b"a=%ff"] {
            assert_eq!(Parameters::parse(bad, b""), Err(Malformed), "{bad:?}");
        }
    }
}
