#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
use serde_json::Value;

use super::*;
use crate::core::Request;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../golden/signature-vectors.json")).unwrap()
}

/// One signed request of the official SDK, and what it says that it signed.
#[derive(Clone)]
struct Signed {
    name: String,
    secret: String,
    arrival: Arrival,
    authorization: String,
    canonical_request: String,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

fn signed(vector: &Value, of: &Value) -> Signed {
    let url = vector["url_as_sdk_sends_it"].as_str().and_then(|url| url.split_once('?')).map(|(_, query)| query);
    let request = Request {
        method: text(&vector["method"]),
        path: "/".to_owned(),
        query: url.or(vector["canonical_query"].as_str()).unwrap_or_default().to_owned(),
        body: vector["body"].as_str().unwrap_or_default().as_bytes().to_vec(),
        ..Request::default()
    };
    let headers = of["headers"].as_object().unwrap().iter().map(|(name, value)| (name.as_str(), text(value))).collect();
    Signed {
        name: text(&vector["name"]),
        secret: text(&vector["access_key_secret"]),
        arrival: request.with_headers(headers),
        authorization: text(&of["authorization"]),
        canonical_request: text(&of["canonical_request"]),
    }
}

/// All that the SDK signed: 15 vectors, of which those of its whole call path bear two signatures.
fn all() -> Vec<Signed> {
    let vectors = vectors();
    let acs3: Vec<_> =
        vectors["vectors"].as_array().unwrap().iter().filter(|v| text(&v["kind"]) == SCHEME).cloned().collect();
    assert_eq!(acs3.len(), 15);
    let ways = ["all_headers_signed", "minimal_headers_signed"];
    let of = |vector: &Value| ways.map(|way| vector.get(way).map(|of| signed(vector, of)));
    acs3.iter().flat_map(of).flatten().collect()
}

impl Signed {
    fn check(&self) -> Result<(), Wrong> {
        self.check_as(&self.secret, &self.authorization)
    }

    fn check_as(&self, secret: &str, authorization: &str) -> Result<(), Wrong> {
        check(secret, &Authorization::parse(authorization).unwrap(), &self.arrival)
    }

    fn set_header(&mut self, name: &str, value: Option<&str>) {
        let others = self.arrival.headers.iter().filter(|(n, _)| *n != name);
        self.arrival.headers = others.chain(value.map(|value| (name, value))).collect();
    }

    fn header_names(&self) -> Vec<String> {
        self.arrival.headers.iter().map(|(name, _)| name.to_owned()).collect()
    }
}

type Change = fn(&mut Signed);

#[test]
fn every_request_the_official_sdk_made_is_accepted() {
    let all = all();
    assert_eq!(all.len(), 25);
    for signed in all {
        assert_eq!(signed.check(), Ok(()), "{}", signed.name);
        // The wrong secret is told what the right one would have signed: the very text of the SDK.
        let Err(Wrong::Mismatch { canonical_request, .. }) = signed.check_as("other", &signed.authorization) else {
            panic!("{}", signed.name)
        };
        assert_eq!(canonical_request, signed.canonical_request, "{}", signed.name);
    }
}

#[test]
fn the_published_example_is_accepted() {
    let published = vectors()["published_vectors"][1].clone();
    let query: Vec<_> = published["query_params"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| format!("{name}={}", text(value)))
        .collect();
    let mut vector = published.clone();
    vector["canonical_query"] = Value::from(query.join("&"));
    vector["name"] = Value::from("published");
    assert_eq!(signed(&vector, &published).check(), Ok(()));
}

#[test]
fn any_change_of_what_is_signed_is_refused() {
    let changes: [(&str, Change); 9] = [
        ("method", |s| s.arrival.request.method = "PUT".to_owned()),
        ("one more parameter", |s| s.arrival.request.query.push_str("&Id=1")),
        ("one more byte", |s| s.arrival.request.body.push(b' ')),
        ("no body", |s| s.arrival.request.body = s.arrival.request.body.split_off(1.min(s.arrival.request.body.len()))),
        ("another secret", |s| s.secret.push('x')),
        ("another signature", |s| s.authorization = s.authorization.replace("Signature=", "Signature=00")),
        ("no hexadecimal", |s| s.authorization.push('g')),
        ("half a byte", |s| s.authorization.truncate(s.authorization.len() - 1)),
        ("one name more", |s| {
            s.set_header("x-acs-more", Some("1"));
            s.authorization = s.authorization.replace("SignedHeaders=", "SignedHeaders=x-acs-more;");
        }),
    ];
    for (what, change) in changes {
        for mut signed in all() {
            let before = signed.arrival.request.body.len();
            change(&mut signed);
            if what == "no body" && before == 0 {
                continue;
            }
            assert!(matches!(signed.check(), Err(Wrong::Mismatch { .. })), "{what}: {}", signed.name);
        }
    }
}

#[test]
fn any_change_of_a_signed_header_is_refused() {
    for right in all() {
        for name in right.header_names() {
            let mut changed = right.clone();
            let value = format!("{}x", changed.arrival.headers.get(&name).unwrap());
            changed.set_header(&name, Some(&value));
            assert!(matches!(changed.check(), Err(Wrong::Mismatch { .. })), "{name}: {}", changed.name);
            let mut missing = right.clone();
            missing.set_header(&name, None);
            assert_eq!(missing.check(), Err(Wrong::Incomplete), "{name}: {}", missing.name);
        }
    }
}

#[test]
fn any_change_of_a_parameter_is_refused() {
    let mut seen = 0;
    for signed in all() {
        let pairs = signed.arrival.request.query.split('&').filter(|pair| !pair.is_empty()).count();
        for at in 0..pairs {
            let mut changed = signed.clone();
            let change = |(n, pair): (usize, &str)| if n == at { format!("{pair}x") } else { pair.to_owned() };
            let changed_query: Vec<_> = signed.arrival.request.query.split('&').enumerate().map(change).collect();
            changed.arrival.request.query = changed_query.join("&");
            assert!(matches!(changed.check(), Err(Wrong::Mismatch { .. })), "{at}: {}", changed.name);
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen}");
}

#[test]
fn what_the_gateway_acts_on_must_be_signed() {
    for name in NEEDED.into_iter().chain(["content-type", "x-acs-security-token", "x-acs-accesskey-id"]) {
        let whole = all().into_iter().find(|s| s.name.contains("start_2020_full_sts")).unwrap();
        assert!(whole.authorization.contains(name), "{name}");
        let fewer = [";", "="]
            .iter()
            .fold(whole.authorization.clone(), |text, before| text.replace(&format!("{before}{name};"), before));
        let fewer = fewer.replace(&format!(";{name},"), ",");
        assert_eq!(whole.check_as(&whole.secret, &fewer), Err(Wrong::Incomplete), "{name}");
    }
}

#[test]
fn a_hash_that_is_not_the_body_s_is_refused_however_well_it_is_signed() {
    let mut signed = all().into_iter().find(|s| s.name == "acs3_get_2020").unwrap();
    signed.set_header("x-acs-content-sha256", Some(&"0".repeat(64)));
    let Err(Wrong::Mismatch { string_to_sign, .. }) = signed.check() else { panic!("accepted") };
    let mut mac = Hmac::<Sha256>::new_from_slice(signed.secret.as_bytes()).unwrap();
    mac.update(string_to_sign.as_bytes());
    let (before, _) = signed.authorization.split_once("Signature=").unwrap();
    signed.authorization = format!("{before}Signature={}", hex(&mac.finalize().into_bytes()));
    assert!(matches!(signed.check(), Err(Wrong::Mismatch { .. })));
}

#[test]
fn an_authorization_is_read_to_the_letter() {
    let right = "ACS3-HMAC-SHA256 Credential=id,SignedHeaders=host;a,Signature=00";
    let parsed = Authorization::parse(right).unwrap();
    assert_eq!((parsed.key_id, parsed.signed, parsed.signature), ("id", vec!["a", "host"], "00"));
    for wrong in [
        "ACS3-HMAC-SM3 Credential=id,SignedHeaders=host,Signature=00",
        "ACS3-HMAC-SHA256 Credential=id, SignedHeaders=host, Signature=00",
        "ACS3-HMAC-SHA256 SignedHeaders=host,Credential=id,Signature=00",
        "ACS3-HMAC-SHA256 Credential=id,SignedHeaders=host",
        "ACS3-HMAC-SHA256",
    ] {
        assert!(Authorization::parse(wrong).is_none(), "{wrong}");
    }
}

#[test]
fn parameters_are_signed_in_the_order_of_their_names() {
    assert_eq!(canonical_query("b=2&a=&B=x+y&a=%2A").unwrap(), "B=x%20y&a=&a=%2A&b=2");
    assert_eq!(canonical_query("a=%zz"), Err(Malformed));
}
