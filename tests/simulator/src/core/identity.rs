//! Who may call: keys that last, and temporary ones that STS and machines hand out.
//!
//! **May touch:** its arguments; time is passed in.
//!
//! **Guarantees**
//! 1. A temporary key is good with its own token alone, until it expires; it belongs to the account of its role.
//! 2. What is handed out is a function of seed and number: never the same twice, and no secret to whoever knows the seed.
//! 3. Debug shows ids, accounts and times, no secret and no token.
//!
//! Source: API page 2.6 and 3.2. Which check comes first is not documented: here the token, since it holds the key.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::acs3::hex;
use super::answer::Refusal;
use super::call::required;
use super::gateway::Key;
use super::sts::Sts;

/// A RAM role: `acs:ram::<account>:role/<name>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleArn {
    /// The main account that it belongs to.
    pub account: String,
    /// Its name.
    pub name: String,
}

impl RoleArn {
    /// Reads an ARN. None: it is of another form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (account, name) = text.strip_prefix("acs:ram::")?.split_once(":role/")?;
        let is_number = !account.is_empty() && account.bytes().all(|byte| byte.is_ascii_digit());
        (is_number && !name.is_empty()).then(|| Self { account: account.to_owned(), name: name.to_owned() })
    }

    /// What the cloud numbers it by.
    pub(crate) fn id(&self) -> String {
        number(&format!("{} {}", self.account, self.name))
    }
}

/// A role as it is played by somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The role.
    pub role: RoleArn,
    /// `RoleSessionName`.
    pub name: String,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The main account that pays for it.
    pub account: String,
    /// The id of its key.
    pub key_id: String,
    /// The role that it plays; absent: it is a RAM user.
    pub session: Option<Session>,
}

impl Caller {
    /// Its ARN, as `GetCallerIdentity` tells it.
    #[must_use]
    pub fn arn(&self) -> String {
        let Self { account, key_id, session } = self;
        match session {
            None => format!("acs:ram::{account}:user/{key_id}"),
            Some(Session { role, name }) => format!("acs:ram::{account}:assumed-role/{}/{name}", role.name),
        }
    }
}

/// A temporary key, whole.
#[derive(Clone)]
pub struct Temporary {
    /// Whose it is and what signs.
    pub key: Key,
    /// What must come along with each call.
    pub token: String,
    /// When it ends, by the server's clock.
    pub expiration: Timestamp,
    /// The role that it plays.
    pub session: Session,
}

impl Temporary {
    /// One that nobody lent: it plays a role that no switch needs to declare.
    #[must_use]
    pub fn by_hand(account: &str, secret: &str, token: &str, expiration: Timestamp) -> Self {
        let key = Key { account: account.to_owned(), secret: secret.to_owned() };
        let role = RoleArn { account: account.to_owned(), name: "by-hand".to_owned() };
        Self { key, token: token.to_owned(), expiration, session: Session { role, name: "by-hand".to_owned() } }
    }
}

impl fmt::Debug for Temporary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, token: _, expiration, session } = self;
        f.debug_struct("Temporary")
            .field("key", key)
            .field("expiration", expiration)
            .field("session", session)
            .finish_non_exhaustive()
    }
}

/// What may be told of a temporary key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lent {
    /// `AccessKeyId`.
    pub id: String,
    /// The main account that its calls are counted for.
    pub account: String,
    /// The ARN of who calls with it.
    pub caller: String,
    /// When it ends, by the server's clock.
    pub expiration: Timestamp,
}

/// All keys.
#[derive(Debug)]
pub struct Keys {
    lasting: BTreeMap<String, Key>,
    temporary: BTreeMap<String, Temporary>,
    seed: u64,
    drawn: u64,
}

impl Keys {
    pub(crate) fn new(seed: u64) -> Self {
        Self { lasting: BTreeMap::new(), temporary: BTreeMap::new(), seed, drawn: 0 }
    }

    pub(crate) fn put(&mut self, id: &str, key: Key) {
        self.lasting.insert(id.to_owned(), key);
    }

    pub(crate) fn replace_secret(&mut self, id: &str, secret: &str) -> bool {
        let key = self.lasting.get_mut(id);
        key.map(|key| secret.clone_into(&mut key.secret)).is_some()
    }

    pub(crate) fn remove(&mut self, id: &str) -> bool {
        let was_lent = self.temporary.remove(id).is_some();
        self.lasting.remove(id).is_some() || was_lent
    }

    pub(crate) fn put_temporary(&mut self, id: &str, temporary: Temporary) {
        self.temporary.insert(id.to_owned(), temporary);
    }

    /// Ends all temporary keys.
    pub(crate) fn expire(&mut self, clock: Timestamp) {
        for temporary in self.temporary.values_mut() {
            temporary.expiration = temporary.expiration.min(clock);
        }
    }

    /// All accounts that have a lasting key.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = &String> {
        self.lasting.values().map(|key| &key.account)
    }

    /// Who has this key, be it good or not.
    pub(crate) fn caller(&self, id: &str) -> Option<Caller> {
        let caller = |key: &Key, session| Caller { account: key.account.clone(), key_id: id.to_owned(), session };
        let lasting = self.lasting.get(id).map(|key| caller(key, None));
        lasting.or_else(|| self.temporary.get(id).map(|lent| caller(&lent.key, Some(lent.session.clone()))))
    }

    /// What may be told of the temporary keys.
    pub(crate) fn lent(&self) -> Vec<Lent> {
        let tell = |(id, lent): (&String, &Temporary)| {
            let caller = self.caller(id).map(|caller| caller.arn()).unwrap_or_default();
            Lent { id: id.clone(), account: lent.key.account.clone(), caller, expiration: lent.expiration }
        };
        self.temporary.iter().map(tell).collect()
    }

    /// The secret that a call with this key and token must be signed with. A lasting key needs no token and minds none.
    pub(crate) fn secret(
        &self,
        clock: Timestamp,
        id: &str,
        token: Option<&str>,
        switches: &Sts,
    ) -> Result<&str, Refusal> {
        if let Some(key) = self.lasting.get(id) {
            return Ok(&key.secret);
        }
        let lent = self.temporary.get(id).ok_or_else(|| Refusal::of("InvalidAccessKeyId.NotFound"))?;
        let token = required("SecurityToken", token)?;
        if lent.token != token {
            let is_another_s = self.temporary.values().any(|other| other.token == token);
            let what = if is_another_s { "MismatchWithAccessKey" } else { "Malformed" };
            return Err(Refusal::of(&format!("InvalidSecurityToken.{what}")));
        }
        if clock >= lent.expiration - switches.expires_early {
            return Err(Refusal::of("InvalidSecurityToken.Expired"));
        }
        switches.refused.clone().map_or(Ok(&lent.key.secret), Err)
    }

    /// A new temporary key for a role.
    pub(crate) fn lend(&mut self, clock: Timestamp, session: Session, life: SignedDuration) -> (String, Temporary) {
        let id = format!("STS.NT{}", hex(&self.draw()).get(..20).unwrap_or_default().to_ascii_uppercase());
        let secret = STANDARD.encode(self.draw()).trim_end_matches('=').to_owned();
        // As long and as awkward as real ones: with signs that must be encoded on the way.
        let bytes = [self.draw(), self.draw(), self.draw(), self.draw()].concat();
        let token = format!("CAIS+/{}==", STANDARD.encode(bytes).trim_end_matches('='));
        let key = Key { account: session.role.account.clone(), secret };
        // Told in whole seconds, so it ends at one.
        let expiration = Timestamp::from_second((clock + life).as_second()).unwrap_or(clock);
        let lent = Temporary { key, token, expiration, session };
        self.temporary.insert(id.clone(), lent.clone());
        (id, lent)
    }

    /// Something that nobody can tell beforehand who does not know the seed.
    pub(crate) fn draw(&mut self) -> Vec<u8> {
        self.drawn += 1;
        Sha256::digest(format!("{} {}", self.seed, self.drawn)).to_vec()
    }
}

/// A number of 18 digits for a name, always the same, as the cloud numbers users and roles.
pub(crate) fn number(name: &str) -> String {
    let digits = Sha256::digest(name).iter().take(17).map(|byte| char::from(b'0' + byte % 10)).collect::<String>();
    format!("2{digits}")
}
