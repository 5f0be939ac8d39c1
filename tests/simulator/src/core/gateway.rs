//! The gateway: who may call, and whether now.
//!
//! **May touch:** its arguments; time is passed in.
//!
//! **Guarantees**
//! 1. One order of checks: known action and version, access key, signature, signed time, nonce, rate, day, permission.
//!    A call is refused for the first that fails.
//! 2. A nonce is burnt by a call that passed the signature, time and nonce checks; by a throttled one only if so switched.
//! 3. Every call with a right signature counts in its account's day, refused or not; refused ones count in the window
//!    only if so switched.
//!
//! Source: API page 2.2, 3.2, 4.1. The order itself is not documented.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use super::answer::{Hint, Refusal};
use super::signature::{Parameters, verify};
use super::switches::{Denial, Neighbour, NonceScope, Permissions, Switches};
use super::throttle::{Day, Throttle};

/// What a call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A write.
    StartDiJob,
    /// A read.
    GetDiJob,
}

impl Operation {
    fn of(action: &str) -> Option<Self> {
        match action {
            "StartDIJob" => Some(Self::StartDiJob),
            "GetDIJob" => Some(Self::GetDiJob),
            _ => None,
        }
    }

    fn is_write(self) -> bool {
        self == Self::StartDiJob
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
pub struct Passed {
    /// What it asks for.
    pub operation: Operation,
    /// The account that asks.
    pub account: String,
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
        request: (&str, &Parameters),
        keys: &BTreeMap<String, Key>,
        switches: &Switches,
        is_throttled_anyway: bool,
        counts: &mut Counts,
    ) -> Result<Passed, Stopped> {
        let (method, parameters) = request;
        let clock = now + switches.clock_offset;
        let operation = known_operation(method, parameters, switches.permissions)?;
        let key_id = required(parameters, "AccessKeyId")?;
        let key = keys.get(key_id).ok_or_else(|| Refusal::of("InvalidAccessKeyId.NotFound"))?;
        check_signature(method, parameters, &key.secret)?;
        counts.day = Some(self.count_day(clock, &key.account, switches));
        check_signed_time(clock, required(parameters, "Timestamp")?, switches.signature_age)?;
        let nonce = match switches.nonce_scope {
            NonceScope::PerKey => format!("{key_id} {}", required(parameters, "SignatureNonce")?),
            NonceScope::AllKeys => required(parameters, "SignatureNonce")?.to_owned(),
        };
        if self.nonces.is_used(clock, &nonce, switches.nonce_memory) {
            return Err(Refusal::of("SignatureNonceUsed").into());
        }
        let turn = self.check_rate(clock, &key.account, operation.is_write(), switches, counts);
        if switches.throttled_burns_nonce || (turn.is_ok() && !is_throttled_anyway) {
            self.nonces.burn(clock, nonce);
        }
        turn?;
        match (operation, switches.permissions) {
            (Operation::GetDiJob, Permissions::NoReads(denial) | Permissions::StartOnly(denial)) => Err(deny(denial)),
            (Operation::GetDiJob, Permissions::All) | (Operation::StartDiJob, _) => {
                Ok(Passed { operation, account: key.account.clone() })
            }
        }
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

    fn count_day(&mut self, clock: Timestamp, account: &str, switches: &Switches) -> u32 {
        self.days.entry(account.to_owned()).or_default().count(clock, switches.limits.day_turn)
    }

    fn check_rate(
        &mut self,
        clock: Timestamp,
        account: &str,
        is_write: bool,
        switches: &Switches,
        counts: &mut Counts,
    ) -> Result<(), Stopped> {
        let limits = &switches.limits;
        if let Some((class, limit)) = limits.class(is_write) {
            let throttle = self.throttles.entry((account.to_owned(), class)).or_default();
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

fn known_operation(method: &str, parameters: &Parameters, permissions: Permissions) -> Result<Operation, Stopped> {
    if !matches!(method, "GET" | "POST") {
        return Err(Refusal::of("UnsupportedHTTPMethod").into());
    }
    let action = required(parameters, "Action")?;
    let Some(operation) = Operation::of(action) else {
        return Err(match permissions {
            Permissions::StartOnly(denial) => deny(denial),
            Permissions::All | Permissions::NoReads(_) => Refusal::of("InvalidAction.NotFound").into(),
        });
    };
    match required(parameters, "Version")? {
        "2020-05-18" => Ok(operation),
        _ => Err(Refusal::of("NoSuchVersion").into()),
    }
}

fn check_signature(method: &str, parameters: &Parameters, secret: &str) -> Result<(), Stopped> {
    let given = required(parameters, "Signature")?;
    let scheme = (required(parameters, "SignatureMethod")?, required(parameters, "SignatureVersion")?);
    if scheme != ("HMAC-SHA1", "1.0") {
        return Err(Refusal::of("IncompleteSignature").into());
    }
    let string_to_sign = parameters.string_to_sign(method);
    if verify(secret, &string_to_sign, given) {
        return Ok(());
    }
    let message =
        format!("Specified signature is not matched with our calculation. server string to sign is:{string_to_sign}");
    Err(Refusal::of("SignatureDoesNotMatch").with_message(&message).into())
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

/// A parameter that must be there and not be empty; else `Missing{Parameter}`.
pub(crate) fn required<'a>(parameters: &'a Parameters, name: &str) -> Result<&'a str, Refusal> {
    parameters.get(name).filter(|value| !value.is_empty()).ok_or_else(|| {
        Refusal::of(&format!("Missing{name}")).with_message(&format!("{name} is mandatory for this action."))
    })
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
