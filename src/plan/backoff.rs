//! How long to wait before the next attempt, per retry class.

use std::time::Duration;

/// What a refused start waits, unless spec, account or Secret change: design choice, a cloud 4xx is never for ever.
pub const SLOW: Duration = Duration::from_secs(15 * 60);
/// No wait of one object is longer; a time further away was written by another clock.
pub const LONGEST: Duration = SLOW;

const FIRST: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_secs(5 * 60);

/// Exponential backoff with full jitter: between 1 s and `min(5 min, 2^(attempt-1) s)`. `jitter` is in `[0, 1)`.
#[must_use]
pub fn delay(attempt: i32, jitter: f64) -> Duration {
    let doublings = u32::try_from(attempt.clamp(1, 16) - 1).unwrap_or(0);
    let most = FIRST.saturating_mul(1 << doublings).min(CAP);
    FIRST.max(most.mul_f64(jitter.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_from_a_second_to_five_minutes_and_are_spread_by_jitter() {
        assert_eq!(delay(1, 0.99), FIRST);
        assert_eq!(delay(4, 0.5), Duration::from_secs(4));
        assert_eq!(delay(12, 1.0), CAP);
        assert_eq!(delay(i32::MAX, 0.0), FIRST);
        assert_eq!(delay(i32::MIN, 1.0), FIRST);
    }
}
