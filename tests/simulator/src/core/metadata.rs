//! The metadata service of a machine (ECS), version 2: keys for the role that the machine plays.
//!
//! **May touch:** the cloud's keys; time is passed in.
//!
//! **Guarantees**
//! 1. Nothing is told without a token of its own that is still good, unless a switch says so.
//! 2. A key is told again until half of its life is over; then there is a new one, and the old one is good to its end.
//!
//! | request | answer |
//! |---|---|
//! | `PUT /latest/api/token` | a token, for as many seconds as a header asks: 1 to 21,600 |
//! | `GET /latest/meta-data/ram/security-credentials/` | the role's name |
//! | `GET /latest/meta-data/ram/security-credentials/{role}` | a key of the role |
//!
//! Source: API page 2.6, the vendor's page on instance metadata. Which status refuses what is not documented there.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Arrival;
use super::identity::{Keys, RoleArn, Session, Temporary};
use super::sts::{credentials, in_seconds};

const TOKEN: &str = "/latest/api/token";
const KEYS: &str = "/latest/meta-data/ram/security-credentials/";

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Metadata {
    /// ARN of the role that it plays; absent: none.
    pub role: Option<String>,
    /// Whether a read needs a token. Otherwise it is as version 1: no token, or any.
    pub needs_token: bool,
    /// How long its keys live.
    pub life: SignedDuration,
}

impl Default for Metadata {
    fn default() -> Self {
        Self { role: None, needs_token: true, life: SignedDuration::from_hours(6) }
    }
}

/// What the service remembers.
#[derive(Default)]
pub struct Machine {
    /// Tokens, and until when each is good.
    tokens: BTreeMap<String, Timestamp>,
    /// The key that is told now, and since when.
    current: Option<(Timestamp, String, Temporary)>,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("tokens", &self.tokens.len()).field("current", &self.current).finish()
    }
}

/// What the service answers.
pub(crate) enum Told {
    Text(String),
    Json(Value),
    /// A page with this status.
    No(u16),
}

/// What a path asks of the service; none: it is not one of its paths.
pub(crate) fn action(path: &str) -> Option<&'static str> {
    match path {
        TOKEN => Some("MetadataToken"),
        KEYS => Some("MetadataRole"),
        _ if path.starts_with(KEYS) => Some("MetadataKey"),
        _ => path.starts_with("/latest/").then_some("Metadata"),
    }
}

impl Machine {
    pub(crate) fn tell(&mut self, clock: Timestamp, arrival: &Arrival, metadata: &Metadata, keys: &mut Keys) -> Told {
        let (method, path) = (arrival.request.method.as_str(), arrival.request.path.as_str());
        let header = |name| arrival.headers.get(name);
        match (method, path) {
            ("PUT", TOKEN) => self.token(clock, header("x-aliyun-ecs-metadata-token-ttl-seconds"), keys),
            ("GET", _) if metadata.needs_token && !self.is_good(clock, header("x-aliyun-ecs-metadata-token")) => {
                Told::No(403)
            }
            ("GET", _) => self.role(clock, path, metadata, keys),
            _ => Told::No(405),
        }
    }

    fn token(&mut self, clock: Timestamp, seconds: Option<&str>, keys: &mut Keys) -> Told {
        let seconds = seconds.and_then(|text| text.parse().ok()).filter(|seconds| (1..=21_600).contains(seconds));
        let Some(seconds) = seconds else { return Told::No(400) };
        let token = STANDARD.encode(keys.draw());
        self.tokens.insert(token.clone(), clock + SignedDuration::from_secs(seconds));
        Told::Text(token)
    }

    fn is_good(&self, clock: Timestamp, token: Option<&str>) -> bool {
        token.and_then(|token| self.tokens.get(token)).is_some_and(|end| clock < *end)
    }

    fn role(&mut self, clock: Timestamp, path: &str, metadata: &Metadata, keys: &mut Keys) -> Told {
        let role = metadata.role.as_deref().and_then(RoleArn::parse);
        match (role, path.strip_prefix(KEYS)) {
            (Some(role), Some("")) => Told::Text(role.name),
            (Some(role), Some(name)) if name == role.name => self.key(clock, role, metadata.life, keys),
            _ => Told::No(404),
        }
    }

    fn key(&mut self, clock: Timestamp, role: RoleArn, life: SignedDuration, keys: &mut Keys) -> Told {
        let is_fresh = |(since, _, lent): &(Timestamp, String, Temporary)| {
            lent.session.role == role && clock < *since + lent.expiration.duration_since(*since) / 2
        };
        let current = self.current.take().filter(is_fresh).unwrap_or_else(|| {
            // The machine plays the role in its own name.
            let (id, lent) = keys.lend(clock, Session { role, name: "vm-simulated".to_owned() }, life);
            (clock, id, lent)
        });
        let (since, id, lent) = &current;
        let mut told = credentials(id, lent);
        if let Some(fields) = told.as_object_mut() {
            fields.insert("Code".to_owned(), json!("Success"));
            fields.insert("LastUpdated".to_owned(), json!(in_seconds(*since)));
        }
        self.current = Some(current);
        Told::Json(told)
    }
}
