//! STS: who gets a temporary key, and what it is good for.

use std::collections::BTreeSet;

use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::versions::{Wire, answer, outcome, wire};
use super::*;
use crate::core::call::SignatureKind::{Acs3, V1};
use crate::core::sts::{Provider, Role, Sts};

const STS: &str = "2015-04-01";
const ACCOUNT: &str = "1000000000000001";
pub(super) const ROLE: &str = "acs:ram::1000000000000001:role/runner";
pub(super) const PROVIDER: &str = "acs:ram::1000000000000001:oidc-provider/cluster";
const ISSUER: &str = "https://cluster.example";
const SUBJECT: &str = "system:serviceaccount:team-a:runner";
/// A job of nobody: every account may have it.
const COMMON: i64 = 5;

pub(super) fn trusting(change: impl FnOnce(&mut Sts)) -> Cloud {
    let mut sts = Sts::default();
    sts.roles.insert(ROLE.to_owned(), Role::default());
    let provider = Provider { issuers: vec![ISSUER.to_owned()], ..Provider::default() };
    sts.providers.insert(PROVIDER.to_owned(), provider);
    change(&mut sts);
    let mut cloud = cloud(Switches { sts, ..Switches::default() });
    cloud.put_job(at(-60), COMMON, &JobPatch::default());
    cloud
}

fn to_sts(action: &'static str, nonce: &str, body: &str) -> Wire {
    wire(STS, V1, action, nonce).with(|wire| body.clone_into(&mut wire.body))
}

pub(super) fn assume(nonce: &str) -> Wire {
    to_sts("AssumeRole", nonce, &format!("RoleArn={}&RoleSessionName=operator", ROLE.replace(':', "%3A")))
}

pub(super) fn jwt(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2ln", part(&json!({"alg": "RS256"})), part(claims))
}

pub(super) fn claims() -> Value {
    json!({"iss": ISSUER, "sub": SUBJECT, "aud": ["sts.aliyuncs.com"], "exp": at(600).as_second(), "iat": at(0).as_second()})
}

/// Unsigned, as the official providers send it.
pub(super) fn with_token(provider: &str, token: &str) -> Request {
    let role = ROLE.replace(':', "%3A");
    let body =
        format!("RoleArn={role}&OIDCProviderArn={provider}&OIDCToken={token}&RoleSessionName=s1&DurationSeconds=900");
    Request {
        method: "POST".to_owned(),
        path: "/".to_owned(),
        query: "Action=AssumeRoleWithOIDC&Format=JSON&Version=2015-04-01&Timestamp=2026-01-02T03%3A04%3A05Z".to_owned(),
        content_type: Some("application/x-www-form-urlencoded".to_owned()),
        host: "sts.aliyuncs.com".to_owned(),
        body: body.into_bytes(),
        ..Request::default()
    }
}

/// The key of an answer that holds one.
#[derive(Clone)]
pub(super) struct Lent {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) token: String,
    pub(super) expiration: String,
}

pub(super) fn lent(credentials: &Value) -> Lent {
    let text = |name: &str| credentials[name].as_str().unwrap_or_else(|| panic!("{name} in {credentials}")).to_owned();
    Lent {
        id: text("AccessKeyId"),
        secret: text("AccessKeySecret"),
        token: text("SecurityToken"),
        expiration: text("Expiration"),
    }
}

impl Lent {
    fn sign(&self, call: Wire) -> Wire {
        call.with(|wire| {
            wire.key.clone_from(&self.id);
            wire.secret.clone_from(&self.secret);
            wire.token = Some(self.token.clone());
        })
    }

    pub(super) fn start(&self, nonce: &str, t: i64) -> Wire {
        let call = self.sign(wire("2024-05-18", Acs3, "StartDIJob", nonce));
        call.with(|wire| (wire.query, wire.signed) = (format!("Id={COMMON}"), at(t)))
    }
}

pub(super) fn borrow(cloud: &mut Cloud, nonce: &str) -> Lent {
    lent(&body(&answer(cloud, at(0), &assume(nonce)))["Credentials"])
}

#[test]
fn a_key_is_told_whose_it_is_under_both_signatures_and_by_both_methods() {
    let mut cloud = trusting(|_| {});
    let post = to_sts("GetCallerIdentity", "a", "");
    let get = post.clone().with(|wire| (wire.method, wire.signature, wire.nonce) = ("GET", Acs3, "b".to_owned()));
    let first = body(&answer(&mut cloud, at(0), &post));
    let second = body(&answer(&mut cloud, at(0), &get));
    let id = first["UserId"].as_str().unwrap();
    assert!(id.len() == 18 && id.bytes().all(|byte| byte.is_ascii_digit()), "{id}");
    let expected = json!({
        "IdentityType": "RAMUser", "AccountId": "main", "UserId": id, "PrincipalId": id, "Arn": "acs:ram::main:user/key",
        "RequestId": first["RequestId"],
    });
    assert_eq!(first, expected);
    assert_eq!((&second["UserId"], &second["Arn"]), (&first["UserId"], &first["Arn"]));
    let entry = &cloud.ledger().entries()[1];
    assert_eq!((entry.signature, entry.day_count, entry.window_count), (Some(Acs3), None, None));
    assert_eq!((entry.caller.as_deref(), entry.version.as_deref()), (Some("acs:ram::main:user/key"), Some(STS)));
    let wrong = post.with(|wire| wire.secret.push('x'));
    assert_eq!(outcome(&mut cloud, at(0), &wrong), "SignatureDoesNotMatch 400");
}

#[test]
fn sts_is_a_product_of_its_own() {
    let mut cloud = trusting(|_| {});
    cloud.switches.permissions = Permissions::StartOnly(Denial::Forbidden);
    cloud.switches.limits = Limits { rate: Rate::Total(0), ..Limits::enterprise() };
    let rows = [
        (to_sts("GetCallerIdentity", "a", ""), "ok"),
        (to_sts("GetCallerIdentity", "b", "").with(|wire| wire.version = "2020-05-18"), "InvalidAction.NotFound 404"),
        (to_sts("GetCallerIdentity", "c", "").with(|wire| wire.version = "2018-06-01"), "NoSuchVersion 400"),
        (to_sts("StartDIJob", "d", "DIJobId=5"), "InvalidAction.NotFound 404"),
        (to_sts("GetCallerIdentity", "a", ""), "SignatureNonceUsed 400"),
        (to_sts("GetCallerIdentity", "e", "").with(|wire| wire.signed = at(-901)), "InvalidTimeStamp.Expired 400"),
    ];
    for (call, expected) in rows {
        assert_eq!(outcome(&mut cloud, at(0), &call), expected, "{} {}", call.action, call.version);
    }
}

#[test]
fn a_lent_key_calls_with_its_token_until_its_end_and_for_the_account_of_its_role() {
    let mut cloud = trusting(|_| {});
    cloud.put_key("own", Key { account: ACCOUNT.to_owned(), secret: "secret of key".to_owned() });
    let answered = body(&answer(&mut cloud, at(0), &assume("a")));
    let user = answered["AssumedRoleUser"].clone();
    assert_eq!(user["Arn"], "acs:ram::1000000000000001:role/runner/operator");
    assert!(user["AssumedRoleId"].as_str().unwrap().ends_with(":operator"));
    let first = lent(&answered["Credentials"]);
    assert!(first.id.starts_with("STS.") && first.token.contains('+'), "{}", first.id);
    assert_eq!(first.expiration, "2026-01-02T04:04:05Z");

    assert_eq!(outcome(&mut cloud, at(1), &first.start("b", 1)), "ok");
    let old = first.sign(wire("2020-05-18", V1, "GetDIJob", "c")).with(|wire| wire.body = "DIJobId=5".to_owned());
    assert_eq!(outcome(&mut cloud, at(1), &old), "ok");
    let own = wire("2020-05-18", V1, "GetDIJob", "d").with(|wire| {
        (wire.key, wire.body) = ("own".to_owned(), "DIJobId=5".to_owned());
    });
    assert_eq!(outcome(&mut cloud, at(1), &own), "ok");
    let entries = cloud.ledger().entries();
    let days: Vec<_> = entries.iter().map(|entry| entry.day_count).collect();
    assert_eq!(days, [None, Some(1), Some(2), Some(3)], "one main account, one count");
    let caller = "acs:ram::1000000000000001:assumed-role/runner/operator";
    assert_eq!((entries[1].account.as_deref(), entries[1].caller.as_deref()), (Some(ACCOUNT), Some(caller)));
    let identity = body(&answer(&mut cloud, at(1), &first.sign(to_sts("GetCallerIdentity", "e", ""))));
    assert_eq!((&identity["Arn"], &identity["IdentityType"]), (&json!(caller), &json!("AssumedRoleUser")));
    assert_eq!((&identity["AccountId"], identity.get("UserId")), (&json!(ACCOUNT), None));
    assert_eq!(identity["PrincipalId"], user["AssumedRoleId"]);

    assert_eq!(outcome(&mut cloud, at(3599), &first.start("f", 3599)), "ok");
    assert_eq!(outcome(&mut cloud, at(3600), &first.start("g", 3600)), "InvalidSecurityToken.Expired 400");
}

#[test]
fn a_lent_key_without_its_own_token_is_refused_under_both_signatures() {
    let mut cloud = trusting(|_| {});
    let (first, second) = (borrow(&mut cloud, "a"), borrow(&mut cloud, "b"));
    assert_eq!(
        BTreeSet::from([&first.id, &second.id, &first.secret, &second.secret, &first.token, &second.token]).len(),
        6
    );
    for signature in [V1, Acs3] {
        let call = |token: Option<&str>| {
            let call = first.start("c", 0).with(|wire| wire.signature = signature);
            call.with(|wire| wire.token = token.map(str::to_owned))
        };
        assert_eq!(outcome(&mut cloud, at(0), &call(None)), "MissingSecurityToken 400");
        assert_eq!(outcome(&mut cloud, at(0), &call(Some("x"))), "InvalidSecurityToken.Malformed 400");
        let of_another = call(Some(&second.token));
        assert_eq!(outcome(&mut cloud, at(0), &of_another), "InvalidSecurityToken.MismatchWithAccessKey 400");
    }
    assert!(cloud.ledger().executions(COMMON).is_empty());
    assert_eq!(outcome(&mut cloud, at(0), &first.start("c", 0)), "ok", "no refusal burnt the nonce");
}

#[test]
fn lent_keys_can_end_early_or_be_refused() {
    let mut early = trusting(|sts| {
        (sts.life, sts.expires_early) = (Some(SignedDuration::from_secs(60)), SignedDuration::from_secs(10));
    });
    let key = borrow(&mut early, "a");
    assert_eq!(key.expiration, "2026-01-02T03:05:05Z");
    assert_eq!(outcome(&mut early, at(49), &key.start("b", 49)), "ok");
    assert_eq!(outcome(&mut early, at(50), &key.start("c", 50)), "InvalidSecurityToken.Expired 400");

    let mut ended = trusting(|_| {});
    let key = borrow(&mut ended, "a");
    ended.expire_temporary_keys(at(5));
    assert_eq!(ended.temporary_keys()[0].expiration, at(5));
    assert_eq!(outcome(&mut ended, at(5), &key.start("b", 5)), "InvalidSecurityToken.Expired 400");
    let next = borrow(&mut ended, "c");
    assert_eq!(outcome(&mut ended, at(5), &next.start("d", 5)), "ok");
    ended.switches.sts.refused = Some(Refusal::of("InvalidSecurityToken.Malformed").with_status(403));
    assert_eq!(outcome(&mut ended, at(5), &next.start("e", 5)), "InvalidSecurityToken.Malformed 403");
    assert_eq!(outcome(&mut ended, at(5), &to_sts("GetCallerIdentity", "f", "")), "ok", "a lasting key is not lent");
}

#[test]
fn a_role_is_lent_to_whom_it_trusts() {
    let role = ROLE.replace(':', "%3A");
    let asks = |nonce: &str, more: &str| assume(nonce).with(|wire| wire.body = format!("{}{more}", wire.body));
    let body = |nonce: &str, body: &str| to_sts("AssumeRole", nonce, body);
    let rows = [
        (asks("a", "&DurationSeconds=900"), "ok"),
        (asks("b", "&DurationSeconds=899"), "InvalidParameter.DurationSeconds 400"),
        (asks("c", "&DurationSeconds=3601"), "InvalidParameter.DurationSeconds 400"),
        (asks("d", "&DurationSeconds=x"), "InvalidParameter.DurationSeconds 400"),
        (body("e", &format!("RoleArn={role}")), "MissingRoleSessionName 400"),
        (body("f", &format!("RoleArn={role}&RoleSessionName=a")), "InvalidParameter.RoleSessionName 400"),
        (body("g", &format!("RoleArn={role}&RoleSessionName=a%20b")), "InvalidParameter.RoleSessionName 400"),
        (body("h", "RoleSessionName=ab"), "MissingRoleArn 400"),
        (body("i", "RoleArn=runner&RoleSessionName=ab"), "InvalidParameter.RoleArn 400"),
        (body("j", &format!("RoleArn={role}2&RoleSessionName=ab")), "EntityNotExist.Role 404"),
        (
            assume("k")
                .with(|wire| wire.key = "stranger".to_owned())
                .with(|wire| wire.secret = "secret of stranger".to_owned()),
            "NoPermission 403",
        ),
    ];
    let mut cloud = trusting(|sts| {
        sts.roles.insert(ROLE.to_owned(), Role { accounts: vec!["main".to_owned()], ..Role::default() });
    });
    for (call, expected) in rows {
        assert_eq!(outcome(&mut cloud, at(0), &call), expected, "{}", call.body);
    }
    assert_eq!(cloud.temporary_keys().len(), 1);
    let named =
        Role { external_id: Some("x-1".to_owned()), max_session: SignedDuration::from_hours(2), ..Role::default() };
    cloud.switches.sts.roles.insert(ROLE.to_owned(), named);
    assert_eq!(outcome(&mut cloud, at(0), &asks("l", "")), "NoPermission 403");
    assert_eq!(outcome(&mut cloud, at(0), &asks("m", "&ExternalId=x-2")), "NoPermission 403");
    assert_eq!(outcome(&mut cloud, at(0), &asks("n", "&ExternalId=x-1&DurationSeconds=7200")), "ok");
}

#[test]
fn a_token_of_a_known_issuer_gets_a_key_without_a_signature() {
    let mut cloud = trusting(|_| {});
    let token = jwt(&claims());
    let answered = body(&reply(&mut cloud, at(0), with_token(PROVIDER, &token)));
    let info = json!({
        "Subject": SUBJECT, "Issuer": ISSUER, "ClientIds": "sts.aliyuncs.com", "VerificationInfo": "Success",
        "ExpirationTime": "2026-01-02T03:14:05Z", "IssuanceTime": "2026-01-02T03:04:05Z",
    });
    assert_eq!(answered["OIDCTokenInfo"], info);
    let key = lent(&answered["Credentials"]);
    assert_eq!(key.expiration, "2026-01-02T03:19:05Z");
    assert_eq!(outcome(&mut cloud, at(1), &key.start("a", 1)), "ok");
    let entry = &cloud.ledger().entries()[0];
    assert_eq!((entry.signature, entry.key_id.as_deref()), (None, None));
    assert_eq!(entry.parameters["OIDCProviderArn"], PROVIDER);

    cloud.switches.signature_age = Some(minutes(1));
    let late = reply(&mut cloud, at(61), with_token(PROVIDER, &token));
    assert_eq!(code_of(&late), "InvalidTimeStamp.Expired 400");

    let by_get = with_token(PROVIDER, &token);
    let query = format!("{}&{}", by_get.query, String::from_utf8(by_get.body).unwrap());
    let by_get =
        Request { method: "GET".to_owned(), content_type: None, body: Vec::new(), query, ..with_token("", "") };
    assert_eq!(code_of(&reply(&mut cloud, at(0), by_get)), "ok");
}

#[test]
fn a_token_is_looked_into_as_far_as_it_can_be() {
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        jwt(&claims)
    };
    let invalid = "AuthenticationFail.OIDCToken.Invalid 401";
    let expired = "AuthenticationFail.OIDCToken.Expired 401";
    let forged = "AuthenticationFail.OIDCToken.InvalidSignature 401";
    let audience = "AuthenticationFail.OIDCToken.AudienceNotMatch 401";
    let no = "AuthenticationFail.NoPermission 401";
    let rows = [
        ("one audience", PROVIDER, with("aud", json!("sts.aliyuncs.com")), "ok"),
        ("several", PROVIDER, with("aud", json!(["kubernetes", "sts.aliyuncs.com"])), "ok"),
        ("other audience", PROVIDER, with("aud", json!(["https://kubernetes.default.svc"])), audience),
        ("no audience", PROVIDER, with("aud", json!([])), audience),
        ("ended now", PROVIDER, with("exp", json!(at(0).as_second())), expired),
        ("ends soon", PROVIDER, with("exp", json!(at(1).as_second())), "ok"),
        ("begins later", PROVIDER, with("nbf", json!(at(1).as_second())), invalid),
        ("other issuer", PROVIDER, with("iss", json!("https://else.example")), forged),
        ("other subject", PROVIDER, with("sub", json!("system:serviceaccount:team-b:runner")), no),
        ("no end", PROVIDER, with("exp", json!(null)), invalid),
        ("two parts", PROVIDER, "a.b".to_owned(), invalid),
        ("no base64", PROVIDER, "a.%2A.c".to_owned(), invalid),
        ("no JSON", PROVIDER, format!("a.{}.c", URL_SAFE_NO_PAD.encode("{")), invalid),
        ("no token", PROVIDER, String::new(), "MissingOIDCToken 400"),
        ("unknown provider", "acs:ram::1000000000000001:oidc-provider/else", with("x", json!(1)), no),
    ];
    let mut cloud = trusting(|sts| {
        let role = Role { subjects: vec![SUBJECT.to_owned()], providers: vec![PROVIDER.to_owned()], ..Role::default() };
        sts.roles.insert(ROLE.to_owned(), role);
    });
    for (why, provider, token, expected) in rows {
        assert_eq!(code_of(&reply(&mut cloud, at(0), with_token(provider, &token))), expected, "{why}");
    }
    let announced = with("iss", json!("https://else.example"));
    cloud.announce_token(PROVIDER, &announced);
    assert_eq!(code_of(&reply(&mut cloud, at(0), with_token(PROVIDER, &announced))), "ok");
    let other = jwt(
        &json!({"iss": "https://else.example", "sub": SUBJECT, "aud": "sts.aliyuncs.com", "exp": at(9).as_second()}),
    );
    assert_eq!(code_of(&reply(&mut cloud, at(0), with_token(PROVIDER, &other))), forged);
    let role = Role { providers: vec!["acs:ram::1:oidc-provider/else".to_owned()], ..Role::default() };
    cloud.switches.sts.roles.insert(ROLE.to_owned(), role);
    assert_eq!(code_of(&reply(&mut cloud, at(0), with_token(PROVIDER, &jwt(&claims())))), no);
}

#[test]
fn a_temporary_key_can_be_set_by_hand_and_taken_away() {
    let mut cloud = trusting(|_| {});
    cloud.put_temporary_key("STS.mine", Temporary::by_hand(ACCOUNT, "s", "t+/=", at(60)));
    let mine =
        Lent { id: "STS.mine".to_owned(), secret: "s".to_owned(), token: "t+/=".to_owned(), expiration: String::new() };
    assert_eq!(outcome(&mut cloud, at(59), &mine.start("a", 59)), "ok");
    assert_eq!(outcome(&mut cloud, at(60), &mine.start("b", 60)), "InvalidSecurityToken.Expired 400");
    assert_eq!(cloud.temporary_keys()[0].caller, "acs:ram::1000000000000001:assumed-role/by-hand/by-hand");
    assert!(cloud.remove_key("STS.mine") && !cloud.remove_key("STS.mine"));
    assert_eq!(outcome(&mut cloud, at(0), &mine.start("c", 0)), "InvalidAccessKeyId.NotFound 404");
    for wrong in ["acs:ram::x:role/a", "acs:ram::1:user/a", "acs:ram::1:role/", "acs:ram:::role/a"] {
        assert_eq!(RoleArn::parse(wrong), None, "{wrong}");
    }
}
