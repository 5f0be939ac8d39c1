//! The signature of the cloud's RPC style: HMAC-SHA1, `SignatureVersion` 1.0, in the URL query.
//!
//! **May touch:** its arguments. It is one of the two places that open a secret.
//!
//! **Guarantees**
//! 1. The same arguments give the same bytes: a request can be made again exactly.
//! 2. Each parameter of query and form is signed, and nothing else.
//!
//! **Assumes:** no parameter stands in both query and form; ours never do.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha1::Sha1;

use super::{Parameters, Signer, encoded, percent_encode};

/// The URL query of a request: `query`, the signer's own parameters and `Signature`, percent-encoded and sorted.
/// `method` is the HTTP method; `form` travels in the body, but is signed too.
#[must_use]
pub fn signed_query(method: &str, signer: Signer<'_>, mut query: Parameters, form: &Parameters) -> String {
    query.insert("AccessKeyId".into(), signer.id.into());
    query.insert("SignatureMethod".into(), "HMAC-SHA1".into());
    query.insert("SignatureVersion".into(), "1.0".into());
    if let Some(token) = signer.token {
        query.insert("SecurityToken".into(), token.expose_secret().into());
    }
    let signature = signature(signer.secret, &string_to_sign(method, &canonicalized_query(&query, form)));
    query.insert("Signature".into(), signature);
    encoded(&query)
}

/// All parameters in one sorted text.
fn canonicalized_query(query: &Parameters, form: &Parameters) -> String {
    let mut all = query.clone();
    all.extend(form.iter().map(|(name, value)| (name.clone(), value.clone())));
    encoded(&all)
}

/// The path is always `/`. Values are encoded a second time here.
fn string_to_sign(method: &str, canonicalized_query: &str) -> String {
    format!("{method}&%2F&{}", percent_encode(canonicalized_query))
}

/// The HMAC key is the secret and an `&`.
fn signature(secret: &SecretString, string_to_sign: &str) -> String {
    let key = SecretString::from(format!("{}&", secret.expose_secret()));
    let mut mac = Hmac::<Sha1>::new_from_slice(key.expose_secret().as_bytes()).expect("HMAC takes a key of any length");
    mac.update(string_to_sign.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use serde_json::Value;

    use super::*;

    fn vectors() -> Value {
        serde_json::from_str(include_str!("../../../tests/golden/signature-vectors.json")).unwrap()
    }

    fn parameters(of: &Value) -> Parameters {
        of.as_object().unwrap().iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().into())).collect()
    }

    fn text<'a>(of: &'a Value, name: &str) -> &'a str {
        of[name].as_str().unwrap()
    }

    #[test]
    fn every_rpc_vector_is_reproduced_byte_for_byte() {
        let vectors = vectors();
        let rpc: Vec<&Value> =
            vectors["vectors"].as_array().unwrap().iter().filter(|v| v["kind"] == "V1-RPC-HMAC-SHA1").collect();
        assert_eq!(rpc.len(), 15);
        for vector in rpc {
            let query = parameters(&vector["query_params_without_signature"]);
            let form = parameters(&vector["body_params"]);
            let canonical = canonicalized_query(&query, &form);
            assert_eq!(canonical, text(vector, "canonicalized_query"), "{}", vector["name"]);
            assert_eq!(string_to_sign(text(vector, "method"), &canonical), text(vector, "string_to_sign"));

            let secret = SecretString::from(text(vector, "access_key_secret"));
            let token = vector["security_token"].as_str().map(SecretString::from);
            let signer = Signer { id: text(vector, "access_key_id"), secret: &secret, token: token.as_ref() };
            assert_eq!(signature(&secret, text(vector, "string_to_sign")), text(vector, "signature"));
            // The signer brings its own parameters: without them the query must come out the same.
            let own = ["AccessKeyId", "SignatureMethod", "SignatureVersion", "SecurityToken"];
            let bare = query.into_iter().filter(|(name, _)| !own.contains(&name.as_str())).collect();
            let sent = signed_query(text(vector, "method"), signer, bare, &form);
            assert_eq!(format!("/?{sent}"), text(vector, "canonical_url_suffix"), "{}", vector["name"]);
            if let Some(body) = vector["body_strict_percent_encoded"].as_str() {
                assert_eq!(encoded(&form), body, "{}", vector["name"]);
            }
        }
    }

    #[test]
    fn the_published_vector_is_reproduced() {
        let vectors = vectors();
        let published = &vectors["published_vectors"][0];
        let parameters = parameters(&published["params"]);
        let to_sign = string_to_sign(text(published, "method"), &encoded(&parameters));
        assert_eq!(to_sign, text(published, "string_to_sign"));
        let secret = SecretString::from(text(published, "access_key_secret"));
        assert_eq!(signature(&secret, &to_sign), text(published, "signature"));
    }

    #[test]
    fn the_vector_of_the_legacy_core_is_reproduced() {
        let vectors = vectors();
        let legacy = &vectors["legacy_core"];
        let form = parameters(&legacy["body_params"]);
        let mut query: Parameters = text(legacy, "url")
            .trim_start_matches("/?")
            .split('&')
            .map(|pair| pair.split_once('=').unwrap())
            .map(|(name, value)| (name.into(), value.replace("%3A", ":")))
            .collect();
        query.remove("Signature").unwrap();
        let to_sign = string_to_sign(text(legacy, "method"), &canonicalized_query(&query, &form));
        assert_eq!(to_sign, text(legacy, "string_to_sign"));
        let secret = SecretString::from(text(legacy, "access_key_secret"));
        assert_eq!(signature(&secret, &to_sign), text(legacy, "signature"));
    }

    #[test]
    fn a_signer_prints_no_secret() {
        let secret = SecretString::from("canary-secret");
        let signer = Signer { id: "id", secret: &secret, token: Some(&secret) };
        assert!(!format!("{signer:?}").contains("canary"));
    }
}
