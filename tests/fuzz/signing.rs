//! The signature, against a second implementation that was written from the API's text alone.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dijob_operator::dataworks::model::{FailoverSettings, RealtimeStartSettings, StartDiJobRequest};
use dijob_operator::dataworks::sign::{Parameters, Signer, rpc};
use dijob_operator::dataworks::{AccessKey, Client, Scheme, Service, Stamp, Version};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::SecretString;
use serde_json::Value;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::cloud::{Canned, now, service};
use super::harness::{Verdict, demand, fuzz};

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Separates the parts of an input, and cannot stand in one.
const SEPARATOR: char = '\u{1e}';

/// `A-Z a-z 0-9 - _ . ~` stay, all else becomes `%XX`.
fn escape(bytes: &[u8]) -> String {
    const PLAIN: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~";
    bytes.iter().fold(String::new(), |out, byte| {
        if PLAIN.as_bytes().contains(byte) {
            out + &char::from(*byte).to_string()
        } else {
            out + &format!("%{byte:02X}")
        }
    })
}

/// What a server makes of `name=value&name=value`.
fn parse(text: &str) -> Result<Pairs, String> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').ok_or_else(|| format!("no pair: {pair}"))?;
        Ok((unescape(name)?, unescape(value)?))
    };
    if text.is_empty() { Ok(Vec::new()) } else { text.split('&').map(pair).collect() }
}

fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    loop {
        rest = match rest {
            [] => return Ok(out),
            [b'%', high, low, after @ ..] => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).map_err(|error| error.to_string())?;
                out.push(u8::from_str_radix(digits, 16).map_err(|error| format!("%{digits}: {error}"))?);
                after
            }
            [byte, after @ ..] if byte.is_ascii_alphanumeric() || b"-_.~".contains(byte) => {
                out.push(*byte);
                after
            }
            [byte, ..] => return Err(format!("{} stands bare", byte.escape_ascii())),
        };
    }
}

/// base64(HMAC-SHA1(secret + "&", METHOD + "&%2F&" + escaped sorted pairs of query and form)).
fn sign(method: &str, secret: &[u8], mut all: Pairs) -> String {
    all.retain(|(name, _)| name != b"Signature");
    all.sort();
    let pairs: Vec<String> = all.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
    let text = format!("{method}&%2F&{}", escape(pairs.join("&").as_bytes()));
    let mut mac = Hmac::<Sha1>::new_from_slice(&[secret, b"&"].concat()).unwrap();
    mac.update(text.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

fn bytes(pairs: &Parameters) -> Pairs {
    pairs.iter().map(|(name, value)| (name.clone().into_bytes(), value.clone().into_bytes())).collect()
}

/// That what stands in `query` and `form` is `wanted`, and signed by `secret`.
fn is_signed(method: &str, query: &str, form: &str, secret: &str, wanted: &Pairs) -> Verdict {
    let mut all = [parse(query)?, parse(form)?].concat();
    let given = all.iter().find(|(name, _)| name == b"Signature").map(|(_, value)| value.clone());
    let expected = sign(method, secret.as_bytes(), all.clone());
    demand(given.as_deref() == Some(expected.as_bytes()), || {
        format!("signed {given:?}, not {expected}: {query} {form}")
    })?;
    all.retain(|(name, _)| name != b"Signature");
    all.sort();
    let mut wanted = wanted.clone();
    wanted.sort();
    demand(all == wanted, || format!("sent {all:?}, not {wanted:?}"))
}

fn parts(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes).split(SEPARATOR).map(str::to_owned).collect()
}

/// Parts: id, secret, token, then names and values of the query, of which the odd half is the form's.
fn judge_query(bytes_: &[u8]) -> Verdict {
    let parts = parts(bytes_);
    let part = |n: usize| parts.get(n).map_or("", String::as_str);
    let (id, secret, token) = (part(0), part(1), Some(part(2)).filter(|token| !token.is_empty()));
    let (mut query, mut form) = (Parameters::new(), Parameters::new());
    for (n, pair) in parts.get(3..).unwrap_or_default().chunks(2).enumerate() {
        let (name, value) = (pair[0].clone(), pair.get(1).cloned().unwrap_or_default());
        // The signer brings these itself.
        let own = ["AccessKeyId", "SignatureMethod", "SignatureVersion", "SecurityToken", "Signature"];
        if own.contains(&name.as_str()) || query.contains_key(&name) || form.contains_key(&name) {
            continue;
        }
        let to = if n % 2 == 0 { &mut query } else { &mut form };
        to.insert(name, value);
    }
    let secret_ = SecretString::from(secret);
    let token_ = token.map(SecretString::from);
    let signer = Signer { id, secret: &secret_, token: token_.as_ref() };
    for method in ["POST", "GET"] {
        let sent = rpc::signed_query(method, signer, query.clone(), &form);
        let body = dijob_operator::dataworks::sign::encoded(&form);
        let mut wanted = [bytes(&query), bytes(&form)].concat();
        let own = [("AccessKeyId", id), ("SignatureMethod", "HMAC-SHA1"), ("SignatureVersion", "1.0")];
        for (name, value) in own.into_iter().chain(token.map(|token| ("SecurityToken", token))) {
            wanted.push((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        }
        is_signed(method, &sent, &body, secret, &wanted)?;
    }
    Ok(())
}

fn number(text: &str) -> Option<i64> {
    text.trim().parse().ok()
}

/// Parts: id, secret, token, nonce, seconds, job, force, start time, interval, upper limit.
fn judge_call(bytes_: &[u8]) -> Verdict {
    let parts = parts(bytes_);
    let part = |n: usize| parts.get(n).map_or("", String::as_str);
    let token = Some(part(2)).filter(|token| !token.is_empty());
    let Ok(key) = AccessKey::new(part(0), part(1), token) else { return Ok(()) };
    let second = number(part(4)).and_then(|second| jiff::Timestamp::from_second(second).ok()).unwrap_or_default();
    let stamp = Stamp { nonce: part(3).to_owned(), time: second };
    let settings = RealtimeStartSettings {
        start_time: number(part(7)),
        failover_settings: Some(FailoverSettings { interval: number(part(8)), upper_limit: number(part(9)) }),
    };
    let request = StartDiJobRequest {
        di_job_id: number(part(5)).unwrap_or(1),
        force_to_rerun: part(6) == "true",
        realtime_start_settings: Some(settings),
    };
    for (version, scheme) in [
        (Version::V2020, Scheme::Rpc),
        (Version::V2020, Scheme::Acs3),
        (Version::V2024, Scheme::Rpc),
        (Version::V2024, Scheme::Acs3),
    ] {
        let cloud = Arc::new(Canned::default());
        let service = Service { version, scheme, ..service() };
        let reply = now(Client::new(cloud.clone()).start_di_job(&service, &key, &stamp, &request));
        let seen = cloud.seen.lock().unwrap();
        let Some(sent) = seen.first() else {
            let refused = reply.result.is_err_and(|error| error.never_left());
            demand(refused, || "nothing was sent, and that is not said".to_owned())?;
            continue;
        };
        let (id, secret, token) = (part(0).trim(), part(1).trim(), token.map(str::trim));
        is_the_call(sent, &service, (id, secret, token), &stamp, &request)?;
    }
    Ok(())
}

/// What is sent asks for `request` and nothing else, in the way of `service`, signed with the `key` of id, secret and token.
fn is_the_call(
    sent: &http::Request<Vec<u8>>,
    service: &Service,
    key: (&str, &str, Option<&str>),
    stamp: &Stamp,
    request: &StartDiJobRequest,
) -> Verdict {
    let (id, secret, token) = key;
    let uri = sent.uri();
    demand(uri.path() == "/" && uri.host() == Some("dataworks.cn-shanghai.aliyuncs.com"), || uri.to_string())?;
    let (method, name_of_id, version) = match service.version {
        Version::V2020 => ("POST", "DIJobId", "2020-05-18"),
        Version::V2024 => ("GET", "Id", "2024-05-18"),
    };
    demand(sent.method() == method, || sent.method().to_string())?;
    let mut asked: Vec<(&str, String)> = vec![(name_of_id, request.di_job_id.to_string())];
    asked.extend(request.force_to_rerun.then(|| ("ForceToRerun", "true".to_owned())));
    let settings = request.realtime_start_settings.as_ref().and_then(compact);
    asked.extend(settings.map(|json| ("RealtimeStartSettings", json)));
    let mut own = vec![
        ("Action", "StartDIJob"),
        ("Version", version),
        ("SignatureNonce", stamp.nonce.as_str()),
        ("AccessKeyId", id),
    ];
    own.extend(token.map(|token| ("SecurityToken", token)));
    match service.scheme {
        Scheme::Rpc => {
            let time = stamp.time.to_string();
            own.extend([("Format", "json"), ("SignatureMethod", "HMAC-SHA1"), ("SignatureVersion", "1.0")]);
            own.push(("Timestamp", &time));
            let own = own.iter().map(|(name, value)| (*name, (*value).to_owned()));
            let wanted = of(asked.into_iter().chain(own));
            is_signed(method, uri.query().unwrap_or_default(), &body(sent)?, secret, &wanted)
        }
        Scheme::Acs3 => is_signed_in_headers(sent, secret, stamp, &own, &of(asked.into_iter())),
    }
}

fn of<'a>(pairs: impl Iterator<Item = (&'a str, String)>) -> Pairs {
    pairs.map(|(name, value)| (name.as_bytes().to_vec(), value.into_bytes())).collect()
}

fn body(sent: &http::Request<Vec<u8>>) -> Result<String, String> {
    String::from_utf8(sent.body().clone()).map_err(|error| error.to_string())
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

/// ACS3 over what is sent, from the text of its page: what is `asked` stands in query and form, what the request says of
/// itself in headers, and all of that is signed.
fn is_signed_in_headers(
    sent: &http::Request<Vec<u8>>,
    secret: &str,
    stamp: &Stamp,
    own: &[(&str, &str)],
    asked: &Pairs,
) -> Verdict {
    // A value may hold any text that breaks no line.
    let text_of = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let header = |name: &str| sent.headers().get(name).map(text_of).unwrap_or_default();
    let (query, form) = (sent.uri().query().unwrap_or_default(), body(sent)?);
    let mut all = [parse(query)?, parse(&form)?].concat();
    let mut asked = asked.clone();
    all.sort();
    asked.sort();
    demand(all == asked, || format!("sent {all:?}, not {asked:?}"))?;
    let told = |name: &str| own.iter().find(|(own, _)| *own == name).map_or("", |(_, value)| value);
    let digest = sha256(form.as_bytes());
    let temporary = if told("SecurityToken").is_empty() { "" } else { told("AccessKeyId") };
    for (name, value) in [
        ("x-acs-action", told("Action")),
        ("x-acs-version", told("Version")),
        ("x-acs-signature-nonce", told("SignatureNonce")),
        ("x-acs-date", &stamp.time.to_string()),
        ("x-acs-content-sha256", &digest),
        ("x-acs-accesskey-id", temporary),
        ("x-acs-security-token", told("SecurityToken")),
    ] {
        demand(header(name) == value, || format!("{name}: {} and not {value}", header(name)))?;
    }
    let is_signed = |name: &str| name == "host" || name == "content-type" || name.starts_with("x-acs-");
    let mut names: Vec<&str> =
        sent.headers().keys().map(http::HeaderName::as_str).filter(|name| is_signed(name)).collect();
    names.sort_unstable();
    let mut pairs = parse(query)?;
    pairs.sort();
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
    let lines: Vec<String> = names.iter().map(|name| format!("{name}:{}", header(name))).collect();
    let names = names.join(";");
    let text = [sent.method().as_str(), "/", &pairs.join("&"), &lines.join("\n"), "", &names, &digest].join("\n");
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("ACS3-HMAC-SHA256\n{}", sha256(text.as_bytes())).as_bytes());
    let signature: Vec<String> = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let id = told("AccessKeyId");
    let expected = format!("ACS3-HMAC-SHA256 Credential={id},SignedHeaders={names},Signature={}", signature.concat());
    demand(header("authorization") == expected, || format!("{} and not {expected}", header("authorization")))
}

/// The settings as compact JSON in alphabetical order, written by hand.
fn compact(settings: &RealtimeStartSettings) -> Option<String> {
    let failover = settings.failover_settings.clone().unwrap_or_default();
    let field = |name: &str, value: Option<i64>| value.map(|value| format!("\"{name}\":{value}"));
    let inner: Vec<String> = [field("Interval", failover.interval), field("UpperLimit", failover.upper_limit)]
        .into_iter()
        .flatten()
        .collect();
    let failover = (!inner.is_empty()).then(|| format!("\"FailoverSettings\":{{{}}}", inner.join(",")));
    let all: Vec<String> = [failover, field("StartTime", settings.start_time)].into_iter().flatten().collect();
    (!all.is_empty()).then(|| format!("{{{}}}", all.join(",")))
}

fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of[name].as_str().unwrap()
}

/// Both implementations agree with the official one, so neither is judged by the other alone.
///
/// Covers: 36u.
#[test]
fn the_second_implementation_reproduces_the_vectors() {
    let vectors: Value = serde_json::from_str(include_str!("../golden/signature-vectors.json")).unwrap();
    for row in vectors["percent_encoding_table"].as_array().unwrap() {
        assert_eq!(escape(text(row, "in").as_bytes()), text(row, "out"));
        assert_eq!(unescape(text(row, "out")).unwrap(), text(row, "in").as_bytes());
    }
    let rpc: Vec<&Value> =
        vectors["vectors"].as_array().unwrap().iter().filter(|v| v["kind"] == "V1-RPC-HMAC-SHA1").collect();
    assert_eq!(rpc.len(), 15);
    for vector in rpc {
        let of = |name: &str| -> Pairs {
            let pairs = vector[name].as_object().unwrap().iter();
            pairs.map(|(name, value)| (name.clone().into_bytes(), value.as_str().unwrap().into())).collect()
        };
        let all = [of("query_params_without_signature"), of("body_params")].concat();
        let signed = sign(text(vector, "method"), text(vector, "access_key_secret").as_bytes(), all);
        assert_eq!(signed, text(vector, "signature"), "{}", vector["name"]);
    }
    let published = &vectors["published_vectors"][0];
    let all = published["params"].as_object().unwrap().iter();
    let all = all.map(|(name, value)| (name.clone().into_bytes(), value.as_str().unwrap().into())).collect();
    let signed = sign(text(published, "method"), text(published, "access_key_secret").as_bytes(), all);
    assert_eq!(signed, text(published, "signature"));
}

/// Covers: 36u.
#[test]
fn what_is_signed_is_what_is_sent_for_any_parameters() {
    fuzz("parameters", judge_query);
}

/// Covers: 36u.
#[test]
fn what_a_start_sends_is_signed_or_it_is_refused() {
    fuzz("calls", judge_call);
}

/// Covers: 36u.
#[test]
fn a_request_that_no_url_holds_does_not_leave() {
    let cloud = Arc::new(Canned::default());
    let stamp = Stamp { nonce: "n".repeat(70_000), time: jiff::Timestamp::UNIX_EPOCH };
    let key = AccessKey::new("id", "secret", None).unwrap();
    let request = StartDiJobRequest { di_job_id: 1, ..StartDiJobRequest::default() };
    let reply = now(Client::new(cloud.clone()).start_di_job(&service(), &key, &stamp, &request));
    assert!(cloud.seen.lock().unwrap().is_empty() && reply.result.unwrap_err().never_left());
}
