//! OIDC tokens, as far as STS looks into them here: claims, not the signature.
//!
//! **May touch:** its arguments; time is passed in.
//!
//! **Guarantees**
//! 1. A token without issuer, subject, audience or expiry is no token.
//! 2. The codes are those that the cloud documents for STS 2015-04-01.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Deserialize;

use super::answer::Refusal;

/// What a token says.
#[derive(Debug, Deserialize)]
pub(crate) struct Claims {
    pub iss: String,
    pub sub: String,
    pub aud: Audience,
    pub exp: i64,
    pub iat: Option<i64>,
    pub nbf: Option<i64>,
}

/// One, or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    pub(crate) fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Several(several) => several,
        }
    }
}

fn invalid(message: &str) -> Refusal {
    Refusal::of("AuthenticationFail.OIDCToken.Invalid").with_message(message)
}

impl Claims {
    pub(crate) fn read(token: &str) -> Result<Self, Refusal> {
        let parts: Vec<_> = token.split('.').collect();
        let &[_, claims, _] = parts.as_slice() else {
            return Err(invalid("The number of Jwt field should be divided into 3 parts with '.' ."));
        };
        let claims = URL_SAFE_NO_PAD
            .decode(claims)
            .map_err(|_| invalid("Cannot decode base64 encoded response(format invalided)."))?;
        serde_json::from_slice(&claims).map_err(|_| invalid("The Jwt content is invalid that cannot be recognized."))
    }

    /// Whether it is good now, for this audience.
    pub(crate) fn check(&self, clock: Timestamp, audience: &str) -> Result<(), Refusal> {
        let now = clock.as_second();
        if self.exp <= now {
            return Err(Refusal::of("AuthenticationFail.OIDCToken.Expired"));
        }
        if self.nbf.is_some_and(|from| from > now) {
            return Err(invalid("This JsonWebToken is not valid yet."));
        }
        if self.aud.all().iter().any(|one| one == audience) {
            return Ok(());
        }
        Err(Refusal::of("AuthenticationFail.OIDCToken.AudienceNotMatch"))
    }
}
