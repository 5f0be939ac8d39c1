//! Switches that are one choice each.
//!
//! **May touch:** nothing; plain data.
//!
//! **Guarantees**
//! 1. The default of each is a cloud in order.

use serde::{Deserialize, Serialize};

/// How the gateway says no to a call that the key may not make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Denial {
    /// 403 `Forbidden.RAM`, as the access control does.
    Forbidden,
    /// 403 `403030`, the same in numbers.
    Numeric,
    /// 404 and a page of HTML, as a gateway that does not know the call.
    Html,
}

/// What keys may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Permissions {
    /// All that the cloud offers.
    #[default]
    All,
    /// No reads.
    NoReads(Denial),
    /// `StartDIJob` alone is known; every other action is refused this way, unknown ones too.
    StartOnly(Denial),
}

/// Whose nonces are remembered together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NonceScope {
    /// Those of one access key.
    #[default]
    PerKey,
    /// All.
    AllKeys,
}

/// How `DataWorks` itself, behind the gateway, says that a call failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Failures {
    /// By the HTTP status of the code.
    #[default]
    ByStatus,
    /// With status 200 and `Success: false`.
    BySuccess,
}

/// In which form version 2024-05-18 takes a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Form2024 {
    /// By GET and POST; `True` as `true`.
    #[default]
    Any,
    /// By GET alone, as its page lists it, and with booleans in lower case.
    GetAndLowerCase,
}

/// Whose calls the limits of one account count together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VersionQuota {
    /// Those of all versions.
    #[default]
    One,
    /// Those of each version. A neighbour calls the older one.
    Apart,
}
