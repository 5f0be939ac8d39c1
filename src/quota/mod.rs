//! The governor: who may call the cloud next, and when. One for each budget, that is per endpoint and cloud account.
//!
//! A job asks for a turn and keeps its place by its uid. When its turn is due it gets a permit; it says when the call
//! was sent and done, or gives the permit back, and passes on what the cloud's answer taught.
//! ```text
//! ask -> grants -> sent -> done -> learn          throttled: ask_front, once more
//!               -> give_back                      the pass ended before its call
//! ```
//! **May touch:** its arguments. No clock, no client, no log; time comes in as a [`Moment`].
//!
//! **Guarantees**
//! 1. By time of sending no second sees more calls than the limit, and no day of UTC+8 more than its limit (see
//!    [`Governor::grants`]). The cloud counts arrivals: where trips differ by their jitter, one or two more may fall into
//!    one of its seconds.
//! 2. A waiter is never lost: it waits until it is granted a turn or leaves.
//! 3. Starts go before looks, looks before sweeps; namespaces take turns; within one the oldest goes first.
//! 4. A tenth of the day's calls is kept for starts and the looks around them.
//!
//! **Assumes:** one caller, whose monotonic time does not go back. After any call that changes something, `grants` and
//! `next_at` are asked anew.

mod bucket;
mod durable;
mod lane;
mod rate;
mod told;
mod trip;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

pub use bucket::Limits;
use bucket::{Bucket, Day, TRAVEL, UNUSED, WINDOW};
pub use durable::Counted;
use durable::Keepers;
pub use lane::{Class, Lane};
use lane::{Queue, Ticket};
pub use rate::{HeldBy, Hold, Lesson};
use rate::{Parking, heed, later, spread};
pub use told::{Standing, Usage};
use trip::Fastest;

/// Looks are withheld while the starts that wait need longer than this: a look grows stale before its start.
const BACKLOG: Duration = Duration::from_secs(5);
/// A daily limit told this early in a day is yesterday's: the cloud's clock is behind, or the answer was under way.
const MIDNIGHT_SLACK: Duration = Duration::from_secs(300);

/// One instant, on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Monotonic time since the process began. All waits are counted on it.
    pub mono: Duration,
    /// Wall time. It decides the day alone.
    pub wall: Timestamp,
}

/// Who asks for a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// The uid of the object, under which it keeps its place.
    pub uid: String,
    /// Its namespace, with which it shares its turns.
    pub namespace: String,
}

/// Names one permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PermitId(u64);

/// A turn that has come: one call, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Whose turn it is.
    pub uid: String,
    /// What it is for.
    pub lane: Lane,
    /// To be named by `sent`, `done` and `give_back`.
    pub permit: PermitId,
}

#[derive(Clone, Debug)]
struct Place {
    lane: Lane,
    namespace: Arc<str>,
    ticket: Ticket,
}

#[derive(Clone, Debug)]
struct Permit {
    class: Class,
    /// When it leaves the window.
    end: Duration,
    /// When its call left; absent: not yet.
    sent: Option<Duration>,
}

/// The governor of one budget.
#[derive(Clone, Debug)]
pub struct Governor {
    buckets: [Bucket; 3],
    day: Day,
    keepers: Keepers,
    parking: Option<Parking>,
    queues: BTreeMap<Lane, Queue>,
    places: BTreeMap<Arc<str>, Place>,
    permits: BTreeMap<PermitId, Permit>,
    fastest: Fastest,
    /// Since when nothing but refusals for the rate was answered.
    refused_since: Option<Duration>,
    issued: u64,
}

impl Governor {
    /// A budget of which nothing is known but its limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let [reads, writes, total] = limits.per_second();
        Self {
            buckets: [
                Bucket::new(Some(Class::Read), reads),
                Bucket::new(Some(Class::Write), writes),
                Bucket::new(None, total),
            ],
            day: Day::new(limits.calls_per_day),
            keepers: Keepers::default(),
            parking: None,
            queues: BTreeMap::new(),
            places: BTreeMap::new(),
            permits: BTreeMap::new(),
            fastest: Fastest::default(),
            refused_since: None,
            issued: 0,
        }
    }

    /// Other limits from now on. Waiters keep their places, and what was learned stays.
    pub fn set_limits(&mut self, limits: Limits) {
        for (bucket, limit) in self.buckets.iter_mut().zip(limits.per_second()) {
            bucket.rate.set_limit(limit);
        }
        self.day.limit = limits.calls_per_day;
    }

    /// Whether there is a day's count to be kept.
    #[must_use]
    pub fn has_day_limit(&self) -> bool {
        self.day.limit.is_some()
    }

    /// Asks for a turn. Asking again changes nothing; asking for another lane moves the waiter to the end of that.
    pub fn ask(&mut self, who: Waiter, lane: Lane, now: Moment) {
        let place = self.places.get(who.uid.as_str());
        if !place.is_some_and(|place| place.lane == lane && *place.namespace == *who.namespace) {
            self.enter(who, lane, now, Queue::push_back);
        }
    }

    /// Asks again for the turn whose call was throttled: at the front of its namespace, which is served next.
    pub fn ask_front(&mut self, who: Waiter, lane: Lane, now: Moment) {
        self.enter(who, lane, now, Queue::push_front);
    }

    fn enter(
        &mut self,
        who: Waiter,
        lane: Lane,
        now: Moment,
        push: impl FnOnce(&mut Queue, &Arc<str>, Arc<str>) -> Ticket,
    ) {
        self.leave(&who.uid);
        for bucket in self.buckets.iter_mut().filter(|bucket| bucket.covers(lane.class())) {
            if !self.queues.iter().any(|(lane, queue)| bucket.covers(lane.class()) && queue.len() > 0) {
                bucket.not_before(now.mono); // idle until now: that saved up nothing
            }
        }
        let (uid, namespace): (Arc<str>, Arc<str>) = (who.uid.into(), who.namespace.into());
        let ticket = push(self.queues.entry(lane).or_default(), &namespace, Arc::clone(&uid));
        self.places.insert(uid, Place { lane, namespace, ticket });
    }

    /// Wants no turn any more. A permit that was granted is not touched.
    pub fn leave(&mut self, uid: &str) {
        if let Some(place) = self.places.remove(uid) {
            self.queues.entry(place.lane).or_default().remove(&place.namespace, place.ticket);
        }
    }

    /// The turns that are due now, each with a permit for one call.
    ///
    /// A permit occupies the cloud's second from its grant until one second after its call arrived, as far as its round
    /// trip tells, and no more are given than the limit allows in a second. That is never less than one second after it
    /// was sent, and never more than two.
    /// One that was neither used nor given back for 20 s is taken back.
    pub fn grants(&mut self, now: Moment) -> Vec<Grant> {
        self.grants_within(now, usize::MAX)
    }

    /// The same, but no more than `room`; the others stay due.
    pub fn grants_within(&mut self, now: Moment, room: usize) -> Vec<Grant> {
        self.turn_day(now);
        self.permits.retain(|_, permit| permit.end > now.mono);
        let mut grants = Vec::new();
        for lane in Lane::ALL {
            while grants.len() < room && self.due(lane, now).is_some_and(|due| due <= now.mono) {
                let Some(uid) = self.queues.get_mut(&lane).and_then(Queue::pop) else { break };
                self.places.remove(&uid);
                let permit = self.issue(lane.class(), now);
                grants.push(Grant { uid: uid.as_ref().into(), lane, permit });
            }
        }
        grants
    }

    fn issue(&mut self, class: Class, now: Moment) -> PermitId {
        self.buckets.iter_mut().filter(|bucket| bucket.covers(class)).for_each(|bucket| bucket.take(now.mono));
        self.day.take();
        self.issued += 1;
        let id = PermitId(self.issued);
        self.permits.insert(id, Permit { class, end: now.mono + UNUSED, sent: None });
        id
    }

    /// The monotonic time at which `grants` has something to give; absent: nobody waits. Whatever happens meanwhile may
    /// bring it forward.
    #[must_use]
    pub fn next_at(&self, now: Moment) -> Option<Duration> {
        Lane::ALL.iter().filter_map(|lane| self.due(*lane, now)).min()
    }

    /// The call leaves now. False: the permit was taken back, or is of yesterday's count; the call must not be made.
    #[must_use = "a call without a permit breaks the quota"]
    pub fn sent(&mut self, permit: PermitId, now: Moment) -> bool {
        self.turn_day(now);
        let Some(permit) = self.permits.get_mut(&permit).filter(|permit| permit.end > now.mono) else { return false };
        if permit.sent.is_none() {
            permit.sent = Some(now.mono);
            permit.end = now.mono + TRAVEL + WINDOW;
        }
        true
    }

    /// The call has ended, with or without an answer.
    pub fn done(&mut self, permit: PermitId, now: Moment) {
        let Some(Permit { class, end, sent }) = self.permits.get_mut(&permit) else { return };
        let mut arrived = now.mono;
        if let Some(sent) = *sent {
            self.fastest.note(now.mono.saturating_sub(sent));
            let mut covering = self.buckets.iter().filter(|bucket| bucket.covers(*class));
            arrived = self.fastest.arrival(sent, now.mono, covering.any(|bucket| bucket.rate.is_slowed(now.mono)));
        }
        *end = arrived.saturating_add(WINDOW).min(*end);
    }

    /// The call was never made: its slot and its part of the day are free again. A call that was sent counts as done.
    pub fn give_back(&mut self, permit: PermitId, now: Moment) {
        self.done(permit, now);
        let Some(Permit { class, .. }) = self.permits.get(&permit).filter(|permit| permit.sent.is_none()) else {
            return;
        };
        self.buckets.iter_mut().filter(|bucket| bucket.covers(*class)).for_each(|bucket| bucket.refund(now.mono));
        self.permits.remove(&permit);
        self.day.refund();
    }

    /// Takes note of what an answer says. `jitter`, from 0 to 1, spreads the end of a parked day.
    pub fn learn(&mut self, lesson: Lesson, lane: Lane, now: Moment, jitter: f64) {
        match lesson {
            Lesson::Accepted => self.refused_since = None,
            Lesson::Throttled { hint } => {
                self.refused_since.get_or_insert(now.mono);
                let class = lane.class();
                self.buckets.iter_mut().filter(|b| b.covers(class)).for_each(|bucket| bucket.refused(now.mono));
                if let Some(wait) = heed(hint) {
                    self.park(wait, HeldBy::Cloud, now);
                }
            }
            Lesson::DailyLimit => {
                let early = MIDNIGHT_SLACK.checked_sub(Day::since_turn(now.wall)).filter(|early| !early.is_zero());
                if early.is_none() {
                    self.turn_day(now);
                    self.day.at_least(self.day.limit.unwrap_or_default());
                }
                let wait = early.unwrap_or_else(|| Day::until_turn(now.wall)) + spread(jitter);
                self.park(wait, HeldBy::DailyLimit, now);
            }
        }
    }

    fn park(&mut self, wait: Duration, by: HeldBy, now: Moment) {
        let new = Parking { until: now.mono + wait, hold: Hold { until: later(now.wall, wait), by } };
        let parking = Parking::longest(self.parking, new, now);
        self.parking = Some(parking);
        self.buckets.iter_mut().for_each(|bucket| bucket.not_before(parking.until));
    }

    fn turn_day(&mut self, now: Moment) {
        self.void_at_midnight(now);
        let under_way = self.permits.values().filter(|permit| permit.end > now.mono + WINDOW).count();
        self.day.turn(now.wall, under_way);
    }

    fn held(&self, lane: Lane, now: Moment) -> Option<Hold> {
        let parked = self.parking.filter(|parking| parking.until > now.mono).map(|parking| parking.hold);
        let spent = self.day.left(lane, now.wall) == Some(0);
        let day = Hold { until: later(now.wall, Day::until_turn(now.wall)), by: HeldBy::DailyLimit };
        parked.into_iter().chain(spent.then_some(day)).max_by_key(|hold| hold.until)
    }

    /// When a lane's next turn is due, if anybody waits in it and it is not withheld.
    fn due(&self, lane: Lane, now: Moment) -> Option<Duration> {
        let backlog = self.queues.get(&Lane::Start).map_or(0, |starts| u32::try_from(starts.len()).unwrap_or(u32::MAX));
        let withheld = lane == Lane::Look && self.interval(Class::Write, now).saturating_mul(backlog) > BACKLOG;
        let waited_for = self.queues.get(&lane).is_some_and(|queue| queue.len() > 0);
        (waited_for && !withheld && !self.lacks_block(lane, now)).then(|| self.free_at(lane, now))
    }

    fn free_at(&self, lane: Lane, now: Moment) -> Duration {
        let parked = self.parking.map_or(Duration::ZERO, |parking| parking.until);
        let spent = self.day.left(lane, now.wall) == Some(0);
        let turn = if spent { now.mono + Day::until_turn(now.wall) } else { Duration::ZERO };
        let slots = self.buckets.iter().filter(|bucket| bucket.covers(lane.class())).map(|bucket| {
            let permits = self.permits.values().filter(|permit| bucket.covers(permit.class) && permit.end > now.mono);
            bucket.due(permits.map(|permit| permit.end).collect())
        });
        slots.fold(parked.max(turn), Duration::max)
    }

    /// The time between two calls of a class.
    fn interval(&self, class: Class, now: Moment) -> Duration {
        let buckets = self.buckets.iter().filter(|bucket| bucket.covers(class));
        buckets.map(|bucket| bucket.rate.interval(now.mono)).max().unwrap_or_default()
    }
}
