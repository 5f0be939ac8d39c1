//! When a call reached the cloud, as far as its round trip tells.
//!
//! **May touch:** its arguments, like all of this module.
//!
//! **Guarantees**
//! 1. No arrival is put before the call was sent, nor after it ended.
//! 2. Nothing is believed at once but a shorter trip: until hundreds of calls have travelled as long, an arrival is put
//!    near the end of its call.
//!
//! **Assumes:** an answer needs about as long as the fastest trip leaves it. That is a guess, and its slack is another:
//! without it a call would hold its place for the whole of each trip, and a far cloud would cost a twentieth of the pace.

use std::time::Duration;

/// One of so many parts of the difference is what a longer trip adds to the fastest.
const RISE: u32 = 256;
/// What the window is made shorter by while the cloud refuses nothing.
const SLACK: Duration = Duration::from_millis(30);

/// The fastest round trip of late; nothing at first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fastest(Duration);

impl Fastest {
    /// Takes note of a round trip.
    pub(super) fn note(&mut self, trip: Duration) {
        self.0 = trip.min(self.0.saturating_add(trip.saturating_sub(self.0) / RISE));
    }

    /// When a call arrived that was sent and ended then. Slowed by a refusal, we believe it later.
    pub(super) fn arrival(self, sent: Duration, ended: Duration, is_slowed: bool) -> Duration {
        let slack = if is_slowed { Duration::ZERO } else { SLACK };
        ended.saturating_sub(self.0).saturating_sub(slack).max(sent).min(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn after(trips: impl IntoIterator<Item = u64>) -> Fastest {
        let mut fastest = Fastest::default();
        trips.into_iter().for_each(|trip| fastest.note(at(trip)));
        fastest
    }

    #[test]
    fn at_first_a_call_arrived_when_it_ended_but_for_the_slack() {
        assert_eq!(Fastest::default().arrival(at(1_000), at(1_100), false), at(1_070));
        assert_eq!(Fastest::default().arrival(at(1_000), at(1_100), true), at(1_100));
    }

    #[test]
    fn a_shorter_trip_is_believed_at_once_and_a_longer_one_after_hundreds() {
        let far = after(std::iter::repeat_n(80, 2_000));
        assert!(far.0 > at(79) && far.0 <= at(80), "{far:?}");
        assert!(after(std::iter::repeat_n(80, 100)).0 < at(27));
        let mut near = far;
        near.note(at(5));
        assert_eq!(near.0, at(5));
        near.note(at(80));
        assert!(near.0 < at(6), "{near:?}");
    }

    #[test]
    fn an_answer_later_than_the_fastest_trip_is_an_arrival_that_much_later() {
        let far = after(std::iter::repeat_n(80, 20_000));
        let delta = far.arrival(at(1_000), at(1_200), true).abs_diff(at(1_120));
        assert!(delta < at(1), "{delta:?}");
    }

    #[test]
    fn no_arrival_is_before_the_call_or_after_its_end() {
        for (fastest, ended) in [
            (after(std::iter::repeat_n(80, 2_000)), 1_010),
            (after([]), 1_000),
            (after(std::iter::repeat_n(80, 2_000)), 900),
        ] {
            for is_slowed in [false, true] {
                let arrival = fastest.arrival(at(1_000), at(ended), is_slowed);
                assert!(arrival >= at(1_000).min(at(ended)) && arrival <= at(ended), "{arrival:?}");
            }
        }
    }
}
