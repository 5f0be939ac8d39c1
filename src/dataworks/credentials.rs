//! Access keys: what signs a request.
//!
//! **May touch:** its arguments.
//!
//! **Guarantees**
//! 1. A key that was accepted is plain printable text: nothing in it can break a header, a URL or a log line.
//! 2. No output of a key or of a problem with one shows any part of the key.

use std::fmt;

use secrecy::SecretString;

/// An access key of the cloud, permanent or temporary.
#[derive(Clone)]
pub struct AccessKey {
    /// The public half, `AccessKeyId`.
    pub id: String,
    /// The secret half.
    pub secret: SecretString,
    /// The token of a temporary key; absent with a permanent one.
    pub security_token: Option<SecretString>,
}

/// A part of an access key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// `AccessKeyId`.
    Id,
    /// The secret.
    Secret,
    /// `SecurityToken`.
    SecurityToken,
}

/// Why a text is no part of an access key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    /// Nothing is left after trimming.
    #[error("the {0} is empty")]
    Empty(KeyPart),
    /// It holds a space, a control character or anything beyond ASCII, such as a byte order mark.
    #[error("the {0} holds characters that no key has: store its bare text")]
    Malformed(KeyPart),
    /// It is far longer than any key.
    #[error("the {0} is too long to be one: store its bare text")]
    TooLong(KeyPart),
}

impl AccessKey {
    /// Takes a key as it stands in a Secret. White space around each part is dropped, since files end in a newline.
    ///
    /// # Errors
    /// [`KeyProblem`] names the part that cannot be one.
    pub fn new(id: &str, secret: &str, security_token: Option<&str>) -> Result<Self, KeyProblem> {
        Ok(Self {
            id: plain(KeyPart::Id, id)?.to_owned(),
            secret: plain(KeyPart::Secret, secret)?.into(),
            security_token: security_token
                .map(|token| plain(KeyPart::SecurityToken, token))
                .transpose()?
                .map(SecretString::from),
        })
    }
}

fn plain(part: KeyPart, text: &str) -> Result<&str, KeyProblem> {
    let text = text.trim();
    if text.is_empty() {
        return Err(KeyProblem::Empty(part));
    }
    // Keys have 16 to 30 characters, tokens up to about 2,000 (seen): room to grow, and a URL that every proxy takes.
    let limit = match part {
        KeyPart::Id | KeyPart::Secret => 256,
        KeyPart::SecurityToken => 8 * 1024,
    };
    if text.len() > limit {
        return Err(KeyProblem::TooLong(part));
    }
    if text.bytes().all(|byte| byte.is_ascii_graphic()) { Ok(text) } else { Err(KeyProblem::Malformed(part)) }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey").finish_non_exhaustive()
    }
}

impl fmt::Display for KeyPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Id => "access key id",
            Self::Secret => "access key secret",
            Self::SecurityToken => "security token",
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn white_space_around_a_key_is_dropped() {
        let key = AccessKey::new(" id\n", "secret\r\n", Some("\ttoken\n")).unwrap();
        assert_eq!(key.id, "id");
        assert_eq!(key.secret.expose_secret(), "secret");
        assert_eq!(key.security_token.unwrap().expose_secret(), "token");
    }

    #[test]
    fn what_cannot_be_a_key_is_refused_by_part() {
        let long = "x".repeat(257);
        let long_token = "x".repeat(8 * 1024 + 1);
        let rows = [
            ("", "s", None, KeyProblem::Empty(KeyPart::Id)),
            ("id", " \n", None, KeyProblem::Empty(KeyPart::Secret)),
            ("id", "s", Some(""), KeyProblem::Empty(KeyPart::SecurityToken)),
            ("i\nd", "s", None, KeyProblem::Malformed(KeyPart::Id)),
            ("id", "s\0s", None, KeyProblem::Malformed(KeyPart::Secret)),
            ("id", "a b", None, KeyProblem::Malformed(KeyPart::Secret)),
            ("\u{feff}id", "s", None, KeyProblem::Malformed(KeyPart::Id)),
            ("id", &long, None, KeyProblem::TooLong(KeyPart::Secret)),
            (&long, "s", None, KeyProblem::TooLong(KeyPart::Id)),
            ("id", "s", Some(&long_token), KeyProblem::TooLong(KeyPart::SecurityToken)),
        ];
        for (id, secret, token, problem) in rows {
            assert_eq!(AccessKey::new(id, secret, token).unwrap_err(), problem);
        }
    }

    #[test]
    fn the_longest_parts_are_taken() {
        let (long, long_token) = ("x".repeat(256), "x".repeat(8 * 1024));
        assert!(AccessKey::new(&long, &long, Some(&long_token)).is_ok());
    }

    #[test]
    fn a_problem_names_the_part() {
        let told = |part| KeyProblem::Empty(part).to_string();
        assert_eq!(told(KeyPart::Id), "the access key id is empty");
        assert_eq!(told(KeyPart::Secret), "the access key secret is empty");
        assert_eq!(told(KeyPart::SecurityToken), "the security token is empty");
    }

    #[test]
    fn a_key_and_its_problems_print_nothing_of_it() {
        let key = AccessKey::new("canary-id", "canary-secret", Some("canary-token")).unwrap();
        assert_eq!(format!("{key:?}"), "AccessKey { .. }");
        let problem = AccessKey::new("id", "canary secret", None).unwrap_err();
        assert!(!format!("{problem} {problem:?}").contains("canary"));
    }
}
