//! The canonical text of parameters, shared by the signature schemes.
//!
//! **May touch:** its arguments.
//!
//! **Guarantees**
//! 1. The same parameters give the same bytes, in whatever order they were put in.
//! 2. What is signed is what is sent: query, form and canonical string come from one encoder.

use std::collections::BTreeMap;

use secrecy::SecretString;

pub mod acs3;
pub mod rpc;

/// How requests are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// HMAC-SHA1 in the query, the scheme of the cloud's RPC style: [`rpc`].
    Rpc,
    /// ACS3-HMAC-SHA256 in a header: [`acs3`].
    Acs3,
}

impl Scheme {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rpc => "HMAC-SHA1",
            Self::Acs3 => "ACS3-HMAC-SHA256",
        }
    }
}

/// Who signs: an access key, with a token if the key is a temporary one.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'a> {
    /// The key's public half, `AccessKeyId`.
    pub id: &'a str,
    /// The key's secret half.
    pub secret: &'a SecretString,
    /// `SecurityToken`, only with temporary keys.
    pub token: Option<&'a SecretString>,
}

/// Parameters by name. The map's order, that of bytes, is the order in which they are signed.
pub type Parameters = BTreeMap<String, String>;

/// Percent-encodes all but `A-Z a-z 0-9 - _ . ~`, with upper-case digits, byte by byte of the UTF-8 form (vendor's
/// signature pages). A space is `%20`, never `+`.
#[must_use]
pub fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.extend(
                [byte >> 4, byte & 15]
                    .into_iter()
                    .filter_map(|digit| char::from_digit(u32::from(digit), 16))
                    .map(|digit| digit.to_ascii_uppercase()),
            );
        }
    }
    encoded
}

/// `name=value` of each parameter, percent-encoded, sorted by name and joined by `&`. An empty value stays as `name=`.
#[must_use]
pub fn encoded(parameters: &Parameters) -> String {
    let pairs: Vec<String> =
        parameters.iter().map(|(name, value)| format!("{}={}", percent_encode(name), percent_encode(value))).collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_row_of_the_percent_encoding_table_holds() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/golden/signature-vectors.json")).unwrap();
        let rows = vectors["percent_encoding_table"].as_array().unwrap();
        assert_eq!(rows.len(), 35);
        for row in rows {
            assert_eq!(percent_encode(row["in"].as_str().unwrap()), row["out"].as_str().unwrap());
        }
    }

    proptest! {
        #[test]
        fn an_encoded_text_is_plain_and_decodes_to_itself(text in any::<String>()) {
            let encoded = percent_encode(&text);
            prop_assert!(encoded.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~%".contains(&b)));
            let mut bytes = Vec::new();
            let mut rest = encoded.bytes();
            while let Some(byte) = rest.next() {
                bytes.push(if byte == b'%' {
                    let digits = String::from_utf8(rest.by_ref().take(2).collect()).unwrap();
                    prop_assert!(!digits.bytes().any(|b| b.is_ascii_lowercase()));
                    u8::from_str_radix(&digits, 16).unwrap()
                } else {
                    byte
                });
            }
            prop_assert_eq!(String::from_utf8(bytes).unwrap(), text);
        }
    }
}
