//! What was seen of the Lease, and when, becomes: acquire, renew, wait or step down. Pure.
//!
//! **May touch:** its arguments. Time is monotonic time of this process; no two clocks are ever compared.
//!
//! **Guarantees**
//! 1. A Lease is taken over only after one version of it stood still before our own eyes for its whole duration and
//!    ours, whoever stands in it: somebody's edit may have emptied it, or handed it to us. Only a clean release is free
//!    at once. An absent one may have been deleted under its holder: it is created without a holder first.
//! 2. Leadership ends one renew deadline after the last successful write was *sent*, whatever the network does, and at
//!    the first sight of another holder.
//!
//! **Assumes:** the renew deadline is shorter than the lease duration, by more than clocks drift apart in that time;
//! every write bears the version that was read; nobody forges a clean release.

use std::time::Duration;

/// The duration that a clean release leaves in the Lease, together with no holder.
pub const RELEASED: Duration = Duration::from_secs(1);

/// How a candidate takes part in an election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The namespace of the Lease.
    pub namespace: String,
    /// The name of the Lease.
    pub name: String,
    /// Who we are: the pod's name and a random part, so that no restarted process takes its predecessor's Lease for its
    /// own.
    pub identity: String,
    /// How long others wait for a holder that is silent; whole seconds, usually 15.
    pub lease_duration: Duration,
    /// How long we lead after a renewal, usually 10 s.
    pub renew_deadline: Duration,
    /// The time from one look at the Lease to the next, usually 2 s.
    pub retry_period: Duration,
}

/// What this process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Another leads, or nobody yet.
    Follower,
    /// We lead.
    Leader {
        /// Our identity.
        holder: String,
        /// How often the Lease has changed hands: the epoch.
        transitions: i64,
        /// Until when, on the monotonic clock of this process. It moves with each renewal.
        valid_until: Duration,
    },
    /// We led, and no longer do. Final: the process ends.
    Lost,
}

impl Role {
    /// The role of a process that runs without an election.
    #[must_use]
    pub fn always(holder: impl Into<String>) -> Self {
        Self::Leader { holder: holder.into(), transitions: 0, valid_until: Duration::MAX }
    }

    /// Whether we surely lead for longer than `need` from `now` on: the fence before a call.
    #[must_use]
    pub fn outlasts(&self, now: Duration, need: Duration) -> bool {
        match self {
            Self::Leader { valid_until, .. } => now.saturating_add(need) < *valid_until,
            Self::Follower | Self::Lost => false,
        }
    }
}

/// What a read of the Lease said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its resource version.
    pub version: String,
    /// Its holder; empty: none.
    pub holder: String,
    /// The duration that its holder asks for; zero: not said.
    pub duration: Duration,
    /// How often it has changed hands.
    pub transitions: i32,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Create the Lease without a holder, with these transitions: what stands still must have a version.
    Place(i32),
    /// Write ourselves into the Lease, with these transitions.
    Acquire(i32),
    /// Write the Lease anew, with these transitions; create it if it is absent.
    Renew(i32),
    /// Look again later.
    Wait,
    /// We lead no more.
    StepDown,
}

/// A version of the Lease that is not ours.
#[derive(Clone, Debug)]
struct Still {
    version: String,
    transitions: i32,
    expires: Duration,
}

/// One candidate's part of the election.
#[derive(Clone, Debug)]
pub struct Election {
    settings: Settings,
    still: Option<Still>,
    /// Our last attempt to acquire the Lease may have succeeded, whatever the answer was.
    claimed: bool,
    /// While we lead: the transitions and the end.
    term: Option<(i32, Duration)>,
}

impl Election {
    /// A candidate that has seen nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, still: None, claimed: false, term: None }
    }

    /// How we take part.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The Lease was read, or found absent; `now` is when the answer was there.
    pub fn see(&mut self, seen: Option<&Seen>, now: Duration) -> Step {
        let ours = seen.is_some_and(|seen| seen.holder == self.settings.identity);
        let nobodys = seen.is_none_or(|seen| seen.holder.is_empty());
        match (self.term, seen) {
            (Some(_), _) if self.is_over(now) => Step::StepDown,
            (Some((transitions, _)), _) if ours || nobodys => Step::Renew(transitions),
            (Some(_), _) => Step::StepDown,
            (None, None) => Step::Place(self.still.as_ref().map_or(0, |still| still.transitions)),
            (None, Some(seen)) if ours && self.claimed => Step::Renew(seen.transitions),
            (None, Some(seen)) => {
                let released = nobodys && !seen.duration.is_zero() && seen.duration <= RELEASED;
                self.claimed = released || now >= self.expiry(seen, now);
                if self.claimed { Step::Acquire(seen.transitions.saturating_add(1)) } else { Step::Wait }
            }
        }
    }

    /// When this version has stood still for long enough.
    fn expiry(&mut self, seen: &Seen, now: Duration) -> Duration {
        let expires = now.saturating_add(seen.duration.max(self.settings.lease_duration));
        let fresh = Still { version: seen.version.clone(), transitions: seen.transitions, expires };
        let same = self.still.take().filter(|still| still.version == fresh.version);
        self.still.insert(same.unwrap_or(fresh)).expires
    }

    /// A write that was sent at `sent` succeeded: we lead.
    pub fn renewed(&mut self, transitions: i32, sent: Duration) -> Role {
        let valid_until = sent + self.settings.renew_deadline;
        self.term = Some((transitions, valid_until));
        self.still = None;
        Role::Leader { holder: self.settings.identity.clone(), transitions: transitions.into(), valid_until }
    }

    /// Whether the Lease may name us.
    #[must_use]
    pub fn may_hold(&self) -> bool {
        self.claimed || self.term.is_some()
    }

    /// Whether we lead, or have led until `now` came.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        self.term.is_some()
    }

    /// Whether our leadership has ended by time.
    #[must_use]
    pub fn is_over(&self, now: Duration) -> bool {
        self.term.is_some_and(|(_, end)| now >= end)
    }

    /// When a call that begins now is given up: so early that two more fit before the deadline, and never after it.
    #[must_use]
    pub fn give_up(&self, now: Duration) -> Duration {
        let limit = now + self.settings.renew_deadline / 3;
        self.term.map_or(limit, |(_, end)| limit.min(end))
    }

    /// When to look again, after a round that began at `began`. `jitter`, from 0 to 1, keeps followers apart.
    #[must_use]
    pub fn next_look(&self, began: Duration, now: Duration, jitter: f64) -> Duration {
        let period = self.settings.retry_period;
        if let Some((_, end)) = self.term {
            return end.min(began + period);
        }
        let jitter = if (0.0..=1.0).contains(&jitter) { jitter } else { 1.0 };
        let look = began + period.mul_f64(0.5 + jitter / 2.0);
        let expires = self.still.as_ref().map(|still| still.expires).filter(|expires| *expires > now);
        expires.map_or(look, |expires| expires.min(look))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn election() -> Election {
        Election::new(Settings {
            namespace: "operator".to_owned(),
            name: "leader".to_owned(),
            identity: "us".to_owned(),
            lease_duration: at(15),
            renew_deadline: at(10),
            retry_period: at(2),
        })
    }

    #[expect(clippy::unnecessary_wraps, reason = "stands beside None in the stories")]
    fn seen(version: &str, holder: &str, duration: u64, transitions: i32) -> Option<Seen> {
        let (version, holder) = (version.to_owned(), holder.to_owned());
        Some(Seen { version, holder, duration: at(duration), transitions })
    }

    /// Reads of the Lease in order, each with its time and the step that it must lead to.
    fn story(mut election: Election, reads: &[(u64, Option<Seen>, Step)]) {
        for (n, (when, seen, step)) in reads.iter().enumerate() {
            assert_eq!(election.see(seen.as_ref(), at(*when)), *step, "read {n}, at {when} s: {seen:?}");
        }
    }

    #[test]
    fn a_lease_that_stands_still_is_taken_over_after_its_duration() {
        story(
            election(),
            &[
                (0, seen("1", "them", 15, 3), Step::Wait),
                (14, seen("1", "them", 15, 3), Step::Wait),
                (15, seen("1", "them", 15, 3), Step::Acquire(4)),
            ],
        );
    }

    #[test]
    fn a_renewal_starts_the_wait_anew() {
        story(
            election(),
            &[
                (0, seen("1", "them", 15, 3), Step::Wait),
                (14, seen("2", "them", 15, 3), Step::Wait),
                (28, seen("2", "them", 15, 3), Step::Wait),
                (29, seen("2", "them", 15, 3), Step::Acquire(4)),
            ],
        );
    }

    #[test]
    fn the_longer_of_both_durations_counts() {
        for (duration, wait) in [(1, 15), (0, 15), (40, 40)] {
            story(
                election(),
                &[
                    (5, seen("1", "them", duration, 0), Step::Wait),
                    (5 + wait - 1, seen("1", "them", duration, 0), Step::Wait),
                    (5 + wait, seen("1", "them", duration, 0), Step::Acquire(1)),
                ],
            );
        }
    }

    #[test]
    fn a_released_lease_is_free_at_once() {
        story(election(), &[(0, seen("1", "", 1, 7), Step::Acquire(8))]);
    }

    #[test]
    fn an_emptied_lease_is_not_a_released_one() {
        for duration in [0, 15] {
            story(
                election(),
                &[(0, seen("1", "", duration, 7), Step::Wait), (15, seen("1", "", duration, 7), Step::Acquire(8))],
            );
        }
    }

    #[test]
    fn an_absent_lease_is_created_without_a_holder_and_stands_still_first() {
        story(
            election(),
            &[
                (0, None, Step::Place(0)),
                (40, None, Step::Place(0)),
                (41, seen("1", "", 15, 0), Step::Wait),
                (55, seen("1", "", 15, 0), Step::Wait),
                (56, seen("1", "", 15, 0), Step::Acquire(1)),
            ],
        );
        story(
            election(),
            &[
                (0, seen("1", "them", 15, 7), Step::Wait),
                (14, None, Step::Place(7)),
                (15, seen("2", "them", 15, 7), Step::Wait),
                (29, None, Step::Place(7)),
                (30, seen("3", "them", 15, 7), Step::Wait),
            ],
        );
    }

    #[test]
    fn a_lease_that_someone_wrote_our_name_into_is_not_ours() {
        story(election(), &[(0, seen("1", "us", 15, 7), Step::Wait), (15, seen("1", "us", 15, 7), Step::Acquire(8))]);
    }

    #[test]
    fn a_claim_without_an_answer_that_succeeded_is_ours() {
        story(election(), &[(0, seen("1", "", 1, 7), Step::Acquire(8)), (3, seen("2", "us", 15, 8), Step::Renew(8))]);
    }

    #[test]
    fn a_leader_renews_and_creates_anew_what_was_deleted() {
        let mut election = election();
        assert_eq!(
            election.renewed(8, at(100)),
            Role::Leader { holder: "us".to_owned(), transitions: 8, valid_until: at(110) }
        );
        story(
            election,
            &[
                (102, seen("2", "us", 15, 8), Step::Renew(8)),
                (104, seen("3", "us", 1, 99), Step::Renew(8)),
                (106, None, Step::Renew(8)),
                (108, seen("4", "", 15, 99), Step::Renew(8)),
                (110, seen("3", "us", 15, 8), Step::StepDown),
            ],
        );
    }

    #[test]
    fn a_leader_that_sees_another_holder_steps_down() {
        let mut election = election();
        election.renewed(8, at(100));
        story(election, &[(102, seen("3", "them", 15, 9), Step::StepDown)]);
    }

    #[test]
    fn a_call_is_given_up_in_time_for_another() {
        let mut election = election();
        assert_eq!(election.give_up(at(30)), at(30) + at(10) / 3);
        election.renewed(0, at(30));
        assert_eq!(election.give_up(at(32)), at(32) + at(10) / 3);
        assert_eq!(election.give_up(at(38)), at(40));
    }

    #[test]
    fn looks_are_a_period_apart_and_never_past_a_deadline() {
        let mut election = election();
        for (jitter, wait) in [(0.0, 1000), (0.5, 1500), (1.0, 2000), (f64::NAN, 2000), (-7.0, 2000)] {
            assert_eq!(election.next_look(at(10), at(11), jitter), at(10) + Duration::from_millis(wait));
        }
        election.see(seen("1", "them", 15, 0).as_ref(), at(0));
        assert_eq!(election.next_look(at(14), at(14), 1.0), at(15), "the moment it expires");
        assert_eq!(election.next_look(at(15), at(15), 1.0), at(17), "that moment has been looked at");
        assert_eq!(election.next_look(at(16), at(16), 1.0), at(18));
        election.renewed(0, at(20));
        assert_eq!(election.next_look(at(20), at(21), 0.0), at(22));
        assert_eq!(election.next_look(at(29), at(29), 0.0), at(30));
    }

    #[test]
    fn a_claim_whose_answer_was_lost_may_hold_the_lease_and_is_released() {
        let mut claims = election();
        assert!(!claims.may_hold());
        claims.see(seen("1", "", 1, 7).as_ref(), at(0));
        assert!(claims.may_hold() && !claims.is_leading());
        let mut leads = election();
        leads.renewed(8, at(0));
        assert!(leads.may_hold() && leads.is_leading());
    }

    #[test]
    fn a_role_outlasts_what_ends_before_it() {
        let leader = Role::Leader { holder: "us".to_owned(), transitions: 0, valid_until: at(10) };
        assert!(leader.outlasts(at(3), at(6)));
        assert!(!leader.outlasts(at(4), at(6)));
        assert!(!leader.outlasts(at(10), at(0)));
        assert!(Role::always("us").outlasts(at(1 << 40), at(6)));
        assert!(!Role::Follower.outlasts(at(0), at(0)) && !Role::Lost.outlasts(at(0), at(0)));
    }
}
