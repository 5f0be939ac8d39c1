//! A call's own parameters, and numbers drawn from seeds.
//!
//! **May touch:** its arguments.
//!
//! **Guarantees**
//! 1. A parameter that cannot be read is refused by its name, and nothing is guessed.
//! 2. The same seed and place always draw the same number.

use serde_json::Value;

use super::answer::Refusal;
use super::signature::Parameters;

/// The Python clients of the cloud write `True`, the others `true` (API page 2.4); a strict version takes `true` alone.
pub(crate) fn forced(parameters: &Parameters, is_strict: bool) -> Result<bool, Refusal> {
    match parameters.get("ForceToRerun") {
        None | Some("" | "false") => Ok(false),
        Some("true") => Ok(true),
        Some("False") if !is_strict => Ok(false),
        Some("True") if !is_strict => Ok(true),
        Some(_) => Err(Refusal::of("InvalidForceToRerun")),
    }
}

/// `StartTime` of `RealtimeStartSettings`, which is compact JSON in one parameter (API page 1.3).
pub(crate) fn offset(parameters: &Parameters) -> Result<Option<i64>, Refusal> {
    let Some(text) = parameters.get("RealtimeStartSettings") else { return Ok(None) };
    let invalid = || Refusal::of("InvalidRealtimeStartSettings");
    let settings: Value = serde_json::from_str(text).map_err(|_| invalid())?;
    let settings = settings.as_object().ok_or_else(invalid)?;
    let failover =
        settings.get("FailoverSettings").map(|failover| failover.as_object().ok_or_else(invalid)).transpose()?;
    let numbers = ["Interval", "UpperLimit"].iter().filter_map(|name| failover.and_then(|fields| fields.get(*name)));
    if numbers.into_iter().any(|number| number.as_i64().is_none()) {
        return Err(invalid());
    }
    settings.get("StartTime").map(|time| time.as_i64().ok_or_else(invalid)).transpose()
}

/// A request id in the cloud's form: upper-case groups. It holds the place in the ledger, so it is never the same twice.
pub(crate) fn request_id(seed: u64, seq: u64) -> String {
    let mixed = (seed ^ seq).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let low = mixed ^ (mixed >> 29);
    format!(
        "{:08X}-{:04X}-5000-8000-{:012X}",
        low >> 32,
        (low >> 16) & 0xFFFF,
        ((low & 0xFFFF) << 32) | (seq & 0xFFFF_FFFF)
    )
}

/// The number at this place of a seed's sequence (`SplitMix64`, Steele and others, 2014).
pub(crate) fn drawn(seed: u64, place: u64) -> u64 {
    let state = seed.wrapping_add(place.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
