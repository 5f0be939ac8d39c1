//! The gateway: who may call, and whether now.
//!
//! **May touch:** its arguments; time is passed in.
//!
//! **Guarantees**
//! 1. One order of checks: known action and version, access key, its token, signature, signed time, nonce, rate, day,
//!    permission. A call is refused for the first that fails.
//! 2. A nonce is burnt by a call that passed the signature, time and nonce checks; by a throttled one only if so switched.
//! 3. Every call with a right signature counts in its account's day, refused or not; refused ones count in the window
//!    only if so switched.
//!
//! Source: API page 2.2, 3.2, 4.1. The order itself is not documented.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use super::acs3::{self, Authorization, Wrong};
use super::answer::{Hint, Refusal};
use super::call::{ApiVersion, Call, required};
use super::identity::{Caller, Keys};
use super::signature::verify;
use super::switches::{Denial, Form2024, Neighbour, NonceScope, Permissions, Switches, VersionQuota};
use super::throttle::{Day, Throttle};

/// What a call asks of `DataWorks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A write.
    StartDiJob,
    /// A read.
    GetDiJob,
}

impl Operation {
    fn is_write(self) -> bool {
        self == Self::StartDiJob
    }
}

/// What a call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    DataWorks(Operation, ApiVersion),
    GetCallerIdentity,
    AssumeRole,
    AssumeRoleWithOidc,
}

impl Action {
    fn is_write(self) -> bool {
        match self {
            Self::DataWorks(operation, _) => operation.is_write(),
            Self::GetCallerIdentity | Self::AssumeRole | Self::AssumeRoleWithOidc => false,
        }
    }
}

/// An access key.
#[derive(Clone)]
pub struct Key {
    /// The main account that it belongs to and that its calls are counted for.
    pub account: String,
    /// Its secret.
    pub secret: String,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("account", &self.account).finish_non_exhaustive()
    }
}

/// A call that the gateway does not let pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// With an error of the cloud, and what it says about waiting.
    Error(Refusal, Hint, SignedDuration),
    /// With a page of HTML and this status.
    Html(u16),
}

impl From<Refusal> for Stopped {
    fn from(refusal: Refusal) -> Self {
        Self::Error(refusal, Hint::None, SignedDuration::ZERO)
    }
}

/// A call that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passed {
    /// One to `DataWorks`.
    DataWorks {
        /// What it asks for.
        operation: Operation,
        /// In which version of the API.
        version: ApiVersion,
        /// The account that asks.
        account: String,
    },
    /// `GetCallerIdentity` of STS.
    GetCallerIdentity(Caller),
    /// `AssumeRole` of STS.
    AssumeRole(Caller),
    /// `AssumeRoleWithOIDC` of STS, which nobody signs.
    AssumeRoleWithOidc,
}

/// What a call counted for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls in the window of its class, this one included if it counts.
    pub window: Option<u32>,
    /// Calls of the account on this day, this one included.
    pub day: Option<u32>,
}

/// What the gateway remembers.
#[derive(Debug, Default)]
pub struct Gateway {
    nonces: Nonces,
    throttles: BTreeMap<(String, &'static str), Throttle>,
    /// The calls of each account on its day.
    days: BTreeMap<String, Day>,
}

impl Gateway {
    /// All checks of one call. `is_throttled_anyway`: a fault will answer that it was throttled.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn check(
        &mut self,
        now: Timestamp,
        call: &Call<'_>,
        keys: &Keys,
        switches: &Switches,
        is_throttled_anyway: bool,
        counts: &mut Counts,
    ) -> Result<Passed, Stopped> {
        let checked = self.checked(now, call, keys, switches, is_throttled_anyway, counts);
        checked.map_err(|stopped| match (stopped, call.version()) {
            (Stopped::Error(refusal, hint, wait), Some(ApiVersion::V2024)) => {
                Stopped::Error(switches.numbered(refusal), hint, wait)
            }
            (stopped, _) => stopped,
        })
    }

    fn checked(
        &mut self,
        now: Timestamp,
        call: &Call<'_>,
        keys: &Keys,
        switches: &Switches,
        is_throttled_anyway: bool,
        counts: &mut Counts,
    ) -> Result<Passed, Stopped> {
        let clock = now + switches.clock_offset;
        let action = known_action(call, switches)?;
        if action == Action::AssumeRoleWithOidc {
            // Nobody signs it, yet the official providers send a time.
            if let Some(time) = call.signed_time() {
                check_signed_time(clock, time, switches.signature_age)?;
            }
            return Ok(Passed::AssumeRoleWithOidc);
        }
        if call.is_garbled() {
            return Err(Refusal::of("IncompleteSignature").into());
        }
        let key_id = required("AccessKeyId", call.key_id())?;
        check_signature(call, keys.secret(clock, key_id, call.token(), &switches.sts)?)?;
        let caller = keys.caller(key_id).ok_or_else(|| Refusal::of("InvalidAccessKeyId.NotFound"))?;
        let pot = pot(&caller.account, action, switches);
        counts.day = pot.as_deref().map(|pot| self.count_day(clock, pot, switches));
        check_signed_time(clock, required("Timestamp", call.signed_time())?, switches.signature_age)?;
        let nonce = required("SignatureNonce", call.nonce())?;
        let nonce = match switches.nonce_scope {
            NonceScope::PerKey => format!("{key_id} {nonce}"),
            NonceScope::AllKeys => nonce.to_owned(),
        };
        if self.nonces.is_used(clock, &nonce, switches.nonce_memory) {
            return Err(Refusal::of("SignatureNonceUsed").into());
        }
        let turn = pot.map_or(Ok(()), |pot| self.check_rate(clock, &pot, action.is_write(), switches, counts));
        if switches.throttled_burns_nonce || (turn.is_ok() && !is_throttled_anyway) {
            self.nonces.burn(clock, nonce);
        }
        turn?;
        permitted(action, caller, switches.permissions)
    }

    /// The calls of a neighbour of `account` that fell due after `from` and not after `to`, in order. `tell` hears of each
    /// whether it was refused.
    pub fn draw(
        &mut self,
        (from, to): (Timestamp, Timestamp),
        account: &str,
        neighbour: &Neighbour,
        switches: &Switches,
        mut tell: impl FnMut(bool),
    ) {
        let of = |pace, is_write| even(from, to, pace).map(move |at| (at, is_write));
        let mut calls: Vec<_> =
            of(neighbour.reads_per_second, false).chain(of(neighbour.writes_per_second, true)).collect();
        calls.sort_unstable();
        for (at, is_write) in calls {
            let clock = at + switches.clock_offset;
            let mut counts = Counts { day: Some(self.count_day(clock, account, switches)), window: None };
            tell(self.check_rate(clock, account, is_write, switches, &mut counts).is_err());
        }
    }

    fn count_day(&mut self, clock: Timestamp, pot: &str, switches: &Switches) -> u32 {
        self.days.entry(pot.to_owned()).or_default().count(clock, switches.limits.day_turn)
    }

    fn check_rate(
        &mut self,
        clock: Timestamp,
        pot: &str,
        is_write: bool,
        switches: &Switches,
        counts: &mut Counts,
    ) -> Result<(), Stopped> {
        let limits = &switches.limits;
        if let Some((class, limit)) = limits.class(is_write) {
            let throttle = self.throttles.entry((pot.to_owned(), class)).or_default();
            let turn = throttle.call(clock, limit, limits);
            counts.window = Some(turn.count);
            if !turn.is_admitted {
                return Err(Stopped::Error(limits.refusal.clone(), limits.hint.clone(), turn.wait));
            }
        }
        match (limits.per_day, counts.day) {
            (Some(limit), Some(calls)) if calls > limit => Err(limits.day_refusal.clone().into()),
            _ => Ok(()),
        }
    }
}

/// The times after `from` and not after `to` of a client that calls so often a second.
fn even(from: Timestamp, to: Timestamp, pace: u32) -> impl Iterator<Item = Timestamp> {
    const SECOND: i128 = 1_000_000_000;
    let pace = i128::from(pace);
    let calls_until = |at: Timestamp| (at.as_nanosecond() * pace).div_euclid(SECOND);
    // Rounded up to the nanosecond, so that the call with this number is not before its time.
    let time = move |n: i128| Timestamp::from_nanosecond((n * SECOND + pace - 1).div_euclid(pace)).ok();
    (calls_until(from) + 1..=calls_until(to)).filter_map(time)
}

/// Whose calls count together; none: they do not count. The pot of the older version bears the account's own name, and a
/// neighbour draws on it.
fn pot(account: &str, action: Action, switches: &Switches) -> Option<String> {
    match (action, switches.version_quota) {
        (Action::DataWorks(_, ApiVersion::V2024), VersionQuota::Apart) => Some(format!("{account} 2024-05-18")),
        (Action::DataWorks(..), _) => Some(account.to_owned()),
        (Action::GetCallerIdentity | Action::AssumeRole | Action::AssumeRoleWithOidc, _) => None,
    }
}

/// Which action this is. The name comes first: one that no version has is not found, whatever the version.
fn known_action(call: &Call<'_>, switches: &Switches) -> Result<Action, Stopped> {
    let method = call.arrival.request.method.as_str();
    if !matches!(method, "GET" | "POST") {
        return Err(Refusal::of("UnsupportedHTTPMethod").into());
    }
    let name = required("Action", call.action())?;
    let of_dataworks = match name {
        "StartDIJob" => Some(Operation::StartDiJob),
        "GetDIJob" => Some(Operation::GetDiJob),
        _ => None,
    };
    let of_sts = match name {
        "GetCallerIdentity" => Some(Action::GetCallerIdentity),
        "AssumeRole" => Some(Action::AssumeRole),
        "AssumeRoleWithOIDC" => Some(Action::AssumeRoleWithOidc),
        _ => None,
    };
    if of_dataworks.is_none() && of_sts.is_none() {
        return Err(match switches.permissions {
            Permissions::StartOnly(denial) => deny(denial),
            Permissions::All | Permissions::NoReads(_) => Refusal::of("InvalidAction.NotFound").into(),
        });
    }
    let is_of_sts = required("Version", call.version_text())? == "2015-04-01";
    let action = match call.version() {
        Some(version) => of_dataworks.map(|operation| Action::DataWorks(operation, version)),
        None if is_of_sts => of_sts,
        None => return Err(Refusal::of("NoSuchVersion").into()),
    };
    match (action, switches.form_2024) {
        (Some(Action::DataWorks(_, ApiVersion::V2024)), Form2024::GetAndLowerCase) if method != "GET" => {
            Err(Refusal::of("UnsupportedHTTPMethod").into())
        }
        (Some(action), _) => Ok(action),
        (None, _) => Err(Refusal::of("InvalidAction.NotFound").into()),
    }
}

/// What the key may do. STS is another product: the permissions say nothing of it.
fn permitted(action: Action, caller: Caller, permissions: Permissions) -> Result<Passed, Stopped> {
    match (action, permissions) {
        (Action::DataWorks(Operation::GetDiJob, _), Permissions::NoReads(denial) | Permissions::StartOnly(denial)) => {
            Err(deny(denial))
        }
        (Action::DataWorks(operation, version), _) => {
            Ok(Passed::DataWorks { operation, version, account: caller.account })
        }
        (Action::GetCallerIdentity, _) => Ok(Passed::GetCallerIdentity(caller)),
        (Action::AssumeRole, _) => Ok(Passed::AssumeRole(caller)),
        (Action::AssumeRoleWithOidc, _) => Ok(Passed::AssumeRoleWithOidc),
    }
}

fn check_signature(call: &Call<'_>, secret: &str) -> Result<(), Refusal> {
    match &call.authorization {
        Some(authorization) => check_acs3(call, authorization, secret),
        None => check_v1(call, secret),
    }
}

fn check_acs3(call: &Call<'_>, authorization: &Authorization<'_>, secret: &str) -> Result<(), Refusal> {
    acs3::check(secret, authorization, call.arrival).map_err(|wrong| match wrong {
        Wrong::Incomplete => Refusal::of("IncompleteSignature"),
        Wrong::Mismatch { string_to_sign, canonical_request } => {
            mismatch(&format!("{string_to_sign}, server canonical request is:{canonical_request}"))
        }
    })
}

fn check_v1(call: &Call<'_>, secret: &str) -> Result<(), Refusal> {
    let parameter = |name| required(name, call.parameters.get(name));
    let given = parameter("Signature")?;
    if (parameter("SignatureMethod")?, parameter("SignatureVersion")?) != ("HMAC-SHA1", "1.0") {
        return Err(Refusal::of("IncompleteSignature"));
    }
    let string_to_sign = call.parameters.string_to_sign(&call.arrival.request.method);
    if verify(secret, &string_to_sign, given) { Ok(()) } else { Err(mismatch(&string_to_sign)) }
}

/// The client is told what it should have signed.
fn mismatch(expected: &str) -> Refusal {
    let message =
        format!("Specified signature is not matched with our calculation. server string to sign is:{expected}");
    Refusal::of("SignatureDoesNotMatch").with_message(&message)
}

fn check_signed_time(clock: Timestamp, text: &str, age: Option<SignedDuration>) -> Result<(), Stopped> {
    // `2026-01-02T03:04:05Z`: no fraction, no other zone (API page 2.2), which the parser would take.
    let signed = text.parse::<Timestamp>().ok().filter(|_| text.len() == 20 && text.ends_with('Z'));
    let signed = signed.ok_or_else(|| Refusal::of("InvalidTimeStamp.Format"))?;
    match age {
        Some(age) if clock.duration_since(signed).abs() > age => Err(Refusal::of("InvalidTimeStamp.Expired").into()),
        _ => Ok(()),
    }
}

fn deny(denial: Denial) -> Stopped {
    match denial {
        Denial::Forbidden => Refusal::of("Forbidden.RAM").into(),
        Denial::Numeric => Refusal::of("403030").into(),
        Denial::Html => Stopped::Html(404),
    }
}

#[derive(Debug, Default)]
struct Nonces {
    seen: BTreeMap<String, Timestamp>,
    order: VecDeque<(Timestamp, String)>,
}

impl Nonces {
    fn is_used(&mut self, now: Timestamp, nonce: &str, memory: Option<SignedDuration>) -> bool {
        let is_old = |at: &Timestamp| memory.is_none_or(|memory| now.duration_since(*at) >= memory);
        while self.order.front().is_some_and(|(at, _)| is_old(at)) {
            if let Some((at, old)) = self.order.pop_front()
                && self.seen.get(&old) == Some(&at)
            {
                self.seen.remove(&old);
            }
        }
        self.seen.get(nonce).is_some_and(|at| !is_old(at))
    }

    fn burn(&mut self, now: Timestamp, nonce: String) {
        self.order.push_back((now, nonce.clone()));
        self.seen.insert(nonce, now);
    }
}
